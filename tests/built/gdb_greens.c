/* SPDX-License-Identifier: MIT */
/*
 * What gdb.sh looks at: greens that wait in every way there is, and then
 *
 *     gdb_greens N    N more of them, a thread that has none, and stop()
 *
 * A function of each name waits in one place only, and nothing is inlined.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include <green_fast.h>

#ifdef __clang__
#define FRAME __attribute__((noinline))
#else
#define FRAME __attribute__((noinline, noclone))
#endif

/* Behind a call, so that it is no jump, and no two functions are one. */
#define STAY() __asm__ volatile("" : : "i"(__LINE__) : "memory")

static green_t *consumer, *producer;

FRAME static void stop(int status)
{
    if (status != 0)
        abort();
    STAY();
}

/* Three deep: first starts second, and that third. */
FRAME static void *deepest(void *value)
{
    value = green_switch(green_main(), value);
    STAY();
    return value;
}

static green_t *make(const char *name, green_fn *run, green_t *parent)
{
    /* Without guards: gdb's gcore reads no mapping that has some. */
    green_options_t options = {.name = name, .flags = GREEN_NO_GUARD};
    green_t *g = green_new_with(run, parent, &options);
    if (g == NULL)
        perror(name), exit(1);
    return g;
}

FRAME static void *third(void *value)
{
    value = deepest(value);
    STAY();
    return value;
}

FRAME static void *second(void *value)
{
    value = green_switch(make("third", third, NULL), value);
    STAY();
    return value;
}

FRAME static void *first(void *value)
{
    volatile int local_of_first = 42;
    value = green_switch(make("second", second, NULL), value);
    STAY();
    return local_of_first == 42 ? value : NULL;
}

/* Two that hand over to each other. */
FRAME static void *produce(void *value)
{
    value = green_switch(consumer, value);
    STAY();
    return value;
}

FRAME static void *consume(void *value)
{
    value = green_switch(green_main(), value);
    STAY();
    return value;
}

FRAME static void *yield_fast(void *value)
{
    value = green_yield_fast(value);
    STAY();
    return value;
}

/* Throws at main, and waits in that. */
FRAME static void *throw_up(void *value)
{
    value = green_throw(green_parent(green_current()), 1);
    STAY();
    return value;
}

FRAME static void *wait_in_thread(void *value)
{
    value = green_yield(value);
    STAY();
    return value;
}

static pthread_barrier_t ready, ready_too, over;

FRAME static void *thread(void *unused)
{
    green_switch(make("threads_own", wait_in_thread, NULL), NULL);
    pthread_barrier_wait(&ready);
    pthread_barrier_wait(&over);
    return unused;
}

static void *use_no_greens(void *unused)
{
    pthread_barrier_wait(&over);
    return unused;
}

/* Is being ended by its thread, which it keeps waiting. */
FRAME static void *hold_up(void *value)
{
    green_yield(value);
    pthread_barrier_wait(&ready_too);
    pthread_barrier_wait(&over);
    STAY();
    return value;
}

FRAME static void *ending_thread(void *unused)
{
    green_switch(make("holds up", hold_up, NULL), NULL);
    if (green_thread_end() != 0)
        abort();
    STAY();
    return unused;
}

FRAME static void *one_of_many(void *value)
{
    value = green_yield(value);
    STAY();
    return value;
}

/* Comes to stop() when it is freed. */
FRAME static void *stop_in_green(void *value)
{
    green_yield(NULL);
    stop(value != NULL);
    STAY();
    return value;
}

FRAME static void *free_it(void *victim)
{
    if (green_free(victim) != 0)
        abort();
    STAY();
    return NULL;
}

int main(int argc, char **argv)
{
    int many = argc > 1 ? atoi(argv[1]) : 0, with_core = argc > 2;
    pthread_t other, another, idle;

    pthread_barrier_init(&ready, NULL, 2);
    pthread_barrier_init(&ready_too, NULL, 2);
    pthread_barrier_init(&over, NULL, argc > 1 ? 4 : 3);
    if (argc > 1)
        pthread_create(&idle, NULL, use_no_greens, NULL);
    pthread_create(&other, NULL, thread, NULL);
    pthread_barrier_wait(&ready);
    pthread_create(&another, NULL, ending_thread, NULL);
    pthread_barrier_wait(&ready_too);

    green_switch(make("first", first, NULL), NULL);
    producer = make("producer", produce, NULL);
    consumer = make("consumer", consume, NULL);
    green_switch(producer, NULL);
    green_switch(make("fast", yield_fast, NULL), NULL);
    green_switch(make("thrower", throw_up, NULL), NULL);
    green_switch(make(NULL, one_of_many, NULL), NULL);
    for (int i = 0; i < many; i++)
        green_switch(make("one of many", one_of_many, NULL), NULL);
    make("new", first, NULL);
    green_t *victim = make("runs", stop_in_green, NULL);
    green_switch(victim, with_core ? &many : NULL);
    green_switch(make("frees it", free_it, NULL), victim);

    pthread_barrier_wait(&over);
    pthread_join(other, NULL);
    pthread_join(another, NULL);
    if (argc > 1)
        pthread_join(idle, NULL);
    puts("ended as it should");
    return 0;
}
