/* SPDX-License-Identifier: MIT */
#ifndef GREEN_HUB_POOL_H
#define GREEN_HUB_POOL_H
/* The process's pool of threads, for what blocks. */
#include "hub.h"

/* A call in a thread of the pool.  Its memory is the caller's, or with drop the pool's. */
struct green__job {
    struct green__post post;     /* first: says that it has ended */
    struct green__job *next;     /* in the pool's queue; the pool's */
    struct green__job *hub_next, *hub_prev; /* among those of its hub, which waits for them */
    struct green__hub *hub;
    struct green__wait *wait;    /* who waits for it, or does no more */
    green_fn *run;
    void *arg;
    void (*drop)(void *value);
    void *value;                 /* what run returned ... */
    int error;                   /* ... and the errno that it left */
    bool looks_up;               /* at most half of the pool is for such calls */
    bool ended;
    _Atomic(int) state;          /* in pool.c */
};

#define GREEN__POOL_NOT_BEGUN (-2)

/*
 * Calls run(arg) in a thread and waits for its end, as green_offload() does.  0, or -1 with
 * errno, or GREEN__POOL_NOT_BEGUN with errno: run will not be called.
 */
int green__pool_call(struct green__call *call, green_fn *run, void *arg, void **value,
                     void (*drop)(void *value), bool looks_up, const char *name,
                     const void *object, const void *place);

#endif
