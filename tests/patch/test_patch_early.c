/* SPDX-License-Identifier: MIT */
/*
 * The patch's calls work before there is anything: before constructors, in them, after main(),
 * in a process that was executed with GREEN_PATCH in its environment.
 */
#include "patched.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <time.h>

/* Calls of each kind that do not wait: 0, or the line of the one that failed. */
static int call_each(void)
{
    const struct timespec moment = {0, 1};
    struct timeval no_time = {0, 0};
    int pair[2], tube[2], copy;
    char byte;
    if (pipe(tube) != 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
        return __LINE__;
    if (poll(&(struct pollfd){.fd = tube[1], .events = POLLOUT}, 1, -1) != 1)
        return __LINE__;
    if (select(0, NULL, NULL, NULL, &no_time) != 0)
        return __LINE__;
    if (nanosleep(&moment, NULL) != 0 || usleep(1) != 0 || sleep(0) != 0)
        return __LINE__;
    if (write(tube[1], "x", 1) != 1 || read(tube[0], &byte, 1) != 1)
        return __LINE__;
    if (send(pair[1], "x", 1, 0) != 1 || recv(pair[0], &byte, 1, 0) != 1)
        return __LINE__;
    if ((copy = fcntl(tube[0], F_DUPFD_CLOEXEC, 100)) < 100 || close(copy) != 0)
        return __LINE__;
    if (waitpid(-1, NULL, WNOHANG) != -1 || errno != ECHILD)
        return __LINE__;
    if (close(tube[0]) != 0 || close(tube[1]) != 0 || close(pair[0]) != 0 || close(pair[1]) != 0)
        return __LINE__;
    return 0;
}

static int in_preinit = -1, in_constructor = -1;

/* A sanitizer is not ready then. */
#if !SANITIZED
static void before_all(void)
{
    in_preinit = call_each();
}
__attribute__((section(".preinit_array"), used)) static void (*const run_before_all)(void) = before_all;
#endif

__attribute__((constructor(101))) static void construct(void)
{
    in_constructor = call_each();
    if (SANITIZED)
        in_preinit = 0;
}

/* In the first child with GREEN_PATCH: whether tasks wait beside each other. */
static void *sleeps(void *order)
{
    if (order == NULL)
        must_be_0(usleep(1000));
    note("%d", (int)(intptr_t)order);
    return NULL;
}

static void after_main(void)
{
    if (call_each() != 0)
        _exit(5);
}

/* What this program does with an argument. */
static int be_a_child(const char *wanted)
{
    int failed = in_preinit != 0 ? in_preinit : in_constructor != 0 ? in_constructor : call_each();
    must_be_0(atexit(after_main));
    if (failed != 0) {
        printf("line %d\n", failed);
        return 1;
    }
    green_task_t *a = spawn(sleeps, V(0)), *b = spawn(sleeps, V(1));
    finish(a);
    finish(b);
    if (strcmp(noted(), atoi(wanted) & GREEN_PATCH_WAIT ? "1 0" : "0 1") != 0)
        return 2;
    if (green_patch(0) != atoi(wanted))
        return 3;
    puts("fine");
    return 0;
}

static int execute(void *wanted)
{
    execl("/proc/self/exe", "child", wanted, (char *)NULL);
    return 9;
}

static void assert_child(const char *environment, const char *wanted, const char *said)
{
    if (environment != NULL)
        setenv("GREEN_PATCH", environment, 1);
    struct child child = run_child(execute, (void *)(uintptr_t)wanted);
    unsetenv("GREEN_PATCH");
    if (!WIFEXITED(child.status) || WEXITSTATUS(child.status) != 0)
        fail_msg("GREEN_PATCH=%s: status %x: %s%s", environment, (unsigned)child.status, child.out,
                 child.err);
    assert_string_equal(child.out, "fine\n");
    assert_string_equal(child.err, said);
}

TEST(calls_work_before_main_and_in_constructors)
{
    assert_int_equal(in_preinit, 0);
    assert_int_equal(in_constructor, 0);
}

TEST(the_environment_asks_for_what_it_names)
{
    if (getenv("GREEN_TEST_LEAKS") != NULL || under_valgrind())
        skip_because("the child would be run without the tool");
#ifdef GREEN_TEST_EMULATED
    skip_because("the child would be run without QEMU");
#endif
    assert_child(NULL, "0", "");
    assert_child("", "0", "");
    assert_child("wait", "1", "");
    assert_child("io", "2", "");
    assert_child("names", "4", "");
    assert_child("locks", "8", "");
    assert_child("processes", "16", "");
    assert_child("wait,io,names", "7", "");
    assert_child(",processes,,wait,", "17", "");
    assert_child("all", "31", "");
    assert_child("wait,all the rest,io",
                 "3", "libgreen_patch: GREEN_PATCH: there is no \"all the rest\": wait, io, names, "
                      "locks, processes or all\n");
}

int main(int argc, char **argv)
{
    if (argc == 2)
        return be_a_child(argv[1]);
    return run_all_tests();
}
