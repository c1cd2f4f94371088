/* SPDX-License-Identifier: MIT */
/*
 * echo_libuv PORT: an echo server by callbacks.  All connections share one buffer, as
 * what was read is written before the next is: only what the peer does not take is
 * copied.
 */
#include <string.h>
#include <uv.h>

#include "listen.h"

struct rest {
    uv_write_t request;
    char bytes[];
};

static char buffer[1024];

static void give_buffer(uv_handle_t *handle, size_t size, uv_buf_t *room)
{
    (void)handle, (void)size;
    *room = uv_buf_init(buffer, sizeof buffer);
}

static void end(uv_handle_t *handle)
{
    free(handle);
}

static void written(uv_write_t *request, int status)
{
    (void)status;
    free(request);
}

static void echo(uv_stream_t *client, ssize_t n, const uv_buf_t *room)
{
    if (n < 0) {
        uv_close((uv_handle_t *)client, end);
        return;
    }
    uv_buf_t bytes = uv_buf_init(room->base, (unsigned)n);
    int done = n > 0 ? uv_try_write(client, &bytes, 1) : 0;
    if (done < 0)
        done = 0;
    if (done < n) {
        struct rest *rest = malloc(sizeof *rest + (size_t)(n - done));
        if (rest == NULL)
            fail("malloc");
        memcpy(rest->bytes, room->base + done, (size_t)(n - done));
        bytes = uv_buf_init(rest->bytes, (unsigned)(n - done));
        uv_write(&rest->request, client, &bytes, 1, written);
    }
}

static void come(uv_stream_t *listener, int status)
{
    uv_tcp_t *client = malloc(sizeof *client);
    if (status != 0 || client == NULL || uv_tcp_init(listener->loop, client) != 0
        || uv_accept(listener, (uv_stream_t *)client) != 0)
        fail("uv_accept");
    uv_tcp_nodelay(client, 1);
    uv_read_start((uv_stream_t *)client, give_buffer, echo);
}

int main(int argc, char **argv)
{
    uv_tcp_t listener;
    if (uv_tcp_init(uv_default_loop(), &listener) != 0
        || uv_tcp_open(&listener, listen_at(argc > 1 ? argv[1] : "7777", SOCK_NONBLOCK)) != 0
        || uv_listen((uv_stream_t *)&listener, SOMAXCONN, come) != 0)
        fail("uv_listen");
    return uv_run(uv_default_loop(), UV_RUN_DEFAULT);
}
