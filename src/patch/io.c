/* SPDX-License-Identifier: MIT */
/*
 * Reads and writes, connections, closing: as blocking descriptors do, by the calls of
 * green_hub.h, which ask without blocking whatever the descriptor's mode is.  So the
 * mode is the program's own all the time, but for the one call of connect() and accept().
 *
 * A call of these is a task's if its descriptor is in blocking mode and a socket, a pipe, a
 * terminal, or what the system makes by eventfd() and the like.
 *
 * A socket's own time limit, SO_RCVTIMEO or SO_SNDTIMEO, is asked for when the call has to
 * wait.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/single_threaded.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "patch/patch.h"

_Noreturn void __chk_fail(void);

/* ---- What a descriptor is ----------------------------------------------------------------- */

enum kind { NOT_OURS, SOCKET, TERMINAL, PIPE, EVENTS };

/*
 * Odd while a thread has set O_NONBLOCK for one call: one thread at a time, so that none
 * takes another's for the program's.
 */
unsigned green__modes;
static _Thread_local volatile bool changes_mode __attribute__((tls_model("initial-exec")));

/* Its flags, as the program has set them, or -1; but in a handler of who changes them. */
static long mode_of(int fd)
{
    for (;;) {
        unsigned before = __atomic_load_n(&green__modes, __ATOMIC_ACQUIRE);
        long flags = syscall(SYS_fcntl, fd, F_GETFL);
        if (flags < 0 || (flags & O_NONBLOCK) == 0 || changes_mode ||
            (before % 2 == 0 && __atomic_load_n(&green__modes, __ATOMIC_ACQUIRE) == before))
            return flags;
        sched_yield();
    }
}

/*
 * In blocking mode, and what can make its caller wait.  It is asked before libgreen is: so a
 * signal handler may write to what is not, whatever it has interrupted.
 */
static enum kind kind_of(int fd)
{
    struct stat about;
    int error = errno;
    long flags = mode_of(fd);
    enum kind kind = NOT_OURS;
    if (flags >= 0 && (flags & O_NONBLOCK) == 0 && fstat(fd, &about) == 0) {
        if (S_ISSOCK(about.st_mode))
            kind = SOCKET;
        else if (S_ISFIFO(about.st_mode))
            kind = PIPE;
        else if ((about.st_mode & S_IFMT) == 0)
            kind = EVENTS;
        else if (S_ISCHR(about.st_mode) && isatty(fd))
            kind = TERMINAL;
    }
    errno = error;
    return kind;
}

/* ---- Limits of sockets --------------------------------------------------------------------- */

/* The time that a socket gives a call, from when it first has to wait. */
struct limit {
    green_scope_t scope;
    bool begun, has_scope;
};

static void begin_limit(struct limit *limit, int fd, int option)
{
    struct timeval time = {0, 0};
    socklen_t length = sizeof time;
    if (limit->begun)
        return;
    limit->begun = true;
    if (getsockopt(fd, SOL_SOCKET, option, &time, &length) == 0 &&
        (time.tv_sec != 0 || time.tv_usec != 0))
        limit->has_scope = green_scope_begin(&limit->scope, GREEN_SEC(time.tv_sec) +
                                                                GREEN_US(time.tv_usec), 0) == 0;
}

/* Whether it was this limit that made the last call fail: then that is EAGAIN, say. */
static bool end_limit(struct limit *limit)
{
    return limit->has_scope && green_scope_end(&limit->scope) == 1 && errno == ETIMEDOUT;
}

/* ---- Moving --------------------------------------------------------------------------------- */

struct move {
    int fd;
    bool out, all; /* all: goes on until everything is moved */
    enum kind kind;
    int flags;
    struct msghdr *message; /* what is moved; of which in and out are set */
    struct limit limit;
};

static size_t size_of_parts(const struct iovec *parts, size_t n)
{
    size_t size = 0;
    for (size_t i = 0; i < n; i++)
        size += parts[i].iov_len;
    return size;
}

static void unlock_modes(void)
{
    __atomic_add_fetch(&green__modes, 1, __ATOMIC_RELEASE);
    changes_mode = false;
}

/* For one call that shall not block: what is to be restored, or -1. */
static long begin_nonblocking(int fd)
{
    unsigned even = __atomic_load_n(&green__modes, __ATOMIC_RELAXED) & ~1u;
    changes_mode = true;
    while (!__atomic_compare_exchange_n(&green__modes, &even, even + 1, false, __ATOMIC_SEQ_CST,
                                        __ATOMIC_RELAXED)) {
        even &= ~1u;
        sched_yield();
    }
    long flags = syscall(SYS_fcntl, fd, F_GETFL);
    if (flags >= 0 && syscall(SYS_fcntl, fd, F_SETFL, flags | O_NONBLOCK) == 0)
        return flags;
    unlock_modes();
    return -1;
}

static void end_nonblocking(int fd, long flags)
{
    int error = errno;
    (void)syscall(SYS_fcntl, fd, F_SETFL, flags);
    unlock_modes();
    errno = error;
}

/*
 * A terminal that is ready may have room for less than is written, and blocks then.  It is
 * shared with other processes: so it is opened once more for a mode of its own, but for
 * the master's side, of which that would make another.
 */
static ssize_t write_terminal(int fd, const struct iovec *parts, int n)
{
    char path[32];
    struct pollfd one = {.fd = fd, .events = POLLOUT};
    ssize_t written = -1;
    unsigned number;
    bool master = syscall(SYS_ioctl, fd, TIOCGPTN, &number) == 0;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int own = master ? fd : open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (own < 0)
        return green_writev(fd, parts, n);
    while (green_poll(&one, 1, GREEN_FOREVER) >= 0) {
        errno = EBADF;
        if ((one.revents & POLLNVAL) != 0)
            break;
        long flags = master ? begin_nonblocking(fd) : 0;
        if (flags < 0)
            break;
        written = syscall(SYS_writev, own, parts, n);
        if (master)
            end_nonblocking(fd, flags);
        if (written >= 0 || (errno != EAGAIN && errno != EINTR) || green_sleep(GREEN_MS(1)) != 0)
            break;
    }
    int error = errno;
    if (!master)
        (void)syscall(SYS_close, own);
    errno = error;
    return written;
}

/* One that is asked for whatever there is, within its own time: 0 if that is over. */
static ssize_t read_terminal(int fd, const struct iovec *parts, int n)
{
    struct termios mode;
    struct pollfd one = {.fd = fd, .events = POLLIN};
    if (tcgetattr(fd, &mode) == 0 && (mode.c_lflag & ICANON) == 0 && mode.c_cc[VMIN] == 0) {
        int ready = green_poll(&one, 1, GREEN_MS(100) * mode.c_cc[VTIME]);
        if (ready <= 0)
            return ready;
    }
    return green_readv(fd, parts, n);
}

/* Some of a message. */
static ssize_t move_some(struct move *m, struct msghdr *message)
{
    if (m->kind == TERMINAL)
        return m->out ? write_terminal(m->fd, message->msg_iov, (int)message->msg_iovlen)
                      : read_terminal(m->fd, message->msg_iov, (int)message->msg_iovlen);
    if (m->kind == PIPE || m->kind == EVENTS)
        return m->out ? green_writev(m->fd, message->msg_iov, (int)message->msg_iovlen)
                      : green_readv(m->fd, message->msg_iov, (int)message->msg_iovlen);
    if (!m->limit.begun) {
        ssize_t n = m->out ? green_sendmsg(m->fd, message, m->flags | MSG_DONTWAIT)
                           : green_recvmsg(m->fd, message, m->flags | MSG_DONTWAIT);
        bool connects = n < 0 && m->out && errno == EINPROGRESS; /* as with MSG_FASTOPEN */
        if (n >= 0 || (errno != EAGAIN && !connects))
            return n;
        begin_limit(&m->limit, m->fd, m->out ? SO_SNDTIMEO : SO_RCVTIMEO);
        struct pollfd one = {.fd = m->fd, .events = POLLOUT};
        if (connects && green_poll(&one, 1, GREEN_FOREVER) < 0)
            return -1;
    }
    return m->out ? green_sendmsg(m->fd, message, m->flags)
                  : green_recvmsg(m->fd, message, m->flags);
}

/* Behind what came with descriptors the system ends a message, whatever MSG_WAITALL says. */
static bool has_descriptors(struct msghdr *message)
{
    for (struct cmsghdr *one = CMSG_FIRSTHDR(message); one != NULL; one = CMSG_NXTHDR(message, one))
        if (one->cmsg_level == SOL_SOCKET && one->cmsg_type == SCM_RIGHTS)
            return true;
    return false;
}

/*
 * All of it, part by part where one was moved only partly.  What comes beside the bytes is
 * that of the last part, as the system has it.
 */
static ssize_t move_message(struct move *m)
{
    size_t room = m->message->msg_controllen;
    ssize_t moved = move_some(m, m->message);
    size_t whole = size_of_parts(m->message->msg_iov, m->message->msg_iovlen);
    if (moved <= 0 || !m->all || (size_t)moved >= whole)
        return moved;
    m->flags &= ~MSG_FASTOPEN; /* that is done */
    struct msghdr rest = {.msg_name = m->out ? m->message->msg_name : NULL,
                          .msg_namelen = m->out ? m->message->msg_namelen : 0};
    while ((size_t)moved < whole && (m->out || !has_descriptors(m->message))) {
        const struct iovec *parts = m->message->msg_iov;
        size_t skip = (size_t)moved, i = 0;
        while (skip >= parts[i].iov_len)
            skip -= parts[i++].iov_len;
        struct iovec one = {(char *)parts[i].iov_base + skip, parts[i].iov_len - skip};
        rest.msg_iov = &one;
        rest.msg_iovlen = 1;
        if (skip == 0) {
            rest.msg_iov = m->message->msg_iov + i;
            rest.msg_iovlen = m->message->msg_iovlen - i;
        }
        if (!m->out) {
            rest.msg_control = m->message->msg_control;
            rest.msg_controllen = room;
        }
        ssize_t n = move_some(m, &rest);
        if (n <= 0)
            break;
        moved += n;
        if (!m->out) {
            m->message->msg_controllen = rest.msg_controllen;
            m->message->msg_flags |= rest.msg_flags & (MSG_TRUNC | MSG_EOR | MSG_CTRUNC);
        }
    }
    return moved;
}

/*
 * Looks until all is there, or the stream, the limit or the wait ends.  That there is
 * something is no news, so it is asked again and again.
 */
static ssize_t peek_all(struct move *m)
{
    size_t whole = size_of_parts(m->message->msg_iov, m->message->msg_iovlen);
    struct pollfd end = {.fd = m->fd, .events = POLLRDHUP};
    const struct msghdr asked = *m->message;
    for (int64_t pause = GREEN_MS(1);; pause = pause < GREEN_MS(32) ? 2 * pause : pause) {
        *m->message = asked;
        ssize_t n = move_some(m, m->message);
        if (n <= 0 || (size_t)n >= whole)
            return n;
        begin_limit(&m->limit, m->fd, SO_RCVTIMEO);
        if (green_poll(&end, 1, pause) != 0)
            return n;
    }
}

static bool is_stream(int fd)
{
    int type = 0;
    socklen_t length = sizeof type;
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) == 0 && type == SOCK_STREAM;
}

/* As a task that has entered; leaves.  False: it is to be the real call's. */
static bool move_as_task(struct move *m, ssize_t *result)
{
    int error = errno;
    if (m->kind == SOCKET && (m->out || (m->flags & MSG_WAITALL) != 0))
        m->all = is_stream(m->fd);
    else
        m->all = m->out && m->kind != EVENTS;
    m->flags &= ~MSG_WAITALL; /* of datagrams it means nothing */
    *result = m->all && !m->out && (m->flags & MSG_PEEK) != 0 ? peek_all(m) : move_message(m);
    if (*result >= 0)
        errno = error;
    if (end_limit(&m->limit) && *result < 0)
        errno = EAGAIN;
    bool breaks = *result < 0 && errno == EPIPE && m->out && m->kind == SOCKET &&
                  (m->flags & MSG_NOSIGNAL) == 0 && is_stream(m->fd);
    if (*result < 0 && breaks)
        errno = EPIPE;
    green__patch_leave();
    if (breaks) {
        (void)pthread_kill(pthread_self(), SIGPIPE);
        errno = EPIPE;
    }
    return *result >= 0 || errno != EDEADLK;
}

/* read() and the like; of nothing they do not wait. */
static bool move_parts(int fd, bool out, const struct iovec *parts, int n, ssize_t *result)
{
    if (n <= 0 || n > IOV_MAX || parts == NULL)
        return false;
    enum kind kind = size_of_parts(parts, (size_t)n) != 0 ? kind_of(fd) : NOT_OURS;
    if (kind == NOT_OURS || !green__patch_enter(GREEN_PATCH_IO))
        return false;
    struct msghdr message = {.msg_iov = (struct iovec *)parts, .msg_iovlen = (size_t)n};
    struct move move = {.fd = fd, .out = out, .kind = kind, .message = &message};
    return move_as_task(&move, result);
}

#define NEVER_WAITS (MSG_DONTWAIT | MSG_ERRQUEUE | MSG_OOB)

/* recv() and the like. */
static bool move_by_socket(int fd, bool out, struct msghdr *message, int flags, ssize_t *result)
{
    if ((flags & NEVER_WAITS) != 0 || message == NULL || message->msg_iovlen > IOV_MAX ||
        (message->msg_iov == NULL && message->msg_iovlen != 0) || kind_of(fd) != SOCKET ||
        !green__patch_enter(GREEN_PATCH_IO))
        return false;
    struct move move = {.fd = fd, .out = out, .kind = SOCKET, .flags = flags, .message = message};
    return move_as_task(&move, result);
}

static bool move_bytes(int fd, bool out, const void *bytes, size_t size, int flags,
                       ssize_t *result)
{
    struct iovec part = {(void *)bytes, size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    return move_by_socket(fd, out, &message, flags, result);
}

/* ---- read and write ---------------------------------------------------------------------- */

HOOK(ssize_t, read, int fd, void *buffer, size_t size)
{
    PASS_ON(GREEN_PATCH_IO, read, fd, buffer, size);
    ssize_t result;
    const struct iovec part = {buffer, size};
    return move_parts(fd, false, &part, 1, &result) ? result : NEXT(read)(fd, buffer, size);
}

HOOK(ssize_t, __read_chk, int fd, void *buffer, size_t size, size_t room)
{
    PASS_ON(GREEN_PATCH_IO, __read_chk, fd, buffer, size, room);
    ssize_t result;
    const struct iovec part = {buffer, size};
    if (size > room)
        __chk_fail();
    return move_parts(fd, false, &part, 1, &result) ? result
                                                    : NEXT(__read_chk)(fd, buffer, size, room);
}

HOOK(ssize_t, write, int fd, const void *buffer, size_t size)
{
    PASS_ON(GREEN_PATCH_IO, write, fd, buffer, size);
    ssize_t result;
    const struct iovec part = {(void *)buffer, size};
    return move_parts(fd, true, &part, 1, &result) ? result : NEXT(write)(fd, buffer, size);
}

HOOK(ssize_t, readv, int fd, const struct iovec *parts, int n)
{
    PASS_ON(GREEN_PATCH_IO, readv, fd, parts, n);
    ssize_t result;
    return move_parts(fd, false, parts, n, &result) ? result : NEXT(readv)(fd, parts, n);
}

HOOK(ssize_t, writev, int fd, const struct iovec *parts, int n)
{
    PASS_ON(GREEN_PATCH_IO, writev, fd, parts, n);
    ssize_t result;
    return move_parts(fd, true, parts, n, &result) ? result : NEXT(writev)(fd, parts, n);
}

/* ---- recv and send ----------------------------------------------------------------------- */

HOOK(ssize_t, recv, int fd, void *buffer, size_t size, int flags)
{
    PASS_ON(GREEN_PATCH_IO, recv, fd, buffer, size, flags);
    ssize_t result;
    return move_bytes(fd, false, buffer, size, flags, &result)
               ? result : NEXT(recv)(fd, buffer, size, flags);
}

HOOK(ssize_t, __recv_chk, int fd, void *buffer, size_t size, size_t room, int flags)
{
    PASS_ON(GREEN_PATCH_IO, __recv_chk, fd, buffer, size, room, flags);
    ssize_t result;
    if (size > room)
        __chk_fail();
    return move_bytes(fd, false, buffer, size, flags, &result)
               ? result : NEXT(__recv_chk)(fd, buffer, size, room, flags);
}

HOOK(ssize_t, send, int fd, const void *buffer, size_t size, int flags)
{
    PASS_ON(GREEN_PATCH_IO, send, fd, buffer, size, flags);
    ssize_t result;
    return move_bytes(fd, true, buffer, size, flags, &result)
               ? result : NEXT(send)(fd, buffer, size, flags);
}

/* With an address: false if it is to be the real call's. */
static bool receive_from(int fd, void *buffer, size_t size, int flags, struct sockaddr *address,
                         socklen_t *length, ssize_t *result)
{
    struct iovec part = {buffer, size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (address != NULL && length == NULL)
        return false;
    if (address != NULL) {
        message.msg_name = address;
        message.msg_namelen = *length;
    }
    if (!move_by_socket(fd, false, &message, flags, result))
        return false;
    if (address != NULL && *result >= 0)
        *length = message.msg_namelen;
    return true;
}

HOOK(ssize_t, recvfrom, int fd, void *buffer, size_t size, int flags, struct sockaddr *address,
     socklen_t *length)
{
    PASS_ON(GREEN_PATCH_IO, recvfrom, fd, buffer, size, flags, address, length);
    ssize_t result;
    return receive_from(fd, buffer, size, flags, address, length, &result)
               ? result : NEXT(recvfrom)(fd, buffer, size, flags, address, length);
}

HOOK(ssize_t, __recvfrom_chk, int fd, void *buffer, size_t size, size_t room, int flags,
     struct sockaddr *address, socklen_t *length)
{
    PASS_ON(GREEN_PATCH_IO, __recvfrom_chk, fd, buffer, size, room, flags, address, length);
    ssize_t result;
    if (size > room)
        __chk_fail();
    return receive_from(fd, buffer, size, flags, address, length, &result)
               ? result : NEXT(__recvfrom_chk)(fd, buffer, size, room, flags, address, length);
}

HOOK(ssize_t, sendto, int fd, const void *buffer, size_t size, int flags,
     const struct sockaddr *address, socklen_t length)
{
    PASS_ON(GREEN_PATCH_IO, sendto, fd, buffer, size, flags, address, length);
    ssize_t result;
    if (address != NULL && length > sizeof(struct sockaddr_storage)) /* sendmsg() takes a part */
        return NEXT(sendto)(fd, buffer, size, flags, address, length);
    struct iovec part = {(void *)buffer, size};
    struct msghdr message = {.msg_name = (void *)address, .msg_namelen = length,
                             .msg_iov = &part, .msg_iovlen = 1};
    return move_by_socket(fd, true, &message, flags, &result)
               ? result : NEXT(sendto)(fd, buffer, size, flags, address, length);
}

HOOK(ssize_t, recvmsg, int fd, struct msghdr *message, int flags)
{
    PASS_ON(GREEN_PATCH_IO, recvmsg, fd, message, flags);
    ssize_t result;
    return move_by_socket(fd, false, message, flags, &result) ? result
                                                              : NEXT(recvmsg)(fd, message, flags);
}

HOOK(ssize_t, sendmsg, int fd, const struct msghdr *message, int flags)
{
    PASS_ON(GREEN_PATCH_IO, sendmsg, fd, message, flags);
    ssize_t result;
    return move_by_socket(fd, true, (struct msghdr *)message, flags, &result)
               ? result : NEXT(sendmsg)(fd, message, flags);
}

static int64_t now_of_system(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* The time is looked at after each message alone, as Linux does. */
HOOK(int, recvmmsg, int fd, struct mmsghdr *messages, unsigned n, int flags, struct timespec *time)
{
    PASS_ON(GREEN_PATCH_IO, recvmmsg, fd, messages, n, flags, time);
    unsigned i = 0;
    ssize_t size = 0;
    int64_t due = INT64_MAX;
    if ((flags & NEVER_WAITS) != 0 || n == 0 ||
        (time != NULL && (time->tv_sec < 0 || time->tv_nsec < 0 || time->tv_nsec >= 1000000000)))
        return NEXT(recvmmsg)(fd, messages, n, flags, time);
    if (time != NULL && time->tv_sec < INT32_MAX)
        due = now_of_system() + (int64_t)time->tv_sec * 1000000000 + time->tv_nsec;
    do {
        int own = flags & ~MSG_WAITFORONE;
        if (i > 0 && (flags & MSG_WAITFORONE) != 0)
            own |= MSG_DONTWAIT;
        if (!move_by_socket(fd, false, &messages[i].msg_hdr, own, &size)) {
            if (i == 0)
                return NEXT(recvmmsg)(fd, messages, n, flags, time);
            size = green__hook_recvmsg(fd, &messages[i].msg_hdr, own);
        }
        if (size >= 0)
            messages[i++].msg_len = (unsigned)size;
    } while (size >= 0 && i < n && (due == INT64_MAX || now_of_system() < due));
    if (i > 0 && due != INT64_MAX) { /* it says what is left */
        int64_t left = due - now_of_system();
        left = left > 0 ? left : 0;
        *time = (struct timespec){.tv_sec = left / 1000000000, .tv_nsec = left % 1000000000};
    }
    return i > 0 ? (int)i : -1;
}

HOOK(int, sendmmsg, int fd, struct mmsghdr *messages, unsigned n, int flags)
{
    PASS_ON(GREEN_PATCH_IO, sendmmsg, fd, messages, n, flags);
    unsigned i = 0;
    ssize_t size = 0;
    if ((flags & NEVER_WAITS) != 0 || n == 0)
        return NEXT(sendmmsg)(fd, messages, n, flags);
    do {
        if (!move_by_socket(fd, true, &messages[i].msg_hdr, flags, &size))
            return i > 0 ? (int)i : NEXT(sendmmsg)(fd, messages, n, flags);
        if (size >= 0)
            messages[i++].msg_len = (unsigned)size;
    } while (size >= 0 && i < n);
    return i > 0 ? (int)i : -1;
}

/* ---- connect and accept -------------------------------------------------------------------- */

/* Waits until the socket is ready: 0, or an errno; `late` if its own limit is over. */
static int wait_for_socket(struct limit *limit, int fd, short events, int option, int late)
{
    struct pollfd one = {.fd = fd, .events = events};
    begin_limit(limit, fd, option);
    int n = green_poll(&one, 1, GREEN_FOREVER), error = n < 0 ? errno : 0;
    if (n > 0 && (one.revents & POLLNVAL) != 0)
        return EBADF;
    if (n < 0 && end_limit(limit))
        return late;
    return error;
}

static int begin_connect(int fd, const struct sockaddr *address, socklen_t length);

/*
 * What has become of it: 0, or an errno.  Only by being asked again does the socket know
 * that its caller has been told: it is connected then, or may be tried once more.
 */
static int finish_connect(int fd, const struct sockaddr *address, socklen_t length)
{
    int error = begin_connect(fd, address, length);
    socklen_t size = sizeof error;
    if (error == EISCONN)
        return 0;
    if ((error == EINPROGRESS || error == EALREADY) &&
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
        return errno;
    return error;
}

static int connect_as_task(int fd, const struct sockaddr *address, socklen_t length)
{
    struct limit limit = {.begun = false};
    int error = green_task_check() != 0 ? errno : begin_connect(fd, address, length);
    /* A full AF_UNIX listener tells nobody when it has room. */
    for (int64_t pause = GREEN_MS(1); error == EAGAIN; error = begin_connect(fd, address, length)) {
        begin_limit(&limit, fd, SO_SNDTIMEO);
        if (green_sleep(pause) != 0) {
            error = end_limit(&limit) ? EAGAIN : errno;
            break;
        }
        pause = pause < GREEN_MS(50) ? 2 * pause : GREEN_MS(100);
    }
    if (error == EINPROGRESS || error == EALREADY) {
        error = wait_for_socket(&limit, fd, POLLOUT, SO_SNDTIMEO, EINPROGRESS);
        if (error == 0)
            error = finish_connect(fd, address, length);
    }
    (void)end_limit(&limit);
    return error;
}

HOOK(int, connect, int fd, const struct sockaddr *address, socklen_t length)
{
    PASS_ON(GREEN_PATCH_IO, connect, fd, address, length);
    if (kind_of(fd) != SOCKET || !green__patch_enter(GREEN_PATCH_IO))
        return NEXT(connect)(fd, address, length);
    int before = errno, error = connect_as_task(fd, address, length);
    errno = before;
    green__patch_leave();
    if (error == EDEADLK)
        return NEXT(connect)(fd, address, length);
    if (error != 0)
        errno = error;
    return error == 0 ? 0 : -1;
}

/* 0, or an errno. */
static int begin_connect(int fd, const struct sockaddr *address, socklen_t length)
{
    long flags = begin_nonblocking(fd);
    if (flags < 0)
        return errno;
    int error = NEXT(connect)(fd, address, length) == 0 ? 0 : errno;
    end_nonblocking(fd, flags);
    return error == EINTR ? EINPROGRESS : error;
}

static int ask_accept(int fd, struct sockaddr *address, socklen_t *length, int flags);

/* A connection, or -1 with errno. */
static int accept_as_task(int fd, struct sockaddr *address, socklen_t *length, int flags)
{
    struct limit limit = {.begun = false};
    int connection = -1, error = 0;
    do {
        error = wait_for_socket(&limit, fd, POLLIN, SO_RCVTIMEO, EAGAIN);
        if (error != 0)
            break;
        connection = ask_accept(fd, address, length, flags);
        error = connection < 0 ? errno : 0;
    } while (error == EAGAIN || error == EINTR);
    (void)end_limit(&limit);
    errno = error;
    return connection;
}

/* True if it was a task's: then what accept4() would say. */
static bool accept_entered(int fd, struct sockaddr *address, socklen_t *length, int flags,
                           int *connection)
{
    if ((flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK)) != 0 || kind_of(fd) != SOCKET ||
        !green__patch_enter(GREEN_PATCH_IO))
        return false;
    int before = errno, listens = 0;
    socklen_t size = sizeof listens;
    bool ours = getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) == 0 && listens != 0;
    if (ours)
        *connection = accept_as_task(fd, address, length, flags);
    if (!ours || *connection >= 0)
        errno = before;
    green__patch_leave();
    return ours && (*connection >= 0 || errno != EDEADLK);
}

HOOK(int, accept, int fd, struct sockaddr *address, socklen_t *length)
{
    PASS_ON(GREEN_PATCH_IO, accept, fd, address, length);
    int connection;
    return accept_entered(fd, address, length, 0, &connection) ? connection
                                                               : NEXT(accept)(fd, address, length);
}

HOOK(int, accept4, int fd, struct sockaddr *address, socklen_t *length, int flags)
{
    PASS_ON(GREEN_PATCH_IO, accept4, fd, address, length, flags);
    int connection;
    return accept_entered(fd, address, length, flags, &connection)
               ? connection : NEXT(accept4)(fd, address, length, flags);
}

static int ask_accept(int fd, struct sockaddr *address, socklen_t *length, int flags)
{
    long mode = begin_nonblocking(fd);
    if (mode < 0)
        return -1;
    int connection = NEXT(accept4)(fd, address, length, flags);
    end_nonblocking(fd, mode);
    return connection;
}

/* ---- close -------------------------------------------------------------------------------- */

HOOK(int, close, int fd)
{
    PASS_ON(GREEN_PATCH_IO, close, fd);
    if (!green__patch_enter(GREEN_PATCH_IO))
        return NEXT(close)(fd);
    int result = green_close(fd);
    green__patch_leave();
    return result;
}

/*
 * Who waits for the number that is to be another's is told.  It must be closed for that,
 * and another thread might get it in between: so only where there is none.
 */
static void close_before(int from, int to)
{
    int error = errno;
    if (from == to || !__libc_single_threaded || !green__patch_enter(GREEN_PATCH_IO))
        return;
    if (syscall(SYS_fcntl, from, F_GETFD) >= 0 && syscall(SYS_fcntl, to, F_GETFD) >= 0)
        (void)green_close(to);
    green__patch_leave();
    errno = error;
}

HOOK(int, dup2, int from, int to)
{
    PASS_ON(GREEN_PATCH_IO, dup2, from, to);
    close_before(from, to);
    return NEXT(dup2)(from, to);
}

HOOK(int, dup3, int from, int to, int flags)
{
    PASS_ON(GREEN_PATCH_IO, dup3, from, to, flags);
    if ((flags & ~O_CLOEXEC) == 0)
        close_before(from, to);
    return NEXT(dup3)(from, to, flags);
}

/* Each that is open, so that who waits for it is told; the rest is the real call's. */
static void close_each(unsigned first, unsigned last)
{
    DIR *directory = opendir("/proc/self/fd");
    if (directory == NULL)
        return;
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        char *end;
        unsigned long fd = strtoul(entry->d_name, &end, 10);
        if (end != entry->d_name && fd >= first && fd <= last && (int)fd != dirfd(directory))
            (void)green_close((int)fd);
    }
    closedir(directory);
}

static void tell_each(unsigned first, unsigned last)
{
    if (first > last || !green__patch_enter(GREEN_PATCH_IO))
        return;
    int error = errno;
    close_each(first, last);
    errno = error;
    green__patch_leave();
}

HOOK(int, close_range, unsigned first, unsigned last, int flags)
{
    PASS_ON(GREEN_PATCH_IO, close_range, first, last, flags);
    if (flags == 0)
        tell_each(first, last);
    return NEXT(close_range)(first, last, flags);
}

HOOK(void, closefrom, int first)
{
    tell_each(first > 0 ? (unsigned)first : 0, UINT_MAX);
    NEXT(closefrom)(first);
}

HOOK_TOO(read, __read);
HOOK_TOO(write, __write);
HOOK_TOO(send, __send);
HOOK_TOO(connect, __connect);
HOOK_TOO(close, __close);
HOOK_TOO(dup2, __dup2);

HOOKS(io) = {
    HOOKED(read),     HOOKED(__read_chk), HOOKED(write),    HOOKED(readv),
    HOOKED(writev),   HOOKED(recv),       HOOKED(__recv_chk), HOOKED(send),
    HOOKED(recvfrom), HOOKED(__recvfrom_chk), HOOKED(sendto), HOOKED(recvmsg),
    HOOKED(sendmsg),  HOOKED(recvmmsg),   HOOKED(sendmmsg), HOOKED(connect),
    HOOKED(accept),   HOOKED(accept4),    HOOKED(close),    HOOKED(dup2),
    HOOKED(dup3),     HOOKED(close_range), HOOKED(closefrom),
    HOOKED_TOO(read, __read), HOOKED_TOO(write, __write), HOOKED_TOO(send, __send),
    HOOKED_TOO(connect, __connect), HOOKED_TOO(close, __close), HOOKED_TOO(dup2, __dup2),
    HOOKS_END,
};
