/* SPDX-License-Identifier: MIT */
/* Scopes: whose waits they limit, for how long, and what they say at their end (rule 8). */
#include <sys/mman.h>

#include "contexts.h"
#include "hubs.h"

/* ---- One scope ----------------------------------------------------------------- */

/* gevent: test__timeout._check_expires */
HUB_TEST(a_scope_limits_a_wait_and_its_struct_can_be_used_again)
{
    green_scope_t scope;
    for (int i = 1; i <= 3; i++) {
        must_be_0(green_scope_begin(&scope, GREEN_MS(10), 0));
        assert_refused(green_sleep(GREEN_FOREVER), ETIMEDOUT);
        assert_int_equal(green_scope_end(&scope), 1);
        assert_int_equal(clock_ms(), 10 * i);
    }
}

/* Begins what is open, as the first of the list and behind another. */
HUB_TEST(a_scope_that_is_begun_again_has_a_new_time_and_those_around_it_hold)
{
    green_scope_t outer, scope, inner;
    must_be_0(green_scope_begin(&outer, GREEN_MS(50), 0));
    must_be_0(green_scope_begin(&scope, GREEN_MS(10), 0));
    must_be_0(green_scope_begin(&scope, GREEN_MS(20), 0));
    assert_refused(green_sleep(GREEN_FOREVER), ETIMEDOUT);
    assert_int_equal(clock_ms(), 20);
    must_be_0(green_scope_begin(&scope, GREEN_FOREVER, 0));
    must_be_0(green_scope_begin(&inner, GREEN_MS(10), 0));
    must_be_0(green_scope_begin(&scope, GREEN_MS(5), 0));
    assert_refused(green_sleep(GREEN_FOREVER), ETIMEDOUT);
    assert_int_equal(clock_ms(), 25);
    assert_int_equal(green_scope_end(&scope), 1);
    assert_refused(green_sleep(GREEN_FOREVER), ETIMEDOUT);
    assert_int_equal(clock_ms(), 30);
    assert_int_equal(green_scope_end(&inner), 1);
    assert_refused(green_scope_begin(&scope, 0, 1), EINVAL);
    assert_refused(green_sleep(GREEN_FOREVER), ETIMEDOUT);
    assert_int_equal(clock_ms(), 50);
    assert_int_equal(green_scope_end(&outer), 1);
    must_be_0(green_sleep(1));
}

static void *scope_and_yield(void *unused)
{
    green_scope_t scope;
    for (int i = 0; i < 100; i++)
        nap(1);
    must_be_0(green_scope_begin(&scope, GREEN_MS(10), 0));
    must(green_yield(unused) == unused);
    must_fail(green_sleep(GREEN_FOREVER), ETIMEDOUT);
    must(green_scope_end(&scope) == 1);
    return unused;
}

HUB_TEST(a_scope_limits_its_green_also_when_there_is_another_hub)
{
    green_t *g = green_new(scope_and_yield, NULL);
    assert_null(green_switch(g, NULL));
    must_be_0(green_hub_end(GREEN_FOREVER));
    must_be_0(green_hub_init(&(green_hub_options_t){ .flags = GREEN_HUB_VIRTUAL_TIME }));
    assert_null(green_switch(g, NULL));
    must_be_0(green_free(g));
}

WORLD_TEST(a_scope_is_not_over_before_its_time)
{
    green_scope_t scope;
    int64_t begin = green_now();
    must_be_0(green_scope_begin(&scope, GREEN_MS(10), 0));
    assert_refused(green_sleep(GREEN_SEC(100)), ETIMEDOUT);
    assert_true(green_now() - begin >= GREEN_MS(10));
    assert_int_equal(green_scope_end(&scope), 1);
}

/* gevent: test_expires */
HUB_TEST(a_scope_limits_every_kind_of_wait)
{
    int item;
    green_scope_t scope;
    green_event_t event = GREEN_EVENT_INIT;
    green_semaphore_t semaphore = GREEN_SEMAPHORE_INIT(0, 0);
    green_cond_t cond = GREEN_COND_INIT;
    green_queue_t *queue = green_queue_new(sizeof item, 1);
    green_task_t *task = spawn(sleep_for, V(1000000));
    green_group_t *group = green_group_new(1, 0);
    green_case_t c = GREEN_CASE_EVENT(&event);
    must_be_0(green_group_spawn(group, sleep_for, V(1000000)));
    for (int i = 0; i < 10; i++) {
        must_be_0(green_scope_begin(&scope, GREEN_MS(10), 0));
        errno = 0;
        int result = i == 0   ? green_event_wait(&event, GREEN_FOREVER)
                     : i == 1 ? green_semaphore_acquire(&semaphore, GREEN_FOREVER)
                     : i == 2 ? green_cond_wait(&cond, NULL, GREEN_FOREVER)
                     : i == 3 ? green_queue_get(queue, &item, GREEN_SEC(5))
                     : i == 4 ? green_task_join(task, NULL, GREEN_FOREVER)
                     : i == 5 ? green_group_wait(group, NULL, GREEN_FOREVER)
                     : i == 6 ? green_group_spawn(group, give_back, NULL)
                     : i == 7 ? green_select(&c, 1, GREEN_FOREVER)
                     : i == 8 ? green_hub_wait(GREEN_FOREVER)
                              : green_sleep(GREEN_FOREVER);
        assert_int_equal(result, -1);
        assert_int_equal(errno, ETIMEDOUT);
        assert_int_equal(green_scope_end(&scope), 1);
        assert_int_equal(clock_ms(), 10 * (i + 1));
    }
    assert_int_equal(green_task_free(task), 0);
    assert_int_equal(green_group_free(group), 0);
    assert_int_equal(green_queue_free(queue), 0);
}

/* gevent: test_with_timeout, test_api */
HUB_TEST(a_scope_that_was_not_reached_says_0_and_limits_nothing_after_its_end)
{
    green_scope_t scope;
    must_be_0(green_scope_begin(&scope, GREEN_MS(20), 0));
    nap(10);
    assert_int_equal(green_scope_end(&scope), 0);
    nap(20);
    assert_int_equal(clock_ms(), 30);
    assert_int_equal(hub_stat(timers), 0);
}

HUB_TEST(the_time_of_a_scope_is_for_all_its_waits_together)
{
    green_scope_t scope;
    must_be_0(green_scope_begin(&scope, GREEN_MS(25), 0));
    nap(10);
    nap(10);
    assert_refused(green_sleep(GREEN_MS(10)), ETIMEDOUT);
    assert_int_equal(clock_ms(), 25);
    assert_int_equal(green_scope_end(&scope), 1);
}

/* gevent: Timeout(None) */
HUB_TEST(a_scope_of_forever_limits_nothing)
{
    green_scope_t scope;
    must_be_0(green_scope_begin(&scope, GREEN_FOREVER, 0));
    nap(10000);
    assert_int_equal(green_scope_end(&scope), 0);
}

/* gevent: Timeout(0) */
HUB_TEST(a_scope_of_no_time_is_over_at_once)
{
    green_scope_t scope;
    for (int i = 0; i < 3; i++) {
        must_be_0(green_scope_begin(&scope, i == 0 ? 0 : i == 1 ? -1 : INT64_MIN, 0));
        assert_refused(green_sleep(0), ETIMEDOUT);
        assert_int_equal(green_scope_end(&scope), 1);
    }
    assert_int_equal(clock_ms(), 0);
}

HUB_TEST(a_scope_that_is_over_says_0_if_no_call_failed_of_it)
{
    green_scope_t scope;
    must_be_0(green_scope_begin(&scope, 0, 0));
    assert_int_equal(green_scope_end(&scope), 0);
    must_be_0(green_scope_begin(&scope, 0, 0));
    green_task_t *task = spawn(give_back, NULL); /* does not wait */
    assert_int_equal(green_task_free(task), 0); /* is not limited */
    assert_int_equal(green_scope_end(&scope), 0);
}

HUB_TEST(once_it_is_over_each_wait_fails_until_it_ends_and_nothing_is_lost)
{
    int item = 7;
    green_scope_t scope;
    green_queue_t *queue = green_queue_new(sizeof item, 1);
    must_be_0(green_queue_put(queue, &item, GREEN_FOREVER));
    must_be_0(green_scope_begin(&scope, GREEN_MS(10), 0));
    item = 1;
    assert_refused(green_sleep(GREEN_MS(20)), ETIMEDOUT);
    assert_refused(green_sleep(0), ETIMEDOUT);
    assert_refused(green_queue_get(queue, &item, GREEN_FOREVER), ETIMEDOUT);
    assert_refused(green_queue_put(queue, &item, GREEN_FOREVER), ETIMEDOUT);
    assert_refused(green_task_check(), ETIMEDOUT);
    assert_int_equal(item, 1);
    assert_int_equal(green_scope_end(&scope), 1);
    assert_int_equal(clock_ms(), 10);
    assert_int_equal(green_queue_get(queue, &item, GREEN_FOREVER), 0);
    assert_int_equal(item, 7);
    assert_int_equal(green_queue_free(queue), 0);
}

HUB_TEST(check_tells_of_a_scope_that_is_over)
{
    green_scope_t scope;
    must_be_0(green_scope_begin(&scope, 0, 0));
    assert_refused(green_task_check(), ETIMEDOUT);
    assert_int_equal(green_scope_end(&scope), 1);
    assert_int_equal(green_task_check(), 0);
}

HUB_TEST(a_scope_that_was_ended_says_the_same_when_it_is_ended_again)
{
    green_scope_t scope;
    must_be_0(green_scope_begin(&scope, 0, 0));
    assert_refused(green_sleep(0), ETIMEDOUT);
    assert_int_equal(green_scope_end(&scope), 1);
    assert_int_equal(green_scope_end(&scope), 1);
    must_be_0(green_scope_begin(&scope, GREEN_SEC(1), 0));
    assert_int_equal(green_scope_end(&scope), 0);
    assert_int_equal(green_scope_end(&scope), 0);
}

HUB_TEST(a_refused_scope_is_none_and_its_end_0)
{
    green_scope_t scope;
    memset(&scope, 0xa5, sizeof scope);
    assert_refused(green_scope_begin(&scope, 0, 0x80000000u), EINVAL);
    turn();
    assert_int_equal(green_scope_end(&scope), 0);
    assert_refused(green_scope_begin(NULL, 0, 0), EINVAL);
    assert_refused(green_scope_end(NULL), EINVAL);
}

HUB_TEST(the_end_of_a_scope_keeps_errno)
{
    green_scope_t scope;
    must_be_0(green_scope_begin(&scope, GREEN_MS(5), 0));
    assert_refused(green_sleep(GREEN_MS(10)), ETIMEDOUT);
    errno = E2;
    assert_int_equal(green_scope_end(&scope), 1);
    assert_int_equal(errno, E2);
    assert_int_equal(green_scope_end(&scope), 1);
    assert_int_equal(errno, E2);
}

/* gevent: test_ref */
HUB_TEST(scopes_without_a_wait_arm_no_timer)
{
    green_scope_t scopes[10];
    for (int i = 0; i < 1000; i++) {
        for (int k = 0; k < 10; k++)
            must_be_0(green_scope_begin(&scopes[k], GREEN_MS(10 + k), 0));
        assert_int_equal(hub_stat(timers), 0);
        for (int k = 9; k >= 0; k--)
            assert_int_equal(green_scope_end(&scopes[k]), 0);
    }
}

HUB_TEST(a_wait_in_scopes_has_one_timer)
{
    green_scope_t scopes[3];
    green_event_t event = GREEN_EVENT_INIT;
    green_task_t *task = spawn(wait_for_event, &event);
    turn();
    assert_int_equal(hub_stat(timers), 0);
    for (int i = 0; i < 3; i++)
        must_be_0(green_scope_begin(&scopes[i], GREEN_MS(30 - i), 0));
    assert_refused(green_task_join(task, NULL, GREEN_MS(40)), ETIMEDOUT);
    assert_int_equal(clock_ms(), 28);
    assert_int_equal(hub_stat(timers), 0);
    for (int i = 2; i >= 0; i--)
        assert_int_equal(green_scope_end(&scopes[i]), i == 2);
    assert_int_equal(green_task_free(task), 0);
}

HUB_TEST(a_scope_of_nearly_forever_does_not_overflow)
{
    green_scope_t scope;
    must_be_0(green_scope_begin(&scope, INT64_MAX - 1, 0));
    nap(10);
    assert_int_equal(green_scope_end(&scope), 0);
}

/* ---- A call's own time --------------------------------------------------------- */

HUB_TEST(a_scope_that_is_shorter_than_the_timeout_comes_first)
{
    green_scope_t scope;
    green_event_t event = GREEN_EVENT_INIT;
    must_be_0(green_scope_begin(&scope, GREEN_MS(10), 0));
    assert_refused(green_event_wait(&event, GREEN_MS(20)), ETIMEDOUT);
    assert_int_equal(clock_ms(), 10);
    assert_int_equal(green_scope_end(&scope), 1);
}

HUB_TEST(if_the_calls_own_timeout_is_over_too_it_comes_first)
{
    green_scope_t scope;
    green_event_t event = GREEN_EVENT_INIT;
    must_be_0(green_scope_begin(&scope, GREEN_MS(10), 0));
    assert_refused(green_event_wait(&event, GREEN_MS(5)), ETIMEDOUT);
    assert_refused(green_event_wait(&event, GREEN_MS(5)), ETIMEDOUT); /* both at 10 ms */
    assert_int_equal(clock_ms(), 10);
    assert_refused(green_event_wait(&event, GREEN_NOWAIT), ETIMEDOUT);
    assert_int_equal(green_scope_end(&scope), 0);
}

HUB_TEST(a_sleep_that_ends_with_its_scope_has_slept)
{
    green_scope_t scope;
    must_be_0(green_scope_begin(&scope, GREEN_MS(10), 0));
    nap(10);
    assert_int_equal(green_scope_end(&scope), 0);
}

/* gevent: test_set, in a scope of no time */
HUB_TEST(in_a_scope_of_no_time_an_event_that_is_set_is_not_seen)
{
    green_scope_t scope;
    green_event_t event = GREEN_EVENT_INIT;
    must_be_0(green_event_set(&event));
    must_be_0(green_scope_begin(&scope, 0, 0));
    assert_refused(green_event_wait(&event, GREEN_FOREVER), ETIMEDOUT);
    assert_int_equal(green_scope_end(&scope), 1);
    assert_int_equal(green_event_wait(&event, GREEN_FOREVER), 0);
}

/* ---- Nested -------------------------------------------------------------------- */

/* gevent: test_nested_timeout */
HUB_TEST(of_nested_scopes_the_outer_counts_if_it_is_shorter)
{
    green_scope_t outer, inner;
    must_be_0(green_scope_begin(&outer, GREEN_MS(10), 0));
    must_be_0(green_scope_begin(&inner, GREEN_MS(100), 0));
    assert_refused(green_sleep(GREEN_SEC(1)), ETIMEDOUT);
    assert_int_equal(clock_ms(), 10);
    assert_int_equal(green_scope_end(&inner), 0);
    assert_refused(green_sleep(0), ETIMEDOUT);
    assert_int_equal(green_scope_end(&outer), 1);
}

HUB_TEST(of_nested_scopes_the_inner_counts_if_it_is_shorter)
{
    green_scope_t outer, inner;
    must_be_0(green_scope_begin(&outer, GREEN_MS(100), 0));
    must_be_0(green_scope_begin(&inner, GREEN_MS(10), 0));
    assert_refused(green_sleep(GREEN_SEC(1)), ETIMEDOUT);
    assert_int_equal(clock_ms(), 10);
    assert_int_equal(green_scope_end(&inner), 1);
    nap(5);
    assert_int_equal(green_scope_end(&outer), 0);
}

HUB_TEST(both_say_1_if_both_are_over)
{
    green_scope_t outer, inner;
    must_be_0(green_scope_begin(&outer, GREEN_MS(10), 0));
    must_be_0(green_scope_begin(&inner, GREEN_MS(10), 0));
    assert_refused(green_sleep(GREEN_SEC(1)), ETIMEDOUT);
    assert_int_equal(green_scope_end(&inner), 1);
    assert_int_equal(green_scope_end(&outer), 1);
}

HUB_TEST(an_outer_scope_that_ends_while_the_inner_is_handled_says_so_for_itself)
{
    green_scope_t outer, inner, shield;
    must_be_0(green_scope_begin(&outer, GREEN_MS(20), 0));
    must_be_0(green_scope_begin(&inner, GREEN_MS(10), 0));
    assert_refused(green_sleep(GREEN_SEC(1)), ETIMEDOUT);
    must_be_0(green_scope_begin(&shield, GREEN_FOREVER, GREEN_SHIELD));
    nap(15);
    assert_int_equal(green_scope_end(&shield), 0);
    assert_int_equal(green_scope_end(&inner), 1);
    assert_refused(green_sleep(0), ETIMEDOUT);
    assert_int_equal(green_scope_end(&outer), 1);
}

HUB_TEST(scopes_may_end_in_any_order)
{
    green_scope_t scopes[3];
    for (int i = 0; i < 3; i++)
        must_be_0(green_scope_begin(&scopes[i], GREEN_MS(i == 1 ? 10 : 1000), 0));
    assert_int_equal(green_scope_end(&scopes[0]), 0);
    assert_refused(green_sleep(GREEN_SEC(2)), ETIMEDOUT);
    assert_int_equal(green_scope_end(&scopes[1]), 1);
    nap(10);
    assert_int_equal(green_scope_end(&scopes[2]), 0);
    nap(2000);
}

/* ---- Whose waits --------------------------------------------------------------- */

static void *sleep_in_scope(void *ms)
{
    GREEN_SCOPE(scope, GREEN_MS((intptr_t)ms), 0);
    must_fail(green_sleep(GREEN_FOREVER), ETIMEDOUT);
    return V(clock_ms());
}

HUB_TEST(a_scope_of_main_does_not_limit_other_tasks)
{
    green_scope_t scope;
    green_task_t *before = spawn(sleep_for, V(50)), *after, *own = spawn(sleep_in_scope, V(30));
    turn();
    must_be_0(green_scope_begin(&scope, GREEN_MS(10), 0));
    after = spawn(sleep_for, V(50));
    assert_refused(green_task_join(after, NULL, GREEN_FOREVER), ETIMEDOUT);
    assert_int_equal(clock_ms(), 10);
    assert_int_equal(green_scope_end(&scope), 1);
    assert_ptr_equal(finish(own), V(30));
    assert_null(finish(before)); /* slept it out */
    assert_null(finish(after));
    assert_int_equal(clock_ms(), 50);
}

static void *spawn_in_a_scope(void *unused)
{
    (void)unused;
    GREEN_SCOPE(scope, GREEN_MS(10), 0);
    green_task_t *task = spawn(sleep_for, V(50));
    must_fail(green_task_join(task, NULL, GREEN_FOREVER), ETIMEDOUT);
    return task;
}

HUB_TEST(a_scope_of_a_task_does_not_limit_those_it_spawns)
{
    green_task_t *outer = spawn(spawn_in_a_scope, NULL);
    green_task_t *inner = finish(outer);
    assert_null(finish(inner));
    assert_int_equal(clock_ms(), 50);
}

/* What a generator's sleep said, by its parent. */
static void *nap_in_generator(void *ms)
{
    return sleep_for(ms);
}

HUB_TEST(a_scope_limits_the_greens_below_the_one_that_began_it)
{
    green_scope_t scope;
    green_t *generator = green_new(nap_in_generator, NULL);
    must_be_0(green_scope_begin(&scope, GREEN_MS(10), 0));
    assert_ptr_equal(green_switch(generator, V(50)), V(ETIMEDOUT));
    assert_int_equal(clock_ms(), 10);
    assert_int_equal(green_scope_end(&scope), 1);
    assert_int_equal(green_free(generator), 0);
}

static void *begin_and_yield(void *out)
{
    GREEN_SCOPE(scope, GREEN_MS(10), 0);
    green_yield(NULL);
    int result = green_sleep(GREEN_SEC(1));
    *(int *)out = result == -1 && errno == ETIMEDOUT;
    return NULL;
}

static void generate_and_nap(void)
{
    int limited = 0;
    green_t *generator = green_new(begin_and_yield, NULL);
    must(green_switch(generator, &limited) == NULL);
    nap(50); /* the consumer is above it */
    must(green_switch(generator, NULL) == NULL);
    must(limited == 1);
    must_be_0(green_free(generator));
}

static void *consume(void *unused)
{
    generate_and_nap();
    return unused;
}

HUB_TEST(a_scope_does_not_limit_those_above_as_the_consumer_of_a_generator)
{
    generate_and_nap();
    green_task_t *task = spawn(consume, NULL);
    assert_null(finish(task));
}

HUB_TEST(to_free_a_generator_ends_its_scopes)
{
    int limited = 0;
    green_t *generator = green_new(begin_and_yield, NULL);
    assert_null(green_switch(generator, &limited));
    assert_int_equal(green_free(generator), 0);
    nap(50);
}

/*
 * The task waits in its generator, which sleeps.  Another task enters it meanwhile, and it
 * begins a scope: the sleep began before.
 */
static green_t *entered, *enterer;

static void *begin_a_scope_when_entered(void *unused)
{
    green_t *generator = green_new(nap_in_generator, NULL);
    green_scope_t scope;
    must(green_switch(generator, V(50)) == V(1));
    must_be_0(green_scope_begin(&scope, GREEN_MS(10), 0));
    must(green_switch(enterer, unused) == NULL); /* of the generator: it slept it out */
    must(clock_ms() == 50);
    must(green_scope_end(&scope) == 0);
    must_be_0(green_free(generator));
    return unused;
}

static void *enter(void *unused)
{
    enterer = green_current();
    must(green_switch(entered, V(1)) == NULL);
    return unused;
}

HUB_TEST(a_scope_does_not_limit_what_began_before_it)
{
    green_task_t *task = spawn(begin_a_scope_when_entered, NULL), *other;
    turn();
    entered = green_task_green(task);
    other = spawn(enter, NULL);
    assert_null(finish(task));
    assert_null(finish(other));
}

static void *shield_when_entered(void *unused)
{
    green_t *generator = green_new(nap_in_generator, NULL);
    green_scope_t shield;
    must(green_switch(generator, V(50)) == V(1));
    must_be_0(green_scope_begin(&shield, GREEN_FOREVER, GREEN_SHIELD));
    must_be_0(green_task_cancel(green_task_current()));
    must(green_switch(enterer, unused) == V(ECANCELED)); /* of the generator */
    must(clock_ms() == 0);
    nap(1);
    must(green_scope_end(&shield) == 0);
    must_be_0(green_free(generator));
    return unused;
}

HUB_TEST(a_shield_does_not_shield_what_began_before_it)
{
    green_task_t *task = spawn(shield_when_entered, NULL), *other;
    turn();
    entered = green_task_green(task);
    other = spawn(enter, NULL);
    assert_null(finish(task));
    assert_null(finish(other));
}

/* ---- How they end -------------------------------------------------------------- */

static __attribute__((noinline)) int return_in_scope(void)
{
    GREEN_SCOPE(scope, GREEN_MS(10), 0);
    return green_sleep(GREEN_MS(20)) == -1 ? errno : 0;
}

HUB_TEST(green_scope_ends_with_its_block_however_it_is_left)
{
    assert_int_equal(return_in_scope(), ETIMEDOUT);
    nap(50);
    for (int i = 0; i < 2; i++) {
        GREEN_SCOPE(scope, GREEN_MS(10), 0);
        if (i == 0)
            continue;
        break;
    }
    {
        GREEN_SCOPE(scope, GREEN_MS(10), 0);
        goto out;
    }
out:
    nap(50);
    assert_int_equal(clock_ms(), 110);
}

HUB_TEST(green_scope_may_be_ended_in_its_block)
{
    GREEN_SCOPE(scope, GREEN_MS(10), 0);
    assert_refused(green_sleep(GREEN_SEC(1)), ETIMEDOUT);
    assert_int_equal(green_scope_end(&scope), 1);
    nap(20);
}

static void nap_and_note(void *ms)
{
    nap((intptr_t)ms);
    note("napped");
}

static void *return_from_a_scope(void *exits)
{
    green_scope_t scope;
    must_be_0(green_defer(nap_and_note, V(20)));
    must_be_0(green_scope_begin(&scope, GREEN_MS(10), 0));
    must_fail(green_sleep(GREEN_SEC(1)), ETIMEDOUT);
    if (exits != NULL)
        green_exit(V(2));
    return V(1);
}

HUB_TEST(the_scopes_of_a_green_end_before_its_deferred_functions_run)
{
    green_task_t *task = spawn(return_from_a_scope, NULL);
    assert_ptr_equal(finish(task), V(1));
    task = spawn(return_from_a_scope, V(1));
    assert_ptr_equal(finish(task), V(2));
    green_t *generator = green_new(return_from_a_scope, NULL);
    assert_ptr_equal(green_switch(generator, V(1)), V(2));
    assert_noted("napped napped napped");
    nap(50);
    assert_int_equal(green_free(generator), 0);
    assert_int_equal(hub_stat(timers), 0);
}

static green_scope_t *kept_apart; /* on no stack of the library's */

static void *return_from_a_scope_elsewhere(void *unmaps)
{
    must_be_0(green_defer(nap_and_note, V(20)));
    must_be_0(green_scope_begin(kept_apart, GREEN_MS(10), 0));
    must_fail(green_sleep(GREEN_SEC(1)), ETIMEDOUT);
    if (unmaps != NULL)
        must_be_0(munmap(kept_apart, sizeof *kept_apart));
    return V(1);
}

HUB_TEST(so_do_those_that_are_on_a_stack_of_its_own_which_may_be_gone)
{
    for (int unmaps = 0; unmaps < 2; unmaps++) {
        for (int is_task = 0; is_task < 2; is_task++) {
            kept_apart = mmap(NULL, sizeof *kept_apart, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            assert_true(kept_apart != MAP_FAILED);
            if (is_task) {
                assert_ptr_equal(finish(spawn(return_from_a_scope_elsewhere, V(unmaps))), V(1));
            } else {
                green_t *g = green_new(return_from_a_scope_elsewhere, NULL);
                assert_ptr_equal(green_switch(g, V(unmaps)), V(1));
                assert_int_equal(green_free(g), 0);
            }
            if (!unmaps)
                assert_int_equal(munmap(kept_apart, sizeof *kept_apart), 0);
        }
    }
    assert_noted("napped napped napped napped");
}

static green_scope_t left_open;

static void open_a_scope(void *unused)
{
    (void)unused;
    must_be_0(green_scope_begin(&left_open, GREEN_MS(10), 0));
}

static void *defer_a_scope(void *unused)
{
    must_be_0(green_defer(open_a_scope, NULL));
    return unused;
}

static void *nap_in_a_scope_of_its_own(void *unused)
{
    green_scope_t scope;
    must_be_0(green_scope_begin(&scope, GREEN_MS(100), 0));
    nap(50);
    must(green_scope_end(&scope) == 0);
    return unused;
}

HUB_TEST(a_scope_that_a_deferred_function_left_open_is_not_the_next_tasks)
{
    assert_null(finish(spawn(defer_a_scope, NULL)));
    assert_null(finish(spawn(nap_in_a_scope_of_its_own, NULL)));
    assert_int_equal(clock_ms(), 50);
}

static __attribute__((noinline)) void jump_out(jmp_buf *target)
{
    green_scope_t scope;
    must_be_0(green_scope_begin(&scope, GREEN_MS(10), 0));
    must_fail(green_sleep(GREEN_SEC(1)), ETIMEDOUT);
    must(green_scope_end(&scope) == 1);
    longjmp(*target, 1);
}

HUB_TEST(a_longjmp_may_leave_a_scope_that_has_been_ended)
{
    jmp_buf target;
    if (setjmp(target) == 0)
        jump_out(&target);
    nap(50);
    assert_int_equal(clock_ms(), 60);
}

/* ---- Shields (rule 10) --------------------------------------------------------- */

static void *nap_under_a_shield(void *unused)
{
    green_scope_t shield;
    must_be_0(green_scope_begin(&shield, GREEN_FOREVER, GREEN_SHIELD));
    nap(50);
    must(clock_ms() == 50);
    must_be_0(green_task_check());
    must(green_scope_end(&shield) == 0);
    must_fail(green_task_check(), ECANCELED);
    must_fail(green_sleep(0), ECANCELED);
    return unused;
}

HUB_TEST(under_a_shield_the_cancel_is_not_seen_and_after_it_is)
{
    green_task_t *task = spawn(nap_under_a_shield, NULL);
    nap(10);
    assert_int_equal(green_task_cancel(task), 0);
    assert_null(finish(task));
    assert_int_equal(clock_ms(), 50);
}

static void *clean_up_with_a_limit(void *unused)
{
    green_scope_t shield;
    must_fail(green_sleep(GREEN_FOREVER), ECANCELED);
    must_be_0(green_scope_begin(&shield, GREEN_MS(10), GREEN_SHIELD));
    nap(5);
    must_fail(green_sleep(GREEN_SEC(1)), ETIMEDOUT);
    must_fail(green_task_check(), ETIMEDOUT);
    must(clock_ms() == 10);
    must(green_scope_end(&shield) == 1);
    must_fail(green_sleep(0), ECANCELED);
    return unused;
}

HUB_TEST(a_shields_own_time_is_seen)
{
    green_task_t *task = spawn(clean_up_with_a_limit, NULL);
    turn();
    assert_int_equal(green_task_free(task), 0);
}

static void *nest_shields(void *unused)
{
    green_scope_t outer, inner;
    must_fail(green_sleep(1), ECANCELED);
    must_be_0(green_scope_begin(&outer, GREEN_FOREVER, GREEN_SHIELD));
    must_be_0(green_scope_begin(&inner, GREEN_FOREVER, GREEN_SHIELD));
    nap(1);
    must_be_0(green_scope_end(&inner));
    nap(1);
    must_be_0(green_scope_end(&outer));
    must_fail(green_sleep(1), ECANCELED);
    return unused;
}

HUB_TEST(of_nested_shields_the_outer_holds_until_its_end)
{
    green_task_t *task = spawn(nest_shields, NULL);
    assert_int_equal(green_task_cancel(task), 0);
    assert_null(finish(task));
}

static void *end_the_outer_first(void *unused)
{
    green_scope_t outer, shield;
    must_be_0(green_task_cancel(green_task_current()));
    must_be_0(green_scope_begin(&outer, GREEN_SEC(1), 0));
    must_be_0(green_scope_begin(&shield, GREEN_FOREVER, GREEN_SHIELD));
    nap(1);
    must_be_0(green_scope_end(&outer));
    nap(1);
    must_be_0(green_scope_end(&shield));
    must_fail(green_sleep(1), ECANCELED);
    return unused;
}

HUB_TEST(after_ends_in_the_wrong_order_the_cancel_is_seen)
{
    green_task_t *task = spawn(end_the_outer_first, NULL);
    assert_null(finish(task));
}

HUB_TEST(under_a_shield_the_scopes_around_it_are_not_seen)
{
    green_scope_t outer, shield, inner;
    must_be_0(green_scope_begin(&outer, GREEN_MS(10), 0));
    must_be_0(green_scope_begin(&shield, GREEN_FOREVER, GREEN_SHIELD));
    nap(50);
    must_be_0(green_scope_begin(&inner, GREEN_MS(10), 0)); /* inside it is */
    assert_refused(green_sleep(GREEN_MS(50)), ETIMEDOUT);
    assert_int_equal(clock_ms(), 60);
    assert_int_equal(green_scope_end(&inner), 1);
    assert_int_equal(green_scope_end(&shield), 0);
    assert_int_equal(green_scope_end(&outer), 0); /* no call failed of it */
}

HUB_TEST(a_failure_before_a_shield_belongs_to_the_scope_around_it)
{
    green_scope_t outer, shield;
    must_be_0(green_scope_begin(&outer, GREEN_MS(10), 0));
    assert_refused(green_sleep(GREEN_SEC(1)), ETIMEDOUT);
    must_be_0(green_scope_begin(&shield, GREEN_SEC(1), GREEN_SHIELD));
    nap(1);
    assert_int_equal(green_scope_end(&shield), 0);
    assert_int_equal(green_scope_end(&outer), 1);
}

static void *generate_under_a_shield(void *unused)
{
    green_scope_t shield;
    green_t *generator = green_new(nap_in_generator, NULL);
    must_be_0(green_task_cancel(green_task_current()));
    must_be_0(green_scope_begin(&shield, GREEN_FOREVER, GREEN_SHIELD));
    must(green_switch(generator, V(10)) == V(0));
    must_be_0(green_scope_end(&shield));
    must_be_0(green_free(generator));
    generator = green_new(nap_in_generator, NULL);
    must(green_switch(generator, V(10)) == V(ECANCELED));
    must_be_0(green_free(generator));
    return unused;
}

HUB_TEST(a_shield_shields_the_greens_below)
{
    green_task_t *task = spawn(generate_under_a_shield, NULL);
    assert_null(finish(task));
    assert_int_equal(clock_ms(), 10);
}

static void *shield_and_yield(void *unused)
{
    GREEN_SCOPE(shield, GREEN_FOREVER, GREEN_SHIELD);
    green_yield(NULL);
    nap(1);
    return unused;
}

static void *shield_in_a_generator(void *unused)
{
    green_t *generator = green_new(shield_and_yield, NULL);
    must(green_switch(generator, NULL) == NULL);
    must_be_0(green_task_cancel(green_task_current()));
    must_fail(green_sleep(1), ECANCELED);
    must(green_switch(generator, NULL) == NULL); /* its own nap is shielded */
    must_be_0(green_free(generator));
    return unused;
}

HUB_TEST(a_shield_does_not_shield_those_above)
{
    green_task_t *task = spawn(shield_in_a_generator, NULL);
    assert_null(finish(task));
}

static void *sleep_cancelled(void *unused)
{
    must_fail(green_sleep(1), ECANCELED);
    return unused;
}

HUB_TEST(a_shield_does_not_shield_the_tasks_that_are_spawned_under_it)
{
    GREEN_SCOPE(shield, GREEN_FOREVER, GREEN_SHIELD);
    green_task_t *task = spawn(sleep_cancelled, NULL);
    assert_int_equal(green_task_cancel(task), 0);
    assert_null(finish(task));
}

/* ---- Other stacks ------------------------------------------------------------------ */

struct visited {
    char *stack;
    size_t size;
};

static void fail_by_the_scope(void *unused)
{
    must_fail(green_sleep(GREEN_FOREVER), ETIMEDOUT);
    must_fail(green_sleep(GREEN_FOREVER), ETIMEDOUT);
    (void)unused;
}

static void *visit_in_a_scope(void *arg)
{
    struct visited *to = arg;
    green_scope_t scope, *elsewhere = malloc(sizeof *elsewhere);
    must(elsewhere != NULL);
    must_be_0(green_scope_begin(&scope, GREEN_MS(10), 0));
    on_stack(to->stack, to->size, fail_by_the_scope, NULL);
    must(green_scope_end(&scope) == 1);
    must_be_0(green_scope_begin(elsewhere, GREEN_MS(10), 0));
    on_stack(to->stack, to->size, fail_by_the_scope, NULL);
    must_fail(green_sleep(GREEN_FOREVER), ETIMEDOUT);
    must(green_scope_end(elsewhere) == 1);
    free(elsewhere);
    return arg;
}

/* One stack lies above all others, one below. */
HUB_TEST(a_scope_limits_what_its_green_waits_for_on_another_stack)
{
    static _Alignas(16) char low[256 << 10];
    _Alignas(16) char high[64 << 10];
    struct visited visited[] = {{low, sizeof low}, {high, sizeof high}};
    if (!HAS_CONTEXTS || UNDER_TSAN)
        skip_because("there is no swapcontext(), or the tool does not know it");
    for (int i = 0; i < 2; i++) {
        assert_ptr_equal(finish(spawn(visit_in_a_scope, &visited[i])), &visited[i]);
        assert_ptr_equal(in_thread(visit_in_a_scope, &visited[i]), &visited[i]);
    }
}

int main(void)
{
    return run_all_tests();
}
