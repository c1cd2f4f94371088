/* SPDX-License-Identifier: MIT */
#ifndef LISTEN_H
#define LISTEN_H
/* What the servers in C need that is no part of what they show. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

static inline _Noreturn void fail(const char *what)
{
    perror(what);
    exit(1);
}

/* A listening socket at the port of 127.0.0.1; flags as SOCK_NONBLOCK. */
static inline int listen_at(const char *port, int flags)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((unsigned short)atoi(port)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | flags, 0);
    if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0
        || bind(listener, (struct sockaddr *)&address, sizeof address) != 0
        || listen(listener, SOMAXCONN) != 0)
        fail("listen");
    return listener;
}

static inline void set_nodelay(int client)
{
    int on = 1;
    (void)setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

#endif
