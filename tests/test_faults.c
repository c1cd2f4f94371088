/* SPDX-License-Identifier: MIT */
/*
 * Whatever the system may refuse is refused: a scenario of 60 operations is
 * played again and again, each time in a process of its own, in which the n-th
 * call of one kind fails, or the n-th and all that follow, for every n until
 * none is reached.  An operation either does its work in spite of it or says
 * ENOMEM; then it says so again, with nothing kept; and once the system grants
 * everything, it works.  At the end nothing is left.
 *
 *     ctest -R test_faults, or build/tests/test_faults
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <signal.h>
#include <stdatomic.h>

#define SYSTEM_OWN /* system.h, but for the functions that stand here */
#include "system.h"

#if SANITIZED
int main(void)
{
    return skip_all_because("a sanitizer stands between: nothing can be made to fail");
}
#else

#include "heap.h"

/* ---- The system ---------------------------------------------------------------- */

enum kind {
    NO_KIND,
    MMAP,
    MUNMAP,
    MPROTECT,
    MADVISE,
    MINCORE,
    PIPE2,
    MALLOC,
    CALLOC,
    REALLOC,
    SIGALTSTACK,
    SIGACTION,
    KEY_CREATE,
    SETSPECIFIC,
    KINDS
};

static const char *const names[KINDS] = {
    "none",        "mmap",      "munmap",             "mprotect",            "madvise",
    "mincore",     "pipe2",     "malloc",             "calloc",              "realloc",
    "sigaltstack", "sigaction", "pthread_key_create", "pthread_setspecific",
};

/* One play of the scenario: what is to fail. */
struct play {
    enum kind kind;
    int n;
    int for_good;
};

/* What a play tells the process that started it. */
static struct told {
    atomic_int calls[KINDS], injected, failed; /* calls asked, refused; operations that failed */
    atomic_long blocks, bytes;                 /* held at the end */
    long alternate;                            /* the bytes that report() has mapped */
    int operations;
} *told;

static struct play play;
static atomic_int armed;   /* inside an operation: calls count, and may fail */
static atomic_int granted; /* this once, everything is granted */
static atomic_int count;   /* calls of the kind so far */
static atomic_long live_bytes;

/* What munmap() refused to take back, and was not asked to again. */
static struct {
    void *address;
    long bytes;
} kept[64];

static int refused(enum kind kind)
{
    if (!atomic_load(&armed))
        return 0;
    atomic_fetch_add(&told->calls[kind], 1);
    if (kind != play.kind || atomic_load(&granted))
        return 0;
    int n = atomic_fetch_add(&count, 1) + 1;
    if (n < play.n || (n > play.n && !play.for_good))
        return 0;
    atomic_fetch_add(&told->injected, 1);
    errno = ENOMEM;
    return 1;
}

static int heap_refuses(enum heap_call call)
{
    static const enum kind kinds[] = {
        [HEAP_MALLOC] = MALLOC, [HEAP_CALLOC] = CALLOC, [HEAP_REALLOC] = REALLOC
    };
    return call != HEAP_MEMALIGN && refused(kinds[call]); /* the library does not call that */
}

void *mmap(void *address, size_t size, int access, int flags, int fd, off_t offset)
{
    if (refused(MMAP))
        return MAP_FAILED;
    void *memory = (void *)syscall(SYS_mmap, address, size, access, flags, fd, offset);
    if (memory != MAP_FAILED && !(flags & MAP_FIXED))
        atomic_fetch_add(&live_bytes, in_pages(size));
    return memory;
}

int munmap(void *address, size_t size)
{
    size_t i = 0;
    while (i < sizeof kept / sizeof *kept - 1 && kept[i].address != address)
        i++;
    if (refused(MUNMAP)) {
        for (size_t j = 0; kept[i].address != address && j <= i; j++)
            if (kept[j].address == NULL)
                i = j;
        must(kept[i].address == NULL || kept[i].address == address);
        kept[i].address = address;
        kept[i].bytes = in_pages(size);
        return -1;
    }
    if (kept[i].address == address)
        kept[i].address = NULL;
    atomic_fetch_sub(&live_bytes, in_pages(size));
    return (int)syscall(SYS_munmap, address, size);
}

int mprotect(void *address, size_t size, int access)
{
    return refused(MPROTECT) ? -1 : (int)syscall(SYS_mprotect, address, size, access);
}

int madvise(void *address, size_t size, int advice)
{
    if (refused(MADVISE))
        return -1;
    if (play.kind == MPROTECT && advice == MADV_GUARD_INSTALL) /* as on older kernels */
        return refuse(EINVAL);
    return (int)syscall(SYS_madvise, address, size, advice);
}

int mincore(void *address, size_t size, unsigned char *resident)
{
    return refused(MINCORE) ? -1 : (int)syscall(SYS_mincore, address, size, resident);
}

int pipe2(int ends[2], int flags)
{
    if (refused(PIPE2))
        return refuse(EMFILE);
    return (int)syscall(SYS_pipe2, ends, flags);
}

int sigaltstack(const stack_t *stack, stack_t *old)
{
    return refused(SIGALTSTACK) ? -1 : (int)syscall(SYS_sigaltstack, stack, old);
}

int sigaction(int number, const struct sigaction *action, struct sigaction *old)
{
    static int (*real)(int, const struct sigaction *, struct sigaction *);
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "sigaction");
    return refused(SIGACTION) ? refuse(EINVAL) : real(number, action, old);
}

int pthread_key_create(pthread_key_t *key, void (*destructor)(void *))
{
    static int (*real)(pthread_key_t *, void (*)(void *));
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "pthread_key_create");
    return refused(KEY_CREATE) ? EAGAIN : real(key, destructor);
}

int pthread_setspecific(pthread_key_t key, const void *value)
{
    static int (*real)(pthread_key_t, const void *);
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "pthread_setspecific");
    return refused(SETSPECIFIC) ? ENOMEM : real(key, value);
}

/*
 * A thread that reads the list of what is loaded, which the library does under its lock, and
 * stays there until another that forks waits for that lock, or has come past it.
 */
static _Thread_local int stays_in_list;
static atomic_int in_list, past_lock, was_in_list;
static pid_t forker;

/* Whether the thread that forks sleeps. */
static int forker_sleeps(void)
{
    char name[64], text[256] = "";
    snprintf(name, sizeof name, "/proc/self/task/%d/stat", (int)forker);
    FILE *file = fopen(name, "r");
    must(file != NULL && fgets(text, sizeof text, file) != NULL);
    fclose(file);
    const char *state = strrchr(text, ')'); /* behind the name of the program */
    return state != NULL && strncmp(state, ") S", 3) == 0;
}

static void stay_in_list(void)
{
    atomic_store(&in_list, 1);
    while (!atomic_load(&past_lock) && !forker_sleeps())
        sched_yield();
    atomic_store(&in_list, 0);
}

#ifdef __GLIBC__ /* others call nothing that early */
#define HAS_PREINIT 1

/* Of handlers that come before a fork those that were registered last come first. */
static void after_the_librarys(void)
{
    atomic_store(&was_in_list, atomic_load(&in_list));
    atomic_store(&past_lock, 1);
}

static void register_before_the_library(void)
{
    must(pthread_atfork(after_the_librarys, NULL, NULL) == 0);
}

static __attribute__((section(".preinit_array"), used)) void (*const at_preinit)(void) =
    register_before_the_library;
#else
#define HAS_PREINIT 0
#endif

static atomic_int lists; /* how often that of what is loaded was read */

int dl_iterate_phdr(int (*look)(struct dl_phdr_info *, size_t, void *), void *arg)
{
    static __typeof__(dl_iterate_phdr) *real;
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "dl_iterate_phdr");
    atomic_fetch_add(&lists, 1);
    if (stays_in_list)
        stay_in_list();
    return real(look, arg);
}

/* ---- The operations ---------------------------------------------------------------- */

/* Each gives 0 when it has done its work, or the errno it failed with. */
static green_t *g[12], *detached, *orphan[3];
static char lent[40000];
static green_key_t keys[6];
static struct helper helper;
static int ran, destroyed;

static void count_run(void *arg)
{
    (void)arg;
    ran++;
}

static void count_destroyed(void *value)
{
    (void)value;
    destroyed++;
}

static int make(int i, const char *name, size_t size, unsigned flags, void *stack)
{
    const green_options_t options = {
        .name = name, .stack_size = size, .flags = flags, .stack = stack
    };
    green_t *made = green_new_with(echo, NULL, &options);
    if (made == NULL)
        return errno;
    must(stack != NULL || (flags & GREEN_NO_GUARD) || under_valgrind() || is_guarded(made));
    if (flags & GREEN_DETACHED)
        detached = made;
    else
        g[i] = made;
    return 0;
}

static int enter(int i)
{
    return green_switch(g[i], V(i + 1)) == V(i + 1) ? 0 : errno;
}

static int current(void) { return green_current() != NULL ? 0 : errno; }

static int handles(int number)
{
    struct sigaction now;
    must(sigaction(number, NULL, &now) == 0);
    return (now.sa_flags & SA_SIGINFO) != 0;
}

/* Both handlers are there then, else none, unless that is refused as well. */
static int report(void)
{
    int error = green_report_overflow() == 0 ? 0 : errno;
    atomic_store(&armed, 0);
    must(handles(SIGSEGV) == handles(SIGBUS) || (play.kind == SIGACTION && play.for_good));
    must(error != 0 || handles(SIGSEGV));
    return error;
}

static int trim(void) { green_trim(0); return 0; }
static int end(void) { return green_thread_end() == 0 ? 0 : errno; }

static int make_0(void) { return make(0, NULL, 0, 0, NULL); }
static int make_1(void) { return make(1, "one", 0, 0, NULL); }
static int make_2(void) { return make(2, "odd", 300000, 0, NULL); }
static int make_3(void) { return make(3, NULL, 20000, GREEN_NO_GUARD, NULL); }
static int make_4(void) { return make(4, "lent", sizeof lent, 0, lent); }
static int make_5(void) { return make(5, NULL, (size_t)80 << 20, 0, NULL); }
static int make_6(void) { return make(6, "six", 0, 0, NULL); }
static int make_detached(void) { return make(0, "detached", 70000, GREEN_DETACHED, NULL); }
static int enter_0(void) { return enter(0); }
static int enter_1(void) { return enter(1); }
static int enter_2(void) { return enter(2); }
static int enter_3(void) { return enter(3); }
static int enter_4(void) { return enter(4); }
static int enter_5(void) { return enter(5); }
static int enter_detached(void) { return green_switch(detached, V(1)) == V(1) ? 0 : errno; }

static int fail_1(void)
{
    int thrown = green_throw(g[1], E1) == GREEN_FAILED && errno == E1;
    return thrown && green_state(g[1]) == GREEN_DEAD ? 0 : -1;
}

static int kill_detached(void) { return green_throw(detached, 0) == NULL ? 0 : -1; }
static int set_parent(void) { return green_set_parent(g[2], g[0]) == 0 ? 0 : errno; }
static int set_parent_back(void) { return green_set_parent(g[2], green_main()) == 0 ? 0 : errno; }
static int free_1(void) { return green_free(g[1]) == 0 ? 0 : errno; }
static int free_2(void) { return green_free(g[2]) == 0 ? 0 : errno; }
static int free_3(void) { return green_free(g[3]) == 0 ? 0 : errno; }
static int free_4(void) { return green_free(g[4]) == 0 ? 0 : errno; }
static int abandon_5(void) { return green_abandon(g[5]) == 0 ? 0 : errno; }
static int free_6(void) { return green_free(g[6]) == 0 ? 0 : errno; }

static int free_0(void)
{
    return green_state(g[0]) == GREEN_DEAD && green_free(g[0]) == 0 ? 0 : -1;
}

static int see(green_t *green, void *arg)
{
    (void)green;
    ++*(int *)arg;
    return 0;
}

static int each(void)
{
    int seen = 0;
    return green_each(see, &seen) == 0 && seen > 1 ? 0 : -1;
}

static void look_away(green_trace_event_t event, green_t *from, green_t *to, void *data)
{
    (void)event, (void)from, (void)to, (void)data;
}

static int trace(void)
{
    return green_set_trace(look_away, NULL) == NULL && green_get_trace(NULL) ? 0 : -1;
}

static int trace_no_more(void) { return green_set_trace(NULL, NULL) == look_away ? 0 : -1; }
static int create_key(void)
{
    for (int i = 0; i < 6; i++)
        if (green_key_create(&keys[i], count_destroyed) != 0)
            return errno;
    return 0;
}

static int delete_key(void)
{
    for (int i = 0; i < 6; i++)
        if (green_key_delete(keys[i]) != 0)
            return errno;
    return 0;
}

static int defer(void) { return green_defer(count_run, NULL) == 0 ? 0 : errno; }
static int undefer(void) { return green_undefer(1) == 0 && ran == 1 ? 0 : -1; }
static int set_first_key(void) { return green_setspecific(keys[0], V(1)) == 0 ? 0 : errno; }
static int set_last_key(void) { return green_setspecific(keys[5], V(2)) == 0 ? 0 : errno; }

/* A green that does what it is told: entered with a function, gives back its result. */
static void *obey(void *operation)
{
    int (*fn)(void);
    while (operation != GREEN_FAILED) {
        memcpy(&fn, operation, sizeof fn);
        operation = green_yield(V(fn()));
    }
    return GREEN_FAILED;
}

static int make_obedient(void)
{
    g[7] = green_new(obey, NULL);
    return g[7] != NULL ? 0 : errno;
}

static int have(int (*fn)(void))
{
    return (int)(intptr_t)green_switch(g[7], &fn);
}

static int make_8(void)
{
    g[8] = green_new(echo, green_main());
    return g[8] != NULL ? 0 : errno;
}

static int defer_in_it(void) { return have(defer); }
static int set_key_in_it(void) { return have(set_first_key); }
static int set_another_in_it(void) { return have(set_last_key); }
static int make_in_it(void) { return have(make_8); }
static int enter_8(void) { return green_switch(g[8], V(8)) == V(8) ? 0 : errno; }

/* Frees the one in which things were deferred and set: they run. */
static int free_obedient(void)
{
    int before = ran, destroyed_before = destroyed;
    if (green_free(g[8]) != 0 || green_free(g[7]) != 0)
        return -1;
    return ran == before + 1 && destroyed == destroyed_before + 2 ? 0 : -1;
}

/* A thread that has not used the library, until it does. */
static int thread_result;

static void make_in_thread(void *arg)
{
    (void)arg;
    thread_result = 0;
    for (int i = 0; i < 3; i++)
        if ((orphan[i] = green_new(echo, NULL)) == NULL) {
            thread_result = errno;
            while (i-- > 0)
                must(green_free(orphan[i]) == 0);
            return;
        }
}

static void enter_in_thread(void *arg)
{
    (void)arg;
    thread_result = green_switch(orphan[0], V(1)) == V(1) ? 0 : errno;
}

static void set_in_thread(void *arg)
{
    (void)arg;
    thread_result = defer();
    if (thread_result == 0 && (thread_result = set_last_key()) != 0)
        green_undefer(0);
}

static int thread_makes(void) { return helper_do(&helper, make_in_thread, NULL), thread_result; }
static int thread_enters(void) { return helper_do(&helper, enter_in_thread, NULL), thread_result; }
static int thread_sets(void) { return helper_do(&helper, set_in_thread, NULL), thread_result; }
static int take_over(void) { return green_set_parent(orphan[2], green_main()) == 0 ? 0 : errno; }

static int thread_ends(void)
{
    return helper_end(&helper), green_state(orphan[0]) == GREEN_DEAD ? 0 : -1;
}

static int free_orphans(void)
{
    for (int i = 0; i < 3; i++)
        if (green_free(orphan[i]) != 0)
            return errno;
    return 0;
}

static const struct operation {
    const char *name;
    int (*fn)(void);
    int may_fail;
} operations[] = {
#define MAY_FAIL(fn) { #fn, fn, 1 }
#define WORKS(fn) { #fn, fn, 0 }
    MAY_FAIL(current), MAY_FAIL(report), MAY_FAIL(make_0), MAY_FAIL(make_1),
    MAY_FAIL(make_2), MAY_FAIL(make_3), MAY_FAIL(make_4), MAY_FAIL(make_5),
    MAY_FAIL(make_6), MAY_FAIL(make_detached), WORKS(enter_0), WORKS(enter_1),
    WORKS(enter_2), WORKS(enter_3), WORKS(enter_4), WORKS(enter_5),
    WORKS(enter_detached), WORKS(fail_1), WORKS(set_parent), WORKS(set_parent_back),
    WORKS(kill_detached), WORKS(each), WORKS(trace), WORKS(enter_0),
    WORKS(trace_no_more), WORKS(create_key), MAY_FAIL(defer), WORKS(undefer),
    MAY_FAIL(set_first_key), MAY_FAIL(set_last_key), MAY_FAIL(make_obedient), MAY_FAIL(defer_in_it),
    MAY_FAIL(set_key_in_it), MAY_FAIL(set_another_in_it), MAY_FAIL(make_in_it), WORKS(enter_8),
    MAY_FAIL(thread_makes), WORKS(thread_enters), MAY_FAIL(thread_sets), WORKS(take_over),
    WORKS(enter_0), WORKS(free_1), MAY_FAIL(make_1), WORKS(trim),
    WORKS(free_2), WORKS(free_3), WORKS(free_4), WORKS(abandon_5),
    WORKS(free_6), WORKS(trim), MAY_FAIL(make_5), WORKS(enter_5),
    WORKS(free_obedient), WORKS(thread_ends), WORKS(free_orphans), WORKS(end),
    WORKS(abandon_5), WORKS(free_1), WORKS(free_0), WORKS(delete_key),
};
enum { OPERATIONS = sizeof operations / sizeof *operations };
_Static_assert(OPERATIONS == 60, "the scenario");

/* ---- One play ---------------------------------------------------------------------- */

static int attempt(const struct operation *operation)
{
    errno = 0;
    atomic_store(&armed, 1);
    int result = operation->fn();
    atomic_store(&armed, 0);
    return result;
}

static long kept_bytes(void)
{
    long bytes = 0;
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        bytes += kept[i].address != NULL ? kept[i].bytes : 0;
    return bytes;
}

struct held {
    green_stats_t stats;
    long blocks, bytes;
};

static struct held held(void)
{
    return (struct held){ stats(), atomic_load(&live_blocks),
                          atomic_load(&live_bytes) - kept_bytes() };
}

static void must_be_same(const struct operation *operation, struct held a, struct held b)
{
    if (a.stats.greens != b.stats.greens || a.stats.stacks_live != b.stats.stacks_live ||
        a.blocks != b.blocks || a.bytes != b.bytes || a.stats.bytes_mapped != b.stats.bytes_mapped)
        fprintf(stderr,
                "%s: greens %zu, then %zu; stacks %zu, %zu; blocks %ld, %ld; bytes %ld, %ld\n",
                operation->name, a.stats.greens, b.stats.greens, a.stats.stacks_live,
                b.stats.stacks_live, a.blocks, b.blocks, a.bytes, b.bytes);
    must(a.stats.greens == b.stats.greens && a.stats.stacks_live == b.stats.stacks_live);
    must(a.stats.bytes_mapped == b.stats.bytes_mapped && a.blocks == b.blocks
         && a.bytes == b.bytes);
}

static void operate(const struct operation *operation)
{
    struct held before = held(), after;
    int result = attempt(operation);
    if (result != 0) {
        if (!operation->may_fail || result != ENOMEM)
            fprintf(stderr, "%s: %s (%d)\n", operation->name, strerror(result), result);
        must(operation->may_fail && result == ENOMEM);
        atomic_fetch_add(&told->failed, 1);
        after = held();
        must(after.stats.greens == before.stats.greens);
        must(after.stats.stacks_live == before.stats.stacks_live);
        if (play.for_good) { /* again, which leaves nothing that the first time has not */
            must(attempt(operation) == result);
            must_be_same(operation, after, held());
        }
        atomic_store(&granted, 1);
        result = attempt(operation);
        atomic_store(&granted, 0);
        if (result != 0)
            fprintf(stderr, "%s, when all is granted: %s\n", operation->name, strerror(result));
        must(result == 0);
    }
    if (operation->fn == report)
        told->alternate = held().bytes - before.bytes;
    told->operations++;
}

static int be_played(void *arg)
{
    (void)arg;
    helper_start(&helper);
    for (int i = 0; i < OPERATIONS; i++)
        operate(&operations[i]);
    atomic_store(&granted, 1);
    green_trim(0);
    struct held last = held();
    must(last.stats.greens == 0 && last.stats.stacks_live == 0 && last.stats.stacks_cached == 0);
    must(last.stats.bytes_mapped == 0);
    must(ran == 2 && destroyed == 2 + 2); /* the thread's were not */
    atomic_store(&told->blocks, last.blocks);
    atomic_store(&told->bytes, last.bytes);
    return 0;
}

/* ---- All of them --------------------------------------------------------------------- */

static long blocks_left, bytes_left; /* after the play in which nothing fails */
static long alternate;               /* bytes of one signal stack */

/* Whether the n-th call was reached. */
static int played(enum kind kind, int n, int for_good)
{
    play = (struct play){ kind, n, for_good };
    atomic_store(&told->injected, 0);
    told->operations = 0;
    struct child child = run_child(be_played, NULL);
    play = (struct play){ NO_KIND, 0, 0 };
    if (child.status != 0)
        print_message("%s, call %d%s: status %#x after %d operations: %s", names[kind], n,
                      for_good ? " and all after it" : "", (unsigned)child.status, told->operations,
                      child.err);
    assert_int_equal(child.status, 0);
    assert_int_equal(told->operations, OPERATIONS);
    if (kind != NO_KIND) {
        assert_int_equal(told->blocks, blocks_left);
        /* A signal stack that the kernel is not seen to let go of must stay. */
        if (kind != SIGALTSTACK || told->bytes - bytes_left != alternate)
            assert_int_equal(told->bytes, bytes_left);
    }
    return atomic_load(&told->injected) > 0;
}

TEST(whatever_fails_nothing_is_half_done_and_nothing_leaks)
{
    long plays = 0, faults = 0, failed = 0;
    const int step = times(1, 4); /* all of them where it is fast */
    memset(told, 0, sizeof *told);
    assert_non_null(dlopen("libgcc_s.so.1", RTLD_NOW)); /* else green_exit() loads it, or cannot */
    played(NO_KIND, 0, 0);
    blocks_left = told->blocks;
    bytes_left = told->bytes;
    alternate = told->alternate;
    assert_true(alternate > 65536);
    assert_int_equal(told->failed, 0);
    for (enum kind kind = NO_KIND + 1; kind < KINDS; kind++) {
        if (kind == MALLOC && told->calls[MALLOC] == 0) {
            print_message("malloc and its kin do not come by here: they are not made to fail\n");
            kind = SIGALTSTACK;
        }
        int calls = 0;
        atomic_store(&told->failed, 0);
        for (int for_good = 0; for_good <= 1; for_good++)
            for (int n = 1; played(kind, n, for_good); n += step) {
                assert_true(n < 1000);
                calls = n > calls ? n : calls;
                plays++;
                faults += atomic_load(&told->injected);
            }
        failed += atomic_load(&told->failed);
        print_message("%-20s %3d calls, %s once and for good: %d operations failed\n", names[kind],
                      calls, step == 1 ? "each" : "some", atomic_load(&told->failed));
        /* The scenario comes by there at all; guards by mprotect alone are not asked by a pipe. */
        assert_true(calls > 0 || kind == PIPE2);
    }
    print_message("faults: %ld calls refused in %ld plays of %d operations, %ld of which failed\n",
                  faults, plays, OPERATIONS, failed);
}

static void *first_use(void *unused)
{
    (void)unused;
    return V(green_main() == NULL);
}

static int use_in_three_threads(void *looks)
{
    for (int i = 0; i < 3; i++) {
        int before = atomic_load(&lists);
        must(in_thread(first_use, NULL) == NULL);
        ((atomic_int *)looks)[i] = atomic_load(&lists) - before;
    }
    return 0;
}

/* Only where one comes by here: once to see whether anything has come, again to look at it. */
TEST(a_runtime_that_was_not_there_is_not_looked_for_until_something_is_loaded)
{
    atomic_int *looks = told->calls;
    struct child child = run_child(use_in_three_threads, looks);
    assert_string_equal(child.err, "");
    assert_int_equal(child.status, 0);
    assert_true(looks[0] >= 1);
    assert_int_equal(looks[1], 1);
    assert_int_equal(looks[2], 1);
}

static void *use_and_stay_in_list(void *unused)
{
    stays_in_list = 1;
    return first_use(unused);
}

static int fork_while_another_has_the_lock(void *unused)
{
    pthread_t other;
    int status;
    forker = (pid_t)syscall(SYS_gettid);
    atomic_store(&past_lock, 0);
    must(pthread_create(&other, NULL, use_and_stay_in_list, NULL) == 0);
    while (!atomic_load(&in_list))
        sched_yield();
    pid_t pid = fork();
    must(pid >= 0);
    if (pid == 0) {
        alarm(60); /* should the lock be held by nobody */
        _exit(first_use(unused) != NULL);
    }
    must(atomic_load(&past_lock) && !atomic_load(&was_in_list));
    must(waitpid(pid, &status, 0) == pid && status == 0);
    must(pthread_join(other, NULL) == 0);
    return 0;
}

TEST(a_fork_waits_for_a_thread_that_has_the_lock)
{
    if (!HAS_PREINIT)
        skip_because("nothing is called before the library registers its handlers of forks");
    struct child child = run_child(fork_while_another_has_the_lock, NULL);
    assert_string_equal(child.err, "");
    assert_int_equal(child.status, 0);
}

int main(void)
{
    told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    must(told != MAP_FAILED);
    unsetenv("GREEN_TEST_LEAKS"); /* the process itself must not use the library */
    return run_all_tests();
}
#endif
