/* SPDX-License-Identifier: MIT */
/* What runs at the end of a task, and whom it tells; errno (rule 22). */
#include "hubs.h"

static void set_event(void *event)
{
    must_be_0(green_event_set(event));
}

static int result;

static void *give_a_result(void *event)
{
    must_be_0(green_defer(set_event, event));
    nap(5);
    result = 5;
    return NULL;
}

/* gevent: test_link_to_asyncresult */
HUB_TEST(a_deferred_set_tells_those_who_wait_after_the_body)
{
    green_event_t event = GREEN_EVENT_INIT;
    result = 0;
    green_task_t *task = spawn(give_a_result, &event);
    assert_int_equal(green_event_wait(&event, GREEN_FOREVER), 0);
    assert_int_equal(result, 5);
    assert_int_equal(green_task_free(task), 0);
}

static int last, disorder;

static void in_order(void *number)
{
    disorder += (intptr_t)number != last - 1;
    last--;
}

static void *defer_many(void *n)
{
    for (intptr_t i = 0; i < (intptr_t)n; i++)
        must_be_0(green_defer(in_order, V(i)));
    last = (int)(intptr_t)n;
    return NULL;
}

/* gevent: test__order test_greenlet_link */
HUB_TEST(deferred_functions_run_innermost_first_before_the_join_returns)
{
    static const int numbers[] = { 2, 3, 100, 1000 };
    for (int i = 0; i < 4; i++) {
        disorder = 0;
        green_task_t *task = spawn(defer_many, V(numbers[i]));
        assert_int_equal(green_task_join(task, NULL, GREEN_FOREVER), 0);
        assert_int_equal(last, 0);
        assert_int_equal(disorder, 0);
        assert_int_equal(green_task_free(task), 0);
    }
}

/* gevent: test_multiple_listeners_error_unlink */
static void *take_one_back(void *unused)
{
    must_be_0(green_defer(note_arg, (void *)"first"));
    must_be_0(green_defer(note_arg, (void *)"second"));
    must_be_0(green_undefer(0));
    return unused;
}

HUB_TEST(a_deferred_function_that_was_taken_back_does_not_run)
{
    green_task_t *task = spawn(take_one_back, NULL);
    assert_null(finish(task));
    assert_noted("first");
}

static green_queue_t *queue;

static void *put_the_result(void *number)
{
    int item = (int)(intptr_t)number;
    must_be_0(green_queue_put(queue, &item, GREEN_FOREVER));
    return NULL;
}

/* gevent: test_link_to_queue, test_link_to_channel */
HUB_TEST(results_that_tasks_put_into_a_queue_are_got_each_once)
{
    for (size_t capacity = 0; capacity <= 3; capacity += 3) {
        queue = green_queue_new(sizeof(int), capacity);
        for (int i = 1; i <= 3; i++)
            must_be_0(green_task_detach(spawn(put_the_result, V(i))));
        for (int i = 1; i <= 3; i++) {
            int item = 0;
            assert_int_equal(green_queue_get(queue, &item, GREEN_FOREVER), 0);
            assert_int_equal(item, i);
        }
        int item = 0;
        assert_refused(green_queue_get(queue, &item, GREEN_NOWAIT), ETIMEDOUT);
        assert_int_equal(green_hub_wait(GREEN_FOREVER), 0);
        assert_int_equal(green_queue_free(queue), 0);
    }
}

/* ---- Clean-up that waits ------------------------------------------------------- */

static void nap_in_clean_up(void *arg)
{
    note("%s", green_sleep(GREEN_MS(5)) == 0 ? "slept" : errno == ECANCELED ? "failed" : "?");
    (void)arg;
}

static void nap_under_a_shield(void *arg)
{
    GREEN_SCOPE(shield, GREEN_FOREVER, GREEN_SHIELD);
    nap_in_clean_up(arg);
}

static void *defer_naps(void *cancelled)
{
    must_be_0(green_defer(nap_in_clean_up, NULL));
    must_be_0(green_defer(nap_under_a_shield, NULL));
    if (cancelled != NULL)
        must_be_0(green_task_cancel(green_task_current()));
    return V(3);
}

HUB_TEST(a_deferred_function_may_wait_and_the_join_returns_after_it)
{
    green_task_t *task = spawn(defer_naps, NULL);
    assert_ptr_equal(finish(task), V(3));
    assert_noted("slept slept");
    assert_int_equal(clock_ms(), 10);
}

HUB_TEST(in_a_cancelled_task_it_waits_only_under_a_shield)
{
    green_task_t *task = spawn(defer_naps, V(1));
    assert_ptr_equal(finish(task), V(3));
    assert_noted("slept failed");
    assert_int_equal(clock_ms(), 5);
}

static green_key_t key;

static void *leave_a_value(void *unused)
{
    must_be_0(green_setspecific(key, V(1)));
    return unused;
}

HUB_TEST(the_destructor_of_a_key_may_wait_too)
{
    must_be_0(green_key_create(&key, nap_in_clean_up));
    green_task_t *task = spawn(leave_a_value, NULL);
    assert_null(finish(task));
    assert_noted("slept");
    must_be_0(green_key_delete(key));
}

static void fail_in_clean_up(void *error)
{
    errno = (int)(intptr_t)error;
    green_exit(GREEN_FAILED);
}

static void *defer_a_failure(void *error)
{
    must_be_0(green_defer(fail_in_clean_up, error));
    return V(1);
}

static void change_errno(void *unused)
{
    (void)unused;
    nap(1);
    errno = EILSEQ;
}

static void *fail_and_clean_up(void *error)
{
    must_be_0(green_defer(change_errno, NULL));
    return fail_with(error);
}

HUB_TEST(the_result_of_a_task_is_what_its_clean_up_leaves_and_errno_what_the_body_left)
{
    green_task_t *task = spawn(defer_a_failure, V(E1));
    assert_fails(finish(task), E1);
    task = spawn(fail_and_clean_up, V(E2));
    assert_fails(finish(task), E2);
}

/* ---- errno --------------------------------------------------------------------- */

static void *spoil_errno(void *n)
{
    for (intptr_t i = 0; i < (intptr_t)n; i++) {
        errno = EILSEQ;
        (void)green_sleep(0);
    }
    errno = EILSEQ;
    return NULL;
}

static void *keep_errno(void *event)
{
    errno = E1;
    turn();
    must(errno == E1);
    nap(1);
    must(errno == E1);
    must_be_0(green_event_wait(event, GREEN_FOREVER));
    must(errno == E1);
    green_yield(NULL);
    must(errno == E1);
    for (int i = 0; i < 100; i++) /* some let others run */
        must_be_0(green_event_wait(event, GREEN_FOREVER));
    must(errno == E1);
    return NULL;
}

/* gevent: errno is per task */
HUB_TEST(what_others_do_while_a_call_waits_does_not_change_errno)
{
    green_event_t event = GREEN_EVENT_INIT;
    must_be_0(green_task_detach(spawn(spoil_errno, V(50))));
    green_task_t *task = spawn(keep_errno, &event);
    nap(5);
    errno = E2;
    assert_int_equal(green_event_set(&event), 0);
    assert_null(finish(task));
}

HUB_TEST(a_call_that_fails_says_why_whatever_others_did_meanwhile)
{
    green_event_t event = GREEN_EVENT_INIT;
    must_be_0(green_task_detach(spawn(spoil_errno, V(10))));
    assert_refused(green_event_wait(&event, GREEN_MS(10)), ETIMEDOUT);
    must_be_0(green_task_detach(spawn(spoil_errno, V(10))));
    must_be_0(green_task_cancel(green_task_current()));
    for (int i = 0; i < 3; i++)
        assert_refused(green_event_wait(&event, GREEN_MS(10)), ECANCELED);
}

static void *join_a_failed_one(void *task)
{
    void *value;
    must_be_0(green_task_join(task, &value, GREEN_FOREVER));
    must(value == GREEN_FAILED && errno == E1);
    return NULL;
}

static void *nap_and_fail(void *error)
{
    nap(5);
    return fail_with(error);
}

HUB_TEST(who_joins_a_failed_task_finds_what_it_died_of_whatever_others_did_meanwhile)
{
    green_task_t *failed = spawn(nap_and_fail, V(E1));
    green_task_t *joiner = spawn(join_a_failed_one, failed);
    must_be_0(green_task_detach(spawn(spoil_errno, V(10))));
    assert_null(finish(joiner));
    assert_int_equal(green_task_free(failed), 0);
}

/* ---- Ends after which others have their turns: these have a short way ----------------- */

static green_key_t ends_key;

static void *give_a_turn(void *value)
{
    must_be_0(green_sleep(0));
    return value;
}

static void *give_a_turn_with_a_deferred(void *text)
{
    must_be_0(green_defer(note_arg, text));
    return give_a_turn(text);
}

static void *give_a_turn_with_a_value(void *text)
{
    must_be_0(green_setspecific(ends_key, text));
    return give_a_turn(text);
}

static void finish_all(green_task_t *const *tasks, int count)
{
    for (int i = 0; i < count; i++)
        (void)finish(tasks[i]);
}

WORLD_TEST(what_a_task_holds_at_its_end_is_let_go_where_others_are_ready)
{
    must_be_0(green_key_create(&ends_key, note_arg));
    green_task_t *tasks[] = {
        spawn(give_a_turn, NULL), spawn(give_a_turn_with_a_deferred, "deferred"),
        spawn(give_a_turn, NULL), spawn(give_a_turn_with_a_value, "value"),
        spawn(give_a_turn, NULL),
    };
    finish_all(tasks, 5);
    assert_noted("deferred value");
    must_be_0(green_key_delete(ends_key));
}

static void count_the_dead(green_trace_event_t event, green_t *from, green_t *to, void *count)
{
    (void)event, (void)to;
    *(int *)count += green_state(from) == GREEN_DEAD;
}

WORLD_TEST(a_hook_sees_each_end_where_others_are_ready)
{
    int dead = 0;
    green_task_t *tasks[] = { spawn(give_a_turn, NULL), spawn(give_a_turn, NULL),
                              spawn(give_a_turn, NULL) };
    green_set_trace(count_the_dead, &dead);
    finish_all(tasks, 3);
    green_set_trace(NULL, NULL);
    assert_int_equal(dead, 3);
}

int main(void)
{
    return run_all_tests();
}
