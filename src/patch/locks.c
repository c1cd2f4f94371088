/* SPDX-License-Identifier: MIT */
/*
 * Mutexes and read-write locks.  Conditions and semaphores are conds.c's, barriers and the
 * like threads.c's.
 *
 * To the system a lock that a task holds is its thread's.  So a task first has to have the lock
 * among the tasks of its thread, by a record, and then the system's, by the calls that try.
 * Records are kept of what tasks lock while this is patched; unlocking looks at them also
 * later.  A task waits for another of its thread until it is called, and for other threads
 * and processes in pauses that grow to 10 ms.  Waiting for a lock cannot be cancelled, as
 * callers rely on having it; the other waits can.
 *
 * Passed on are spin locks, whose holders must not wait, and what was locked before it was
 * patched.  Robust mutexes are their thread's: the end of a task that
 * holds one is no owner's death.
 *
 * Of glibc it is known here how a mutex tells its type and its owner.
 */
#define _GNU_SOURCE
#include <limits.h>
#include <threads.h>

#include "patch/lock.h"

struct green__lot *green__lock_enter(void)
{
    if (!green__patch_enter(GREEN_PATCH_LOCKS))
        return NULL;
    struct green__lot *lot = green__lot_need();
    if (lot == NULL)
        green__patch_leave();
    return lot;
}

/* ---- Time limits --------------------------------------------------------------------- */

int green__lock_due(struct until until, int64_t *due)
{
    struct timespec now;
    int64_t seconds;
    *due = GREEN_FOREVER;
    if (until.clock == NO_CLOCK)
        return 0;
    if (!is_time(until.time) || clock_gettime(until.clock, &now) != 0)
        return EINVAL;
    if (__builtin_sub_overflow(until.time->tv_sec, now.tv_sec, &seconds))
        seconds = until.time->tv_sec < 0 ? -1 : INT64_MAX;
    if (seconds < 0) {
        *due = 0;
        return 0;
    }
    int64_t left, then = green_now();
    if (!__builtin_mul_overflow(seconds, INT64_C(1000000000), &left) &&
        !__builtin_add_overflow(left, until.time->tv_nsec - now.tv_nsec, &left) &&
        !__builtin_add_overflow(then, left, &then))
        *due = then;
    return 0;
}

/* ---- Mutexes ------------------------------------------------------------------------- */

static int try_real(pthread_mutex_t *mutex);

enum { ROBUST = 0x10, ELIDED = 0x100 }; /* which has no owner then */

/* How it behaves to who has it already: PTHREAD_MUTEX_NORMAL and so on. */
static int type_of(const pthread_mutex_t *mutex)
{
    return mutex->__data.__kind & 3;
}

static bool tells_owners(const pthread_mutex_t *mutex)
{
    int type = type_of(mutex);
    return type == PTHREAD_MUTEX_RECURSIVE || type == PTHREAD_MUTEX_ERRORCHECK;
}

/* As which thread it is locked; a robust one whose owner has died says so in the lock alone. */
static pid_t owner_of(const pthread_mutex_t *mutex)
{
    return (mutex->__data.__kind & ROBUST) != 0 ? mutex->__data.__lock & 0x3fffffff
                                                : mutex->__data.__owner;
}

/* It is said to be locked, but has been made anew, or unlocked by another thread. */
static bool is_stale(const struct green__record *record, const pthread_mutex_t *mutex)
{
    return record->depth != 0 && record->thread != 0 && (mutex->__data.__kind & ELIDED) == 0 &&
           owner_of(mutex) != record->thread;
}

/* Who has it among the tasks waits until the thread has it: 0, or an error. */
static int lock_real(pthread_mutex_t *mutex, struct until until)
{
    int error = try_real(mutex);
    int64_t due, pause = FIRST_PAUSE;
    for (int i = 0; i < 64 && error == EBUSY; i++)
        error = try_real(mutex); /* mostly it is held for an instant */
    if (error != EBUSY)
        return error;
    if (green__lock_due(until, &due) != 0)
        return EINVAL;
    GREEN_SCOPE(shield, GREEN_FOREVER, GREEN_SHIELD);
    while (error == EBUSY) {
        int failure = green__park_pause(&pause, due);
        if (failure != 0 && failure != EINTR)
            return failure;
        error = try_real(mutex);
    }
    return error;
}

/* Waits until it is the calling task's among those of the thread: 0, or an error. */
static int wait_for_turn(struct green__lot *lot, struct green__record *record, struct until until)
{
    int64_t due;
    if (green__lock_due(until, &due) != 0)
        return EINVAL;
    struct green__waiter *w = green__park_begin(lot, record->address);
    if (w == NULL)
        return EAGAIN;
    GREEN_SCOPE(shield, GREEN_FOREVER, GREEN_SHIELD);
    green__park_own(&record->waiters, w);
    int error;
    do {
        error = green__park_wait(lot, w, due);
    } while (error == EINTR);
    return green__park_end(lot, w) ? 0 : error;
}

int green__mutex_lock(struct green__lot *lot, pthread_mutex_t *mutex, struct until until,
                      bool tries)
{
    green__who me = green__lot_who(lot);
    struct green__record *record = green__record_need(lot, mutex);
    if (record == NULL)
        return ENOMEM;
    if (is_stale(record, mutex)) {
        green__record_pass(lot, record);
        record = green__record_need(lot, mutex);
        if (record == NULL)
            return ENOMEM;
    }
    if (record->depth != 0 && record->owner == me && record->thread != 0 && tells_owners(mutex)) {
        if (type_of(mutex) == PTHREAD_MUTEX_ERRORCHECK)
            return tries ? try_real(mutex) : EDEADLK;
        int error = try_real(mutex);
        if (error == 0)
            record->depth++;
        return error;
    }
    if (record->depth == 0) {
        record->owner = me;
        record->depth = 1;
    } else {
        int error = tries ? EBUSY : wait_for_turn(lot, record, until);
        if (error != 0) {
            green__record_put(lot, record);
            return error;
        }
    }
    int error = tries ? try_real(mutex) : lock_real(mutex, until);
    if (error == 0 || error == EOWNERDEAD)
        record->thread = lot->thread;
    else
        green__record_pass(lot, record);
    return error;
}

static int unlock_mutex(pthread_mutex_t *mutex);

int green__mutex_unlock(struct green__lot *lot, pthread_mutex_t *mutex)
{
    struct green__record *record = green__record_find(lot, mutex);
    if (record == NULL || record->depth == 0 || record->thread == 0)
        return unlock_mutex(mutex);
    if (record->owner != green__lot_who(lot) && tells_owners(mutex))
        return EPERM;
    int error = unlock_mutex(mutex);
    if (error == 0 && --record->depth == 0)
        green__record_pass(lot, record);
    return error;
}

/* Nobody has it, as mostly: then nothing waits, and so little is asked. */
static bool lock_at_once(pthread_mutex_t *mutex, int *error)
{
    struct green__lot *lot = green__lot_mine;
    if (lot == NULL || green__record_find(lot, mutex) != NULL || green_task_current() == NULL)
        return false;
    green_t *me = green_current();
    int before = errno;
    if (green_set_data(me, green_data(me)) != 0) { /* refused as in green__patch_enter_slowly() */
        errno = before;
        return false;
    }
    struct green__record *record = green__record_need(lot, mutex);
    if (record == NULL)
        return false;
    *error = try_real(mutex);
    if (*error != 0 && *error != EOWNERDEAD) {
        green__record_put(lot, record);
        return false;
    }
    record->owner = green__lot_who(lot);
    record->depth = 1;
    record->thread = lot->thread;
    return true;
}

static NOINLINE int mutex_as_task(pthread_mutex_t *mutex, struct until until, bool tries)
{
    int at_once;
    if (lock_at_once(mutex, &at_once))
        return at_once;
    struct green__lot *lot = is_limit(until) ? green__lock_enter() : NULL;
    if (lot == NULL)
        return -1;
    int before = errno, error = green__mutex_lock(lot, mutex, until, tries);
    errno = before;
    green__patch_leave();
    return error == ENOMEM ? -1 : error;
}

HOOK(int, pthread_mutex_lock, pthread_mutex_t *mutex)
{
    PASS_ON(GREEN_PATCH_LOCKS, pthread_mutex_lock, mutex);
    int error = mutex_as_task(mutex, FOR_EVER, false);
    return error >= 0 ? error : NEXT(pthread_mutex_lock)(mutex);
}

HOOK(int, pthread_mutex_trylock, pthread_mutex_t *mutex)
{
    PASS_ON(GREEN_PATCH_LOCKS, pthread_mutex_trylock, mutex);
    int error = mutex_as_task(mutex, FOR_EVER, true);
    return error >= 0 ? error : NEXT(pthread_mutex_trylock)(mutex);
}

HOOK(int, pthread_mutex_timedlock, pthread_mutex_t *mutex, const struct timespec *time)
{
    PASS_ON(GREEN_PATCH_LOCKS, pthread_mutex_timedlock, mutex, time);
    int error = mutex_as_task(mutex, (struct until){CLOCK_REALTIME, time}, false);
    return error >= 0 ? error : NEXT(pthread_mutex_timedlock)(mutex, time);
}

HOOK(int, pthread_mutex_clocklock, pthread_mutex_t *mutex, clockid_t clock,
     const struct timespec *time)
{
    PASS_ON(GREEN_PATCH_LOCKS, pthread_mutex_clocklock, mutex, clock, time);
    int error = mutex_as_task(mutex, (struct until){clock, time}, false);
    return error >= 0 ? error : NEXT(pthread_mutex_clocklock)(mutex, clock, time);
}

HOOK(int, pthread_mutex_unlock, pthread_mutex_t *mutex)
{
    struct green__lot *lot = green__lot_mine;
    if (__builtin_expect(lot == NULL || lot->records == 0, 1))
        return NEXT(pthread_mutex_unlock)(mutex);
    return green__mutex_unlock(lot, mutex);
}

/* glibc would say of one that is not recoverable that it is not, and leave it locked. */
static int try_real(pthread_mutex_t *mutex)
{
    const int not_recoverable = INT_MAX - 1;
    if ((mutex->__data.__kind & ROBUST) != 0 && mutex->__data.__owner == not_recoverable)
        return ENOTRECOVERABLE;
    return NEXT(pthread_mutex_trylock)(mutex);
}

static int unlock_mutex(pthread_mutex_t *mutex)
{
    return NEXT(pthread_mutex_unlock)(mutex);
}

/* ---- Read-write locks ------------------------------------------------------------------------ */

static int try_rwlock(pthread_rwlock_t *lock, bool writes);

/* While tasks of the thread hold it it waits for these, else for others. */
static int wait_for_rwlock(struct green__lot *lot, pthread_rwlock_t *lock, bool writes,
                           struct until until)
{
    int64_t due, pause = FIRST_PAUSE;
    int error = EBUSY;
    if (green__lock_due(until, &due) != 0)
        return EINVAL;
    GREEN_SCOPE(shield, GREEN_FOREVER, GREEN_SHIELD);
    while (error == EBUSY) {
        struct green__record *record = green__record_find(lot, lock);
        struct green__waiter *w = NULL;
        int failure;
        if (record != NULL && record->depth != 0)
            w = green__park_begin(lot, lock);
        if (w != NULL) {
            green__park_own(&record->waiters, w);
            failure = green__park_wait(lot, w, due);
            if (green__park_end(lot, w))
                failure = 0;
            pause = FIRST_PAUSE;
        } else {
            failure = green__park_pause(&pause, due);
        }
        error = try_rwlock(lock, writes);
        if (error == EBUSY && failure != 0 && failure != EINTR)
            error = failure;
    }
    return error;
}

static int lock_rwlock(struct green__lot *lot, pthread_rwlock_t *lock, bool writes,
                       struct until until, bool tries)
{
    green__who me = green__lot_who(lot);
    struct green__record *record = green__record_find(lot, lock);
    if (record != NULL && record->owner == me)
        return tries ? EBUSY : EDEADLK;
    int error = try_rwlock(lock, writes);
    if (error == EBUSY && !tries)
        error = wait_for_rwlock(lot, lock, writes, until);
    if (error == 0 && (record = green__record_need(lot, lock)) != NULL) {
        record->depth++;
        record->owner = writes ? me : NULL;
        record->thread = lot->thread;
    }
    return error;
}

static NOINLINE int rwlock_as_task(pthread_rwlock_t *lock, bool writes, struct until until,
                                   bool tries)
{
    bool valid = is_limit(until) && (until.clock == NO_CLOCK || is_time(until.time));
    struct green__lot *lot = valid ? green__lock_enter() : NULL;
    if (lot == NULL)
        return -1;
    int before = errno, error = lock_rwlock(lot, lock, writes, until, tries);
    errno = before;
    green__patch_leave();
    return error;
}

HOOK(int, pthread_rwlock_rdlock, pthread_rwlock_t *lock)
{
    PASS_ON(GREEN_PATCH_LOCKS, pthread_rwlock_rdlock, lock);
    int error = rwlock_as_task(lock, false, FOR_EVER, false);
    return error >= 0 ? error : NEXT(pthread_rwlock_rdlock)(lock);
}

HOOK(int, pthread_rwlock_wrlock, pthread_rwlock_t *lock)
{
    PASS_ON(GREEN_PATCH_LOCKS, pthread_rwlock_wrlock, lock);
    int error = rwlock_as_task(lock, true, FOR_EVER, false);
    return error >= 0 ? error : NEXT(pthread_rwlock_wrlock)(lock);
}

HOOK(int, pthread_rwlock_tryrdlock, pthread_rwlock_t *lock)
{
    PASS_ON(GREEN_PATCH_LOCKS, pthread_rwlock_tryrdlock, lock);
    int error = rwlock_as_task(lock, false, FOR_EVER, true);
    return error >= 0 ? error : NEXT(pthread_rwlock_tryrdlock)(lock);
}

HOOK(int, pthread_rwlock_trywrlock, pthread_rwlock_t *lock)
{
    PASS_ON(GREEN_PATCH_LOCKS, pthread_rwlock_trywrlock, lock);
    int error = rwlock_as_task(lock, true, FOR_EVER, true);
    return error >= 0 ? error : NEXT(pthread_rwlock_trywrlock)(lock);
}

HOOK(int, pthread_rwlock_timedrdlock, pthread_rwlock_t *lock, const struct timespec *time)
{
    PASS_ON(GREEN_PATCH_LOCKS, pthread_rwlock_timedrdlock, lock, time);
    int error = rwlock_as_task(lock, false, (struct until){CLOCK_REALTIME, time}, false);
    return error >= 0 ? error : NEXT(pthread_rwlock_timedrdlock)(lock, time);
}

HOOK(int, pthread_rwlock_timedwrlock, pthread_rwlock_t *lock, const struct timespec *time)
{
    PASS_ON(GREEN_PATCH_LOCKS, pthread_rwlock_timedwrlock, lock, time);
    int error = rwlock_as_task(lock, true, (struct until){CLOCK_REALTIME, time}, false);
    return error >= 0 ? error : NEXT(pthread_rwlock_timedwrlock)(lock, time);
}

HOOK(int, pthread_rwlock_clockrdlock, pthread_rwlock_t *lock, clockid_t clock,
     const struct timespec *time)
{
    PASS_ON(GREEN_PATCH_LOCKS, pthread_rwlock_clockrdlock, lock, clock, time);
    int error = rwlock_as_task(lock, false, (struct until){clock, time}, false);
    return error >= 0 ? error : NEXT(pthread_rwlock_clockrdlock)(lock, clock, time);
}

HOOK(int, pthread_rwlock_clockwrlock, pthread_rwlock_t *lock, clockid_t clock,
     const struct timespec *time)
{
    PASS_ON(GREEN_PATCH_LOCKS, pthread_rwlock_clockwrlock, lock, clock, time);
    int error = rwlock_as_task(lock, true, (struct until){clock, time}, false);
    return error >= 0 ? error : NEXT(pthread_rwlock_clockwrlock)(lock, clock, time);
}

/* All who wait try again. */
static int unlock_rwlock(struct green__lot *lot, pthread_rwlock_t *lock);

HOOK(int, pthread_rwlock_unlock, pthread_rwlock_t *lock)
{
    struct green__lot *lot = green__lot_mine;
    if (__builtin_expect(lot == NULL || lot->records == 0, 1))
        return NEXT(pthread_rwlock_unlock)(lock);
    return unlock_rwlock(lot, lock);
}

static int try_rwlock(pthread_rwlock_t *lock, bool writes)
{
    return writes ? NEXT(pthread_rwlock_trywrlock)(lock) : NEXT(pthread_rwlock_tryrdlock)(lock);
}

static int unlock_rwlock(struct green__lot *lot, pthread_rwlock_t *lock)
{
    struct green__record *record = green__record_find(lot, lock);
    int error = NEXT(pthread_rwlock_unlock)(lock);
    if (error != 0 || record == NULL || record->depth == 0)
        return error;
    record->depth--;
    record->owner = NULL;
    for (struct green__waiter *w; (w = green__park_first(&record->waiters)) != NULL;)
        green__park_call(w);
    green__record_put(lot, record);
    return 0;
}

/* ---- C11 ----------------------------------------------------------------------------- */

int green__lock_c11(int error)
{
    switch (error) {
    case 0: return thrd_success;
    case EBUSY: return thrd_busy;
    case ENOMEM: return thrd_nomem;
    case ETIMEDOUT: return thrd_timedout;
    default: return thrd_error;
    }
}

/* In glibc it is the same object. */
_Static_assert(sizeof(mtx_t) == sizeof(pthread_mutex_t), "a mtx_t is a mutex");

static pthread_mutex_t *mutex_of(mtx_t *mutex)
{
    return (pthread_mutex_t *)(void *)mutex;
}

HOOK(int, mtx_lock, mtx_t *mutex)
{
    PASS_ON(GREEN_PATCH_LOCKS, mtx_lock, mutex);
    int error = mutex_as_task(mutex_of(mutex), FOR_EVER, false);
    return error >= 0 ? green__lock_c11(error) : NEXT(mtx_lock)(mutex);
}

HOOK(int, mtx_trylock, mtx_t *mutex)
{
    PASS_ON(GREEN_PATCH_LOCKS, mtx_trylock, mutex);
    int error = mutex_as_task(mutex_of(mutex), FOR_EVER, true);
    return error >= 0 ? green__lock_c11(error) : NEXT(mtx_trylock)(mutex);
}

HOOK(int, mtx_timedlock, mtx_t *mutex, const struct timespec *time)
{
    PASS_ON(GREEN_PATCH_LOCKS, mtx_timedlock, mutex, time);
    int error = mutex_as_task(mutex_of(mutex), (struct until){CLOCK_REALTIME, time}, false);
    return error >= 0 ? green__lock_c11(error) : NEXT(mtx_timedlock)(mutex, time);
}

HOOK(int, mtx_unlock, mtx_t *mutex)
{
    struct green__lot *lot = green__lot_mine;
    if (__builtin_expect(lot == NULL || lot->records == 0, 1))
        return NEXT(mtx_unlock)(mutex);
    return green__lock_c11(green__mutex_unlock(lot, mutex_of(mutex)));
}

HOOK_TOO(pthread_mutex_lock, __pthread_mutex_lock);
HOOK_TOO(pthread_mutex_trylock, __pthread_mutex_trylock);
HOOK_TOO(pthread_mutex_unlock, __pthread_mutex_unlock);
HOOK_TOO(pthread_rwlock_rdlock, __pthread_rwlock_rdlock);
HOOK_TOO(pthread_rwlock_wrlock, __pthread_rwlock_wrlock);
HOOK_TOO(pthread_rwlock_tryrdlock, __pthread_rwlock_tryrdlock);
HOOK_TOO(pthread_rwlock_trywrlock, __pthread_rwlock_trywrlock);
HOOK_TOO(pthread_rwlock_unlock, __pthread_rwlock_unlock);

HOOKS(locks) = {
    HOOKED(pthread_mutex_lock),         HOOKED(pthread_mutex_trylock),
    HOOKED(pthread_mutex_timedlock),    HOOKED(pthread_mutex_clocklock),
    HOOKED(pthread_mutex_unlock),       HOOKED(pthread_rwlock_rdlock),
    HOOKED(pthread_rwlock_wrlock),      HOOKED(pthread_rwlock_tryrdlock),
    HOOKED(pthread_rwlock_trywrlock),   HOOKED(pthread_rwlock_timedrdlock),
    HOOKED(pthread_rwlock_timedwrlock), HOOKED(pthread_rwlock_clockrdlock),
    HOOKED(pthread_rwlock_clockwrlock), HOOKED(pthread_rwlock_unlock),
    HOOKED(mtx_lock),                   HOOKED(mtx_trylock),
    HOOKED(mtx_timedlock),              HOOKED(mtx_unlock),
    HOOKED_TOO(pthread_mutex_lock, __pthread_mutex_lock),
    HOOKED_TOO(pthread_mutex_trylock, __pthread_mutex_trylock),
    HOOKED_TOO(pthread_mutex_unlock, __pthread_mutex_unlock),
    HOOKED_TOO(pthread_rwlock_rdlock, __pthread_rwlock_rdlock),
    HOOKED_TOO(pthread_rwlock_wrlock, __pthread_rwlock_wrlock),
    HOOKED_TOO(pthread_rwlock_tryrdlock, __pthread_rwlock_tryrdlock),
    HOOKED_TOO(pthread_rwlock_trywrlock, __pthread_rwlock_trywrlock),
    HOOKED_TOO(pthread_rwlock_unlock, __pthread_rwlock_unlock),
    HOOKS_END,
};
