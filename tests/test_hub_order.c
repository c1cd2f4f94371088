/* SPDX-License-Identifier: MIT */
/* Who runs when: turns, fairness, and what lets others run (rules 3 and 6). */
#include "hubs.h"

/* ---- Turns --------------------------------------------------------------------- */

static void *note_twice(void *number)
{
    note("%dA", (int)(intptr_t)number);
    turn();
    note("%dB", (int)(intptr_t)number);
    return NULL;
}

/* gevent: test__order TestSleep0 */
HUB_TEST(sleep_0_gives_every_ready_task_one_turn)
{
    must_be_0(green_task_detach(spawn(note_twice, V(1))));
    must_be_0(green_task_detach(spawn(note_twice, V(2))));
    turn();
    assert_noted("1A 2A");
    assert_int_equal(green_hub_wait(GREEN_FOREVER), 0);
    assert_noted("1B 2B");
}

/* gevent: test__issue639 */
HUB_TEST(sleep_0_of_the_only_task_returns_at_once)
{
    for (int i = 0; i < 1000; i++)
        turn();
    assert_int_equal(green_sleep(-1), 0);
    assert_int_equal(green_sleep(INT64_MIN), 0);
    assert_int_equal(clock_ms(), 0);
}

/* gevent: test__sleep0 */
WORLD_TEST(a_loop_of_sleep_0_ends_with_its_scope)
{
    green_scope_t scope;
    int64_t begin = green_now();
    must_be_0(green_scope_begin(&scope, GREEN_MS(10), 0));
    while (green_sleep(0) == 0)
        continue;
    assert_int_equal(errno, ETIMEDOUT);
    assert_true(green_now() - begin >= GREEN_MS(10));
    assert_int_equal(green_scope_end(&scope), 1);
}

static bool stop;

static void *count_turns(void *count)
{
    while (!stop) {
        ++*(long *)count;
        turn();
    }
    return NULL;
}

static void *end_after(void *turns)
{
    for (intptr_t i = (intptr_t)turns; i > 0; i--)
        turn();
    return NULL;
}

/* A death is given a turn by the hub itself: it may be the last before a look. */
WORLD_TEST(whenever_a_task_ends_timers_are_looked_at_though_others_never_wait)
{
    long counts[2] = { 0, 0 };
    stop = false;
    green_task_t *busy[] = { spawn(count_turns, &counts[0]), spawn(count_turns, &counts[1]) };
    for (intptr_t i = 0; i < 64; i++) {
        green_task_t *task = spawn(end_after, V(i));
        assert_int_equal(green_sleep(GREEN_US(1)), 0);
        finish(task);
    }
    stop = true;
    finish(busy[0]);
    finish(busy[1]);
}

HUB_TEST(a_thousand_tasks_that_give_turns_have_as_many_each)
{
    enum { MANY = FEW_FIBERS ? 200 : 1000 };
    static long counts[MANY];
    memset(counts, 0, sizeof counts);
    stop = false;
    for (int i = 0; i < MANY; i++)
        must_be_0(green_task_detach(spawn(count_turns, &counts[i])));
    for (int i = 0; i < 20; i++)
        turn();
    for (int i = 0; i < MANY; i++)
        assert_int_equal(counts[i], 20);
    stop = true;
    turn();
}

static int64_t woke_after;

static void *nap_10_ms(void *turns)
{
    nap(10);
    woke_after = *(long *)turns;
    stop = true;
    return NULL;
}

WORLD_TEST(timers_are_looked_at_after_64_turns_however_busy_the_line)
{
    long counts[2] = { 0, 0 };
    stop = false;
    must_be_0(green_task_detach(spawn(nap_10_ms, &counts[0])));
    turn();
    int64_t due = green_now() + GREEN_MS(10);
    must_be_0(green_task_detach(spawn(count_turns, &counts[0])));
    must_be_0(green_task_detach(spawn(count_turns, &counts[1])));
    while (green_now() < due)
        turn();
    long then = counts[0]; /* three turns a round */
    while (!stop)
        turn();
    assert_true(woke_after - then <= 64 / 3 + 2);
}

/* ---- Who comes first ----------------------------------------------------------- */

static green_semaphore_t semaphore;

static void *acquire_and_note(void *number)
{
    must_be_0(green_semaphore_acquire(&semaphore, GREEN_FOREVER));
    return note_number(number);
}

HUB_TEST(who_wakes_others_goes_on_and_they_come_last_in_the_order_of_their_waits)
{
    semaphore = (green_semaphore_t)GREEN_SEMAPHORE_INIT(0, 0);
    for (int i = 1; i <= 3; i++)
        must_be_0(green_task_detach(spawn(acquire_and_note, V(i))));
    turn();
    must_be_0(green_task_detach(spawn(note_number, V(9))));
    for (int i = 0; i < 3; i++)
        assert_int_equal(green_semaphore_release(&semaphore), 0);
    assert_noted("");
    turn();
    assert_noted("9 1 2 3");
}

HUB_TEST(what_a_waiter_is_given_is_its_own_and_not_taken_by_who_comes_later)
{
    semaphore = (green_semaphore_t)GREEN_SEMAPHORE_INIT(0, 0);
    must_be_0(green_task_detach(spawn(acquire_and_note, V(1))));
    turn();
    assert_int_equal(green_semaphore_release(&semaphore), 0);
    assert_refused(green_semaphore_acquire(&semaphore, GREEN_NOWAIT), ETIMEDOUT);
    turn();
    assert_noted("1");
}

/* ---- Calls that need not wait -------------------------------------------------- */

static long other_turns;

static void *count_other_turns(void *unused)
{
    while (!stop) {
        other_turns++;
        turn();
    }
    return unused;
}

/* The most calls between two turns of another task. */
static long calls_between_turns(int (*call)(void *arg), void *arg)
{
    long most = 0, between = 0, last;
    stop = false;
    other_turns = 0;
    green_task_t *other = spawn(count_other_turns, NULL);
    turn();
    last = other_turns;
    for (int i = 0; i < 500; i++) {
        must_be_0(call(arg));
        between++;
        most = between > most ? between : most;
        if (other_turns != last)
            between = 0;
        last = other_turns;
    }
    stop = true;
    must_be_0(green_task_free(other));
    return most;
}

static int acquire_one(void *timeout)
{
    must_be_0(green_semaphore_release(&semaphore));
    return green_semaphore_acquire(&semaphore, *(int64_t *)timeout);
}

static int lock_one(void *timeout)
{
    static green_mutex_t mutex;
    must_be_0(green_mutex_lock(&mutex, *(int64_t *)timeout));
    return green_mutex_unlock(&mutex);
}

static int wait_for_one_that_is_set(void *timeout)
{
    green_event_t event = GREEN_EVENT_INIT;
    must_be_0(green_event_set(&event));
    return green_event_wait(&event, *(int64_t *)timeout);
}

static green_queue_t *queue;

static int put_or_get_one(void *timeout)
{
    int item = 1;
    if (green_queue_size(queue) == 0)
        return green_queue_put(queue, &item, *(int64_t *)timeout);
    return green_queue_get(queue, &item, *(int64_t *)timeout);
}

static int select_one(void *timeout)
{
    green_case_t c = GREEN_CASE_SEMAPHORE(&semaphore);
    must_be_0(green_semaphore_release(&semaphore));
    return green_select(&c, 1, *(int64_t *)timeout);
}

static green_task_t *ended;

static int join_one(void *timeout)
{
    return green_task_join(ended, NULL, *(int64_t *)timeout);
}

static green_group_t *group;

static int wait_for_group(void *timeout)
{
    return green_group_wait(group, NULL, *(int64_t *)timeout);
}

HUB_TEST(a_task_whose_calls_need_not_wait_lets_others_run_after_32_of_them)
{
    static int (*const calls[])(void *) = { acquire_one,    lock_one,   wait_for_one_that_is_set,
                                            put_or_get_one, select_one, join_one,
                                            wait_for_group };
    int64_t forever = GREEN_FOREVER, second = GREEN_SEC(1), none = 0;
    semaphore = (green_semaphore_t)GREEN_SEMAPHORE_INIT(0, 0);
    queue = green_queue_new(sizeof(int), 1);
    ended = spawn(give_back, NULL);
    group = green_group_new(0, 0);
    turn();
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        assert_in_range(calls_between_turns(calls[i], &forever), 1, 32);
        assert_in_range(calls_between_turns(calls[i], &second), 1, 32);
        assert_int_equal(calls_between_turns(calls[i], &none), 500); /* these let nobody run */
    }
    assert_int_equal(green_queue_free(queue), 0);
    assert_int_equal(green_task_free(ended), 0);
    assert_int_equal(green_group_free(group), 0);
}

static void *spawn_in_group(void *unused)
{
    for (int i = 0; i < 200; i++)
        must_be_0(green_group_spawn(group, give_back, NULL));
    note("spawned");
    return unused;
}

HUB_TEST(a_spawner_in_a_group_lets_the_spawned_run_after_32_of_them)
{
    group = green_group_new(0, 0);
    green_task_t *task = spawn(spawn_in_group, NULL);
    turn();
    assert_in_range(green_group_size(group), 1, 32);
    assert_noted("");
    assert_null(finish(task));
    assert_noted("spawned");
    assert_int_equal(green_group_free(group), 0);
}

/* ---- What lets nobody run ------------------------------------------------------ */

HUB_TEST(no_function_lets_others_run_that_does_not_wait)
{
    green_event_t event = GREEN_EVENT_INIT;
    green_mutex_t mutex = GREEN_MUTEX_INIT;
    green_cond_t cond = GREEN_COND_INIT;
    green_scope_t scope;
    green_hub_stats_t stats;
    green_task_t *other = spawn(note_number, V(1)), *task = spawn(give_back, NULL);
    int item = 0;
    semaphore = (green_semaphore_t)GREEN_SEMAPHORE_INIT(0, 0);

    for (int i = 0; i < 100; i++) {
        must(green_task_current() != NULL && green_task_green(task) != NULL);
        must_be_0(green_task_cancel(task));
        must_be_0(green_task_check());
        must_be_0(green_scope_begin(&scope, GREEN_SEC(1), 0));
        must_be_0(green_scope_end(&scope));
        must_be_0(green_event_set(&event));
        must_be_0(green_event_clear(&event));
        must_be_0(green_semaphore_release(&semaphore));
        must_be_0(green_mutex_lock(&mutex, GREEN_NOWAIT));
        must_be_0(green_mutex_unlock(&mutex));
        must_be_0(green_cond_signal(&cond, GREEN_EVERYBODY));
        must_be_0(green_hub_stats(&stats, sizeof stats));

        green_queue_t *fresh = green_queue_new(sizeof(int), 1);
        must_be_0(green_queue_put(fresh, &item, GREEN_NOWAIT));
        must(green_queue_size(fresh) == 1);
        must_be_0(green_queue_close(fresh));
        must_be_0(green_queue_free(fresh));

        green_group_t *empty = green_group_new(0, 0);
        must_be_0(green_group_cancel(empty));
        must(green_group_size(empty) == 0);
        must_be_0(green_group_free(empty)); /* it need not wait */

        green_hub_t *hub = green_hub_open();
        must_be_0(green_hub_spawn(hub, give_back, NULL));
        must_be_0(green_hub_close(hub));

        must_fail(green_task_join(task, NULL, GREEN_NOWAIT), ETIMEDOUT);
        must_fail(green_event_wait(&event, -5), ETIMEDOUT);
        must_fail(green_hub_wait(GREEN_NOWAIT), ETIMEDOUT);
    }
    must_be_0(green_task_detach(task));
    assert_noted("");
    assert_int_equal(finish(other) == V(1), 1);
    assert_noted("1");
}

int main(void)
{
    return run_all_tests();
}
