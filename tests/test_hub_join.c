/* SPDX-License-Identifier: MIT */
/* Results, and who hears of failures: join, free, failed() (rules 12 to 14). */
#include "hubs.h"

static void *sleep_and_return(void *value)
{
    nap(10);
    return value;
}

static void *sleep_long(void *unused)
{
    (void)unused;
    return green_sleep(GREEN_SEC(10)) == 0 ? V(1) : GREEN_FAILED;
}

static void *sleep_and_fail(void *error)
{
    nap(10);
    return fail_with(error);
}

/* ---- Join ---------------------------------------------------------------------- */

/* gevent: TestJoin.test_returns_none_after_timeout, TestGet.test_raises_timeout_number */
HUB_TEST(a_join_that_takes_too_long_leaves_the_task_and_the_value)
{
    void *value = V(1);
    green_task_t *task = spawn(sleep_long, NULL);
    assert_refused(green_task_join(task, &value, GREEN_MS(200)), ETIMEDOUT);
    assert_int_equal(clock_ms(), 200);
    assert_ptr_equal(value, V(1));
    assert_int_equal(hub_stat(tasks), 2);
    assert_int_equal(green_state(green_task_green(task)), GREEN_SUSPENDED);
    assert_int_equal(green_task_join(task, &value, GREEN_SEC(10)), 0);
    assert_int_equal(green_task_free(task), 0);
}

static int count_green(green_t *g, void *greens)
{
    (void)g;
    ++*(int *)greens;
    return 0;
}

WORLD_TEST(the_green_of_a_task_is_dead_and_not_shown_as_soon_as_its_body_has_returned)
{
    int before = 0, after = 0;
    turn(); /* the hub is there */
    assert_int_equal(green_each(count_green, &before), 0);
    green_task_t *first = spawn(give_back, V(1)), *second = spawn(give_back, V(2));
    turn();
    assert_int_equal(green_state(green_task_green(first)), GREEN_DEAD);
    assert_int_equal(green_state(green_task_green(second)), GREEN_DEAD);
    assert_int_equal(green_each(count_green, &after), 0);
    assert_int_equal(after, before);
    assert_ptr_equal(finish(first), V(1));
    assert_ptr_equal(finish(second), V(2));
}

WORLD_TEST(a_join_waits_as_long_as_it_was_told_by_the_clock)
{
    green_task_t *task = spawn(sleep_long, NULL);
    int64_t begin = green_now();
    assert_refused(green_task_join(task, NULL, GREEN_MS(20)), ETIMEDOUT);
    assert_true(green_now() - begin >= GREEN_MS(20));
    assert_int_equal(green_task_free(task), 0);
}

/* gevent: TestStuff.test_wait_noerrors */
HUB_TEST(a_task_can_be_joined_again)
{
    green_task_t *tasks[3];
    void *value = NULL;
    for (int i = 0; i < 3; i++)
        tasks[i] = spawn(sleep_and_return, V(i + 1));
    for (int i = 0; i < 9; i++) {
        assert_int_equal(green_task_join(tasks[i % 3], &value, GREEN_FOREVER), 0);
        assert_ptr_equal(value, V(i % 3 + 1));
    }
    for (int i = 0; i < 3; i++)
        assert_int_equal(green_task_free(tasks[i]), 0);
    assert_int_equal(clock_ms(), 10);
}

struct joiner {
    green_task_t *task;
    int number;
};

static void *join_and_note(void *arg)
{
    struct joiner *joiner = arg;
    void *value = NULL;
    must_be_0(green_task_join(joiner->task, &value, GREEN_FOREVER));
    note("%d:%d", joiner->number, (int)(intptr_t)value);
    return NULL;
}

HUB_TEST(all_who_join_a_task_get_its_result_in_the_order_in_which_they_came)
{
    green_task_t *task = spawn(sleep_and_return, V(5));
    struct joiner joiners[10];
    for (int i = 0; i < 10; i++) {
        joiners[i] = (struct joiner){ task, i };
        must_be_0(green_task_detach(spawn(join_and_note, &joiners[i])));
    }
    nap(20);
    assert_noted("0:5 1:5 2:5 3:5 4:5 5:5 6:5 7:5 8:5 9:5");
    assert_int_equal(green_task_free(task), 0);
}

/* gevent: TestStart.test_start */
HUB_TEST(a_task_that_has_ended_is_cancelled_joined_and_freed_without_a_wait)
{
    green_task_t *task = spawn(give_back, V(2)), *other;
    void *value = NULL;
    turn();
    other = spawn(never, NULL);
    assert_int_equal(green_task_cancel(task), 0);
    assert_int_equal(green_task_cancel(task), 0);
    assert_int_equal(green_task_join(task, &value, GREEN_NOWAIT), 0);
    assert_ptr_equal(value, V(2));
    assert_int_equal(green_task_join(task, NULL, GREEN_FOREVER), 0);
    assert_int_equal(green_task_free(task), 0);
    assert_noted("");
    assert_ptr_equal(finish(other), NULL);
    assert_noted("ran");
}

HUB_TEST(a_task_cannot_join_itself)
{
    void *value = V(1);
    assert_refused(green_task_join(green_task_current(), &value, GREEN_FOREVER), EDEADLK);
    assert_refused(green_task_join(green_task_current(), &value, GREEN_NOWAIT), EDEADLK);
    assert_ptr_equal(value, V(1));
    assert_refused(green_task_join(NULL, NULL, GREEN_FOREVER), EINVAL);
}

static green_task_t *pair[2];

static void *join_other(void *number)
{
    return green_task_join(pair[1 - (intptr_t)number], NULL, GREEN_FOREVER) == 0 ? NULL
                                                                                : GREEN_FAILED;
}

HUB_TEST(main_hears_of_the_deadlock_of_two_that_join_each_other_and_they_wait_on)
{
    char text[2048], address[40];
    FILE *file = tmpfile();
    pair[0] = spawn(join_other, V(0));
    pair[1] = spawn(join_other, V(1));
    assert_refused(green_task_join(pair[0], NULL, GREEN_FOREVER), EDEADLK);
    assert_int_equal(hub_stat(tasks), 3);
    assert_int_equal(green_hub_dump(fileno(file)), 0);
    child_read(file, text, sizeof text);
    for (int i = 0; i < 2; i++) {
        snprintf(address, sizeof address, "in green_task_join(%p)", (void *)pair[i]);
        assert_non_null(strstr(text, address));
    }
    assert_int_equal(green_task_free(pair[0]), 0);
    assert_int_equal(green_task_free(pair[1]), 0);
}

static void *join_from_a_thread(void *task)
{
    must_fail(green_task_join(task, NULL, GREEN_FOREVER), EPERM);
    must_fail(green_task_join(task, NULL, GREEN_NOWAIT), EPERM);
    must_fail(green_task_cancel(task), EPERM);
    must_fail(green_task_free(task), EPERM);
    must_fail(green_task_detach(task), EPERM);
    return NULL;
}

HUB_TEST(a_task_of_another_thread_is_refused)
{
    green_task_t *task = spawn(sleep_and_return, V(3));
    turn();
    in_thread(join_from_a_thread, task);
    assert_ptr_equal(finish(task), V(3));
    task = spawn(give_back, V(4));
    turn();
    in_thread(join_from_a_thread, task);
    assert_ptr_equal(finish(task), V(4));
}

static void *join_main(void *main_task)
{
    return green_task_join(main_task, NULL, GREEN_FOREVER) == 0 ? NULL : GREEN_FAILED;
}

HUB_TEST(who_joins_main_waits_until_cancelled)
{
    green_task_t *task = spawn(join_main, green_task_current());
    nap(GREEN_SEC(100) / GREEN_MS(1));
    assert_int_equal(green_state(green_task_green(task)), GREEN_SUSPENDED);
    assert_int_equal(green_task_cancel(task), 0);
    assert_fails(finish(task), ECANCELED);
}

static void *join_target(void *target)
{
    must_fail(green_task_join(target, NULL, GREEN_FOREVER), ECANCELED);
    return NULL;
}

HUB_TEST(to_cancel_who_joins_leaves_the_joined)
{
    green_task_t *target = spawn(sleep_and_return, V(6)), *task = spawn(join_target, target);
    turn();
    assert_int_equal(green_task_cancel(task), 0);
    assert_null(finish(task));
    assert_int_equal(clock_ms(), 0);
    assert_ptr_equal(finish(target), V(6));
    assert_int_equal(clock_ms(), 10);
}

/* ---- By select ----------------------------------------------------------------- */

/* gevent: TestStuff.test_joinall_count_raise_error */
HUB_TEST(select_tells_which_task_has_ended_and_leaves_the_other)
{
    green_task_t *sleeper = spawn(sleep_long, NULL), *raiser = spawn(sleep_and_fail, V(E1));
    green_case_t cases[] = { GREEN_CASE_TASK(sleeper), GREEN_CASE_TASK(raiser) };
    assert_int_equal(green_select(cases, 2, GREEN_FOREVER), 1);
    assert_int_equal(cases[1].error, 0);
    assert_int_equal(hub_stat(tasks), 2);
    assert_int_equal(green_task_free(sleeper), 0);
    assert_fails(finish(raiser), E1);
    assert_int_equal(clock_ms(), 10);
}

/* gevent: test__joinall */
HUB_TEST(select_may_have_the_same_task_twice)
{
    green_task_t *task = spawn(sleep_and_return, V(1));
    green_case_t cases[] = { GREEN_CASE_TASK(task), GREEN_CASE_TASK(task) };
    assert_in_range(green_select(cases, 2, GREEN_FOREVER), 0, 1);
    assert_in_range(green_select(cases, 2, GREEN_NOWAIT), 0, 1);
    assert_ptr_equal(finish(task), V(1));
}

HUB_TEST(a_task_that_select_looked_at_has_not_been_joined)
{
    green_task_t *task = spawn(sleep_and_fail, V(E1));
    green_case_t c = GREEN_CASE_TASK(task);
    assert_int_equal(green_select(&c, 1, GREEN_FOREVER), 0);
    assert_int_equal(green_task_free(task), 0);
    assert_int_equal(hubs_held()->error, E1);
}

/* ---- Failures ------------------------------------------------------------------ */

HUB_TEST(a_join_gives_what_the_task_died_of)
{
    void *value = NULL;
    green_task_t *task = spawn(fail_with, V(E2));
    errno = 0;
    assert_int_equal(green_task_join(task, &value, GREEN_FOREVER), 0);
    assert_ptr_equal(value, GREEN_FAILED);
    assert_int_equal(errno, E2);
    errno = 0;
    assert_int_equal(green_task_join(task, &value, GREEN_FOREVER), 0);
    assert_int_equal(errno, E2);
    assert_int_equal(green_task_free(task), 0);
    assert_int_equal(hubs_held()->errors, 0);
}

HUB_TEST(failed_is_told_once_of_a_failure_that_nobody_has_joined)
{
    green_task_t *task = spawn(fail_with, V(E1));
    nap(1);
    assert_int_equal(hubs_held()->errors, 0); /* it is not released */
    assert_int_equal(green_task_free(task), 0);
    assert_int_equal(hubs_held()->errors, 1);
    assert_int_equal(hubs_held()->error, E1);
}

HUB_TEST(failed_is_told_of_a_detached_task_at_its_end)
{
    const green_options_t options = { .flags = GREEN_DETACHED };
    assert_non_null(green_task_spawn_with(sleep_and_fail, V(E1), &options));
    nap(11);
    assert_int_equal(hubs_held()->errors, 1);
    assert_int_equal(hubs_held()->error, E1);
    green_task_t *task = spawn(fail_with, V(E2));
    turn();
    assert_int_equal(green_task_detach(task), 0);
    assert_int_equal(hubs_held()->errors, 2);
    assert_int_equal(hubs_held()->error, E2);
}

HUB_TEST(failed_is_not_told_of_a_task_that_another_has_joined)
{
    green_task_t *task = spawn(sleep_and_fail, V(E1));
    struct joiner joiner = { task, 1 };
    green_task_t *other = spawn(join_and_note, &joiner);
    nap(20);
    assert_noted("1:-1");
    assert_int_equal(green_task_free(task), 0);
    assert_int_equal(green_task_free(other), 0);
    assert_int_equal(hubs_held()->errors, 0);
}

HUB_TEST(failed_is_not_told_of_a_task_that_was_joined_after_its_end)
{
    green_task_t *task = spawn(fail_with, V(E1));
    turn();
    assert_int_equal(green_task_join(task, NULL, GREEN_NOWAIT), 0);
    assert_int_equal(green_task_free(task), 0);
    assert_int_equal(hubs_held()->errors, 0);
}

HUB_TEST(failed_is_told_if_the_join_did_not_last)
{
    green_task_t *task = spawn(sleep_and_fail, V(E1));
    assert_refused(green_task_join(task, NULL, GREEN_MS(5)), ETIMEDOUT);
    assert_refused(green_task_join(task, NULL, GREEN_NOWAIT), ETIMEDOUT);
    nap(20);
    assert_int_equal(green_task_free(task), 0);
    assert_int_equal(hubs_held()->errors, 1);
}

static void *fail_when_cancelled(void *error)
{
    must_fail(green_sleep(GREEN_FOREVER), ECANCELED);
    return fail_with(error);
}

HUB_TEST(to_die_of_ecanceled_is_no_failure_to_die_of_another_error_when_cancelled_is)
{
    green_task_t *task = spawn(fail_when_cancelled, V(ECANCELED));
    turn();
    assert_int_equal(green_task_free(task), 0);
    assert_int_equal(hubs_held()->errors, 0);
    task = spawn(fail_with, V(ECANCELED)); /* of itself */
    turn();
    assert_int_equal(green_task_free(task), 0);
    assert_int_equal(hubs_held()->errors, 0);
    task = spawn(fail_when_cancelled, V(E1));
    turn();
    assert_int_equal(green_task_free(task), 0);
    assert_int_equal(hubs_held()->errors, 1);
}

HUB_TEST(failed_is_not_told_of_a_task_of_a_group)
{
    int error = 0;
    green_group_t *group = green_group_new(0, 0);
    assert_int_equal(green_group_spawn(group, fail_with, V(E1)), 0);
    assert_int_equal(green_group_wait(group, &error, GREEN_FOREVER), 0);
    assert_int_equal(error, E1);
    assert_int_equal(green_group_free(group), 0);
    assert_int_equal(hubs_held()->errors, 0);
}

static void look_in_failed(green_task_t *task, int error, void *data)
{
    green_hub_stats_t stats;
    must(data == V(11));
    must(green_state(green_task_green(task)) == GREEN_DEAD);
    must(strcmp(green_name(green_task_green(task)), "victim") == 0);
    must(green_now() > 0 && green_task_current() != NULL);
    must_be_0(green_hub_stats(&stats, sizeof stats));
    must_fail(green_sleep(0), EBUSY);
    must_fail(green_sleep(1), EBUSY);
    must(green_task_spawn(give_back, NULL) == NULL && errno == EBUSY);
    must_fail(green_task_cancel(task), EBUSY);
    must_fail(green_task_join(task, NULL, GREEN_NOWAIT), EBUSY);
    must_fail(green_task_free(task), EBUSY);
    must_fail(green_hub_end(GREEN_FOREVER), EBUSY);
    note("%d", error);
    errno = EILSEQ;
}

static void *with_a_failed_that_looks(void *unused)
{
    const green_hub_options_t hub = { .failed = look_in_failed, .data = V(11) };
    green_options_t options = { .name = "victim" };
    must_be_0(green_hub_init(&hub));
    green_task_t *task = green_task_spawn_with(fail_with, V(E1), &options);
    turn();
    must_be_0(green_task_free(task));
    options.flags = GREEN_DETACHED;
    must(green_task_spawn_with(fail_with, V(E2), &options) != NULL);
    turn();
    must_be_0(green_hub_end(GREEN_FOREVER));
    return unused;
}

HUB_TEST(failed_may_look_but_not_act)
{
    char text[64];
    in_thread(with_a_failed_that_looks, NULL);
    snprintf(text, sizeof text, "%d %d", E1, E2);
    assert_noted(text);
}

static int let_fail(void *unused)
{
    (void)unused;
    green_task_t *task = spawn(fail_with, V(E1));
    nap(1);
    must_be_0(green_task_free(task));
    return green_hub_end(GREEN_FOREVER);
}

TEST(nothing_is_printed_of_a_failure)
{
    struct child child = run_child(let_fail, NULL);
    assert_int_equal(child.status, 0);
    assert_int_equal(child.out_size + child.err_size, 0);
}

/* ---- Free ---------------------------------------------------------------------- */

static void *get_until_cancelled(void *queue)
{
    int item;
    must_fail(green_queue_get(queue, &item, GREEN_FOREVER), ECANCELED);
    note("failed");
    return NULL;
}

HUB_TEST(free_cancels_what_lives_and_waits_for_its_end)
{
    green_queue_t *queue = green_queue_new(sizeof(int), 1);
    green_task_t *task = spawn(get_until_cancelled, queue);
    turn();
    assert_refused(green_queue_free(queue), EBUSY);
    assert_int_equal(green_task_free(task), 0);
    assert_noted("failed");
    assert_int_equal(green_queue_free(queue), 0);
}

HUB_TEST(free_serves_those_first_who_join_the_task)
{
    green_task_t *task = spawn(sleep_long, NULL);
    struct joiner joiner = { task, 1 };
    green_task_t *other = spawn(join_and_note, &joiner);
    turn();
    assert_int_equal(green_task_free(task), 0);
    assert_noted("1:-1"); /* before the call has returned */
    assert_int_equal(green_task_free(other), 0);
}

static void *free_task(void *task)
{
    must_be_0(green_task_free(task));
    note("freed");
    return NULL;
}

static void *linger(void *ms)
{
    GREEN_SCOPE(shield, GREEN_FOREVER, GREEN_SHIELD);
    nap((intptr_t)ms);
    note("lingered");
    return NULL;
}

HUB_TEST(a_free_that_waits_is_under_a_shield)
{
    green_scope_t scope;
    green_task_t *task = spawn(linger, V(50)), *freer = spawn(free_task, task);
    turn();
    assert_int_equal(green_task_cancel(freer), 0);
    assert_int_equal(green_task_join(freer, NULL, GREEN_FOREVER), 0);
    assert_noted("lingered freed");
    assert_int_equal(clock_ms(), 50);
    assert_int_equal(green_task_free(freer), 0);
    task = spawn(linger, V(50));
    must_be_0(green_scope_begin(&scope, GREEN_MS(10), 0));
    assert_int_equal(green_task_free(task), 0); /* takes longer than its scope */
    assert_int_equal(clock_ms(), 100);
    assert_int_equal(green_scope_end(&scope), 0);
    assert_noted("lingered");
}

HUB_TEST(a_task_that_is_being_freed_is_not_freed_or_detached_by_another)
{
    green_task_t *task = spawn(linger, V(50)), *freer = spawn(free_task, task);
    turn();
    turn();
    assert_refused(green_task_free(task), EBUSY);
    assert_refused(green_task_detach(task), EBUSY);
    assert_int_equal(green_task_cancel(task), 0);
    assert_null(finish(freer));
    assert_noted("lingered freed");
}

static void *free_oneself(void *task)
{
    must_fail(green_task_free(*(green_task_t **)task), EDEADLK);
    must_be_0(green_task_check()); /* the refused call has not cancelled it */
    return V(8);
}

HUB_TEST(a_task_cannot_free_itself)
{
    green_task_t *task = spawn(free_oneself, &task);
    assert_ptr_equal(finish(task), V(8));
}

static green_event_t nobody_sets;

static void *wait_under_a_shield(void *unused)
{
    GREEN_SCOPE(shield, GREEN_FOREVER, GREEN_SHIELD);
    must_be_0(green_event_wait(&nobody_sets, GREEN_FOREVER));
    return unused;
}

HUB_TEST(to_free_one_that_cannot_end_is_a_deadlock_and_the_handle_stays_valid)
{
    nobody_sets = (green_event_t)GREEN_EVENT_INIT;
    green_task_t *task = spawn(wait_under_a_shield, NULL);
    turn();
    assert_refused(green_task_free(task), EDEADLK);
    assert_refused(green_task_free(task), EDEADLK);
    assert_refused(green_task_join(task, NULL, GREEN_MS(1)), ETIMEDOUT);
    assert_int_equal(green_event_set(&nobody_sets), 0);
    assert_int_equal(green_task_free(task), 0);
}

static void *spawn_fail_and_free(void *unused)
{
    (void)unused;
    green_task_t *child = spawn(sleep_long, NULL);
    turn();
    must_be_0(green_task_free(child));
    return fail_with(V(E1));
}

/* gevent: TestContextManager.test_suite_body_raises */
HUB_TEST(a_body_that_fails_frees_its_tasks_on_the_way_out)
{
    green_task_t *task = spawn(spawn_fail_and_free, NULL);
    assert_fails(finish(task), E1);
    assert_int_equal(clock_ms(), 0);
    assert_int_equal(hub_stat(tasks), 1);
}

/* ---- Groups -------------------------------------------------------------------- */

/* gevent: TestJoinAll */
HUB_TEST(a_group_wait_that_takes_too_long_leaves_those_who_live)
{
    green_group_t *group = green_group_new(0, 0);
    assert_int_equal(green_group_spawn(group, give_back, NULL), 0);
    assert_int_equal(green_group_spawn(group, sleep_and_return, NULL), 0);
    assert_int_equal(green_group_spawn(group, sleep_long, NULL), 0);
    assert_refused(green_group_wait(group, NULL, GREEN_MS(50)), ETIMEDOUT);
    assert_int_equal(green_group_size(group), 1);
    assert_int_equal(green_group_free(group), 0);
    assert_int_equal(clock_ms(), 50);
}

/* gevent: TestStuff.test_joinall_exception_order */
HUB_TEST(a_group_wait_tells_the_first_failure_not_that_of_the_first_spawned)
{
    int error = 0;
    green_group_t *group = green_group_new(0, 0);
    assert_int_equal(green_group_spawn(group, sleep_and_fail, V(E1)), 0);
    assert_int_equal(green_group_spawn(group, fail_with, V(E2)), 0);
    assert_int_equal(green_group_wait(group, &error, GREEN_FOREVER), 0);
    assert_int_equal(error, E2);
    assert_int_equal(green_group_wait(group, &error, GREEN_FOREVER), 0);
    assert_int_equal(error, 0);
    assert_int_equal(green_group_free(group), 0);
}

int main(void)
{
    return run_all_tests();
}
