/* SPDX-License-Identifier: MIT */
/* A hub's beginning and end, by green_hub_end() and with its thread (rules 1, 16, 19). */
#include "hubs.h"

static green_event_t event;

/* As HUB_TEST, but without a hub at the beginning. */
static int begin(void **state)
{
    must(hubs_begin_virtual(state) == 0);
    event = (green_event_t)GREEN_EVENT_INIT;
    return green_hub_end(GREEN_FOREVER);
}

#define END_TEST(sentence) TEST_WITH(sentence, begin, hubs_end)

static void *wait_and_note(void *name)
{
    if (green_event_wait(&event, GREEN_FOREVER) == 0)
        return name;
    note("%s:%s", (const char *)name, errno == ECANCELED ? "cancelled" : "?");
    return GREEN_FAILED;
}

/* ---- Options --------------------------------------------------------------------------------- */

static void hog(const char *name, pid_t thread, int64_t time, void *data)
{
    must(name != NULL && thread > 0 && time > 0 && data == NULL);
}

END_TEST(nonsense_makes_no_hub)
{
    const green_hub_options_t bad[] = {
        { .flags = 1 },
        { .flags = GREEN_SHIELD },
        { .reserved = { V(1) } },
        { .reserved = { NULL, NULL, NULL, V(1) } },
        { .longest_turn = 1 },
        { .longest_turn = -1, .hogged = hog },
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_refused(green_hub_init(&bad[i]), EINVAL);
    assert_null(green_task_current());
}

END_TEST(a_hub_is_made_once)
{
    assert_int_equal(green_hub_init(NULL), 0);
    assert_refused(green_hub_init(NULL), EBUSY);
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
    assert_int_equal(green_sleep(0), 0);
    assert_refused(green_hub_init(NULL), EBUSY);
    const green_hub_options_t zero = { .stack_size = 0 };
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
    assert_int_equal(green_hub_init(&zero), 0);
}

/* ---- green_hub_end() ------------------------------------------------------------------------- */

/* gevent: test__destroy */
END_TEST(after_the_end_the_next_use_makes_another)
{
    int descriptors = hubs_descriptors();
    assert_int_equal(green_hub_end(GREEN_NOWAIT), 0); /* there is none */
    for (int i = 0; i < 3; i++) {
        green_hub_t *handle = green_hub_open();
        assert_true(hubs_descriptors() > descriptors);
        assert_int_equal(green_hub_close(handle), 0);
        assert_true(green_hub_fd() >= 0);
        assert_int_equal(green_sleep(GREEN_MS(1)), 0);
        assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
        assert_int_equal(hubs_descriptors(), descriptors);
        assert_null(green_task_current());
    }
}

static void *end_hub(void *unused)
{
    must_fail(green_hub_end(GREEN_FOREVER), EBUSY);
    must_fail(green_hub_end(GREEN_NOWAIT), EBUSY);
    must_fail(green_hub_run(GREEN_NOWAIT), EBUSY);
    note("refused");
    return unused;
}

static void *end_hub_in_generator(void *unused)
{
    green_t *generator = green_new(end_hub, NULL);
    must(green_switch(generator, unused) == unused);
    must_be_0(green_free(generator));
    return unused;
}

END_TEST(only_the_main_green_ends_it)
{
    finish(spawn(end_hub, NULL));
    end_hub_in_generator(NULL);
    assert_noted("refused refused");
}

static void *sleep_in_generator(void *unused)
{
    must_be_0(green_sleep(GREEN_MS(5)));
    return unused;
}

static void *hand_to_main(void *unused)
{
    green_switch(green_main(), unused);
    return unused;
}

END_TEST(it_is_not_ended_while_a_green_of_the_main_task_waits)
{
    green_t *generator = green_new(sleep_in_generator, NULL);
    /* It waits; a task hands the thread to main, which waits in a switch. */
    green_task_t *task = spawn(hand_to_main, NULL);
    assert_non_null(generator);
    assert_null(green_switch(generator, NULL)); /* main is entered by the task */
    assert_int_equal(green_state(generator), GREEN_SUSPENDED);
    assert_refused(green_hub_end(GREEN_FOREVER), EBUSY);
    assert_refused(green_thread_end(), EBUSY);
    assert_refused(green_sleep(GREEN_SEC(10)), EINTR); /* it dies into it */
    assert_int_equal(green_state(generator), GREEN_DEAD);
    assert_int_equal(green_free(generator), 0);
    /* The task ends, and nobody is left to come back to main's switch. */
    assert_fails(green_switch(green_task_green(task), NULL), EDEADLK);
    finish(task);
}

END_TEST(it_cancels_all_and_waits_for_their_ends)
{
    green_task_t *a = spawn(wait_and_note, "a"), *b = spawn(wait_and_note, "b");
    green_task_t *c = spawn(wait_and_note, "not started");
    turn();
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
    assert_noted("a:cancelled b:cancelled not started:cancelled");
    /* handles stay valid, and owed */
    void *value = NULL;
    assert_int_equal(green_task_join(a, &value, GREEN_NOWAIT), 0);
    assert_ptr_equal(value, GREEN_FAILED);
    assert_int_equal(errno, ECANCELED);
    assert_null(green_task_green(a));
    assert_int_equal(green_task_cancel(b), 0);
    assert_int_equal(green_task_free(a), 0);
    assert_int_equal(green_task_free(b), 0);
    assert_int_equal(green_task_detach(c), 0);
    assert_null(green_task_current()); /* none of this made a hub */
}

static void *spawn_another(void *count)
{
    must_fail(green_sleep(GREEN_FOREVER), ECANCELED);
    if (count != NULL)
        must_be_0(green_task_detach(spawn(spawn_another, V((intptr_t)count - 1))));
    note("%d", (int)(intptr_t)count);
    return NULL;
}

END_TEST(it_cancels_those_too_that_are_spawned_meanwhile)
{
    assert_int_equal(green_task_detach(spawn(spawn_another, V(3))), 0);
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
    assert_noted("3 2 1 0");
}

static void *clean_up_for(void *ms)
{
    green_scope_t shield;
    must_fail(green_event_wait(&event, GREEN_FOREVER), ECANCELED);
    must_be_0(green_scope_begin(&shield, GREEN_FOREVER, GREEN_SHIELD));
    nap((intptr_t)ms);
    note("clean");
    return NULL; /* with the scope open */
}

static void *note_if_not_cancelled(void *name)
{
    must(green_task_check() == 0);
    note("%s", (const char *)name);
    return NULL;
}

END_TEST(an_end_that_takes_too_long_leaves_the_hub_with_all_cancelled)
{
    assert_int_equal(
        green_hub_init(&(green_hub_options_t){ .flags = GREEN_HUB_VIRTUAL_TIME }), 0);
    int64_t start = green_now();
    green_task_t *task = spawn(clean_up_for, V(100));
    turn();
    assert_refused(green_hub_end(GREEN_MS(10)), ETIMEDOUT);
    assert_int_equal(green_now() - start, GREEN_MS(10));
    green_task_t *later = spawn(note_if_not_cancelled, "fresh");
    turn();
    assert_noted("fresh");
    assert_int_equal(green_task_join(task, NULL, GREEN_MS(200)), 0);
    assert_int_equal(green_now() - start, GREEN_MS(100));
    assert_noted("clean");
    finish(later);
    finish(task);
    assert_int_equal(green_hub_end(GREEN_NOWAIT), 0);
    assert_null(green_task_current());
}

static void *clean_up_until_told(void *told)
{
    green_scope_t shield;
    must_fail(green_sleep(GREEN_FOREVER), ECANCELED);
    must_be_0(green_scope_begin(&shield, GREEN_FOREVER, GREEN_SHIELD));
    must_be_0(green_event_wait(told, GREEN_SEC(20)));
    must_be_0(green_scope_end(&shield));
    return NULL;
}

END_TEST(an_end_without_time_waits_for_nobody)
{
    static const int64_t no_time[] = { 0, -1, INT64_MIN + 1, INT64_MIN };
    green_task_t *task = spawn(clean_up_until_told, &event);
    turn();
    for (size_t i = 0; i < sizeof no_time / sizeof no_time[0]; i++)
        assert_refused(green_hub_end(no_time[i]), ETIMEDOUT);
    assert_int_equal(green_event_set(&event), 0);
    finish(task);
    assert_int_equal(green_hub_end(INT64_MIN), 0);
}

END_TEST(the_cancel_and_the_scopes_of_main_do_not_keep_it_from_ending)
{
    green_scope_t scope;
    green_task_t *task = spawn(clean_up_for, V(10));
    turn();
    assert_int_equal(green_scope_begin(&scope, 0, 0), 0);
    assert_int_equal(green_task_cancel(green_task_current()), 0);
    assert_refused(green_sleep(0), ECANCELED);
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
    assert_noted("clean");
    assert_int_equal(green_scope_end(&scope), 0);
    assert_int_equal(green_task_free(task), 0);
    assert_int_equal(green_sleep(0), 0); /* another main task, without cancel */
}

static void *end_while_it_waits(void *unused)
{
    must_fail(green_hub_wait(GREEN_FOREVER), ECANCELED);
    note("hub wait");
    return unused;
}

END_TEST(who_waits_for_all_to_end_is_cancelled_too)
{
    assert_int_equal(green_task_detach(spawn(end_while_it_waits, NULL)), 0);
    turn();
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
    assert_noted("hub wait");
}

/* ---- What belonged to the hub ---------------------------------------------------------------- */

struct things {
    green_queue_t *queue;
    green_group_t *group;
    green_mutex_t mutex;
    green_semaphore_t semaphore;
    green_cond_t cond;
    green_event_t event;
};

static void use(struct things *things, int error)
{
    int item = 0;
    green_case_t c = GREEN_CASE_GET(things->queue, &item);
#define SAYS(expr) (errno = 0, error == 0 ? (expr) == 0 : (expr) == -1 && errno == error)
    must(SAYS(green_queue_put(things->queue, &item, GREEN_NOWAIT)));
    must(SAYS(green_select(&c, 1, GREEN_NOWAIT)));
    must(SAYS(green_group_wait(things->group, NULL, GREEN_NOWAIT)));
    must(SAYS(green_mutex_lock(&things->mutex, GREEN_NOWAIT)));
    must(SAYS(green_mutex_unlock(&things->mutex)));
    must(SAYS(green_semaphore_release(&things->semaphore)));
    must(SAYS(green_semaphore_acquire(&things->semaphore, GREEN_NOWAIT)));
    must(SAYS(green_cond_signal(&things->cond, 1)));
    must(SAYS(green_event_set(&things->event)));
    must(SAYS(green_event_wait(&things->event, GREEN_NOWAIT)));
    must(SAYS(green_event_clear(&things->event)));
}

static void *use_in_vain(void *things)
{
    struct things *t = things;
    int item;
    use(t, EPERM);
    must_fail(green_queue_get(t->queue, &item, GREEN_NOWAIT), EPERM);
    must_fail(green_queue_close(t->queue), EPERM);
    must_fail(green_queue_free(t->queue), EPERM);
    must_fail(green_group_spawn(t->group, never, NULL), EPERM);
    must_fail(green_group_cancel(t->group), EPERM);
    must_fail(green_group_free(t->group), EPERM);
    must_fail(green_cond_wait(&t->cond, NULL, GREEN_NOWAIT), EPERM);
    must_fail(green_cond_wait(&(green_cond_t)GREEN_COND_INIT, &t->mutex, GREEN_NOWAIT), EPERM);
    must_be_0(green_hub_end(GREEN_FOREVER));
    return NULL;
}

static void *use_and_release(void *things)
{
    struct things *t = things;
    use(t, 0);
    must_be_0(green_queue_free(t->queue));
    must_be_0(green_group_free(t->group));
    must_be_0(green_hub_end(GREEN_FOREVER));
    return NULL;
}

static void make_things(struct things *t)
{
    memset(t, 0, sizeof *t);
    must((t->queue = green_queue_new(sizeof(int), 1)) != NULL);
    must((t->group = green_group_new(0, 0)) != NULL);
    use(t, 0);
}

END_TEST(what_a_thread_uses_is_refused_to_others_until_its_hub_ends)
{
    struct things things;
    make_things(&things);
    in_thread(use_in_vain, &things);
    use(&things, 0);
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
    in_thread(use_and_release, &things);
}

static void *make_in_thread(void *things)
{
    make_things(things);
    return NULL; /* without green_hub_end() */
}

END_TEST(what_a_thread_used_may_be_used_when_it_has_ended)
{
    struct things things;
    in_thread(make_in_thread, &things);
    use_and_release(&things);
}

/* A task waits in each. */
static void *wait_in_queue(void *t)
{
    int item;
    return V(green_queue_get(((struct things *)t)->queue, &item, GREEN_FOREVER));
}

static void *wait_in_event(void *t)
{
    return V(green_event_wait(&((struct things *)t)->event, GREEN_FOREVER));
}

static void *wait_in_semaphore(void *t)
{
    return V(green_semaphore_acquire(&((struct things *)t)->semaphore, GREEN_FOREVER));
}

static void *wait_in_cond(void *t)
{
    return V(green_cond_wait(&((struct things *)t)->cond, NULL, GREEN_FOREVER));
}

static void *wait_in_group(void *t)
{
    return V(green_group_wait(((struct things *)t)->group, NULL, GREEN_FOREVER));
}

static void *leave_waiters(void *things)
{
    green_fn *const waits[] = { wait_in_queue, wait_in_event, wait_in_semaphore, wait_in_cond,
                                wait_in_group };
    struct things *t = things;
    make_things(t);
    must_be_0(green_group_spawn(t->group, wait_in_event, t));
    for (size_t i = 0; i < sizeof waits / sizeof waits[0]; i++)
        must_be_0(green_task_detach(spawn(waits[i], t)));
    turn();
    return NULL;
}

END_TEST(what_a_thread_has_left_with_waiters_is_without_them_when_it_has_ended)
{
    struct things things;
    in_thread(leave_waiters, &things);
    assert_int_equal(green_group_size(things.group), 0);
    use_and_release(&things);
}

/* ---- The end of a thread --------------------------------------------------------------------- */

static void *end_thread_of_green(void *unused)
{
    green_task_t *task = spawn(wait_and_note, "task");
    must_fail(green_thread_end(), EBUSY);
    turn();
    must_fail(green_thread_end(), EBUSY);
    must_be_0(green_task_free(task));
    must_be_0(green_thread_end());
    must(green_task_current() == NULL);
    must_be_0(green_sleep(0)); /* another hub */
    return unused;
}

END_TEST(green_thread_end_is_refused_while_tasks_live_and_ends_a_hub_without_them)
{
    in_thread(end_thread_of_green, NULL);
    assert_noted("task:cancelled");
}

static void *leave_tasks(void *handles)
{
    green_task_t **tasks = handles;
    tasks[0] = spawn(wait_and_note, "waits");
    must_be_0(green_task_detach(spawn(wait_and_note, "detached")));
    turn();
    tasks[1] = spawn(wait_and_note, "not started");
    tasks[2] = spawn(wait_and_note, "never");
    must_be_0(green_event_set(&event)); /* which is ready, and not run */
    return NULL;
}

/* Ended, cancelled; and nothing of them has run. */
static void assert_lost(green_task_t **tasks, int count)
{
    assert_noted("");
    for (int i = 0; i < count; i++) {
        void *value = NULL;
        assert_int_equal(green_task_join(tasks[i], &value, GREEN_NOWAIT), 0);
        assert_ptr_equal(value, GREEN_FAILED);
        assert_int_equal(errno, ECANCELED);
        assert_int_equal(green_task_free(tasks[i]), 0);
    }
}

END_TEST(a_thread_that_ends_runs_nothing_of_its_tasks)
{
    green_task_t *tasks[3];
    in_thread(leave_tasks, tasks);
    assert_lost(tasks, 3);
}

static void *leave_by_pthread_exit(void *handles)
{
    leave_tasks(handles);
    pthread_exit(NULL);
}

END_TEST(a_thread_that_calls_pthread_exit_runs_nothing_of_its_tasks)
{
    green_task_t *tasks[3];
    in_thread(leave_by_pthread_exit, tasks);
    assert_lost(tasks, 3);
}

static void wait_in_cleanup(void *name)
{
    must_fail(green_sleep(0), ECANCELED);
    must_fail(green_sleep(GREEN_SEC(1)), ECANCELED);
    must_fail(green_event_wait(&event, GREEN_FOREVER), ECANCELED);
    must_fail(green_hub_wait(GREEN_FOREVER), ECANCELED);
    note("%s", (const char *)name);
}

static const char skipped_for_tsan[] =
    "ThreadSanitizer dies of pthread_exit() on another stack than the thread's";

static void *exit_thread_in_task(void *unused)
{
    pthread_cleanup_push(note_arg, "task unwound");
    pthread_exit(unused);
    pthread_cleanup_pop(0);
    return unused;
}

static void *wait_for_exit(void *handles)
{
    green_task_t **tasks = handles;
    tasks[0] = spawn(wait_and_note, "waits");
    tasks[1] = spawn(exit_thread_in_task, NULL);
    tasks[2] = spawn(wait_and_note, "never");
    pthread_cleanup_push(wait_in_cleanup, "main unwound");
    green_sleep(GREEN_FOREVER);
    pthread_cleanup_pop(0);
    return NULL;
}

END_TEST(pthread_exit_in_a_task_ends_the_thread_and_what_would_wait_fails)
{
    green_task_t *tasks[3];
    if (UNDER_TSAN)
        skip_because(skipped_for_tsan);
    in_thread(wait_for_exit, tasks);
    assert_noted("task unwound main unwound");
    assert_lost(tasks, 3);
}

static void *yield_once(void *unused)
{
    (void)unused;
    must(green_yield(V(1)) == V(2));
    return V(3);
}

static void use_greens(void *name)
{
    green_t *g = green_new(yield_once, NULL);
    must(green_switch(g, NULL) == V(1) && green_switch(g, V(2)) == V(3));
    must_be_0(green_free(g));
    note("%s", (const char *)name);
}

static void *wait_and_use_greens(void *unused)
{
    must_be_0(green_task_detach(spawn(exit_thread_in_task, NULL)));
    pthread_cleanup_push(use_greens, "main unwound");
    green_sleep(GREEN_FOREVER);
    pthread_cleanup_pop(0);
    return unused;
}

END_TEST(who_waited_while_the_thread_ended_may_be_switched_to_in_its_clean_up)
{
    if (UNDER_TSAN)
        skip_because(skipped_for_tsan);
    in_thread(wait_and_use_greens, NULL);
    assert_noted("task unwound main unwound");
}

static green_t *lower, *upper;

static void *wait_above(void *unused)
{
    lower = green_new(yield_once, NULL);
    must(green_switch(lower, NULL) == V(1));
    (void)green_sleep(GREEN_FOREVER);
    note("the task goes on");
    return unused;
}

static void enter_below(void *value)
{
    green_hub_stats_t stats;
    must(green_switch(lower, V(2)) == value);
    must_be_0(green_free(lower));
    must_be_0(green_free(upper));
    must_be_0(green_hub_stats(&stats, sizeof stats));
    must(stats.tasks == 1 && stats.ready == 0);
    note("main unwound");
}

static void *wait_for_the_unwinding(void *unused)
{
    upper = NULL;
    must_be_0(green_task_detach(spawn(wait_above, NULL)));
    must_be_0(green_task_detach(spawn(exit_thread_in_task, NULL)));
    pthread_cleanup_push(enter_below, V(3));
    green_sleep(GREEN_FOREVER);
    pthread_cleanup_pop(0);
    return unused;
}

END_TEST(what_ends_in_a_clean_up_below_a_task_of_the_thread_does_not_enter_it)
{
    if (UNDER_TSAN)
        skip_because(skipped_for_tsan);
    in_thread(wait_for_the_unwinding, NULL);
    assert_noted("task unwound main unwound");
}

struct left_wait {
    int64_t time;
    unsigned flags; /* of the hub */
};

static void *sleep_above(void *arg)
{
    const struct left_wait *wait = arg;
    lower = green_new(yield_once, NULL);
    must(green_switch(lower, NULL) == V(1));
    if (wait->time == 0)
        must_be_0(green_sleep(0)); /* it has had its turn */
    else
        must_fail(green_sleep(wait->time), ECANCELED);
    return V(4);
}

static void *give_turns(void *unused)
{
    while (green_sleep(0) == 0)
        continue;
    return unused;
}

static void *leave_a_wait(void *arg)
{
    const struct left_wait *wait = arg;
    must_be_0(green_hub_init(&(green_hub_options_t){ .flags = wait->flags }));
    must_be_0(green_task_detach(spawn(give_turns, NULL)));
    must_be_0(green_task_detach(spawn(exit_thread_in_task, NULL)));
    pthread_cleanup_push(enter_below, V(4));
    upper = green_new(sleep_above, NULL);
    green_switch(upper, arg);
    pthread_cleanup_pop(0);
    return NULL;
}

/* Its place in the line, or its timer, went with the hub's green. */
END_TEST(a_wait_of_a_green_of_main_that_goes_on_in_a_clean_up_has_failed)
{
    struct left_wait waits[] = {
        { 0, 0 }, { 0, GREEN_HUB_VIRTUAL_TIME }, { GREEN_SEC(10), 0 }, { GREEN_FOREVER, 0 },
    };
    if (UNDER_TSAN)
        skip_because(skipped_for_tsan);
    for (int i = 0; i < 4; i++) {
        in_thread(leave_a_wait, &waits[i]);
        assert_noted("task unwound main unwound");
    }
}

/* The wait of who is unwound is gone, also for the call that does not wait itself. */
static int pipe_ends[2];

#define LETTERS 4096 /* they are where the wait was */

static void close_pipe(void *unused)
{
    char letters[LETTERS + 1] = { 0 };
    must(memset(letters, 'Z', LETTERS) == letters);
    must_be_0(green_close(pipe_ends[0]));
    must(strspn(letters, "Z") == LETTERS);
    note("closed");
    (void)unused;
}

static void dump(void *unused)
{
    green_hub_stats_t stats;
    char letters[LETTERS + 1] = { 0 };
    must(memset(letters, 'Z', LETTERS) == letters);
    must_be_0(green_hub_dump(pipe_ends[1]));
    must(strspn(letters, "Z") == LETTERS);
    must_be_0(green_hub_stats(&stats, sizeof stats));
    must(stats.tasks == 1 && stats.descriptors == 0);
    must_be_0(green_close(pipe_ends[0]));
    note("dumped");
    (void)unused;
}

static void *read_and_clean_up(void *clean_up)
{
    char byte;
    must_be_0(green_task_detach(spawn(exit_thread_in_task, NULL)));
    pthread_cleanup_push(*(void (**)(void *))clean_up, NULL);
    (void)green_read(pipe_ends[0], &byte, 1);
    pthread_cleanup_pop(0);
    return NULL;
}

END_TEST(the_first_call_of_a_clean_up_finds_no_wait_of_the_frames_that_were_left)
{
    void (*clean_ups[])(void *) = { dump, close_pipe };
    if (UNDER_TSAN)
        skip_because(skipped_for_tsan);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pipe(pipe_ends), 0);
        in_thread(read_and_clean_up, &clean_ups[i]);
        close(pipe_ends[1]);
    }
    assert_noted("task unwound dumped task unwound closed");
}

/*
 * So is a scope that lay in those frames and was not ended.  Letters are there now, and the
 * first call of the clean-up neither reads a scope from them nor writes to them.
 */
static green_scope_t *outer_scope;

static void end_outer(void)
{
    must_be_0(green_scope_end(outer_scope));
}

static void begin_one(void)
{
    green_scope_t scope;
    must_be_0(green_scope_begin(&scope, GREEN_FOREVER, GREEN_SHIELD));
    must_be_0(green_scope_end(&scope));
}

static void check(void)
{
    (void)green_task_check();
}

static void give_a_turn(void)
{
    (void)green_sleep(0);
}

static void *give_a_turn_below(void *unused)
{
    give_a_turn();
    return unused;
}

static void use_a_green(void)
{
    green_t *g = green_new(give_a_turn_below, NULL);
    must(g != NULL && green_switch(g, NULL) == NULL);
    must_be_0(green_free(g));
}

static void end_hub_here(void)
{
    (void)green_hub_end(GREEN_FOREVER);
}

static void (*const first_calls[])(void) = {
    end_outer, begin_one, check, give_a_turn, use_a_green, end_hub_here,
};

static void call_first(void *call)
{
    char letters[LETTERS + 1] = { 0 };
    must(memset(letters, 'Z', LETTERS) == letters);
    (*(void (**)(void))call)();
    must(strspn(letters, "Z") == LETTERS);
    must_be_0(green_scope_end(outer_scope));
    must(strspn(letters, "Z") == LETTERS);
    note("cleaned");
}

static __attribute__((noinline)) void leave_a_scope(void)
{
    green_scope_t inner;
    must_be_0(green_scope_begin(&inner, GREEN_SEC(100), 0));
    pthread_exit(NULL);
}

static __attribute__((noinline)) void wait_in_a_scope(void)
{
    green_scope_t inner;
    must_be_0(green_scope_begin(&inner, GREEN_SEC(100), 0));
    must_be_0(green_task_detach(spawn(exit_thread_in_task, NULL)));
    (void)green_sleep(GREEN_FOREVER);
}

static void *leave_two_scopes(void *call, void (*leave)(void))
{
    green_scope_t outer;
    outer_scope = &outer;
    must_be_0(green_scope_begin(&outer, GREEN_SEC(200), 0));
    pthread_cleanup_push(call_first, call);
    leave();
    pthread_cleanup_pop(0);
    return NULL;
}

static void *exit_in_two_scopes(void *call)
{
    return leave_two_scopes(call, leave_a_scope);
}

static void *wait_in_two_scopes(void *call)
{
    return leave_two_scopes(call, wait_in_a_scope);
}

static void *exit_in_a_task(void *call)
{
    must_be_0(green_task_detach(spawn(exit_in_two_scopes, call)));
    (void)green_sleep(GREEN_FOREVER);
    return NULL;
}

static green_t *exited;

static void *exit_in_a_green(void *call)
{
    turn();
    exited = green_new(exit_in_two_scopes, NULL);
    return green_switch(exited, call);
}

/* Of whose thread: each of the calls in a clean-up of it. */
static void leave_scopes(void *(*body)(void *))
{
    for (size_t i = 0; i < sizeof first_calls / sizeof first_calls[0]; i++) {
        exited = NULL;
        in_thread(body, (void *)&first_calls[i]);
        assert_int_equal(green_free(exited), 0);
        assert_string_equal(strrchr(noted(), 'c'), "cleaned");
        noted()[0] = '\0';
    }
}

END_TEST(the_first_call_of_a_clean_up_finds_no_scope_of_the_frames_that_were_left)
{
    leave_scopes(exit_in_two_scopes);
}

END_TEST(neither_does_it_in_a_task_or_a_green_or_in_main_that_waits)
{
    if (UNDER_TSAN)
        skip_because(skipped_for_tsan);
    leave_scopes(exit_in_a_task);
    leave_scopes(exit_in_a_green);
    leave_scopes(wait_in_two_scopes);
}

/* One that is below all frames that are there is not even looked at. */
static bool scope_on_stack; /* ASan may have it elsewhere */

static __attribute__((noinline)) void leave_a_scope_that_is_over(const volatile char *above)
{
    green_scope_t inner;
    must(*above == 'Z');
    scope_on_stack = labs((intptr_t)&inner - (intptr_t)__builtin_frame_address(0)) < LETTERS;
    must_be_0(green_scope_begin(&inner, 0, 0));
    must_fail(green_task_check(), ETIMEDOUT);
    pthread_exit(NULL);
}

static __attribute__((noinline)) void leave_it_far_below(void)
{
    char room[LETTERS];
    must(memset(room, 'Z', sizeof room) == room);
    leave_a_scope_that_is_over(room);
}

static void check_in_cleanup(void *unused)
{
    must(!scope_on_stack || green_task_check() == 0);
    note("checked");
    (void)unused;
}

static void *exit_far_below(void *unused)
{
    pthread_cleanup_push(check_in_cleanup, NULL);
    leave_it_far_below();
    pthread_cleanup_pop(0);
    return unused;
}

static void *exit_far_below_in_a_task(void *unused)
{
    must_be_0(green_task_detach(spawn(exit_far_below, NULL)));
    (void)green_sleep(GREEN_FOREVER);
    return unused;
}

END_TEST(a_scope_of_frames_that_were_left_limits_nothing_that_is_called_above_them)
{
    in_thread(exit_far_below, NULL);
    assert_noted("checked");
    if (UNDER_TSAN)
        return;
    in_thread(exit_far_below_in_a_task, NULL);
    assert_noted("checked");
}

/* ---- Waits in clean-up that come before anything is lost --------------------------- */

static void wait_for_sleeper(void *task)
{
    void *value = NULL;
    must_be_0(green_sleep(0));
    must_be_0(green_task_join(*(green_task_t **)task, &value, GREEN_FOREVER));
    must(value == NULL);
    must_be_0(green_task_free(*(green_task_t **)task));
    note("waited");
}

static void *exit_and_wait(void *unused)
{
    green_task_t *task = spawn(sleep_for, V(10));
    pthread_cleanup_push(wait_for_sleeper, &task);
    pthread_exit(unused);
    pthread_cleanup_pop(0);
    return unused;
}

END_TEST(main_that_calls_pthread_exit_may_wait_in_its_clean_up)
{
    in_thread(exit_and_wait, NULL);
    assert_noted("waited");
}

static void *wait_for_one_that_waits(void *unused)
{
    must_be_0(green_task_detach(spawn(exit_and_wait, NULL)));
    pthread_cleanup_push(wait_in_cleanup, "main unwound");
    must_be_0(green_sleep(0));
    note("main runs");
    green_sleep(GREEN_FOREVER);
    pthread_cleanup_pop(0);
    return unused;
}

END_TEST(a_task_that_calls_pthread_exit_may_wait_in_its_clean_up_and_main_not_after_it)
{
    if (UNDER_TSAN)
        skip_because(skipped_for_tsan);
    in_thread(wait_for_one_that_waits, NULL);
    assert_noted("main runs waited main unwound");
}

/*
 * Who waits is not above the task that ends the thread, but above a green below it, that has
 * waited, too.  To be in a wait itself meanwhile, it is resumed by another task.
 */
static green_t *waiter, *below;
static green_event_t below_goes;

static void *exit_below(void *unused)
{
    must_be_0(green_event_wait(&below_goes, GREEN_FOREVER));
    pthread_exit(unused);
}

static void *resume_waiter(void *unused)
{
    (void)green_switch(waiter, NULL);
    return unused;
}

static void *let_below_go(void *unused)
{
    must_be_0(green_event_set(&below_goes));
    return unused;
}

static void *wait_above_one_that_exits(void *name)
{
    waiter = green_current();
    below = green_new(exit_below, NULL);
    must(below != NULL);
    must_be_0(green_task_detach(spawn(resume_waiter, NULL)));
    pthread_cleanup_push(wait_in_cleanup, name);
    must(green_switch(below, NULL) == NULL);
    must_be_0(green_task_detach(spawn(let_below_go, NULL)));
    green_event_wait(&event, GREEN_FOREVER);
    pthread_cleanup_pop(0);
    return NULL;
}

static void *join_one_whose_green_exits(void *task)
{
    *(green_task_t **)task = spawn(wait_above_one_that_exits, "task unwound");
    pthread_cleanup_push(wait_in_cleanup, "main unwound");
    green_task_join(*(green_task_t **)task, NULL, GREEN_FOREVER);
    pthread_cleanup_pop(0);
    return NULL;
}

END_TEST(pthread_exit_below_a_green_that_waits_ends_its_wait_and_the_hub)
{
    if (UNDER_TSAN)
        skip_because(skipped_for_tsan);
    below_goes = (green_event_t)GREEN_EVENT_INIT;
    in_thread(wait_above_one_that_exits, "main unwound");
    assert_int_equal(green_free(below), 0);
    assert_noted("main unwound");
}

END_TEST(pthread_exit_below_a_task_that_waits_ends_its_wait_and_the_hub)
{
    green_task_t *task = NULL;
    if (UNDER_TSAN)
        skip_because(skipped_for_tsan);
    below_goes = (green_event_t)GREEN_EVENT_INIT;
    in_thread(join_one_whose_green_exits, &task);
    assert_int_equal(green_free(below), 0);
    assert_noted("task unwound main unwound");
    noted()[0] = '\0';
    assert_lost(&task, 1);
}

#ifdef __GLIBC__ /* others do not unwind there */

static void *wait_in_vain(void *unused)
{
    (void)green_event_wait(&event, GREEN_FOREVER);
    return unused;
}

/* Main itself is in no wait: it has switched to who is. */
static void *switch_to_one_that_waits(void *green)
{
    must_be_0(green_task_detach(spawn(exit_thread_in_task, NULL)));
    *(green_t **)green = green_new(wait_in_vain, NULL);
    pthread_cleanup_push(wait_in_cleanup, "main unwound");
    (void)green_switch(*(green_t **)green, NULL);
    pthread_cleanup_pop(0);
    return NULL;
}

END_TEST(pthread_exit_in_a_task_ends_the_hub_also_if_main_does_not_wait)
{
    green_t *green = NULL;
    if (UNDER_TSAN)
        skip_because(skipped_for_tsan);
    in_thread(switch_to_one_that_waits, &green);
    assert_int_equal(green_free(green), 0);
    assert_noted("task unwound main unwound");
}

static void *wait_above_one_that_exits_and_clean_up_nothing(void *unused)
{
    waiter = green_current();
    below = green_new(exit_below, NULL);
    must(below != NULL);
    must_be_0(green_task_detach(spawn(resume_waiter, NULL)));
    must(green_switch(below, NULL) == NULL);
    must_be_0(green_task_detach(spawn(let_below_go, NULL)));
    green_event_wait(&event, GREEN_FOREVER);
    return unused;
}

static void free_waiter(void *name)
{
    must(green_state(waiter) == GREEN_DEAD);
    must_be_0(green_free(waiter));
    note("%s", (const char *)name);
}

static void *free_one_that_waited(void *unused)
{
    const green_options_t named = { .name = "waiter" };
    green_t *g = green_new_with(wait_above_one_that_exits_and_clean_up_nothing, NULL, &named);
    pthread_cleanup_push(free_waiter, "freed");
    must(green_switch(g, NULL) == NULL);
    pthread_cleanup_pop(0);
    return unused;
}

END_TEST(who_waited_in_frames_that_were_left_can_be_freed)
{
    if (UNDER_TSAN)
        skip_because(skipped_for_tsan);
    below_goes = (green_event_t)GREEN_EVENT_INIT;
    in_thread(free_one_that_waited, NULL);
    assert_int_equal(green_free(below), 0);
    assert_noted("freed");
}

/*
 * Before frames are unwound in which a green waits for a thread of the pool, that one has
 * written to them.
 */
static sem_t write_begun;

static void *write_late(void *where)
{
    sem_post(&write_begun);
    nanosleep(&(struct timespec){ 0, 50000000 }, NULL);
    *(int *)where = 1;
    return NULL;
}

static void *let_below_go_while_it_writes(void *unused)
{
    while (sem_wait(&write_begun) != 0)
        continue;
    return let_below_go(unused);
}

static void see_it_written(const int *number)
{
    must(*number == 1);
    note("written");
}

static void *offload_above_one_that_exits(void *unused)
{
    __attribute__((cleanup(see_it_written))) int number = 0;
    waiter = green_current();
    below = green_new(exit_below, NULL);
    must(below != NULL);
    must_be_0(green_task_detach(spawn(resume_waiter, NULL)));
    must(green_switch(below, NULL) == NULL);
    must_be_0(green_task_detach(spawn(let_below_go_while_it_writes, NULL)));
    (void)green_offload(write_late, &number, NULL, NULL);
    must(!"it goes on");
    return unused;
}

static void *offload_in_a_green(void *green)
{
    *(green_t **)green = green_new(offload_above_one_that_exits, NULL);
    return green_switch(*(green_t **)green, NULL);
}

END_TEST(pthread_exit_below_a_green_that_offloads_unwinds_nothing_a_thread_may_write_to)
{
    green_t *green = NULL;
    if (UNDER_TSAN)
        skip_because(skipped_for_tsan);
    must_be_0(sem_init(&write_begun, 0, 0));
    below_goes = (green_event_t)GREEN_EVENT_INIT;
    in_thread(offload_in_a_green, &green);
    assert_int_equal(green_free(below), 0);
    assert_int_equal(green_free(green), 0);
    assert_noted("written");
}

#endif

/* ---- pthread_cancel() ------------------------------------------------------------------------ */

static sem_t started;

static green_hub_t *to_be_cancelled;
static green_event_t cancelled;

/* Until it is told, after it has been cancelled. */
static void *wait_until_cancelled(void *unused)
{
    sem_post(&started);
    must_be_0(green_event_wait(&cancelled, GREEN_FOREVER));
    note("waited");
    pthread_testcancel();
    note("never");
    return unused;
}

static void *tell_of_cancel(void *unused)
{
    must_be_0(green_event_set(&cancelled));
    return unused;
}

static void *be_cancelled_in_the_hub(void *handles)
{
    must((((green_task_t **)handles)[0] = spawn(wait_and_note, "waits")) != NULL);
    turn();
    to_be_cancelled = green_hub_open(); /* so that it sleeps in the kernel's epoll */
    return wait_until_cancelled(NULL);
}

/* No function of the hub is a cancellation point. */
END_TEST(a_thread_that_is_cancelled_while_it_waits_ends_at_its_next_cancellation_point)
{
    green_task_t *tasks[1];
    pthread_t thread;
    void *result;
    cancelled = (green_event_t)GREEN_EVENT_INIT;
    sem_init(&started, 0, 0);
    assert_int_equal(pthread_create(&thread, NULL, be_cancelled_in_the_hub, tasks), 0);
    while (sem_wait(&started) != 0)
        continue;
    assert_int_equal(pthread_cancel(thread), 0);
    assert_int_equal(green_hub_spawn(to_be_cancelled, tell_of_cancel, NULL), 0);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_int_equal(green_hub_close(to_be_cancelled), 0);
    assert_ptr_equal(result, PTHREAD_CANCELED);
    assert_string_equal(noted(), "waited");
    noted()[0] = '\0';
    assert_lost(tasks, 1);
    sem_destroy(&started);
}

/* ---- Many threads ---------------------------------------------------------------------------- */

static void *use_and_end(void *unused)
{
    green_task_t *task = spawn(sleep_for, V(1));
    green_hub_t *handle = green_hub_open();
    must(finish(task) == NULL);
    must_be_0(green_hub_close(handle));
    must_be_0(green_hub_end(GREEN_FOREVER));
    return unused;
}

static void *use_and_go(void *unused)
{
    must_be_0(green_task_detach(spawn(sleep_for, V(1))));
    turn();
    green_hub_t *handle = green_hub_open();
    must_be_0(green_hub_close(handle));
    return unused;
}

/* gevent: #1601 */
END_TEST(a_hundred_threads_with_hubs_leave_nothing)
{
    int count = times(100, 20);
    int descriptors = hubs_descriptors();
    green_stats_t before, after;
    in_thread(use_and_end, NULL);
    in_thread(use_and_go, NULL);
    green_stats(&before, sizeof before);
    for (int i = 0; i < count; i++)
        in_thread(i % 2 ? use_and_end : use_and_go, NULL);
    green_stats(&after, sizeof after);
    assert_int_equal(hubs_descriptors(), descriptors);
    assert_int_equal(after.greens, before.greens);
    assert_int_equal(after.threads, before.threads);
    assert_int_equal(after.stacks_live, before.stacks_live);
}

int main(void)
{
    return run_all_tests();
}
