/* SPDX-License-Identifier: MIT
 *
 * An echo server that says goodbye: what a client sends comes back, and at SIGINT or
 * SIGTERM each is told that it is over.
 *
 *     echo_server [-a ADDRESS] [-p PORT] [-n CLIENTS] [-t SECONDS]
 *
 *     -a ADDRESS  listens there; 127.0.0.1 unless given
 *     -p PORT     and there; 7777 unless given, 0: a free one
 *     -n CLIENTS  at most so many at a time, the others wait; 1000 unless given
 *     -t SECONDS  who sends nothing for so long is left; 60 unless given
 *
 * A client is a task of a group.  The signal is waited for by a task, too: it
 * closes the listening socket, so that green_serve() returns, and main frees the
 * group, which cancels the clients in whatever they wait.
 */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <green_hub.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int listener;
static int64_t patience = GREEN_SEC(60);
static unsigned long clients_so_far, bytes_so_far;
static int last_signal;

/* A client may have a second to take it, though the task is cancelled. */
static void say_goodbye(int client)
{
    static const char text[] = "goodbye\n";

    GREEN_SCOPE(shield, GREEN_SEC(1), GREEN_SHIELD);
    (void)!green_write_all(client, text, strlen(text));
}

/* What comes back to a client; 0 at the end, or -1. */
static ssize_t echo_some(int client)
{
    char buffer[4096];

    GREEN_SCOPE(limit, patience, 0);
    ssize_t n = green_read(client, buffer, sizeof buffer);
    if (n > 0 && green_write_all(client, buffer, (size_t)n) != n)
        return -1;
    return n;
}

static void echo(int client, void *unused)
{
    ssize_t n;

    (void)unused;
    clients_so_far++;
    while ((n = echo_some(client)) > 0)
        bytes_so_far += (unsigned long)n;
    if (n < 0 && (errno == ECANCELED || errno == ETIMEDOUT))
        say_goodbye(client);
}

static void *wait_for_signal(void *set)
{
    last_signal = green_sigwait(set, GREEN_FOREVER);
    if (last_signal < 0)
        return GREEN_FAILED;
    green_close(listener);
    return NULL;
}

/* sin6_port is where sin_port is. */
static unsigned port_of(int socket)
{
    struct sockaddr_in6 address;
    socklen_t length = sizeof address;

    if (getsockname(socket, (struct sockaddr *)&address, &length) != 0)
        return 0;
    return ntohs(address.sin6_port);
}

/* A whole number from 1 to most; 0 is none. */
static long number(const char *text, long most)
{
    char *end;
    long value = strtol(text, &end, 10);

    return *end == '\0' && value > 0 && value <= most ? value : 0;
}

int main(int argc, char **argv)
{
    const char *address = "127.0.0.1", *port = "7777";
    long most = 1000, seconds = 60;
    green_group_t *clients;
    green_task_t *waiter;
    sigset_t set;

    for (int option; (option = getopt(argc, argv, "a:p:n:t:")) != -1;) {
        switch (option) {
        case 'a': address = optarg; break;
        case 'p': port = optarg; break;
        case 'n': most = number(optarg, 1000000); break;
        case 't': seconds = number(optarg, 1000000); break;
        default: most = 0;
        }
    }
    if (most == 0 || seconds == 0 || optind != argc)
        return fprintf(stderr, "usage: echo_server [-a ADDRESS] [-p PORT] [-n CLIENTS]"
                               " [-t SECONDS]\n"),
               2;
    patience = GREEN_SEC(seconds);

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL); /* before there are threads: they inherit it */
    if ((listener = green_tcp_listen(address, port, 0)) < 0
        || (clients = green_group_new((size_t)most, 0)) == NULL
        || (waiter = green_task_spawn_with(wait_for_signal, &set,
                                           &(green_options_t){ .name = "signals" })) == NULL)
        return perror("echo_server"), 1;
    printf("echo_server: listens on port %u\n", port_of(listener));
    fflush(stdout);

    green_serve(listener, clients, echo, NULL);
    if (last_signal <= 0)
        return perror("echo_server"), 1;
    if (green_group_free(clients) || green_task_free(waiter))
        return perror("echo_server"), 1;
    printf("echo_server: goodbye, after %lu clients and %lu bytes\n", clients_so_far, bytes_so_far);
    return fflush(stdout) == EOF ? perror("echo_server"), 1 : 0;
}
