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
    const struct result *base; /* the times are of it */
    long n;
    double *ns;    /* an operation, by round */
    double *times; /* the base, by round */
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

static bool is_quick;

bool bench_is_quick(void)
{
    return is_quick;
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

static const struct candidate yardstick = {.group = "", .name = YARDSTICK, .run = call};

/* ---- Measuring ----------------------------------------------------------------- */

/* Runs n operations twice, and takes the shorter time: the first run may have had to warm up. */
static double run_warm(const struct candidate *candidate, long n)
{
    double first = candidate->run(candidate->arg, n);
    double second = first < 0 ? first : candidate->run(candidate->arg, n);
    return first < second ? first : second;
}

/* Finds how many operations fill a round. */
static void choose_n(struct result *result, const struct options *options)
{
    const struct candidate *candidate = result->candidate;
    double time, wanted = options->ms * 1e6;
    result->n = candidate->n != 0 ? candidate->n : 16;
    for (;;) {
        errno = 0;
        time = candidate->n != 0 ? candidate->run(candidate->arg, result->n)
                                 : run_warm(candidate, result->n);
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
            result->times[round] = result->ns[round] / result->base->ns[round];
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

/* Three digits, or all before the point. */
static const char *number(char *text, size_t size, double x)
{
    snprintf(text, size, "%.*f", x < 100 ? 2 : 0, x);
    return text;
}

static void print_json(const struct result *result, const char *title, const char *unit, int rounds)
{
    const struct candidate *candidate = result->candidate;
    printf("{\"bench\": \"%s\", \"group\": \"%s\", \"name\": \"%s\", \"unit\": \"%s\", ", title,
           candidate->group, candidate->name, unit);
    if (result->error != 0)
        printf("\"error\": \"%s\", ", strerror(result->error));
    else if (candidate->counts != NULL)
        printf("\"counts\": \"%s\", \"value\": %.5g, ", candidate->counts,
               quartile(result->ns, rounds, 2));
    else
        printf("\"ns\": %.4g, \"times\": %.4g, \"low\": %.4g, \"high\": %.4g, ",
               quartile(result->ns, rounds, 2), quartile(result->times, rounds, 2),
               quartile(result->times, rounds, 1), quartile(result->times, rounds, 3));
    if (candidate->against != NULL)
        printf("\"against\": \"%s\", ", candidate->against);
    if (candidate->goal != 0)
        printf("\"goal\": %.4g, ", candidate->goal);
    printf("\"rounds\": %d, \"cpu\": \"%s\", \"compiler\": \"%s\"}\n", rounds, cpu(), COMPILER);
}

static void print_row(const struct result *result, int rounds, bool goals)
{
    const struct candidate *candidate = result->candidate;
    char ns[32], times[32], low[32], high[32], goal[32];
    number(ns, sizeof ns, quartile(result->ns, rounds, 2));
    number(times, sizeof times, quartile(result->times, rounds, 2));
    number(low, sizeof low, quartile(result->times, rounds, 1));
    number(high, sizeof high, quartile(result->times, rounds, 3));

    if (result->error != 0)
        printf("| %s | %s | | |", candidate->name, strerror(result->error));
    else if (candidate->counts != NULL)
        printf("| %s | %s %s | | |", candidate->name, ns, candidate->counts);
    else
        printf("| %s | %s | %s | %s - %s |", candidate->name, ns, times, low, high);
    if (goals && candidate->goal != 0)
        printf(" %s |", number(goal, sizeof goal, candidate->goal));
    else if (goals)
        printf(" |");
    printf("\n");
}

static void print(const struct result *results, size_t count, const char *title, const char *unit,
                  const struct options *options)
{
    const char *group = "";
    bool goals = false;
    for (size_t i = 0; i < count; i++)
        goals = goals || results[i].candidate->goal != 0;
    if (!options->json) {
        printf("## %s\n\n%s, %s, median of %d rounds", title, cpu(), COMPILER, options->rounds);
        printf("; times: of an indirect call%s, and its quartiles\n\n",
               goals ? " or of what is named" : "");
        printf("| %s | ns | times | spread |%s\n", unit, goals ? " goal: at most |" : "");
        printf("|---|--:|--:|--:|%s\n", goals ? "--:|" : "");
    }
    for (size_t i = 0; i < count; i++) {
        const struct candidate *candidate = results[i].candidate;
        if (options->json) {
            print_json(&results[i], title, candidate->unit != NULL ? candidate->unit : unit,
                       options->rounds);
            continue;
        }
        if (strcmp(group, candidate->group) != 0)
            printf("| **%s** | | | |%s\n", group = candidate->group, goals ? " |" : "");
        print_row(&results[i], options->rounds, goals);
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

static bool matches(const struct candidate *candidate, const struct options *options)
{
    if (options->quick && (candidate->slow || candidate->n > QUICK_MOST))
        return false;
    return options->only == NULL || strstr(candidate->name, options->only) != NULL ||
           strstr(candidate->group, options->only) != NULL;
}

static bool is_base_of(const struct candidate *base, const struct candidate *candidate)
{
    return candidate->against != NULL && strcmp(candidate->against, base->name) == 0 &&
           strcmp(candidate->group, base->group) == 0;
}

/* It matches, or is the base of one that does. */
static bool wanted(const struct candidate *candidate, const struct candidate *candidates, size_t count,
                   const struct options *options)
{
    for (size_t i = 0; i < count; i++)
        if (is_base_of(candidate, &candidates[i]) && matches(&candidates[i], options))
            return true;
    return matches(candidate, options);
}

/* Those wanted, the yardstick first: how many. */
static size_t choose(struct result *results, const struct candidate *candidates, size_t count,
                     const struct options *options)
{
    size_t used = 1;
    results[0].candidate = &yardstick;
    for (size_t i = 0; i < count; i++)
        if (wanted(&candidates[i], candidates, count, options))
            results[used++].candidate = &candidates[i];
    for (size_t i = 0; i < used; i++) {
        results[i].base = &results[0];
        for (size_t k = 1; k < i; k++)
            if (is_base_of(results[k].candidate, results[i].candidate))
                results[i].base = &results[k];
        results[i].ns = calloc((size_t)options->rounds, sizeof(double));
        results[i].times = calloc((size_t)options->rounds, sizeof(double));
        if (results[i].ns == NULL || results[i].times == NULL)
            bench_fail("calloc");
    }
    return used;
}

int bench(int argc, char **argv, const char *title, const char *unit,
          const struct candidate *candidates, size_t count)
{
    struct options options;
    bool failed = false;
    if (!parse(argc, argv, &options)) {
        fprintf(stderr, "usage: %s [--json] [--rounds N, at least 9] [--ms N] [--only WORD] [--quick]\n",
                argv[0]);
        return 1;
    }
    is_quick = options.quick;
    struct result *results = calloc(count + 1, sizeof *results);
    if (results == NULL)
        bench_fail("calloc");
    size_t used = choose(results, candidates, count, &options);
    measure(results, used, &options);
    print(results, used, title, unit, &options);

    for (size_t i = 0; i < used; i++) {
        failed = failed || results[i].error != 0;
        free(results[i].ns);
        free(results[i].times);
    }
    free(results);
    return failed && options.quick;
}
