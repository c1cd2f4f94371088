/* SPDX-License-Identifier: MIT */
/* Mutexes: the task owns them, and they are handed on. */
#include "hubs.h"

static green_mutex_t mutex;

static int begin(void **state)
{
    mutex = (green_mutex_t)GREEN_MUTEX_INIT;
    return hubs_begin_virtual(state);
}

static int begin_recursive(void **state)
{
    mutex = (green_mutex_t)GREEN_MUTEX_INIT_RECURSIVE;
    return hubs_begin_virtual(state);
}

#define MUTEX_TEST(sentence) TEST_WITH(sentence, begin, hubs_end)
#define RECURSIVE_TEST(sentence) TEST_WITH(sentence, begin_recursive, hubs_end)

static void lock(void)
{
    must_be_0(green_mutex_lock(&mutex, GREEN_FOREVER));
}

static void unlock(void)
{
    must_be_0(green_mutex_unlock(&mutex));
}

/* ---- Owners ---------------------------------------------------------------------------------- */

/* gevent: LockTests.test_reacquire */
MUTEX_TEST(its_owner_cannot_lock_it_again)
{
    lock();
    assert_refused(green_mutex_lock(&mutex, GREEN_FOREVER), EDEADLK);
    assert_refused(green_mutex_lock(&mutex, GREEN_NOWAIT), EDEADLK);
    unlock();
    assert_refused(green_mutex_unlock(&mutex), EPERM);
}

/* gevent: RLockTests.test_reacquire */
RECURSIVE_TEST(the_owner_of_a_recursive_one_can_and_must_unlock_it_as_often)
{
    lock();
    lock();
    unlock();
    lock();
    unlock();
    unlock();
    assert_refused(green_mutex_unlock(&mutex), EPERM);
}

static void *try_it(void *error)
{
    int result = green_mutex_lock(&mutex, GREEN_NOWAIT);
    must(error == NULL ? result == 0 : result == -1 && errno == (int)(intptr_t)error);
    if (result == 0)
        unlock();
    return NULL;
}

RECURSIVE_TEST(a_recursive_one_is_free_only_after_the_last_unlock)
{
    lock();
    lock();
    unlock();
    finish(spawn(try_it, V(ETIMEDOUT)));
    unlock();
    finish(spawn(try_it, NULL));
}

static void *unlock_not_owned(void *unused)
{
    must_fail(green_mutex_unlock(&mutex), EPERM);
    return unused;
}

/* gevent: RLockTests.test_release_unacquired */
MUTEX_TEST(who_does_not_have_it_cannot_unlock_it)
{
    assert_refused(green_mutex_unlock(&mutex), EPERM);
    lock();
    finish(spawn(unlock_not_owned, NULL));
    finish(spawn(try_it, V(ETIMEDOUT)));
    unlock();
    finish(spawn(try_it, NULL));
}

MUTEX_TEST(null_is_no_mutex_and_zeroed_memory_is_one)
{
    assert_refused(green_mutex_lock(NULL, GREEN_NOWAIT), EINVAL);
    assert_refused(green_mutex_unlock(NULL), EINVAL);
    memset(&mutex, 0, sizeof mutex);
    lock();
    assert_refused(green_mutex_lock(&mutex, GREEN_FOREVER), EDEADLK);
    unlock();
}

static void *lock_in_generator(void *unused)
{
    lock();
    return unused;
}

static void *generator_locks(void *unused)
{
    green_t *generator = green_new(lock_in_generator, NULL);
    must(green_switch(generator, NULL) == NULL);
    must_be_0(green_free(generator));
    must_fail(green_mutex_lock(&mutex, GREEN_FOREVER), EDEADLK);
    unlock();
    return unused;
}

MUTEX_TEST(the_owner_is_the_task_not_the_green_that_locks)
{
    finish(spawn(generator_locks, NULL));
    finish(spawn(try_it, NULL));
}

/* ---- Order ----------------------------------------------------------------------------------- */

static void *pass_through(void *number)
{
    lock();
    note_number(number);
    turn();
    note_number(number);
    unlock();
    return NULL;
}

/* gevent: BaseLockTests.test_acquire_contended */
MUTEX_TEST(those_who_wait_have_it_one_after_the_other_in_the_order_in_which_they_came)
{
    green_task_t *tasks[5];
    lock();
    for (int i = 0; i < 5; i++)
        tasks[i] = spawn(pass_through, V(i));
    turn();
    turn();
    assert_noted("");
    unlock();
    for (int i = 0; i < 5; i++)
        finish(tasks[i]);
    assert_noted("0 0 1 1 2 2 3 3 4 4");
}

MUTEX_TEST(one_that_was_handed_on_is_not_there_for_who_has_unlocked_it)
{
    lock();
    green_task_t *task = spawn(pass_through, V(1));
    turn();
    unlock();
    assert_refused(green_mutex_lock(&mutex, GREEN_NOWAIT), ETIMEDOUT);
    lock();
    assert_noted("1 1");
    unlock();
    finish(task);
}

MUTEX_TEST(a_lock_waits_for_its_time_and_fails)
{
    green_scope_t scope;
    finish(spawn(lock_in_generator, NULL)); /* who has it, is no more */
    assert_refused(green_mutex_lock(&mutex, GREEN_MS(10)), ETIMEDOUT);
    assert_int_equal(clock_ms(), 10);
    assert_int_equal(green_scope_begin(&scope, GREEN_MS(5), 0), 0);
    assert_refused(green_mutex_lock(&mutex, GREEN_FOREVER), ETIMEDOUT);
    assert_int_equal(green_scope_end(&scope), 1);
    assert_int_equal(clock_ms(), 15);
}

static void *lock_and_wait(void *unused)
{
    must_be_0(green_mutex_lock(&mutex, GREEN_FOREVER));
    must_fail(green_sleep(0), ECANCELED);
    unlock();
    return unused;
}

/* CPython: bpo-27585 */
MUTEX_TEST(who_is_cancelled_after_it_was_handed_to_him_has_it)
{
    lock();
    green_task_t *task = spawn(lock_and_wait, NULL);
    turn();
    unlock();
    assert_int_equal(green_task_cancel(task), 0);
    finish(task);
    assert_int_equal(green_mutex_lock(&mutex, GREEN_NOWAIT), 0);
}

static void *lock_in_vain(void *unused)
{
    must_fail(green_mutex_lock(&mutex, GREEN_FOREVER), ECANCELED);
    return unused;
}

MUTEX_TEST(who_is_cancelled_before_is_passed_over)
{
    lock();
    green_task_t *a = spawn(lock_in_vain, NULL), *b = spawn(pass_through, V(2));
    turn();
    assert_int_equal(green_task_cancel(a), 0);
    unlock();
    turn();
    turn();
    assert_noted("2 2");
    finish(a);
    finish(b);
}

/* ---- Owners that end ------------------------------------------------------------------------- */

static void *lock_and_end(void *unused)
{
    lock();
    return unused;
}

static void *lock_or_fail(void *unused)
{
    return green_mutex_lock(&mutex, GREEN_FOREVER) == 0 ? unused : GREEN_FAILED;
}

MUTEX_TEST(a_mutex_that_its_owner_has_taken_along_is_a_deadlock_that_main_hears_of)
{
    finish(spawn(lock_and_end, NULL));
    green_task_t *task = spawn(lock_or_fail, NULL);
    assert_refused(green_task_join(task, NULL, GREEN_FOREVER), EDEADLK);
    assert_int_equal(green_task_cancel(task), 0);
    assert_fails(finish(task), ECANCELED);
}

static void *remember_mutex(void *task)
{
    lock();
    *(green_task_t **)task = green_task_current();
    return NULL;
}

MUTEX_TEST(a_later_task_is_not_taken_for_an_owner_that_has_ended)
{
    green_task_t *owner = NULL;
    finish(spawn(remember_mutex, &owner));
    for (int i = 0; i < 10; i++) /* in the same memory, maybe */
        finish(spawn(unlock_not_owned, NULL));
}

/* ---- A generator whose task ends ----------------------------------------------------------- */

static void *lock_and_unlock(void *unused)
{
    lock();
    unlock(); /* whosever it is by then */
    note("unlocked");
    return unused;
}

static void *leave_generator_waiting(void *generator)
{
    green_t *g = green_new(lock_and_unlock, NULL);
    must(g != NULL);
    *(green_t **)generator = g;
    must(green_switch(g, NULL) == NULL); /* it waits: who comes back is the test */
    return NULL;
}

/* The mutex is handed to it, and before its turn its task ends: it is main's then. */
MUTEX_TEST(one_that_was_handed_to_a_generator_whose_task_ends_is_not_locked_for_ever)
{
    green_t *generator = NULL;
    lock();
    green_task_t *task = spawn(leave_generator_waiting, &generator);
    turn();
    unlock();
    /* It ends, the generator has its turn, and nobody is left who comes back to main. */
    assert_fails(green_switch(green_task_green(task), NULL), EDEADLK);
    assert_null(green_task_green(task));
    assert_noted("unlocked");
    lock();
    unlock();
    assert_int_equal(green_task_free(task), 0);
    assert_int_equal(green_free(generator), 0);
}

int main(void)
{
    return run_all_tests();
}
