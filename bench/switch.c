/* SPDX-License-Identifier: MIT */
/*
 * What one switch costs: out of line and inlined, between two, to the parent,
 * round a ring, and from the depth of a stack.
 */
#include <green_fast.h>

#include "bench.h"

static green_t *make(green_fn *run, green_t *parent)
{
    green_t *g = green_new(run, parent);
    if (g == NULL)
        bench_fail("green_new");
    return g;
}

/* ---- The loops: into a green time and again, and out of it ---------------------- */

BENCH_LOOP static void enter_often(green_t *g, long times)
{
    for (; times != 0; times--)
        green_switch(g, NULL);
}

BENCH_LOOP static void enter_often_fast(green_t *g, long times)
{
    for (; times != 0; times--)
        green_switch_fast(g, NULL);
}

/* These are told who is next and wait until the one before enters them. */
BENCH_LOOP static void *pass_on(void *next)
{
    void *value = green_switch(green_main(), NULL);
    while (value != GREEN_FAILED)
        value = green_switch(next, value);
    return value;
}

BENCH_LOOP static void *pass_on_fast(void *next)
{
    void *value = green_switch(green_main(), NULL);
    while (value != GREEN_FAILED)
        value = green_switch_fast(next, value);
    return value;
}

BENCH_LOOP static void *yield_always(void *value)
{
    while (value != GREEN_FAILED)
        value = green_yield(value);
    return value;
}

BENCH_LOOP static void *yield_always_fast(void *value)
{
    while (value != GREEN_FAILED)
        value = green_yield_fast(value);
    return value;
}

/* ---- Rings: main is one of each ------------------------------------------------- */

enum { RING_MOST = 1024 };

struct ring {
    int size;
    bool fast;
    green_t *greens[RING_MOST]; /* all but main; made at the first run */
};

static double go_round(void *arg, long n)
{
    struct ring *ring = arg;
    if (ring->greens[0] == NULL) {
        int others = ring->size - 1;
        for (int i = 0; i < others; i++)
            ring->greens[i] = make(ring->fast ? pass_on_fast : pass_on, NULL);
        for (int i = 0; i < others; i++)
            green_switch(ring->greens[i], i + 1 < others ? ring->greens[i + 1] : green_main());
        green_switch(ring->greens[0], NULL);
    }
    green_t *first = ring->greens[0];
    long rounds = (n + ring->size - 1) / ring->size;
    double start = bench_now();
    if (ring->fast)
        enter_often_fast(first, rounds);
    else
        enter_often(first, rounds);
    return (bench_now() - start) * (double)n / (double)(rounds * ring->size);
}

/* ---- Parent and child ------------------------------------------------------------- */

static double yield(void *arg, long n)
{
    static green_t *g;
    (void)arg;
    if (g == NULL)
        g = make(yield_always, NULL);
    double start = bench_now();
    enter_often(g, (n + 1) / 2);
    return bench_now() - start;
}

static double yield_fast(void *arg, long n)
{
    static green_t *g;
    (void)arg;
    if (g == NULL)
        g = make(yield_always_fast, NULL);
    double start = bench_now();
    enter_often_fast(g, (n + 1) / 2);
    return bench_now() - start;
}

/* ---- Depth: as many frames below the switch, on both sides ------------------------ */

struct depth {
    int frames;
    bool fast;
    green_t *g;
    long n;
};

/* The address of a local keeps the frames apart. */
__attribute__((noinline)) static double go_down(struct depth *depth, int frames, bool in_child)
{
    volatile char frame[64];
    frame[0] = (char)frames;
    if (frames > 0) {
        double result = go_down(depth, frames - 1, in_child);
        return result + frame[0] - (char)frames;
    }
    double start = bench_now();
    if (in_child && depth->fast)
        pass_on_fast(green_main());
    else if (in_child)
        pass_on(green_main());
    else if (depth->fast)
        enter_often_fast(depth->g, (depth->n + 1) / 2);
    else
        enter_often(depth->g, (depth->n + 1) / 2);
    return bench_now() - start;
}

static void *go_down_in_child(void *value)
{
    struct depth *depth = value;
    go_down(depth, depth->frames, true);
    return NULL;
}

static double at_depth(void *arg, long n)
{
    struct depth *depth = arg;
    if (depth->g == NULL) {
        depth->g = make(go_down_in_child, NULL);
        green_switch(depth->g, depth);
    }
    depth->n = n;
    return go_down(depth, depth->frames, false);
}

/* ---- All ---------------------------------------------------------------------------- */

#define RING(n, is_fast) (&(struct ring){.size = n, .fast = is_fast})
#define DEPTH(n, is_fast) (&(struct depth){.frames = n, .fast = is_fast})

#define SLOW "green_switch"
#define FAST "green_switch_fast"

int main(int argc, char **argv)
{
    const struct candidate candidates[] = {
        {"two greens in turn", SLOW, go_round, RING(2, false), 0, NULL},
        {"two greens in turn", FAST, go_round, RING(2, true), 0, NULL},
        {"parent and child", "green_switch, green_yield", yield, NULL, 0, NULL},
        {"parent and child", "green_switch_fast, green_yield_fast", yield_fast, NULL, 0, NULL},
        {"three in a ring", SLOW, go_round, RING(3, false), 0, NULL},
        {"three in a ring", FAST, go_round, RING(3, true), 0, NULL},
        {"frames below: 0", SLOW, at_depth, DEPTH(0, false), 0, NULL},
        {"frames below: 0", FAST, at_depth, DEPTH(0, true), 0, NULL},
        {"frames below: 10", SLOW, at_depth, DEPTH(10, false), 0, NULL},
        {"frames below: 10", FAST, at_depth, DEPTH(10, true), 0, NULL},
        {"frames below: 100", SLOW, at_depth, DEPTH(100, false), 0, NULL},
        {"frames below: 100", FAST, at_depth, DEPTH(100, true), 0, NULL},
#define IN_A_RING(n) \
        {"in a ring: " #n, SLOW, go_round, RING(n, false), 0, NULL}, \
        {"in a ring: " #n, FAST, go_round, RING(n, true), 0, NULL}
        IN_A_RING(2),
        IN_A_RING(4),
        IN_A_RING(16),
        IN_A_RING(64),
        IN_A_RING(256),
        IN_A_RING(1024),
    };
    return bench(argc, argv, "switch", "one switch", candidates,
                 sizeof candidates / sizeof candidates[0]);
}
