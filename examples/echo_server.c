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
 * A client is a task of a group.  The signal has that cancelled, in whatever its tasks
 * wait: see server.h.
 */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "server.h"

static int64_t patience = GREEN_SEC(60);
static unsigned long clients_so_far, bytes_so_far;

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
    char buffer[2048];

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

int main(int argc, char **argv)
{
    const char *address = "127.0.0.1", *port = "7777";
    long most = 1000, seconds = 60;

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

    if (serve_until_signal("echo_server", address, port, most, echo) != 0)
        return 1;
    printf("echo_server: goodbye, after %lu clients and %lu bytes\n", clients_so_far, bytes_so_far);
    return fflush(stdout) == EOF ? perror("echo_server"), 1 : 0;
}
