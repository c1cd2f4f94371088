/* SPDX-License-Identifier: MIT */
/* echo_pth PORT: an echo server with a thread of GNU Pth for each client. */
#include <pth.h>
#include <stdint.h>
#include <unistd.h>

#include "listen.h"

static void *echo(void *arg)
{
    int client = (int)(intptr_t)arg;
    char buffer[1024];
    for (ssize_t n; (n = pth_read(client, buffer, sizeof buffer)) > 0;)
        if (pth_write(client, buffer, (size_t)n) != n)
            break;
    close(client);
    return NULL;
}

int main(int argc, char **argv)
{
    pth_init();
    int listener = listen_at(argc > 1 ? argv[1] : "7777", 0);
    pth_attr_t attributes = pth_attr_new();
    pth_attr_set(attributes, PTH_ATTR_JOINABLE, FALSE);
    for (;;) {
        int client = pth_accept(listener, NULL, NULL);
        if (client < 0)
            fail("pth_accept");
        set_nodelay(client);
        if (pth_spawn(attributes, echo, (void *)(intptr_t)client) == NULL)
            fail("pth_spawn");
    }
}
