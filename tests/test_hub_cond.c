/* SPDX-License-Identifier: MIT */
/* Conditions, with and without a mutex. */
#include "hubs.h"

static green_mutex_t mutex;
static green_cond_t cond;

static int begin(void **state)
{
    mutex = (green_mutex_t)GREEN_MUTEX_INIT;
    cond = (green_cond_t)GREEN_COND_INIT;
    return hubs_begin_virtual(state);
}

#define COND_TEST(sentence) TEST_WITH(sentence, begin, hubs_end)

static void lock(void)
{
    must_be_0(green_mutex_lock(&mutex, GREEN_FOREVER));
}

static void unlock(void)
{
    must_be_0(green_mutex_unlock(&mutex));
}

/* ---- The mutex ------------------------------------------------------------------------------- */

/* gevent: test_unacquired_wait, test_unacquired_notify */
COND_TEST(to_wait_one_must_have_the_mutex_to_signal_not)
{
    assert_refused(green_cond_wait(&cond, &mutex, GREEN_FOREVER), EPERM);
    assert_refused(green_cond_wait(&cond, &mutex, GREEN_NOWAIT), EPERM);
    assert_int_equal(green_cond_signal(&cond, 1), 0);
    assert_int_equal(green_cond_signal(&cond, 0), 0);
    assert_int_equal(green_cond_signal(&cond, GREEN_EVERYBODY), 0);
    assert_refused(green_cond_wait(NULL, &mutex, GREEN_FOREVER), EINVAL);
    assert_refused(green_cond_signal(NULL, 1), EINVAL);
}

/* gevent: test_timeout; CPython: #33638 */
COND_TEST(a_wait_whose_time_is_over_has_the_mutex_again)
{
    lock();
    assert_refused(green_cond_wait(&cond, &mutex, GREEN_MS(200)), ETIMEDOUT);
    assert_int_equal(clock_ms(), 200);
    unlock();
    lock();
    assert_refused(green_cond_wait(&cond, &mutex, GREEN_NOWAIT), ETIMEDOUT);
    unlock();
}

static void *wait_and_note(void *number)
{
    lock();
    for (int i = 0; i < 2; i++) {
        must_be_0(green_cond_wait(&cond, &mutex, GREEN_FOREVER));
        note_number(number);
    }
    unlock();
    return NULL;
}

/* gevent: _check_notify */
COND_TEST(a_signal_wakes_the_first_n_who_wait)
{
    green_task_t *tasks[5];
    for (int i = 0; i < 5; i++)
        tasks[i] = spawn(wait_and_note, V(i));
    turn();
    assert_int_equal(green_cond_signal(&cond, 3), 0);
    turn();
    turn();
    turn();
    turn();
    assert_noted("0 1 2");
    assert_int_equal(green_cond_signal(&cond, 5), 0);
    for (int i = 0; i < 10; i++)
        turn();
    assert_noted("3 4 0 1 2");
    assert_int_equal(green_cond_signal(&cond, GREEN_EVERYBODY), 0);
    for (int i = 0; i < 5; i++)
        finish(tasks[i]);
    assert_noted("3 4");
}

static void *signal_it(void *unused)
{
    lock();
    note("locked");
    must_be_0(green_cond_signal(&cond, 1));
    turn();
    note("unlocks");
    unlock();
    return unused;
}

COND_TEST(the_mutex_is_unlocked_while_one_waits_and_locked_before_the_return)
{
    lock();
    green_task_t *task = spawn(signal_it, NULL);
    turn();
    assert_noted("");
    assert_int_equal(green_cond_wait(&cond, &mutex, GREEN_FOREVER), 0);
    assert_noted("locked unlocks");
    unlock();
    finish(task);
}

COND_TEST(a_recursive_mutex_is_unlocked_wholly_and_as_deep_again_at_the_return)
{
    mutex = (green_mutex_t)GREEN_MUTEX_INIT_RECURSIVE;
    lock();
    lock();
    green_task_t *task = spawn(signal_it, NULL);
    assert_int_equal(green_cond_wait(&cond, &mutex, GREEN_FOREVER), 0);
    assert_noted("locked unlocks");
    unlock();
    unlock();
    assert_refused(green_mutex_unlock(&mutex), EPERM);
    finish(task);
}

/* ---- Without a mutex ------------------------------------------------------------------------- */

static bool ready;

static void *make_ready(void *unused)
{
    ready = true;
    must_be_0(green_cond_signal(&cond, GREEN_EVERYBODY));
    return unused;
}

COND_TEST(no_mutex_is_needed_as_nobody_runs_between_the_look_and_the_wait)
{
    ready = false;
    green_task_t *task = spawn(make_ready, NULL);
    while (!ready)
        assert_int_equal(green_cond_wait(&cond, NULL, GREEN_FOREVER), 0);
    finish(task);
}

COND_TEST(a_signal_is_not_kept_for_those_who_come)
{
    assert_int_equal(green_cond_signal(&cond, GREEN_EVERYBODY), 0);
    assert_refused(green_cond_wait(&cond, NULL, GREEN_MS(1)), ETIMEDOUT);
}

/* ---- Cancel ---------------------------------------------------------------------------------- */

static void *wait_in_vain(void *result)
{
    lock();
    must_fail(green_cond_wait(&cond, &mutex, GREEN_FOREVER), ECANCELED);
    note("back:%d", (int)clock_ms());
    unlock();
    return result;
}

COND_TEST(who_is_cancelled_in_it_has_the_mutex_when_it_fails)
{
    green_task_t *task = spawn(wait_in_vain, NULL);
    turn();
    assert_int_equal(green_task_cancel(task), 0);
    finish(task);
    assert_noted("back:0");
}

COND_TEST(who_is_cancelled_waits_for_the_mutex_under_a_shield)
{
    green_task_t *task = spawn(wait_in_vain, NULL);
    turn();
    lock();
    assert_int_equal(green_task_cancel(task), 0);
    nap(50);
    assert_noted("");
    unlock();
    finish(task);
    assert_noted("back:50");
}

static void *wait_in_scope(void *unused)
{
    green_scope_t scope;
    lock();
    must_be_0(green_scope_begin(&scope, GREEN_MS(10), 0));
    must_fail(green_cond_wait(&cond, &mutex, GREEN_FOREVER), ETIMEDOUT);
    note("back:%d", (int)clock_ms());
    must(green_scope_end(&scope) == 1);
    unlock();
    return unused;
}

COND_TEST(who_runs_out_of_time_waits_for_the_mutex_under_a_shield)
{
    green_task_t *task = spawn(wait_in_scope, NULL);
    turn();
    lock();
    nap(50);
    assert_noted("");
    unlock();
    finish(task);
    assert_noted("back:50");
}

COND_TEST(who_is_cancelled_before_is_not_counted_by_a_signal)
{
    green_task_t *a = spawn(wait_in_vain, NULL), *b = spawn(wait_and_note, V(2));
    turn();
    assert_int_equal(green_task_cancel(a), 0);
    assert_int_equal(green_cond_signal(&cond, 1), 0);
    turn();
    turn();
    assert_noted("back:0 2");
    assert_int_equal(green_cond_signal(&cond, 1), 0);
    finish(a);
    finish(b);
    assert_noted("2");
}

static void *serve_then_cancel(void *unused)
{
    lock();
    must_be_0(green_cond_wait(&cond, &mutex, GREEN_FOREVER));
    note("served");
    unlock();
    return unused;
}

COND_TEST(who_is_cancelled_after_the_signal_has_been_served)
{
    green_task_t *task = spawn(serve_then_cancel, NULL);
    turn();
    assert_int_equal(green_cond_signal(&cond, 1), 0);
    assert_int_equal(green_task_cancel(task), 0);
    finish(task);
    assert_noted("served");
}

/* ---- Deadlock -------------------------------------------------------------------------------- */

static void *lock_for_ever(void *unused)
{
    lock();
    return unused;
}

COND_TEST(a_mutex_that_cannot_be_had_again_is_a_deadlock_and_then_it_is_not_held)
{
    lock();
    green_task_t *task = spawn(lock_for_ever, NULL);
    assert_refused(green_cond_wait(&cond, &mutex, GREEN_MS(5)), EDEADLK);
    assert_refused(green_mutex_unlock(&mutex), EPERM);
    finish(task);
}

/* ---- A recipe -------------------------------------------------------------------------------- */

/* The largest first: what a queue with priorities is made of. */
static struct {
    int items[8], count;
} heap;

static void put_largest(int item)
{
    heap.items[heap.count++] = item;
    must_be_0(green_cond_signal(&cond, 1));
}

static int get_largest(void)
{
    int best = 0;
    while (heap.count == 0)
        must_be_0(green_cond_wait(&cond, NULL, GREEN_FOREVER));
    for (int i = 1; i < heap.count; i++)
        best = heap.items[i] > heap.items[best] ? i : best;
    int item = heap.items[best];
    heap.items[best] = heap.items[--heap.count];
    return item;
}

static void *get_three(void *unused)
{
    for (int i = 0; i < 3; i++)
        note("%d", get_largest());
    return unused;
}

COND_TEST(a_heap_and_a_condition_are_a_queue_with_priorities)
{
    heap.count = 0;
    green_task_t *task = spawn(get_three, NULL);
    turn();
    put_largest(2);
    put_largest(9);
    put_largest(4);
    finish(task);
    assert_noted("9 4 2");
}

int main(void)
{
    return run_all_tests();
}
