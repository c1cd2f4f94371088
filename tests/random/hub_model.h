/* SPDX-License-Identifier: MIT */
#ifndef HUB_MODEL_H
#define HUB_MODEL_H
/*
 * What the hub should do, as a plain state machine: rules 2, 3 and 6 to 15 of
 * green_hub.h in the virtual time of rule 23, written from them.  It knows no
 * stacks, no handles and no library.
 *
 * Tasks, queues and the rest are numbers.  A function here is a call that the
 * task in `current` makes.  It says in `next` which task has control after it,
 * and with what: the result of this call, or of another one that has waited,
 * or the start of a task; and in `now` at what time.
 */
#include <stdbool.h>
#include <stdint.h>

enum {
    H_TASKS = 20, /* task 0 is the main task */
    H_LEVELS = 3, /* of greens: a task's own, a generator of that, a generator of that */
    H_SCOPES = 4, /* that one green has */
    H_GROUPS = 3,
    H_QUEUES = 4,
    H_EVENTS = 2,
    H_SEMAPHORES = 2,
    H_MUTEXES = 3, /* the last one is recursive */
    H_CONDS = 2,
    H_CASES = 3,
    H_ITEMS = 4,    /* the largest capacity of a queue */
    H_TOLD = 16,
    H_NOBODY = -1,
    H_FAILED = -1 /* GREEN_FAILED, as a value */
};

#define H_FOREVER INT64_MAX

/* What a task can wait for: one line of waiters for each of these and an object. */
enum h_kind {
    H_NOTHING, /* but the end of its time, or of the scope's */
    H_GET,
    H_PUT,
    H_TASK,
    H_EVENT,
    H_SEMAPHORE,
    H_MUTEX,
    H_COND,
    H_ROOM,  /* in a group, for one more */
    H_EMPTY, /* a group without tasks */
    H_ALONE  /* green_hub_wait() */
};

enum h_call {
    H_SLEEP, H_JOIN, H_FREE, H_GROUP_SPAWN, H_GROUP_WAIT, H_GROUP_FREE, H_QUEUE_PUT, H_QUEUE_GET,
    H_EVENT_WAIT, H_ACQUIRE, H_LOCK, H_COND_WAIT, H_SELECT, H_HUB_WAIT, H_HUB_END, H_HUB_RUN
};

struct h_case {
    enum h_kind kind;
    int object;
    long item; /* to be put */
};

enum h_state {
    H_NONE,    /* there is no such task */
    H_NEW,     /* in the line, and has not started */
    H_READY,   /* in the line */
    H_RUNNING, /* the current one */
    H_WAITING,
    H_ENDED    /* its handle is still owed */
};

/* What a task does when it comes back to its call. */
enum h_phase {
    H_GAVE_TURN, /* it let others run, and has its outcome */
    H_DECIDED,   /* it waited, and `outcome` says how that went */
    H_LOCKS      /* it waited for the mutex that belongs to a condition */
};

struct h_outcome {
    int result;      /* of the call; of green_select() the case */
    int error;       /* if that is -1 */
    long value;      /* an item, or the result of a task that was joined; H_FAILED ... */
    int value_error; /* ... with this errno; of a case: its error; of a group: the error */
};

struct h_scope {
    bool open, shield, hit;
    int64_t due;
    int level;
    long begun; /* a number that grows: the inner ones of a green have higher ones */
};

struct h_task {
    enum h_state state;
    long id; /* a number that grows, never used twice */
    bool cancelled, daemon, detached, joined;
    int group;
    int tag;      /* the player's word for it */
    int freed_by; /* who waits in green_task_free() for it, or H_NOBODY */
    long value;   /* its result ... */
    int error;    /* ... and what it died of, if that is H_FAILED */
    struct h_scope scopes[H_LEVELS][H_SCOPES];
    int level;    /* of the green that runs or waits; those above it are generators ... */
    bool made[H_LEVELS]; /* ... that have yielded, or there is none */
    bool frees[H_LEVELS]; /* its generator, which is entered for that alone */
    bool was_refused; /* the last call of those that count, rule 9 */

    /* The call it is in. */
    enum h_call call;
    struct h_case cases[H_CASES];
    int n;
    int64_t due;      /* by the call's own timeout */
    bool nowait;      /* the timeout is 0 or less */
    bool shielded;    /* by itself: rule 14 and the like */
    bool spawns_daemon;
    int spawns_tag;
    int64_t timer;    /* when it is woken, if by nothing else; H_FOREVER: never */
    long armed, came; /* numbers that grow: the order of timers, and of waiters */
    enum h_phase phase;
    bool yields;      /* it is in the line only to let others run */
    bool counts;      /* it fails by rule 8 or 9 */
    struct h_outcome outcome;
    int mutex, depth; /* to be locked again */
};

struct h_next {
    int task, level;
    bool starts; /* the task or generator */
    struct h_outcome outcome;
};

struct hub_model {
    int current;
    int64_t now;
    struct h_task task[H_TASKS];
    int line[H_TASKS];
    int in_line;
    long count; /* for all numbers that grow */
    int credit; /* calls that need not wait, rule 6 */
    bool ending; /* green_hub_end() has begun */

    struct {
        bool made;
        int capacity, size;
        bool closed;
        long items[H_ITEMS];
    } queue[H_QUEUES];
    bool event[H_EVENTS];
    struct { int units, most; } semaphore[H_SEMAPHORES];
    struct { long owner; int depth; } mutex[H_MUTEXES]; /* owner 0: nobody */
    struct {
        bool made, all_or_none, cancelled;
        int limit, size;
        int promised; /* places, to those who waited to spawn */
        int freed_by;
        int error;    /* of the first that failed, since somebody heard of it */
    } group[H_GROUPS];

    struct { int task, error; } told[H_TOLD]; /* to failed(), in this operation */
    int tells;
    struct h_next next;
};

/* semaphore i begins with units[i] of most[i] at most. */
void h_begin(struct hub_model *m, const int *units, const int *most);

/* What looks. */
bool h_can_be_done(const struct hub_model *m, const struct h_case *c);
int h_refusal(const struct hub_model *m); /* by rule 8 or 9 of a call that waits; or 0 */
bool h_shielded_for_ever(const struct hub_model *m);
bool h_is_waited_for(const struct hub_model *m, enum h_kind kind, int object);
int h_timers(const struct hub_model *m);
int h_free_slots(const struct hub_model *m); /* that nobody is about to take */

void h_looks(struct hub_model *m); /* a call that only looks, or is refused */
void h_spawn(struct hub_model *m, int tag, bool daemon, bool detached); /* at the first free slot */
void h_return(struct hub_model *m, long value, int error); /* the current task ends */
void h_cancel(struct hub_model *m, int task);
void h_check(struct hub_model *m);
void h_detach(struct hub_model *m, int task);
void h_sleep(struct hub_model *m, int64_t time);
void h_join(struct hub_model *m, int task, int64_t timeout);
void h_free(struct hub_model *m, int task);

/* Enters the generator of the current green, and makes it if there is none. */
void h_gen_enter(struct hub_model *m);
void h_gen_yield(struct hub_model *m, long value);
void h_gen_return(struct hub_model *m, long value); /* its own are freed */
void h_gen_free(struct hub_model *m); /* one that has yielded; that must return at once */

void h_scope_begin(struct hub_model *m, int scope, int64_t timeout, bool shield);
void h_scope_end(struct hub_model *m, int scope);

void h_group_new(struct hub_model *m, int group, int limit, bool all_or_none);
void h_group_spawn(struct hub_model *m, int group, int tag, bool daemon); /* the same */
void h_group_wait(struct hub_model *m, int group, int64_t timeout);
void h_group_cancel(struct hub_model *m, int group);
void h_group_free(struct hub_model *m, int group);

void h_queue_new(struct hub_model *m, int queue, int capacity);
void h_queue_put(struct hub_model *m, int queue, long item, int64_t timeout);
void h_queue_get(struct hub_model *m, int queue, int64_t timeout);
void h_queue_close(struct hub_model *m, int queue);
void h_queue_free(struct hub_model *m, int queue);

void h_event_set(struct hub_model *m, int event);
void h_event_clear(struct hub_model *m, int event);
void h_event_wait(struct hub_model *m, int event, int64_t timeout);
void h_acquire(struct hub_model *m, int semaphore, int64_t timeout);
void h_release(struct hub_model *m, int semaphore);
void h_lock(struct hub_model *m, int mutex, int64_t timeout);
void h_unlock(struct hub_model *m, int mutex);
void h_cond_wait(struct hub_model *m, int cond, int mutex, int64_t timeout);
void h_cond_signal(struct hub_model *m, int cond, int n);

/*
 * Where several cases can be done at once, the library chooses: `chosen` is
 * what it said, and then the timeout must be 0 or less.
 */
void h_select(struct hub_model *m, const struct h_case *cases, int n, int64_t timeout, int chosen);

void h_hub_wait(struct hub_model *m, int64_t timeout);
void h_hub_run(struct hub_model *m, int64_t timeout);
void h_hub_end(struct hub_model *m, int64_t timeout);

#endif
