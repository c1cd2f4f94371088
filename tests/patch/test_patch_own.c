/* SPDX-License-Identifier: MIT */
/*
 * What libgreen itself asks of libc does not come to the patch, although it has the same
 * names: its calls are made directly here, and the patch enters none.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <green_patch.h>

#include "hubs.h"

enum { EVERYTHING = GREEN_PATCH_WAIT | GREEN_PATCH_IO | GREEN_PATCH_NAMES | GREEN_PATCH_LOCKS |
                    GREEN_PATCH_PROCESSES,
       MUCH = 1 << 20 };

/* ---- How many calls the patch has entered: the linker puts this before its function ------ */

bool __real_green__patch_enter_slowly(unsigned what);
bool __wrap_green__patch_enter_slowly(unsigned what);

static _Atomic(int) entered;

bool __wrap_green__patch_enter_slowly(unsigned what)
{
    bool result = __real_green__patch_enter_slowly(what);
    entered += result;
    return result;
}

static int begin(void **state)
{
    if (hubs_begin_world(state) != 0)
        return -1;
    must_be_0(green_patch(EVERYTHING));
    entered = 0;
    return 0;
}

static int end(void **state)
{
    must_be_0(green_hub_end(GREEN_FOREVER));
    assert_int_equal(entered, 0);
    must(green_patch(0) == EVERYTHING);
    return hubs_end(state);
}

#define OWN_TEST(sentence) TEST_WITH(sentence, begin, end)

/* ---- Both ends of something, in blocking mode ------------------------------------------- */

struct ends {
    int in, out;
};

static struct ends make_pipe(void)
{
    int fds[2];
    must_be_0(pipe2(fds, O_CLOEXEC));
    return (struct ends){fds[0], fds[1]};
}

static struct ends make_socket(void)
{
    int fds[2];
    must_be_0(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
    return (struct ends){fds[0], fds[1]};
}

static void close_ends(struct ends ends)
{
    must_be_0(green_close(ends.in));
    must_be_0(green_close(ends.out));
}

static void *write_much(void *fd)
{
    static const char much[MUCH];
    must(green_write_all((int)(intptr_t)fd, much, MUCH) == MUCH);
    return NULL;
}

static void move_much(struct ends ends)
{
    static char buffer[MUCH];
    struct iovec parts[2] = {{buffer, 1000}, {buffer + 1000, MUCH - 1000}};
    green_task_t *task = spawn(write_much, V(ends.out));
    size_t got = 0;
    while (got < MUCH / 2) {
        ssize_t n = green_readv(ends.in, parts, 2);
        must(n > 0);
        got += (size_t)n;
    }
    while (got < MUCH) {
        ssize_t n = green_read(ends.in, buffer, MUCH - got);
        must(n > 0);
        got += (size_t)n;
    }
    finish(task);
    close_ends(ends);
}

/* ---- The patch sees what it is to see --------------------------------------------------- */

HUB_TEST(what_the_program_asks_of_libc_comes_to_the_patch)
{
    char byte = 'a';
    struct ends ends = make_pipe();
    must_be_0(green_patch(GREEN_PATCH_IO));
    entered = 0;
    must(write(ends.out, &byte, 1) == 1 && read(ends.in, &byte, 1) == 1);
    assert_int_equal(entered, 2);
    must(green_patch(0) == GREEN_PATCH_IO);
    close_ends(ends);
}

/* ---- And no more ---------------------------------------------------------------------- */

OWN_TEST(reads_and_writes_are_libgreens_own)
{
    move_much(make_pipe());
    move_much(make_socket());
}

OWN_TEST(so_is_what_is_read_and_written_of_files)
{
    char name[] = "/tmp/green.own.XXXXXX", word[6] = "";
    int fd = mkstemp(name);
    must(fd >= 0 && unlink(name) == 0);
    must(green_write_all(fd, "hello", 5) == 5);
    must(lseek(fd, 0, SEEK_SET) == 0);
    must(green_read_all(fd, word, 5) == 5);
    assert_string_equal(word, "hello");
    must_be_0(green_close(fd));
}

OWN_TEST(so_are_messages)
{
    char word[16] = "";
    struct ends ends = make_socket();
    struct iovec part = {word, sizeof word};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    must(green_send(ends.out, "hello", 6, 0) == 6);
    must(green_recvmsg(ends.in, &message, 0) == 6);
    must(green_sendmsg(ends.in, &message, 0) == sizeof word);
    must(green_recv(ends.out, word, sizeof word, 0) == sizeof word);
    assert_string_equal(word, "hello");
    close_ends(ends);
}

static void *connect_to(void *address)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(fd >= 0);
    must_be_0(green_connect(fd, address, sizeof(struct sockaddr_in)));
    must_be_0(green_close(fd));
    return NULL;
}

OWN_TEST(so_are_connections)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(listener >= 0 && bind(listener, (struct sockaddr *)&address, sizeof address) == 0);
    must_be_0(getsockname(listener, (struct sockaddr *)&address, &length));
    must_be_0(listen(listener, 4));
    green_task_t *task = spawn(connect_to, &address);
    int fd = green_accept(listener, NULL, NULL, SOCK_CLOEXEC);
    must(fd >= 0);
    finish(task);
    must_be_0(green_close(fd));
    must_be_0(green_close(listener));
}

static void *poll_for_byte(void *fd)
{
    struct pollfd one = {.fd = (int)(intptr_t)fd, .events = POLLIN};
    must(green_poll(&one, 1, GREEN_FOREVER) == 1);
    return NULL;
}

OWN_TEST(so_are_waits_and_the_hubs_sleep)
{
    struct ends ends = make_pipe();
    green_task_t *task = spawn(poll_for_byte, V(ends.in));
    nap(2);
    must(green_write(ends.out, "a", 1) == 1);
    finish(task);
    close_ends(ends);
    must(green_hub_run(GREEN_MS(2)) >= 0); /* in main, with a descriptor and without */
}

OWN_TEST(the_hub_sleeps_for_main_with_descriptors_too)
{
    struct ends ends = make_pipe();
    green_task_t *task = spawn(poll_for_byte, V(ends.in));
    turn();
    must(green_hub_run(GREEN_MS(2)) >= 0);
    must(green_hub_run(0) >= 0);
    must(green_write(ends.out, "a", 1) == 1);
    finish(task);
    close_ends(ends);
}

OWN_TEST(so_are_children)
{
    int status = -1;
    pid_t child = fork();
    must(child >= 0);
    if (child == 0)
        _exit(3);
    must(green_waitpid(child, &status, 0) == child);
    assert_int_equal(WEXITSTATUS(status), 3);
}

OWN_TEST(so_are_names_and_the_pool)
{
    struct addrinfo *list = NULL;
    void *value = NULL;
    assert_int_equal(green_getaddrinfo("127.0.0.1", "80", NULL, &list), 0);
    freeaddrinfo(list);
    must_be_0(green_offload(give_back, V(7), &value, NULL));
    assert_ptr_equal(value, V(7));
}

static void *drain(void *fd)
{
    char room[4096];
    while (read((int)(intptr_t)fd, room, sizeof room) > 0) /* in a thread without a hub */
        continue;
    return NULL;
}

static void *count_turns(void *turns)
{
    while (green_sleep(0) == 0)
        ++*(int *)turns;
    return NULL;
}

/* No task ends while they are listed, although there is no room for the list in the pipe. */
OWN_TEST(a_report_is_written_with_no_turn_in_between)
{
    enum { TASKS = 300 };
    static int turns[TASKS];
    green_task_t *tasks[TASKS];
    struct ends ends = make_pipe();
    pthread_t reader;
    for (int i = 0; i < TASKS; i++)
        tasks[i] = spawn(count_turns, &turns[i]);
    turn();
    int before = turns[0];
    must(fcntl(ends.out, F_SETPIPE_SZ, 4096) == 4096);
    must_be_0(pthread_create(&reader, NULL, drain, V(ends.in)));
    must_be_0(green_hub_dump(ends.out));
    must_be_0(green_dump(ends.out));
    assert_int_equal(turns[0], before);
    must_be_0(green_close(ends.out));
    must(green_patch(0) == EVERYTHING); /* to wait for a thread is the program's */
    must_be_0(pthread_join(reader, NULL));
    must(green_patch(EVERYTHING) == 0);
    must_be_0(green_close(ends.in));
    for (int i = 0; i < TASKS; i++) {
        must_be_0(green_task_cancel(tasks[i]));
        finish(tasks[i]);
    }
}

/* ---- Locks that another thread holds ---------------------------------------------------- */

static void *offload_one(void *unused)
{
    must_be_0(green_offload(give_back, unused, NULL, NULL));
    return NULL;
}

/* Takes each lock of the library, many times: of arenas, keys, hubs and the pool. */
static void take_locks(int rounds)
{
    const green_options_t odd = {.stack_size = 200000};
    for (int i = 0; i < rounds; i++) {
        green_key_t key;
        must_be_0(green_key_create(&key, NULL));
        must_be_0(green_key_delete(key));
        green_task_t *task = green_task_spawn_with(offload_one, NULL, &odd);
        must(task != NULL);
        finish(task);
        (void)green_trim(0);
    }
}

static void *take_locks_in_thread(void *rounds)
{
    take_locks((int)(intptr_t)rounds);
    must_be_0(green_hub_end(GREEN_FOREVER));
    return NULL;
}

OWN_TEST(locks_are_libgreens_own)
{
    pthread_t threads[3];
    int rounds = times(500, 20);
    for (int i = 0; i < 3; i++)
        must_be_0(pthread_create(&threads[i], NULL, take_locks_in_thread, V(rounds)));
    take_locks(rounds);
    must(green_patch(0) == EVERYTHING); /* to wait for threads is the program's */
    for (int i = 0; i < 3; i++)
        must_be_0(pthread_join(threads[i], NULL));
    must(green_patch(EVERYTHING) == 0);
}

int main(void)
{
    return run_all_tests();
}
