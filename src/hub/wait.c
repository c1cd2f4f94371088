/* SPDX-License-Identifier: MIT */
/*
 * THE wait: how every wait begins, is served or fails, and goes on; whom the thread
 * runs meanwhile; cancel (rule 9) and deadlock (rule 15).  Only this file switches.
 *
 * Who waits switches straight to the next of the line, and to the hub's green only if
 * there is none, or when it is time to look at timers and descriptors.
 *
 * A green that waits can be entered in two ways: by its turn, which is not in the line
 * any more then, or by a child of it that has died (rule 4).
 */
#include "hub.h"

/* ---- Whose it is ---------------------------------------------------------------- */

struct green_task *green__task_above(struct green__hub *hub, green_t *g)
{
    while (!green__layer_is_main(g)) {
        if (green__layer_is_owned(g) && green__layer_is_started(g))
            return green__task_of_word(green__layer_word(g));
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
    call->self = NULL;
    call->own = NULL;
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
        if (green__hub_self != hub) { /* it has ended meanwhile, in a child */
            errno = error;
            return false;
        }
        call->task = green__task_of(hub, call->me); /* its own may have ended meanwhile */
    }
    green__task_set_failures(call->task, 1);
    errno = error;
    return false;
}

bool green__call_goes_on(struct green__call *call)
{
    call->task = green__task_of(call->hub, call->me);
    call->self = NULL;
    int error = call->hub->green == NULL
                    ? ECANCELED
                    : green__scope_verdict(call->hub, call->me, call->task, UINT64_MAX, true);
    if (error == 0)
        return true;
    green__task_set_failures(call->task, 1);
    errno = error;
    return false;
}

int green__call_tried(struct green__call *call, int64_t timeout, int error)
{
    if (timeout > 0 && --call->hub->credit == 0)
        green__wait_give_turn(call->hub, call->me);
    return green__call_fail(error);
}

int green__call_give_turn(struct green__hub *hub, green_t *me)
{
    green__wait_give_turn(hub, me);
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

/* Which is in no line any more. */
static inline void end_wait(struct green__hub *hub, struct green__wait *wait,
                            enum green__wait_state state, int error)
{
    if (UNLIKELY(wait->timer != 0))
        green__timer_disarm(&hub->timers, wait);
    wait->state = (unsigned char)state;
    wait->error = error;
    if (UNLIKELY(error != 0)) { /* if it is bare; else it does that itself */
        wait->turn.value = (void *)(intptr_t)-1;
        wait->turn.error = error;
        if (wait->counted && wait->turn.kind == GREEN__TURN_BARE)
            wait->turn.kind = GREEN__TURN_BARE_LONG;
    }
    green__loop_push(hub, &wait->turn);
}

void green__wait_serve(struct green__hub *hub, struct green__entry *entry, int error)
{
    struct green__wait *wait = entry->wait;
    wait->served = entry;
    if (LIKELY(wait->count == 1)) {
        delist(entry);
    } else {
        delist_all(wait);
        if (wait->state == GREEN__WOKEN) { /* its turn is in the line */
            wait->state = GREEN__SERVED;
            wait->error = error;
            return;
        }
    }
    end_wait(hub, wait, GREEN__SERVED, error);
}

void green__wait_wake(struct green__hub *hub, struct green__entry *entry)
{
    struct green__wait *wait = entry->wait;
    if (wait->role != GREEN__SELECTS) {
        green__wait_serve(hub, entry, 0);
        return;
    }
    wait->served = entry;
    end_wait(hub, wait, GREEN__WOKEN, 0);
}

void green__wait_serve_alone(struct green__hub *hub, struct green__wait *wait)
{
    delist_all(wait);
    end_wait(hub, wait, GREEN__SERVED, 0);
}

void green__wait_fail(struct green__hub *hub, struct green__wait *wait, int error)
{
    delist_all(wait);
    end_wait(hub, wait, GREEN__FAILS, error);
}

void green__wait_serve_all(struct green__hub *hub, struct green_private_line *line, int error)
{
    while (line->first != NULL)
        green__wait_serve(hub, line->first, error);
}

/* ---- Switching ------------------------------------------------------------------------ */

static __attribute__((noinline)) void wake_bare_long(struct green__hub *hub,
                                                     const struct green__turn *turn)
{
    const struct green__own *own = green__layer_word(turn->green);
    const struct green__wait *wait = &own->wait;
    bool failed = turn->value != NULL;
    if (turn->kind == GREEN__TURN_BARE_LONG && wait->state != GREEN__NO_WAIT &&
        (wait->counted || !failed))
        green__task_set_failures(wait->task, failed);
    if (hub->fd_asked && green__layer_is_main(turn->green))
        green__loop_tell_fd(hub);
}

/* Does for a bare turn, which is in no line, what its green does not do itself. */
static inline void wake_bare(struct green__hub *hub, const struct green__turn *turn)
{
    if (UNLIKELY(turn->kind == GREEN__TURN_BARE_LONG) || UNLIKELY(hub->fd_asked))
        wake_bare_long(hub, turn);
    *hub->errno_at = turn->error;
    green__layer_wake(turn->green);
}

/* Enters who has the turn, from another green. */
static inline void enter_turn(struct green__hub *hub, struct green__turn *turn)
{
    if (turn->kind != GREEN__TURN_FULL)
        wake_bare(hub, turn);
    green__layer_switch(turn->green, turn->value);
}

void *green__wait_entered(struct green__hub *hub, green_t *g, void *value)
{
    struct green__own *own = green__layer_knows(g) ? green__layer_word(g) : NULL;
    if (own == NULL || own->wait.turn.kind == GREEN__TURN_FULL ||
        (own->wait.state != GREEN__WAITS && own->wait.turn.next == NULL))
        return value; /* it sees to it itself */
    if (own->wait.state == GREEN__WAITS)
        green__wait_fail(hub, &own->wait, EINTR);
    green__loop_remove(hub, &own->wait.turn);
    wake_bare(hub, &own->wait.turn);
    return own->wait.turn.value;
}

green_t *green__wait_next_plainly(struct green__hub *hub, void **value)
{
    struct green__turn *turn = hub->line.next;
    green__wait_take_first(hub, turn);
    hub->ready--;
    if (turn->kind != GREEN__TURN_FULL)
        wake_bare(hub, turn);
    *value = turn->value;
    return turn->green;
}

green_t *green__wait_next(struct green__hub *hub, void **value)
{
    if (hub->left == 0 || hub->ready == 0 || hub->corpses != NULL)
        return NULL;
    return green__wait_next_plainly(hub, value);
}

/* Whether a hub is plain, and neither is its line empty nor has it to look. */
static inline bool is_plain_turn(const struct green__hub *hub)
{
    return LIKELY(hub->left != 0) && LIKELY(hub->line.next != &hub->line);
}

static __attribute__((noinline)) void switch_away_slowly(struct green__hub *hub, green_t *me)
{
    if (green__loop_looks_first(hub)) {
        green__layer_switch(hub->green, NULL);
        return;
    }
    struct green__turn *turn = green__loop_pop(hub);
    if (UNLIKELY(hub->watch != NULL))
        green__watch_turn(hub, turn->green);
    if (turn->green != me)
        enter_turn(hub, turn);
}

/*
 * With many tasks what they stand on is far from the CPU when their turns come, and each piece
 * leads to the next.  So that of the second in the line is fetched while the first runs: a
 * wait like this has its turn in its frame, between where the stack was left and the frames
 * to which it returns.
 */
#define CACHE_LINE ((ptrdiff_t)64)
#define AHEAD_BELOW (4 * CACHE_LINE)
#define AHEAD_ABOVE (8 * CACHE_LINE)
static inline void fetch_ahead(const struct green__hub *hub, const struct green__turn *second)
{
    if (second == &hub->line)
        return;
    __builtin_prefetch(second->next);
    const char *green = (const char *)second->green, *turn = (const char *)second;
    __builtin_prefetch(green);
    __builtin_prefetch(green + 2 * CACHE_LINE);
    for (ptrdiff_t i = -AHEAD_BELOW; i < AHEAD_ABOVE; i += CACHE_LINE)
        __builtin_prefetch(turn + i);
}

/* Leaves the current green until it is entered. */
static inline void switch_away(struct green__hub *hub, green_t *me)
{
    if (is_plain_turn(hub)) {
        struct green__turn *turn = hub->line.next;
        fetch_ahead(hub, turn->next);
        green__wait_take_first(hub, turn);
        hub->ready--;
        enter_turn(hub, turn); /* not me: that is in no line */
    } else {
        switch_away_slowly(hub, me);
    }
}

void *green__wait_hub_body(void *arg)
{
    struct green__hub *hub = green__hub_self;
    green__layer_switch(arg, NULL); /* back to who has made the hub */
    for (;;) {
        green__hub_bury(hub);
        if (green__loop_looks_first(hub)) {
            if (UNLIKELY(hub->watch != NULL))
                green__watch_turn(hub, NULL);
            green__loop_look(hub, GREEN_FOREVER, false);
        }
        struct green__turn *turn = green__loop_pop(hub);
        if (UNLIKELY(turn == NULL)) {
            green__wait_break_deadlock(hub);
            continue;
        }
        if (UNLIKELY(hub->watch != NULL))
            green__watch_turn(hub, turn->green);
        enter_turn(hub, turn);
    }
    return NULL;
}

void green__wait_start_hub(struct green__hub *hub)
{
    green__layer_switch(hub->green, green__layer_current());
}

static __attribute__((noinline)) int leave_slowly(struct green__hub *hub)
{
    if (green__loop_looks_first(hub))
        return green__layer_go_long(hub->green, NULL);
    struct green__turn *turn = green__loop_pop(hub);
    if (UNLIKELY(hub->watch != NULL))
        green__watch_turn(hub, turn->green);
    if (turn->kind != GREEN__TURN_FULL)
        wake_bare(hub, turn);
    return green__layer_go_long(turn->green, turn->value);
}

int green__wait_leave(struct green__hub *hub, struct green__turn *mine)
{
    mine->error = *hub->errno_at;
    if (UNLIKELY(!is_plain_turn(hub)))
        return leave_slowly(hub);
    struct green__turn *turn = hub->line.next;
    green__wait_take_first(hub, turn);
    hub->ready--;
    if (turn->kind != GREEN__TURN_FULL)
        wake_bare(hub, turn);
    return green__layer_go_long(turn->green, turn->value);
}

/* Back in a green: what it does for itself before it goes on. */
static inline void come_back(struct green__hub *hub, const green_t *me)
{
    if (UNLIKELY(!hub->is_plain) && hub->fd_asked && !green__layer_is_owned(me))
        green__loop_tell_fd(hub);
}

void green__wait_take_back(struct green__wait *wait)
{
    delist_all(wait);
}

static inline void join_task(struct green__wait *wait, struct green_task *task)
{
    struct green__wait *others = task->waits;
    wait->prev = NULL;
    wait->next = others;
    if (UNLIKELY(others != NULL))
        others->prev = wait;
    task->waits = wait;
}

static inline void leave_task(struct green__wait *wait)
{
    if (UNLIKELY(wait->prev != NULL))
        wait->prev->next = wait->next;
    else
        wait->task->waits = wait->next;
    if (UNLIKELY(wait->next != NULL))
        wait->next->prev = wait->prev;
}

/* A wait has failed, or the operation has. */
static __attribute__((noinline)) int fail_wait(struct green__hub *hub, struct green__wait *wait)
{
    if (UNLIKELY(wait->task == NULL)) /* in a child, and its green is its user's again */
        return green__call_fail(ECANCELED);
    leave_task(wait);
    come_back(hub, wait->turn.green);
    if (wait->counted)
        green__task_set_failures(wait->task, 1);
    return green__call_fail(wait->error);
}

/* Whether the hub is there, and with it what its line had: else that was forgotten. */
static inline bool keeps_turns(const struct green__hub *hub)
{
    return LIKELY(green__hub_self == hub) && LIKELY(hub->green != NULL);
}

static inline bool is_served_well(const struct green__wait *wait)
{
    return wait->state == GREEN__SERVED && wait->error == 0;
}

/* Whether the wait goes on: it was entered by a death, and that does not end it. */
static __attribute__((noinline)) bool goes_on(struct green__hub *hub, struct green__wait *wait)
{
    if (wait->task == NULL)
        return false;
    if (UNLIKELY(!keeps_turns(hub))) {
        wait->state = GREEN__FAILS;
        wait->task = NULL;
        return false;
    }
    if (wait->state == GREEN__WOKEN) {
        delist_all(wait);
        wait->state = GREEN__SERVED;
    }
    if (wait->state == GREEN__WAITS) { /* so its turn was never in the line */
        if (wait->shielded)
            return true;
        green__wait_fail(hub, wait, EINTR);
    }
    if (wait->turn.next != NULL)
        green__loop_remove(hub, &wait->turn);
    return false;
}

/* Arms what ends it in time. */
static __attribute__((noinline)) void arm(struct green__hub *hub, struct green__wait *wait,
                                          int64_t timeout)
{
    if (timeout != GREEN_FOREVER)
        wait->due = green__time_add(green__loop_now(hub), timeout);
    int64_t due = wait->due;
    if (!wait->shielded) {
        int64_t scopes_due = green__scope_due(wait->turn.green, wait->number);
        if (scopes_due < due)
            due = scopes_due;
    }
    if (due != GREEN_FOREVER)
        green__timer_arm(&hub->timers, wait, due);
}

static inline __attribute__((always_inline)) int wait_here(struct green__hub *hub,
                                                           struct green__wait *wait, green_t *me,
                                                           struct green_task *task,
                                                           int64_t timeout)
{
    int error = *hub->errno_at;
    if (UNLIKELY(hub->green == NULL)) { /* shielded or not: nobody would come back */
        delist_all(wait);
        return green__call_fail(ECANCELED);
    }
    wait->due = GREEN_FOREVER;
    if (UNLIKELY(timeout != GREEN_FOREVER || task->scopes != NULL || !green__layer_knows(me)))
        arm(hub, wait, timeout);
    join_task(wait, task);

    do
        switch_away(hub, me);
    while (UNLIKELY(!is_served_well(wait) || wait->turn.next != NULL) &&
           goes_on(hub, wait));

    if (UNLIKELY(!is_served_well(wait)))
        return fail_wait(hub, wait);
    leave_task(wait);
    come_back(hub, wait->turn.green);
    green__task_set_failures(wait->task, 0);
    *hub->errno_at = error;
    return 0;
}

int green__wait(struct green__hub *hub, struct green__wait *wait, int64_t timeout)
{
    return wait_here(hub, wait, wait->turn.green, wait->task, timeout);
}

static __attribute__((noinline)) int wait_fully(struct green_private_line *line, void *item,
                                                int64_t timeout, const char *name,
                                                const void *object, const void *place)
{
    struct green__call call;
    struct green__wait wait;
    struct green__entry entry;
    struct green__hub *hub = call.hub = green__hub_self;
    green_t *me = call.me = green__layer_current();
    call.task = green__task_of(hub, me);
    green__wait_prepare(&wait, &call, name, object, place);
    wait.entries = &entry;
    wait.count = 1;
    entry.item = item;
    green__wait_enlist(&wait, &entry, line);
    return wait_here(hub, &wait, me, call.task, timeout);
}

__attribute__((noinline)) int green__wait_with(struct green_private_line *line, void *item,
                                               int64_t timeout, const char *name,
                                               const void *object, const void *place)
{
    struct green__call call;
    if (UNLIKELY(!green__call_is_plain(&call)))
        return wait_fully(line, item, timeout, name, object, place);
    green__wait_begin_barely(&call, line, item, name, object, place);
    if (timeout != GREEN_FOREVER) {
        call.own->wait.due = green__time_add(green__loop_now(call.hub), timeout);
        green__timer_arm(&call.hub->timers, &call.own->wait, call.own->wait.due);
    }
    return green__wait_leave(call.hub, &call.own->wait.turn);
}

static __attribute__((noinline)) void give_turn_slowly(struct green__hub *hub, green_t *me)
{
    struct green__turn turn = {.green = me, .yields = hub->is_virtual};
    int error = errno;
    if (hub->green == NULL)
        return;
    if (hub->ready == 0 || (hub->is_virtual && hub->ready == hub->yielding))
        green__loop_look(hub, 0, true);
    hub->yielding += turn.yields;
    green__loop_push(hub, &turn);
    switch_away_slowly(hub, me);
    if (UNLIKELY(turn.next != NULL) && keeps_turns(hub)) /* entered by a death: it has had it */
        green__loop_remove(hub, &turn);
    if (green__hub_self == hub)
        come_back(hub, me);
    errno = error;
}

/* Mostly there is somebody else, and nothing to be done but to change places. */
static inline void change_places(struct green__hub *hub, green_t *me)
{
    if (UNLIKELY(!is_plain_turn(hub))) {
        give_turn_slowly(hub, me);
        return;
    }
    struct green__turn turn;
    int error = *hub->errno_at;
    struct green__turn *other = hub->line.next;
    green__wait_take_first(hub, other);
    struct green__turn *last = hub->line.prev;
    turn.green = me;
    turn.value = NULL;
    turn.kind = GREEN__TURN_FULL;
    turn.yields = false;
    turn.next = &hub->line;
    turn.prev = last;
    last->next = &turn;
    hub->line.prev = &turn;
    enter_turn(hub, other);
    if (UNLIKELY(turn.next != NULL) && keeps_turns(hub))
        green__loop_remove(hub, &turn);
    if (green__hub_self == hub)
        come_back(hub, turn.green);
    errno = error;
}

void green__wait_give_turn(struct green__hub *hub, green_t *me)
{
    change_places(hub, me);
}

/* ---- Sleep ------------------------------------------------------------------------------ */

static __attribute__((noinline)) int sleep_for(const struct green__call *call, int64_t time,
                                               const void *place)
{
    struct green__wait wait;
    green__wait_prepare(&wait, call, "green_sleep", NULL, place);
    wait.ends_well = true;
    return green__wait(call->hub, &wait, time);
}

static __attribute__((noinline)) int sleep_slowly(int64_t time, const void *place)
{
    struct green__call call;
    if (!green__call_begin(&call, 1))
        return -1;
    if (time > 0)
        return sleep_for(&call, time, place);
    if (call.self != NULL && call.hub->is_plain && call.hub->ready != 0) {
        struct green__wait *own = &call.own->wait;
        own->state = GREEN__NO_WAIT;
        own->turn.kind = GREEN__TURN_BARE;
        own->turn.value = NULL;
        green__loop_push(call.hub, &own->turn);
        return green__wait_leave(call.hub, &own->turn);
    }
    if (UNLIKELY(call.hub->green == NULL))
        return green__call_fail(ECANCELED);
    green__task_set_failures(call.task, 0);
    green__wait_give_turn(call.hub, call.me);
    return 0;
}

/*
 * The turn of the first of the line has come, and this one goes to the end.  That the first is
 * the only one is a case of its own: which it is the CPU predicts, and it need not wait for one
 * pointer to know where the next is.
 */
static inline void put_last_for_first(struct green__hub *hub, struct green__turn *turn,
                                      struct green__turn *first)
{
    struct green__turn *second = first->next;
    green__wait_count_turn(hub);
    first->next = NULL;
    turn->next = &hub->line;
    if (second == &hub->line) {
        turn->prev = &hub->line;
        hub->line.next = turn;
    } else {
        struct green__turn *last = hub->line.prev;
        hub->line.next = second;
        second->prev = &hub->line;
        turn->prev = last;
        last->next = turn;
    }
    hub->line.prev = turn;
}

/* Not in line, as the place of the call would be lost. */
__attribute__((noinline)) int green_sleep(int64_t time)
{
    struct green__call call;
    struct green__turn *first;
    if (UNLIKELY(time > 0) || UNLIKELY(!green__call_is_plain(&call)) ||
        UNLIKELY((first = green__wait_first_bare(call.hub)) == NULL))
        return sleep_slowly(time, __builtin_return_address(0));
    struct green__hub *hub = call.hub;
    struct green__turn *turn = &call.own->wait.turn;
    /* Stores are what a turn waits for: mostly these are there. */
    if (UNLIKELY(call.own->wait.state != GREEN__NO_WAIT))
        call.own->wait.state = GREEN__NO_WAIT;
    if (UNLIKELY(turn->kind != GREEN__TURN_BARE))
        turn->kind = GREEN__TURN_BARE;
    if (UNLIKELY(turn->value != NULL))
        turn->value = NULL;
    put_last_for_first(hub, turn, first);
    return green__wait_go(&call, turn, first);
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
    for (struct green__wait *wait = green__task_waits(task); wait != NULL;
         wait = green__task_next_wait(task, wait))
        if (wait->state == GREEN__WAITS && !wait->shielded &&
            green__scope_verdict(hub, wait->turn.green, task, wait->number, false) == ECANCELED)
            fail_by_rule(hub, wait, ECANCELED);
}

void green__wait_fail_all(struct green__hub *hub, struct green_task *task)
{
    for (struct green__wait *wait = green__task_waits(task); wait != NULL;
         wait = green__task_next_wait(task, wait)) {
        if (wait->state == GREEN__WAITS)
            green__wait_fail(hub, wait, ECANCELED);
        if (wait->state == GREEN__WOKEN) {
            delist_all(wait);
            wait->state = GREEN__FAILS;
            wait->error = ECANCELED;
        }
    }
}

void green__wait_drop_all(struct green__hub *hub, struct green_task *task)
{
    for (struct green__wait *wait; (wait = task->waits) != NULL;) {
        task->waits = wait->next;
        green__loop_remove(hub, &wait->turn);
        wait->state = GREEN__FAILS;
        wait->error = 0;
        wait->served = NULL;
        wait->task = NULL;
        if (wait->turn.green != task->green)
            green__layer_let_go(wait->turn.green);
    }
    struct green__own *own = green__task_own(task);
    if (own->wait.turn.next != NULL)
        green__loop_remove(hub, &own->wait.turn);
    own->wait.state = GREEN__NO_WAIT;
}

void green__wait_break_deadlock(struct green__hub *hub)
{
    struct green__wait *chosen = NULL;
    for (struct green__wait *wait = green__task_waits(&hub->main); wait != NULL;
         wait = green__task_next_wait(&hub->main, wait))
        if (chosen == NULL || wait->number > chosen->number)
            chosen = wait;
    if (chosen == NULL) {
        for (struct green_task *task = hub->living.next; task != &hub->living; task = task->next)
            for (struct green__wait *wait = green__task_waits(task); wait != NULL;
                 wait = green__task_next_wait(task, wait))
                if (chosen == NULL || wait->number < chosen->number)
                    chosen = wait;
    }
    if (chosen != NULL)
        green__wait_fail(hub, chosen, EDEADLK);
    else
        green_throw(green_main(), EDEADLK); /* which waits in a switch of green.h */
}
