/* SPDX-License-Identifier: MIT */
/*
 * Programs of distributions are built with _FORTIFY_SOURCE: where the compiler knows the room
 * but not the size, these call __read_chk() and the like.  So is this file.
 */
#include "patched.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#ifdef __clang__ /* leaves them out where it does not know the size: they are called by name */
ssize_t __read_chk(int, void *, size_t, size_t);
ssize_t __recv_chk(int, void *, size_t, size_t, int);
ssize_t __recvfrom_chk(int, void *, size_t, size_t, int, struct sockaddr *, socklen_t *);
int __poll_chk(struct pollfd *, nfds_t, int, size_t);
int __ppoll_chk(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *, size_t);
#define read(fd, to, n) __read_chk(fd, to, n, 8)
#define recv(fd, to, n, flags) __recv_chk(fd, to, n, 8, flags)
#define recvfrom(fd, to, n, flags, from, length) __recvfrom_chk(fd, to, n, 8, flags, from, length)
#define poll(fds, n, time) __poll_chk(fds, n, time, 8 * sizeof(struct pollfd))
#define ppoll(fds, n, time, mask) __ppoll_chk(fds, n, time, mask, 8 * sizeof(struct pollfd))
#endif

static int pair[2];
static volatile size_t size = 8, too_much = 9; /* the compiler does not know */
static char room[8];

static int begin(void **state)
{
    return patched_begin(state) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 ? 0 : -1;
}

static int end(void **state)
{
    must_be_0(close(pair[0]) | close(pair[1]));
    return patched_end(state);
}

#define CHK_TEST(sentence) TEST_WITH(sentence, begin, end)

static ssize_t call_read(size_t n)
{
    char own[8];
    ssize_t result = read(pair[0], own, n);
    memcpy(room, own, sizeof own);
    return result;
}

static ssize_t call_recv(size_t n)
{
    char own[8];
    ssize_t result = recv(pair[0], own, n, 0);
    memcpy(room, own, sizeof own);
    return result;
}

static ssize_t call_recvfrom(size_t n)
{
    char own[8];
    ssize_t result = recvfrom(pair[0], own, n, 0, NULL, NULL);
    memcpy(room, own, sizeof own);
    return result;
}

static ssize_t call_poll(size_t n)
{
    struct pollfd fds[8] = {{.fd = pair[0], .events = POLLIN}};
    for (int i = 1; i < 8; i++)
        fds[i].fd = -1;
    ssize_t result = poll(fds, (nfds_t)n, -1);
    if (result == 1)
        must(recv(pair[0], room, 8, 0) == 4);
    return result == 1 ? 4 : result;
}

static ssize_t call_ppoll(size_t n)
{
    struct pollfd fds[8] = {{.fd = pair[0], .events = POLLIN}};
    const struct timespec time = {10000, 0};
    for (int i = 1; i < 8; i++)
        fds[i].fd = -1;
    ssize_t result = ppoll(fds, (nfds_t)n, &time, NULL);
    if (result == 1)
        must(recv(pair[0], room, 8, 0) == 4);
    return result == 1 ? 4 : result;
}

typedef ssize_t chk_fn(size_t n);
static chk_fn *const fns[] = {call_read, call_recv, call_recvfrom, call_poll, call_ppoll};

#define MAKE(name)                                       \
    static int make_##name(void)                         \
    {                                                    \
        return call_##name(size) < 0 ? errno : 0;        \
    }
MAKE(read)
MAKE(recv)
MAKE(recvfrom)
MAKE(poll)
MAKE(ppoll)

static const struct call calls[] = {CALL(read), CALL(recv), CALL(recvfrom), CALL(poll), CALL(ppoll)};

static void *writes_word(void *unused)
{
    (void)unused;
    nap(1000);
    must(write(pair[1], "word", 4) == 4);
    return NULL;
}

CHK_TEST(each_waits_as_a_task)
{
    for (size_t i = 0; i < COUNT(fns); i++) {
        memset(room, 0, sizeof room);
        green_task_t *task = spawn(writes_word, NULL);
        assert_int_equal(fns[i](size), 4);
        assert_memory_equal(room, "word", 4);
        finish(task);
    }
    assert_int_equal(clock_ms(), 5000);
}

CHK_TEST(a_cancel_ends_each_and_so_does_a_scope)
{
    assert_cancel_ends(calls, COUNT(calls));
    assert_scope_ends(calls, COUNT(calls));
}

static int patch_it; /* in the child */

static int overflows(void *which)
{
    must_be_0(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    must_be_0(green_patch(patch_it ? PATCHED : 0));
    turn();
    must(write(pair[1], "much more", 9) == 9);
    (*(chk_fn *const *)which)(too_much);
    return 0;
}

/* That it dies shows, too, that these are the calls that the compiler has made. */
TEST(who_has_no_room_dies_of_it_as_without_the_patch)
{
    if (SANITIZED)
        skip_because("a sanitizer has something to say before");
    for (size_t i = 0; i < COUNT(fns); i++)
        for (patch_it = 0; patch_it < 2; patch_it++) {
            struct child child = run_child(overflows, (void *)(uintptr_t)&fns[i]);
            assert_true(WIFSIGNALED(child.status));
            assert_int_equal(WTERMSIG(child.status), SIGABRT);
            assert_non_null(strstr(child.err, "buffer overflow detected"));
        }
}

int main(void)
{
    return run_all_tests();
}
