/* SPDX-License-Identifier: MIT */
/* Processes: green_waitpid(). */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>

#include "filters.h"
#include "hubs.h"

extern char **environ;

/*
 * A child that ends with this status at let_end().  That writes: children that are forked
 * later have the descriptor, too, so that a close() would not tell.
 */
static pid_t fork_child(int status, int *end)
{
    int ends[2];
    must_be_0(pipe2(ends, O_CLOEXEC));
    pid_t pid = fork();
    must(pid >= 0);
    if (pid == 0) {
        char byte;
        close(ends[1]);
        while (read(ends[0], &byte, 1) < 0)
            continue;
        leave_child(status);
    }
    close(ends[0]);
    *end = ends[1];
    return pid;
}

/* Waits until it is a zombie, and leaves it so. */
static void await_end(pid_t pid)
{
    siginfo_t info;
    while (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) != 0)
        must(errno == EINTR);
}

static void assert_exited(int status, int code)
{
    must(WIFEXITED(status) && WEXITSTATUS(status) == code);
}

static void let_end(int end)
{
    must(write(end, "x", 1) == 1);
    must_be_0(close(end));
}

struct awaited {
    pid_t pid, result;
    int status, error;
};

static void *await(void *arg)
{
    struct awaited *child = arg;
    child->result = green_waitpid(child->pid, &child->status, 0);
    child->error = errno;
    return child;
}

/* ---- What it says ------------------------------------------------------------------------- */

WORLD_TEST(other_tasks_run_until_the_child_ends)
{
    int end;
    struct awaited child = { .pid = fork_child(10, &end) };
    green_task_t *task = spawn(await, &child);
    turn();
    nap(1);
    assert_int_equal(child.result, 0);
    let_end(end);
    finish(task);
    assert_int_equal(child.result, child.pid);
    assert_exited(child.status, 10);
}

WORLD_TEST(of_one_that_has_ended_it_says_so_at_once_and_then_there_is_none)
{
    int end, status = 0;
    pid_t pid = fork_child(3, &end);
    let_end(end);
    await_end(pid);
    assert_int_equal(green_waitpid(pid, &status, 0), pid);
    assert_exited(status, 3);
    assert_refused(green_waitpid(pid, &status, 0), ECHILD);
    pid = fork_child(4, &end);
    let_end(end);
    assert_int_equal(green_waitpid(pid, NULL, 0), pid);
}

WORLD_TEST(with_WNOHANG_it_does_not_wait)
{
    int end, status = 0;
    pid_t pid = fork_child(5, &end);
    assert_int_equal(green_waitpid(pid, &status, WNOHANG), 0);
    let_end(end);
    await_end(pid);
    assert_int_equal(green_waitpid(pid, &status, WNOHANG), pid);
    assert_exited(status, 5);
    assert_refused(green_waitpid(pid, &status, WNOHANG), ECHILD);
}

WORLD_TEST(nonsense_is_refused)
{
    int status;
    assert_refused(green_waitpid(-1, &status, 0), EINVAL);
    assert_refused(green_waitpid(0, &status, 0), EINVAL);
    assert_refused(green_waitpid(1, &status, WUNTRACED), EINVAL);
    assert_refused(green_waitpid(getpid(), &status, 0), ECHILD);
}

WORLD_TEST(a_signal_that_killed_it_is_in_the_status)
{
    int end, status = 0;
    pid_t pid = fork_child(0, &end);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(green_waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGKILL);
    close(end);
}

/* ---- Several who wait ----------------------------------------------------------------------- */

WORLD_TEST(of_two_tasks_that_wait_for_one_child_one_gets_it)
{
    int end;
    struct awaited a = { .pid = fork_child(6, &end) }, b = a;
    green_task_t *first = spawn(await, &a), *second = spawn(await, &b);
    turn();
    let_end(end);
    finish(first);
    finish(second);
    assert_true((a.result == a.pid) != (b.result == b.pid));
    assert_int_equal(a.result == a.pid ? b.error : a.error, ECHILD);
}

WORLD_TEST(children_that_others_wait_for_are_left_to_them)
{
    int end, other_end, status = 0;
    struct awaited child = { .pid = fork_child(7, &end) };
    pid_t other = fork_child(8, &other_end);
    green_task_t *task = spawn(await, &child);
    turn();
    let_end(other_end);
    await_end(other);
    nap(1);
    assert_int_equal(waitpid(other, &status, WNOHANG), other);
    assert_exited(status, 8);
    let_end(end);
    finish(task);
    assert_int_equal(child.result, child.pid);
    assert_exited(child.status, 7);
}

static void *await_own(void *unused)
{
    int end;
    struct awaited child = { .pid = fork_child(9, &end) };
    green_task_t *task = spawn(await, &child);
    turn();
    let_end(end);
    finish(task);
    must(child.result == child.pid);
    assert_exited(child.status, 9);
    must_be_0(green_hub_end(GREEN_FOREVER));
    return unused;
}

WORLD_TEST(each_thread_gets_its_own_child)
{
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        must_be_0(pthread_create(&threads[i], NULL, await_own, NULL));
    for (int i = 0; i < 2; i++)
        must_be_0(pthread_join(threads[i], NULL));
}

/* ---- What ends the wait ---------------------------------------------------------------------- */

WORLD_TEST(the_time_of_a_scope_ends_the_wait_and_the_child_can_be_waited_for_again)
{
    int end, status = 0;
    pid_t pid = fork_child(11, &end);
    GREEN_SCOPE(limit, GREEN_MS(2), 0);
    assert_refused(green_waitpid(pid, &status, 0), ETIMEDOUT);
    assert_int_equal(green_scope_end(&limit), 1);
    let_end(end);
    assert_int_equal(green_waitpid(pid, &status, 0), pid);
    assert_exited(status, 11);
}

WORLD_TEST(a_cancel_ends_the_wait)
{
    int end;
    struct awaited child = { .pid = fork_child(12, &end) };
    green_task_t *task = spawn(await, &child);
    turn();
    assert_int_equal(green_task_free(task), 0);
    assert_int_equal(child.result, -1);
    assert_int_equal(child.error, ECANCELED);
    let_end(end);
    assert_int_equal(green_waitpid(child.pid, &child.status, 0), child.pid);
}

HUB_TEST(virtual_time_passes_as_the_worlds_while_a_child_is_waited_for)
{
    int end;
    struct awaited child = { .pid = fork_child(13, &end) };
    green_task_t *task = spawn(await, &child);
    nap(1);
    assert_int_equal(child.result, 0);
    let_end(end);
    green_task_t *sleeper = spawn(sleep_for, V(INT64_C(3600) * 1000));
    finish(task);
    assert_int_equal(child.result, child.pid);
    assert_true(clock_ms() < 3600 * 1000);
    assert_null(finish(sleeper));
}

WORLD_TEST(if_SIGCHLD_is_ignored_there_is_none_after_the_end)
{
    int end, status;
    void (*before)(int) = signal(SIGCHLD, SIG_IGN);
    pid_t pid = fork_child(14, &end);
    struct awaited child = { .pid = pid };
    green_task_t *task = spawn(await, &child);
    turn();
    let_end(end);
    finish(task);
    signal(SIGCHLD, before);
    assert_int_equal(child.result, -1);
    assert_int_equal(child.error, ECHILD);
    assert_refused(green_waitpid(pid, &status, 0), ECHILD);
}

/* ---- Spawning from tasks --------------------------------------------------------------------- */

static void *spawn_true(void *unused)
{
    char *arguments[] = { (char *)"true", NULL };
    pid_t pid;
    int status = -1;
    must_be_0(posix_spawnp(&pid, "true", NULL, NULL, arguments, environ));
    must(green_waitpid(pid, &status, 0) == pid);
    assert_exited(status, 0);
    return unused;
}

WORLD_TEST(many_tasks_spawn_and_wait_and_no_descriptor_is_left)
{
    enum { TASKS = 8 };
    for (int round = 0; round < times(5, 1); round++) {
        green_task_t *tasks[TASKS];
        for (int i = 0; i < TASKS; i++)
            tasks[i] = spawn(spawn_true, NULL);
        for (int i = 0; i < TASKS; i++)
            finish(tasks[i]);
    }
}

WORLD_TEST(a_pipe_that_is_shared_with_a_child_keeps_its_flags)
{
    int ends[2];
    char byte;
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    if (pid == 0) {
        usleep(1000);
        leave_child(write(ends[1], "x", 1) != 1);
    }
    assert_int_equal(green_read(ends[0], &byte, 1), 1);
    assert_int_equal(fcntl(ends[0], F_GETFL) & O_NONBLOCK, 0);
    assert_int_equal(fcntl(ends[1], F_GETFL) & O_NONBLOCK, 0);
    assert_int_equal(green_waitpid(pid, NULL, 0), pid);
    close(ends[0]);
    close(ends[1]);
}

/* ---- Without pidfds -------------------------------------------------------------------------- */

static int await_without_pidfd(void *error)
{
    const int calls[] = { 434 /* pidfd_open */ };
    int end;
    if (filter_calls(calls, 1, *(int *)error) != 0)
        leave_child(NO_FILTERS);
    struct awaited child = { .pid = fork_child(15, &end) };
    int descriptors = hubs_descriptors();
    green_task_t *task = spawn(await, &child);
    turn();
    must(hubs_descriptors() == descriptors); /* there is none */
    nap(1);
    must(child.result == 0);
    let_end(end);
    finish(task);
    must(child.result == child.pid);
    assert_exited(child.status, 15);

    child = (struct awaited){ .pid = fork_child(16, &end) };
    task = spawn(await, &child);
    turn();
    must_be_0(green_task_free(task));
    must(child.result == -1 && child.error == ECANCELED);
    let_end(end);
    must(green_waitpid(child.pid, &child.status, 0) == child.pid);
    assert_exited(child.status, 16);
    leave_child(0);
}

WORLD_TEST(without_pidfds_it_is_the_same)
{
    int errors[] = { ENOSYS, EPERM };
    has_tasks_in_child();
    for (int i = 0; i < 2; i++)
        assert_child_held(run_child(await_without_pidfd, &errors[i]));
}

static void *leave_waiting(void *child)
{
    green_task_t *task = spawn(await, child);
    turn();
    return task;
}

/* The descriptor that the wait had is closed, as each test sees at its end. */
WORLD_TEST(a_thread_may_end_while_a_task_of_it_waits)
{
    int end;
    struct awaited child = { .pid = fork_child(17, &end) };
    assert_int_equal(green_task_free(in_thread(leave_waiting, &child)), 0);
    let_end(end);
    assert_int_equal(green_waitpid(child.pid, &child.status, 0), child.pid);
    assert_exited(child.status, 17);
}

int main(void)
{
    return run_all_tests();
}
