/* SPDX-License-Identifier: MIT */
/* Descriptors in blocking mode under the patch: what waits, what it says, what stays as it was. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <green_patch.h>

#include "hubs.h"

#define SIZE (1 << 20)

struct pair {
    int a, b;
};

static struct pair make_stream(void)
{
    int fds[2];
    must(green_patch(0) >= 0);
    must_be_0(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
    must_be_0(green_patch(GREEN_PATCH_WAIT | GREEN_PATCH_IO));
    return (struct pair){fds[0], fds[1]};
}

static void end(struct pair pair)
{
    must_be_0(close(pair.a));
    must_be_0(close(pair.b));
    must(green_patch(0) >= 0);
}

static void *read_one(void *fd)
{
    char byte = 0;
    ssize_t n = read((int)(intptr_t)fd, &byte, 1);
    return n == 1 ? V(byte) : n == 0 ? V(-2) : V(-errno);
}

static void *write_much(void *fd)
{
    static const char much[SIZE];
    return V(write((int)(intptr_t)fd, much, SIZE));
}

HUB_TEST(twenty_tasks_read_from_blocking_sockets_side_by_side)
{
    struct pair pairs[20];
    green_task_t *tasks[20];
    for (int i = 0; i < 20; i++) {
        pairs[i] = make_stream();
        tasks[i] = spawn(read_one, V(pairs[i].a));
    }
    must(green_patch(GREEN_PATCH_IO) >= 0);
    turn();
    for (int i = 19; i >= 0; i--) {
        const char byte = (char)(i + 1);
        must(write(pairs[i].b, &byte, 1) == 1);
        assert_int_equal((intptr_t)finish(tasks[i]), i + 1);
        assert_false(fcntl(pairs[i].a, F_GETFL) & O_NONBLOCK);
    }
    for (int i = 0; i < 20; i++)
        end(pairs[i]);
}

HUB_TEST(a_write_goes_on_until_all_is_written)
{
    struct pair pair = make_stream();
    green_task_t *task = spawn(write_much, V(pair.a));
    static char buffer[SIZE];
    assert_int_equal(recv(pair.b, buffer, SIZE, MSG_WAITALL), SIZE);
    assert_int_equal((intptr_t)finish(task), SIZE);
    end(pair);
}

HUB_TEST(a_cancelled_task_reads_no_more_and_closes)
{
    struct pair pair = make_stream();
    green_task_t *task = spawn(read_one, V(pair.a));
    turn();
    must_be_0(green_task_cancel(task));
    assert_int_equal((intptr_t)finish(task), -ECANCELED);
    end(pair);
}

HUB_TEST(a_scope_that_ends_is_a_timeout_and_a_sockets_own_limit_eagain)
{
    struct pair pair = make_stream();
    const struct timeval second = {1, 0};
    char byte;
    {
        GREEN_SCOPE(limit, GREEN_MS(500), 0);
        must_fail(read(pair.a, &byte, 1), ETIMEDOUT);
    }
    must_be_0(setsockopt(pair.a, SOL_SOCKET, SO_RCVTIMEO, &second, sizeof second));
    must_fail(read(pair.a, &byte, 1), EAGAIN);
    assert_int_equal(clock_ms(), 1500);
    end(pair);
}

HUB_TEST(modes_are_the_programs_own)
{
    struct pair pair = make_stream();
    int on = 1, copy;
    char byte;
    must((copy = fcntl(pair.a, F_DUPFD_CLOEXEC, 10)) >= 10);
    must_be_0(close(copy));
    must_be_0(ioctl(pair.a, FIONBIO, &on));
    must_fail(read(pair.a, &byte, 1), EAGAIN);
    must_fail(recv(pair.b, &byte, 1, MSG_DONTWAIT), EAGAIN);
    end(pair);
}

int main(void)
{
    return run_all_tests();
}
