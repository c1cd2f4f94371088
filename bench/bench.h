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
 * A candidate may be compared with another one instead of with the yardstick, and
 * may have a goal, which is printed beside what it has reached.
 *
 *     --rounds N   default 11, at least 9 unless --quick
 *     --ms N       a round's time for each candidate, default 20
 *     --only WORD  the candidates whose name or group contains it, and those that
 *                  they are compared with
 *     --json       one object a line instead of a table
 *     --quick      one short round without the longest, to see that it works: what
 *                  does not is told, and the exit is 1
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
    const char *counts;  /* what run() returns instead of nanoseconds; NULL: those */
    const char *against; /* the times are of this one, before it in its group; NULL: of the yardstick */
    bool slow;           /* whatever its n: --quick goes without it */
    double goal;         /* at most so many times, or so much of what it counts; 0: none */
};

/* The whole of main(): 0, or 1 if an option is wrong. */
int bench(int argc, char **argv, const char *title, const char *unit,
          const struct candidate *candidates, size_t count);

double bench_now(void); /* nanoseconds */

bool bench_is_quick(void); /* --quick was given: a run may do less than its n */

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
