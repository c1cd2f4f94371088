/* SPDX-License-Identifier: MIT */
/* The hazards of green_patch(7): each is as it says, and what it says to do helps. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include <green_patch.h>

#include "hubs.h"

static int begin(void **state)
{
    return hubs_begin_virtual(state) == 0 && green_patch(GREEN_PATCH_WAIT | GREEN_PATCH_IO) == 0
               ? 0 : -1;
}

static int end(void **state)
{
    must(green_patch(0) == (GREEN_PATCH_WAIT | GREEN_PATCH_IO));
    return hubs_end(state);
}

#define HAZARD(sentence) TEST_WITH(sentence, begin, end)

/* What libraries wait in. */
static void wait_ms(int ms)
{
    must_be_0(poll(NULL, 0, ms));
}

/* ---- What is the process's ------------------------------------------------------------- */

static const char *sigpipe(void)
{
    struct sigaction action;
    must_be_0(sigaction(SIGPIPE, NULL, &action));
    return action.sa_handler == SIG_IGN ? "ignored" : "default";
}

/* As libcurl without CURLOPT_NOSIGNAL. */
static void *transfer(void *ms)
{
    struct sigaction before;
    const struct sigaction ignore = { .sa_handler = SIG_IGN };
    must_be_0(sigaction(SIGPIPE, &ignore, &before));
    wait_ms((int)(intptr_t)ms);
    note("%s", sigpipe());
    must_be_0(sigaction(SIGPIPE, &before, NULL));
    return NULL;
}

static void two_transfers(void)
{
    green_task_t *first = spawn(transfer, V(10)), *second = spawn(transfer, V(20));
    finish(first);
    finish(second);
    note("%s", sigpipe());
}

HAZARD(the_first_of_two_puts_SIGPIPE_back_under_the_second)
{
    void (*before)(int) = signal(SIGPIPE, SIG_DFL);
    two_transfers();
    assert_noted("ignored default ignored");
    signal(SIGPIPE, before);
}

HAZARD(what_is_set_before_is_put_back_as_it_was)
{
    void (*before)(int) = signal(SIGPIPE, SIG_IGN);
    two_transfers();
    assert_noted("ignored ignored ignored");
    signal(SIGPIPE, before);
}

static void *under_a_mutex(void *mutex)
{
    must_be_0(green_mutex_lock(mutex, GREEN_FOREVER));
    transfer(V(10));
    return V(green_mutex_unlock(mutex));
}

HAZARD(a_mutex_of_libgreens_around_the_calls_keeps_them_apart)
{
    green_mutex_t mutex = GREEN_MUTEX_INIT;
    void (*before)(int) = signal(SIGPIPE, SIG_DFL);
    green_task_t *first = spawn(under_a_mutex, &mutex), *second = spawn(under_a_mutex, &mutex);
    finish(first);
    finish(second);
    note("%s", sigpipe());
    assert_noted("ignored ignored default");
    signal(SIGPIPE, before);
}

/* ---- What is all tasks' ---------------------------------------------------------------- */

static void *words(void *text)
{
    for (char *word = strtok(text, " "); word != NULL; word = strtok(NULL, " ")) {
        note("%s", word);
        wait_ms(1);
    }
    return NULL;
}

static void *words_r(void *text)
{
    char *rest;
    for (char *word = strtok_r(text, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
        note("%s", word);
        wait_ms(1);
    }
    return NULL;
}

static void two_texts(green_fn *run)
{
    char letters[] = "a b c", digits[] = "1 2 3";
    green_task_t *first = spawn(run, letters), *second = spawn(run, digits);
    finish(first);
    finish(second);
}

HAZARD(strtok_gives_one_task_the_words_of_another)
{
    two_texts(words);
    assert_noted("a 1 2 3");
}

HAZARD(strtok_r_does_not)
{
    two_texts(words_r);
    assert_noted("a 1 b 2 c 3");
}

static void *looks_up(void *unused)
{
    h_errno = NO_DATA; /* as a look-up that failed */
    note("%d", h_errno);
    wait_ms(10);
    note("%d", h_errno);
    return unused;
}

static void *sets_h_errno(void *unused)
{
    h_errno = HOST_NOT_FOUND;
    return unused;
}

HAZARD(h_errno_is_the_threads)
{
    green_task_t *first = spawn(looks_up, NULL), *second = spawn(sets_h_errno, NULL);
    finish(first);
    finish(second);
    assert_noted("4 1");
}

/* ---- Locks --------------------------------------------------------------------------------- */

static int inside;

static void *holds_over_a_wait(void *mutex)
{
    must_be_0(pthread_mutex_lock(mutex));
    note("%d", inside++);
    wait_ms(10);
    inside--;
    must_be_0(pthread_mutex_unlock(mutex));
    return NULL;
}

static void two_hold(int type)
{
    pthread_mutexattr_t attributes;
    pthread_mutex_t mutex;
    must_be_0(pthread_mutexattr_init(&attributes));
    must_be_0(pthread_mutexattr_settype(&attributes, type));
    must_be_0(pthread_mutex_init(&mutex, &attributes));
    green_task_t *first = spawn(holds_over_a_wait, &mutex);
    green_task_t *second = spawn(holds_over_a_wait, &mutex);
    finish(first);
    finish(second);
    must_be_0(pthread_mutex_destroy(&mutex));
    must_be_0(pthread_mutexattr_destroy(&attributes));
}

HAZARD(a_recursive_mutex_lets_two_tasks_in)
{
    if (UNDER_TSAN)
        skip(); /* it complains, and rightly */
    two_hold(PTHREAD_MUTEX_RECURSIVE);
    assert_noted("0 1");
}

HAZARD(GREEN_PATCH_LOCKS_lets_one_in_at_a_time)
{
    must(green_patch(GREEN_PATCH_WAIT | GREEN_PATCH_LOCKS) != -1);
    two_hold(PTHREAD_MUTEX_RECURSIVE);
    two_hold(PTHREAD_MUTEX_NORMAL);
    assert_noted("0 0 0 0");
    must(green_patch(GREEN_PATCH_WAIT | GREEN_PATCH_IO) != -1);
}

/* ---- Handlers -------------------------------------------------------------------------- */

static int handlers_pipe[2], turns, switched;

static void write_in_handler(int number)
{
    int before = turns;
    (void)number;
    must(write(handlers_pipe[1], "x", 1) == 1);
    switched += turns != before;
}

static void *takes_turns(void *unused)
{
    while (green_sleep(0) == 0)
        turns++;
    return unused;
}

static void raise_often(int flags)
{
    struct sigaction action = { .sa_handler = write_in_handler }, before;
    green_task_t *other = spawn(takes_turns, NULL);
    turns = switched = 0;
    turn();
    must_be_0(pipe2(handlers_pipe, flags));
    must_be_0(sigaction(SIGUSR1, &action, &before));
    for (int i = 0; i < 100; i++)
        must_be_0(raise(SIGUSR1));
    must_be_0(sigaction(SIGUSR1, &before, NULL));
    must_be_0(close(handlers_pipe[0]));
    must_be_0(close(handlers_pipe[1]));
    must_be_0(green_task_free(other));
}

HAZARD(others_may_run_while_a_handler_writes_to_a_pipe)
{
    if (UNDER_TSAN)
        skip(); /* it complains, and rightly */
    raise_often(0);
    assert_int_not_equal(switched, 0);
}

HAZARD(none_does_if_the_pipe_is_nonblocking)
{
    raise_often(O_NONBLOCK);
    assert_int_equal(switched, 0);
}

/* ---- Threads and processes --------------------------------------------------------------- */

static void *ask_what_is_patched(void *unused)
{
    (void)unused;
    return V(green_patch(0));
}

HAZARD(a_new_thread_is_not_patched)
{
    assert_ptr_equal(in_thread(ask_what_is_patched, NULL), V(0));
}

HAZARD(the_child_of_fork_is_patched_as_its_parent)
{
    int status;
    pid_t pid = fork();
    if (pid == 0)
        _exit(green_patch(0));
    must(pid > 0 && waitpid(pid, &status, 0) == pid);
    assert_int_equal(status, (GREEN_PATCH_WAIT | GREEN_PATCH_IO) << 8);
}

static void *polls_in_a_thread(void *went_on)
{
    green_task_t *task;
    must(green_patch(GREEN_PATCH_WAIT) == 0);
    task = spawn(takes_turns, NULL);
    turn();
    must_be_0(pthread_cancel(pthread_self())); /* noticed by the next cancellation point */
    (void)poll(NULL, 0, 10);
    *(bool *)went_on = true;
    must_be_0(green_task_free(task));
    pthread_testcancel();
    return NULL;
}

TEST(a_wait_as_a_task_is_no_cancellation_point)
{
    pthread_t thread;
    void *value;
    bool went_on = false;
    must_be_0(pthread_create(&thread, NULL, polls_in_a_thread, &went_on));
    must_be_0(pthread_join(thread, &value));
    assert_ptr_equal(value, PTHREAD_CANCELED);
    assert_true(went_on);
}

int main(void)
{
    return run_all_tests();
}
