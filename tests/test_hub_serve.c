/* SPDX-License-Identifier: MIT */
/*
 * green_serve() when much comes, when accepting fails, and on a port that two threads share;
 * and a socket that is closed while it connects.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "filters.h"
#include "hubs.h"

/* ---- The libc of this program ------------------------------------------------------------ */

static atomic_int accepted;
static int failures[8], n_failures; /* what accept4() will fail with, the last first */

/* Under a name of its own here: the one in the header may take a union. */
int accept_for_test(int fd, struct sockaddr *address, socklen_t *length,
                    int flags) __asm__("accept4");

int accept_for_test(int fd, struct sockaddr *address, socklen_t *length, int flags)
{
    if (n_failures > 0) {
        errno = failures[--n_failures];
        return -1;
    }
    int connection = (int)syscall(SYS_accept4, fd, address, length, flags);
    accepted += connection >= 0;
    return connection;
}

/* ---- Sockets ------------------------------------------------------------------------------- */

static struct sockaddr_in address_of(int fd)
{
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    must(getsockname(fd, (struct sockaddr *)&address, &length) == 0);
    return address;
}

/* A connection to it, which is made at once: there is room for it. */
static int connect_to(struct sockaddr_in address)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(fd >= 0);
    must_be_0(green_connect(fd, (struct sockaddr *)&address, sizeof address));
    return fd;
}

struct server {
    int listener;
    green_group_t *group;
    int handled, error;
};

static void greet(int fd, void *arg)
{
    ((struct server *)arg)->handled++;
    (void)!green_write_all(fd, "x", 1);
}

static void *serve(void *arg)
{
    struct server *server = arg;
    must(green_serve(server->listener, server->group, greet, server) == -1);
    server->error = errno;
    return NULL;
}

static void assert_greeted(struct sockaddr_in address)
{
    char byte = 0;
    int fd = connect_to(address);
    assert_int_equal(green_read(fd, &byte, 1), 1);
    assert_int_equal(byte, 'x');
    assert_int_equal(green_close(fd), 0);
}

/* ---- Tests --------------------------------------------------------------------------------- */

/* gevent: TestCloseSocketWhilePolling */
static void *connect_in_task(void *arg)
{
    struct sockaddr_in address = address_of(((int *)arg)[0]);
    int result = green_connect(((int *)arg)[1], (struct sockaddr *)&address, sizeof address);
    return V(result == 0 ? 0 : errno);
}

WORLD_TEST(a_close_while_it_connects_says_ebadf)
{
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int filler = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = { .sin_family = AF_INET };
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    must(bind(listener, (struct sockaddr *)&address, sizeof address) == 0);
    must(listen(listener, 0) == 0);
    address = address_of(listener);
    must(connect(filler, (struct sockaddr *)&address, sizeof address) == 0);
    await_full(listener);
    int fds[] = { listener, socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) };
    green_task_t *task = spawn(connect_in_task, fds);
    while (hub_stat(descriptors) == 0)
        nap(1);
    assert_int_equal(green_close(fds[1]), 0);
    assert_ptr_equal(finish(task), V(EBADF));
    must(close(filler) == 0);
    assert_int_equal(green_close(listener), 0);
}

WORLD_TEST(connections_that_fail_before_they_are_accepted_do_not_end_a_server)
{
    static const int errors[] = { ECONNABORTED, EPROTO, ENETDOWN, EHOSTUNREACH, EINTR, EPERM };
    struct server server = { .listener = green_tcp_listen("127.0.0.1", "0", 0),
                             .group = green_group_new(0, 0) };
    struct sockaddr_in address = address_of(server.listener);
    green_task_t *task = spawn(serve, &server);
    assert_greeted(address);
    for (n_failures = 0; n_failures < (int)(sizeof errors / sizeof *errors); n_failures++)
        failures[n_failures] = errors[n_failures];
    assert_greeted(address);
    assert_int_equal(n_failures, 0);
    assert_int_equal(server.handled, 2);
    assert_int_equal(green_close(server.listener), 0);
    finish(task);
    assert_int_equal(server.error, EBADF);
    assert_int_equal(green_group_free(server.group), 0);
}

/* ---- A group that ends --------------------------------------------------------------------- */

static void *cancel_group(void *group)
{
    must_be_0(green_group_cancel(group));
    return NULL;
}

WORLD_TEST(a_server_returns_when_its_group_is_cancelled_though_nobody_connects)
{
    struct server server = { .listener = green_tcp_listen("127.0.0.1", "0", 0),
                             .group = green_group_new(0, 0) };
    green_task_t *task = spawn(serve, &server);
    while (hub_stat(descriptors) == 0)
        nap(1);
    green_task_t *other = spawn(cancel_group, server.group);
    finish(task);
    finish(other);
    assert_int_equal(server.error, ECANCELED);
    assert_int_equal(hub_stat(descriptors), 0);
    assert_int_equal(green_close(server.listener), 0);
    assert_int_equal(green_group_free(server.group), 0);
}

struct caller {
    int ends[2]; /* of a pipe */
    int client;
    struct sockaddr_in address;
};

/* The pipe is ready first, then the listener: in this order epoll tells of them. */
static void *write_and_connect(void *arg)
{
    struct caller *caller = arg;
    must(write(caller->ends[1], "x", 1) == 1);
    must(connect(caller->client, (struct sockaddr *)&caller->address, sizeof caller->address) == 0);
    return NULL;
}

/* Where nobody connects, and where one has and the server is woken, but had no turn yet. */
WORLD_TEST(a_group_may_be_freed_while_a_server_has_it)
{
    for (int connects = 0; connects < 2; connects++) {
        struct server server = { .listener = green_tcp_listen("127.0.0.1", "0", 0),
                                 .group = green_group_new(0, 0) };
        struct caller caller = { .client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
                                 .address = address_of(server.listener) };
        must(pipe2(caller.ends, O_CLOEXEC) == 0);
        green_task_t *task = spawn(serve, &server);
        while (hub_stat(descriptors) == 0)
            nap(1);
        int before = accepted;
        if (connects) {
            struct pollfd one = { .fd = caller.ends[0], .events = POLLIN };
            green_task_t *other = spawn(write_and_connect, &caller);
            assert_int_equal(green_poll(&one, 1, GREEN_FOREVER), 1);
            assert_int_equal(hub_stat(ready), 1);
            finish(other);
        }
        assert_int_equal(green_group_free(server.group), 0);
        finish(task);
        assert_int_equal(server.error, ECANCELED);
        assert_int_equal(accepted, before);
        assert_int_equal(green_close(caller.client), 0);
        assert_int_equal(green_close(caller.ends[0]), 0);
        assert_int_equal(green_close(caller.ends[1]), 0);
        assert_int_equal(green_close(server.listener), 0);
    }
}

WORLD_TEST(a_group_that_is_cancelled_ends_a_server_that_waits_for_descriptors)
{
    struct server server = { .listener = green_tcp_listen("127.0.0.1", "0", 0),
                             .group = green_group_new(0, 0) };
    struct sockaddr_in address = address_of(server.listener);
    failures[0] = EMFILE;
    n_failures = 1;
    green_task_t *task = spawn(serve, &server);
    int client = connect_to(address);
    while (n_failures > 0)
        nap(1);
    assert_int_equal(green_group_free(server.group), 0);
    finish(task);
    assert_int_equal(server.error, ECANCELED);
    assert_int_equal(green_close(client), 0);
    assert_int_equal(green_close(server.listener), 0);
}

/* The most connections that were accepted between two turns of this task. */
static void *watch(void *stop)
{
    static int most;
    most = 0;
    for (int before = accepted; !*(bool *)stop; before = accepted) {
        turn();
        if (accepted - before > most)
            most = accepted - before;
    }
    return &most;
}

/* gevent: max_accept */
WORLD_TEST(however_many_connect_the_others_have_their_turns)
{
    enum { LIKE_RULE_6 = 64 };
    const int n = times(1000, 200);
    bool stop = false;
    struct server server = { .listener = green_tcp_listen("127.0.0.1", "0", 0),
                             .group = green_group_new(0, 0) };
    struct sockaddr_in address = address_of(server.listener);
    for (int i = 0; i < n; i++) { /* they have gone again, and can be accepted all the same */
        int fd = connect_to(address);
        must(setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){ .l_onoff = 1 },
                        sizeof(struct linger)) == 0);
        must_be_0(green_close(fd));
    }
    green_task_t *watching = spawn(watch, &stop), *task = spawn(serve, &server);
    while (server.handled < n)
        turn();
    stop = true;
    int most = *(int *)finish(watching);
    assert_in_range(most, 1, LIKE_RULE_6);
    assert_int_equal(green_close(server.listener), 0);
    finish(task);
    assert_int_equal(green_group_free(server.group), 0);
}

/* ---- The end of its group ------------------------------------------------------------------- */

static void begin_server(struct server *server, size_t limit)
{
    *server = (struct server){ .listener = green_tcp_listen("127.0.0.1", "0", 0),
                               .group = green_group_new(limit, 0) };
}

/* Has the hub look at descriptors and timers, and free the group before who was woken runs. */
static void *free_group_first(void *arg)
{
    const struct server *server = arg;
    struct pollfd one = { .fd = server->listener, .events = POLLIN };
    must(green_poll(&one, 1, GREEN_FOREVER) == 1);
    must_be_0(green_group_free(server->group));
    return NULL;
}

WORLD_TEST(a_group_may_be_freed_before_the_turn_of_a_server_that_was_woken)
{
    struct server server;
    begin_server(&server, 0);
    green_task_t *first = spawn(free_group_first, &server), *task = spawn(serve, &server);
    while (hub_stat(descriptors) < 2)
        turn();
    int fd = connect_to(address_of(server.listener));
    finish(first);
    finish(task);
    assert_int_equal(server.error, ECANCELED);
    assert_int_equal(server.handled, 0);
    assert_int_equal(green_close(server.listener), 0);
    assert_int_equal(green_close(fd), 0);
}

static void *free_group_of(void *arg)
{
    must_be_0(green_group_free(((struct server *)arg)->group));
    return NULL;
}

static void free_own_group(int fd, void *arg)
{
    (void)fd;
    green_task_detach(spawn(free_group_of, arg)); /* has its turn before the server */
}

static void *serve_and_free(void *arg)
{
    struct server *server = arg;
    must(green_serve(server->listener, server->group, free_own_group, server) == -1);
    server->error = errno;
    return NULL;
}

WORLD_TEST(a_group_may_be_freed_when_it_has_room_before_the_servers_turn)
{
    struct server server;
    begin_server(&server, 1);
    green_task_t *task = spawn(serve_and_free, &server);
    int fd = connect_to(address_of(server.listener));
    finish(task);
    assert_int_equal(server.error, ECANCELED);
    assert_int_equal(green_close(server.listener), 0);
    assert_int_equal(green_close(fd), 0);
}

WORLD_TEST(a_server_that_a_child_has_not_is_not_looked_at_there)
{
    struct server server;
    int status;
    has_tasks_in_child();
    begin_server(&server, 0);
    green_task_t *task = spawn(serve, &server);
    assert_greeted(address_of(server.listener));
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        must_be_0(green_task_free(task));
        finish(spawn(overwrite_stack, NULL));
        must_be_0(green_group_free(server.group));
        leave_child(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(green_group_free(server.group), 0);
    finish(task);
    assert_int_equal(green_close(server.listener), 0);
}

/* ---- Two threads ---------------------------------------------------------------------------- */

struct thread {
    const char *port;
    struct sockaddr_in address;
    green_hub_t *hub;
    sem_t ready;
    atomic_int handled;
    int listener;
};

static void greet_from_thread(int fd, void *arg)
{
    ((struct thread *)arg)->handled++;
    (void)!green_write_all(fd, "x", 1);
}

static void *serve_in_thread(void *arg)
{
    struct thread *thread = arg;
    green_group_t *group = green_group_new(0, 0);
    thread->listener = green_tcp_listen("127.0.0.1", thread->port, GREEN_REUSEPORT);
    must(thread->listener >= 0);
    thread->address = address_of(thread->listener);
    must((thread->hub = green_hub_open()) != NULL);
    sem_post(&thread->ready);
    must(green_serve(thread->listener, group, greet_from_thread, thread) == -1 && errno == EBADF);
    must_be_0(green_group_free(group));
    must_be_0(green_hub_end(GREEN_FOREVER));
    return NULL;
}

static void *close_listener(void *arg)
{
    must_be_0(green_close(((struct thread *)arg)->listener));
    return NULL;
}

WORLD_TEST(two_threads_serve_one_port)
{
    struct thread threads[2] = { { .port = "0" }, { .port = NULL } };
    pthread_t ids[2];
    char port[16];
    int tries = 0;
    for (int i = 0; i < 2; i++) {
        sem_init(&threads[i].ready, 0, 0);
        threads[i].port = i == 0 ? "0" : port;
        must(pthread_create(&ids[i], NULL, serve_in_thread, &threads[i]) == 0);
        while (sem_wait(&threads[i].ready) != 0)
            continue;
        snprintf(port, sizeof port, "%u", ntohs(threads[i].address.sin_port));
    }
    assert_int_equal(threads[0].address.sin_port, threads[1].address.sin_port);
    while (threads[0].handled == 0 || threads[1].handled == 0) { /* the system chooses by a hash */
        assert_true(tries++ < 1000);
        assert_greeted(threads[0].address);
    }
    for (int i = 0; i < 2; i++) {
        must_be_0(green_hub_spawn(threads[i].hub, close_listener, &threads[i]));
        must_be_0(green_hub_close(threads[i].hub));
        must(pthread_join(ids[i], NULL) == 0);
        sem_destroy(&threads[i].ready);
    }
    assert_int_equal(threads[0].handled + threads[1].handled, tries);
}

int main(void)
{
    if (UNDER_MSAN)
        return skip_all_because("MemorySanitizer does not see what a raw accept4() writes");
    return run_all_tests();
}
