/* SPDX-License-Identifier: MIT */
/*
 * Events, semaphores, mutexes, conditions: what tasks of one thread have to say to each
 * other.  Each is a line of those who wait for it, and a word or two.  What can be given
 * is handed to the first who waits: nobody who comes later takes it.
 */
#include "hub.h"

#define PLACE __builtin_return_address(0)

/* The hub of a call on a thing that does not wait; NULL with errno. */
static struct green__hub *line_hub(struct green_private_line *line)
{
    struct green__hub *hub = green__hub_need();
    return hub != NULL && green__line_is_mine(hub, line) ? hub : NULL;
}

/*
 * The short ways, of plain calls on a thing of this hub: they call nothing, and so keep
 * nothing.  What is not done on them is left to the long ones as it was.
 */
static inline __attribute__((always_inline)) bool
is_short_on_line(struct green__call *call, const struct green_private_line *line)
{
    return LIKELY(green__call_is_plain(call)) && LIKELY(line->hub == call->hub->id);
}

/* Not in line, as that would have all of it keep registers. */
static __attribute__((noinline)) int wait_shortly(struct green_private_line *line,
                                                  const char *name, const void *object,
                                                  struct green__thread *self, const void *place)
{
    struct green__call call = green__call_of_plain(self);
    return green__wait_in(&call, line, NULL, GREEN_FOREVER, name, object, place);
}

/* ---- Events ---------------------------------------------------------------------- */

int green_event_set(green_event_t *event)
{
    if (event == NULL)
        return green__call_fail(EINVAL);
    struct green__hub *hub = line_hub(&event->green_private_line);
    if (hub == NULL)
        return -1;
    event->green_private_set = 1;
    green__wait_serve_all(hub, &event->green_private_line, 0);
    return 0;
}

int green_event_clear(green_event_t *event)
{
    if (event == NULL)
        return green__call_fail(EINVAL);
    if (line_hub(&event->green_private_line) == NULL)
        return -1;
    event->green_private_set = 0;
    return 0;
}

static const char event_name[] = "green_event_wait";

static __attribute__((noinline)) int wait_for_event(green_event_t *event, int64_t timeout,
                                                    const void *place)
{
    struct green__call call;
    if (event == NULL)
        return green__call_fail(EINVAL);
    if (!green__call_begin(&call, timeout) ||
        !green__line_is_mine(call.hub, &event->green_private_line))
        return -1;
    if (event->green_private_set)
        return green__call_done(&call, timeout);
    if (timeout <= 0)
        return green__call_fail(ETIMEDOUT);
    return green__wait_in(&call, &event->green_private_line, NULL, timeout, event_name, event,
                          place);
}

int green_event_wait(green_event_t *event, int64_t timeout)
{
    struct green__call call;
    if (LIKELY(event != NULL) && is_short_on_line(&call, &event->green_private_line)) {
        if (event->green_private_set)
            return green__call_done(&call, timeout);
        if (timeout == GREEN_FOREVER)
            return wait_shortly(&event->green_private_line, event_name, event, call.self, PLACE);
    }
    return wait_for_event(event, timeout, PLACE);
}

/* ---- Semaphores --------------------------------------------------------------------- */

/* By this name its waits are known, and by the other those of conditions. */
static const char acquire_name[] = "green_semaphore_acquire";

static __attribute__((noinline)) int acquire_slowly(green_semaphore_t *semaphore,
                                                    int64_t timeout, const void *place)
{
    struct green__call call;
    if (semaphore == NULL)
        return green__call_fail(EINVAL);
    if (!green__call_begin(&call, timeout) ||
        !green__line_is_mine(call.hub, &semaphore->green_private_line))
        return -1;
    if (semaphore->green_private_units > 0) {
        semaphore->green_private_units--;
        return green__call_done(&call, timeout);
    }
    if (timeout <= 0)
        return green__call_fail(ETIMEDOUT);
    return green__wait_in(&call, &semaphore->green_private_line, NULL, timeout, acquire_name,
                          semaphore, place);
}

int green_semaphore_acquire(green_semaphore_t *semaphore, int64_t timeout)
{
    struct green__call call;
    if (LIKELY(semaphore != NULL) && is_short_on_line(&call, &semaphore->green_private_line)) {
        if (semaphore->green_private_units > 0) {
            semaphore->green_private_units--;
            return green__call_done(&call, timeout);
        }
        if (timeout == GREEN_FOREVER)
            return wait_shortly(&semaphore->green_private_line, acquire_name, semaphore,
                                call.self, PLACE);
    }
    return acquire_slowly(semaphore, timeout, PLACE);
}

bool green__line_give_unit(struct green__hub *hub, green_semaphore_t *semaphore)
{
    struct green__entry *first = green__line_first(&semaphore->green_private_line);
    int64_t most = semaphore->green_private_most;
    if (first != NULL) {
        green__wait_serve(hub, first, 0);
        return true;
    }
    if (semaphore->green_private_units >= (most > 0 ? most : INT64_MAX))
        return false;
    semaphore->green_private_units++;
    return true;
}

static __attribute__((noinline)) int release_slowly(green_semaphore_t *semaphore)
{
    if (semaphore == NULL)
        return green__call_fail(EINVAL);
    struct green__hub *hub = line_hub(&semaphore->green_private_line);
    if (hub == NULL)
        return -1;
    return green__line_give_unit(hub, semaphore) ? 0 : green__call_fail(EOVERFLOW);
}

int green_semaphore_release(green_semaphore_t *semaphore)
{
    struct green__call call;
    if (LIKELY(semaphore != NULL) && is_short_on_line(&call, &semaphore->green_private_line)) {
        struct green__entry *first = green__line_first(&semaphore->green_private_line);
        if (first != NULL && green__wait_can_serve_barely(call.hub, first)) {
            green__wait_serve_barely(call.hub, &semaphore->green_private_line, first);
            return 0;
        }
    }
    return release_slowly(semaphore);
}

/* ---- Mutexes -------------------------------------------------------------------------- */

/* Gives a mutex that its owner has left to the first who waits, or to nobody. */
static void pass_mutex(struct green__hub *hub, green_mutex_t *mutex)
{
    struct green__entry *first = green__line_first(&mutex->green_private_line);
    mutex->green_private_owner = first != NULL ? first->wait->task->number : 0;
    mutex->green_private_depth = first != NULL;
    if (first != NULL)
        green__wait_serve(hub, first, 0);
}

static inline void take_mutex(green_mutex_t *mutex, const struct green_task *task)
{
    mutex->green_private_owner = task->number;
    mutex->green_private_depth = 1;
}

static __attribute__((noinline)) int lock_slowly(green_mutex_t *mutex, int64_t timeout,
                                                 const void *place)
{
    struct green__call call;
    if (mutex == NULL)
        return green__call_fail(EINVAL);
    if (!green__call_begin(&call, timeout) ||
        !green__line_is_mine(call.hub, &mutex->green_private_line))
        return -1;
    if (mutex->green_private_owner == call.task->number) {
        if (!mutex->green_private_recursive)
            return green__call_tried(&call, timeout, EDEADLK);
        if (mutex->green_private_depth == UINT32_MAX)
            return green__call_tried(&call, timeout, EAGAIN);
        mutex->green_private_depth++;
        return green__call_done(&call, timeout);
    }
    if (mutex->green_private_owner == 0) {
        take_mutex(mutex, call.task);
        return green__call_done(&call, timeout);
    }
    if (timeout <= 0)
        return green__call_fail(ETIMEDOUT);
    struct green__wait wait;
    struct green__entry entry = {0};
    green__wait_prepare(&wait, &call, "green_mutex_lock", mutex, place);
    wait.entries = &entry;
    wait.count = 1;
    wait.role = GREEN__LOCKS;
    green__wait_enlist(&wait, &entry, &mutex->green_private_line);
    return green__wait(call.hub, &wait, timeout);
}

int green_mutex_lock(green_mutex_t *mutex, int64_t timeout)
{
    struct green__call call;
    if (LIKELY(mutex != NULL) && is_short_on_line(&call, &mutex->green_private_line) &&
        LIKELY(mutex->green_private_owner == 0)) {
        take_mutex(mutex, call.task);
        return green__call_done(&call, timeout);
    }
    return lock_slowly(mutex, timeout, PLACE);
}

static __attribute__((noinline)) int unlock_slowly(green_mutex_t *mutex)
{
    if (mutex == NULL)
        return green__call_fail(EINVAL);
    struct green__hub *hub = line_hub(&mutex->green_private_line);
    if (hub == NULL)
        return -1;
    if (mutex->green_private_owner != green__task_of(hub, green__layer_current())->number)
        return green__call_fail(EPERM);
    if (--mutex->green_private_depth == 0)
        pass_mutex(hub, mutex);
    return 0;
}

int green_mutex_unlock(green_mutex_t *mutex)
{
    struct green__call call;
    if (LIKELY(mutex != NULL) && is_short_on_line(&call, &mutex->green_private_line) &&
        LIKELY(mutex->green_private_owner == call.task->number) &&
        LIKELY(mutex->green_private_depth == 1) &&
        LIKELY(green__line_first(&mutex->green_private_line) == NULL)) {
        mutex->green_private_owner = 0;
        mutex->green_private_depth = 0;
        return 0;
    }
    return unlock_slowly(mutex);
}

/* ---- Conditions ------------------------------------------------------------------------- */

static const char cond_name[] = "green_cond_wait";

/* Has the mutex again, depth times, whatever comes; false with EDEADLK if that cannot be. */
static bool lock_again(struct green__call *call, green_mutex_t *mutex, unsigned depth,
                       const void *place)
{
    if (mutex->green_private_owner == 0) {
        mutex->green_private_owner = call->task->number;
    } else {
        unsigned failures = call->task->failures; /* of rule 9: this wait is not one of them */
        struct green__wait wait;
        struct green__entry entry = {0};
        green__wait_prepare(&wait, call, cond_name, mutex, place);
        wait.entries = &entry;
        wait.count = 1;
        wait.shielded = true;
        wait.role = GREEN__LOCKS;
        green__wait_enlist(&wait, &entry, &mutex->green_private_line);
        if (green__wait(call->hub, &wait, GREEN_FOREVER) != 0)
            return false;
        green__task_set_failures(wait.task, failures);
    }
    mutex->green_private_depth = depth;
    return true;
}

int green_cond_wait(green_cond_t *cond, green_mutex_t *mutex, int64_t timeout)
{
    struct green__call call;
    if (cond == NULL)
        return green__call_fail(EINVAL);
    if (!green__call_begin(&call, timeout) ||
        !green__line_is_mine(call.hub, &cond->green_private_line))
        return -1;
    if (mutex != NULL) {
        if (!green__line_is_mine(call.hub, &mutex->green_private_line))
            return -1;
        if (mutex->green_private_owner != call.task->number)
            return green__call_tried(&call, timeout, EPERM);
    }
    if (timeout <= 0)
        return green__call_fail(ETIMEDOUT);
    unsigned depth = 0;
    if (mutex != NULL) {
        depth = mutex->green_private_depth;
        pass_mutex(call.hub, mutex);
    }
    int result = green__wait_in(&call, &cond->green_private_line, NULL, timeout, cond_name, cond,
                                PLACE);
    if (mutex != NULL) {
        int error = errno;
        call.hub = green__hub_need(); /* in a child its own may have ended meanwhile */
        if (call.hub == NULL || !green__line_is_mine(call.hub, &mutex->green_private_line))
            return -1;
        call.task = green__task_of(call.hub, call.me); /* its own may have ended meanwhile */
        if (!lock_again(&call, mutex, depth, PLACE))
            return -1;
        errno = error;
    }
    return result;
}

static void signal_cond(struct green__hub *hub, green_cond_t *cond, size_t n)
{
    for (struct green__entry *entry;
         n > 0 && (entry = green__line_first(&cond->green_private_line)) != NULL; n--)
        green__wait_serve(hub, entry, 0);
}

int green_cond_signal(green_cond_t *cond, size_t n)
{
    if (cond == NULL)
        return green__call_fail(EINVAL);
    struct green__hub *hub = line_hub(&cond->green_private_line);
    if (hub == NULL)
        return -1;
    signal_cond(hub, cond, n);
    return 0;
}

/* ---- Waits that are dropped ----------------------------------------------------------------- */

void green__line_lose(struct green__hub *hub, const struct green__wait *wait)
{
    if (wait->role == GREEN__LOCKS)
        pass_mutex(hub, (green_mutex_t *)wait->object);
    else if (wait->call == acquire_name)
        (void)green__line_give_unit(hub, (green_semaphore_t *)wait->object);
    else if (wait->call == cond_name)
        signal_cond(hub, (green_cond_t *)wait->object, 1);
}
