/* SPDX-License-Identifier: MIT */
/*
 * A file of 100 MB goes through a producer, a filter and a consumer, 4 KiB at a
 * time: each in a green, each in a thread with a condition variable between two,
 * each in a process with a pipe between two.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <green_fast.h>

#include "bench.h"

enum { CHUNK = 4096, CHUNKS = 25000 };

struct chunk {
    ssize_t size; /* 0: the end */
    unsigned char bytes[CHUNK];
};

/* ---- What each does, however they are joined -------------------------------------- */

static FILE *file; /* removed already */
static int input;
static uint64_t expected;

static void produce(struct chunk *chunk)
{
    chunk->size = read(input, chunk->bytes, CHUNK);
    if (chunk->size < 0)
        bench_fail("read");
}

static void filter(struct chunk *chunk)
{
    for (ssize_t i = 0; i < chunk->size; i++)
        chunk->bytes[i] ^= 0x20;
}

static void consume(const struct chunk *chunk, uint64_t *sum)
{
    for (ssize_t i = 0; i + 8 <= chunk->size; i += 8) {
        uint64_t word;
        memcpy(&word, chunk->bytes + i, 8);
        *sum = *sum * 31 + word;
    }
}

/* The first time makes the file; a sum that is not as always is an error. */
static void begin(void)
{
    if (file == NULL) {
        struct chunk chunk = {.size = CHUNK};
        file = tmpfile();
        if (file == NULL)
            bench_fail("tmpfile");
        input = fileno(file);
        for (int i = 0; i < CHUNKS; i++) {
            for (int k = 0; k < CHUNK; k++)
                chunk.bytes[k] = (unsigned char)(i * 7 + k * 13 + (i * k >> 9));
            if (write(input, chunk.bytes, CHUNK) != CHUNK)
                bench_fail("write");
            filter(&chunk);
            consume(&chunk, &expected);
        }
    }
    lseek(input, 0, SEEK_SET);
}

static double end(double start, uint64_t sum)
{
    return sum == expected ? bench_now() - start : -1;
}

/* ---- One loop, to compare with ------------------------------------------------------- */

static double loop(void *arg, long n)
{
    struct chunk chunk;
    uint64_t sum = 0;
    (void)arg, (void)n;
    begin();
    double start = bench_now();
    for (produce(&chunk); chunk.size > 0; produce(&chunk)) {
        filter(&chunk);
        consume(&chunk, &sum);
    }
    return end(start, sum);
}

/* ---- Greens ---------------------------------------------------------------------------- */

static void *producer_green(void *value)
{
    struct chunk chunk;
    (void)value;
    for (produce(&chunk); chunk.size > 0; produce(&chunk))
        green_yield_fast(&chunk);
    return NULL;
}

static void *filter_green(void *producer)
{
    for (struct chunk *chunk; (chunk = green_switch_fast(producer, NULL)) != NULL;) {
        filter(chunk);
        green_yield_fast(chunk);
    }
    return NULL;
}

static double greens(void *arg, long n)
{
    uint64_t sum = 0;
    (void)arg, (void)n;
    begin();
    double start = bench_now();
    green_t *second = green_new(filter_green, NULL), *first = green_new(producer_green, second);
    if (first == NULL || second == NULL)
        return -1;
    for (struct chunk *chunk; (chunk = green_switch_fast(second, first)) != NULL;)
        consume(chunk, &sum);
    green_free(first);
    green_free(second);
    return end(start, sum);
}

/* ---- Threads --------------------------------------------------------------------------- */

struct slot {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool full;
    struct chunk chunk;
};

static struct slot slots[2] = {{PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, {0}},
                               {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, {0}}};

static void put(struct slot *slot, const struct chunk *chunk)
{
    pthread_mutex_lock(&slot->mutex);
    while (slot->full)
        pthread_cond_wait(&slot->changed, &slot->mutex);
    slot->chunk = *chunk;
    slot->full = true;
    pthread_cond_signal(&slot->changed);
    pthread_mutex_unlock(&slot->mutex);
}

static void get(struct slot *slot, struct chunk *chunk)
{
    pthread_mutex_lock(&slot->mutex);
    while (!slot->full)
        pthread_cond_wait(&slot->changed, &slot->mutex);
    *chunk = slot->chunk;
    slot->full = false;
    pthread_cond_signal(&slot->changed);
    pthread_mutex_unlock(&slot->mutex);
}

static void *producer_thread(void *arg)
{
    struct chunk chunk;
    do {
        produce(&chunk);
        put(&slots[0], &chunk);
    } while (chunk.size > 0);
    return arg;
}

static void *filter_thread(void *arg)
{
    struct chunk chunk;
    do {
        get(&slots[0], &chunk);
        filter(&chunk);
        put(&slots[1], &chunk);
    } while (chunk.size > 0);
    return arg;
}

static double threads(void *arg, long n)
{
    pthread_t first, second;
    struct chunk chunk;
    uint64_t sum = 0;
    (void)n;
    begin();
    double start = bench_now();
    if (pthread_create(&first, NULL, producer_thread, arg) != 0 ||
        pthread_create(&second, NULL, filter_thread, arg) != 0)
        bench_fail("pthread_create");
    for (get(&slots[1], &chunk); chunk.size > 0; get(&slots[1], &chunk))
        consume(&chunk, &sum);
    pthread_join(first, NULL);
    pthread_join(second, NULL);
    return end(start, sum);
}

/* ---- Processes ------------------------------------------------------------------------- */

static void read_chunk(int pipe_end, struct chunk *chunk)
{
    ssize_t got = 0;
    chunk->size = 0;
    while (chunk->size < CHUNK &&
           (got = read(pipe_end, chunk->bytes + chunk->size, (size_t)(CHUNK - chunk->size))) > 0)
        chunk->size += got;
}

static void write_chunk(int pipe_end, const struct chunk *chunk)
{
    if (write(pipe_end, chunk->bytes, (size_t)chunk->size) != chunk->size)
        _exit(1);
}

static double pipes(void *arg, long n)
{
    int first[2], second[2];
    struct chunk chunk;
    uint64_t sum = 0;
    (void)arg, (void)n;
    begin();
    fflush(stdout);
    double start = bench_now();
    if (pipe(first) != 0 || pipe(second) != 0)
        return -1;
    pid_t producer = fork();
    if (producer == 0) {
        for (produce(&chunk); chunk.size > 0; produce(&chunk))
            write_chunk(first[1], &chunk);
        _exit(0);
    }
    close(first[1]);
    pid_t middle = fork();
    if (middle == 0) {
        for (read_chunk(first[0], &chunk); chunk.size > 0; read_chunk(first[0], &chunk)) {
            filter(&chunk);
            write_chunk(second[1], &chunk);
        }
        _exit(0);
    }
    close(first[0]);
    close(second[1]);
    for (read_chunk(second[0], &chunk); chunk.size > 0; read_chunk(second[0], &chunk))
        consume(&chunk, &sum);
    close(second[0]);
    if (producer < 0 || middle < 0 || waitpid(producer, NULL, 0) < 0 || waitpid(middle, NULL, 0) < 0)
        return -1;
    return end(start, sum);
}

int main(int argc, char **argv)
{
    static const struct candidate candidates[] = {
        {"three stages", "one loop", loop, NULL, CHUNKS, NULL},
        {"three stages", "greens", greens, NULL, CHUNKS, NULL},
        {"three stages", "threads and condition variables", threads, NULL, CHUNKS, NULL},
        {"three stages", "processes and pipes", pipes, NULL, CHUNKS, NULL},
    };
    return bench(argc, argv, "pipeline", "4 KiB of a 100 MB file", candidates,
                 sizeof candidates / sizeof candidates[0]);
}
