/* SPDX-License-Identifier: MIT */
/* green_select(): exactly one of several. */
#include "hubs.h"

static green_queue_t *make(size_t capacity)
{
    green_queue_t *queue = green_queue_new(sizeof(int), capacity);
    must(queue != NULL);
    return queue;
}

static void put(green_queue_t *queue, int item)
{
    must_be_0(green_queue_put(queue, &item, GREEN_FOREVER));
}

static int get(green_queue_t *queue)
{
    int item;
    must_be_0(green_queue_get(queue, &item, GREEN_FOREVER));
    return item;
}

static void drop(green_queue_t *queue)
{
    must_be_0(green_queue_free(queue));
}

/* ---- What is refused ------------------------------------------------------------------------- */

HUB_TEST(nonsense_is_refused_before_anything_is_done)
{
    green_queue_t *queue = make(1);
    int item = 0;
    put(queue, 1);
    green_case_t good = GREEN_CASE_GET(queue, &item);
    assert_refused(green_select(NULL, 1, GREEN_NOWAIT), EINVAL);
    assert_refused(green_select(&good, -1, GREEN_NOWAIT), EINVAL);
    green_case_t bad[][2] = {
        { good, GREEN_CASE_GET(NULL, &item) },
        { good, GREEN_CASE_GET(queue, NULL) },
        { good, GREEN_CASE_PUT(queue, NULL) },
        { good, GREEN_CASE_PUT(NULL, &item) },
        { good, GREEN_CASE_EVENT(NULL) },
        { good, GREEN_CASE_TASK(NULL) },
        { good, GREEN_CASE_SEMAPHORE(NULL) },
        { good, { .kind = 77, .object = queue } },
        { good, { .kind = -1, .object = queue } },
        { good, { .kind = GREEN_KIND_NONE, .reserved = &item } },
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_refused(green_select(bad[i], 2, GREEN_NOWAIT), EINVAL);
    assert_int_equal(green_queue_size(queue), 1);
    drop(queue);
}

HUB_TEST(without_cases_it_is_a_wait_for_the_time)
{
    green_case_t none = { .kind = GREEN_KIND_NONE };
    assert_refused(green_select(NULL, 0, GREEN_NOWAIT), ETIMEDOUT);
    assert_refused(green_select(NULL, 0, GREEN_MS(10)), ETIMEDOUT);
    assert_int_equal(clock_ms(), 10);
    assert_refused(green_select(&none, 1, GREEN_MS(10)), ETIMEDOUT);
    assert_int_equal(clock_ms(), 20);
    assert_refused(green_select(&none, 1, GREEN_FOREVER), EDEADLK);
}

/* ---- What can be done at once ---------------------------------------------------------------- */

HUB_TEST(each_kind_that_can_be_done_is_done_at_once)
{
    green_queue_t *full = make(1), *empty = make(1);
    green_event_t event = GREEN_EVENT_INIT;
    green_semaphore_t semaphore = GREEN_SEMAPHORE_INIT(1, 0);
    green_task_t *task = spawn(give_back, NULL);
    int got = 0;
    const int item = 9;
    turn();
    put(full, 3);
    assert_int_equal(green_event_set(&event), 0);
    green_case_t cases[] = {
        GREEN_CASE_GET(full, &got),   GREEN_CASE_PUT(empty, &item),
        GREEN_CASE_TASK(task),        GREEN_CASE_EVENT(&event),
        GREEN_CASE_SEMAPHORE(&semaphore),
    };
    for (int i = 0; i < 5; i++) {
        cases[i].error = 5;
        assert_int_equal(green_select(&cases[i], 1, GREEN_NOWAIT), 0);
        assert_int_equal(cases[i].error, 0);
    }
    assert_int_equal(got, 3);
    assert_int_equal(get(empty), 9);
    /* a task that has ended and an event that is set stay so; the others are used up */
    for (int i = 0; i < 5; i++) {
        if (i == 1)
            put(empty, 1);
        if (i == 2 || i == 3)
            assert_int_equal(green_select(&cases[i], 1, GREEN_NOWAIT), 0);
        else
            assert_refused(green_select(&cases[i], 1, GREEN_NOWAIT), ETIMEDOUT);
    }
    finish(task);
    drop(full);
    drop(empty);
}

/* tokio: the losers' values */
HUB_TEST(what_is_not_chosen_stays)
{
    green_queue_t *a = make(1), *b = make(1);
    int x = -1, y = -1;
    put(a, 1);
    put(b, 2);
    green_case_t cases[] = { GREEN_CASE_GET(a, &x), GREEN_CASE_GET(b, &y) };
    int first = green_select(cases, 2, GREEN_FOREVER);
    assert_true(first == 0 || first == 1);
    assert_int_equal(green_queue_size(first == 0 ? b : a), 1);
    assert_int_equal(first == 0 ? x : y, first + 1);
    assert_int_equal(first == 0 ? y : x, -1);
    assert_int_equal(green_select(cases, 2, GREEN_FOREVER), !first);
    assert_refused(green_select(cases, 2, GREEN_NOWAIT), ETIMEDOUT);
    drop(a);
    drop(b);
}

HUB_TEST(of_two_that_can_always_be_done_each_is_chosen_as_often)
{
    green_event_t event = { .green_private_set = 1 };
    green_case_t cases[] = { GREEN_CASE_EVENT(&event), { .kind = GREEN_KIND_NONE },
                             GREEN_CASE_EVENT(&event) };
    int count[3] = { 0 };
    for (int i = 0; i < 10000; i++)
        count[green_select(cases, 3, GREEN_NOWAIT)]++;
    assert_in_range(count[0], 4700, 5300);
    assert_int_equal(count[1], 0);
}

/* Go: #80090 */
HUB_TEST(who_asks_for_the_preferred_alone_first_has_an_order)
{
    green_event_t stop = GREEN_EVENT_INIT, other = { .green_private_set = 1 };
    green_case_t cases[] = { GREEN_CASE_EVENT(&stop), GREEN_CASE_EVENT(&other) };
    int rounds = 0;
    for (;; rounds++) {
        if (green_select(cases, 1, GREEN_NOWAIT) == 0)
            break;
        assert_int_equal(green_select(cases, 2, GREEN_FOREVER), 1);
        if (rounds == 10)
            assert_int_equal(green_event_set(&stop), 0);
    }
    assert_int_equal(rounds, 11);
}

HUB_TEST(a_closed_queue_can_be_done_with_an_error)
{
    green_queue_t *queue = make(1);
    int item = 0;
    assert_int_equal(green_queue_close(queue), 0);
    green_case_t cases[] = { GREEN_CASE_GET(queue, &item), GREEN_CASE_PUT(queue, &item) };
    for (int i = 0; i < 2; i++) {
        assert_int_equal(green_select(&cases[i], 1, GREEN_FOREVER), 0);
        assert_int_equal(cases[i].error, EPIPE);
    }
    drop(queue);
}

/* ---- Waiting --------------------------------------------------------------------------------- */

struct selecting {
    green_queue_t *a, *b;
    int got_a, got_b, result, error;
};

static void *select_two_gets(void *arg)
{
    struct selecting *s = arg;
    green_case_t cases[] = { GREEN_CASE_GET(s->a, &s->got_a), GREEN_CASE_GET(s->b, &s->got_b) };
    s->result = green_select(cases, 2, GREEN_FOREVER);
    s->error = s->result < 0 ? errno : cases[s->result].error;
    return NULL;
}

HUB_TEST(who_waits_for_several_is_served_by_one_and_has_left_the_others)
{
    struct selecting s = { .a = make(1), .b = make(1) };
    green_task_t *task = spawn(select_two_gets, &s);
    turn();
    put(s.b, 4);
    put(s.a, 5); /* in the same turn: for whoever comes */
    assert_int_equal(green_queue_size(s.a), 1);
    finish(task);
    assert_int_equal(s.result, 1);
    assert_int_equal(s.error, 0);
    assert_int_equal(s.got_b, 4);
    assert_int_equal(s.got_a, 0);
    assert_int_equal(get(s.a), 5);
    drop(s.a);
    drop(s.b);
}

HUB_TEST(who_is_cancelled_in_it_has_taken_nothing_and_waits_for_nothing)
{
    struct selecting s = { .a = make(1), .b = make(1) };
    green_task_t *task = spawn(select_two_gets, &s);
    turn();
    assert_refused(green_queue_free(s.a), EBUSY);
    assert_int_equal(green_task_cancel(task), 0);
    drop(s.a); /* before its turn even */
    drop(s.b);
    finish(task);
    assert_int_equal(s.result, -1);
    assert_int_equal(s.error, ECANCELED);
}

HUB_TEST(who_was_served_before_the_cancel_has_its_case)
{
    struct selecting s = { .a = make(1), .b = make(1) };
    green_task_t *task = spawn(select_two_gets, &s);
    turn();
    put(s.a, 4);
    assert_int_equal(green_task_cancel(task), 0);
    finish(task);
    assert_int_equal(s.result, 0);
    assert_int_equal(s.got_a, 4);
    drop(s.a);
    drop(s.b);
}

HUB_TEST(a_queue_that_is_closed_meanwhile_is_its_case_with_an_error)
{
    struct selecting s = { .a = make(1), .b = make(1) };
    green_task_t *task = spawn(select_two_gets, &s);
    turn();
    assert_int_equal(green_queue_close(s.b), 0);
    finish(task);
    assert_int_equal(s.result, 1);
    assert_int_equal(s.error, EPIPE);
    drop(s.a);
    drop(s.b);
}

HUB_TEST(the_time_of_it_and_of_a_scope_ends_it)
{
    green_event_t event = GREEN_EVENT_INIT;
    green_case_t cases[] = { GREEN_CASE_EVENT(&event) };
    green_scope_t scope;
    assert_refused(green_select(cases, 1, GREEN_MS(10)), ETIMEDOUT);
    assert_int_equal(clock_ms(), 10);
    assert_int_equal(green_scope_begin(&scope, GREEN_MS(5), 0), 0);
    assert_refused(green_select(cases, 1, GREEN_FOREVER), ETIMEDOUT);
    assert_int_equal(green_scope_end(&scope), 1);
    assert_int_equal(clock_ms(), 15);
}

static void *select_put(void *queue)
{
    const int item = 6;
    green_case_t cases[] = { { .kind = GREEN_KIND_NONE }, GREEN_CASE_PUT(queue, &item) };
    must(green_select(cases, 2, GREEN_FOREVER) == 1);
    must(cases[1].error == 0);
    note("put");
    return NULL;
}

static void *select_get(void *queue)
{
    int item = 0;
    green_case_t cases[] = { GREEN_CASE_GET(queue, &item), { .kind = GREEN_KIND_NONE } };
    must(green_select(cases, 2, GREEN_FOREVER) == 0);
    note("got:%d", item);
    return NULL;
}

HUB_TEST(two_who_select_meet_in_a_queue_of_capacity_0)
{
    green_queue_t *queue = make(0);
    green_task_t *a = spawn(select_put, queue), *b = spawn(select_get, queue);
    turn();
    turn();
    assert_noted("got:6 put");
    finish(a);
    finish(b);
    a = spawn(select_get, queue);
    b = spawn(select_put, queue);
    turn();
    turn();
    assert_noted("put got:6");
    finish(a);
    finish(b);
    drop(queue);
}

HUB_TEST(who_selects_both_ends_of_a_queue_of_capacity_0_does_not_meet_itself)
{
    green_queue_t *queue = make(0);
    int in = 1, out = 2;
    green_case_t cases[] = { GREEN_CASE_PUT(queue, &in), GREEN_CASE_GET(queue, &out) };
    assert_refused(green_select(cases, 2, GREEN_MS(10)), ETIMEDOUT);
    assert_int_equal(out, 2);
    drop(queue);
}

HUB_TEST(the_same_thing_may_be_there_twice)
{
    green_task_t *task = spawn(sleep_for, V(10));
    green_case_t cases[] = { GREEN_CASE_TASK(task), GREEN_CASE_TASK(task) };
    int chosen = green_select(cases, 2, GREEN_FOREVER);
    assert_true(chosen == 0 || chosen == 1);
    assert_int_equal(clock_ms(), 10);
    finish(task);
}

static void *fail_after(void *ms)
{
    nap((intptr_t)ms);
    return fail_with(V(E1));
}

/* gevent: test_joinall_count_raise_error */
HUB_TEST(a_task_that_ends_is_chosen_the_other_lives)
{
    green_task_t *sleeper = spawn(sleep_or_fail, V(10000)), *fails = spawn(fail_after, V(5));
    green_case_t cases[] = { GREEN_CASE_TASK(sleeper), GREEN_CASE_TASK(fails) };
    assert_int_equal(green_select(cases, 2, GREEN_FOREVER), 1);
    assert_int_equal(cases[1].error, 0);
    assert_int_equal(green_state(green_task_green(sleeper)), GREEN_SUSPENDED);
    assert_int_equal(green_task_free(sleeper), 0);
    assert_int_equal(hubs_held()->errors, 0);
    assert_int_equal(green_task_free(fails), 0); /* to select is not to join */
    assert_int_equal(hubs_held()->errors, 1);
    assert_int_equal(hubs_held()->error, E1);
}

/* gevent: iwait (#467) */
HUB_TEST(tasks_come_one_by_one_as_they_end)
{
    static const int64_t ends[] = { 30, 10, 40, 20 };
    green_case_t cases[4];
    green_task_t *tasks[4];
    for (int i = 0; i < 4; i++) {
        tasks[i] = spawn(sleep_for, V(ends[i]));
        cases[i] = (green_case_t)GREEN_CASE_TASK(tasks[i]);
    }
    for (int i = 0; i < 4; i++) {
        int n = green_select(cases, 4, GREEN_FOREVER);
        note("%d", n);
        cases[n].kind = GREEN_KIND_NONE;
        nap(3);
    }
    assert_noted("1 3 0 2");
    assert_refused(green_select(cases, 4, GREEN_FOREVER), EDEADLK);
    for (int i = 0; i < 4; i++)
        finish(tasks[i]);
}

static void *set_event(void *event)
{
    must_be_0(green_event_set(event));
    return NULL;
}

static void *release_semaphore(void *semaphore)
{
    must_be_0(green_semaphore_release(semaphore));
    return NULL;
}

/* gevent: iwait, no garbage */
HUB_TEST(what_was_not_chosen_may_go)
{
    green_semaphore_t semaphore = GREEN_SEMAPHORE_INIT(0, 0);
    {
        green_semaphore_t other = GREEN_SEMAPHORE_INIT(0, 0);
        green_case_t cases[] = { GREEN_CASE_SEMAPHORE(&other), GREEN_CASE_SEMAPHORE(&semaphore) };
        green_task_t *task = spawn(release_semaphore, &semaphore);
        assert_int_equal(green_select(cases, 2, GREEN_FOREVER), 1);
        assert_int_equal(green_task_free(task), 0);
        assert_null(other.green_private_line.first);
        memset(&other, 0xa5, sizeof other);
    }
    assert_int_equal(green_semaphore_release(&semaphore), 0);
    assert_int_equal(green_semaphore_acquire(&semaphore, GREEN_NOWAIT), 0);
}

/* More than are kept on the stack. */
HUB_TEST(a_thousand_cases_are_waited_for)
{
    enum { COUNT = 1000 };
    static green_event_t events[COUNT];
    static green_case_t cases[COUNT];
    for (int i = 0; i < COUNT; i++) {
        events[i] = (green_event_t)GREEN_EVENT_INIT;
        cases[i] = (green_case_t)GREEN_CASE_EVENT(&events[i]);
    }
    green_task_t *task = spawn(set_event, &events[777]);
    assert_int_equal(green_select(cases, COUNT, GREEN_FOREVER), 777);
    for (int i = 0; i < COUNT; i++)
        assert_null(events[i].green_private_line.first);
    finish(task);
    assert_int_equal(green_event_clear(&events[777]), 0);
    assert_refused(green_select(cases, COUNT, GREEN_MS(1)), ETIMEDOUT);
}

HUB_TEST(it_gives_the_thread_away_if_it_need_not_wait_32_times)
{
    green_event_t event = { .green_private_set = 1 };
    green_case_t cases[] = { GREEN_CASE_EVENT(&event) };
    green_task_t *task = spawn(never, NULL);
    for (int i = 0; i < 31; i++)
        assert_int_equal(green_select(cases, 1, GREEN_FOREVER), 0);
    assert_noted("");
    assert_int_equal(green_select(cases, 1, GREEN_FOREVER), 0);
    assert_noted("ran");
    finish(task);
}

struct gone {
    int pipes[3][2];
    green_task_t *task;
    green_queue_t *queue;
};

static void *look_at(void *fd)
{
    struct pollfd one = {.fd = (int)(intptr_t)fd, .events = POLLIN};
    must(green_poll(&one, 1, GREEN_FOREVER) == 1);
    return NULL;
}

static void *release_both(void *arg)
{
    struct gone *gone = arg;
    look_at(V(gone->pipes[1][0]));
    must(green_task_green(gone->task) == NULL); /* it has ended: this does not wait */
    must_be_0(green_task_free(gone->task));
    must_be_0(green_queue_free(gone->queue));
    return NULL;
}

static void *select_of_all(void *arg)
{
    struct gone *gone = arg;
    int item;
    green_case_t cases[] = {
        GREEN_CASE_TASK(gone->task),
        GREEN_CASE_GET(gone->queue, &item),
        GREEN_CASE_FD(gone->pipes[2][0], POLLIN),
    };
    return V(green_select(cases, 3, GREEN_FOREVER));
}

/*
 * One look at the descriptors wakes the task, who frees it, and who selects, in this order. The
 * end of the task comes before the turn of who selects: it is served, and waits for none any more.
 */
WORLD_TEST(what_comes_before_the_turn_of_who_was_woken_by_a_descriptor_is_chosen)
{
    for (int round = 0; round < 20; round++) {
        struct gone gone = {.queue = green_queue_new(sizeof(int), 1)};
        for (int i = 0; i < 3; i++)
            must_be_0(pipe(gone.pipes[i]));
        gone.task = spawn(look_at, V(gone.pipes[0][0]));
        green_task_t *releases = spawn(release_both, &gone), *selects = spawn(select_of_all, &gone);
        turn();
        for (int i = 0; i < 3; i++)
            must(write(gone.pipes[i][1], "x", 1) == 1);
        assert_ptr_equal(finish(selects), V(0));
        finish(releases);
        for (int i = 0; i < 6; i++)
            must_be_0(green_close(gone.pipes[i / 2][i % 2]));
    }
}

int main(void)
{
    return run_all_tests();
}
