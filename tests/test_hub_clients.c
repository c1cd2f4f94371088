/* SPDX-License-Identifier: MIT */
/* green_serve() with very many clients at a time, of which none reads. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "filters.h"
#include "hubs.h"

enum { TOO_MUCH = 32 * 1024 }; /* for what the system keeps of a connection that is not read */

struct server {
    int listener, handled;
    green_group_t *group;
};

static void fill(int fd, void *arg)
{
    static const char bytes[TOO_MUCH];
    struct server *server = arg;
    must(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &(int){ 4096 }, sizeof(int)) == 0);
    server->handled++;
    (void)!green_write_all(fd, bytes, sizeof bytes);
}

static void *serve_too_much(void *arg)
{
    struct server *server = arg;
    must(green_serve(server->listener, server->group, fill, server) == -1 && errno == EBADF);
    return NULL;
}

enum { AT_ONCE = 500 }; /* fewer than wait to be accepted */

/* A process with n clients that never read, until the pipe ends; a byte lets some connect. */
static pid_t fork_clients(struct sockaddr_in address, int n, int *go)
{
    int ends[2];
    must_be_0(pipe2(ends, O_CLOEXEC));
    pid_t pid = fork();
    must(pid >= 0);
    if (pid == 0) {
        char byte;
        must_be_0(close(ends[1]));
        for (int i = 0; (i < n && i % AT_ONCE != 0) || read(ends[0], &byte, 1) == 1; i++) {
            int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
            must(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &(int){ 4096 }, sizeof(int)) == 0);
            must_be_0(connect(fd, (struct sockaddr *)&address, sizeof address));
        }
        leave_child(0);
    }
    must_be_0(close(ends[0]));
    *go = ends[1];
    return pid;
}

/* The descriptors that a process may have, but for some for others: as many as want at most. */
static int raise_limit(int want, struct rlimit *before)
{
    enum { OTHERS = 64 };
    must_be_0(getrlimit(RLIMIT_NOFILE, before));
    must_be_0(setrlimit(RLIMIT_NOFILE, &(struct rlimit){ before->rlim_max, before->rlim_max }));
    if (before->rlim_max >= (rlim_t)want + OTHERS)
        return want;
    print_message("%d clients, not %d: there are no more descriptors\n",
                  (int)before->rlim_max - OTHERS, want);
    return (int)before->rlim_max - OTHERS;
}

WORLD_TEST(ten_thousand_clients_that_never_read_stop_nobody)
{
    struct rlimit limit;
    static char bytes[TOO_MUCH + 1];
    const int n = raise_limit(times(10000, 500), &limit);
    struct server server = { .listener = green_tcp_listen("127.0.0.1", "0", 0),
                             .group = green_group_new(0, 0) };
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    int go, status = -1;
    must_be_0(getsockname(server.listener, (struct sockaddr *)&address, &length));
    pid_t pid = fork_clients(address, n, &go);
    green_task_t *task = spawn(serve_too_much, &server);
    for (int i = 0; i < n; i += AT_ONCE) {
        must(green_write(go, "x", 1) == 1);
        while (server.handled < n && server.handled < i + AT_ONCE)
            must_be_0(green_sleep(GREEN_US(100)));
    }
    while (hub_stat(descriptors) < (size_t)n + 1) /* all wait, and the listener */
        nap(1);
    assert_int_equal(green_group_size(server.group), n);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must_be_0(green_connect(fd, (struct sockaddr *)&address, sizeof address));
    assert_int_equal(green_read_all(fd, bytes, sizeof bytes), TOO_MUCH);
    assert_int_equal(green_close(fd), 0);
    assert_int_equal(server.handled, n + 1);
    assert_int_equal(green_close(server.listener), 0);
    finish(task);
    assert_int_equal(green_group_free(server.group), 0);
    assert_int_equal(green_close(go), 0);
    assert_int_equal(green_waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    must_be_0(setrlimit(RLIMIT_NOFILE, &limit));
}

int main(void)
{
    return run_all_tests();
}
