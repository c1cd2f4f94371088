/* SPDX-License-Identifier: MIT */
/* Lots: see park.h. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "patch/park.h"

_Thread_local struct green__lot *green__lot_mine;

static struct green__lot *lots; /* all there ever were; atomic */

unsigned green__conds_waiting, green__semaphores_waiting;

static void lock_lot(struct green__lot *lot)
{
    while (__atomic_exchange_n(&lot->lock, 1, __ATOMIC_ACQUIRE) != 0)
        sched_yield();
}

static void unlock_lot(struct green__lot *lot)
{
    __atomic_store_n(&lot->lock, 0, __ATOMIC_RELEASE);
}

static struct green__lot *first_lot(void)
{
    return __atomic_load_n(&lots, __ATOMIC_ACQUIRE);
}

/* ---- Memory -------------------------------------------------------------------------- */

#define CHUNK 65536

struct green__chunk {
    struct green__chunk *next;
    bool of_waiters;
    size_t n;
    union {
        struct green__waiter waiters[1];
        struct green__record records[1];
    } nodes;
};

static void *map(size_t size)
{
    int error = errno;
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    errno = error;
    return memory != MAP_FAILED ? memory : NULL;
}

static void give_waiter(struct green__lot *lot, struct green__waiter *w)
{
    w->used = false;
    w->next = lot->free_waiters;
    lot->free_waiters = w;
}

static void give_record(struct green__lot *lot, struct green__record *record)
{
    record->next = lot->free_records;
    lot->free_records = record;
}

static void add_chunk(struct green__lot *lot, bool of_waiters)
{
    struct green__chunk *chunk = map(CHUNK);
    if (chunk == NULL)
        return;
    size_t size = of_waiters ? sizeof chunk->nodes.waiters[0] : sizeof chunk->nodes.records[0];
    chunk->n = (CHUNK - offsetof(struct green__chunk, nodes)) / size;
    chunk->of_waiters = of_waiters;
    chunk->next = lot->chunks;
    lot->chunks = chunk;
    for (size_t i = chunk->n; i-- > 0;)
        if (of_waiters)
            give_waiter(lot, &chunk->nodes.waiters[i]);
        else
            give_record(lot, &chunk->nodes.records[i]);
}

/* ---- Lists --------------------------------------------------------------------------- */

static void append(struct green__waiters *list, struct green__waiter *w)
{
    w->in = list;
    w->next = NULL;
    w->prev = list->last;
    if (list->last != NULL)
        list->last->next = w;
    else
        list->first = w;
    list->last = w;
}

static void take_off(struct green__waiter *w)
{
    struct green__waiters *list = w->in;
    if (list == NULL)
        return;
    if (w->prev != NULL)
        w->prev->next = w->next;
    else
        list->first = w->next;
    if (w->next != NULL)
        w->next->prev = w->prev;
    else
        list->last = w->prev;
    w->in = NULL;
}

static void follow(struct green__lot *lot, struct green__waiter *w)
{
    w->follower = true;
    w->followed = NULL;
    w->follows = lot->followers;
    if (lot->followers != NULL)
        lot->followers->followed = w;
    lot->followers = w;
}

static void follow_no_more(struct green__lot *lot, struct green__waiter *w)
{
    if (!w->follower)
        return;
    if (w->followed != NULL)
        w->followed->follows = w->follows;
    else
        lot->followers = w->follows;
    if (w->follows != NULL)
        w->follows->followed = w->followed;
    w->follower = false;
}

static size_t bucket_of(const void *address)
{
    uint64_t bits = (uint64_t)(uintptr_t)address >> 3;
    return (bits * UINT64_C(0x9e3779b97f4a7c15)) >> 58;
}

/* ---- Lots: their beginning and end --------------------------------------------------- */

/* Nobody else writes to it any more: gives it. */
static int take_event(struct green__lot *lot)
{
    int event = __atomic_exchange_n(&lot->event, -1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&lot->users, __ATOMIC_SEQ_CST) != 0)
        sched_yield();
    return event;
}

/* How many waiters others look for, by their list. */
static unsigned *count_of(struct green__lot *lot, const struct green__waiters *list, unsigned **all)
{
    if (list == &lot->semaphores) {
        *all = &green__semaphores_waiting;
        return &lot->semaphores_waiting;
    }
    if (list >= lot->conds && list < lot->conds + PARK_BUCKETS) {
        *all = &green__conds_waiting;
        return &lot->conds_waiting;
    }
    return NULL;
}

static void count(struct green__lot *lot, const struct green__waiters *list, unsigned by)
{
    unsigned *all, *own = count_of(lot, list, &all);
    if (own != NULL) {
        __atomic_add_fetch(own, by, __ATOMIC_SEQ_CST);
        __atomic_add_fetch(all, by, __ATOMIC_SEQ_CST);
    }
}

/* Under the lock, where others know the list. */
static void leave_list(struct green__lot *lot, struct green__waiter *w)
{
    if (w->in != NULL)
        count(lot, w->in, -1u);
    take_off(w);
}

/* Takes all waiters but those of `who` away: no code of theirs will run. */
static void drop_waiters(struct green__lot *lot, green__who who)
{
    for (struct green__chunk *chunk = lot->chunks; chunk != NULL; chunk = chunk->next)
        for (size_t i = 0; chunk->of_waiters && i < chunk->n; i++) {
            struct green__waiter *w = &chunk->nodes.waiters[i];
            if (!w->used || (who != NULL && w->who == who))
                continue;
            leave_list(lot, w);
            follow_no_more(lot, w);
            give_waiter(lot, w);
        }
    lot->leader = NULL;
}

static void drop_records(struct green__lot *lot)
{
    for (size_t i = 0; i < PARK_BUCKETS; i++)
        for (struct green__record *record; (record = lot->held[i]) != NULL;) {
            lot->held[i] = record->next;
            give_record(lot, record);
        }
    lot->records = 0;
}

/* The thread has ended, or is none of this process. */
static void give_lot(struct green__lot *lot)
{
    lock_lot(lot);
    drop_waiters(lot, NULL);
    drop_records(lot);
    lot->once_owner = NULL;
    lot->once_depth = 0;
    unlock_lot(lot);
    int event = take_event(lot);
    if (event >= 0)
        (void)syscall(SYS_close, event);
    __atomic_store_n(&lot->taken, 0, __ATOMIC_RELEASE);
}

static void end_thread(void *lot)
{
    green__lot_mine = NULL;
    give_lot(lot);
}

static int forking;
static struct green__lot *locked; /* and those after it: all there were */

static void lock_all(void)
{
    while (__atomic_exchange_n(&forking, 1, __ATOMIC_ACQUIRE) != 0)
        sched_yield();
    locked = first_lot();
    for (struct green__lot *lot = locked; lot != NULL; lot = lot->next)
        lock_lot(lot);
}

static void unlock_all(void)
{
    for (struct green__lot *lot = locked; lot != NULL; lot = lot->next)
        unlock_lot(lot);
    __atomic_store_n(&forking, 0, __ATOMIC_RELEASE);
}

/*
 * In the child of fork() there are the task that forked, which does not wait, and the main
 * task, which looks again.  The eventfd is the parent's.
 */
static void begin_child(void)
{
    unlock_all();
    for (struct green__lot *lot = first_lot(); lot != NULL; lot = lot->next)
        if (lot != green__lot_mine && __atomic_load_n(&lot->taken, __ATOMIC_RELAXED) != 0) {
            __atomic_store_n(&lot->users, 0, __ATOMIC_RELAXED);
            give_lot(lot);
        }
    struct green__lot *mine = green__lot_mine;
    if (mine == NULL)
        return;
    mine->thread = (pid_t)syscall(SYS_gettid);
    drop_waiters(mine, mine);
    green__who me = green__lot_who(mine);
    if (mine->once_owner != mine && mine->once_owner != me)
        mine->once_depth = 0;
    for (size_t i = 0; i < PARK_BUCKETS; i++)
        for (struct green__record *record = mine->held[i], *next; record != NULL; record = next) {
            next = record->next;
            if (record->thread == 0 && record->owner != mine && record->owner != me)
                green__record_pass(mine, record); /* who has it did not lock it yet */
        }
    __atomic_store_n(&mine->users, 0, __ATOMIC_RELAXED);
    for (struct green__chunk *chunk = mine->chunks; chunk != NULL; chunk = chunk->next)
        for (size_t i = 0; chunk->of_waiters && i < chunk->n; i++)
            if (chunk->nodes.waiters[i].used)
                (void)green_event_set(&chunk->nodes.waiters[i].event);
    int event = take_event(mine);
    if (event >= 0)
        (void)green_close(event);
}

static pthread_key_t end_key;

/* The hub's handlers of fork() are there already: it has a task that waits. */
static bool set_up(void)
{
    static int state, lock; /* 1: done; 2: it cannot be */
    if (__atomic_load_n(&state, __ATOMIC_ACQUIRE) != 0)
        return state == 1;
    while (__atomic_exchange_n(&lock, 1, __ATOMIC_ACQUIRE) != 0)
        sched_yield();
    if (state == 0) {
        bool done = pthread_key_create(&end_key, end_thread) == 0 &&
                    pthread_atfork(lock_all, unlock_all, begin_child) == 0;
        __atomic_store_n(&state, done ? 1 : 2, __ATOMIC_RELEASE);
    }
    __atomic_store_n(&lock, 0, __ATOMIC_RELEASE);
    return state == 1;
}

struct green__lot *green__lot_need(void)
{
    struct green__lot *lot = green__lot_mine;
    if (lot != NULL)
        return lot;
    if (!set_up())
        return NULL;
    for (lot = first_lot(); lot != NULL; lot = lot->next)
        if (__atomic_exchange_n(&lot->taken, 1, __ATOMIC_ACQUIRE) == 0)
            break;
    if (lot == NULL) {
        if ((lot = map(sizeof *lot)) == NULL)
            return NULL;
        lot->taken = 1;
        lot->event = -1;
        lot->next = first_lot();
        while (!__atomic_compare_exchange_n(&lots, &lot->next, lot, true, __ATOMIC_ACQ_REL,
                                            __ATOMIC_ACQUIRE))
            continue;
    }
    if (pthread_setspecific(end_key, lot) != 0) {
        __atomic_store_n(&lot->taken, 0, __ATOMIC_RELEASE);
        return NULL;
    }
    lot->thread = (pid_t)syscall(SYS_gettid);
    green__lot_mine = lot;
    return lot;
}

/* The main task outlives hubs, and is told from all others also without one. */
green__who green__lot_who(struct green__lot *lot)
{
    const green_task_t *task = green_task_current();
    return task == NULL || green_task_green(task) == green_main() ? (green__who)lot : task;
}

/* ---- Records ------------------------------------------------------------------------- */

struct green__record *green__record_find(const struct green__lot *lot, const void *address)
{
    struct green__record *record = lot->held[bucket_of(address)];
    while (record != NULL && record->address != address)
        record = record->next;
    return record;
}

struct green__record *green__record_need(struct green__lot *lot, const void *address)
{
    struct green__record *record = green__record_find(lot, address);
    if (record != NULL)
        return record;
    if (lot->free_records == NULL)
        add_chunk(lot, false);
    if ((record = lot->free_records) == NULL)
        return NULL;
    lot->free_records = record->next;
    struct green__record **bucket = &lot->held[bucket_of(address)];
    *record = (struct green__record){.next = *bucket, .address = address};
    *bucket = record;
    lot->records++;
    return record;
}

void green__record_put(struct green__lot *lot, struct green__record *record)
{
    if (record->depth != 0 || record->waiters.first != NULL)
        return;
    struct green__record **at = &lot->held[bucket_of(record->address)];
    while (*at != record)
        at = &(*at)->next;
    *at = record->next;
    lot->records--;
    give_record(lot, record);
}

void green__record_pass(struct green__lot *lot, struct green__record *record)
{
    struct green__waiter *w = green__park_first(&record->waiters);
    record->thread = 0;
    record->depth = w != NULL;
    record->owner = w != NULL ? w->who : NULL;
    if (w != NULL)
        green__park_call(w);
    else
        green__record_put(lot, record);
}

/* ---- Waiting ------------------------------------------------------------------------- */

static uint64_t last_number;

struct green__waiter *green__park_begin(struct green__lot *lot, const void *address)
{
    const green_event_t unset = GREEN_EVENT_INIT;
    if (lot->free_waiters == NULL)
        add_chunk(lot, true);
    struct green__waiter *w = lot->free_waiters;
    if (w == NULL)
        return NULL;
    lot->free_waiters = w->next;
    *w = (struct green__waiter){
        .address = address,
        .who = green__lot_who(lot),
        .number = __atomic_add_fetch(&last_number, 1, __ATOMIC_RELAXED),
        .event = unset,
        .used = true,
    };
    return w;
}

void green__park_own(struct green__waiters *list, struct green__waiter *w)
{
    append(list, w);
}

void green__park_remote(struct green__lot *lot, struct green__waiters *list,
                        struct green__waiter *w)
{
    if (list == lot->conds)
        list += bucket_of(w->address);
    lock_lot(lot);
    append(list, w);
    count(lot, list, 1);
    unlock_lot(lot);
    follow(lot, w);
}

struct green__waiter *green__park_first(struct green__waiters *list)
{
    struct green__waiter *w = list->first;
    if (w != NULL)
        take_off(w);
    return w;
}

void green__park_call(struct green__waiter *w)
{
    w->called = true;
    (void)green_event_set(&w->event);
}

/* Calls those whom other threads have called, or for whom there is a unit. */
static void collect(struct green__lot *lot)
{
    __atomic_store_n(&lot->kicked, 0, __ATOMIC_SEQ_CST);
    lock_lot(lot);
    for (struct green__waiter *w; (w = green__park_first(&lot->called)) != NULL;)
        green__park_call(w);
    for (struct green__waiter *w = lot->semaphores.first, *next; w != NULL; w = next) {
        next = w->next;
        if (green__take_unit(w->address)) {
            leave_list(lot, w);
            green__park_call(w);
        }
    }
    unlock_lot(lot);
}

static bool need_event(struct green__lot *lot)
{
    if (__atomic_load_n(&lot->event, __ATOMIC_RELAXED) >= 0)
        return true;
    int event = (int)syscall(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (event >= 0)
        __atomic_store_n(&lot->event, event, __ATOMIC_SEQ_CST);
    return event >= 0;
}

int64_t green__park_left(int64_t due)
{
    if (due == GREEN_FOREVER)
        return GREEN_FOREVER;
    int64_t now = green_now();
    return due > now ? due - now : 0;
}

/* Without an eventfd it looks every 10 ms. */
static int lead(struct green__lot *lot, struct green__waiter *w, int64_t due)
{
    bool has_event = need_event(lot);
    collect(lot);
    if (w->called)
        return 0;
    int64_t left = green__park_left(due);
    if (has_event) {
        green_case_t cases[] = {
            GREEN_CASE_EVENT(&w->event),
            GREEN_CASE_FD(lot->event, POLLIN),
        };
        int which = green_select(cases, 2, left);
        if (which == 1) {
            uint64_t times;
            if (cases[1].error != 0 || (cases[1].revents & POLLNVAL) != 0)
                (void)take_event(lot); /* somebody has closed it */
            else
                (void)syscall(SYS_read, lot->event, &times, sizeof times);
        }
        if (which >= 0)
            collect(lot);
        if (which >= 0 || errno == ETIMEDOUT || errno == ECANCELED || errno == EINTR)
            return which >= 0 ? 0 : errno;
    }
    int64_t slice = left < GREEN_MS(PARK_SLICE_MS) ? left : GREEN_MS(PARK_SLICE_MS);
    if (green_event_wait(&w->event, slice) == 0 ||
        (errno == ETIMEDOUT && slice < left && green_task_check() == 0)) {
        collect(lot);
        return 0;
    }
    return errno;
}

int green__park_wait(struct green__lot *lot, struct green__waiter *w, int64_t due)
{
    int error = 0;
    while (!w->called && error == 0) {
        if (w->follower && lot->leader == NULL)
            lot->leader = w;
        if (lot->leader == w)
            error = lead(lot, w, due);
        else if (green_event_wait(&w->event, green__park_left(due)) != 0)
            error = errno;
        (void)green_event_clear(&w->event);
    }
    return w->called ? 0 : error;
}

bool green__park_end(struct green__lot *lot, struct green__waiter *w)
{
    int error = errno;
    if (w->follower) {
        lock_lot(lot);
        if (w->in == &lot->called)
            w->called = true;
        leave_list(lot, w);
        unlock_lot(lot);
        follow_no_more(lot, w);
    } else {
        take_off(w);
    }
    if (lot->leader == w)
        lot->leader = NULL;
    if (lot->leader == NULL && lot->followers != NULL) /* also if that one leaves, too */
        (void)green_event_set(&lot->followers->event);
    bool called = w->called;
    give_waiter(lot, w);
    errno = error;
    return called;
}

int green__park_pause(int64_t *pause, int64_t due)
{
    int64_t left = green__park_left(due);
    if (left == 0)
        return ETIMEDOUT;
    if (green_sleep(*pause < left ? *pause : left) != 0)
        return errno;
    if (*pause < GREEN_MS(PARK_SLICE_MS))
        *pause = 2 * *pause < GREEN_MS(PARK_SLICE_MS) ? 2 * *pause : GREEN_MS(PARK_SLICE_MS);
    return 0;
}

/* ---- Waking from anywhere ------------------------------------------------------------ */

static void kick(struct green__lot *lot)
{
    const uint64_t one = 1;
    if (__atomic_exchange_n(&lot->kicked, 1, __ATOMIC_SEQ_CST) != 0)
        return;
    __atomic_add_fetch(&lot->users, 1, __ATOMIC_SEQ_CST);
    int event = __atomic_load_n(&lot->event, __ATOMIC_SEQ_CST);
    if (event >= 0)
        (void)syscall(SYS_write, event, &one, sizeof one);
    __atomic_sub_fetch(&lot->users, 1, __ATOMIC_SEQ_CST);
}

/* One waiter, of those that had come by then: whether there was one. */
static bool call_in(struct green__lot *lot, const void *cond, uint64_t newest)
{
    lock_lot(lot);
    struct green__waiter *w = lot->conds[bucket_of(cond)].first;
    while (w != NULL && (w->address != cond || w->number > newest))
        w = w->next;
    bool own = lot == green__lot_mine;
    if (w != NULL) {
        leave_list(lot, w);
        append(&lot->called, w);
        if (own && green_event_set(&w->event) == 0) {
            take_off(w);
            w->called = true;
            unlock_lot(lot);
            return true;
        }
    }
    unlock_lot(lot);
    if (w != NULL)
        kick(lot);
    return w != NULL;
}

void green__call_condition(const void *cond, bool all)
{
    int error = errno;
    bool goes_on = true;
    uint64_t newest = __atomic_load_n(&last_number, __ATOMIC_RELAXED);
    for (struct green__lot *lot = first_lot(); goes_on && lot != NULL; lot = lot->next)
        while (__atomic_load_n(&lot->conds_waiting, __ATOMIC_SEQ_CST) != 0 &&
               call_in(lot, cond, newest))
            if (!all) {
                goes_on = false;
                break;
            }
    errno = error;
}

void green__call_semaphores(void)
{
    int error = errno;
    for (struct green__lot *lot = first_lot(); lot != NULL; lot = lot->next)
        if (__atomic_load_n(&lot->semaphores_waiting, __ATOMIC_SEQ_CST) != 0)
            kick(lot);
    errno = error;
}

void green__call_number(struct green__lot *lot, uint64_t number, int result)
{
    lock_lot(lot);
    struct green__waiter *w = lot->others.first;
    while (w != NULL && w->number != number)
        w = w->next;
    if (w != NULL) {
        w->result = result;
        leave_list(lot, w);
        append(&lot->called, w);
    }
    unlock_lot(lot);
    if (w != NULL)
        kick(lot);
}
