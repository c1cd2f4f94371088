/* SPDX-License-Identifier: MIT */
/*
 * The calls of POSIX's names on descriptors (rules 17, 18).
 *
 * Each tries first, without blocking, and waits only if it must.  A socket is asked so by
 * a flag of the call.  Others are asked by RWF_NOWAIT where the system has that for them;
 * where it has not, and O_NONBLOCK is not set, they wait to be ready.
 *
 * A stream is not tried again once a read has brought less than it asked for: there is
 * nothing more.  Of a TCP socket that the hub made the event of what comes next is still to
 * be seen; of all others it is asked whenever somebody waits.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "fd.h"
#include "io.h"

#define PLACE __builtin_return_address(0)

#ifndef RWF_NOWAIT
#define RWF_NOWAIT 8
#endif
#ifndef RWF_NOSIGNAL
#define RWF_NOSIGNAL 0x100 /* since Linux 6.18: as MSG_NOSIGNAL, for all descriptors */
#endif

/* ---- Trying ---------------------------------------------------------------------- */

/* What is moved, and how. */
struct transfer {
    int fd;
    bool out;
    int flags;               /* of recv() and send() */
    struct iovec *parts;
    int n;
    off_t offset;            /* -1: where the descriptor is */
    struct msghdr *message;  /* of recvmsg() and sendmsg(), or NULL: parts */
    const char *name;        /* for reports ... */
    const void *place;
    bool socket;             /* by a call for sockets: ENOTSOCK of what is none */
};

static size_t size_of_parts(const struct iovec *parts, int n)
{
    size_t size = 0;
    for (int i = 0; i < n; i++)
        size += parts[i].iov_len;
    return size;
}

static ssize_t try_socket(const struct transfer *t)
{
    int flags = t->flags | MSG_DONTWAIT | (t->out ? MSG_NOSIGNAL : 0);
    if (t->message == NULL && t->n == 1)
        return GREEN__OWN(t->out ? send(t->fd, t->parts->iov_base, t->parts->iov_len, flags)
                                 : recv(t->fd, t->parts->iov_base, t->parts->iov_len, flags));
    struct msghdr parts = {.msg_iov = t->parts, .msg_iovlen = (size_t)t->n};
    struct msghdr *message = t->message != NULL ? t->message : &parts;
    return GREEN__OWN(t->out ? sendmsg(t->fd, message, flags) : recvmsg(t->fd, message, flags));
}

static ssize_t move_plainly(const struct transfer *t)
{
    if (t->offset >= 0)
        return t->out ? pwritev(t->fd, t->parts, t->n, t->offset)
                      : preadv(t->fd, t->parts, t->n, t->offset);
    return GREEN__OWN(t->out ? writev(t->fd, t->parts, t->n) : readv(t->fd, t->parts, t->n));
}

/* By RWF_NOWAIT and more: libc's are cancellation points, and some have none. */
static ssize_t move_without_waiting(const struct transfer *t, int more)
{
    unsigned long low = (unsigned long)t->offset, high = t->offset < 0 ? ~0ul : 0;
    ssize_t n = syscall(t->out ? SYS_pwritev2 : SYS_preadv2, t->fd, t->parts, (unsigned long)t->n,
                        low, high, RWF_NOWAIT | more);
    if (n > 0 && !t->out)
        green__layer_given(t->parts, (size_t)n);
    return n;
}

static bool is_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && (flags & O_NONBLOCK) != 0;
}

/* The next part of some size, and at most so much of it. */
static ssize_t write_some(const struct transfer *t, size_t most)
{
    const struct iovec *part = t->parts;
    while (part->iov_len == 0)
        part++;
    size_t size = part->iov_len < most ? part->iov_len : most;
    return t->offset >= 0 ? pwrite(t->fd, part->iov_base, size, t->offset)
                          : GREEN__OWN(write(t->fd, part->iov_base, size));
}

/*
 * A terminal is ready if it has room for a byte, and then blocks until it has taken all.
 * Opened once more it can be asked not to; but the end that a program has of one that it
 * has made cannot be opened again, and is given a byte at a time.
 */
static ssize_t write_to_terminal(const struct transfer *t)
{
    unsigned number;
    int fd = -1;
    if (syscall(SYS_ioctl, t->fd, TIOCGPTN, &number) != 0) { /* musl has another ioctl() */
        char path[32];
        snprintf(path, sizeof path, "/proc/self/fd/%d", t->fd);
        fd = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    }
    if (fd < 0)
        return write_some(t, 1);
    ssize_t n = writev(fd, t->parts, t->n);
    int error = errno;
    (void)green__close(fd);
    errno = error;
    return n;
}

/* Writes at most PIPE_BUF bytes, for which there is room when a pipe is ready. */
static ssize_t move_when_ready(const struct transfer *t)
{
    if (t->out && size_of_parts(t->parts, t->n) > 1 && isatty(t->fd) && !is_nonblocking(t->fd))
        return write_to_terminal(t);
    if (!t->out || size_of_parts(t->parts, t->n) <= PIPE_BUF)
        return move_plainly(t);
    return write_some(t, PIPE_BUF);
}

/*
 * Whether EINVAL is the descriptor's answer: to this size if nothing can be moved, as of an
 * eventfd, or to all if it can never be read, as an epoll, or written, as a timerfd.  Else a
 * filter said it.
 */
static bool is_invalid(const struct transfer *t)
{
    struct iovec part = {NULL, 0};
    struct transfer nothing = *t;
    nothing.parts = &part;
    nothing.n = 1;
    bool invalid = move_without_waiting(&nothing, 0) == 0 ||
                   (errno == EINVAL && move_plainly(&nothing) < 0 && errno == EINVAL);
    errno = EINVAL;
    return invalid;
}

/* Whether it is a regular file by now, of which all is moved.  What it is is seen the next time. */
static bool is_file_by_now(struct green__fd *known, const struct transfer *t)
{
    struct stat about;
    if (!t->out || size_of_parts(t->parts, t->n) <= PIPE_BUF || fstat(t->fd, &about) != 0 ||
        !green__file_is_one(&about))
        return false;
    if (known != NULL)
        known->kind = GREEN__FD_UNKNOWN;
    return true;
}

/*
 * Tries what is no socket.  EAGAIN also if it must be ready first: that is asked each time, as
 * of what woke a task another may have taken since.
 */
static ssize_t try_other(struct green__fd *known, const struct transfer *t)
{
    unsigned char direction = t->out ? GREEN__FD_OUT : GREEN__FD_IN;
    if (known == NULL || (known->no_nowait & direction) == 0) {
        ssize_t n = move_without_waiting(t, 0);
        if (n >= 0 || !green__file_no_answer(errno) || (errno == EINVAL && is_invalid(t)))
            return n;
        if (known != NULL)
            known->no_nowait |= direction;
    }
    if (t->offset >= 0) /* it has no places, or is no file that may block */
        return move_plainly(t);
    int flags = fcntl(t->fd, F_GETFL);
    if (flags >= 0 && ((flags & O_NONBLOCK) != 0 ||
                       (flags & O_ACCMODE) == (t->out ? O_RDONLY : O_WRONLY)))
        return move_plainly(t); /* of the wrong end of a pipe poll() would say nothing */
    struct pollfd poll_one = {.fd = t->fd, .events = t->out ? POLLOUT : POLLIN};
    if (GREEN__OWN(poll(&poll_one, 1, 0)) > 0)
        return is_file_by_now(known, t) ? move_plainly(t) : move_when_ready(t);
    errno = EAGAIN;
    return -1;
}

/* stream: that of a pipe is set; one of packets (O_DIRECT) has more behind a short read. */
static enum green__fd_kind kind_of(int fd, bool *stream)
{
    struct stat about;
    *stream = false;
    if (fstat(fd, &about) != 0)
        return GREEN__FD_UNKNOWN;
    if (S_ISSOCK(about.st_mode))
        return GREEN__FD_SOCKET;
    *stream = S_ISFIFO(about.st_mode) && (fcntl(fd, F_GETFL) & O_DIRECT) == 0;
    return green__file_is_one(&about) ? GREEN__FD_FILE : GREEN__FD_OTHER;
}

static void note_kind(struct green__hub *hub, int fd, struct green__fd *known,
                      enum green__fd_kind kind, bool stream)
{
    if (known == NULL || known->kind == kind)
        return;
    if (known->made)
        green__fd_is_anothers(hub, fd, known);
    known->kind = (unsigned char)kind;
    known->stream = stream;
    known->no_nowait = 0;
}

/* Whether the system knows no RWF_NOSIGNAL: seen once, by whomever. */
static bool no_nosignal;

/* A write to what is taken for no socket; it may be one by now, and raises no signal there. */
static bool may_write_quietly(const struct green__fd *known, const struct transfer *t)
{
    return t->out && known != NULL && known->kind == GREEN__FD_OTHER && known->no_nowait == 0 &&
           t->message == NULL && t->flags == 0 && t->offset < 0 && !t->socket &&
           !__atomic_load_n(&no_nosignal, __ATOMIC_RELAXED);
}

/*
 * What is known of the number may be of another that had it before.  That a write finds a
 * socket is found by a call that raises no SIGPIPE there, and where a pipe is broken, by one
 * that raises it; that a file is none any more, before a thread of the pool is asked.
 */
static ssize_t io_try(struct green__hub *hub, const struct transfer *t)
{
    struct green__fd *known = green__fd_look(hub, t->fd);
    enum green__fd_kind kind = known != NULL ? known->kind : GREEN__FD_UNKNOWN;
    bool may_be_socket = kind == GREEN__FD_UNKNOWN || kind == GREEN__FD_SOCKET, refused = false;
    if (may_write_quietly(known, t)) {
        ssize_t n = move_without_waiting(t, RWF_NOSIGNAL);
        if (n >= 0 || errno == EAGAIN || errno == EINTR)
            return n;
        refused = errno == EOPNOTSUPP;
    }
    if ((may_be_socket || t->out || t->socket) && t->offset < 0) {
        ssize_t n = try_socket(t);
        if (n >= 0 || errno != ENOTSOCK) {
            if (!may_be_socket && (n >= 0 || errno == EAGAIN))
                note_kind(hub, t->fd, known, GREEN__FD_SOCKET, false);
            return n;
        }
        if (t->socket)
            return n;
    }
    if (may_be_socket) {
        bool stream;
        kind = kind_of(t->fd, &stream);
        note_kind(hub, t->fd, known = green__fd_need(hub, t->fd), kind, stream);
    }
    if (kind == GREEN__FD_FILE) {
        ssize_t n = green__file_move(hub, t->fd, t->out, t->parts, t->n, t->offset);
        if (n >= 0 || errno != EAGAIN)
            return n;
        /* What it is now is seen the next time. */
        note_kind(hub, t->fd, known, GREEN__FD_UNKNOWN, false);
    }
    ssize_t n = try_other(known, t);
    if (refused && n >= 0 && known->no_nowait == 0) /* without that flag it is done */
        __atomic_store_n(&no_nosignal, true, __ATOMIC_RELAXED);
    return n;
}

/* ---- Moving -------------------------------------------------------------------------- */

static bool is_byte_stream(int fd)
{
    int type = 0;
    socklen_t length = sizeof type;
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) == 0 && type == SOCK_STREAM;
}

/*
 * A read that has brought less than it asked for has emptied a stream.  If it is none, no more
 * is lost than time: unless the hub has made it, it is asked about anew whenever somebody
 * waits.
 */
static void note_read(struct green__fd *known, const struct transfer *t, ssize_t n)
{
    if (t->flags != 0 || t->message != NULL || n <= 0 || (known->ready & GREEN__FD_HUP) != 0 ||
        (size_t)n >= size_of_parts(t->parts, t->n))
        return;
    if (!known->made && known->kind == GREEN__FD_UNKNOWN) {
        known->kind = GREEN__FD_SOCKET; /* else it would be known what it is */
        known->stream = is_byte_stream(t->fd);
    }
    if (known->made || known->stream)
        known->ready &= (unsigned char)~GREEN__FD_IN;
}

/* It is ready whatever it is, and yet had nothing: a file, or one that is to be asked plainly. */
static void note_always(struct green__hub *hub, struct green__fd *known, int fd)
{
    if (known == NULL || known->mode != GREEN__FD_ALWAYS || known->kind != GREEN__FD_OTHER)
        return;
    bool stream;
    enum green__fd_kind kind = kind_of(fd, &stream);
    note_kind(hub, fd, known, kind, stream);
    known->no_nowait = GREEN__FD_IN | GREEN__FD_OUT;
}

/*
 * Some say that they are ready to be written to when they are not: terminals, and sockets
 * when it is another socket that is full.
 */
static bool pause_between(struct green__call *call, unsigned times, const struct transfer *t)
{
    int64_t time = GREEN_MS(1) << (times < 6 ? times : 6);
    return green__fd_pause(call, t->fd, time, NULL, t->name, t->place) == 0;
}

/*
 * Whether it is told to look for what it does not take: messages of the error queue. The system
 * says so as long as there are some.
 */
static bool is_woken_for_others(const struct transfer *t)
{
    struct pollfd one = {.fd = t->fd, .events = POLLIN};
    return syscall(SYS_ppoll, &one, 1ul, &(struct timespec){0}, NULL, (size_t)8) == 1 &&
           (one.revents & (POLLIN | POLLHUP)) == 0;
}

static inline bool is_socket(const struct green__fd *known)
{
    return LIKELY(known->made) || known->kind == GREEN__FD_SOCKET;
}

/*
 * Whether the last try has emptied or filled it, and nothing has come since.  Of what the hub
 * has not made it is not seen when there is room again.
 */
static inline bool seems_blocked(const struct green__fd *known, bool out)
{
    if (out)
        return known->made && (known->ready & (GREEN__FD_OUT | GREEN__FD_HUP)) == 0;
    return (known->made || known->stream) && (known->ready & (GREEN__FD_IN | GREEN__FD_HUP)) == 0;
}

/* Moves some, with a call that has begun.  What was moved, or -1 with errno. */
static ssize_t io_move_some(struct green__call *call, const struct transfer *t)
{
    unsigned direction = t->out ? 1 : 0, in_vain = 0;
    bool waits = (t->flags & (MSG_DONTWAIT | MSG_ERRQUEUE)) == 0, woken = false, retried = false;
    bool paused = false;
    for (;;) {
        struct green__fd *known = green__fd_look(call->hub, t->fd);
        bool skip = !woken && waits && known != NULL && t->flags == 0 && t->message == NULL &&
                    t->offset < 0 && (!t->socket || is_socket(known)) &&
                    seems_blocked(known, t->out);
        ssize_t n = -1;
        int error = EAGAIN;
        if (known != NULL && known->closing)
            return green__call_fail(EBADF); /* as soon as the pool is done with it */
        if (!skip) {
            int cancelable;
            pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancelable);
            do
                n = io_try(call->hub, t);
            while (n < 0 && errno == EINTR);
            error = errno;
            pthread_setcancelstate(cancelable, NULL);
            if (UNLIKELY(green__hub_self != call->hub)) /* a child has ended it meanwhile */
                return green__call_fail(error);
            known = green__fd_look(call->hub, t->fd);
            if (known != NULL && n >= 0 && !t->out) {
                green__fd_was_read(known);
                note_read(known, t, n);
            } else if (known != NULL && n < 0 && error == EAGAIN &&
                     (t->flags & (MSG_OOB | MSG_ERRQUEUE)) == 0) /* these have data of their own */
                known->ready &= (unsigned char)~(1u << direction);
            if (woken)
                green__fd_tried(call->hub, t->fd, direction);
        }
        if (n < 0 && error != EAGAIN)
            return green__call_tried(call, GREEN_FOREVER, error);
        if (n >= 0 || !waits) {
            errno = error;
            return n;
        }
        if ((woken || in_vain != 0) && !green__call_goes_on(call))
            return -1;
        in_vain += woken && !retried;
        if (in_vain > 2 && !paused && (t->out || is_woken_for_others(t))) {
            if (!pause_between(call, in_vain - 3, t))
                return -1;
            paused = true; /* what has come meanwhile is seen before it waits for more */
            woken = false;
            continue;
        }
        paused = false;
        int result = green__fd_wait_for(call, t->fd, t->out ? GREEN__FD_WRITES : GREEN__FD_READS,
                                        GREEN_FOREVER, t->name, t->place);
        if (result < 0)
            return -1;
        note_always(call->hub, green__fd_look(call->hub, t->fd), t->fd);
        retried = result > 0;
        woken = true;
    }
}

/* The attempt of MSG_FASTOPEN has begun, and has taken no bytes: they are sent when it is made. */
static ssize_t send_when_connected(struct green__call *call, struct transfer *t)
{
    if (green__fd_wait(call, t->fd, EPOLLOUT, t->name, t->place) != 0)
        return -1;
    green__fd_tried(call->hub, t->fd, 1);
    t->flags &= ~MSG_FASTOPEN;
    return green__call_goes_on(call) ? io_move_some(call, t) : -1;
}

/* moved: as soon as it is known, before others have a turn, it is more by that. */
static ssize_t io_move_counting(struct transfer *t, size_t *moved)
{
    struct green__call call;
    if ((t->n > 0 && t->parts == NULL) || t->n < 0 || t->n > IOV_MAX)
        return green__call_fail(EINVAL);
    if (!green__call_begin(&call, GREEN_FOREVER))
        return -1;
    int error = errno;
    ssize_t n = io_move_some(&call, t);
    if (n < 0 && errno == EINPROGRESS && (t->flags & (MSG_FASTOPEN | MSG_DONTWAIT)) == MSG_FASTOPEN)
        n = send_when_connected(&call, t);
    if (n < 0)
        return -1;
    *moved += (size_t)n;
    call.task = green__task_of(call.hub, call.me);
    (void)green__call_done(&call, GREEN_FOREVER);
    errno = error;
    return n;
}

static ssize_t io_move(struct transfer *t)
{
    size_t unused = 0;
    return io_move_counting(t, &unused);
}

/*
 * The short way: with one part, on a descriptor of which it is known how it is asked not to
 * wait.  The system itself is asked, as libc's calls are cancellation points, and to have them
 * be none would cost more than all else here; but sanitizers are to see libc's.
 */
static inline bool is_short(const struct green__fd *known, bool out, bool socket)
{
    bool is_one = is_socket(known) ||
                  (!socket && known->kind == GREEN__FD_OTHER && known->no_nowait == 0 &&
                   !(out && __atomic_load_n(&no_nosignal, __ATOMIC_RELAXED)));
    return is_one && !green__layer_is_sanitized();
}

static inline ssize_t try_shortly(const struct green__fd *known, int fd, bool out, void *bytes,
                                  size_t size)
{
    if (is_socket(known))
        return syscall(out ? SYS_sendto : SYS_recvfrom, fd, bytes, size,
                       MSG_DONTWAIT | (out ? MSG_NOSIGNAL : 0), NULL, 0);
    struct iovec part = {bytes, size};
    return syscall(out ? SYS_pwritev2 : SYS_preadv2, fd, &part, 1ul, -1ul, -1ul,
                   RWF_NOWAIT | (out ? RWF_NOSIGNAL : 0));
}

/* Whether that is the call's error, which some give but once.  There are other ways to write. */
static inline bool is_final(const struct green__fd *known, bool out, int error)
{
    if (error == EAGAIN || error == EINTR)
        return false;
    return is_socket(known) ? error != ENOTSOCK : !out && !green__file_no_answer(error);
}

/* What was moved; -1 with errno; LONG_WAY: no more has been done than to try and to wait. */
#define LONG_WAY (-2)
static inline __attribute__((always_inline)) ssize_t
move_shortly(int fd, bool out, bool socket, void *bytes, size_t size, const char *name,
             const void *place)
{
    struct green__call call;
    const struct green__hub *hub = green__hub_self;
    struct green__fd *known;
    if (UNLIKELY(hub == NULL) || (known = green__fd_look(hub, fd)) == NULL ||
        !is_short(known, out, socket))
        return LONG_WAY;
    if (!green__call_begin(&call, GREEN_FOREVER))
        return -1;
    unsigned char direction = out ? GREEN__FD_OUT : GREEN__FD_IN;
    for (bool woken = false;; woken = true) {
        if (woken || !seems_blocked(known, out)) {
            ssize_t n = try_shortly(known, fd, out, bytes, size);
            int error = errno;
            if (LIKELY(n >= 0) ? !out && n > 0 && (size_t)n < size &&
                                     (known->made || known->stream) &&
                                     (known->ready & GREEN__FD_HUP) == 0
                               : error == EAGAIN)
                known->ready &= (unsigned char)~direction;
            if (woken) {
                if (n >= 0 && !out)
                    green__fd_was_read(known);
                green__fd_known_tried(call.hub, fd, known, out);
            }
            if (UNLIKELY(call.self == NULL))
                call.task = green__task_of(call.hub, call.me); /* its own may have ended meanwhile */
            if (LIKELY(n >= 0)) {
                (void)green__call_done(&call, GREEN_FOREVER);
                return n;
            }
            if (woken || error != EAGAIN)
                return is_final(known, out, error) ? green__call_tried(&call, GREEN_FOREVER, error)
                                                   : LONG_WAY;
        }
        if (green__fd_wait_known(&call, fd, known, out ? GREEN__FD_WRITES : GREEN__FD_READS,
                                 GREEN_FOREVER, name, place) < 0)
            return -1;
    }
}

/* As read() of nothing, which waits for nothing; of some the system waits for something. */
static ssize_t read_nothing(int fd)
{
    struct green__call call;
    struct pollfd poll_one = {.fd = fd, .events = POLLIN};
    int cancelable;
    if (!green__call_begin(&call, GREEN_FOREVER))
        return -1;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancelable);
    bool may_wait = fd >= 0 && GREEN__OWN(poll(&poll_one, 1, 0)) == 0;
    pthread_setcancelstate(cancelable, NULL);
    ssize_t n = may_wait ? 0 : syscall(SYS_read, fd, NULL, (size_t)0);
    int error = errno;
    (void)green__call_done(&call, GREEN_FOREVER);
    errno = error;
    return n;
}

/* As writev() of nothing, which sends no message. */
static ssize_t write_nothing(int fd, const struct iovec *parts, int n)
{
    struct green__call call;
    if (!green__call_begin(&call, GREEN_FOREVER))
        return -1;
    ssize_t written = syscall(SYS_writev, fd, parts, (unsigned long)n);
    int error = errno;
    (void)green__call_done(&call, GREEN_FOREVER);
    errno = error;
    return written;
}

/* Whether they have no room; not if they are nonsense. */
static bool are_nothing(const struct iovec *parts, int n)
{
    return n == 0 || (parts != NULL && n > 0 && n <= IOV_MAX && size_of_parts(parts, n) == 0);
}

/* Takes n bytes off the front of parts. */
static void io_advance(struct transfer *t, size_t n)
{
    while (t->n > 0 && n >= t->parts->iov_len) {
        n -= t->parts->iov_len;
        t->parts++;
        t->n--;
    }
    if (t->n > 0) {
        t->parts->iov_base = (char *)t->parts->iov_base + n;
        t->parts->iov_len -= n;
    }
}

/*
 * Moves all of one part, of which *moved is moved already, each time with a call of its own, as
 * long as the number is not closed since it had been closed so often: what was moved, fewer
 * with errno 0 at the end of the file and another if it failed; -1 if before the first.
 */
static ssize_t io_move_all(struct transfer *t, size_t *moved, uint32_t closes)
{
    int error = errno;
    do {
        bool is_anothers = green__fd_closes(t->fd) != closes;
        ssize_t n = is_anothers ? green__call_fail(EBADF) : io_move_counting(t, moved);
        if (n < 0)
            return *moved > 0 ? (ssize_t)*moved : -1;
        if (n == 0 && t->n > 0 && t->parts->iov_len > 0) {
            errno = 0;
            return (ssize_t)*moved;
        }
        io_advance(t, (size_t)n);
    } while (t->n > 0);
    errno = error;
    return (ssize_t)*moved;
}

/* For that, before the first call: what is not known of is not counted. */
static uint32_t closes_so_far(int fd)
{
    int error = errno;
    struct green__hub *hub = green__hub_need();
    if (hub != NULL)
        (void)green__fd_need(hub, fd);
    errno = error;
    return green__fd_closes(fd);
}

/* By MSG_WAITALL: messages are received one by one, and who peeks leaves what it has seen. */
static bool waits_for_all(int fd, int flags)
{
    return (flags & MSG_WAITALL) != 0 && (flags & MSG_PEEK) == 0 && is_byte_stream(fd);
}

/* ---- The calls ----------------------------------------------------------------------- */

static __attribute__((noinline)) ssize_t move_longly(int fd, bool out, void *bytes, size_t size,
                                                     const char *name, const void *place)
{
    struct iovec part = {bytes, size};
    return io_move(&(struct transfer){fd, out, 0, &part, 1, -1, NULL, name, place, false});
}

static __attribute__((noinline)) ssize_t move_all_longly(int fd, bool out, void *bytes, size_t size,
                                                         size_t moved, uint32_t closes,
                                                         const char *name, const void *place)
{
    struct iovec part = {(char *)bytes + moved, size - moved};
    if (moved == 0)
        closes = closes_so_far(fd);
    return io_move_all(&(struct transfer){fd, out, 0, &part, 1, -1, NULL, name, place, false},
                       &moved, closes);
}

ssize_t green_read(int fd, void *buffer, size_t size)
{
    static const char name[] = "green_read";
    if (UNLIKELY(size == 0))
        return read_nothing(fd);
    ssize_t n = move_shortly(fd, false, false, buffer, size, name, PLACE);
    return LIKELY(n != LONG_WAY) ? n : move_longly(fd, false, buffer, size, name, PLACE);
}

ssize_t green_write(int fd, const void *buffer, size_t size)
{
    static const char name[] = "green_write";
    ssize_t n = move_shortly(fd, true, false, (void *)buffer, size, name, PLACE);
    return LIKELY(n != LONG_WAY) ? n : move_longly(fd, true, (void *)buffer, size, name, PLACE);
}

ssize_t green_pread(int fd, void *buffer, size_t size, off_t offset)
{
    struct iovec part = {buffer, size};
    if (offset < 0)
        return green__call_fail(EINVAL);
    return io_move(&(struct transfer){fd, false, 0, &part, 1, offset, NULL, "green_pread", PLACE,
                                      false});
}

ssize_t green_pwrite(int fd, const void *buffer, size_t size, off_t offset)
{
    struct iovec part = {(void *)buffer, size};
    if (offset < 0)
        return green__call_fail(EINVAL);
    return io_move(&(struct transfer){fd, true, 0, &part, 1, offset, NULL, "green_pwrite", PLACE,
                                      false});
}

ssize_t green_readv(int fd, const struct iovec *parts, int n)
{
    if (are_nothing(parts, n))
        return read_nothing(fd);
    return io_move(&(struct transfer){fd, false, 0, (struct iovec *)parts, n, -1, NULL,
                                      "green_readv", PLACE, false});
}

ssize_t green_writev(int fd, const struct iovec *parts, int n)
{
    if (are_nothing(parts, n))
        return write_nothing(fd, parts, n);
    return io_move(&(struct transfer){fd, true, 0, (struct iovec *)parts, n, -1, NULL,
                                      "green_writev", PLACE, false});
}

ssize_t green_recv(int fd, void *buffer, size_t size, int flags)
{
    static const char name[] = "green_recv";
    ssize_t n = flags == 0 ? move_shortly(fd, false, true, buffer, size, name, PLACE) : LONG_WAY;
    if (LIKELY(n != LONG_WAY))
        return n;
    struct iovec part = {buffer, size};
    struct transfer t = {fd, false, flags & ~MSG_WAITALL, &part, 1, -1, NULL, name, PLACE, true};
    uint32_t closes = (flags & MSG_WAITALL) != 0 ? closes_so_far(fd) : 0;
    n = io_move(&t);
    if (n <= 0 || (size_t)n >= size || !waits_for_all(fd, flags))
        return n;
    io_advance(&t, (size_t)n);
    size_t moved = (size_t)n;
    return io_move_all(&t, &moved, closes);
}

ssize_t green_send(int fd, const void *buffer, size_t size, int flags)
{
    static const char name[] = "green_send";
    ssize_t n = (flags & ~MSG_NOSIGNAL) == 0
                    ? move_shortly(fd, true, true, (void *)buffer, size, name, PLACE)
                    : LONG_WAY;
    if (LIKELY(n != LONG_WAY))
        return n;
    struct iovec part = {(void *)buffer, size};
    return io_move(&(struct transfer){fd, true, flags, &part, 1, -1, NULL, name, PLACE, true});
}

ssize_t green_recvfrom(int fd, void *buffer, size_t size, int flags, struct sockaddr *address,
                       socklen_t *length)
{
    if (address == NULL)
        return green_recv(fd, buffer, size, flags);
    if (length == NULL)
        return green__call_fail(EINVAL);
    struct iovec part = {buffer, size};
    struct msghdr message = {.msg_name = address, .msg_namelen = *length,
                             .msg_iov = &part, .msg_iovlen = 1};
    ssize_t n = green_recvmsg(fd, &message, flags);
    if (n >= 0)
        *length = message.msg_namelen;
    return n;
}

ssize_t green_sendto(int fd, const void *buffer, size_t size, int flags,
                     const struct sockaddr *address, socklen_t length)
{
    struct iovec part = {(void *)buffer, size};
    struct msghdr message = {.msg_name = (void *)address, .msg_namelen = length,
                             .msg_iov = &part, .msg_iovlen = 1};
    return green_sendmsg(fd, &message, flags);
}

/* Behind what came with descriptors the system ends a message, too. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wsign-conversion" /* in musl's macro */
static bool has_descriptors(const struct msghdr *message)
{
    struct msghdr *whole = (struct msghdr *)message;
    for (struct cmsghdr *one = CMSG_FIRSTHDR(whole); one != NULL; one = CMSG_NXTHDR(whole, one))
        if (one->cmsg_level == SOL_SOCKET && one->cmsg_type == SCM_RIGHTS)
            return true;
    return false;
}
#pragma GCC diagnostic pop

/*
 * Fills what one recvmsg() has left of the parts of a message (MSG_WAITALL).  What comes beside
 * the bytes is that of the last that came; room: the size of what there is for it.
 */
static ssize_t fill_rest(int fd, struct msghdr *message, size_t room, int flags, ssize_t n,
                         uint32_t closes, const void *place)
{
    size_t size = (size_t)message->msg_iovlen * sizeof(struct iovec);
    struct iovec few[16], *parts = size > sizeof few ? malloc(size) : few;
    if (parts == NULL)
        return n;
    memcpy(parts, message->msg_iov, size);
    struct msghdr next = {0};
    struct transfer t = {fd, false, flags, parts, (int)message->msg_iovlen, -1, &next,
                         "green_recvmsg", place, true};
    io_advance(&t, (size_t)n);
    int error = errno;
    while (t.n > 0 && !has_descriptors(message)) {
        next = (struct msghdr){.msg_iov = t.parts, .msg_iovlen = (size_t)t.n,
                               .msg_control = message->msg_control,
                               .msg_controllen = (__typeof__(next.msg_controllen))room};
        if (green__fd_closes(fd) != closes) {
            error = EBADF;
            break;
        }
        ssize_t some = io_move(&t);
        error = some < 0 ? errno : some == 0 ? 0 : error;
        if (some <= 0)
            break;
        n += some;
        message->msg_controllen = next.msg_controllen;
        message->msg_flags |= next.msg_flags & MSG_CTRUNC;
        io_advance(&t, (size_t)some);
    }
    if (parts != few)
        free(parts);
    errno = error;
    return n;
}

ssize_t green_recvmsg(int fd, struct msghdr *message, int flags)
{
    if (message == NULL)
        return green__call_fail(EINVAL);
    size_t room = message->msg_controllen;
    struct transfer t = {fd, false, flags & ~MSG_WAITALL, NULL, 0, -1, message, "green_recvmsg",
                         PLACE, true};
    uint32_t closes = (flags & MSG_WAITALL) != 0 ? closes_so_far(fd) : 0;
    ssize_t n = io_move(&t);
    if (n > 0 && (message->msg_flags & (MSG_TRUNC | MSG_EOR)) == 0 && waits_for_all(fd, flags))
        return fill_rest(fd, message, room, flags & ~MSG_WAITALL, n, closes, PLACE);
    return n;
}

ssize_t green_sendmsg(int fd, const struct msghdr *message, int flags)
{
    if (message == NULL)
        return green__call_fail(EINVAL);
    return io_move(&(struct transfer){fd, true, flags, NULL, 0, -1, (struct msghdr *)message,
                                      "green_sendmsg", PLACE, true});
}

ssize_t green_read_all(int fd, void *buffer, size_t size)
{
    static const char name[] = "green_read_all";
    if (UNLIKELY(size == 0))
        return read_nothing(fd);
    uint32_t closes = green__fd_closes(fd);
    ssize_t n = move_shortly(fd, false, false, buffer, size, name, PLACE);
    if (LIKELY(n == (ssize_t)size) || n == -1)
        return n;
    if (n == 0) {
        errno = 0; /* the end of the file */
        return 0;
    }
    return move_all_longly(fd, false, buffer, size, n > 0 ? (size_t)n : 0, closes, name, PLACE);
}

ssize_t green__io_write_all(int fd, const void *buffer, size_t size, size_t *moved)
{
    struct iovec part = {(void *)buffer, size};
    struct transfer t = {fd, true, 0, &part, 1, -1, NULL, "green_write_all", PLACE, false};
    *moved = 0;
    return io_move_all(&t, moved, closes_so_far(fd));
}

ssize_t green_write_all(int fd, const void *buffer, size_t size)
{
    static const char name[] = "green_write_all";
    uint32_t closes = green__fd_closes(fd);
    ssize_t n = move_shortly(fd, true, false, (void *)buffer, size, name, PLACE);
    if (LIKELY(n == (ssize_t)size) || n == -1)
        return n;
    return move_all_longly(fd, true, (void *)buffer, size, n > 0 ? (size_t)n : 0, closes, name,
                           PLACE);
}
