/* SPDX-License-Identifier: MIT */
/*
 * longest_turn: a thread that looks at what the hubs' threads are doing, and reports a
 * turn that lasts.  It touches no task: the name is copied, by words, at the beginning
 * of each turn, with a number that is odd while that goes on.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "hub.h"

#define NAME_WORDS 4

struct green__watch {
    _Atomic(uint64_t) number;              /* of the turn, twice; odd: being written */
    _Atomic(int64_t) begun;                /* when; 0: nobody's turn */
    _Atomic(uint64_t) name[NAME_WORDS];
    pid_t thread;
    int64_t longest;
    void (*hogged)(const char *, pid_t, int64_t, void *);
    void *data;
    uint64_t reported;                     /* the watching thread's */
    struct green__watch *next;             /* under the lock */
};
_Static_assert(GREEN__NAME_MAX < NAME_WORDS * sizeof(uint64_t), "a name fits");

static pthread_mutex_t watch_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t watch_more; /* on CLOCK_MONOTONIC; under the lock */
static struct green__watch *watches;
static bool watching;             /* there is the thread */

static int64_t watch_clock(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

/* Reports a turn if it is too long; returns when to look again.  Under the lock. */
static int64_t watch_look(struct green__watch *watch, int64_t now)
{
    uint64_t name[NAME_WORDS];
    uint64_t number = atomic_load(&watch->number);
    int64_t begun = atomic_load(&watch->begun);
    for (int i = 0; i < NAME_WORDS; i++)
        name[i] = atomic_load(&watch->name[i]);
    if (number % 2 != 0 || atomic_load(&watch->number) != number)
        return now + watch->longest / 4; /* a turn begins just now */
    if (begun == 0 || number == watch->reported)
        return now + watch->longest / 2;
    int64_t over = green__time_add(begun, watch->longest);
    if (over > now)
        return over;
    watch->reported = number;
    watch->hogged((const char *)name, watch->thread, now - begun, watch->data);
    return now + watch->longest / 2;
}

static void *watch_all(void *unused)
{
    green__own_lock(&watch_lock);
    while (watches != NULL) {
        int64_t now = watch_clock(), next = INT64_MAX;
        for (struct green__watch *watch = watches; watch != NULL; watch = watch->next) {
            int64_t then = watch_look(watch, now);
            next = then < next ? then : next;
        }
        struct timespec time = {.tv_sec = (time_t)(next / INT64_C(1000000000)),
                                .tv_nsec = next % INT64_C(1000000000)};
        pthread_cond_timedwait(&watch_more, &watch_lock, &time);
    }
    watching = false;
    pthread_mutex_unlock(&watch_lock);
    return unused;
}

/* The thread, with all signals blocked: the program's handlers run in its own threads. */
static int start_watching(void)
{
    pthread_condattr_t attributes;
    pthread_t thread;
    sigset_t all, before;
    if (pthread_condattr_init(&attributes) != 0)
        return ENOMEM;
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&watch_more, &attributes);
    pthread_condattr_destroy(&attributes);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&thread, NULL, watch_all, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error == 0)
        pthread_detach(thread);
    watching = error == 0;
    return error;
}

int green__watch_begin(struct green__hub *hub, int64_t longest,
                       void (*hogged)(const char *, pid_t, int64_t, void *), void *data)
{
    struct green__watch *watch = calloc(1, sizeof *watch);
    if (watch == NULL)
        return green__call_fail(ENOMEM);
    watch->thread = (pid_t)syscall(SYS_gettid);
    watch->longest = longest;
    watch->hogged = hogged;
    watch->data = data;
    green__own_lock(&watch_lock);
    watch->next = watches;
    watches = watch;
    int error = 0;
    if (!watching)
        error = start_watching();
    else
        pthread_cond_signal(&watch_more);
    if (error != 0)
        watches = watch->next;
    pthread_mutex_unlock(&watch_lock);
    if (error != 0) {
        free(watch);
        return green__call_fail(error == EAGAIN ? EAGAIN : ENOMEM);
    }
    hub->watch = watch;
    return 0;
}

void green__watch_end(struct green__hub *hub)
{
    struct green__watch *watch = hub->watch;
    if (watch == NULL)
        return;
    hub->watch = NULL;
    green__own_lock(&watch_lock);
    struct green__watch **at = &watches;
    while (*at != NULL && *at != watch)
        at = &(*at)->next;
    if (*at != NULL)
        *at = watch->next;
    if (watching)
        pthread_cond_signal(&watch_more);
    pthread_mutex_unlock(&watch_lock);
    free(watch);
}

void green__watch_turn(struct green__hub *hub, const green_t *g)
{
    struct green__watch *watch = hub->watch;
    uint64_t words[NAME_WORDS] = {0};
    if (g != NULL && green__task_of(hub, (green_t *)g) == &hub->main)
        g = NULL; /* watched only inside calls that wait */
    const char *name = g != NULL ? green_name(g) : NULL;
    if (name != NULL)
        memcpy(words, name, strlen(name));
    uint64_t number = atomic_load_explicit(&watch->number, memory_order_relaxed);
    atomic_store(&watch->number, number + 1);
    atomic_store(&watch->begun, g != NULL ? watch_clock() : 0);
    for (int i = 0; i < NAME_WORDS; i++)
        atomic_store_explicit(&watch->name[i], words[i], memory_order_release); /* after it is odd */
    atomic_store(&watch->number, number + 2);
}

/* In the child there is no such thread; hubs that are left get one when they begin. */
void green__watch_fork(struct green__hub *hub)
{
    struct green__watch *mine = hub != NULL ? hub->watch : NULL;
    pthread_mutex_init(&watch_lock, NULL);
    watches = mine;
    watching = false;
    if (mine != NULL) {
        mine->next = NULL;
        mine->thread = (pid_t)syscall(SYS_gettid);
        (void)start_watching();
    }
}
