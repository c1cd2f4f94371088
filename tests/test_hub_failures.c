/* SPDX-License-Identifier: MIT */
/*
 * Failures in a row of a task that is cancelled, or whose scope is over: from the second on,
 * the others run first (rule 9 of green_hub.h).
 */
#include <green_hub.h>

#include "testing.h"

static void *note_that_it_runs(void *unused)
{
    note("other");
    return unused;
}

/* A call that fails with this error: whether others run first is noted. */
static void fail_once(int error)
{
    green_task_t *other = green_task_spawn(note_that_it_runs, NULL);
    must(other != NULL && green_task_detach(other) == 0);
    must(green_sleep(1) == -1 && errno == error);
    note("failed");
}

static void run_in_task(green_fn *run)
{
    green_task_t *task = green_task_spawn(run, NULL);
    assert_non_null(task);
    assert_int_equal(green_task_join(task, NULL, GREEN_FOREVER), 0);
    assert_int_equal(green_task_free(task), 0);
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
}

/* ---- The first and the second --------------------------------------------------- */

static void *fail_twice(void *unused)
{
    must(green_task_cancel(green_task_current()) == 0);
    fail_once(ECANCELED);
    fail_once(ECANCELED);
    return unused;
}

TEST(the_second_failure_lets_the_others_run_first_the_first_does_not)
{
    run_in_task(fail_twice);
    assert_noted("failed other other failed");
}

static void *fail_around_a_success(void *unused)
{
    green_scope_t shield;
    must(green_task_cancel(green_task_current()) == 0);
    fail_once(ECANCELED);
    must(green_scope_begin(&shield, GREEN_FOREVER, GREEN_SHIELD) == 0);
    must(green_sleep(0) == 0);
    must(green_scope_end(&shield) == 0);
    fail_once(ECANCELED);
    return unused;
}

TEST(a_call_that_succeeds_ends_the_row)
{
    run_in_task(fail_around_a_success);
    assert_noted("failed other failed other");
}

/* ---- What counts ------------------------------------------------------------------ */

static green_mutex_t mutex;
static green_cond_t cond;

static void *wait_for_cond(void *unused)
{
    must(green_mutex_lock(&mutex, GREEN_FOREVER) == 0);
    must(green_cond_wait(&cond, &mutex, GREEN_FOREVER) == -1 && errno == ECANCELED);
    fail_once(ECANCELED);
    return unused;
}

TEST(a_cond_wait_that_failed_counts_though_its_mutex_was_waited_for)
{
    mutex = (green_mutex_t)GREEN_MUTEX_INIT;
    cond = (green_cond_t)GREEN_COND_INIT;
    green_task_t *task = green_task_spawn(wait_for_cond, NULL);
    assert_int_equal(green_sleep(0), 0);
    assert_int_equal(green_mutex_lock(&mutex, GREEN_FOREVER), 0);
    assert_int_equal(green_task_cancel(task), 0);
    assert_int_equal(green_sleep(0), 0);
    assert_int_equal(green_mutex_unlock(&mutex), 0);
    assert_int_equal(green_task_free(task), 0);
    assert_noted("other failed");
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
}

TEST(a_hub_run_whose_scope_is_over_counts)
{
    green_scope_t scope;
    green_hub_t *handle = green_hub_open(); /* something may come */
    assert_non_null(handle);
    assert_int_equal(green_scope_begin(&scope, GREEN_MS(1), 0), 0);
    assert_int_equal(green_hub_run(GREEN_FOREVER), -1);
    assert_int_equal(errno, ETIMEDOUT);
    fail_once(ETIMEDOUT);
    assert_noted("other failed");
    assert_int_equal(green_scope_end(&scope), 1);
    assert_int_equal(green_hub_close(handle), 0);
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
}

static void *close_queue(void *queue)
{
    must(green_queue_close(queue) == 0);
    return NULL;
}

static void *select_a_closed_queue(void *queue)
{
    int item;
    green_scope_t shield;
    green_case_t c = GREEN_CASE_GET(queue, &item);
    must(green_task_cancel(green_task_current()) == 0);
    fail_once(ECANCELED);
    must(green_scope_begin(&shield, GREEN_FOREVER, GREEN_SHIELD) == 0);
    must(green_select(&c, 1, GREEN_FOREVER) == 0 && c.error == EPIPE);
    must(green_scope_end(&shield) == 0);
    fail_once(ECANCELED);
    return NULL;
}

TEST(a_select_that_returns_a_case_ends_the_row_though_the_case_has_an_error)
{
    green_queue_t *queue = green_queue_new(sizeof(int), 0);
    green_task_t *selects = green_task_spawn(select_a_closed_queue, queue);
    green_task_t *closes = green_task_spawn(close_queue, queue);
    assert_int_equal(green_task_join(selects, NULL, GREEN_FOREVER), 0);
    assert_int_equal(green_task_free(selects), 0);
    assert_int_equal(green_task_free(closes), 0);
    assert_int_equal(green_queue_free(queue), 0);
    assert_noted("failed other failed other");
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
}

/*
 * The task's green waits for the event, one below it for time.  It is another task that has
 * started that one, as the task itself could not wait meanwhile.
 */
static green_event_t event;
static green_t *below, *starter;

static void *fail_below(void *unused)
{
    green_scope_t scope;
    must(green_scope_begin(&scope, GREEN_MS(10), 0) == 0);
    must(green_sleep(GREEN_FOREVER) == -1 && errno == ETIMEDOUT);
    must(green_scope_end(&scope) == 1);
    must(green_event_set(&event) == 0);
    must(green_switch(starter, NULL) == GREEN_FAILED && errno == ECANCELED);
    return unused;
}

static void *start_below(void *unused)
{
    starter = green_current();
    must(green_switch(below, NULL) == NULL);
    return unused;
}

static void *sleep_briefly(void *unused)
{
    must(green_sleep(GREEN_MS(1)) == 0);
    return unused;
}

static void *wait_while_one_below_fails(void *unused)
{
    green_scope_t scope;
    green_t *sleeper = green_new(sleep_briefly, NULL);
    below = green_new(fail_below, NULL);
    must(sleeper != NULL && below != NULL);
    must(green_switch(sleeper, NULL) == NULL && green_free(sleeper) == 0);
    must(green_event_wait(&event, GREEN_FOREVER) == 0);
    must(green_scope_begin(&scope, 0, 0) == 0);
    fail_once(ETIMEDOUT);
    must(green_scope_end(&scope) == 1);
    return unused;
}

TEST(a_wait_that_succeeds_ends_the_row_that_one_below_has_begun_meanwhile)
{
    const green_hub_options_t options = { .flags = GREEN_HUB_VIRTUAL_TIME };
    event = (green_event_t)GREEN_EVENT_INIT;
    assert_int_equal(green_hub_init(&options), 0);
    green_task_t *waits = green_task_spawn(wait_while_one_below_fails, NULL);
    green_task_t *starts = green_task_spawn(start_below, NULL);
    assert_int_equal(green_task_join(waits, NULL, GREEN_FOREVER), 0);
    assert_int_equal(green_task_join(starts, NULL, GREEN_FOREVER), 0);
    assert_noted("failed other");
    assert_int_equal(green_free(below), 0);
    assert_int_equal(green_task_free(waits), 0);
    assert_int_equal(green_task_free(starts), 0);
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
}

int main(void)
{
    return run_all_tests();
}
