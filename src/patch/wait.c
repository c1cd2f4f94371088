/* SPDX-License-Identifier: MIT */
/*
 * Waits for many descriptors, and for time.
 *
 * What a call gives back is said by the real one, asked with no time, after green_poll()
 * has waited.  A signal mask lets signals in for the time of the call alone: such a call
 * also waits for a signalfd of these, and then has the real one deliver them.
 */
#define _GNU_SOURCE
#include <alloca.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "patch/patch.h"

#define NS_PER_S 1000000000
#define POLLED_ON_STACK 32u

_Noreturn void __chk_fail(void);

/* ---- Time ---------------------------------------------------------------------------- */

/* Nanoseconds of milliseconds as poll() has them: less than 0 is for ever. */
static int64_t of_milliseconds(int ms)
{
    return ms < 0 ? GREEN_FOREVER : GREEN_MS(ms);
}

static bool is_time(const struct timespec *time)
{
    return time->tv_sec >= 0 && time->tv_nsec >= 0 && time->tv_nsec < NS_PER_S;
}

static bool is_no_time(const struct timespec *time)
{
    return time != NULL && (!is_time(time) || (time->tv_sec == 0 && time->tv_nsec == 0));
}

static int64_t of_timespec(const struct timespec *time)
{
    if (time == NULL || time->tv_sec >= GREEN_FOREVER / NS_PER_S)
        return GREEN_FOREVER;
    return (int64_t)time->tv_sec * NS_PER_S + time->tv_nsec;
}

static int64_t due_after(int64_t time)
{
    int64_t now = green_now();
    return time > GREEN_FOREVER - now ? GREEN_FOREVER : now + time;
}

static int64_t left_until(int64_t due)
{
    if (due == GREEN_FOREVER)
        return due;
    int64_t left = due - green_now();
    return left > 0 ? left : 0;
}

static struct timespec timespec_of(int64_t time)
{
    return (struct timespec){.tv_sec = (time_t)(time / NS_PER_S), .tv_nsec = time % NS_PER_S};
}

/* ---- Waiting ---------------------------------------------------------------------------- */

/* A signalfd of what the mask lets in and is kept out now; -1: nothing; -2 with errno. */
static int signals_let_in(const sigset_t *mask)
{
    sigset_t now, let_in;
    bool some = false;
    if (mask == NULL || pthread_sigmask(SIG_SETMASK, NULL, &now) != 0)
        return -1;
    sigemptyset(&let_in);
    for (int i = 1; i < NSIG; i++)
        if (sigismember(&now, i) == 1 && sigismember(mask, i) == 0 && sigaddset(&let_in, i) == 0)
            some = true;
    if (!some)
        return -1;
    int fd = signalfd(-1, &let_in, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd >= 0 ? fd : -2;
}

static void close_signals(int fd)
{
    int error = errno;
    if (fd >= 0)
        (void)green_close(fd);
    errno = error;
}

/* A call that waits, and what asks it with no time. */
struct asked {
    struct pollfd *fds; /* with room for one more */
    nfds_t n;
    const sigset_t *mask;
    int64_t time;
    int (*ask)(void *call);
    void *call;
};

/* What ask() says, as soon as that is not 0, or the time is over. */
static int wait_and_ask(struct asked *a)
{
    int64_t due = due_after(a->time);
    int signals = signals_let_in(a->mask), result = -1;
    if (signals == -2)
        return -1;
    a->fds[a->n] = (struct pollfd){.fd = signals, .events = POLLIN};
    for (bool in_vain = false;; in_vain = true) {
        int64_t left = left_until(due);
        if (left == 0) {
            result = a->ask(a->call);
            break;
        }
        if (in_vain && green_sleep(left < GREEN_MS(1) ? left : GREEN_MS(1)) != 0)
            break; /* else what the real one does not mind would be asked about all the time */
        if (green_poll(a->fds, a->n + (signals >= 0), left_until(due)) < 0)
            break;
        result = a->ask(a->call);
        if (result != 0)
            break;
        result = -1;
    }
    close_signals(signals);
    return result;
}

/* ---- poll -------------------------------------------------------------------------------- */

struct polled {
    struct pollfd *fds;
    nfds_t n;
    const sigset_t *mask;
};

static int ask_ppoll(void *call);

static int poll_masked(struct pollfd *fds, nfds_t n, int64_t time, const sigset_t *mask)
{
    struct polled polled = {fds, n, mask};
    struct pollfd *copy = n < POLLED_ON_STACK ? alloca((size_t)(n + 1) * sizeof *copy)
                                              : malloc((size_t)(n + 1) * sizeof *copy);
    if (copy == NULL)
        return -1;
    if (n != 0)
        memcpy(copy, fds, (size_t)n * sizeof *copy);
    struct asked asked = {copy, n, mask, time, ask_ppoll, &polled};
    int result = wait_and_ask(&asked);
    if (n >= POLLED_ON_STACK)
        free(copy);
    return result;
}

/* The wait of all names of poll(): false if it is to be the real one's. */
static bool poll_as_task(struct pollfd *fds, nfds_t n, int64_t time, const sigset_t *mask,
                         int *result)
{
    if (time == 0 || (fds == NULL && n != 0) || !green__patch_enter(GREEN_PATCH_WAIT))
        return false;
    *result = mask == NULL ? green_poll(fds, n, time) : poll_masked(fds, n, time, mask);
    green__patch_leave();
    return *result >= 0 || errno != EDEADLK;
}

HOOK(int, poll, struct pollfd *fds, nfds_t n, int timeout)
{
    PASS_ON(GREEN_PATCH_WAIT, poll, fds, n, timeout);
    int result;
    return poll_as_task(fds, n, of_milliseconds(timeout), NULL, &result)
               ? result : NEXT(poll)(fds, n, timeout);
}

HOOK(int, __poll_chk, struct pollfd *fds, nfds_t n, int timeout, size_t size)
{
    PASS_ON(GREEN_PATCH_WAIT, __poll_chk, fds, n, timeout, size);
    int result;
    if (size / sizeof *fds < n)
        __chk_fail();
    return poll_as_task(fds, n, of_milliseconds(timeout), NULL, &result)
               ? result : NEXT(__poll_chk)(fds, n, timeout, size);
}

HOOK(int, ppoll, struct pollfd *fds, nfds_t n, const struct timespec *time, const sigset_t *mask)
{
    PASS_ON(GREEN_PATCH_WAIT, ppoll, fds, n, time, mask);
    int result;
    return !is_no_time(time) && poll_as_task(fds, n, of_timespec(time), mask, &result)
               ? result : NEXT(ppoll)(fds, n, time, mask);
}

HOOK(int, __ppoll_chk, struct pollfd *fds, nfds_t n, const struct timespec *time,
     const sigset_t *mask, size_t size)
{
    PASS_ON(GREEN_PATCH_WAIT, __ppoll_chk, fds, n, time, mask, size);
    int result;
    if (size / sizeof *fds < n)
        __chk_fail();
    return !is_no_time(time) && poll_as_task(fds, n, of_timespec(time), mask, &result)
               ? result : NEXT(__ppoll_chk)(fds, n, time, mask, size);
}

static int ask_ppoll(void *call)
{
    const struct polled *polled = call;
    const struct timespec none = {0, 0};
    return NEXT(ppoll)(polled->fds, polled->n, &none, polled->mask);
}

/* ---- select --------------------------------------------------------------------------- */

struct selected {
    int n;
    fd_set *sets[3];
    unsigned long *kept; /* what they were, each of size bytes */
    size_t size;
    const sigset_t *mask;
};

static int ask_pselect(void *call);

static bool has(const void *set, int fd)
{
    const size_t bits = 8 * sizeof(unsigned long);
    return set != NULL &&
           (((const unsigned long *)set)[(size_t)fd / bits] >> ((size_t)fd % bits) & 1) != 0;
}

/*
 * Who says more than a set has mostly means all descriptors there may be.  The system looks
 * no further than its table of them goes, and so what is behind a set may be anything.
 */
static int within_table(int n)
{
    int error = errno;
    int status = n > FD_SETSIZE ? open("/proc/self/status", O_RDONLY | O_CLOEXEC) : -1;
    if (status >= 0) {
        char text[1024];
        ssize_t size = read(status, text, sizeof text - 1);
        text[size > 0 ? size : 0] = '\0';
        const char *said = strstr(text, "\nFDSize:");
        long most = said != NULL ? strtol(said + strlen("\nFDSize:"), NULL, 10) : 0;
        (void)close(status);
        if (most > 0 && most < n)
            n = (int)most;
    }
    errno = error;
    return n;
}

static int select_as_task(struct selected *s, int64_t time)
{
    const short events[3] = {POLLIN, POLLOUT, POLLPRI};
    const size_t bits = 8 * sizeof(unsigned long);
    nfds_t count = 0;
    s->n = within_table(s->n);
    for (int fd = 0; fd < s->n; fd++)
        count += has(s->sets[0], fd) || has(s->sets[1], fd) || has(s->sets[2], fd);
    s->size = ((size_t)s->n + bits - 1) / bits * sizeof(unsigned long);
    char *memory = malloc(3 * s->size + (size_t)(count + 1) * sizeof(struct pollfd));
    if (memory == NULL)
        return -1;
    s->kept = (unsigned long *)(void *)memory;
    struct pollfd *fds = (struct pollfd *)(void *)(memory + 3 * s->size);
    for (size_t i = 0; i < 3; i++)
        if (s->sets[i] != NULL)
            memcpy(memory + i * s->size, s->sets[i], s->size);
    nfds_t used = 0;
    for (int fd = 0; fd < s->n; fd++) {
        struct pollfd one = {.fd = fd};
        for (size_t i = 0; i < 3; i++)
            if (has(s->sets[i], fd))
                one.events = (short)(one.events | events[i]);
        if (one.events != 0)
            fds[used++] = one;
    }
    struct asked asked = {fds, used, s->mask, time, ask_pselect, s};
    int result = wait_and_ask(&asked);
    int error = errno;
    for (size_t i = 0; i < 3 && result < 0; i++) /* what fails leaves them as they were */
        if (s->sets[i] != NULL)
            memcpy(s->sets[i], memory + i * s->size, s->size);
    free(memory);
    errno = error;
    return result;
}

/* How the time that is left is said, by Linux. */
HOOK(int, select, int n, fd_set *in, fd_set *out, fd_set *except, struct timeval *time)
{
    PASS_ON(GREEN_PATCH_WAIT, select, n, in, out, except, time);
    bool waits = n >= 0 && (time == NULL || (time->tv_sec >= 0 && time->tv_usec >= 0 &&
                                             (time->tv_sec != 0 || time->tv_usec != 0)));
    if (!waits || !green__patch_enter(GREEN_PATCH_WAIT))
        return NEXT(select)(n, in, out, except, time);
    int64_t most = GREEN_FOREVER;
    if (time != NULL && time->tv_sec < GREEN_FOREVER / NS_PER_S - time->tv_usec / 1000000)
        most = (int64_t)time->tv_sec * NS_PER_S + (int64_t)time->tv_usec * 1000;
    int64_t due = due_after(most);
    struct selected selected = {.n = n, .sets = {in, out, except}};
    int result = select_as_task(&selected, most);
    if (time != NULL) {
        struct timespec left = timespec_of(left_until(due));
        *time = (struct timeval){.tv_sec = left.tv_sec, .tv_usec = left.tv_nsec / 1000};
    }
    green__patch_leave();
    if (result < 0 && errno == EDEADLK)
        return NEXT(select)(n, in, out, except, time);
    return result;
}

HOOK(int, pselect, int n, fd_set *in, fd_set *out, fd_set *except, const struct timespec *time,
     const sigset_t *mask)
{
    PASS_ON(GREEN_PATCH_WAIT, pselect, n, in, out, except, time, mask);
    if (n < 0 || is_no_time(time) || !green__patch_enter(GREEN_PATCH_WAIT))
        return NEXT(pselect)(n, in, out, except, time, mask);
    struct selected selected = {.n = n, .sets = {in, out, except}, .mask = mask};
    int result = select_as_task(&selected, of_timespec(time));
    green__patch_leave();
    if (result < 0 && errno == EDEADLK)
        return NEXT(pselect)(n, in, out, except, time, mask);
    return result;
}

/* It clears what it finds nothing of: each time it is asked with what they were. */
static int ask_pselect(void *call)
{
    struct selected *s = call;
    const struct timespec none = {0, 0};
    for (size_t i = 0; i < 3; i++)
        if (s->sets[i] != NULL)
            memcpy(s->sets[i], (const char *)s->kept + i * s->size, s->size);
    return NEXT(pselect)(s->n, s->sets[0], s->sets[1], s->sets[2], &none, s->mask);
}

/* ---- epoll ------------------------------------------------------------------------------ */

struct epolled {
    int epoll, most;
    struct epoll_event *events;
    const sigset_t *mask;
};

static int ask_epoll(void *call);
static int ask_epoll_unmasked(const struct epolled *e);

static bool epoll_as_task(struct epolled *e, int64_t time, int *result)
{
    if (time == 0 || e->most <= 0 || !green__patch_enter(GREEN_PATCH_WAIT))
        return false;
    struct pollfd fds[2] = {{.fd = e->epoll, .events = POLLIN}};
    struct asked asked = {fds, 1, e->mask, time, ask_epoll, e};
    /* What is no epoll never gets ready: that is said before. */
    *result = green_poll(fds, 1, 0);
    if (*result == 0)
        *result = ask_epoll_unmasked(e);
    else if (*result > 0)
        *result = 0;
    if (*result == 0)
        *result = wait_and_ask(&asked);
    green__patch_leave();
    return *result >= 0 || errno != EDEADLK;
}

HOOK(int, epoll_wait, int epoll, struct epoll_event *events, int most, int timeout)
{
    PASS_ON(GREEN_PATCH_WAIT, epoll_wait, epoll, events, most, timeout);
    int result;
    struct epolled e = {epoll, most, events, NULL};
    return epoll_as_task(&e, of_milliseconds(timeout), &result)
               ? result : NEXT(epoll_wait)(epoll, events, most, timeout);
}

HOOK(int, epoll_pwait, int epoll, struct epoll_event *events, int most, int timeout,
     const sigset_t *mask)
{
    PASS_ON(GREEN_PATCH_WAIT, epoll_pwait, epoll, events, most, timeout, mask);
    int result;
    struct epolled e = {epoll, most, events, mask};
    return epoll_as_task(&e, of_milliseconds(timeout), &result)
               ? result : NEXT(epoll_pwait)(epoll, events, most, timeout, mask);
}

HOOK(int, epoll_pwait2, int epoll, struct epoll_event *events, int most,
     const struct timespec *time, const sigset_t *mask)
{
    PASS_ON(GREEN_PATCH_WAIT, epoll_pwait2, epoll, events, most, time, mask);
    int result;
    struct epolled e = {epoll, most, events, mask};
    return !is_no_time(time) && epoll_as_task(&e, of_timespec(time), &result)
               ? result : NEXT(epoll_pwait2)(epoll, events, most, time, mask);
}

static int ask_epoll_unmasked(const struct epolled *e)
{
    return NEXT(epoll_pwait)(e->epoll, e->events, e->most, 0, NULL);
}

static int ask_epoll(void *call)
{
    const struct epolled *e = call;
    const struct timespec none = {0, 0};
    int n = ask_epoll_unmasked(e);
    /* With no time it delivers no signals. */
    return n != 0 || e->mask == NULL ? n : NEXT(ppoll)(NULL, 0, &none, e->mask);
}

/* ---- Sleep ------------------------------------------------------------------------------- */

/* Sleeps, if it is as a task: 0, -1 with errno; 1: it is to be the real one's. */
static int sleep_as_task(int64_t time, int64_t *left)
{
    if (time <= 0 || !green__patch_enter(GREEN_PATCH_WAIT))
        return 1;
    int64_t due = due_after(time);
    int result = green_sleep(time);
    *left = result != 0 ? left_until(due) : 0;
    green__patch_leave();
    return result != 0 && errno == EDEADLK ? 1 : result;
}

HOOK(unsigned, sleep, unsigned seconds)
{
    PASS_ON(GREEN_PATCH_WAIT, sleep, seconds);
    int64_t left;
    int result = sleep_as_task(GREEN_SEC(seconds), &left);
    if (result == 1)
        return NEXT(sleep)(seconds);
    return (unsigned)((left + NS_PER_S - 1) / NS_PER_S);
}

HOOK(int, usleep, useconds_t us)
{
    PASS_ON(GREEN_PATCH_WAIT, usleep, us);
    int64_t left;
    int result = sleep_as_task(GREEN_US(us), &left);
    return result == 1 ? NEXT(usleep)(us) : result;
}

HOOK(int, nanosleep, const struct timespec *time, struct timespec *rest)
{
    PASS_ON(GREEN_PATCH_WAIT, nanosleep, time, rest);
    int64_t left;
    int result = time == NULL || is_no_time(time) ? 1 : sleep_as_task(of_timespec(time), &left);
    if (result == 1)
        return NEXT(nanosleep)(time, rest);
    if (result != 0 && rest != NULL)
        *rest = timespec_of(left);
    return result;
}

/* How long until that time of a clock, which may be set meanwhile: then for a second at most. */
static int64_t until(clockid_t clock, const struct timespec *time)
{
    struct timespec now;
    if (clock_gettime(clock, &now) != 0)
        return 0;
    if (time->tv_sec < now.tv_sec || (time->tv_sec == now.tv_sec && time->tv_nsec <= now.tv_nsec))
        return 0;
    struct timespec left = {.tv_sec = time->tv_sec - now.tv_sec};
    int64_t ns = of_timespec(&left);
    if (ns != GREEN_FOREVER)
        ns += time->tv_nsec - now.tv_nsec;
    return clock == CLOCK_REALTIME && ns > GREEN_SEC(1) ? GREEN_SEC(1) : ns;
}

HOOK(int, clock_nanosleep, clockid_t clock, int flags, const struct timespec *time,
     struct timespec *rest)
{
    PASS_ON(GREEN_PATCH_WAIT, clock_nanosleep, clock, flags, time, rest);
    bool known = clock == CLOCK_REALTIME || clock == CLOCK_MONOTONIC || clock == CLOCK_BOOTTIME;
    int64_t left = 0;
    int error = errno, result = 1;
    if (known && time != NULL && !is_no_time(time) && (flags & ~TIMER_ABSTIME) == 0) {
        if ((flags & TIMER_ABSTIME) == 0) {
            result = sleep_as_task(of_timespec(time), &left);
        } else {
            do {
                int64_t next = until(clock, time);
                if (next == 0 && result == 0)
                    break;
                result = sleep_as_task(next, &left);
            } while (result == 0 && clock == CLOCK_REALTIME);
        }
    }
    if (result == 1)
        return NEXT(clock_nanosleep)(clock, flags, time, rest);
    int failure = result != 0 ? errno : 0;
    errno = error;
    if (failure != 0 && rest != NULL && flags == 0)
        *rest = timespec_of(left);
    return failure;
}

/* It says -1 for EINTR alone. */
HOOK(int, thrd_sleep, const struct timespec *time, struct timespec *rest)
{
    PASS_ON(GREEN_PATCH_WAIT, thrd_sleep, time, rest);
    int64_t left;
    int result = is_no_time(time) ? 1 : sleep_as_task(of_timespec(time), &left);
    if (result == 1)
        return NEXT(thrd_sleep)(time, rest);
    if (result != 0 && rest != NULL)
        *rest = timespec_of(left);
    return result == 0 ? 0 : errno == EINTR ? -1 : -2;
}

HOOK_TOO(poll, __poll);
HOOK_TOO(select, __select);
HOOK_TOO(nanosleep, __nanosleep);

HOOKS(wait) = {
    HOOKED(poll),        HOOKED(__poll_chk),   HOOKED(ppoll),
    HOOKED(__ppoll_chk), HOOKED(select),       HOOKED(pselect),    HOOKED(epoll_wait),
    HOOKED(epoll_pwait), HOOKED(epoll_pwait2), HOOKED(sleep),      HOOKED(usleep),
    HOOKED(nanosleep),   HOOKED(clock_nanosleep), HOOKED(thrd_sleep),
    HOOKED_TOO(poll, __poll), HOOKED_TOO(select, __select), HOOKED_TOO(nanosleep, __nanosleep),
    HOOKS_END,
};
