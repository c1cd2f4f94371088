/* SPDX-License-Identifier: MIT */
/*
 * Done is done: a call that has been served succeeds, whatever came before its turn, and one
 * that fails has taken and given nothing (rule 11).
 */
#include "hubs.h"

static green_queue_t *queue;
static green_semaphore_t semaphore;
static green_mutex_t mutex;
static green_event_t event;
static green_cond_t cond;
static green_group_t *group;
static green_task_t *target;

/* Everything is made anew for a test. */
static int begin(void **state)
{
    if (hubs_begin_virtual(state) != 0)
        return -1;
    queue = green_queue_new(sizeof(int), 0);
    group = green_group_new(1, 0);
    semaphore = (green_semaphore_t)GREEN_SEMAPHORE_INIT(0, 0);
    mutex = (green_mutex_t)GREEN_MUTEX_INIT;
    event = (green_event_t)GREEN_EVENT_INIT;
    cond = (green_cond_t)GREEN_COND_INIT;
    return 0;
}

static int end(void **state)
{
    must_be_0(green_queue_free(queue));
    must_be_0(green_group_free(group));
    return hubs_end(state);
}

#define DONE_TEST(sentence) TEST_WITH(sentence, begin, end)

/* ---- The calls, and what serves them ------------------------------------------- */

static int get(void)
{
    int item = 0, result = green_queue_get(queue, &item, GREEN_MS(10));
    must(item == (result == 0 ? 5 : 0));
    return result;
}

static int put(void)
{
    int item = 6;
    return green_queue_put(queue, &item, GREEN_MS(10));
}

static int acquire(void)
{
    return green_semaphore_acquire(&semaphore, GREEN_MS(10));
}

static int lock(void)
{
    int result = green_mutex_lock(&mutex, GREEN_MS(10));
    if (result == 0)
        must_be_0(green_mutex_unlock(&mutex)); /* it is its own */
    return result;
}

static int wait_event(void)
{
    return green_event_wait(&event, GREEN_MS(10));
}

static int wait_cond(void)
{
    return green_cond_wait(&cond, NULL, GREEN_MS(10));
}

static int join(void)
{
    void *value = NULL;
    int result = green_task_join(target, &value, GREEN_MS(10));
    must(value == (result == 0 ? V(3) : NULL));
    return result;
}

static int select_one(void)
{
    int item = 0;
    green_case_t cases[] = { GREEN_CASE_GET(queue, &item), GREEN_CASE_SEMAPHORE(&semaphore) };
    int result = green_select(cases, 2, GREEN_MS(10));
    must(item == (result == 0 ? 5 : 0));
    return result;
}

static void serve_get(void)
{
    int item = 5;
    must_be_0(green_queue_put(queue, &item, GREEN_NOWAIT));
}

static void serve_put(void)
{
    int item = 0;
    must_be_0(green_queue_get(queue, &item, GREEN_NOWAIT));
    must(item == 6);
}

static void serve_acquire(void)
{
    must_be_0(green_semaphore_release(&semaphore));
    must_fail(green_semaphore_acquire(&semaphore, GREEN_NOWAIT), ETIMEDOUT);
}

static void serve_lock(void)
{
    must_be_0(green_mutex_unlock(&mutex));
}

static void serve_event(void)
{
    must_be_0(green_event_set(&event));
    must_be_0(green_event_clear(&event));
}

static void serve_cond(void)
{
    must_be_0(green_cond_signal(&cond, 1));
}

static const struct deed {
    const char *name;
    int (*call)(void);
    void (*serve)(void);
} deeds[] = {
    { "get", get, serve_get },          { "put", put, serve_put },
    { "acquire", acquire, serve_acquire }, { "lock", lock, serve_lock },
    { "event", wait_event, serve_event }, { "cond", wait_cond, serve_cond },
    { "select", select_one, serve_get },
};
enum { DEEDS = sizeof deeds / sizeof deeds[0] };

/* ---- Cancel -------------------------------------------------------------------- */

static void *do_then_fail(void *deed)
{
    must_be_0(((const struct deed *)deed)->call());
    must_fail(green_sleep(0), ECANCELED); /* what came is seen by the next */
    note("done");
    return NULL;
}

static void *do_it(void *deed)
{
    return V(((const struct deed *)deed)->call() == 0 ? 0 : errno);
}

DONE_TEST(who_was_served_and_then_cancelled_has_what_it_was_given)
{
    for (int i = 0; i < DEEDS; i++) {
        if (deeds[i].call == lock)
            must_be_0(green_mutex_lock(&mutex, GREEN_NOWAIT));
        green_task_t *task = spawn(do_then_fail, (void *)&deeds[i]);
        turn();
        deeds[i].serve();
        assert_int_equal(green_task_cancel(task), 0);
        assert_null(finish(task));
        assert_noted("done");
        assert_int_equal(green_queue_size(queue), 0);
    }
}

DONE_TEST(who_was_cancelled_and_then_would_be_served_fails_and_nothing_is_lost)
{
    for (int i = 0; i < DEEDS; i++) {
        if (deeds[i].call == lock)
            must_be_0(green_mutex_lock(&mutex, GREEN_NOWAIT));
        green_task_t *task = spawn(do_it, (void *)&deeds[i]);
        turn();
        assert_int_equal(green_task_cancel(task), 0);
        green_task_t *next = spawn(do_it, (void *)&deeds[i]); /* comes later, and gets it */
        turn();
        deeds[i].serve();
        assert_ptr_equal(finish(task), V(ECANCELED));
        assert_ptr_equal(finish(next), V(0));
    }
}

DONE_TEST(what_fails_by_a_cancel_in_the_same_turn_as_the_offer_has_not_taken_it)
{
    int item = 5;
    green_task_t *task = spawn(do_it, (void *)&deeds[0]);
    turn();
    assert_int_equal(green_task_cancel(task), 0);
    assert_refused(green_queue_put(queue, &item, GREEN_NOWAIT), ETIMEDOUT);
    assert_ptr_equal(finish(task), V(ECANCELED));
    task = spawn(do_it, (void *)&deeds[2]);
    turn();
    assert_int_equal(green_task_cancel(task), 0);
    assert_int_equal(green_semaphore_release(&semaphore), 0);
    assert_int_equal(green_semaphore_acquire(&semaphore, GREEN_NOWAIT), 0);
    assert_ptr_equal(finish(task), V(ECANCELED));
}

static void *end_at_event(void *value)
{
    must_be_0(green_event_wait(&event, GREEN_FOREVER));
    return value;
}

static void *cancel_it(void *task)
{
    must_be_0(green_task_cancel(task));
    return NULL;
}

static int wait_group(void)
{
    return green_group_wait(group, NULL, GREEN_FOREVER);
}

static int spawn_in_group(void)
{
    return green_group_spawn(group, give_back, NULL);
}

DONE_TEST(who_was_served_by_the_end_of_a_task_and_then_cancelled_succeeds)
{
    static const struct deed by_end[] = { { "join", join, NULL },
                                          { "wait_group", wait_group, NULL },
                                          { "spawn_in_group", spawn_in_group, NULL } };
    for (int i = 0; i < 3; i++) {
        target = NULL;
        if (i == 0)
            target = spawn(end_at_event, V(3));
        else
            must_be_0(green_group_spawn(group, end_at_event, NULL));
        green_task_t *task = spawn(do_then_fail, (void *)&by_end[i]);
        turn();
        /* The line: who ends; who cancels; and then the one that the end has served. */
        must_be_0(green_event_set(&event));
        green_task_t *canceller = spawn(cancel_it, task);
        assert_null(finish(task));
        assert_noted("done");
        assert_int_equal(green_task_free(canceller), 0);
        assert_int_equal(green_task_free(target), 0);
        assert_int_equal(green_event_clear(&event), 0);
        assert_int_equal(green_group_wait(group, NULL, GREEN_FOREVER), 0);
    }
}

/* ---- Time ---------------------------------------------------------------------- */

static bool in_time; /* who waits did so when the computation began: else a new try it is */

/* In one turn, in which nobody looks at timers. */
static void compute_and_serve(const struct deed *deed)
{
    in_time = hub_stat(timers) == 1;
    int64_t due = green_now() + GREEN_MS(20);
    while (green_now() < due)
        continue;
    if (in_time)
        deed->serve();
}

static void *compute_past_the_time(void *deed)
{
    compute_and_serve(deed);
    return NULL;
}

static int begin_world(void **state)
{
    if (hubs_begin_world(state) != 0)
        return -1;
    queue = green_queue_new(sizeof(int), 0);
    group = green_group_new(1, 0);
    semaphore = (green_semaphore_t)GREEN_SEMAPHORE_INIT(0, 0);
    mutex = (green_mutex_t)GREEN_MUTEX_INIT;
    return 0;
}

TEST_WITH(who_was_served_before_its_timer_was_looked_at_has_what_it_was_given, begin_world, end)
{
    for (int i = 0; i < DEEDS; i += in_time) {
        bool locks = deeds[i].call == lock;
        if (locks)
            must_be_0(green_mutex_lock(&mutex, GREEN_NOWAIT));
        green_task_t *task = spawn(do_it, (void *)&deeds[i]);
        if (locks) { /* main has it: it serves itself */
            turn();
            compute_and_serve(&deeds[i]);
        } else {
            assert_null(finish(spawn(compute_past_the_time, (void *)&deeds[i])));
        }
        assert_ptr_equal(finish(task), V(in_time ? 0 : ETIMEDOUT));
        if (locks && !in_time)
            must_be_0(green_mutex_unlock(&mutex));
    }
}

TEST_WITH(in_a_scope_that_is_over_by_its_turn_who_was_served_succeeds_and_the_next_call_fails,
          begin_world, end)
{
    for (in_time = false; !in_time;) {
        int item = 0;
        green_scope_t scope;
        green_task_t *server = spawn(compute_past_the_time, (void *)&deeds[0]);
        must_be_0(green_scope_begin(&scope, GREEN_MS(10), 0));
        int result = green_queue_get(queue, &item, GREEN_SEC(1));
        if (in_time) {
            assert_int_equal(result, 0);
            assert_int_equal(item, 5);
        }
        assert_refused(green_sleep(0), ETIMEDOUT);
        assert_int_equal(green_scope_end(&scope), 1);
        finish(server);
    }
}

/* ---- What was given goes on ---------------------------------------------------- */

static void *return_at_once(void *unused)
{
    must_be_0(green_semaphore_acquire(&semaphore, GREEN_FOREVER));
    return unused; /* with the unit */
}

DONE_TEST(a_unit_that_a_cancelled_task_got_is_its_to_give_back)
{
    green_task_t *task = spawn(return_at_once, NULL);
    turn();
    assert_int_equal(green_semaphore_release(&semaphore), 0);
    assert_int_equal(green_task_free(task), 0);
    assert_refused(green_semaphore_acquire(&semaphore, GREEN_NOWAIT), ETIMEDOUT);
}

static void *keep_the_mutex(void *unused)
{
    must_be_0(green_mutex_lock(&mutex, GREEN_FOREVER));
    must_fail(green_sleep(0), ECANCELED);
    must_be_0(green_mutex_unlock(&mutex));
    return unused;
}

DONE_TEST(a_mutex_that_a_cancelled_task_was_handed_is_its_to_unlock)
{
    assert_int_equal(green_mutex_lock(&mutex, GREEN_NOWAIT), 0);
    green_task_t *task = spawn(keep_the_mutex, NULL);
    turn();
    assert_int_equal(green_mutex_unlock(&mutex), 0);
    assert_int_equal(green_task_cancel(task), 0);
    assert_refused(green_mutex_lock(&mutex, GREEN_NOWAIT), ETIMEDOUT);
    assert_null(finish(task));
    assert_int_equal(green_mutex_lock(&mutex, GREEN_NOWAIT), 0);
    assert_int_equal(green_mutex_unlock(&mutex), 0);
}

/* ---- A put that fails ---------------------------------------------------------- */

static void *put_seven(void *value)
{
    int item = 7;
    int result = green_queue_put(value, &item, GREEN_FOREVER);
    must(item == 7);
    return V(result == 0 ? 0 : errno);
}

DONE_TEST(a_put_and_a_close_in_one_turn_are_0_or_epipe_never_stuck)
{
    green_queue_t *full = green_queue_new(sizeof(int), 1);
    int item = 1;
    green_task_t *puts[4];
    for (int i = 0; i < 3; i++)
        puts[i] = spawn(put_seven, full);
    turn();
    puts[3] = spawn(put_seven, full);
    assert_int_equal(green_queue_get(full, &item, GREEN_NOWAIT), 0);
    assert_int_equal(green_queue_close(full), 0);
    assert_ptr_equal(finish(puts[0]), V(0));
    assert_ptr_equal(finish(puts[1]), V(0)); /* it had been served */
    assert_ptr_equal(finish(puts[2]), V(EPIPE));
    assert_ptr_equal(finish(puts[3]), V(EPIPE));
    assert_int_equal(green_queue_get(full, &item, GREEN_NOWAIT), 0);
    assert_refused(green_queue_get(full, &item, GREEN_NOWAIT), EPIPE);
    assert_int_equal(green_queue_free(full), 0);
}

DONE_TEST(of_two_gets_in_a_select_one_is_done_and_the_other_item_stays)
{
    green_queue_t *other = green_queue_new(sizeof(int), 1), *one = green_queue_new(sizeof(int), 1);
    int items[2] = { 0, 0 }, item = 3;
    green_case_t cases[] = { GREEN_CASE_GET(one, &items[0]), GREEN_CASE_GET(other, &items[1]) };
    must_be_0(green_queue_put(one, &item, GREEN_NOWAIT));
    must_be_0(green_queue_put(other, &item, GREEN_NOWAIT));
    int chosen = green_select(cases, 2, GREEN_FOREVER);
    assert_in_range(chosen, 0, 1);
    assert_int_equal(items[chosen], 3);
    assert_int_equal(items[1 - chosen], 0);
    assert_int_equal(green_queue_size(one) + green_queue_size(other), 1);
    assert_int_equal(green_queue_free(one), 0);
    assert_int_equal(green_queue_free(other), 0);
}

int main(void)
{
    return run_all_tests();
}
