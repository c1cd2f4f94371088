/* SPDX-License-Identifier: MIT */
/* The player of play.h.  Uses green.h alone. */
#include "play.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <green.h>

#include "model.h"
#include "play_log.h"

enum op_kind {
    OP_NEW, OP_SWITCH, OP_THROW, OP_YIELD, OP_RETURN, OP_EXIT, OP_FREE, OP_ABANDON,
    OP_SET_PARENT, OP_DEFER, OP_UNDEFER, OP_KEY_CREATE, OP_KEY_DELETE, OP_SET_KEY, OP_TRACE,
    OP_THREAD_END, OP_SPAWN, OP_HAND_OVER, OP_THREAD_EXIT, OP_SET_DATA, OP_TRIM,
    OP_KINDS
};

static const unsigned weights[OP_KINDS] = {
    [OP_NEW] = 22, [OP_SWITCH] = 24, [OP_THROW] = 8, [OP_YIELD] = 8, [OP_RETURN] = 12,
    [OP_EXIT] = 5, [OP_FREE] = 12, [OP_ABANDON] = 2, [OP_SET_PARENT] = 8, [OP_DEFER] = 6,
    [OP_UNDEFER] = 2, [OP_KEY_CREATE] = 2, [OP_KEY_DELETE] = 1, [OP_SET_KEY] = 6, [OP_TRACE] = 3,
    [OP_THREAD_END] = 2, [OP_SPAWN] = 1, [OP_HAND_OVER] = 6, [OP_THREAD_EXIT] = 1,
    [OP_SET_DATA] = 2, [OP_TRIM] = 1,
};

#define KIND(kind) (UINT64_C(1) << OP_##kind)
static const uint64_t themes[] = {
    KIND(NEW) | KIND(SWITCH) | KIND(RETURN) | KIND(SET_KEY) | KIND(KEY_CREATE),
    KIND(NEW) | KIND(SWITCH) | KIND(THROW) | KIND(RETURN) | KIND(SET_PARENT) | KIND(TRACE),
    KIND(NEW) | KIND(SWITCH) | KIND(FREE) | KIND(ABANDON) | KIND(SET_PARENT) | KIND(YIELD),
    KIND(NEW) | KIND(SWITCH) | KIND(DEFER) | KIND(EXIT) | KIND(UNDEFER) | KIND(FREE),
    KIND(NEW) | KIND(SWITCH) | KIND(DEFER) | KIND(THREAD_END) | KIND(YIELD) | KIND(RETURN),
    KIND(NEW) | KIND(SPAWN) | KIND(HAND_OVER) | KIND(SET_PARENT) | KIND(FREE) | KIND(THREAD_EXIT),
    KIND(NEW) | KIND(SPAWN) | KIND(HAND_OVER) | KIND(SWITCH) | KIND(ABANDON) | KIND(YIELD) |
        KIND(RETURN),
};

const struct play_kinds play_kinds = {
    .count = OP_KINDS,
    .weights = weights,
    .always = KIND(NEW) | KIND(SWITCH),
    .costly = KIND(SPAWN), /* threads */
    .themes = themes,
    .theme_count = sizeof themes / sizeof *themes,
};

#define V(n) ((void *)(intptr_t)(n))
#define NO_LINE PLAY_NO_LINE
#define HOOK (-1) /* the hook's expectations, among the functions of the log */
#define MOST_TO_CLEAN_UP 5000 /* operations; more would be for ever */

static struct model m;

static const struct op *program;
static size_t length, at;
static unsigned long made;       /* operations */
static unsigned long to_clean_up;
static int serial;               /* no value, and no function, comes twice */

static green_t *real[M_GREENS];  /* NULL: unknown, a thread that has not run yet */
static struct {
    int body;                    /* its function, as logged */
    void *data;
    bool named, tried;
} about[M_GREENS];
static int seen;                 /* of m.traced, by the hook */

static struct {
    pthread_t thread;
    sem_t turn;
} threads[M_THREADS];
static int gone;                 /* a thread to be joined, or 0 */
static _Thread_local int my_thread;

/* A function that a green runs: what it knows itself of where it is. */
struct here {
    int me, depth;
    int function, line;          /* in the log; NO_LINE: it is at its beginning */
    bool is_int;                 /* the call that it is in gives an int */
};

/* ---- The log ----------------------------------------------------------------------- */

static const char *name_of(int g)
{
    static char names[8][24];
    static int n;
    n = (n + 1) % 8;
    if (g == M_NOBODY)
        return "NULL";
    snprintf(names[n], sizeof names[n], g < M_SLOTS ? "g[%d]" : "mains[%d]",
             g < M_SLOTS ? g : g - M_SLOTS);
    return names[n];
}

#define log_line(here, ...)                                                            \
    ((here)->is_int = true, (here)->line = play_log_line((here)->function, __VA_ARGS__))
#define log_result(here, ...) play_log_result((here)->line, __VA_ARGS__)

/* The library gives `found` where it should give `expected`. */
static _Noreturn void differ(struct here *here, const char *expr, const char *expected,
                             const char *found)
{
    char what[400];
    log_line(here, "%s", expr);
    log_result(here, "%s", expected);
    snprintf(what, sizeof what, "%s is %s, should be %s (in %s, operation %lu)", expr, found,
             expected, name_of(here->me), made);
    play_failed(what);
}

static const char *value_name(const void *value)
{
    static char names[4][32];
    static int n;
    n = (n + 1) % 4;
    snprintf(names[n], sizeof names[n], "V(%ld)", (long)(intptr_t)value);
    return value == GREEN_FAILED ? "GREEN_FAILED" : names[n];
}

/* ---- Comparing ----------------------------------------------------------------------- */

static const char *state_name(int state)
{
    static const char *const names[] = { "GREEN_NEW", "GREEN_RUNNING", "GREEN_SUSPENDED",
                                         "GREEN_DEAD" };
    return names[state];
}

static green_state_t state_of(int g)
{
    return (green_state_t)(m.green[g].state - M_NEW);
}

static const char *handle_name(const green_t *g)
{
    for (int i = 0; i < M_GREENS; i++)
        if (m.green[i].state != M_NONE && real[i] == g && g != NULL)
            return name_of(i);
    return g == NULL ? "NULL" : "another";
}

static void compare_green(struct here *here, int g)
{
    char expr[80];
    green_state_t state = green_state(real[g]);
    if (state != state_of(g)) {
        snprintf(expr, sizeof expr, "green_state(%s)", name_of(g));
        differ(here, expr, state_name(state_of(g)), state_name(state));
    }
    errno = 0;
    green_t *parent = green_parent(real[g]);
    int above = m_parent(&m, g);
    if (!m_is_mine(&m, g)) {
        if (parent != NULL || errno != EPERM)
            differ(here, "a foreign green_parent()", "NULL with EPERM", handle_name(parent));
        return;
    }
    if (parent != (above == M_NOBODY ? NULL : real[above])) {
        snprintf(expr, sizeof expr, "green_parent(%s)", name_of(g));
        differ(here, expr, name_of(above), handle_name(parent));
    }
    if (green_data(real[g]) != about[g].data) {
        snprintf(expr, sizeof expr, "green_data(%s)", name_of(g));
        differ(here, expr, value_name(about[g].data), value_name(green_data(real[g])));
    }
    if ((made + (unsigned)g) % 128 == 0) { /* it takes its time */
        void *pcs[8];
        int n = green_backtrace(real[g], pcs, 8);
        bool is_here = state == GREEN_SUSPENDED || state == GREEN_RUNNING;
        if (is_here ? n <= 0 : n != -1) {
            snprintf(expr, sizeof expr, "green_backtrace(%s, (void *[8]){ NULL }, 8) > 0",
                     name_of(g));
            differ(here, expr, is_here ? "1" : "0", is_here ? "0" : "1");
        }
    }
    const char *name = green_name(real[g]);
    const char *expected = g >= M_SLOTS ? "main" : about[g].named ? "named" : "";
    if (strcmp(name != NULL ? name : "", expected) != 0)
        differ(here, "a green_name()", expected, name != NULL ? name : "NULL");
}

static int mark_seen(green_t *g, void *arg)
{
    unsigned *greens = arg;
    for (int i = 0; i < M_GREENS; i++)
        if (m.green[i].state != M_NONE && real[i] == g)
            *greens += 1u << i; /* twice shows */
    return 0;
}

static void compare(struct here *here)
{
    unsigned handles = 0, living = 0, found = 0, known = 0;
    if (green_current() != real[here->me])
        differ(here, "green_current()", name_of(here->me), handle_name(green_current()));
    if (green_main() != real[m_main(my_thread)])
        differ(here, "green_main()", name_of(m_main(my_thread)), handle_name(green_main()));
    for (int g = 0; g < M_GREENS; g++) {
        enum m_state state = m.green[g].state;
        if (state == M_NONE || real[g] == NULL)
            continue;
        compare_green(here, g);
        handles += g < M_SLOTS;
        known += g >= M_SLOTS;
        if (m_is_mine(&m, g) && (state == M_RUNNING || state == M_SUSPENDED))
            living |= 1u << g;
    }
    for (int key = 0; key < M_KEYS; key++) {
        const struct m_green *me = &m.green[here->me];
        int made_as = m.keys[key].made;
        long value = made_as != 0 && me->locals[key].made == made_as ? me->locals[key].value : 0;
        errno = 0;
        void *got = green_getspecific((green_key_t)key);
        if (got != V(value) || (made_as == 0 && errno != EINVAL)) {
            char expr[48];
            snprintf(expr, sizeof expr, "green_getspecific(%d)", key);
            differ(here, expr, value_name(V(value)), value_name(got));
        }
    }
    green_each(mark_seen, &found);
    if (found != living)
        differ(here, "what green_each() shows", "what lives", "something else");
    green_stats_t stats;
    green_stats(&stats, sizeof stats);
    if (stats.greens != handles || stats.threads != known)
        differ(here, "green_stats()", "what there is", "something else");
}

/* Control is here: in a call of this function, with its result, or at its beginning. */
static void arrived(struct here *here, enum m_what what, void *value, int error)
{
    const struct m_next *next = &m.next;
    bool place = next->thread == my_thread && next->green == here->me && next->what == what &&
                 m.green[here->me].depth == here->depth;
    bool same = place && next->error == error && (error != 0 || V(next->value) == value);
    if (!place && here->line == NO_LINE)
        log_line(here, "wrong(__LINE__)");
    else if (!place)
        log_result(here, "?");
    else if (next->error != 0)
        log_result(here, "!%s", play_error_name(next->error));
    else if (what == M_RESULT || what == M_START)
        log_result(here, here->is_int ? "%ld" : "V(%ld)", next->value);
    if (!same) {
        static const char *const whats[] = { "a result", "the start", "a deferred function",
                                             "a destructor", "its turn" };
        char text[400];
        snprintf(text, sizeof text,
                 "control is in %s with %s, %s, errno %d; should be in %s with %s, %s, errno %d%s "
                 "(operation %lu)",
                 name_of(here->me), whats[what], value_name(value), error, name_of(next->green),
                 whats[next->what], value_name(V(next->value)), next->error,
                 m.green[here->me].depth != here->depth ? ", in another function" : "", made);
        play_failed(text);
    }
    if (seen != m.traces)
        differ(here, "what the hook has seen", "all there was", "less");
    compare(here);
}

/* ---- The hook -------------------------------------------------------------------------- */

static void *unused(void *value)
{
    return value;
}

/* All but looking is refused with EBUSY, whoever is asked. */
static bool hook_is_refused(green_t *to)
{
    bool is_main = to == green_main();
    errno = 0;
    switch (made % 12) {
    case 0: return green_switch(to, NULL) == GREEN_FAILED && errno == EBUSY;
    case 1: return green_throw(to, EDOM) == GREEN_FAILED && errno == EBUSY;
    case 2: return green_new(unused, NULL) == NULL && errno == EBUSY;
    case 3: return green_free(to) == -1 && errno == (is_main ? EINVAL : EBUSY);
    case 4: return green_abandon(to) == -1 && errno == (is_main ? EINVAL : EBUSY);
    case 5: return green_set_parent(to, to) == -1 && errno == (is_main ? EINVAL : EBUSY);
    case 6: return green_undefer(1) == -1 && errno == EBUSY;
    case 7: return green_thread_end() == -1 && errno == EBUSY;
    case 8: return green_set_data(to, NULL) == -1 && errno == EBUSY;
    case 9: return green_trim(0) == 0 && errno == EBUSY;
    case 10: return green_yield(NULL) == GREEN_FAILED && errno == (is_main ? EINVAL : EBUSY);
    default: return green_each(mark_seen, &(unsigned){ 0 }) == 0;
    }
}

static void hook(green_trace_event_t event, green_t *from, green_t *to, void *data)
{
    int i = seen++;
    bool same = i < m.traces && m.traced[i].is_throw == (event == GREEN_TRACE_THROW) &&
                real[m.traced[i].from] == from && real[m.traced[i].to] == to;
    if (i < m.traces)
        log_line(&(struct here){ .function = HOOK }, "{ %d, &%s, &%s }", m.traced[i].is_throw,
                 name_of(m.traced[i].from), name_of(m.traced[i].to));
    if (!same) {
        char text[200];
        snprintf(text, sizeof text, "the hook sees a %s, %s to %s; should be %s, %s to %s",
                 event == GREEN_TRACE_THROW ? "throw" : "switch", handle_name(from),
                 handle_name(to),
                 i >= m.traces ? "nothing" : m.traced[i].is_throw ? "a throw" : "a switch",
                 i >= m.traces ? "" : name_of(m.traced[i].from),
                 i >= m.traces ? "" : name_of(m.traced[i].to));
        play_failed(text);
    }
    green_state_t left = green_state(from);
    if (data != V(1 + my_thread) || green_current() != to || green_state(to) != GREEN_RUNNING ||
        (from != to && left != GREEN_SUSPENDED && left != GREEN_DEAD))
        play_failed("inside the hook, data, green_current() or a state is wrong");
    if (!hook_is_refused(to))
        play_failed("a call inside the hook is not refused with EBUSY");
    errno = EXDEV;
}

/* ---- Turns --------------------------------------------------------------------------------- */

static void wait_for_turn(void)
{
    while (sem_wait(&threads[my_thread].turn) != 0) {
    }
    if (gone != 0) {
        pthread_join(threads[gone].thread, NULL);
        gone = 0;
    }
}

static void *play_here(struct here *here, bool is_base);

static void *run_thread(void *number)
{
    my_thread = (int)(intptr_t)number;
    int main = m_main(my_thread);
    struct here here = { .me = main, .function = main, .line = NO_LINE };
    wait_for_turn();
    real[main] = green_main();
    arrived(&here, M_TURN, NULL, 0);
    return play_here(&here, true);
}

/* ---- The functions of greens -------------------------------------------------------------- */

static void *body(void *value)
{
    int me = m.next.green;
    struct here here = { .me = me, .depth = 1, .function = about[me].body };
    log_line(&here, "value");
    here.is_int = false;
    arrived(&here, M_START, value, 0);
    return play_here(&here, false);
}

static void deferred(void *arg)
{
    struct here here = { .me = m.next.green, .function = (int)(intptr_t)arg, .line = NO_LINE };
    here.depth = m.green[here.me].depth;
    arrived(&here, M_DEFERRED_FN, arg, 0);
    play_here(&here, false);
}

static void destroy(int key, void *value)
{
    struct here here = { .me = m.next.green, .function = (int)(intptr_t)value, .line = NO_LINE };
    here.depth = m.green[here.me].depth;
    play_log_head("static void destroy_%d_%d(void)", m.next.key, here.function);
    if (m.next.key != key)
        differ(&here, "the key of a destructor", "another", "wrong");
    arrived(&here, M_DESTRUCTOR, value, 0);
    play_here(&here, false);
}

static void destroy_0(void *value)
{
    destroy(0, value);
}

static void destroy_1(void *value)
{
    destroy(1, value);
}

static void destroy_2(void *value)
{
    destroy(2, value);
}

static void destroy_3(void *value)
{
    destroy(3, value);
}

static void (*const destructors[M_KEYS])(void *) = { destroy_0, destroy_1, destroy_2, destroy_3 };

/* ---- Operations ------------------------------------------------------------------------------ */

/* Operands: most numbers are slots, and then some green that there is. */
enum { PICK_MAIN = 24, PICK_CURRENT = 26, PICK_PARENT = 27, PICK_FOREIGN = 28, PICK_NULL = 30,
       PICKS = 32 };

static int pick(unsigned operand)
{
    unsigned a = operand % PICKS;
    if (a < PICK_MAIN) {
        for (int i = 0; i < M_SLOTS; i++)
            if (m.green[((int)a + i) % M_SLOTS].state != M_NONE)
                return ((int)a + i) % M_SLOTS;
    } else if (a == PICK_CURRENT) {
        return m_current(&m);
    } else if (a == PICK_PARENT && m_current(&m) < M_SLOTS) {
        return m_parent(&m, m_current(&m));
    } else if (a == PICK_NULL) {
        return M_NOBODY;
    } else if (a >= PICK_FOREIGN) {
        for (int t = 0; t < M_THREADS; t++)
            if (t != my_thread && m.threads[t].id != 0 && real[m_main(t)] != NULL)
                return m_main(t);
    }
    return m_main(my_thread);
}

static green_t *handle(int g)
{
    return g == M_NOBODY ? NULL : real[g];
}

/* ThreadSanitizer, if it is there: it dies of pthread_exit() on another stack than the thread's. */
__attribute__((weak)) void *__tsan_create_fiber(unsigned flags);

static const int errors[] = { 0, ECANCELED, EDOM, ERANGE, EDOM, ECANCELED, -1, ERANGE };

/* An operation that puts everything away; false if nothing is left. */
static bool clean_up(struct op *op)
{
    int me = m_current(&m), main = m_main(my_thread);
    if (++to_clean_up > MOST_TO_CLEAN_UP)
        play_failed("the program does not end");
    *op = (struct op){ .a = PICK_MAIN };
    if (me != main) {
        op->kind = to_clean_up % 3 == 0 ? OP_RETURN : OP_SWITCH;
        return true;
    }
    if (m.green[me].depth != 0) {
        op->kind = OP_RETURN;
        return true;
    }
    if (my_thread != 0) {
        op->kind = OP_THREAD_EXIT;
        return true;
    }
    for (uint8_t t = 1; t < M_THREADS; t++) {
        if (m.threads[t].id != 0) {
            *op = (struct op){ .kind = OP_HAND_OVER, .a = t };
            return true;
        }
    }
    for (uint8_t g = 0; g < M_SLOTS; g++) {
        if (m.green[g].state != M_NONE && m.green[g].stand_in == M_NOBODY) {
            *op = (struct op){ .kind = about[g].tried ? OP_ABANDON : OP_FREE, .a = g };
            about[g].tried = true;
            return true;
        }
    }
    if (m.threads[0].traces || m.green[me].deferrals > 0) {
        op->kind = m.threads[0].traces ? OP_TRACE : OP_UNDEFER;
        return true;
    }
    for (uint8_t key = 0; key < M_KEYS; key++) {
        if (m.keys[key].made != 0) {
            *op = (struct op){ .kind = OP_KEY_DELETE, .a = key };
            return true;
        }
    }
    return false;
}

static bool next_operation(struct op *op)
{
    if (at == length)
        return clean_up(op);
    *op = program[at++];
    return true;
}

/* What cannot be done here counts as nothing. */
static void skip_operation(void)
{
    made--;
}

/* The result of a call as it is compared: -1 and GREEN_FAILED are errors. */
static void gave(struct here *here, void *value)
{
    arrived(here, M_RESULT, value, value == GREEN_FAILED ? errno : 0);
}

static void gave_int(struct here *here, int result)
{
    arrived(here, M_RESULT, V(result), result == -1 ? errno : 0);
}

static void play_new(struct here *here, const struct op *op)
{
    int slot = M_NOBODY;
    for (int i = M_SLOTS; i-- > 0;)
        if (m.green[(op->a + i) % M_SLOTS].state == M_NONE)
            slot = (op->a + i) % M_SLOTS;
    if (slot == M_NOBODY) {
        skip_operation();
        return;
    }
    int parent = pick(op->b);
    green_options_t options = { .data = V(++serial), .flags = op->c % 4 == 1 ? GREEN_DETACHED : 0,
                                .name = op->c % 8 == 2 ? "named" : NULL };
    bool plain = op->c % 4 == 0;
    if (plain)
        options.data = NULL;
    play_log_head("static void *body_%d(void *value)", serial);
    log_line(here, plain ? "g[%d] = green_new(body_%d, %s)"
                         : "g[%d] = green_new_with(body_%d, %s, &(green_options_t){ "
                           ".data = %s, .flags = %u, .name = %s })",
             slot, serial, name_of(parent), value_name(options.data), options.flags,
             options.name != NULL ? "\"named\"" : "NULL");
    m_new(&m, slot, parent, options.flags != 0);
    green_t *g = plain ? green_new(body, handle(parent))
                       : green_new_with(body, handle(parent), &options);
    if (g != NULL) {
        real[slot] = g;
        about[slot].body = serial;
        about[slot].data = options.data;
        about[slot].named = options.name != NULL;
        about[slot].tried = false;
    }
    arrived(here, M_RESULT, V(slot), g == NULL ? errno : 0);
}

static void play_key_create(struct here *here, const struct op *op)
{
    green_key_t key = M_KEYS;
    int expected = 0;
    while (expected < M_KEYS && m.keys[expected].made != 0)
        expected++;
    if (expected == M_KEYS) {
        skip_operation();
        return;
    }
    bool destructor = op->a % 4 != 0;
    log_line(here, destructor ? "green_key_create(&key, key_destructor_%d)"
                              : "green_key_create(&key, NULL)", expected);
    m_key_create(&m, destructor);
    int result = green_key_create(&key, destructor ? destructors[expected] : NULL);
    arrived(here, M_RESULT, V(key), result == 0 ? 0 : errno);
    log_result(here, "0");
}

static void play_trace(struct here *here, const struct op *op)
{
    bool on = op->a % 2 != 0;
    void *data = on ? V(1 + my_thread) : NULL;
    log_line(here, on ? "green_set_trace(hook, NULL)" : "green_set_trace(NULL, NULL)");
    m_set_trace(&m, on);
    green_trace_fn *old = green_set_trace(on ? hook : NULL, data);
    arrived(here, M_RESULT, V(old == hook), 0);
    log_result(here, "%s", old == hook ? "hook" : "NULL");
    if (green_get_trace(&data) != (on ? hook : NULL) || data != (on ? V(1 + my_thread) : NULL))
        differ(here, "green_get_trace()", "what was set", "another");
}

static void play_spawn(struct here *here, int thread)
{
    if (m.threads[thread].id != 0) {
        skip_operation();
        return;
    }
    log_line(here, "begin_thread(%d)", thread);
    play_log_head("static void *thread_%d(void *mains_)", thread);
    m_spawn(&m, thread);
    real[m_main(thread)] = NULL;
    about[m_main(thread)].data = NULL;
    int result = pthread_create(&threads[thread].thread, NULL, run_thread, V(thread));
    gave_int(here, result == 0 ? 0 : -1);
}

/*
 * The functions of greens are all this: takes the next operation, as long as
 * there are any and it is not the end of the function.  Returns what it should,
 * with errno.
 */
static void *play_here(struct here *here, bool is_base)
{
    struct op op;
    while (next_operation(&op)) {
        int a = pick(op.a), b, me = m_current(&m), error;
        bool on_main = me == m_main(my_thread), fails;
        green_t *g = handle(a);
        long value = op.c == 255 ? M_FAILED : op.c == 254 ? 0 : ++serial;
        m.traces = seen = 0;
        made++;

        switch (op.kind % OP_KINDS) {
        case OP_NEW:
            play_new(here, &op);
            break;
        case OP_SWITCH:
            log_line(here, "green_switch(%s, %s)", name_of(a), value_name(V(value)));
            here->is_int = false;
            m_switch(&m, a, value);
            gave(here, green_switch(g, V(value)));
            break;
        case OP_THROW:
            error = errors[op.c % 8];
            log_line(here, "green_throw(%s, %s)", name_of(a), play_error_name(error));
            here->is_int = false;
            m_throw(&m, a, error);
            gave(here, green_throw(g, error));
            break;
        case OP_YIELD:
            log_line(here, "green_yield(%s)", value_name(V(value)));
            here->is_int = false;
            m_yield(&m, value);
            gave(here, green_yield(V(value)));
            break;
        case OP_RETURN:
        case OP_EXIT:
            fails = value == M_FAILED || op.c % 2 != 0;
            error = errors[op.a % 8];
            if (op.kind % OP_KINDS == OP_RETURN ? is_base : on_main) {
                skip_operation();
                break;
            }
            if (op.kind % OP_KINDS == OP_EXIT)
                log_line(here,
                         fails ? "errno = %s, green_exit(GREEN_FAILED)" : "%sgreen_exit(V(%ld))",
                         fails ? play_error_name(error) : "", value);
            else if (m.green[me].calls[here->depth - 1] == M_BODY)
                log_line(here, fails ? "return errno = %s, GREEN_FAILED" : "return %sV(%ld)",
                         fails ? play_error_name(error) : "", value);
            else
                log_line(here, "return");
            if (op.kind % OP_KINDS == OP_EXIT)
                m_exit(&m, value, !fails ? 0 : error > 0 ? error : ECANCELED);
            else
                m_return(&m, value, !fails ? 0 : error > 0 ? error : ECANCELED);
            errno = error;
            if (op.kind % OP_KINDS == OP_EXIT)
                green_exit(fails ? GREEN_FAILED : V(value));
            return fails ? GREEN_FAILED : V(value);
        case OP_FREE:
            log_line(here, "green_free(%s)", name_of(a));
            m_free(&m, a);
            gave_int(here, green_free(g));
            break;
        case OP_ABANDON:
            log_line(here, "green_abandon(%s)", name_of(a));
            m_abandon(&m, a);
            gave_int(here, green_abandon(g));
            break;
        case OP_SET_PARENT:
            b = pick(op.b);
            if (a != M_NOBODY && !m_is_mine(&m, a) && m_owes(&m, a)) {
                skip_operation(); /* green.h leaves open whether it has children */
                break;
            }
            if (a != M_NOBODY && !m_is_mine(&m, a) && op.c % 4 != 0)
                b = me; /* else few would be taken over */
            log_line(here, "green_set_parent(%s, %s)", name_of(a), name_of(b));
            m_set_parent(&m, a, b);
            gave_int(here, green_set_parent(g, handle(b)));
            break;
        case OP_DEFER:
            if (m.green[me].deferrals == M_DEFERRED) {
                skip_operation();
                break;
            }
            value = ++serial;
            play_log_head("static void deferred_%ld(void *arg)", value);
            log_line(here, "green_defer(deferred_%ld, NULL)", value);
            m_defer(&m, value);
            gave_int(here, green_defer(deferred, V(value)));
            break;
        case OP_UNDEFER:
            if (here->depth + 3 >= M_DEEP) {
                skip_operation();
                break;
            }
            log_line(here, "green_undefer(%d)", op.a % 2);
            m_undefer(&m, op.a % 2);
            gave_int(here, green_undefer(op.a % 2));
            break;
        case OP_KEY_CREATE:
            play_key_create(here, &op);
            break;
        case OP_KEY_DELETE:
            log_line(here, "green_key_delete(%d)", op.a % M_KEYS);
            m_key_delete(&m, op.a % M_KEYS);
            gave_int(here, green_key_delete(op.a % M_KEYS));
            break;
        case OP_SET_KEY:
            value = op.c == 254 ? 0 : ++serial;
            log_line(here, "green_setspecific(%d, V(%ld))", op.a % M_KEYS, value);
            m_setspecific(&m, op.a % M_KEYS, value);
            gave_int(here, green_setspecific(op.a % M_KEYS, V(value)));
            break;
        case OP_TRACE:
            play_trace(here, &op);
            break;
        case OP_THREAD_END:
            log_line(here, "green_thread_end()");
            m_thread_end(&m);
            gave_int(here, green_thread_end());
            break;
        case OP_SPAWN:
            play_spawn(here, 1 + op.a % (M_THREADS - 1));
            break;
        case OP_HAND_OVER:
            if (op.a % M_THREADS == my_thread || m.threads[op.a % M_THREADS].id == 0) {
                skip_operation();
                break;
            }
            log_line(here, "hand_over(%d, %d)", my_thread, op.a % M_THREADS);
            m_hand_over(&m, op.a % M_THREADS);
            sem_post(&threads[op.a % M_THREADS].turn);
            wait_for_turn();
            arrived(here, M_TURN, NULL, 0);
            break;
        case OP_THREAD_EXIT:
            if (my_thread == 0 ||
                (!is_base && (op.a % 4 != 0 || __tsan_create_fiber != NULL))) {
                skip_operation();
                break;
            }
            log_line(here, is_base ? "return end_thread(%d)" : "end_thread(%d), pthread_exit(NULL)",
                     my_thread);
            m_thread_exit(&m);
            gone = my_thread;
            sem_post(&threads[0].turn);
            if (!is_base)
                pthread_exit(NULL);
            return NULL;
        case OP_SET_DATA:
            log_line(here, "green_set_data(%s, V(%d))", name_of(a), ++serial);
            if (a != M_NOBODY && m_is_mine(&m, a)) {
                about[a].data = V(serial);
                m.next = (struct m_next){ .thread = my_thread, .green = me };
            } else {
                m.next = (struct m_next){ .thread = my_thread, .green = me,
                                          .error = a == M_NOBODY ? EINVAL : EPERM };
            }
            gave_int(here, green_set_data(g, V(serial)));
            break;
        case OP_TRIM:
            log_line(here, "green_trim(%d)", 65536 * (op.a % 4));
            green_trim((size_t)65536 * (op.a % 4));
            m_release(&m);
            compare(here);
            break;
        }
    }
    return NULL; /* only on thread 0's main */
}

unsigned long play(const struct op *operations, size_t count)
{
    struct here here = { .me = m_main(0), .function = m_main(0), .line = NO_LINE };
    program = operations;
    length = count;
    at = 0;
    made = to_clean_up = 0;
    serial = 1000;
    gone = 0;
    my_thread = 0;
    m_begin(&m);
    for (int t = 0; t < M_THREADS; t++) {
        real[m_main(t)] = NULL;
        sem_init(&threads[t].turn, 0, 0);
    }
    real[m_main(0)] = green_main();
    about[m_main(0)].data = NULL;
    green_set_data(green_main(), NULL);
    play_here(&here, true);
    for (int t = 0; t < M_THREADS; t++)
        sem_destroy(&threads[t].turn);
    return made;
}

/* ---- The log, printed ---------------------------------------------------------------------- */

static const char prelude[] =
    "#include <green.h>\n"
    "\n"
    "static green_t *g[12], *mains[3];\n"
    "static green_key_t key;\n"
    "static pthread_t threads[3];\n"
    "static sem_t turns[3];\n"
    "static int ended;\n"
    "\n"
    "static inline void wait_for_turn(int me)\n"
    "{\n"
    "    sem_wait(&turns[me]);\n"
    "    mains[me] = green_main();\n"
    "    if (ended != 0)\n"
    "        pthread_join(threads[ended], NULL);\n"
    "    ended = 0;\n"
    "}\n"
    "\n"
    "static inline void hand_over(int me, int to)\n"
    "{\n"
    "    sem_post(&turns[to]);\n"
    "    wait_for_turn(me);\n"
    "}\n"
    "\n"
    "static inline void *end_thread(int me)\n"
    "{\n"
    "    ended = me;\n"
    "    sem_post(&turns[0]);\n"
    "    return NULL;\n"
    "}\n"
    "\n";

/* The number at the end of a function's name. */
static int number_of(const char *head)
{
    const char *paren = strrchr(head, '(');
    while (paren > head && paren[-1] >= '0' && paren[-1] <= '9')
        paren--;
    return atoi(paren);
}

static void print_hook(const struct play_log *log)
{
    printf("static struct {\n    int is_throw;\n    green_t **from, **to;\n} sees[] = {\n");
    for (unsigned i = 0; i < log->lines; i++)
        if (log->line[i].function == HOOK)
            printf("    %s,\n", log->line[i].text);
    printf("    { 2, NULL, NULL }\n};\n\n"
           "static inline void hook(green_trace_event_t event, green_t *from, green_t *to,\n"
           "                        void *data)\n"
           "{\n"
           "    static int n;\n"
           "    (void)data;\n"
           "    if (sees[n].is_throw != (event == GREEN_TRACE_THROW) || *sees[n].from != from ||\n"
           "        *sees[n].to != to)\n"
           "        wrong(__LINE__);\n"
           "    n++;\n"
           "}\n\n");
}

void play_print(const struct play_log *log, const char *title)
{
    printf("/* %s */\n%s\n%s\n", title, play_prelude, prelude);
    print_hook(log);
    printf("#define begin_thread(t) pthread_create(&threads[t], NULL, thread_##t, NULL)\n\n");
    for (unsigned i = 0; i < log->functions; i++)
        printf("%s;\n", log->function[i]);
    for (int k = 0; k < M_KEYS; k++) {
        printf("\nstatic inline void key_destructor_%d(void *value)\n{\n    (void)value;\n", k);
        for (unsigned i = 0; i < log->functions; i++) {
            int key, value;
            if (sscanf(log->function[i], "static void destroy_%d_%d", &key, &value) == 2 &&
                key == k)
                printf("    if (value == V(%d))\n        destroy_%d_%d();\n", value, key, value);
        }
        printf("}\n");
    }
    for (unsigned i = 0; i < log->functions; i++) {
        const char *head = log->function[i];
        int number = number_of(head), is_thread = strstr(head, "thread_") != NULL;
        printf("\n%s\n{\n", head);
        if (is_thread)
            printf("    (void)mains_;\n    wait_for_turn(%d);\n", number);
        else if (strstr(head, "(void)") == NULL)
            printf("    (void)%s;\n", strstr(head, "deferred_") != NULL ? "arg" : "value");
        play_print_body(log, is_thread ? m_main(number) : number);
        printf("}\n");
    }
    printf("\nint main(void)\n{\n    mains[0] = green_main();\n"
           "    for (int i = 0; i < 3; i++)\n        sem_init(&turns[i], 0, 0);\n");
    printf("    (void)key;\n");
    play_print_body(log, m_main(0));
    printf("}\n");
}
