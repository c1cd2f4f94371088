/* SPDX-License-Identifier: MIT */
/*
 * How many system calls a message costs, and an idle process: counted by ptrace, in a child.
 *
 * The child answers on many connections.  Between rounds it stands still until its client has
 * written to all of them, so that the numbers are the same every time.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <time.h>

#include "filters.h"
#include "hubs.h"

/* As the kernel has it; the C libraries name it in several ways. */
struct stop {
    uint8_t op, pad[3];
    uint32_t arch;
    uint64_t ip, sp, number, args[6];
};
#define GET_STOP 0x420e /* PTRACE_GET_SYSCALL_INFO */
#define IS_ENTRY 1

#ifndef RWF_NOSIGNAL
#define RWF_NOSIGNAL 0x100
#endif

/* A call that does nothing, by which the child has the counting begin and end. */
#define MARK(n) ((void)syscall(SYS_getpgid, 0x67000000 + (n)))
#define MARK_END 0
#define MARK_BEGIN 1

struct counted {
    long calls;
    int status; /* of waitpid() */
    bool missing; /* there is no ptrace here */
};

/* Counts between marks, to the end of the child or until it has made no call for so long. */
static struct counted count(pid_t child, int64_t quiet)
{
    struct counted counted = {0, 0, false};
    bool counts = false;
    must(waitpid(child, &counted.status, 0) == child);
    if (!WIFSTOPPED(counted.status)) {
        counted.missing = true;
        return counted;
    }
    must(ptrace(PTRACE_SETOPTIONS, child, NULL, (void *)PTRACE_O_TRACESYSGOOD) == 0);
    for (int64_t last = green_now();;) {
        struct stop stop;
        must(ptrace(PTRACE_SYSCALL, child, NULL, NULL) == 0);
        pid_t pid;
        while ((pid = waitpid(child, &counted.status, quiet != 0 ? WNOHANG : 0)) == 0) {
            if (green_now() - last > quiet) {
                kill(child, SIGKILL);
                must(waitpid(child, &counted.status, 0) == child);
                return counted;
            }
            must(nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL) == 0);
        }
        must(pid == child);
        if (WIFEXITED(counted.status) || WIFSIGNALED(counted.status))
            return counted;
        must(ptrace(GET_STOP, child, (void *)sizeof stop, &stop) > 0);
        if (stop.op != IS_ENTRY)
            continue;
        if (stop.number == SYS_getpgid && stop.args[0] >> 24 == 0x67)
            counts = (stop.args[0] & 1) == MARK_BEGIN;
        else if (counts)
            counted.calls++;
        last = green_now();
    }
}

static struct counted count_child(void (*run)(void *), void *arg, int64_t quiet)
{
    fflush(NULL);
    pid_t child = fork();
    must(child >= 0);
    if (child == 0) {
        alarm(60);
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
            _exit(77);
        raise(SIGSTOP);
        run(arg);
        _exit(0);
    }
    return count(child, quiet);
}

/* ---- Echo --------------------------------------------------------------------------- */

enum { CONNECTIONS = 256, WARM = 2, ROUNDS = 6 };

struct echo_case {
    const char *name;
    void (*connect)(void);
    double most;
    bool old_kernel; /* without RWF_NOSIGNAL */
};

static int control[2], handled;
static struct {
    int in, out;
} client_ends[CONNECTIONS], server_ends[CONNECTIONS];
static green_event_t round_over;

static void answer_by(int in, int out)
{
    char buffer[512];
    for (ssize_t n; (n = green_read(in, buffer, sizeof buffer)) > 0;) {
        must(green_write_all(out, buffer, (size_t)n) == n);
        if (++handled % CONNECTIONS == 0)
            must_be_0(green_event_set(&round_over));
    }
}

static void answer(int fd, void *unused)
{
    (void)unused;
    answer_by(fd, fd);
}

static void *answer_one(void *i)
{
    answer_by(server_ends[(int)(intptr_t)i].in, server_ends[(int)(intptr_t)i].out);
    return NULL;
}

/* In a process of its own: writes to all, says so, and reads all the answers. */
static pid_t start_client(void)
{
    pid_t client = fork();
    must(client >= 0);
    if (client != 0)
        return client;
    alarm(60);
    for (int round = 0; round < WARM + ROUNDS; round++) {
        char byte = 'x';
        must(read(control[1], &byte, 1) == 1);
        for (int i = 0; i < CONNECTIONS; i++)
            must(write(client_ends[i].out, "message", 7) == 7);
        must(write(control[1], &byte, 1) == 1);
        for (int i = 0; i < CONNECTIONS; i++) {
            char answered[16];
            must(read(client_ends[i].in, answered, sizeof answered) == 7);
        }
    }
    _exit(0);
}

static void *serve_all(void *group)
{
    static int listener;
    listener = *(int *)group;
    green_group_t *clients = green_group_new(0, 0);
    must(green_serve(listener, clients, answer, NULL) == -1);
    return NULL;
}

static void connect_tcp(void)
{
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    static int listener;
    listener = green_tcp_listen("127.0.0.1", "0", 0);
    must(listener >= 0 && getsockname(listener, (struct sockaddr *)&address, &length) == 0);
    spawn(serve_all, &listener);
    for (int i = 0; i < CONNECTIONS; i++) {
        client_ends[i].in = client_ends[i].out = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        must(client_ends[i].in >= 0);
        must(connect(client_ends[i].in, (struct sockaddr *)&address, length) == 0);
        turn();
    }
}

static void connect_pairs(void)
{
    for (int i = 0; i < CONNECTIONS; i++) {
        int fds[2];
        must(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
        client_ends[i].in = client_ends[i].out = fds[0];
        server_ends[i].in = server_ends[i].out = fds[1];
        spawn(answer_one, V(i));
    }
}

static void connect_pipes(void)
{
    for (int i = 0; i < CONNECTIONS; i++) {
        int there[2], back[2];
        must(pipe(there) == 0 && pipe(back) == 0);
        client_ends[i].in = back[0];
        client_ends[i].out = there[1];
        server_ends[i].in = there[0];
        server_ends[i].out = back[1];
        spawn(answer_one, V(i));
    }
}

/* The pipes get the numbers of sockets that the hub has made and the program has closed. */
static void connect_pipes_at_used_numbers(void)
{
    int ends[2 * CONNECTIONS];
    for (int i = 0; i < CONNECTIONS; i++) {
        struct sockaddr_storage address;
        socklen_t length = sizeof address;
        char port[8];
        int listener = green_tcp_listen("127.0.0.1", "0", 0);
        must(listener >= 0 && getsockname(listener, (struct sockaddr *)&address, &length) == 0);
        snprintf(port, sizeof port, "%d", ntohs(((struct sockaddr_in *)&address)->sin_port));
        ends[2 * i] = green_tcp_connect("127.0.0.1", port);
        ends[2 * i + 1] = green_accept(listener, NULL, NULL, SOCK_CLOEXEC);
        must(ends[2 * i] >= 0 && ends[2 * i + 1] >= 0 && green_close(listener) == 0);
    }
    for (int i = 0; i < 2 * CONNECTIONS; i++)
        must(close(ends[i]) == 0);
    connect_pipes();
}

static void echo_rounds(void *arg)
{
    const struct echo_case *c = arg;
    if (c->old_kernel && filter_flag(SYS_pwritev2, RWF_NOSIGNAL, EOPNOTSUPP) != 0)
        leave_child(NO_FILTERS);
    must(socketpair(AF_UNIX, SOCK_STREAM, 0, control) == 0);
    c->connect();
    for (int i = 0; i < 10; i++)
        turn();
    (void)start_client();
    for (int round = 0; round < WARM + ROUNDS; round++) {
        char byte = 'x';
        must(write(control[0], &byte, 1) == 1 && read(control[0], &byte, 1) == 1);
        must_be_0(green_event_clear(&round_over));
        if (round >= WARM)
            MARK(MARK_BEGIN);
        must_be_0(green_event_wait(&round_over, GREEN_FOREVER));
        MARK(MARK_END);
    }
}

static void must_be_counted(struct counted counted)
{
    if (WIFEXITED(counted.status) && WEXITSTATUS(counted.status) == NO_FILTERS)
        skip_because("no system calls can be filtered here");
    must(WIFEXITED(counted.status) && WEXITSTATUS(counted.status) == 0);
}

static bool cannot_count(void)
{
    return SANITIZED || under_valgrind();
}

#define NO_COUNT "what runs the program makes system calls of its own"
#define NO_PTRACE "there is no ptrace here"

/* What run(c) makes of them for each of so many messages. */
static void assert_calls(void (*run)(void *), const struct echo_case *c, int messages)
{
    if (cannot_count())
        skip_because(NO_COUNT);
    struct counted counted = count_child(run, (void *)c, 0);
    if (counted.missing)
        skip_because(NO_PTRACE);
    must_be_counted(counted);
    double each = (double)counted.calls / messages;
    print_message("%s: %.3f system calls a message\n", c->name, each);
    assert_true(each > 1.99);
    assert_true(each <= c->most);
}

static void assert_echo(const struct echo_case *c)
{
    assert_calls(echo_rounds, c, ROUNDS * CONNECTIONS);
}

TEST(a_message_on_an_accepted_socket_costs_no_more_than_a_read_and_a_write)
{
    assert_echo(&(struct echo_case){"accepted TCP", connect_tcp, 2.05, false});
}

TEST(a_message_on_another_stream_costs_one_call_more)
{
    assert_echo(&(struct echo_case){"unix stream", connect_pairs, 3.1, false});
}

/* Whether a write can be told to raise no signal, whatever is written to: since Linux 6.18. */
static bool has_nosignal(void)
{
    int fds[2];
    must(pipe(fds) == 0);
    struct iovec one = {(char[]){"x"}, 1};
    bool has = syscall(SYS_pwritev2, fds[1], &one, 1ul, -1l, -1l, RWF_NOSIGNAL) == 1;
    must(close(fds[0]) == 0 && close(fds[1]) == 0);
    return has;
}

TEST(a_message_on_a_pipe_costs_no_more)
{
    if (!has_nosignal())
        skip_because("an older kernel: see the next test");
    assert_echo(&(struct echo_case){"pipe", connect_pipes, 3.1, false});
}

TEST(a_message_on_a_pipe_whose_number_was_a_sockets_costs_no_more)
{
    if (!has_nosignal())
        skip_because("an older kernel: see the next test");
    assert_echo(&(struct echo_case){"pipe, once a socket", connect_pipes_at_used_numbers, 3.1, false});
}

TEST(on_older_kernels_a_write_to_a_pipe_is_begun_as_one_to_a_socket)
{
    assert_echo(&(struct echo_case){"pipe, as before Linux 6.18", connect_pipes, 4.1, true});
}

/* ---- From task to task ------------------------------------------------------------------ */

enum { MESSAGES = 1000 };

static void *send_back(void *unused)
{
    (void)unused;
    answer_by(server_ends[0].in, server_ends[0].out);
    return NULL;
}

static void converse(void *arg)
{
    const struct echo_case *c = arg;
    char answered[16];
    c->connect();
    green_task_t *other = spawn(send_back, NULL);
    for (int i = -MESSAGES; i < MESSAGES; i++) {
        if (i == 0)
            MARK(MARK_BEGIN);
        must(green_write(client_ends[0].out, "message", 7) == 7);
        must(green_read(client_ends[0].in, answered, sizeof answered) == 7);
    }
    MARK(MARK_END);
    must_be_0(green_task_free(other));
}

static void connect_one_pipe(void)
{
    int there[2], back[2];
    must(pipe(there) == 0 && pipe(back) == 0);
    client_ends[0].in = back[0];
    client_ends[0].out = there[1];
    server_ends[0].in = there[0];
    server_ends[0].out = back[1];
}

static void connect_one_pair(void)
{
    int fds[2];
    must(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    client_ends[0].in = client_ends[0].out = fds[0];
    server_ends[0].in = server_ends[0].out = fds[1];
}

/* A look after so many turns is one more. */
static void assert_conversation(const struct echo_case *c)
{
    assert_calls(converse, c, 2 * MESSAGES);
}

TEST(what_another_task_has_written_meanwhile_is_read_without_asking)
{
    assert_conversation(&(struct echo_case){"from task to task by a unix stream", connect_one_pair,
                                            2.05, false});
    if (has_nosignal())
        assert_conversation(&(struct echo_case){"from task to task by a pipe", connect_one_pipe,
                                                2.05, false});
}

/* ---- Idle ----------------------------------------------------------------------------- */

static void *accept_for_ever(void *listener)
{
    (void)green_accept(*(int *)listener, NULL, NULL, 0);
    return NULL;
}

static void be_idle(void *unused)
{
    (void)unused;
    static int listener;
    listener = green_tcp_listen("127.0.0.1", "0", 0);
    must(listener >= 0);
    spawn(accept_for_ever, &listener);
    spawn(sleep_for, V(3600 * 1000));
    for (int i = 0; i < 4; i++)
        turn();
    MARK(MARK_BEGIN);
    (void)green_sleep(GREEN_SEC(3600));
}

TEST(a_process_that_has_nothing_to_do_makes_no_system_call)
{
    if (cannot_count())
        skip_because(NO_COUNT);
    struct counted counted = count_child(be_idle, NULL, GREEN_SEC(3));
    if (counted.missing)
        skip_because(NO_PTRACE);
    assert_true(WIFSIGNALED(counted.status)); /* by count() */
    assert_int_equal(counted.calls, 1);       /* the one that it waits in */
}

int main(void)
{
    alarm(120);
    return run_all_tests();
}
