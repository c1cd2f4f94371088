/* SPDX-License-Identifier: MIT */
/*
 * Conditions and semaphores.  Tasks wait in the lot of their thread, threads in the system's
 * object, and who wakes asks both.
 *
 * A cancel or the end of a scope ends these waits; that for a condition returns with the
 * mutex.  What processes share is asked about every 10 ms: the others do not tell.
 *
 * Of glibc it is known here how a condition and a semaphore say that they are shared, and a
 * condition its clock.
 */
#define _GNU_SOURCE
#include <semaphore.h>
#include <threads.h>

#include "patch/lock.h"

/* ---- Conditions ---------------------------------------------------------------------- */

static bool is_shared_condition(const pthread_cond_t *cond)
{
    return (cond->__data.__wrefs & 1) != 0;
}

static clockid_t clock_of(const pthread_cond_t *cond)
{
    return (cond->__data.__wrefs & 2) != 0 ? CLOCK_MONOTONIC : CLOCK_REALTIME;
}

/*
 * Waits to be called: 0, or an error.  Who ignores that it is cancelled, and waits again, is
 * held up for a little each time: its loop shall not take all of the processor.
 */
static int wait_in_condition(struct green__lot *lot, struct green__waiter *w, int64_t due)
{
    if (green_task_check() == 0)
        return green__park_wait(lot, w, due);
    int error = errno;
    GREEN_SCOPE(shield, GREEN_MS(1), GREEN_SHIELD);
    int failure = green__park_wait(lot, w, due);
    return failure == 0 ? 0 : error;
}

static int wait_for_condition(struct green__lot *lot, pthread_cond_t *cond, pthread_mutex_t *mutex,
                              struct until until, struct green__waiter *w)
{
    int64_t due;
    if (green__lock_due(until, &due) != 0) {
        (void)green__park_end(lot, w);
        return EINVAL;
    }
    /* What other processes signal is not seen here: it is woken for nothing now and then. */
    bool shared = is_shared_condition(cond), whole = true;
    if (shared && green__park_left(due) > GREEN_MS(PARK_SLICE_MS)) {
        due = green_now() + GREEN_MS(PARK_SLICE_MS);
        whole = false;
    }
    green__park_remote(lot, lot->conds, w);
    int error = green__mutex_unlock(lot, mutex);
    if (error != 0) {
        (void)green__park_end(lot, w);
        return error;
    }
    error = wait_in_condition(lot, w, due);
    if (green__park_end(lot, w) || error == EINTR ||
        (error == ETIMEDOUT && !whole && green_task_check() == 0))
        error = 0;
    int failure = green__mutex_lock(lot, mutex, FOR_EVER, false);
    return failure != 0 ? failure : error;
}

static NOINLINE int condition_as_task(pthread_cond_t *cond, pthread_mutex_t *mutex,
                                      struct until until)
{
    struct green__lot *lot = is_limit(until) ? green__lock_enter() : NULL;
    if (lot == NULL)
        return -1;
    struct green__waiter *w = green__park_begin(lot, cond);
    int before = errno, error = w != NULL ? wait_for_condition(lot, cond, mutex, until, w) : -1;
    errno = before;
    green__patch_leave();
    return error;
}

HOOK(int, pthread_cond_wait, pthread_cond_t *cond, pthread_mutex_t *mutex)
{
    PASS_ON(GREEN_PATCH_LOCKS, pthread_cond_wait, cond, mutex);
    int error = condition_as_task(cond, mutex, FOR_EVER);
    return error >= 0 ? error : NEXT(pthread_cond_wait)(cond, mutex);
}

HOOK(int, pthread_cond_timedwait, pthread_cond_t *cond, pthread_mutex_t *mutex,
     const struct timespec *time)
{
    PASS_ON(GREEN_PATCH_LOCKS, pthread_cond_timedwait, cond, mutex, time);
    int error = condition_as_task(cond, mutex, (struct until){clock_of(cond), time});
    return error >= 0 ? error : NEXT(pthread_cond_timedwait)(cond, mutex, time);
}

HOOK(int, pthread_cond_clockwait, pthread_cond_t *cond, pthread_mutex_t *mutex, clockid_t clock,
     const struct timespec *time)
{
    PASS_ON(GREEN_PATCH_LOCKS, pthread_cond_clockwait, cond, mutex, clock, time);
    int error = condition_as_task(cond, mutex, (struct until){clock, time});
    return error >= 0 ? error : NEXT(pthread_cond_clockwait)(cond, mutex, clock, time);
}

/* Tasks and threads may wait for it, and one of them shall be woken: so one of each is. */
static inline void call_one(const void *cond)
{
    if (__builtin_expect(__atomic_load_n(&green__conds_waiting, __ATOMIC_SEQ_CST) != 0, 0))
        green__call_condition(cond, false);
}

static inline void call_all(const void *cond)
{
    if (__builtin_expect(__atomic_load_n(&green__conds_waiting, __ATOMIC_SEQ_CST) != 0, 0))
        green__call_condition(cond, true);
}

HOOK(int, pthread_cond_signal, pthread_cond_t *cond)
{
    call_one(cond);
    return NEXT(pthread_cond_signal)(cond);
}

HOOK(int, pthread_cond_broadcast, pthread_cond_t *cond)
{
    call_all(cond);
    return NEXT(pthread_cond_broadcast)(cond);
}

/* ---- Semaphores ---------------------------------------------------------------------- */

static bool is_shared_semaphore(const sem_t *semaphore)
{
    return ((const int *)(const void *)semaphore)[sizeof(long) == 8 ? 2 : 1] != 0;
}

static int take_or_wait(struct green__lot *lot, sem_t *semaphore, struct until until)
{
    int64_t due;
    if (green_task_check() != 0)
        return errno;
    if (until.clock != NO_CLOCK && !is_time(until.time))
        return EINVAL;
    if (green__take_unit(semaphore))
        return 0;
    struct green__waiter *w = green__park_begin(lot, semaphore);
    if (w == NULL)
        return -1;
    if (green__lock_due(until, &due) != 0) {
        (void)green__park_end(lot, w);
        return EINVAL;
    }
    bool shared = is_shared_semaphore(semaphore);
    int error = 0;
    green__park_remote(lot, &lot->semaphores, w);
    w->called = green__take_unit(semaphore); /* that came before anybody knew of this one */
    do {
        int64_t slice = green__park_left(due) > GREEN_MS(PARK_SLICE_MS) && shared
                            ? green_now() + GREEN_MS(PARK_SLICE_MS) : due;
        error = green__park_wait(lot, w, slice);
        if (error == ETIMEDOUT && slice != due && green_task_check() == 0)
            error = green__take_unit(semaphore) ? 0 : EAGAIN;
    } while (error == EAGAIN);
    return green__park_end(lot, w) ? 0 : error;
}

static NOINLINE int semaphore_as_task(sem_t *semaphore, struct until until)
{
    struct green__lot *lot = is_limit(until) ? green__lock_enter() : NULL;
    if (lot == NULL)
        return -1;
    int before = errno, error = take_or_wait(lot, semaphore, until);
    errno = before;
    green__patch_leave();
    return error;
}

static int say(int error)
{
    if (error == 0)
        return 0;
    errno = error;
    return -1;
}

HOOK(int, sem_wait, sem_t *semaphore)
{
    PASS_ON(GREEN_PATCH_LOCKS, sem_wait, semaphore);
    int error = semaphore_as_task(semaphore, FOR_EVER);
    return error >= 0 ? say(error) : NEXT(sem_wait)(semaphore);
}

HOOK(int, sem_timedwait, sem_t *semaphore, const struct timespec *time)
{
    PASS_ON(GREEN_PATCH_LOCKS, sem_timedwait, semaphore, time);
    int error = semaphore_as_task(semaphore, (struct until){CLOCK_REALTIME, time});
    return error >= 0 ? say(error) : NEXT(sem_timedwait)(semaphore, time);
}

HOOK(int, sem_clockwait, sem_t *semaphore, clockid_t clock, const struct timespec *time)
{
    PASS_ON(GREEN_PATCH_LOCKS, sem_clockwait, semaphore, clock, time);
    int error = semaphore_as_task(semaphore, (struct until){clock, time});
    return error >= 0 ? say(error) : NEXT(sem_clockwait)(semaphore, clock, time);
}

/* May come from a signal handler, of any thread; the semaphore may be gone afterwards. */
HOOK(int, sem_post, sem_t *semaphore)
{
    int result = NEXT(sem_post)(semaphore);
    if (__builtin_expect(__atomic_load_n(&green__semaphores_waiting, __ATOMIC_SEQ_CST) != 0, 0))
        green__call_semaphores();
    return result;
}

bool green__take_unit(const void *semaphore)
{
    int error = errno;
    bool taken = sem_trywait((sem_t *)semaphore) == 0;
    errno = error;
    return taken;
}

/* ---- C11 ----------------------------------------------------------------------------- */

/* In glibc they are the same objects. */
_Static_assert(sizeof(cnd_t) == sizeof(pthread_cond_t), "a cnd_t is a condition");
_Static_assert(sizeof(mtx_t) == sizeof(pthread_mutex_t), "a mtx_t is a mutex");

static pthread_cond_t *cond_of(cnd_t *cond)
{
    return (pthread_cond_t *)(void *)cond;
}

static pthread_mutex_t *mutex_of(mtx_t *mutex)
{
    return (pthread_mutex_t *)(void *)mutex;
}

HOOK(int, cnd_wait, cnd_t *cond, mtx_t *mutex)
{
    PASS_ON(GREEN_PATCH_LOCKS, cnd_wait, cond, mutex);
    int error = condition_as_task(cond_of(cond), mutex_of(mutex), FOR_EVER);
    return error >= 0 ? green__lock_c11(error) : NEXT(cnd_wait)(cond, mutex);
}

HOOK(int, cnd_timedwait, cnd_t *cond, mtx_t *mutex, const struct timespec *time)
{
    PASS_ON(GREEN_PATCH_LOCKS, cnd_timedwait, cond, mutex, time);
    int error = condition_as_task(cond_of(cond), mutex_of(mutex),
                                  (struct until){clock_of(cond_of(cond)), time});
    return error >= 0 ? green__lock_c11(error) : NEXT(cnd_timedwait)(cond, mutex, time);
}

HOOK(int, cnd_signal, cnd_t *cond)
{
    call_one(cond);
    return NEXT(cnd_signal)(cond);
}

HOOK(int, cnd_broadcast, cnd_t *cond)
{
    call_all(cond);
    return NEXT(cnd_broadcast)(cond);
}

HOOKS(conds) = {
    HOOKED(pthread_cond_wait),   HOOKED(pthread_cond_timedwait), HOOKED(pthread_cond_clockwait),
    HOOKED(pthread_cond_signal), HOOKED(pthread_cond_broadcast), HOOKED(sem_wait),
    HOOKED(sem_timedwait),       HOOKED(sem_clockwait),          HOOKED(sem_post),
    HOOKED(cnd_wait),            HOOKED(cnd_timedwait),          HOOKED(cnd_signal),
    HOOKED(cnd_broadcast),       HOOKS_END,
};
