/* SPDX-License-Identifier: MIT */
#include "bench.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>

enum { QUICK_MOST = 30000 }; /* operations */

#define YARDSTICK "indirect call and return"

struct result {
    const struct candidate *candidate;
    long n;
    double *ns;    /* an operation, by round */
    double *times; /* the yardstick, by round */
    int error;     /* it failed */
};

struct options {
    int rounds, ms;
    const char *only;
    bool json, quick;
};

double bench_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

_Noreturn void bench_fail(const char *what)
{
    perror(what);
    exit(1);
}

/* ---- The yardstick ----------------------------------------------------------- */

BENCH_LOOP static void *do_nothing(void *g, void *value)
{
    (void)g;
    return value;
}

static void *(*volatile nothing)(void *, void *) = do_nothing;

/* Short enough for the one cache line, so it is as quick as the CPU can do it. */
BENCH_LOOP static void call_often(void *arg, long times)
{
    for (; times > 0; times--)
        nothing(arg, arg);
}

static double call(void *arg, long n)
{
    double start = bench_now();
    call_often(arg, n);
    return bench_now() - start;
}

static const struct candidate yardstick = {"", YARDSTICK, call, NULL, 0, NULL};

/* ---- Measuring ----------------------------------------------------------------- */

/* Finds how many operations fill a round; that warms up, too. */
static void choose_n(struct result *result, const struct options *options)
{
    const struct candidate *candidate = result->candidate;
    double time, wanted = options->ms * 1e6;
    result->n = candidate->n != 0 ? candidate->n : 16;
    for (;;) {
        errno = 0;
        time = candidate->run(candidate->arg, result->n);
        if (time < 0)
            result->error = errno != 0 ? errno : EINVAL;
        if (time < 0 || candidate->n != 0 || time > wanted / 4)
            break;
        result->n *= 2;
    }
    if (time >= 0 && candidate->n == 0)
        result->n = (long)((double)result->n * wanted / time) + 1;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* q of four: a quartile, the median. */
static double quartile(double *values, int count, int q)
{
    double at = (count - 1) * q / 4.0;
    int below = (int)at;
    int above = below + 1 < count ? below + 1 : below;
    return values[below] + (values[above] - values[below]) * (at - below);
}

static void measure(struct result *results, size_t count, const struct options *options)
{
    for (size_t i = 0; i < count; i++)
        choose_n(&results[i], options);
    for (int round = 0; round < options->rounds; round++) {
        for (size_t i = 0; i < count; i++) {
            struct result *result = &results[i];
            if (result->error != 0)
                continue;
            double time = result->candidate->run(result->candidate->arg, result->n);
            if (time < 0)
                result->error = errno != 0 ? errno : EINVAL;
            result->ns[round] = time / (double)result->n;
            result->times[round] = result->ns[round] / results[0].ns[round];
        }
    }
    for (size_t i = 0; i < count; i++) {
        qsort(results[i].ns, (size_t)options->rounds, sizeof(double), compare);
        qsort(results[i].times, (size_t)options->rounds, sizeof(double), compare);
    }
}

/* ---- Printing ------------------------------------------------------------------- */

static const char *cpu(void)
{
    static char line[256];
    static struct utsname machine;
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        char *name = strchr(line, ':');
        if (strncmp(line, "model name", 10) == 0 && name != NULL) {
            line[strcspn(line, "\n")] = '\0';
            fclose(file);
            return name + 2;
        }
    }
    if (file != NULL)
        fclose(file);
    return uname(&machine) == 0 ? machine.machine : "unknown CPU";
}

#ifdef __clang__
#define COMPILER __VERSION__
#else
#define COMPILER "gcc " __VERSION__
#endif

static void print(struct result *results, size_t count, const char *title, const char *unit,
                  const struct options *options)
{
    const char *group = "";
    if (!options->json) {
        printf("## %s\n\n%s, %s, median of %d rounds", title, cpu(), COMPILER, options->rounds);
        printf("; times: of an indirect call, and its quartiles\n\n");
        printf("| %s | ns | times | spread |\n|---|--:|--:|--:|\n", unit);
    }
    for (size_t i = 0; i < count; i++) {
        struct result *result = &results[i];
        const struct candidate *candidate = result->candidate;
        double ns = quartile(result->ns, options->rounds, 2);
        double times = quartile(result->times, options->rounds, 2);
        double low = quartile(result->times, options->rounds, 1);
        double high = quartile(result->times, options->rounds, 3);

        if (options->json) {
            printf("{\"bench\": \"%s\", \"group\": \"%s\", \"name\": \"%s\", \"unit\": \"%s\", ", title,
                   candidate->group, candidate->name, candidate->unit != NULL ? candidate->unit : unit);
            if (result->error != 0)
                printf("\"error\": \"%s\", ", strerror(result->error));
            else
                printf("\"ns\": %.4g, \"times\": %.4g, \"low\": %.4g, \"high\": %.4g, ", ns, times, low,
                       high);
            printf("\"rounds\": %d, \"cpu\": \"%s\", \"compiler\": \"%s\"}\n", options->rounds, cpu(),
                   COMPILER);
            continue;
        }
        if (strcmp(group, candidate->group) != 0)
            printf("| **%s** | | | |\n", group = candidate->group);
        if (result->error != 0)
            printf("| %s | %s | | |\n", candidate->name, strerror(result->error));
        else
            printf("| %s | %.*f | %.*f | %.*f - %.*f |\n", candidate->name, ns < 100 ? 2 : 0, ns,
                   times < 100 ? 2 : 0, times, low < 100 ? 2 : 0, low, high < 100 ? 2 : 0, high);
    }
    if (!options->json)
        printf("\n");
}

/* ---- The whole -------------------------------------------------------------------- */

static bool parse(int argc, char **argv, struct options *options)
{
    *options = (struct options){.rounds = 11, .ms = 20};
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--json") == 0)
            options->json = true;
        else if (strcmp(argv[i], "--quick") == 0)
            options->quick = true;
        else if (strcmp(argv[i], "--rounds") == 0 && value != NULL)
            options->rounds = atoi(argv[++i]);
        else if (strcmp(argv[i], "--ms") == 0 && value != NULL)
            options->ms = atoi(argv[++i]);
        else if (strcmp(argv[i], "--only") == 0 && value != NULL)
            options->only = argv[++i];
        else
            return false;
    }
    if (options->quick)
        options->rounds = options->ms = 1;
    return options->quick || (options->rounds >= 9 && options->ms > 0);
}

int bench(int argc, char **argv, const char *title, const char *unit,
          const struct candidate *candidates, size_t count)
{
    struct options options;
    if (!parse(argc, argv, &options)) {
        fprintf(stderr, "usage: %s [--json] [--rounds N, at least 9] [--ms N] [--only WORD] [--quick]\n",
                argv[0]);
        return 1;
    }
    struct result *results = calloc(count + 1, sizeof *results);
    if (results == NULL)
        bench_fail("calloc");
    size_t used = 0;
    results[used++].candidate = &yardstick;
    for (size_t i = 0; i < count; i++)
        if (options.quick && candidates[i].n > QUICK_MOST)
            continue;
        else if (options.only == NULL || strstr(candidates[i].name, options.only) != NULL ||
            strstr(candidates[i].group, options.only) != NULL)
            results[used++].candidate = &candidates[i];
    for (size_t i = 0; i < used; i++) {
        results[i].ns = calloc((size_t)options.rounds, sizeof(double));
        results[i].times = calloc((size_t)options.rounds, sizeof(double));
        if (results[i].ns == NULL || results[i].times == NULL)
            bench_fail("calloc");
    }
    measure(results, used, &options);
    print(results, used, title, unit, &options);

    for (size_t i = 0; i < used; i++) {
        free(results[i].ns);
        free(results[i].times);
    }
    free(results);
    return 0;
}
