/* SPDX-License-Identifier: MIT */
/*
 * The long run: laps of a hundred switches for each green that is made, of all
 * kinds, in several threads, until there were 10^10 switches and 10^8 greens or
 * the time is over.  Memory may not drift by 1 MiB from lap to lap, nor may the
 * library's counters or the mappings.
 *
 *     soak            10^10 switches, 10^8 greens: minutes
 *     soak SECONDS    for so long, and at least until it has warmed up
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <green.h>

#define V(n) ((void *)(intptr_t)(n))
#define must(expr) ((expr) ? (void)0 : fail(__LINE__, #expr))

enum {
    CROWD = 1000,       /* greens that live all the time */
    SWITCHES = 1000000, /* in a lap, at least */
    GREENS = 10000,     /* made in a lap */
    WARM_UP = 50,       /* laps, after which memory is measured ... */
    PAUSE = 20          /* ... every so many */
};
#define DRIFT (1024L * 1024)

static uint64_t switches, greens;
static uint32_t seed = 2463534242u;

_Noreturn static void fail(int line, const char *what)
{
    fprintf(stderr, "soak.c:%d: not so: %s\n", line, what);
    exit(1);
}

static uint32_t next(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 17;
    return seed ^= seed << 5;
}

/* ---- Bodies ------------------------------------------------------------------- */

static void *echo(void *value)
{
    while (value != GREEN_FAILED)
        value = green_yield(value);
    return GREEN_FAILED;
}

static void *give_back(void *value)
{
    return value;
}

/* Uses some of its stack before it gives back. */
static void *go_deep(void *value)
{
    volatile char room[9000];
    room[0] = room[sizeof room - 1] = 1;
    return room[0] == 1 ? value : NULL;
}

static void *exit_at_once(void *value)
{
    green_exit(value);
}

static green_key_t key;
static int ran;

static void count_run(void *arg)
{
    (void)arg;
    ran++;
}

static void *hold_something(void *value)
{
    must(green_defer(count_run, NULL) == 0 && green_setspecific(key, value) == 0);
    green_yield(value);
    return value;
}

/* ---- A lap ----------------------------------------------------------------------- */

static green_t *crowd[CROWD];

static void hand_on(void)
{
    for (int i = 0; i < SWITCHES / 2; i++)
        must(green_switch(crowd[next() % CROWD], V(i)) == V(i));
    switches += SWITCHES;
}

static void renew_some(void)
{
    for (int n = 0; n < 10; n++) {
        green_t **g = &crowd[next() % CROWD];
        if (n % 2)
            must(green_throw(*g, 0) == NULL && green_free(*g) == 0);
        else
            must(green_free(*g) == 0);
        must((*g = green_new(echo, NULL)) != NULL);
        must(green_switch(*g, V(n)) == V(n));
    }
    switches += 40;
    greens += 10;
}

static void make_and_end(int n)
{
    static _Alignas(16) char lent[20000];
    const green_options_t options[] = {
        { .name = "named" },
        { .stack_size = 20000, .flags = GREEN_NO_GUARD },
        { .stack_size = 1000000 },
        { .stack = lent, .stack_size = sizeof lent },
        { .flags = GREEN_DETACHED },
    };
    for (int i = 0; i < n; i++) {
        uint32_t how = next();
        int kind = how % 64 < 5 ? (int)(how % 64) : -1;
        green_fn *body = how >> 8 & 15 ? give_back : how >> 12 & 1 ? go_deep : exit_at_once;
        green_t *g = green_new_with(body, NULL, kind >= 0 ? &options[kind] : NULL);
        must(g != NULL);
        if ((how >> 16 & 31) == 0 && kind != 4) {
            must(green_free(g) == 0); /* it never ran */
            continue;
        }
        must(green_switch(g, V(i)) == V(i));
        switches += 2;
        if (kind != 4)
            must(green_free(g) == 0);
    }
    greens += (uint64_t)n;
}

static void hold_and_end(int n)
{
    ran = 0;
    for (int i = 0; i < n; i++) {
        green_t *parent = green_new(give_back, NULL), *g = green_new(hold_something, parent);
        must(green_switch(g, V(i + 1)) == V(i + 1)); /* by way of its parent, which ends */
        must(green_free(parent) == 0 && green_parent(g) == green_main());
        if (i % 4)
            must(green_free(g) == 0);
        else
            must(green_abandon(g) == 0);
        switches += 5;
    }
    must(ran == 2 * (n - (n + 3) / 4)); /* the deferred one, and the destructor */
    greens += 2 * (uint64_t)n;
}

struct hands {
    green_t *theirs[20], *ours[20];
};

/* Leaves greens in every state behind. */
static void *live_in_a_thread(void *arg)
{
    struct hands *hands = arg;
    for (int i = 0; i < 20; i++) {
        must(green_set_parent(hands->theirs[i], green_main()) == 0);
        must(green_switch(hands->theirs[i], V(i)) == V(i) && green_free(hands->theirs[i]) == 0);
        must((hands->ours[i] = green_new(i % 4 == 0 ? give_back : echo, NULL)) != NULL);
        must(i % 4 == 1 || green_switch(hands->ours[i], V(i)) == V(i));
    }
    return NULL;
}

static void use_a_thread(void)
{
    pthread_t thread;
    struct hands hands;
    for (int i = 0; i < 20; i++)
        must((hands.theirs[i] = green_new(give_back, NULL)) != NULL);
    must(pthread_create(&thread, NULL, live_in_a_thread, &hands) == 0);
    must(pthread_join(thread, NULL) == 0);
    for (int i = 0; i < 20; i++) {
        must(green_state(hands.ours[i]) == (i % 4 == 1 ? GREEN_NEW : GREEN_DEAD));
        must(green_free(hands.ours[i]) == 0);
    }
    switches += 20 * 2 + 15 * 2;
    greens += 40;
}

static void lap(int number)
{
    hand_on();
    renew_some();
    hold_and_end(1000);
    use_a_thread();
    make_and_end(GREENS - 10 - 2000 - 40);
    if (number % 16 == 0)
        green_trim(1 << 20);
}

/* ---- What stays --------------------------------------------------------------------- */

struct usage {
    long resident, mappings;
    green_stats_t stats;
};

static struct usage usage(void)
{
    struct usage now;
    char text[128];
    memset(&now, 0, sizeof now);
    green_trim(1 << 20);
    FILE *file = fopen("/proc/self/statm", "r");
    must(file != NULL && fgets(text, sizeof text, file) != NULL);
    now.resident = strtol(strchr(text, ' '), NULL, 10) * sysconf(_SC_PAGESIZE);
    fclose(file);
    file = fopen("/proc/self/maps", "r");
    must(file != NULL);
    for (int c; (c = getc(file)) != EOF;)
        now.mappings += c == '\n';
    fclose(file);
    must(green_stats(&now.stats, sizeof now.stats) == 0);
    return now;
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

int main(int argc, char **argv)
{
    double limit = argc > 1 ? strtod(argv[1], NULL) : 0, start = seconds();
    struct usage first, now;
    long drift = 0;
    int number = 0;
    memset(&first, 0, sizeof first);
    must(green_key_create(&key, count_run) == 0);
    for (int i = 0; i < CROWD; i++) {
        must((crowd[i] = green_new(echo, NULL)) != NULL);
        must(green_switch(crowd[i], V(i)) == V(i));
    }
    for (;; number++) {
        lap(number);
        if (number < WARM_UP || (number - WARM_UP) % PAUSE != 0)
            continue;
        now = usage();
        if (number == WARM_UP)
            first = now;
        if (labs(now.resident - first.resident) > drift)
            drift = labs(now.resident - first.resident);
        if (drift >= DRIFT || now.mappings > first.mappings + 8 || now.stats.greens != CROWD ||
            now.stats.threads != 1 || now.stats.stacks_live != CROWD ||
            now.stats.bytes_mapped > 2 * first.stats.bytes_mapped) {
            printf("lap %d: %ld KiB resident, %ld at first; %ld mappings, %ld; %zu greens, "
                   "%zu threads, %zu stacks, %zu MiB mapped, %zu at first\n",
                   number, now.resident >> 10, first.resident >> 10, now.mappings, first.mappings,
                   now.stats.greens, now.stats.threads, now.stats.stacks_live,
                   now.stats.bytes_mapped >> 20, first.stats.bytes_mapped >> 20);
            return 1;
        }
        if (limit > 0 ? seconds() - start >= limit && number > WARM_UP
                      : switches >= 10000000000u && greens >= 100000000)
            break;
    }
    for (int i = 0; i < CROWD; i++)
        must(green_free(crowd[i]) == 0);
    green_trim(0);
    must(green_stats(&now.stats, sizeof now.stats) == 0);
    must(now.stats.greens == 0 && now.stats.stacks_live == 0 && now.stats.stacks_cached == 0 &&
         now.stats.bytes_mapped == 0);
    printf("soak: %.3g switches, %.3g greens, %d threads in %.0f s; "
           "%ld KiB resident, drift %ld KiB\n",
           (double)switches, (double)greens, number, seconds() - start, first.resident >> 10,
           drift >> 10);
    return 0;
}
