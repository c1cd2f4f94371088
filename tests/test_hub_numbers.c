/* SPDX-License-Identifier: MIT */
/*
 * Numbers of descriptors that are closed while a call has them, and are others' when it goes
 * on: it takes nothing of theirs (rule 18).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "filters.h"
#include "hubs.h"

/* ---- What the tests share ---------------------------------------------------------- */

struct transfer {
    int fd;
    ssize_t result;
    int error;
    char bytes[16];
};

static void *read_some(void *arg)
{
    struct transfer *t = arg;
    t->result = green_read(t->fd, t->bytes, sizeof t->bytes);
    t->error = t->result < 0 ? errno : 0;
    return NULL;
}

static int listen_somewhere(struct sockaddr_in *address)
{
    socklen_t length = sizeof *address;
    int fd = green_tcp_listen("127.0.0.1", "0", 0);
    must(fd >= 0 && getsockname(fd, (struct sockaddr *)address, &length) == 0);
    return fd;
}

static int connect_to(const struct sockaddr_in *address)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(fd >= 0);
    must_be_0(connect(fd, (const struct sockaddr *)address, sizeof *address));
    return fd;
}

/* As many as there may be; how many of them are made. */
static int take_all_descriptors(struct rlimit *before, int *taken, int most)
{
    int n = 0;
    must_be_0(getrlimit(RLIMIT_NOFILE, before));
    must_be_0(setrlimit(RLIMIT_NOFILE, &(struct rlimit){ (rlim_t)most, before->rlim_max }));
    while (n < most && (taken[n] = fcntl(0, F_DUPFD_CLOEXEC, 0)) >= 0)
        n++;
    must(errno == EMFILE);
    return n;
}

static void give_back_descriptors(const struct rlimit *before, const int *taken, int n)
{
    while (n > 0)
        must_be_0(close(taken[--n]));
    must_be_0(setrlimit(RLIMIT_NOFILE, before));
}

/* ---- Serving ------------------------------------------------------------------------- */

static int listener;
static green_group_t *clients;

static void say_x(int connection, void *unused)
{
    (void)unused;
    must(green_write(connection, "x", 1) == 1);
}

static void *serve(void *unused)
{
    must(green_serve(listener, clients, say_x, NULL) == -1);
    must(errno == EBADF);
    return unused;
}

/* The number was a pipe's, whose reader was to try once more. */
WORLD_TEST(who_waits_for_room_to_serve_is_not_taken_for_a_reader)
{
    int pipe_ends[2];
    struct sockaddr_in address;
    must_be_0(pipe2(pipe_ends, O_CLOEXEC));
    struct transfer t = {.fd = pipe_ends[0]}, answer = t;
    green_task_t *reader = spawn(read_some, &t);
    clients = green_group_new(1, 0);
    must_be_0(green_group_spawn(clients, sleep_for, V(100)));
    turn();
    must_be_0(green_close(pipe_ends[0]));
    listener = listen_somewhere(&address);
    assert_int_equal(listener, pipe_ends[0]);
    green_task_t *server = spawn(serve, NULL);
    nap(200);
    assert_int_equal(t.error, EBADF);
    answer.fd = connect_to(&address);
    green_task_t *client = spawn(read_some, &answer);
    must_be_0(green_task_join(client, NULL, GREEN_SEC(20)));
    assert_int_equal(answer.result, 1);
    finish(client);
    finish(reader);
    must_be_0(green_close(listener));
    finish(server);
    must_be_0(green_group_free(clients));
    must_be_0(green_close(answer.fd));
    must_be_0(close(pipe_ends[1]));
}

HUB_TEST(who_cannot_accept_for_want_of_descriptors_hears_at_once_of_the_end)
{
    int taken[64];
    struct rlimit before;
    struct sockaddr_in address;
    listener = listen_somewhere(&address);
    clients = green_group_new(0, 0);
    struct pollfd one = {.fd = listener, .events = POLLIN};
    must(green_poll(&one, 1, 1) == 0); /* epoll is there */
    int client = connect_to(&address), n = take_all_descriptors(&before, taken, 64);
    green_task_t *server = spawn(serve, NULL);
    nap(1400); /* in the middle of a pause of a second */
    int64_t closed = green_now();
    must_be_0(green_close(listener));
    finish(server);
    assert_int_equal(green_now(), closed);
    give_back_descriptors(&before, taken, n);
    must_be_0(green_group_free(clients));
    must_be_0(close(client));
}

/* ---- Pauses ---------------------------------------------------------------------------- */

/* Of linux/net_tstamp.h: when what was sent has left, and has come, without its bytes. */
enum { TX_SOFTWARE = 1 << 1, SOFTWARE = 1 << 4, OPT_ID = 1 << 7, TX_ACK = 1 << 9,
       OPT_TSONLY = 1 << 11 };

/* A connection of the hub's with messages in its error queue, in a pause of its reader. */
static int pause_reader(struct transfer *t, green_task_t **reader)
{
    const int flags = TX_SOFTWARE | SOFTWARE | TX_ACK | OPT_ID | OPT_TSONLY;
    struct sockaddr_in address;
    int at = listen_somewhere(&address), peer = connect_to(&address);
    t->fd = green_accept(at, NULL, NULL, SOCK_CLOEXEC);
    must(t->fd >= 0);
    must_be_0(green_close(at));
    if (setsockopt(t->fd, SOL_SOCKET, SO_TIMESTAMPING, &flags, sizeof flags) != 0) {
        must_be_0(green_close(t->fd));
        must_be_0(close(peer));
        skip_because("the system says nothing of what was sent");
    }
    *reader = spawn(read_some, t);
    nap(10);
    for (int i = 0; i < 12; i++) {
        must(send(t->fd, "q", 1, 0) == 1);
        nap(90);
    }
    must(send(t->fd, "q", 1, 0) == 1);
    nap(15);
    return peer;
}

/* While time stands still. */
static void have_hub_look(void)
{
    size_t polls = hub_stat(polls);
    while (hub_stat(polls) == polls)
        finish(spawn(give_back, NULL));
}

HUB_TEST(what_comes_in_a_pause_is_read_after_it)
{
    struct transfer t = {0}, other = {0};
    green_task_t *reader;
    int pair[2], peer = pause_reader(&t, &reader);
    must_be_0(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
    other.fd = pair[0];
    green_task_t *bystander = spawn(read_some, &other); /* else there is nothing to look at */
    must(send(peer, "answer", 6, 0) == 6);
    have_hub_look();
    assert_int_equal(t.result, 0);
    assert_int_equal(green_task_join(reader, NULL, GREEN_MS(500)), 0); /* no renewal was needed */
    assert_int_equal(t.result, 6);
    finish(reader);
    must_be_0(close(pair[1]));
    finish(bystander);
    must_be_0(green_close(pair[0]));
    must_be_0(green_close(t.fd));
    must_be_0(close(peer));
}

HUB_TEST(who_pauses_reads_nothing_of_the_next_with_its_number)
{
    struct transfer t = {0};
    green_task_t *reader;
    int pair[2], peer = pause_reader(&t, &reader);
    must_be_0(green_close(t.fd));
    must_be_0(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
    assert_int_equal(pair[0], t.fd);
    must(send(pair[1], "secret", 6, 0) == 6);
    finish(reader);
    assert_int_equal(t.error, EBADF);
    assert_int_equal(recv(pair[0], t.bytes, sizeof t.bytes, MSG_DONTWAIT), 6);
    must_be_0(close(pair[0]));
    must_be_0(close(pair[1]));
    must_be_0(close(peer));
}

static struct sockaddr_un local;
static socklen_t local_length;

static void *connect_locally(void *arg)
{
    struct transfer *t = arg;
    t->result = green_connect(t->fd, (struct sockaddr *)&local, local_length);
    t->error = t->result < 0 ? errno : 0;
    return NULL;
}

HUB_TEST(who_pauses_does_not_connect_the_next_with_its_number)
{
    int full[64], n = 0, one;
    socklen_t length = sizeof local;
    local.sun_family = AF_UNIX;
    int at = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    must_be_0(bind(at, (struct sockaddr *)&local, sizeof local.sun_family)); /* any name */
    must_be_0(listen(at, 0));
    must_be_0(getsockname(at, (struct sockaddr *)&local, &length));
    local_length = length;
    do {
        full[n] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        one = connect(full[n++], (struct sockaddr *)&local, length);
    } while (one == 0 && n < 64);
    must(one != 0 && errno == EAGAIN);
    struct transfer t = {.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    green_task_t *task = spawn(connect_locally, &t);
    nap(20);
    must_be_0(green_close(t.fd));
    int other = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(other, t.fd);
    while ((one = accept(at, NULL, NULL)) >= 0)
        must_be_0(close(one));
    finish(task);
    assert_int_equal(t.error, EBADF);
    assert_int_equal(getpeername(other, (struct sockaddr *)&local, &length), -1);
    assert_int_equal(fcntl(other, F_GETFL) & O_NONBLOCK, 0);
    must_be_0(close(other));
    must_be_0(close(at));
    while (n > 0)
        must_be_0(close(full[--n]));
}

/* ---- Between calls that are one -------------------------------------------------------- */

static int first[2], second[2];
static bool begun;

/* After so many calls others have a turn at the end of the next. */
struct whole {
    int calls;
    char bytes[11];
    ssize_t n;
    int error;
};

static void *read_whole(void *arg)
{
    struct whole *whole = arg;
    GREEN_SCOPE(limit, GREEN_SEC(1), 0);
    for (int i = 0; i < whole->calls; i++)
        must(green_write(second[1], "", 0) == 0);
    begun = true;
    whole->n = green_read_all(first[0], whole->bytes, 10);
    whole->error = errno;
    return NULL;
}

static void *close_and_use_again(void *unused)
{
    int next[2];
    while (!begun)
        turn();
    must_be_0(green_close(first[0]));
    must_be_0(pipe2(next, O_CLOEXEC));
    must(next[0] == first[0] && write(next[1], "WORLD", 5) == 5);
    second[0] = next[1];
    return unused;
}

HUB_TEST(what_is_read_whole_is_of_one_descriptor)
{
    int ended = 0;
    for (int calls = 0; calls < 40; calls++) {
        struct whole whole = {.calls = calls};
        begun = false;
        must_be_0(pipe2(first, O_CLOEXEC));
        second[1] = first[1];
        must(write(first[1], "hello", 5) == 5);
        green_task_t *reader = spawn(read_whole, &whole), *other = spawn(close_and_use_again, NULL);
        finish(reader);
        finish(other);
        assert_string_equal(whole.bytes, "hello");
        assert_int_equal(whole.n, 5);
        ended += whole.error == EBADF;
        must_be_0(green_close(first[0]));
        must_be_0(close(first[1]));
        must_be_0(close(second[0]));
    }
    assert_int_equal(ended, 40);
}

/* ---- Without numbers -------------------------------------------------------------------- */

static void *close_it(void *fd)
{
    must_be_0(close((int)(intptr_t)fd));
    return fd;
}

WORLD_TEST(a_child_is_waited_for_also_where_no_descriptor_is_left)
{
    int taken[64], gate[2];
    struct rlimit before;
    for (int i = 0; i < 2; i++) {
        int status = -1, n = 0;
        must_be_0(pipe2(gate, O_CLOEXEC));
        pid_t pid = fork();
        if (pid == 0) {
            char byte;
            must_be_0(close(gate[1]));
            leave_child(read(gate[0], &byte, 1) == 0 ? 7 : 1);
        }
        if (i != 0)
            n = take_all_descriptors(&before, taken, 64);
        green_task_t *closer = spawn(close_it, V(gate[1])); /* in its turn: the call waits */
        assert_int_equal(green_waitpid(pid, &status, 0), pid);
        finish(closer);
        assert_int_equal(status, 7 << 8);
        if (i != 0)
            give_back_descriptors(&before, taken, n);
        must_be_0(close(gate[0]));
    }
}

int main(void)
{
    return run_all_tests();
}
