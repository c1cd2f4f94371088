/* SPDX-License-Identifier: MIT */
/* Sockets and pipes: what moves, who is told, and what stays as it was (rules 17, 18, 21). */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>

#include "hubs.h"

/* ---- What the tests share ---------------------------------------------------------- */

struct pair {
    int a, b;
};

static struct pair make_pair(int domain, int type)
{
    int fds[2];
    must(socketpair(domain, type | SOCK_CLOEXEC, 0, fds) == 0);
    return (struct pair){fds[0], fds[1]};
}

static struct pair make_stream(void)
{
    return make_pair(AF_UNIX, SOCK_STREAM);
}

static struct pair make_pipe(void)
{
    int fds[2];
    must(pipe2(fds, O_CLOEXEC) == 0);
    return (struct pair){fds[0], fds[1]};
}

static void close_pair(struct pair pair)
{
    must_be_0(green_close(pair.a));
    must_be_0(green_close(pair.b));
}

static struct sockaddr_in address_of(int fd)
{
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    must(getsockname(fd, (struct sockaddr *)&address, &length) == 0);
    return address;
}

static int listen_somewhere(void)
{
    int fd = green_tcp_listen("127.0.0.1", "0", 0);
    must(fd >= 0);
    return fd;
}

static int connect_to(int listener)
{
    struct sockaddr_in address = address_of(listener);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(fd >= 0);
    must_be_0(green_connect(fd, (struct sockaddr *)&address, sizeof address));
    return fd;
}

static struct pair make_tcp(void)
{
    int listener = listen_somewhere(), a = connect_to(listener);
    int b = green_accept(listener, NULL, NULL, SOCK_CLOEXEC);
    must(b >= 0);
    must_be_0(green_close(listener));
    return (struct pair){a, b};
}

/* Of a call in a task: what it returned, or an errno below 0. */
struct transfer {
    int fd;
    char *buffer;
    size_t size;
    ssize_t result;
    int error;
};

static void *read_some(void *arg)
{
    struct transfer *t = arg;
    t->result = green_read(t->fd, t->buffer, t->size);
    t->error = t->result < 0 ? errno : 0;
    return NULL;
}

static void *read_all(void *arg)
{
    struct transfer *t = arg;
    t->result = green_read_all(t->fd, t->buffer, t->size);
    t->error = t->result < 0 ? errno : 0;
    return NULL;
}

static void *write_all(void *arg)
{
    struct transfer *t = arg;
    t->result = green_write_all(t->fd, t->buffer, t->size);
    t->error = (size_t)t->result == t->size ? 0 : errno;
    return NULL;
}

static void fill(int fd)
{
    static const char block[4096];
    int flags = fcntl(fd, F_GETFL);
    must(fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0);
    while (write(fd, block, sizeof block) > 0)
        continue;
    must(fcntl(fd, F_SETFL, flags) == 0);
}

static bool is_nonblocking(int fd)
{
    return (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0;
}

/* ---- green_poll() ------------------------------------------------------------------ */

/* gevent: TestSelect */
HUB_TEST(a_poll_of_nothing_sleeps)
{
    assert_int_equal(green_poll(NULL, 0, GREEN_MS(200)), 0);
    assert_int_equal(clock_ms(), 200);
    assert_refused(green_poll(NULL, 1, 0), EINVAL);
}

/* gevent: TestSelectRead */
HUB_TEST(the_end_of_its_time_is_no_failure_of_a_poll_but_a_scopes_is)
{
    struct pair pipe = make_pipe();
    struct pollfd fds = {.fd = pipe.a, .events = POLLIN, .revents = 7};
    assert_int_equal(green_poll(&fds, 1, GREEN_MS(200)), 0);
    assert_int_equal(fds.revents, 0);
    assert_int_equal(clock_ms(), 200);
    green_scope_t scope;
    assert_int_equal(green_scope_begin(&scope, GREEN_MS(10), 0), 0);
    assert_refused(green_poll(&fds, 1, GREEN_MS(200)), ETIMEDOUT);
    assert_int_equal(green_scope_end(&scope), 1);
    assert_int_equal(clock_ms(), 210);
    /* If both are over, its own comes first. */
    assert_int_equal(green_scope_begin(&scope, GREEN_MS(10), 0), 0);
    assert_int_equal(green_poll(&fds, 1, GREEN_MS(10)), 0);
    assert_int_equal(green_scope_end(&scope), 0);
    assert_int_equal(clock_ms(), 220);
    close_pair(pipe);
}

/* gevent: test_poll_invalid */
HUB_TEST(a_poll_of_a_closed_number_says_so_at_once)
{
    struct pair pipe = make_pipe();
    close_pair(pipe);
    struct pollfd fds[] = {{.fd = pipe.a, .events = POLLIN}, {.fd = -1, .events = POLLIN}};
    assert_int_equal(green_poll(fds, 2, GREEN_FOREVER), 1);
    assert_int_equal(fds[0].revents, POLLNVAL);
    assert_int_equal(fds[1].revents, 0);
}

WORLD_TEST(a_poll_for_no_event_hears_of_the_end_alone)
{
    struct pair pair = make_stream();
    struct pollfd fds = {.fd = pair.a};
    must(write(pair.b, "x", 1) == 1);
    assert_int_equal(green_poll(&fds, 1, GREEN_MS(2)), 0);
    must(close(pair.b) == 0);
    assert_int_equal(green_poll(&fds, 1, GREEN_FOREVER), 1);
    assert_int_equal(fds.revents, POLLHUP);
    must_be_0(green_close(pair.a));
}

HUB_TEST(a_poll_may_have_the_same_descriptor_twice)
{
    struct pair pair = make_stream();
    must(write(pair.b, "x", 1) == 1);
    struct pollfd fds[] = {{.fd = pair.a, .events = POLLIN}, {.fd = pair.a, .events = POLLOUT}};
    assert_int_equal(green_poll(fds, 2, GREEN_FOREVER), 2);
    assert_int_equal(fds[0].revents, POLLIN);
    assert_int_equal(fds[1].revents, POLLOUT);
    close_pair(pair);
}

static void *write_a_byte(void *fd)
{
    must(green_write((int)(intptr_t)fd, "x", 1) == 1);
    return NULL;
}

/* gevent: test__selectors */
WORLD_TEST(of_many_descriptors_a_poll_finds_the_one_that_is_ready)
{
    enum { MANY = 400 };
    static struct pollfd fds[MANY];
    static int peers[MANY];
    struct rlimit limit, more;
    must(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    more = (struct rlimit){limit.rlim_max < 2048 ? limit.rlim_max : 2048, limit.rlim_max};
    if (limit.rlim_cur < more.rlim_cur)
        must(setrlimit(RLIMIT_NOFILE, &more) == 0);
    for (int i = 0; i < MANY; i++) {
        struct pair pair = make_stream();
        fds[i] = (struct pollfd){.fd = pair.a, .events = POLLIN};
        peers[i] = pair.b;
    }
    for (int which = 0; which < MANY; which += 133) {
        char byte;
        green_task_t *task = spawn(write_a_byte, V(peers[which]));
        assert_int_equal(green_poll(fds, MANY, GREEN_FOREVER), 1);
        for (int i = 0; i < MANY; i++)
            assert_int_equal(fds[i].revents, i == which ? POLLIN : 0);
        assert_int_equal(green_read(fds[which].fd, &byte, 1), 1);
        finish(task);
    }
    assert_int_equal(hub_stat(descriptors), 0);
    for (int i = 0; i < MANY; i++) {
        must_be_0(green_close(fds[i].fd));
        must(close(peers[i]) == 0);
    }
    must(setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

WORLD_TEST(the_epoll_descriptor_of_another_loop_can_be_waited_for)
{
    struct pair pipe = make_pipe();
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN};
    must(epoll >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, pipe.a, &event) == 0);
    green_task_t *task = spawn(write_a_byte, V(pipe.b));
    struct pollfd fds = {.fd = epoll, .events = POLLIN};
    assert_int_equal(green_poll(&fds, 1, GREEN_FOREVER), 1);
    assert_int_equal(epoll_wait(epoll, &event, 1, 0), 1);
    finish(task);
    must_be_0(green_close(epoll));
    close_pair(pipe);
}

static void *send_urgent(void *fd)
{
    must(send((int)(intptr_t)fd, "!", 1, MSG_OOB) == 1);
    return NULL;
}

WORLD_TEST(urgent_data_and_a_half_close_are_reported_if_asked_for)
{
    struct pair tcp = make_tcp();
    struct pollfd fds = {.fd = tcp.b, .events = POLLPRI};
    green_task_t *task = spawn(send_urgent, V(tcp.a));
    assert_int_equal(green_poll(&fds, 1, GREEN_SEC(5)), 1);
    assert_int_equal(fds.revents, POLLPRI);
    finish(task);
    must(shutdown(tcp.a, SHUT_WR) == 0);
    fds.events = POLLRDHUP;
    assert_int_equal(green_poll(&fds, 1, GREEN_SEC(5)), 1);
    assert_true((fds.revents & POLLRDHUP) != 0);
    close_pair(tcp);
}

static void *put_a_number(void *queue)
{
    const int number = 5;
    must_be_0(green_queue_put(queue, &number, GREEN_FOREVER));
    return NULL;
}

/* libdill#134 */
WORLD_TEST(one_of_several_may_be_a_descriptor_or_a_queue)
{
    struct pair pipe = make_pipe();
    green_queue_t *queue = green_queue_new(sizeof(int), 1);
    int number = 0;
    char byte;
    green_case_t cases[] = {GREEN_CASE_FD(pipe.a, POLLIN), GREEN_CASE_GET(queue, &number)};
    green_task_t *task = spawn(put_a_number, queue);
    assert_int_equal(green_select(cases, 2, GREEN_FOREVER), 1);
    assert_int_equal(number, 5);
    finish(task);
    task = spawn(write_a_byte, V(pipe.b));
    assert_int_equal(green_select(cases, 2, GREEN_FOREVER), 0);
    assert_int_equal(cases[0].revents, POLLIN);
    finish(task);
    assert_int_equal(green_read(pipe.a, &byte, 1), 1);
    assert_refused(green_select(cases, 2, GREEN_MS(1)), ETIMEDOUT);
    must_be_0(green_queue_free(queue)); /* nobody is left in it */
    close_pair(pipe);
}

/* ---- Reading and writing --------------------------------------------------------------- */

static void *count_turns(void *count)
{
    while (green_sleep(GREEN_US(100)) == 0)
        ++*(int *)count;
    return NULL;
}

WORLD_TEST(much_data_goes_through_whole_and_others_run_meanwhile)
{
    enum { SIZE = 8 << 20 };
    struct pair pair = make_stream();
    struct transfer out = {.fd = pair.a, .buffer = malloc(SIZE), .size = SIZE};
    struct transfer in = {.fd = pair.b, .buffer = malloc(SIZE), .size = SIZE};
    int turns = 0;
    must(out.buffer != NULL && in.buffer != NULL);
    for (int i = 0; i < SIZE; i++)
        out.buffer[i] = (char)(i * 31 >> 3);
    green_task_t *counter = spawn(count_turns, &turns);
    green_task_t *writer = spawn(write_all, &out), *reader = spawn(read_all, &in);
    finish(writer);
    finish(reader);
    assert_int_equal(out.result, SIZE);
    assert_int_equal(in.result, SIZE);
    assert_memory_equal(in.buffer, out.buffer, SIZE);
    assert_true(turns > 0);
    must_be_0(green_task_free(counter));
    free(in.buffer);
    free(out.buffer);
    close_pair(pair);
}

/* gevent: test_sendall_timeout; tokio: write_all is not cancel safe */
HUB_TEST(to_write_all_to_nobody_in_a_scope_says_what_went)
{
    enum { SIZE = 4 << 20 };
    struct pair pair = make_stream();
    char *buffer = calloc(1, SIZE);
    green_scope_t scope;
    assert_int_equal(green_scope_begin(&scope, GREEN_MS(20), 0), 0);
    ssize_t n = green_write_all(pair.a, buffer, SIZE);
    assert_int_equal(errno, ETIMEDOUT);
    assert_true(n > 0 && n < SIZE);
    assert_int_equal(green_scope_end(&scope), 1);
    assert_int_equal(green_read_all(pair.b, buffer, (size_t)n), n);
    assert_refused(green_recv(pair.b, buffer, 1, MSG_DONTWAIT), EAGAIN);
    free(buffer);
    close_pair(pair);
}

WORLD_TEST(the_flag_of_a_socket_neither_matters_nor_changes)
{
    for (int on = 0; on < 2; on++) {
        struct pair pair = make_stream();
        char byte[2];
        must(fcntl(pair.a, F_SETFL, on != 0 ? O_NONBLOCK : 0) == 0);
        green_task_t *task = spawn(write_a_byte, V(pair.b));
        assert_int_equal(green_read(pair.a, byte, 2), 1);
        assert_int_equal(is_nonblocking(pair.a), on);
        finish(task);
        close_pair(pair);
    }
}

WORLD_TEST(the_flag_of_a_pipe_or_a_terminal_is_never_set)
{
    struct pair pipe = make_pipe(), pty;
    char byte[2];
    must(openpty(&pty.a, &pty.b, NULL, NULL, NULL) == 0);
    struct pair ends[] = {pipe, {pty.a, pty.b}};
    for (int i = 0; i < 2; i++) {
        green_task_t *task = spawn(write_a_byte, V(ends[i].b));
        assert_int_equal(green_read(ends[i].a, byte, 2), 1);
        assert_false(is_nonblocking(ends[i].a));
        assert_false(is_nonblocking(ends[i].b));
        finish(task);
        close_pair(ends[i]);
    }
}

/* gevent#719 */
HUB_TEST(to_send_nothing_is_0)
{
    struct pair pair = make_stream();
    assert_int_equal(green_send(pair.a, "", 0, 0), 0);
    assert_int_equal(green_write(pair.a, "", 0), 0);
    assert_int_equal(green_write_all(pair.a, "", 0), 0);
    close_pair(pair);
}

/* gevent: test__socket_timeout */
WORLD_TEST(a_read_whose_time_is_over_has_taken_nothing)
{
    struct pair pair = make_stream();
    char text[8];
    green_scope_t scope;
    assert_int_equal(green_scope_begin(&scope, GREEN_MS(5), 0), 0);
    assert_refused(green_read(pair.a, text, sizeof text), ETIMEDOUT);
    must(write(pair.b, "late", 4) == 4);
    assert_refused(green_read(pair.a, text, sizeof text), ETIMEDOUT); /* until it ends */
    assert_int_equal(green_scope_end(&scope), 1);
    assert_int_equal(green_read(pair.a, text, sizeof text), 4);
    close_pair(pair);
}

struct takeover {
    int told, taken, next;
};

static void *take_over(void *arg)
{
    const struct takeover *t = arg;
    char byte;
    must(green_read(t->told, &byte, 1) == 1);
    must_be_0(green_close(t->taken));
    must(dup2(t->next, t->taken) == t->taken);
    return NULL;
}

/* Go: close, then the number is another's before the reader's turn */
WORLD_TEST(who_was_woken_does_not_read_from_the_next_owner_of_the_number)
{
    struct pair pair = make_stream(), next = make_stream(), tell = make_stream();
    char byte[2] = "";
    struct takeover takeover = {tell.a, pair.a, next.a};
    struct transfer t = {.fd = pair.a, .buffer = byte, .size = 1};
    green_task_t *task = spawn(read_some, &t), *taker = spawn(take_over, &takeover);
    turn();
    must(write(tell.b, "x", 1) == 1); /* both are woken, this one first */
    must(write(pair.b, "x", 1) == 1);
    must(write(next.b, "y", 1) == 1);
    finish(task);
    finish(taker);
    assert_int_equal(t.error, EBADF);
    assert_int_equal(green_read(pair.a, byte, 1), 1);
    assert_string_equal(byte, "y");
    must_be_0(green_close(pair.a) + green_close(pair.b));
    close_pair(next);
    close_pair(tell);
}

#define ASSERT_NO_SOCKET(call)              \
    do {                                    \
        errno = 0;                          \
        assert_int_equal((call), -1);       \
        assert_int_equal(errno, ENOTSOCK);  \
    } while (0)

/* Also of what is known to be none, and where a read would wait. */
WORLD_TEST(the_calls_for_sockets_refuse_all_others)
{
    int ends[2], file = open("/dev/zero", O_RDWR | O_CLOEXEC);
    char byte = 'x';
    struct iovec part = { &byte, 1 };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
    must(file >= 0 && pipe2(ends, O_CLOEXEC) == 0);
    for (int known = 0; known < 2; known++) {
        int fds[] = { ends[known], ends[1 - known], file };
        for (int i = 0; i < 3; i++) {
            ASSERT_NO_SOCKET(green_recv(fds[i], &byte, 1, 0));
            ASSERT_NO_SOCKET(green_recv(fds[i], &byte, 1, MSG_WAITALL));
            ASSERT_NO_SOCKET(green_recv(fds[i], &byte, 1, MSG_DONTWAIT));
            ASSERT_NO_SOCKET(green_recvfrom(fds[i], &byte, 1, 0, NULL, NULL));
            ASSERT_NO_SOCKET(green_recvmsg(fds[i], &message, 0));
            ASSERT_NO_SOCKET(green_send(fds[i], &byte, 1, 0));
            ASSERT_NO_SOCKET(green_send(fds[i], &byte, 1, MSG_NOSIGNAL));
            ASSERT_NO_SOCKET(green_sendto(fds[i], &byte, 1, 0, NULL, 0));
            ASSERT_NO_SOCKET(green_sendmsg(fds[i], &message, 0));
        }
        char bytes[2];
        assert_int_equal(green_write(ends[1], &byte, 1), 1);
        assert_int_equal(green_read(ends[0], bytes, 2), 1); /* it is emptied, and known to be */
        assert_int_equal(green_read(file, &byte, 1), 1);
        assert_int_equal(green_write(file, &byte, 1), 1);
    }
    assert_int_equal(green_close(file), 0);
    assert_int_equal(green_close(ends[0]), 0);
    assert_int_equal(green_close(ends[1]), 0);
}

WORLD_TEST(to_close_twice_or_to_use_what_is_closed_is_ebadf)
{
    struct pair pair = make_stream();
    char byte;
    must_be_0(green_close(pair.a));
    assert_refused(green_close(pair.a), EBADF);
    assert_refused(green_send(pair.a, "x", 1, 0), EBADF);
    assert_refused(green_read(pair.a, &byte, 1), EBADF);
    assert_refused(green_accept(pair.a, NULL, NULL, 0), EBADF);
    assert_refused(green_read(-1, &byte, 1), EBADF);
    must_be_0(green_close(pair.b));
}

WORLD_TEST(a_close_while_all_is_written_says_what_went)
{
    enum { SIZE = 4 << 20 };
    struct pair pair = make_stream();
    struct transfer t = {.fd = pair.a, .buffer = calloc(1, SIZE), .size = SIZE};
    green_task_t *task = spawn(write_all, &t);
    nap(1);
    must_be_0(green_close(pair.a));
    finish(task);
    assert_true(t.result > 0 && t.result < SIZE);
    assert_int_equal(t.error, EBADF);
    free(t.buffer);
    must_be_0(green_close(pair.b));
}

/* gevent: test_shutdown_when_closed */
WORLD_TEST(a_half_close_by_the_peer_leaves_the_other_half)
{
    struct pair tcp = make_tcp();
    char byte[2] = "";
    must(shutdown(tcp.a, SHUT_WR) == 0);
    assert_int_equal(green_read(tcp.b, byte, 1), 0);
    assert_int_equal(green_write(tcp.b, "x", 1), 1);
    assert_int_equal(green_read(tcp.a, byte, 1), 1);
    close_pair(tcp);
}

static int signals;

static void count_signal(int signal)
{
    signals += signal == SIGPIPE;
}

WORLD_TEST(a_socket_raises_no_sigpipe_and_a_pipe_does)
{
    struct sigaction counts = {.sa_handler = count_signal}, before;
    must(sigaction(SIGPIPE, &counts, &before) == 0);
    signals = 0;
    struct pair pair = make_stream(), tcp = make_tcp(), pipe = make_pipe();
    must(close(pair.b) == 0);
    must_be_0(green_close(tcp.b));
    must(close(pipe.a) == 0);
    assert_refused(green_write(pair.a, "x", 1), EPIPE);
    assert_refused(green_writev(pair.a, &(struct iovec){(char[]){"x"}, 1}, 1), EPIPE);
    while (green_write(tcp.a, "x", 1) == 1)
        nap(1);
    assert_true(errno == EPIPE || errno == ECONNRESET);
    assert_int_equal(signals, 0);
    assert_refused(green_write(pipe.b, "x", 1), EPIPE);
    assert_int_equal(signals, 1);
    must(dup2(pair.a, pipe.b) == pipe.b); /* a number that was a pipe's */
    assert_refused(green_write(pipe.b, "x", 1), EPIPE);
    assert_int_equal(signals, 1);
    struct pair known = make_pipe(); /* as one before it breaks */
    assert_int_equal(green_write(known.b, "xx", 2), 2);
    assert_int_equal(green_write(known.b, "xx", 2), 2);
    must(close(known.a) == 0);
    assert_refused(green_write(known.b, "x", 1), EPIPE);
    assert_int_equal(signals, 2);
    must(dup2(pair.a, known.b) == known.b);
    assert_refused(green_write(known.b, "x", 1), EPIPE);
    assert_int_equal(signals, 2);
    must(sigaction(SIGPIPE, &before, NULL) == 0);
    must_be_0(green_close(pair.a) + green_close(tcp.a) + green_close(pipe.b) + green_close(known.b));
}

WORLD_TEST(datagrams_stay_whole_and_say_from_whom_they_are)
{
    struct sockaddr_in address = {.sin_family = AF_INET}, from;
    socklen_t length = sizeof address;
    static char large[65507], got[65507];
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int a = socket(AF_INET, SOCK_DGRAM, 0), b = socket(AF_INET, SOCK_DGRAM, 0);
    must(bind(a, (struct sockaddr *)&address, length) == 0);
    must(bind(b, (struct sockaddr *)&address, length) == 0);
    struct sockaddr_in of_a = address_of(a), of_b = address_of(b);
    const size_t sizes[] = {0, 1, sizeof large};
    memset(large, 'g', sizeof large);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(green_sendto(a, large, sizes[i], 0, (struct sockaddr *)&of_b, length),
                         sizes[i]);
        length = sizeof from;
        assert_int_equal(green_recvfrom(b, got, sizeof got, 0, (struct sockaddr *)&from, &length),
                         sizes[i]);
        assert_int_equal(length, sizeof from);
        assert_int_equal(from.sin_port, of_a.sin_port);
        assert_memory_equal(got, large, sizes[i]);
    }
    must_be_0(green_close(a) + green_close(b));
}

/* The short read of a message leaves the next; so it is with descriptors that are passed. */
WORLD_TEST(short_messages_are_not_taken_for_the_end_of_what_has_come)
{
    struct pair kinds[] = {make_pair(AF_UNIX, SOCK_DGRAM), make_pair(AF_UNIX, SOCK_SEQPACKET)};
    char got[16];
    for (int i = 0; i < 2; i++) {
        struct transfer t = {.fd = kinds[i].a, .buffer = got, .size = sizeof got};
        green_task_t *task = spawn(read_some, &t);
        turn();
        for (int j = 0; j < 3; j++)
            must(write(kinds[i].b, "abc", (size_t)j + 1) == j + 1);
        finish(task);
        assert_int_equal(t.result, 1);
        assert_int_equal(green_read(kinds[i].a, got, sizeof got), 2);
        assert_int_equal(green_read(kinds[i].a, got, sizeof got), 3);
        close_pair(kinds[i]);
    }
}

WORLD_TEST(descriptors_can_be_passed)
{
    struct pair pair = make_stream(), pipe = make_pipe();
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    char byte = 'x';
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.room,
                             .msg_controllen = sizeof control.room};
    memset(&control, 0, sizeof control);
    control.header = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET,
                                      .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(&control.header), &pipe.b, sizeof pipe.b);
    assert_int_equal(green_sendmsg(pair.a, &message, 0), 1);
    message.msg_controllen = sizeof control.room;
    assert_int_equal(green_recvmsg(pair.b, &message, MSG_CMSG_CLOEXEC), 1);
    int passed;
    memcpy(&passed, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof passed);
    assert_int_equal(fcntl(passed, F_GETFD), FD_CLOEXEC);
    assert_int_equal(green_write(passed, "y", 1), 1);
    assert_int_equal(green_read(pipe.a, &byte, 1), 1);
    must_be_0(green_close(passed));
    close_pair(pair);
    close_pair(pipe);
}

/* ---- Connections --------------------------------------------------------------------- */

WORLD_TEST(a_connection_that_is_refused_says_so)
{
    int listener = listen_somewhere();
    struct sockaddr_in address = address_of(listener);
    char port[8];
    snprintf(port, sizeof port, "%d", ntohs(address.sin_port));
    must_be_0(green_close(listener));
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_refused(green_connect(fd, (struct sockaddr *)&address, sizeof address), ECONNREFUSED);
    must_be_0(green_close(fd));
    assert_refused(green_tcp_connect("127.0.0.1", port), ECONNREFUSED);
    if (!under_valgrind()) /* which takes what a living thread's resolver has for lost */
        assert_refused(green_tcp_connect("localhost", port), ECONNREFUSED);
}

WORLD_TEST(an_accepted_connection_has_the_flags_that_are_asked_for)
{
    int listener = listen_somewhere();
    const int flags[] = {0, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_CLOEXEC | SOCK_NONBLOCK};
    assert_refused(green_accept(listener, NULL, NULL, 1), EINVAL);
    for (int i = 0; i < 4; i++) {
        struct sockaddr_in from, own;
        socklen_t length = sizeof from;
        int client = connect_to(listener);
        int fd = green_accept(listener, (struct sockaddr *)&from, &length, flags[i]);
        own = address_of(client);
        assert_true(fd >= 0);
        assert_int_equal(fcntl(fd, F_GETFD), flags[i] & SOCK_CLOEXEC ? FD_CLOEXEC : 0);
        assert_int_equal(is_nonblocking(fd), (flags[i] & SOCK_NONBLOCK) != 0);
        assert_int_equal(length, sizeof from);
        assert_int_equal(from.sin_port, own.sin_port);
        must_be_0(green_close(fd) + green_close(client));
    }
    must_be_0(green_close(listener));
}

static void *accept_once(void *arg)
{
    struct transfer *t = arg;
    t->result = green_accept(t->fd, NULL, NULL, SOCK_CLOEXEC);
    t->error = t->result < 0 ? errno : 0;
    return NULL;
}

WORLD_TEST(a_connection_wakes_one_of_those_who_accept_and_a_close_all_others)
{
    int listener = listen_somewhere();
    struct transfer t[3] = {{.fd = listener}, {.fd = listener}, {.fd = listener}};
    green_task_t *tasks[3];
    for (int i = 0; i < 3; i++)
        tasks[i] = spawn(accept_once, &t[i]);
    turn();
    int client = connect_to(listener);
    finish(tasks[0]);
    assert_true(t[0].result >= 0);
    turn();
    assert_int_equal(hub_stat(descriptors), 2);
    must_be_0(green_close(listener));
    finish(tasks[1]);
    finish(tasks[2]);
    assert_int_equal(t[1].error, EBADF);
    assert_int_equal(t[2].error, EBADF);
    must_be_0(green_close((int)t[0].result) + green_close(client));
}

/* The one who was woken is cancelled: the connection is not to wait for nobody. */
WORLD_TEST(a_wake_up_that_is_not_used_is_passed_on)
{
    int listener = listen_somewhere();
    struct transfer t[2] = {{.fd = listener}, {.fd = listener}};
    green_task_t *first = spawn(accept_once, &t[0]), *second = spawn(accept_once, &t[1]);
    turn();
    int client = connect_to(listener);
    must_be_0(green_task_cancel(first));
    finish(first);
    if (t[0].result < 0) {
        finish(second);
    } else {
        must_be_0(green_task_free(second));
        t[1] = t[0];
    }
    assert_true(t[1].result >= 0);
    must_be_0(green_close((int)t[1].result) + green_close(client) + green_close(listener));
}

HUB_TEST(to_connect_to_a_full_unix_listener_waits_for_room)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "green-%d", (int)getpid());
    int listener = socket(AF_UNIX, SOCK_STREAM, 0), clients[3], served[3];
    must(bind(listener, (struct sockaddr *)&address, sizeof address) == 0);
    must(listen(listener, 0) == 0);
    green_scope_t scope;
    int n = 0;
    must_be_0(green_scope_begin(&scope, GREEN_MS(20), 0));
    for (;; n++) { /* one or two find room */
        clients[n] = socket(AF_UNIX, SOCK_STREAM, 0);
        if (green_connect(clients[n], (struct sockaddr *)&address, sizeof address) != 0)
            break;
        must(n < 2);
    }
    assert_int_equal(errno, ETIMEDOUT);
    assert_int_equal(clock_ms(), 20);
    assert_true(n > 0);
    assert_int_equal(green_scope_end(&scope), 1);
    for (int i = 0; i < n; i++)
        must((served[i] = green_accept(listener, NULL, NULL, 0)) >= 0);
    must_be_0(green_connect(clients[n], (struct sockaddr *)&address, sizeof address));
    must((served[n] = green_accept(listener, NULL, NULL, 0)) >= 0);
    for (int i = 0; i <= n; i++)
        must_be_0(green_close(clients[i]) + green_close(served[i]));
    must_be_0(green_close(listener));
}

/* ---- green_serve() ----------------------------------------------------------------------- */

struct server {
    int listener;
    green_group_t *group;
    void (*handle)(int, void *);
    int result, error;
    int serving, most;
    int opened;
};

static void *serve(void *arg)
{
    struct server *server = arg;
    server->result = green_serve(server->listener, server->group, server->handle, server);
    server->error = errno;
    return NULL;
}

static void echo_lines(int fd, void *arg)
{
    struct server *server = arg;
    char buffer[64];
    if (++server->serving > server->most)
        server->most = server->serving;
    for (ssize_t n; (n = green_read(fd, buffer, sizeof buffer)) > 0;)
        if (green_write_all(fd, buffer, (size_t)n) != n)
            break;
    server->serving--;
}

static void return_at_once(int fd, void *arg)
{
    (void)fd;
    ((struct server *)arg)->most++;
}

static void close_itself(int fd, void *arg)
{
    ((struct server *)arg)->most++;
    must_be_0(green_close(fd));
    must(open("/dev/null", O_RDONLY | O_CLOEXEC) == fd); /* which nobody else closes */
    ((struct server *)arg)->opened = fd;
}

static void assert_answers(int fd)
{
    char byte = 0;
    assert_int_equal(green_write(fd, "x", 1), 1);
    assert_int_equal(green_read(fd, &byte, 1), 1);
    assert_int_equal(byte, 'x');
}

/* gevent: test_pool_full */
WORLD_TEST(while_the_group_is_full_nobody_is_accepted)
{
    struct server server = {.listener = listen_somewhere(), .group = green_group_new(2, 0),
                            .handle = echo_lines};
    green_task_t *task = spawn(serve, &server);
    int clients[3];
    char byte;
    for (int i = 0; i < 3; i++)
        clients[i] = connect_to(server.listener);
    assert_answers(clients[0]);
    assert_answers(clients[1]);
    must(green_write(clients[2], "x", 1) == 1);
    green_scope_t scope;
    must_be_0(green_scope_begin(&scope, GREEN_MS(5), 0));
    assert_refused(green_read(clients[2], &byte, 1), ETIMEDOUT);
    must(green_scope_end(&scope) == 1);
    must_be_0(green_close(clients[0]));
    assert_int_equal(green_read(clients[2], &byte, 1), 1);
    assert_int_equal(server.most, 2);
    must_be_0(green_close(server.listener)); /* while it waits for room */
    must(dup(clients[1]) == server.listener);
    must_be_0(green_close(clients[1]));
    must(shutdown(server.listener, SHUT_RDWR) == 0);
    finish(task);
    assert_int_equal(server.error, EBADF);
    must_be_0(green_group_free(server.group));
    must_be_0(green_close(clients[2]) + green_close(server.listener));
}

/* gevent: test_server_closes_client_sockets */
WORLD_TEST(a_connection_is_closed_once_whoever_closes_it)
{
    void (*const handles[])(int, void *) = {return_at_once, close_itself};
    for (int i = 0; i < 2; i++) {
        struct server server = {.listener = listen_somewhere(), .group = green_group_new(0, 0),
                                .handle = handles[i]};
        green_task_t *task = spawn(serve, &server);
        char byte;
        nap(1); /* it has what it keeps */
        int descriptors = hubs_descriptors(), client = connect_to(server.listener);
        assert_int_equal(green_read(client, &byte, 1), 0);
        must_be_0(green_group_wait(server.group, NULL, GREEN_FOREVER));
        assert_int_equal(server.most, 1);
        assert_int_equal(hubs_descriptors(), descriptors + 1 + i);
        if (i == 1)
            must(close(server.opened) == 0);
        must_be_0(green_task_free(task)); /* by a cancel */
        assert_int_equal(server.error, ECANCELED);
        assert_int_equal(server.result, -1);
        must_be_0(green_close(server.listener) + green_close(client));
        must_be_0(green_group_free(server.group));
    }
}

/* gevent: BaseServer.min_delay */
WORLD_TEST(without_descriptors_a_server_waits_and_serves_again)
{
    if (under_valgrind())
        skip_because("Valgrind keeps the limit of descriptors itself");
    struct server server = {.listener = listen_somewhere(), .group = green_group_new(0, 0),
                            .handle = echo_lines};
    green_task_t *task = spawn(serve, &server);
    int client = connect_to(server.listener), late, copy;
    struct rlimit limit, none;
    assert_answers(client);
    late = socket(AF_INET, SOCK_STREAM, 0);
    copy = dup(late);
    must(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    none = (struct rlimit){(rlim_t)copy + 1, limit.rlim_max};
    must(setrlimit(RLIMIT_NOFILE, &none) == 0);
    struct sockaddr_in address = address_of(server.listener);
    must_be_0(green_connect(late, (struct sockaddr *)&address, sizeof address));
    uint64_t turns = hub_stat(turns);
    nap(50);
    assert_in_range(hub_stat(turns) - turns, 1, 20); /* after 10 ms and 20 more */
    must(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    assert_answers(late);
    must_be_0(green_task_free(task));
    must_be_0(green_close(server.listener) + green_close(client) + green_close(late));
    must(close(copy) == 0);
    must_be_0(green_group_free(server.group));
}

/* ---- Others' faults ------------------------------------------------------------------------ */

static void *give_turns(void *stop)
{
    while (!*(bool *)stop)
        turn();
    return NULL;
}

/* libdill: d6; state-threads: s4 */
WORLD_TEST(descriptors_and_timers_are_looked_at_however_busy_the_others_are)
{
    bool stop = false;
    struct pair pipe = make_pipe();
    char byte;
    green_task_t *busy[] = {spawn(give_turns, &stop), spawn(give_turns, &stop)};
    struct transfer t = {.fd = pipe.a, .buffer = &byte, .size = 1};
    green_task_t *reader = spawn(read_some, &t);
    turn();
    must(write(pipe.b, "x", 1) == 1);
    uint64_t turns = hub_stat(turns);
    must_be_0(green_task_join(reader, NULL, GREEN_SEC(5)));
    assert_in_range(hub_stat(turns) - turns, 1, 3 * 64);
    assert_int_equal(t.result, 1);
    nap(1);
    stop = true;
    finish(busy[0]);
    finish(busy[1]);
    finish(reader);
    close_pair(pipe);
}

/* neco: t7 */
WORLD_TEST(timeouts_of_less_than_a_millisecond_do_not_spin)
{
    struct pair pipe = make_pipe();
    struct pollfd fds = {.fd = pipe.a, .events = POLLIN};
    uint64_t polls = hub_stat(polls);
    for (int i = 0; i < 20; i++)
        assert_int_equal(green_poll(&fds, 1, GREEN_US(300)), 0);
    assert_in_range(hub_stat(polls) - polls, 1, 45); /* none for a time that is over before */
    close_pair(pipe);
}

static void *wait_in_thread(void *unused)
{
    struct timespec time = {.tv_nsec = 20000000};
    nanosleep(&time, NULL);
    return unused;
}

/* neco: t5 */
WORLD_TEST(while_a_thread_of_the_pool_works_the_hub_sleeps)
{
    uint64_t polls;
    do { /* again if the thread was faster than the hub */
        polls = hub_stat(polls);
        must_be_0(green_offload(wait_in_thread, NULL, NULL, NULL));
    } while (hub_stat(polls) == polls);
    assert_in_range(hub_stat(polls) - polls, 1, 5);
}

static void *read_for_ever(void *fd)
{
    char byte;
    (void)green_read((int)(intptr_t)fd, &byte, 1);
    return NULL;
}

/* state-threads: s3 */
WORLD_TEST(who_waits_for_others_is_not_looked_at_for_each_event)
{
    enum { IDLE = 200 };
    green_task_t *tasks[IDLE];
    struct pair idle[IDLE], pair = make_stream();
    char byte;
    for (int i = 0; i < IDLE; i++) {
        idle[i] = make_pipe();
        tasks[i] = spawn(read_for_ever, V(idle[i].a));
    }
    turn();
    turn(); /* by then they have tried once more */
    uint64_t turns = hub_stat(turns);
    for (int i = 0; i < 10; i++) {
        green_task_t *task = spawn(write_a_byte, V(pair.b));
        assert_int_equal(green_read(pair.a, &byte, 1), 1);
        finish(task);
    }
    assert_in_range(hub_stat(turns) - turns, 10, 60);
    assert_int_equal(hub_stat(descriptors), IDLE);
    for (int i = 0; i < IDLE; i++) {
        must_be_0(green_task_free(tasks[i]));
        close_pair(idle[i]);
    }
    close_pair(pair);
}

/* libuv#4323: a child holds what is closed here */
WORLD_TEST(what_another_process_holds_does_not_wake_the_hub_once_it_is_closed)
{
    struct pair pair = make_stream(), held = make_pipe();
    green_task_t *task = spawn(read_for_ever, V(pair.a));
    turn();
    pid_t child = fork();
    must(child >= 0);
    if (child == 0) {
        char byte;
        close(held.b);
        (void)!read(held.a, &byte, 1); /* until the parent closes it */
        _exit(0);
    }
    must_be_0(green_close(pair.a));
    finish(task);
    must(write(pair.b, "x", 1) == 1);
    uint64_t polls = hub_stat(polls);
    struct pollfd fds = {.fd = held.a, .events = POLLIN};
    do
        assert_int_equal(green_poll(&fds, 1, GREEN_MS(5)), 0);
    while (hub_stat(polls) == polls);
    assert_in_range(hub_stat(polls) - polls, 1, 4);
    close_pair(held);
    must(waitpid(child, NULL, 0) == child);
    must_be_0(green_close(pair.b));
}

/* Two processes read one socket: who was woken may find nothing. */
WORLD_TEST(who_is_woken_and_finds_nothing_waits_on)
{
    struct pair pair = make_stream();
    char byte = 0;
    struct transfer t = {.fd = pair.a, .buffer = &byte, .size = 1};
    green_task_t *task = spawn(read_some, &t);
    turn();
    must(write(pair.b, "x", 1) == 1);
    must(read(pair.a, &byte, 1) == 1); /* as another process might */
    nap(1);
    assert_non_null(green_task_green(task));
    must(write(pair.b, "y", 1) == 1);
    finish(task);
    assert_int_equal(t.result, 1);
    assert_int_equal(byte, 'y');
    close_pair(pair);
}

/* A full terminal says that there is room; without O_NONBLOCK the thread would be blocked. */
WORLD_TEST(a_full_terminal_does_not_keep_the_hub_awake)
{
    struct pair pty;
    char byte = 'x';
    must(openpty(&pty.a, &pty.b, NULL, NULL, NULL) == 0);
    fill(pty.b);
    must(fcntl(pty.b, F_SETFL, O_RDWR | O_NONBLOCK) == 0);
    static char much[1 << 18];
    memset(much, 'x', sizeof much);
    struct transfer t = {.fd = pty.b, .buffer = much, .size = sizeof much};
    green_task_t *task = spawn(write_all, &t);
    nap(2);
    uint64_t polls = hub_stat(polls);
    do
        nap(5);
    while (hub_stat(polls) == polls); /* the hub need not look if the time was over before */
    assert_in_range(hub_stat(polls) - polls, 1, 12);
    assert_int_equal(green_read(pty.a, &byte, 1), 1);
    must_be_0(green_task_free(task));
    close_pair(pty);
}

static void *read_until_y(void *fd)
{
    char bytes[1024];
    size_t count = 0;
    for (ssize_t n; count < 8192 && (n = green_read((int)(intptr_t)fd, bytes, sizeof bytes)) > 0;)
        for (ssize_t i = 0; i < n; i++)
            count += bytes[i] == 'y';
    return V(count);
}

/* What is written to one end of a terminal that has room for a little. */
static void write_to_nearly_full(int writer, int reader)
{
    static char much[8192], some[2048];
    struct pollfd room = {.fd = writer, .events = POLLOUT};
    memset(much, 'y', sizeof much);
    fill(writer);
    do
        must(read(reader, some, sizeof some) > 0);
    while (poll(&room, 1, 100) == 0);
    struct transfer t = {.fd = writer, .buffer = much, .size = sizeof much};
    green_task_t *writes = spawn(write_all, &t), *reads = spawn(read_until_y, V(reader));
    assert_ptr_equal(finish(reads), V(sizeof much));
    finish(writes);
    assert_int_equal(t.result, sizeof much);
    assert_false(is_nonblocking(writer));
}

/* It says that there is room, but would block the thread until there is enough. */
WORLD_TEST(a_terminal_that_is_nearly_full_does_not_stop_the_thread)
{
    struct pair pty;
    struct termios modes;
    for (int i = 0; i < 2; i++) {
        must(openpty(&pty.a, &pty.b, NULL, NULL, NULL) == 0);
        must(tcgetattr(pty.b, &modes) == 0);
        cfmakeraw(&modes);
        must(tcsetattr(pty.b, TCSANOW, &modes) == 0);
        if (i == 0)
            write_to_nearly_full(pty.b, pty.a);
        else
            write_to_nearly_full(pty.a, pty.b);
        close_pair(pty);
    }
}

/* ---- Reads that are tried once more ------------------------------------------------- */

/* From then on it is known as a stream: a read was short. */
static void make_known(struct pair pair)
{
    char bytes[8];
    must(write(pair.b, "x", 1) == 1);
    must(green_read(pair.a, bytes, sizeof bytes) == 1);
}

static void *wait_for_the_end(void *fd)
{
    struct pollfd one = {.fd = (int)(intptr_t)fd};
    must_fail(green_poll(&one, 1, GREEN_FOREVER), ECANCELED);
    return NULL;
}

WORLD_TEST(who_waits_for_something_else_there_does_not_hide_who_reads)
{
    struct pair pairs[] = {make_stream(), make_pipe()};
    for (int i = 0; i < 2; i++) {
        char bytes[8];
        struct transfer t = {.fd = pairs[i].a, .buffer = bytes, .size = sizeof bytes};
        make_known(pairs[i]);
        green_task_t *reader = spawn(read_some, &t), *other = spawn(wait_for_the_end, V(pairs[i].a));
        turn();
        must(write(pairs[i].b, "y", 1) == 1);
        must_be_0(green_task_join(reader, NULL, GREEN_SEC(20)));
        assert_int_equal(t.result, 1);
        finish(reader);
        must_be_0(green_task_free(other));
        close_pair(pairs[i]);
    }
}

WORLD_TEST(bytes_that_are_there_are_read_without_a_wait_after_one)
{
    enum { BYTES = 100 };
    struct pair pipe = make_pipe();
    bool stop = false;
    char bytes[BYTES] = {0};
    make_known(pipe);
    green_task_t *busy[] = {spawn(give_turns, &stop), spawn(give_turns, &stop)};
    struct transfer t = {.fd = pipe.a, .buffer = bytes, .size = 1};
    green_task_t *first = spawn(read_some, &t);
    turn();
    must(write(pipe.b, bytes, BYTES) == BYTES);
    must_be_0(green_task_join(first, NULL, GREEN_SEC(20)));
    uint64_t turns = hub_stat(turns);
    for (int i = 1; i < BYTES; i++)
        assert_int_equal(green_read(pipe.a, bytes, 1), 1);
    assert_in_range(hub_stat(turns) - turns, 0, 3 * 64);
    stop = true;
    finish(busy[0]);
    finish(busy[1]);
    finish(first);
    close_pair(pipe);
}

/* A number at which somebody waited to read goes to a connection that the hub makes. */
static void give_number_on(bool by_hub)
{
    char bytes[8];
    int listener = listen_somewhere(), client = connect_to(listener);
    struct pair pipe = make_pipe();
    struct transfer old = {.fd = pipe.a, .buffer = bytes, .size = sizeof bytes}, new = old;
    make_known(pipe);
    green_task_t *before = spawn(read_some, &old);
    turn();
    must_be_0(by_hub ? green_close(pipe.a) : close(pipe.a));
    assert_int_equal(green_accept(listener, NULL, NULL, SOCK_CLOEXEC), pipe.a);
    struct pollfd one = {.fd = pipe.a, .events = POLLIN};
    assert_int_equal(green_poll(&one, 1, GREEN_MS(1)), 0);
    finish(before);
    assert_int_equal(old.error, EBADF);
    green_task_t *reader = spawn(read_some, &new);
    turn();
    turn();
    must(write(client, "y", 1) == 1);
    must_be_0(green_task_join(reader, NULL, GREEN_SEC(20)));
    assert_int_equal(new.result, 1);
    finish(reader);
    close_pair(pipe);
    must_be_0(green_close(client));
    must_be_0(green_close(listener));
}

WORLD_TEST(who_waited_for_a_number_does_not_keep_its_next_owner_from_waking)
{
    give_number_on(true);
    give_number_on(false);
}

int main(void)
{
    return run_all_tests();
}
