/* SPDX-License-Identifier: MIT */
/* Queues: items in order, each to one; close; and what waits for room or for items. */
#include "hubs.h"

static green_queue_t *queue;

static void make(size_t capacity)
{
    queue = green_queue_new(sizeof(int), capacity);
    must(queue != NULL);
}

static void drop(void)
{
    must_be_0(green_queue_free(queue));
}

static int put_for(int item, int64_t timeout)
{
    return green_queue_put(queue, &item, timeout);
}

static void put(int item)
{
    must_be_0(put_for(item, GREEN_FOREVER));
}

static int get_for(int64_t timeout)
{
    int item = -7;
    if (green_queue_get(queue, &item, timeout) != 0) {
        must(item == -7);
        return -1;
    }
    return item;
}

static int get(void)
{
    int item = get_for(GREEN_FOREVER);
    must(item >= 0);
    return item;
}

static void *put_task(void *item)
{
    if (put_for((int)(intptr_t)item, GREEN_FOREVER) != 0)
        return GREEN_FAILED;
    note("put:%d", (int)(intptr_t)item);
    return item;
}

static void *get_task(void *name)
{
    int item = get_for(GREEN_FOREVER);
    if (item < 0)
        return GREEN_FAILED;
    note("%s:%d", (const char *)name, item);
    return V(item);
}

/* ---- Making and releasing -------------------------------------------------------------------- */

HUB_TEST(nonsense_makes_no_queue)
{
    assert_null_errno(green_queue_new(0, 1), EINVAL);
    assert_null_errno(green_queue_new(1, SIZE_MAX), ENOMEM);
    assert_null_errno(green_queue_new(SIZE_MAX, 1), ENOMEM);
    assert_null_errno(green_queue_new(SIZE_MAX / 2 + 1, 2), ENOMEM);
    assert_null_errno(green_queue_new(16, SIZE_MAX / 16 + 2), ENOMEM);
    int item = 0;
    assert_refused(green_queue_put(NULL, &item, GREEN_NOWAIT), EINVAL);
    assert_refused(green_queue_get(NULL, &item, GREEN_NOWAIT), EINVAL);
    assert_refused(green_queue_close(NULL), EINVAL);
    errno = 0;
    assert_int_equal(green_queue_size(NULL), 0);
    assert_int_equal(errno, EINVAL);
    assert_int_equal(green_queue_free(NULL), 0);
    make(1);
    assert_refused(green_queue_put(queue, NULL, GREEN_NOWAIT), EINVAL);
    assert_refused(green_queue_get(queue, NULL, GREEN_NOWAIT), EINVAL);
    drop();
}

HUB_TEST(a_queue_is_freed_with_what_is_in_it)
{
    make(3);
    put(1);
    put(2);
    drop();
    make(3);
    put(1);
    assert_int_equal(green_queue_close(queue), 0);
    drop();
}

HUB_TEST(a_queue_that_a_task_waits_for_is_not_freed)
{
    make(1);
    green_task_t *task = spawn(get_task, "a");
    turn();
    assert_refused(green_queue_free(queue), EBUSY);
    put(5);
    assert_ptr_equal(finish(task), V(5));
    put(1);
    task = spawn(put_task, V(2));
    turn();
    assert_refused(green_queue_free(queue), EBUSY);
    assert_int_equal(get(), 1);
    finish(task);
    assert_noted("a:5 put:2");
    drop();
}

/* Of odd size: 1 to 100 bytes, in every place of a ring. */
HUB_TEST(items_of_any_size_are_copied_whole)
{
    static const size_t sizes[] = { 1, 2, 3, 4, 5, 7, 8, 9, 16, 100 };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        size_t size = sizes[i];
        char in[100], out[101];
        green_queue_t *q = green_queue_new(size, 3);
        assert_non_null(q);
        for (int round = 0; round < 10; round++) {
            for (int n = 0; n < 2; n++) {
                memset(in, 'a' + round + n, size);
                assert_int_equal(green_queue_put(q, in, GREEN_NOWAIT), 0);
            }
            for (int n = 0; n < 2; n++) {
                memset(in, 'a' + round + n, size);
                memset(out, '!', sizeof out);
                assert_int_equal(green_queue_get(q, out, GREEN_NOWAIT), 0);
                assert_memory_equal(out, in, size);
                assert_int_equal(out[size], '!');
            }
        }
        assert_int_equal(green_queue_free(q), 0);
    }
}

/* ---- Producers and consumers ----------------------------------------------------------------- */

static void *produce_letters(void *unused)
{
    for (int c = 'a'; c <= 'z'; c++) {
        put(c);
        must(green_queue_size(queue) <= 1);
    }
    must_be_0(green_queue_close(queue));
    return unused;
}

HUB_TEST(what_one_task_puts_another_gets_in_order_until_it_is_closed)
{
    char text[27] = "";
    size_t n = 0;
    make(1);
    green_task_t *task = spawn(produce_letters, NULL);
    for (int c; (c = get_for(GREEN_FOREVER)) >= 0;) {
        assert_true(green_queue_size(queue) <= 1);
        text[n++] = (char)c;
    }
    assert_int_equal(errno, EPIPE);
    assert_int_equal(n, 26);
    assert_string_equal(text, "abcdefghijklmnopqrstuvwxyz");
    finish(task);
    drop();
}

static void *produce_many(void *count)
{
    for (int i = 0; i < *(int *)count; i++)
        put(i);
    return NULL;
}

HUB_TEST(a_million_items_through_a_queue_of_one_take_no_more_memory)
{
    int count = times(1000000, 20000);
    green_stats_t before, after;
    make(1);
    green_task_t *task = spawn(produce_many, &count);
    assert_int_equal(get(), 0);
    green_stats(&before, sizeof before);
#if defined __GLIBC__ && (__GLIBC__ > 2 || __GLIBC_MINOR__ >= 33)
    size_t allocated = mallinfo2().uordblks;
#endif
    for (int i = 1; i < count; i++)
        assert_int_equal(get(), i);
#if defined __GLIBC__ && (__GLIBC__ > 2 || __GLIBC_MINOR__ >= 33)
    assert_int_equal(mallinfo2().uordblks, allocated);
#endif
    green_stats(&after, sizeof after);
    assert_int_equal(after.bytes_mapped, before.bytes_mapped);
    finish(task);
    drop();
}

/* ---- Without waiting ------------------------------------------------------------------------- */

/* gevent: test_get_nowait_simple */
HUB_TEST(without_time_a_get_takes_what_is_there_and_nobody_runs)
{
    make(2);
    green_task_t *task = spawn(never, NULL);
    put(4);
    assert_int_equal(get_for(GREEN_NOWAIT), 4);
    assert_refused(get_for(GREEN_NOWAIT), ETIMEDOUT);
    put(4);
    put(5);
    assert_refused(put_for(6, GREEN_NOWAIT), ETIMEDOUT);
    assert_refused(put_for(6, -1), ETIMEDOUT);
    assert_int_equal(green_queue_size(queue), 2);
    assert_noted("");
    finish(task);
    assert_noted("ran");
    drop();
}

/* gevent: test_put_nowait_unlock */
HUB_TEST(an_item_goes_straight_to_a_getter_who_waits)
{
    make(1);
    green_task_t *task = spawn(get_task, "a");
    turn();
    assert_int_equal(put_for(1, GREEN_NOWAIT), 0);
    assert_int_equal(green_queue_size(queue), 0);
    assert_int_equal(put_for(2, GREEN_NOWAIT), 0);
    assert_ptr_equal(finish(task), V(1));
    assert_int_equal(get(), 2);
    drop();
}

/* gevent: test_get_nowait_unlock */
HUB_TEST(the_item_of_a_putter_who_waits_takes_the_place_of_one_that_was_got)
{
    make(1);
    put(1);
    green_task_t *task = spawn(put_task, V(2));
    turn();
    assert_int_equal(green_queue_size(queue), 1); /* not more than the capacity */
    assert_int_equal(get_for(GREEN_NOWAIT), 1);
    assert_int_equal(green_queue_size(queue), 1);
    assert_refused(put_for(3, GREEN_NOWAIT), ETIMEDOUT);
    assert_noted(""); /* the putter has not had its turn */
    finish(task);
    assert_noted("put:2");
    assert_int_equal(get(), 2);
    drop();
}

/* gevent: test_multiple_waiters */
HUB_TEST(getters_are_served_in_the_order_in_which_they_came)
{
    green_task_t *tasks[4];
    static char *const names[] = { "a", "b", "c", "d" };
    make(1);
    for (int i = 0; i < 4; i++)
        tasks[i] = spawn(get_task, names[i]);
    turn();
    for (int i = 0; i < 4; i++)
        put(i);
    for (int i = 0; i < 4; i++)
        finish(tasks[i]);
    assert_noted("a:0 b:1 c:2 d:3");
    drop();
}

HUB_TEST(putters_are_served_in_the_order_in_which_they_came)
{
    green_task_t *tasks[4];
    make(2);
    for (int i = 0; i < 4; i++)
        tasks[i] = spawn(put_task, V(i));
    turn();
    assert_noted("put:0 put:1");
    for (int i = 0; i < 4; i++)
        assert_int_equal(get(), i);
    for (int i = 0; i < 4; i++)
        finish(tasks[i]);
    drop();
}

/* ---- Waiters that go ------------------------------------------------------------------------- */

static void *get_for_10_ms(void *unused)
{
    must_fail(get_for(GREEN_MS(10)), ETIMEDOUT);
    return unused;
}

/* gevent: test_waiters_that_cancel, test_two_waiters_one_dies, test_two_bogus_waiters */
HUB_TEST(a_getter_that_has_given_up_takes_nothing)
{
    make(1);
    green_task_t *a = spawn(get_for_10_ms, NULL), *b = spawn(get_for_10_ms, NULL);
    nap(20);
    put(1);
    assert_int_equal(get_for(GREEN_NOWAIT), 1);
    finish(a);
    finish(b);
    a = spawn(get_for_10_ms, NULL);
    green_task_t *c = spawn(get_task, "c");
    nap(20);
    put(2);
    finish(a);
    finish(c);
    assert_noted("c:2");
    drop();
}

static void *put_for_10_ms(void *unused)
{
    must_fail(put_for(9, GREEN_MS(10)), ETIMEDOUT);
    return unused;
}

HUB_TEST(the_item_of_a_putter_that_has_given_up_is_not_in_the_queue)
{
    make(1);
    put(1);
    green_task_t *a = spawn(put_for_10_ms, NULL);
    turn();
    green_task_t *b = spawn(put_task, V(2));
    nap(20);
    assert_int_equal(get(), 1);
    assert_int_equal(get(), 2);
    assert_refused(get_for(GREEN_NOWAIT), ETIMEDOUT);
    finish(a);
    finish(b);
    drop();
    make(0); /* a rendezvous likewise */
    a = spawn(put_for_10_ms, NULL);
    nap(20);
    assert_refused(get_for(GREEN_NOWAIT), ETIMEDOUT);
    finish(a);
    drop();
}

static void *get_and_fail_next(void *unused)
{
    int item = get();
    must_fail(green_sleep(0), ECANCELED);
    note("has %d", item);
    return unused;
}

HUB_TEST(a_getter_that_is_cancelled_after_it_was_served_has_the_item)
{
    make(1);
    green_task_t *task = spawn(get_and_fail_next, NULL);
    turn();
    put(1);
    assert_int_equal(green_task_cancel(task), 0);
    finish(task);
    assert_noted("has 1");
    drop();
}

HUB_TEST(a_getter_that_is_cancelled_before_leaves_the_item)
{
    make(1);
    green_task_t *task = spawn(get_task, "a");
    turn();
    assert_int_equal(green_task_cancel(task), 0);
    put(1);
    assert_fails(finish(task), ECANCELED);
    assert_int_equal(get(), 1);
    drop();
}

/* Each way in which time runs out: 10, 10 and 1 ms. */
static void run_out_of_time(int (*wait)(int64_t timeout))
{
    green_scope_t scope, outer;
    int64_t start = clock_ms();
    assert_refused(wait(GREEN_MS(10)), ETIMEDOUT);
    assert_int_equal(clock_ms() - start, 10);
    assert_int_equal(green_scope_begin(&scope, GREEN_MS(10), 0), 0);
    assert_refused(wait(GREEN_FOREVER), ETIMEDOUT);
    assert_int_equal(green_scope_end(&scope), 1);
    assert_int_equal(clock_ms() - start, 20);
    assert_int_equal(green_scope_begin(&outer, GREEN_MS(1), 0), 0);
    assert_int_equal(green_scope_begin(&scope, GREEN_MS(10), 0), 0);
    assert_refused(wait(GREEN_MS(20)), ETIMEDOUT);
    assert_int_equal(clock_ms() - start, 21);
    assert_int_equal(green_scope_end(&scope), 0);
    assert_int_equal(green_scope_end(&outer), 1);
}

static int put_nine(int64_t timeout)
{
    return put_for(9, timeout);
}

/* gevent: TestGetInterrupt, TestPutInterrupt */
HUB_TEST(puts_and_gets_end_with_their_own_time_and_with_that_of_each_scope)
{
    make(1);
    run_out_of_time(get_for);
    put(1);
    run_out_of_time(put_nine);
    assert_int_equal(get(), 1);
    assert_refused(get_for(GREEN_NOWAIT), ETIMEDOUT);
    drop();
    make(0);
    run_out_of_time(get_for);
    run_out_of_time(put_nine);
    drop();
}

HUB_TEST(a_put_that_fails_leaves_the_item_to_the_caller)
{
    struct big {
        char text[64];
    } item = { "mine" };
    green_queue_t *big = green_queue_new(sizeof item, 0);
    assert_refused(green_queue_put(big, &item, GREEN_MS(1)), ETIMEDOUT);
    assert_string_equal(item.text, "mine");
    assert_int_equal(green_queue_free(big), 0);
}

/* ---- A rendezvous ---------------------------------------------------------------------------- */

/* gevent: test_zero_max_size, TestChannel.test_send */
HUB_TEST(with_capacity_0_a_put_returns_only_when_it_was_got)
{
    make(0);
    green_task_t *a = spawn(put_task, V(1)), *b = spawn(put_task, V(2));
    nap(10);
    assert_noted("");
    assert_int_equal(green_queue_size(queue), 0);
    assert_int_equal(get(), 1);
    turn();
    assert_noted("put:1");
    assert_int_equal(get_for(GREEN_NOWAIT), 2);
    finish(a);
    finish(b);
    assert_noted("put:2");
    drop();
}

HUB_TEST(with_capacity_0_a_put_without_time_needs_a_getter_who_waits)
{
    make(0);
    assert_refused(put_for(1, GREEN_NOWAIT), ETIMEDOUT);
    green_task_t *task = spawn(get_task, "a");
    turn();
    assert_int_equal(put_for(2, GREEN_NOWAIT), 0);
    finish(task);
    assert_noted("a:2");
    drop();
}

/* ---- Close ----------------------------------------------------------------------------------- */

/* gevent: shutdown */
HUB_TEST(what_is_in_a_closed_queue_can_still_be_got)
{
    make(3);
    put('L');
    put('O');
    assert_int_equal(green_queue_close(queue), 0);
    assert_refused(put_for(1, GREEN_FOREVER), EPIPE);
    assert_refused(put_for(1, GREEN_NOWAIT), EPIPE);
    assert_int_equal(green_queue_size(queue), 2);
    assert_int_equal(get_for(GREEN_SEC(1)), 'L');
    assert_int_equal(get(), 'O');
    assert_refused(get_for(GREEN_SEC(1)), EPIPE);
    assert_refused(get_for(GREEN_NOWAIT), EPIPE);
    assert_int_equal(clock_ms(), 0);
    assert_int_equal(green_queue_close(queue), 0); /* Go panics */
    drop();
}

HUB_TEST(close_fails_those_who_wait)
{
    make(0);
    green_task_t *a = spawn(get_task, "a"), *b = spawn(get_task, "b");
    turn();
    assert_int_equal(green_queue_close(queue), 0);
    assert_fails(finish(a), EPIPE);
    assert_fails(finish(b), EPIPE);
    drop();
    make(0); /* a rendezvous that nobody took */
    a = spawn(put_task, V(1));
    turn();
    assert_int_equal(green_queue_close(queue), 0);
    assert_refused(get_for(GREEN_NOWAIT), EPIPE);
    assert_fails(finish(a), EPIPE);
    drop();
    make(1);
    put(1);
    a = spawn(put_task, V(2));
    turn();
    assert_int_equal(green_queue_close(queue), 0);
    assert_fails(finish(a), EPIPE);
    assert_int_equal(get(), 1);
    assert_refused(get_for(GREEN_NOWAIT), EPIPE);
    drop();
}

HUB_TEST(an_item_that_was_put_before_the_close_is_got)
{
    make(0);
    green_task_t *task = spawn(get_task, "a");
    turn();
    put(1);
    assert_int_equal(green_queue_close(queue), 0);
    assert_refused(get_for(GREEN_FOREVER), EPIPE);
    finish(task);
    assert_noted("a:1");
    drop();
}

/* ---- Workers --------------------------------------------------------------------------------- */

static void *work(void *sum)
{
    for (int item; (item = get_for(GREEN_FOREVER)) >= 0;) {
        nap(item);
        *(int *)sum += item;
    }
    must(errno == EPIPE);
    return NULL;
}

/* gevent: test_task_done, test_issue_45 */
HUB_TEST(when_the_queue_is_closed_and_the_workers_have_ended_all_is_done)
{
    int sum = 0, error = 5;
    green_group_t *workers = green_group_new(0, 0);
    make(2);
    for (int i = 0; i < 3; i++)
        assert_int_equal(green_group_spawn(workers, work, &sum), 0);
    for (int i = 1; i <= 10; i++)
        put(i);
    assert_int_equal(green_queue_close(queue), 0);
    assert_int_equal(green_group_wait(workers, &error, GREEN_FOREVER), 0);
    assert_int_equal(error, 0);
    assert_int_equal(sum, 55);
    assert_int_equal(green_group_free(workers), 0);
    drop();
}

HUB_TEST(idle_workers_end_at_once)
{
    int sum = 0;
    green_group_t *workers = green_group_new(0, 0);
    make(1);
    for (int i = 0; i < 3; i++)
        assert_int_equal(green_group_spawn(workers, work, &sum), 0);
    turn();
    assert_int_equal(green_queue_close(queue), 0);
    assert_int_equal(green_group_wait(workers, NULL, GREEN_FOREVER), 0);
    assert_int_equal(clock_ms(), 0);
    assert_int_equal(green_group_free(workers), 0);
    drop();
}

HUB_TEST(a_get_that_nobody_can_serve_is_a_deadlock)
{
    make(1);
    assert_refused(get_for(GREEN_FOREVER), EDEADLK);
    put(1);
    assert_refused(put_for(2, GREEN_FOREVER), EDEADLK);
    drop();
}

int main(void)
{
    return run_all_tests();
}
