/* SPDX-License-Identifier: MIT */
/*
 * Readiness: see fd.h.
 *
 * One event wakes one of those who want to take something, and all who only look; the
 * end of a connection wakes all.  Who was woken tries, and only then is the next woken
 * or the descriptor asked about again: two tasks do not race for one datum.
 *
 * If a number is used again behind the hub's back, a registration that it counts on may be
 * gone.  So a wait that has relied on one for a second has it renewed, once.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "fd.h"
#include "io.h"

#define RENEW_AFTER INT64_C(1000000000)
#define RENEW_SHIFT 26 /* a list has what is due within 2^26 ns */
_Static_assert((RENEW_AFTER >> RENEW_SHIFT) + 2 < GREEN__FD_RENEW_LISTS, "one list, one time");
#define ALL_IN (EPOLLIN | EPOLLPRI | EPOLLRDHUP)
#define ENDS (EPOLLHUP | EPOLLERR)
#define EDGE_EVENTS (EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDHUP | EPOLLET)

/* ---- What is known of numbers --------------------------------------------------- */

static void fork_fds(struct green__hub *hub, const struct green_task *mine);
static void end_fds(struct green__hub *hub);
static void on_fd_event(struct green__hub *hub, uint64_t data, uint32_t events);
static void renew(struct green__hub *hub);
static void retry(struct green__hub *hub, bool asks);
static void wake_all(struct green__hub *hub, struct green__fd *known, int error);

struct green__fd *green__fd_need(struct green__hub *hub, int fd)
{
    struct green__fd *known = green__fd_look(hub, fd);
    if (LIKELY(known != NULL))
        return known;
    if (fd < 0) {
        errno = EBADF;
        return NULL;
    }
    if (hub->fds == NULL) {
        hub->fds = calloc(1, sizeof *hub->fds);
        if (hub->fds == NULL)
            goto no_memory;
        hub->end_fds = end_fds;
        hub->fork_fds = fork_fds;
        hub->on_event = on_fd_event;
        hub->on_renew = renew;
        hub->on_retry = retry;
        hub->renew_at = GREEN_FOREVER;
    }
    struct green__fds *fds = hub->fds;
    size_t chunk = (size_t)fd / GREEN__FD_CHUNK;
    if (chunk >= fds->count) {
        size_t count = fds->count * 2 > chunk ? fds->count * 2 : chunk + 1;
        /* Of pointers: NOLINTBEGIN(bugprone-sizeof-expression) */
        struct green__fd **chunks = realloc(fds->chunks, count * sizeof *chunks);
        if (chunks == NULL)
            goto no_memory;
        memset(chunks + fds->count, 0, (count - fds->count) * sizeof *chunks);
        /* NOLINTEND(bugprone-sizeof-expression) */
        fds->chunks = chunks;
        fds->count = count;
    }
    fds->chunks[chunk] = aligned_alloc(64, sizeof **fds->chunks * GREEN__FD_CHUNK);
    if (fds->chunks[chunk] == NULL)
        goto no_memory;
    memset(fds->chunks[chunk], 0, sizeof **fds->chunks * GREEN__FD_CHUNK);
    for (size_t i = 0; i < GREEN__FD_CHUNK; i++)
        fds->chunks[chunk][i].ready = GREEN__FD_IN | GREEN__FD_OUT; /* they may be */
    return &fds->chunks[chunk][(size_t)fd % GREEN__FD_CHUNK];

no_memory:
    errno = ENOMEM;
    return NULL;
}

static void forget_number(struct green__fd *known)
{
    known->closes++;
    known->armed = 0;
    known->mode = GREEN__FD_NONE;
    known->kind = GREEN__FD_UNKNOWN;
    known->ready = GREEN__FD_IN | GREEN__FD_OUT;
    known->made = false;
    known->stream = false;
    known->no_nowait = 0;
    known->woken[0] = known->woken[1] = 0;
    known->retried = false;
    known->in_vain = known->rest = 0;
    known->holder = NULL;
}

void green__fd_begin(struct green__hub *hub, int fd, bool made)
{
    struct green__fd *known = made ? green__fd_need(hub, fd) : green__fd_look(hub, fd);
    if (known == NULL)
        return; /* it is served as one of whom nothing is known */
    wake_all(hub, known, EBADF); /* who waits still does so for one that was closed */
    forget_number(known);
    known->made = made;
    if (made)
        known->kind = GREEN__FD_SOCKET;
}

static inline bool is_waited_for(const struct green__fd *known)
{
    return known->in.first != NULL || known->out.first != NULL;
}

/* ---- Asking epoll ------------------------------------------------------------------ */

/* What epoll has of a number: if that is another's by now, it is old. */
static inline uint64_t name_of(int fd, const struct green__fd *known)
{
    return (uint64_t)known->closes << 32 | (uint32_t)fd;
}

static struct epoll_event asked_for(int fd, const struct green__fd *known, uint32_t events)
{
    return (struct epoll_event){.events = events, .data.u64 = name_of(fd, known)};
}

/* Adds a number to epoll or changes what is asked, whichever it is.  0, or an errno. */
static int ask(struct green__hub *hub, int fd, struct green__fd *known, uint32_t events)
{
    struct epoll_event wanted = asked_for(fd, known, events);
    bool is_known = known->mode == GREEN__FD_EDGE || known->mode == GREEN__FD_ONCE;
    int first = is_known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    if (epoll_ctl(hub->epoll, first, fd, &wanted) == 0)
        return 0;
    if (errno == ENOENT || errno == EEXIST) {
        int second = is_known ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
        if (epoll_ctl(hub->epoll, second, fd, &wanted) == 0)
            return 0;
    }
    return errno;
}

static int ask_edge(struct green__hub *hub, int fd, struct green__fd *known)
{
    int error = ask(hub, fd, known, EDGE_EVENTS);
    if (error == 0)
        known->mode = GREEN__FD_EDGE;
    return error;
}

/* What those want who wait, in directions in which nobody was woken. */
static uint32_t wanted_of(const struct green__fd *known)
{
    uint32_t wanted = 0;
    for (unsigned direction = 0; direction < 2; direction++) {
        const struct green__entry *entry =
            green__line_first(direction == 0 ? &known->in : &known->out);
        for (; entry != NULL; entry = entry->next) {
            const struct green__fd_entry *own = entry->item;
            if (entry->wait->state == GREEN__WAITS &&
                (own->looks || known->woken[direction] == 0))
                wanted |= own->events;
        }
    }
    return wanted;
}

/* Asks for what is wanted and not yet asked for.  0, or an errno. */
static int ask_once(struct green__hub *hub, int fd, struct green__fd *known, uint32_t wanted)
{
    wanted |= known->armed;
    int error = ask(hub, fd, known, wanted | EPOLLONESHOT);
    if (error == 0) {
        known->mode = GREEN__FD_ONCE;
        known->armed = wanted;
    }
    return error;
}

static void wake_all(struct green__hub *hub, struct green__fd *known, int error)
{
    green__wait_serve_all(hub, &known->in, error);
    green__wait_serve_all(hub, &known->out, error);
}

/* Nobody is to wait for nothing: if it fails all are woken. */
static void ask_again_of(struct green__hub *hub, int fd, struct green__fd *known, uint32_t wanted)
{
    int error = ask_once(hub, fd, known, wanted);
    if (error != 0)
        wake_all(hub, known, error == EPERM ? 0 : error);
}

/* After an event: for those who still wait. */
static void ask_again(struct green__hub *hub, int fd, struct green__fd *known)
{
    uint32_t wanted = wanted_of(known);
    if (wanted == 0 || known->mode != GREEN__FD_ONCE || (known->armed & wanted) == wanted)
        return;
    ask_again_of(hub, fd, known, wanted);
}

/* ---- Events ------------------------------------------------------------------------- */

/* Wakes all who look, and of the others the first, or all of them. */
static void wake(struct green__hub *hub, struct green__fd *known, unsigned direction,
                 uint32_t events, bool all)
{
    struct green_private_line *line = direction == 0 ? &known->in : &known->out;
    struct green__entry *entry = green__line_first(line), *next;
    for (; entry != NULL; entry = next) {
        struct green__fd_entry *own = entry->item;
        next = entry->next;
        if (entry->wait->state != GREEN__WAITS || (own->events & (all ? ~0u : events)) == 0)
            continue; /* also who waits for its end alone */
        if (!own->looks) {
            if (!all && known->woken[direction] != 0)
                continue;
            known->woken[direction]++;
        }
        /* A wait in both lines of a number, or in that of others, goes from all of them. */
        while (next != NULL && next->wait == entry->wait)
            next = next->next;
        green__wait_wake(hub, entry);
    }
}

/* The same, where one at most waits for nothing else and no other is about to try. */
static inline void wake_one(struct green__hub *hub, struct green__fd *known, unsigned direction,
                            uint32_t events)
{
    struct green__entry *entry = green__line_first(direction == 0 ? &known->in : &known->out);
    if (entry == NULL)
        return;
    const struct green__fd_entry *own = entry->item;
    if (UNLIKELY(entry->next != NULL || own->looks || known->woken[direction] != 0 ||
                 (own->events & events) == 0)) {
        wake(hub, known, direction, events, false);
        return;
    }
    known->woken[direction]++;
    green__wait_serve(hub, entry, 0);
}

static void on_fd_event(struct green__hub *hub, uint64_t data, uint32_t events)
{
    int fd = (int)(uint32_t)data;
    struct green__fd *known = green__fd_look(hub, fd);
    if (known == NULL || name_of(fd, known) != data)
        return; /* of one that had the number before */
    known->armed = 0;
    if ((events & EPOLLIN) != 0)
        known->ready |= GREEN__FD_IN;
    if ((events & EPOLLOUT) != 0)
        known->ready |= GREEN__FD_OUT;
    if (LIKELY((events & ~(uint32_t)(EPOLLIN | EPOLLOUT)) == 0)) {
        if ((events & EPOLLIN) != 0)
            wake_one(hub, known, 0, events);
        if ((events & EPOLLOUT) != 0)
            wake_one(hub, known, 1, events);
        if (UNLIKELY(is_waited_for(known)))
            ask_again(hub, fd, known);
        return;
    }
    bool ends = (events & ENDS) != 0;
    if ((events & (ALL_IN | ENDS)) != 0)
        known->ready |= GREEN__FD_IN;
    if (ends)
        known->ready |= GREEN__FD_OUT;
    if ((events & (ENDS | EPOLLRDHUP)) != 0)
        known->ready |= GREEN__FD_HUP;
    if ((events & EPOLLPRI) != 0)
        known->made = false; /* a read stops short of urgent data, and more may be behind it */
    if ((known->ready & GREEN__FD_IN) != 0 && (events & (ALL_IN | ENDS)) != 0)
        wake(hub, known, 0, events, ends || (events & EPOLLRDHUP) != 0);
    if ((events & (EPOLLOUT | ENDS)) != 0)
        wake(hub, known, 1, events, ends);
    ask_again(hub, fd, known);
}

void green__fd_wake_next(struct green__hub *hub, int fd, struct green__fd *known,
                         unsigned direction)
{
    int error = errno;
    if (known->woken[direction] != 0)
        return;
    if (known->mode != GREEN__FD_EDGE)
        ask_again(hub, fd, known);
    else if ((known->ready & 1u << direction) != 0)
        wake(hub, known, direction, ~0u, false);
    errno = error;
}

/* ---- Renewal --------------------------------------------------------------------------- */

/*
 * A number gets into a list when somebody begins to rely on it, and is looked at a second
 * later.  Meanwhile that one has mostly been served, and others have begun: so nobody who
 * begins or ends a wait has more to do than to note the time.
 */
static void look_later(struct green__hub *hub, int fd, struct green__fd *known, int64_t due)
{
    struct green__fds *fds = hub->fds;
    uint64_t end = ((uint64_t)due >> RENEW_SHIFT) + 1;
    unsigned list = (unsigned)(end % GREEN__FD_RENEW_LISTS);
    int64_t at = (int64_t)(end << RENEW_SHIFT);
    known->renew_next = (fds->renew_any >> list & 1) != 0 ? fds->renew[list] : -1;
    fds->renew[list] = fd;
    fds->renew_any |= 1u << list;
    known->renews = true;
    if (at < hub->renew_at)
        hub->renew_at = at;
}

/* Somebody will wait who relies on its registration. */
static inline void rely(struct green__hub *hub, int fd, struct green__fd *known)
{
    if (!is_waited_for(known))
        known->relied_on = hub->time;
    if (UNLIKELY(!known->renews))
        look_later(hub, fd, known, green__time_add(hub->time, RENEW_AFTER));
}

void green__fd_is_anothers(struct green__hub *hub, int fd, struct green__fd *known)
{
    known->made = known->stream = false;
    known->no_nowait = 0;
    known->ready = GREEN__FD_IN | GREEN__FD_OUT;
    known->kind = GREEN__FD_UNKNOWN;
    known->mode = GREEN__FD_NONE;
    if (is_waited_for(known))
        ask_again_of(hub, fd, known, wanted_of(known));
}

/* A number that is not registered any more is another descriptor's. */
static void renew_edge(struct green__hub *hub, int fd, struct green__fd *known)
{
    struct epoll_event wanted = asked_for(fd, known, EDGE_EVENTS);
    if (epoll_ctl(hub->epoll, EPOLL_CTL_MOD, fd, &wanted) != 0)
        green__fd_is_anothers(hub, fd, known);
}

static void renew_one(struct green__hub *hub, int fd)
{
    struct green__fd *known = green__fd_look(hub, fd);
    known->renews = false;
    if (!is_waited_for(known))
        return;
    int64_t due = green__time_add(known->relied_on, RENEW_AFTER);
    if (due > hub->time) {
        look_later(hub, fd, known, due);
    } else if (known->mode == GREEN__FD_EDGE) {
        renew_edge(hub, fd, known);
    } else if (known->mode == GREEN__FD_ONCE) {
        uint32_t wanted = wanted_of(known);
        if (wanted != 0)
            (void)ask_once(hub, fd, known, wanted);
    }
}

static void renew(struct green__hub *hub)
{
    struct green__fds *fds = hub->fds;
    uint64_t now = (uint64_t)hub->time >> RENEW_SHIFT, end = (uint64_t)hub->renew_at >> RENEW_SHIFT;
    hub->renew_at = GREEN_FOREVER;
    uint32_t any = fds->renew_any;
    for (uint64_t list; any != 0; end++) {
        list = end % GREEN__FD_RENEW_LISTS;
        if ((any >> list & 1) == 0)
            continue;
        any &= ~(1u << list);
        if (end > now) {
            if ((int64_t)(end << RENEW_SHIFT) < hub->renew_at)
                hub->renew_at = (int64_t)(end << RENEW_SHIFT);
            break;
        }
        fds->renew_any &= ~(1u << list);
        for (int fd = fds->renew[list], next; fd >= 0; fd = next) {
            next = green__fd_look(hub, fd)->renew_next;
            renew_one(hub, fd);
        }
    }
}

/* ---- Another try ------------------------------------------------------------------------ */

/*
 * To ask epoll, and to be told, are two calls of the system for a read of what the hub has not
 * made.  What comes next is often there before: other tasks write it, or other processes do
 * while the tasks of other descriptors run.  So when somebody has had a turn since, and nobody is
 * ready any more, such a read is tried first.  Where that was in vain the next waits ask at once:
 * 15, and twice as many each time.
 */
#define LEAST_REST 15u
#define MOST_REST 255u

static inline void rest(struct green__fd *known)
{
    if (known->in_vain < MOST_REST)
        known->in_vain = (unsigned char)(2 * known->in_vain | LEAST_REST);
    known->rest = known->in_vain;
}

static inline bool is_worth_a_retry(const struct green__hub *hub, struct green__fd *known)
{
    if (known == NULL)
        return false;
    bool was_in_vain = known->retried;
    known->retried = false;
    if (!known->stream || !hub->is_plain || is_waited_for(known))
        return false;
    if (was_in_vain) {
        rest(known);
        return false;
    }
    if (known->rest == 0)
        return true;
    known->rest--;
    return false;
}

static void put_last_to_retry(struct green__hub *hub, int fd, struct green__fd *known)
{
    if (hub->retry_first < 0)
        hub->retry_first = fd;
    else
        green__fd_look(hub, hub->fds->retry_last)->retry_next = fd;
    hub->fds->retry_last = fd;
    known->retry_next = -1;
}

/* Has a read that will wait be tried once more, if that is worth it. */
static __attribute__((noinline)) bool retry_later(struct green__hub *hub, int fd,
                                                  struct green__fd *known)
{
    if (!is_worth_a_retry(hub, known))
        return false;
    known->armed = 0; /* that was for others, who wait no more */
    known->retry_after = green__loop_turns(hub);
    if (!known->to_retry)
        put_last_to_retry(hub, fd, known);
    known->to_retry = true;
    return true;
}

/* The first who waits to read; who only looks whether the number is closed takes nothing. */
static struct green__entry *first_reader(const struct green__fd *known)
{
    struct green__entry *entry = green__line_first(&known->in);
    while (entry != NULL && ((struct green__fd_entry *)entry->item)->looks)
        entry = entry->next;
    return entry;
}

/* asks: nobody has anything more to do, so epoll is asked for all of them. */
static void retry(struct green__hub *hub, bool asks)
{
    uint64_t turns = green__loop_turns(hub);
    int fd = hub->retry_first;
    hub->retry_first = -1;
    for (int next; fd >= 0; fd = next) {
        struct green__fd *known = green__fd_look(hub, fd);
        /* If nobody waits any more, or epoll was asked for all, there is nothing to do. */
        bool is_asked = known->armed != 0 || known->made; /* a new one with that number */
        struct green__entry *entry = is_asked ? NULL : first_reader(known);
        next = known->retry_next;
        if (entry != NULL && !asks && known->retry_after == turns) {
            put_last_to_retry(hub, fd, known);
            continue;
        }
        known->to_retry = false;
        if (entry == NULL)
            continue;
        if (asks) {
            rest(known);
            if (green__loop_need_epoll(hub) != 0)
                wake_all(hub, known, errno);
            else
                ask_again_of(hub, fd, known, wanted_of(known));
        } else {
            known->retried = ((struct green__fd_entry *)entry->item)->retries = true;
            known->ready |= GREEN__FD_IN; /* until it is seen to be empty */
            known->woken[0]++;
            green__wait_serve(hub, entry, 0);
        }
    }
}

/* ---- Waiting ------------------------------------------------------------------------------ */

/* Has it registered for such a wait: 0, 1 if it is ready whatever it is, or -1 with errno. */
static __attribute__((noinline)) int enlist_slowly(struct green__hub *hub, struct green__fd *known,
                                                   const struct green__fd_entry *entry)
{
    int fd = entry->fd, error = 0;
    if (known == NULL || green__loop_need_epoll(hub) != 0)
        return -1;
    if ((entry->events & (EPOLLPRI | EPOLLRDBAND | EPOLLWRBAND)) != 0)
        known->made = false; /* one that is asked for urgent data is as all others */
    if (known->mode == GREEN__FD_ALWAYS) {
        known->mode = GREEN__FD_NONE; /* it may be another by now */
        error = ask_once(hub, fd, known, wanted_of(known) | entry->events);
    } else if (known->made) {
        if (known->mode == GREEN__FD_EDGE)
            rely(hub, fd, known);
        else
            error = ask_edge(hub, fd, known);
    } else if (known->mode == GREEN__FD_ONCE && is_waited_for(known) &&
               (known->armed & entry->events) == entry->events) {
        /* Else it was asked for by who waits no more: the number may be another's. */
        rely(hub, fd, known);
    } else { /* others may have relied on what was asked before, or are to be tried once more */
        error = ask_once(hub, fd, known, wanted_of(known) | entry->events);
    }
    if (error == 0)
        return 0;
    if (error == EPERM)
        known->mode = GREEN__FD_ALWAYS;
    errno = error;
    return error == EPERM ? 1 : -1;
}

/* known NULL: there is no memory.  reads: nothing else is done when it is ready, or may be. */
static inline int enlist_at(struct green__hub *hub, struct green__wait *wait,
                         struct green__fd_entry *entry, struct green__fd *known, bool reads)
{
    if (LIKELY(known != NULL && known->made && known->mode == GREEN__FD_EDGE &&
               (entry->events & (EPOLLPRI | EPOLLRDBAND | EPOLLWRBAND)) == 0)) {
        rely(hub, entry->fd, known);
    } else if (!reads || !retry_later(hub, entry->fd, known)) {
        int result = enlist_slowly(hub, known, entry);
        if (result != 0)
            return result;
    }
    entry->closes = known->closes;
    entry->entry->item = entry;
    bool in = (entry->events & ALL_IN) != 0;
    green__wait_enlist(wait, entry->entry, in ? &known->in : &known->out);
    wait->descriptors++;
    hub->descriptors++;
    return 0;
}

int green__fd_enlist(struct green__hub *hub, struct green__wait *wait,
                     struct green__fd_entry *entry)
{
    entry->entry->line = NULL;
    return enlist_at(hub, wait, entry, green__fd_need(hub, entry->fd), false);
}

static inline bool delist_from(struct green__hub *hub, const struct green__fd_entry *entry,
                          const struct green__fd *known)
{
    hub->descriptors--;
    return known->closes == entry->closes;
}

bool green__fd_delist(struct green__hub *hub, struct green__fd_entry *entry)
{
    if (entry->entry->wait->task == NULL) /* in a child, which has not counted it */
        return false;
    return delist_from(hub, entry, green__fd_look(hub, entry->fd));
}

int green__fd_wait(struct green__call *call, int fd, uint32_t events, const char *name,
                   const void *place)
{
    return green__fd_wait_for(call, fd, events, GREEN_FOREVER, name, place);
}

int green__fd_wait_for(struct green__call *call, int fd, uint32_t events, int64_t timeout,
                       const char *name, const void *place)
{
    return green__fd_wait_known(call, fd, green__fd_need(call->hub, fd), events, timeout, name,
                                place);
}

int green__fd_wait_known(struct green__call *call, int fd, struct green__fd *known, uint32_t events,
                         int64_t timeout, const char *name, const void *place)
{
    struct green__hub *hub = call->hub;
    struct green__wait wait;
    struct green__entry entry;
    struct green__fd_entry own = {.entry = &entry, .fd = fd, .events = events};
    green__wait_prepare(&wait, call, name, (const void *)(intptr_t)fd, place);
    wait.entries = &entry;
    wait.count = 1;
    int result = enlist_at(hub, &wait, &own, known, events == GREEN__FD_READS);
    if (UNLIKELY(result != 0))
        return result < 0 ? green__call_tried(call, GREEN_FOREVER, errno) : 0;
    result = green__wait(hub, &wait, timeout);
    if (UNLIKELY(wait.task == NULL)) /* in a child, which has not counted it */
        return result;
    if (UNLIKELY(!delist_from(hub, &own, known)) && result == 0)
        return green__call_fail(EBADF);
    return result == 0 && own.retries ? 1 : result;
}

int green__fd_pause(struct green__call *call, int fd, int64_t time,
                    struct green_private_line *ending, const char *name, const void *place)
{
    struct green__wait wait;
    struct green__entry entries[2] = {{0}, {0}};
    struct green__fd_entry own = {.entry = entries, .fd = fd, .looks = true}; /* for no event */
    struct green__fd *known = green__fd_need(call->hub, fd);
    green__wait_prepare(&wait, call, name, (const void *)(intptr_t)fd, place);
    wait.entries = entries;
    wait.ends_well = true;
    if (known != NULL) {
        own.closes = known->closes;
        entries[0].item = &own;
        green__wait_enlist(&wait, &entries[wait.count++], &known->in);
    }
    if (ending != NULL)
        green__wait_enlist(&wait, &entries[wait.count++], ending);
    int result = green__wait(call->hub, &wait, time);
    if (result == 0 && wait.task != NULL && known != NULL && known->closes != own.closes)
        return green__call_fail(EBADF);
    return result;
}

/* ---- Closing -------------------------------------------------------------------------------- */

static int close_number(int fd)
{
    int result = green__close(fd);
    return result != 0 && errno == EINTR ? 0 : result; /* Linux has closed it all the same */
}

int green_close(int fd)
{
    if (green__layer_only_looks())
        return green__call_fail(EBUSY);
    if (green__hub_forbidden)
        return green__call_fail(EPERM);
    struct green__hub *hub = green__hub_self;
    struct green__fd *known = hub != NULL ? green__fd_look(hub, fd) : NULL;
    if (known == NULL)
        return close_number(fd);
    if (known->closing)
        return green__call_fail(EBADF);
    wake_all(hub, known, EBADF);
    if (known->mode == GREEN__FD_EDGE || known->mode == GREEN__FD_ONCE) {
        struct epoll_event unused;
        /* A copy of the descriptor would keep the registration. */
        (void)epoll_ctl(hub->epoll, EPOLL_CTL_DEL, fd, &unused);
    }
    unsigned jobs = known->jobs;
    forget_number(known);
    if (jobs != 0) {
        known->closing = true; /* by who ends the last of them */
        return 0;
    }
    return close_number(fd);
}

void green__fd_drop(struct green__hub *hub, int fd, bool wakes)
{
    struct green__fd *known = green__fd_look(hub, fd);
    if (known != NULL && wakes)
        wake_all(hub, known, EBADF);
    if (known != NULL)
        forget_number(known);
    (void)close_number(fd);
}

int green__fd_hold(const struct green__call *call, int fd)
{
    struct green__fd *known = green__fd_need(call->hub, fd);
    if (known == NULL) {
        (void)close_number(fd);
        return green__call_fail(ENOMEM);
    }
    known->holder = call->me;
    return 0;
}

/* NULL: it is the call's no more. */
static struct green__fd *held(const struct green__call *call, int fd)
{
    struct green__hub *hub = green__hub_self; /* a child may have ended the call's */
    struct green__fd *known = hub != NULL ? green__fd_look(hub, fd) : NULL;
    return known != NULL && known->holder == call->me ? known : NULL;
}

void green__fd_release(const struct green__call *call, int fd)
{
    int error = errno;
    if (held(call, fd) != NULL)
        (void)green_close(fd);
    errno = error;
}

void green__fd_give_away(const struct green__call *call, int fd)
{
    held(call, fd)->holder = NULL;
}

void green__fd_job_begins(struct green__hub *hub, int fd)
{
    green__fd_look(hub, fd)->jobs++;
}

static void close_at_last(int fd, struct green__fd *known)
{
    known->closing = false;
    (void)close_number(fd);
}

void green__fd_job_ends(int fd)
{
    struct green__hub *hub = green__hub_self; /* a child may have ended that of the call */
    struct green__fd *known = hub != NULL ? green__fd_look(hub, fd) : NULL;
    if (known != NULL && known->jobs != 0 && --known->jobs == 0 && known->closing)
        close_at_last(fd, known);
}

/* ---- fork, end ------------------------------------------------------------------------------- */

static void drop_held(int fd, struct green__fd *known)
{
    forget_number(known);
    (void)close_number(fd);
}

static bool goes_on_in_child(struct green__hub *hub, green_t *g, const struct green_task *mine)
{
    const struct green_task *task = green__task_of(hub, g);
    return task == mine || task == &hub->main;
}

/* Those that wait on stacks which are left are not in any line any more. */
static void fork_fds(struct green__hub *hub, const struct green_task *mine)
{
    struct green__fds *fds = hub->fds;
    if (fds == NULL)
        return;
    fds->renew_any = 0;
    hub->renew_at = GREEN_FOREVER;
    hub->retry_first = -1;
    hub->descriptors = 0; /* bare waits wait for none */
    for (const struct green__wait *wait = hub->main.waits; wait != NULL; wait = wait->next)
        hub->descriptors += wait->descriptors;
    for (const struct green_task *task = hub->living.next; task != &hub->living;
         task = task->next)
        for (const struct green__wait *wait = task->waits; wait != NULL; wait = wait->next)
            hub->descriptors += wait->descriptors;
    for (size_t i = 0; i < fds->count * GREEN__FD_CHUNK; i++) {
        int fd = (int)i;
        struct green__fd *known = green__fd_look(hub, fd);
        if (known == NULL)
            continue;
        known->renews = known->to_retry = known->retried = false;
        known->armed = 0;
        known->jobs = 0;
        if (known->closing)
            close_at_last(fd, known);
        known->woken[0] = known->woken[1] = 0;
        known->mode = GREEN__FD_NONE;
        if (known->holder != NULL && !goes_on_in_child(hub, known->holder, mine))
            drop_held(fd, known);
        if (known->in.first == NULL && known->out.first == NULL)
            continue;
        int error = green__loop_need_epoll(hub) != 0 ? errno
                    : known->made                    ? ask_edge(hub, fd, known)
                                                     : ask_once(hub, fd, known, wanted_of(known));
        if (error != 0)
            wake_all(hub, known, error == EPERM ? 0 : error);
    }
}

static void end_fds(struct green__hub *hub)
{
    struct green__fds *fds = hub->fds;
    if (fds == NULL)
        return;
    for (size_t i = 0; i < fds->count * GREEN__FD_CHUNK; i++) {
        struct green__fd *known = green__fd_look(hub, (int)i);
        if (known != NULL && known->closing)
            close_at_last((int)i, known);
        if (known != NULL && known->holder != NULL) /* at a thread's end */
            drop_held((int)i, known);
    }
    for (size_t i = 0; i < fds->count; i++)
        free(fds->chunks[i]);
    free(fds->chunks);
    free(fds);
    hub->fds = NULL;
    hub->retry_first = -1;
}
