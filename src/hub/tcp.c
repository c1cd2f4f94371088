/* SPDX-License-Identifier: MIT */
/* Connections: made, accepted, listened for, served. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "fd.h"
#include "group.h"

#define PLACE __builtin_return_address(0)

/* RFC 8305, 5 "Connection Attempts". */
#define NEXT_ATTEMPT GREEN_MS(250)
#define ATTEMPTS_ON_STACK 16 /* for more there is malloc() */

static bool is_inet(const struct sockaddr *address)
{
    /* The kernel wrote it: NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult) */
    return address->sa_family == AF_INET || address->sa_family == AF_INET6;
}

/* For good, of a socket, which is the program's own (rule 17): ENOTSOCK of others. */
static int set_nonblocking(int fd)
{
    int type, flags = fcntl(fd, F_GETFL);
    socklen_t length = sizeof type;
    if (flags < 0)
        return -1;
    if ((flags & O_NONBLOCK) != 0)
        return 0;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) != 0)
        return -1;
    return fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

/* Other streams have records, at whose ends a read stops. */
static bool is_tcp(int fd)
{
    int protocol = 0;
    socklen_t length = sizeof protocol;
    return getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &length) == 0 &&
           protocol == IPPROTO_TCP;
}

static void set_nodelay(int fd)
{
    const int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static int socket_error(int fd)
{
    int error = 0;
    socklen_t length = sizeof error;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 ? error : errno;
}

static void close_keeping_errno(int fd)
{
    int error = errno;
    (void)green_close(fd);
    errno = error;
}

/* ---- One connection ------------------------------------------------------------------- */

/*
 * What became of an attempt that is over.  Who else reads from the socket, or has called
 * connect() for it too, may have been told the error, which is told once.
 */
static int result_of_attempt(struct green__hub *hub, int fd)
{
    const struct green__fd *known = green__fd_look(hub, fd);
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    int error = socket_error(fd);
    if (error == 0 && known != NULL && (known->ready & GREEN__FD_HUP) != 0 &&
        getpeername(fd, (struct sockaddr *)&address, &length) != 0 && errno == ENOTCONN)
        return ECONNABORTED; /* as connect() says then */
    return error;
}

/* Begins a connection: 0: it is made, or an errno, EINPROGRESS among them. */
static int begin_connect(struct green__hub *hub, int fd, const struct sockaddr *address,
                         socklen_t length)
{
    if (set_nonblocking(fd) != 0)
        return errno;
    int cancelable; /* none of this is a cancellation point */
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancelable);
    int error = GREEN__OWN(connect(fd, address, length)) == 0 ? 0 : errno;
    pthread_setcancelstate(cancelable, NULL);
    const struct green__fd *known = green__fd_look(hub, fd);
    bool waited_for = known != NULL && (known->in.first != NULL || known->out.first != NULL);
    if ((error == 0 || error == EINPROGRESS || error == EINTR) && !waited_for &&
        is_inet(address) && is_tcp(fd))
        green__fd_begin(hub, fd, true);
    return error == EINTR ? EINPROGRESS : error;
}

int green_connect(int fd, const struct sockaddr *address, socklen_t length)
{
    struct green__call call;
    if (address == NULL || length < sizeof address->sa_family)
        return green__call_fail(EINVAL);
    if (!green__call_begin(&call, GREEN_FOREVER))
        return -1;
    int error = begin_connect(call.hub, fd, address, length);
    /* A full AF_UNIX listener tells nobody when it has room. */
    for (int64_t pause = GREEN_MS(1); error == EAGAIN && address->sa_family == AF_UNIX;) {
        if (green__fd_pause(&call, fd, pause, NULL, "green_connect", PLACE) != 0 ||
            !green__call_goes_on(&call))
            return -1;
        pause = pause < GREEN_MS(50) ? 2 * pause : GREEN_MS(100);
        error = begin_connect(call.hub, fd, address, length);
    }
    if (error == EINPROGRESS || error == EALREADY) {
        if (green__fd_wait(&call, fd, EPOLLOUT, "green_connect", PLACE) != 0)
            return -1;
        error = result_of_attempt(call.hub, fd);
        green__fd_tried(call.hub, fd, 1);
        return error == 0 ? 0 : green__call_fail(error);
    }
    if (error != 0)
        return green__call_tried(&call, GREEN_FOREVER, error);
    return green__call_done(&call, GREEN_FOREVER);
}

/* Waits for one to come, or for the group, if it is not NULL, to be cancelled. */
static int wait_for_connection(struct green__call *call, int fd, green_group_t *group,
                               const char *name, const void *place)
{
    if (group == NULL)
        return green__fd_wait(call, fd, EPOLLIN, name, place);
    struct green__wait wait;
    struct green__entry entries[2] = {{0}, {0}};
    struct green__fd_entry own = {.entry = &entries[0], .fd = fd, .events = EPOLLIN};
    green__wait_prepare(&wait, call, name, (const void *)(intptr_t)fd, place);
    wait.entries = entries;
    wait.count = 2;
    int result = green__fd_enlist(call->hub, &wait, &own);
    if (result != 0)
        return result < 0 ? green__call_tried(call, GREEN_FOREVER, errno) : 0;
    green__wait_enlist(&wait, &entries[1], green__group_servers(group));
    result = green__wait(call->hub, &wait, GREEN_FOREVER);
    if (!green__fd_delist(call->hub, &own) && result == 0)
        return green__call_fail(EBADF);
    return result;
}

/* A connection; -1 with errno; FULL: the group, if it is not NULL, has no room for one. */
#define FULL (-2)
static int accept_one(struct green__call *call, int fd, green_group_t *group,
                      struct sockaddr_storage *address, socklen_t *length, int flags,
                      const char *name, const void *place)
{
    bool woken = false;
    if (set_nonblocking(fd) != 0)
        return green__call_tried(call, GREEN_FOREVER, errno);
    for (;;) {
        int connection;
        int cancelable;
        if (group != NULL && (green__group_is_full(group) || green__group_is_cancelled(group))) {
            if (woken)
                green__fd_tried(call->hub, fd, 0);
            return green__group_is_cancelled(group) ? green__call_fail(ECANCELED) : FULL;
        }
        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancelable);
        do {
            *length = sizeof *address;
            connection = GREEN__OWN(accept4(fd, (struct sockaddr *)address, length, flags));
        } while (connection < 0 && errno == EINTR);
        int error = errno;
        pthread_setcancelstate(cancelable, NULL);
        if (woken)
            green__fd_tried(call->hub, fd, 0);
        if (connection >= 0) {
            green__fd_begin(call->hub, connection,
                            is_inet((struct sockaddr *)address) && is_tcp(connection));
            return connection;
        }
        if (error != EAGAIN)
            return green__call_tried(call, GREEN_FOREVER, error);
        if (woken && !green__call_goes_on(call))
            return -1;
        if (wait_for_connection(call, fd, group, name, place) != 0)
            return -1;
        woken = true;
    }
}

int green_accept(int fd, struct sockaddr *address, socklen_t *length, int flags)
{
    struct green__call call;
    if ((flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK)) != 0 || (address != NULL && length == NULL))
        return green__call_fail(EINVAL);
    if (!green__call_begin(&call, GREEN_FOREVER))
        return -1;
    struct sockaddr_storage own;
    socklen_t own_length;
    int connection = accept_one(&call, fd, NULL, &own, &own_length, flags, "green_accept", PLACE);
    if (connection < 0)
        return -1;
    if (address != NULL) {
        memcpy(address, &own, *length < own_length ? *length : own_length);
        *length = own_length;
    }
    call.task = green__task_of(call.hub, call.me);
    (void)green__call_done(&call, GREEN_FOREVER);
    return connection;
}

/* ---- By name ----------------------------------------------------------------------------- */

/* Sets errno for what getaddrinfo() returned. */
static int fail_name(int result)
{
    switch (result) {
    case EAI_SYSTEM:
        return -1;
    case EAI_AGAIN:
        return green__call_fail(EAGAIN);
    case EAI_MEMORY:
        return green__call_fail(ENOMEM);
    case EAI_NONAME:
    case EAI_FAIL:
#ifdef EAI_NODATA
    case EAI_NODATA:
#endif
        return green__call_fail(ENOENT);
    default:
        return green__call_fail(EINVAL);
    }
}

/* Addresses by turns of their families, the first one's first (RFC 8305, 4). */
struct addresses {
    const struct addrinfo *own, *other; /* the next of the first one's family, and of others */
    int family;                         /* the first one's */
    bool others_turn;
};

/* The next that is of that family, or not. */
static const struct addrinfo *skip_to(const struct addrinfo *one, int family, bool of_it)
{
    while (one != NULL && (one->ai_family == family) != of_it)
        one = one->ai_next;
    return one;
}

static struct addresses begin_addresses(const struct addrinfo *list)
{
    int family = list != NULL ? list->ai_family : AF_UNSPEC;
    return (struct addresses){skip_to(list, family, true), skip_to(list, family, false), family,
                              false};
}

static bool has_address(const struct addresses *all)
{
    return all->own != NULL || all->other != NULL;
}

static const struct addrinfo *take_address(struct addresses *all)
{
    bool other = all->own == NULL || (all->other != NULL && all->others_turn);
    const struct addrinfo **from = other ? &all->other : &all->own, *one = *from;
    *from = skip_to(one->ai_next, all->family, !other);
    all->others_turn = !other;
    return one;
}

struct attempts {
    struct pollfd *fds; /* room for all addresses; fd -1: has failed */
    int used, running;
    int error; /* of the last that has failed */
};

/* Begins the next attempt: its place if it is connected at once, else -1. */
static int begin_attempt(struct green__call *call, struct attempts *attempts,
                         const struct addrinfo *address)
{
    int i = 0;
    while (i < attempts->used && attempts->fds[i].fd >= 0)
        i++;
    attempts->used += i == attempts->used;
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
                    address->ai_protocol);
    attempts->fds[i] = (struct pollfd){.fd = -1, .events = POLLOUT};
    if (fd >= 0)
        green__fd_begin(call->hub, fd, false);
    if (fd < 0 || green__fd_hold(call, fd) != 0) {
        attempts->error = errno;
        return -1;
    }
    int error = begin_connect(call->hub, fd, address->ai_addr, address->ai_addrlen);
    (void)green__fd_hold(call, fd); /* of the number that was begun again */
    if (error != 0 && error != EINPROGRESS) {
        attempts->error = error;
        green__fd_release(call, fd);
        return -1;
    }
    attempts->fds[i].fd = fd;
    attempts->running++;
    return error == 0 ? i : -1;
}

/* Which of those that poll() says something of is connected, or -1.  Tells of failures. */
static int look_at_attempts(const struct green__call *call, struct attempts *attempts,
                            bool *failed)
{
    for (int i = 0; i < attempts->used; i++) {
        struct pollfd *one = &attempts->fds[i];
        if (one->fd < 0 || one->revents == 0)
            continue;
        int error = socket_error(one->fd);
        if (error == 0)
            return i;
        *failed = true;
        attempts->error = error;
        green__fd_release(call, one->fd);
        one->fd = -1;
        attempts->running--;
    }
    return -1;
}

static int race_in(struct green__call *call, const struct addrinfo *list, struct pollfd *room)
{
    struct green__hub *hub = call->hub;
    struct addresses addresses = begin_addresses(list);
    struct attempts attempts = {.fds = room, .error = ENOENT};
    int won = -1;
    int64_t next = green__loop_now(hub);
    for (;;) {
        int64_t left = next - green__loop_now(hub);
        bool more = has_address(&addresses);
        if (more && (left <= 0 || attempts.running == 0)) {
            int running = attempts.running;
            won = begin_attempt(call, &attempts, take_address(&addresses));
            if (won >= 0)
                break;
            if (attempts.running != running) /* else the next is at once */
                next = green__time_add(green__loop_now(hub), NEXT_ATTEMPT);
            continue;
        }
        if (attempts.running == 0)
            break;
        int ready = green_poll(attempts.fds, (nfds_t)attempts.used,
                               more ? left : GREEN_FOREVER);
        if (ready < 0) {
            attempts.error = errno;
            break;
        }
        bool failed = false;
        won = ready > 0 ? look_at_attempts(call, &attempts, &failed) : -1;
        if (won >= 0)
            break;
        if (failed)
            next = green__loop_now(hub);
    }
    for (int i = 0; i < attempts.used; i++)
        if (i != won && attempts.fds[i].fd >= 0)
            green__fd_release(call, attempts.fds[i].fd);
    if (won < 0)
        return green__call_fail(attempts.error);
    green__fd_give_away(call, attempts.fds[won].fd);
    set_nodelay(attempts.fds[won].fd);
    return attempts.fds[won].fd;
}

static int race(struct green__call *call, const struct addrinfo *list)
{
    struct pollfd few[ATTEMPTS_ON_STACK], *many;
    size_t n = 0;
    for (const struct addrinfo *one = list; one != NULL; one = one->ai_next)
        n++;
    if (n <= ATTEMPTS_ON_STACK)
        return race_in(call, list, few);
    many = calloc(n, sizeof *many);
    if (many == NULL)
        return green__call_fail(ENOMEM);
    int fd = race_in(call, list, many), error = errno;
    free(many);
    errno = error;
    return fd;
}

int green_tcp_connect(const char *host, const char *service)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *list;
    if (host == NULL || service == NULL)
        return green__call_fail(EINVAL);
    int result = green_getaddrinfo(host, service, &hints, &list);
    if (result != 0)
        return fail_name(result);
    struct green__call call = {.hub = green__hub_need(), .me = green__layer_current()};
    int fd = call.hub != NULL ? race(&call, list) : -1;
    int error = errno;
    freeaddrinfo(list);
    errno = error;
    return fd;
}

/* A listening socket at an address, or -1. */
static int listen_at(const struct addrinfo *address, unsigned flags)
{
    const int on = 1, off = 0;
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
                    address->ai_protocol);
    if (fd < 0)
        return -1;
    bool good = setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0;
    if ((flags & GREEN_REUSEPORT) != 0)
        good = good && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) == 0;
    if (address->ai_family == AF_INET6) /* all addresses are IPv4's, too */
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (good && bind(fd, address->ai_addr, address->ai_addrlen) == 0 &&
        listen(fd, INT32_MAX) == 0)
        return fd;
    close_keeping_errno(fd);
    return -1;
}

int green_tcp_listen(const char *host, const char *service, unsigned flags)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *list;
    if (service == NULL || (flags & ~GREEN_REUSEPORT) != 0)
        return green__call_fail(EINVAL);
    int result = green_getaddrinfo(host, service, &hints, &list);
    if (result != 0)
        return fail_name(result);
    int fd = -1;
    for (const struct addrinfo *one = list; host == NULL && fd < 0 && one != NULL; one = one->ai_next)
        if (one->ai_family == AF_INET6)
            fd = listen_at(one, flags);
    for (const struct addrinfo *one = list; fd < 0 && one != NULL; one = one->ai_next)
        fd = listen_at(one, flags);
    int error = errno;
    freeaddrinfo(list);
    if (fd >= 0 && green__hub_self != NULL)
        green__fd_begin(green__hub_self, fd, false);
    errno = error;
    return fd;
}

/* ---- Serving --------------------------------------------------------------------------------- */

/* Until its task has ended.  Of the hub's list, which closes what is left of it. */
struct green__served {
    struct green__served *next, *prev;
    const struct green_task *task; /* NULL: it has not begun */
    int fd;
    uint32_t closes; /* of the number, to see whether it was closed since */
    void (*handle)(int connection, void *arg);
    void *arg;
};

static void link_served(struct green__hub *hub, struct green__served *served)
{
    served->prev = NULL;
    served->next = hub->served;
    if (served->next != NULL)
        served->next->prev = served;
    hub->served = served;
}

static void unlink_served(struct green__hub *hub, struct green__served *served)
{
    if (served->prev != NULL)
        served->prev->next = served->next;
    else
        hub->served = served->next;
    if (served->next != NULL)
        served->next->prev = served->prev;
}

static void close_served(void *arg)
{
    struct green__served *served = arg;
    unlink_served(green__hub_self, served);
    if (green__fd_closes(served->fd) == served->closes)
        (void)green_close(served->fd);
    free(served);
}

/* Of tasks that have ended without running any more: rules 16 and 20. */
static void drop_served(struct green__hub *hub, const struct green_task *but)
{
    for (struct green__served *served = hub->served, *next; served != NULL; served = next) {
        next = served->next;
        if (served->task != NULL && served->task == but)
            continue;
        if (green__fd_closes(served->fd) == served->closes)
            green__fd_drop(hub, served->fd, but != NULL);
        unlink_served(hub, served);
        free(served);
    }
}

static void *serve_one(void *arg)
{
    struct green__served *served = arg;
    served->task = green_task_current();
    if (green_defer(close_served, served) != 0) {
        close_served(served);
        return GREEN_FAILED;
    }
    served->handle(served->fd, served->arg);
    return NULL;
}

/* What is the connection's fault, or the network's: the next may come (accept(2)). */
static bool is_passing(int error)
{
    switch (error) {
    case ECONNABORTED:
    case EPROTO:
    case ENETDOWN:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EPERM:
    case ETIMEDOUT:
        return true;
    default:
        return false;
    }
}

static bool is_shortage(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

static int spawn_served(green_group_t *group, const struct green__served *one)
{
    struct green__served *served = malloc(sizeof *served);
    if (served == NULL)
        return green__call_fail(ENOMEM);
    *served = *one;
    struct green__hub *hub = green__hub_self;
    hub->drop_served = drop_served;
    link_served(hub, served); /* before, as a spawn gives turns */
    if (green_group_spawn(group, serve_one, served) == 0)
        return 0;
    int error = errno;
    unlink_served(hub, served);
    free(served);
    return green__call_fail(error);
}

/* Lets some time go by, until the group is cancelled or the number closed. */
static int pause_before_accept(int fd, green_group_t *group, int64_t time, const void *place)
{
    struct green__call call;
    if (!green__call_begin(&call, GREEN_FOREVER))
        return -1;
    if (green__group_is_cancelled(group))
        return green__call_fail(ECANCELED);
    return green__fd_pause(&call, fd, time, green__group_servers(group), "green_serve", place);
}

static int serve(struct green__hub *hub, int fd, green_group_t *group,
                 void (*handle)(int connection, void *arg), void *arg, const void *place)
{
    int64_t pause = 0;
    const uint32_t closes = green__fd_closes(fd);
    for (;;) {
        struct green__call call;
        struct sockaddr_storage address;
        socklen_t length;
        if (pause != 0 && pause_before_accept(fd, group, pause, place) != 0)
            return -1;
        struct green__fd_entry end = {.fd = fd, .looks = true}; /* waits for no event */
        if (green__group_wait_for_room(group, &green__fd_look(hub, fd)->in, &end, "green_serve",
                                       place) != 0 ||
            !green__call_begin(&call, GREEN_FOREVER))
            return -1;
        if (green__fd_closes(fd) != closes)
            return green__call_fail(EBADF); /* closed meanwhile */
        int connection = accept_one(&call, fd, group, &address, &length, SOCK_CLOEXEC,
                                    "green_serve", place);
        int error = errno;
        if (connection == FULL)
            continue;
        if (connection >= 0) {
            if (is_inet((struct sockaddr *)&address))
                set_nodelay(connection);
            (void)green__fd_need(call.hub, connection); /* so that its end can be told */
            struct green__served served = {
                .fd = connection, .closes = green__fd_closes(connection), .handle = handle,
                .arg = arg};
            error = spawn_served(group, &served) == 0 ? 0 : errno;
            if (error != 0)
                close_keeping_errno(connection);
        } else if (is_passing(error) && green_task_check() == 0) {
            error = 0;
        }
        if (error == 0) {
            pause = 0;
            if (connection >= 0) {
                call.task = green__task_of(call.hub, call.me);
                (void)green__call_done(&call, GREEN_FOREVER);
            }
        } else if (is_shortage(error)) {
            pause = pause == 0 ? GREEN_MS(10) : pause < GREEN_MS(500) ? 2 * pause : GREEN_SEC(1);
        } else {
            return green__call_fail(error);
        }
    }
}

int green_serve(int fd, green_group_t *group, void (*handle)(int connection, void *arg), void *arg)
{
    if (group == NULL || handle == NULL)
        return green__call_fail(EINVAL);
    struct green__hub *hub = green__hub_need();
    if (hub == NULL || set_nonblocking(fd) != 0 || green__fd_need(hub, fd) == NULL ||
        !green__group_hold(hub, group))
        return -1;
    uint64_t id = hub->id;
    int result = serve(hub, fd, group, handle, arg, PLACE);
    if (green__hub_self != NULL && green__hub_self->id == id) /* else a child has ended it */
        green__group_release(group);
    return result;
}
