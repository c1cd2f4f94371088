/* SPDX-License-Identifier: MIT */
/*
 * Kernels that do not have a system call, and sandboxes that forbid it: each that the hub may
 * do without fails with ENOSYS, then with EPERM, and with what file systems say that cannot be
 * asked not to block.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "filters.h"
#include "hubs.h"

static void *write_much(void *fd)
{
    static char much[3 * 65536];
    ssize_t n = green_write_all((int)(intptr_t)fd, much, sizeof much);
    must(n > 0 && n < (ssize_t)sizeof much && errno == ECANCELED);
    return fd;
}

static void *write_later(void *fd)
{
    nap(1);
    must(green_write((int)(intptr_t)fd, "x", 1) == 1);
    return fd;
}

static int shared[2];

static void *read_one(void *value)
{
    char byte;
    must(green_read(shared[0], &byte, 1) == 1);
    return value;
}

static void *give_turns(void *goes_on)
{
    while (*(bool *)goes_on)
        turn();
    return NULL;
}

/* Another task takes what has woken a reader before this has its turn, and the thread goes on. */
static void take_before(void)
{
    char byte;
    bool goes_on = true;
    must_be_0(pipe2(shared, O_CLOEXEC));
    green_task_t *task = spawn(read_one, V(1));
    nap(1); /* epoll has been asked for it */
    green_task_t *other = spawn(give_turns, &goes_on);
    turn();
    size_t polls = hub_stat(polls);
    must(green_write(shared[1], "x", 1) == 1);
    while (hub_stat(polls) == polls)
        turn(); /* with the other in the line: what the look finds comes behind */
    must(green_read(shared[0], &byte, 1) == 1);
    goes_on = false;
    finish(other);
    must(green_write(shared[1], "y", 1) == 1);
    finish(task);
    must_be_0(green_close(shared[0]));
    must_be_0(green_close(shared[1]));
}

static void time_goes_on(void)
{
    for (int i = 0; i < 3; i++) {
        int64_t before = green_now();
        must_be_0(green_sleep(GREEN_US(300) + i)); /* with a descriptor, see use_pipe() */
        must(green_now() - before >= GREEN_US(300) + i);
    }
    GREEN_SCOPE(limit, GREEN_US(1500), 0);
    must_fail(green_sleep(GREEN_FOREVER), ETIMEDOUT);
    must(green_scope_end(&limit) == 1);
}

static void use_pipe(void)
{
    int ends[2];
    char bytes[8];
    must_be_0(pipe2(ends, O_CLOEXEC));
    green_task_t *task = spawn(write_later, V(ends[1]));
    must(green_read(ends[0], bytes, sizeof bytes) == 1);
    finish(task);
    GREEN_SCOPE(limit, GREEN_MS(1), 0);
    must_fail(green_read(ends[0], bytes, 1), ETIMEDOUT);
    green_scope_end(&limit);
    task = spawn(write_much, V(ends[1]));
    turn();
    must_be_0(green_task_free(task));
    must((fcntl(ends[0], F_GETFL) & O_NONBLOCK) == 0);
    must((fcntl(ends[1], F_GETFL) & O_NONBLOCK) == 0);
    must_be_0(green_close(ends[0]));
    must_be_0(green_close(ends[1]));
}

static void use_socket(void)
{
    int pair[2];
    char bytes[8];
    must_be_0(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    green_task_t *task = spawn(write_later, V(pair[1]));
    must(green_read(pair[0], bytes, sizeof bytes) == 1);
    finish(task);
    must_be_0(green_close(pair[0]));
    must_be_0(green_close(pair[1]));
}

static void use_file(int fd)
{
    char bytes[8];
    must(green_write(fd, "hello", 5) == 5);
    must(green_pread(fd, bytes, sizeof bytes, 1) == 4 && memcmp(bytes, "ello", 4) == 0);
    must(green_pwrite(fd, "j", 1, 0) == 1);
    must(lseek(fd, 0, SEEK_SET) == 0);
    must(green_read(fd, bytes, sizeof bytes) == 5 && memcmp(bytes, "jello", 5) == 0);
    must_be_0(green_close(fd));
}

static void use_process(void)
{
    int status = -1;
    pid_t pid = fork();
    if (pid == 0)
        leave_child(5);
    must(green_waitpid(pid, &status, 0) == pid && status == 5 << 8);
}

static int use_it_all(void *arg)
{
    const int calls[] = {
        441 /* epoll_pwait2 */, 434 /* pidfd_open */, SYS_preadv2, SYS_pwritev2,
    };
    char path[] = "test_hub_sandbox.XXXXXX";
    int file = mkostemp(path, O_CLOEXEC);
    must(file >= 0);
    unlink(path);
    if (filter_calls(calls, (int)(sizeof calls / sizeof calls[0]), *(int *)arg) != 0)
        leave_child(NO_FILTERS);
    must(syscall(calls[0], -1, NULL, 0, NULL, NULL, 0ul) == -1);
    must(errno == *(int *)arg || under_valgrind()); /* which has not this one */
    time_goes_on();
    use_pipe();
    take_before();
    time_goes_on();
    use_socket();
    use_file(file);
    use_file(memfd_create("file", MFD_CLOEXEC));
    use_process();
    must_be_0(green_hub_end(GREEN_FOREVER));
    leave_child(0);
}

TEST(without_the_newer_system_calls_it_is_the_same)
{
    int errors[] = { ENOSYS, EPERM, EINVAL, EOPNOTSUPP };
    for (int i = 0; i < 4; i++)
        assert_child_held(run_child(use_it_all, &errors[i]));
}

int main(void)
{
    return run_all_tests();
}
