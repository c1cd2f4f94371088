/* SPDX-License-Identifier: MIT */
/*
 * That memory stays flat, whatever is made and ended how often.  Each test
 * goes several rounds; after the first ones, which warm the caches, a round
 * must leave the process as it found it.
 */
#include <malloc.h>

#include "testing.h"

static const green_options_t small = { .stack_size = 16384, .flags = GREEN_NO_GUARD };

/* What the process holds: bytes resident, mapped, allocated, and mappings. */
struct usage {
    long resident, mapped, allocated, mappings;
};

static struct usage usage(void)
{
    struct usage now = { 0, 0, 0, 0 };
    FILE *file = fopen("/proc/self/statm", "r");
    if (file != NULL) {
        if (fscanf(file, "%ld %ld", &now.mapped, &now.resident) != 2)
            now.mapped = now.resident = 0;
        fclose(file);
    }
    now.mapped *= sysconf(_SC_PAGESIZE);
    now.resident *= sysconf(_SC_PAGESIZE);
    file = fopen("/proc/self/maps", "r");
    if (file != NULL) {
        for (int c; (c = getc(file)) != EOF;)
            now.mappings += c == '\n';
        fclose(file);
    }
#if defined __GLIBC__ && (__GLIBC__ > 2 || __GLIBC_MINOR__ >= 33)
    now.allocated = (long)mallinfo2().uordblks;
#endif
    return now;
}

/* The numbers say nothing of the library where somebody else allocates as well. */
static int can_tell(void)
{
    const char *preload = getenv("LD_PRELOAD");
    const char *reason = SANITIZED                           ? "there is a sanitizer"
                         : getenv("GREEN_TEST_SLOW") != NULL ? "GREEN_TEST_SLOW is set"
                         : preload != NULL                   ? "something is preloaded"
                                                             : NULL;
    static int said;
    if (reason != NULL && !said++)
        print_message("memory is not measured: %s\n", reason);
    return reason == NULL;
}

enum { WARM_UP = 3, ROUNDS = 6 };

/* Runs the rounds; the later ones may not differ by more than a little from one another. */
static void stays_flat(void (*round)(int n), int n)
{
    struct usage before = { 0, 0, 0, 0 }, after;
    int rounds = times(ROUNDS, 2);
    for (int i = 0; i < rounds; i++) {
        if (i == WARM_UP)
            before = usage();
        round(n);
    }
    after = usage();
    if (!can_tell())
        return;
    struct usage grown = {
        after.resident - before.resident,
        after.mapped - before.mapped,
        after.allocated - before.allocated,
        after.mappings - before.mappings,
    };
    if (grown.resident > 400000 || grown.mapped > 400000 || grown.allocated > 4000
        || grown.mappings > 4)
        print_message("grown: %ld resident, %ld mapped, %ld allocated, %ld mappings\n",
                      grown.resident, grown.mapped, grown.allocated, grown.mappings);
    assert_true(grown.resident <= 400000);
    assert_true(grown.mapped <= 400000);
    assert_true(grown.allocated <= 4000);
    assert_true(grown.mappings <= 4);
}

/* ---- A thread that has ended --------------------------------------------------------------- */

static void *only_ask_for_current(void *value)
{
    must(green_current() != NULL);
    return value;
}

enum { MANY = 20000, SOME = 4000 };
static green_t *many[MANY];
static int how_many, canceled;

static void *park(void *value)
{
    value = green_yield(value);
    canceled += value == GREEN_FAILED && errno == ECANCELED;
    return NULL;
}

static void *park_many(void *kills)
{
    for (int i = 0; i < how_many; i++) {
        many[i] = green_new_with(park, NULL, &small);
        must(many[i] != NULL && green_switch(many[i], V(1)) == V(1));
    }
    for (int i = 0; kills && i < how_many; i++)
        must(green_free(many[i]) == 0);
    return NULL;
}

/* Comes first, before others fill caches. */
TEST(a_thread_that_has_ended_keeps_no_stacks)
{
    in_thread(only_ask_for_current, NULL);
    struct usage before = usage();
    how_many = times(MANY, 100);
    in_thread(park_many, V(1));
    struct usage after = usage();
    if (!can_tell())
        return;
    assert_true(after.resident - before.resident < 4 << 20);
    assert_true(after.mapped - before.mapped <= 64 << 20); /* an arena for the next */
    assert_true(after.mappings - before.mappings < 100);
}

/* ---- One thread -------------------------------------------------------------------------- */

static void run_to_death(int n)
{
    for (int i = 0; i < n; i++) {
        green_t *g = green_new(give_back, NULL);
        must(g != NULL && green_switch(g, V(i)) == V(i) && green_free(g) == 0);
    }
}

/* greenlet: test_untracked_memory_doesnt_increase */
TEST(greens_that_run_to_their_death_leave_nothing)
{
    stays_flat(run_to_death, times(10000, 200));
}

static void *die_of_e1(void *value)
{
    (void)value;
    errno = E1;
    return GREEN_FAILED;
}

static void fail_often(int n)
{
    for (int i = 0; i < n; i++) {
        green_t *g = green_new(die_of_e1, NULL);
        must(green_switch(g, NULL) == GREEN_FAILED && errno == E1 && green_free(g) == 0);
    }
}

/* greenlet: test_leak_test_exception_switch_and_do_in_g2 */
TEST(switches_that_fail_leave_nothing)
{
    stays_flat(fail_often, times(1000, 100));
}

static void end_in_every_way(int n)
{
    const green_options_t detached = { .name = "detached", .flags = GREEN_DETACHED };
    const green_options_t large = { .name = "large", .stack_size = 3000000 };
    for (int i = 0; i < n; i++) {
        green_t *g = green_new_with(echo, NULL, i % 7 ? NULL : &large);
        green_t *d = green_new_with(echo, g, &detached);
        must(g != NULL && d != NULL);
        if (i % 2)
            must(green_switch(g, V(1)) == V(1));
        if (i % 3)
            must(green_set_parent(d, green_main()) == 0 && green_switch(d, V(2)) == V(2));
        must((i % 5 ? green_free(g) : green_abandon(g)) == 0);
        if (i % 4 == 0)
            green_throw(d, E1);
        else
            must((i % 4 == 1 ? green_abandon(d) : green_free(d)) == 0);
    }
}

TEST(neither_do_those_that_end_otherwise)
{
    stays_flat(end_in_every_way, times(10000, 400));
}

static void refused(int n)
{
    const green_options_t unknown = { .flags = 1u << 31 }, huge = { .stack_size = SIZE_MAX / 4 };
    for (int i = 0; i < n; i++) {
        must(green_new_with(echo, NULL, &unknown) == NULL);
        must(green_new_with(echo, NULL, &huge) == NULL);
        must(green_new(NULL, NULL) == NULL);
    }
}

TEST(nor_do_those_that_are_not_made)
{
    stays_flat(refused, times(10000, 100));
}

static int destroyed;

static void count_destroyed(void *value)
{
    destroyed += value != NULL;
}

enum { KEYS = 20 };
static green_key_t keys[KEYS];

static void make_keys(void)
{
    for (int i = 0; i < KEYS; i++)
        must(green_key_create(&keys[i], count_destroyed) == 0);
    destroyed = 0;
}

static void delete_keys(void)
{
    for (int i = 0; i < KEYS; i++)
        must(green_key_delete(keys[i]) == 0);
}

static void *use_keys_and_deferred(void *value)
{
    for (int i = 0; i < KEYS; i++) {
        must(green_setspecific(keys[i], value) == 0);
        must(green_defer(count_destroyed, i % 2 ? value : NULL) == 0);
    }
    green_yield(NULL);
    must(green_undefer(0) == 0);
    return NULL;
}

static void clean_up(int n)
{
    make_keys();
    for (int i = 0; i < n; i++) {
        green_t *g = green_new(use_keys_and_deferred, NULL);
        green_switch(g, V(1));
        if (i % 3 > 0)
            green_switch(g, NULL);
        must((i % 3 == 1 ? green_abandon(g) : green_free(g)) == 0);
    }
    must(destroyed == 29 * n);
    delete_keys();
}

TEST(keys_and_deferred_functions_leave_nothing)
{
    stays_flat(clean_up, times(3000, 99));
}

static void abandon_with_keys_and_deferred(int n)
{
    make_keys();
    for (int i = 0; i < n; i++) {
        green_t *g = green_new(use_keys_and_deferred, NULL);
        green_switch(g, V(1));
        must(green_abandon(g) == 0);
    }
    must(destroyed == 0);
    delete_keys();
}

TEST(not_even_those_of_abandoned_greens)
{
    stays_flat(abandon_with_keys_and_deferred, times(3000, 99));
}

static void a_chain_of_parents(int n)
{
    green_t *child = green_new_with(give_back, NULL, &small);
    for (int i = 0; i < n; i++) { /* each parent goes before its child */
        green_t *middle = green_new_with(give_back, green_parent(child), &small);
        must(green_set_parent(child, middle) == 0 && green_free(middle) == 0);
        must(green_parent(child) == green_main());
    }
    must(green_switch(child, V(1)) == V(1) && green_free(child) == 0);
}

TEST(parents_freed_before_their_children_leave_nothing)
{
    stays_flat(a_chain_of_parents, times(10000, 200));
}

/* ---- Threads ------------------------------------------------------------------------------- */

static void *run_two_children(void *value)
{
    run_to_death(2);
    return value;
}

static void *leave_two_parked(void *value)
{
    const green_options_t detached = { .flags = GREEN_DETACHED };
    for (int i = 0; i < 2; i++) {
        green_t *g = green_new_with(echo, NULL, &detached);
        must(g != NULL && green_switch(g, value) == value);
        must(green_defer(count_destroyed, g) == 0);
    }
    return value;
}

static void threads_that_only_ask(int n)
{
    for (int i = 0; i < n; i++)
        in_thread(only_ask_for_current, NULL);
}

static void threads_with_children(int n)
{
    for (int i = 0; i < n; i++)
        in_thread(run_two_children, NULL);
}

static void threads_that_leave_some(int n)
{
    destroyed = 0;
    for (int i = 0; i < n; i++)
        in_thread(leave_two_parked, V(1));
    must(destroyed == 0);
}

/* greenlet: test_threaded_leak, test_threaded_adv_leak, test_issue251_issue252_need_to_... */
TEST(threads_that_end_leave_nothing)
{
    stays_flat(threads_that_only_ask, times(1000, 20));
    stays_flat(threads_with_children, times(300, 20));
    stays_flat(threads_that_leave_some, times(300, 20));
}

static void kill_in_their_thread(int n)
{
    how_many = n;
    canceled = 0;
    in_thread(park_many, V(1));
    must(canceled == n);
}

static void leave_to_the_thread_end(int n)
{
    how_many = n;
    canceled = 0;
    in_thread(park_many, NULL);
    for (int i = 0; i < n; i++)
        must(green_state(many[i]) == GREEN_DEAD && green_free(many[i]) == 0);
    must(canceled == 0);
}

/* greenlet: test_untracked_memory_doesnt_increase_unfinished_thread_dealloc_in_thread */
TEST(many_that_are_killed_leave_nothing)
{
    stays_flat(kill_in_their_thread, times(SOME, 100));
}

/* greenlet: test_untracked_memory_doesnt_increase_unfinished_thread_dealloc_in_main */
TEST(many_that_are_left_to_the_end_of_their_thread_leave_nothing)
{
    stays_flat(leave_to_the_thread_end, times(SOME, 100));
}

static void *end_the_thread(void *value)
{
    how_many = 100;
    park_many(NULL);
    must(green_thread_end() == 0);
    for (int i = 0; i < how_many; i++)
        must(green_free(many[i]) == 0);
    return value;
}

static void end_threads(int n)
{
    canceled = 0;
    for (int i = 0; i < n; i++)
        in_thread(end_the_thread, NULL);
    must(canceled == 100 * n);
}

TEST(green_thread_end_leaves_nothing)
{
    stays_flat(end_threads, times(50, 2));
}

TEST(one_that_lives_keeps_some_but_not_all)
{
    int n = times(8000, 100); /* of a page or two each */
    struct usage before = usage();
    for (int i = 0; i < n; i++) {
        many[i] = green_new(park, NULL);
        assert_ptr_equal(green_switch(many[i], V(1)), V(1));
    }
    for (int i = 0; i < n; i++)
        assert_int_equal(green_free(many[i]), 0);
    struct usage after = usage();
    if (!can_tell())
        return;
    assert_true(after.resident - before.resident < 24 << 20); /* they had some 32 */
}

int main(void)
{
    mallopt(M_ARENA_MAX, 1); /* so that mallinfo2() counts all */
    return run_all_tests();
}
