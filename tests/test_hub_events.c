/* SPDX-License-Identifier: MIT */
/* Events, and results that they announce. */
#include "hubs.h"

static green_event_t event;

static void *wait_twice(void *number)
{
    must_be_0(green_event_wait(&event, GREEN_FOREVER));
    must_be_0(green_event_wait(&event, GREEN_FOREVER));
    return note_number(number);
}

/* gevent: lock_tests _check_notify */
HUB_TEST(a_set_wakes_all_and_later_waits_pass)
{
    event = (green_event_t)GREEN_EVENT_INIT;
    for (int i = 1; i <= 5; i++)
        must_be_0(green_task_detach(spawn(wait_twice, V(i))));
    turn();
    assert_noted("");
    assert_int_equal(green_event_set(&event), 0);
    assert_int_equal(green_event_set(&event), 0); /* is nothing */
    assert_int_equal(hub_stat(ready), 5);
    turn();
    assert_noted("1 2 3 4 5");
}

static void *wait_200_ms(void *unused)
{
    must_fail(green_event_wait(&event, GREEN_MS(200)), ETIMEDOUT);
    must(clock_ms() == 200);
    return unused;
}

/* gevent: lock_tests test_timeout */
HUB_TEST(a_wait_that_nobody_ends_is_over_after_its_time)
{
    event = (green_event_t)GREEN_EVENT_INIT;
    for (int i = 0; i < 5; i++)
        must_be_0(green_task_detach(spawn(wait_200_ms, NULL)));
    assert_int_equal(green_hub_wait(GREEN_FOREVER), 0);
    assert_int_equal(green_event_set(&event), 0);
    assert_int_equal(hub_stat(ready), 0);
}

static int passed;

static void *wait_and_count(void *unused)
{
    must_be_0(green_event_wait(&event, GREEN_FOREVER));
    passed++;
    return unused;
}

/* gevent: TestEvent_SetThenClear */
HUB_TEST(all_who_waited_return_though_it_is_cleared_at_once)
{
    static const int numbers[] = { 1, 100, FEW_FIBERS ? 200 : 1000 };
    for (int i = 0; i < 3; i++) {
        event = (green_event_t)GREEN_EVENT_INIT;
        passed = 0;
        for (int k = 0; k < numbers[i]; k++)
            must_be_0(green_task_detach(spawn(wait_and_count, NULL)));
        turn();
        assert_int_equal(green_event_set(&event), 0);
        assert_int_equal(green_event_clear(&event), 0);
        assert_refused(green_event_wait(&event, GREEN_NOWAIT), ETIMEDOUT);
        turn();
        assert_int_equal(passed, numbers[i]);
    }
}

static void *wait_and_note(void *number)
{
    must_be_0(green_event_wait(&event, GREEN_FOREVER));
    return note_number(number);
}

/* gevent: test_wait_while_notifying */
HUB_TEST(who_sets_an_event_goes_on_through_a_wait_for_it)
{
    event = (green_event_t)GREEN_EVENT_INIT;
    must_be_0(green_task_detach(spawn(wait_and_note, V(1))));
    must_be_0(green_task_detach(spawn(wait_and_note, V(2))));
    turn();
    assert_int_equal(green_event_set(&event), 0);
    assert_int_equal(green_event_wait(&event, GREEN_FOREVER), 0);
    note("3");
    turn();
    assert_noted("3 1 2");
}

/* gevent: test_gevent_wait_twice_when_already_set */
HUB_TEST(select_finds_a_set_event_each_time)
{
    event = (green_event_t)GREEN_EVENT_INIT;
    green_case_t c = GREEN_CASE_EVENT(&event);
    assert_refused(green_select(&c, 1, GREEN_NOWAIT), ETIMEDOUT);
    assert_int_equal(green_event_set(&event), 0);
    assert_int_equal(green_select(&c, 1, GREEN_FOREVER), 0);
    assert_int_equal(green_select(&c, 1, GREEN_FOREVER), 0);
    assert_int_equal(green_event_wait(&event, GREEN_FOREVER), 0);
}

HUB_TEST(a_set_is_kept_for_who_comes_later)
{
    event = (green_event_t)GREEN_EVENT_INIT;
    assert_int_equal(green_event_set(&event), 0);
    assert_int_equal(green_event_wait(&event, GREEN_NOWAIT), 0);
    assert_int_equal(green_event_wait(&event, GREEN_FOREVER), 0);
    assert_int_equal(green_event_clear(&event), 0);
    assert_int_equal(green_event_clear(&event), 0);
    assert_refused(green_event_wait(&event, GREEN_NOWAIT), ETIMEDOUT);
    assert_refused(green_event_wait(&event, -1), ETIMEDOUT);
}

HUB_TEST(zeroed_memory_is_an_event)
{
    green_event_t *zeroed = calloc(1, sizeof *zeroed);
    assert_refused(green_event_wait(zeroed, GREEN_MS(1)), ETIMEDOUT);
    assert_int_equal(green_event_set(zeroed), 0);
    assert_int_equal(green_event_wait(zeroed, GREEN_FOREVER), 0);
    free(zeroed);
    assert_refused(green_event_wait(NULL, GREEN_FOREVER), EINVAL);
    assert_refused(green_event_set(NULL), EINVAL);
    assert_refused(green_event_clear(NULL), EINVAL);
}

/* ---- An event beside variables is a result for several ------------------------- */

static struct {
    green_event_t event;
    int value, error;
} result;

static void *read_result(void *unused)
{
    (void)unused;
    must_be_0(green_event_wait(&result.event, GREEN_FOREVER));
    if (result.error != 0)
        return fail_with(V(result.error));
    return V(result.value);
}

HUB_TEST(all_readers_see_the_value_that_an_event_announces)
{
    green_task_t *readers[5];
    memset(&result, 0, sizeof result);
    for (int i = 0; i < 5; i++)
        readers[i] = spawn(read_result, NULL);
    nap(1);
    result.value = 11;
    assert_int_equal(green_event_set(&result.event), 0);
    for (int i = 0; i < 5; i++)
        assert_ptr_equal(finish(readers[i]), V(11));
}

/* gevent: test_set_exc */
HUB_TEST(a_reader_sees_the_error_that_an_event_announces)
{
    memset(&result, 0, sizeof result);
    green_task_t *reader = spawn(read_result, NULL);
    turn();
    result.error = E2;
    assert_int_equal(green_event_set(&result.event), 0);
    assert_fails(finish(reader), E2);
}

/* gevent: AsyncResult test_set */
HUB_TEST(a_reader_without_time_does_not_wait_for_a_setter)
{
    memset(&result, 0, sizeof result);
    green_scope_t scope;
    must_be_0(green_scope_begin(&scope, 0, 0));
    assert_refused(green_event_wait(&result.event, GREEN_FOREVER), ETIMEDOUT);
    assert_int_equal(green_scope_end(&scope), 1);
    assert_refused(green_event_wait(&result.event, GREEN_NOWAIT), ETIMEDOUT);
}

/* ---- Lives --------------------------------------------------------------------- */

static void *use_event_of_stack(void *out)
{
    green_event_t mine = GREEN_EVENT_INIT;
    green_task_t *waiter = spawn(wait_for_event, &mine);
    turn();
    must_be_0(green_task_free(waiter));
    must_be_0(green_event_set(&mine)); /* nobody waits in it */
    *(int *)out = (int)hub_stat(ready);
    return NULL;
}

HUB_TEST(who_was_freed_waits_in_no_event_any_more)
{
    int ready = -1;
    green_task_t *task = spawn(use_event_of_stack, &ready);
    assert_null(finish(task));
    assert_int_equal(ready, 0);
}

/* ---- Threads ------------------------------------------------------------------- */

static green_hub_t *handle;

static void *set_event(void *arg)
{
    must_be_0(green_event_set(arg));
    return NULL;
}

static void *set_from_a_thread(void *arg)
{
    must_fail(green_event_set(arg), EPERM);
    must_fail(green_event_clear(arg), EPERM);
    must_fail(green_event_wait(arg, GREEN_FOREVER), EPERM);
    must_be_0(green_hub_spawn(handle, set_event, arg));
    return NULL;
}

static void set_by_a_thread(int timers)
{
    pthread_t thread;
    event = (green_event_t)GREEN_EVENT_INIT;
    must_be_0(green_event_clear(&event)); /* it is this thread's now */
    handle = green_hub_open();
    for (int i = 0; i < timers; i++)
        must_be_0(green_task_detach(spawn(sleep_or_fail, V(1000000))));
    turn();
    must_be_0(pthread_create(&thread, NULL, set_from_a_thread, &event));
    assert_int_equal(green_event_wait(&event, GREEN_FOREVER), 0);
    must_be_0(pthread_join(thread, NULL));
    assert_int_equal(green_hub_close(handle), 0);
}

/* gevent: test_cross_thread_use */
WORLD_TEST(an_event_that_a_thread_sets_by_way_of_the_hub_wakes_a_hub_without_timers)
{
    set_by_a_thread(0);
}

WORLD_TEST(an_event_that_a_thread_sets_by_way_of_the_hub_wakes_a_hub_with_timers)
{
    int64_t begin = green_now();
    set_by_a_thread(3);
    assert_true(green_now() - begin < GREEN_SEC(1000)); /* not by a timer */
}

HUB_TEST(an_event_that_a_thread_sets_wakes_a_hub_of_virtual_time)
{
    set_by_a_thread(0);
    set_by_a_thread(3);
}

static sem_t used, done;

static void *use_event_in_a_thread(void *arg)
{
    must_be_0(green_event_set(arg));
    must_be_0(sem_post(&used));
    while (sem_wait(&done) != 0)
        continue;
    must_be_0(green_hub_end(GREEN_FOREVER));
    return NULL;
}

HUB_TEST(an_event_is_the_first_threads_until_its_hub_ends)
{
    pthread_t thread;
    green_event_t shared = GREEN_EVENT_INIT;
    sem_init(&used, 0, 0);
    sem_init(&done, 0, 0);
    must_be_0(pthread_create(&thread, NULL, use_event_in_a_thread, &shared));
    while (sem_wait(&used) != 0)
        continue;
    assert_refused(green_event_wait(&shared, GREEN_NOWAIT), EPERM);
    assert_refused(green_event_clear(&shared), EPERM);
    sem_post(&done);
    must_be_0(pthread_join(thread, NULL));
    assert_int_equal(green_event_wait(&shared, GREEN_NOWAIT), 0); /* it is set still */
    assert_int_equal(green_event_clear(&shared), 0);
    sem_destroy(&used);
    sem_destroy(&done);
}

int main(void)
{
    return run_all_tests();
}
