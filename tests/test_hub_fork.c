/* SPDX-License-Identifier: MIT */
/* fork(): who goes on in the child, and what the parent has that the child leaves alone (rule 20). */
#define _GNU_SOURCE
#include <poll.h>
#include <sys/mman.h>

#include "filters.h"
#include "hubs.h"

static green_event_t event;

static int begin(void **state)
{
    event = (green_event_t)GREEN_EVENT_INIT;
    return hubs_begin_virtual(state);
}

static int begin_world(void **state)
{
    event = (green_event_t)GREEN_EVENT_INIT;
    return hubs_begin_world(state);
}

#define FORK_TEST(sentence) TEST_WITH(sentence, begin, hubs_end)

static pid_t child_pid;

static pid_t fork_now(void)
{
    pid_t pid = fork();
    must(pid >= 0);
    if (pid == 0)
        alarm(60);
    return pid;
}

/* The child has ended, with exit status 0. */
static void reap(pid_t pid)
{
    int status;
    must(waitpid(pid, &status, 0) == pid);
    if (status != 0)
        fprintf(stderr, "the child ended with status 0x%x\n", (unsigned)status);
    must(status == 0);
}

/* ---- Others end ------------------------------------------------------------------------------ */

/* gevent: test__issue1686 */
FORK_TEST(tasks_run_in_the_parent_only)
{
    green_task_t *task = spawn(note_number, V(1)), *waits = spawn(sleep_for, V(5));
    green_task_t *joins = spawn(wait_for_event, &event);
    pid_t pid = fork_now();
    if (pid == 0) {
        void *value;
        green_hub_stats_t stats;
        must_be_0(green_hub_stats(&stats, sizeof stats));
        must(stats.tasks == 1 && stats.ready == 0 && stats.timers == 0);
        turn();
        must(strcmp(noted(), "") == 0);
        must_be_0(green_task_join(task, &value, GREEN_NOWAIT));
        must(value == GREEN_FAILED && errno == ECANCELED);
        must_be_0(green_task_free(task));
        must_be_0(green_task_free(waits));
        must_be_0(green_task_detach(joins));
        must_be_0(green_hub_end(GREEN_FOREVER));
        leave_child(0);
    }
    reap(pid);
    assert_int_equal(green_event_set(&event), 0);
    finish(joins);
    finish(task);
    finish(waits);
    assert_noted("1");
}

static int writes_to; /* a pipe */

static void *write_pid(void *unused)
{
    for (int i = 0; i < 20; i++) {
        pid_t pid = getpid();
        must(write(writes_to, &pid, sizeof pid) == sizeof pid);
        turn();
    }
    return unused;
}

/* gevent: #236, #957, #2202 */
FORK_TEST(tasks_in_loops_do_not_go_on_in_children)
{
    green_task_t *tasks[4];
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    writes_to = ends[1];
    for (int i = 0; i < 4; i++)
        tasks[i] = spawn(write_pid, NULL);
    for (int i = 0; i < 10; i++) {
        turn();
        pid_t child = fork_now();
        if (child == 0) {
            turn();
            turn();
            leave_child(0);
        }
        reap(child);
    }
    for (int i = 0; i < 4; i++)
        finish(tasks[i]);
    close(ends[1]);
    int count = 0;
    for (pid_t pid; read(ends[0], &pid, sizeof pid) == sizeof pid; count++)
        assert_int_equal(pid, getpid());
    assert_int_equal(count, 80);
    close(ends[0]);
}

/* What waited in lines of things is out of them, in the child. */
FORK_TEST(in_the_child_nobody_waits_for_anything)
{
    green_task_t *waits = spawn(wait_for_event, &event);
    green_queue_t *queue = green_queue_new(sizeof(int), 1);
    int item = 0;
    green_case_t cases[] = { GREEN_CASE_GET(queue, &item), GREEN_CASE_EVENT(&event) };
    turn();
    pid_t pid = fork_now();
    if (pid == 0) {
        must(event.green_private_line.first == NULL);
        must_be_0(green_event_set(&event));
        must(green_select(cases, 2, GREEN_NOWAIT) == 1);
        must_be_0(green_queue_free(queue));
        must_be_0(green_task_free(waits));
        leave_child(0);
    }
    reap(pid);
    assert_int_equal(green_event_set(&event), 0);
    finish(waits);
    assert_int_equal(green_queue_free(queue), 0);
}

static green_mutex_t mutex;

static void *hold_mutex(void *unused)
{
    must_be_0(green_mutex_lock(&mutex, GREEN_FOREVER));
    must_be_0(green_event_wait(&event, GREEN_FOREVER));
    must_be_0(green_mutex_unlock(&mutex));
    return unused;
}

FORK_TEST(what_others_had_locked_stays_locked)
{
    mutex = (green_mutex_t)GREEN_MUTEX_INIT;
    green_task_t *task = spawn(hold_mutex, NULL);
    turn();
    pid_t pid = fork_now();
    if (pid == 0) {
        must_fail(green_mutex_lock(&mutex, GREEN_MS(5)), ETIMEDOUT);
        must_fail(green_mutex_unlock(&mutex), EPERM);
        leave_child(0);
    }
    reap(pid);
    assert_int_equal(green_event_set(&event), 0);
    assert_int_equal(green_mutex_lock(&mutex, GREEN_FOREVER), 0);
    assert_int_equal(green_mutex_unlock(&mutex), 0);
    finish(task);
}

FORK_TEST(a_group_is_empty_in_the_child)
{
    green_group_t *group = green_group_new(2, 0);
    int error = 7;
    assert_int_equal(green_group_spawn(group, sleep_for, V(5)), 0);
    assert_int_equal(green_group_spawn(group, sleep_for, V(50)), 0);
    turn();
    pid_t pid = fork_now();
    if (pid == 0) {
        must(green_group_size(group) == 0);
        must_be_0(green_group_wait(group, &error, GREEN_NOWAIT));
        must(error == 0);
        must_be_0(green_group_spawn(group, sleep_for, V(5)));
        must_be_0(green_group_free(group));
        leave_child(0);
    }
    reap(pid);
    assert_int_equal(green_group_wait(group, &error, GREEN_FOREVER), 0);
    assert_int_equal(error, 0);
    assert_int_equal(green_group_free(group), 0);
}

/* ---- What others had been given -------------------------------------------------------------- */

/* A call that others have not come back from has given them nothing. */
static green_semaphore_t semaphore;
static green_cond_t cond;
static green_queue_t *numbers;

static int begin_things(void **state)
{
    semaphore = (green_semaphore_t)GREEN_SEMAPHORE_INIT(0, 1);
    mutex = (green_mutex_t)GREEN_MUTEX_INIT;
    cond = (green_cond_t)GREEN_COND_INIT;
    return begin(state);
}

#define THINGS_TEST(sentence) TEST_WITH(sentence, begin_things, hubs_end)

static void *acquire_unit(void *unused)
{
    must_be_0(green_semaphore_acquire(&semaphore, GREEN_FOREVER));
    return unused;
}

static void *lock_and_unlock(void *unused)
{
    must_be_0(green_mutex_lock(&mutex, GREEN_FOREVER));
    must_be_0(green_mutex_unlock(&mutex));
    return unused;
}

static void *wait_for_cond(void *unused)
{
    must_be_0(green_cond_wait(&cond, NULL, GREEN_FOREVER));
    return unused;
}

static void *get_number(void *unused)
{
    int number = 0;
    (void)unused;
    must_be_0(green_queue_get(numbers, &number, GREEN_FOREVER));
    return V(number);
}

static void *select_number_or_unit(void *unused)
{
    int number = 0;
    green_case_t cases[] = { GREEN_CASE_SEMAPHORE(&semaphore), GREEN_CASE_GET(numbers, &number) };
    int done = green_select(cases, 2, GREEN_FOREVER);
    (void)unused;
    must(done >= 0 && cases[done].error == 0);
    return V(number);
}

static void put_numbers(int first, int last)
{
    for (int i = first; i <= last; i++)
        must_be_0(green_queue_put(numbers, &i, GREEN_NOWAIT));
}

static void must_get(int number)
{
    int got = -1;
    must_be_0(green_queue_get(numbers, &got, GREEN_NOWAIT));
    must(got == number);
}

static void must_be_empty(void)
{
    int got;
    must(green_queue_size(numbers) == 0);
    must_fail(green_queue_get(numbers, &got, GREEN_NOWAIT), ETIMEDOUT);
}

THINGS_TEST(a_unit_that_another_was_given_is_there_in_the_child)
{
    green_task_t *tasks[] = { spawn(acquire_unit, NULL), spawn(acquire_unit, NULL) };
    turn();
    assert_int_equal(green_semaphore_release(&semaphore), 0);
    pid_t pid = fork_now();
    if (pid == 0) {
        must_be_0(green_semaphore_acquire(&semaphore, GREEN_NOWAIT));
        must_fail(green_semaphore_acquire(&semaphore, GREEN_NOWAIT), ETIMEDOUT);
        leave_child(0);
    }
    reap(pid);
    assert_int_equal(green_semaphore_release(&semaphore), 0);
    finish(tasks[0]);
    finish(tasks[1]);
    assert_refused(green_semaphore_acquire(&semaphore, GREEN_NOWAIT), ETIMEDOUT);
}

THINGS_TEST(a_mutex_that_another_was_handed_is_free_in_the_child)
{
    green_task_t *tasks[] = { spawn(lock_and_unlock, NULL), spawn(lock_and_unlock, NULL) };
    assert_int_equal(green_mutex_lock(&mutex, GREEN_NOWAIT), 0);
    turn();
    assert_int_equal(green_mutex_unlock(&mutex), 0);
    pid_t pid = fork_now();
    if (pid == 0) {
        must_be_0(green_mutex_lock(&mutex, GREEN_NOWAIT));
        must_be_0(green_mutex_unlock(&mutex));
        leave_child(0);
    }
    reap(pid);
    finish(tasks[0]);
    finish(tasks[1]);
}

/* The items are again in front of those that came later, in their order. */
THINGS_TEST(items_that_others_were_given_are_in_the_queue_in_the_child)
{
    numbers = green_queue_new(sizeof(int), 5);
    green_task_t *tasks[] = {
        spawn(get_number, NULL), spawn(select_number_or_unit, NULL), spawn(get_number, NULL)
    };
    turn();
    put_numbers(1, 5);
    assert_int_equal(green_queue_size(numbers), 2);
    pid_t pid = fork_now();
    if (pid == 0) {
        for (int i = 1; i <= 5; i++)
            must_get(i);
        must_be_empty();
        must_be_0(green_queue_free(numbers));
        leave_child(0);
    }
    reap(pid);
    for (int i = 0; i < 3; i++)
        assert_ptr_equal(finish(tasks[i]), V(i + 1));
    assert_int_equal(green_queue_free(numbers), 0);
}

/* Of those that there is room for. */
THINGS_TEST(an_item_without_room_in_the_queue_is_lost_in_the_child)
{
    numbers = green_queue_new(sizeof(int), 1);
    green_task_t *tasks[] = { spawn(get_number, NULL), spawn(get_number, NULL) };
    turn();
    put_numbers(1, 3);
    pid_t pid = fork_now();
    if (pid == 0) {
        must_get(3);
        must_be_empty();
        leave_child(0);
    }
    reap(pid);
    finish(tasks[0]);
    finish(tasks[1]);
    must_get(3);
    assert_int_equal(green_queue_free(numbers), 0);
}

THINGS_TEST(a_queue_that_is_gone_is_not_touched_in_the_child)
{
    green_queue_t *gone = numbers = green_queue_new(sizeof(int), 1);
    green_task_t *first = spawn(get_number, NULL), *second;
    turn();
    put_numbers(1, 1);
    assert_int_equal(green_queue_free(gone), 0);
    numbers = green_queue_new(sizeof(int), 1);
    second = spawn(get_number, NULL);
    pid_t pid = fork_now();
    if (pid == 0) {
        must_be_empty();
        must_be_0(green_queue_free(numbers));
        leave_child(0);
    }
    reap(pid);
    turn();
    assert_ptr_equal(finish(first), V(1));
    put_numbers(2, 2);
    pid = fork_now(); /* what was put since is there */
    if (pid == 0) {
        must_get(2);
        must_be_0(green_queue_free(numbers));
        leave_child(0);
    }
    reap(pid);
    assert_ptr_equal(finish(second), V(2));
    assert_int_equal(green_queue_free(numbers), 0);
}

/* Main waits behind the one that was given it, for each kind of thing. */
static void *release_and_fork(void *unused)
{
    must_be_0(green_semaphore_release(&semaphore));
    child_pid = fork_now();
    if (child_pid != 0)
        must_be_0(green_semaphore_release(&semaphore));
    return unused;
}

THINGS_TEST(a_unit_that_another_was_given_is_the_next_ones_in_the_child)
{
    green_task_t *first = spawn(acquire_unit, NULL), *task;
    turn();
    task = spawn(release_and_fork, NULL);
    assert_int_equal(green_semaphore_acquire(&semaphore, GREEN_FOREVER), 0);
    if (child_pid == 0) {
        must_fail(green_semaphore_acquire(&semaphore, GREEN_NOWAIT), ETIMEDOUT);
        leave_child(0);
    }
    reap(child_pid);
    finish(first);
    finish(task);
}

static void *unlock_and_fork(void *unused)
{
    must_be_0(green_mutex_lock(&mutex, GREEN_NOWAIT));
    must_be_0(green_event_wait(&event, GREEN_FOREVER));
    must_be_0(green_mutex_unlock(&mutex));
    child_pid = fork_now();
    return unused;
}

THINGS_TEST(a_mutex_that_another_was_handed_is_the_next_ones_in_the_child)
{
    green_task_t *task = spawn(unlock_and_fork, NULL), *first = spawn(lock_and_unlock, NULL);
    turn();
    assert_int_equal(green_event_set(&event), 0);
    assert_int_equal(green_mutex_lock(&mutex, GREEN_FOREVER), 0);
    assert_int_equal(green_mutex_unlock(&mutex), 0);
    if (child_pid == 0)
        leave_child(0);
    reap(child_pid);
    finish(task);
    finish(first);
}

static void *signal_and_fork(void *unused)
{
    must_be_0(green_cond_signal(&cond, 1));
    child_pid = fork_now();
    if (child_pid != 0)
        must_be_0(green_cond_signal(&cond, 1));
    return unused;
}

THINGS_TEST(a_signal_that_another_was_given_is_the_next_ones_in_the_child)
{
    green_task_t *first = spawn(wait_for_cond, NULL), *task;
    turn();
    task = spawn(signal_and_fork, NULL);
    assert_int_equal(green_mutex_lock(&mutex, GREEN_NOWAIT), 0);
    assert_int_equal(green_cond_wait(&cond, &mutex, GREEN_FOREVER), 0);
    assert_int_equal(green_mutex_unlock(&mutex), 0);
    if (child_pid == 0)
        leave_child(0);
    reap(child_pid);
    finish(first);
    finish(task);
}

static void *put_and_fork(void *unused)
{
    put_numbers(1, 2);
    child_pid = fork_now();
    if (child_pid != 0)
        put_numbers(3, 3);
    return unused;
}

THINGS_TEST(items_that_others_were_given_are_the_next_ones_in_the_child)
{
    int number = 0;
    numbers = green_queue_new(sizeof(int), 1);
    green_task_t *tasks[] = { spawn(get_number, NULL), spawn(select_number_or_unit, NULL) };
    turn();
    green_task_t *task = spawn(put_and_fork, NULL);
    assert_int_equal(green_queue_get(numbers, &number, GREEN_FOREVER), 0);
    if (child_pid == 0) {
        must(number == 1);
        must_get(2);
        must_be_empty();
        leave_child(0);
    }
    assert_int_equal(number, 3);
    reap(child_pid);
    finish(tasks[0]);
    finish(tasks[1]);
    finish(task);
    assert_int_equal(green_queue_free(numbers), 0);
}

/* What a new task has is its own, also where the block of one that is no more is used again. */
THINGS_TEST(an_item_that_a_new_task_of_the_child_was_given_is_in_the_queue_in_the_grandchild)
{
    green_task_t *task = spawn(acquire_unit, NULL);
    turn();
    assert_int_equal(green_semaphore_release(&semaphore), 0);
    pid_t pid = fork_now();
    if (pid == 0) {
        must_be_0(green_task_free(task));
        numbers = green_queue_new(sizeof(int), 1);
        task = spawn(get_number, NULL);
        turn();
        put_numbers(1, 1);
        child_pid = fork_now();
        if (child_pid == 0) {
            must_get(1);
            must_be_empty();
            leave_child(0);
        }
        reap(child_pid);
        must(finish(task) == V(1));
        must_be_0(green_queue_free(numbers));
        leave_child(0);
    }
    reap(pid);
    finish(task);
}

static void *nap_in_a_scope(void *ms)
{
    static green_scope_t scopes[2]; /* not on the stack, that may be the same in both */
    green_scope_t *scope = &scopes[ms == V(10)];
    must_be_0(green_scope_begin(scope, GREEN_MS((intptr_t)ms), 0));
    nap((intptr_t)ms - 5);
    must(green_scope_end(scope) == 0);
    return NULL;
}

FORK_TEST(the_scopes_of_a_task_that_is_no_more_are_not_a_new_ones_in_the_child)
{
    green_task_t *task = spawn(nap_in_a_scope, V(10));
    turn();
    pid_t pid = fork_now();
    if (pid == 0) {
        must_be_0(green_task_free(task));
        must(finish(spawn(nap_in_a_scope, V(100))) == NULL);
        must(clock_ms() == 95);
        leave_child(0);
    }
    reap(pid);
    finish(task);
}

/* ---- In a task ------------------------------------------------------------------------------- */

static void *fork_and_return(void *unused)
{
    (void)unused;
    child_pid = fork_now();
    return child_pid == 0 ? V(3) : V(4);
}

FORK_TEST(the_task_that_forked_and_main_go_on_in_the_child)
{
    green_task_t *task = spawn(fork_and_return, NULL), *other = spawn(sleep_for, V(5));
    void *value = NULL;
    assert_int_equal(green_task_join(task, &value, GREEN_FOREVER), 0);
    if (child_pid == 0) {
        must(value == V(3));
        must_be_0(green_task_free(task));
        must_be_0(green_task_join(other, &value, GREEN_NOWAIT));
        must(value == GREEN_FAILED && errno == ECANCELED);
        must_be_0(green_task_free(other));
        must_be_0(green_hub_end(GREEN_FOREVER));
        leave_child(0);
    }
    assert_ptr_equal(value, V(4));
    reap(child_pid);
    finish(task);
    finish(other);
}

static void *fork_and_sleep(void *unused)
{
    child_pid = fork_now();
    nap(10);
    note("slept:%d", (int)clock_ms());
    return unused;
}

FORK_TEST(main_sleeps_on_in_the_child_and_the_task_too)
{
    green_task_t *task = spawn(fork_and_sleep, NULL);
    nap(20);
    must(clock_ms() == 20);
    must(strcmp(noted(), "slept:10") == 0);
    finish(task);
    if (child_pid == 0)
        leave_child(0);
    reap(child_pid);
    assert_noted("slept:10");
}

static void *fork_in_generator(void *unused)
{
    child_pid = fork_now();
    nap(5); /* a generator waits in both */
    return unused;
}

static void *have_generator_fork(void *unused)
{
    green_t *generator = green_new(fork_in_generator, NULL);
    must(green_switch(generator, V(6)) == V(6));
    must_be_0(green_free(generator));
    (void)unused;
    return V(8);
}

FORK_TEST(a_generator_that_forked_returns_to_its_task)
{
    green_task_t *task = spawn(have_generator_fork, NULL);
    void *value = finish(task);
    must(value == V(8) && clock_ms() == 5);
    if (child_pid == 0)
        leave_child(0);
    reap(child_pid);
}

static green_t *waiting;

static void *wait_and_yield(void *unused)
{
    must_fail(green_sleep(GREEN_SEC(5)), ECANCELED);
    must(green_yield(V(6)) == V(7));
    return unused;
}

static void *have_generator_wait(void *unused)
{
    waiting = green_new(wait_and_yield, NULL);
    must(green_switch(waiting, NULL) == V(6));
    must(green_switch(waiting, V(7)) == NULL);
    return unused;
}

/* Its task is no more: nobody keeps it waiting, and it may be entered. */
FORK_TEST(a_generator_of_another_task_waits_no_more_in_the_child)
{
    green_task_t *task = spawn(have_generator_wait, NULL);
    turn();
    pid_t pid = fork_now();
    if (pid == 0) {
        must(green_state(waiting) == GREEN_SUSPENDED);
        must_be_0(green_set_parent(waiting, green_current()));
        must(green_switch(waiting, NULL) == V(6));
        must(green_switch(waiting, V(7)) == NULL);
        must_be_0(green_free(waiting));
        must_be_0(green_task_free(task));
        leave_child(0);
    }
    reap(pid);
    assert_refused(green_free(waiting), EBUSY);
    assert_int_equal(green_task_cancel(task), 0);
    finish(task);
    assert_int_equal(green_free(waiting), 0);
}

static void *select_number(void *unused)
{
    int number = 0;
    green_case_t cases[] = { GREEN_CASE_GET(numbers, &number) };
    (void)unused;
    return V(green_select(cases, 1, GREEN_FOREVER) < 0 ? errno : 0);
}

static void *have_generator_select(void *unused)
{
    waiting = green_new(select_number, NULL);
    return green_switch(waiting, unused);
}

/* It was served when its task ended: that has not come to it. */
FORK_TEST(a_call_that_goes_on_in_a_generator_of_a_task_that_is_no_more_has_failed)
{
    numbers = green_queue_new(sizeof(int), 1);
    green_task_t *task = spawn(have_generator_select, NULL);
    turn();
    put_numbers(1, 1);
    pid_t pid = fork_now();
    if (pid == 0) {
        must_be_0(green_set_parent(waiting, green_current()));
        must(green_switch(waiting, NULL) == V(ECANCELED));
        must_get(1);
        must_be_0(green_free(waiting));
        leave_child(0);
    }
    reap(pid);
    assert_null(finish(task));
    assert_int_equal(green_free(waiting), 0);
    assert_int_equal(green_queue_free(numbers), 0);
}

static void *have_generator_sleep(void *unused)
{
    (void)unused;
    waiting = green_new(sleep_for, NULL);
    void *error = green_switch(waiting, V(5));
    note("goes on");
    return error;
}

FORK_TEST(what_ends_below_a_task_that_is_no_more_does_not_enter_it)
{
    green_task_t *task = spawn(have_generator_sleep, NULL);
    turn();
    pid_t pid = fork_now();
    if (pid == 0) {
        must(green_switch(waiting, NULL) == GREEN_FAILED && errno == EDEADLK);
        must(strcmp(noted(), "") == 0 && hub_stat(tasks) == 1);
        must_be_0(green_free(waiting));
        must_be_0(green_task_free(task));
        must_be_0(green_hub_end(GREEN_FOREVER));
        leave_child(0);
    }
    reap(pid);
    assert_null(finish(task));
    assert_noted("goes on");
    assert_int_equal(green_free(waiting), 0);
}

static void *yield_and_look(void *unused)
{
    must(green_yield(unused) == green_task_current());
    return unused;
}

static void *have_generator_look(void *unused)
{
    waiting = green_new(yield_and_look, NULL);
    must(green_switch(waiting, NULL) == NULL);
    must_be_0(green_event_wait(&event, GREEN_FOREVER));
    (void)unused;
    return green_switch(waiting, green_task_current());
}

FORK_TEST(a_generator_of_a_task_that_is_no_more_is_mains)
{
    green_task_t *task = spawn(have_generator_look, NULL);
    turn();
    pid_t pid = fork_now();
    if (pid == 0) {
        must(green_switch(waiting, green_task_current()) == GREEN_FAILED && errno == EDEADLK);
        leave_child(0);
    }
    reap(pid);
    assert_int_equal(green_event_set(&event), 0);
    assert_null(finish(task));
    assert_int_equal(green_free(waiting), 0);
}

static void *use_stack(void *unused)
{
    char much[4096];
    must(memset(much, 'x', sizeof much) == much);
    return unused;
}

static void *fork_and_look(void *text)
{
    child_pid = fork_now();
    if (child_pid == 0) {
        finish(spawn(use_stack, NULL));
        must(strcmp(text, "text") == 0);
        leave_child(0);
    }
    return text;
}

static void *lend_text(void *unused)
{
    char text[] = "text";
    must(finish(spawn(fork_and_look, text)) == text);
    return unused;
}

FORK_TEST(what_is_on_the_stack_of_a_task_that_is_no_more_stays_until_that_is_freed)
{
    green_task_t *task = spawn(lend_text, NULL);
    assert_int_equal(green_task_join(task, NULL, GREEN_FOREVER), 0);
    if (child_pid == 0)
        nap(5); /* the one that forked ends the child */
    reap(child_pid);
    assert_int_equal(green_task_free(task), 0);
}

/* ---- In a call that frees -------------------------------------------------------------------- */

static green_task_t *freed;
static green_group_t *freed_group;
static green_event_t told;

static void *wait_shielded(void *of)
{
    GREEN_SCOPE(shield, GREEN_FOREVER, GREEN_SHIELD);
    return wait_for_event(of);
}

/* For the generator of a task that is no more; it hands on to main. */
static void *free_task_below(void *unused)
{
    if (green_task_free(freed) != 0)
        green_switch(green_main(), V(errno));
    return unused;
}

static void *free_group_below(void *unused)
{
    if (green_group_free(freed_group) != 0)
        green_switch(green_main(), V(errno));
    return unused;
}

static void *have_generator_run(void *of)
{
    waiting = green_new(*(green_fn **)of, NULL);
    return green_switch(waiting, NULL);
}

static void *free_group(void *group)
{
    must_be_0(green_group_free(group));
    return NULL;
}

/* The block of the task is that of a new one when the call goes on. */
FORK_TEST(a_free_that_was_dropped_leaves_alone_what_is_where_the_task_was)
{
    green_fn *below = free_task_below;
    freed = spawn(wait_shielded, &event);
    turn();
    green_task_t *task = spawn(have_generator_run, &below);
    turn();
    pid_t pid = fork_now();
    if (pid == 0) {
        green_group_t *group = green_group_new(0, 0);
        must_be_0(green_group_spawn(group, wait_for_event, &event));
        must_be_0(green_task_free(freed));
        must_be_0(green_group_spawn(group, sleep_for, V(5)));
        must(green_switch(waiting, NULL) == V(ECANCELED));
        nap(10);
        must(green_group_size(group) == 1);
        must_be_0(green_group_free(group));
        leave_child(0);
    }
    reap(pid);
    assert_int_equal(green_event_set(&event), 0);
    assert_null(finish(task));
    assert_int_equal(green_free(waiting), 0);
}

/* So it is of a group: the new one is being freed by another. */
FORK_TEST(a_free_that_was_dropped_leaves_alone_what_is_where_the_group_was)
{
    green_fn *below = free_group_below;
    freed_group = green_group_new(0, 0);
    must_be_0(green_group_spawn(freed_group, wait_shielded, &event));
    turn();
    green_task_t *task = spawn(have_generator_run, &below);
    turn();
    pid_t pid = fork_now();
    if (pid == 0) {
        told = (green_event_t)GREEN_EVENT_INIT;
        must_be_0(green_group_free(freed_group));
        green_group_t *group = green_group_new(0, 0);
        must_be_0(green_group_spawn(group, wait_shielded, &told));
        turn();
        task = spawn(free_group, group);
        turn();
        must(green_switch(waiting, NULL) == V(ECANCELED));
        must_be_0(green_event_set(&told));
        must(finish(task) == NULL);
        leave_child(0);
    }
    reap(pid);
    assert_int_equal(green_event_set(&event), 0);
    assert_null(finish(task));
    assert_int_equal(green_free(waiting), 0);
}

/* ---- After the end of the hub ---------------------------------------------------------------- */

static void *give_turn_below(void *unused)
{
    turn();
    return unused;
}

static void *fail_twice(void *unused)
{
    must_fail(green_sleep(0), ECANCELED);
    must_fail(green_sleep(0), ECANCELED); /* gives a turn before */
    return unused;
}

static void *wait_with_mutex(void *unused)
{
    must_be_0(green_mutex_lock(&mutex, GREEN_FOREVER));
    must(green_cond_wait(&cond, &mutex, GREEN_SEC(1)) == -1);
    must(errno == ECANCELED || errno == ETIMEDOUT);
    must_be_0(green_mutex_unlock(&mutex));
    return unused;
}

static void *cancel_itself(void *below)
{
    if (*(green_fn **)below == fail_twice)
        must_be_0(green_task_cancel(green_task_current()));
    return have_generator_run(below);
}

/* Whoever reads or writes what was the hub's finds letters. */
static void end_hub_and_reuse_memory(void)
{
    must_be_0(green_hub_end(GREEN_FOREVER));
    for (size_t size = 64; size < 4096; size += 16) {
        void *memory = malloc(size);
        must(memory != NULL && memset(memory, 'A', size) == memory);
    }
}

THINGS_TEST(a_generator_of_a_task_that_is_no_more_goes_on_after_the_hub)
{
    static green_fn *const all[] = { give_turn_below, fail_twice, wait_with_mutex };
    for (int i = 0; i < 3; i++) {
        green_fn *below = all[i];
        green_task_t *task = spawn(cancel_itself, &below), *forks = spawn(fork_and_return, NULL);
        void *value = finish(forks);
        if (child_pid == 0) {
            must(value == V(3));
            end_hub_and_reuse_memory();
            must(green_switch(waiting, NULL) == NULL);
            must_be_0(green_free(waiting));
            must_be_0(green_hub_end(GREEN_FOREVER));
            leave_child(0);
        }
        reap(child_pid);
        assert_null(finish(task));
        assert_int_equal(green_free(waiting), 0);
    }
}

static void *fork_and_end(void *unused)
{
    child_pid = fork_now();
    return unused;
}

FORK_TEST(main_hears_of_a_deadlock_in_the_child_that_is_none_in_the_parent)
{
    green_task_t *task = spawn(fork_and_end, NULL), *setter = spawn(sleep_for, V(5));
    green_case_t cases[] = { GREEN_CASE_TASK(setter), GREEN_CASE_EVENT(&event) };
    int result = green_event_wait(&event, GREEN_MS(3));
    must(result == -1 && errno == ETIMEDOUT);
    finish(task);
    if (child_pid == 0) {
        must(green_select(cases, 2, GREEN_FOREVER) == 0);
        must_fail(green_event_wait(&event, GREEN_FOREVER), EDEADLK);
        leave_child(0);
    }
    reap(child_pid);
    finish(setter);
}

/* Main waits for an event that only another would have set. */
static void *set_later(void *unused)
{
    nap(5);
    must_be_0(green_event_set(&event));
    return unused;
}

FORK_TEST(who_waits_in_main_for_one_that_is_no_more_hears_of_a_deadlock)
{
    green_task_t *task = spawn(fork_and_end, NULL), *setter = spawn(set_later, NULL);
    int result = green_event_wait(&event, GREEN_FOREVER);
    if (child_pid == 0) {
        must(result == -1 && errno == EDEADLK);
        leave_child(0);
    }
    must(result == 0);
    reap(child_pid);
    finish(task);
    finish(setter);
}

FORK_TEST(who_joins_in_main_one_that_is_no_more_finds_it_cancelled)
{
    void *value = NULL;
    green_task_t *other = spawn(sleep_for, V(5)), *task = spawn(fork_and_end, NULL);
    int result = green_task_join(other, &value, GREEN_FOREVER), error = errno;
    must(result == 0);
    if (child_pid == 0) {
        must(value == GREEN_FAILED && error == ECANCELED);
        must(clock_ms() == 0);
        leave_child(0);
    }
    must(value == NULL && clock_ms() == 5);
    reap(child_pid);
    finish(task);
    finish(other);
}

/* ---- What is the parent's -------------------------------------------------------------------- */

static void *spawn_from_child(void *unused)
{
    note("ran");
    return unused;
}

static int begin_handle(void **state)
{
    return begin_world(state);
}

TEST_WITH(a_handle_of_the_own_hub_serves_the_child_and_not_the_parent, begin_handle, hubs_end)
{
    green_hub_t *handle = green_hub_open();
    assert_non_null(handle);
    pid_t pid = fork_now();
    if (pid == 0) {
        must_be_0(green_hub_spawn(handle, spawn_from_child, NULL));
        turn();
        turn();
        must(strcmp(noted(), "ran") == 0);
        must_be_0(green_sleep(GREEN_MS(5)));
        must_be_0(green_hub_close(handle));
        must_be_0(green_hub_end(GREEN_FOREVER));
        leave_child(0);
    }
    reap(pid);
    turn();
    assert_noted("");
    assert_int_equal(green_hub_close(handle), 0);
}

TEST_WITH(what_was_spawned_by_a_handle_and_has_not_come_is_the_parents, begin_handle, hubs_end)
{
    green_hub_t *handle = green_hub_open();
    assert_int_equal(green_hub_spawn(handle, spawn_from_child, NULL), 0);
    pid_t pid = fork_now();
    if (pid == 0) {
        turn();
        turn();
        must(strcmp(noted(), "") == 0);
        leave_child(0);
    }
    reap(pid);
    turn();
    turn();
    assert_noted("ran");
    assert_int_equal(green_hub_close(handle), 0);
}

static sem_t opened, closed;
static green_hub_t *foreign;

static void *open_and_wait(void *unused)
{
    foreign = green_hub_open();
    sem_post(&opened);
    while (sem_wait(&closed) != 0)
        continue;
    must_be_0(green_hub_close(foreign));
    must_be_0(green_hub_end(GREEN_FOREVER));
    return unused;
}

TEST_WITH(the_hub_of_another_thread_is_no_more_in_the_child, begin_handle, hubs_end)
{
    pthread_t thread;
    sem_init(&opened, 0, 0);
    sem_init(&closed, 0, 0);
    assert_int_equal(pthread_create(&thread, NULL, open_and_wait, NULL), 0);
    while (sem_wait(&opened) != 0)
        continue;
    pid_t pid = fork_now();
    if (pid == 0) {
        must_fail(green_hub_spawn(foreign, spawn_from_child, NULL), ESRCH);
        must_be_0(green_hub_close(foreign));
        leave_child(0);
    }
    reap(pid);
    sem_post(&closed);
    pthread_join(thread, NULL);
    sem_destroy(&opened);
    sem_destroy(&closed);
}

/* The descriptors are made anew: what the child does to its own the parent does not see. */
TEST_WITH(the_hub_fd_of_the_child_is_its_own, begin_handle, hubs_end)
{
    int fd = green_hub_fd();
    struct pollfd quiet = { .fd = fd, .events = POLLIN };
    assert_true(fd >= 0);
    assert_int_equal(poll(&quiet, 1, 0), 0);
    pid_t pid = fork_now();
    if (pid == 0) {
        int own = green_hub_fd();
        must(own >= 0);
        must_be_0(green_task_detach(spawn(note_number, V(1))));
        struct pollfd ready = { .fd = own, .events = POLLIN };
        must(poll(&ready, 1, 0) == 1);
        must(green_hub_run(GREEN_NOWAIT) == 1);
        must(green_hub_run(GREEN_NOWAIT) == 0);
        must(poll(&ready, 1, 0) == 0);
        must_be_0(green_task_detach(spawn(note_number, V(3)))); /* readable, and left so */
        must(poll(&ready, 1, 0) == 1);
        for (int i = 3; i < 100; i++) /* if the parent's was shared, it would notice */
            close(i);
        leave_child(0);
    }
    reap(pid);
    assert_int_equal(poll(&quiet, 1, 0), 0);
    assert_int_equal(green_task_detach(spawn(note_number, V(2))), 0);
    assert_int_equal(poll(&quiet, 1, 0), 1);
    assert_int_equal(green_hub_run(GREEN_NOWAIT), 1);
    assert_int_equal(green_hub_run(GREEN_NOWAIT), 0);
    assert_int_equal(poll(&quiet, 1, 0), 0);
    assert_noted("2");
}

/* ---- Others ---------------------------------------------------------------------------------- */

FORK_TEST(a_grandchild_is_a_child)
{
    pid_t pid = fork_now();
    if (pid == 0) {
        green_task_t *task = spawn(fork_and_return, NULL);
        void *value = finish(task);
        if (child_pid == 0)
            _exit(value == V(3) ? 0 : 1);
        must(value == V(4));
        reap(child_pid);
        leave_child(0);
    }
    reap(pid);
}

static void *fork_without_a_hub(void *unused)
{
    pid_t pid = fork_now();
    if (pid == 0) {
        turn();
        must_be_0(green_hub_end(GREEN_FOREVER));
        leave_child(0);
    }
    reap(pid);
    return unused;
}

FORK_TEST(the_child_of_a_thread_without_a_hub_may_make_one)
{
    in_thread(fork_without_a_hub, NULL);
}

static void *use_hub_always(void *go_on)
{
    while (__atomic_load_n((int *)go_on, __ATOMIC_RELAXED)) {
        turn();
        must_be_0(green_hub_end(GREEN_FOREVER));
    }
    return NULL;
}

/* Another thread is inside the hub's locks, at times. */
FORK_TEST(a_thread_may_fork_while_others_make_and_end_hubs)
{
    int go_on = 1;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, use_hub_always, &go_on), 0);
    for (int i = 0; i < times(200, 10); i++) {
        pid_t pid = fork_now();
        if (pid == 0) {
            green_event_t own = GREEN_EVENT_INIT;
            must_be_0(green_event_set(&own));
            must_be_0(green_hub_end(GREEN_FOREVER));
            must_be_0(green_event_set(&own));
            leave_child(0);
        }
        reap(pid);
    }
    __atomic_store_n(&go_on, 0, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
}

int main(void)
{
    if (under_helgrind()) {
        puts("skipped: to Helgrind what atomic operations order is a race; ThreadSanitizer runs it");
        return 77;
    }
    if (UNDER_TSAN)
        return skip_all_because("in a child ThreadSanitizer knows the fiber alone that forked");
    return run_all_tests();
}
