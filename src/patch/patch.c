/* SPDX-License-Identifier: MIT */
/*
 * Who is patched: what threads have asked for, or the environment for them, and whether a
 * call is a task's.
 *
 * A thread without a hub has one task and nothing to run meanwhile: its calls are passed on.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "patch/patch.h"

#define UNKNOWN (~0u)

_Thread_local unsigned green__patch_state
    __attribute__((tls_model("initial-exec"))) = UNKNOWN;

/*
 * Set while this file itself is in libgreen, which then never switches: a signal handler's
 * calls are passed on.
 */
static _Thread_local volatile bool busy __attribute__((tls_model("initial-exec")));

/* ---- The environment ----------------------------------------------------------------- */

static const struct {
    const char *word;
    unsigned what;
} words[] = {
    {"wait", GREEN_PATCH_WAIT},   {"io", GREEN_PATCH_IO},
    {"names", GREEN_PATCH_NAMES}, {"locks", GREEN_PATCH_LOCKS},
    {"processes", GREEN_PATCH_PROCESSES},
    {"all", GREEN__PATCH_ALL},
};
#define WORDS (sizeof words / sizeof words[0])

static void complain(const char *word, size_t size)
{
    char line[160] = "libgreen_patch: GREEN_PATCH: there is no \"";
    static const char rest[] = "\": wait, io, names, locks, processes or all\n";
    size_t at = strlen(line), room = sizeof line - at - sizeof rest;
    if (size > room)
        size = room;
    memcpy(line + at, word, size);
    memcpy(line + at + size, rest, sizeof rest - 1);
    (void)syscall(SYS_write, STDERR_FILENO, line, at + size + sizeof rest - 1);
}

static unsigned what_is_said(const char *text)
{
    unsigned what = 0;
    for (;;) {
        size_t size = strcspn(text, ","), i = 0;
        while (i < WORDS && (strlen(words[i].word) != size ||
                             memcmp(words[i].word, text, size) != 0))
            i++;
        if (i < WORDS)
            what |= words[i].what;
        else if (size != 0)
            complain(text, size);
        if (text[size] == '\0')
            return what;
        text += size + 1;
    }
}

/* Read once, but not before there is an environment. */
static unsigned asked_by_environment(void)
{
    static unsigned asked = UNKNOWN;
    unsigned what = __atomic_load_n(&asked, __ATOMIC_RELAXED);
    if (what != UNKNOWN || environ == NULL)
        return what;
    const char *text = secure_getenv("GREEN_PATCH");
    unsigned said = text != NULL ? what_is_said(text) : 0;
    (void)__atomic_compare_exchange_n(&asked, &what, said, false, __ATOMIC_RELAXED,
                                      __ATOMIC_RELAXED);
    return said;
}

static unsigned what_is_asked(void)
{
    if (green__patch_state == UNKNOWN)
        green__patch_state = asked_by_environment();
    return green__patch_state == UNKNOWN ? 0 : green__patch_state;
}

/* ---- Whether a call is a task's -------------------------------------------------------- */

/* Not NULL in a green that is inside. */
static green_key_t inside;
static int inside_made; /* 1: it is */

static bool has_key(void)
{
    if (__atomic_load_n(&inside_made, __ATOMIC_ACQUIRE) != 0)
        return true;
    green_key_t key;
    static int making;
    if (__atomic_exchange_n(&making, 1, __ATOMIC_ACQUIRE) != 0)
        return false; /* another thread does: this call alone is passed on */
    if (green_key_create(&key, NULL) == 0) {
        inside = key;
        __atomic_store_n(&inside_made, 1, __ATOMIC_RELEASE);
    }
    __atomic_store_n(&making, 0, __ATOMIC_RELEASE);
    return __atomic_load_n(&inside_made, __ATOMIC_RELAXED) != 0;
}

/*
 * What runs in the memory of the process is not the process: the child of vfork() has
 * descriptors of its own, and must not run the parent's tasks.
 */
static pid_t process; /* 0: not known yet */

/* Of the other threads, which may have had these locks, there is none in a child. */
static void begin_process(void)
{
    process = getpid();
    green__modes = 0;
    green__shells_lock = 0;
}

__attribute__((constructor)) static void know_process(void)
{
    if (pthread_atfork(NULL, NULL, begin_process) == 0)
        begin_process();
}

bool green__patch_is_tasks(unsigned what)
{
    if (__builtin_expect(green__patch_state == UNKNOWN, 0) && (what_is_asked() & what) == 0)
        return false;
    if (busy)
        return false;
    int *place = &errno, error = *place;
    bool is_tasks = green_task_current() != NULL;
    if (__builtin_expect(*place != error, 0)) /* a thread of the pool cannot have tasks */
        *place = error;
    return is_tasks;
}

/* In a task: unless it is inside, or a green that may not wait. */
bool green__patch_enter_slowly(unsigned what)
{
    static const char mark;
    bool entered = false;
    if (!green__patch_is_tasks(what) || (process != 0 && getpid() != process))
        return false;
    int error = errno;
    busy = true;
    if (has_key() && green_getspecific(inside) == NULL) {
        green_t *me = green_current();
        /* Refused on the hub's green, and where greens may only look. */
        entered = green_set_data(me, green_data(me)) == 0 && green_setspecific(inside, &mark) == 0;
    }
    busy = false;
    errno = error;
    return entered;
}

void green__patch_leave(void)
{
    int error = errno;
    busy = true;
    (void)green_setspecific(inside, NULL);
    busy = false;
    errno = error;
}

/* ---- The calls -------------------------------------------------------------------------- */

int green_patch(unsigned what)
{
    if ((what & ~GREEN__PATCH_ALL) != 0) {
        errno = EINVAL;
        return -1;
    }
    unsigned before = what_is_asked();
    green__patch_state = what;
    return (int)before;
}

/*
 * A program at a fixed place that takes a function's address has a stub of that name, which
 * has no place of its own in the order: calls go to the first library that defines it.
 */
static bool is_stub(void *found)
{
    Dl_info about;
    const ElfW(Sym) *symbol = NULL;
    return dladdr1(found, &about, (void **)(uintptr_t)&symbol, RTLD_DL_SYMENT) != 0 &&
           symbol != NULL && symbol->st_shndx == SHN_UNDEF;
}

static bool defines(const struct link_map *library, const char *name)
{
    Dl_info about;
    const struct link_map *whose = NULL;
    void *handle = dlopen(library->l_name, RTLD_LAZY | RTLD_NOLOAD);
    if (handle == NULL)
        return false; /* what the kernel has put there */
    void *found = dlsym(handle, name); /* also of a library that this one needs */
    if (found != NULL)
        (void)dladdr1(found, &about, (void **)(uintptr_t)&whose, RTLD_DL_LINKMAP);
    dlclose(handle);
    return whose == library;
}

/* Whether of the libraries, in the order in which they are asked, none is before this one. */
static bool comes_first(const struct green__patch_hook *hook)
{
    Dl_info about;
    const struct link_map *own = NULL;
    void *self = (void *)(uintptr_t)hook->hook;
    if (dladdr1(self, &about, (void **)(uintptr_t)&own, RTLD_DL_LINKMAP) == 0 || own == NULL)
        return false;
    const struct link_map *library = own;
    while (library->l_prev != NULL)
        library = library->l_prev;
    while ((library = library->l_next) != NULL && library != own) /* the first is the program */
        if (defines(library, hook->name))
            return false;
    return library == own;
}

static bool comes_here(const struct green__patch_hook *hook)
{
    void *found = dlsym(RTLD_DEFAULT, hook->name);
    return (uintptr_t)found == (uintptr_t)hook->hook ||
           (found != NULL && is_stub(found) && comes_first(hook));
}

int green_patch_check(const char **missing)
{
    static const struct green__patch_hook *const lists[] = {
        green__patch_hooks_wait, green__patch_hooks_io, green__patch_hooks_names,
        green__patch_hooks_locks, green__patch_hooks_conds, green__patch_hooks_threads,
        green__patch_hooks_processes,
    };
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        for (const struct green__patch_hook *hook = lists[i]; hook->name != NULL; hook++)
            if (!comes_here(hook)) {
                if (missing != NULL)
                    *missing = hook->name;
                errno = ENOSYS;
                return -1;
            }
    return 0;
}
