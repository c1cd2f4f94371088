/* SPDX-License-Identifier: MIT */
/* What is left when a hub or its thread is no more, and who may use it (rule 16). */
#include "hubs.h"

HUB_TEST(handles_stay_valid_after_hub_end_and_are_still_owed)
{
    void *value = NULL;
    green_task_t *tasks[3] = { spawn(give_back, V(4)), spawn(fail_with, V(E1)),
                               spawn(sleep_or_fail, V(1000)) };
    turn();
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
    for (int i = 0; i < 3; i++) {
        assert_null(green_task_green(tasks[i]));
        assert_int_equal(green_task_cancel(tasks[i]), 0);
        assert_int_equal(green_task_join(tasks[i], &value, GREEN_NOWAIT), 0);
        if (i == 0)
            assert_ptr_equal(value, V(4));
        else
            assert_ptr_equal(value, GREEN_FAILED);
        if (i > 0)
            assert_int_equal(errno, i == 1 ? E1 : ECANCELED);
    }
    assert_int_equal(green_task_free(tasks[0]), 0);
    assert_int_equal(green_task_detach(tasks[1]), 0);
    assert_int_equal(green_hub_init(NULL), 0); /* another hub makes no difference */
    assert_int_equal(green_task_join(tasks[2], &value, GREEN_FOREVER), 0);
    assert_int_equal(green_task_free(tasks[2]), 0);
}

static void *linger(void *ms)
{
    GREEN_SCOPE(shield, GREEN_FOREVER, GREEN_SHIELD);
    nap((intptr_t)ms);
    return NULL;
}

HUB_TEST(after_a_hub_end_that_took_too_long_a_new_task_is_not_cancelled)
{
    green_task_t *lingers = spawn(linger, V(50));
    turn();
    assert_refused(green_hub_end(GREEN_MS(10)), ETIMEDOUT);
    assert_null(finish(spawn(sleep_for, V(5))));
    assert_int_equal(clock_ms(), 15);
    assert_null(finish(lingers));
    assert_int_equal(clock_ms(), 50);
}

/* ---- What belonged to a hub ---------------------------------------------------- */

static struct {
    green_task_t *task;
    green_queue_t *queue;
    green_group_t *group;
    green_hub_t *handle;
    green_event_t event;
    green_mutex_t mutex;
    green_semaphore_t semaphore;
} things;

static void deferred(void *unused)
{
    (void)unused;
    note("deferred");
}

static void *wait_with_a_deferred(void *unused)
{
    must_be_0(green_defer(deferred, NULL));
    note("%d", green_event_wait(&things.event, GREEN_FOREVER));
    return unused;
}

static void *make_things(void *ends)
{
    int item = 7;
    memset(&things, 0, sizeof things);
    things.queue = green_queue_new(sizeof item, 2);
    must_be_0(green_queue_put(things.queue, &item, GREEN_FOREVER));
    things.group = green_group_new(0, 0);
    things.handle = green_hub_open();
    must_be_0(green_group_spawn(things.group, ends == NULL ? wait_with_a_deferred : sleep_for,
                                V(1)));
    must_be_0(green_mutex_lock(&things.mutex, GREEN_FOREVER));
    must_be_0(green_mutex_unlock(&things.mutex));
    must_be_0(green_semaphore_release(&things.semaphore));
    things.task = spawn(ends == NULL ? wait_with_a_deferred : sleep_or_fail, V(100));
    turn();
    if (ends != NULL)
        must_be_0(green_hub_end(GREEN_FOREVER));
    return NULL;
}

static void use_things(void)
{
    int item = 0;
    void *value = NULL;
    assert_int_equal(green_task_join(things.task, &value, GREEN_FOREVER), 0);
    assert_ptr_equal(value, GREEN_FAILED);
    assert_int_equal(errno, ECANCELED);
    assert_int_equal(green_task_free(things.task), 0);
    assert_int_equal(green_queue_get(things.queue, &item, GREEN_FOREVER), 0);
    assert_int_equal(item, 7);
    assert_int_equal(green_queue_free(things.queue), 0);
    assert_int_equal(green_group_size(things.group), 0);
    assert_int_equal(green_group_wait(things.group, NULL, GREEN_FOREVER), 0);
    assert_int_equal(green_group_free(things.group), 0);
    assert_refused(green_hub_spawn(things.handle, never, NULL), ESRCH);
    assert_int_equal(green_hub_close(things.handle), 0);
    assert_refused(green_event_wait(&things.event, GREEN_MS(1)), ETIMEDOUT);
    assert_int_equal(green_mutex_lock(&things.mutex, GREEN_FOREVER), 0);
    assert_int_equal(green_mutex_unlock(&things.mutex), 0);
    assert_int_equal(green_semaphore_acquire(&things.semaphore, GREEN_FOREVER), 0);
}

HUB_TEST(after_hub_end_any_thread_may_use_what_belonged_to_it)
{
    in_thread(make_things, V(1));
    use_things();
}

HUB_TEST(a_thread_that_ends_without_hub_end_runs_nothing_of_its_tasks_they_have_ended_cancelled)
{
    in_thread(make_things, NULL);
    use_things();
    assert_noted("");
}

#ifdef __GLIBC__ /* others do not unwind there */

static void wait_while_ending(green_task_t **task)
{
    green_event_t event = GREEN_EVENT_INIT;
    void *value = NULL;
    must(green_current() == green_main());
    must_fail(green_sleep(GREEN_SEC(1000)), ECANCELED);
    must_fail(green_sleep(0), ECANCELED);
    must_fail(green_event_wait(&event, GREEN_FOREVER), ECANCELED);
    must_fail(green_hub_run(GREEN_FOREVER), ECANCELED);
    must_fail(green_hub_wait(GREEN_FOREVER), ECANCELED);
    must(green_task_spawn(give_back, NULL) == NULL && errno == ECANCELED);
    /* What need not wait is done. */
    must_be_0(green_task_join(*task, &value, GREEN_FOREVER));
    must(value == GREEN_FAILED && errno == ECANCELED);
    must_be_0(green_task_free(*task));
    must_be_0(green_event_set(&event));
    must_be_0(green_event_wait(&event, GREEN_FOREVER));
    note("ended");
}

static void *exit_the_thread(void *cancels)
{
    if (cancels != NULL) {
        must_be_0(pthread_cancel(pthread_self()));
        pthread_testcancel();
    }
    pthread_exit(NULL);
}

static void *exit_in_a_task(void *cancels)
{
    __attribute__((cleanup(wait_while_ending), unused)) green_task_t *task =
        spawn(sleep_for, V(1000000));
    must_be_0(green_task_detach(spawn(exit_the_thread, cancels)));
    must_be_0(green_hub_wait(GREEN_FOREVER));
    return NULL;
}

HUB_TEST(while_a_thread_is_being_ended_in_a_task_what_would_have_to_wait_fails)
{
    if (UNDER_TSAN)
        skip_because("ThreadSanitizer dies of pthread_exit() on another stack than the thread's");
    for (intptr_t cancels = 0; cancels < 2; cancels++) {
        in_thread(exit_in_a_task, V(cancels));
        assert_noted("ended");
    }
}

#endif

int main(void)
{
    return run_all_tests();
}
