/* SPDX-License-Identifier: MIT */
/*
 * The model of hub_model.h.  What green_hub.h leaves open is as the library does it:
 *
 *   - Of timers that are due together that of the wait comes first that began first.
 *   - A task's end serves who joins it, who frees it, who waits for room in its group, or
 *     for its end, who frees that, and green_hub_wait(), in this order.  To cancel a group
 *     fails those who wait for room in it, then what its tasks wait in, as they were spawned.
 *   - The last of the 32 calls of rule 6 is done, and then lets the others run.
 *   - Virtual time passes when all in the line only let others run.
 *   - What is refused whatever comes (EDEADLK, EPERM) is so after rules 8 and 9.
 *   - Of a cancel and a scope that is over the cancel is seen.
 *   - A group's failure is heard by those waits that its end serves, and by no later one.
 */
#include "hub_model.h"

#include <errno.h>
#include <string.h>

enum { CREDIT = 32 }; /* rule 6 */

static struct h_task *me(struct hub_model *m)
{
    return &m->task[m->current];
}

static bool lives(const struct h_task *t)
{
    return t->state != H_NONE && t->state != H_ENDED;
}

static int64_t later(const struct hub_model *m, int64_t timeout)
{
    return timeout >= H_FOREVER - m->now ? H_FOREVER : m->now + timeout;
}

/* ---- Scopes: rules 8 and 10 -------------------------------------------------------- */

/* The one that is next farther out than `from`, NULL: the innermost, that a wait sees; or NULL. */
static struct h_scope *outwards(struct h_task *t, const struct h_scope *from)
{
    if (from != NULL && from->shield)
        return NULL;
    for (int level = from != NULL ? from->level : t->level; level >= 0; level--) {
        struct h_scope *found = NULL;
        for (int i = 0; i < H_SCOPES; i++) {
            struct h_scope *s = &t->scopes[level][i];
            if (s->open && (from == NULL || from->level != level || s->begun < from->begun) &&
                (found == NULL || s->begun > found->begun))
                found = s;
        }
        if (found != NULL)
            return found;
    }
    return NULL;
}

static bool sees_cancel(const struct h_task *task)
{
    struct h_task *t = (struct h_task *)task;
    for (struct h_scope *s = outwards(t, NULL); s != NULL; s = outwards(t, s))
        if (s->shield)
            return false;
    return true;
}

/* The least time of the scopes that a wait of it sees. */
static int64_t scopes_due(const struct h_task *task)
{
    struct h_task *t = (struct h_task *)task;
    int64_t due = H_FOREVER;
    for (struct h_scope *s = outwards(t, NULL); s != NULL; s = outwards(t, s))
        if (s->due < due)
            due = s->due;
    return due;
}

/* A wait failed with ETIMEDOUT: those whose time is over say so at their end. */
static void hit_scopes(struct hub_model *m, struct h_task *t)
{
    for (struct h_scope *s = outwards(t, NULL); s != NULL; s = outwards(t, s))
        if (s->due <= m->now)
            s->hit = true;
}

/* What a wait of the task fails with at once, or 0. */
static int refusal(const struct hub_model *m, const struct h_task *t)
{
    if (t->cancelled && sees_cancel(t))
        return ECANCELED;
    return scopes_due(t) <= m->now ? ETIMEDOUT : 0;
}

/* The current green goes on, with the outcome of its call. */
static void finish(struct hub_model *m, struct h_outcome outcome)
{
    m->next = (struct h_next){ .task = m->current, .level = me(m)->level, .outcome = outcome };
}

static void give(struct hub_model *m, int result)
{
    finish(m, (struct h_outcome){ .result = result });
}

static void refuse(struct hub_model *m, int error)
{
    finish(m, (struct h_outcome){ .result = -1, .error = error });
}

void h_looks(struct hub_model *m)
{
    give(m, 0);
}

void h_scope_begin(struct hub_model *m, int scope, int64_t timeout, bool shield)
{
    int level = me(m)->level;
    me(m)->scopes[level][scope] = (struct h_scope){ .open = true, .shield = shield,
                                                    .due = later(m, timeout < 0 ? 0 : timeout),
                                                    .level = level, .begun = ++m->count };
    give(m, 0);
}

void h_scope_end(struct hub_model *m, int scope)
{
    struct h_scope *s = &me(m)->scopes[me(m)->level][scope];
    s->open = false;
    give(m, s->hit);
}

/* ---- Generators: rules 4 and 8 ----------------------------------------------------- */

void h_gen_enter(struct hub_model *m)
{
    struct h_task *t = me(m);
    int level = ++t->level;
    m->next = (struct h_next){ .task = m->current, .level = level, .starts = !t->made[level] };
    t->made[level] = true;
}

/* Control goes to the green above, in whatever call that is. */
static void leave_gen(struct hub_model *m, long value)
{
    struct h_task *t = me(m);
    int level = --t->level;
    bool frees = t->frees[level];
    t->frees[level] = false;
    finish(m, (struct h_outcome){ .value = frees ? 0 : value });
}

void h_gen_yield(struct hub_model *m, long value)
{
    leave_gen(m, value);
}

void h_gen_return(struct hub_model *m, long value)
{
    struct h_task *t = me(m);
    memset(t->scopes[t->level], 0, sizeof t->scopes[t->level]);
    t->made[t->level] = false;
    leave_gen(m, value);
}

void h_gen_free(struct hub_model *m)
{
    struct h_task *t = me(m);
    t->frees[t->level++] = true;
    refuse(m, ECANCELED); /* the generator's green_yield() */
}

bool h_shielded_for_ever(const struct hub_model *m)
{
    const struct h_task *t = &m->task[m->current];
    return !sees_cancel(t) && scopes_due(t) == H_FOREVER;
}

int h_refusal(const struct hub_model *m)
{
    return refusal(m, &m->task[m->current]);
}

/* ---- The line ---------------------------------------------------------------------- */

static void put_in_line(struct hub_model *m, int t)
{
    m->line[m->in_line++] = t;
}

/* The task's call is decided, and it gets its turn. */
static void wake(struct hub_model *m, int t, struct h_outcome outcome)
{
    struct h_task *task = &m->task[t];
    if (task->phase != H_LOCKS) {
        task->outcome = outcome;
    } else if (outcome.result != 0) { /* rule 15 */
        task->outcome = outcome;
        task->mutex = H_NOBODY;
    }
    task->state = H_READY;
    put_in_line(m, t);
}

static void fail(struct hub_model *m, int t, int error)
{
    wake(m, t, (struct h_outcome){ .result = -1, .error = error });
}

/* Of rule 8 or 9. */
static void refuse_waiter(struct hub_model *m, int t, int error)
{
    m->task[t].counts = true;
    if (error == ETIMEDOUT)
        hit_scopes(m, &m->task[t]);
    fail(m, t, error);
}

/* The case of the task that is served, with what it gives. */
static void serve(struct hub_model *m, int t, int i, long value, int error)
{
    if (m->task[t].call == H_SELECT)
        wake(m, t, (struct h_outcome){ .result = i, .value = value, .value_error = error });
    else if (error != 0)
        fail(m, t, error);
    else
        wake(m, t, (struct h_outcome){ .value = value });
}

/* Who waits first in that line, but for `not`; *i is the case. */
static int first_waiter(const struct hub_model *m, enum h_kind kind, int object, int not, int *i)
{
    int found = H_NOBODY;
    *i = 0;
    for (int t = 0; t < H_TASKS; t++) {
        const struct h_task *task = &m->task[t];
        if (task->state != H_WAITING || t == not ||
            (found != H_NOBODY && m->task[found].came < task->came))
            continue;
        for (int c = 0; c < task->n; c++) {
            if (task->cases[c].kind == kind && task->cases[c].object == object) {
                found = t;
                *i = c;
                break;
            }
        }
    }
    return found;
}

bool h_is_waited_for(const struct hub_model *m, enum h_kind kind, int object)
{
    int i;
    return first_waiter(m, kind, object, H_NOBODY, &i) != H_NOBODY;
}

/* ---- What can be done at once, and doing it ---------------------------------------- */

static bool is_alone(const struct hub_model *m, int me, bool ends)
{
    for (int t = 0; t < H_TASKS; t++) {
        const struct h_task *other = &m->task[t];
        if (t != me && lives(other) &&
            (ends || (!other->daemon &&
                      !(other->state == H_WAITING && other->call == H_HUB_WAIT))))
            return false;
    }
    return true;
}

static bool can_be_done(const struct hub_model *m, const struct h_case *c, int by)
{
    int o = c->object, i;
    switch (c->kind) {
    case H_NOTHING: return false;
    case H_GET:
        return m->queue[o].size > 0 || m->queue[o].closed ||
               first_waiter(m, H_PUT, o, by, &i) != H_NOBODY;
    case H_PUT:
        return m->queue[o].closed || m->queue[o].size < m->queue[o].capacity ||
               first_waiter(m, H_GET, o, by, &i) != H_NOBODY;
    case H_TASK: return m->task[o].state == H_ENDED;
    case H_EVENT: return m->event[o];
    case H_SEMAPHORE: return m->semaphore[o].units > 0;
    case H_MUTEX: return m->mutex[o].owner == 0 || m->mutex[o].owner == m->task[by].id;
    case H_COND: return false;
    case H_ROOM:
        return m->group[o].cancelled || m->group[o].limit == 0 ||
               m->group[o].size + m->group[o].promised < m->group[o].limit;
    case H_EMPTY: return m->group[o].size + m->group[o].promised == 0;
    case H_ALONE: return is_alone(m, by, o != 0);
    }
    return false;
}

bool h_can_be_done(const struct hub_model *m, const struct h_case *c)
{
    return can_be_done(m, c, m->current);
}

static int free_slot(const struct hub_model *m)
{
    for (int t = 1; t < H_TASKS; t++)
        if (m->task[t].state == H_NONE)
            return t;
    return H_NOBODY;
}

int h_free_slots(const struct hub_model *m)
{
    int n = 0;
    for (int t = 0; t < H_TASKS; t++) {
        const struct h_task *task = &m->task[t];
        n += task->state == H_NONE;
        n -= (task->state == H_WAITING || task->state == H_READY) && task->call == H_GROUP_SPAWN;
    }
    return n;
}

static void new_task(struct hub_model *m, int tag, bool daemon, bool detached, int group)
{
    int slot = free_slot(m);
    m->task[slot] = (struct h_task){ .state = H_NEW, .id = ++m->count, .daemon = daemon,
                                     .detached = detached, .group = group, .tag = tag,
                                     .freed_by = H_NOBODY, .mutex = H_NOBODY };
    m->task[slot].cancelled = m->ending;
    put_in_line(m, slot);
}

/* The task does what can be done.  What it gives: a value, with an error of the case. */
static long do_case(struct hub_model *m, int by, const struct h_case *c, int *error)
{
    struct h_task *task = &m->task[by];
    int o = c->object, i, other;
    long item;
    *error = 0;
    switch (c->kind) {
    case H_GET:
        other = first_waiter(m, H_PUT, o, by, &i);
        if (m->queue[o].size == 0 && other == H_NOBODY) {
            *error = EPIPE;
            return 0;
        }
        if (other != H_NOBODY) {
            m->queue[o].items[m->queue[o].size++] = m->task[other].cases[i].item;
            serve(m, other, i, 0, 0);
        }
        item = m->queue[o].items[0];
        memmove(m->queue[o].items, m->queue[o].items + 1,
                (size_t)--m->queue[o].size * sizeof item);
        return item;
    case H_PUT:
        if (m->queue[o].closed) {
            *error = EPIPE;
            return 0;
        }
        other = first_waiter(m, H_GET, o, by, &i);
        if (other != H_NOBODY)
            serve(m, other, i, c->item, 0);
        else
            m->queue[o].items[m->queue[o].size++] = c->item;
        return 0;
    case H_SEMAPHORE:
        m->semaphore[o].units--;
        return 0;
    case H_ALONE: /* the others that wait for it are served with this one */
        while (o == 0 && (other = first_waiter(m, H_ALONE, 0, by, &i)) != H_NOBODY)
            serve(m, other, i, 0, 0);
        return 0;
    case H_MUTEX:
        m->mutex[o].owner = task->id;
        m->mutex[o].depth++;
        return 0;
    default:
        return 0;
    }
}

/* ---- Calls that wait --------------------------------------------------------------- */

static void run_next(struct hub_model *m);
static void give_room(struct hub_model *m, int g);
static bool pass_time(struct hub_model *m);

static void release_task(struct hub_model *m, int t)
{
    struct h_task *task = &m->task[t];
    if (task->value == H_FAILED && task->error != ECANCELED && task->group == H_NOBODY &&
        !task->joined && m->tells < H_TOLD) {
        m->told[m->tells].task = t;
        m->told[m->tells++].error = task->error;
    }
    task->state = H_NONE;
}

/* Goes to the end of the line; time passes if all others that are there do the same. */
static void give_turn(struct hub_model *m)
{
    bool all = true;
    for (int i = 0; i < m->in_line; i++)
        all = all && m->task[m->line[i]].yields;
    if (all)
        pass_time(m);
    me(m)->yields = true;
    me(m)->phase = H_GAVE_TURN;
    me(m)->state = H_READY;
    put_in_line(m, m->current);
    run_next(m);
}

/* What is still to be done once a call has been served, or has failed. */
static void settle(struct hub_model *m)
{
    struct h_task *t = me(m);
    int o = t->cases[0].object;
    bool done = t->outcome.result >= 0;
    switch (t->call) {
    case H_FREE:
        m->task[o].freed_by = H_NOBODY;
        if (done)
            release_task(m, o);
        break;
    case H_GROUP_SPAWN:
        if (done && m->group[o].cancelled) { /* since a place was promised */
            t->outcome = (struct h_outcome){ .result = -1, .error = ECANCELED };
            give_room(m, o);
        } else if (done) {
            m->group[o].size++;
            new_task(m, t->spawns_tag, t->spawns_daemon, false, o);
        }
        break;
    case H_GROUP_FREE:
        m->group[o].freed_by = H_NOBODY;
        if (done)
            m->group[o].made = false;
        break;
    case H_HUB_END:
        m->ending = false;
        break;
    default:
        break;
    }
}

/* What it fails with whatever comes, but for rules 8 and 9; or 0. */
static int is_wrong(struct hub_model *m)
{
    struct h_task *t = me(m);
    int o = t->cases[0].object;
    switch (t->call) {
    case H_JOIN: return o == m->current ? EDEADLK : 0;
    case H_GROUP_SPAWN: return m->group[o].cancelled ? ECANCELED : 0;
    case H_GROUP_WAIT: return t->group == o ? EDEADLK : 0;
    case H_LOCK: return m->mutex[o].owner == t->id && o != H_MUTEXES - 1 ? EDEADLK : 0;
    case H_COND_WAIT:
        return t->mutex != H_NOBODY && m->mutex[t->mutex].owner != t->id ? EPERM : 0;
    default: return 0;
    }
}

/* The current task does the i-th case at once. */
static void do_at_once(struct hub_model *m, int i)
{
    struct h_task *t = me(m), *other;
    int error, o = t->cases[i].object;
    long value = do_case(m, m->current, &t->cases[i], &error);
    if (t->call == H_SELECT)
        t->outcome = (struct h_outcome){ .result = i, .value = value, .value_error = error };
    else if (error != 0)
        t->outcome = (struct h_outcome){ .result = -1, .error = error };
    else
        t->outcome = (struct h_outcome){ .value = value };
    if (t->call == H_JOIN) {
        other = &m->task[o];
        other->joined = true;
        t->outcome.value = other->value;
        t->outcome.value_error = other->error;
    } else if (t->call == H_GROUP_WAIT) {
        t->outcome.value_error = m->group[o].error;
        m->group[o].error = 0;
    }
    settle(m);
    if (t->shielded) { /* green_task_free() and the like do not count for rule 6 or 9 */
        finish(m, t->outcome);
        return;
    }
    if (t->outcome.result >= 0)
        t->was_refused = false;
    if (!t->nowait && --m->credit == 0)
        give_turn(m);
    else
        finish(m, t->outcome);
}

/* All that are in green_hub_wait() or green_hub_end() may go. */
static void look_who_is_alone(struct hub_model *m)
{
    bool alone[H_TASKS];
    int t;
    for (t = 0; t < H_TASKS; t++)
        alone[t] = m->task[t].state == H_WAITING && m->task[t].cases[0].kind == H_ALONE &&
                   is_alone(m, t, m->task[t].cases[0].object != 0);
    for (;;) {
        int first = H_NOBODY;
        for (t = 0; t < H_TASKS; t++)
            if (alone[t] && (first == H_NOBODY || m->task[t].came < m->task[first].came))
                first = t;
        if (first == H_NOBODY)
            break;
        alone[first] = false;
        wake(m, first, (struct h_outcome){ .result = 0 });
    }
}

/* A mutex without an owner goes to the first who waits. */
static void pass_mutex(struct hub_model *m, int mutex)
{
    int i, t = first_waiter(m, H_MUTEX, mutex, H_NOBODY, &i);
    m->mutex[mutex].owner = t == H_NOBODY ? 0 : m->task[t].id;
    m->mutex[mutex].depth = t != H_NOBODY;
    if (t != H_NOBODY)
        wake(m, t, (struct h_outcome){ .result = 0 });
}

/* The call waits. */
static void wait(struct hub_model *m)
{
    struct h_task *t = me(m);
    t->phase = H_DECIDED;
    t->counts = false;
    t->timer = t->due;
    if (!t->shielded && scopes_due(t) < t->timer)
        t->timer = scopes_due(t);
    if (t->call == H_COND_WAIT && t->mutex != H_NOBODY) {
        t->depth = m->mutex[t->mutex].depth;
        pass_mutex(m, t->mutex);
    }
    t->state = H_WAITING;
    t->came = ++m->count;
    run_next(m);
}

/* The call itself: it is done at once, or it waits, or its time is over. */
static void try_call(struct hub_model *m, int chosen)
{
    struct h_task *t = me(m);
    for (int i = 0; i < t->n; i++) {
        if ((chosen == H_NOBODY || i == chosen) && can_be_done(m, &t->cases[i], m->current)) {
            do_at_once(m, i);
            return;
        }
    }
    if (t->nowait)
        refuse(m, ETIMEDOUT);
    else
        wait(m);
}

/* Rules 8 and 9, and then the call itself. */
static void enter(struct hub_model *m, int chosen)
{
    struct h_task *t = me(m);
    int error = refusal(m, t);
    if (error == 0) {
        error = is_wrong(m);
        if (error == 0)
            try_call(m, chosen);
        else if (t->nowait || --m->credit != 0)
            refuse(m, error);
        else {
            t->outcome = (struct h_outcome){ .result = -1, .error = error };
            give_turn(m);
        }
        return;
    }
    if (error == ETIMEDOUT && (!t->nowait || t->call == H_SLEEP))
        hit_scopes(m, t);
    t->outcome = (struct h_outcome){ .result = -1, .error = error };
    bool again = t->was_refused;
    t->was_refused = true;
    if (again)
        give_turn(m);
    else
        finish(m, t->outcome);
}

/* Locks the mutex of a condition again.  Whether the task has it; else it waits. */
static bool lock_again(struct hub_model *m)
{
    struct h_task *t = me(m);
    int mutex = t->mutex;
    if (mutex == H_NOBODY)
        return true;
    if (t->phase != H_LOCKS && m->mutex[mutex].owner != 0) {
        t->phase = H_LOCKS;
        t->state = H_WAITING;
        t->cases[0] = (struct h_case){ .kind = H_MUTEX, .object = mutex };
        t->shielded = true;
        t->timer = H_FOREVER;
        t->came = ++m->count;
        return false;
    }
    m->mutex[mutex].owner = t->id;
    m->mutex[mutex].depth = t->depth;
    return true;
}

/* The next that is woken by time: who has armed first, of those of one time. */
static int next_timer(const struct hub_model *m)
{
    int found = H_NOBODY;
    for (int t = 0; t < H_TASKS; t++) {
        const struct h_task *task = &m->task[t], *first = &m->task[found < 0 ? 0 : found];
        if (task->state == H_WAITING && task->timer != H_FOREVER &&
            (found == H_NOBODY || task->timer < first->timer ||
             (task->timer == first->timer && task->came < first->came)))
            found = t;
    }
    return found;
}

int h_timers(const struct hub_model *m)
{
    int n = 0;
    for (int t = 0; t < H_TASKS; t++)
        n += m->task[t].state == H_WAITING && m->task[t].timer != H_FOREVER;
    return n;
}

/* Jumps to the next timer.  False if there is none. */
static bool pass_time(struct hub_model *m)
{
    int t = next_timer(m);
    if (t == H_NOBODY)
        return false;
    m->now = m->task[t].timer;
    for (; t != H_NOBODY && m->task[t].timer <= m->now; t = next_timer(m)) {
        if (m->task[t].due > m->now)
            refuse_waiter(m, t, ETIMEDOUT);
        else if (m->task[t].call == H_SLEEP)
            wake(m, t, (struct h_outcome){ .result = 0 });
        else
            fail(m, t, ETIMEDOUT);
    }
    return true;
}

static void run_next(struct hub_model *m)
{
    for (;;) {
        while (m->in_line == 0)
            if (!pass_time(m))
                fail(m, 0, EDEADLK);
        int t = m->current = m->line[0];
        memmove(m->line, m->line + 1, (size_t)--m->in_line * sizeof *m->line);
        m->credit = CREDIT;
        struct h_task *task = &m->task[t];
        bool starts = task->state == H_NEW;
        task->state = H_RUNNING;
        task->yields = false;
        if (starts) {
            m->next = (struct h_next){ .task = t, .starts = true };
            return;
        }
        if (task->phase == H_GAVE_TURN) {
            finish(m, task->outcome);
            return;
        }
        if (task->call == H_COND_WAIT && !lock_again(m))
            continue;
        if (task->counts)
            task->was_refused = true;
        else if (task->outcome.result >= 0)
            task->was_refused = false;
        if (task->call == H_GROUP_SPAWN && task->outcome.result == 0)
            m->group[task->cases[0].object].promised--;
        settle(m);
        finish(m, task->outcome);
        return;
    }
}

static struct h_task *call(struct hub_model *m, enum h_call which, enum h_kind kind, int object,
                           int64_t timeout)
{
    struct h_task *t = me(m);
    t->call = which;
    t->n = 1;
    t->cases[0] = (struct h_case){ .kind = kind, .object = object };
    t->due = later(m, timeout < 0 ? 0 : timeout);
    t->nowait = timeout <= 0;
    t->shielded = false;
    t->mutex = H_NOBODY;
    t->phase = H_DECIDED;
    return t;
}

/* ---- Tasks ------------------------------------------------------------------------- */

void h_begin(struct hub_model *m, const int *units, const int *most)
{
    memset(m, 0, sizeof *m);
    m->count = 1;
    m->credit = CREDIT;
    m->task[0] = (struct h_task){ .state = H_RUNNING, .id = 1, .group = H_NOBODY,
                                  .freed_by = H_NOBODY, .mutex = H_NOBODY };
    for (int i = 0; i < H_SEMAPHORES; i++) {
        m->semaphore[i].units = units[i];
        m->semaphore[i].most = most[i];
    }
    for (int i = 0; i < H_GROUPS; i++)
        m->group[i].freed_by = H_NOBODY;
}

void h_spawn(struct hub_model *m, int tag, bool daemon, bool detached)
{
    new_task(m, tag, daemon, detached, H_NOBODY);
    give(m, 0);
}

static void cancel(struct hub_model *m, int t)
{
    struct h_task *task = &m->task[t];
    if (!lives(task) || task->cancelled)
        return;
    task->cancelled = true;
    if (task->state == H_WAITING && !task->shielded && sees_cancel(task))
        refuse_waiter(m, t, ECANCELED);
}

void h_cancel(struct hub_model *m, int t)
{
    cancel(m, t);
    give(m, 0);
}

void h_check(struct hub_model *m)
{
    int error = h_refusal(m);
    if (error == ETIMEDOUT)
        hit_scopes(m, me(m));
    if (error != 0)
        refuse(m, error);
    else
        give(m, 0);
}

void h_detach(struct hub_model *m, int t)
{
    struct h_task *task = &m->task[t];
    if (t == 0 || task->group != H_NOBODY || task->detached) {
        refuse(m, EINVAL);
    } else if (task->freed_by != H_NOBODY) {
        refuse(m, EBUSY);
    } else {
        task->detached = true;
        if (task->state == H_ENDED)
            release_task(m, t);
        give(m, 0);
    }
}

/* All but main, or a group's, in the order in which they were spawned. */
static void cancel_all(struct hub_model *m, int group)
{
    for (long than = 0;;) {
        int found = H_NOBODY;
        for (int t = 1; t < H_TASKS; t++)
            if (lives(&m->task[t]) && (group == H_NOBODY || m->task[t].group == group) &&
                m->task[t].id > than && (found == H_NOBODY || m->task[t].id < m->task[found].id))
                found = t;
        if (found == H_NOBODY)
            break;
        than = m->task[found].id;
        cancel(m, found);
    }
}

/* A group's tasks are cancelled, and who waits to spawn one fails. */
static void cancel_group(struct hub_model *m, int g)
{
    int i, t;
    m->group[g].cancelled = true;
    while ((t = first_waiter(m, H_ROOM, g, H_NOBODY, &i)) != H_NOBODY)
        fail(m, t, ECANCELED);
    cancel_all(m, g);
}

/* A place for one more goes to the first who waits for it; or nobody is left. */
static void give_room(struct hub_model *m, int g)
{
    int i, t, places = m->group[g].size + m->group[g].promised;
    if ((t = first_waiter(m, H_ROOM, g, H_NOBODY, &i)) != H_NOBODY && places < m->group[g].limit) {
        m->group[g].promised++;
        serve(m, t, i, 0, 0);
        return;
    }
    if (places != 0)
        return;
    int error = m->group[g].error;
    while ((t = first_waiter(m, H_EMPTY, g, m->group[g].freed_by, &i)) != H_NOBODY) {
        wake(m, t, (struct h_outcome){ .value_error = error });
        m->group[g].error = 0;
    }
    if ((t = first_waiter(m, H_EMPTY, g, H_NOBODY, &i)) != H_NOBODY)
        serve(m, t, i, 0, 0);
}

void h_return(struct hub_model *m, long value, int error)
{
    int ended = m->current, i, t;
    struct h_task *task = me(m);
    memset(task->scopes, 0, sizeof task->scopes);
    task->state = H_ENDED;
    task->value = error != 0 ? H_FAILED : value;
    task->error = error;
    while ((t = first_waiter(m, H_TASK, ended, task->freed_by, &i)) != H_NOBODY) {
        if (m->task[t].call == H_JOIN) {
            task->joined = true;
            wake(m, t, (struct h_outcome){ .value = task->value, .value_error = error });
        } else {
            serve(m, t, i, 0, 0);
        }
    }
    if ((t = first_waiter(m, H_TASK, ended, H_NOBODY, &i)) != H_NOBODY)
        serve(m, t, i, 0, 0);
    int g = task->group;
    if (g != H_NOBODY) {
        m->group[g].size--;
        if (error != 0 && error != ECANCELED) {
            if (m->group[g].error == 0)
                m->group[g].error = error;
            if (m->group[g].all_or_none && !m->group[g].cancelled)
                cancel_group(m, g);
        }
        give_room(m, g);
    }
    if (g != H_NOBODY || task->detached)
        release_task(m, ended);
    look_who_is_alone(m);
    run_next(m);
}

void h_sleep(struct hub_model *m, int64_t time)
{
    struct h_task *t = call(m, H_SLEEP, H_NOTHING, 0, time);
    if (refusal(m, t) != 0 || time > 0) {
        enter(m, H_NOBODY);
        return;
    }
    t->was_refused = false;
    t->outcome = (struct h_outcome){ .result = 0 };
    give_turn(m);
}

void h_join(struct hub_model *m, int task, int64_t timeout)
{
    call(m, H_JOIN, H_TASK, task, timeout);
    enter(m, H_NOBODY);
}

void h_free(struct hub_model *m, int t)
{
    struct h_task *task = &m->task[t];
    call(m, H_FREE, H_TASK, t, H_FOREVER)->shielded = true;
    if (t == 0 || task->group != H_NOBODY || task->detached) {
        refuse(m, EINVAL);
    } else if (task->freed_by != H_NOBODY) {
        refuse(m, EBUSY);
    } else if (t == m->current) {
        refuse(m, EDEADLK);
    } else {
        cancel(m, t);
        task->freed_by = m->current;
        try_call(m, H_NOBODY);
    }
}

/* ---- Groups ------------------------------------------------------------------------ */

void h_group_new(struct hub_model *m, int g, int limit, bool all_or_none)
{
    memset(&m->group[g], 0, sizeof m->group[g]);
    m->group[g].made = true;
    m->group[g].limit = limit;
    m->group[g].all_or_none = all_or_none;
    m->group[g].freed_by = H_NOBODY;
    give(m, 0);
}

void h_group_spawn(struct hub_model *m, int g, int tag, bool daemon)
{
    struct h_task *t = call(m, H_GROUP_SPAWN, H_ROOM, g, H_FOREVER);
    t->spawns_daemon = daemon;
    t->spawns_tag = tag;
    enter(m, H_NOBODY);
}

void h_group_wait(struct hub_model *m, int g, int64_t timeout)
{
    call(m, H_GROUP_WAIT, H_EMPTY, g, timeout);
    enter(m, H_NOBODY);
}

void h_group_cancel(struct hub_model *m, int g)
{
    cancel_group(m, g);
    give(m, 0);
}

void h_group_free(struct hub_model *m, int g)
{
    call(m, H_GROUP_FREE, H_EMPTY, g, H_FOREVER)->shielded = true;
    if (me(m)->group == g) {
        refuse(m, EDEADLK);
    } else if (m->group[g].freed_by != H_NOBODY) {
        refuse(m, EBUSY);
    } else {
        cancel_group(m, g);
        m->group[g].freed_by = m->current;
        try_call(m, H_NOBODY);
    }
}

/* ---- Queues ------------------------------------------------------------------------ */

void h_queue_new(struct hub_model *m, int q, int capacity)
{
    memset(&m->queue[q], 0, sizeof m->queue[q]);
    m->queue[q].made = true;
    m->queue[q].capacity = capacity;
    give(m, 0);
}

void h_queue_put(struct hub_model *m, int q, long item, int64_t timeout)
{
    call(m, H_QUEUE_PUT, H_PUT, q, timeout)->cases[0].item = item;
    enter(m, H_NOBODY);
}

void h_queue_get(struct hub_model *m, int q, int64_t timeout)
{
    call(m, H_QUEUE_GET, H_GET, q, timeout);
    enter(m, H_NOBODY);
}

void h_queue_close(struct hub_model *m, int q)
{
    int i, t;
    if (!m->queue[q].closed) {
        m->queue[q].closed = true;
        while ((t = first_waiter(m, H_PUT, q, H_NOBODY, &i)) != H_NOBODY)
            serve(m, t, i, 0, EPIPE);
        while ((t = first_waiter(m, H_GET, q, H_NOBODY, &i)) != H_NOBODY)
            serve(m, t, i, 0, EPIPE);
    }
    give(m, 0);
}

void h_queue_free(struct hub_model *m, int q)
{
    if (h_is_waited_for(m, H_GET, q) || h_is_waited_for(m, H_PUT, q)) {
        refuse(m, EBUSY);
    } else {
        m->queue[q].made = false;
        give(m, 0);
    }
}

/* ---- Events, semaphores, mutexes, conditions --------------------------------------- */

void h_event_set(struct hub_model *m, int e)
{
    int i, t;
    m->event[e] = true;
    while ((t = first_waiter(m, H_EVENT, e, H_NOBODY, &i)) != H_NOBODY)
        serve(m, t, i, 0, 0);
    give(m, 0);
}

void h_event_clear(struct hub_model *m, int e)
{
    m->event[e] = false;
    give(m, 0);
}

void h_event_wait(struct hub_model *m, int e, int64_t timeout)
{
    call(m, H_EVENT_WAIT, H_EVENT, e, timeout);
    enter(m, H_NOBODY);
}

void h_acquire(struct hub_model *m, int s, int64_t timeout)
{
    call(m, H_ACQUIRE, H_SEMAPHORE, s, timeout);
    enter(m, H_NOBODY);
}

void h_release(struct hub_model *m, int s)
{
    int i, t = first_waiter(m, H_SEMAPHORE, s, H_NOBODY, &i);
    if (t != H_NOBODY) {
        serve(m, t, i, 0, 0);
    } else if (m->semaphore[s].most != 0 && m->semaphore[s].units >= m->semaphore[s].most) {
        refuse(m, EOVERFLOW);
        return;
    } else {
        m->semaphore[s].units++;
    }
    give(m, 0);
}

void h_lock(struct hub_model *m, int mutex, int64_t timeout)
{
    call(m, H_LOCK, H_MUTEX, mutex, timeout);
    enter(m, H_NOBODY);
}

void h_unlock(struct hub_model *m, int mutex)
{
    if (m->mutex[mutex].owner != me(m)->id) {
        refuse(m, EPERM);
        return;
    }
    if (--m->mutex[mutex].depth == 0)
        pass_mutex(m, mutex);
    give(m, 0);
}

void h_cond_wait(struct hub_model *m, int cond, int mutex, int64_t timeout)
{
    call(m, H_COND_WAIT, H_COND, cond, timeout)->mutex = mutex;
    enter(m, H_NOBODY);
}

void h_cond_signal(struct hub_model *m, int cond, int n)
{
    int i, t;
    while (n-- > 0 && (t = first_waiter(m, H_COND, cond, H_NOBODY, &i)) != H_NOBODY)
        serve(m, t, i, 0, 0);
    give(m, 0);
}

/* ---- One of several, and the hub --------------------------------------------------- */

void h_select(struct hub_model *m, const struct h_case *cases, int n, int64_t timeout, int chosen)
{
    struct h_task *t = call(m, H_SELECT, H_NOTHING, 0, timeout);
    memcpy(t->cases, cases, (size_t)n * sizeof *cases);
    t->n = n;
    enter(m, chosen);
}

void h_hub_wait(struct hub_model *m, int64_t timeout)
{
    call(m, H_HUB_WAIT, H_ALONE, 0, timeout);
    enter(m, H_NOBODY);
}

/* The main task's alone.  It looks on the spot, and then gives a turn. */
void h_hub_run(struct hub_model *m, int64_t timeout)
{
    struct h_task *t = call(m, H_HUB_RUN, H_NOTHING, 0, timeout);
    if (refusal(m, t) != 0) {
        enter(m, H_NOBODY);
        return;
    }
    if (m->in_line == 0) {
        int64_t until = t->due < scopes_due(t) ? t->due : scopes_due(t);
        int first = next_timer(m);
        if (first != H_NOBODY && (t->nowait || m->task[first].timer <= until))
            pass_time(m);
        else if (!t->nowait && until != H_FOREVER)
            m->now = until;
    }
    if (m->in_line == 0) {
        int error = refusal(m, t);
        if (error == ETIMEDOUT && (t->nowait || t->due <= m->now))
            error = 0; /* the call's own time comes first */
        if (error == ETIMEDOUT)
            hit_scopes(m, t);
        if (error != 0)
            t->was_refused = true;
        if (error != 0 || timeout == H_FOREVER)
            refuse(m, error != 0 ? error : EDEADLK);
        else
            give(m, 0);
        return;
    }
    t->was_refused = false;
    t->outcome = (struct h_outcome){ .result = 1 };
    give_turn(m);
}

void h_hub_end(struct hub_model *m, int64_t timeout)
{
    call(m, H_HUB_END, H_ALONE, 1, timeout)->shielded = true;
    cancel_all(m, H_NOBODY);
    m->ending = timeout > 0;
    try_call(m, H_NOBODY);
}
