/* SPDX-License-Identifier: MIT */
/*
 * Every public function with every kind of bad argument, in every place from
 * which it may be called: each case is refused with its errno and changes
 * nothing.
 *
 * A case is a row of a table, a column of it and a place.  A place is a child
 * process with greens of all kinds, which goes through the tables there and
 * prints how many cases it has had.
 */
#define _GNU_SOURCE
#include <limits.h>
#include <sys/mman.h>

#include "testing.h"

enum { AT_LEAST = 10000 };

/* ---- The greens that there are --------------------------------------------------- */

enum operand {
    NIL,       /* NULL */
    MAIN,
    FRESH,     /* NEW ... */
    CHILD,     /* ... and a child of that */
    WAITS,     /* SUSPENDED */
    FINISHED,  /* DEAD */
    SELF,      /* the current green; none where that is main */
    FREED,     /* SUSPENDED, and in a green_free() ... */
    FREES,     /* ... that this one waits in */
    F_MAIN,    /* of another thread */
    F_FRESH,
    F_PARENT,  /* NEW, and has a child */
    F_WAITS,
    F_FREED,   /* as FREED and FREES */
    F_FREES,
    F_DEAD,
    O_FRESH,   /* of a thread that has ended */
    O_DEAD,
    OPERANDS
};

static const char *const operand_names[OPERANDS] = {
    "NULL", "main", "fresh", "child", "waits", "finished", "self", "freed", "frees", "f_main",
    "f_fresh", "f_parent", "f_waits", "f_freed", "f_frees", "f_dead", "o_fresh", "o_dead",
};

static green_t *operands[OPERANDS];
static green_t *foreign_child;
static struct helper helper;
static green_key_t good, deleted; /* keys; there is none of the second number */
static int ran;                   /* functions that no refused call may run */
static char marks[OPERANDS];      /* for data */

static void *must_not_run(void *value)
{
    ran++;
    return value;
}

static void never_deferred(void *arg)
{
    (void)arg;
    ran++;
}

/* Waits in it until it is freed itself. */
static void *free_it(void *g)
{
    must(green_free(g) == -1 && errno == ECANCELED);
    return g;
}

static void *switch_to_main_when_freed(void *value)
{
    value = green_yield(value);
    must(value == GREEN_FAILED && errno == ECANCELED);
    green_switch(green_main(), NULL);
    return NULL;
}

static green_t *make(enum operand which, green_fn *run, green_t *parent)
{
    green_options_t options = { .name = operand_names[which], .data = &marks[which] };
    operands[which] = green_new_with(run, parent, &options);
    must(operands[which] != NULL);
    return operands[which];
}

static void make_freed(enum operand freed, enum operand frees)
{
    must(green_switch(make(freed, switch_to_main_when_freed, NULL), V(1)) == V(1));
    must(green_switch(make(frees, free_it, NULL), operands[freed]) == NULL);
    must(green_state(operands[freed]) == GREEN_SUSPENDED);
    must(green_parent(operands[freed]) == operands[frees]);
}

static void make_foreign(void *unused)
{
    (void)unused;
    operands[F_MAIN] = green_main();
    make(F_FRESH, must_not_run, NULL);
    foreign_child = green_new(must_not_run, make(F_PARENT, must_not_run, NULL));
    must(green_switch(make(F_WAITS, echo, NULL), V(1)) == V(1));
    must(green_switch(make(F_DEAD, give_back, NULL), V(1)) == V(1));
    make_freed(F_FREED, F_FREES);
}

static void *make_orphans(void *unused)
{
    make(O_FRESH, must_not_run, NULL);
    must(green_switch(make(O_DEAD, give_back, NULL), V(1)) == V(1));
    return unused;
}

static void make_own(void)
{
    green_key_t key;
    operands[MAIN] = green_main();
    make(CHILD, must_not_run, make(FRESH, must_not_run, NULL));
    must(green_switch(make(WAITS, echo, NULL), V(1)) == V(1));
    must(green_switch(make(FINISHED, give_back, NULL), V(1)) == V(1));
    must(green_key_create(&good, NULL) == 0);
    must(green_key_create(&deleted, NULL) == 0 && green_key_create(&key, NULL) == 0);
    must(green_key_delete(deleted) == 0 && green_key_delete(key) == 0);
    must(green_setspecific(good, "main's") == 0);
}


/* ---- What must not change ----------------------------------------------------------- */

struct green_seen {
    int state;
    const green_t *parent;
    const char *name;
    const void *data, *low;
    size_t size, used;
};

/* Each member is of the widest alignment or int in pairs: nothing is between them. */
struct snapshot {
    struct green_seen seen[OPERANDS];
    const green_t *current, *main;
    green_trace_fn *hook;
    void *hook_data;
    const void *local;
    size_t greens, threads, stacks_live, living;
    int ran, unused;
};

static int count(green_t *g, void *n)
{
    (void)g;
    ++*(size_t *)n;
    return 0;
}

static void look(struct snapshot *now)
{
    green_stats_t stats;
    memset(now, 0, sizeof *now);
    now->current = green_current();
    now->main = green_main();
    now->hook = green_get_trace(&now->hook_data);
    now->local = green_getspecific(good);
    now->ran = ran;
    must(green_stats(&stats, sizeof stats) == 0);
    now->greens = stats.greens;
    now->threads = stats.threads;
    now->stacks_live = stats.stacks_live;
    green_each(count, &now->living);
    for (int i = 0; i < OPERANDS; i++) {
        struct green_seen *seen = &now->seen[i];
        void *low = NULL;
        if (operands[i] == NULL)
            continue;
        seen->state = (int)green_state(operands[i]);
        seen->parent = green_parent(operands[i]);
        seen->name = green_name(operands[i]);
        seen->data = green_data(operands[i]);
        green_stack(operands[i], &low, &seen->size);
        seen->low = low;
        if (operands[i] != now->current && seen->state == GREEN_SUSPENDED)
            seen->used = green_stack_used(operands[i]);
    }
}

/* The foreign thread's view of its own. */
static void look_there(void *snapshot)
{
    look(snapshot);
}

/* ---- The calls -------------------------------------------------------------------------- */

#define CALL(name, expr)                \
    static intptr_t name(green_t *g)    \
    {                                   \
        (void)g;                        \
        return (intptr_t)(expr);        \
    }

static void *low_of(const green_t *g)
{
    void *low = &low;
    green_stack(g, &low, NULL);
    return low;
}

static size_t size_of(const green_t *g)
{
    size_t size = 1;
    green_stack(g, NULL, &size);
    return size;
}

static _Alignas(16) char lent[65536];

#define WITH(...) green_new_with(must_not_run, g, &(green_options_t){ __VA_ARGS__ })
#define PAGE ((size_t)sysconf(_SC_PAGESIZE))

CALL(switch_to, green_switch(g, V(1)))
CALL(switch_failed, green_switch(g, GREEN_FAILED))
CALL(throw_error, green_throw(g, E1))
CALL(throw_default, green_throw(g, 0))
CALL(throw_negative, green_throw(g, -1))
CALL(throw_int_min, green_throw(g, INT_MIN))
CALL(new_under, green_new(must_not_run, g))
CALL(new_none, green_new(NULL, g))
CALL(new_with_none, green_new_with(NULL, g, &(green_options_t){ .name = "none" }))
CALL(new_flag, WITH(.flags = 4))
CALL(new_flags, WITH(.flags = GREEN_DETACHED | 0x80000000u))
CALL(new_reserved_0, WITH(.reserved = { V(1) }))
CALL(new_reserved_3, WITH(.reserved = { NULL, NULL, NULL, V(1) }))
CALL(new_size_max, WITH(.stack_size = SIZE_MAX))
CALL(new_size_max_page, WITH(.stack_size = SIZE_MAX - 4095))
CALL(new_size_max_guard, WITH(.stack_size = SIZE_MAX - 4095, .flags = GREEN_NO_GUARD))
CALL(new_size_half, WITH(.stack_size = SIZE_MAX / 2))
CALL(new_lent_0, WITH(.stack = lent))
CALL(new_lent_1, WITH(.stack = lent, .stack_size = 1))
CALL(new_lent_page, WITH(.stack = lent, .stack_size = PAGE - 1))
CALL(new_lent_short, WITH(.stack = lent, .stack_size = 16383))
CALL(new_lent_misaligned, WITH(.stack = lent + 1, .stack_size = 16384))
CALL(new_lent_misaligned_15, WITH(.stack = lent + 15, .stack_size = 16384 + 15))
CALL(new_lent_max, WITH(.stack = lent, .stack_size = SIZE_MAX))
CALL(new_lent_max_page, WITH(.stack = lent, .stack_size = SIZE_MAX - 4095))
CALL(new_lent_wraps, WITH(.stack = V(-8192), .stack_size = 65536))
CALL(new_lent_last, WITH(.stack = V(-1), .stack_size = 65536))
CALL(free_green, green_free(g))
CALL(abandon, green_abandon(g))
CALL(put_under_main, green_set_parent(g, operands[MAIN]))
CALL(put_under_null, green_set_parent(g, NULL))
CALL(put_under_foreign, green_set_parent(g, operands[F_MAIN]))
CALL(put_under_orphan, green_set_parent(g, operands[O_DEAD]))
CALL(put_under_itself, green_set_parent(g, g))
CALL(put_under_child, green_set_parent(g, operands[CHILD]))
CALL(put_fresh_under, green_set_parent(operands[FRESH], g))
CALL(set_data, green_set_data(g, &ran))
CALL(data, green_data(g))
CALL(name, green_name(g))
CALL(parent, green_parent(g))
CALL(stack_low, low_of(g))
CALL(stack_size, size_of(g))
CALL(stack_used, green_stack_used(g))
CALL(state, green_state(g))
CALL(where, green_backtrace(g, (void *[4]){ NULL }, 4))
CALL(where_negative, green_backtrace(g, (void *[4]){ NULL }, -1))
CALL(where_nowhere, green_backtrace(g, NULL, 4))

/*
 * What comes of it in each column, in the order of enum operand:
 *     E EINVAL   B EBUSY   P EPERM   L ELOOP   N ENOENT   F EBADF   0 it is 0 and does nothing
 *     . it is no bad input: not called
 */
static const struct row {
    const char *name;
    intptr_t (*call)(green_t *g);
    intptr_t refusal;
    const char *results;
    int looks; /* works in a hook */
} rows[] = {
    /*                                                         F_MAIN v      v O_FRESH */
    { "green_switch(g, v)", switch_to, -1,                  "E........PPPPPPPPP", 0 },
    { "green_switch(g, GREEN_FAILED)", switch_failed, -1,   "EEEEEEEEEEEEEEEEEE", 0 },
    { "green_throw(g, EDOM)", throw_error, -1,              "E........PPPPPPPPP", 0 },
    { "green_throw(g, 0)", throw_default, -1,               "E........PPPPPPPPP", 0 },
    { "green_throw(g, -1)", throw_negative, -1,             "EEEEEEEEEEEEEEEEEE", 0 },
    { "green_throw(g, INT_MIN)", throw_int_min, -1,         "EEEEEEEEEEEEEEEEEE", 0 },
    { "green_new(run, g)", new_under, 0,                    ".........PPPPPPPPP", 0 },
    { "green_new(NULL, g)", new_none, 0,                    "EEEEEEEEEEEEEEEEEE", 0 },
    { "green_new_with(NULL, g, o)", new_with_none, 0,       "EEEEEEEEEEEEEEEEEE", 0 },
    { "flags 4", new_flag, 0,                               "EEEEEEEEEEEEEEEEEE", 0 },
    { "flags 0x80000001", new_flags, 0,                     "EEEEEEEEEEEEEEEEEE", 0 },
    { "reserved[0]", new_reserved_0, 0,                     "EEEEEEEEEEEEEEEEEE", 0 },
    { "reserved[3]", new_reserved_3, 0,                     "EEEEEEEEEEEEEEEEEE", 0 },
    { "stack_size SIZE_MAX", new_size_max, 0,               "EEEEEEEEEEEEEEEEEE", 0 },
    { "stack_size SIZE_MAX - 4095", new_size_max_page, 0,   "EEEEEEEEEEEEEEEEEE", 0 },
    { "the same without guard", new_size_max_guard, 0,      "EEEEEEEEEEEEEEEEEE", 0 },
    { "stack_size SIZE_MAX / 2", new_size_half, 0,          "EEEEEEEEEEEEEEEEEE", 0 },
    { "lent, 0", new_lent_0, 0,                             "EEEEEEEEEEEEEEEEEE", 0 },
    { "lent, 1", new_lent_1, 0,                             "EEEEEEEEEEEEEEEEEE", 0 },
    { "lent, page - 1", new_lent_page, 0,                   "EEEEEEEEEEEEEEEEEE", 0 },
    { "lent, 16383", new_lent_short, 0,                     "EEEEEEEEEEEEEEEEEE", 0 },
    { "lent, 16384 at 1", new_lent_misaligned, 0,           "EEEEEEEEEEEEEEEEEE", 0 },
    { "lent, 16399 at 15", new_lent_misaligned_15, 0,       "..................", 0 },
    { "lent, SIZE_MAX", new_lent_max, 0,                    "EEEEEEEEEEEEEEEEEE", 0 },
    { "lent, SIZE_MAX - 4095", new_lent_max_page, 0,        "EEEEEEEEEEEEEEEEEE", 0 },
    { "lent, beyond the last address", new_lent_wraps, 0,   "EEEEEEEEEEEEEEEEEE", 0 },
    { "lent, at the last address", new_lent_last, 0,        "EEEEEEEEEEEEEEEEEE", 0 },
    { "green_free(g)", free_green, -1,                      "0E....BB.EPPPPPP..", 0 },
    { "green_abandon(g)", abandon, -1,                      "EE....BB.E...B....", 0 },
    { "green_set_parent(g, main)", put_under_main, -1,      "EE.......E.BPPPP.P", 0 },
    { "green_set_parent(g, NULL)", put_under_null, -1,      "EEEEEEEEEEEEEEEEEE", 0 },
    { "green_set_parent(g, f_main)", put_under_foreign, -1, "EEPPPPPPPEPPPPPPPP", 0 },
    { "green_set_parent(g, o_dead)", put_under_orphan, -1,  "EEPPPPPPPEPPPPPPPP", 0 },
    { "green_set_parent(g, g)", put_under_itself, -1,       "EELLLLLLLEPPPPPPPP", 0 },
    { "green_set_parent(g, child)", put_under_child, -1,    "EELL.....E.BPPPP.P", 0 },
    { "green_set_parent(fresh, g)", put_fresh_under, -1,    "E.LL.....PPPPPPPPP", 0 },
    { "green_set_data(g, d)", set_data, -1,                 "E........PPPPPPPPP", 0 },
    { "green_data(g)", data, 0,                             "E........PPPPPPPPP", 1 },
    { "green_name(g)", name, 0,                             "E........PPPPPPPPP", 1 },
    { "green_parent(g)", parent, 0,                         "E........PPPPPPPPP", 1 },
    { "green_stack(g)'s low", stack_low, 0,                 "E........PPPPPPPPP", 1 },
    { "green_stack(g)'s size", stack_size, 0,               "E........PPPPPPPPP", 1 },
    { "green_stack_used(g)", stack_used, 0,                 "E........PPPPPPPPP", 1 },
    { "green_backtrace(g, pcs, 4)", where, -1,              "E.EE.E...PPPPPPPPP", 1 },
    { "green_backtrace(g, pcs, -1)", where_negative, -1,    "EEEEEEEEEEEEEEEEEE", 1 },
    { "green_backtrace(g, NULL, 4)", where_nowhere, -1,     "EEEEEEEEEEEEEEEEEE", 1 },
    { "green_state(g)", state, GREEN_DEAD,                  "E.................", 1 },
};

static green_key_t unchanged = 12345;

CALL(yield, green_yield(V(1)))
CALL(yield_failed, green_yield(GREEN_FAILED))
CALL(defer_none, green_defer(NULL, V(1)))
CALL(defer, green_defer(never_deferred, NULL))
CALL(undefer, green_undefer(1))
CALL(undefer_drop, green_undefer(0))
CALL(key_create_null, green_key_create(NULL, never_deferred))
CALL(key_create, green_key_create(&unchanged, never_deferred))
CALL(key_delete_none, green_key_delete(deleted))
CALL(key_delete_beyond, green_key_delete(256))
CALL(key_delete_max, green_key_delete(UINT_MAX))
CALL(key_delete, green_key_delete(good))
CALL(get_none, green_getspecific(deleted))
CALL(get_beyond, green_getspecific(256))
CALL(get_max, green_getspecific(UINT_MAX))
CALL(set_none, green_setspecific(deleted, "none"))
CALL(set_beyond, green_setspecific(256, NULL))
CALL(set_max, green_setspecific(UINT_MAX, "max"))
CALL(set, green_setspecific(good, "another"))
CALL(each_none, green_each(NULL, V(1)))
CALL(stats_none, green_stats(NULL, sizeof(green_stats_t)))
CALL(dump_nowhere, green_dump(-1))
CALL(trim, green_trim(0))
CALL(thread_end, green_thread_end())
CALL(report_overflow, green_report_overflow())

/* Of calls that are given no green: what comes of them in each place. */
enum where { ON_MAIN, ON_GREEN, HOOK_ON_MAIN, HOOK_ON_GREEN, WHERES };

static const struct plain_row {
    const char *name;
    intptr_t (*call)(green_t *g);
    intptr_t refusal;
    const char *results;
} plain_rows[] = {
    /*                                                    main, green, hook of each */
    { "green_yield(v)", yield, -1,                        "E.EB" },
    { "green_yield(GREEN_FAILED)", yield_failed, -1,      "EEEE" },
    { "green_defer(NULL, v)", defer_none, -1,             "EEEE" },
    { "green_defer(fn, v)", defer, -1,                    "..BB" },
    { "green_undefer(1)", undefer, -1,                    "NNBB" },
    { "green_undefer(0)", undefer_drop, -1,               "NNBB" },
    { "green_key_create(NULL, fn)", key_create_null, -1,  "EEEE" },
    { "green_key_create(&key, fn)", key_create, -1,       "..BB" },
    { "green_key_delete(deleted)", key_delete_none, -1,   "EEEE" },
    { "green_key_delete(256)", key_delete_beyond, -1,     "EEEE" },
    { "green_key_delete(UINT_MAX)", key_delete_max, -1,   "EEEE" },
    { "green_key_delete(key)", key_delete, -1,            "..BB" },
    { "green_getspecific(deleted)", get_none, 0,          "EEEE" },
    { "green_getspecific(256)", get_beyond, 0,            "EEEE" },
    { "green_getspecific(UINT_MAX)", get_max, 0,          "EEEE" },
    { "green_setspecific(deleted, v)", set_none, -1,      "EEEE" },
    { "green_setspecific(256, NULL)", set_beyond, -1,     "EEEE" },
    { "green_setspecific(UINT_MAX, v)", set_max, -1,      "EEEE" },
    { "green_setspecific(key, v)", set, -1,               "..BB" },
    { "green_each(NULL, v)", each_none, -1,               "EEEE" },
    { "green_stats(NULL, n)", stats_none, -1,             "EEEE" },
    { "green_dump(-1)", dump_nowhere, -1,                 "FFFF" },
    { "green_trim(0)", trim, 0,                           "..BB" },
    { "green_thread_end()", thread_end, -1,               ".BBB" },
    { "green_report_overflow()", report_overflow, -1,     "..BB" },
};

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

static int errno_of(char result)
{
    switch (result) {
    case 'E': return EINVAL;
    case 'B': return EBUSY;
    case 'P': return EPERM;
    case 'L': return ELOOP;
    case 'N': return ENOENT;
    case 'F': return EBADF;
    }
    return 0;
}

/* ---- Going through them -------------------------------------------------------------------- */

static int cases;              /* in this process */
static const char *place_name;

static void try_case(const char *call_name, const char *operand, intptr_t (*call)(green_t *g),
                     green_t *g, intptr_t refusal, char result)
{
    struct snapshot before, after;
    look(&before);
    errno = 0;
    intptr_t got = call(g);
    int error = errno, expected = errno_of(result);
    look(&after);
    if (result == '0')
        refusal = error = 0;
    if (got != refusal || error != expected || memcmp(&before, &after, sizeof before) != 0) {
        fprintf(stderr, "%s, g %s, %s: gives %ld with errno %d, should give %ld with %d%s\n",
                call_name, operand, place_name, (long)got, error, (long)refusal, expected,
                memcmp(&before, &after, sizeof before) != 0 ? ", and something has changed" : "");
        abort();
    }
    cases++;
}

/* In a hook what would change anything is EBUSY, unless it is EINVAL already. */
static char in_place(char result, int looks, enum where where)
{
    if (where < HOOK_ON_MAIN || looks || result == 'E' || result == '0')
        return result;
    return 'B';
}

static void try_all(enum where where)
{
    static struct snapshot there, then;
    int has_helper = helper.thread != 0;
    green_t *self = green_current();
    operands[SELF] = self != operands[MAIN] ? self : NULL;
    if (has_helper)
        helper_do(&helper, look_there, &there);
    for (int r = 0; r < COUNT(rows); r++) {
        for (int i = 0; i < OPERANDS; i++) {
            char result = in_place(rows[r].results[i], rows[r].looks, where);
            if (result != '.' && (i == NIL || operands[i] != NULL))
                try_case(rows[r].name, operand_names[i], rows[r].call, operands[i],
                         rows[r].refusal, result);
        }
    }
    for (int r = 0; r < COUNT(plain_rows); r++)
        if (plain_rows[r].results[where] != '.')
            try_case(plain_rows[r].name, "none", plain_rows[r].call, NULL, plain_rows[r].refusal,
                     plain_rows[r].results[where]);
    must(unchanged == 12345);
    if (has_helper) {
        helper_do(&helper, look_there, &then);
        must(memcmp(&there, &then, sizeof there) == 0);
    }
    operands[SELF] = NULL;
}

static void make_all(void)
{
    helper_start(&helper);
    helper_do(&helper, make_foreign, NULL);
    in_thread(make_orphans, NULL);
    make_own();
    make_freed(FREED, FREES);
}

static void free_foreign(void *unused)
{
    (void)unused;
    must(green_free(foreign_child) == 0 && green_free(operands[F_FREES]) == 0);
    for (int i = F_FRESH; i <= F_DEAD; i++)
        if (i != F_FREES)
            must(green_free(operands[i]) == 0);
}

/* All of them still work, and nothing has run that should not. */
static void end_all(void)
{
    must(ran == 0);
    must(green_switch(operands[WAITS], V(2)) == V(2));
    must(green_free(operands[FREES]) == 0);
    for (int i = FRESH; i < OPERANDS; i++)
        if (operands[i] != NULL && i != FREES && (i < F_MAIN || i > F_DEAD))
            must(green_free(operands[i]) == 0);
    helper_do(&helper, free_foreign, NULL);
    helper_end(&helper);
    green_stats_t stats;
    must(green_stats(&stats, sizeof stats) == 0);
    must(stats.greens == 0 && stats.stacks_live == 0 && ran == 0);
    printf("%d", cases);
}

/* ---- The places ---------------------------------------------------------------------------- */

static int on_main(void *unused)
{
    (void)unused;
    make_all();
    try_all(ON_MAIN);
    end_all();
    return 0;
}

static void *try_on_green(void *value)
{
    try_all(ON_GREEN);
    return value;
}

static int in_a_green(void *unused)
{
    (void)unused;
    make_all();
    green_t *g = green_new(try_on_green, NULL);
    must(green_switch(g, V(7)) == V(7) && green_free(g) == 0);
    end_all();
    return 0;
}

static void try_deferred(void *arg)
{
    (void)arg;
    try_all(green_current() == green_main() ? ON_MAIN : ON_GREEN);
}

static void *defer_it(void *value)
{
    must(green_defer(try_deferred, NULL) == 0);
    return value;
}

static int in_a_deferred_function(void *unused)
{
    (void)unused;
    make_all();
    green_t *g = green_new(defer_it, NULL);
    must(green_switch(g, V(7)) == V(7) && green_free(g) == 0);
    end_all();
    return 0;
}

static void *undefer_it(void *value)
{
    must(green_defer(try_deferred, NULL) == 0 && green_undefer(1) == 0);
    return value;
}

static int in_green_undefer(void *unused)
{
    (void)unused;
    make_all();
    green_t *g = green_new(undefer_it, NULL);
    must(green_switch(g, V(7)) == V(7) && green_free(g) == 0);
    end_all();
    return 0;
}

static green_key_t destroying;

static void *set_it(void *value)
{
    must(green_setspecific(destroying, "destroy") == 0);
    return value;
}

static int in_a_key_destructor(void *unused)
{
    (void)unused;
    make_all();
    must(green_key_create(&destroying, try_deferred) == 0 && destroying != deleted + 1);
    deleted = destroying + 1;
    green_t *g = green_new(set_it, NULL);
    must(green_switch(g, V(7)) == V(7) && green_free(g) == 0);
    end_all();
    return 0;
}

static int busy_here; /* green_thread_end() inside itself */

static void try_in_thread_end(void *arg)
{
    if (green_state(operands[FREED]) == GREEN_DEAD) { /* the second time */
        must(green_free(operands[FREED]) == 0 && green_free(operands[FREES]) == 0);
        operands[FREED] = operands[FREES] = NULL;
    }
    try_deferred(arg);
    errno = 0;
    must(green_thread_end() == -1 && errno == EBUSY);
    busy_here++;
}

static int in_green_thread_end(void *unused)
{
    (void)unused;
    make_all();
    must(green_key_create(&destroying, try_in_thread_end) == 0);
    deleted = destroying + 1;
    must(green_setspecific(destroying, "destroy") == 0);
    must(green_defer(try_in_thread_end, NULL) == 0);
    errno = 0;
    must(green_thread_end() == 0 && busy_here == 2);
    must(green_state(operands[WAITS]) == GREEN_DEAD);
    cases += busy_here;
    must(green_free(operands[WAITS]) == 0);
    must(green_switch(make(WAITS, echo, NULL), V(1)) == V(1));
    end_all();
    return 0;
}

static int after_green_thread_end(void *unused)
{
    (void)unused;
    make_all();
    must(green_thread_end() == 0);
    for (int i = WAITS; i <= FREES; i++)
        if (operands[i] != NULL)
            must(green_free(operands[i]) == 0);
    must(green_setspecific(good, "main's") == 0);
    must(green_switch(make(WAITS, echo, NULL), V(1)) == V(1));
    must(green_switch(make(FINISHED, give_back, NULL), V(1)) == V(1));
    make_freed(FREED, FREES);
    try_all(ON_MAIN);
    end_all();
    return 0;
}

static void try_hook(green_trace_event_t event, green_t *from, green_t *to, void *data)
{
    (void)event, (void)from, (void)data;
    try_all(to == green_main() ? HOOK_ON_MAIN : HOOK_ON_GREEN);
}

static int in_a_trace_hook(void *unused)
{
    (void)unused;
    make_all();
    green_t *g = green_new(echo, NULL);
    must(green_set_trace(try_hook, NULL) == NULL);
    must(green_switch(g, V(1)) == V(1)); /* start, and back */
    must(green_switch(g, V(1)) == V(1));
    must(green_throw(g, E1) == GREEN_FAILED && errno == E1);
    must(green_switch(green_main(), V(1)) == V(1));
    must(green_set_trace(NULL, NULL) == try_hook);
    must(green_free(g) == 0);
    end_all();
    return 0;
}

static int try_each(green_t *g, void *unused)
{
    (void)g, (void)unused;
    try_all(green_current() == green_main() ? HOOK_ON_MAIN : HOOK_ON_GREEN);
    return 0;
}

static void *try_each_on_green(void *value)
{
    must(green_each(try_each, NULL) == 0);
    return value;
}

static int in_green_each(void *unused)
{
    (void)unused;
    make_all();
    must(green_each(try_each, NULL) == 0);
    green_t *g = green_new(try_each_on_green, NULL);
    must(green_switch(g, V(7)) == V(7) && green_free(g) == 0);
    end_all();
    return 0;
}

static int at_exit;

static void try_at_exit(void)
{
    try_all(ON_MAIN);
    end_all();
}

static int in_an_atexit_function(void *unused)
{
    (void)unused;
    make_all();
    must(atexit(try_at_exit) == 0);
    return 0;
}

static int in_a_destructor_function(void *unused)
{
    (void)unused;
    make_all();
    at_exit = 1;
    return 0;
}

__attribute__((destructor)) static void try_in_destructor(void)
{
    if (at_exit) {
        place_name = "in_a_destructor_function";
        try_at_exit();
        fflush(stdout);
    }
}

/* A thread that has not used the library: whatever it is given is foreign. */
static void try_foreign(char own)
{
    for (int r = 0; r < COUNT(rows); r++) {
        for (int i = NIL; i < OPERANDS; i++) {
            char result = rows[r].results[i];
            if (result == '.' && i == NIL && own == 'P')
                result = 'P'; /* green_new(run, NULL) past the end */
            if (i > NIL && operands[i] == NULL)
                continue;
            if (i > NIL && i < F_MAIN && result != 'E' && rows[r].refusal != GREEN_DEAD)
                result = 'P';
            /* Not ours to be put under, and neither is what these are to be put under. */
            if (rows[r].call == put_under_main || rows[r].call == put_under_child ||
                rows[r].call == put_fresh_under)
                result = result == 'E' ? 'E' : 'P';
            if ((rows[r].call == put_fresh_under && i == MAIN) ||
                (rows[r].call == where && i > NIL))
                result = 'P';
            if (rows[r].call == abandon && result == 'P')
                result = i == FREED ? 'B' : '.';
            if (result == '.')
                continue;
            errno = 0;
            intptr_t got = rows[r].call(operands[i]);
            if (result == '0' ? got != 0 : got != rows[r].refusal || errno != errno_of(result)) {
                fprintf(stderr, "%s, g %s, %s: gives %ld with errno %d, should give %ld with %d\n",
                        rows[r].name, operand_names[i], place_name, (long)got, errno,
                        (long)rows[r].refusal, errno_of(result));
                abort();
            }
            cases++;
        }
    }
}

static void *try_unused(void *unused)
{
    try_foreign('.');
    return unused;
}

static int in_a_thread_without_greens(void *unused)
{
    (void)unused;
    static struct snapshot before, after;
    make_all();
    look(&before);
    in_thread(try_unused, NULL);
    look(&after);
    must(memcmp(&before, &after, sizeof before) == 0);
    end_all();
    return 0;
}

static pthread_key_t late;
static int rounds;

#define past_the_end(expr, failure) \
    (errno = 0, must((expr) == (failure) && errno == EPERM), cases++)

static void try_past_the_end(void *value)
{
    if (++rounds < 4) { /* the library's own comes in the second */
        must(pthread_setspecific(late, value) == 0);
        return;
    }
    try_foreign('P');
    past_the_end(green_current(), NULL);
    past_the_end(green_main(), NULL);
    past_the_end(green_yield(V(1)), GREEN_FAILED);
    past_the_end(green_defer(never_deferred, NULL), -1);
    past_the_end(green_undefer(1), -1);
    past_the_end(green_key_create(&unchanged, NULL), -1);
    past_the_end(green_key_delete(good), -1);
    past_the_end(green_getspecific(good), NULL);
    past_the_end(green_setspecific(good, NULL), -1);
    past_the_end(green_set_trace(try_hook, NULL), NULL);
    past_the_end(green_get_trace(NULL), NULL);
    past_the_end(green_each(count, &(size_t){ 0 }), -1);
    past_the_end(green_report_overflow(), -1);
    past_the_end(green_dump(1), -1);
    past_the_end(green_trim(0), 0);
    past_the_end(green_thread_end(), -1);
    errno = 0;
    must(green_yield(GREEN_FAILED) == GREEN_FAILED && errno == EINVAL);
    must(unchanged == 12345);
    cases++;
}

static void *end_late(void *unused)
{
    must(green_current() == green_main());
    must(pthread_setspecific(late, "late") == 0);
    return unused;
}

static int past_a_threads_end(void *unused)
{
    (void)unused;
    static struct snapshot before, after;
    make_all();
    look(&before);
    must(pthread_key_create(&late, try_past_the_end) == 0);
    in_thread(end_late, NULL);
    look(&after);
    must(rounds == 4 && memcmp(&before, &after, sizeof before) == 0);
    end_all();
    return 0;
}

static int where_memory_ends(void *unused)
{
    (void)unused;
    green_key_t keys[1024];
    int n = 0;
    make_all();
    while (n < 1024 && green_key_create(&keys[n], NULL) == 0)
        n++;
    must(n >= 125 && n < 1024);
    errno = 0;
    must(green_key_create(&unchanged, NULL) == -1 && errno == EAGAIN && unchanged == 12345);
    struct snapshot before, after;
    look(&before);
    for (int shift = 47; shift < 58; shift++) {
        for (unsigned flags = 0; flags < 4; flags++) {
            green_options_t options = { .stack_size = (size_t)1 << shift, .flags = flags };
            errno = 0;
            must(green_new_with(must_not_run, NULL, &options) == NULL && errno == ENOMEM);
            cases++;
        }
    }
    look(&after);
    must(memcmp(&before, &after, sizeof before) == 0);
    end_all();
    return 0;
}

/* Stacks that are small, misaligned or overlap, and are none of the library's business. */
static int what_is_not_bad(void *unused)
{
    (void)unused;
    make_all();
    const green_options_t fine[] = {
        { .stack_size = 1 },
        { .stack_size = 4095 },
        { .stack_size = 4096 + 1, .flags = GREEN_NO_GUARD },
        { .stack = lent, .stack_size = 16384 },
        { .stack = lent + 1, .stack_size = 16384 + 31 },
        { .stack = lent + 15, .stack_size = 16384 + 16 },
        { .name = "a name of more than thirty-one bytes, which is cut" },
    };
    green_t *all[COUNT(fine)];
    for (int i = 0; i < COUNT(fine); i++) {
        must((all[i] = green_new_with(echo, NULL, &fine[i])) != NULL);
        cases++;
    }
    for (int i = 0; i < COUNT(fine); i++) { /* overlapping ones one after the other */
        must(green_switch(all[i], V(i)) == V(i));
        must(green_free(all[i]) == 0);
    }
    end_all();
    return 0;
}

/* ---- What was freed ------------------------------------------------------------------------ */

/*
 * AddressSanitizer knows, also where the library keeps a green for its
 * children.  Each row in a child, with a green that was freed.
 */
struct after_free {
    const struct row *row;
    int has_child;
};

static int use_after_free(void *arg)
{
    const struct after_free *how = arg;
    make_own();
    green_t *g = green_new(give_back, NULL);
    must(g != NULL && (!how->has_child || green_new(must_not_run, g) != NULL));
    green_switch(g, NULL);
    must(green_free(g) == 0);
    how->row->call(g);
    return 0;
}

TEST(what_was_freed_is_found_by_asan)
{
    if (!UNDER_ASAN) {
        print_message("skipped: without AddressSanitizer it is undefined\n");
        skip();
    }
    int found = 0;
    for (int r = 0; r < COUNT(rows); r++) {
        /* Those that look at the green: EINVAL comes before. */
        if (rows[r].results[MAIN] == 'E' && rows[r].results[FRESH] == 'E')
            continue;
        if (rows[r].call == put_under_foreign || rows[r].call == put_under_orphan)
            continue; /* these operands are not made here */
        for (int has_child = 0; has_child < 2; has_child++) {
            struct after_free how = { &rows[r], has_child };
            struct child child = run_child(use_after_free, &how);
            if (strstr(child.err, "AddressSanitizer") == NULL ||
                strstr(child.err, "use-after") == NULL)
                fail_msg("%s, %s children: no report:\n%s", rows[r].name,
                         has_child ? "with" : "without", child.err);
            found++;
        }
    }
    assert_true(found > 30);
    print_message("bad_input: %d uses of what was freed found\n", found);
}

/* ---- All places ---------------------------------------------------------------------------- */

#define PLACE(name) { #name, name }

static const struct place {
    const char *name;
    int (*fn)(void *);
} places[] = {
    PLACE(on_main),
    PLACE(in_a_green),
    PLACE(in_a_deferred_function),
    PLACE(in_green_undefer),
    PLACE(in_a_key_destructor),
    PLACE(in_green_thread_end),
    PLACE(after_green_thread_end),
    PLACE(in_a_trace_hook),
    PLACE(in_green_each),
    PLACE(in_an_atexit_function),
    PLACE(in_a_destructor_function),
    PLACE(in_a_thread_without_greens),
    PLACE(past_a_threads_end),
    PLACE(where_memory_ends),
    PLACE(what_is_not_bad),
};

TEST(bad_input_is_refused_and_changes_nothing)
{
    int all = 0;
    for (int i = 0; i < COUNT(places); i++) {
        place_name = places[i].name;
        if (UNDER_TSAN && places[i].fn == past_a_threads_end) {
            print_message("%s: skipped: ThreadSanitizer has ended the thread too\n", place_name);
            continue;
        }
        struct child child = run_child(places[i].fn, NULL);
        if (child.status != 0 || child.err[0] != '\0')
            fail_msg("%s: status %#x\n%s", place_name, (unsigned)child.status, child.err);
        int n = atoi(child.out);
        if (n < 5)
            fail_msg("%s: %d cases", place_name, n);
        print_message("%-28s %5d cases\n", place_name, n);
        all += n;
    }
    print_message("bad_input: %d cases in %d places\n", all, COUNT(places));
    assert_true(all >= AT_LEAST);
}

int main(void)
{
    return run_all_tests();
}
