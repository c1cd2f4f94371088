/* SPDX-License-Identifier: MIT */
#ifndef GREEN_PATCH_PARK_H
#define GREEN_PATCH_PARK_H
/*
 * Where tasks wait for locks and the like, and how they are woken: by tasks of their own
 * thread, or by any thread of the process.
 *
 * A thread whose tasks wait has a `green__lot`.  Its memory, and that of its waiters, is
 * never given back but used again: another thread may look at it at any time.  None comes
 * from malloc(), which may lock.
 *
 * What another thread does to a lot is to move a waiter to the list of those that are
 * called, and to write to the lot's eventfd.  One of the thread's waiting tasks, the leader,
 * waits for this beside its own event, and wakes the others.  If it goes, another leads.
 */
#include <stdint.h>
#include <sys/types.h>

#include "patch/patch.h"

#define PARK_BUCKETS 64

struct green__waiter;

struct green__waiters { /* the first came first */
    struct green__waiter *first, *last;
};

/* Whoever it is: as comparable as a thread's id, and as that used again after the end. */
typedef const void *green__who;

struct green__waiter {
    struct green__waiter *next, *prev;
    struct green__waiters *in;     /* NULL: in none; under the lot's lock but in a record's */
    struct green__waiter *follows, *followed; /* the leader's successors, last come first */
    const void *address;           /* what it waits for */
    green__who who;
    uint64_t number;               /* of this wait, never used twice */
    green_event_t event;           /* says: look again */
    int result;                    /* of who called it */
    bool called;                   /* what it has waited for has come: the thread's own */
    bool follower;                 /* is among the successors */
    bool used;
};

/* What tasks of a thread hold, or wait for while one of them does. */
struct green__record {
    struct green__record *next; /* of the same bucket */
    const void *address;
    green__who owner;           /* of a mutex, or who writes; NULL: none, or several */
    unsigned depth;             /* how often it is held */
    pid_t thread;               /* as which the system's lock is held; 0: it is not yet */
    struct green__waiters waiters;
};

struct green__lot {
    /* Its thread's own. */
    unsigned records;
    pid_t thread;
    struct green__record *held[PARK_BUCKETS], *free_records;
    struct green__waiter *free_waiters, *followers, *leader;
    green__who once_owner;   /* who is in functions of pthread_once() */
    unsigned once_depth;
    struct green__waiters once;
    struct green__chunk *chunks;

    /* Under the lock. */
    int lock;
    struct green__waiters conds[PARK_BUCKETS], semaphores, others, called;

    /* Atomic. */
    unsigned conds_waiting, semaphores_waiting;
    int event;    /* -1: none */
    int users;    /* threads that may write to it */
    int kicked;   /* it has been written, or need not be */
    int taken;    /* a thread has the lot */
    struct green__lot *next;
};

#pragma GCC visibility push(hidden)

extern _Thread_local struct green__lot *green__lot_mine
    __attribute__((tls_model("initial-exec")));

/* The thread's lot; NULL if there is no memory. */
struct green__lot *green__lot_need(void);

green__who green__lot_who(struct green__lot *lot);

/* ---- Records ------------------------------------------------------------------------- */

struct green__record *green__record_find(const struct green__lot *lot, const void *address);

/* Finds or makes it: NULL if there is no memory. */
struct green__record *green__record_need(struct green__lot *lot, const void *address);

/* Forgets it if nobody holds it or waits for it. */
void green__record_put(struct green__lot *lot, struct green__record *record);

/* Its owner leaves it to the first who waits, who has it from now on; else forgets it. */
void green__record_pass(struct green__lot *lot, struct green__record *record);

/* ---- Waiting ------------------------------------------------------------------------- */

enum { PARK_SLICE_MS = 10 };

/* A waiter of the calling task; NULL if there is no memory.  leave() gives it back. */
struct green__waiter *green__park_begin(struct green__lot *lot, const void *address);

/* Puts it at the end of the thread's own list, or of one that others look at. */
void green__park_own(struct green__waiters *list, struct green__waiter *w);
void green__park_remote(struct green__lot *lot, struct green__waiters *list,
                        struct green__waiter *w);

/* Calls it, which is in a list of the thread's own or in none any more. */
void green__park_call(struct green__waiter *w);
struct green__waiter *green__park_first(struct green__waiters *list); /* takes it off */

/* Waits, until then on green_now()'s clock, to be called: 0, or an errno. */
int green__park_wait(struct green__lot *lot, struct green__waiter *w, int64_t due);

/* Takes it off all lists and gives it back: whether it has been called after all. */
bool green__park_end(struct green__lot *lot, struct green__waiter *w);

/* How long until then; GREEN_FOREVER stays that. */
int64_t green__park_left(int64_t due);

/* Sleeps for *pause, which grows to 10 ms, or until it is due: 0, or an errno. */
int green__park_pause(int64_t *pause, int64_t due);

/* ---- Waking from anywhere ------------------------------------------------------------ */

/* How many tasks of the process wait so; sequentially consistent. */
extern unsigned green__conds_waiting, green__semaphores_waiting;

/* Calls one task, or all, that wait for the condition. */
void green__call_condition(const void *cond, bool all);

/* Has each thread whose tasks wait for semaphores look at these; safe in signal handlers. */
void green__call_semaphores(void);

/* Calls the waiter of lot->others that has this number, with that result. */
void green__call_number(struct green__lot *lot, uint64_t number, int result);

/* Of conds.c: takes a unit of the semaphore if there is one, and keeps errno. */
bool green__take_unit(const void *semaphore);

#pragma GCC visibility pop

#endif
