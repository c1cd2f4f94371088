/* SPDX-License-Identifier: MIT */
/*
 * Many threads with many greens each, all at once (rules 7 and 14): they switch
 * among their own, hand NEW ones to each other, and never stop to ask of the
 * others' greens what is refused; they abandon what others are done with; then they
 * end, half of them with greens alive.
 * Nothing is left of it.
 *
 *     test_swarm [THREADS [GREENS [ROUNDS]]]
 */
#include <sched.h>
#include <stdatomic.h>

#include "testing.h"

static int threads, greens, rounds;

/* Handles that everybody may ask, valid until all threads have ended. */
static green_t **table;
static _Atomic(green_t *) *mail; /* a NEW green that waits to be taken over, or NULL */
static _Atomic(green_t *) *garbage; /* a SUSPENDED one that waits to be abandoned, or NULL */
static pthread_barrier_t all_made;
static atomic_long refused, taken, given, entered, finished, abandoned;

static const green_options_t small = { .stack_size = 32768, .flags = GREEN_NO_GUARD };

static uint32_t next(uint32_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 17;
    return *seed ^= *seed << 5;
}

/* Another thread's green, whose owner uses it now. */
static void hammer(green_t *g, uint32_t how)
{
    int error = 0;
    errno = 0;
    switch (how % 8) {
    case 0: error = green_switch(g, V(1)) == GREEN_FAILED; break;
    case 1: error = green_throw(g, E1) == GREEN_FAILED; break;
    case 2: error = green_throw(g, 0) == GREEN_FAILED; break;
    case 3: error = green_new(give_back, g) == NULL; break;
    case 4: error = green_parent(g) == NULL; break;
    case 5: error = green_set_data(g, g) == -1; break;
    case 6: error = green_set_parent(g, green_main()) == -1; break;
    case 7:
        must((unsigned)green_state(g) <= GREEN_DEAD);
        return;
    }
    must(error && errno == EPERM);
    atomic_fetch_add_explicit(&refused, 1, memory_order_relaxed);
}

/* What is given away is taken by the next who looks there, and run to its end. */
static void trade(uint32_t at)
{
    green_t *g =
        atomic_exchange_explicit(&mail[at % (uint32_t)threads], NULL, memory_order_acquire);
    if (g != NULL) {
        must(green_set_parent(g, green_main()) == 0);
        must(green_switch(g, V(3)) == V(3));
        must(green_free(g) == 0);
        atomic_fetch_add_explicit(&taken, 1, memory_order_relaxed);
    }
    g = green_new_with(give_back, NULL, &small);
    must(g != NULL);
    green_t *none = NULL;
    if (!atomic_compare_exchange_strong_explicit(&mail[at / 7 % (uint32_t)threads], &none, g,
                                                 memory_order_release, memory_order_relaxed))
        must(green_free(g) == 0);
    else
        atomic_fetch_add_explicit(&given, 1, memory_order_relaxed);
}

/* What is thrown away is abandoned by the next who looks there. */
static void clear_away(uint32_t at)
{
    green_t *g =
        atomic_exchange_explicit(&garbage[at % (uint32_t)threads], NULL, memory_order_acquire);
    if (g != NULL) {
        while (green_abandon(g) != 0) {
            must(errno == EBUSY); /* its thread is ending, and unwinds it just now */
            sched_yield();
        }
        atomic_fetch_add_explicit(&abandoned, 1, memory_order_relaxed);
    }
    g = green_new_with(echo, NULL, &small);
    must(g != NULL && green_switch(g, V(4)) == V(4));
    green_t *none = NULL;
    if (!atomic_compare_exchange_strong_explicit(&garbage[at / 7 % (uint32_t)threads], &none, g,
                                                 memory_order_release, memory_order_relaxed))
        must(green_free(g) == 0);
}

static void *live(void *number)
{
    int me = (int)(intptr_t)number;
    green_t **mine = &table[me * greens];
    uint32_t seed = 2463534242u + (uint32_t)me * 7919;
    long moves = 0;
    int dead = 0;

    for (int i = 0; i < greens; i++) {
        mine[i] = green_new_with(echo, NULL, &small);
        must(mine[i] != NULL && green_switch(mine[i], V(i)) == V(i));
    }
    pthread_barrier_wait(&all_made);
    for (int round = 0; round < rounds; round++) {
        for (int i = 0; i < greens; i++) {
            uint32_t random = next(&seed);
            green_t *g = mine[random % (uint32_t)greens];
            if (green_state(g) == GREEN_DEAD)
                continue;
            if (random >> 8 & 63) {
                must(green_switch(g, V(i)) == V(i));
            } else {
                must(green_throw(g, E2) == GREEN_FAILED && errno == E2);
                dead++;
            }
            moves++;
            random = next(&seed);
            int other = (int)(random % (uint32_t)threads);
            if (other != me)
                hammer(table[other * greens + (int)(random / 64 % (uint32_t)greens)], random >> 13);
            if (i % 16 == 0)
                trade(next(&seed));
            if (i % 16 == 8)
                clear_away(next(&seed));
        }
    }
    atomic_fetch_add(&entered, moves);
    atomic_fetch_add(&finished, dead);
    if (me % 2)
        must(green_thread_end() == 0);
    return NULL; /* with greens alive in the others, and somebody asking of them still */
}

TEST(sixteen_threads_with_a_thousand_greens_leave_nothing)
{
    if (under_helgrind())
        skip_because("Helgrind does not know what the atomic exchange of a handle orders");
    pthread_t *thread = calloc((size_t)threads, sizeof *thread);
    green_stats_t before, after;
    table = calloc((size_t)threads * (size_t)greens, sizeof *table);
    mail = calloc((size_t)threads, sizeof *mail);
    garbage = calloc((size_t)threads, sizeof *garbage);
    assert_true(thread != NULL && table != NULL && mail != NULL && garbage != NULL);
    assert_int_equal(pthread_barrier_init(&all_made, NULL, (unsigned)threads), 0);
    assert_int_equal(green_stats(&before, sizeof before), 0);

    for (int i = 0; i < threads; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, live, V(i)), 0);
    for (int i = 0; i < threads; i++)
        assert_int_equal(pthread_join(thread[i], NULL), 0);

    for (int i = 0; i < threads * greens; i++) {
        assert_int_equal(green_state(table[i]), GREEN_DEAD);
        assert_int_equal(green_free(table[i]), 0);
    }
    for (int i = 0; i < threads; i++) {
        green_t *g = atomic_load(&mail[i]);
        assert_int_equal(green_state(g), g != NULL ? GREEN_NEW : GREEN_DEAD);
        assert_int_equal(green_free(g), 0);
        given -= g != NULL;
        if ((g = atomic_load(&garbage[i])) != NULL)
            assert_int_equal(green_abandon(g), 0);
    }
    assert_int_equal(given, taken);
    green_trim(0);
    assert_int_equal(green_stats(&after, sizeof after), 0);
    assert_int_equal(after.greens, before.greens);
    assert_int_equal(after.threads, before.threads);
    assert_int_equal(after.stacks_live, before.stacks_live);
    assert_int_equal(after.stacks_cached, 0);
    assert_int_equal(after.bytes_mapped, 0);
    print_message("swarm: %d threads, %d greens, %ld switches, %ld deaths, "
                  "%ld taken over, %ld abandoned, %ld calls refused\n",
                  threads, threads * greens, (long)entered, (long)finished, (long)taken,
                  (long)abandoned, (long)refused);
    assert_true(refused > 0 && taken > 0 && abandoned > 0 && finished > 0);

    pthread_barrier_destroy(&all_made);
    free(thread);
    free(table);
    free(mail);
    free(garbage);
}

int main(int argc, char **argv)
{
    threads = argc > 1 ? atoi(argv[1]) : times(16, 4);
    greens = argc > 2 ? atoi(argv[2]) : times(FEW_FIBERS ? 100 : 1000, 50);
    rounds = argc > 3 ? atoi(argv[3]) : times(20, 4);
    return run_all_tests();
}
