/* SPDX-License-Identifier: MIT */
/*
 * The line of those that are ready, and the look at what may have come: timers,
 * descriptors, other threads.  Also time, which with GREEN_HUB_VIRTUAL_TIME stands still
 * (rule 23), and chance.
 *
 * While something of the world can come, virtual time passes as the world's: it is
 * world_base, what it was when that began, and what CLOCK_MONOTONIC has gone on since
 * world_start.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "hub.h"
#include "quiet.h"

/* How far into the line a shuffled hub reaches. */
#define SHUFFLE 16u

/* What events of the hub's own descriptors carry; those of fd.c are less. */
#define EVENT_WAKE UINT64_MAX
#define EVENT_TIMER (UINT64_MAX - 1)

#define NS_PER_S INT64_C(1000000000)

/* ---- Chance ------------------------------------------------------------------ */

/* xorshift64* (Marsaglia, 2003; Vigna, 2016). */
uint64_t green__loop_random(struct green__hub *hub)
{
    uint64_t x = hub->random;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    hub->random = x;
    return x * UINT64_C(2685821657736338717);
}

/* ---- Time -------------------------------------------------------------------- */

static int64_t monotonic(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * NS_PER_S + time.tv_nsec;
}

int64_t green__loop_now(struct green__hub *hub)
{
    if (UNLIKELY(hub->is_virtual)) {
        if (hub->world != 0) {
            int64_t time = green__time_add(hub->world_base, monotonic() - hub->world_start);
            if (time > hub->time)
                hub->time = time;
        }
        return hub->time;
    }
    return hub->time = monotonic();
}

int64_t green_now(void)
{
    struct green__hub *hub = green__hub_self;
    return hub != NULL && hub->is_virtual ? green__loop_now(hub) : monotonic();
}

void green__loop_add_world(struct green__hub *hub)
{
    if (hub->world++ == 0) {
        hub->world_base = hub->time;
        hub->world_start = monotonic();
    }
}

void green__loop_remove_world(struct green__hub *hub)
{
    if (hub->world == 1)
        (void)green__loop_now(hub);
    hub->world--;
}

static struct timespec timespec_of(int64_t time)
{
    return (struct timespec){.tv_sec = (time_t)(time / NS_PER_S), .tv_nsec = time % NS_PER_S};
}

/* ---- The line ------------------------------------------------------------------ */

struct green__turn *green__loop_choose(struct green__hub *hub)
{
    struct green__turn *turn = hub->line.next;
    uint64_t reach = hub->ready < SHUFFLE ? hub->ready : SHUFFLE;
    for (uint64_t i = green__loop_random(hub) % reach; i > 0; i--)
        turn = turn->next;
    return turn;
}

/* ---- Descriptors ------------------------------------------------------------------- */

/*
 * Of a number that ThreadSanitizer does not see closed, the next use would be a race: so
 * there it is libc's, and nobody else's who stands before that.
 */
int green__close(int fd)
{
    if (__tsan_get_current_fiber == NULL)
        return (int)syscall(SYS_close, fd);
    int cancelable;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancelable);
    int result = GREEN__OWN(close(fd));
    pthread_setcancelstate(cancelable, NULL);
    return result;
}

/* ---- The look -------------------------------------------------------------------- */

int green__loop_need_epoll(struct green__hub *hub)
{
    if (hub->epoll >= 0)
        return 0;
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    int event = epoll >= 0 ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : -1;
    struct epoll_event wanted = {.events = EPOLLIN, .data.u64 = EVENT_WAKE};
    if (event >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, event, &wanted) == 0) {
        hub->epoll = epoll;
        hub->event = event;
        return 0;
    }
    int error = errno;
    if (event >= 0)
        green__close(event);
    if (epoll >= 0)
        green__close(epoll);
    errno = error;
    return -1;
}

/* Milliseconds, not less than that many nanoseconds: no wait ends early. */
static int milliseconds(int64_t time)
{
    int64_t ms = time / 1000000 + (time % 1000000 != 0);
    return ms > INT32_MAX ? INT32_MAX : (int)ms;
}

/*
 * Of the system, as libc's is a cancellation point, in which the thread must not end (green_hub.h,
 * Errors); but sanitizers are to see libc's.
 */
static int wait_for_ms(struct green__hub *hub, struct epoll_event *events, int most, int ms)
{
    if (green__layer_is_sanitized()) {
        int cancelable;
        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancelable);
        int n = GREEN__OWN(epoll_wait(hub->epoll, events, most, ms));
        pthread_setcancelstate(cancelable, NULL);
        return n;
    }
#ifdef SYS_epoll_wait
    return (int)syscall(SYS_epoll_wait, hub->epoll, events, most, ms);
#else
    return (int)syscall(SYS_epoll_pwait, hub->epoll, events, most, ms, NULL, (size_t)8);
#endif
}

static int wait_for_events(struct green__hub *hub, struct epoll_event *events, int most,
                           int64_t limit)
{
#ifdef SYS_epoll_pwait2
    if (limit > 0 && limit != GREEN_FOREVER && !hub->pwait2_missing) {
        struct timespec time = timespec_of(limit);
        int n = (int)syscall(SYS_epoll_pwait2, hub->epoll, events, most, &time, NULL, (size_t)8);
        if (n > 0)
            green__given(events, (size_t)n * sizeof *events);
        if (n >= 0 || errno == EINTR)
            return n;
        hub->pwait2_missing = true; /* an old kernel, or a filter */
    }
#endif
    return wait_for_ms(hub, events, most, limit == GREEN_FOREVER ? -1 : milliseconds(limit));
}

static void sleep_without_epoll(int64_t limit)
{
    int cancelable;
    struct timespec time = timespec_of(limit);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancelable);
    (void)GREEN__OWN(ppoll(NULL, 0, limit != GREEN_FOREVER ? &time : NULL, NULL));
    pthread_setcancelstate(cancelable, NULL);
}

static void drain(int fd)
{
    uint64_t number;
    while (syscall(SYS_read, fd, &number, sizeof number) == (long)sizeof number) {
    }
}

/* Descriptors, for at most limit; a signal ends it, too. */
static void look_at_events(struct green__hub *hub, int64_t limit)
{
    struct epoll_event events[64];
    int most = (int)(sizeof events / sizeof events[0]), n;
    hub->polls++;
    do {
        n = wait_for_events(hub, events, most, limit);
        for (int i = 0; i < n; i++) {
            if (events[i].data.u64 == EVENT_WAKE) {
                drain(hub->event);
                hub->event_written = false;
            } else if (events[i].data.u64 == EVENT_TIMER) {
                drain(hub->timer_fd);
                hub->timer_fd_due = GREEN_FOREVER;
            } else {
                hub->on_event(hub, events[i].data.u64, events[i].events);
            }
        }
        limit = 0;
    } while (n == most);
}

static void sleep_or_look(struct green__hub *hub, int64_t limit)
{
    if (hub->fall_asleep != NULL && limit > 0) {
        int64_t most = hub->fall_asleep(hub, true);
        limit = limit < most ? limit : most;
    }
    if (hub->epoll >= 0)
        look_at_events(hub, limit);
    else
        sleep_without_epoll(limit);
    if (hub->fall_asleep != NULL)
        (void)hub->fall_asleep(hub, false);
}

/*
 * Virtual time stands still while anybody does anything, and goes on to the next timer
 * when all others wait and no descriptor is ready.
 */
void green__loop_look(struct green__hub *hub, int64_t limit, bool idle)
{
    int64_t until = limit <= 0 || limit == GREEN_FOREVER
                        ? GREEN_FOREVER
                        : green__time_add(green__loop_now(hub), limit);
    hub->turns_at_look = green__loop_turns(hub) + GREEN__HUB_LOOK_EVERY;
    hub->left = hub->is_plain ? GREEN__HUB_LOOK_EVERY : 0;
    hub->left_long = GREEN__HUB_LOOK_EVERY - hub->left;
    for (;;) {
        if (hub->collect != NULL)
            hub->collect(hub);
        green__loop_retry(hub, false);
        bool waits = limit > 0 && hub->ready == 0;
        bool wait = waits && hub->retry_first < 0;
        bool frozen = hub->is_virtual && hub->world == 0;
        int64_t first = green__timer_first(&hub->timers), longest = 0;
        if (wait && until < first)
            first = until;
        bool renews_first = !frozen && hub->renew_at < first;
        if (renews_first)
            first = hub->renew_at;
        if (wait && first == GREEN_FOREVER) {
            if (hub->world + hub->descriptors == 0)
                return; /* nothing can come */
            longest = GREEN_FOREVER;
        } else if (first != GREEN_FOREVER) {
            /* A renewal may be late by what has gone by: one reading of the clock is enough. */
            int64_t left = first - (wait && renews_first ? hub->time : green__loop_now(hub));
            longest = wait && !frozen && left > 0 ? left : 0;
        }
        if (longest > 0 ||
            (hub->epoll >= 0 && hub->world + hub->descriptors + hub->fd_asked != 0))
            sleep_or_look(hub, longest);
        if (hub->collect != NULL)
            hub->collect(hub);
        if (longest > 0)
            (void)green__loop_now(hub);
        if (frozen && (idle || wait) && hub->ready == hub->yielding && first != GREEN_FOREVER &&
            first > hub->time)
            hub->time = first;
        if (hub->renew_at <= hub->time)
            hub->on_renew(hub);
        struct green__wait *due;
        while ((due = green__timer_take(&hub->timers, hub->time)) != NULL)
            hub->on_due(hub, due);
        if (waits && hub->ready == 0)
            green__loop_retry(hub, true);
        if (!waits || hub->ready != 0 || hub->time >= until)
            return;
    }
}

/* ---- For other loops ----------------------------------------------------------------- */

/*
 * The epoll descriptor is readable if the eventfd is, which is written when somebody is
 * ready, or the timerfd, which is set to the first timer.
 */
void green__loop_tell_fd(struct green__hub *hub)
{
    if (hub->ready == 0 && hub->event_written) {
        drain(hub->event);
        hub->event_written = false;
    }
    /* Who posts from now on writes the eventfd, as if the hub slept. */
    bool posted = hub->fall_asleep != NULL && hub->fall_asleep(hub, true) == 0;
    if (hub->ready != 0 || posted) {
        if (!hub->event_written) {
            const uint64_t one = 1;
            hub->event_written = green__write(hub->event, &one, sizeof one) == sizeof one;
        }
        return;
    }
    int64_t first = green__timer_first(&hub->timers);
    if (hub->renew_at < first)
        first = hub->renew_at;
    if (first == hub->timer_fd_due)
        return;
    int64_t left = hub->is_virtual ? 1 : first - green__loop_now(hub);
    struct itimerspec time = {.it_value = timespec_of(left > 0 ? left : 1)};
    if (first == GREEN_FOREVER)
        time.it_value = (struct timespec){0};
    if (timerfd_settime(hub->timer_fd, 0, &time, NULL) == 0)
        hub->timer_fd_due = first;
}

int green__loop_ask_fd(struct green__hub *hub)
{
    if (green__loop_need_epoll(hub) != 0)
        return -1;
    if (hub->timer_fd < 0) {
        int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
        struct epoll_event wanted = {.events = EPOLLIN, .data.u64 = EVENT_TIMER};
        if (timer < 0)
            return -1;
        if (epoll_ctl(hub->epoll, EPOLL_CTL_ADD, timer, &wanted) != 0) {
            int error = errno;
            green__close(timer);
            errno = error;
            return -1;
        }
        hub->timer_fd = timer;
        hub->timer_fd_due = GREEN_FOREVER;
    }
    hub->fd_asked = true;
    green__loop_retry(hub, true);
    green__loop_go_long(hub);
    green__loop_tell_fd(hub);
    return hub->epoll;
}

/* ---- Begin and end ------------------------------------------------------------------- */

void green__loop_begin(struct green__hub *hub)
{
    hub->line.next = hub->line.prev = &hub->line;
    hub->errno_at = &errno;
    hub->credit = GREEN__HUB_CREDIT;
    hub->epoll = hub->event = hub->timer_fd = -1;
    hub->renew_at = GREEN_FOREVER;
    hub->retry_first = -1;
    hub->time = monotonic();
    if (hub->random == 0)
        hub->random = (uint64_t)hub->time ^ (uintptr_t)hub;
}


void green__loop_fork(struct green__hub *hub)
{
    if (hub->timer_fd >= 0)
        green__close(hub->timer_fd);
    if (hub->event >= 0)
        green__close(hub->event);
    if (hub->epoll >= 0)
        green__close(hub->epoll);
    hub->epoll = hub->event = hub->timer_fd = -1;
    hub->fd_asked = hub->event_written = false;
}

void green__loop_end(struct green__hub *hub)
{
    green__loop_fork(hub);
    green__timer_drop(&hub->timers);
}
