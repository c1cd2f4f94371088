/* SPDX-License-Identifier: MIT */
/*
 * The unwinder and the C++ runtime of the program.  The library asks for neither:
 * it takes them where they are.  They are looked for in this order:
 *
 *   1. where a file that includes green.h, of C++ or compiled with -fexceptions,
 *      has said, when it was loaded: the only way to what is linked statically
 *      into a program or a plugin, and hidden
 *   2. where the linker has found them
 *   3. in the scope of the program, as it is now
 *   4. in every object that is loaded, in whatever scope
 *   5. the unwinder only: libgcc_s is loaded, as pthread_exit() of glibc does
 *
 * What is found stays, and is kept from being unloaded.  One C++ runtime is
 * known, the first: a second one in the process, linked statically into another
 * object, has exceptions that libgreen does not keep.
 *
 * To look costs some microseconds.  It is done again only if an object has been
 * loaded since, and never by a switch: the thread's tag is made to lead every
 * thread to green__runtime_settle() when a runtime is found.
 */
#define _GNU_SOURCE /* RTLD_DEFAULT, dladdr, dl_iterate_phdr, memmem */
#include <dlfcn.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>

#include "core/runtime.h"
#include "core/self.h"
#include "weak.h"

/* Each may be missing, in static programs; for dlopen see open_library(). */
#pragma weak dlsym
#pragma weak dlclose
#pragma weak dlerror
#pragma weak dladdr
#pragma weak dl_iterate_phdr

#pragma weak _Unwind_ForcedUnwind
#pragma weak _Unwind_GetCFA
#pragma weak _Unwind_GetIP
#pragma weak _Unwind_Backtrace

/* Itanium C++ ABI, 2.2.2 and 2.5.3: the thread's struct __cxa_eh_globals, two words. */
GREEN__WEAK void *__cxa_get_globals(void);
GREEN__WEAK void __cxa_end_catch(void);

struct cxx {
    __typeof__(__cxa_get_globals) *get_globals;
    __typeof__(__cxa_end_catch) *end_catch;
};

/* Written once, under the lock; known when the pointer is not NULL. */
static struct green__unwinder the_unwinder;
static struct cxx the_cxx;
static _Atomic(const struct green__unwinder *) unwinder;
static _Atomic(const struct cxx *) cxx;

/* How many objects had been loaded when each was looked for in vain. */
static _Atomic(unsigned long long) unwinder_missed, cxx_missed;

/* ---- Looking ----------------------------------------------------------------- */

/* Whether a library, or RTLD_DEFAULT, has a function. */
static bool find(void *library, const char *name, void *function)
{
    void *found = dlsym(library, name);
    memcpy(function, &found, sizeof found);
    return found != NULL;
}

/* The same for all that is wanted of one. */
static bool find_unwinder(void *library, void *found)
{
    struct green__unwinder *u = found;
    (void)find(library, "_Unwind_Backtrace", &u->backtrace); /* which can be had from elsewhere */
    return find(library, "_Unwind_ForcedUnwind", &u->forced_unwind) &&
           find(library, "_Unwind_GetCFA", &u->get_cfa) &&
           find(library, "_Unwind_GetIP", &u->get_ip);
}

static bool find_cxx(void *library, void *found)
{
    struct cxx *c = found;
    return find(library, "__cxa_get_globals", &c->get_globals) &&
           find(library, "__cxa_end_catch", &c->end_catch);
}

typedef bool finder(void *library, void *found);

/*
 * Opens a library.  dlopen() itself is looked for, as a static program that names it is
 * warned of by the linker; there it is not found, and had better not be called.
 */
static void *open_library(const char *name, int flags)
{
    __typeof__(dlopen) *open = NULL;
    return find(RTLD_DEFAULT, "dlopen", &open) ? open(name, flags) : NULL;
}

static bool find_in(const char *name, int flags, finder *in, void *found)
{
    void *library = open_library(name, RTLD_LAZY | flags);
    if (library == NULL)
        return false;
    bool is_there = in(library, found);
    dlclose(library);
    return is_there;
}

/* The objects that are loaded and know a name: their names, one behind the other. */
struct objects {
    const char *symbol; /* NULL: none are wanted */
    unsigned long long loaded; /* since the program began */
    bool in_program, failed;
    char *names;
    size_t size;
    int count;
};

/* Whether the strings of an object's dynamic symbols have one. */
static bool names_symbol(const struct dl_phdr_info *info, const char *symbol)
{
    const char *strings = NULL;
    size_t size = 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        if (info->dlpi_phdr[i].p_type != PT_DYNAMIC)
            continue;
        for (const ElfW(Dyn) *d = (const void *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
             d->d_tag != DT_NULL; d++) {
            if (d->d_tag == DT_STRTAB) /* relocated, or not */
                strings = (const char *)(d->d_un.d_ptr < info->dlpi_addr
                                             ? info->dlpi_addr + d->d_un.d_ptr
                                             : d->d_un.d_ptr);
            else if (d->d_tag == DT_STRSZ)
                size = d->d_un.d_val;
        }
    }
    return strings != NULL && memmem(strings, size, symbol, strlen(symbol) + 1) != NULL;
}

/* Whether it is the one that this is in, which names all that it looks for. */
static bool is_ours(const struct dl_phdr_info *info)
{
    uintptr_t here = (uintptr_t)&the_unwinder - info->dlpi_addr;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        if (info->dlpi_phdr[i].p_type == PT_LOAD &&
            here - info->dlpi_phdr[i].p_vaddr < info->dlpi_phdr[i].p_memsz)
            return true;
    }
    return false;
}

static GREEN__NO_ASAN int list_object(struct dl_phdr_info *info, size_t size, void *arg)
{
    struct objects *objects = arg;
    if (size >= offsetof(struct dl_phdr_info, dlpi_subs))
        objects->loaded = info->dlpi_adds;
    if (objects->symbol == NULL)
        return 1;
    if (is_ours(info) || !names_symbol(info, objects->symbol))
        return 0;
    objects->count++;
    if (info->dlpi_name == NULL || info->dlpi_name[0] == '\0') {
        objects->in_program = true;
        return 0;
    }
    size_t length = strlen(info->dlpi_name) + 1;
    char *names = realloc(objects->names, objects->size + length);
    if (names == NULL) {
        objects->failed = true;
        return 1;
    }
    memcpy(names + objects->size, info->dlpi_name, length);
    objects->names = names;
    objects->size += length;
    return 0;
}

/* Not from within the list, as the linker's locks are held there. */
static bool find_in_objects(const struct objects *objects, finder *in, void *found)
{
    for (size_t at = 0; at < objects->size; at += strlen(objects->names + at) + 1) {
        if (find_in(objects->names + at, RTLD_NOLOAD, in, found))
            return true;
    }
    return false;
}

/* Keeps the object that a function is in. */
static void keep_object(void *function)
{
    Dl_info info;
    if (dlsym != NULL && dladdr != NULL && dladdr(function, &info) != 0 && info.dli_fname != NULL)
        (void)open_library(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
}

/*
 * Steps 3 to 5, for what has a symbol; load_at_last or NULL.  In programs that have
 * nothing of it only the list of objects is read: dlopen() is not for a child of
 * fork() whose parent's other threads were in it.
 */
static bool look_for(finder *in, void *found, const char *symbol, const char *load_at_last,
                     _Atomic(unsigned long long) *missed)
{
    struct objects objects = {.symbol = NULL};
    if (dlsym == NULL || dlclose == NULL || dl_iterate_phdr == NULL)
        return false;
    green__lock(); /* or a child of fork() might find the list locked for ever */
    dl_iterate_phdr(list_object, &objects);
    bool again = objects.loaded == 0 || objects.loaded != load(*missed);
    if (again) {
        objects.symbol = symbol;
        dl_iterate_phdr(list_object, &objects);
    }
    green__unlock();
    if (!again)
        return false;
    bool is_there =
        ((objects.in_program || objects.count > 1) && in(RTLD_DEFAULT, found)) ||
        (objects.count > 1 && load_at_last != NULL &&
         find_in(load_at_last, RTLD_NOLOAD, in, found)) ||
        find_in_objects(&objects, in, found) ||
        (load_at_last != NULL && find_in(load_at_last, RTLD_NODELETE, in, found));
    free(objects.names);
    if (!is_there && !objects.failed)
        store(*missed, objects.loaded);
    if (!is_there && objects.count > 0 && dlerror != NULL)
        (void)dlerror(); /* what was missing is nobody's error */
    return is_there;
}

/* ---- The unwinder --------------------------------------------------------------- */

/* Whether all is there that is wanted. */
static bool unwinds(const struct green__unwinder *u)
{
    return u->forced_unwind != NULL && u->get_cfa != NULL && u->get_ip != NULL;
}

static void know_unwinder(const struct green__unwinder *found)
{
    green__lock();
    if (load(unwinder) == NULL) {
        the_unwinder = *found;
        atomic_store_explicit(&unwinder, &the_unwinder, memory_order_release);
    }
    green__unlock();
}

const struct green__unwinder *green__unwinder(void)
{
    const struct green__unwinder *known =
        atomic_load_explicit(&unwinder, memory_order_acquire);
    if (LIKELY(known != NULL))
        return known;
    struct green__unwinder found = {_Unwind_ForcedUnwind, _Unwind_GetCFA, _Unwind_GetIP,
                                    _Unwind_Backtrace};
    if (!unwinds(&found)) {
        if (!look_for(find_unwinder, &found, "_Unwind_ForcedUnwind", "libgcc_s.so.1", &unwinder_missed))
            return NULL;
        void *function;
        memcpy(&function, &found.forced_unwind, sizeof function);
        keep_object(function);
    }
    know_unwinder(&found);
    return atomic_load_explicit(&unwinder, memory_order_acquire);
}

/* ---- The C++ runtime ---------------------------------------------------------------- */

/*
 * Ends the innermost C++ handler and releases its exception.  Only where there is a
 * runtime; false if that cannot.
 */
static bool end_catch(void)
{
    const struct cxx *known = atomic_load_explicit(&cxx, memory_order_acquire);
    if (known->end_catch == NULL)
        return false;
    known->end_catch();
    return true;
}

void green__end_handlers(struct green__thread *self, const uintptr_t once[2])
{
    static const uintptr_t none[2];
    uintptr_t caught;
    if (once == NULL)
        once = none;
    while (memcpy(&caught, self->exceptions, sizeof caught), caught != once[0] && caught != 0) {
        if (!end_catch())
            break;
    }
    memcpy(self->exceptions, once, sizeof none);
}

/* Threads that have begun are led to green__runtime_settle(). */
static void know_cxx(const struct cxx *found)
{
    void *function;
    memcpy(&function, &found->get_globals, sizeof function);
    keep_object(function);
    green__lock();
    if (load(cxx) == NULL) {
        the_cxx = *found;
        atomic_store_explicit(&cxx, &the_cxx, memory_order_release);
        for (struct green__thread *t = green__threads; t != NULL; t = t->next_made) {
            if (load(t->id) == 0)
                continue;
            atomic_fetch_or(&t->unsettled, GREEN__UNSETTLED_CXX);
            store(t->tag, GREEN__TAG_SLOW);
            __atomic_store_n(&t->call_tag, GREEN__TAG_SLOW, __ATOMIC_RELAXED);
        }
    }
    green__unlock();
}

void green__runtime_look(void)
{
    struct cxx found = {__cxa_get_globals, __cxa_end_catch};
    if (LIKELY(load(cxx) != NULL))
        return;
    if (found.get_globals != NULL ||
        look_for(find_cxx, &found, "__cxa_get_globals", NULL, &cxx_missed))
        know_cxx(&found);
}

void green__runtime_begin(struct green__thread *self)
{
    const struct cxx *known = atomic_load_explicit(&cxx, memory_order_acquire);
    green__word *exceptions = known != NULL ? known->get_globals() : NULL;
    self->has_cxx = exceptions != NULL;
    self->exceptions = exceptions != NULL ? exceptions : self->no_exceptions;
}

void green__runtime_settle(struct green__thread *self)
{
    atomic_fetch_and(&self->unsettled, (unsigned char)~GREEN__UNSETTLED_CXX);
    green__runtime_begin(self);
    green__thread_set_tag(self);
}

/* ---- What is told ------------------------------------------------------------------- */

void green_private_runtime_1(const struct green_private_runtime *given)
{
    struct cxx its_cxx = {given->get_globals, given->end_catch};
    struct green__unwinder its_unwinder;
    _Static_assert(sizeof its_unwinder == sizeof given->unwinder, "");
    memcpy(&its_unwinder, given->unwinder, sizeof its_unwinder);
    if (load(unwinder) == NULL && unwinds(&its_unwinder)) {
        void *function;
        memcpy(&function, &its_unwinder.forced_unwind, sizeof function);
        keep_object(function); /* which may be in a plugin, and goes with it otherwise */
        know_unwinder(&its_unwinder);
    }
    if (load(cxx) == NULL && its_cxx.get_globals != NULL && its_cxx.end_catch != NULL)
        know_cxx(&its_cxx);
}
