/* SPDX-License-Identifier: MIT */
/* Time: what a timeout counts from, what is no limit, and that no wait ends early (rule 7). */
#include <time.h>

#include "hubs.h"

static int64_t clock_of(clockid_t id)
{
    struct timespec time;
    must_be_0(clock_gettime(id, &time));
    return time.tv_sec * GREEN_SEC(1) + time.tv_nsec;
}

TEST(green_now_is_the_monotonic_clock_with_and_without_a_hub)
{
    for (int i = 0; i < 2; i++) {
        int64_t before = clock_of(CLOCK_MONOTONIC), now = green_now();
        assert_true(before <= now && now <= clock_of(CLOCK_MONOTONIC));
        if (i == 0)
            assert_int_equal(green_hub_init(NULL), 0);
    }
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
}

TEST(the_units_are_nanoseconds)
{
    assert_int_equal(GREEN_US(3), 3000);
    assert_int_equal(GREEN_MS(3), 3000000);
    assert_int_equal(GREEN_SEC(3), INT64_C(3000000000));
    assert_int_equal(GREEN_NOWAIT, 0);
    assert_true(GREEN_FOREVER == INT64_MAX);
}

/* gevent: _check_delay */
WORLD_TEST(no_sleep_ends_early)
{
    for (int i = 0; i < times(20, 5); i++) {
        int64_t begin = green_now();
        assert_int_equal(green_sleep(GREEN_MS(5) + i), 0);
        int64_t took = green_now() - begin;
        assert_true(took >= GREEN_MS(5) + i);
    }
    for (int i = 0; i < 5; i++) {
        int64_t begin = green_now();
        assert_int_equal(green_sleep(1), 0);
        assert_true(green_now() - begin >= 1);
    }
}

WORLD_TEST(no_timeout_comes_early)
{
    green_event_t event = GREEN_EVENT_INIT;
    for (int i = 0; i < times(20, 5); i++) {
        int64_t begin = green_now();
        assert_refused(green_event_wait(&event, GREEN_MS(2) + 1), ETIMEDOUT);
        assert_true(green_now() - begin >= GREEN_MS(2) + 1);
    }
}

/* gevent: update_now */
WORLD_TEST(a_sleep_after_a_computation_counts_from_its_call)
{
    nap(1);
    int64_t until = green_now() + GREEN_MS(30);
    while (green_now() < until)
        continue;
    int64_t begin = green_now();
    nap(10);
    assert_true(green_now() - begin >= GREEN_MS(10));
}

WORLD_TEST(time_does_not_go_backwards)
{
    int64_t last = green_now();
    for (int i = 0; i < 100; i++) {
        if (i % 10 == 0)
            assert_int_equal(green_sleep(GREEN_US(100)), 0);
        int64_t now = green_now();
        assert_true(now >= last);
        last = now;
    }
}

WORLD_TEST(a_hub_that_waits_uses_no_processor)
{
    const green_hub_t *handle = green_hub_open(); /* with and without a descriptor to look at */
    for (int i = 0; i < 2; i++) {
        uint64_t turns = hub_stat(turns), polls = hub_stat(polls);
        int64_t begin = clock_of(CLOCK_THREAD_CPUTIME_ID);
        nap(100);
        assert_true(clock_of(CLOCK_THREAD_CPUTIME_ID) - begin < GREEN_MS(50));
        assert_in_range(hub_stat(turns) - turns, 1, 2);
        assert_in_range(hub_stat(polls) - polls, 0, 3);
        assert_int_equal(green_hub_close((green_hub_t *)handle), 0);
        handle = NULL;
    }
}

/* ---- No limit, and no time ----------------------------------------------------- */

HUB_TEST(the_longest_time_does_not_overflow)
{
    static const int64_t longest[] = { INT64_MAX, INT64_MAX - 1, INT64_MAX / 2 };
    green_event_t event = GREEN_EVENT_INIT;
    for (int i = 0; i < 3; i++) {
        green_task_t *task = spawn(wait_for_event, &event);
        green_scope_t scope;
        must_be_0(green_scope_begin(&scope, longest[i], 0));
        turn();
        assert_refused(green_task_join(task, NULL, GREEN_MS(10)), ETIMEDOUT);
        assert_int_equal(green_scope_end(&scope), 0);
        assert_int_equal(green_task_free(task), 0);
    }
}

/* Only of GREEN_FOREVER nothing comes: what is in 292 years comes, too. */
HUB_TEST(nearly_forever_is_a_time_and_no_deadlock)
{
    static const int64_t nearly[] = { GREEN_FOREVER - GREEN_SEC(1), GREEN_FOREVER - 1 };
    green_event_t event = GREEN_EVENT_INIT;
    for (int i = 0; i < 2; i++) {
        green_scope_t scope;
        assert_refused(green_event_wait(&event, nearly[i]), ETIMEDOUT);
        assert_int_equal(green_sleep(nearly[i]), 0);
        assert_refused(green_select(NULL, 0, nearly[i]), ETIMEDOUT);
        assert_int_equal(green_poll(NULL, 0, nearly[i]), 0);
        assert_int_equal(green_scope_begin(&scope, nearly[i], 0), 0);
        assert_refused(green_event_wait(&event, GREEN_FOREVER), ETIMEDOUT);
        assert_int_equal(green_scope_end(&scope), 1);
    }
    assert_refused(green_event_wait(&event, GREEN_FOREVER), EDEADLK);
    assert_true(green_now() < GREEN_FOREVER);
}

static void *sleep_nearly_for_ever(void *less)
{
    must_fail(green_sleep(INT64_MAX - (intptr_t)less), ECANCELED);
    return NULL;
}

WORLD_TEST(a_sleep_of_nearly_forever_lasts_until_it_is_cancelled)
{
    for (intptr_t less = 0; less < 3; less++) {
        green_task_t *task = spawn(sleep_nearly_for_ever, V(less));
        nap(2);
        assert_int_equal(green_task_free(task), 0);
    }
}

static void *sleep_forever(void *unused)
{
    must_fail(green_sleep(GREEN_FOREVER), ECANCELED);
    return unused;
}

HUB_TEST(a_sleep_of_forever_has_no_timer)
{
    green_task_t *task = spawn(sleep_forever, NULL);
    turn();
    assert_int_equal(hub_stat(timers), 0);
    nap(1000000);
    assert_int_equal(green_task_free(task), 0);
}

HUB_TEST(a_deadline_that_is_over_means_only_what_can_be_done_at_once)
{
    int item = 1;
    int64_t then = green_now() + GREEN_MS(10);
    green_queue_t *queue = green_queue_new(sizeof item, 1);
    green_task_t *other;
    nap(20);
    other = spawn(note_number, V(1));
    assert_int_equal(green_queue_put(queue, &item, then - green_now()), 0);
    assert_refused(green_queue_put(queue, &item, then - green_now()), ETIMEDOUT);
    assert_int_equal(green_queue_get(queue, &item, then - green_now()), 0);
    assert_refused(green_queue_get(queue, &item, INT64_MIN), ETIMEDOUT);
    assert_noted(""); /* it lets nobody run */
    assert_ptr_equal(finish(other), V(1));
    assert_int_equal(green_queue_free(queue), 0);
}

static void *set_after_some_turns(void *event)
{
    for (int i = 0; i < 5; i++)
        turn();
    must_be_0(green_event_set(event));
    return NULL;
}

HUB_TEST(a_loop_without_time_that_sleeps_for_0_lets_others_run)
{
    int rounds = 0;
    green_event_t event = GREEN_EVENT_INIT;
    green_task_t *task = spawn(set_after_some_turns, &event);
    while (green_event_wait(&event, GREEN_NOWAIT) != 0) {
        rounds++;
        turn();
    }
    assert_in_range(rounds, 5, 7);
    assert_int_equal(green_task_free(task), 0);
}

/* ---- Many ---------------------------------------------------------------------- */

static int64_t last_due;

static void *sleep_until_due(void *ms)
{
    nap((intptr_t)ms);
    must(clock_ms() == (intptr_t)ms);
    must(last_due <= (intptr_t)ms);
    last_due = (intptr_t)ms;
    return NULL;
}

HUB_TEST(many_timers_fire_at_their_times_in_order)
{
    enum { MANY = FEW_FIBERS ? 300 : 2000 };
    unsigned random = 1;
    last_due = 0;
    for (int i = 0; i < MANY; i++) {
        random = random * 1103515245u + 12345u;
        must_be_0(green_task_detach(spawn(sleep_until_due, V(1 + (random >> 16) % 500))));
    }
    turn();
    assert_int_equal(hub_stat(timers), MANY);
    assert_int_equal(green_hub_wait(GREEN_FOREVER), 0);
    assert_int_equal(hub_stat(timers), 0);
}

HUB_TEST(timers_that_are_taken_back_leave_the_others)
{
    enum { MANY = 200 };
    green_task_t *tasks[MANY];
    last_due = 0;
    for (int i = 0; i < MANY; i++)
        tasks[i] = spawn(i % 2 ? sleep_until_due : sleep_or_fail, V(10 + (i * 37) % 101));
    turn();
    for (int i = 0; i < MANY; i += 2)
        assert_int_equal(green_task_free(tasks[i]), 0);
    assert_int_equal(hub_stat(timers), MANY / 2);
    for (int i = 1; i < MANY; i += 2)
        assert_null(finish(tasks[i]));
}

int main(void)
{
    return run_all_tests();
}
