/* SPDX-License-Identifier: MIT */
/* The hub in another event loop: green_hub_fd() and green_hub_run(). */
#define _GNU_SOURCE
#include <poll.h>

#include "hubs.h"

static green_event_t event;

static int begin(void **state)
{
    event = (green_event_t)GREEN_EVENT_INIT;
    return hubs_begin_virtual(state);
}

static int begin_world(void **state)
{
    event = (green_event_t)GREEN_EVENT_INIT;
    return hubs_begin_world(state);
}

#define RUN_TEST(sentence) TEST_WITH(sentence, begin, hubs_end)
#define LOOP_TEST(sentence) TEST_WITH(sentence, begin_world, hubs_end)

/* Whether the hub has something to do, within so many milliseconds. */
static bool is_readable(int ms)
{
    struct pollfd hub = { .fd = green_hub_fd(), .events = POLLIN };
    must(hub.fd >= 0);
    return poll(&hub, 1, ms) == 1;
}

/* As another loop does it: polls, and runs until there is nothing to do. */
static int run_all(int ms)
{
    int count = 0;
    must(is_readable(ms));
    while (green_hub_run(GREEN_NOWAIT) == 1)
        count++;
    return count;
}

/* ---- green_hub_run() ------------------------------------------------------------------------- */

RUN_TEST(it_gives_each_that_is_ready_one_turn)
{
    green_task_t *tasks[3];
    for (int i = 0; i < 3; i++)
        tasks[i] = spawn(note_number, V(i));
    assert_int_equal(green_hub_run(GREEN_NOWAIT), 1);
    assert_noted("0 1 2");
    assert_int_equal(green_hub_run(GREEN_NOWAIT), 0);
    for (int i = 0; i < 3; i++)
        finish(tasks[i]);
}

static void *note_twice(void *number)
{
    note_number(number);
    turn();
    note_number(number);
    return NULL;
}

RUN_TEST(who_is_ready_again_waits_for_the_next_run)
{
    green_task_t *a = spawn(note_twice, V(1)), *b = spawn(note_twice, V(2));
    assert_int_equal(green_hub_run(GREEN_FOREVER), 1);
    assert_noted("1 2");
    assert_int_equal(green_hub_run(GREEN_NOWAIT), 1);
    assert_noted("1 2");
    assert_int_equal(green_hub_run(GREEN_NOWAIT), 0);
    finish(a);
    finish(b);
}

RUN_TEST(it_waits_at_most_its_time_until_some_task_is_ready)
{
    green_task_t *task = spawn(sleep_for, V(10));
    assert_int_equal(green_hub_run(GREEN_NOWAIT), 1); /* it starts */
    assert_int_equal(green_hub_run(GREEN_MS(4)), 0);
    assert_int_equal(clock_ms(), 4);
    assert_int_equal(green_hub_run(GREEN_MS(100)), 1);
    assert_int_equal(clock_ms(), 10);
    assert_int_equal(green_task_join(task, NULL, GREEN_NOWAIT), 0);
    finish(task);
    assert_int_equal(green_hub_run(GREEN_MS(5)), 0);
    assert_int_equal(clock_ms(), 15);
}

RUN_TEST(a_run_without_end_that_nothing_can_end_is_a_deadlock)
{
    green_task_t *task = spawn(wait_for_event, &event);
    assert_int_equal(green_hub_run(GREEN_FOREVER), 1);
    assert_refused(green_hub_run(GREEN_FOREVER), EDEADLK);
    assert_int_equal(green_event_set(&event), 0);
    assert_int_equal(green_hub_run(GREEN_FOREVER), 1);
    finish(task);
}

RUN_TEST(scopes_and_the_cancel_of_main_end_a_run)
{
    green_scope_t scope;
    green_task_t *task = spawn(sleep_for, V(100));
    turn();
    assert_int_equal(green_scope_begin(&scope, GREEN_MS(5), 0), 0);
    assert_refused(green_hub_run(GREEN_MS(50)), ETIMEDOUT);
    assert_int_equal(clock_ms(), 5);
    assert_int_equal(green_scope_end(&scope), 1);
    /* If both are over, its own comes first. */
    assert_int_equal(green_scope_begin(&scope, GREEN_MS(5), 0), 0);
    assert_int_equal(green_hub_run(GREEN_MS(5)), 0);
    assert_int_equal(green_scope_end(&scope), 0);
    assert_int_equal(clock_ms(), 10);
    assert_int_equal(green_task_cancel(green_task_current()), 0);
    assert_refused(green_hub_run(GREEN_MS(50)), ECANCELED);
    assert_refused(green_hub_run(GREEN_NOWAIT), ECANCELED);
    assert_int_equal(green_task_free(task), 0);
}

static void *cancel_main(void *main)
{
    must_be_0(green_task_cancel(main));
    return NULL;
}

RUN_TEST(a_task_that_a_run_starts_may_cancel_main)
{
    green_task_t *task = spawn(cancel_main, green_task_current());
    assert_int_equal(green_hub_run(GREEN_NOWAIT), 1);
    assert_refused(green_hub_run(GREEN_NOWAIT), ECANCELED);
    assert_int_equal(green_task_free(task), 0);
}

static void *run_in_vain(void *unused)
{
    must_fail(green_hub_run(GREEN_NOWAIT), EBUSY);
    must_fail(green_hub_run(GREEN_FOREVER), EBUSY);
    return unused;
}

RUN_TEST(it_is_called_on_the_main_green_only)
{
    finish(spawn(run_in_vain, NULL));
    green_t *generator = green_new(run_in_vain, NULL);
    assert_null(green_switch(generator, NULL));
    assert_int_equal(green_free(generator), 0);
}

/* ---- green_hub_fd() -------------------------------------------------------------------------- */

LOOP_TEST(it_is_one_descriptor_that_is_quiet_when_idle)
{
    int fd = green_hub_fd();
    assert_true(fd >= 0);
    assert_int_equal(green_hub_fd(), fd);
    assert_false(is_readable(0));
    green_task_t *task = spawn(wait_for_event, &event);
    assert_int_equal(run_all(0), 1);
    assert_false(is_readable(20));
    assert_int_equal(green_event_set(&event), 0);
    assert_int_equal(run_all(0), 1);
    assert_false(is_readable(0));
    finish(task);
}

LOOP_TEST(it_is_readable_if_a_task_was_ready_before_it_was_asked_for)
{
    green_task_t *task = spawn(note_number, V(1));
    assert_true(is_readable(0));
    assert_int_equal(run_all(0), 1);
    assert_noted("1");
    finish(task);
}

LOOP_TEST(it_is_readable_when_a_timer_is_due_and_not_before)
{
    assert_false(is_readable(0));
    int64_t start = green_now();
    green_task_t *task = spawn(sleep_for, V(50));
    assert_in_range(run_all(0), 1, 2); /* it may be due by now */
    while (green_task_join(task, NULL, GREEN_NOWAIT) != 0) {
        assert_true(is_readable(20000));
        (void)green_hub_run(GREEN_NOWAIT);
    }
    assert_true(green_now() - start >= GREEN_MS(50));
    assert_true(green_now() - start < GREEN_SEC(15));
    assert_int_equal(green_task_free(task), 0);
    assert_int_equal(green_hub_run(GREEN_NOWAIT), 0);
    assert_false(is_readable(0));
}

LOOP_TEST(an_earlier_timer_makes_it_readable_earlier)
{
    assert_false(is_readable(0));
    green_task_t *late = spawn(sleep_or_fail, V(30000));
    run_all(0);
    green_task_t *early = spawn(sleep_for, V(20));
    run_all(0);
    int64_t start = green_now();
    while (green_task_join(early, NULL, GREEN_NOWAIT) != 0) {
        assert_true(is_readable(20000));
        (void)green_hub_run(GREEN_NOWAIT);
    }
    assert_true(green_now() - start < GREEN_SEC(15));
    assert_int_equal(green_task_free(early), 0);
    assert_int_equal(green_task_free(late), 0);
    (void)green_hub_run(GREEN_NOWAIT);
    assert_false(is_readable(0));
}

LOOP_TEST(timers_that_were_there_before_it_was_asked_for_make_it_readable)
{
    green_task_t *task = spawn(sleep_for, V(20));
    turn();
    while (green_task_join(task, NULL, GREEN_NOWAIT) != 0) {
        assert_true(is_readable(20000));
        (void)green_hub_run(GREEN_NOWAIT);
    }
    assert_int_equal(green_task_free(task), 0);
}

static void *set_event(void *unused)
{
    must_be_0(green_event_set(&event));
    return unused;
}

static void *spawn_later(void *handle)
{
    usleep(20000);
    must_be_0(green_hub_spawn(handle, set_event, NULL));
    must_be_0(green_hub_close(handle));
    return NULL;
}

LOOP_TEST(it_is_readable_when_another_thread_has_spawned)
{
    pthread_t thread;
    green_hub_t *handle = green_hub_open();
    assert_false(is_readable(0));
    assert_int_equal(pthread_create(&thread, NULL, spawn_later, handle), 0);
    while (green_event_wait(&event, GREEN_NOWAIT) != 0) {
        assert_true(is_readable(20000));
        (void)green_hub_run(GREEN_NOWAIT);
    }
    pthread_join(thread, NULL);
}

LOOP_TEST(it_is_readable_when_another_thread_had_spawned_before)
{
    green_hub_t *handle = green_hub_open();
    assert_false(is_readable(0));
    in_thread(spawn_later, handle);
    while (green_event_wait(&event, GREEN_NOWAIT) != 0) {
        assert_true(is_readable(0));
        (void)green_hub_run(GREEN_NOWAIT);
    }
}

LOOP_TEST(it_stays_readable_while_more_are_ready)
{
    green_task_t *task = spawn(note_twice, V(1));
    assert_true(is_readable(0));
    assert_int_equal(green_hub_run(GREEN_NOWAIT), 1);
    assert_true(is_readable(0));
    assert_int_equal(green_hub_run(GREEN_NOWAIT), 1);
    assert_int_equal(green_hub_run(GREEN_NOWAIT), 0);
    assert_false(is_readable(0));
    finish(task);
}

/* What main does itself between two polls. */
LOOP_TEST(it_is_readable_when_main_has_waited_and_left_others_ready)
{
    assert_false(is_readable(0));
    green_task_t *a = spawn(note_twice, V(1));
    turn(); /* a gives a turn, and is ready */
    assert_true(is_readable(0));
    assert_int_equal(run_all(0), 1);
    finish(a);
    green_task_t *b = spawn(sleep_for, V(10));
    turn();
    while (green_task_join(b, NULL, GREEN_NOWAIT) != 0) {
        assert_true(is_readable(20000));
        (void)green_hub_run(GREEN_NOWAIT);
    }
    assert_int_equal(green_task_free(b), 0);
}

enum { MANY = 80 }; /* turns: between them the hub looks */

static void *set_event_or_nap(void *number)
{
    if (number == V(0))
        must_be_0(green_event_set(&event));
    if (number == V(MANY - 1))
        nap(20);
    return NULL;
}

LOOP_TEST(it_is_readable_when_a_generator_of_main_has_waited_and_left_a_timer)
{
    struct pollfd hub = { .fd = green_hub_fd(), .events = POLLIN };
    green_task_t *tasks[MANY];
    for (int i = 0; i < MANY; i++)
        tasks[i] = spawn(set_event_or_nap, V(i));
    green_t *generator = green_new(wait_for_event, NULL);
    assert_null(green_switch(generator, &event));
    assert_int_equal(green_free(generator), 0);
    while (green_task_join(tasks[MANY - 1], NULL, GREEN_NOWAIT) != 0) {
        assert_int_equal(poll(&hub, 1, 20000), 1);
        (void)green_hub_run(GREEN_NOWAIT);
    }
    for (int i = 0; i < MANY; i++)
        finish(tasks[i]);
}

/* In virtual time the next timer is due at once. */
RUN_TEST(in_virtual_time_it_is_readable_as_soon_as_all_wait)
{
    assert_false(is_readable(0));
    green_task_t *task = spawn(sleep_for, V(3600000));
    int rounds = 0;
    while (green_task_join(task, NULL, GREEN_NOWAIT) != 0) {
        assert_true(is_readable(20000));
        (void)green_hub_run(GREEN_NOWAIT);
        assert_true(++rounds < 10);
    }
    assert_int_equal(clock_ms(), 3600000);
    assert_int_equal(green_task_free(task), 0);
}

/* Another hub's descriptor is another: it ends with green_hub_end(). */
LOOP_TEST(it_is_the_hubs_and_closed_at_its_end)
{
    int before = hubs_descriptors();
    assert_true(green_hub_fd() >= 0);
    assert_true(hubs_descriptors() > before);
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
    assert_int_equal(hubs_descriptors(), before);
    assert_false(is_readable(0)); /* of another hub */
}

static void *read_one(void *fd)
{
    char byte;
    return green_read(*(int *)fd, &byte, 1) == 1 ? NULL : GREEN_FAILED;
}

/* Who was to try once more when nobody is ready: the other loop does not tell of that. */
LOOP_TEST(who_waits_to_read_when_the_descriptor_is_first_asked_for_is_asked_for)
{
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    green_task_t *task = spawn(read_one, fds);
    turn();
    assert_true(green_hub_fd() >= 0);
    assert_int_equal(write(fds[1], "x", 1), 1);
    run_all(20000);
    assert_null(finish(task));
    assert_int_equal(green_close(fds[0]) + close(fds[1]), 0);
}

int main(void)
{
    return run_all_tests();
}
