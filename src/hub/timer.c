/* SPDX-License-Identifier: MIT */
/*
 * What is due, and when: a heap in which each has four children, keys in the array,
 * so that most comparisons stay in one line of the cache.  Knows waits by their
 * place in it alone.
 *
 * A wait must not fail for want of memory: those for whom the heap cannot grow are in a
 * list that is walked.
 */
#include <stdlib.h>

#include "hub.h"

#define CHILDREN 4u

/* What is due at the same time comes in the order in which the waits began. */
static inline bool is_before(int64_t due, const struct green__wait *wait, int64_t other_due,
                             const struct green__wait *other)
{
    return due < other_due || (due == other_due && wait->number < other->number);
}

static inline bool timer_is_before(struct green__timer a, struct green__timer b)
{
    return is_before(a.due, a.wait, b.due, b.wait);
}

static void put_timer(struct green__timers *timers, size_t i, struct green__timer timer)
{
    timers->heap[i] = timer;
    timer.wait->timer = i + 1;
}

static void sift_up(struct green__timers *timers, size_t i, struct green__timer timer)
{
    while (i > 0) {
        size_t above = (i - 1) / CHILDREN;
        if (!timer_is_before(timer, timers->heap[above]))
            break;
        put_timer(timers, i, timers->heap[above]);
        i = above;
    }
    put_timer(timers, i, timer);
}

static void sift_down(struct green__timers *timers, size_t i, struct green__timer timer)
{
    for (;;) {
        size_t first = i * CHILDREN + 1, least = first;
        if (first >= timers->count)
            break;
        size_t end = first + CHILDREN < timers->count ? first + CHILDREN : timers->count;
        for (size_t child = first + 1; child < end; child++)
            if (timer_is_before(timers->heap[child], timers->heap[least]))
                least = child;
        if (!timer_is_before(timers->heap[least], timer))
            break;
        put_timer(timers, i, timers->heap[least]);
        i = least;
    }
    put_timer(timers, i, timer);
}

static bool heap_has_room(struct green__timers *timers)
{
    if (timers->count < timers->room)
        return true;
    size_t room = timers->room != 0 ? timers->room * 2 : 64;
    int error = errno;
    struct green__timer *heap = realloc(timers->heap, room * sizeof *heap);
    if (heap == NULL) {
        errno = error; /* nobody is told */
        return false;
    }
    timers->heap = heap;
    timers->room = room;
    return true;
}

void green__timer_arm(struct green__timers *timers, struct green__wait *wait, int64_t due)
{
    struct green__timer timer = {.due = due, .wait = wait};
    if (heap_has_room(timers)) {
        sift_up(timers, timers->count++, timer);
        return;
    }
    wait->timer = SIZE_MAX;
    wait->spilt = timers->spilt;
    wait->spilt_due = due;
    timers->spilt = wait;
}

void green__timer_disarm(struct green__timers *timers, struct green__wait *wait)
{
    size_t place = wait->timer;
    wait->timer = 0;
    if (place == 0)
        return;
    if (place == SIZE_MAX) {
        struct green__wait **at = &timers->spilt;
        /* It is in the list: NOLINTNEXTLINE(clang-analyzer-core.NullDereference) */
        while (*at != wait)
            at = &(*at)->spilt;
        *at = wait->spilt;
        return;
    }
    size_t i = place - 1;
    struct green__timer last = timers->heap[--timers->count];
    if (last.wait == wait)
        return;
    if (i > 0 && timer_is_before(last, timers->heap[(i - 1) / CHILDREN]))
        sift_up(timers, i, last);
    else
        sift_down(timers, i, last);
}

static struct green__wait *first_spilt(const struct green__timers *timers)
{
    struct green__wait *first = timers->spilt;
    for (struct green__wait *wait = first; wait != NULL; wait = wait->spilt)
        if (is_before(wait->spilt_due, wait, first->spilt_due, first))
            first = wait;
    return first;
}

int64_t green__timer_first(const struct green__timers *timers)
{
    const struct green__wait *spilt = first_spilt(timers);
    int64_t due = timers->count != 0 ? timers->heap[0].due : GREEN_FOREVER;
    return spilt != NULL && spilt->spilt_due < due ? spilt->spilt_due : due;
}

struct green__wait *green__timer_take(struct green__timers *timers, int64_t now)
{
    struct green__wait *wait = first_spilt(timers);
    int64_t due = wait != NULL ? wait->spilt_due : GREEN_FOREVER;
    if (timers->count != 0 && (wait == NULL || is_before(timers->heap[0].due,
                                                         timers->heap[0].wait, due, wait))) {
        wait = timers->heap[0].wait;
        due = timers->heap[0].due;
    }
    if (wait == NULL || due > now)
        return NULL;
    green__timer_disarm(timers, wait);
    return wait;
}

size_t green__timer_count(const struct green__timers *timers)
{
    size_t count = timers->count;
    for (const struct green__wait *wait = timers->spilt; wait != NULL; wait = wait->spilt)
        count++;
    return count;
}

void green__timer_drop(struct green__timers *timers)
{
    free(timers->heap);
    *timers = (struct green__timers){0};
}
