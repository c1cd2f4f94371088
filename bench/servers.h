/* SPDX-License-Identifier: MIT */
#ifndef SERVERS_H
#define SERVERS_H
/*
 * Servers as candidates: what each takes of the CPU for a message, and of memory for a
 * connection.
 *
 * A server is a program of its own, which is started anew for each round, on the last
 * CPU that there is; the client is this process, on the first.  The client opens all
 * connections and talks once on each.  Then it keeps one message under way on each,
 * and what the server's process has taken meanwhile, in all threads and in the system,
 * is read from its CPU clock.
 */
#include <stddef.h>

#include "bench.h"

struct server {
    const char *name;
    const char *program; /* in the directory servers/ beside this program; not there: left out */
    const char *package; /* of Debian and Ubuntu, without which it is not there; NULL: it must be */
    const char *args[8]; /* "PORT" and "FILES", a directory, stand for those */
    int most;            /* connections that it can have; 0: any number */
};

/* What the client says, and what comes back. */
struct talk {
    const char *message;
    size_t size;
    /*
     * Looks at the n bytes that have come for the first message: the size of the answer,
     * or 0 if it cannot be told yet.  Exits if it is wrong.  All answers are as long.
     */
    size_t (*check)(const char *bytes, size_t n);
};

struct goal {
    const char *server;
    double most; /* times the first server's CPU */
};

/*
 * The whole of main(): each server at 1, 100, 1,000 and 10,000 connections, so many
 * messages a round for each of these, and the memory that 1,000 take.  All are compared
 * with the first server that is there.  more: other candidates, which come last.
 */
int bench_servers(int argc, char **argv, const char *title, const char *unit, const struct talk *talk,
                  const struct server *servers, size_t count, const long messages[4],
                  const struct goal *goal, const struct candidate *more, size_t more_count);

/* The directory of files that servers are given; made at the first call. */
const char *servers_files(void);

/*
 * Runs a server alone while use(port, data) does something with it, and returns the
 * nanoseconds of CPU that it took meanwhile; negative, with errno, if it does not start
 * or use() returned another than 0.
 */
double server_cpu(const struct server *server, int (*use)(int port, void *data), void *data);

#endif
