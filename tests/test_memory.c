/* SPDX-License-Identifier: MIT */
/*
 * What needs memory, and what comes of it when there is none (rule 18).  The
 * program puts itself between the library and malloc(), mmap() and their
 * kin: it counts them, and makes the n-th fail.
 */
#define _GNU_SOURCE
#include <stdatomic.h>

#define SYSTEM_OWN /* system.h, but for the functions that stand here */
#include "system.h"

/* ---- In between ----------------------------------------------------------------------- */

#if SANITIZED
int main(void)
{
    return skip_all_because("a sanitizer stands between: nothing can be made to fail");
}
#else

#include "heap.h"

static _Thread_local int failing; /* from this one on, counted by `asked`; 0: none */
static _Thread_local int only_one;
static _Thread_local int asked;
static atomic_long asked_in_all, live_bytes;

static int refused(void)
{
    atomic_fetch_add(&asked_in_all, 1);
    if (failing == 0 || ++asked < failing || (only_one && asked > failing))
        return 0;
    errno = ENOMEM;
    return 1;
}

/* From now on the n-th request of this thread fails, and those after it. */
static void fail_from(int n)
{
    asked = 0;
    failing = n;
    only_one = 0;
}

static void fail_at(int n)
{
    fail_from(n);
    only_one = 1;
}

static void fail_no_more(void)
{
    failing = 0;
}

static atomic_int refuse_guards, lie_about_guards, guards_by_mprotect;

static int heap_refuses(enum heap_call call)
{
    (void)call;
    return refused();
}

void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
    if (refused())
        return MAP_FAILED;
    if (!(flags & MAP_FIXED))
        atomic_fetch_add(&live_bytes, in_pages(length));
    return (void *)syscall(SYS_mmap, address, length, protection, flags, fd, offset);
}

void *mmap64(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
    return mmap(address, length, protection, flags, fd, offset);
}

int munmap(void *address, size_t length)
{
    atomic_fetch_sub(&live_bytes, in_pages(length));
    return (int)syscall(SYS_munmap, address, length);
}

int mprotect(void *address, size_t length, int protection)
{
    if (protection == PROT_NONE) {
        if (atomic_load(&refuse_guards) || (failing != 0 && refused()))
            return refuse(ENOMEM);
        atomic_fetch_add(&guards_by_mprotect, 1);
    }
    return (int)syscall(SYS_mprotect, address, length, protection);
}

int madvise(void *address, size_t length, int advice)
{
    int guard = advice == MADV_GUARD_INSTALL;
    if (guard && atomic_load(&lie_about_guards))
        return 0;
    if (guard && (atomic_load(&refuse_guards) || (failing != 0 && refused())))
        return refuse(EINVAL);
    return (int)syscall(SYS_madvise, address, length, advice);
}

/* Whether the library comes here for its blocks; Valgrind keeps it from doing so. */
static int in_between(void)
{
    long before = atomic_load(&asked_in_all);
    void *(*volatile ask)(size_t) = malloc;
    free(ask(1));
    return atomic_load(&asked_in_all) > before;
}

/* No such stack is cached. */
static const green_options_t odd = { .name = "odd", .stack_size = 300000 };

/* ---- Guards ------------------------------------------------------------------------ */

enum { LIE = 1, REFUSE = 2, REFUSE_LATER = 4 };

static int make_one(void *how)
{
    int flags = (int)(intptr_t)how;
    atomic_store(&lie_about_guards, flags & LIE);
    atomic_store(&refuse_guards, flags & REFUSE);
    green_t *g[20];
    for (int i = 0; i < 20; i++) {
        if (i == 10 && (flags & REFUSE_LATER))
            atomic_store(&refuse_guards, 1);
        const green_options_t options = { .stack_size = 65536 };
        errno = 0;
        g[i] = green_new_with(echo, NULL, &options);
        must(g[i] != NULL ? is_guarded(g[i]) : errno == ENOMEM && atomic_load(&refuse_guards));
    }
    for (int i = 0; i < 20; i++) /* now that there are others next to it */
        must(g[i] == NULL || is_guarded(g[i]));
    const green_options_t unguarded = { .flags = GREEN_NO_GUARD };
    green_t *n = green_new_with(echo, NULL, &unguarded); /* what needs none is granted */
    must(n != NULL && green_switch(n, V(1)) == V(1) && green_free(n) == 0);
    atomic_store(&refuse_guards, 0);
    for (int i = 0; i < 20; i++) {
        if (g[i] == NULL)
            must((g[i] = green_new(echo, NULL)) != NULL && is_guarded(g[i]));
        must(green_switch(g[i], V(2)) == V(2));
    }
    for (int i = 0; i < 20; i++)
        must(green_free(g[i]) == 0);
    return 0;
}

/* Runs in children: the process itself has used nothing yet. */
TEST(a_green_has_its_guard_or_is_not_made)
{
    if (under_valgrind())
        skip_because("to Valgrind a touched guard is an error");
    for (int how = 0; how <= (LIE | REFUSE | REFUSE_LATER); how++) {
        struct child child = run_child(make_one, V(how));
        if (child.status != 0)
            print_message("way %d: %s", how, child.err);
        assert_int_equal(child.status, 0);
    }
}

/* ---- The first use of a thread ----------------------------------------------------------- */

static void nothing(void *arg)
{
    (void)arg;
}

static void look_away(green_trace_event_t event, green_t *from, green_t *to, void *data)
{
    (void)event;
    (void)from;
    (void)to;
    (void)data;
}

static int see(green_t *g, void *arg)
{
    (void)arg;
    return g == green_main();
}

/* First uses: 0, or the errno they fail with. */
static int use_current(void)
{
    return green_current() == NULL ? errno : 0;
}

static int use_main(void)
{
    return green_main() == NULL ? errno : 0;
}

static int use_new(void)
{
    green_t *g = green_new(give_back, NULL);
    int error = g == NULL ? errno : 0;
    fail_no_more();
    must(green_free(g) == 0);
    return error;
}

static int use_set_trace(void)
{
    errno = 0; /* there is no previous hook: NULL is what it returns anyway */
    green_set_trace(look_away, NULL);
    int error = errno;
    fail_no_more();
    int set = green_get_trace(NULL) == look_away;
    must(set || error == ENOMEM);
    return set ? 0 : error;
}

static int use_defer(void)
{
    return green_defer(nothing, NULL) == -1 ? errno : 0;
}

static int use_each(void)
{
    int result = green_each(see, NULL);
    must(result == 1 || result == -1);
    return result == -1 ? errno : 0;
}

static int (*const first_uses[])(void) = {
    use_current, use_main, use_new, use_set_trace, use_defer, use_each,
};
enum { FIRST_USES = sizeof first_uses / sizeof *first_uses };

struct attempt {
    int which, n;
};

/* Whether it worked although the n-th request failed; if not, whether the next call does. */
static void *use_first(void *arg)
{
    const struct attempt *attempt = arg;
    fail_from(attempt->n);
    int error = first_uses[attempt->which]();
    fail_no_more();
    must(error == 0 || error == ENOMEM);
    must(green_current() != NULL && green_current() == green_main());
    must(first_uses[attempt->which]() == 0);
    green_t *g = green_new(echo, NULL);
    must(green_switch(g, V(1)) == V(1) && green_free(g) == 0);
    must(green_set_trace(NULL, NULL) == NULL || attempt->which == 3);
    must(green_thread_end() == 0);
    return V(error == 0);
}

static int use_first_in_a_process(void *attempt)
{
    return use_first(attempt) != NULL ? 0 : 1;
}

/* In children, too. */
TEST(the_first_use_of_a_process_may_fail_and_the_next_call_works)
{
    for (int i = 0; i < FIRST_USES; i++)
        for (struct attempt attempt = { i, 1 };; attempt.n++) {
            struct child child = run_child(use_first_in_a_process, &attempt);
            assert_true(WIFEXITED(child.status));
            if (WEXITSTATUS(child.status) == 0)
                break;
            assert_true(attempt.n < 100);
        }
}

TEST(so_may_that_of_a_thread)
{
    for (int i = 0; i < FIRST_USES; i++) {
        struct attempt attempt = { i, 1 };
        while (in_thread(use_first, &attempt) == NULL)
            assert_true(++attempt.n < 100);
    }
}

/* ---- green_new() ------------------------------------------------------------------- */

TEST(green_new_without_memory_changes_nothing)
{
    int failures = 0;
    green_t *parent = green_new(echo, NULL);
    for (int n = 1;; n++) {
        assert_true(n < 100);
        long blocks = 0, bytes = 0;
        green_t *g = NULL;
        for (int i = 0; g == NULL && i < 50; i++) { /* the second time it is as rich as the first */
            fail_from(n);
            errno = 0;
            g = green_new_with(echo, parent, &odd);
            int error = errno;
            fail_no_more();
            if (g != NULL)
                break;
            assert_int_equal(error, ENOMEM);
            failures++;
            if (i == 0) {
                blocks = atomic_load(&live_blocks);
                bytes = atomic_load(&live_bytes);
            }
            /* To get it, it may have given back what was kept for the next. */
            assert_true(atomic_load(&live_blocks) <= blocks);
            assert_true(atomic_load(&live_bytes) <= bytes);
            assert_ptr_equal(green_current(), green_main());
            assert_int_equal(green_state(parent), GREEN_NEW);
        }
        if (g != NULL) {
            assert_int_equal(green_free(g), 0);
            break;
        }
        g = green_new_with(echo, NULL, &(green_options_t){ .stack_size = 20000 });
        assert_ptr_equal(green_switch(g, V(1)), V(1)); /* the next one works */
        assert_int_equal(green_free(g), 0);
    }
    assert_true(failures > 0);
    assert_int_equal(green_free(parent), 0);
}

TEST(a_single_failure_is_enomem_or_got_over)
{
    for (int n = 1; n < 20; n++) {
        green_options_t options = { .stack_size = (size_t)(400000 + 8192 * n) };
        fail_at(n);
        errno = 0;
        green_t *g = green_new_with(echo, NULL, &options);
        int error = errno;
        fail_no_more();
        assert_true(g != NULL || error == ENOMEM);
        if (g == NULL)
            g = green_new_with(echo, NULL, &options);
        assert_ptr_equal(green_switch(g, V(1)), V(1));
        assert_int_equal(green_free(g), 0);
    }
}

TEST(on_a_lent_stack_it_needs_little_and_may_fail_too)
{
    static char room[40000];
    green_options_t options = { .stack = room, .stack_size = sizeof room };
    for (int n = 1;; n++) {
        assert_true(n < 100);
        fail_from(n);
        errno = 0;
        green_t *g = green_new_with(echo, NULL, &options);
        int error = errno;
        fail_no_more();
        if (g != NULL) {
            assert_ptr_equal(green_switch(g, V(1)), V(1));
            assert_int_equal(green_free(g), 0);
            break;
        }
        assert_int_equal(error, ENOMEM);
    }
}

/* ---- Everything that follows ------------------------------------------------------- */

static void *die_of_e1(void *value)
{
    (void)value;
    errno = E1;
    return GREEN_FAILED;
}

static void *exit_at_once(void *value)
{
    green_exit(value);
}

TEST(no_switch_fails_for_want_of_memory)
{
    enum { N = 300 };
    const green_options_t detached = { .flags = GREEN_DETACHED };
    const green_options_t small = { .stack_size = 16384, .flags = GREEN_NO_GUARD };
    static green_t *chain[N];
    green_t *g = green_new_with(echo, NULL, &odd), *h = green_new(die_of_e1, NULL);
    green_t *e = green_new(exit_at_once, NULL), *d = green_new_with(echo, NULL, &detached);
    green_t *r = green_new(give_back, NULL);
    for (int i = 0; i < N; i++)
        chain[i] = green_new_with(give_back, i > 0 ? chain[i - 1] : NULL, &small);
    green_t *last = green_new(echo, NULL);
    fail_from(1);
    must(green_switch(g, V(1)) == V(1));
    must(green_switch(d, V(2)) == V(2));
    for (int i = 0; i < 100; i++)
        must(green_switch(g, V(i)) == V(i) && green_switch(d, V(i)) == V(i));
    must(green_set_trace(look_away, NULL) == NULL);
    must(green_switch(h, NULL) == GREEN_FAILED && errno == E1);
    must(green_switch(e, V(3)) == V(3));
    must(green_throw(d, 0) == NULL);
    must(green_set_trace(NULL, NULL) == look_away);
    must(green_set_parent(r, g) == 0 && green_parent(r) == g);
    must(green_switch(r, V(4)) == V(4)); /* through g */
    must(green_switch(chain[N - 1], V(5)) == V(5));
    must(green_switch(last, V(6)) == V(6));
    must(green_each(see, NULL) == 1);
    must(green_free(g) == 0 && green_free(h) == 0 && green_free(e) == 0 && green_free(r) == 0);
    for (int i = 0; i < N; i++)
        must(green_free(chain[i]) == 0);
    must(green_thread_end() == 0);
    must(green_state(last) == GREEN_DEAD && green_abandon(last) == 0);
    fail_no_more();
}

TEST(a_backtrace_without_memory_says_so_or_needs_none)
{
    void *pcs[16];
    green_t *g = green_new(echo, NULL);
    must(green_switch(g, NULL) == NULL);
    int frames = green_backtrace(g, pcs, 16); /* what it loads, it loads now */
    if (frames == -1)
        assert_int_equal(errno, ENOSYS); /* no unwinder here */
    fail_from(1);
    errno = 0;
    int without = green_backtrace(g, pcs, 16), error = errno;
    fail_no_more();
    assert_true(without == frames || (without == -1 && error == ENOMEM));
    assert_int_equal(green_backtrace(g, pcs, 16), frames);
    must(green_free(g) == 0);
}

TEST(hand_overs_ask_for_nothing)
{
    if (!in_between())
        skip_because("nothing is counted here");
    green_t *g = green_new(echo, NULL), *h = green_new(echo, NULL);
    green_switch(g, V(1));
    green_switch(h, V(1));
    long before = atomic_load(&asked_in_all);
    for (int i = 0, n = times(1000000, 1000); i < n; i++) {
        must(green_switch(g, V(1)) == V(1));
        must(green_switch(h, V(2)) == V(2));
    }
    assert_int_equal(atomic_load(&asked_in_all), before);
    assert_int_equal(green_free(g), 0);
    assert_int_equal(green_free(h), 0);
}

/* ---- Blocks ------------------------------------------------------------------------ */

enum { MORE_THAN_WAIT = 1500 };

static void make_and_free_many(void)
{
    static green_t *g[MORE_THAN_WAIT];
    const green_options_t small = { .stack_size = 16384, .flags = GREEN_NO_GUARD };
    for (int i = 0; i < MORE_THAN_WAIT; i++)
        must((g[i] = green_new_with(give_back, NULL, &small)) != NULL);
    for (int i = 0; i < MORE_THAN_WAIT; i++)
        must(green_free(g[i]) == 0);
}

/* One after the other, however many there have been. */
TEST(what_one_has_freed_is_enough_for_the_next)
{
    if (STRESSED)
        skip_because("nothing is used twice in such a build");
    for (int i = 0; i < 5100; i++) {
        if (i == 5000)
            fail_from(1);
        green_t *g = green_new(give_back, NULL);
        must(g != NULL && green_switch(g, V(i)) == V(i) && green_free(g) == 0);
    }
    fail_no_more();
}

static green_t *parent_of_three, *of_three[3];

static void take_children(void *takes_parent)
{
    for (int i = 0; i < 3; i++)
        must(green_set_parent(of_three[i], green_main()) == 0);
    must(!takes_parent || green_set_parent(parent_of_three, green_main()) == 0);
    for (int i = 0; i < 3; i++)
        must(green_free(of_three[i]) == 0);
    must(!takes_parent || green_free(parent_of_three) == 0);
}

static void make_and_free_many_there(void *arg)
{
    (void)arg;
    make_and_free_many();
}

TEST(no_block_is_lost_however_many_are_freed_and_whoever_took_their_children)
{
    struct helper helper;
    long before = 0;
    if (!in_between())
        skip(); /* nothing is counted here */
    helper_start(&helper);
    for (int round = 0; round < 5; round++) {
        make_and_free_many();
        for (int i = 0; i < 40; i++) {
            must((parent_of_three = green_new(give_back, NULL)) != NULL);
            for (int j = 0; j < 3; j++)
                must((of_three[j] = green_new(give_back, parent_of_three)) != NULL);
            helper_do(&helper, take_children, V(i % 2));
            must(i % 2 || green_free(parent_of_three) == 0);
        }
        helper_do(&helper, make_and_free_many_there, NULL); /* as many wait there as may */
        if (round == 1)
            before = atomic_load(&live_blocks);
    }
    assert_in_range(atomic_load(&live_blocks), 0, before + 10);
    helper_end(&helper);
}

/* A block that the system refuses may be had for the stacks that wait. */
TEST(for_a_block_cached_stacks_are_given_back)
{
    static _Alignas(16) char room[32 << 10]; /* of many, none of which runs */
    const green_options_t lent = { .stack = room, .stack_size = sizeof room };
    enum { MANY = 1100 }; /* more than blocks wait in a thread */
    static green_t *greens[MANY + 1];
    green_stats_t stats;
    if (STRESSED || under_valgrind())
        skip_because("no stacks wait, or no blocks");
    for (int i = 0; i < 10; i++)
        greens[i] = green_new(echo, NULL);
    for (int i = 0; i < 10; i++)
        assert_true(green_switch(greens[i], V(1)) == V(1) && green_free(greens[i]) == 0);
    for (int i = 0; i < MANY; i++)
        assert_non_null(greens[i] = green_new_with(echo, NULL, &lent));
    assert_int_equal(green_stats(&stats, sizeof stats), 0);
    assert_true(stats.stacks_cached >= 10);
    fail_at(1);
    greens[MANY] = green_new_with(echo, NULL, &lent);
    fail_no_more();
    assert_non_null(greens[MANY]);
    assert_int_equal(green_stats(&stats, sizeof stats), 0);
    assert_int_equal(stats.stacks_cached, 0);
    for (int i = 0; i <= MANY; i++)
        assert_int_equal(green_free(greens[i]), 0);
}

/* ---- green_defer(), green_setspecific() -------------------------------------------- */

static int deferred, ran, in_order;

static void count_run(void *number)
{
    in_order += (int)(intptr_t)number == deferred - ++ran;
}

static void *defer_until_enomem(void *enough)
{
    fail_from(1);
    errno = 0;
    while (deferred < (int)(intptr_t)enough && green_defer(count_run, V(deferred)) == 0)
        deferred++;
    fail_no_more();
    must(deferred == (int)(intptr_t)enough || errno == ENOMEM);
    must(green_defer(count_run, V(deferred)) == 0); /* the next one works */
    deferred++;
    return green_yield(V(deferred));
}

TEST(green_defer_without_memory_changes_nothing)
{
    enum { ENOUGH = 100000 };
    deferred = ran = in_order = 0;
    green_t *g = green_new(defer_until_enomem, NULL);
    green_switch(g, V(ENOUGH));
    if (in_between())
        assert_true(deferred < ENOUGH);
    fail_from(1); /* to run them needs none */
    assert_null(green_switch(g, NULL));
    fail_no_more();
    assert_int_equal(ran, deferred);
    assert_int_equal(in_order, deferred);
    assert_int_equal(green_free(g), 0);
}

enum { KEYS = 100 };
static green_key_t keys[KEYS];

static void *set_keys_without_memory(void *value)
{
    for (int i = 0; i < KEYS; i++) {
        must(green_setspecific(keys[i], NULL) == 0 || errno == ENOMEM);
        fail_from(1);
        errno = 0;
        int result = green_setspecific(keys[i], V(i + 1));
        int error = errno;
        must(green_getspecific(keys[i]) == (result == 0 ? V(i + 1) : NULL));
        must(result == 0 || (result == -1 && error == ENOMEM));
        fail_no_more();
        must(green_setspecific(keys[i], V(i + 1)) == 0);
        fail_from(1);
        must(green_setspecific(keys[i], V(i + 2)) == 0); /* it has its place now */
        fail_no_more();
    }
    for (int i = 0; i < KEYS; i++)
        must(green_getspecific(keys[i]) == V(i + 2));
    return value;
}

TEST(green_setspecific_without_memory_changes_nothing)
{
    for (int i = 0; i < KEYS; i++)
        assert_int_equal(green_key_create(&keys[i], NULL), 0);
    green_t *g = green_new(set_keys_without_memory, NULL);
    assert_ptr_equal(green_switch(g, V(7)), V(7));
    assert_int_equal(green_free(g), 0);
    in_thread(set_keys_without_memory, NULL);
    for (int i = 0; i < KEYS; i++)
        assert_int_equal(green_key_delete(keys[i]), 0);
}

int main(void)
{
    return run_all_tests();
}
#endif
