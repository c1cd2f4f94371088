/* SPDX-License-Identifier: MIT */
/*
 * Scopes: time limits and shields (rules 8 and 10).
 *
 * A scope is in the list of the green that began it, the last begun first, and nowhere
 * else: no timer points to one.  The list of a task's green, main's too, begins in
 * its task; that of any other in the layer's word of the green.
 */
#include "hub.h"

/* What is in a green_scope_t. */
#define NEXT(scope) (*(green_scope_t **)(void *)&(scope)->green_private_links[0])
#define GREEN_OF(scope) (*(green_t **)(void *)&(scope)->green_private_links[2]) /* NULL: ended */
#define NUMBER(scope) ((scope)->green_private_room[0]) /* of the last wait that began before it */
#define HIT UINT64_C(1) /* in the flags: a call in it has failed when its time was over */

static bool begins_in_task(const green_t *g)
{
    return green__layer_knows(g) || green__layer_is_main(g);
}

static green_scope_t *first_scope(const green_t *g)
{
    void *word = green__layer_word(g);
    return word != NULL && begins_in_task(g) ? ((struct green_task *)word)->scopes : word;
}

static void set_first_scope(green_t *g, green_scope_t *scope)
{
    if (!begins_in_task(g)) {
        green__layer_set_word(g, scope);
        return;
    }
    struct green_task *task = green__layer_word(g);
    task->scopes = scope;
    if (green__layer_knows(g))
        green__task_mark_plain(task);
}

int green_scope_begin(green_scope_t *scope, int64_t timeout, unsigned flags)
{
    if (scope == NULL)
        return green__call_fail(EINVAL);
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
    NEXT(scope) = first_scope(me);
    GREEN_OF(scope) = me;
    set_first_scope(me, scope);
    errno = error;
    return 0;
}

static void take_out(green_t *g, green_scope_t *scope)
{
    green_scope_t *first = first_scope(g);
    if (first == scope) {
        set_first_scope(g, NEXT(scope));
    } else {
        while (first != NULL && NEXT(first) != scope)
            first = NEXT(first);
        if (first != NULL) /* else the thread's end has dropped the list */
            NEXT(first) = NEXT(scope);
    }
    GREEN_OF(scope) = NULL;
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
    if (gone && first_scope(g) != NULL)
        set_first_scope(g, NULL);
    for (green_scope_t *scope; (scope = first_scope(g)) != NULL;)
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

static green_scope_t *next_scope(struct scope_walk *walk)
{
    if (walk->scope != NULL && (walk->scope->green_private_flags & GREEN_SHIELD) != 0) {
        walk->shielded = true;
        return NULL;
    }
    green_scope_t *scope = walk->scope != NULL ? NEXT(walk->scope) : first_scope(walk->green);
    for (;;) {
        while (scope != NULL && NUMBER(scope) >= walk->number)
            scope = NEXT(scope);
        if (scope != NULL)
            return walk->scope = scope;
        if (begins_in_task(walk->green))
            return NULL;
        do /* of those above that have ended the scopes have, too */
            walk->green = green__layer_above(walk->green);
        while (!green__layer_is_started(walk->green));
        scope = first_scope(walk->green);
    }
}

int green__scope_verdict(struct green__hub *hub, green_t *me, const struct green_task *task,
                         uint64_t number, bool mark)
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

int64_t green__scope_due(green_t *me, uint64_t number)
{
    struct scope_walk walk = {.green = me, .number = number};
    int64_t due = GREEN_FOREVER;
    for (green_scope_t *scope; (scope = next_scope(&walk)) != NULL;)
        if (scope->green_private_due < due)
            due = scope->green_private_due;
    return due;
}
