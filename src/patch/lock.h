/* SPDX-License-Identifier: MIT */
#ifndef GREEN_PATCH_LOCK_H
#define GREEN_PATCH_LOCK_H
/* What the files with hooks of locks share: locks.c, conds.c, threads.c. */
#include <pthread.h>
#include <time.h>

#include "patch/park.h"

/*
 * The functions named ..._as_task() return 0 or an error, and -1 if the real call is to be
 * made.
 */
#define NOINLINE __attribute__((noinline))

#define NO_CLOCK ((clockid_t)-1)

/* A time limit of a call: until then, of that clock. */
struct until {
    clockid_t clock; /* NO_CLOCK: for ever */
    const struct timespec *time;
};
#define FOR_EVER ((struct until){NO_CLOCK, NULL})

/* Others are the real calls' to refuse. */
static inline bool is_limit(struct until until)
{
    return until.clock == NO_CLOCK ||
           (until.time != NULL &&
            (until.clock == CLOCK_REALTIME || until.clock == CLOCK_MONOTONIC));
}

static inline bool is_time(const struct timespec *time)
{
    return time->tv_nsec >= 0 && time->tv_nsec < 1000000000;
}

#define FIRST_PAUSE GREEN_US(50)

#pragma GCC visibility push(hidden)

/* The call is a task's, which green__patch_leave() ends: the thread's lot; else NULL. */
struct green__lot *green__lock_enter(void);

/* When that is of green_now()'s clock: 0 or EINVAL.  A change of the system's time is not seen. */
int green__lock_due(struct until until, int64_t *due);

/* As the real calls say; with `tries` only what can be done at once. */
int green__mutex_lock(struct green__lot *lot, pthread_mutex_t *mutex, struct until until,
                      bool tries);

/* With a record or without: as the real call says. */
int green__mutex_unlock(struct green__lot *lot, pthread_mutex_t *mutex);

/* An error as the calls of C11 say it. */
int green__lock_c11(int error);

#pragma GCC visibility pop

#endif
