/* SPDX-License-Identifier: MIT */
/*
 * What wakes whom on which descriptor: every kind of descriptor, in every situation, with
 * every kind of waiter.
 *
 * A cell of this table is one of each.  What is expected of it is what the system says of
 * descriptors of the same kind in the same situation, asked without the library.  A cell
 * fails also if somebody is woken for nothing: the hub's looks at descriptors are counted.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <termios.h>

#include "hubs.h"

/* ---- Kinds of descriptors -------------------------------------------------------- */

/* Both ends of something; in and out may be one. */
struct object {
    int in, out;           /* where the waiters read and write, or -1 */
    int peer_out, peer_in; /* the other end: what feeds in, and drains out; or -1 */
    char path[64];         /* what is to be removed */
};

struct kind {
    const char *name;
    void (*make)(struct object *object);
    void (*feed)(const struct object *object); /* NULL: a byte is written to peer_out */
    void (*hang_up)(struct object *object);    /* the end, without data; NULL: there is none */
    void (*break_it)(struct object *object);   /* an error, alone; NULL: there is none */
    size_t message;        /* bytes that are moved at a time */
    bool writes;           /* it can be full */
    bool has_peer;         /* which can be closed */
    bool is_tcp;
    bool is_terminal;
    bool never_waits;
};

/* Gives back what it was. */
static bool set_nonblocking(int fd, bool on)
{
    int flags = fcntl(fd, F_GETFL);
    must(flags >= 0);
    must(fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK) == 0);
    return (flags & O_NONBLOCK) != 0;
}

static void make_pipes(struct object *o)
{
    int to_us[2], from_us[2];
    must(pipe2(to_us, O_CLOEXEC) == 0 && pipe2(from_us, O_CLOEXEC) == 0);
    *o = (struct object){to_us[0], from_us[1], to_us[1], from_us[0], ""};
}

static void make_pair(struct object *o, int domain, int type)
{
    int fds[2];
    must(socketpair(domain, type | SOCK_CLOEXEC, 0, fds) == 0);
    *o = (struct object){fds[0], fds[0], fds[1], fds[1], ""};
}

static void make_unix_stream(struct object *o)
{
    make_pair(o, AF_UNIX, SOCK_STREAM);
}

static void make_unix_datagram(struct object *o)
{
    make_pair(o, AF_UNIX, SOCK_DGRAM);
}

static void make_seqpacket(struct object *o)
{
    make_pair(o, AF_UNIX, SOCK_SEQPACKET);
}

static const struct sockaddr_in loopback = {
    .sin_family = AF_INET, .sin_addr.s_addr = __builtin_bswap32(INADDR_LOOPBACK)
};

static int bound(int type, struct sockaddr_in *address)
{
    socklen_t length = sizeof *address;
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0), small = 4096;
    *address = loopback;
    must(fd >= 0);
    must(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small) == 0);
    must(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small) == 0);
    must(bind(fd, (struct sockaddr *)address, length) == 0);
    must(getsockname(fd, (struct sockaddr *)address, &length) == 0);
    return fd;
}

/* A connection of which one end is accepted, by the hub or by the system. */
static void make_tcp(struct object *o, bool by_hub)
{
    struct sockaddr_in address, own;
    int listener = bound(SOCK_STREAM, &address), peer = bound(SOCK_STREAM, &own);
    must(listen(listener, 5) == 0);
    must(connect(peer, (struct sockaddr *)&address, sizeof address) == 0);
    int fd = by_hub ? green_accept(listener, NULL, NULL, SOCK_CLOEXEC)
                    : accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    must(fd >= 0);
    must(close(listener) == 0);
    *o = (struct object){fd, fd, peer, peer, ""};
}

static void make_tcp_of_hub(struct object *o)
{
    make_tcp(o, true);
}

static void make_tcp_of_system(struct object *o)
{
    make_tcp(o, false);
}

static void make_udp(struct object *o)
{
    struct sockaddr_in ours, theirs;
    int fd = bound(SOCK_DGRAM, &ours), peer = bound(SOCK_DGRAM, &theirs);
    must(connect(fd, (struct sockaddr *)&theirs, sizeof theirs) == 0);
    must(connect(peer, (struct sockaddr *)&ours, sizeof ours) == 0);
    *o = (struct object){fd, fd, peer, peer, ""};
}

static void make_pty(struct object *o, bool ours_is_master)
{
    int master, slave;
    struct termios modes;
    must(openpty(&master, &slave, NULL, NULL, NULL) == 0);
    must(tcgetattr(slave, &modes) == 0);
    cfmakeraw(&modes);
    must(tcsetattr(slave, TCSANOW, &modes) == 0);
    int fd = ours_is_master ? master : slave, peer = ours_is_master ? slave : master;
    *o = (struct object){fd, fd, peer, peer, ""};
}

static void make_terminal(struct object *o)
{
    make_pty(o, false);
}

static void make_terminal_master(struct object *o)
{
    make_pty(o, true);
}

static void make_eventfd(struct object *o)
{
    int in = eventfd(0, EFD_CLOEXEC), out = eventfd(0, EFD_CLOEXEC);
    int peer_out = dup(in), peer_in = dup(out);
    must(in >= 0 && out >= 0 && peer_out >= 0 && peer_in >= 0);
    *o = (struct object){in, out, peer_out, peer_in, ""};
}

static void make_timerfd(struct object *o)
{
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC), peer = dup(fd);
    must(fd >= 0 && peer >= 0);
    *o = (struct object){fd, -1, peer, -1, ""};
}

static void feed_timerfd(const struct object *o)
{
    const struct itimerspec soon = {.it_value.tv_nsec = 1};
    must(timerfd_settime(o->peer_out, 0, &soon, NULL) == 0);
}

static void make_inotify(struct object *o)
{
    *o = (struct object){inotify_init1(IN_CLOEXEC), -1, -1, -1, "/tmp/green-inotify-XXXXXX"};
    must(o->in >= 0 && mkdtemp(o->path) != NULL);
    o->peer_out = open(o->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    must(o->peer_out >= 0);
    must(inotify_add_watch(o->in, o->path, IN_ATTRIB) >= 0);
}

static void feed_inotify(const struct object *o)
{
    must(fchmod(o->peer_out, 0700) == 0);
}

static void make_file(struct object *o)
{
    *o = (struct object){-1, -1, -1, -1, ""};
    char path[] = "/tmp/green-file-XXXXXX";
    o->out = mkostemp(path, O_CLOEXEC);
    must(o->out >= 0 && write(o->out, "01234567", 8) == 8);
    o->in = open(path, O_RDONLY | O_CLOEXEC);
    must(o->in >= 0 && unlink(path) == 0);
}

static void make_null(struct object *o)
{
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    must(fd >= 0);
    *o = (struct object){fd, fd, -1, -1, ""};
}

static void close_writers(struct object *o)
{
    must(close(o->peer_out) == 0);
    o->peer_out = -1;
}

static void close_readers(struct object *o)
{
    must(close(o->peer_in) == 0);
    o->peer_in = -1;
}

static void shut_down(struct object *o)
{
    must(shutdown(o->in, SHUT_RDWR) == 0);
}

/* Nobody listens at the address any more: what is sent there comes back as an error. */
static void send_to_nobody(struct object *o)
{
    must(close(o->peer_in) == 0);
    o->peer_in = o->peer_out = -1;
    must(send(o->in, "x", 1, 0) == 1);
}

static const struct kind kinds[] = {
    {"pipe", make_pipes, NULL, close_writers, close_readers, 1, true, true, false, false, false},
    {"unix stream", make_unix_stream, NULL, shut_down, NULL, 1, true, true, false, false, false},
    {"unix datagram", make_unix_datagram, NULL, NULL, NULL, 1, true, true, false, false, false},
    {"seqpacket", make_seqpacket, NULL, shut_down, NULL, 1, true, true, false, false, false},
    {"TCP of the hub", make_tcp_of_hub, NULL, shut_down, NULL, 1, true, true, true, false, false},
    {"TCP", make_tcp_of_system, NULL, shut_down, NULL, 1, true, true, true, false, false},
    {"UDP", make_udp, NULL, NULL, send_to_nobody, 1, false, true, false, false, false},
    {"terminal", make_terminal, NULL, NULL, NULL, 1, true, true, false, true, false},
    {"terminal's master", make_terminal_master, NULL, NULL, NULL, 1, false, true, false, true, false},
    {"eventfd", make_eventfd, NULL, NULL, NULL, 8, true, false, false, false, false},
    {"timerfd", make_timerfd, feed_timerfd, NULL, NULL, 8, false, false, false, false, false},
    {"inotify", make_inotify, feed_inotify, NULL, NULL, 16, false, false, false, false, false},
    {"regular file", make_file, NULL, NULL, NULL, 1, true, false, false, false, true},
    {"/dev/null", make_null, NULL, NULL, NULL, 1, true, false, false, false, true},
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

static void close_end(int *a, int *b)
{
    if (*a >= 0)
        must(close(*a) == 0);
    if (*b >= 0 && *b != *a)
        must(close(*b) == 0);
    *a = *b = -1;
}

static void close_by_hub(struct object *o)
{
    must_be_0(green_close(o->in));
    if (o->out >= 0 && o->out != o->in)
        must_be_0(green_close(o->out));
    o->in = o->out = -1;
}

/* The hub is told only of what it has made. */
static void unmake(const struct kind *kind, struct object *o)
{
    if (kind->make == make_tcp_of_hub && o->in >= 0)
        close_by_hub(o);
    close_end(&o->in, &o->out);
    close_end(&o->peer_out, &o->peer_in);
    if (o->path[0] != '\0')
        must(rmdir(o->path) == 0);
}

static const uint64_t one = 1;

static void feed(const struct kind *kind, const struct object *o)
{
    if (kind->feed != NULL)
        kind->feed(o);
    else
        must(write(o->peer_out, &one, kind->message) == (ssize_t)kind->message);
}

static int ready_now(int fd, short events, int ms)
{
    struct pollfd one_fd = {.fd = fd, .events = events};
    return poll(&one_fd, 1, ms);
}

/* Writes what can be written, in blocks of that size and then byte by byte: whether anything. */
static bool write_some(int fd, size_t size)
{
    static const char block[4096];
    bool moved = false;
    for (; size > 0; size = size == 1 ? 0 : 1)
        while (write(fd, block, size) > 0)
            moved = true;
    return moved;
}

/*
 * Has the other end of a TCP connection say how much it has taken, which it may put off for
 * 40 ms.  It does so with what it sends.
 */
static void have_acknowledged(const struct object *o)
{
    char byte = 0;
    must(write(o->peer_out, &byte, 1) == 1);
    must(ready_now(o->in, POLLIN, -1) == 1);
    must(read(o->in, &byte, 1) == 1);
}

/*
 * Until no more can be written, now or later.  A terminal says that there is room when there
 * is none, unless it is told to stop.
 */
static void fill(const struct kind *kind, const struct object *o)
{
    const uint64_t most = UINT64_MAX - 1;
    size_t size = kind->make == make_unix_datagram ? 1 : 4096;
    if (kind->is_terminal) {
        must(tcflow(o->out, TCOOFF) == 0);
        return;
    }
    bool was = set_nonblocking(o->out, true);
    if (kind->message == 8)
        must(write(o->out, &most, sizeof most) == sizeof most);
    else
        while (write_some(o->out, size) && kind->is_tcp)
            have_acknowledged(o);
    set_nonblocking(o->out, was);
}

/* Whether the other end of a TCP connection has not acknowledged all that was written. */
static bool is_underway(int fd)
{
    int bytes;
    must(ioctl(fd, TIOCOUTQ, &bytes) == 0);
    return bytes != 0;
}

/* Until there is room, and nothing more comes. */
static void drain(const struct kind *kind, const struct object *o)
{
    static char block[65536];
    if (kind->is_terminal) {
        must(tcflow(o->out, TCOON) == 0);
        return;
    }
    bool was = set_nonblocking(o->peer_in, true);
    do
        while (read(o->peer_in, block, sizeof block) > 0)
            continue;
    while (ready_now(o->out, POLLOUT, 1) == 0 || (kind->is_tcp && is_underway(o->out)));
    set_nonblocking(o->peer_in, was);
}

/* ---- Situations ---------------------------------------------------------------------- */

enum situation {
    DATA, FULL, HALF_CLOSED, PEER_CLOSED, RESET, HUNG_UP, BROKEN, GREEN_CLOSED, CLOSED_BEHIND,
    COPY_STAYS, COPY_CLOSED, REUSED, SITUATIONS
};

static const char *const situation_names[SITUATIONS] = {
    "data", "full, then room", "half closed", "peer closed", "RST", "HUP alone", "ERR alone",
    "green_close()", "close() behind the hub", "green_close(), a copy stays", "a copy is closed",
    "number used again"
};

/* Waiters of a cell, a letter each: reads, writes, polls, selects. */
static const char *const waiters[] = {"r", "w", "rw", "rr", "p", "s"};
enum { WAITERS = sizeof waiters / sizeof waiters[0], MOST_WAITERS = 2 };

struct cell {
    const struct kind *kind;
    enum situation situation;
    const char *waiters;
};

static bool wants_out(const struct cell *cell)
{
    return cell->kind->writes && !cell->kind->never_waits && strpbrk(cell->waiters, "wps") != NULL;
}

/* Whether there is such a thing. */
static bool is_possible(const struct cell *cell)
{
    const struct kind *kind = cell->kind;
    if (strchr(cell->waiters, 'w') != NULL && !kind->writes)
        return false;
    if (kind->never_waits) /* nobody waits when something happens */
        return cell->situation == DATA || cell->situation == REUSED;
    switch (cell->situation) {
    case FULL:
        return kind->writes;
    case HALF_CLOSED:
        return kind->is_tcp || kind->make == make_unix_stream || kind->make == make_seqpacket;
    case PEER_CLOSED:
        return kind->has_peer;
    case RESET:
        return kind->is_tcp;
    case HUNG_UP:
        return kind->hang_up != NULL;
    case BROKEN:
        return kind->break_it != NULL;
    default:
        return true;
    }
}

static void close_peer(struct object *o)
{
    close_end(&o->peer_out, &o->peer_in);
}

static void happen(const struct cell *cell, struct object *o)
{
    const struct linger at_once = {1, 0};
    switch (cell->situation) {
    case DATA:
    case COPY_CLOSED:
        if (!cell->kind->never_waits)
            feed(cell->kind, o);
        break;
    case FULL:
        if (wants_out(cell))
            drain(cell->kind, o);
        break;
    case HALF_CLOSED:
        must(shutdown(o->peer_out, SHUT_WR) == 0);
        break;
    case PEER_CLOSED:
        close_peer(o);
        break;
    case RESET:
        must(setsockopt(o->peer_in, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once) == 0);
        close_peer(o);
        break;
    case HUNG_UP:
        cell->kind->hang_up(o);
        break;
    case BROKEN:
        cell->kind->break_it(o);
        break;
    default:
        break;
    }
}

/* ---- What a waiter says ---------------------------------------------------------------- */

#define WAITS (-1000)

struct said {
    int result;      /* bytes, descriptors, WAITS, or an errno below 0 */
    short events[2]; /* poll, select: of in, of out */
};

static void fill_in(const struct cell *cell, const struct object *o, struct pollfd fds[2])
{
    fds[0] = (struct pollfd){.fd = o->in, .events = POLLIN | POLLRDHUP};
    fds[1] = (struct pollfd){.fd = wants_out(cell) ? o->out : -1, .events = POLLOUT};
}

/* By the system alone.  What has happened may take a moment to be seen. */
static struct said ask_system(const struct cell *cell, const struct object *o, char waiter,
                              int patience)
{
    char buffer[4096];
    struct said said = {WAITS, {0, 0}};
    struct pollfd fds[2];
    if (waiter == 'p' || waiter == 's') {
        fill_in(cell, o, fds);
        int n = poll(fds, 2, patience);
        must(n >= 0);
        if (n > 0)
            said = (struct said){n, {fds[0].revents, fds[1].revents}};
        return said;
    }
    int fd = waiter == 'r' ? o->in : o->out;
    if (ready_now(fd, waiter == 'r' ? POLLIN : POLLOUT, patience) == 0)
        return said;
    bool was = set_nonblocking(fd, true); /* terminals say that they are ready and are not */
    ssize_t n = waiter == 'r' ? read(fd, buffer, sizeof buffer)
                              : write(fd, &one, cell->kind->message);
    if (n >= 0 || errno != EAGAIN)
        said.result = n >= 0 ? (int)n : -errno;
    set_nonblocking(fd, was);
    return said;
}

/* Which of the waiters of the cell are to be woken, for what happens is seen by poll(). */
static int patience_of(const struct cell *cell, char waiter)
{
    switch (cell->situation) {
    case DATA:
    case HALF_CLOSED:
        return waiter == 'w' ? 0 : 1000;
    case FULL:
        return waiter == 'r' || !wants_out(cell) ? 0 : 1000;
    case BROKEN:
        return waiter == 'r' && cell->kind->make == make_pipes ? 0 : 1000;
    case HUNG_UP:
        return waiter == 'w' && cell->kind->make == make_pipes ? 0 : 1000;
    case PEER_CLOSED:
    case RESET:
        return 20;
    default:
        return 0;
    }
}

static void expect(const struct cell *cell, struct said *said)
{
    struct object o;
    if (cell->situation >= GREEN_CLOSED && cell->situation != COPY_CLOSED) {
        for (int i = 0; cell->waiters[i] != '\0'; i++) {
            said[i] = (struct said){WAITS, {0, 0}};
            if (cell->situation == CLOSED_BEHIND || cell->situation == REUSED)
                continue;
            said[i].result = -EBADF;
            if (strchr("ps", cell->waiters[i]) != NULL)
                said[i] = (struct said){1, {POLLNVAL, POLLNVAL}};
        }
        return;
    }
    struct cell same = *cell;
    if (same.situation == COPY_CLOSED)
        same.situation = DATA;
    same.kind->make(&o);
    if (wants_out(cell))
        fill(cell->kind, &o);
    happen(&same, &o);
    for (int i = 0; cell->waiters[i] != '\0'; i++)
        said[i] = ask_system(cell, &o, cell->waiters[i],
                             i == 0 || cell->waiters[i] != 'r' ? patience_of(&same, cell->waiters[i]) : 0);
    unmake(cell->kind, &o);
}

/* ---- The hub's side ------------------------------------------------------------------------ */

struct waiter {
    const struct cell *cell;
    const struct object *object;
    char what;
    struct said said;
    green_task_t *task;
    bool done;
};

static void *wait_as(void *arg)
{
    struct waiter *w = arg;
    char buffer[4096];
    struct pollfd fds[2];
    int n;
    fill_in(w->cell, w->object, fds);
    if (w->what == 'p') {
        n = green_poll(fds, 2, GREEN_FOREVER);
        w->said = (struct said){n >= 0 ? n : -errno, {fds[0].revents, fds[1].revents}};
    } else if (w->what == 's') {
        green_case_t cases[] = {
            GREEN_CASE_FD(fds[0].fd, fds[0].events), GREEN_CASE_FD(fds[1].fd, fds[1].events)
        };
        n = green_select(cases, fds[1].fd >= 0 ? 2 : 1, GREEN_FOREVER);
        w->said = (struct said){n >= 0 ? 1 : -errno, {0, 0}};
        if (n >= 0)
            w->said.events[n] = (short)cases[n].revents;
    } else {
        n = (int)(w->what == 'r' ? green_read(w->object->in, buffer, sizeof buffer)
                                 : green_write(w->object->out, &one, w->cell->kind->message));
        w->said = (struct said){n >= 0 ? n : -errno, {0, 0}};
    }
    w->done = true;
    return NULL;
}

static int failed_cells;

__attribute__((format(printf, 2, 3))) static void complain(const struct cell *cell,
                                                           const char *format, ...)
{
    va_list args;
    print_message("%s, %s, waiters \"%s\": ", cell->kind->name, situation_names[cell->situation],
                  cell->waiters);
    va_start(args, format);
    vprint_message(format, args);
    va_end(args);
    print_message("\n");
    failed_cells++;
}

static void begin_waiters(const struct cell *cell, const struct object *o, struct waiter *w)
{
    for (int i = 0; cell->waiters[i] != '\0'; i++) {
        w[i] = (struct waiter){cell, o, cell->waiters[i], {WAITS, {0, 0}}, NULL, false};
        w[i].task = spawn(wait_as, &w[i]);
    }
    for (int i = 0; i < 4; i++) /* the first look may find them asking for the second time */
        turn();
}

/* While nothing happens nobody is woken. */
static void assert_quiet(const struct cell *cell, const char *when)
{
    uint64_t polls = hub_stat(polls), turns = hub_stat(turns);
    must_be_0(green_sleep(GREEN_US(100)));
    polls = hub_stat(polls) - polls;
    turns = hub_stat(turns) - turns;
    if (polls > 4 || turns > 4)
        complain(cell, "%s: %d looks at descriptors and %d turns, for nothing", when, (int)polls,
                 (int)turns);
}

static bool poll_agrees(const struct said *said, const struct said *expected, char what)
{
    if (said->result <= 0 || expected->result <= 0)
        return said->result == expected->result;
    if (what == 'p')
        return said->result == expected->result && said->events[0] == expected->events[0] &&
               said->events[1] == expected->events[1];
    int chosen = said->events[1] != 0;
    return said->events[chosen] == expected->events[chosen];
}

/* By green_close(): one of the two numbers, or both if it is one number. */
static bool closed_agrees(const struct waiter *w)
{
    if (w->what == 'r' || w->what == 'w')
        return w->said.result == -EBADF;
    return w->said.result >= 1 && ((w->said.events[0] | w->said.events[1]) & ~POLLNVAL) == 0 &&
           (w->said.events[0] | w->said.events[1]) != 0;
}

static void wait_until_done(struct waiter *w)
{
    if (green_task_join(w->task, NULL, GREEN_SEC(5)) != 0)
        complain(w->cell, "'%c' is never woken", w->what);
}

/* Ends one that waits on; it has taken nothing. */
static void end_waiter(struct waiter *w)
{
    bool waited = !w->done;
    must_be_0(green_task_free(w->task));
    if (waited && w->said.result != -ECANCELED)
        complain(w->cell, "'%c' was cancelled and says %d", w->what, w->said.result);
}

static void settle(const struct cell *cell, struct waiter *w, const struct said *expected)
{
    int count = (int)strlen(cell->waiters);
    for (int i = 0; i < count; i++)
        if (expected[i].result != WAITS)
            wait_until_done(&w[i]);
    assert_quiet(cell, "afterwards");
    for (int i = 0; i < count; i++) {
        if (expected[i].result == WAITS) {
            if (w[i].done)
                complain(cell, "'%c' was to wait on and says %d", w[i].what, w[i].said.result);
        } else if (cell->situation == GREEN_CLOSED || cell->situation == COPY_STAYS) {
            if (w[i].done && !closed_agrees(&w[i]))
                complain(cell, "'%c' says %d (%#x, %#x)", w[i].what, w[i].said.result,
                         (unsigned)w[i].said.events[0], (unsigned)w[i].said.events[1]);
        } else if (!poll_agrees(&w[i].said, &expected[i], w[i].what)) {
            complain(cell, "'%c' says %d (%#x, %#x), the system %d (%#x, %#x)", w[i].what,
                     w[i].said.result, (unsigned)w[i].said.events[0],
                     (unsigned)w[i].said.events[1], expected[i].result,
                     (unsigned)expected[i].events[0], (unsigned)expected[i].events[1]);
        }
        end_waiter(&w[i]);
    }
}

static void run_cell(const struct cell *cell)
{
    struct object o, copy = {-1, -1, -1, -1, ""};
    struct waiter w[MOST_WAITERS];
    struct said expected[MOST_WAITERS];
    expect(cell, expected);
    cell->kind->make(&o);
    struct object seen = o; /* what the waiters have, whatever is closed */
    if (wants_out(cell))
        fill(cell->kind, &o);
    begin_waiters(cell, &seen, w);
    if (!cell->kind->never_waits) {
        for (int i = 0; cell->waiters[i] != '\0'; i++)
            if (w[i].done)
                complain(cell, "'%c' does not wait and says %d", w[i].what, w[i].said.result);
        assert_quiet(cell, "before");
    }
    switch (cell->situation) {
    case GREEN_CLOSED:
        close_by_hub(&o);
        break;
    case CLOSED_BEHIND:
        close_end(&o.in, &o.out);
        break;
    case COPY_STAYS:
        copy.in = dup(o.in);
        copy.out = o.out >= 0 && o.out != o.in ? dup(o.out) : copy.in;
        close_by_hub(&o);
        feed(cell->kind, &o); /* which is to be seen by nobody */
        if (wants_out(cell) && o.peer_in != o.peer_out)
            (void)!read(o.peer_in, (char[4096]){0}, 4096);
        break;
    case COPY_CLOSED:
        must(close(dup(o.in)) == 0);
        if (o.out >= 0)
            must(close(dup(o.out)) == 0);
        assert_quiet(cell, "a copy was closed");
        happen(cell, &o);
        break;
    default:
        happen(cell, &o);
    }
    settle(cell, w, expected);
    if (cell->situation == CLOSED_BEHIND && cell->kind->make == make_tcp_of_hub)
        must_fail(green_close(seen.in), EBADF); /* so the number is known to be another's */
    if (cell->situation == COPY_STAYS && ask_system(cell, &copy, 'r', 5000).result == WAITS)
        complain(cell, "the copy has lost what came");
    close_end(&copy.in, &copy.out);
    unmake(cell->kind, &o);
}

/* Every cell but those of REUSED, which wait for a second each. */
static int run_kind(const struct kind *kind)
{
    int count = 0;
    for (int situation = 0; situation < REUSED; situation++) {
        for (int i = 0; i < WAITERS; i++) {
            const struct cell cell = {kind, (enum situation)situation, waiters[i]};
            if (!is_possible(&cell))
                continue;
            int descriptors = hubs_descriptors();
            run_cell(&cell);
            if (hubs_descriptors() != descriptors)
                complain(&cell, "%d descriptors are left", hubs_descriptors() - descriptors);
            count++;
        }
    }
    return count;
}

static void *read_for_ever(void *fd)
{
    char byte;
    must_fail(green_read((int)(intptr_t)fd, &byte, 1), ECANCELED);
    return NULL;
}

/* The hub has its own descriptors from then on. */
static void have_epoll_made(void)
{
    struct object pipes;
    make_pipes(&pipes);
    green_task_t *task = spawn(read_for_ever, V(pipes.in));
    turn();
    turn(); /* by then it has tried once more */
    must_be_0(green_task_free(task));
    unmake(&kinds[0], &pipes);
}

static int begin_world(void **state)
{
    signal(SIGPIPE, SIG_IGN);
    failed_cells = 0;
    return hubs_begin_world(state);
}

/* neco: t1 to t4; libdill: d1, d3; state-threads: s1 */
TEST_WITH(every_kind_of_waiter_on_every_kind_of_descriptor_hears_of_what_happens, begin_world,
          hubs_end)
{
#ifdef GREEN_TEST_EMULATED
    skip_because("TCP's buffers grow while QEMU is slow to fill them");
#endif
    int count = 0, possible = 0;
    have_epoll_made();
    for (int i = 0; i < KINDS; i++)
        count += run_kind(&kinds[i]);
    possible = KINDS * (SITUATIONS - 1) * WAITERS;
    print_message("%d cells of %d kinds, %d situations, %d waiters (%d are impossible)\n", count,
                  (int)KINDS, SITUATIONS - 1, (int)WAITERS, possible - count);
    assert_int_equal(failed_cells, 0);
    assert_true(count > 300);
}

/* ---- Numbers that are used again ------------------------------------------------------ */

/* One kind had the number, and then another: dup2(). */
struct reused {
    struct object before, now;
    struct cell cell;
    struct waiter waiter;
    struct said expected;
};

static void *try_once(void *arg)
{
    char buffer[4096];
    struct reused *r = arg;
    if (r->cell.waiters[0] == 'w' && r->before.out >= 0)
        (void)green_write(r->before.out, &one, r->cell.kind->message);
    else
        (void)green_read(r->before.in, buffer, sizeof buffer);
    return NULL;
}

/* Has the hub know the number, which nobody waits for then, and gives it to another. */
static void use_again(struct reused *r, const struct kind *before, const struct kind *now,
                      const char *what)
{
    before->make(&r->before);
    now->make(&r->now);
    r->cell = (struct cell){before, DATA, what};
    if (before->writes && !before->never_waits && what[0] == 'w')
        fill(before, &r->before);
    green_task_t *task = spawn(try_once, r);
    turn();
    turn();
    must_be_0(green_task_free(task));
    r->cell.kind = now;
    int *used = what[0] == 'w' && r->before.out >= 0 ? &r->before.out : &r->before.in;
    int *mine = what[0] == 'w' ? &r->now.out : &r->now.in;
    int number = *used, old = *mine;
    must(dup2(old, number) == number);
    if (r->before.in == number)
        r->before.in = -1;
    if (r->before.out == number)
        r->before.out = -1;
    if (r->now.in == old)
        r->now.in = number;
    if (r->now.out == old)
        r->now.out = number;
    must_be_0(now->make == make_tcp_of_hub ? green_close(old) : close(old));
}

static void end_reused(struct reused *r, const struct kind *before)
{
    bool by_hub = before->make == make_tcp_of_hub || r->cell.kind->make == make_tcp_of_hub;
    if (r->waiter.said.result != r->expected.result)
        complain(&r->cell, "after \"%s\": says %d, the system %d", before->name,
                 r->waiter.said.result, r->expected.result);
    end_waiter(&r->waiter);
    close_end(&r->before.in, &r->before.out);
    close_end(&r->before.peer_out, &r->before.peer_in);
    if (r->before.path[0] != '\0')
        must(rmdir(r->before.path) == 0);
    if (by_hub) /* so that it knows of the next, of whom this test is not */
        close_by_hub(&r->now);
    unmake(r->cell.kind, &r->now);
}

/* Each kind in the place of one of this, all at a time: how long the waits took. */
static int64_t use_all_again(const struct kind *before, int *count)
{
    static const char *const whats[] = {"r", "w"};
    static struct reused reused[KINDS][2];
    for (int now = 0; now < KINDS; now++) {
        for (int i = 0; i < (kinds[now].writes ? 2 : 1); i++) {
            struct reused *r = &reused[now][i];
            const struct cell plain = {&kinds[now], DATA, whats[i]};
            struct object o;
            plain.kind->make(&o);
            happen(&plain, &o);
            r->expected = ask_system(&plain, &o, whats[i][0], 1000);
            unmake(plain.kind, &o);
            use_again(r, before, &kinds[now], whats[i]);
            begin_waiters(&r->cell, &r->now, &r->waiter);
            happen(&r->cell, &r->now);
            ++*count;
        }
    }
    int64_t start = green_now();
    for (int now = 0; now < KINDS; now++)
        for (int i = 0; i < (kinds[now].writes ? 2 : 1); i++)
            wait_until_done(&reused[now][i].waiter);
    int64_t took = green_now() - start;
    for (int now = 0; now < KINDS; now++)
        for (int i = 0; i < (kinds[now].writes ? 2 : 1); i++)
            end_reused(&reused[now][i], before);
    return took;
}

/*
 * libdill: d3.  Those that the hub has made itself cost a second, once.  A machine that is busy
 * may take as long, but not each time.
 */
TEST_WITH(any_kind_of_descriptor_may_have_the_number_of_any_other, begin_world, hubs_end)
{
    int count = 0;
    have_epoll_made();
    for (int before = 0; before < KINDS; before++) {
        const struct cell cell = {&kinds[before], REUSED, ""};
        bool was_made = kinds[before].make == make_tcp_of_hub;
        int64_t most = was_made ? GREEN_SEC(3) : GREEN_MS(900), took = 0;
        for (int tries = 0; tries == 0 || (tries < 5 && took > most); tries++) {
            int ignored = 0;
            took = use_all_again(&kinds[before], tries == 0 ? &count : &ignored);
        }
        if (took > most)
            complain(&cell, "they take %d ms", (int)(took / GREEN_MS(1)));
    }
    print_message("%d pairs of %d kinds\n", count, (int)KINDS);
    assert_int_equal(failed_cells, 0);
}

struct busy {
    int fd;
    unsigned reads;
};

static void *read_four(void *arg)
{
    struct busy *busy = arg;
    for (char byte; busy->reads < 4; busy->reads++)
        must(green_read(busy->fd, &byte, 1) == 1);
    return NULL;
}

/* Its registration is looked at a second after the first wait, and again for the last. */
TEST_WITH(a_number_that_was_busy_before_it_was_used_again_loses_no_event, begin_world, hubs_end)
{
    struct object o;
    int other[2];
    make_tcp_of_hub(&o);
    assert_int_equal(pipe(other), 0);
    struct busy busy = {.fd = o.in};
    green_task_t *reader = spawn(read_four, &busy);
    for (unsigned i = 0; i < 3; i++) { /* the second wait is the first that relies on it */
        assert_int_equal(green_write(o.peer_out, "b", 1), 1);
        while (busy.reads <= i)
            turn();
        assert_int_equal(green_sleep(GREEN_MS(300)), 0);
    }
    assert_int_equal(dup2(other[0], o.in), o.in);
    assert_int_equal(write(other[1], "b", 1), 1);
    assert_int_equal(green_task_join(reader, NULL, GREEN_FOREVER), 0);
    assert_int_equal(busy.reads, 4);
    assert_int_equal(green_task_free(reader), 0);
    close_by_hub(&o);
    close_end(&o.peer_out, &o.peer_in);
    assert_int_equal(close(other[0]) + close(other[1]), 0);
}

static void *read_one(void *fd)
{
    char bytes[2];
    return green_read(*(int *)fd, bytes, sizeof bytes) == 1 ? NULL : GREEN_FAILED;
}

/* It is asked for by one who waits no more, and the next is one that is tried once more. */
TEST_WITH(what_a_number_was_asked_for_does_not_count_for_the_next_that_has_it, begin_world, hubs_end)
{
    int fds[2], next[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, next), 0);
    green_task_t *task = spawn(read_for_ever, V(fds[0]));
    turn();
    turn();
    assert_int_equal(green_task_free(task), 0);
    assert_int_equal(write(fds[1], "a", 1), 1);
    assert_null(read_one(&fds[0]));
    assert_int_equal(dup2(next[0], fds[0]), fds[0]);
    task = spawn(read_one, &fds[0]);
    for (int i = 0; i < 4; i++)
        turn();
    assert_int_equal(write(next[1], "b", 1), 1);
    assert_int_equal(green_task_join(task, NULL, GREEN_SEC(20)), 0);
    assert_int_equal(green_task_free(task), 0);
    assert_int_equal(close(fds[0]) + close(fds[1]) + close(next[0]) + close(next[1]), 0);
}

int main(void)
{
    return run_all_tests();
}
