/* SPDX-License-Identifier: MIT */
/* What reading the hub's code with hostile intent has found, one fault a test. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <green_hub.h>

#include "testing.h"
#include "tools.h"

/* Less than the second after which a lost event is made good. */
#define SOON GREEN_MS(700)

static void *read_into(void *arg)
{
    int fd = ((int *)arg)[0];
    char byte;
    ssize_t n = green_read(fd, &byte, 1);
    return n < 0 ? GREEN_FAILED : V(n);
}

static void join_within(green_task_t *task, void *expected, int64_t time)
{
    void *result = NULL;
    assert_int_equal(green_task_join(task, &result, time), 0);
    assert_ptr_equal(result, expected);
    assert_int_equal(green_task_free(task), 0);
}

static void join_soon(green_task_t *task, void *expected)
{
    join_within(task, expected, SOON);
}

/* ---- Sockets that the hub made -------------------------------------------------------- */

/* In ends[0] the accepted one, made by the hub, and in ends[1] its peer. */
static void connect_pair(int ends[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ends[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, length), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &length), 0);
    assert_int_equal(connect(ends[1], (struct sockaddr *)&address, length), 0);
    ends[0] = green_accept(listener, NULL, NULL, SOCK_CLOEXEC);
    assert_true(ends[0] >= 0);
    assert_int_equal(green_close(listener), 0);
}

static void close_pair(const int ends[2])
{
    assert_int_equal(green_close(ends[0]), 0);
    assert_int_equal(close(ends[1]), 0);
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
}

static void *read_around_the_error_queue(void *arg)
{
    int fd = *(int *)arg;
    char byte;
    must(green_read(fd, &byte, 1) == 1);
    must(green_recv(fd, &byte, 1, MSG_ERRQUEUE) == -1 && errno == EAGAIN);
    must(green_read(fd, &byte, 1) == 1);
    return V(byte);
}

TEST(an_empty_error_queue_says_nothing_of_the_data)
{
    int ends[2];
    connect_pair(ends);
    green_task_t *reader = green_task_spawn(read_around_the_error_queue, ends);
    green_sleep(0);
    assert_int_equal(send(ends[1], "ab", 2, 0), 2);
    join_soon(reader, V('b'));
    close_pair(ends);
}

static void *read_over_the_mark(void *arg)
{
    char text[16];
    must(green_read(*(int *)arg, text, sizeof text) == 3);
    must(green_read(*(int *)arg, text, sizeof text) == 2);
    return V(text[1]);
}

TEST(a_read_that_stops_at_urgent_data_is_no_short_one)
{
    int ends[2];
    connect_pair(ends);
    green_task_t *reader = green_task_spawn(read_over_the_mark, ends);
    green_sleep(0);
    assert_int_equal(send(ends[1], "abc", 3, 0), 3);
    assert_int_equal(send(ends[1], "!", 1, MSG_OOB), 1);
    assert_int_equal(send(ends[1], "de", 2, 0), 2);
    join_soon(reader, V('e'));
    close_pair(ends);
}

static void *fill(void *arg)
{
    static char bytes[16 << 20];
    return V(green_write_all(*(int *)arg, bytes, sizeof bytes));
}

static void *drain(void *arg)
{
    static char bytes[1 << 20];
    int64_t moved = 0;
    for (ssize_t n; moved < 16 << 20 && (n = green_read(((int *)arg)[1], bytes, sizeof bytes)) > 0;)
        moved += n;
    return V(moved);
}

static void *poll_for_urgent_data(void *arg)
{
    struct pollfd one = {.fd = *(int *)arg, .events = POLLPRI};
    return V(green_poll(&one, 1, GREEN_FOREVER));
}

/* From fill() to drain(), in at most so much: how long that takes. */
static int64_t move_much(bool with_poller, int64_t most)
{
    int ends[2];
    connect_pair(ends);
    green_task_t *writer = green_task_spawn(fill, ends), *poller = NULL;
    green_sleep(0);
    if (with_poller)
        poller = green_task_spawn(poll_for_urgent_data, ends);
    green_sleep(0);
    int64_t begin = green_now();
    green_task_t *reader = green_task_spawn(drain, ends);
    join_within(writer, V(16 << 20), most);
    join_within(reader, V(16 << 20), most);
    int64_t took = green_now() - begin;
    assert_int_equal(green_task_free(poller), 0);
    close_pair(ends);
    return took;
}

TEST(who_asks_for_urgent_data_takes_nothing_from_who_writes)
{
    int64_t alone = move_much(false, GREEN_FOREVER);
    (void)move_much(true, SOON + 4 * alone);
}

static void *poll_by_other_names(void *arg)
{
    struct pollfd one = {.fd = *(int *)arg, .events = POLLRDNORM};
    return V(green_poll(&one, 1, GREEN_FOREVER) == 1 ? one.revents : 0);
}

TEST(events_have_two_names)
{
    int ends[2];
    connect_pair(ends);
    green_task_t *poller = green_task_spawn(poll_by_other_names, ends);
    green_sleep(0);
    assert_int_equal(send(ends[1], "a", 1, 0), 1);
    join_soon(poller, V(POLLRDNORM));
    close_pair(ends);
}

/* ---- Numbers --------------------------------------------------------------------------- */

struct reused {
    int signal[2], old[2], other[2];
};

/* Woken before the reader, it gives the reader's number to another descriptor. */
static void *use_number_again(void *arg)
{
    struct reused *reused = arg;
    char byte;
    must(green_read(reused->signal[0], &byte, 1) == 1);
    must(green_close(reused->old[0]) == 0);
    must(dup(reused->other[0]) == reused->old[0]);
    return NULL;
}

TEST(who_was_woken_for_a_number_does_not_read_the_next_descriptor_of_it)
{
    struct reused reused;
    struct pollfd left = {.events = POLLIN};
    void *result = NULL;
    assert_int_equal(pipe(reused.signal), 0);
    assert_int_equal(pipe(reused.old), 0);
    assert_int_equal(pipe(reused.other), 0);
    assert_int_equal(write(reused.other[1], "o", 1), 1);
    green_task_t *closer = green_task_spawn(use_number_again, &reused);
    green_task_t *reader = green_task_spawn(read_into, reused.old);
    green_sleep(0);
    assert_int_equal(write(reused.signal[1], "s", 1), 1);
    assert_int_equal(write(reused.old[1], "x", 1), 1);
    join_soon(closer, NULL);
    assert_int_equal(green_task_join(reader, &result, SOON), 0);
    assert_ptr_equal(result, GREEN_FAILED);
    assert_int_equal(errno, EBADF);
    left.fd = reused.other[0];
    assert_int_equal(poll(&left, 1, 0), 1);
    assert_int_equal(green_task_free(reader), 0);
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
    for (int i = 0; i < 2; i++) {
        close(reused.signal[i]);
        close(reused.old[i]);
        close(reused.other[i]);
    }
}

static void *poll_for_in(void *arg)
{
    struct pollfd one = {.fd = ((struct reused *)arg)->old[0], .events = POLLIN};
    must(green_poll(&one, 1, GREEN_FOREVER) == 1);
    return V(one.revents);
}

static void *select_in(void *arg)
{
    green_case_t one = GREEN_CASE_FD(((struct reused *)arg)->old[0], POLLIN);
    must(green_select(&one, 1, GREEN_FOREVER) == 0);
    return V(one.revents);
}

TEST(who_was_woken_to_look_does_not_see_the_next_descriptor_of_a_number)
{
    green_fn *looks[] = {poll_for_in, select_in};
    for (int i = 0; i < 2; i++) {
        struct reused reused;
        assert_int_equal(pipe(reused.signal), 0);
        assert_int_equal(pipe(reused.old), 0);
        assert_int_equal(pipe(reused.other), 0);
        assert_int_equal(write(reused.other[1], "o", 1), 1);
        green_task_t *closer = green_task_spawn(use_number_again, &reused);
        green_task_t *looker = green_task_spawn(looks[i], &reused);
        green_sleep(0);
        assert_int_equal(write(reused.signal[1], "s", 1), 1);
        assert_int_equal(write(reused.old[1], "x", 1), 1);
        join_soon(closer, NULL);
        join_soon(looker, V(POLLNVAL));
        assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
        for (int j = 0; j < 2; j++) {
            close(reused.signal[j]);
            close(reused.old[j]);
            close(reused.other[j]);
        }
    }
}

/* The two whose numbers are polled for, and one to wake who closes them before that. */
struct pair {
    int old[2][2], signal[2], other;
    int first; /* which is closed first */
};

static void *use_both_numbers_again(void *arg)
{
    struct pair *pair = arg;
    char byte;
    must(green_read(pair->signal[0], &byte, 1) == 1);
    for (int i = 0; i < 2; i++) {
        int fd = pair->old[pair->first ^ i][0];
        must(green_close(fd) == 0 && dup2(pair->other, fd) == fd);
    }
    return NULL;
}

static void *poll_for_both(void *arg)
{
    const struct pair *pair = arg;
    struct pollfd fds[] = {{.fd = pair->old[0][0], .events = POLLIN},
                           {.fd = pair->old[1][0], .events = POLLIN}};
    must(green_poll(fds, 2, GREEN_FOREVER) == 2);
    must(fds[0].revents == POLLNVAL && fds[1].revents == POLLNVAL);
    return NULL;
}

TEST(of_two_that_are_closed_before_the_turn_of_who_polls_both_are_reported)
{
    for (int i = 0; i < 4; i++) {
        struct pair pair = {.first = i & 1};
        int other[2];
        assert_int_equal(pipe(pair.signal), 0);
        assert_int_equal(pipe(pair.old[0]), 0);
        assert_int_equal(pipe(pair.old[1]), 0);
        assert_int_equal(pipe(other), 0);
        assert_int_equal(write(other[1], "o", 1), 1);
        pair.other = other[0];
        green_task_t *closer = green_task_spawn(use_both_numbers_again, &pair);
        green_task_t *poller = green_task_spawn(poll_for_both, &pair);
        green_sleep(0);
        assert_int_equal(write(pair.signal[1], "s", 1), 1);
        assert_int_equal(write(pair.old[i >> 1][1], "x", 1), 1);
        join_soon(closer, NULL);
        join_soon(poller, NULL);
        assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
        for (int j = 0; j < 2; j++) {
            close(pair.signal[j]);
            close(pair.old[0][j]);
            close(pair.old[1][j]);
            close(other[j]);
        }
    }
}

/* ---- What epoll does not tell ------------------------------------------------------------ */

static void *note_turn(void *turns)
{
    ++*(int *)turns;
    return NULL;
}

TEST(a_file_that_is_never_ready_for_an_event_is_waited_for)
{
    static const short events[] = {POLLPRI, 0};
    FILE *file = tmpfile();
    assert_non_null(file);
    assert_int_equal(green_hub_init(&(green_hub_options_t){.flags = GREEN_HUB_VIRTUAL_TIME}), 0);
    for (int i = 0; i < 2; i++) {
        int turns = 0;
        green_task_t *other = green_task_spawn(note_turn, &turns);
        struct pollfd polled = {.fd = fileno(file), .events = events[i]};
        green_case_t selected = GREEN_CASE_FD(fileno(file), events[i]);
        assert_int_equal(green_poll(&polled, 1, GREEN_MS(2)), 0);
        assert_int_equal(turns, 1);
        assert_int_equal(green_select(&selected, 1, GREEN_MS(2)), -1);
        assert_int_equal(errno, ETIMEDOUT);
        assert_int_equal(green_poll(&polled, 1, GREEN_FOREVER), -1);
        assert_int_equal(errno, EDEADLK);
        assert_int_equal(green_task_free(other), 0);
    }
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
    fclose(file);
}

TEST(the_end_alone_can_be_polled_for_after_other_waits)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    green_task_t *reader = green_task_spawn(read_into, ends);
    green_sleep(0);
    assert_int_equal(write(ends[1], "x", 1), 1);
    join_soon(reader, V(1));
    struct pollfd one = {.fd = ends[0]};
    assert_int_equal(green_poll(&one, 1, GREEN_MS(1)), 0);
    green_task_t *second = green_task_spawn(read_into, ends);
    green_sleep(0);
    assert_int_equal(close(ends[1]), 0);
    assert_int_equal(green_poll(&one, 1, SOON), 1);
    assert_int_equal(one.revents, POLLHUP);
    join_soon(second, V(0));
    assert_int_equal(green_close(ends[0]), 0);
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
}

/* ---- The pool -------------------------------------------------------------------------- */

static void *read_blocking(void *arg)
{
    char byte;
    return V(read(*(int *)arg, &byte, 1));
}

static void *write_blocking(void *arg)
{
    return V(write(((int *)arg)[1], "x", 1));
}

static void *do_nothing(void *arg)
{
    return arg;
}

static void *offload_read(void *arg)
{
    void *value = NULL;
    return green_offload(read_blocking, arg, &value, NULL) == 0 ? value : GREEN_FAILED;
}

static void *offload_write(void *arg)
{
    void *value = NULL;
    return green_offload(write_blocking, arg, &value, NULL) == 0 ? value : GREEN_FAILED;
}

TEST(a_call_does_not_wait_for_one_that_waits_for_it)
{
    for (int i = 0; i < 20; i++) {
        int ends[2];
        assert_int_equal(pipe(ends), 0);
        /* A thread that is idle, or will be soon. */
        assert_int_equal(green_offload(do_nothing, NULL, NULL, NULL), 0);
        green_task_t *reader = green_task_spawn(offload_read, ends);
        green_task_t *writer = green_task_spawn(offload_write, ends);
        assert_int_equal(green_task_join(reader, NULL, GREEN_FOREVER), 0);
        join_soon(writer, V(1));
        assert_int_equal(green_task_free(reader), 0);
        close(ends[0]);
        close(ends[1]);
    }
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
}

static _Atomic(int) dropped;

static void drop_result(void *value)
{
    must(value == V(1));
    dropped++;
}

static void *offload_and_give_up(void *arg)
{
    void *value = NULL;
    must(green_offload(read_blocking, arg, &value, drop_result) == -1 && errno == ECANCELED);
    return NULL;
}

TEST(a_call_that_ends_between_a_cancel_and_its_turn_is_dropped_once)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    green_group_t *others = green_group_new(0, 0);
    for (int i = 0; i < 50; i++) {
        dropped = 0;
        green_task_t *task = green_task_spawn(offload_and_give_up, ends);
        green_sleep(0);
        for (int j = 0; j < 200; j++) /* so that the hub looks before the task's turn */
            assert_int_equal(green_group_spawn(others, do_nothing, NULL), 0);
        assert_int_equal(green_task_cancel(task), 0);
        assert_int_equal(write(ends[1], "x", 1), 1);
        usleep(i % 2 * 1000); /* in half of them, the call's end has its chance to be first */
        join_soon(task, NULL);
        while (dropped == 0)
            usleep(100);
        assert_int_equal(green_group_wait(others, NULL, GREEN_FOREVER), 0);
        assert_int_equal(dropped, 1);
    }
    assert_int_equal(green_group_free(others), 0);
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
    close(ends[0]);
    close(ends[1]);
}

/* ---- Groups ------------------------------------------------------------------------------ */

struct server {
    int listener;
    green_group_t *group;
    green_event_t *served;
};

static void note_served(int connection, void *arg)
{
    (void)connection;
    must(green_event_set(((struct server *)arg)->served) == 0);
}

static void *serve(void *arg)
{
    struct server *server = arg;
    (void)green_serve(server->listener, server->group, note_served, server);
    return NULL;
}

static void *wait_for_event(void *event)
{
    return V(green_event_wait(event, GREEN_FOREVER));
}

TEST(room_in_a_group_is_not_kept_by_a_server_without_a_connection)
{
    green_event_t go = GREEN_EVENT_INIT, served = GREEN_EVENT_INIT;
    green_group_t *group = green_group_new(1, 0);
    struct server servers[2];
    green_task_t *tasks[2];
    assert_int_equal(green_group_spawn(group, wait_for_event, &go), 0);
    for (int i = 0; i < 2; i++) {
        servers[i] = (struct server){green_tcp_listen("127.0.0.1", "0", 0), group, &served};
        assert_true(servers[i].listener >= 0);
        tasks[i] = green_task_spawn(serve, &servers[i]);
    }
    green_sleep(0);
    assert_int_equal(green_event_set(&go), 0);
    assert_int_equal(green_group_wait(group, NULL, SOON), 0);
    for (int i = 1; i >= 0; i--) { /* the first must not have it alone */
        struct sockaddr_in address;
        socklen_t length = sizeof address;
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(getsockname(servers[i].listener, (struct sockaddr *)&address, &length), 0);
        assert_int_equal(green_event_clear(&served), 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&address, length), 0);
        assert_int_equal(green_event_wait(&served, SOON), 0);
        close(fd);
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(green_task_free(tasks[i]), 0);
        assert_int_equal(green_close(servers[i].listener), 0);
    }
    assert_int_equal(green_group_free(group), 0);
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
}

/* ---- fork -------------------------------------------------------------------------------- */

struct forks {
    green_event_t *event;
    pid_t pid;
};

struct generator {
    green_fn *run;
    void *arg;
    green_t *made;
};

/* The child is to end with _exit(0). */
static void assert_child_is_well(pid_t pid)
{
    int status = -1;
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static bool ran_on;

static void *free_task(void *task)
{
    must(green_task_free(task) == 0);
    ran_on = true;
    return NULL;
}

static void *wait_on(void *arg)
{
    green_scope_t shield;
    must(green_scope_begin(&shield, GREEN_FOREVER, GREEN_SHIELD) == 0);
    must(green_event_wait(arg, GREEN_FOREVER) == 0);
    return NULL;
}

static void *free_group(void *group)
{
    must(green_group_free(group) == 0);
    ran_on = true;
    return NULL;
}

TEST(who_frees_a_task_or_a_group_does_not_go_on_in_a_child)
{
    if (UNDER_TSAN)
        skip_because("ThreadSanitizer knows nothing of fibers in a child");
    ran_on = false;
    green_event_t event = GREEN_EVENT_INIT;
    green_task_t *task = green_task_spawn(wait_on, &event);
    green_group_t *group = green_group_new(0, 0);
    assert_int_equal(green_group_spawn(group, wait_on, &event), 0);
    green_task_t *first = green_task_spawn(free_task, task);
    green_task_t *second = green_task_spawn(free_group, group);
    green_sleep(0);
    green_sleep(0);
    pid_t pid = fork();
    if (pid == 0) {
        must(green_sleep(GREEN_MS(1)) == 0);
        must(!ran_on);
        must(green_task_free(task) == 0 && green_group_free(group) == 0);
        must(green_task_free(first) == 0 && green_task_free(second) == 0);
        must(green_hub_end(GREEN_FOREVER) == 0);
        _exit(0);
    }
    assert_child_is_well(pid);
    assert_int_equal(green_event_set(&event), 0);
    join_soon(first, NULL);
    join_soon(second, NULL);
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
}

static void *spawn_two(void *group)
{
    for (int i = 0; i < 2; i++)
        must(green_group_spawn(group, do_nothing, NULL) == 0);
    return NULL;
}

static void *set_event_and_fork(void *arg)
{
    struct forks *forks = arg;
    must(green_event_set(forks->event) == 0);
    must(green_sleep(0) == 0); /* the task ends, and its place is another's */
    forks->pid = fork();
    return NULL;
}

TEST(a_place_in_a_group_that_was_promised_is_free_in_a_child)
{
    if (UNDER_TSAN)
        skip_because("ThreadSanitizer knows nothing of fibers in a child");
    green_event_t event = GREEN_EVENT_INIT;
    struct forks forks = {&event, -1};
    green_group_t *group = green_group_new(1, 0);
    assert_int_equal(green_group_spawn(group, wait_for_event, &event), 0);
    green_task_t *spawner = green_task_spawn(spawn_two, group);
    green_sleep(0);
    green_task_t *forker = green_task_spawn(set_event_and_fork, &forks);
    assert_int_equal(green_group_wait(group, NULL, SOON), 0);
    if (forks.pid == 0) {
        must(green_group_spawn(group, do_nothing, NULL) == 0);
        must(green_group_free(group) == 0);
        _exit(0);
    }
    assert_child_is_well(forks.pid);
    assert_int_equal(green_task_free(forker), 0);
    assert_int_equal(green_task_free(spawner), 0);
    assert_int_equal(green_group_free(group), 0);
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
}

static void *wait_in_generator(void *event)
{
    (void)green_event_wait(event, GREEN_FOREVER);
    return NULL;
}

static void *yield_in_generator(void *arg)
{
    (void)green_sleep(0);
    return arg;
}

static void *make_and_enter(void *arg)
{
    struct generator *generator = arg;
    generator->made = green_new(generator->run, NULL);
    must(generator->made != NULL);
    (void)green_switch(generator->made, generator->arg);
    return NULL;
}

TEST(a_generator_of_a_task_that_a_child_has_not_can_be_freed)
{
    if (UNDER_TSAN)
        skip_because("ThreadSanitizer knows nothing of fibers in a child");
    green_event_t event = GREEN_EVENT_INIT;
    struct generator generators[] = {{wait_in_generator, &event, NULL}, {yield_in_generator, NULL, NULL}};
    for (int i = 0; i < 2; i++) {
        green_task_t *task = green_task_spawn(make_and_enter, &generators[i]);
        green_sleep(0); /* main's turn is before the generator's next */
        pid_t pid = fork();
        if (pid == 0) {
            must(green_free(generators[i].made) == 0);
            must(green_sleep(GREEN_MS(1)) == 0);
            must(green_event_wait(&event, GREEN_FOREVER) == -1 && errno == EDEADLK);
            _exit(0);
        }
        assert_child_is_well(pid);
        assert_int_equal(green_task_free(task), 0);
        assert_int_equal(green_free(generators[i].made), 0);
    }
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
}

static _Atomic(int) calls_ended;

static void *note_call(void *arg)
{
    calls_ended++;
    return arg;
}

/* Forks between the end of main's call and the hub's look at it. */
static void *fork_after_call(void *pid)
{
    while (calls_ended == 0)
        usleep(100);
    usleep(2000); /* the post may have come */
    *(pid_t *)pid = fork();
    return NULL;
}

TEST(a_child_does_not_look_at_calls_that_ended_before)
{
    if (UNDER_TSAN)
        skip_because("ThreadSanitizer knows nothing of fibers in a child");
    pid_t pid = -1;
    calls_ended = 0;
    green_task_t *forker = green_task_spawn(fork_after_call, &pid);
    int result = green_offload(note_call, NULL, NULL, NULL);
    if (pid == 0) {
        must(result == -1 && errno == ECANCELED);
        overwrite_stack(NULL);
        must(green_sleep(GREEN_MS(1)) == 0);
        _exit(0);
    }
    assert_int_equal(result, 0);
    assert_child_is_well(pid);
    assert_int_equal(green_task_free(forker), 0);
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
}

static int posts_run;

static void *note_post(void *arg)
{
    posts_run++;
    return arg;
}

static void *post_one(void *handle)
{
    must(green_hub_spawn(handle, note_post, NULL) == 0);
    must(green_hub_close(handle) == 0);
    return NULL;
}

TEST(what_was_posted_before_a_fork_runs_in_the_parent_alone)
{
    if (UNDER_TSAN)
        skip_because("ThreadSanitizer knows nothing of fibers in a child");
    posts_run = 0;
    pthread_t thread;
    green_hub_t *handle = green_hub_open();
    assert_int_equal(pthread_create(&thread, NULL, post_one, handle), 0);
    pthread_join(thread, NULL);
    pid_t pid = fork();
    if (pid == 0) {
        must(green_sleep(GREEN_MS(1)) == 0);
        must(posts_run == 0);
        _exit(0);
    }
    assert_child_is_well(pid);
    assert_int_equal(green_sleep(GREEN_MS(1)), 0);
    assert_int_equal(posts_run, 1);
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
}

/* ---- Numbers that are used again behind the hub's back ------------------------------------ */

TEST(a_pipe_with_the_number_of_a_file_is_waited_for_as_a_pipe)
{
    char byte;
    int ends[2];
    void *result = NULL;
    FILE *file = tmpfile();
    assert_non_null(file);
    assert_int_equal(green_write(fileno(file), "x", 1), 1);
    assert_int_equal(green_read(fileno(file), &byte, 1), 0);
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(dup2(ends[0], fileno(file)), fileno(file));
    green_task_t *reader = green_task_spawn(read_into, &(int){fileno(file)});
    green_sleep(0);
    assert_int_equal(green_task_cancel(reader), 0);
    assert_int_equal(green_task_join(reader, &result, SOON), 0);
    assert_ptr_equal(result, GREEN_FAILED);
    assert_int_equal(errno, ECANCELED);
    assert_int_equal(green_task_free(reader), 0);
    assert_int_equal(write(ends[1], "ab", 2), 2);
    char some[8];
    assert_int_equal(green_read(fileno(file), some, sizeof some), 2);
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
    fclose(file);
    close(ends[0]);
    close(ends[1]);
}

static void *read_short(void *arg)
{
    char some[16];
    return V(green_read(*(int *)arg, some, sizeof some));
}

TEST(who_has_waited_once_for_a_number_used_again_does_not_again)
{
    int ends[2], datagrams[2];
    connect_pair(ends);
    green_task_t *reader = green_task_spawn(read_short, ends);
    green_sleep(0);
    assert_int_equal(send(ends[1], "a", 1, 0), 1);
    join_soon(reader, V(1));
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, datagrams), 0);
    assert_int_equal(dup2(datagrams[0], ends[0]), ends[0]);
    for (int i = 1; i <= 3; i++)
        assert_int_equal(send(datagrams[1], "abc", (size_t)i, 0), i);
    reader = green_task_spawn(read_short, ends);
    assert_int_equal(green_task_join(reader, NULL, GREEN_FOREVER), 0); /* up to a second */
    assert_int_equal(green_task_free(reader), 0);
    for (int i = 2; i <= 3; i++)
        join_soon(green_task_spawn(read_short, ends), V(i));
    close(datagrams[0]);
    close(datagrams[1]);
    close_pair(ends);
}

TEST(to_read_nothing_waits_for_nothing)
{
    char byte;
    int ends[2];
    struct iovec parts[2] = {{&byte, 0}, {&byte, 0}};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    GREEN_SCOPE(limit, GREEN_SEC(20), 0);
    assert_int_equal(green_read(ends[0], &byte, 0), 0);
    assert_int_equal(green_readv(ends[0], parts, 2), 0);
    assert_int_equal(green_read_all(ends[0], &byte, 0), 0);
    assert_int_equal(green_scope_end(&limit), 0);
    assert_int_equal(green_close(ends[0]), 0);
    assert_int_equal(green_read(ends[0], &byte, 0), -1);
    assert_int_equal(errno, EBADF);
    assert_int_equal(green_close(ends[1]), 0);
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
}

TEST(a_stream_that_appends_does_so_wherever_the_descriptor_stands)
{
    char text[8] = "";
    FILE *file = tmpfile();
    assert_non_null(file);
    int fd = dup(fileno(file));
    assert_int_equal(pwrite(fd, "abc", 3, 0), 3);
    FILE *stream = green_fdopen(fd, "a");
    assert_non_null(stream);
    assert_true(fputs("d", stream) >= 0);
    assert_int_equal(fclose(stream), 0);
    assert_int_equal(pread(fileno(file), text, sizeof text, 0), 4);
    assert_string_equal(text, "abcd");
    fclose(file);
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
}

/* ---- Tasks that end meanwhile -------------------------------------------------------------- */

static void *fail_until_the_task_has_gone(void *arg)
{
    must(green_sleep(GREEN_SEC(1)) == -1 && errno == ECANCELED);
    must(green_sleep(GREEN_SEC(1)) == -1 && errno == ECANCELED); /* lets others run */
    must(green_task_current() != arg);
    return green_switch(green_main(), V(1));
}

TEST(a_task_may_be_gone_when_a_failing_call_below_it_has_given_turns)
{
    green_options_t detached = {.flags = GREEN_DETACHED};
    struct generator generator = {.run = fail_until_the_task_has_gone};
    green_task_t *task = green_task_spawn_with(make_and_enter, &generator, &detached);
    assert_non_null(task);
    generator.arg = task;
    green_t *green = green_task_green(task);
    assert_int_equal(green_task_cancel(task), 0);
    assert_int_equal(green_sleep(0), 0);
    assert_ptr_equal(green_switch(green, NULL), V(1));
    assert_int_equal(green_free(generator.made), 0);
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
}

/* ---- Threads that are ended in a task -------------------------------------------------------- */

static void *exit_thread(void *arg)
{
    pthread_exit(arg);
}

static void spawn_detached(green_fn *run, void *arg)
{
    green_task_t *task = green_task_spawn(run, arg);
    must(task != NULL && green_task_detach(task) == 0);
}

static _Atomic(int) calls_begun;

static void *note_call_late(void *arg)
{
    calls_begun++;
    usleep(20000); /* in which the thread's frames would be left */
    ++*(volatile int *)arg;
    calls_ended++;
    return arg;
}

static void *exit_thread_in_call(void *arg)
{
    while (calls_begun == 0)
        usleep(100);
    pthread_exit(arg);
}

/* Where the frames of the call were, if these have been left. */
static void expect_own_frame(void *unused)
{
    volatile char bytes[4096];
    (void)unused;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (char)0xa5;
    while (calls_ended == 0)
        usleep(100);
    usleep(1000);
    for (size_t i = 0; i < sizeof bytes; i++)
        must(bytes[i] == (char)0xa5);
}

static void *offload_and_be_ended(void *unused)
{
    pthread_cleanup_push(expect_own_frame, NULL);
    int number = 0;
    spawn_detached(exit_thread_in_call, V(9));
    (void)green_offload(note_call_late, &number, NULL, NULL);
    must(false);
    pthread_cleanup_pop(0);
    return unused;
}

TEST(what_a_call_uses_is_there_until_it_ends)
{
    if (UNDER_TSAN)
        skip_because("ThreadSanitizer dies of pthread_exit() on another stack than the thread's");
    pthread_t thread;
    void *result = NULL;
    calls_begun = calls_ended = 0;
    assert_int_equal(pthread_create(&thread, NULL, offload_and_be_ended, NULL), 0);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_ptr_equal(result, V(9));
}

static void close_both(void *ends)
{
    for (int i = 0; i < 2; i++)
        must(green_close(((int *)ends)[i]) == 0);
}

static void *read_and_be_ended(void *ends)
{
    pthread_cleanup_push(close_both, ends);
    spawn_detached(exit_thread, V(9));
    (void)read_into(ends);
    must(false);
    pthread_cleanup_pop(0);
    return NULL;
}

TEST(a_descriptor_that_was_waited_for_can_be_closed_when_the_thread_ends)
{
    if (UNDER_TSAN)
        skip_because("ThreadSanitizer dies of pthread_exit() on another stack than the thread's");
    int ends[2];
    pthread_t thread;
    void *result = NULL;
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(pthread_create(&thread, NULL, read_and_be_ended, ends), 0);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_ptr_equal(result, V(9));
}

struct left {
    green_event_t event;
    green_task_t *task;
    green_group_t *group, *full;
};

/* Two rounds later than what is spawned before it. */
static void *end_later(void *run)
{
    must(green_sleep(0) == 0 && green_sleep(0) == 0);
    return run != NULL ? (*(green_fn **)run)(V(9)) : NULL;
}

static void *leave_frees(void *arg)
{
    static green_fn *const exits = exit_thread;
    struct left *left = arg;
    left->task = green_task_spawn(wait_on, &left->event);
    left->group = green_group_new(0, 0);
    left->full = green_group_new(1, 0);
    must(green_group_spawn(left->group, wait_on, &left->event) == 0);
    must(green_group_spawn(left->full, end_later, NULL) == 0);
    spawn_detached(free_task, left->task);
    spawn_detached(free_group, left->group);
    spawn_detached(spawn_two, left->full);
    spawn_detached(end_later, (void *)&exits);
    must(green_sleep(GREEN_SEC(1)) == 0);
    return NULL;
}

TEST(what_a_thread_was_freeing_is_still_owed_when_it_has_ended)
{
    if (UNDER_TSAN)
        skip_because("ThreadSanitizer dies of pthread_exit() on another stack than the thread's");
    struct left left = {.event = GREEN_EVENT_INIT};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, leave_frees, &left), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(green_task_free(left.task), 0);
    assert_int_equal(green_group_free(left.group), 0);
    assert_int_equal(green_group_spawn(left.full, do_nothing, NULL), 0);
    assert_int_equal(green_group_free(left.full), 0);
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
}

/* ---- Connections of tasks that run no more ------------------------------------------------ */

static int served_count;
static green_group_t *served_group;

static void wait_in_connection(int connection, void *unused)
{
    char byte;
    (void)unused;
    served_count++;
    (void)green_read(connection, &byte, 1);
}

static void *serve_for_ever(void *listener)
{
    served_group = green_group_new(0, 0);
    (void)green_serve(*(int *)listener, served_group, wait_in_connection, NULL);
    return NULL;
}

static int listen_locally(struct sockaddr_in *address)
{
    socklen_t length = sizeof *address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    must(bind(listener, (struct sockaddr *)address, length) == 0);
    must(listen(listener, 4) == 0 && getsockname(listener, (struct sockaddr *)address, &length) == 0);
    return listener;
}

static int connect_locally(const struct sockaddr_in *address)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(connect(fd, (const struct sockaddr *)address, sizeof *address) == 0);
    return fd;
}

/* Two connections: one that is waited for, and one whose task has not begun. */
static void *serve_and_exit(void *arg)
{
    int *fds = arg; /* the listener, and its peers */
    struct sockaddr_in address;
    fds[0] = listen_locally(&address);
    served_count = 0;
    spawn_detached(serve_for_ever, fds);
    fds[1] = connect_locally(&address);
    while (served_count == 0)
        must(green_sleep(GREEN_MS(1)) == 0);
    fds[2] = connect_locally(&address);
    pthread_exit(NULL);
}

TEST(connections_are_closed_when_their_thread_ends_by_pthread_exit)
{
    if (UNDER_TSAN)
        skip_because("ThreadSanitizer dies of pthread_exit() on another stack than the thread's");
    int fds[3];
    char byte;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, serve_and_exit, fds), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(read(fds[1], &byte, 1), 0);
    assert_int_equal(green_group_free(served_group), 0); /* any thread may now */
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(close(fds[i]), 0);
}

TEST(connections_of_tasks_that_a_child_has_not_are_closed_there)
{
    int listener, fd, status;
    struct sockaddr_in address;
    listener = listen_locally(&address);
    served_count = 0;
    spawn_detached(serve_for_ever, &listener);
    fd = connect_locally(&address);
    while (served_count == 0)
        assert_int_equal(green_sleep(GREEN_MS(1)), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct sockaddr_in peer;
        int open = 0;
        for (int other = 0; other < 64; other++) {
            socklen_t length = sizeof peer;
            open += other != fd && getpeername(other, (struct sockaddr *)&peer, &length) == 0 &&
                    peer.sin_family == AF_INET;
        }
        _exit(open);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(green_group_free(served_group), 0);
    assert_int_equal(green_close(listener), 0);
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
    assert_int_equal(close(fd), 0);
}

/* ---- Attempts to connect ----------------------------------------------------------------- */

static void *read_a_byte(void *arg)
{
    char byte;
    return green_read(*(int *)arg, &byte, 1) == -1 ? V(errno) : V(0);
}

struct attempt {
    int fd;
    struct sockaddr_in address;
};

static void *connect_it(void *arg)
{
    const struct attempt *attempt = arg;
    errno = 0;
    (void)!green_connect(attempt->fd, (const struct sockaddr *)&attempt->address,
                         sizeof attempt->address);
    return V(errno);
}

/* A refusal is told once, by the system, and it may be another call that hears it. */
TEST(who_does_not_hear_of_the_refusal_is_not_connected_either)
{
    enum { FILL = 4 };
    int listener, fill[FILL];
    struct attempt attempt;
    void *results[3];
    green_task_t *tasks[3];
    listener = listen_locally(&attempt.address);
    assert_int_equal(listen(listener, 0), 0);
    for (int i = 0; i < FILL; i++) {
        fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        (void)connect(fill[i], (struct sockaddr *)&attempt.address, sizeof attempt.address);
    }
    attempt.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    tasks[0] = green_task_spawn(connect_it, &attempt);
    tasks[1] = green_task_spawn(read_a_byte, &attempt.fd);
    tasks[2] = green_task_spawn(connect_it, &attempt);
    assert_int_equal(green_sleep(0), 0);
    assert_int_equal(close(listener), 0); /* the next packet of the attempt is refused */
    for (int i = 0; i < 3; i++) {
        assert_int_equal(green_task_join(tasks[i], &results[i], GREEN_FOREVER), 0);
        assert_int_equal(green_task_free(tasks[i]), 0);
    }
    assert_ptr_equal(results[1], V(ECONNREFUSED));
    assert_ptr_equal(results[0], V(ECONNABORTED));
    assert_ptr_equal(results[2], V(ECONNABORTED));
    for (int i = 0; i < FILL; i++)
        assert_int_equal(close(fill[i]), 0);
    assert_int_equal(green_close(attempt.fd), 0);
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
}

/* ---- Servers that are full ----------------------------------------------------------------- */

static void wait_for_the_end(int fd, void *arg)
{
    char byte;
    served_count++;
    (void)!green_read(fd, &byte, 1);
    (void)arg;
}

static void *serve_one_at_a_time(void *arg)
{
    (void)green_serve(*(int *)arg, served_group, wait_for_the_end, NULL);
    return V(errno);
}

/* As who shuts down closes the listener, waits for the server, and then ends the clients. */
TEST(a_server_without_room_hears_that_its_socket_is_closed)
{
    int listener, fd;
    struct sockaddr_in address;
    listener = listen_locally(&address);
    served_count = 0;
    served_group = green_group_new(1, 0);
    green_task_t *server = green_task_spawn(serve_one_at_a_time, &listener);
    fd = connect_locally(&address);
    while (served_count == 0)
        assert_int_equal(green_sleep(GREEN_MS(1)), 0);
    assert_int_equal(green_sleep(0), 0); /* it waits for room */
    assert_int_equal(green_close(listener), 0);
    join_within(server, V(EBADF), GREEN_SEC(10));
    assert_int_equal(green_group_size(served_group), 1);
    assert_int_equal(green_group_free(served_group), 0);
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
    assert_int_equal(close(fd), 0);
}

/* ---- What is no socket ---------------------------------------------------------------------- */

TEST(what_is_no_socket_keeps_its_flags)
{
    int ends[2];
    struct sockaddr_in address = {.sin_family = AF_INET};
    served_group = green_group_new(0, 0);
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(green_accept(ends[0], NULL, NULL, 0), -1);
    assert_int_equal(errno, ENOTSOCK);
    assert_int_equal(green_connect(ends[0], (struct sockaddr *)&address, sizeof address), -1);
    assert_int_equal(errno, ENOTSOCK);
    assert_int_equal(green_serve(ends[0], served_group, wait_for_the_end, NULL), -1);
    assert_int_equal(errno, ENOTSOCK);
    assert_int_equal(fcntl(ends[0], F_GETFL) & O_NONBLOCK, 0);
    assert_int_equal(green_group_free(served_group), 0);
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
    assert_int_equal(close(ends[0]), 0);
    assert_int_equal(close(ends[1]), 0);
}

static long resident_pages(void)
{
    long size = 0, pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    must(file != NULL && fscanf(file, "%ld %ld", &size, &pages) == 2);
    must(fclose(file) == 0);
    return pages;
}

TEST(a_number_without_a_descriptor_costs_no_memory_to_serve)
{
    served_group = green_group_new(0, 0);
    long before = resident_pages();
    assert_int_equal(green_serve(INT_MAX, served_group, wait_for_the_end, NULL), -1);
    assert_int_equal(errno, EBADF);
    assert_true((resident_pages() - before) * sysconf(_SC_PAGESIZE) < 64 << 20);
    assert_int_equal(green_group_free(served_group), 0);
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
}

/* ---- Calls that can never be served -------------------------------------------------------- */

#define assert_fails_at_once(expr, number)                                             \
    do {                                                                               \
        GREEN_SCOPE(limit, GREEN_SEC(5), 0);                                           \
        errno = 0;                                                                     \
        assert_int_equal((expr), -1);                                                  \
        assert_int_equal(errno, number);                                               \
    } while (0)

TEST(a_place_in_what_has_none_is_refused_at_once)
{
    int ends[2], sockets[2];
    char bytes[4];
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), 0);
    for (int i = 0; i < 2; i++) { /* of a number that is known, too, and was read empty */
        assert_fails_at_once(green_pread(ends[0], bytes, 1, 0), ESPIPE);
        assert_fails_at_once(green_pwrite(ends[1], "x", 1, 0), ESPIPE);
        assert_fails_at_once(green_pread(sockets[0], bytes, 1, 0), ESPIPE);
        assert_fails_at_once(green_pwrite(sockets[0], "x", 1, 0), ESPIPE);
        assert_int_equal(green_write(ends[1], "x", 1), 1);
        assert_int_equal(green_read(ends[0], bytes, sizeof bytes), 1);
        assert_int_equal(green_write(sockets[1], "x", 1), 1);
        assert_int_equal(green_read(sockets[0], bytes, sizeof bytes), 1);
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(close(ends[i]), 0);
        assert_int_equal(close(sockets[i]), 0);
    }
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
}

TEST(the_end_of_a_pipe_to_write_to_cannot_be_read)
{
    int ends[2];
    char byte;
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(green_write(ends[1], "x", 1), 1);
    assert_fails_at_once(green_read(ends[1], &byte, 1), EBADF);
    assert_fails_at_once(green_write(ends[0], "x", 1), EBADF);
    assert_int_equal(close(ends[0]), 0);
    assert_int_equal(close(ends[1]), 0);
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
}

/* ---- No bytes at all ------------------------------------------------------------------------ */

TEST(to_move_no_parts_takes_and_sends_no_message)
{
    int ends[2];
    char bytes[4];
    struct iovec none = {bytes, 0};
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends), 0);
    assert_int_equal(green_write(ends[1], "x", 1), 1);
    GREEN_SCOPE(limit, GREEN_SEC(5), 0);
    assert_int_equal(green_readv(ends[0], &none, 0), 0);
    assert_int_equal(green_readv(ends[0], NULL, 0), 0);
    assert_int_equal(green_readv(ends[0], &none, 1), 0);
    assert_int_equal(green_writev(ends[1], &none, 0), 0);
    assert_int_equal(green_writev(ends[1], NULL, 0), 0);
    assert_int_equal(green_writev(ends[1], &none, 1), 0);
    assert_int_equal(green_readv(ends[0], NULL, 1), -1);
    assert_int_equal(errno, EINVAL);
    assert_int_equal(green_writev(-1, NULL, 0), syscall(SYS_writev, -1, NULL, 0ul)); /* qemu: 0 */
    assert_int_equal(green_readv(-1, NULL, 0), -1);
    assert_int_equal(errno, EBADF);
    assert_int_equal(green_recv(ends[0], bytes, sizeof bytes, MSG_DONTWAIT), 1);
    assert_int_equal(green_recv(ends[0], bytes, sizeof bytes, MSG_DONTWAIT), -1);
    assert_int_equal(errno, EAGAIN);
    assert_int_equal(green_readv(ends[0], NULL, 0), 0);
    assert_int_equal(green_scope_end(&limit), 0);
    assert_int_equal(close(ends[0]), 0);
    assert_int_equal(close(ends[1]), 0);
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
}

static void *count_turns(void *arg)
{
    while (green_sleep(0) == 0)
        ++*(int *)arg;
    return NULL;
}

TEST(to_read_nothing_blocks_no_thread_and_keeps_none)
{
    int watch = inotify_init1(IN_CLOEXEC), turns = 0;
    char byte;
    assert_true(watch >= 0);
    green_task_t *other = green_task_spawn(count_turns, &turns);
    for (int i = 0; i < 100; i++)
        assert_int_equal(green_read(watch, &byte, 0), 0);
    assert_true(turns > 0);
    assert_int_equal(green_task_free(other), 0);
    assert_int_equal(close(watch), 0);
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
}

/* ---- All of it ------------------------------------------------------------------------------ */

static ssize_t receive(int fd, char *bytes, size_t size, int flags, bool as_message)
{
    struct iovec part = {bytes, size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    return as_message ? green_recvmsg(fd, &message, flags) : green_recv(fd, bytes, size, flags);
}

TEST(to_wait_for_all_joins_no_messages_and_repeats_no_bytes)
{
    const int types[] = {SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM};
    for (int i = 0; i < 6; i++) {
        int ends[2], type = types[i / 2];
        char bytes[8] = "";
        bool as_message = i % 2 != 0;
        assert_int_equal(socketpair(AF_UNIX, type, 0, ends), 0);
        assert_int_equal(green_write(ends[1], "abc", 3), 3);
        assert_int_equal(receive(ends[0], bytes, 6, MSG_PEEK | MSG_WAITALL, as_message), 3);
        assert_string_equal(bytes, "abc");
        assert_int_equal(green_write(ends[1], "def", 3), 3);
        ssize_t expected = type == SOCK_STREAM ? 6 : 3;
        assert_int_equal(receive(ends[0], bytes, 6, MSG_WAITALL, as_message), expected);
        assert_string_equal(bytes, type == SOCK_STREAM ? "abcdef" : "abc");
        assert_int_equal(close(ends[0]), 0);
        assert_int_equal(close(ends[1]), 0);
    }
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
}

static void *send_with_a_descriptor(void *arg)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct iovec part = {"def", 3};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    struct cmsghdr *one = CMSG_FIRSTHDR(&message);
    int fd = *(int *)arg;
    one->cmsg_level = SOL_SOCKET;
    one->cmsg_type = SCM_RIGHTS;
    one->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(one), &fd, sizeof fd);
    return V(green_sendmsg(fd, &message, 0));
}

TEST(a_descriptor_behind_the_first_of_all_bytes_comes)
{
    int ends[2], got = -1;
    char bytes[16] = "";
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct iovec part = {bytes, 10};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    assert_int_equal(green_write(ends[1], "abc", 3), 3);
    green_task_t *sender = green_task_spawn(send_with_a_descriptor, &ends[1]);
    assert_int_equal(green_recvmsg(ends[0], &message, MSG_WAITALL | MSG_CMSG_CLOEXEC), 6);
    assert_string_equal(bytes, "abcdef");
    struct cmsghdr *one = CMSG_FIRSTHDR(&message);
    assert_non_null(one);
    memcpy(&got, CMSG_DATA(one), sizeof got);
    assert_int_equal(close(got), 0);
    join_soon(sender, V(3));
    assert_int_equal(close(ends[0]), 0);
    assert_int_equal(close(ends[1]), 0);
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
}

/* ---- Data with the attempt ------------------------------------------------------------------- */

static void *accept_and_read(void *arg)
{
    char bytes[4] = "";
    int fd = green_accept(*(int *)arg, NULL, NULL, SOCK_CLOEXEC);
    must(fd >= 0 && green_read_all(fd, bytes, 2) == 2 && strcmp(bytes, "hi") == 0);
    must(green_close(fd) == 0);
    return NULL;
}

TEST(what_is_sent_with_an_attempt_to_connect_is_sent)
{
    struct sockaddr_in address;
    int listener = listen_locally(&address), fd, error;
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    green_task_t *server = green_task_spawn(accept_and_read, &listener);
    ssize_t n = green_sendto(fd, "hi", 2, MSG_FASTOPEN, (struct sockaddr *)&address,
                             sizeof address);
    error = errno;
    if (n == -1 && error == EOPNOTSUPP) {
        print_message("the system does no TCP Fast Open\n");
    } else {
        assert_int_equal(n, 2);
        assert_int_equal(green_task_join(server, NULL, GREEN_FOREVER), 0);
    }
    assert_int_equal(green_task_free(server), 0);
    assert_int_equal(green_close(fd), 0);
    assert_int_equal(green_close(listener), 0);
    /* Where nobody listens. */
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    n = green_sendto(fd, "hi", 2, MSG_FASTOPEN, (struct sockaddr *)&address, sizeof address);
    error = errno;
    assert_int_equal(n, -1);
    assert_true(error == ECONNREFUSED || error == EOPNOTSUPP);
    assert_int_equal(green_close(fd), 0);
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
}

/* ---- One of several, and a descriptor that is not ready after all ---------------------------- */

struct choice {
    int ends[2];
    green_queue_t *queue;
    int item, spins;
    bool stop;
};

static void *choose(void *arg)
{
    struct choice *choice = arg;
    green_case_t cases[] = {
        GREEN_CASE_GET(choice->queue, &choice->item),
        GREEN_CASE_FD(choice->ends[0], POLLIN),
    };
    int chosen = green_select(cases, 2, GREEN_FOREVER);
    choice->stop = true;
    return V(chosen);
}

/* So that the line is never empty: who is woken by the look is behind those in it. */
static void *keep_the_line(void *arg)
{
    struct choice *choice = arg;
    while (!choice->stop)
        must(green_sleep(0) == 0);
    return NULL;
}

/* Between the look that wakes who chooses, and its turn. */
static bool is_woken(const struct choice *choice)
{
    struct pollfd one = {.fd = choice->ends[0], .events = POLLIN};
    green_hub_stats_t stats;
    must(green_hub_stats(&stats, sizeof stats) == 0);
    return stats.ready > 1 && green_poll(&one, 1, GREEN_NOWAIT) == 1;
}

/* Takes the byte before who chooses, and tries to free its queue. */
static void *take_and_free(void *arg)
{
    struct choice *choice = arg;
    char byte;
    must(write(choice->ends[1], "x", 1) == 1);
    while (!is_woken(choice))
        must(green_sleep(0) == 0);
    must(read(choice->ends[0], &byte, 1) == 1);
    must(green_queue_free(choice->queue) == -1 && errno == EBUSY);
    must(green_queue_put(choice->queue, &(int){7}, GREEN_NOWAIT) == 0);
    must(green_queue_free(choice->queue) == 0); /* it has been served */
    return NULL;
}

TEST(who_chooses_waits_for_all_until_its_turn)
{
    struct choice choice = {.queue = green_queue_new(sizeof(int), 1)};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, choice.ends), 0);
    green_task_t *chooser = green_task_spawn(choose, &choice);
    assert_int_equal(green_sleep(0), 0);
    green_task_t *spinner = green_task_spawn(keep_the_line, &choice);
    green_task_t *taker = green_task_spawn(take_and_free, &choice);
    join_within(chooser, V(0), GREEN_SEC(20));
    assert_int_equal(choice.item, 7);
    join_soon(taker, NULL);
    join_soon(spinner, NULL);
    assert_int_equal(close(choice.ends[0]), 0);
    assert_int_equal(close(choice.ends[1]), 0);
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
}

/* ---- Calls that fail again and again --------------------------------------------------------- */

static void *close_in_turn(void *arg)
{
    must(close(*(int *)arg) == 0);
    return NULL;
}

/* Where descriptors are short, they come back only if others run. */
TEST(who_goes_on_calling_what_fails_lets_others_run)
{
    struct sockaddr_in address;
    struct rlimit before, few;
    char byte;
    int listener = listen_locally(&address), fd = connect_locally(&address), last, connection;
    assert_int_equal(green_sleep(1), 0);
    last = dup(listener);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    few = (struct rlimit){.rlim_cur = (rlim_t)last + 1, .rlim_max = before.rlim_max};
    if (!under_valgrind()) /* what is beyond the limit it takes from the system, and closes */
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    green_task_t *other = green_task_spawn(close_in_turn, &last);
    do
        connection = green_accept(listener, NULL, NULL, SOCK_CLOEXEC);
    while (connection < 0 && errno == EMFILE);
    assert_true(connection >= 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    join_soon(other, NULL);

    int turns = 0, before_last = 0;
    green_queue_t *queue = green_queue_new(1, 1);
    assert_int_equal(green_queue_close(queue), 0);
    other = green_task_spawn(count_turns, &turns);
    for (int kind = 0; kind < 5; kind++) {
        static const int errors[] = {EBADF, EPIPE, EISCONN, EPIPE, EPIPE};
        for (int i = 0; i < 100; i++) {
            errno = 0;
            long result = kind == 0   ? green_read(-1, &byte, 1)
                          : kind == 1 ? green_write(listener, "x", 1)
                          : kind == 2 ? green_connect(fd, (struct sockaddr *)&address, sizeof address)
                          : kind == 3 ? green_queue_get(queue, &byte, GREEN_FOREVER)
                                      : green_queue_put(queue, "x", GREEN_FOREVER);
            assert_int_equal(result, -1);
            assert_int_equal(errno, errors[kind]);
        }
        assert_true(turns > before_last);
        before_last = turns;
    }
    assert_int_equal(green_task_free(other), 0);
    assert_int_equal(green_queue_free(queue), 0);
    assert_int_equal(green_close(connection), 0);
    assert_int_equal(green_close(listener), 0);
    assert_int_equal(close(fd), 0);
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
}

/* A call that fails by a shortage, or by what another has ended. */
struct vain {
    int kind, closed;
    green_group_t *cancelled;
    sigset_t signals;
    green_mutex_t mutex, other;
    green_cond_t cond;
};

static long call_in_vain(struct vain *vain)
{
    static struct pollfd fds[64];
    switch (vain->kind) {
    case 0:
        return green_accept(vain->closed, NULL, NULL, 0);
    case 1:
        return green_group_spawn(vain->cancelled, give_back, NULL);
    case 2:
        return green_poll(fds, sizeof fds / sizeof fds[0], GREEN_FOREVER); /* more than may be open */
    case 3:
        return green_sigwait(&vain->signals, GREEN_FOREVER);
    case 4:
        return green_mutex_lock(&vain->mutex, GREEN_FOREVER);
    case 5:
        return green_task_join(green_task_current(), NULL, GREEN_FOREVER);
    case 6:
        return green_cond_wait(&vain->cond, &vain->other, GREEN_FOREVER);
    default:
        return green_select(&(green_case_t)GREEN_CASE_TASK(green_task_current()), 1, GREEN_FOREVER);
    }
}

TEST(who_goes_on_calling_what_is_refused_lets_others_run)
{
    static const int errors[] = {EBADF,   ECANCELED, EINVAL,  EMFILE, EDEADLK,
                                 EDEADLK, EPERM,     EDEADLK};
    struct vain vain = {.cancelled = green_group_new(0, 0), .closed = dup(0)};
    struct rlimit before, few;
    int turns = 0, before_last = 0;
    sigset_t mask;
    assert_int_equal(green_group_cancel(vain.cancelled), 0);
    sigemptyset(&vain.signals);
    sigaddset(&vain.signals, SIGUSR1);
    assert_int_equal(pthread_sigmask(SIG_BLOCK, &vain.signals, &mask), 0);
    assert_int_equal(close(vain.closed), 0);
    assert_int_equal(green_mutex_lock(&vain.mutex, GREEN_FOREVER), 0);
    green_task_t *other = green_task_spawn(count_turns, &turns);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    few = (struct rlimit){.rlim_cur = (rlim_t)vain.closed, .rlim_max = before.rlim_max};
    assert_true(few.rlim_cur < 64);
    for (vain.kind = under_valgrind() ? 1 : 0; vain.kind < 8; vain.kind++) {
        if ((vain.kind == 2 || vain.kind == 3) && under_valgrind()) /* it keeps some for itself */
            continue;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
        for (int i = 0; i < 100; i++) {
            errno = 0;
            long result = call_in_vain(&vain);
            int error = errno;
            assert_int_equal(result, -1);
            assert_int_equal(error, errors[vain.kind]);
        }
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
        assert_true(turns > before_last);
        before_last = turns;
    }
    assert_int_equal(green_task_free(other), 0);
    assert_int_equal(green_group_free(vain.cancelled), 0);
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
    assert_int_equal(pthread_sigmask(SIG_SETMASK, &mask, NULL), 0);
}

static void *close_and_write(void *arg)
{
    int *fds = arg;
    must(close(fds[2]) == 0 && close(fds[3]) == 0);
    must(write(fds[1], "x", 1) == 1);
    return NULL;
}

/* The first wait for a descriptor wants two more, for epoll. */
TEST(who_goes_on_calling_what_cannot_wait_lets_others_run)
{
    struct rlimit before, few;
    int fds[4];
    char byte;
    ssize_t n;
    assert_int_equal(pipe(fds), 0);
    fds[2] = dup(fds[0]);
    fds[3] = dup(fds[0]);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    few = (struct rlimit){.rlim_cur = (rlim_t)fds[3] + 1, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    for (int kind = 0; kind < 3; kind++) {
        struct pollfd one = {.fd = fds[0], .events = POLLIN};
        green_case_t cases[] = {GREEN_CASE_FD(fds[0], POLLIN)};
        green_task_t *other = green_task_spawn(close_and_write, fds);
        do
            n = kind == 0   ? green_read(fds[0], &byte, 1)
                : kind == 1 ? green_poll(&one, 1, GREEN_FOREVER)
                            : green_select(cases, 1, GREEN_FOREVER) + 1;
        while (n <= 0);
        assert_int_equal(n, 1);
        if (kind != 0)
            assert_int_equal(green_read(fds[0], &byte, 1), 1);
        join_soon(other, NULL);
        assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
        fds[2] = dup(fds[0]);
        fds[3] = dup(fds[0]);
    }
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(close(fds[i]), 0);
}

/* ---- Messages that nobody takes -------------------------------------------------------------- */

static void *receive_for_ever(void *arg)
{
    char byte;
    return V(green_recv(*(int *)arg, &byte, 1, 0));
}

TEST(an_error_queue_that_is_not_read_does_not_keep_the_hub_awake)
{
    const int on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}}, own;
    socklen_t length = sizeof address;
    char byte;
    int nobody = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(nobody, (struct sockaddr *)&address, length), 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, length), 0);
    assert_int_equal(getsockname(nobody, (struct sockaddr *)&address, &length), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&own, &length), 0);
    assert_int_equal(close(nobody), 0);
    assert_int_equal(setsockopt(fd, IPPROTO_IP, IP_RECVERR, &on, sizeof on), 0);
    assert_int_equal(sendto(fd, "x", 1, 0, (struct sockaddr *)&address, length), 1);
    assert_int_equal(green_recv(fd, &byte, 1, 0), -1);
    assert_int_equal(errno, ECONNREFUSED); /* why is in the queue */

    green_hub_stats_t before, after;
    green_task_t *receiver = green_task_spawn(receive_for_ever, &fd);
    assert_int_equal(green_sleep(0), 0);
    assert_int_equal(green_hub_stats(&before, sizeof before), 0);
    assert_int_equal(green_sleep(GREEN_MS(200)), 0);
    assert_int_equal(green_hub_stats(&after, sizeof after), 0);
    assert_true(after.polls - before.polls < 100);
    assert_int_equal(sendto(fd, "x", 1, 0, (struct sockaddr *)&own, length), 1);
    join_within(receiver, V(1), GREEN_SEC(20));
    assert_int_equal(close(fd), 0);
    assert_int_equal(green_hub_end(GREEN_FOREVER), 0);
}

int main(void)
{
    if (under_helgrind()) {
        puts("skipped: to Helgrind what atomic operations order is a race; ThreadSanitizer runs it");
        return 77;
    }
    return run_all_tests();
}
