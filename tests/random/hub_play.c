/* SPDX-License-Identifier: MIT */
/*
 * The player of play.h for the hub.  Uses green_hub.h alone.
 *
 * Most programs are played in virtual time, which the model's is, too.  The others are
 * played without any limit of time that is to come, so that the time does not matter: on a
 * hub without options, whose short ways are others.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <green_hub.h>

#include "hub_model.h"
#include "play_log.h"

enum op_kind {
    OP_SPAWN, OP_RETURN, OP_JOIN, OP_CANCEL, OP_CHECK, OP_DETACH, OP_FREE, OP_SLEEP, OP_GIVE_TURN,
    OP_SCOPE, OP_SCOPE_END, OP_GROUP_NEW, OP_GROUP_SPAWN, OP_GROUP_WAIT, OP_GROUP_CANCEL,
    OP_GROUP_FREE, OP_QUEUE_NEW, OP_PUT, OP_GET, OP_CLOSE, OP_QUEUE_FREE, OP_SET, OP_CLEAR,
    OP_EVENT_WAIT, OP_ACQUIRE, OP_RELEASE, OP_LOCK, OP_UNLOCK, OP_COND_WAIT, OP_SIGNAL, OP_SELECT,
    OP_HUB_WAIT, OP_HUB_RUN, OP_HUB_END, OP_GEN, OP_GEN_FREE, OP_YIELD, OP_POKE, OP_AGAIN,
    OP_KINDS
};

static const unsigned weights[OP_KINDS] = {
    [OP_SPAWN] = 24, [OP_RETURN] = 10, [OP_JOIN] = 8, [OP_CANCEL] = 8, [OP_CHECK] = 2,
    [OP_DETACH] = 2, [OP_FREE] = 6, [OP_SLEEP] = 8, [OP_GIVE_TURN] = 10, [OP_SCOPE] = 8,
    [OP_SCOPE_END] = 8, [OP_GROUP_NEW] = 4, [OP_GROUP_SPAWN] = 8, [OP_GROUP_WAIT] = 5,
    [OP_GROUP_CANCEL] = 1, [OP_GROUP_FREE] = 2, [OP_QUEUE_NEW] = 6, [OP_PUT] = 14, [OP_GET] = 14,
    [OP_CLOSE] = 2, [OP_QUEUE_FREE] = 1, [OP_SET] = 6, [OP_CLEAR] = 4, [OP_EVENT_WAIT] = 6,
    [OP_ACQUIRE] = 8, [OP_RELEASE] = 8, [OP_LOCK] = 10, [OP_UNLOCK] = 10, [OP_COND_WAIT] = 8,
    [OP_SIGNAL] = 7, [OP_SELECT] = 12, [OP_HUB_WAIT] = 3, [OP_HUB_RUN] = 3, [OP_HUB_END] = 1,
    [OP_GEN] = 10, [OP_GEN_FREE] = 2, [OP_YIELD] = 8, [OP_POKE] = 4, [OP_AGAIN] = 1,
};

#define KIND(kind) (UINT64_C(1) << OP_##kind)
#define LIVES (KIND(SPAWN) | KIND(RETURN) | KIND(GIVE_TURN) | KIND(SLEEP))
static const uint64_t themes[] = {
    KIND(SPAWN) | KIND(SLEEP) | KIND(CANCEL) | KIND(EVENT_WAIT) | KIND(SET) | KIND(SCOPE) |
        KIND(ACQUIRE) | KIND(GIVE_TURN), /* many timers */
    LIVES | KIND(HUB_END) | KIND(HUB_WAIT) | KIND(HUB_RUN) | KIND(SCOPE) | KIND(SELECT),
    LIVES | KIND(JOIN) | KIND(CANCEL) | KIND(FREE) | KIND(DETACH) | KIND(HUB_WAIT),
    LIVES | KIND(SCOPE) | KIND(SCOPE_END) | KIND(CANCEL) | KIND(CHECK) | KIND(EVENT_WAIT) |
        KIND(SET) | KIND(CLEAR),
    LIVES | KIND(SCOPE) | KIND(SCOPE_END) | KIND(CANCEL) | KIND(CHECK) | KIND(GEN) | KIND(YIELD) |
        KIND(GEN_FREE) | KIND(POKE),
    LIVES | KIND(GROUP_NEW) | KIND(GROUP_SPAWN) | KIND(GROUP_WAIT) | KIND(GROUP_CANCEL) |
        KIND(GROUP_FREE) | KIND(CANCEL),
    LIVES | KIND(QUEUE_NEW) | KIND(PUT) | KIND(GET) | KIND(CLOSE) | KIND(SELECT) | KIND(QUEUE_FREE),
    LIVES | KIND(LOCK) | KIND(UNLOCK) | KIND(COND_WAIT) | KIND(SIGNAL) | KIND(CANCEL),
    LIVES | KIND(QUEUE_NEW) | KIND(PUT) | KIND(GET) | KIND(AGAIN) | KIND(RELEASE) | KIND(ACQUIRE),
};

const struct play_kinds play_kinds = {
    .count = OP_KINDS,
    .weights = weights,
    .always = KIND(SPAWN) | KIND(GIVE_TURN),
    .themes = themes,
    .theme_count = sizeof themes / sizeof *themes,
};

#define V(n) ((void *)(intptr_t)(n))
#define UNTOUCHED (-77)

static const int units[H_SEMAPHORES] = { 1, 0 }, most[H_SEMAPHORES] = { 2, 0 };

static struct hub_model m;

static const struct op *program;
static size_t length, at;
static unsigned long made; /* operations */
static unsigned long to_clean_up;
static int serial;         /* no item, no value and no function comes twice */
static bool ended;         /* the hub */
static bool timeless;      /* nothing waits for time */
static int64_t begun;      /* the time, by green_now() */

static struct {
    green_task_t *task;    /* NULL: not known yet */
    long id;               /* of the model's task that it is */
} real[H_TASKS];
static green_group_t *groups[H_GROUPS];
static green_queue_t *queues[H_QUEUES];
static green_event_t events[H_EVENTS];
static green_semaphore_t semaphores[H_SEMAPHORES];
static green_mutex_t mutexes[H_MUTEXES];
static green_cond_t conds[H_CONDS];

static struct { green_task_t *task; int error; } told[H_TOLD];
static int tells;

/* What a call gives beside its int. */
enum gives { NOTHING, A_VALUE, AN_ITEM, AN_ERROR, A_CASE, A_SWITCH };

/* The body of a task or of a generator: what it knows itself of where it is. */
struct here {
    int me, level;
    long id;
    int function, line; /* in the log */
    green_t *gen;       /* its own, or NULL */
    green_scope_t scopes[H_SCOPES];
};

static struct here *entered; /* whose generator starts */

#define log_line(here, ...) ((here)->line = play_log_line((here)->function, __VA_ARGS__))

/* ---- Comparing --------------------------------------------------------------------- */

/* The library gives `found` where it should give `expected`; expr is C, with one number in it. */
__attribute__((format(printf, 4, 5))) static _Noreturn void
differ(struct here *here, long long expected, long long found, const char *expr, ...)
{
    char text[100], what[300];
    va_list args;
    va_start(args, expr);
    vsnprintf(text, sizeof text, expr, args);
    va_end(args);
    log_line(here, "%s", text);
    play_log_result(here->line, "%lld", expected);
    snprintf(what, sizeof what, "%s is %lld, should be %lld (in task %d, operation %lu)", text,
             found, expected, here->me, made);
    play_failed(what);
}

static green_task_t *handle(int t)
{
    return m.task[t].state != H_NONE && real[t].id == m.task[t].id ? real[t].task : NULL;
}

static void compare_told(struct here *here)
{
    if (tells != m.tells)
        differ(here, m.tells, tells, "tells");
    for (int i = 0; i < tells; i++) {
        if (told[i].error != m.told[i].error)
            differ(here, m.told[i].error, told[i].error, "told[%d].error", i);
        if (real[m.told[i].task].task != told[i].task)
            differ(here, 1, 0, "told[%d].task == t[%d]", i, m.told[i].task);
    }
}

static void compare(struct here *here)
{
    green_hub_stats_t stats;
    size_t tasks = 0, daemons = 0;
    if (!timeless && green_now() - begun != m.now)
        differ(here, m.now, green_now() - begun, "green_now() - begun");
    if (green_task_current() != real[here->me].task)
        differ(here, 1, 0, "green_task_current() == t[%d]", here->me);
    for (int q = 0; q < H_QUEUES; q++)
        if (m.queue[q].made && green_queue_size(queues[q]) != (size_t)m.queue[q].size)
            differ(here, m.queue[q].size, (long long)green_queue_size(queues[q]),
                   "(int)green_queue_size(q[%d])", q);
    for (int g = 0; g < H_GROUPS; g++)
        if (m.group[g].made && green_group_size(groups[g]) != (size_t)m.group[g].size)
            differ(here, m.group[g].size, (long long)green_group_size(groups[g]),
                   "(int)green_group_size(g[%d])", g);
    for (int t = 0; t < H_TASKS; t++) {
        enum h_state state = m.task[t].state;
        bool alive = state != H_NONE && state != H_ENDED;
        tasks += alive;
        daemons += alive && m.task[t].daemon;
        if (handle(t) != NULL && (green_task_green(handle(t)) != NULL) != alive)
            differ(here, alive, !alive, "green_task_green(t[%d]) != NULL", t);
    }
    green_hub_stats(&stats, sizeof stats);
    if (stats.tasks != tasks)
        differ(here, (long long)tasks, (long long)stats.tasks, "(int)stats().tasks");
    if (stats.daemons != daemons)
        differ(here, (long long)daemons, (long long)stats.daemons, "(int)stats().daemons");
    if (stats.ready != (size_t)m.in_line)
        differ(here, m.in_line, (long long)stats.ready, "(int)stats().ready");
    if (stats.timers != (size_t)h_timers(&m))
        differ(here, h_timers(&m), (long long)stats.timers, "(int)stats().timers");
    compare_told(here);
}

/* What is to be checked beside the int that a call gave. */
static void log_more(struct here *here, enum gives gives, const struct h_outcome *wanted)
{
    if (wanted->result < 0)
        return;
    if (gives == A_VALUE || gives == A_SWITCH) {
        log_line(here, "value == V(%ld)", wanted->value);
        play_log_result(here->line, "1");
    }
    if ((gives == AN_ITEM || gives == A_CASE) && wanted->value != 0) {
        log_line(here, "item");
        play_log_result(here->line, "%ld", wanted->value);
    }
    if (gives == AN_ERROR) {
        log_line(here, "item");
        play_log_result(here->line, "%s",
                        wanted->value_error != 0 ? play_error_name(wanted->value_error) : "0");
    }
    if (gives == A_CASE && wanted->value_error != 0) {
        log_line(here, "cases[%d].error", wanted->result);
        play_log_result(here->line, "%s", play_error_name(wanted->value_error));
    }
}

/* Control is here: in a call of this task, with its outcome, or at its beginning. */
static void arrived_with(struct here *here, bool starts, struct h_outcome got, enum gives gives)
{
    const struct h_next *next = &m.next;
    const struct h_outcome *wanted = &next->outcome;
    bool place = next->task == here->me && next->level == here->level &&
                 next->starts == starts && m.task[here->me].id == here->id;
    bool same = place && got.result == wanted->result && got.error == wanted->error &&
                got.value == wanted->value && got.value_error == wanted->value_error;
    if (starts)
        log_line(here, place ? "arg == V(%d)" : "(void)V(%d)", here->function);
    if (!place)
        play_log_result(here->line, "?");
    else if (starts)
        play_log_result(here->line, "1");
    else if (wanted->result < 0)
        play_log_result(here->line, "!%s", play_error_name(wanted->error));
    else if (gives != A_SWITCH)
        play_log_result(here->line, "%d", wanted->result);
    if (place && !starts)
        log_more(here, gives, wanted);
    if (!same) {
        char text[400];
        snprintf(text, sizeof text,
                 "control is in task %d.%d%s with %d, errno %d (value %ld, error %d); should be in "
                 "task %d.%d%s with %d, errno %d (value %ld, error %d) (operation %lu)",
                 here->me, here->level, starts ? ", at its start," : "", got.result, got.error,
                 got.value, got.value_error, next->task, next->level,
                 next->starts ? ", at its start," : "", wanted->result, wanted->error,
                 wanted->value, wanted->value_error, made);
        play_failed(text);
    }
    compare(here);
}

static void arrived(struct here *here, int result)
{
    struct h_outcome got = { .result = result, .error = result < 0 ? errno : 0 };
    arrived_with(here, false, got, NOTHING);
}

static void started(struct here *here)
{
    arrived_with(here, true, (struct h_outcome){ .result = 0 }, NOTHING);
}

static void failed(green_task_t *task, int error, void *data)
{
    (void)data;
    if (tells < H_TOLD) {
        told[tells].task = task;
        told[tells].error = error;
    }
    tells++;
}

/* ---- Operands ---------------------------------------------------------------------- */

static int pick_task(uint8_t a)
{
    for (int i = 0; i < H_TASKS; i++)
        if (handle((a + i) % H_TASKS) != NULL)
            return (a + i) % H_TASKS;
    return 0;
}

static int pick_group(uint8_t a)
{
    for (int i = 0; i < H_GROUPS; i++)
        if (m.group[(a + i) % H_GROUPS].made)
            return (a + i) % H_GROUPS;
    return H_NOBODY;
}

static int pick_queue(uint8_t a)
{
    for (int i = 0; i < H_QUEUES; i++)
        if (m.queue[(a + i) % H_QUEUES].made)
            return (a + i) % H_QUEUES;
    return H_NOBODY;
}

/* Few times, so that many come together. */
static int64_t time_of(uint8_t b)
{
    switch (b % 8) {
    case 0: case 1: case 2: return GREEN_FOREVER;
    case 3: return b & 8 ? GREEN_NOWAIT : -5;
    default: return timeless ? GREEN_FOREVER : GREEN_US(1 + b / 8 % 6);
    }
}

/* Who would not be woken by a cancel has a limit. */
static int64_t limited(int64_t timeout)
{
    if (timeout == GREEN_FOREVER && h_shielded_for_ever(&m))
        return timeless ? GREEN_NOWAIT : GREEN_US(7);
    return timeout;
}

static const char *time_name(int64_t timeout)
{
    static char names[4][32];
    static int n;
    n = (n + 1) % 4;
    if (timeout == GREEN_FOREVER)
        return "GREEN_FOREVER";
    snprintf(names[n], sizeof names[n], timeout > 0 ? "GREEN_US(%ld)" : "%ld",
             (long)(timeout > 0 ? timeout / 1000 : timeout));
    return names[n];
}

static int locks_held(void)
{
    int n = 0;
    for (int i = 0; i < H_MUTEXES; i++)
        n += m.mutex[i].owner == m.task[m.current].id;
    return n;
}

/* ---- Operations -------------------------------------------------------------------- */

static void *body(void *arg);

static void begin_operation(struct here *here)
{
    made++;
    if (tells != 0)
        play_log_line(here->function, "tells = 0");
    m.tells = tells = 0;
    errno = EXDEV;
}

static void head(int tag)
{
    play_log_head("static void *task_%d(void *arg)", tag);
}

static void do_spawn(struct here *here, uint8_t a)
{
    if (h_free_slots(&m) <= 0)
        return;
    int tag = ++serial;
    bool daemon = a % 4 == 1, detached = a % 8 >= 6;
    green_options_t options = { .flags = (daemon ? GREEN_DAEMON : 0) |
                                         (detached ? GREEN_DETACHED : 0) };
    begin_operation(here);
    head(tag);
    h_spawn(&m, tag, daemon, detached);
    int slot = m.line[m.in_line - 1];
    log_line(here, "t[%d] = green_task_spawn_with(task_%d, V(%d), "
                   "&(green_options_t){ .flags = %s })", slot, tag, tag,
             daemon && detached ? "GREEN_DAEMON | GREEN_DETACHED" :
             daemon ? "GREEN_DAEMON" : detached ? "GREEN_DETACHED" : "0");
    real[slot].task = green_task_spawn_with(body, V(tag), &options);
    real[slot].id = m.task[slot].id;
    arrived(here, real[slot].task != NULL ? 0 : -1);
}

static void *do_return(struct here *here, uint8_t b)
{
    begin_operation(here);
    int error = b % 4 == 0 ? ECANCELED : b % 4 == 1 ? EDOM : b % 4 == 2 && b & 8 ? ERANGE : 0;
    long value = error != 0 ? 0 : ++serial;
    const char *how = b & 16 ? "green_exit" : "return ";
    if (error != 0)
        log_line(here, "%s(errno = %s, GREEN_FAILED)", how, play_error_name(error));
    else
        log_line(here, "%s(V(%ld))", how, value);
    h_return(&m, value, error);
    errno = error;
    if (b & 16)
        green_exit(error != 0 ? GREEN_FAILED : V(value));
    return error != 0 ? GREEN_FAILED : V(value);
}

static void do_join(struct here *here, int t, int64_t timeout)
{
    void *value = V(UNTOUCHED);
    begin_operation(here);
    log_line(here, "green_task_join(t[%d], &value, %s)", t, time_name(timeout));
    green_task_t *task = handle(t);
    h_join(&m, t, timeout);
    int result = green_task_join(task, &value, timeout);
    struct h_outcome got = { .result = result, .error = result < 0 ? errno : 0,
                             .value_error = value == GREEN_FAILED ? errno : 0,
                             .value = value != V(UNTOUCHED) ? (long)(intptr_t)value : 0 };
    arrived_with(here, false, got, A_VALUE);
}

static void do_cancel(struct here *here, int t)
{
    begin_operation(here);
    log_line(here, "green_task_cancel(t[%d])", t);
    h_cancel(&m, t);
    arrived(here, green_task_cancel(handle(t)));
}

static void do_free(struct here *here, int t)
{
    /* Who frees waits whatever comes: only for younger ones, and having locked nothing. */
    if (t != here->me && (m.task[t].id < here->id || locks_held() != 0))
        return;
    begin_operation(here);
    log_line(here, "green_task_free(t[%d])", t);
    green_task_t *task = handle(t);
    h_free(&m, t);
    arrived(here, green_task_free(task));
}

static void do_scope(struct here *here, uint8_t a, uint8_t b)
{
    for (int i = 0; i < H_SCOPES; i++) {
        if (m.task[here->me].scopes[here->level][i].open)
            continue;
        int64_t timeout = time_of(b);
        begin_operation(here);
        log_line(here, "green_scope_begin(&scopes[%d], %s, %s)", i, time_name(timeout),
                 a % 4 == 1 ? "GREEN_SHIELD" : "0");
        h_scope_begin(&m, i, timeout, a % 4 == 1);
        arrived(here, green_scope_begin(&here->scopes[i], timeout,
                                            a % 4 == 1 ? GREEN_SHIELD : 0));
        return;
    }
}

static void do_scope_end(struct here *here, int s)
{
    if (m.task[here->me].scopes[here->level][s].begun == 0)
        return;
    begin_operation(here);
    log_line(here, "green_scope_end(&scopes[%d])", s);
    h_scope_end(&m, s);
    int result = green_scope_end(&here->scopes[s]);
    if (errno != EXDEV)
        differ(here, EXDEV, errno, "errno");
    arrived(here, result);
}

static void do_group_new(struct here *here, uint8_t a, uint8_t b)
{
    for (int g = 0; g < H_GROUPS; g++) {
        if (m.group[g].made)
            continue;
        begin_operation(here);
        log_line(here, "g[%d] = green_group_new(%d, %s)", g, a % 4,
                 b % 4 == 1 ? "GREEN_ALL_OR_NONE" : "0");
        h_group_new(&m, g, a % 4, b % 4 == 1);
        groups[g] = green_group_new((size_t)(a % 4), b % 4 == 1 ? GREEN_ALL_OR_NONE : 0);
        arrived(here, groups[g] != NULL ? 0 : -1);
        return;
    }
}

static void do_group_spawn(struct here *here, int g, uint8_t b)
{
    if (h_free_slots(&m) <= 0 || h_shielded_for_ever(&m))
        return;
    int tag = ++serial;
    bool daemon = b % 4 == 1;
    green_options_t options = { .flags = daemon ? GREEN_DAEMON : 0 };
    begin_operation(here);
    head(tag);
    log_line(here, "green_group_spawn_with(g[%d], task_%d, V(%d), "
                   "&(green_options_t){ .flags = %s })", g, tag, tag,
             daemon ? "GREEN_DAEMON" : "0");
    h_group_spawn(&m, g, tag, daemon);
    arrived(here, green_group_spawn_with(groups[g], body, V(tag), &options));
}

static void do_group_wait(struct here *here, int g, int64_t timeout)
{
    int error = UNTOUCHED;
    begin_operation(here);
    log_line(here, "green_group_wait(g[%d], &item, %s)", g, time_name(timeout));
    h_group_wait(&m, g, timeout);
    int result = green_group_wait(groups[g], &error, timeout);
    struct h_outcome got = { .result = result, .error = result < 0 ? errno : 0,
                             .value_error = error != UNTOUCHED ? error : 0 };
    arrived_with(here, false, got, AN_ERROR);
}

static void do_group_cancel(struct here *here, int g)
{
    begin_operation(here);
    log_line(here, "green_group_cancel(g[%d])", g);
    h_group_cancel(&m, g);
    arrived(here, green_group_cancel(groups[g]));
}

static void do_group_free(struct here *here, int g)
{
    if (locks_held() != 0)
        return;
    for (int t = 0; t < H_TASKS; t++)
        if (m.task[t].state != H_NONE && m.task[t].group == g && m.task[t].id < here->id)
            return;
    begin_operation(here);
    log_line(here, "green_group_free(g[%d])", g);
    h_group_free(&m, g);
    arrived(here, green_group_free(groups[g]));
}

static void do_queue_new(struct here *here, uint8_t a)
{
    for (int q = 0; q < H_QUEUES; q++) {
        if (m.queue[q].made)
            continue;
        begin_operation(here);
        log_line(here, "q[%d] = green_queue_new(sizeof(int), %d)", q, a % 4);
        h_queue_new(&m, q, a % 4);
        queues[q] = green_queue_new(sizeof(int), (size_t)(a % 4));
        arrived(here, queues[q] != NULL ? 0 : -1);
        return;
    }
}

static void do_put(struct here *here, int q, int64_t timeout)
{
    int item = ++serial;
    begin_operation(here);
    log_line(here, "green_queue_put(q[%d], &(int){ %d }, %s)", q, item, time_name(timeout));
    h_queue_put(&m, q, item, timeout);
    arrived(here, green_queue_put(queues[q], &item, timeout));
}

static void do_get(struct here *here, int q, int64_t timeout)
{
    int item = UNTOUCHED;
    begin_operation(here);
    log_line(here, "green_queue_get(q[%d], &item, %s)", q, time_name(timeout));
    h_queue_get(&m, q, timeout);
    int result = green_queue_get(queues[q], &item, timeout);
    struct h_outcome got = { .result = result, .error = result < 0 ? errno : 0,
                             .value = item != UNTOUCHED ? item : 0 };
    arrived_with(here, false, got, AN_ITEM);
}

static void do_close(struct here *here, int q)
{
    begin_operation(here);
    log_line(here, "green_queue_close(q[%d])", q);
    h_queue_close(&m, q);
    arrived(here, green_queue_close(queues[q]));
}

static void do_queue_free(struct here *here, int q)
{
    begin_operation(here);
    log_line(here, "green_queue_free(q[%d])", q);
    h_queue_free(&m, q);
    arrived(here, green_queue_free(queues[q]));
}

static void do_event(struct here *here, int kind, int e, int64_t timeout)
{
    int result;
    begin_operation(here);
    if (kind == OP_SET) {
        log_line(here, "green_event_set(&events[%d])", e);
        h_event_set(&m, e);
        result = green_event_set(&events[e]);
    } else if (kind == OP_CLEAR) {
        log_line(here, "green_event_clear(&events[%d])", e);
        h_event_clear(&m, e);
        result = green_event_clear(&events[e]);
    } else {
        log_line(here, "green_event_wait(&events[%d], %s)", e, time_name(timeout));
        h_event_wait(&m, e, timeout);
        result = green_event_wait(&events[e], timeout);
    }
    arrived(here, result);
}

static void do_semaphore(struct here *here, int kind, int s, int64_t timeout)
{
    begin_operation(here);
    if (kind == OP_RELEASE) {
        log_line(here, "green_semaphore_release(&semaphores[%d])", s);
        h_release(&m, s);
        arrived(here, green_semaphore_release(&semaphores[s]));
    } else {
        log_line(here, "green_semaphore_acquire(&semaphores[%d], %s)", s, time_name(timeout));
        h_acquire(&m, s, timeout);
        arrived(here, green_semaphore_acquire(&semaphores[s], timeout));
    }
}

static void do_mutex(struct here *here, int kind, int x, int64_t timeout)
{
    begin_operation(here);
    if (kind == OP_UNLOCK) {
        log_line(here, "green_mutex_unlock(&mutexes[%d])", x);
        h_unlock(&m, x);
        arrived(here, green_mutex_unlock(&mutexes[x]));
    } else {
        log_line(here, "green_mutex_lock(&mutexes[%d], %s)", x, time_name(timeout));
        h_lock(&m, x, timeout);
        arrived(here, green_mutex_lock(&mutexes[x], timeout));
    }
}

static void do_cond_wait(struct here *here, int c, uint8_t a, int64_t timeout)
{
    int x = a % 4 == 3 ? H_NOBODY : a % 4;
    if (x != H_NOBODY) {
        /* To be locked again is waited for whatever comes: only with nothing else locked. */
        if (locks_held() > (m.mutex[x].owner == here->id))
            return;
        timeout = limited(timeout);
    }
    begin_operation(here);
    if (x == H_NOBODY)
        log_line(here, "green_cond_wait(&conds[%d], NULL, %s)", c, time_name(timeout));
    else
        log_line(here, "green_cond_wait(&conds[%d], &mutexes[%d], %s)", c, x, time_name(timeout));
    h_cond_wait(&m, c, x, timeout);
    arrived(here, green_cond_wait(&conds[c], x == H_NOBODY ? NULL : &mutexes[x], timeout));
}

static void do_signal(struct here *here, int c, uint8_t b)
{
    int n = b % 4;
    begin_operation(here);
    log_line(here, n == 3 ? "green_cond_signal(&conds[%d], GREEN_EVERYBODY)"
                          : "green_cond_signal(&conds[%d], %d)", c, n);
    h_cond_signal(&m, c, n == 3 ? H_TASKS : n);
    arrived(here, green_cond_signal(&conds[c], n == 3 ? GREEN_EVERYBODY : (size_t)n));
}

/* A case, as green_select() and as the model take it; what it cannot be is switched off. */
static void make_case(green_case_t *c, struct h_case *model_c, char *text, uint8_t a, int *got)
{
    int kind = a % 6, o = a / 6, q = pick_queue((uint8_t)o);
    *c = (green_case_t){ .kind = GREEN_KIND_NONE, .fd = -1 };
    *model_c = (struct h_case){ .kind = H_NOTHING };
    snprintf(text, 64, "{ .kind = GREEN_KIND_NONE }");
    if (kind == 0 && q != H_NOBODY) {
        *c = (green_case_t)GREEN_CASE_GET(queues[q], got);
        *model_c = (struct h_case){ .kind = H_GET, .object = q };
        snprintf(text, 64, "GREEN_CASE_GET(q[%d], &item)", q);
    } else if (kind == 1 && q != H_NOBODY) {
        *got = ++serial;
        *c = (green_case_t)GREEN_CASE_PUT(queues[q], got);
        *model_c = (struct h_case){ .kind = H_PUT, .object = q, .item = *got };
        snprintf(text, 64, "GREEN_CASE_PUT(q[%d], &(int){ %d })", q, *got);
    } else if (kind == 2) {
        int t = pick_task((uint8_t)o);
        if (t == m.current)
            return;
        *c = (green_case_t)GREEN_CASE_TASK(handle(t));
        *model_c = (struct h_case){ .kind = H_TASK, .object = t };
        snprintf(text, 64, "GREEN_CASE_TASK(t[%d])", t);
    } else if (kind == 3) {
        int e = o % H_EVENTS;
        *c = (green_case_t)GREEN_CASE_EVENT(&events[e]);
        *model_c = (struct h_case){ .kind = H_EVENT, .object = e };
        snprintf(text, 64, "GREEN_CASE_EVENT(&events[%d])", e);
    } else if (kind == 4) {
        int s = o % H_SEMAPHORES;
        *c = (green_case_t)GREEN_CASE_SEMAPHORE(&semaphores[s]);
        *model_c = (struct h_case){ .kind = H_SEMAPHORE, .object = s };
        snprintf(text, 64, "GREEN_CASE_SEMAPHORE(&semaphores[%d])", s);
    }
}

static void do_select(struct here *here, const struct op *op)
{
    green_case_t cases[H_CASES];
    struct h_case model_cases[H_CASES];
    char text[H_CASES][64];
    int items[H_CASES] = { UNTOUCHED, UNTOUCHED, UNTOUCHED }, n = 1 + op->a % H_CASES, able = 0;
    int64_t timeout = limited(time_of((uint8_t)(op->a / H_CASES)));
    const uint8_t from[H_CASES] = { op->b, op->c, (uint8_t)(op->b ^ op->c * 5) };
    for (int i = 0; i < n; i++) {
        make_case(&cases[i], &model_cases[i], text[i], from[i], &items[i]);
        able += h_can_be_done(&m, &model_cases[i]);
    }
    if (able > 1) /* one is chosen at random: to be known before anything else happens */
        timeout = GREEN_NOWAIT;
    begin_operation(here);
    log_line(here, "cases = (green_case_t[]){ %s%s%s%s%s }", text[0], n > 1 ? ", " : "",
             n > 1 ? text[1] : "", n > 2 ? ", " : "", n > 2 ? text[2] : "");
    bool chooses = able > 1 && h_refusal(&m) == 0;
    int result = UNTOUCHED;
    if (chooses) {
        result = green_select(cases, n, timeout);
        if (result < 0 || result >= n || !h_can_be_done(&m, &model_cases[result]))
            differ(here, 1, result, "green_select(cases, %d, %s) >= 0", n, time_name(timeout));
        for (int i = 0; i < n; i++)
            if (i != result)
                log_line(here, "cases[%d].kind = GREEN_KIND_NONE", i);
    }
    log_line(here, "green_select(cases, %d, %s)", n, time_name(timeout));
    h_select(&m, model_cases, n, timeout, chooses ? result : H_NOBODY);
    if (!chooses)
        result = green_select(cases, n, timeout);
    struct h_outcome got = { .result = result, .error = result < 0 ? errno : 0 };
    if (result >= 0 && result < n) {
        if (model_cases[result].kind == H_GET && items[result] != UNTOUCHED)
            got.value = items[result];
        got.value_error = cases[result].error;
    }
    arrived_with(here, false, got, A_CASE);
    for (int i = 0; i < n; i++)
        if (i != result && model_cases[i].kind == H_GET && items[i] != UNTOUCHED)
            play_failed("green_select() has touched the item of a case that was not done");
}

static void do_hub_wait(struct here *here, int64_t timeout)
{
    begin_operation(here);
    log_line(here, "green_hub_wait(%s)", time_name(timeout));
    h_hub_wait(&m, timeout);
    arrived(here, green_hub_wait(timeout));
}

static void do_hub_run(struct here *here, int64_t timeout)
{
    begin_operation(here);
    log_line(here, "green_hub_run(%s)", time_name(timeout));
    h_hub_run(&m, timeout);
    arrived(here, green_hub_run(timeout));
}

/* ---- Generators -------------------------------------------------------------------- */

static void *gen_body(void *arg);

/* Who is entered by its generator, with what that yields or returns. */
static void do_gen(struct here *here)
{
    if (here->level + 1 == H_LEVELS)
        return;
    begin_operation(here);
    int tag = ++serial;
    if (here->gen == NULL) {
        play_log_head("static void *gen_%d(void *arg)", tag);
        play_log_line(here->function, "gen = green_new(gen_%d, NULL)", tag);
        here->gen = green_new(gen_body, NULL);
        if (here->gen == NULL)
            play_failed("green_new() fails");
        entered = here;
    }
    log_line(here, "value = green_switch(gen, V(%d))", tag);
    h_gen_enter(&m);
    struct h_outcome got = { .value = (long)(intptr_t)green_switch(here->gen, V(tag)) };
    arrived_with(here, false, got, A_SWITCH);
    if (!m.task[here->me].made[here->level + 1]) {
        play_log_line(here->function, "green_free(gen)");
        if (green_state(here->gen) != GREEN_DEAD || green_free(here->gen) != 0)
            play_failed("a generator that has returned is not DEAD");
        here->gen = NULL;
    }
}

static void do_gen_free(struct here *here)
{
    if (here->gen == NULL)
        return;
    begin_operation(here);
    log_line(here, "green_free(gen)");
    h_gen_free(&m);
    arrived(here, green_free(here->gen));
    here->gen = NULL;
}

/* False if it is to end. */
static bool do_yield(struct here *here)
{
    long value = ++serial;
    begin_operation(here);
    log_line(here, "green_yield(V(%ld))", value);
    h_gen_yield(&m, value);
    bool well = green_yield(V(value)) != GREEN_FAILED;
    arrived(here, well ? 0 : -1);
    return well;
}

/* What waits is the hub's (rule 4), and so is a task's green (rule 5). */
static void do_poke(struct here *here, int t, uint8_t b)
{
    const struct h_task *task = &m.task[t];
    green_t *g = task->level == 0 && handle(t) != NULL ? green_task_green(handle(t)) : NULL;
    if (t == here->me || t == 0 || g == NULL)
        return;
    begin_operation(here);
    bool refused = false;
    switch (b % 5) {
    case 0: refused = green_switch(g, NULL) == GREEN_FAILED; break;
    case 1: refused = green_throw(g, EDOM) == GREEN_FAILED; break;
    case 2: refused = green_free(g) == -1; break;
    case 3: refused = green_abandon(g) == -1; break;
    case 4: refused = green_set_parent(g, green_current()) == -1; break;
    }
    if (!refused || errno != EBUSY)
        play_failed("a task's green is not refused with EBUSY");
    h_looks(&m);
    arrived(here, 0);
}

/* Whether the hub has ended; then the program has, too. */
static bool do_hub_end(struct here *here, int64_t timeout)
{
    begin_operation(here);
    log_line(here, "green_hub_end(%s)", time_name(timeout));
    h_hub_end(&m, timeout);
    int result = green_hub_end(timeout);
    if (result != 0 || m.next.task != 0 || m.next.outcome.result != 0) {
        arrived(here, result);
        return false;
    }
    play_log_result(here->line, "0");
    compare_told(here);
    at = length;
    return ended = true;
}

/* ---- The functions of tasks -------------------------------------------------------- */

/* What was begun is ended.  Whether there was something. */
static bool unlock_one(struct here *here)
{
    for (int x = 0; x < H_MUTEXES; x++) {
        if (m.mutex[x].owner == here->id) {
            do_mutex(here, OP_UNLOCK, x, 0);
            return true;
        }
    }
    return false;
}

/* Plays one operation.  False if it is to return. */
static bool play_one(struct here *here, const struct op *op)
{
    int64_t timeout = time_of(op->b);
    int group = pick_group(op->a), queue = pick_queue(op->a), t = pick_task(op->a);
    switch (op->kind % OP_KINDS) {
    case OP_SPAWN: do_spawn(here, op->a); break;
    case OP_RETURN: return here->me == 0 && here->level == 0;
    case OP_HUB_END:
        if (here->me != 0 || here->level != 0)
            break;
        while (here->gen != NULL)
            do_gen_free(here);
        return !do_hub_end(here, timeout);
    case OP_GEN: do_gen(here); break;
    case OP_GEN_FREE: do_gen_free(here); break;
    case OP_YIELD: return here->level == 0 || do_yield(here);
    case OP_POKE: do_poke(here, t, op->b); break;
    case OP_JOIN: do_join(here, t, limited(timeout)); break;
    case OP_CANCEL:
        if (t != 0 || op->b % 4 == 0) /* it is for ever: main less often */
            do_cancel(here, t);
        break;
    case OP_CHECK:
        begin_operation(here);
        log_line(here, "green_task_check()");
        h_check(&m);
        arrived(here, green_task_check());
        break;
    case OP_DETACH: {
        begin_operation(here);
        log_line(here, "green_task_detach(t[%d])", t);
        green_task_t *task = handle(t);
        h_detach(&m, t);
        arrived(here, green_task_detach(task));
        break;
    }
    case OP_FREE: do_free(here, t); break;
    case OP_GIVE_TURN: timeout = op->b % 8 == 1 ? -3 : 0; /* fall through */
    case OP_SLEEP:
        timeout = limited(timeout);
        begin_operation(here);
        if (timeout <= 0 && here->me != 0 && here->level == 0 && op->a % 2 == 0) { /* rule 5 */
            log_line(here, "green_yield(V(1))");
            h_sleep(&m, timeout);
            arrived(here, green_yield(V(1)) == GREEN_FAILED ? -1 : 0);
        } else {
            log_line(here, "green_sleep(%s)", time_name(timeout));
            h_sleep(&m, timeout);
            arrived(here, green_sleep(timeout));
        }
        break;
    case OP_SCOPE: do_scope(here, op->a, op->b); break;
    case OP_SCOPE_END: do_scope_end(here, op->a % H_SCOPES); break;
    case OP_GROUP_NEW: do_group_new(here, op->a, op->b); break;
    case OP_GROUP_SPAWN: if (group >= 0) do_group_spawn(here, group, op->b); break;
    case OP_GROUP_WAIT: if (group >= 0) do_group_wait(here, group, limited(timeout)); break;
    case OP_GROUP_CANCEL: if (group >= 0) do_group_cancel(here, group); break;
    case OP_GROUP_FREE: if (group >= 0) do_group_free(here, group); break;
    case OP_QUEUE_NEW: do_queue_new(here, op->a); break;
    case OP_PUT: if (queue >= 0) do_put(here, queue, timeout); break;
    case OP_GET: if (queue >= 0) do_get(here, queue, timeout); break;
    case OP_CLOSE: if (queue >= 0) do_close(here, queue); break;
    case OP_QUEUE_FREE: if (queue >= 0) do_queue_free(here, queue); break;
    case OP_SET: case OP_CLEAR: case OP_EVENT_WAIT:
        do_event(here, op->kind % OP_KINDS, op->a % H_EVENTS, timeout);
        break;
    case OP_ACQUIRE: case OP_RELEASE:
        do_semaphore(here, op->kind % OP_KINDS, op->a % H_SEMAPHORES, timeout);
        break;
    case OP_LOCK: case OP_UNLOCK:
        do_mutex(here, op->kind % OP_KINDS, op->a % H_MUTEXES, limited(timeout));
        break;
    case OP_COND_WAIT: do_cond_wait(here, op->a % H_CONDS, op->c, timeout); break;
    case OP_SIGNAL: do_signal(here, op->a % H_CONDS, op->b); break;
    case OP_SELECT: do_select(here, op); break;
    case OP_HUB_WAIT: do_hub_wait(here, limited(timeout)); break;
    case OP_HUB_RUN:
        if (here->me == 0 && here->level == 0)
            do_hub_run(here, limited(timeout));
        break;
    case OP_AGAIN: /* rule 6: calls that need not wait */
        for (int i = op->b % 40; i > 0; i--) {
            do_semaphore(here, OP_RELEASE, 1, 0);
            do_semaphore(here, OP_ACQUIRE, 1, GREEN_FOREVER);
        }
        break;
    }
    return true;
}

/* The next operation of the program, while there is one. */
static bool play_next(const struct op **op)
{
    if (at == length)
        return false;
    *op = &program[at++];
    return true;
}

static void *gen_body(void *arg)
{
    struct here here = { .me = entered->me, .level = entered->level + 1, .id = entered->id,
                         .function = (int)(intptr_t)arg };
    const struct op *op = NULL;
    started(&here);
    while (play_next(&op) && play_one(&here, op)) {
    }
    while (here.gen != NULL)
        do_gen_free(&here);
    long value = ++serial;
    begin_operation(&here);
    log_line(&here, "return V(%ld)", value);
    h_gen_return(&m, value);
    return V(value);
}

static void *body(void *arg)
{
    struct here here = { .me = m.next.task, .id = m.task[m.next.task].id,
                         .function = (int)(intptr_t)arg };
    const struct op *op = NULL;
    if (m.task[here.me].tag != here.function)
        play_failed("another task starts than should");
    if (real[here.me].id != here.id) { /* a group's */
        real[here.me].task = green_task_current();
        real[here.me].id = here.id;
    }
    play_log_line(here.function, "t[%d] = green_task_current()", here.me);
    started(&here);
    while (play_next(&op) && play_one(&here, op)) {
    }
    while (here.gen != NULL)
        do_gen_free(&here);
    while (unlock_one(&here)) {
    }
    return do_return(&here, op != NULL ? op->b : 2);
}

/* ---- The main task ----------------------------------------------------------------- */

/* Lets go who waits under a shield. */
static void let_go(struct here *here)
{
    for (int e = 0; e < H_EVENTS; e++)
        do_event(here, OP_SET, e, 0);
    for (int s = 0; s < H_SEMAPHORES; s++)
        while (h_is_waited_for(&m, H_SEMAPHORE, s))
            do_semaphore(here, OP_RELEASE, s, 0);
    for (int q = 0; q < H_QUEUES; q++)
        if (m.queue[q].made)
            do_close(here, q);
    for (int c = 0; c < H_CONDS; c++)
        do_signal(here, c, 3);
    for (int g = 0; g < H_GROUPS; g++)
        if (m.group[g].made)
            do_group_cancel(here, g);
    for (int t = 1; t < H_TASKS; t++)
        if (handle(t) != NULL)
            do_cancel(here, t);
}

static void free_all(struct here *here)
{
    for (int t = 1; t < H_TASKS; t++) {
        if (handle(t) != NULL && !m.task[t].detached && m.task[t].group == H_NOBODY &&
            m.task[t].freed_by == H_NOBODY) {
            do_free(here, t);
            if (m.next.outcome.result != 0)
                let_go(here);
            t = 0; /* others may have come */
        }
        if (++to_clean_up > 1000)
            play_failed("there is no end to cleaning up");
    }
    for (int g = 0; g < H_GROUPS; g++) {
        if (m.group[g].made && m.group[g].freed_by == H_NOBODY) {
            do_group_free(here, g);
            if (m.next.outcome.result != 0)
                let_go(here);
            g = -1;
        }
        if (++to_clean_up > 1000)
            play_failed("there is no end to cleaning up");
    }
}

static void end_hub(struct here *here)
{
    while (!do_hub_end(here, GREEN_FOREVER)) {
        let_go(here);
        if (++to_clean_up > 1000)
            play_failed("there is no end to cleaning up");
    }
}

unsigned long play(const struct op *ops, size_t count)
{
    green_hub_options_t options = { .failed = failed };
    struct here here = { .me = 0, .id = 1, .function = 0 };
    program = ops;
    length = count;
    at = 0;
    made = to_clean_up = 0;
    ended = false;
    serial = 0;
    memset(real, 0, sizeof real);
    memset(events, 0, sizeof events);
    memset(mutexes, 0, sizeof mutexes);
    memset(conds, 0, sizeof conds);
    mutexes[H_MUTEXES - 1] = (green_mutex_t)GREEN_MUTEX_INIT_RECURSIVE;
    for (int s = 0; s < H_SEMAPHORES; s++)
        semaphores[s] = (green_semaphore_t)GREEN_SEMAPHORE_INIT(units[s], most[s]);
    h_begin(&m, units, most);
    timeless = count != 0 && ops[0].c % 4 == 0;
    if (!timeless)
        options.flags = GREEN_HUB_VIRTUAL_TIME;
    play_log_line(0, "green_hub_init(&(green_hub_options_t){ .flags = %s, .failed = failed })",
                  timeless ? "0" : "GREEN_HUB_VIRTUAL_TIME");
    play_log_line(0, "begun = green_now()");
    play_log_line(0, "t[0] = green_task_current()");
    if (green_hub_init(&options) != 0)
        play_failed("green_hub_init() fails");
    begun = green_now();
    real[0].task = green_task_current();
    real[0].id = 1;

    const struct op *op;
    while (play_next(&op) && play_one(&here, op)) {
    }
    if (!ended) {
        while (here.gen != NULL)
            do_gen_free(&here);
        while (unlock_one(&here)) {
        }
        for (int s = 0; s < H_SCOPES; s++)
            do_scope_end(&here, s);
        if (count % 2 != 0)
            free_all(&here);
        end_hub(&here);
    }
    /* The handles are still owed. */
    for (int t = 1; t < H_TASKS; t++)
        if (m.task[t].state == H_ENDED && handle(t) != NULL && green_task_free(handle(t)) != 0)
            play_failed("green_task_free() fails after green_hub_end()");
    for (int g = 0; g < H_GROUPS; g++)
        if (m.group[g].made && green_group_free(groups[g]) != 0)
            play_failed("green_group_free() fails after green_hub_end()");
    for (int q = 0; q < H_QUEUES; q++)
        if (m.queue[q].made && green_queue_free(queues[q]) != 0)
            play_failed("green_queue_free() fails after green_hub_end()");
    (void)green_hub_end(GREEN_NOWAIT);
    return made;
}

/* ---- The log, printed -------------------------------------------------------------- */

void play_print(const struct play_log *log, const char *title)
{
    printf("/* %s */\n%s\n", title, play_prelude);
    printf("#include <green_hub.h>\n\n"
           "static green_task_t *t[%d];\nstatic green_group_t *g[%d];\n"
           "static green_queue_t *q[%d];\n"
           "static green_event_t events[%d];\n"
           "static green_semaphore_t semaphores[] = { GREEN_SEMAPHORE_INIT(%d, %d), "
           "GREEN_SEMAPHORE_INIT(%d, %d) };\n"
           "static green_mutex_t mutexes[] = { GREEN_MUTEX_INIT, GREEN_MUTEX_INIT, "
           "GREEN_MUTEX_INIT_RECURSIVE };\n"
           "static green_cond_t conds[%d];\n\n"
           "static int64_t begun;\nstatic int tells;\n"
           "static struct {\n    green_task_t *task;\n    int error;\n} told[%d];\n\n"
           "static inline void failed(green_task_t *task, int error, void *unused)\n{\n"
           "    (void)unused;\n    told[tells].task = task;\n"
           "    told[tells++].error = error;\n}\n\n"
           "static inline green_hub_stats_t stats(void)\n{\n    green_hub_stats_t all;\n"
           "    green_hub_stats(&all, sizeof all);\n    return all;\n}\n\n",
           H_TASKS, H_GROUPS, H_QUEUES, H_EVENTS, units[0], most[0], units[1], most[1], H_CONDS,
           H_TOLD);
    for (unsigned i = 0; i < log->functions; i++)
        printf("%s;\n", log->function[i]);
    static const char locals[] = "    green_scope_t scopes[4];\n    green_case_t *cases;\n"
                                 "    green_t *gen;\n"
                                 "    void *value;\n    int item;\n"
                                 "    (void)scopes, (void)cases, (void)gen, (void)value;\n"
                                 "    (void)item;\n";
    for (unsigned i = 0; i < log->functions; i++) {
        printf("\n%s\n{\n%s    (void)arg;\n", log->function[i], locals);
        play_print_body(log, atoi(strchr(log->function[i], '_') + 1));
        printf("}\n");
    }
    printf("\nint main(void)\n{\n%s", locals);
    printf("    (void)g, (void)q, (void)events, (void)semaphores, (void)mutexes, (void)conds;\n"
           "    (void)begun, (void)tells, (void)told;\n");
    play_print_body(log, 0);
    printf("}\n");
}
