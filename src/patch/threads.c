/* SPDX-License-Identifier: MIT */
/*
 * Barriers, the ends of threads, pthread_once().
 *
 * A cancel ends a wait for a thread, which may then be joined again, and neither of the
 * others, whose callers rely on what they have waited for.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <threads.h>

#include "patch/lock.h"

/* ---- Barriers ------------------------------------------------------------------------ */

/* A thread waits for the task: so all who come are counted by the barrier itself. */
struct arrival {
    struct green__lot *lot;
    uint64_t number;
    pthread_barrier_t *barrier;
};

static void *arrive(void *data);

static bool send_thread(struct arrival *arrival)
{
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, before;
    sigfillset(&all);
    if (pthread_attr_init(&attributes) != 0)
        return false;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&thread, &attributes, arrive, arrival);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return error == 0;
}

/* What the barrier says; -2: it is the real call's. */
static int wait_at_barrier(struct green__lot *lot, pthread_barrier_t *barrier)
{
    struct green__waiter *w = green__park_begin(lot, barrier);
    if (w == NULL)
        return -2;
    struct arrival *arrival = malloc(sizeof *arrival);
    green__park_remote(lot, &lot->others, w);
    if (arrival != NULL)
        *arrival = (struct arrival){lot, w->number, barrier};
    if (arrival == NULL || !send_thread(arrival)) {
        free(arrival);
        (void)green__park_end(lot, w);
        return -2;
    }
    GREEN_SCOPE(shield, GREEN_FOREVER, GREEN_SHIELD);
    while (green__park_wait(lot, w, GREEN_FOREVER) == EINTR)
        continue;
    int result = w->result;
    return green__park_end(lot, w) ? result : EINVAL; /* its thread is being ended */
}

HOOK(int, pthread_barrier_wait, pthread_barrier_t *barrier)
{
    PASS_ON(GREEN_PATCH_LOCKS, pthread_barrier_wait, barrier);
    struct green__lot *lot = green__lock_enter();
    if (lot == NULL)
        return NEXT(pthread_barrier_wait)(barrier);
    int before = errno, result = wait_at_barrier(lot, barrier);
    errno = before;
    green__patch_leave();
    return result != -2 ? result : NEXT(pthread_barrier_wait)(barrier);
}

static void *arrive(void *data)
{
    struct arrival arrival = *(struct arrival *)data;
    free(data);
    int result = NEXT(pthread_barrier_wait)(arrival.barrier);
    green__call_number(arrival.lot, arrival.number, result);
    return NULL;
}

/* ---- Ends of threads ----------------------------------------------------------------- */

static NOINLINE int join_as_task(pthread_t thread, void **value, struct until until)
{
    int64_t due, pause = FIRST_PAUSE;
    if (!is_limit(until) || pthread_equal(thread, pthread_self()) ||
        !green__patch_enter(GREEN_PATCH_LOCKS))
        return -1;
    int before = errno, error = green__lock_due(until, &due);
    if (error == 0 && green_task_check() != 0)
        error = errno;
    if (error == 0)
        error = pthread_tryjoin_np(thread, value);
    while (error == EBUSY) {
        int failure = green__park_pause(&pause, due);
        error = pthread_tryjoin_np(thread, value);
        if (error == EBUSY && failure != 0 && failure != EINTR)
            error = failure;
    }
    errno = before;
    green__patch_leave();
    return error;
}

HOOK(int, pthread_join, pthread_t thread, void **value)
{
    PASS_ON(GREEN_PATCH_LOCKS, pthread_join, thread, value);
    int error = join_as_task(thread, value, FOR_EVER);
    return error >= 0 ? error : NEXT(pthread_join)(thread, value);
}

HOOK(int, pthread_timedjoin_np, pthread_t thread, void **value, const struct timespec *time)
{
    PASS_ON(GREEN_PATCH_LOCKS, pthread_timedjoin_np, thread, value, time);
    int error = join_as_task(thread, value, (struct until){CLOCK_REALTIME, time});
    return error >= 0 ? error : NEXT(pthread_timedjoin_np)(thread, value, time);
}

HOOK(int, pthread_clockjoin_np, pthread_t thread, void **value, clockid_t clock,
     const struct timespec *time)
{
    PASS_ON(GREEN_PATCH_LOCKS, pthread_clockjoin_np, thread, value, clock, time);
    int error = join_as_task(thread, value, (struct until){clock, time});
    return error >= 0 ? error : NEXT(pthread_clockjoin_np)(thread, value, clock, time);
}

HOOK(int, thrd_join, thrd_t thread, int *value)
{
    PASS_ON(GREEN_PATCH_LOCKS, thrd_join, thread, value);
    void *result = NULL;
    int error = join_as_task(thread, &result, FOR_EVER);
    if (error < 0)
        return NEXT(thrd_join)(thread, value);
    if (error == 0 && value != NULL)
        *value = (int)(intptr_t)result;
    return green__lock_c11(error);
}

/* ---- pthread_once -------------------------------------------------------------------- */

/*
 * A function of pthread_once() may wait.  The real call would stop a thread whose other task
 * finds it begun; and each has a frame in a list of its thread, that must go in the reverse
 * order.  So of a thread's tasks only one is in such functions at a time.
 */
enum { ONCE_BEGUN = 1, ONCE_DONE = 2 };

static bool has_bit(const pthread_once_t *once, int bit)
{
    return (__atomic_load_n(once, __ATOMIC_ACQUIRE) & bit) != 0;
}

/*
 * std::call_once() of libstdc++ has pthread_once() call __once_proxy(), and what that is to
 * call stands in variables of the thread: while a task waits another's call changes them.
 */
struct callable {
    bool asked;
    void **at[2], *kept[2]; /* at: NULL, there is none */
};

/* Only its library may see them. */
static void *variable_beside(const Dl_info *function, const char *name)
{
    void *at = dlsym(RTLD_DEFAULT, name), *library = NULL;
    if (at == NULL)
        library = dlopen(function->dli_fname, RTLD_LAZY | RTLD_NOLOAD);
    if (library != NULL) {
        at = dlsym(library, name);
        dlclose(library);
    }
    return at;
}

static void keep_callable(struct callable *callable, void (*function)(void))
{
    static const char *const names[2] = {"_ZSt15__once_callable", "_ZSt11__once_call"};
    Dl_info about;
    if (callable->asked)
        return;
    callable->asked = true;
    if (dladdr((void *)(uintptr_t)function, &about) == 0 || about.dli_sname == NULL ||
        strcmp(about.dli_sname, "__once_proxy") != 0)
        return;
    for (int i = 0; i < 2; i++) {
        callable->at[i] = variable_beside(&about, names[i]);
        if (callable->at[i] != NULL)
            callable->kept[i] = *callable->at[i];
    }
}

static void give_callable_back(const struct callable *callable)
{
    for (int i = 0; i < 2; i++)
        if (callable->at[i] != NULL)
            *callable->at[i] = callable->kept[i];
}

static int wait_for_once(struct green__lot *lot, pthread_once_t *once)
{
    struct green__waiter *w = green__park_begin(lot, once);
    if (w == NULL)
        return EAGAIN;
    green__park_own(&lot->once, w);
    int error = green__park_wait(lot, w, GREEN_FOREVER);
    return green__park_end(lot, w) || error == EINTR ? 0 : error;
}

/*
 * Waits for other tasks, and a second at most for another thread: if that is of a parent
 * before fork() the real call knows.
 */
static bool begin_once(pthread_once_t *once, void (*function)(void))
{
    struct green__lot *lot = green__lock_enter();
    int64_t pause = FIRST_PAUSE, due;
    if (lot == NULL)
        return false;
    int before = errno, error = 0;
    green__who me = green__lot_who(lot);
    GREEN_SCOPE(shield, GREEN_FOREVER, GREEN_SHIELD);
    due = green_now() + GREEN_SEC(1);
    struct callable callable = {.asked = false};
    while (error == 0) {
        bool by_task = lot->once_depth != 0 && lot->once_owner != me;
        bool by_thread = lot->once_depth == 0 && has_bit(once, ONCE_BEGUN) &&
                         !has_bit(once, ONCE_DONE);
        if (!by_task && !by_thread)
            break;
        keep_callable(&callable, function);
        error = by_task ? wait_for_once(lot, once) : green__park_pause(&pause, due);
        error = error == EINTR ? 0 : error;
    }
    give_callable_back(&callable);
    bool begun = lot->once_depth == 0 || lot->once_owner == me;
    if (begun) {
        lot->once_owner = me;
        lot->once_depth++;
    }
    errno = before;
    green__patch_leave();
    return begun;
}

/* Also if the function is left by an exception. */
static void end_once(const bool *begun)
{
    struct green__lot *lot = green__lot_mine;
    if (!*begun || lot == NULL || lot->once_depth == 0 || --lot->once_depth != 0)
        return;
    lot->once_owner = NULL;
    for (struct green__waiter *w; (w = green__park_first(&lot->once)) != NULL;)
        green__park_call(w);
}

/* ThreadSanitizer has a pthread_once() of its own, with other bits. */
#if defined __SANITIZE_THREAD__
#define ONCE_IS_GLIBCS false
#elif defined __has_feature
#if __has_feature(thread_sanitizer)
#define ONCE_IS_GLIBCS false
#endif
#endif
#ifndef ONCE_IS_GLIBCS
#define ONCE_IS_GLIBCS true
#endif

#define WHILE_ONCE(name, once, function)                                                    \
    __attribute__((cleanup(end_once), unused)) bool name =                                  \
        ONCE_IS_GLIBCS && !has_bit(once, ONCE_DONE) &&                                      \
        (green__patch_state & GREEN_PATCH_LOCKS) != 0 && begin_once(once, function)

HOOK(int, pthread_once, pthread_once_t *once, void (*function)(void))
{
    WHILE_ONCE(begun, once, function);
    return NEXT(pthread_once)(once, function);
}

_Static_assert(sizeof(once_flag) == sizeof(pthread_once_t), "in glibc they are the same");

HOOK(void, call_once, once_flag *once, void (*function)(void))
{
    WHILE_ONCE(begun, (pthread_once_t *)(void *)once, function);
    NEXT(call_once)(once, function);
}

HOOK_TOO(pthread_once, __pthread_once);

HOOKS(threads) = {
    HOOKED(pthread_barrier_wait), HOOKED(pthread_join), HOOKED(pthread_timedjoin_np),
    HOOKED(pthread_clockjoin_np), HOOKED(thrd_join),    HOOKED(pthread_once),
    HOOKED(call_once),            HOOKED_TOO(pthread_once, __pthread_once), HOOKS_END,
};
