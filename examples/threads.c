/* SPDX-License-Identifier: MIT
 *
 * One world per core.  A green stays on its thread, so a program that wants
 * several cores starts several threads, each with greens of its own; nothing is
 * shared but the work.  Here each looks for primes among its part of the
 * numbers: one green makes them, a second one lets the primes through.
 *
 *     threads [THREADS [LIMIT]]      one per core and 100000 unless given
 */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <green.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST = 256 };

static long limit = 100000;

struct world {
    pthread_t thread;
    long first, step; /* its part: every step-th number */
    int found, error;
    green_t *numbers, *primes;
};

static void *make_numbers(void *argument)
{
    struct world *world = argument;

    for (long n = world->first; n < limit; n += world->step)
        if (green_yield(&n) == GREEN_FAILED)
            return GREEN_FAILED;
    return NULL;
}

static int is_prime(long n)
{
    for (long divisor = 2; divisor * divisor <= n; divisor++)
        if (n % divisor == 0)
            return 0;
    return 1;
}

static void *let_primes_through(void *argument)
{
    struct world *world = argument;
    long *n;

    while ((n = green_switch(world->numbers, world)) != NULL && n != GREEN_FAILED)
        if (is_prime(*n) && green_yield(n) == GREEN_FAILED)
            return GREEN_FAILED;
    return n;
}

static void *run(void *argument)
{
    struct world *world = argument;
    void *n;

    world->primes = green_new(let_primes_through, NULL);
    world->numbers = green_new(make_numbers, world->primes);
    while ((n = green_switch(world->primes, world)) != NULL && n != GREEN_FAILED)
        world->found++;
    if (n == GREEN_FAILED || green_free(world->primes) == -1 || green_free(world->numbers) == -1)
        world->error = errno;
    return NULL;
}

int main(int argc, char **argv)
{
    static struct world worlds[MOST];
    long cores = argc > 1 ? atol(argv[1]) : sysconf(_SC_NPROCESSORS_ONLN);
    int count = cores > MOST ? MOST : (int)cores, found = 0, error = 0;

    if (argc > 2)
        limit = atol(argv[2]);
    if (count < 1 || limit < 1)
        return fprintf(stderr, "usage: threads [THREADS [LIMIT]]\n"), 2;
    for (int i = 0; i < count && error == 0; i++) {
        worlds[i] = (struct world){ .first = 2 + i, .step = count };
        error = pthread_create(&worlds[i].thread, NULL, run, &worlds[i]);
        if (error != 0)
            count = i; /* so many are to be waited for */
    }
    for (int i = 0; i < count; i++) {
        pthread_join(worlds[i].thread, NULL);
        error = worlds[i].error != 0 ? worlds[i].error : error;
        found += worlds[i].found;
    }
    if (error != 0)
        return fprintf(stderr, "threads: %s\n", strerror(error)), 1;
    printf("%d primes below %ld, found by %d threads\n", found, limit, count);
    if (fflush(stdout) == EOF)
        return perror("threads"), 1;
    return 0;
}
