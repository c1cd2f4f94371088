/* SPDX-License-Identifier: MIT */
/*
 * green_abandon() from another thread (rules 7 and 9): the handle is gone at once,
 * and the green's own thread releases the rest at its next call.
 */
#define _GNU_SOURCE
#include <sys/wait.h>

#include "testing.h"

/* The other thread's greens. */
static struct helper owner;
static green_t *theirs, *child, *above;
static green_trace_fn *hook; /* that the other thread has */

static size_t stacks_live(void)
{
    green_stats_t stats;
    must(green_stats(&stats, sizeof stats) == 0);
    return stats.stacks_live;
}

static size_t handles(void)
{
    green_stats_t stats;
    must(green_stats(&stats, sizeof stats) == 0);
    return stats.greens;
}

static void make_suspended(void *unused)
{
    (void)unused;
    must((theirs = green_new(echo, NULL)) != NULL);
    must(green_switch(theirs, V(1)) == V(1));
}

static void make_new(void *unused)
{
    (void)unused;
    must((theirs = green_new(never, NULL)) != NULL);
}

static void make_dead(void *unused)
{
    (void)unused;
    must((theirs = green_new_with(give_back, NULL, &(green_options_t){ .name = "d" })) != NULL);
    must(green_switch(theirs, V(1)) == V(1));
}

static void make_detached(void *unused)
{
    (void)unused;
    theirs = green_new_with(echo, NULL, &(green_options_t){ .flags = GREEN_DETACHED });
    must(theirs != NULL && green_switch(theirs, V(1)) == V(1));
}

static void make_lent(void *unused)
{
    static _Alignas(16) char memory[65536];
    (void)unused;
    theirs = green_new_with(echo, NULL, &(green_options_t){ .stack = memory,
                                                            .stack_size = sizeof memory });
    must(theirs != NULL && green_switch(theirs, V(1)) == V(1));
}

static void (*const makers[])(void *) = { make_suspended, make_new, make_dead, make_detached,
                                          make_lent };
enum { MAKERS = sizeof makers / sizeof *makers };

/* ---- When it is released --------------------------------------------------------------- */

static green_t *spent; /* dead, and freed in the short way */

/* All that the short ways of green_new() and green_free() want waits there. */
static void get_ready(void *unused)
{
    (void)unused;
    green_t *g[3];
    for (int i = 0; i < 3; i++) {
        must((g[i] = green_new(give_back, NULL)) != NULL);
        must(green_switch(g[i], V(1)) == V(1));
    }
    spent = g[0];
    must(green_free(g[1]) == 0 && green_free(g[2]) == 0);
}

static size_t stacks_without; /* the abandoned one */

static void by_new(void *unused)
{
    (void)unused;
    green_t *g = green_new(give_back, NULL);
    must(g != NULL && stacks_live() == stacks_without + 1);
    must(green_switch(g, V(1)) == V(1) && green_free(spent) == 0);
    spent = g;
}

static void by_free(void *unused)
{
    (void)unused;
    must(green_free(spent) == 0);
    spent = NULL;
}

static void by_abandon(void *unused)
{
    (void)unused;
    must(green_abandon(spent) == 0);
    spent = NULL;
}

static void by_trim(void *unused)
{
    (void)unused;
    (void)green_trim((size_t)1 << 30);
}

static void free_spent(void *unused)
{
    (void)unused;
    must(green_free(spent) == 0);
}

static void (*const next_calls[])(void *) = { by_new, by_free, by_abandon, by_trim };
enum { NEXT_CALLS = sizeof next_calls / sizeof *next_calls };

TEST(the_handle_is_gone_at_once_and_the_rest_at_the_next_call_of_its_thread)
{
    helper_start(&owner);
    for (int i = 0; i < NEXT_CALLS; i++) {
        for (int k = 0; k < MAKERS; k++) {
            size_t stacks = stacks_live();
            helper_do(&owner, makers[k], NULL);
            helper_do(&owner, get_ready, NULL);
            size_t before = handles(), with = stacks_live();
            assert_int_equal(green_abandon(theirs), 0);
            assert_int_equal(handles(), before - 1);
            assert_int_equal(stacks_live(), with);
            stacks_without = stacks;
            helper_do(&owner, next_calls[i], NULL);
            assert_int_equal(stacks_live(), stacks);
            helper_do(&owner, free_spent, NULL);
        }
    }
    helper_end(&owner);
    assert_noted("");
}

TEST(or_at_the_end_of_its_thread)
{
    for (int k = 0; k < MAKERS; k++) {
        size_t greens = handles(), stacks = stacks_live();
        helper_start(&owner);
        helper_do(&owner, makers[k], NULL);
        assert_int_equal(green_abandon(theirs), 0);
        assert_int_equal(handles(), greens);
        helper_end(&owner);
        assert_int_equal(handles(), greens);
        assert_int_equal(stacks_live(), stacks);
    }
    assert_noted("");
}

static void free_refused(void *unused)
{
    (void)unused;
    must(green_free(green_current()) == -1 && errno == EINVAL); /* a main green */
}

TEST(a_refused_call_releases_none)
{
    size_t stacks = stacks_live();
    helper_start(&owner);
    helper_do(&owner, make_suspended, NULL);
    assert_int_equal(green_abandon(theirs), 0);
    helper_do(&owner, free_refused, NULL);
    assert_int_equal(stacks_live(), stacks + 1);
    helper_do(&owner, by_trim, NULL);
    assert_int_equal(stacks_live(), stacks);
    helper_end(&owner);
}

static void *abandon_theirs(void *unused)
{
    must(green_abandon(theirs) == 0); /* the first use of the library there is */
    return unused;
}

static pthread_key_t at_the_end;

static void abandon_past_the_end(void *rounds)
{
    if ((intptr_t)rounds > 1) {
        must(pthread_setspecific(at_the_end, V((intptr_t)rounds - 1)) == 0);
        return;
    }
    must(green_current() == NULL && errno == EPERM);
    must(green_abandon(theirs) == 0);
}

static void *end_with_a_destructor(void *unused)
{
    must(green_main() != NULL);
    must(pthread_setspecific(at_the_end, V(3)) == 0);
    return unused;
}

TEST(the_caller_may_be_a_thread_that_has_no_greens_or_is_past_its_end)
{
    size_t greens = handles(), stacks = stacks_live();
    must(green_main() != NULL); /* libgreen's key is made before ours */
    assert_int_equal(pthread_key_create(&at_the_end, abandon_past_the_end), 0);
    make_suspended(NULL);
    in_thread(abandon_theirs, NULL);
    assert_int_equal(handles(), greens);
    make_suspended(NULL);
    in_thread(end_with_a_destructor, NULL);
    assert_int_equal(handles(), greens);
    by_trim(NULL);
    assert_int_equal(stacks_live(), stacks);
    pthread_key_delete(at_the_end);
}

/* ---- What is refused -------------------------------------------------------------------- */

static sem_t inside, leave;

static void *wait_inside(void *value)
{
    sem_post(&inside);
    while (sem_wait(&leave) != 0)
        continue;
    return value;
}

static void run_theirs(void *unused)
{
    (void)unused;
    must((theirs = green_new(wait_inside, NULL)) != NULL);
    must(green_switch(theirs, V(1)) == V(1));
}

static void *leave_for_main(void *unused)
{
    (void)unused;
    must(green_yield(NULL) == GREEN_FAILED);
    return green_switch(green_main(), NULL);
}

static void *free_theirs_inside(void *value)
{
    must(green_free(theirs) == -1 && errno == E1);
    return value;
}

static void make_freed(void *unused)
{
    (void)unused;
    must((theirs = green_new(leave_for_main, NULL)) != NULL);
    must(green_switch(theirs, NULL) == NULL);
    must((above = green_new(free_theirs_inside, NULL)) != NULL);
    must(green_switch(above, NULL) == NULL && green_parent(theirs) == above);
}

static void free_both(void *unused)
{
    (void)unused;
    must(green_throw(above, E1) == NULL);
    must(green_free(above) == 0 && green_free(theirs) == 0);
}

TEST(one_that_is_current_or_being_freed_is_busy)
{
    helper_start(&owner);
    sem_init(&inside, 0, 0);
    sem_init(&leave, 0, 0);
    helper_begin(&owner, run_theirs, NULL);
    while (sem_wait(&inside) != 0)
        continue;
    assert_refused(green_abandon(theirs), EBUSY);
    sem_post(&leave);
    helper_wait(&owner);
    assert_int_equal(green_abandon(theirs), 0);
    helper_do(&owner, make_freed, NULL);
    assert_refused(green_abandon(theirs), EBUSY);
    helper_do(&owner, free_both, NULL);
    helper_do(&owner, make_suspended, NULL);
    assert_int_equal(green_abandon(theirs), 0);
    assert_refused(green_abandon(theirs), EBUSY); /* a mistake, and seen while it can be */
    helper_do(&owner, by_trim, NULL);
    helper_end(&owner);
}

static int try_in_each(green_t *g, void *unused)
{
    (void)g;
    (void)unused;
    must(green_abandon(theirs) == -1 && errno == EBUSY);
    return 1;
}

TEST(nothing_is_abandoned_inside_a_hook)
{
    helper_start(&owner);
    helper_do(&owner, make_suspended, NULL);
    assert_int_equal(green_each(try_in_each, NULL), 1);
    assert_refused(green_free(theirs), EPERM); /* which is for its own thread */
    assert_int_equal(green_abandon(theirs), 0);
    helper_end(&owner);
}

/* ---- What is seen of it until then ----------------------------------------------------------- */

/* main <- above <- theirs <- child, all SUSPENDED. */
static void make_family(void *unused)
{
    (void)unused;
    must((above = green_new(echo, NULL)) != NULL);
    must((theirs = green_new(never, above)) != NULL);
    must(green_set_parent(theirs, above) == 0);
    must((child = green_new(give_back, theirs)) != NULL);
}

static int count_them(green_t *g, void *n)
{
    must(g != theirs);
    ++*(int *)n;
    return 0;
}

static int look_inside(green_t *g, void *unused)
{
    (void)g;
    (void)unused;
    must(green_parent(child) == above);
    return 1;
}

static void see_the_family(void *unused)
{
    (void)unused;
    must(green_each(look_inside, NULL) == 1);
    must(green_parent(child) == above);
    must(green_free(child) == 0 && green_free(above) == 0);
}

TEST(its_children_stand_under_the_next_ancestor_at_once)
{
    helper_start(&owner);
    helper_do(&owner, make_family, NULL);
    assert_int_equal(green_abandon(theirs), 0);
    helper_do(&owner, see_the_family, NULL);
    helper_end(&owner);
    assert_noted("");
}

static void abandon_it_in_between(green_t *g)
{
    theirs = g;
    in_thread(abandon_theirs, NULL);
}

static void *never_again(void *value)
{
    value = green_yield(value);
    note("entered");
    return value;
}

static green_t *parent_that_waits(void)
{
    green_t *g = green_new(never_again, NULL);
    must(g != NULL && green_switch(g, V(1)) == V(1));
    return g;
}

TEST(what_children_leave_goes_past_it)
{
    green_t *parent, *g;
    for (int is_new = 0; is_new < 2; is_new++) {
        size_t stacks = stacks_live();
        for (int way = 0; way < 4; way++) {
            parent = is_new ? green_new(never, NULL) : parent_that_waits();
            g = green_new(way == 0 ? give_back : echo, parent);
            abandon_it_in_between(parent);
            if (way == 0) { /* the death of one that starts */
                assert_ptr_equal(green_switch(g, V(2)), V(2));
            } else if (way == 1) { /* a yield */
                assert_ptr_equal(green_switch(g, V(3)), V(3));
            } else if (way == 2) { /* an error, through one that never ran */
                assert_fails(green_throw(g, E1), E1);
            } else {
                assert_ptr_equal(green_switch(g, V(3)), V(3));
                assert_fails(green_throw(g, E2), E2);
            }
            assert_int_equal(green_free(g), 0);
        }
        assert_int_equal(stacks_live(), stacks);
    }
    assert_noted("");
}

static void *wait_in_a_free(void *g)
{
    green_free(g);
    note("came back");
    return NULL;
}

TEST(whom_it_was_freeing_has_its_parent_again)
{
    green_t *freed = green_new(leave_for_main, NULL);
    assert_null(green_switch(freed, NULL));
    green_t *freer = green_new(wait_in_a_free, NULL);
    assert_null(green_switch(freer, freed));
    assert_ptr_equal(green_parent(freed), freer);
    abandon_it_in_between(freer);
    assert_ptr_equal(green_parent(freed), green_main());
    assert_ptr_equal(green_switch(freed, V(5)), V(5)); /* its death */
    assert_int_equal(green_free(freed), 0);
    assert_noted("");
}

/* Killed by who frees it, which another thread abandons then. */
static void *abandon_who_frees_it(void *parent)
{
    green_switch(green_main(), NULL);
    abandon_it_in_between(above);
    must(green_parent(green_current()) == parent);
    return green_yield(V(6));
}

TEST(before_any_call_its_own_parent_counts_and_its_yield_goes_there)
{
    green_t *parent = green_new(echo, NULL), *freer = green_new(wait_in_a_free, NULL);
    green_t *freed = green_new(abandon_who_frees_it, parent);
    assert_ptr_equal(green_switch(parent, V(1)), V(1));
    assert_null(green_switch(freed, parent));
    above = freer;
    assert_ptr_equal(green_switch(freer, freed), V(6)); /* the yield goes past it */
    assert_ptr_equal(green_switch(freed, V(7)), V(7));  /* and so does the death */
    assert_int_equal(green_free(freed), 0);
    assert_int_equal(green_free(parent), 0);
    assert_noted("");
}

static void *find_it_busy(void *g)
{
    must(green_abandon(g) == -1 && errno == EBUSY);
    return NULL;
}

TEST(both_may_be_abandoned_one_after_the_other)
{
    for (int of_both = 0; of_both < 2; of_both++) {
        size_t greens = handles(), stacks = stacks_live();
        make_freed(NULL);
        green_t *freed = theirs, *freer = above;
        green_t *third = green_new(never, NULL);
        abandon_it_in_between(third);
        in_thread(find_it_busy, freed);
        abandon_it_in_between(freer);
        if (of_both)
            abandon_it_in_between(freed);
        else
            assert_int_equal(green_abandon(freed), 0);
        by_trim(NULL);
        assert_int_equal(handles(), greens);
        assert_int_equal(stacks_live(), stacks);
    }
}

TEST(green_each_does_not_show_it)
{
    int n = 0;
    make_suspended(NULL);
    in_thread(abandon_theirs, NULL);
    assert_int_equal(green_each(count_them, &n), 0);
    assert_int_equal(n, 1);
    by_trim(NULL);
}

static void *refuse_all(void *value)
{
    while (value != V(9)) {
        value = green_yield(value);
        note("asked");
    }
    return value;
}

TEST(green_thread_end_does_not_ask_it_to_end)
{
    size_t greens = handles(), stacks = stacks_live();
    theirs = green_new(refuse_all, NULL);
    assert_ptr_equal(green_switch(theirs, V(1)), V(1));
    in_thread(abandon_theirs, NULL);
    assert_int_equal(green_thread_end(), 0);
    assert_int_equal(handles(), greens);
    assert_int_equal(stacks_live(), stacks);
    assert_noted("");
}

TEST(it_counts_as_a_child_until_it_is_released)
{
    helper_start(&owner);
    helper_do(&owner, make_family, NULL);
    assert_int_equal(green_abandon(child), 0);
    assert_refused(green_set_parent(theirs, green_main()), EBUSY);
    helper_do(&owner, by_trim, NULL);
    assert_int_equal(green_set_parent(theirs, green_main()), 0);
    assert_int_equal(green_free(theirs), 0);
    assert_int_equal(green_abandon(above), 0);
    helper_end(&owner);
    assert_noted("");
}

static void *take_a_child_of_theirs(void *unused)
{
    must(green_set_parent(child, green_main()) == 0);
    must(green_switch(child, V(6)) == V(6) && green_free(child) == 0);
    return unused;
}

TEST(children_may_be_taken_over_before_and_after)
{
    for (int before = 0; before < 2; before++) {
        size_t greens = handles(), stacks = stacks_live();
        make_family(NULL);
        if (before)
            in_thread(take_a_child_of_theirs, NULL);
        in_thread(abandon_theirs, NULL);
        if (!before)
            in_thread(take_a_child_of_theirs, NULL);
        assert_int_equal(green_free(above), 0);
        by_trim(NULL);
        assert_int_equal(handles(), greens);
        assert_int_equal(stacks_live(), stacks);
    }
    assert_noted("");
}

/* ---- fork ------------------------------------------------------------------------------------ */

TEST(a_child_of_fork_releases_what_was_abandoned_and_may_abandon_what_is_lost)
{
    size_t stacks = stacks_live();
    int status;
    make_suspended(NULL);
    in_thread(abandon_theirs, NULL);
    helper_start(&owner);
    helper_do(&owner, make_suspended, NULL);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        alarm(60);
        by_trim(NULL);
        must(stacks_live() == stacks + 1);
        must(green_abandon(theirs) == 0);
        by_trim(NULL);
        must(stacks_live() == stacks + 1); /* nobody is there to release it */
        _exit(0);
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(green_abandon(theirs), 0);
    helper_end(&owner);
    by_trim(NULL);
    assert_int_equal(stacks_live(), stacks);
}

/* ---- At the same time ------------------------------------------------------------------------ */

/* A thread that frees what others have done with, as a garbage collector does. */
struct collector {
    pthread_t thread;
    sem_t filled, taken;
    green_t *garbage;
};

static void *collect(void *arg)
{
    struct collector *collector = arg;
    for (;;) {
        while (sem_wait(&collector->filled) != 0)
            continue;
        if (collector->garbage == NULL)
            return NULL;
        must(green_abandon(collector->garbage) == 0);
        sem_post(&collector->taken);
    }
}

static void begin_collecting(struct collector *collector)
{
    sem_init(&collector->filled, 0, 0);
    sem_init(&collector->taken, 0, 0);
    must(pthread_create(&collector->thread, NULL, collect, collector) == 0);
}

static void give_to(struct collector *collector, green_t *g)
{
    collector->garbage = g;
    sem_post(&collector->filled);
}

static void wait_until_taken(struct collector *collector)
{
    while (sem_wait(&collector->taken) != 0)
        continue;
}

static void end_collecting(struct collector *collector)
{
    give_to(collector, NULL);
    must(pthread_join(collector->thread, NULL) == 0);
    sem_destroy(&collector->filled);
    sem_destroy(&collector->taken);
}

static void ignore(green_trace_event_t event, green_t *from, green_t *to, void *data)
{
    (void)event;
    (void)from;
    (void)to;
    (void)data;
}

TEST(a_hook_that_comes_and_goes_does_not_hide_it)
{
    struct collector collector = { .garbage = NULL };
    size_t stacks = stacks_live();
    begin_collecting(&collector);
    green_t *partner = green_new(echo, NULL);
    for (int i = 0; i < times(20000, 300); i++) {
        make_suspended(NULL);
        get_ready(NULL);
        give_to(&collector, theirs);
        for (int k = 0; k < i % 5; k++) {
            hook = green_set_trace(k % 2 ? NULL : ignore, NULL);
            assert_ptr_equal(green_switch(partner, V(4)), V(4));
        }
        green_set_trace(NULL, NULL);
        wait_until_taken(&collector);
        stacks_without = stacks + 1; /* the partner's */
        next_calls[i % NEXT_CALLS](NULL);
        assert_int_equal(stacks_live(), stacks + 1);
        free_spent(NULL);
    }
    end_collecting(&collector);
    assert_int_equal(green_abandon(partner), 0);
}

static void *end_with_one(void *collector)
{
    make_suspended(NULL);
    give_to(collector, theirs);
    return collector;
}

TEST(its_thread_may_end_at_the_same_time)
{
    struct collector collector = { .garbage = NULL };
    size_t greens = handles(), stacks = stacks_live();
    begin_collecting(&collector);
    for (int i = 0; i < times(3000, 50); i++) {
        in_thread(end_with_one, &collector);
        wait_until_taken(&collector);
    }
    end_collecting(&collector);
    assert_int_equal(handles(), greens);
    assert_int_equal(stacks_live(), stacks);
}

enum { MANY = FEW_FIBERS ? 5000 : 15200, ROUNDS = 5 };
static green_t *many[MANY];

static void make_many(void *n)
{
    const green_options_t small = { .stack_size = 16384, .flags = GREEN_NO_GUARD };
    for (int i = 0; i < (intptr_t)n; i++) {
        must((many[i] = green_new_with(echo, NULL, &small)) != NULL);
        must(green_switch(many[i], V(i)) == V(i));
    }
}

TEST(fifteen_thousand_freed_by_a_collectors_thread_leave_memory_flat)
{
    green_stats_t first, now;
    int n = times(MANY, 500);
    size_t greens = handles();
    helper_start(&owner);
    for (int round = 0; round < ROUNDS; round++) {
        helper_do(&owner, make_many, V(n));
        for (int i = 0; i < n; i++)
            assert_int_equal(green_abandon(many[i]), 0);
        assert_int_equal(handles(), greens);
        if (round == 1) /* caches are as they will be */
            assert_int_equal(green_stats(&first, sizeof first), 0);
    }
    assert_int_equal(green_stats(&now, sizeof now), 0);
    assert_int_equal(now.stacks_live, first.stacks_live);
    assert_in_range(now.bytes_mapped, 0, first.bytes_mapped);
    helper_do(&owner, by_trim, NULL);
    assert_int_equal(green_stats(&now, sizeof now), 0);
    assert_int_equal(now.stacks_live, first.stacks_live - (size_t)n);
    helper_end(&owner);
}

int main(void)
{
    return run_all_tests();
}
