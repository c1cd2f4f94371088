/* SPDX-License-Identifier: MIT */
/*
 * The model of model.h.  What green.h leaves open is as the library does it: the
 * first key that is free is the next, destructors run in the order of keys,
 * green_thread_end() kills the oldest first, but before it who is freeing it.
 */
#include "model.h"

#include <errno.h>
#include <string.h>

#define ROUNDS 4

int m_current(const struct model *m)
{
    return m->threads[m->thread].current;
}

bool m_is_mine(const struct model *m, int g)
{
    return m->green[g].owner == m->threads[m->thread].id;
}

static bool is_orphan(const struct model *m, int g)
{
    for (int t = 0; t < M_THREADS; t++)
        if (m->threads[t].id == m->green[g].owner)
            return false;
    return true;
}

int m_parent(const struct model *m, int g)
{
    return m->green[g].stand_in != M_NOBODY ? m->green[g].stand_in : m->green[g].parent;
}

/* ---- Where control goes on ------------------------------------------------------- */

static void come(struct model *m, enum m_what what, long value, int error)
{
    m->next = (struct m_next){ .what = what, .thread = m->thread, .green = m_current(m),
                               .value = value, .error = error };
}

static void give(struct model *m, long value)
{
    come(m, M_RESULT, value, 0);
}

static void refuse(struct model *m, int error)
{
    come(m, M_RESULT, 0, error);
}

/* The errors that calls have in common; EBUSY is the hook's. */
static bool refused(struct model *m, int g)
{
    if (g != M_NOBODY && m_is_mine(m, g))
        return false;
    refuse(m, g == M_NOBODY ? EINVAL : EPERM);
    return true;
}

static void push(struct model *m, int g, enum m_call call)
{
    m->green[g].calls[m->green[g].depth++] = call;
}

/* ---- Release ---------------------------------------------------------------------- */

static void release(struct model *m, int g)
{
    for (int child = 0; child < M_GREENS; child++)
        if (m->green[child].parent == g)
            m->green[child].parent = m->green[g].parent;
    m->green[g].state = M_NONE;
}

/* What g waits to have freed has its real parent again. */
static void stop_freeing(struct model *m, int g)
{
    if (m->green[g].frees != M_NOBODY)
        m->green[m->green[g].frees].stand_in = M_NOBODY;
    m->green[g].frees = M_NOBODY;
}

/* ---- Delivery: rules 3 to 6 and 13 -------------------------------------------------- */

static void end_more(struct model *m);

static void trace(struct model *m, bool is_throw, int from, int to)
{
    if (!m->threads[m->thread].traces || m->traces == M_TRACED)
        return;
    m->traced[m->traces].is_throw = is_throw;
    m->traced[m->traces].from = from;
    m->traced[m->traces++].to = to;
}

/* `to`, NEW or SUSPENDED, goes on. */
static void arrive(struct model *m, int to, long value, int error)
{
    struct m_green *g = &m->green[to], *left = &m->green[m_current(m)];
    bool is_new = g->state == M_NEW;

    if (left->state == M_RUNNING)
        left->state = M_SUSPENDED;
    m->threads[m->thread].current = to;
    g->state = M_RUNNING;
    if (is_new) {
        g->started = ++m->count;
        push(m, to, M_BODY);
        come(m, M_START, value, 0);
        return;
    }
    enum m_call call = g->calls[--g->depth];
    if (call == M_SWITCHES) {
        come(m, M_RESULT, value, error);
        return;
    }
    int freed = g->frees; /* rule 9 */
    stop_freeing(m, to);
    error = g->died ? 0 : error != 0 ? error : EBUSY;
    if (call == M_FREES) {
        if (g->died && m->green[freed].state == M_DEAD)
            release(m, freed);
        come(m, M_RESULT, 0, error);
    } else {
        if (error != 0)
            m->threads[m->thread].refused = true;
        end_more(m);
    }
}

static void deliver(struct model *m, int from, int to, long value, int error)
{
    for (;;) {
        while (m->green[to].state == M_DEAD)
            to = m_parent(m, to);
        trace(m, error != 0, from, to);
        if (m->green[from].state == M_DEAD && m->green[from].detached)
            release(m, from);
        if (m->green[to].state != M_NEW || error == 0)
            break;
        m->green[to].state = M_DEAD; /* of it, unrun */
        if (error == ECANCELED)
            value = error = 0;
        from = to;
        to = m_parent(m, to);
    }
    arrive(m, to, value, error);
}

void m_switch(struct model *m, int g, long value)
{
    if (value == M_FAILED) {
        refuse(m, EINVAL);
        return;
    }
    if (refused(m, g))
        return;
    push(m, m_current(m), M_SWITCHES);
    deliver(m, m_current(m), g, value, 0);
}

void m_throw(struct model *m, int g, int error)
{
    if (error < 0) {
        refuse(m, EINVAL);
        return;
    }
    if (refused(m, g))
        return;
    if (error == 0)
        error = ECANCELED;
    if (error == ECANCELED && m->green[g].state == M_DEAD)
        error = 0;
    push(m, m_current(m), M_SWITCHES);
    deliver(m, m_current(m), g, 0, error);
}

void m_yield(struct model *m, long value)
{
    m_switch(m, m_parent(m, m_current(m)), value);
}

/* ---- The end of a green: rules 4, 5, 10, 11 -------------------------------------------- */

static bool run_deferred(struct model *m, enum m_call call)
{
    struct m_green *g = &m->green[m_current(m)];
    if (g->deferrals == 0)
        return false;
    push(m, m_current(m), call);
    come(m, M_DEFERRED_FN, g->deferred[--g->deferrals], 0);
    return true;
}

static bool has_value(const struct model *m, const struct m_green *g, int key)
{
    return m->keys[key].made != 0 && g->locals[key].made == m->keys[key].made &&
           g->locals[key].value != 0;
}

static bool run_destructor(struct model *m, enum m_call call)
{
    struct m_green *g = &m->green[m_current(m)];
    while (g->round < ROUNDS) {
        while (g->key < M_KEYS) {
            int key = g->key++;
            if (has_value(m, g, key) && m->keys[key].destructor) {
                push(m, m_current(m), call);
                come(m, M_DESTRUCTOR, g->locals[key].value, 0);
                m->next.key = key;
                g->locals[key].value = 0;
                g->any = true;
                return true;
            }
        }
        g->round = g->any ? g->round + 1 : ROUNDS;
        g->key = 0;
        g->any = false;
    }
    return false;
}

static void wind_up(struct model *m)
{
    if (run_deferred(m, M_CLEANS) || run_destructor(m, M_CLEANS))
        return;
    int me = m_current(m);
    struct m_green *g = &m->green[me];
    g->state = M_DEAD;
    if (g->stand_in != M_NOBODY)
        m->green[g->stand_in].died = true;
    if (g->error == ECANCELED)
        g->result = g->error = 0;
    deliver(m, me, m_parent(m, me), g->result, g->error);
}

void m_exit(struct model *m, long value, int error)
{
    struct m_green *g = &m->green[m_current(m)];
    g->result = value;
    g->error = error;
    g->depth = 0;
    wind_up(m);
}

void m_return(struct model *m, long value, int error)
{
    struct m_green *g = &m->green[m_current(m)];
    switch (g->calls[--g->depth]) {
    case M_BODY:
        m_exit(m, value, error);
        break;
    case M_CLEANS:
        wind_up(m);
        break;
    case M_ENDS:
        end_more(m);
        break;
    default: /* M_UNDEFERS */
        give(m, 0);
    }
}

/* ---- Rule 9, and what changes without a move --------------------------------------------- */

static void kill(struct model *m, int g, enum m_call call)
{
    struct m_green *me = &m->green[m_current(m)];
    m->green[g].stand_in = m_current(m);
    me->frees = g;
    me->died = false;
    push(m, m_current(m), call);
    deliver(m, m_current(m), g, 0, ECANCELED);
}

static bool may_free(struct model *m, int g)
{
    if (g >= M_SLOTS)
        refuse(m, EINVAL);
    else if (is_orphan(m, g))
        return true;
    else if (!refused(m, g)) {
        if (g != m_current(m) && m->green[g].stand_in == M_NOBODY)
            return true;
        refuse(m, EBUSY);
    }
    return false;
}

void m_release(struct model *m)
{
    m->threads[m->thread].owes = false;
}

bool m_owes(const struct model *m, int g)
{
    for (int t = 0; t < M_THREADS; t++)
        if (m->threads[t].id == m->green[g].owner && m->threads[t].owes)
            return true;
    return false;
}

void m_free(struct model *m, int g)
{
    if (g == M_NOBODY) {
        give(m, 0);
    } else if (may_free(m, g)) {
        m_release(m);
        if (m->green[g].state == M_SUSPENDED)
            kill(m, g, M_FREES);
        else
            m_abandon(m, g);
    }
}

/* Whose green another thread may abandon; NULL: nobody's, or the rules are as for green_free(). */
static struct m_thread *left_to(struct model *m, int g)
{
    for (int t = 0; t < M_THREADS; t++)
        if (t != m->thread && g < M_SLOTS && m->threads[t].id == m->green[g].owner)
            return &m->threads[t];
    return NULL;
}

void m_abandon(struct model *m, int g)
{
    struct m_thread *thread = g != M_NOBODY ? left_to(m, g) : NULL;
    if (g == M_NOBODY) {
        refuse(m, EINVAL);
        return;
    }
    if (thread == NULL) {
        if (!may_free(m, g))
            return;
    } else if (g == thread->current || m->green[g].stand_in != M_NOBODY) {
        refuse(m, EBUSY);
        return;
    }
    stop_freeing(m, g);
    release(m, g);
    if (thread != NULL)
        thread->owes = true;
    m_release(m);
    give(m, 0);
}

void m_new(struct model *m, int slot, int parent, bool detached)
{
    if (parent == M_NOBODY)
        parent = m_current(m);
    if (refused(m, parent))
        return;
    m->green[slot] = (struct m_green){ .state = M_NEW, .owner = m->threads[m->thread].id,
                                       .parent = parent, .stand_in = M_NOBODY,
                                       .frees = M_NOBODY, .detached = detached };
    m_release(m);
    give(m, slot);
}

void m_set_parent(struct model *m, int g, int parent)
{
    if (g == M_NOBODY || g >= M_SLOTS || parent == M_NOBODY) {
        refuse(m, EINVAL);
        return;
    }
    if (refused(m, parent))
        return;
    int error = 0;
    if (!m_is_mine(m, g)) { /* rule 7 */
        for (int child = 0; child < M_GREENS; child++)
            if (m->green[child].state != M_NONE && m->green[child].parent == g)
                error = EBUSY;
        if (m->green[g].state != M_NEW)
            error = EPERM;
    }
    for (int above = parent; above != M_NOBODY; above = m->green[above].parent)
        if (above == g)
            error = ELOOP;
    if (error != 0) {
        refuse(m, error);
        return;
    }
    m->green[g].parent = parent;
    m->green[g].owner = m->threads[m->thread].id;
    give(m, 0);
}

void m_defer(struct model *m, long arg)
{
    struct m_green *g = &m->green[m_current(m)];
    g->deferred[g->deferrals++] = arg;
    give(m, 0);
}

void m_undefer(struct model *m, bool execute)
{
    struct m_green *g = &m->green[m_current(m)];
    if (g->deferrals == 0) {
        refuse(m, ENOENT);
    } else if (!execute) {
        g->deferrals--;
        give(m, 0);
    } else {
        run_deferred(m, M_UNDEFERS);
    }
}

void m_key_create(struct model *m, bool destructor)
{
    int key = 0;
    while (m->keys[key].made != 0)
        key++;
    m->keys[key].made = ++m->count;
    m->keys[key].destructor = destructor;
    give(m, key);
}

void m_key_delete(struct model *m, int key)
{
    if (m->keys[key].made == 0) {
        refuse(m, EINVAL);
        return;
    }
    m->keys[key].made = 0;
    give(m, 0);
}

void m_setspecific(struct model *m, int key, long value)
{
    struct m_green *g = &m->green[m_current(m)];
    if (m->keys[key].made == 0) {
        refuse(m, EINVAL);
        return;
    }
    g->locals[key].value = value;
    g->locals[key].made = m->keys[key].made;
    give(m, 0);
}

void m_set_trace(struct model *m, bool on)
{
    bool was = m->threads[m->thread].traces;
    m->threads[m->thread].traces = on;
    give(m, was);
}

/* ---- Threads: rule 14 ----------------------------------------------------------------- */

/* The oldest SUSPENDED green of the thread that was not asked to die yet. */
static int to_kill(const struct model *m)
{
    int oldest = M_NOBODY;
    for (int g = 0; g < M_SLOTS; g++)
        if (m->green[g].state == M_SUSPENDED && m_is_mine(m, g) && !m->green[g].tried &&
            (oldest == M_NOBODY || m->green[g].started < m->green[oldest].started))
            oldest = g;
    if (oldest == M_NOBODY)
        return M_NOBODY;
    while (m->green[oldest].stand_in != M_NOBODY && !m->green[m->green[oldest].stand_in].tried)
        oldest = m->green[oldest].stand_in;
    return oldest;
}

/* Goes on with green_thread_end(), on main. */
static void end_more(struct model *m)
{
    struct m_thread *thread = &m->threads[m->thread];
    struct m_green *main = &m->green[m_main(m->thread)];
    if (run_deferred(m, M_ENDS))
        return;
    for (int g; (g = to_kill(m)) != M_NOBODY;) {
        m->green[g].tried = true;
        m->green[g].started = ++m->count; /* the next time it is in this order */
        if (m->green[g].stand_in == M_NOBODY) {
            kill(m, g, M_KILLS);
            return;
        }
        thread->refused = true;
    }
    if (run_destructor(m, M_ENDS))
        return;
    main->round = main->key = 0;
    for (int g = 0; g < M_SLOTS; g++)
        if (m_is_mine(m, g))
            m->green[g].tried = false;
    thread->ends = false;
    come(m, M_RESULT, 0, thread->refused ? EBUSY : 0);
}

void m_thread_end(struct model *m)
{
    struct m_thread *thread = &m->threads[m->thread];
    if (m_current(m) != m_main(m->thread) || thread->ends) {
        refuse(m, EBUSY);
        return;
    }
    thread->ends = true;
    thread->refused = false;
    end_more(m);
}

void m_spawn(struct model *m, int thread)
{
    int main = m_main(thread);
    m->threads[thread] = (struct m_thread){ .id = ++m->count, .current = main };
    m->green[main] = (struct m_green){ .state = M_RUNNING, .owner = m->count, .parent = M_NOBODY,
                                       .stand_in = M_NOBODY, .frees = M_NOBODY };
    give(m, 0);
}

void m_hand_over(struct model *m, int thread)
{
    m->thread = thread;
    come(m, M_TURN, 0, 0);
}

void m_thread_exit(struct model *m)
{
    for (int g = 0; g < M_GREENS; g++) {
        struct m_green *green = &m->green[g];
        if (green->state == M_NONE || !m_is_mine(m, g))
            continue;
        if (green->parent == m_main(m->thread))
            green->parent = M_NOBODY;
        green->stand_in = green->frees = M_NOBODY;
        if (green->state == M_SUSPENDED || (green->state == M_RUNNING && g < M_SLOTS)) {
            green->state = M_DEAD;
            if (green->detached)
                release(m, g);
        }
    }
    m->green[m_main(m->thread)].state = M_NONE;
    m->threads[m->thread].id = 0;
    m_hand_over(m, 0);
}

void m_begin(struct model *m)
{
    memset(m, 0, sizeof *m);
    m_spawn(m, 0);
}
