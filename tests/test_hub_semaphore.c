/* SPDX-License-Identifier: MIT */
/* Semaphores: units, bounds, and who has the next (rule 6). */
#include "hubs.h"

static green_semaphore_t semaphore;

static void make(int64_t units, int64_t most)
{
    semaphore = (green_semaphore_t)GREEN_SEMAPHORE_INIT(units, most);
}

/* Waits for a unit, and notes its number when it has one. */
static void *acquire_and_note(void *number)
{
    if (green_semaphore_acquire(&semaphore, GREEN_FOREVER) != 0)
        return GREEN_FAILED;
    return note_number(number);
}

/* ---- Units -------------------------------------------------------------------------------- */

/* gevent: test_acquire_returns_false_after_timeout */
HUB_TEST(without_a_unit_an_acquire_waits_for_its_time_and_fails)
{
    make(0, 0);
    assert_refused(green_semaphore_acquire(&semaphore, GREEN_NOWAIT), ETIMEDOUT);
    assert_refused(green_semaphore_acquire(&semaphore, -5), ETIMEDOUT);
    assert_int_equal(clock_ms(), 0);
    assert_refused(green_semaphore_acquire(&semaphore, GREEN_MS(10)), ETIMEDOUT);
    assert_int_equal(clock_ms(), 10);
    assert_int_equal(green_semaphore_release(&semaphore), 0);
    assert_int_equal(green_semaphore_acquire(&semaphore, GREEN_NOWAIT), 0);
}

HUB_TEST(zeroed_memory_is_a_semaphore_without_units_and_without_a_bound)
{
    memset(&semaphore, 0, sizeof semaphore);
    assert_refused(green_semaphore_acquire(&semaphore, GREEN_NOWAIT), ETIMEDOUT);
    for (int i = 0; i < 100; i++)
        assert_int_equal(green_semaphore_release(&semaphore), 0);
    for (int i = 0; i < 100; i++)
        assert_int_equal(green_semaphore_acquire(&semaphore, GREEN_NOWAIT), 0);
    assert_refused(green_semaphore_acquire(&semaphore, GREEN_NOWAIT), ETIMEDOUT);
}

HUB_TEST(null_is_no_semaphore)
{
    assert_refused(green_semaphore_acquire(NULL, GREEN_NOWAIT), EINVAL);
    assert_refused(green_semaphore_release(NULL), EINVAL);
}

/* gevent: BoundedSemaphore.test_release_unacquired */
HUB_TEST(a_release_beyond_the_bound_is_refused_and_changes_nothing)
{
    make(1, 1);
    assert_refused(green_semaphore_release(&semaphore), EOVERFLOW);
    assert_int_equal(green_semaphore_acquire(&semaphore, GREEN_NOWAIT), 0);
    assert_refused(green_semaphore_acquire(&semaphore, GREEN_NOWAIT), ETIMEDOUT);
    assert_int_equal(green_semaphore_release(&semaphore), 0);
    assert_refused(green_semaphore_release(&semaphore), EOVERFLOW);
    make(5, 3); /* more than the bound from the beginning */
    assert_refused(green_semaphore_release(&semaphore), EOVERFLOW);
    for (int i = 0; i < 3; i++)
        assert_int_equal(green_semaphore_acquire(&semaphore, GREEN_NOWAIT), 0);
    assert_int_equal(green_semaphore_release(&semaphore), 0);
    assert_refused(green_semaphore_release(&semaphore), EOVERFLOW);
}

HUB_TEST(without_a_bound_units_do_not_wrap)
{
    make(INT64_MAX - 1, 0);
    assert_int_equal(green_semaphore_release(&semaphore), 0);
    assert_refused(green_semaphore_release(&semaphore), EOVERFLOW);
}

static void *release_it(void *unused)
{
    must_be_0(green_semaphore_release(&semaphore));
    return unused;
}

HUB_TEST(a_unit_has_no_owner_another_task_may_release_it)
{
    make(1, 1);
    assert_int_equal(green_semaphore_acquire(&semaphore, GREEN_NOWAIT), 0);
    green_task_t *other = spawn(release_it, NULL);
    assert_int_equal(green_semaphore_acquire(&semaphore, GREEN_FOREVER), 0);
    finish(other);
}

/* ---- Order ---------------------------------------------------------------------------------- */

static void *acquire_twice(void *number)
{
    must_be_0(green_semaphore_acquire(&semaphore, GREEN_FOREVER));
    note("%d", (int)(intptr_t)number);
    must_be_0(green_semaphore_acquire(&semaphore, GREEN_FOREVER));
    note("%d", (int)(intptr_t)number);
    return NULL;
}

static void release_many(int n)
{
    for (int i = 0; i < n; i++)
        assert_int_equal(green_semaphore_release(&semaphore), 0);
    turn();
    turn();
}

/* gevent: BaseSemaphoreTests.test_acquire_contended */
HUB_TEST(each_release_lets_one_pass_the_first_first)
{
    green_task_t *tasks[10];
    make(7, 0);
    assert_int_equal(green_semaphore_acquire(&semaphore, GREEN_FOREVER), 0);
    for (int i = 0; i < 10; i++)
        tasks[i] = spawn(acquire_twice, V(i));
    turn();
    turn();
    assert_noted("0 0 1 1 2 2");
    release_many(7);
    assert_noted("3 4 5 6 7 8 9");
    release_many(6);
    assert_noted("3 4 5 6 7 8");
    release_many(1);
    assert_noted("9");
    for (int i = 0; i < 10; i++)
        finish(tasks[i]);
    assert_refused(green_semaphore_acquire(&semaphore, GREEN_NOWAIT), ETIMEDOUT);
}

static void *try_twice(void *count)
{
    for (int i = 0; i < 2; i++)
        if (green_semaphore_acquire(&semaphore, GREEN_NOWAIT) == 0)
            ++*(int *)count;
        else
            must(errno == ETIMEDOUT);
    return NULL;
}

/* gevent: test_try_acquire_contended */
HUB_TEST(of_those_who_try_as_many_succeed_as_there_are_units)
{
    green_task_t *tasks[5];
    int count = 0;
    make(4, 0);
    for (int i = 0; i < 5; i++)
        tasks[i] = spawn(try_twice, &count);
    for (int i = 0; i < 5; i++)
        finish(tasks[i]);
    assert_int_equal(count, 4);
}

/* Takes a unit and gives it back, again and again. */
static void *hog(void *number)
{
    for (int i = 0; i < 5; i++) {
        must_be_0(green_semaphore_acquire(&semaphore, GREEN_FOREVER));
        note("%d", (int)(intptr_t)number);
        turn();
        must_be_0(green_semaphore_release(&semaphore));
    }
    return NULL;
}

/* gevent: TestSemaphoreFair (#1487) */
HUB_TEST(who_takes_and_releases_in_a_loop_does_not_starve_the_others)
{
    make(1, 1);
    green_task_t *a = spawn(hog, V(1)), *b = spawn(hog, V(2)), *c = spawn(acquire_and_note, V(3));
    turn();
    turn();
    turn();
    turn();
    turn();
    assert_noted("1 2 3");
    assert_int_equal(green_semaphore_release(&semaphore), 0);
    finish(a);
    finish(b);
    finish(c);
    assert_noted("1 2 1 2 1 2 1 2");
}

HUB_TEST(a_unit_that_was_given_to_who_waits_is_not_there_for_who_comes)
{
    make(0, 0);
    green_task_t *task = spawn(acquire_and_note, V(1));
    turn();
    assert_int_equal(green_semaphore_release(&semaphore), 0);
    assert_noted("");
    assert_refused(green_semaphore_acquire(&semaphore, GREEN_NOWAIT), ETIMEDOUT);
    finish(task);
    assert_noted("1");
}

/* gevent: asyncio#270; CPython: #90155 */
HUB_TEST(a_waiter_that_is_cancelled_before_the_release_does_not_swallow_it)
{
    make(0, 0);
    green_task_t *a = spawn(acquire_and_note, V(1)), *b = spawn(acquire_and_note, V(2));
    turn();
    assert_int_equal(green_task_cancel(a), 0);
    assert_int_equal(green_semaphore_release(&semaphore), 0);
    turn();
    assert_noted("2");
    assert_fails(finish(a), ECANCELED);
    finish(b);
}

static void *acquire_then_wait(void *unused)
{
    must_be_0(green_semaphore_acquire(&semaphore, GREEN_FOREVER));
    must_fail(green_sleep(0), ECANCELED);
    note("has it");
    return unused;
}

HUB_TEST(a_waiter_that_is_cancelled_after_the_release_has_the_unit)
{
    make(0, 0);
    green_task_t *task = spawn(acquire_then_wait, NULL);
    turn();
    assert_int_equal(green_semaphore_release(&semaphore), 0);
    assert_int_equal(green_task_cancel(task), 0);
    finish(task);
    assert_noted("has it");
    assert_refused(green_semaphore_acquire(&semaphore, GREEN_NOWAIT), ETIMEDOUT);
}

static void *acquire_for_a_while(void *unused)
{
    must_fail(green_semaphore_acquire(&semaphore, GREEN_MS(10)), ETIMEDOUT);
    return unused;
}

HUB_TEST(a_unit_that_comes_after_the_time_is_over_stays)
{
    make(0, 0);
    green_task_t *task = spawn(acquire_for_a_while, NULL);
    nap(20);
    assert_int_equal(green_semaphore_release(&semaphore), 0);
    finish(task);
    assert_int_equal(green_semaphore_acquire(&semaphore, GREEN_NOWAIT), 0);
}

static void *select_it(void *number)
{
    green_case_t cases[] = { GREEN_CASE_SEMAPHORE(&semaphore) };
    must_be_0(green_select(cases, 1, GREEN_FOREVER));
    must(cases[0].error == 0);
    return note_number(number);
}

/* gevent: test_release_twice */
HUB_TEST(two_releases_serve_two_who_select)
{
    make(0, 0);
    green_task_t *a = spawn(select_it, V(1)), *b = spawn(select_it, V(2));
    turn();
    assert_int_equal(green_semaphore_release(&semaphore), 0);
    assert_int_equal(green_semaphore_release(&semaphore), 0);
    finish(a);
    finish(b);
    assert_noted("1 2");
    assert_refused(green_semaphore_acquire(&semaphore, GREEN_NOWAIT), ETIMEDOUT);
}

int main(void)
{
    return run_all_tests();
}
