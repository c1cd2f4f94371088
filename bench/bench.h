/* SPDX-License-Identifier: MIT */
#ifndef BENCH_H
#define BENCH_H
/*
 * A harness for benchmarks on a machine that is never quite idle.
 *
 * Each candidate is first warmed up and given as many operations as fill a
 * round's time.  Then all run in turn, round after round, the yardstick among
 * them: a call of a function that does nothing, by a pointer.  What is printed
 * of each is the median of its rounds, in nanoseconds and in multiples of the
 * yardstick in the same round, and the quartiles of the latter as its spread.
 *
 *     --rounds N   default 11, at least 9 unless --quick
 *     --ms N       a round's time for each candidate, default 20
 *     --only WORD  the candidates whose name contains it
 *     --json       one object a line instead of a table
 *     --quick      one short round without the longest, to see that it works
 */
#include <stdbool.h>
#include <stddef.h>

struct candidate {
    const char *group; /* of the candidates that one compares */
    const char *name;
    /*
     * Does n operations and returns the nanoseconds they took.  A negative
     * result: it cannot, and is left out; errno says why.
     */
    double (*run)(void *arg, long n);
    void *arg;
    long n;            /* operations in a round if not 0: then they are not chosen */
    const char *unit;  /* of what an operation is; NULL: the benchmark's */
};

/* The whole of main(): 0, or 1 if an option is wrong. */
int bench(int argc, char **argv, const char *title, const char *unit,
          const struct candidate *candidates, size_t count);

double bench_now(void); /* nanoseconds */

/*
 * For a function that is the loop measured and little else.  It starts a cache
 * line, as a short loop takes a cycle or two longer where it lies across two,
 * and this would change with the code before it.  And it is not inlined, as
 * registers are scarce around a fast switch, which keeps none: what else the
 * function around needs would be measured with it.
 */
#define BENCH_LOOP __attribute__((__noinline__, __aligned__(64)))

/* An exit with what went wrong, for what cannot. */
_Noreturn void bench_fail(const char *what);

#endif
