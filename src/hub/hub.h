/* SPDX-License-Identifier: MIT */
#ifndef GREEN_HUB_HUB_H
#define GREEN_HUB_HUB_H
/*
 * The hub of a thread: what the files of src/hub share.  Rules meant by number are
 * those of green_hub.h; "green.h 4" is a rule there.
 *
 * Floors, each calling only those below it:
 *
 *     timer     the heap of what is due; knows no tasks
 *     loop      the line of those that are ready, time, the look at what may have come
 *     scope     time limits and shields of a green
 *     wait      THE wait: beginning, serving, failing, switching; cancel, deadlock
 *     task      lives of tasks              group     tasks with one owner
 *     line      events, semaphores, mutexes, conditions
 *     queue     select
 *     remote    handles for other threads
 *     fork      dump     watch    hub: begin, end, other loops
 *
 * A hub is made by its thread's first use and touched by that thread alone; what
 * others may touch is struct green_hub (remote.c) and struct green__watch (watch.c).
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <poll.h> /* what green_hub.h includes is not hidden with it */
#include <stdio.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "visible.h"

GREEN__PUSH_VISIBILITY(GREEN__VISIBILITY)
#include <green_hub.h>
#pragma GCC visibility pop

#include "core/layer.h"

#define GREEN__HUB_LOOK_EVERY 64u   /* turns, rule 6 */
#define GREEN__HUB_CREDIT 32u       /* calls that need not wait, rule 6 */
#define GREEN__HUB_SPARES 1024u     /* freed tasks that wait for the next, at most */
#define GREEN__HUB_STACK ((size_t)64 << 10)
#define GREEN__HUB_POOL_THREADS 16u

/* ---- The line ------------------------------------------------------------- */

/* A place in the line: a task that starts, or a wait that goes on. */
struct green__turn {
    struct green__turn *next;        /* in the hub's line; NULL: not in it */
    green_t *green;                  /* who has the turn ... */
    struct green__turn *prev;
    void *value;                     /* ... and what it is entered with */
    int error;                       /* bare: what errno is then */
    unsigned char kind;              /* enum green__turn_kind */
    bool yields;                     /* in virtual time: it only lets others run */
};

/*
 * A bare turn is one of a task's own green that waits in green__layer_go(), with nothing of
 * the hub's on its stack: who gives it its turn also does what it would do itself.
 */
enum green__turn_kind {
    GREEN__TURN_FULL,
    GREEN__TURN_BARE,
    GREEN__TURN_BARE_LONG /* by no short way: the failures of its task are to be counted */
};

/* ---- Waits ---------------------------------------------------------------- */

enum green__wait_state { GREEN__WAITS, GREEN__SERVED, GREEN__FAILS, GREEN__NO_WAIT,
                         GREEN__WOKEN /* to look: may be served until its turn, and is then */ };

/* What a wait has in hand of its object, if that is to be known when it is dropped. */
enum green__wait_role { GREEN__PLAIN, GREEN__JOINS, GREEN__FREES_TASK, GREEN__FREES_GROUP, GREEN__SPAWNS,
                        GREEN__LOCKS, GREEN__SELECTS };

/*
 * What a green waits with, from the beginning of the wait to the return: on its stack, or,
 * if the wait is bare, at the base of it (struct green__own).  Whoever serves it or fails it
 * takes it out of all that it is in, and puts its turn into the line: rule 11 has its one
 * place there.
 */
struct green__wait {
    struct green__turn turn;
    unsigned char state;              /* enum green__wait_state */
    bool shielded;                    /* by the call itself: no scope, cancel or death ends it */
    bool counted;                     /* it has failed by rule 8 or 9 */
    bool ends_well;                   /* the end of its own time is success: green_sleep() */
    unsigned role;                    /* enum green__wait_role */
    struct green_task *task;          /* whose wait it is; NULL: it was dropped */
    struct green__wait *next, *prev;  /* among those of the task */
    struct green__entry *entries;     /* what it waits in: count of them ... */
    unsigned count;
    unsigned descriptors;             /* how many it waits for */
    struct green__entry *served;      /* the entry that was served, or NULL; not of a bare one */
    int error;                        /* FAILS: why; SERVED: of the operation, as EPIPE; else 0 */
    int value_error;                  /* green_task_join(): what it died of if this is GREEN_FAILED: */
    void *value;                      /* ... the result */
    int64_t due;                      /* the end of its own time; GREEN_FOREVER: none */
    size_t timer;                     /* its place in the heap plus one; 0: it has none */
    struct green__wait *spilt;        /* the next for whom the heap had no room ... */
    int64_t spilt_due;                /* ... and when this one is due */
    uint64_t number;                  /* in the order of beginnings */
    int64_t since;                    /* when it began, about */
    const char *call;                 /* for reports: the function, ... */
    const void *object;               /* ... what for, or a number or NULL, ... */
    const void *place;                /* ... and where it was called */
};

/* A place among those who wait for one thing. */
struct green__entry {
    struct green__entry *next, *prev;
    struct green_private_line *line; /* NULL: in none */
    struct green__wait *wait;
    void *item;                      /* of a queue: from where or to where */
    unsigned index;                  /* of green_select()'s cases */
};

/* ---- Tasks ---------------------------------------------------------------- */

/*
 * What a task needs only while its own green lives: in the layer's room at the base of the
 * green's stack, main's in the hub.  The layer's word of the green points to it.
 */
struct green__own {
    struct green__wait wait;   /* of that green: a bare one, else NO_WAIT; its turn also to begin */
    struct green__entry entry; /* the only one of that */
};
_Static_assert(sizeof(struct green__own) <= GREEN__LAYER_ROOM, "it has room there");
_Static_assert(offsetof(struct green__own, wait) == 0, "what points to it points to that");

struct green_task {
    struct green__hub *hub;          /* NULL once that is gone; then the task has ended */
    green_t *green;                  /* NULL once released */
    struct green_task *next, *prev;  /* in the hub's list of the living, or of the dead that are owed */
    struct green__wait *waits;       /* of its greens, but the own one, the last begun first */
    green_scope_t *scopes;           /* of its own green, the last begun first */
    union {
        struct green_private_line joiners; /* hub and room are of no use in it: instead there are */
        struct {
            void *first_and_last[2];
            union {                  /* no task of a group is freed by anybody */
                struct green__entry *freer;    /* who does: served after the joiners; or NULL */
                struct green_task *group_prev; /* in a group */
            };
            union {
                uint64_t number;     /* until it ends: of the process, never used twice */
                void *result;        /* from then on */
            };
        };
    };
    struct green_group *group;       /* or NULL */
    struct green_task *group_next;   /* also among the corpses, and the spare */
    int error;                       /* if the result is GREEN_FAILED */
    /* From error on task.c clears all at once. */
    bool ended, cancelled;
    unsigned char failures;          /* in a row, rule 9: none, or some */
    bool counted : 1;                /* by green__task_all_wait(), which clears it */
    bool detached : 1, daemon : 1, joined : 1, freeing : 1;
    bool telling : 1;                /* the hub's failed() is being told of it */
};
_Static_assert(sizeof(struct green_task) <= 13 * sizeof(uint64_t), "it is small: there are many");

/* ---- The hub -------------------------------------------------------------- */

/* A process that is waited for, on the stack of who waits. */
struct green__child {
    struct green__child *next, *prev;
    green_t *waiter; /* NULL: it waits no more, in a child of fork() */
};

struct green__timer {
    int64_t due;
    struct green__wait *wait;
};

struct green__timers {
    struct green__timer *heap; /* four children each; due in front of what is below it */
    size_t count, room;
    struct green__wait *spilt; /* for whom there was no memory */
};

struct green__hub {
    struct green__layer layer; /* first */
    struct green__hub *next_hub; /* among those of all threads; under a lock */
    uint64_t id;               /* of the process, never used twice */
    green_t *green;            /* the hub's own; NULL: the thread is being ended (rule 16) ... */
    green_t *own_green;        /* ... which has not released it */
    struct green_task main;
    struct green__own main_own;

    uintptr_t main_low, main_end; /* of main's stack, once scope.c has asked; 0: not yet */

    /* The line: round, from turns. */
    struct green__turn line;
    size_t ready;              /* how many are in it ... */
    size_t yielding;           /* ... and of these, in virtual time, who only let others run */
    unsigned credit;           /* calls that need not wait, rule 6 */
    unsigned left;             /* turns until it looks (rule 6): by the short ways, ... */
    unsigned left_long;        /* ... or, if it is not plain, by the long ones */
    uint64_t turns_at_look;    /* so far, when it will look */
    int *errno_at;             /* the thread's errno */

    /* Time. */
    int64_t time;              /* as looked at last */
    int64_t world_base, world_start; /* virtual time while the world's passes, see loop.c */
    bool is_virtual;
    struct green__timers timers;

    /* Tasks: round lists. */
    struct green_task living, owed;
    size_t tasks, daemons;     /* living, but main */
    struct green_private_line hub_wait;
    struct green_task *corpses; /* ended, to be released by the hub; by group_next */
    void (*ended_in_group)(struct green_task *task, bool alone); /* group.c; alone: serves nobody */
    uint64_t last_number;      /* of a task */
    uint64_t waits_made;
    struct green_task *spare_tasks; /* freed, for the next; by group_next ... */
    unsigned spare_room;            /* ... and how many more may wait there */
    struct green_private_line all_ended; /* green_hub_end() waits there */

    /* What may come from elsewhere. */
    size_t world;              /* processes, calls of the pool, open handles (rules 15, 23) */
    size_t descriptors;        /* and signals, that are waited for */
    size_t offloads;           /* calls of the pool ... */
    struct green__job *jobs;   /* ... which are these */
    /* What the floors above are to do at an end and in a child; NULL: they were not used. */
    void (*leave_pool)(struct green__hub *hub); /* waits for what has memory of the thread's */
    void (*fork_pool)(struct green__hub *hub);
    green_case_t *(*served_case)(const struct green__wait *wait);
    uint64_t gone_at;          /* a queue has gone since who has a turn up to this was served */
    void (*fork_children)(struct green__hub *hub, const struct green_task *mine);
    struct green__child *children; /* processes that are waited for */
    struct green__served *served;  /* connections of green_serve() ... */
    void (*drop_served)(struct green__hub *hub, const struct green_task *but); /* ... to be closed */
    void (*end_fds)(struct green__hub *hub);
    void (*fork_fds)(struct green__hub *hub, const struct green_task *mine);
    int epoll;                 /* or -1 */
    int event;                 /* an eventfd that ends the wait in epoll, or -1 */
    int timer_fd;              /* for green_hub_fd(), or -1 */
    bool fd_asked;             /* green_hub_fd() has been called */
    bool event_written;        /* for it: readable already */
    bool pwait2_missing;       /* the system has no epoll_pwait2() */
    bool ending;               /* inside green_hub_end() */
    int64_t timer_fd_due;      /* what the timerfd is set to */
    struct green_hub *remote;  /* or NULL: no handle was ever opened */
    void (*collect)(struct green__hub *hub); /* what has come by it */
    int64_t (*fall_asleep)(struct green__hub *hub, bool asleep); /* remote.c's: how long it may */
    void (*on_due)(struct green__hub *hub, struct green__wait *wait); /* wait.c's */
    struct green__fds *fds;    /* fd.c's, or NULL ... */
    void (*on_event)(struct green__hub *hub, uint64_t data, uint32_t events);
    void (*on_renew)(struct green__hub *hub); /* ... to be called at this time: */
    int64_t renew_at;
    void (*on_retry)(struct green__hub *hub, bool asks); /* see green__loop_retry(); its first ... */
    int retry_first;           /* ... descriptor, or -1 */

    /* Options. */
    size_t stack_size;
    uint64_t random;           /* the state of its numbers */
    bool shuffled;             /* rule 23: a seed was given */
    bool is_plain;             /* it is neither virtual, shuffled nor watched, nor has another loop */
    void (*failed)(green_task_t *task, int error, void *data);
    void *data;
    struct green__watch *watch; /* longest_turn was given; or NULL */

    uint64_t polls;            /* so far */
    const struct green__hub_layout *layout; /* the only one: so every program with a hub has it */
};

/* The calling thread's, or NULL. */
extern _Thread_local struct green__hub *green__hub_self
    __attribute__((visibility("hidden"))) GREEN__TLS_MODEL;

/* ---- timer.c ---------------------------------------------------------------- */

/* Has wait be among the due at that time; it has no timer yet. */
void green__timer_arm(struct green__timers *timers, struct green__wait *wait, int64_t due);

/* Takes its timer out, if it has one. */
void green__timer_disarm(struct green__timers *timers, struct green__wait *wait);

/* When the first is due; GREEN_FOREVER: there is none. */
int64_t green__timer_first(const struct green__timers *timers);

/* Takes out one that is due by then and returns it, or NULL. */
struct green__wait *green__timer_take(struct green__timers *timers, int64_t now);

size_t green__timer_count(const struct green__timers *timers);
void green__timer_drop(struct green__timers *timers);

/* a + b, at most the last time there is: it comes, as GREEN_FOREVER does not. */
static inline int64_t green__time_add(int64_t a, int64_t b)
{
    return b > 0 && a > GREEN_FOREVER - 1 - b ? GREEN_FOREVER - 1 : a + b;
}

/* ---- loop.c ----------------------------------------------------------------- */

void green__loop_begin(struct green__hub *hub);
void green__loop_end(struct green__hub *hub);
void green__loop_fork(struct green__hub *hub); /* what is the parent's is closed */

/* close() as no cancellation point. */
int green__close(int fd);

/* The time of the hub's thread, read. */
int64_t green__loop_now(struct green__hub *hub);

/* Rule 23: another than the first of the line, which is not empty. */
struct green__turn *green__loop_choose(struct green__hub *hub);

/* Control goes back to main: green_hub_fd() is to be readable if there is something to do. */
void green__loop_tell_fd(struct green__hub *hub);

/* To the end of the line, in a hub that has no other loop. */
static inline void green__loop_link(struct green__hub *hub, struct green__turn *turn)
{
    struct green__turn *last = hub->line.prev;
    turn->next = &hub->line;
    turn->prev = last;
    last->next = turn;
    hub->line.prev = turn;
    hub->ready++;
}

/* To the end of the line. */
static inline void green__loop_push(struct green__hub *hub, struct green__turn *turn)
{
    green__loop_link(hub, turn);
    if (UNLIKELY(hub->fd_asked))
        green__loop_tell_fd(hub);
}

/* Out of the line, before its turn. */
static inline void green__loop_remove(struct green__hub *hub, struct green__turn *turn)
{
    /* It is in the line: NOLINTNEXTLINE(clang-analyzer-core.NullDereference) */
    turn->prev->next = turn->next;
    turn->next->prev = turn->prev;
    turn->next = NULL;
    hub->ready--;
    if (UNLIKELY(turn->yields))
        hub->yielding--;
}

/* Turns so far, and whether it is time to look. */
static inline uint64_t green__loop_turns(const struct green__hub *hub)
{
    return hub->turns_at_look - hub->left - hub->left_long;
}

static inline bool green__loop_must_look(const struct green__hub *hub)
{
    return hub->left + hub->left_long == 0;
}

/*
 * Wakes who is to try once more before epoll is asked for it, if anybody has had a turn since;
 * asks: has epoll asked.
 */
static inline void green__loop_retry(struct green__hub *hub, bool asks)
{
    if (UNLIKELY(hub->retry_first >= 0))
        hub->on_retry(hub, asks);
}

/* Whether it has to look before anybody else has a turn. */
static inline bool green__loop_looks_first(struct green__hub *hub)
{
    if (hub->ready == 0) {
        if (LIKELY(hub->retry_first < 0))
            return true;
        hub->on_retry(hub, false);
    }
    return hub->ready == 0 || green__loop_must_look(hub);
}

/* It is not plain any more: no short way is gone. */
static inline void green__loop_go_long(struct green__hub *hub)
{
    hub->is_plain = false;
    hub->left_long += hub->left;
    hub->left = 0;
}

/* The first of the line, by rule 23 another; its turn has come.  NULL: there is none. */
static inline struct green__turn *green__loop_pop(struct green__hub *hub)
{
    struct green__turn *turn = hub->line.next;
    if (turn == &hub->line)
        return NULL;
    if (UNLIKELY(hub->shuffled))
        turn = green__loop_choose(hub);
    green__loop_remove(hub, turn);
    hub->credit = GREEN__HUB_CREDIT;
    if (hub->left != 0)
        hub->left--;
    else
        hub->left_long--;
    return turn;
}

/*
 * Looks at what may have come: descriptors, other threads, timers, whose waits it
 * fires.  With limit more than 0 it waits so long for it, GREEN_FOREVER: without
 * a limit, if the line is empty and something can come.  idle: all who are ready only let
 * others run.
 */
void green__loop_look(struct green__hub *hub, int64_t limit, bool idle);

/* Something that may come from elsewhere, other than a descriptor, is there, or no longer. */
void green__loop_add_world(struct green__hub *hub);
void green__loop_remove_world(struct green__hub *hub);

/* Makes the epoll descriptor with the eventfd in it.  0, or -1 with errno. */
int green__loop_need_epoll(struct green__hub *hub);

/* The epoll descriptor, for green_hub_fd(); -1 with errno. */
int green__loop_ask_fd(struct green__hub *hub);

uint64_t green__loop_random(struct green__hub *hub);

/* ---- scope.c ---------------------------------------------------------------- */

/* Ends all scopes of a green that has the hub's word; forgets them if they are gone. */
void green__scope_end_all(green_t *g, bool gone);

/*
 * Whether a wait of green me, of this task, that began as the number-th is ended by a scope
 * that is over or by a cancel: 0, ETIMEDOUT, ECANCELED.  With mark the scopes
 * that are over note it.
 */
int green__scope_verdict(struct green__hub *hub, green_t *me, const struct green_task *task,
                         uint64_t number, bool mark);

/* When the first of the scopes that such a wait sees is over. */
int64_t green__scope_due(green_t *me, uint64_t number);

/* ---- wait.c ------------------------------------------------------------------ */

/*
 * A call of a green, as green__call_begin() finds it.  What the short ways do with one is
 * always in line, whatever else there is: else it would be kept in memory for who does it.
 */
struct green__call {
    struct green__hub *hub;
    green_t *me;
    struct green_task *task;
    struct green__thread *self; /* if it is plain: it may wait by a short way; else NULL */
    struct green__own *own;     /* of the task, if it is plain */
};

/* What a task has while it lives; NULL: its green is DEAD, or is being left by unwinding. */
static inline struct green__own *green__task_own(const struct green_task *task)
{
    return green__layer_word(task->green);
}

/* The task of a green that the layer knows, by the word, which is there. */
static inline struct green_task *green__task_of_word(const struct green__own *own)
{
    return own->wait.task;
}

/* The task that a green belongs to (rule 4). */
struct green_task *green__task_above(struct green__hub *hub, green_t *g);

static inline struct green_task *green__task_of(struct green__hub *hub, green_t *g)
{
    if (UNLIKELY(!green__layer_is_owned(g)))
        return green__task_above(hub, g);
    const struct green__own *own = green__layer_word(g);
    return LIKELY(own != NULL) ? green__task_of_word(own) : &hub->main;
}

/* The hub of a call that does not wait; NULL with errno. */
struct green__hub *green__hub_need_slowly(void);
static inline struct green__hub *green__hub_need(void)
{
    struct green__hub *hub = green__hub_self;
    return LIKELY(hub != NULL && green__layer_may_act()) ? hub : green__hub_need_slowly();
}

/* Whether the calling thread is one of the pool's: set by it. */
extern _Thread_local bool green__hub_forbidden
    __attribute__((visibility("hidden"))) GREEN__TLS_MODEL;

/*
 * Begins a call that waits: false with errno if it is refused, or fails at once by rules 8,
 * 9 or 16.  own_over: the call's own time is over, which then comes first.
 */
bool green__call_begin_slowly(struct green__call *call, bool own_over);

/* Whether it is plain: of a task's own green, which is marked so as nothing fails it. */
static inline __attribute__((always_inline)) bool green__call_is_plain(struct green__call *call)
{
    struct green__layer *layer;
    if (UNLIKELY(!green__layer_is_plain(&call->self, &layer, &call->me)))
        return false;
    call->hub = (struct green__hub *)layer;
    call->own = green__layer_word(call->me);
    call->task = call->own->wait.task;
    return true;
}
/* That again. */
static inline struct green__call green__call_of_plain(struct green__thread *self)
{
    struct green__call call = {.self = self};
    struct green__layer *layer;
    green__layer_of_plain(self, &layer, &call.me);
    call.hub = (struct green__hub *)layer;
    call.own = green__layer_word(call.me);
    call.task = call.own->wait.task;
    return call;
}
static inline __attribute__((always_inline)) bool green__call_begin(struct green__call *call,
                                                                    int64_t timeout)
{
    if (LIKELY(green__call_is_plain(call)))
        return true;
    struct green__call slow; /* so that call itself can be in registers */
    bool begun = green__call_begin_slowly(&slow, timeout <= 0);
    *call = slow;
    return begun;
}

/* Whether a call that has waited may wait again, by rules 8, 9 and 16; false with errno. */
bool green__call_goes_on(struct green__call *call);

/* Marks the own green of a task as plain, if it is. */
static inline void green__task_mark_plain(struct green_task *task)
{
    green__layer_mark_plain(task->green, !task->cancelled && task->scopes == NULL &&
                                             task->failures == 0 && task->hub->green != NULL);
}

/* How many calls of it have failed in a row, by rules 8 and 9. */
static inline void green__task_set_failures(struct green_task *task, unsigned failures)
{
    if (UNLIKELY(task->failures != failures)) {
        struct green__own *own = green__task_own(task);
        task->failures = (unsigned char)failures;
        if (own != NULL && own->wait.turn.kind == GREEN__TURN_BARE)
            own->wait.turn.kind = GREEN__TURN_BARE_LONG;
        green__task_mark_plain(task);
    }
}

/* Ends a call that need not wait: 0. */
int green__call_give_turn(struct green__hub *hub, green_t *me);
static inline __attribute__((always_inline)) int green__call_done(struct green__call *call,
                                                                  int64_t timeout)
{
    if (call->self == NULL)
        green__task_set_failures(call->task, 0);
    if (LIKELY(timeout <= 0 || --call->hub->credit != 0))
        return 0;
    return green__call_give_turn(call->hub, call->me);
}

/* Fails a call: -1 with errno. */
static inline int green__call_fail(int error)
{
    errno = error;
    return -1;
}

/* Fails one that has tried, and need not wait to know: such calls, too, are counted (rule 6). */
int green__call_tried(struct green__call *call, int64_t timeout, int error);

/* Prepares a wait of this call. */
static inline void green__wait_prepare(struct green__wait *wait, const struct green__call *call,
                                       const char *name, const void *object, const void *place)
{
    struct green__hub *hub = call->hub;
    wait->turn.green = call->me;
    wait->turn.value = NULL;
    wait->turn.kind = GREEN__TURN_FULL;
    wait->turn.yields = false;
    wait->task = call->task;
    wait->entries = NULL;
    wait->count = wait->descriptors = 0;
    wait->state = GREEN__WAITS;
    wait->shielded = wait->counted = wait->ends_well = false;
    wait->role = GREEN__PLAIN;
    wait->error = 0;
    wait->served = NULL;
    wait->timer = 0;
    /* A call has a hub: NOLINTNEXTLINE(clang-analyzer-core.NullDereference) */
    wait->number = ++hub->waits_made;
    wait->since = hub->time;
    wait->call = name;
    wait->object = object;
    wait->place = place;
}

/* Puts an entry of the wait at the end of those who wait for a thing. */
void green__wait_enlist(struct green__wait *wait, struct green__entry *entry,
                        struct green_private_line *line);

/*
 * Waits until it is served or fails.  0 if it was served well, or -1 with errno.
 * timeout: more than 0; what the call has for itself.
 */
int green__wait(struct green__hub *hub, struct green__wait *wait, int64_t timeout);

/*
 * The short way: only who is ready and bare is entered by it, without a look at what else may
 * have come.  It can be gone if there is a first of the line for it, not NULL.
 */
static inline struct green__turn *green__wait_first_bare(const struct green__hub *hub)
{
    struct green__turn *first = hub->line.next; /* if there is none, the line itself, which is not */
    return LIKELY(hub->left != 0) && LIKELY(first->kind == GREEN__TURN_BARE) ? first : NULL;
}

/* Somebody has a turn, by a short way. */
static inline void green__wait_count_turn(struct green__hub *hub)
{
    if (UNLIKELY(hub->credit != GREEN__HUB_CREDIT))
        hub->credit = GREEN__HUB_CREDIT;
    hub->left--;
}

/* Its turn has come: it is out of the line, but for the count of ready. */
static inline void green__wait_take_first(struct green__hub *hub, struct green__turn *first)
{
    struct green__turn *second = first->next;
    hub->line.next = second;
    second->prev = &hub->line;
    first->next = NULL;
    green__wait_count_turn(hub);
}

/* From a plain call to the first of the line; *mine is to be what the own wait of its task shall be. */
static inline __attribute__((always_inline)) int
green__wait_go(const struct green__call *call, struct green__turn *mine, struct green__turn *first)
{
    int *errno_at = call->hub->errno_at;
    int error = *errno_at;
    mine->error = error;
    if (UNLIKELY(first->error != error))
        *errno_at = first->error;
    return green__layer_go(call->self, call->me, first->green, first->value);
}

/* Has a plain call begin a bare wait, with its entry in a line. */
static inline __attribute__((always_inline)) void
green__wait_begin_barely(const struct green__call *call, struct green_private_line *line,
                         void *item, const char *name, const void *object, const void *place)
{
    struct green__hub *hub = call->hub;
    struct green__wait *wait = &call->own->wait;
    struct green__entry *entry = &call->own->entry, *last = line->last;
    wait->turn.kind = GREEN__TURN_BARE;
    wait->turn.value = NULL;
    wait->state = GREEN__WAITS;
    wait->number = ++hub->waits_made;
    wait->since = hub->time;
    wait->call = name;
    wait->object = object;
    wait->place = place;
    entry->item = item;
    entry->line = line;
    entry->next = NULL;
    entry->prev = last;
    line->last = entry;
    if (last != NULL)
        last->next = entry;
    else
        line->first = entry;
}

/* Leaves a plain call in a bare wait, or with its turn in the line, until it has its turn. */
int green__wait_leave(struct green__hub *hub, struct green__turn *mine);

/* Enlists one entry and waits. */
int green__wait_with(struct green_private_line *line, void *item, int64_t timeout,
                     const char *name, const void *object, const void *place);

static inline __attribute__((always_inline)) int
green__wait_in(const struct green__call *call, struct green_private_line *line, void *item,
               int64_t timeout, const char *name, const void *object, const void *place)
{
    struct green__turn *first;
    if (LIKELY(call->self != NULL) && LIKELY(timeout == GREEN_FOREVER) &&
        LIKELY((first = green__wait_first_bare(call->hub)) != NULL)) {
        green__wait_begin_barely(call, line, item, name, object, place);
        green__wait_take_first(call->hub, first);
        call->hub->ready--;
        return green__wait_go(call, &call->own->wait.turn, first);
    }
    return green__wait_with(line, item, timeout, name, object, place);
}

/* The waits of a task: from the bare one, if it is in one. */
static inline bool green__own_waits(const struct green__own *own)
{
    return own != NULL && (own->wait.state == GREEN__WAITS ||
                           (own->wait.state != GREEN__NO_WAIT && own->wait.turn.next != NULL));
}
static inline struct green__wait *green__task_waits(struct green_task *task)
{
    struct green__own *own = green__task_own(task);
    return green__own_waits(own) ? &own->wait : task->waits;
}
static inline struct green__wait *green__task_next_wait(struct green_task *task,
                                                        const struct green__wait *wait)
{
    return wait == (const void *)green__task_own(task) ? task->waits : wait->next;
}

/* Serves the wait of an entry, or the wait itself, with an error if the operation has one. */
void green__wait_serve(struct green__hub *hub, struct green__entry *entry, int error);
void green__wait_serve_alone(struct green__hub *hub, struct green__wait *wait);

/*
 * Wakes it by an entry of which it has to see for itself whether there is something.  One of
 * several stays in the lines of all others until its turn: nobody is to think meanwhile that it
 * does not wait there.
 */
void green__wait_wake(struct green__hub *hub, struct green__entry *entry);

/* The same in short, of the first of a line. */
static inline __attribute__((always_inline)) bool
green__wait_can_serve_barely(const struct green__hub *hub, const struct green__entry *first)
{
    return LIKELY(first->wait->turn.kind == GREEN__TURN_BARE) && LIKELY(first->wait->timer == 0) &&
           LIKELY(!hub->fd_asked);
}
static inline __attribute__((always_inline)) void
green__wait_serve_barely(struct green__hub *hub, struct green_private_line *line,
                         struct green__entry *first)
{
    struct green__entry *second = first->next;
    first->line = NULL;
    line->first = second;
    if (second != NULL)
        second->prev = NULL;
    else
        line->last = NULL;
    first->wait->state = GREEN__SERVED;
    first->wait->error = 0;
    green__loop_link(hub, &first->wait->turn);
}

/* Fails it. */
void green__wait_fail(struct green__hub *hub, struct green__wait *wait, int error);

/* Serves all entries of a line. */
void green__wait_serve_all(struct green__hub *hub, struct green_private_line *line, int error);

/* Lets each who is ready have a turn; no rule ends it.  me: the current green. */
void green__wait_give_turn(struct green__hub *hub, green_t *me);

/* Takes a wait that has not begun out of the lines it is in. */
void green__wait_take_back(struct green__wait *wait);

/* The waits of a task will not go on: those that wait fail, with their turns in the line. */
void green__wait_fail_all(struct green__hub *hub, struct green_task *task);

/* The same, out of the line: their greens are their users' again. */
void green__wait_drop_all(struct green__hub *hub, struct green_task *task);

/* A timer's wait is due: what that means to it. */
void green__wait_is_due(struct green__hub *hub, struct green__wait *wait);

/* Fails those waits of a task that see a cancel. */
void green__wait_cancel(struct green__hub *hub, struct green_task *task);

/* Nobody can run and nothing can come (rule 15). */
void green__wait_break_deadlock(struct green__hub *hub);

/* Of the layer's calls: a bare wait that a death ends, and who is next after a death. */
void *green__wait_entered(struct green__hub *hub, green_t *g, void *value);
green_t *green__wait_next(struct green__hub *hub, void **value);

/* The same if it is plain, and there is a first of the line. */
green_t *green__wait_next_plainly(struct green__hub *hub, void **value);

/*
 * The body of the hub's green, and its start: deaths must find it waiting, as a NEW parent
 * would die of an error (green.h 5).
 */
void *green__wait_hub_body(void *starter);
void green__wait_start_hub(struct green__hub *hub);

/* hub.c: what the hub's green does with what has ended. */
void green__hub_bury(struct green__hub *hub);

/* Whether a thing is this hub's; makes it so if it was nobody's.  False with EPERM. */
bool green__line_claim(struct green__hub *hub, struct green_private_line *line);
static inline bool green__line_is_mine(struct green__hub *hub, struct green_private_line *line)
{
    return LIKELY(line->hub == hub->id) || green__line_claim(hub, line);
}

static inline struct green__entry *green__line_first(const struct green_private_line *line)
{
    return line->first;
}

/* ---- task.c ------------------------------------------------------------------ */

struct green_task *green__task_make(struct green__hub *hub, green_fn *run, void *arg,
                                    const green_options_t *options);

/* A task that is in no list, of this green, with what it has while that lives. */
void green__task_init(struct green_task *task, struct green__own *own, struct green__hub *hub,
                      green_t *green);

/* Frees the blocks that wait for the next. */
void green__task_drop_spares(struct green__hub *hub);

/*
 * Of the layer's calls: the body of a plain green has returned a value.  Who is next; NULL, and
 * nothing is done: its end is not a short one.
 */
green_t *green__task_done(struct green__layer *layer, green_t *g, void **value);

/* Of the layer's calls: the task of g has ended. */
void green__task_ended(struct green__hub *hub, green_t *g, void *value, int error);

/*
 * Has all that lives, but for one, end where it stands, cancelled.  alone: nobody can be
 * served any more, and no stack is to be touched.
 */
void green__task_end_all(struct green__hub *hub, struct green_task *but, bool alone);

/* Cancels a task of this hub. */
void green__task_cancel(struct green__hub *hub, struct green_task *task);

/* Whether green__task_make() can be given this; EINVAL.  flags: what options may have. */
bool green__task_may_be(green_fn *run, const green_options_t *options, unsigned flags);

/* Whether it has ended by an error that is no cancel (rule 12). */
bool green__task_has_failed(const struct green_task *task);

/* Releases an ended task, of hub or of one that is no more (NULL). */
void green__task_release(struct green__hub *hub, struct green_task *task);

/* Who was freeing it goes on no more. */
void green__task_keep(struct green_task *task);

/* Whether all tasks that are no daemons are in green_hub_wait(). */
bool green__task_all_wait(struct green__hub *hub);

/* Serves green_hub_wait(), if it is time or if it is known to be, and green_hub_end(). */
void green__task_tell_hub_wait(struct green__hub *hub, bool known);

/* ---- The others ----------------------------------------------------------------- */

/* line.c: a unit to the first who waits, or back.  False beyond the bound. */
bool green__line_give_unit(struct green__hub *hub, green_semaphore_t *semaphore);

/* line.c, in a child: what a dropped wait for one of its things was given is the next one's. */
void green__line_lose(struct green__hub *hub, const struct green__wait *wait);

/* group.c, in a child: a wait of one of its calls will be dropped. */
void green__group_lose(struct green__hub *hub, const struct green__wait *wait);

/* layout.c: what debuggers find tasks by. */
extern const struct green__hub_layout green__hub_layout __asm__("green_private_hub_3")
    __attribute__((visibility("default")));

/* What another thread posts to a hub. */
struct green__post {
    struct green__post *next;
    /* In the hub's thread; false: there is no memory, it is to come again.  NULL: no hub any more. */
    bool (*arrive)(struct green__hub *hub, struct green__post *post);
};

/* remote.c: makes what others post to, if there is none.  0, or -1 with errno. */
int green__remote_need(struct green__hub *hub);

/* From any thread.  False: the hub is no more. */
bool green__remote_post(struct green_hub *remote, struct green__post *post);

/* The hub is no more. */
void green__remote_detach(struct green__hub *hub);

/* Whether green_hub_spawn() of other threads is refused: while green_hub_end() waits. */
void green__remote_refuse(struct green__hub *hub, bool refuse);

/* Nobody can post any more, if nothing is posted; else false. */
bool green__remote_close_if_empty(struct green__hub *hub);

/* In a forked child, of the forking thread's hub or of another thread's. */
void green__remote_fork(struct green__hub *hub, bool mine);

/* fork.c: has a hub of the child be what rule 20 says.  0, or -1 with errno. */
int green__fork_handle(void);

/* watch.c: longest_turn. */
int green__watch_begin(struct green__hub *hub, int64_t longest,
                       void (*hogged)(const char *, pid_t, int64_t, void *), void *data);
void green__watch_end(struct green__hub *hub);
void green__watch_turn(struct green__hub *hub, const green_t *g); /* NULL: nobody's */
void green__watch_fork(struct green__hub *hub);

/* hub.c: how many threads the pool may have. */
extern _Atomic(unsigned) green__hub_pool_threads __attribute__((visibility("hidden")));

/* hub.c: the list of hubs is whole, and stays so: for fork(). */
void green__hub_lock(void);
void green__hub_unlock(void);

/* hub.c: whether there is a hub of this id; in a child, only the forking thread's is left. */
bool green__hub_is_alive(uint64_t id);
void green__hub_forget_all_but(struct green__hub *hub);

#endif
