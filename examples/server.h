/* SPDX-License-Identifier: MIT */
#ifndef SERVER_H
#define SERVER_H
/*
 * What the servers among the examples share: numbers on the command line, where they
 * listen, and that SIGINT and SIGTERM end them.
 *
 * The signal is waited for by a task.  It closes the listening socket, so that
 * green_serve() returns; the group is freed then, which cancels the clients in whatever
 * they wait.
 */
#include <green_hub.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

/* A whole number from 1 to most; 0 is none. */
static inline long number(const char *text, long most)
{
    char *end;
    long value = strtol(text, &end, 10);

    return *end == '\0' && value > 0 && value <= most ? value : 0;
}

/* sin6_port is where sin_port is. */
static inline unsigned port_of(int socket)
{
    struct sockaddr_in6 address;
    socklen_t length = sizeof address;

    if (getsockname(socket, (struct sockaddr *)&address, &length) != 0)
        return 0;
    return ntohs(address.sin6_port);
}

static inline void say_port(const char *name, int listener)
{
    printf("%s: listens on port %u\n", name, port_of(listener));
    fflush(stdout);
}

/* SIGINT and SIGTERM are waited for, in all threads: those that come later inherit it. */
static inline void block_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGTERM);
    pthread_sigmask(SIG_BLOCK, set, NULL);
}

struct server {
    int listener, stopped;
    sigset_t signals;
};

static inline void *wait_for_signal(void *arg)
{
    struct server *server = arg;

    if (green_sigwait(&server->signals, GREEN_FOREVER) < 0)
        return GREEN_FAILED;
    server->stopped = 1;
    green_close(server->listener);
    return NULL;
}

/* Serves at most so many clients at a time, until a signal: 0, or 1 having said why not. */
static inline int serve_until_signal(const char *name, const char *address, const char *port,
                                     long most, void (*handle)(int client, void *unused))
{
    struct server server = { .listener = green_tcp_listen(address, port, 0) };
    green_group_t *clients;
    green_task_t *waiter;

    block_signals(&server.signals);
    if (server.listener < 0 || (clients = green_group_new((size_t)most, 0)) == NULL
        || (waiter = green_task_spawn_with(wait_for_signal, &server,
                                           &(green_options_t){ .name = "signals" })) == NULL)
        return perror(name), 1;
    say_port(name, server.listener);
    green_serve(server.listener, clients, handle, NULL);
    if (!server.stopped)
        return perror(name), 1;
    return green_group_free(clients) || green_task_free(waiter) ? perror(name), 1 : 0;
}

#endif
