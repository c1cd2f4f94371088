/* SPDX-License-Identifier: MIT */
/*
 * http_libuv PORT DIRECTORY: a web server by callbacks.  Files are read in the loop:
 * libuv's own calls for files go to its threads, which takes longer.
 */
#define _GNU_SOURCE
#include <stdbool.h>
#include <uv.h>

#include "answer.h"
#include "listen.h"

struct connection {
    uv_tcp_t tcp; /* first */
    size_t asked;
    char *request; /* bytes of one that is not whole, or NULL */
};

struct rest {
    uv_write_t request;
    char bytes[];
};

static char in[REQUEST_ROOM], out[ANSWER_ROOM];

static void end(uv_handle_t *handle)
{
    free(((struct connection *)handle)->request);
    free(handle);
}

static void written(uv_write_t *request, int status)
{
    (void)status;
    free(request);
}

static void put(uv_stream_t *client, size_t n)
{
    uv_buf_t bytes = uv_buf_init(out, (unsigned)n);
    int done = uv_try_write(client, &bytes, 1);
    size_t left = n - (size_t)(done > 0 ? done : 0);
    if (left > 0) {
        struct rest *rest = malloc(sizeof *rest + left);
        if (rest == NULL)
            fail("malloc");
        memcpy(rest->bytes, out + n - left, left);
        bytes = uv_buf_init(rest->bytes, (unsigned)left);
        uv_write(&rest->request, client, &bytes, 1, written);
    }
}

static void give_buffer(uv_handle_t *handle, size_t size, uv_buf_t *room)
{
    struct connection *connection = (struct connection *)handle;
    (void)size;
    if (connection->asked > 0)
        memcpy(in, connection->request, connection->asked);
    *room = uv_buf_init(in + connection->asked, (unsigned)(sizeof in - connection->asked));
}

static void serve(uv_stream_t *client, ssize_t n, const uv_buf_t *room)
{
    struct connection *connection = (struct connection *)client;
    size_t have = connection->asked + (n > 0 ? (size_t)n : 0), done = 0, length;
    (void)room;
    while (n > 0 && (length = request_length(in + done, have - done)) > 0) {
        put(client, answer(in + done, length, out));
        done += length;
    }
    connection->asked = have - done;
    if (n < 0 || connection->asked == sizeof in) {
        uv_close((uv_handle_t *)client, end);
        return;
    }
    if (connection->asked > 0 && connection->request == NULL
        && (connection->request = malloc(sizeof in)) == NULL)
        fail("malloc");
    if (connection->asked > 0)
        memcpy(connection->request, in + done, connection->asked);
}

static void come(uv_stream_t *listener, int status)
{
    struct connection *connection = calloc(1, sizeof *connection);
    if (status != 0 || connection == NULL || uv_tcp_init(listener->loop, &connection->tcp) != 0
        || uv_accept(listener, (uv_stream_t *)connection) != 0)
        fail("uv_accept");
    uv_tcp_nodelay(&connection->tcp, 1);
    uv_read_start((uv_stream_t *)connection, give_buffer, serve);
}

int main(int argc, char **argv)
{
    uv_tcp_t listener;
    answer_root = open(argc > 2 ? argv[2] : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (answer_root < 0 || uv_tcp_init(uv_default_loop(), &listener) != 0
        || uv_tcp_open(&listener, listen_at(argc > 1 ? argv[1] : "8080", SOCK_NONBLOCK)) != 0
        || uv_listen((uv_stream_t *)&listener, SOMAXCONN, come) != 0)
        fail("http_libuv");
    return uv_run(uv_default_loop(), UV_RUN_DEFAULT);
}
