/* SPDX-License-Identifier: MIT */
#ifndef CLIENTS_H
#define CLIENTS_H
/*
 * What is asked of every client library: the same tests for each.  A file clients_NAME.c
 * defines `client`, in plain code that blocks and knows nothing of tasks, and then includes
 * clients_tests.h.  The library is the one that the system has.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <strings.h>
#include <sys/socket.h>

#include <green_patch.h>

#include "hubs.h"
#include "sum.h"

struct client {
    const char *name;
    const char *(*version)(void); /* of the library that is loaded */
    const char *port; /* the variable of the environment that has it */

    /* A connection to 127.0.0.1; NULL if it failed, then why() says why. */
    void *(*connect)(int port);

    /*
     * Asks the server for 2 * n + 1, which it shall say after so many milliseconds:
     * 0 if it did, -1 if the call failed.  A wrong answer is must()'s.
     */
    int (*ask)(void *connection, int n, int ms);

    int think; /* milliseconds that are long beside the work for a query; 0: 200 */

    /* Moves the bytes to the server and back, and checks them: 0 or -1. */
    int (*move)(void *connection, const char *bytes, size_t size);

    /* The library's own time limit, for each call on it; NULL: it has none. */
    int (*limit)(void *connection, int ms);

    /* The process that serves this one. */
    pid_t (*server)(void *connection);
    bool together; /* if that is killed, those of all others are ended soon after */

    void (*disconnect)(void *connection);
};

static char clients_why[512];

/* Why the last connect() failed, or ask(). */
static inline void why(const char *text)
{
    snprintf(clients_why, sizeof clients_why, "%s", text == NULL ? "" : text);
}

#endif
