/* SPDX-License-Identifier: MIT */
/* Signals: green_sigwait(), and that the hub touches none (rule 21). */
#define _GNU_SOURCE
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

#include "filters.h"
#include "hubs.h"

static sigset_t one_of(int signal)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal);
    return set;
}

static void block(int signal)
{
    sigset_t set = one_of(signal);
    must_be_0(pthread_sigmask(SIG_BLOCK, &set, NULL));
}

static void unblock(int signal)
{
    sigset_t set = one_of(signal);
    must_be_0(pthread_sigmask(SIG_UNBLOCK, &set, NULL));
}

static void *await(void *signal)
{
    sigset_t set = one_of((int)(intptr_t)signal);
    int result = green_sigwait(&set, GREEN_FOREVER);
    return V(result > 0 ? result : -errno);
}

static void *leave_waiting(void *signal)
{
    green_task_t *task = spawn(await, signal);
    turn();
    return task;
}

/* ---- What it says --------------------------------------------------------------------------- */

WORLD_TEST(a_signal_wakes_who_waits_for_it_twice)
{
    block(SIGUSR1);
    for (int i = 0; i < 2; i++) {
        green_task_t *task = spawn(await, V(SIGUSR1));
        turn();
        nap(1);
        assert_int_equal(kill(getpid(), SIGUSR1), 0);
        assert_ptr_equal(finish(task), V(SIGUSR1));
    }
    unblock(SIGUSR1);
}

WORLD_TEST(one_that_is_pending_is_taken_at_once)
{
    sigset_t set = one_of(SIGUSR1), pending;
    sigaddset(&set, SIGUSR2);
    block(SIGUSR1);
    block(SIGUSR2);
    assert_int_equal(raise(SIGUSR2), 0);
    errno = E1;
    assert_int_equal(green_sigwait(&set, GREEN_NOWAIT), SIGUSR2);
    assert_int_equal(errno, E1);
    assert_refused(green_sigwait(&set, GREEN_NOWAIT), ETIMEDOUT);
    assert_int_equal(kill(getpid(), SIGUSR1), 0);
    assert_int_equal(green_sigwait(&set, GREEN_FOREVER), SIGUSR1);
    sigemptyset(&pending);
    assert_int_equal(sigpending(&pending), 0);
    assert_int_equal(sigismember(&pending, SIGUSR1), 0);
    unblock(SIGUSR1);
    unblock(SIGUSR2);
}

WORLD_TEST(its_time_ends_the_wait)
{
    sigset_t set = one_of(SIGUSR1);
    block(SIGUSR1);
    int64_t before = green_now();
    assert_refused(green_sigwait(&set, GREEN_MS(3)), ETIMEDOUT);
    assert_true(green_now() - before >= GREEN_MS(3));
    GREEN_SCOPE(limit, GREEN_MS(2), 0);
    assert_refused(green_sigwait(&set, GREEN_FOREVER), ETIMEDOUT);
    assert_int_equal(green_scope_end(&limit), 1);
    unblock(SIGUSR1);
}

HUB_TEST(its_time_is_virtual_too)
{
    sigset_t set = one_of(SIGUSR1);
    block(SIGUSR1);
    assert_refused(green_sigwait(&set, GREEN_SEC(3600)), ETIMEDOUT);
    assert_int_equal(clock_ms(), 3600 * 1000);
    unblock(SIGUSR1);
}

WORLD_TEST(a_cancel_ends_the_wait)
{
    block(SIGUSR1);
    green_task_t *task = spawn(await, V(SIGUSR1));
    turn();
    assert_int_equal(green_task_cancel(task), 0);
    assert_ptr_equal(finish(task), V(-ECANCELED));
    unblock(SIGUSR1);
}

WORLD_TEST(those_that_are_not_blocked_are_refused)
{
    sigset_t set = one_of(SIGUSR1);
    assert_refused(green_sigwait(&set, GREEN_NOWAIT), EINVAL);
    assert_refused(green_sigwait(&set, GREEN_FOREVER), EINVAL);
    assert_refused(green_sigwait(NULL, GREEN_NOWAIT), EINVAL);
    block(SIGUSR1);
    sigaddset(&set, SIGUSR2);
    assert_refused(green_sigwait(&set, GREEN_NOWAIT), EINVAL);
    unblock(SIGUSR1);
}

WORLD_TEST(a_full_set_that_is_blocked_may_be_waited_for)
{
    sigset_t all, before;
    sigfillset(&all); /* SIGKILL is among them, and nobody can block it */
#ifdef GREEN_TEST_EMULATED
    sigdelset(&all, SIGRTMAX - 1); /* these are QEMU's own: they are never blocked */
    sigdelset(&all, SIGRTMAX);
#endif
    pthread_sigmask(SIG_BLOCK, &all, &before);
    assert_int_equal(raise(SIGUSR1), 0);
    assert_int_equal(green_sigwait(&all, GREEN_FOREVER), SIGUSR1);
    assert_refused(green_sigwait(&all, GREEN_MS(1)), ETIMEDOUT);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* ---- Several who wait ----------------------------------------------------------------------- */

WORLD_TEST(of_two_tasks_that_wait_for_one_signal_one_gets_it_and_the_other_the_next)
{
    block(SIGUSR1);
    green_task_t *a = spawn(await, V(SIGUSR1)), *b = spawn(await, V(SIGUSR1));
    turn();
    assert_int_equal(kill(getpid(), SIGUSR1), 0);
    nap(2);
    assert_true((green_task_green(a) == NULL) != (green_task_green(b) == NULL));
    assert_int_equal(kill(getpid(), SIGUSR1), 0);
    assert_ptr_equal(finish(a), V(SIGUSR1));
    assert_ptr_equal(finish(b), V(SIGUSR1));
    unblock(SIGUSR1);
}

static void *wait_a_moment(void *unused)
{
    sigset_t set = one_of(SIGUSR1);
    must_fail(green_sigwait(&set, GREEN_MS(3)), ETIMEDOUT);
    must_be_0(green_hub_end(GREEN_FOREVER));
    return unused;
}

WORLD_TEST(what_is_sent_to_another_thread_is_not_seen)
{
    pthread_t thread;
    sigset_t set = one_of(SIGUSR1);
    block(SIGUSR1);
    assert_int_equal(pthread_kill(pthread_self(), SIGUSR1), 0);
    must_be_0(pthread_create(&thread, NULL, wait_a_moment, NULL));
    must_be_0(pthread_join(thread, NULL));
    assert_int_equal(green_sigwait(&set, GREEN_NOWAIT), SIGUSR1);
    unblock(SIGUSR1);
}

WORLD_TEST(a_daemon_that_waits_for_a_signal_holds_nobody)
{
    const green_options_t daemon = { .flags = GREEN_DAEMON };
    block(SIGUSR1);
    green_task_t *task = green_task_spawn_with(await, V(SIGUSR1), &daemon);
    turn();
    assert_int_equal(green_hub_wait(GREEN_FOREVER), 0);
    assert_int_equal(green_task_free(task), 0);
    unblock(SIGUSR1);
}

/* ---- Handlers of the program ----------------------------------------------------------------- */

static atomic_int handled;

static void count_signal(int signal)
{
    (void)signal;
    handled++;
}

static void *play(void *fd)
{
    char byte = 'x';
    int peer = (int)(intptr_t)fd;
    while (green_read(peer, &byte, 1) == 1)
        must(green_write(peer, &byte, 1) == 1);
    return NULL;
}

static void *yield_long(void *stop)
{
    while (!*(bool *)stop)
        must_be_0(green_sleep(GREEN_US(50)));
    return NULL;
}

WORLD_TEST(a_storm_of_signals_interrupts_nothing)
{
    int pair[2];
    char byte = 'x';
    bool stop = false;
    const struct sigaction action = { .sa_handler = count_signal }; /* without SA_RESTART */
    struct sigaction before;
    const int period = times(300, 10000); /* us */
    const struct itimerval often = { { 0, period }, { 0, period } }, never_more = { { 0, 0 }, { 0, 0 } };
    handled = 0;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_int_equal(sigaction(SIGALRM, &action, &before), 0);
    green_task_t *player = spawn(play, V(pair[1])), *sleeper = spawn(yield_long, &stop);
    assert_int_equal(setitimer(ITIMER_REAL, &often, NULL), 0);
    for (int i = 0; handled < times(50, 5); i++) {
        int64_t start = green_now();
        assert_int_equal(green_write(pair[0], &byte, 1), 1);
        assert_int_equal(green_read(pair[0], &byte, 1), 1);
        if (i % 16 == 0)
            assert_int_equal(green_offload(give_back, NULL, NULL, NULL), 0);
        assert_int_equal(green_sleep(GREEN_US(500)), 0);
        assert_true(green_now() - start >= GREEN_US(500));
    }
    assert_int_equal(setitimer(ITIMER_REAL, &never_more, NULL), 0);
    assert_int_equal(sigaction(SIGALRM, &before, NULL), 0);
    stop = true;
    assert_int_equal(green_close(pair[0]), 0);
    assert_null(finish(player));
    assert_null(finish(sleeper));
    assert_int_equal(green_close(pair[1]), 0);
    alarm(30);
}

static const char *name_in_handler;

static void look_at_name(int signal)
{
    (void)signal;
    name_in_handler = green_name(green_current());
}

static void *raise_signal(void *signal)
{
    must_be_0(raise((int)(intptr_t)signal));
    return signal;
}

WORLD_TEST(a_handler_runs_on_the_stack_of_the_task)
{
    const green_options_t options = { .name = "who" };
    void (*before)(int) = signal(SIGUSR1, look_at_name);
    green_task_t *task = green_task_spawn_with(raise_signal, V(SIGUSR1), &options);
    turn();
    assert_string_equal(name_in_handler, "who");
    finish(task);
    signal(SIGUSR1, before);
}

/* ---- What the hub leaves alone --------------------------------------------------------------- */

/* The line of /proc/self/status that begins so. */
static void status_line(const char *name, char *line, size_t size)
{
    FILE *file = fopen("/proc/self/status", "r");
    must(file != NULL);
    while (fgets(line, (int)size, file) != NULL && strncmp(line, name, strlen(name)) != 0)
        continue;
    must(strncmp(line, name, strlen(name)) == 0);
    fclose(file);
}

static int use_it_all(void *unused)
{
    static const char *const names[] = { "SigBlk:", "SigIgn:", "SigCgt:" };
    char before[3][128], after[128];
    int pair[2], status;
    char byte = 'x';
    block(SIGUSR1);
    for (int i = 0; i < 3; i++)
        status_line(names[i], before[i], sizeof before[i]);
    must_be_0(green_offload(give_back, NULL, NULL, NULL));
    must_be_0(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    green_task_t *player = spawn(play, V(pair[1])), *waiter = spawn(await, V(SIGUSR1));
    must(green_write(pair[0], &byte, 1) == 1 && green_read(pair[0], &byte, 1) == 1);
    must_be_0(kill(getpid(), SIGUSR1));
    must(finish(waiter) == V(SIGUSR1));
    pid_t pid = fork();
    if (pid == 0)
        leave_child(0);
    must(green_waitpid(pid, &status, 0) == pid);
    must_be_0(green_close(pair[0]));
    finish(player);
    must_be_0(green_close(pair[1]));
    must_be_0(green_hub_end(GREEN_FOREVER));
    for (int i = 0; i < 3; i++) {
        status_line(names[i], after, sizeof after);
        if (strcmp(before[i], after) != 0) {
            fprintf(stderr, "%s%s", before[i], after);
            leave_child(1);
        }
    }
    (void)unused;
    leave_child(0);
}

TEST(masks_and_handlers_are_as_they_were)
{
#ifdef GREEN_TEST_EMULATED
    skip_because("what QEMU shows in /proc/self/status is its own");
#endif
    struct child child = run_child(use_it_all, NULL);
    assert_string_equal(child.err, "");
    assert_int_equal(child.status, 0);
}

WORLD_TEST(SIGPIPE_never_comes_from_a_socket)
{
    int pair[2];
    struct iovec part = { (char *)"x", 1 };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
    handled = 0;
    void (*before)(int) = signal(SIGPIPE, count_signal);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    close(pair[1]);
    assert_refused(green_write(pair[0], "x", 1), EPIPE);
    assert_refused(green_writev(pair[0], &part, 1), EPIPE);
    assert_refused(green_write_all(pair[0], "x", 1), EPIPE);
    assert_refused(green_send(pair[0], "x", 1, 0), EPIPE);
    assert_refused(green_sendmsg(pair[0], &message, 0), EPIPE);
    assert_int_equal(handled, 0);
    green_close(pair[0]);
    assert_int_equal(pipe(pair), 0);
    close(pair[0]);
    assert_refused(green_write(pair[1], "x", 1), EPIPE);
    assert_int_equal(handled, 1); /* a pipe is as ever */
    green_close(pair[1]);
    signal(SIGPIPE, before);
}

/* ---- Cancellation of threads ----------------------------------------------------------------- */

static void *call_while_cancelled(void *unused)
{
    sigset_t set = one_of(SIGUSR1);
    int status;
    must_be_0(pthread_cancel(pthread_self())); /* it is pending from now on */
    must_fail(green_sigwait(&set, GREEN_NOWAIT), ETIMEDOUT);
    must_fail(green_sigwait(&set, 1), ETIMEDOUT);
    must_fail(green_waitpid(getpid(), &status, WNOHANG), ECHILD);
    must_be_0(green_offload(give_back, NULL, NULL, NULL));
    must_be_0(green_hub_end(GREEN_FOREVER));
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    return unused;
}

WORLD_TEST(no_call_is_a_cancellation_point)
{
    static int result;
    block(SIGUSR1);
    assert_ptr_equal(in_thread(call_while_cancelled, &result), &result);
    unblock(SIGUSR1);
}

/* The descriptor that the wait had is closed, as each test sees at its end. */
WORLD_TEST(a_thread_may_end_while_a_task_of_it_waits)
{
    block(SIGUSR1);
    assert_int_equal(green_task_free(in_thread(leave_waiting, V(SIGUSR1))), 0);
    unblock(SIGUSR1);
}

int main(void)
{
    return run_all_tests();
}
