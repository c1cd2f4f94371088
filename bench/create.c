/* SPDX-License-Identifier: MIT */
/*
 * What a green costs from green_new() to green_free(): one after the other,
 * whose stack is at hand, and many that are held at once.
 */
#include <stdlib.h>

#include <green.h>

#include "bench.h"

static void *end_at_once(void *value)
{
    return value;
}

static double one_by_one(void *arg, long n)
{
    (void)arg;
    double start = bench_now();
    for (long i = 0; i < n; i++) {
        green_t *g = green_new(end_at_once, NULL);
        if (g == NULL)
            return -1;
        green_switch(g, NULL);
        green_free(g);
    }
    return bench_now() - start;
}

static double never_run(void *arg, long n)
{
    (void)arg;
    double start = bench_now();
    for (long i = 0; i < n; i++)
        if (green_free(green_new(end_at_once, NULL)) != 0)
            return -1;
    return bench_now() - start;
}

static void *wait_once(void *value)
{
    return green_yield(value);
}

/* n greens that are all started before the first of them ends. */
static double held(void *arg, long n)
{
    green_t **greens = malloc((size_t)n * sizeof *greens);
    long made = 0;
    (void)arg;
    if (greens == NULL)
        return -1;
    double start = bench_now();
    while (made < n && (greens[made] = green_new(wait_once, NULL)) != NULL)
        green_switch(greens[made++], NULL);
    for (long i = 0; i < made; i++) {
        green_switch(greens[i], NULL);
        green_free(greens[i]);
    }
    double time = bench_now() - start;
    free(greens);
    return made == n ? time : -1;
}

int main(int argc, char **argv)
{
    static const struct candidate candidates[] = {
        {"one at a time", "new, switch, death, free", one_by_one, NULL, 0, NULL},
        {"one at a time", "new, free", never_run, NULL, 0, NULL},
        {"held at once", "1", held, NULL, 1, NULL},
        {"held at once", "10", held, NULL, 10, NULL},
        {"held at once", "100", held, NULL, 100, NULL},
        {"held at once", "1000", held, NULL, 1000, NULL},
        {"held at once", "10000", held, NULL, 10000, NULL},
        {"held at once", "100000", held, NULL, 100000, NULL},
        {"held at once", "1000000", held, NULL, 1000000, NULL},
    };
    return bench(argc, argv, "create", "one green", candidates,
                 sizeof candidates / sizeof candidates[0]);
}
