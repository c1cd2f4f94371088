/* SPDX-License-Identifier: MIT
 *
 * A proxy for TCP: what comes to its port goes to another host's, and back.
 *
 *     proxy [-a ADDRESS] [-p PORT] [-n CLIENTS] [-c SECONDS] [-t SECONDS] HOST PORT
 *
 *     -a ADDRESS  listens there; 127.0.0.1 unless given
 *     -p PORT     and there; 7070 unless given, 0: a free one
 *     -n CLIENTS  at most so many at a time, the others wait; 1000 unless given
 *     -c SECONDS  to reach HOST; 10 unless given
 *     -t SECONDS  a connection in which nothing moves for so long is given up; 300
 *
 * Each direction is a task, the client's own and one more, and ends by itself: a side
 * that has said all is told so to the other, which may go on.  A direction that
 * fails takes the other one along, and both sides see a reset, never an end that
 * looks like a good one.
 */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "server.h"

static const char *host, *service;
static int64_t connect_time, idle_time;

/* A connection, and the two directions in it. */
struct pair {
    int64_t moved; /* when something last did, in either direction */
    struct direction {
        struct pair *pair;
        int from, to;
    } there, back;
};

static ssize_t read_within(int fd, char *buffer, size_t size, int64_t time)
{
    GREEN_SCOPE(limit, time, 0);
    return green_read(fd, buffer, size);
}

static ssize_t write_within(int fd, const char *buffer, size_t size, int64_t time)
{
    GREEN_SCOPE(limit, time, 0);
    return green_write_all(fd, buffer, size);
}

/* Nothing has come for a while: has it been too long, or did the other direction move? */
static int is_idle(const struct pair *pair)
{
    return green_now() - pair->moved >= idle_time;
}

static void *move(void *arg)
{
    const struct direction *direction = arg;
    struct pair *pair = direction->pair;
    char buffer[16384];
    ssize_t n;

    for (;;) {
        n = read_within(direction->from, buffer, sizeof buffer, pair->moved + idle_time - green_now());
        if (n < 0 && errno == ETIMEDOUT && !is_idle(pair))
            continue;
        if (n <= 0)
            break;
        pair->moved = green_now();
        if (write_within(direction->to, buffer, (size_t)n, idle_time) != n)
            return GREEN_FAILED;
        pair->moved = green_now();
    }
    return n == 0 && shutdown(direction->to, SHUT_WR) == 0 ? NULL : GREEN_FAILED;
}

/* What green_close() does to it is a reset. */
static void reset_at_close(int fd)
{
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){ .l_onoff = 1 }, sizeof(struct linger));
}

static int connect_within(int64_t time)
{
    GREEN_SCOPE(limit, time, 0);
    return green_tcp_connect(host, service);
}

/* Both directions: 0 if both ended well. */
static int move_both(struct pair *pair)
{
    green_group_t *group = green_group_new(0, GREEN_ALL_OR_NONE);
    int error = 0;

    if (group == NULL)
        return -1;
    if (green_group_spawn_with(group, move, &pair->there, &(green_options_t){ .name = "there" }) != 0
        || green_group_spawn_with(group, move, &pair->back, &(green_options_t){ .name = "back" }) != 0
        || green_group_wait(group, &error, GREEN_FOREVER) != 0)
        error = errno;
    green_group_free(group);
    errno = error;
    return error == 0 ? 0 : -1;
}

static void serve(int client, void *unused)
{
    int target = connect_within(connect_time);
    struct pair pair = { green_now(), { &pair, client, target }, { &pair, target, client } };

    (void)unused;
    if (target < 0 || move_both(&pair) != 0) {
        if (errno != ECANCELED)
            fprintf(stderr, "proxy: %s: %s\n", target < 0 ? host : "a connection", strerror(errno));
        reset_at_close(client);
        if (target >= 0)
            reset_at_close(target);
    }
    if (target >= 0)
        green_close(target);
}

int main(int argc, char **argv)
{
    const char *address = "127.0.0.1", *port = "7070";
    long most = 1000, connecting = 10, idle = 300;

    for (int option; (option = getopt(argc, argv, "a:p:n:c:t:")) != -1;) {
        switch (option) {
        case 'a': address = optarg; break;
        case 'p': port = optarg; break;
        case 'n': most = number(optarg, 1000000); break;
        case 'c': connecting = number(optarg, 1000000); break;
        case 't': idle = number(optarg, 1000000); break;
        default: most = 0;
        }
    }
    if (most == 0 || connecting == 0 || idle == 0 || optind != argc - 2)
        return fprintf(stderr, "usage: proxy [-a ADDRESS] [-p PORT] [-n CLIENTS] [-c SECONDS]"
                               " [-t SECONDS] HOST PORT\n"),
               2;
    host = argv[optind];
    service = argv[optind + 1];
    connect_time = GREEN_SEC(connecting);
    idle_time = GREEN_SEC(idle);

    return serve_until_signal("proxy", address, port, most, serve);
}
