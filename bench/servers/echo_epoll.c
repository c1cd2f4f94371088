/* SPDX-License-Identifier: MIT */
/*
 * echo_epoll PORT: an echo server as a state machine, what a loop without tasks can
 * do at best.  Each connection is registered once, edge-triggered.  All share one
 * buffer: a connection has memory of its own only while the peer does not take
 * what is its.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "listen.h"

enum { ROOM = 1024, EVENTS = 256 };

struct connection {
    int fd;
    bool closed;     /* the peer has closed: what comes after a short read is the end */
    size_t kept;     /* bytes that wait to be written; nothing is read meanwhile */
    char *bytes;     /* those, or NULL */
};

static char buffer[ROOM];

static void end(struct connection *connection)
{
    close(connection->fd);
    free(connection->bytes);
    free(connection);
}

/* Writes what it can and keeps the rest: whether it may go on. */
static bool put(struct connection *connection, const char *bytes, size_t n)
{
    ssize_t written = send(connection->fd, bytes, n, MSG_NOSIGNAL);
    if (written < 0 && errno != EAGAIN)
        return false;
    size_t done = written < 0 ? 0 : (size_t)written;
    if (done < n && connection->bytes == NULL && (connection->bytes = malloc(ROOM)) == NULL)
        return false;
    if (done < n)
        memmove(connection->bytes, bytes + done, n - done);
    connection->kept = n - done;
    return true;
}

/* Until there is no more, or it must be written to first. */
static bool echo(struct connection *connection)
{
    if (connection->kept > 0 && !put(connection, connection->bytes, connection->kept))
        return false;
    while (connection->kept == 0) {
        ssize_t n = recv(connection->fd, buffer, ROOM, 0);
        if (n < 0)
            return errno == EAGAIN;
        if (n == 0 || !put(connection, buffer, (size_t)n))
            return false;
        if (n < ROOM && !connection->closed)
            return true; /* it is empty: an event will say when it is not */
    }
    return true;
}

static void accept_all(int listener, int epoll)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct connection *connection = calloc(1, sizeof *connection);
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                    .data.ptr = connection};
        if (connection == NULL)
            fail("calloc");
        connection->fd = fd;
        set_nodelay(fd);
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0)
            fail("epoll_ctl");
    }
}

int main(int argc, char **argv)
{
    int listener = listen_at(argc > 1 ? argv[1] : "7777", SOCK_NONBLOCK | SOCK_CLOEXEC);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event events[EVENTS] = {{.events = EPOLLIN, .data.ptr = NULL}};

    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, events) != 0)
        fail("epoll");
    for (;;) {
        int n = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            struct connection *connection = events[i].data.ptr;
            if (connection == NULL) {
                accept_all(listener, epoll);
                continue;
            }
            connection->closed |= (events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
            if (!echo(connection))
                end(connection);
        }
    }
}
