/* SPDX-License-Identifier: MIT */
/*
 * Scopes: time limits and shields (rules 8 and 10).
 *
 * A scope is in the list of the green that began it, the last begun first, and nowhere
 * else: no timer points to one.  The list of a task's green, main's too, begins in
 * its task; that of any other in the layer's word of the green.
 *
 * pthread_exit() and cancellation leave frames without the end of their scopes, and the
 * clean-up runs where these were.  So each has a seal, by which it is known as a scope still.
 * What has none ends the list: those behind it cannot be found any more.  One that is still
 * whole counts, though to ASan its memory may be out of bounds: so who goes along a list
 * is GREEN__NO_ASAN.
 */
#define _GNU_SOURCE
#include <pthread.h>

#include "hub.h"

/* What is in a green_scope_t. */
#define NEXT(scope) (*(green_scope_t **)(void *)&(scope)->green_private_links[0])
#define GREEN_OF(scope) (*(green_t **)(void *)&(scope)->green_private_links[2]) /* NULL: ended */
#define NUMBER(scope) ((scope)->green_private_room[0]) /* of the last wait that began before it */
#define SEAL(scope) ((scope)->green_private_room[1])   /* what seal_of() says */
#define HIT UINT64_C(1) /* in the flags: a call in it has failed when its time was over */

static bool begins_in_task(const green_t *g)
{
    return green__layer_knows(g) || green__layer_is_main(g);
}

static green_scope_t *listed_first(const green_t *g)
{
    void *word = green__layer_word(g);
    return word != NULL && begins_in_task(g) ? green__task_of_word(word)->scopes : word;
}

static void set_first_scope(green_t *g, green_scope_t *scope)
{
    if (!begins_in_task(g)) {
        green__layer_set_word(g, scope);
        return;
    }
    struct green_task *task = green__task_of_word(green__layer_word(g));
    task->scopes = scope;
    if (green__layer_knows(g))
        green__task_mark_plain(task);
}

static inline uint64_t rotated(uint64_t bits, unsigned by)
{
    return bits << by | bits >> (64 - by);
}

/* Of what is in it, and where it is; but for HIT. */
static inline __attribute__((always_inline)) GREEN__NO_ASAN GREEN__NO_MSAN uint64_t
seal_of(const green_scope_t *scope)
{
    return (uintptr_t)scope ^ rotated((uintptr_t)NEXT(scope), 13) ^
           rotated((uintptr_t)GREEN_OF(scope), 26) ^ rotated(NUMBER(scope), 39) ^
           rotated((uint64_t)scope->green_private_due, 52) ^
           (scope->green_private_flags & GREEN_SHIELD);
}

static GREEN__NO_ASAN green_scope_t *listed_after(const green_t *g, green_scope_t *before)
{
    return before != NULL ? NEXT(before) : listed_first(g);
}

static GREEN__NO_ASAN void list_after(green_t *g, green_scope_t *before, green_scope_t *scope)
{
    if (before == NULL) {
        set_first_scope(g, scope);
        return;
    }
    NEXT(before) = scope;
    SEAL(before) = seal_of(before);
}

/* Where the thread's own stack is; if that cannot be had, nowhere.  Keeps errno. */
static void ask_for_main(struct green__hub *hub)
{
    int error = errno;
    pthread_attr_t attributes;
    void *low = NULL;
    size_t size = 0;
    if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
        if (pthread_attr_getstack(&attributes, &low, &size) != 0)
            size = 0;
        (void)pthread_attr_destroy(&attributes);
    }
    hub->main_low = size != 0 ? (uintptr_t)low : UINTPTR_MAX;
    hub->main_end = hub->main_low + size;
    errno = error;
}

/* Whether it is on the stack of g, and so are the frames of g, and all above it. */
static __attribute__((noinline)) bool is_below(const green_t *g, const green_scope_t *scope,
                                               uintptr_t sp)
{
    struct green__hub *hub = green__hub_self;
    bool is_main = green__layer_is_main(g);
    if (is_main && hub->main_low == 0)
        ask_for_main(hub);
    uintptr_t low = is_main ? hub->main_low : green__layer_low(g);
    uintptr_t end = is_main ? hub->main_end : green__layer_top(g);
    return low <= (uintptr_t)scope && (uintptr_t)scope < sp && sp < end;
}

/*
 * Whether what g's list has there is a scope still.  It is none below all frames of g, and
 * is not read there, as a signal may write to it at any time.  It may be on another stack
 * than these: the program's, or the heap.
 *
 * Not in line, as its own frame is to be below those.
 */
static __attribute__((noinline)) GREEN__NO_ASAN GREEN__NO_MSAN bool
is_scope(const green_t *g, const green_scope_t *scope)
{
    uintptr_t sp = g == green__layer_current() ? (uintptr_t)__builtin_frame_address(0)
                                               : green__layer_sp(g);
    if (UNLIKELY((uintptr_t)scope < sp) && is_below(g, scope, sp))
        return false;
    green__layer_asks(scope, sizeof *scope);
    return SEAL(scope) == seal_of(scope);
}

/* The next of g's list, or the first. */
static green_scope_t *scope_after(green_t *g, green_scope_t *before)
{
    green_scope_t *scope = listed_after(g, before);
    if (scope == NULL || LIKELY(is_scope(g, scope)))
        return scope;
    list_after(g, before, NULL);
    return NULL;
}

/* Of those that are not the first. */
static __attribute__((noinline)) void take_out_slowly(green_t *g, green_scope_t *scope)
{
    (void)green__layer_current(); /* if main's frames are being left, its list is no more then */
    green_scope_t *before = NULL, *found;
    while ((found = listed_after(g, before)) != NULL && found != scope && is_scope(g, found))
        before = found;
    if (found != NULL) /* else the list has been dropped */
        list_after(g, before, NEXT(scope));
}

static GREEN__NO_ASAN void take_out(green_t *g, green_scope_t *scope)
{
    if (LIKELY(listed_first(g) == scope))
        set_first_scope(g, NEXT(scope));
    else
        take_out_slowly(g, scope);
    GREEN_OF(scope) = NULL;
}

/* What is in it is not read, as it may be anything. */
static void end_if_open(green_t *g, green_scope_t *scope)
{
    green_scope_t *found = NULL;
    while ((found = scope_after(g, found)) != NULL && found != scope)
        continue;
    if (found != NULL)
        take_out(g, scope);
}

int green_scope_begin(green_scope_t *scope, int64_t timeout, unsigned flags)
{
    if (scope == NULL)
        return green__call_fail(EINVAL);
    if (green__hub_self != NULL && !green__hub_forbidden)
        end_if_open(green__layer_current(), scope);
    *scope = (green_scope_t){0};
    if ((flags & ~GREEN_SHIELD) != 0)
        return green__call_fail(EINVAL);
    struct green__hub *hub = green__hub_need();
    if (hub == NULL)
        return -1;
    int error = errno;
    green_t *me = green__layer_current();
    scope->green_private_due = timeout == GREEN_FOREVER
                                   ? GREEN_FOREVER
                                   : green__time_add(green__loop_now(hub), timeout);
    scope->green_private_flags = flags;
    NUMBER(scope) = hub->waits_made;
    NEXT(scope) = scope_after(me, NULL);
    GREEN_OF(scope) = me;
    SEAL(scope) = seal_of(scope);
    set_first_scope(me, scope);
    errno = error;
    return 0;
}

int green_scope_end(green_scope_t *scope)
{
    if (scope == NULL)
        return green__call_fail(EINVAL);
    if (GREEN_OF(scope) != NULL)
        take_out(GREEN_OF(scope), scope);
    return (scope->green_private_flags & HIT) != 0;
}

void green__scope_end_all(green_t *g, bool gone)
{
    if (gone && listed_first(g) != NULL)
        set_first_scope(g, NULL);
    for (green_scope_t *scope; (scope = scope_after(g, NULL)) != NULL;)
        take_out(g, scope);
}

/* ---- What a wait sees ---------------------------------------------------------- */

/* Goes through the scopes that a wait of a green sees, from the innermost. */
struct scope_walk {
    green_t *green;
    green_scope_t *scope; /* the last that was given, or NULL */
    uint64_t number;      /* of the wait */
    bool shielded;        /* what is farther out is not seen */
};

static GREEN__NO_ASAN green_scope_t *next_scope(struct scope_walk *walk)
{
    if (walk->scope != NULL && (walk->scope->green_private_flags & GREEN_SHIELD) != 0) {
        walk->shielded = true;
        return NULL;
    }
    green_scope_t *scope = scope_after(walk->green, walk->scope);
    for (;;) {
        while (scope != NULL && NUMBER(scope) >= walk->number)
            scope = scope_after(walk->green, scope);
        if (scope != NULL)
            return walk->scope = scope;
        if (begins_in_task(walk->green))
            return NULL;
        do /* of those above that have ended the scopes have, too */
            walk->green = green__layer_above(walk->green);
        while (!green__layer_is_started(walk->green));
        scope = scope_after(walk->green, NULL);
    }
}

GREEN__NO_ASAN int green__scope_verdict(struct green__hub *hub, green_t *me,
                                        const struct green_task *task, uint64_t number, bool mark)
{
    struct scope_walk walk = {.green = me, .number = number};
    bool over = false, known = false;
    for (green_scope_t *scope; (scope = next_scope(&walk)) != NULL;) {
        if (scope->green_private_due == GREEN_FOREVER)
            continue;
        if (!known)
            (void)green__loop_now(hub);
        known = true;
        over = over || scope->green_private_due <= hub->time;
    }
    if (task->cancelled && !walk.shielded)
        return ECANCELED;
    if (over && mark) {
        walk = (struct scope_walk){.green = me, .number = number};
        for (green_scope_t *scope; (scope = next_scope(&walk)) != NULL;)
            if (scope->green_private_due <= hub->time)
                scope->green_private_flags |= HIT;
    }
    return over ? ETIMEDOUT : 0;
}

GREEN__NO_ASAN int64_t green__scope_due(green_t *me, uint64_t number)
{
    struct scope_walk walk = {.green = me, .number = number};
    int64_t due = GREEN_FOREVER;
    for (green_scope_t *scope; (scope = next_scope(&walk)) != NULL;)
        if (scope->green_private_due < due)
            due = scope->green_private_due;
    return due;
}
