/* SPDX-License-Identifier: MIT */
/*
 * http_epoll PORT DIRECTORY: a web server as a state machine, each connection
 * registered once, edge-triggered.  A connection has memory of its own only while a
 * request has not come whole or an answer is not taken.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdbool.h>
#include <sys/epoll.h>

#include "answer.h"
#include "listen.h"

enum { EVENTS = 256 };

struct connection {
    int fd;
    bool closed;         /* the peer has closed: what comes after a short read is the end */
    size_t asked;        /* bytes that have come and are not answered */
    size_t kept;         /* bytes of an answer that wait to be written; nothing is read meanwhile */
    char *request, *answer; /* those, or NULL */
};

static char in[REQUEST_ROOM], out[ANSWER_ROOM];

static void end(struct connection *connection)
{
    close(connection->fd);
    free(connection->request);
    free(connection->answer);
    free(connection);
}

static bool keep(char **where, size_t room, const char *bytes, size_t n)
{
    if (n > 0 && *where == NULL && (*where = malloc(room)) == NULL)
        return false;
    if (n > 0)
        memmove(*where, bytes, n);
    return true;
}

/* Writes what it can and keeps the rest: whether it may go on. */
static bool put(struct connection *connection, const char *bytes, size_t n)
{
    ssize_t written = send(connection->fd, bytes, n, MSG_NOSIGNAL);
    if (written < 0 && errno != EAGAIN)
        return false;
    size_t done = written < 0 ? 0 : (size_t)written;
    connection->kept = n - done;
    return keep(&connection->answer, ANSWER_ROOM, bytes + done, n - done);
}

/* Answers what is in `in`, as far as answers are taken, and keeps the rest. */
static bool answer_all(struct connection *connection, size_t n)
{
    size_t done = 0, length;
    while (connection->kept == 0 && (length = request_length(in + done, n - done)) > 0) {
        if (!put(connection, out, answer(in + done, length, out)))
            return false;
        done += length;
    }
    connection->asked = n - done;
    return keep(&connection->request, sizeof in, in + done, n - done);
}

/* Until there is no more, or an answer must be taken first. */
static bool serve(struct connection *connection)
{
    if (connection->kept > 0) {
        if (!put(connection, connection->answer, connection->kept))
            return false;
        if (connection->asked > 0)
            memcpy(in, connection->request, connection->asked);
        if (!answer_all(connection, connection->asked))
            return false;
    }
    while (connection->kept == 0) {
        size_t have = connection->asked;
        if (have > 0)
            memcpy(in, connection->request, have);
        ssize_t n = recv(connection->fd, in + have, sizeof in - have, 0);
        if (n < 0)
            return errno == EAGAIN;
        if (n == 0 || !answer_all(connection, have + (size_t)n))
            return false;
        if ((size_t)n < sizeof in - have && !connection->closed)
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
    int listener = listen_at(argc > 1 ? argv[1] : "8080", SOCK_NONBLOCK | SOCK_CLOEXEC);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event events[EVENTS] = {{.events = EPOLLIN, .data.ptr = NULL}};

    answer_root = open(argc > 2 ? argv[2] : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (answer_root < 0 || epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, events) != 0)
        fail("http_epoll");
    for (;;) {
        int n = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            struct connection *connection = events[i].data.ptr;
            if (connection == NULL) {
                accept_all(listener, epoll);
                continue;
            }
            connection->closed |= (events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
            if (!serve(connection))
                end(connection);
        }
    }
}
