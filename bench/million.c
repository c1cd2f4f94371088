/* SPDX-License-Identifier: MIT */
/*
 * million [N]: a million suspended greens with guarded stacks in one process.
 *
 * What they cost in memory has limits, and missing one makes this program fail.
 * What they cost in time depends on the machine: it is printed in nanoseconds
 * and as a multiple of a call through a function pointer, beside what it should
 * be, and never fails.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <green_fast.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif
#ifndef MADV_NOHUGEPAGE
#define MADV_NOHUGEPAGE 15
#endif

enum { STACK = 64 << 10, GUARD = 64 << 10, CHILDREN = 20, FRESH = 20000, ROUNDS = 5 };

/* What the timings should be on a machine where that call takes CALL_NS. */
#define CALL_NS 1.2

static const green_options_t options = { .stack_size = STACK };
static green_t **greens;
static int failures;
static double call_ns;

static double now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int n)
{
    qsort(values, (size_t)n, sizeof *values, compare);
    return values[n / 2];
}

static void limit(const char *what, double value, double most, const char *unit)
{
    int good = value <= most;
    failures += !good;
    printf("%-50s %12.1f %-6s (at most %.1f)  %s\n", what, value, unit, most, good ? "PASS" : "FAIL");
    fflush(stdout);
}

static void timing(const char *what, double ns, double most_ns)
{
    double calls = ns / call_ns, most = most_ns / CALL_NS;
    printf("%-50s %8.1f ns = %5.1f calls (at most %.1f)  %s\n", what, ns, calls, most,
           calls <= most ? "PASS" : "FAIL, not counted");
    fflush(stdout);
}

/* A line of /proc/self/status, in bytes. */
static double status(const char *key)
{
    FILE *file = fopen("/proc/self/status", "r");
    char line[256];
    unsigned long kib = 0;
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, key, strlen(key)) == 0)
            sscanf(line + strlen(key), " %lu", &kib);
    if (file != NULL)
        fclose(file);
    return (double)kib * 1024;
}

static int mappings(void)
{
    FILE *file = fopen("/proc/self/maps", "r");
    int lines = 0;
    for (int c; file != NULL && (c = getc(file)) != EOF;)
        lines += c == '\n';
    if (file != NULL)
        fclose(file);
    return lines;
}

/* ---- The yardstick ------------------------------------------------------------ */

static void *identity(void *value)
{
    return value;
}

static double measure_call(void)
{
    static void *(*volatile fn)(void *) = identity;
    enum { CALLS = 20000000 };
    double each[ROUNDS];
    for (int round = 0; round < ROUNDS; round++) {
        double start = now_ns();
        for (int i = 0; i < CALLS; i++)
            fn(NULL);
        each[round] = (now_ns() - start) / (double)CALLS;
    }
    return median(each, ROUNDS);
}

/* ---- Greens -------------------------------------------------------------------- */

static volatile int endless = 1;

__attribute__((noinline)) static int dig(int depth)
{
    volatile char frame[512];
    frame[0] = (char)depth;
    return (endless ? dig(depth + 1) : 0) + frame[0];
}

static char order_to_overflow;
static int inlined; /* by green_fast.h, or by the calls of green.h */

static void *body(void *value)
{
    while (value != GREEN_FAILED) {
        if (value == &order_to_overflow)
            value = (void *)(intptr_t)dig(0);
        value = inlined ? green_yield_fast(value) : green_yield(value);
    }
    return NULL;
}

/* ---- First switches ---------------------------------------------------------------- */

static double measure_first_switch(void)
{
    for (int i = 0; i < FRESH; i++)
        if ((greens[i] = green_new_with(body, NULL, &options)) == NULL)
            return 0;
    double start = now_ns();
    for (int i = 0; i < FRESH; i++)
        green_switch(greens[i], NULL);
    double each = (now_ns() - start) / (double)FRESH;
    for (int i = 0; i < FRESH; i++)
        green_free(greens[i]);
    green_trim(0);
    return each;
}

/* The page fault that it must take: the same pages without greens. */
static double measure_page_fault(void)
{
    size_t apart = STACK + GUARD + 4096, size = apart * FRESH;
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return 0;
    madvise(memory, size, MADV_NOHUGEPAGE);
    for (size_t i = 0; i < FRESH; i++)
        madvise(memory + i * apart, GUARD, MADV_GUARD_INSTALL);
    double start = now_ns();
    for (size_t i = 0; i < FRESH; i++)
        ((volatile char *)memory)[(i + 1) * apart - 1] = 1;
    double each = (now_ns() - start) / (double)FRESH;
    munmap(memory, size);
    return each;
}

static void first_switches(void)
{
    double faults[ROUNDS], ratios[ROUNDS];
    for (int round = 0; round < ROUNDS; round++) {
        faults[round] = measure_page_fault();
        ratios[round] = measure_first_switch() / faults[round];
    }
    double ratio = median(ratios, ROUNDS);
    printf("%-50s %8.1f ns\n", "a page fault", median(faults, ROUNDS));
    printf("%-50s %8.2f page faults (at most 1.30)  %s\n", "a fresh green's first switch and back", ratio,
           ratio <= 1.3 ? "PASS" : "FAIL, not counted");
}

/* ---- Guards --------------------------------------------------------------------------- */

static int pipe_ends[2];

static int faults_at(const char *address)
{
    return write(pipe_ends[1], address, 1) < 0 && errno == EFAULT;
}

static long unguarded(long n)
{
    long count = 0;
    for (long i = 0; i < n; i++) {
        void *low;
        green_stack(greens[i], &low, NULL);
        count += !(faults_at((char *)low - 1) && faults_at((char *)low - GUARD));
    }
    return count;
}

static int overflow_in_child(green_t *g)
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        signal(SIGSEGV, SIG_DFL);
        green_switch(g, &order_to_overflow);
        _exit(0);
    }
    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) &&
           WTERMSIG(status) == SIGSEGV;
}

/* ---- Round robin ------------------------------------------------------------------------ */

static void resume_all(long n)
{
    for (long i = 0; i < n; i++)
        green_switch(greens[i], NULL);
}

static void resume_all_fast(long n)
{
    for (long i = 0; i < n; i++)
        green_switch_fast(greens[i], NULL);
}

static void round_robin(long n, double most_ns)
{
    for (inlined = 0; inlined < 2; inlined++) {
        void (*resume)(long) = inlined ? resume_all_fast : resume_all;
        double each[ROUNDS];
        char what[64];
        long times = n < 1000000 ? 1000000 / n : 1;
        resume(n); /* who waits in the other kind of call */
        for (int round = 0; round < ROUNDS; round++) {
            double start = now_ns();
            for (long k = 0; k < times; k++)
                resume(n);
            each[round] = (now_ns() - start) / (double)(n * times);
        }
        snprintf(what, sizeof what, "resume and yield%s, round over %ld",
                 inlined ? ", inlined" : "", n);
        timing(what, median(each, ROUNDS), most_ns);
    }
    inlined = 0;
}

int main(int argc, char **argv)
{
    long wanted = argc > 1 ? atol(argv[1]) : 1000000, n = 0;
    if (wanted < FRESH)
        wanted = FRESH;
    greens = malloc((size_t)wanted * sizeof *greens);
    if (greens == NULL || pipe2(pipe_ends, O_NONBLOCK | O_CLOEXEC) != 0)
        return perror("million"), 1;
    memset(greens, 0xff, (size_t)wanted * sizeof *greens);
    call_ns = measure_call();
    printf("%-50s %8.2f ns\n", "a call through a function pointer", call_ns);
    first_switches();

    double resident = status("VmRSS:"), tables = status("VmPTE:"), start = now_ns();
    for (; n < wanted; n++) {
        if ((greens[n] = green_new_with(body, NULL, &options)) == NULL)
            break;
        green_switch(greens[n], NULL);
    }
    double made = now_ns() - start;
    if (n < wanted) {
        printf("green %ld of %ld could not be made: %s\n", n, wanted, strerror(errno));
        failures++;
    }
    double rss = status("VmRSS:") - resident, pte = status("VmPTE:") - tables;
    printf("%ld greens with %d KiB of stack each, made and started: %.2f us each\n", n, STACK >> 10,
           made / 1e3 / (double)n);
    printf("%-50s %12.1f bytes\n", "    resident memory for one", rss / (double)n);
    printf("%-50s %12.1f bytes\n", "    page tables for one", pte / (double)n);
    limit("memory for one, together", (rss + pte) / (double)n, 4608, "bytes");
    limit("lines in /proc/self/maps", mappings(), 60, "");

    round_robin(1000, 12);
    if (n >= 100000)
        round_robin(100000, 55);
    if (n >= 1000000)
        round_robin(1000000, 70);

    limit("stacks without an effective guard", (double)unguarded(n), 0, "");
    int survived = 0;
    for (int i = 0; i < CHILDREN; i++)
        survived += !overflow_in_child(greens[n / CHILDREN * i]);
    limit("overflows that were not caught, of 20", survived, 0, "");

    start = now_ns();
    long refused = 0;
    for (long i = 0; i < n; i++)
        refused += green_free(greens[i]) != 0;
    printf("%-50s %12.2f us\n", "ended and freed, each", (now_ns() - start) / 1e3 / (double)n);
    limit("greens that could not be freed", (double)refused, 0, "");
    start = now_ns();
    size_t given = green_trim(0);
    printf("green_trim(0) gave back %.1f MiB in %.1f ms\n", (double)given / 1048576, (now_ns() - start) / 1e6);
    limit("resident memory that has not come back", (status("VmRSS:") - resident) / 1048576, 1, "MiB");
    green_stats_t stats;
    if (green_stats(&stats, sizeof stats) == 0)
        limit("greens, stacks and bytes mapped at the end",
              (double)(stats.greens + stats.stacks_live + stats.stacks_cached + stats.bytes_mapped), 0, "");
    free(greens);
    return failures != 0;
}
