/* SPDX-License-Identifier: MIT */
/* echo_st PORT: an echo server with a state thread for each client. */
#include <st.h>

#include "listen.h"

static void *echo(void *client)
{
    char buffer[1024];
    for (ssize_t n; (n = st_read(client, buffer, sizeof buffer, ST_UTIME_NO_TIMEOUT)) > 0;)
        if (st_write(client, buffer, (size_t)n, ST_UTIME_NO_TIMEOUT) != n)
            break;
    st_netfd_close(client);
    return NULL;
}

int main(int argc, char **argv)
{
    st_set_eventsys(ST_EVENTSYS_ALT); /* epoll, which Debian's does not know */
    if (st_get_eventsys_name()[0] == '\0')
        st_set_eventsys(ST_EVENTSYS_POLL);
    if (st_init() != 0)
        fail("st_init");
    st_netfd_t listener = st_netfd_open_socket(listen_at(argc > 1 ? argv[1] : "7777", 0));
    if (listener == NULL)
        fail("st_netfd_open_socket");
    for (;;) {
        st_netfd_t client = st_accept(listener, NULL, NULL, ST_UTIME_NO_TIMEOUT);
        if (client == NULL)
            fail("st_accept");
        set_nodelay(st_netfd_fileno(client));
        if (st_thread_create(echo, client, 0, 0) == NULL)
            fail("st_thread_create");
    }
}
