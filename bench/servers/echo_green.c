/* SPDX-License-Identifier: MIT */
/* echo_green PORT: an echo server with a task for each client. */
#include <green_hub.h>
#include <stdio.h>

static void echo(int client, void *unused)
{
    char buffer[1024];

    (void)unused;
    for (ssize_t n; (n = green_read(client, buffer, sizeof buffer)) > 0;)
        if (green_write_all(client, buffer, (size_t)n) != n)
            break;
}

int main(int argc, char **argv)
{
    green_group_t *clients = green_group_new(0, 0);
    int listener = green_tcp_listen("127.0.0.1", argc > 1 ? argv[1] : "7777", 0);

    green_serve(listener, clients, echo, NULL);
    perror("echo_green");
    return 1;
}
