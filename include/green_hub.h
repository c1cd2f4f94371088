/* SPDX-License-Identifier: MIT */
#ifndef GREEN_HUB_H
#define GREEN_HUB_H
/*
 * libgreen's hub: greens that wait for the world.  It is in the same library.
 *
 * green.h has greens that switch to each other by name.  A task is a green that
 * does not: it waits, for time, for a file descriptor, for another task, and the
 * hub of its thread runs the others meanwhile.  Code in a task is written as if
 * it blocked; nothing else in the thread does.
 *
 *     #include <green_hub.h>
 *     #include <stdio.h>
 *
 *     static void *produce(void *queue)
 *     {
 *         for (char c = 'a'; c <= 'z'; c++)
 *             if (green_queue_put(queue, &c, GREEN_FOREVER) != 0)
 *                 return GREEN_FAILED;
 *         green_queue_close(queue);                      // no more will come
 *         return NULL;
 *     }
 *
 *     int main(void)
 *     {
 *         green_queue_t *queue = green_queue_new(sizeof(char), 1);
 *         green_task_t *producer = green_task_spawn(produce, queue);
 *         for (char c; green_queue_get(queue, &c, GREEN_FOREVER) == 0;)
 *             putchar(c);                                // a to z
 *         green_task_free(producer);
 *         return green_queue_free(queue);
 *     }
 *
 * The rules
 * ---------
 * The comments below refer to these by number; "green.h 4" is a rule there.
 *
 *  1. Hub.  Each thread has a hub of its own, made when it is first needed:
 *     green_now() and what only looks make none.  There is no loop to start:
 *     whoever waits, starts it.
 *
 *  2. Tasks.  A task is a green whose parent is the hub.  The main green of the
 *     thread is a task too, the main task.  Spawning puts a task at the end of
 *     the line; it starts when its turn comes, and runs until it waits or ends.
 *
 *  3. Waiting.  A function whose comment begins with "Waits" may let other tasks
 *     run, even if in the end it need not have waited.  No other function does:
 *     between two such calls a task has the thread's data to itself.
 *
 *  4. Any green may wait.  A green belongs to the task whose living green is its
 *     nearest ancestor (while it is being freed: of the one that frees it), or it
 *     itself; a wait belongs to the task that it began in.  From the beginning of a
 *     wait to its return the green is held: to switch to it, throw at it, free or
 *     abandon it or put it under another parent is refused with EBUSY.  A child of it
 *     that dies meanwhile has nobody to return to (green.h 4): the call then fails
 *     with EINTR, which nothing here means otherwise.  A call that has been served,
 *     and one under a shield of its own (rules 14, 17, green_offload() without drop,
 *     the locking again of green_cond_wait()), goes on; what the child left is
 *     dropped.
 *
 *  5. The green of a task is the task's: it cannot be freed, abandoned or put under
 *     another parent (EBUSY), and until it has started neither switched to nor
 *     thrown at.  green_yield() in it is green_sleep(0), and returns NULL, or
 *     GREEN_FAILED with errno when that would fail; in main's it stays EINVAL.  All
 *     else works in it as in any green: keys, green_defer(), green_exit().  The hub
 *     has a green, too, named "hub", a child of main: what looks works on it, all
 *     else, also to make it a parent, is EBUSY.  What reaches it because a green died
 *     whose parents had all ended is dropped.
 *
 *  6. Order.  The line is first in, first out.  Who wakes others puts them at its
 *     end, in the order in which they came, and goes on.  What a waiter is given,
 *     an item, a unit, a lock, is its own from then on: nobody is served before
 *     those who came earlier.  On descriptors there is no such order.  However busy
 *     the line, timers and descriptors are looked at after at most 64 turns, and a
 *     task whose calls never have to wait lets others run after at most 32 of them,
 *     those with a timeout of 0 or less not counted.
 *
 *  7. Time is int64_t nanoseconds of CLOCK_MONOTONIC.  A timeout counts from the
 *     call; one that takes longer fails with ETIMEDOUT.  GREEN_FOREVER, the largest
 *     number, means no limit.  0 or less means only what can be done at once, so
 *     then - green_now() is a timeout that may be over, and lets nobody run: a loop
 *     around it needs a green_sleep(0).  No wait ends early.
 *
 *  8. Scopes.  Between green_scope_begin() and green_scope_end() the time of the
 *     scope limits all waits that begin in it, together, of the green that began it
 *     and of those below it in the same task; not of the tasks it spawns, nor of
 *     those above it, as the consumer of a generator.  Once it is over, each of them
 *     fails with ETIMEDOUT, at once, until the scope ends.  Scopes nest: the least
 *     time counts.  If a call's own timeout is over too, the call's comes first.
 *
 *  9. Cancel.  A task that is cancelled stays cancelled: what it waits in, and
 *     every later call that "waits", fails with ECANCELED, at once, until the task
 *     ends.  Nothing is unwound: the calls fail, and the body returns.  One that has
 *     not started starts in its turn all the same, cancelled: what it was given is
 *     its own to release.  From the second failure in a row of a task on, by this rule
 *     or rule 8, such a call lets the others run first: a loop that ignores it wastes
 *     its own time only.
 *
 * 10. Shields.  In a scope with GREEN_SHIELD the cancel, and the scopes around
 *     it, are not seen; its own time is.  That is for clean-up that must wait.
 *
 * 11. Done is done.  A call that has been served returns success, though a cancel,
 *     the end of its time or a death (rule 4) came before its task's turn: no item,
 *     unit or byte is lost.  What came is seen by the next call.  A call that fails
 *     by rules 4, 7 to 9 or 15 has taken and given nothing.
 *
 * 12. Results.  What the body returns is the task's result, GREEN_FAILED its
 *     failure by errno (green.h 5).  To have failed of ECANCELED is to have been
 *     cancelled: no failure.
 *
 * 13. Who hears of a failure: those who join the task, and its group.  If a task
 *     that failed is released, has no group and nobody has joined it, the hub's
 *     failed() is told.  Nothing is printed.
 *
 * 14. Owners.  Who spawns a task owes it a green_task_free() or a
 *     green_task_detach().  A group owns its tasks, and releases each when it has
 *     ended.  Freeing ends what lives: it cancels, waits for the end under a shield,
 *     and releases.
 *
 * 15. Deadlock.  If no task can run and nothing can come, no timer, descriptor,
 *     signal, process, thread of the pool or open hub handle (rule 19), the wait
 *     of the main task that began last fails with EDEADLK; if it has none, the wait
 *     of the thread that began first.  green_hub_dump() says who waits for what.
 *
 * 16. The end.  When main() returns the program ends, whatever other tasks do.
 *     green_hub_wait() waits for them, but for daemons; green_hub_end() ends them.  A
 *     thread that ends without it runs nothing of its tasks: they have ended,
 *     cancelled.  Its end waits for what threads of the pool do with memory of theirs,
 *     and open handles say ESRCH.  Then, as after green_hub_end(), what belonged to
 *     the hub may be used or released by any thread.  While a thread is being ended
 *     by pthread_exit() or cancellation, what would have to wait fails with ECANCELED.
 *
 * 17. Descriptors are the system's, and the caller's.  A call tries first and
 *     waits only if it must.  Any number of greens may wait for one descriptor.
 *     On sockets the O_NONBLOCK flag neither matters nor changes, except that
 *     green_connect() and green_accept() set it for good.  It is never set on others,
 *     which may be shared with other processes: without it, and where the system
 *     cannot be asked not to block, they wait to be ready, and then write at most
 *     PIPE_BUF bytes; if another process is faster, the thread blocks.  Of a regular
 *     file all of size is moved that there is: what is in memory at once, what must
 *     be fetched by a thread of the pool, under a shield; by the caller's if none can
 *     be had.  stdio knows nothing of tasks, but on streams of green_fdopen().
 *
 * 18. Closing.  green_close() makes all of this thread that wait for the
 *     descriptor fail with EBADF (green_poll() and green_select() report POLLNVAL).  A
 *     call that a thread of the pool has for it goes on, and the descriptor is closed
 *     when that has ended.  Behind the hub's back, by close() or dup2(), they may wait
 *     for ever, and the next wait for the number may take up to a second longer, once.
 *
 * 19. Threads.  Tasks never change thread.  Queues, events and the like belong to
 *     the thread that first uses them, making one apart, until its hub ends;
 *     descriptors to nobody.  Use by another is refused with EPERM.  From elsewhere
 *     only green_hub_spawn() and green_hub_close() reach a hub, with a handle from
 *     green_hub_open().
 *
 * 20. fork() leaves to the child the task that forked and the main task, whose
 *     wait goes on; one for a thread of the pool fails with ECANCELED there.  All
 *     other tasks have ended, cancelled, without running any of their code; their
 *     handles stay valid and owed, what they had locked stays locked.  Nothing of the
 *     parent's hub is touched by the child.  As main goes on when the task returns, a
 *     child that shall not go on calls _exit() or exec.
 *
 * 21. Signals.  The hub handles none and blocks none, but in threads of its own.
 *     Sending on a socket never raises SIGPIPE; writing to a pipe does.
 *
 * 22. errno is each task's own in effect: what others do meanwhile does not
 *     change what a failed call says.  libgreen's own clean-up, as the end of a
 *     scope, keeps it.
 *
 * 23. For tests.  With GREEN_HUB_VIRTUAL_TIME time stands still while a task does
 *     anything but give turns (green_sleep(0), rule 9), and jumps to the next timer
 *     when all others wait and no descriptor is ready: an hour of timeouts takes no
 *     time, and the same order every time.  While something can come from a thread
 *     of the pool, a process or an open hub handle it passes as the world's; peers
 *     outside the thread are not waited for.  With a seed the line is shuffled, in
 *     the same way for the same seed: orders that rule 6 excludes, and that no program
 *     should rely on, are tried.
 *
 * Errors
 * ------
 * As in green.h: 0, or -1 with errno; NULL or GREEN_FAILED with errno; a refused
 * call has changed nothing; releasing NULL is 0; zeroed memory is as _INIT.  Not
 * repeated below are
 *
 *   EINVAL     NULL, unknown flags, or nonsense
 *   EBUSY      called from a trace hook, green_each()'s function or failed(),
 *              unless it only looks
 *   EPERM      another thread's (rule 19)
 *   ENOMEM, EMFILE, ENFILE, ENOSPC
 *              where something is made, at the thread's first use, in the first wait
 *              for a descriptor, process or signal, and in green_offload() with drop
 *
 * and, from all that waits,
 *
 *   ETIMEDOUT  rules 7, 8
 *   ECANCELED  rule 9
 *   EDEADLK    rule 15; also to wait for oneself
 *   EINTR      rule 4
 *
 * No other wait fails for want of memory.
 *
 * Every function may be called from any green.  None is async-signal-safe or a
 * cancellation point of pthreads.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <poll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <green.h>

#ifdef __cplusplus
extern "C" {
#endif

struct addrinfo;

typedef struct green_task green_task_t;
typedef struct green_group green_group_t;
typedef struct green_queue green_queue_t;
typedef struct green_hub green_hub_t;

/* ---- Time --------------------------------------------------------------- */

#define GREEN_FOREVER INT64_MAX
#define GREEN_NOWAIT INT64_C(0)
#define GREEN_US(n) (INT64_C(1000) * (n))
#define GREEN_MS(n) (INT64_C(1000000) * (n))
#define GREEN_SEC(n) (INT64_C(1000000000) * (n))

/* CLOCK_MONOTONIC in nanoseconds, or the time of rule 23. */
int64_t green_now(void);

/*
 * Waits that long; GREEN_FOREVER: until cancelled.  With 0 or less it gives every
 * other task that is ready one turn; timers and descriptors are looked at if none
 * was ready, else by rule 6.  0 when the time is over: that is not a timeout.
 */
int green_sleep(int64_t time);

/* ---- Tasks -------------------------------------------------------------- */

/*
 * Makes a task that will run run(arg) (rule 2), after the caller has waited or
 * ended.  Returns its handle, see rule 14.
 */
green_task_t *green_task_spawn(green_fn *run, void *arg);

#define GREEN_DAEMON 0x10000u /* in options.flags: green_hub_wait() does not wait for it */

/*
 * The same with green_new_with()'s options.  stack_size 0 is the hub's (see
 * green_hub_init()).  GREEN_DETACHED is green_task_detach() from the start: the
 * handle is valid until the task ends.  A stack of the caller's is his again when
 * the task has been joined, freed or its group waited for; with GREEN_DETACHED it is
 * EINVAL.
 */
green_task_t *green_task_spawn_with(green_fn *run, void *arg, const green_options_t *options);

/*
 * The task that the current green belongs to (rule 4); never NULL once the
 * thread has used the hub.  The main task's handle lasts as long as the hub and
 * is not owed anything.
 */
green_task_t *green_task_current(void);

/*
 * The task's green, for green_name(), green_data(), green_state(),
 * green_backtrace() and the like; NULL once the task has ended.
 */
green_t *green_task_green(const green_task_t *task);

/*
 * Waits for the end of the task.  0 when it has ended, however; then *value, unless
 * value is NULL, is its result: if that is GREEN_FAILED, errno is what it died of.
 * -1 if the wait failed; the task goes on, and *value is untouched.  Any number
 * may join, and again.  EDEADLK for the caller's own task.
 */
int green_task_join(green_task_t *task, void **value, int64_t timeout);

/*
 * Cancels it (rule 9); returns at once.  0 also if it has ended or is cancelled
 * already.  The main task may be cancelled, and one's own.
 */
int green_task_cancel(green_task_t *task);

/*
 * Whether the calling task should stop: 0, or -1 with ECANCELED or ETIMEDOUT as the
 * next wait would fail.  For long computations; lets nobody run.
 */
int green_task_check(void);

/*
 * Gives the task to the hub, which releases it at its end.  The handle is gone.
 * EINVAL: the main task, a group's, a detached one.  EBUSY: another call is freeing it.
 */
int green_task_detach(green_task_t *task);

/*
 * Waits: cancels the task if it has not ended, joins it whatever comes (rule 14),
 * and releases the handle.  Others that join it are served first.  -1, the handle
 * being valid, only with EDEADLK, for the caller's own task too, and with EINVAL and
 * EBUSY as green_task_detach().
 */
int green_task_free(green_task_t *task);

/* ---- Scopes: time limits and shields ------------------------------------- */

/* On the stack of the function that begins it; what is in it is private. */
typedef struct green_scope {
    void *green_private_links[3];
    int64_t green_private_due;
    uint64_t green_private_flags;
    uint64_t green_private_room[2];
} green_scope_t;

#define GREEN_SHIELD 0x100u /* rule 10 */

/*
 * Begins a scope of the current green (rule 8).  It fails with EINVAL, EBUSY, and
 * ENOMEM at the thread's first use alone; the scope is then none, and its end 0.
 */
int green_scope_begin(green_scope_t *scope, int64_t timeout, unsigned flags);

/*
 * Ends it: 1 if a call in it failed with ETIMEDOUT when its time was over, else 0.
 * Ending it again says the same.  A green's scopes end when its body returns or it
 * calls green_exit(), before its deferred functions and clean-up run.  A longjmp()
 * over the function that began one must be preceded by its end.  Keeps errno.
 */
int green_scope_end(green_scope_t *scope);

/*
 * The same, ended wherever the block is left by:
 *
 *     GREEN_SCOPE(limit, GREEN_SEC(5), 0);
 *     if (talk(fd) != 0 && green_scope_end(&limit))
 *         fprintf(stderr, "five seconds were not enough\n");
 *
 * No goto may jump forward over it in its block.
 */
#define GREEN_SCOPE(name, timeout, flags)                                              \
    __attribute__((__cleanup__(green_private_scope_end))) green_scope_t name;          \
    (void)green_scope_begin(&name, (timeout), (flags))

static inline void green_private_scope_end(green_scope_t *scope)
{
    (void)green_scope_end(scope);
}

/* ---- Groups: tasks with one owner ---------------------------------------- */

/*
 * A group runs tasks that end together, at most limit at a time (0: any number).
 * All pages by then, or what has come in two seconds:
 *
 *     green_group_t *group = green_group_new(0, 0);
 *     for (int i = 0; i < n; i++)
 *         green_group_spawn(group, fetch, &page[i]);
 *     green_group_wait(group, NULL, GREEN_SEC(2));
 *     green_group_free(group);          // stops the slow, page[] may go
 */
#define GREEN_ALL_OR_NONE 0x200u /* the first failure cancels the group */

green_group_t *green_group_new(size_t limit, unsigned flags);

/*
 * Waits until fewer than the limit run, and spawns a task that the group owns.
 * ECANCELED also if the group is cancelled.  With options as for
 * green_task_spawn_with(), but that GREEN_DETACHED is EINVAL.
 */
int green_group_spawn(green_group_t *group, green_fn *run, void *arg);
int green_group_spawn_with(green_group_t *group, green_fn *run, void *arg,
                           const green_options_t *options);

/*
 * Waits until the group has no task.  0 when so; then *error, unless error is
 * NULL, is what the first died of that failed since a wait last returned 0 before
 * this one began, or 0.  More may be spawned afterwards, unless the group is
 * cancelled: that is for ever.  EDEADLK from a task of the group.
 */
int green_group_wait(green_group_t *group, int *error, int64_t timeout);

/* Cancels all its tasks, and every later spawn; returns at once. */
int green_group_cancel(green_group_t *group);

/*
 * Waits: cancels, waits for the end of all (rule 14), and releases the group.
 * Others in green_group_wait() are served first; from its beginning on every spawn
 * fails with ECANCELED.  -1, the group being valid, only with EDEADLK, also from a
 * task of the group, and with EBUSY if another call is freeing it.
 */
int green_group_free(green_group_t *group);

/* How many tasks it has; 0 with EINVAL for NULL. */
size_t green_group_size(const green_group_t *group);

/* ---- Queues -------------------------------------------------------------- */

/*
 * A queue of up to capacity items of item_size bytes, which are copied in and
 * out.  With capacity 0 a put waits for its get.  item_size 0 is EINVAL, more than
 * memory can hold ENOMEM.  A pool of workers:
 *
 *     static void *work(void *jobs)
 *     {
 *         job_t job;
 *         while (green_queue_get(jobs, &job, GREEN_FOREVER) == 0)
 *             run_job(&job);
 *         return NULL;                  // closed and empty, or cancelled
 *     }
 *
 * Spawn some in a group, put jobs, then green_queue_close(jobs) and
 * green_group_wait(): all that was put is done.
 */
green_queue_t *green_queue_new(size_t item_size, size_t capacity);

/* Waits for room, and puts a copy of *item.  EPIPE: the queue is closed. */
int green_queue_put(green_queue_t *queue, const void *item, int64_t timeout);

/*
 * Waits for an item, and moves the oldest to *item.  EPIPE: it is closed, and
 * empty.
 */
int green_queue_get(green_queue_t *queue, void *item, int64_t timeout);

/*
 * From now on puts fail with EPIPE, also those that wait.  What is in the queue
 * can still be got.  Closing again is 0.
 */
int green_queue_close(green_queue_t *queue);

/* How many items are in it; 0 with EINVAL for NULL. */
size_t green_queue_size(const green_queue_t *queue);

/* Releases it with what is in it.  EBUSY if a task waits for it. */
int green_queue_free(green_queue_t *queue);

/* ---- Events, semaphores, mutexes, conditions ------------------------------ */

/*
 * Plain structs: initialise, use, forget.  They must not move, nor go while a
 * task waits for them.  Rule 3 makes most locks superfluous: a mutex is for what
 * must stay whole over a wait.  A result for several tasks is an event beside the
 * variables that it announces.
 */
struct green_private_line {
    void *first, *last;
    uint64_t hub, room;
};

typedef struct green_event {
    struct green_private_line green_private_line;
    int green_private_set;
} green_event_t;
#define GREEN_EVENT_INIT { { NULL, NULL, 0, 0 }, 0 }

/* Sets it, and wakes all who wait; a second set is nothing.  Clears it. */
int green_event_set(green_event_t *event);
int green_event_clear(green_event_t *event);

/* Waits until it is set: 0 even if it has been cleared again since. */
int green_event_wait(green_event_t *event, int64_t timeout);

typedef struct green_semaphore {
    struct green_private_line green_private_line;
    int64_t green_private_units, green_private_most;
} green_semaphore_t;
/* most 0: no bound */
#define GREEN_SEMAPHORE_INIT(units, most) { { NULL, NULL, 0, 0 }, (units), (most) }

/* Waits for a unit, and takes it. */
int green_semaphore_acquire(green_semaphore_t *semaphore, int64_t timeout);

/* Gives one to the first who waits, or back.  EOVERFLOW beyond the bound. */
int green_semaphore_release(green_semaphore_t *semaphore);

typedef struct green_mutex {
    struct green_private_line green_private_line;
    uint64_t green_private_owner; /* number of a task, never used twice */
    unsigned green_private_depth, green_private_recursive;
} green_mutex_t;
#define GREEN_MUTEX_INIT { { NULL, NULL, 0, 0 }, 0, 0, 0 }
#define GREEN_MUTEX_INIT_RECURSIVE { { NULL, NULL, 0, 0 }, 0, 0, 1 }

/*
 * Waits until the calling task has it.  If it has it already, EDEADLK, unless it
 * is a recursive one.
 */
int green_mutex_lock(green_mutex_t *mutex, int64_t timeout);

/* Hands it to the first who waits.  EPERM if the calling task does not have it. */
int green_mutex_unlock(green_mutex_t *mutex);

typedef struct green_cond {
    struct green_private_line green_private_line;
} green_cond_t;
#define GREEN_COND_INIT { { NULL, NULL, 0, 0 } }

/*
 * Waits for a signal.  The mutex, if not NULL, is unlocked meanwhile, in one
 * step, and locked again before the return, success or not, under a shield; but
 * for EDEADLK, after which green_mutex_unlock() says EPERM if it is not held.
 * EPERM if the task does not have it.  There are no spurious signals, but look
 * again: others may have come first.
 */
int green_cond_wait(green_cond_t *cond, green_mutex_t *mutex, int64_t timeout);

/* Wakes the first n who wait, or all there are.  Is not kept for those who come. */
int green_cond_signal(green_cond_t *cond, size_t n);
#define GREEN_EVERYBODY ((size_t)-1)

/* ---- One of several ------------------------------------------------------- */

typedef enum green_case_kind {
    GREEN_KIND_NONE, /* never comes: a case that is switched off */
    GREEN_KIND_GET,
    GREEN_KIND_PUT,
    GREEN_KIND_FD,
    GREEN_KIND_TASK,
    GREEN_KIND_EVENT,
    GREEN_KIND_SEMAPHORE
} green_case_kind_t;

typedef struct green_case {
    int kind;        /* green_case_kind_t */
    void *object;
    void *get;       /* where the item goes */
    const void *put; /* the item */
    int fd;
    int events, revents; /* as in poll() */
    int error;           /* out: errno if the operation failed, EPIPE say; else 0 */
    void *reserved;      /* NULL */
} green_case_t;

#define GREEN_CASE_GET(queue, item) { GREEN_KIND_GET, (queue), (item), NULL, -1, 0, 0, 0, NULL }
#define GREEN_CASE_PUT(queue, item) { GREEN_KIND_PUT, (queue), NULL, (item), -1, 0, 0, 0, NULL }
#define GREEN_CASE_TASK(task) { GREEN_KIND_TASK, (task), NULL, NULL, -1, 0, 0, 0, NULL }
#define GREEN_CASE_EVENT(event) { GREEN_KIND_EVENT, (event), NULL, NULL, -1, 0, 0, 0, NULL }
#define GREEN_CASE_SEMAPHORE(semaphore)                                                \
    { GREEN_KIND_SEMAPHORE, (semaphore), NULL, NULL, -1, 0, 0, 0, NULL }

/*
 * Waits until one of n cases can be done, does that one alone, and returns its
 * index.  A get, a put and an acquire are done then; a descriptor is ready, a
 * task has ended, an event is set.
 *
 *     green_case_t cases[] = {
 *         GREEN_CASE_GET(jobs, &job),
 *         GREEN_CASE_FD(fd, POLLIN),
 *     };
 *     switch (green_select(cases, 2, GREEN_SEC(10))) {
 *     case 0: if (cases[0].error == 0) run_job(&job); ...
 *     case 1: talk(fd); ...
 *     case -1: ...                      // errno
 *     }
 *
 * Where several can be done one is chosen at random, all alike (by the seed of
 * rule 23 if there is one).  Who wants an order asks twice, the first time for the
 * preferred alone with GREEN_NOWAIT.
 */
int green_select(green_case_t *cases, int n, int64_t timeout);

/* ---- The hub --------------------------------------------------------------- */

#define GREEN_HUB_VIRTUAL_TIME 0x800u /* rule 23 */

/* All zero, or NULL for the whole, means the defaults. */
typedef struct green_hub_options {
    size_t stack_size; /* of tasks that ask for none; 0: as green_new() */
    unsigned threads;  /* of the process's pool, at most; 0: 16.  The first hub decides */
    unsigned flags;    /* GREEN_HUB_... above; unknown bits: EINVAL */
    uint64_t seed;     /* rule 23; 0: none */
    /*
     * Rule 13.  May only look; green_task_green() gives the task's green, DEAD.  It
     * runs on the stack of who releases the task, or on the hub's, of 64 KiB.
     */
    void (*failed)(green_task_t *task, int error, void *data);

    /*
     * A task that keeps the thread for longer than this many nanoseconds without
     * waiting is reported, once a turn, while it still does: hogged(name, thread, how
     * long so far, data) is called in a thread of its own, which the first such hub
     * of the process starts.  name is "" if it has none.  The main task is watched
     * only inside calls that wait.  0: none.
     */
    int64_t longest_turn;
    void (*hogged)(const char *name, pid_t thread, int64_t time, void *data);

    void *data;        /* for both */
    void *reserved[4]; /* not zero: EINVAL */
} green_hub_options_t;

/*
 * Makes the hub of the thread with options.  Without it the first use makes one
 * with the defaults.  EBUSY if there is one.
 */
int green_hub_init(const green_hub_options_t *options);

/*
 * Waits until every other task has ended that is no daemon and does not wait here
 * too.
 */
int green_hub_wait(int64_t timeout);

/*
 * Waits: cancels all other tasks, those that they spawn meanwhile too, waits for
 * their ends as under a shield, and unmakes the hub; the next use makes another.
 * ETIMEDOUT, the hub as before but all cancelled, if that takes longer.  On the main
 * green only, else EBUSY, as also while a green of the main task waits here.  Handles
 * stay valid and are still owed.  Call it before green_thread_end(), which is refused
 * with EBUSY while tasks live, and ends a hub that has none.
 */
int green_hub_end(int64_t timeout);

/*
 * A handle to the calling thread's hub for other threads.  While one is open,
 * something may come (rule 15).  It outlives the hub and its thread.
 */
green_hub_t *green_hub_open(void);

/*
 * From any thread: has the hub run run(arg) in a detached task of its own, those of
 * one thread in the order of its calls.  All
 * that two threads have to say to each other they say so: the task puts, sets,
 * cancels in its thread.  ESRCH if the hub is no more; arg is the caller's then.
 */
int green_hub_spawn(green_hub_t *hub, green_fn *run, void *arg);

/* From any thread: gives the handle back. */
int green_hub_close(green_hub_t *hub);

/*
 * For another event loop in this thread: a descriptor that is readable whenever
 * green_hub_run() would find something to do, timers included.  It is the hub's,
 * until green_hub_end() or fork(): only poll it.  The reverse, another loop in a task, is green_poll() on its
 * descriptor.
 */
int green_hub_fd(void);

/*
 * Waits, at most timeout, until some task is ready, and gives each that is ready
 * then one turn: what the main program of another loop calls, with GREEN_NOWAIT.  1
 * if a task ran, else 0; green_hub_fd() stays readable if more are ready.  On the
 * main green only, else EBUSY.
 */
int green_hub_run(int64_t timeout);

/*
 * Writes a line about each task of the thread to fd,
 *
 *     task 0x7f... "name": in green_queue_get(0x7f...) for 1.250 s, cancelled,
 *     at wait_for_work+0x2c
 *
 * -1 with errno if a write fails.  Only looks, and does not wait.
 */
int green_hub_dump(int fd);

typedef struct green_hub_stats {
    size_t tasks, ready, daemons;             /* that live; of these, in the line; and daemons */
    size_t descriptors, timers;               /* that are waited for */
    size_t offloads;                          /* calls in threads or waiting for one */
    uint64_t turns, polls;                    /* so far: of tasks; looks at descriptors */
} green_hub_stats_t;

/* Fills in the numbers of this thread's hub; size as for green_stats(). */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
int green_hub_stats(green_hub_stats_t *stats, size_t size);
#pragma GCC diagnostic pop

#ifdef __cplusplus
}
#endif
#endif
