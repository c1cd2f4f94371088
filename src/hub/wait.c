/* SPDX-License-Identifier: MIT */
/*
 * THE wait: how every wait begins, is served or fails, and goes on; whom the thread
 * runs meanwhile; cancel (rule 9) and deadlock (rule 15).  Only this file switches.
 *
 * Who waits switches straight to the next of the line, and to the hub's green only if
 * there is none, or when it is time to look at timers and descriptors.
 *
 * A green that waits can be entered in two ways: by its turn, which is given then, or by
 * a child of it that has died (rule 4).
 */
#include "hub.h"

/* ---- Whose it is ---------------------------------------------------------------- */

struct green_task *green__task_above(struct green__hub *hub, green_t *g)
{
    while (!green__layer_is_main(g)) {
        if (green__layer_is_owned(g) && green__layer_is_started(g))
            return green__layer_word(g);
        g = green__layer_above(g);
    }
    return &hub->main;
}

bool green__line_claim(struct green__hub *hub, struct green_private_line *line)
{
    if (line->hub != 0 && green__hub_is_alive(line->hub)) {
        errno = EPERM;
        return false;
    }
    line->first = line->last = NULL; /* what a hub has left there that is no more */
    line->hub = hub->id;
    return true;
}

/* ---- The beginning ------------------------------------------------------------------ */

bool green__call_begin_slowly(struct green__call *call, bool own_over)
{
    struct green__hub *hub = call->hub = green__hub_need();
    if (hub == NULL)
        return false;
    call->me = green__layer_current();
    call->task = green__task_of(hub, call->me);
    if (green__layer_thread_is_ending()) {
        errno = ECANCELED;
        return false;
    }
    if (hub->green == NULL) /* rule 16: what need not wait is done */
        return true;
    int error = green__scope_verdict(hub, call->me, call->task, UINT64_MAX, !own_over);
    if (error == 0)
        return true;
    if (call->task->failures != 0) {
        green__wait_give_turn(hub, call->me);
        call->task = green__task_of(hub, call->me); /* its own may have ended meanwhile */
    }
    call->task->failures = 1;
    errno = error;
    return false;
}

bool green__call_goes_on(struct green__call *call)
{
    call->task = green__task_of(call->hub, call->me);
    int error = call->hub->green == NULL
                    ? ECANCELED
                    : green__scope_verdict(call->hub, call->me, call->task, UINT64_MAX, true);
    if (error == 0)
        return true;
    call->task->failures = 1;
    errno = error;
    return false;
}

int green__call_give_turn(struct green__call *call)
{
    green__wait_give_turn(call->hub, call->me);
    return 0;
}

void green__wait_enlist(struct green__wait *wait, struct green__entry *entry,
                        struct green_private_line *line)
{
    struct green__entry *last = line->last;
    entry->wait = wait;
    entry->line = line;
    entry->next = NULL;
    entry->prev = last;
    if (last != NULL)
        last->next = entry;
    else
        line->first = entry;
    line->last = entry;
}

static void delist(struct green__entry *entry)
{
    struct green_private_line *line = entry->line;
    if (line == NULL)
        return;
    if (entry->prev != NULL)
        entry->prev->next = entry->next;
    else
        line->first = entry->next;
    if (entry->next != NULL)
        entry->next->prev = entry->prev;
    else
        line->last = entry->prev;
    entry->line = NULL;
}

static void delist_all(struct green__wait *wait)
{
    for (unsigned i = 0; i < wait->count; i++)
        delist(&wait->entries[i]);
}

/* ---- The end: whoever ends a wait takes it out of all that it is in --------------------- */

static void end_wait(struct green__hub *hub, struct green__wait *wait,
                     enum green__wait_state state, int error)
{
    delist_all(wait);
    green__timer_disarm(&hub->timers, wait);
    wait->state = (unsigned char)state;
    wait->error = error;
    green__loop_push(hub, &wait->turn);
}

void green__wait_serve(struct green__hub *hub, struct green__entry *entry, int error)
{
    entry->wait->served = entry;
    end_wait(hub, entry->wait, GREEN__SERVED, error);
}

void green__wait_serve_alone(struct green__hub *hub, struct green__wait *wait)
{
    end_wait(hub, wait, GREEN__SERVED, 0);
}

void green__wait_fail(struct green__hub *hub, struct green__wait *wait, int error)
{
    end_wait(hub, wait, GREEN__FAILS, error);
}

void green__wait_serve_all(struct green__hub *hub, struct green_private_line *line, int error)
{
    while (line->first != NULL)
        green__wait_serve(hub, line->first, error);
}

/* ---- Switching ------------------------------------------------------------------------ */

/* Leaves the current green until it is entered. */
static void switch_away(struct green__hub *hub, green_t *me)
{
    if (LIKELY(hub->ready != 0) && LIKELY(--hub->until_look != 0)) {
        struct green__turn *turn = green__loop_pop(hub);
        if (UNLIKELY(hub->watch != NULL))
            green__watch_turn(hub, turn->green);
        if (turn->green == me)
            return;
        green__layer_switch(turn->green, turn->value);
    } else {
        green__layer_switch(hub->green, NULL);
    }
}

void *green__wait_hub_body(void *arg)
{
    struct green__hub *hub = green__hub_self;
    green__layer_switch(arg, NULL); /* back to who has made the hub */
    for (;;) {
        green__hub_bury(hub);
        if (hub->ready == 0 || hub->until_look == 0) {
            if (UNLIKELY(hub->watch != NULL))
                green__watch_turn(hub, NULL);
            green__loop_look(hub, GREEN_FOREVER, false);
        }
        struct green__turn *turn = green__loop_pop(hub);
        if (UNLIKELY(turn == NULL)) {
            green__wait_break_deadlock(hub);
            continue;
        }
        if (hub->until_look > 0)
            hub->until_look--;
        if (UNLIKELY(hub->watch != NULL))
            green__watch_turn(hub, turn->green);
        green__layer_switch(turn->green, turn->value);
    }
    return NULL;
}

void green__wait_start_hub(struct green__hub *hub)
{
    green__layer_switch(hub->green, green__layer_current());
}

/* Back in a green: what it does for itself before it goes on. */
static void come_back(struct green__hub *hub, const green_t *me)
{
    if (UNLIKELY(hub->fd_asked) && green__layer_is_main(me))
        green__loop_tell_fd(hub);
}

void green__wait_take_back(struct green__wait *wait)
{
    delist_all(wait);
}

static void join_task(struct green__wait *wait)
{
    struct green_task *task = wait->task;
    wait->prev = NULL;
    wait->next = task->waits;
    if (task->waits != NULL)
        task->waits->prev = wait;
    task->waits = wait;
}

static void leave_task(struct green__wait *wait)
{
    if (wait->prev != NULL)
        wait->prev->next = wait->next;
    else
        wait->task->waits = wait->next;
    if (wait->next != NULL)
        wait->next->prev = wait->prev;
}

int green__wait(struct green__hub *hub, struct green__wait *wait, int64_t timeout)
{
    int error = errno;
    green_t *me = wait->turn.green;
    if (hub->green == NULL) { /* shielded or not: nobody would come back */
        delist_all(wait);
        return green__call_fail(ECANCELED);
    }
    wait->due = GREEN_FOREVER;
    if (timeout != GREEN_FOREVER)
        wait->due = green__time_add(green__loop_now(hub), timeout);
    int64_t due = wait->due;
    if (!wait->shielded &&
        UNLIKELY(wait->task->scopes != NULL || !green__layer_knows(me))) {
        int64_t scopes_due = green__scope_due(me, wait->number);
        if (scopes_due < due)
            due = scopes_due;
    }
    if (due != GREEN_FOREVER)
        green__timer_arm(&hub->timers, wait, due);
    join_task(wait);

    do {
        switch_away(hub, me);
        if (UNLIKELY(!wait->turn.given)) { /* entered by a death */
            if (wait->state == GREEN__WAITS && !wait->shielded)
                green__wait_fail(hub, wait, EINTR);
            if (wait->state != GREEN__WAITS && wait->task != NULL)
                green__loop_remove(hub, &wait->turn);
        }
    } while (wait->state == GREEN__WAITS);

    if (UNLIKELY(wait->task == NULL)) /* in a child, and its green is its user's again */
        return green__call_fail(ECANCELED);
    leave_task(wait);
    come_back(hub, me);
    if (LIKELY(wait->state == GREEN__SERVED && wait->error == 0)) {
        wait->task->failures = 0;
        errno = error;
        return 0;
    }
    if (wait->counted)
        wait->task->failures = 1;
    errno = wait->error;
    return -1;
}

int green__wait_in(struct green__call *call, struct green_private_line *line, void *item,
                   int64_t timeout, const char *name, const void *object, const void *place)
{
    struct green__wait wait;
    struct green__entry entry = {.item = item};
    green__wait_prepare(&wait, call, name, object, place);
    wait.entries = &entry;
    wait.count = 1;
    green__wait_enlist(&wait, &entry, line);
    return green__wait(call->hub, &wait, timeout);
}

static __attribute__((noinline)) void give_turn_slowly(struct green__hub *hub, green_t *me)
{
    struct green__turn turn = {.green = me, .yields = true};
    int error = errno;
    if (hub->green == NULL)
        return;
    if (hub->ready == 0 || (hub->is_virtual && hub->ready == hub->yielding))
        green__loop_look(hub, 0, true);
    green__loop_push(hub, &turn);
    switch_away(hub, me);
    if (UNLIKELY(!turn.given) && turn.next != NULL) /* entered by a death: it has had its turn */
        green__loop_remove(hub, &turn);
    come_back(hub, me);
    errno = error;
}

/* Mostly there is somebody else, and nothing to be done but to change places. */
void green__wait_give_turn(struct green__hub *hub, green_t *me)
{
    if (UNLIKELY(!hub->is_plain || hub->ready == 0 || hub->until_look <= 1)) {
        give_turn_slowly(hub, me);
        return;
    }
    struct green__turn turn;
    int error = errno;
    struct green__turn *other = green__loop_pop(hub);
    turn.green = me;
    turn.yields = true;
    green__loop_push(hub, &turn);
    hub->until_look--;
    green__layer_switch(other->green, other->value);
    if (UNLIKELY(!turn.given) && turn.next != NULL)
        green__loop_remove(hub, &turn);
    if (UNLIKELY(!hub->is_plain))
        come_back(hub, me);
    errno = error;
}

/* ---- What ends waits ---------------------------------------------------------------- */

/* By rule 8 or 9, which are counted. */
static void fail_by_rule(struct green__hub *hub, struct green__wait *wait, int error)
{
    wait->counted = true;
    green__wait_fail(hub, wait, error);
}

void green__wait_is_due(struct green__hub *hub, struct green__wait *wait)
{
    green_t *me = wait->turn.green;
    if (wait->due <= hub->time) {
        if (wait->ends_well)
            green__wait_serve_alone(hub, wait);
        else
            green__wait_fail(hub, wait, ETIMEDOUT);
        return;
    }
    int error = green__scope_verdict(hub, me, wait->task, wait->number, true);
    if (error != 0) {
        fail_by_rule(hub, wait, error);
        return;
    }
    int64_t due = green__scope_due(me, wait->number); /* the scope is gone that it was armed for */
    due = due < wait->due ? due : wait->due;
    if (due != GREEN_FOREVER)
        green__timer_arm(&hub->timers, wait, due);
}

void green__wait_cancel(struct green__hub *hub, struct green_task *task)
{
    for (struct green__wait *wait = task->waits; wait != NULL; wait = wait->next)
        if (wait->state == GREEN__WAITS && !wait->shielded &&
            green__scope_verdict(hub, wait->turn.green, task, wait->number, false) == ECANCELED)
            fail_by_rule(hub, wait, ECANCELED);
}

void green__wait_drop_all(struct green__hub *hub, struct green_task *task)
{
    for (struct green__wait *wait; (wait = task->waits) != NULL;) {
        task->waits = wait->next;
        if (wait->state == GREEN__WAITS)
            green__wait_fail(hub, wait, ECANCELED);
        green__loop_remove(hub, &wait->turn);
        wait->task = NULL;
        if (wait->turn.green != task->green)
            green__layer_let_go(wait->turn.green);
    }
    if (task->start.next != NULL)
        green__loop_remove(hub, &task->start);
}

void green__wait_break_deadlock(struct green__hub *hub)
{
    struct green__wait *chosen = NULL;
    for (struct green__wait *wait = hub->main.waits; wait != NULL; wait = wait->next)
        if (chosen == NULL || wait->number > chosen->number)
            chosen = wait;
    if (chosen == NULL) {
        for (struct green_task *task = hub->living.next; task != &hub->living; task = task->next)
            for (struct green__wait *wait = task->waits; wait != NULL; wait = wait->next)
                if (chosen == NULL || wait->number < chosen->number)
                    chosen = wait;
    }
    if (chosen != NULL)
        green__wait_fail(hub, chosen, EDEADLK);
    else
        green_throw(green_main(), EDEADLK); /* which waits in a switch of green.h */
}
