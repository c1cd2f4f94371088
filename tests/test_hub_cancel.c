/* SPDX-License-Identifier: MIT */
/* Cancel: what fails, for how long, and whom it leaves alone (rule 9). */
#include <sys/mman.h>

#include "hubs.h"

static void *sleep_until_cancelled(void *unused)
{
    note("start");
    if (green_sleep(GREEN_FOREVER) != 0)
        note("failed:%d", errno == ECANCELED);
    note("finished");
    return unused;
}

/* ---- When ---------------------------------------------------------------------- */

/* gevent: TestKill, TestKillAfterStartLater */
HUB_TEST(a_task_that_is_cancelled_before_it_starts_starts_cancelled)
{
    green_task_t *task = spawn(sleep_until_cancelled, NULL);
    assert_int_equal(green_task_cancel(task), 0);
    assert_int_equal(green_task_cancel(task), 0);
    assert_noted(""); /* not before its turn */
    turn();
    assert_noted("start failed:1 finished");
    assert_null(finish(task));
}

static void *free_what_it_was_given(void *memory)
{
    free(memory);
    return NULL;
}

HUB_TEST(what_a_task_was_given_is_its_own_to_release_though_it_is_freed_before_it_starts)
{
    green_task_t *task = spawn(free_what_it_was_given, malloc(100));
    assert_int_equal(green_task_free(task), 0);
    green_group_t *group = green_group_new(0, 0);
    assert_int_equal(green_group_spawn(group, free_what_it_was_given, malloc(100)), 0);
    assert_int_equal(green_group_free(group), 0);
}

/* gevent: TestKillWhileRunning, test_killing_dormant */
HUB_TEST(to_free_a_task_that_sleeps_takes_no_time_and_its_body_goes_to_its_end)
{
    green_task_t *task = spawn(sleep_until_cancelled, NULL);
    nap(5);
    assert_noted("start");
    assert_int_equal(green_task_free(task), 0);
    assert_noted("failed:1 finished");
    assert_int_equal(clock_ms(), 5);
}

HUB_TEST(the_wait_of_a_cancelled_task_fails_in_its_turn_not_inside_the_cancel)
{
    green_task_t *task = spawn(sleep_until_cancelled, NULL);
    turn();
    assert_noted("start");
    assert_int_equal(green_task_cancel(task), 0);
    assert_noted("");
    assert_int_equal(hub_stat(ready), 1);
    turn();
    assert_noted("failed:1 finished");
    assert_null(finish(task));
}

/* gevent: test_kill_second_time */
HUB_TEST(to_cancel_again_is_nothing)
{
    green_task_t *task = spawn(sleep_or_fail, V(1000));
    turn();
    assert_int_equal(green_task_cancel(task), 0);
    assert_int_equal(green_task_cancel(task), 0);
    assert_int_equal(hub_stat(ready), 1);
    assert_int_equal(green_task_join(task, NULL, GREEN_FOREVER), 0);
    assert_int_equal(green_task_cancel(task), 0);
    assert_fails(finish(task), ECANCELED);
    assert_refused(green_task_cancel(NULL), EINVAL);
}

/* gevent: test__issue607 */
HUB_TEST(to_have_been_cancelled_is_no_failure)
{
    green_task_t *task = spawn(sleep_or_fail, V(1000));
    turn();
    assert_int_equal(green_task_free(task), 0);
    assert_int_equal(hubs_held()->errors, 0);
}

static void *ping(void *unused)
{
    while (green_sleep(GREEN_SEC(10)) == 0)
        note("ping");
    return unused;
}

/* gevent: issue 1553 */
HUB_TEST(a_loop_around_a_sleep_ends_when_its_task_is_freed)
{
    green_task_t *task = spawn(ping, NULL);
    nap(25000);
    assert_noted("ping ping");
    assert_int_equal(green_task_free(task), 0);
    assert_int_equal(clock_ms(), 25000);
}

HUB_TEST(to_free_who_waits_for_an_event_that_nobody_sets_is_no_deadlock)
{
    green_event_t event = GREEN_EVENT_INIT;
    green_task_t *task = spawn(wait_for_event, &event);
    turn();
    assert_int_equal(green_task_free(task), 0);
    assert_int_equal(green_event_set(&event), 0);
    assert_int_equal(hub_stat(ready), 0); /* nobody is left in its line */
}

/* ---- It stays ------------------------------------------------------------------ */

/* Everything that waits and could be done at once, or never. */
static void *call_all_that_waits(void *ended)
{
    int item = 5;
    green_event_t set = GREEN_EVENT_INIT, clear = GREEN_EVENT_INIT;
    green_semaphore_t units = GREEN_SEMAPHORE_INIT(5, 0);
    green_mutex_t mutex = GREEN_MUTEX_INIT, locked = GREEN_MUTEX_INIT;
    green_cond_t cond = GREEN_COND_INIT;
    green_queue_t *queue = green_queue_new(sizeof item, 2);
    green_queue_t *closed = green_queue_new(sizeof item, 2);
    green_group_t *group = green_group_new(0, 0);
    must_be_0(green_event_set(&set));
    must_be_0(green_mutex_lock(&locked, GREEN_FOREVER));
    must_be_0(green_queue_put(queue, &item, GREEN_FOREVER));
    must_be_0(green_queue_close(closed));
    green_case_t cases[] = { GREEN_CASE_GET(queue, &item), GREEN_CASE_EVENT(&set) };

    must_be_0(green_task_cancel(green_task_current()));
    for (int i = 0; i < 2; i++) {
        int64_t timeout = i == 0 ? GREEN_FOREVER : GREEN_NOWAIT;
        item = 7;
        must_fail(green_sleep(timeout), ECANCELED);
        must_fail(green_task_check(), ECANCELED);
        must_fail(green_task_join(ended, NULL, timeout), ECANCELED);
        must_fail(green_event_wait(&set, timeout), ECANCELED);
        must_fail(green_event_wait(&clear, timeout), ECANCELED);
        must_fail(green_semaphore_acquire(&units, timeout), ECANCELED);
        must_fail(green_mutex_lock(&mutex, timeout), ECANCELED);
        must_fail(green_cond_wait(&cond, &locked, timeout), ECANCELED);
        must_fail(green_queue_put(queue, &item, timeout), ECANCELED);
        must_fail(green_queue_get(queue, &item, timeout), ECANCELED);
        must_fail(green_queue_put(closed, &item, timeout), ECANCELED);
        must_fail(green_queue_get(closed, &item, timeout), ECANCELED);
        must_fail(green_select(cases, 2, timeout), ECANCELED);
        must_fail(green_group_spawn(group, never, NULL), ECANCELED);
        must_fail(green_group_wait(group, NULL, timeout), ECANCELED);
        must_fail(green_hub_wait(timeout), ECANCELED);
        must_fail((int)(intptr_t)green_yield(NULL), ECANCELED);
        must(item == 7 && green_queue_size(queue) == 1);
    }
    /* What does not wait is not refused. */
    must_be_0(green_event_clear(&set));
    must_be_0(green_mutex_unlock(&locked));
    must_be_0(green_semaphore_release(&units));
    must_be_0(green_cond_signal(&cond, 1));
    must_be_0(green_task_detach(spawn(give_back, NULL)));
    must(green_queue_size(queue) == 1 && green_group_size(group) == 0);
    must_be_0(green_queue_free(queue));
    must_be_0(green_queue_free(closed));
    must_be_0(green_group_free(group));
    must_fail(green_mutex_unlock(&mutex), EPERM); /* it was not locked */
    return NULL;
}

HUB_TEST(every_call_that_waits_fails_and_has_taken_and_given_nothing)
{
    green_task_t *ended = spawn(give_back, NULL), *task;
    turn();
    task = spawn(call_all_that_waits, ended);
    assert_null(finish(task));
    assert_int_equal(green_task_free(ended), 0);
    assert_noted("");
}

HUB_TEST(all_calls_that_wait_fail_on_main_too)
{
    green_task_t *ended = spawn(give_back, NULL);
    turn();
    must_be_0(green_task_detach(ended));
    ended = spawn(give_back, NULL);
    turn();
    must_be_0(green_task_cancel(green_task_current()));
    assert_refused(green_hub_run(GREEN_NOWAIT), ECANCELED);
    assert_refused(green_hub_run(GREEN_FOREVER), ECANCELED);
    assert_refused(green_sleep(1), ECANCELED);
    assert_int_equal(green_task_free(ended), 0);
}

static bool stop;
static long counted;

static void *ignore_the_cancel(void *unused)
{
    while (!stop)
        (void)green_sleep(GREEN_SEC(1));
    return unused;
}

static void *count(void *unused)
{
    while (!stop) {
        counted++;
        turn();
    }
    return unused;
}

/* gevent: test__greenletset.Undead */
HUB_TEST(who_ignores_the_cancel_wastes_its_own_time_only)
{
    char text[4096];
    FILE *file = tmpfile();
    stop = false;
    counted = 0;
    green_task_t *task = spawn(ignore_the_cancel, NULL);
    green_task_t *counter = spawn(count, NULL);
    turn();
    assert_int_equal(green_task_cancel(task), 0);
    for (int i = 0; i < 100; i++)
        turn();
    assert_in_range(counted, 100, 102);
    assert_refused(green_task_join(task, NULL, GREEN_NOWAIT), ETIMEDOUT);
    assert_int_equal(green_hub_dump(fileno(file)), 0);
    child_read(file, text, sizeof text);
    assert_non_null(strstr(text, "cancelled"));
    stop = true;
    assert_int_equal(green_task_free(task), 0);
    assert_int_equal(green_task_free(counter), 0);
}

static void *linger(void *ms)
{
    must_fail(green_sleep(GREEN_FOREVER), ECANCELED);
    GREEN_SCOPE(shield, GREEN_FOREVER, GREEN_SHIELD);
    nap((intptr_t)ms);
    return NULL;
}

/* gevent: killall with a timeout */
HUB_TEST(a_join_does_not_wait_longer_than_told_for_a_clean_up_that_does)
{
    green_task_t *tasks[2];
    for (int i = 0; i < 2; i++)
        tasks[i] = spawn(linger, V(1000));
    turn();
    for (int i = 0; i < 2; i++)
        assert_int_equal(green_task_cancel(tasks[i]), 0);
    assert_refused(green_task_join(tasks[0], NULL, GREEN_MS(250)), ETIMEDOUT);
    assert_refused(green_task_join(tasks[1], NULL, GREEN_MS(250)), ETIMEDOUT);
    nap(501);
    assert_int_equal(green_task_join(tasks[0], NULL, GREEN_NOWAIT), 0);
    assert_int_equal(green_task_join(tasks[1], NULL, GREEN_NOWAIT), 0);
    assert_int_equal(green_task_free(tasks[0]), 0);
    assert_int_equal(green_task_free(tasks[1]), 0);
}

static void *fail_for_long(void *unused)
{
    for (int i = 0; i < 100; i++)
        must_fail(green_sleep(GREEN_SEC(1)), ECANCELED);
    return unused;
}

HUB_TEST(the_cancel_does_not_wear_off)
{
    green_task_t *task = spawn(fail_for_long, NULL);
    turn();
    assert_int_equal(green_task_cancel(task), 0);
    assert_null(finish(task));
    assert_int_equal(clock_ms(), 0);
}

/* ---- Of oneself and of main ---------------------------------------------------- */

static void *cancel_oneself(void *unused)
{
    must_be_0(green_task_cancel(green_task_current()));
    note("on");
    must_fail(green_sleep(0), ECANCELED);
    return unused;
}

HUB_TEST(a_task_may_cancel_itself_and_goes_on_until_it_waits)
{
    green_task_t *task = spawn(cancel_oneself, NULL);
    assert_null(finish(task));
    assert_noted("on");
}

static void *cancel_task(void *task)
{
    must_be_0(green_task_cancel(task));
    return NULL;
}

HUB_TEST(main_may_be_cancelled_and_can_still_clean_up_under_a_shield)
{
    green_scope_t shield;
    green_task_t *sleeper = spawn(sleep_or_fail, V(10000)), *other = spawn(sleep_for, V(10));
    must_be_0(green_task_detach(spawn(cancel_task, green_task_current())));
    assert_refused(green_task_join(sleeper, NULL, GREEN_FOREVER), ECANCELED);
    assert_refused(green_task_join(other, NULL, GREEN_FOREVER), ECANCELED);
    must_be_0(green_scope_begin(&shield, GREEN_FOREVER, GREEN_SHIELD));
    assert_int_equal(green_task_join(other, NULL, GREEN_FOREVER), 0);
    assert_int_equal(green_scope_end(&shield), 0);
    assert_refused(green_sleep(0), ECANCELED);
    assert_int_equal(green_task_free(sleeper), 0); /* needs no shield */
    assert_int_equal(green_task_free(other), 0);
    assert_int_equal(clock_ms(), 10);
}

static void *check_while_computing(void *victim)
{
    must_be_0(green_task_check());
    must_be_0(green_task_cancel(victim != NULL ? victim : green_task_current()));
    must_fail(green_task_check(), ECANCELED);
    must_fail(green_task_check(), ECANCELED);
    note("checked");
    return NULL;
}

HUB_TEST(check_tells_of_the_cancel_and_lets_nobody_run)
{
    green_task_t *task = spawn(check_while_computing, NULL), *other = spawn(note_number, V(2));
    turn();
    assert_noted("checked 2");
    assert_null(finish(task));
    assert_int_equal(green_task_free(other), 0);
}

static void *cancel_by_the_hub(void *task)
{
    must_be_0(green_task_cancel(task));
    return NULL;
}

static green_hub_t *handle;

static void *cancel_from_a_thread(void *task)
{
    must_fail(green_task_cancel(task), EPERM);
    must_be_0(green_hub_spawn(handle, cancel_by_the_hub, task));
    must_be_0(green_hub_close(handle));
    return NULL;
}

HUB_TEST(another_thread_cancels_by_way_of_the_hub)
{
    green_task_t *task = spawn(sleep_or_fail, V(1000000));
    turn();
    handle = green_hub_open();
    in_thread(cancel_from_a_thread, task);
    assert_fails(finish(task), ECANCELED);
}

/* ---- Groups -------------------------------------------------------------------- */

/* gevent: test_kill_block */
HUB_TEST(to_free_a_group_ends_all_its_tasks_at_once)
{
    green_group_t *group = green_group_new(0, 0);
    assert_int_equal(green_group_spawn(group, sleep_until_cancelled, NULL), 0);
    assert_int_equal(green_group_spawn(group, sleep_until_cancelled, NULL), 0);
    turn();
    assert_noted("start start");
    assert_int_equal(green_group_free(group), 0);
    assert_noted("failed:1 finished failed:1 finished");
    assert_int_equal(clock_ms(), 0);
}

static void *spawn_in_clean_up(void *group)
{
    must_fail(green_sleep(0), ECANCELED);
    GREEN_SCOPE(shield, GREEN_FOREVER, GREEN_SHIELD);
    must_fail(green_group_spawn(group, never, NULL), ECANCELED);
    note("ended");
    return NULL;
}

/* gevent: killall in two passes */
HUB_TEST(the_clean_up_in_a_cancelled_group_spawns_nobody_there)
{
    green_group_t *group = green_group_new(0, 0);
    assert_int_equal(green_group_spawn(group, spawn_in_clean_up, group), 0);
    assert_int_equal(green_group_spawn(group, spawn_in_clean_up, group), 0);
    assert_int_equal(green_group_cancel(group), 0);
    assert_int_equal(green_group_wait(group, NULL, GREEN_FOREVER), 0);
    assert_refused(green_group_spawn(group, never, NULL), ECANCELED);
    assert_int_equal(green_group_free(group), 0);
    assert_noted("ended ended");
}

HUB_TEST(a_cancelled_owner_ends_its_group_and_is_cancelled_still)
{
    green_group_t *group = green_group_new(0, 0);
    assert_int_equal(green_group_spawn(group, sleep_until_cancelled, NULL), 0);
    must_be_0(green_task_detach(spawn(cancel_task, green_task_current())));
    assert_refused(green_group_wait(group, NULL, GREEN_FOREVER), ECANCELED);
    assert_int_equal(green_group_free(group), 0);
    assert_noted("start failed:1 finished");
    assert_refused(green_sleep(0), ECANCELED);
}

static void *compute(void *unused)
{
    int64_t begin = green_now();
    while (green_now() - begin < GREEN_MS(20))
        continue;
    note("computed");
    return unused;
}

WORLD_TEST(to_free_a_group_waits_for_who_computes)
{
    green_group_t *group = green_group_new(0, 0);
    assert_int_equal(green_group_spawn(group, compute, NULL), 0);
    assert_int_equal(green_group_free(group), 0);
    assert_noted("computed");
}

HUB_TEST(a_group_that_was_waited_for_too_long_is_ended_by_free)
{
    green_group_t *group = green_group_new(0, 0);
    assert_int_equal(green_group_spawn(group, sleep_until_cancelled, NULL), 0);
    assert_refused(green_group_wait(group, NULL, GREEN_MS(10)), ETIMEDOUT);
    assert_int_equal(green_group_size(group), 1);
    assert_int_equal(green_group_free(group), 0);
    assert_noted("start failed:1 finished");
}

HUB_TEST(groups_are_not_nested_the_outer_may_be_freed_first)
{
    green_group_t *outer = green_group_new(0, 0), *inner = green_group_new(0, 0);
    assert_int_equal(green_group_spawn(outer, sleep_until_cancelled, NULL), 0);
    assert_int_equal(green_group_spawn(inner, sleep_until_cancelled, NULL), 0);
    turn();
    assert_int_equal(green_group_free(outer), 0);
    assert_int_equal(green_group_size(inner), 1);
    assert_int_equal(green_group_free(inner), 0);
}

static void *fail_with_e1(void *unused)
{
    (void)unused;
    return fail_with(V(E1));
}

HUB_TEST(the_error_of_an_all_or_none_group_is_the_failure_not_the_cancel_that_followed)
{
    int error = 0;
    green_group_t *group = green_group_new(0, GREEN_ALL_OR_NONE);
    assert_int_equal(green_group_spawn(group, sleep_or_fail, V(1000)), 0);
    assert_int_equal(green_group_spawn(group, fail_with_e1, NULL), 0);
    assert_int_equal(green_group_spawn(group, sleep_or_fail, V(1000)), 0);
    assert_int_equal(green_group_wait(group, &error, GREEN_FOREVER), 0);
    assert_int_equal(error, E1);
    assert_int_equal(clock_ms(), 0);
    assert_refused(green_group_spawn(group, never, NULL), ECANCELED);
    assert_int_equal(green_group_free(group), 0);
}

HUB_TEST(in_a_group_without_all_or_none_a_failure_ends_nobody_else)
{
    int error = 0;
    green_group_t *group = green_group_new(0, 0);
    assert_int_equal(green_group_spawn(group, fail_with_e1, NULL), 0);
    assert_int_equal(green_group_spawn(group, sleep_for, V(30)), 0);
    assert_int_equal(green_group_wait(group, &error, GREEN_FOREVER), 0);
    assert_int_equal(error, E1);
    assert_int_equal(clock_ms(), 30);
    assert_int_equal(green_group_free(group), 0);
}

/* ---- The line behind who is cancelled ------------------------------------------ */

static green_semaphore_t semaphore;

static void *acquire(void *number)
{
    if (green_semaphore_acquire(&semaphore, GREEN_FOREVER) != 0)
        return GREEN_FAILED;
    return note_number(number);
}

HUB_TEST(a_unit_passes_over_who_was_cancelled_before_the_release)
{
    semaphore = (green_semaphore_t)GREEN_SEMAPHORE_INIT(0, 0);
    green_task_t *first = spawn(acquire, V(1)), *second = spawn(acquire, V(2));
    turn();
    assert_int_equal(green_task_cancel(first), 0);
    assert_int_equal(green_semaphore_release(&semaphore), 0);
    turn();
    assert_noted("2");
    assert_fails(finish(first), ECANCELED);
    assert_ptr_equal(finish(second), V(2));
    assert_refused(green_semaphore_acquire(&semaphore, GREEN_NOWAIT), ETIMEDOUT);
}

static green_queue_t *queues[3];

static void *select_three(void *unused)
{
    int items[3] = { 0, 0, 0 };
    green_case_t cases[3];
    for (int i = 0; i < 3; i++)
        cases[i] = (green_case_t)GREEN_CASE_GET(queues[i], &items[i]);
    must_fail(green_select(cases, 3, GREEN_FOREVER), ECANCELED);
    must(items[0] == 0 && items[1] == 0 && items[2] == 0);
    return unused;
}

HUB_TEST(a_cancelled_select_has_taken_nothing_and_stands_in_no_line)
{
    int item = 4;
    for (int i = 0; i < 3; i++)
        queues[i] = green_queue_new(sizeof(int), 1);
    green_task_t *task = spawn(select_three, NULL);
    turn();
    assert_refused(green_queue_free(queues[1]), EBUSY);
    assert_int_equal(green_task_cancel(task), 0);
    assert_int_equal(green_queue_put(queues[2], &item, GREEN_NOWAIT), 0);
    assert_int_equal(green_queue_size(queues[2]), 1);
    for (int i = 0; i < 3; i++)
        assert_int_equal(green_queue_free(queues[i]), 0);
    assert_null(finish(task));
}

static green_mutex_t mutex;
static green_cond_t cond;

static void *wait_for_cond(void *unused)
{
    must_be_0(green_mutex_lock(&mutex, GREEN_FOREVER));
    must_fail(green_cond_wait(&cond, &mutex, GREEN_FOREVER), ECANCELED);
    must_be_0(green_mutex_unlock(&mutex)); /* it has it */
    return unused;
}

HUB_TEST(a_cancelled_cond_wait_returns_with_the_mutex)
{
    mutex = (green_mutex_t)GREEN_MUTEX_INIT;
    cond = (green_cond_t)GREEN_COND_INIT;
    green_task_t *task = spawn(wait_for_cond, NULL);
    turn();
    assert_int_equal(green_mutex_lock(&mutex, GREEN_NOWAIT), 0);
    assert_int_equal(green_task_cancel(task), 0);
    nap(10); /* it waits for the mutex, cancelled or not */
    assert_refused(green_task_join(task, NULL, GREEN_NOWAIT), ETIMEDOUT);
    assert_int_equal(green_mutex_unlock(&mutex), 0);
    assert_null(finish(task));
}

static void *put_into(void *queue)
{
    int item = 3;
    must_fail(green_queue_put(queue, &item, GREEN_FOREVER), ECANCELED);
    return NULL;
}

HUB_TEST(a_cancelled_put_has_put_nothing)
{
    int item = 0;
    green_queue_t *queue = green_queue_new(sizeof(int), 0);
    green_task_t *task = spawn(put_into, queue);
    turn();
    assert_int_equal(green_task_cancel(task), 0);
    assert_refused(green_queue_get(queue, &item, GREEN_NOWAIT), ETIMEDOUT);
    assert_null(finish(task));
    assert_int_equal(green_queue_free(queue), 0);
}

/* ---- The second failure -------------------------------------------------------- */

static void *fail_two_and_two(void *unused)
{
    must_fail(green_sleep(1), ECANCELED);
    note("first");
    must_fail(green_sleep(1), ECANCELED);
    note("second");
    must_fail(green_sleep(0), ECANCELED);
    note("third");
    return unused;
}

HUB_TEST(from_the_second_failure_in_a_row_on_others_have_their_turns_first)
{
    green_task_t *task = spawn(fail_two_and_two, NULL);
    assert_int_equal(green_task_cancel(task), 0);
    green_task_t *other = spawn(note_number, V(1));
    turn();
    assert_noted("first 1");
    other = (must_be_0(green_task_free(other)), spawn(note_number, V(2)));
    turn();
    assert_noted("second 2");
    assert_null(finish(task));
    assert_noted("third");
    assert_int_equal(green_task_free(other), 0);
}

/* ---- errno ------------------------------------------------------------------------ */

static int refuses_mincore, mincore_calls;

#if !SANITIZED /* whose own may stand here */
/* The library counts a stack's pages by it when the stack first comes back. */
int mincore(void *address, size_t size, unsigned char *resident)
{
    if (!refuses_mincore)
        return (int)syscall(SYS_mincore, address, size, resident);
    mincore_calls++;
    errno = EAGAIN;
    return -1;
}
#endif

static green_event_t never_set = GREEN_EVENT_INIT;

static void *fail_by_a_cancel(void *unused)
{
    (void)unused;
    errno = 0;
    must(green_event_wait(&never_set, GREEN_FOREVER) == -1);
    return V(errno);
}

static void *cancel_and_end(void *task)
{
    must_be_0(green_task_cancel(task));
    return NULL;
}

/* In the world's time the end of a task has a short way. */
WORLD_TEST(what_the_end_of_who_cancels_it_does_to_errno_a_call_that_fails_does_not_see)
{
    const green_options_t large = { .stack_size = 300000 }; /* no such stack has come back yet */
    green_task_t *task = spawn(fail_by_a_cancel, NULL);
    turn();
    green_task_t *other = green_task_spawn_with(cancel_and_end, task, &large);
    assert_non_null(other);
    refuses_mincore = 1;
    assert_null(finish(other)); /* after the end of which it is entered at once */
    refuses_mincore = 0;
    if (!SANITIZED && !STRESSED && !under_valgrind())
        assert_true(mincore_calls > 0);
    assert_ptr_equal(finish(task), V(ECANCELED));
}

int main(void)
{
    return run_all_tests();
}
