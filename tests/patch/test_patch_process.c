/* SPDX-License-Identifier: MIT */
/* Children, shells and pipes to shells: each as the real call has it, beside each other. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "hubs.h"

#include <green_patch.h>

/* Each child waits for a byte, or a shell for a line, which let_end() writes. */
static int ends[2];

static pid_t child_that_exits(int code)
{
    pid_t pid = fork();
    must(pid >= 0);
    if (pid == 0) {
        char byte;
        alarm(60);
        while (read(ends[0], &byte, 1) != 1)
            continue;
        _exit(code);
    }
    return pid;
}

/* In a task: so others run while they are waited for. */
static void *let_end(void *children)
{
    for (intptr_t i = (intptr_t)children; i > 0; i--) {
        nap(5);
        must(write(ends[1], "\n", 1) == 1);
    }
    return NULL;
}

static void assert_no_children(void)
{
    assert_refused(waitpid(-1, NULL, WNOHANG), ECHILD);
}

static int patched(void **state)
{
    return hubs_begin_world(state) == 0 && pipe(ends) == 0 &&
                   green_patch(GREEN_PATCH_PROCESSES) == 0
               ? 0
               : -1;
}

static int unpatched(void **state)
{
    green_patch(0);
    must_be_0(close(ends[0]) | close(ends[1]));
    return hubs_end(state);
}

#define PATCH_TEST(sentence) TEST_WITH(sentence, patched, unpatched)

static int running;

static void *in_shell(void *code)
{
    char command[64];
    snprintf(command, sizeof command, "read -r line </dev/fd/%d; exit %d", ends[0],
             (int)(intptr_t)code);
    running++;
    int status = system(command);
    running--;
    must(WIFEXITED(status) && WEXITSTATUS(status) == (int)(intptr_t)code);
    return NULL;
}

PATCH_TEST(ten_shells_run_beside_each_other)
{
    green_task_t *tasks[10];
    struct sigaction before, after;
    sigset_t mask_before, mask_after;
    sigaction(SIGINT, NULL, &before);
    pthread_sigmask(SIG_SETMASK, NULL, &mask_before);
    running = 0;
    for (int i = 0; i < 10; i++)
        tasks[i] = spawn(in_shell, V(i));
    while (running < 10) /* none ends until all run */
        turn();
    sigaction(SIGINT, NULL, &after);
    assert_ptr_equal(after.sa_handler, SIG_IGN);
    pthread_sigmask(SIG_SETMASK, NULL, &mask_after);
    assert_int_equal(sigismember(&mask_after, SIGCHLD), 1);
    finish(spawn(let_end, V(10)));
    for (int i = 0; i < 10; i++)
        finish(tasks[i]);
    sigaction(SIGINT, NULL, &after);
    assert_ptr_equal(after.sa_handler, before.sa_handler);
    pthread_sigmask(SIG_SETMASK, NULL, &mask_after);
    assert_int_equal(sigismember(&mask_after, SIGCHLD), sigismember(&mask_before, SIGCHLD));
    assert_no_children();
}

PATCH_TEST(a_shell_says_what_libcs_says)
{
    static const char *const commands[] = { NULL,        "true",          "exit 3",
                                            "kill -9 $$", "no-such-command 2>/dev/null" };
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        int got = system(commands[i]);
        green_patch(0);
        int wanted = system(commands[i]);
        green_patch(GREEN_PATCH_PROCESSES);
        assert_int_equal(got, wanted);
    }
    assert_no_children();
}

static void *in_long_shell(void *unused)
{
    (void)unused;
    errno = 0;
    must(system("exec sleep 1000") == -1 && errno == ECANCELED);
    must(system("true") == -1 && errno == ECANCELED); /* each time */
    must_fail(waitpid(-1, NULL, 0), ECANCELED);
    return NULL;
}

PATCH_TEST(a_shell_that_is_cancelled_is_killed_and_reaped)
{
    struct sigaction after;
    green_task_t *task = spawn(in_long_shell, NULL);
    nap(50);
    must_be_0(green_task_cancel(task));
    finish(task);
    assert_no_children();
    sigaction(SIGINT, NULL, &after);
    assert_ptr_not_equal(after.sa_handler, SIG_IGN);
}

static void *wait_in_turn(void *how)
{
    int status = 0, kind = (int)(intptr_t)how;
    siginfo_t info;
    struct rusage usage = { 0 };
    pid_t pid = child_that_exits(kind + 1);
    switch (kind) {
    case 0:
        must(waitpid(pid, &status, 0) == pid);
        break;
    case 1:
        must(wait4(pid, &status, 0, &usage) == pid && usage.ru_maxrss > 0);
        break;
    case 2:
        must_be_0(waitid(P_PID, (id_t)pid, &info, WEXITED));
        must(info.si_pid == pid && info.si_code == CLD_EXITED);
        status = W_EXITCODE(info.si_status, 0);
        break;
    case 3: /* left for the next to reap */
        must_be_0(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT));
        must(waitpid(pid, &status, WNOHANG) == pid);
        break;
    }
    must(WIFEXITED(status) && WEXITSTATUS(status) == kind + 1);
    note("%d", kind);
    return NULL;
}

PATCH_TEST(each_call_waits_as_a_task_for_its_own_child)
{
    for (intptr_t i = 0; i < 4; i++) {
        green_task_t *waits = spawn(wait_in_turn, V(i));
        finish(spawn(let_end, V(1)));
        finish(waits);
    }
    assert_noted("0 1 2 3");
    assert_no_children();
}

PATCH_TEST(a_pidfd_in_nonblocking_mode_is_not_waited_for)
{
    const idtype_t by_pidfd = (idtype_t)3; /* P_PIDFD */
    siginfo_t info;
    pid_t pid = child_that_exits(1);
    int fd = (int)syscall(SYS_pidfd_open, pid, O_NONBLOCK); /* PIDFD_NONBLOCK */
    if (fd < 0) {
        print_message("skipped: this system has no pidfds with O_NONBLOCK\n");
        finish(spawn(let_end, V(1)));
        must(waitpid(pid, NULL, 0) == pid);
        skip();
    }
    assert_refused(waitid(by_pidfd, (id_t)fd, &info, WEXITED), EAGAIN);
    must_be_0(fcntl(fd, F_SETFL, 0));
    green_task_t *task = spawn(let_end, V(1));
    must_be_0(waitid(by_pidfd, (id_t)fd, &info, WEXITED));
    assert_int_equal(info.si_pid, pid);
    finish(task);
    must_be_0(close(fd));
}

static void *wait_for_any(void *how)
{
    int status;
    pid_t a = child_that_exits(1), b = child_that_exits(2), reaped[2];
    for (int i = 0; i < 2; i++) {
        reaped[i] = how == NULL ? wait(&status) : wait3(&status, 0, NULL);
        must(WIFEXITED(status) && WEXITSTATUS(status) == (reaped[i] == a ? 1 : 2));
    }
    must((reaped[0] == a && reaped[1] == b) || (reaped[0] == b && reaped[1] == a));
    must_fail(how == NULL ? wait(NULL) : wait3(NULL, 0, NULL), ECHILD);
    return NULL;
}

PATCH_TEST(whichever_ends_first_is_reaped)
{
    for (intptr_t how = 0; how < 2; how++) {
        green_task_t *waits = spawn(wait_for_any, V(how));
        finish(spawn(let_end, V(2)));
        finish(waits);
    }
}

PATCH_TEST(a_stopped_and_continued_child_is_told)
{
    int status;
    pid_t pid = child_that_exits(0);
    must_be_0(kill(pid, SIGSTOP));
    assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
    assert_true(WIFSTOPPED(status));
    must_be_0(kill(pid, SIGCONT));
    assert_int_equal(waitpid(pid, &status, WCONTINUED), pid);
    assert_true(WIFCONTINUED(status));
    must_be_0(kill(pid, SIGKILL));
    assert_int_equal(waitpid(pid, &status, 0), pid);
}

static void *read_from_shell(void *number)
{
    char command[64], line[64];
    snprintf(command, sizeof command, "read -r line </dev/fd/%d; echo %d; exit 7", ends[0],
             (int)(intptr_t)number);
    FILE *stream = popen(command, "r");
    must(stream != NULL);
    running++;
    must(fgets(line, sizeof line, stream) != NULL);
    running--;
    must(atoi(line) == (int)(intptr_t)number);
    must(pclose(stream) == W_EXITCODE(7, 0));
    return NULL;
}

PATCH_TEST(ten_pipes_are_read_beside_each_other)
{
    green_task_t *tasks[10];
    running = 0;
    for (int i = 0; i < 10; i++)
        tasks[i] = spawn(read_from_shell, V(i));
    while (running < 10) /* none ends until all are read */
        turn();
    finish(spawn(let_end, V(10)));
    for (int i = 0; i < 10; i++)
        finish(tasks[i]);
    assert_no_children();
}

PATCH_TEST(the_end_of_a_pipe_is_no_error)
{
    char command[64];
    snprintf(command, sizeof command, "exec <&%d; read -r line; echo $line; read -r line", ends[0]);
    FILE *stream = popen(command, "r");
    green_task_t *task = spawn(let_end, V(2));
    assert_non_null(stream);
    must_be_0(setvbuf(stream, NULL, _IONBF, 0)); /* so that each read brings all it asks for */
    errno = 0;
    assert_int_equal(fgetc(stream), '\n');
    assert_int_equal(fgetc(stream), EOF);
    assert_int_equal(errno, 0);
    assert_true(feof(stream) && !ferror(stream));
    assert_int_equal(pclose(stream), 0);
    finish(task);
}

PATCH_TEST(what_is_written_to_a_pipe_comes_to_the_shell)
{
    char path[] = "/tmp/green_patch_XXXXXX", command[128], text[64] = "";
    int fd = mkstemp(path);
    must(fd >= 0);
    snprintf(command, sizeof command, "cat > %s", path);
    FILE *stream = popen(command, "w");
    assert_non_null(stream);
    fprintf(stream, "hello");
    assert_int_equal(pclose(stream), 0);
    assert_int_equal(read(fd, text, sizeof text), 5);
    assert_string_equal(text, "hello");
    close(fd);
    unlink(path);
}

PATCH_TEST(modes_and_descriptors_are_as_libcs)
{
    assert_null_errno(popen("true", "x"), EINVAL);
    assert_null_errno(popen("true", ""), EINVAL);
    assert_null_errno(popen("true", "rw"), EINVAL);
    for (int e = 0; e < 2; e++) {
        FILE *stream = popen("true", e ? "re" : "r");
        assert_non_null(stream);
        assert_true(fileno(stream) > 2);
        assert_int_equal(fcntl(fileno(stream), F_GETFD), e ? FD_CLOEXEC : 0);
        assert_int_equal(pclose(stream), 0);
    }
    /* An earlier stream is not open in a later child: the cat ends when its only writer does. */
    FILE *cat = popen("cat", "w"), *later = popen("cat", "w");
    assert_non_null(cat);
    assert_non_null(later);
    assert_int_equal(pclose(cat), 0);
    assert_int_equal(pclose(later), 0);
}

PATCH_TEST(a_stream_of_libcs_own_is_closed_by_libc)
{
    green_patch(0);
    FILE *stream = popen("exit 5", "r");
    green_patch(GREEN_PATCH_PROCESSES);
    assert_int_equal(pclose(stream), W_EXITCODE(5, 0));
    stream = popen("exit 6", "r");
    green_patch(0);
    assert_int_equal(pclose(stream), W_EXITCODE(6, 0));
}

static void *close_cancelled(void *unused)
{
    (void)unused;
    char command[64];
    snprintf(command, sizeof command, "read -r line </dev/fd/%d", ends[0]);
    FILE *stream = popen(command, "r");
    must(stream != NULL);
    must_fail(pclose(stream), ECANCELED);
    must(popen("true", "r") == NULL && errno == ECANCELED);
    return NULL;
}

PATCH_TEST(the_child_of_a_cancelled_pclose_is_reaped_later)
{
    green_task_t *task = spawn(close_cancelled, NULL);
    nap(50);
    must_be_0(green_task_cancel(task));
    finish(task);
    finish(spawn(let_end, V(1)));
    while (waitpid(-1, NULL, WNOHANG) == 0)
        nap(5);
    assert_no_children();
}

PATCH_TEST(a_child_that_was_reaped_otherwise_is_ECHILD)
{
    FILE *stream = popen("true", "r");
    assert_true(wait(NULL) > 0);
    assert_refused(pclose(stream), ECHILD);
    assert_refused(waitpid(1, NULL, 0), ECHILD);
}

/* Second names, which headers do not declare. */
pid_t __waitpid(pid_t pid, int *status, int options);
pid_t __wait(int *status);

static void *limited(void *unused)
{
    (void)unused;
    GREEN_SCOPE(limit, GREEN_MS(50), 0);
    must_fail(system("exec sleep 1000"), ETIMEDOUT);
    pid_t pid = child_that_exits(0);
    must_fail(waitpid(pid, NULL, 0), ETIMEDOUT);
    must_fail(wait4(pid, NULL, 0, NULL), ETIMEDOUT);
    must_fail(__waitpid(pid, NULL, 0), ETIMEDOUT);
    must_fail(__wait(NULL), ETIMEDOUT);
    must_be_0(kill(pid, SIGKILL));
    must(green_scope_end(&limit) == 1);
    must(waitpid(pid, NULL, 0) == pid);
    return NULL;
}

PATCH_TEST(the_end_of_a_scope_ends_a_wait)
{
    finish(spawn(limited, NULL));
    assert_no_children();
}

int main(void)
{
    return run_all_tests();
}
