/* SPDX-License-Identifier: MIT
 *
 * A hundred thousand tasks, in turn, on one thread.  Each has some rounds to do,
 * and counts them in a local variable of its loop.  On a terminal a line says
 * how far they are.
 *
 *     round_robin [TASKS]
 */
#define _POSIX_C_SOURCE 200809L

#include <green.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static long ended, rounds;
static int terminal; /* whether there is one to show it on */

static void *task(void *number)
{
    for (long left = 1 + *(long *)number % 10; left > 0; left--) {
        rounds++;
        if (green_yield(NULL) == GREEN_FAILED)
            return GREEN_FAILED;
    }
    ended++;
    return NULL;
}

/* Ten times a second at most; always if it is the last time. */
static void show(long tasks, int last)
{
    static struct timespec shown;
    struct timespec now;

    if (!terminal)
        return;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (last || (now.tv_sec - shown.tv_sec) * 1000 + (now.tv_nsec - shown.tv_nsec) / 1000000 >= 100) {
        fprintf(stderr, "\r%ld of %ld tasks have ended, after %ld rounds%s", ended, tasks, rounds,
                last ? "\n" : "");
        shown = now;
    }
}

int main(int argc, char **argv)
{
    /* So many guards an older Linux does not grant, see vm.max_map_count. */
    const green_options_t options = { .stack_size = 16 << 10, .flags = GREEN_NO_GUARD };
    long tasks = argc > 1 ? atol(argv[1]) : 100000;
    green_t **ring = tasks > 0 ? calloc((size_t)tasks, sizeof(green_t *)) : NULL;

    if (ring == NULL)
        return fprintf(stderr, "usage: round_robin [TASKS]\n"), 2;
    terminal = isatty(STDERR_FILENO);
    for (long i = 0; i < tasks; i++)
        if ((ring[i] = green_new_with(task, NULL, &options)) == NULL)
            return perror("green_new_with"), 1;

    for (long waiting = tasks; waiting > 0; ) {
        long still = 0;
        for (long i = 0; i < waiting; i++) { /* those that live stay, in order */
            if (green_switch(ring[i], &i) == GREEN_FAILED)
                return perror("green_switch"), 1;
            if (green_state(ring[i]) != GREEN_DEAD)
                ring[still++] = ring[i];
            else if (green_free(ring[i]) == -1)
                return perror("green_free"), 1;
            show(tasks, 0);
        }
        waiting = still;
    }
    show(tasks, 1);
    printf("%ld tasks, %ld rounds\n", ended, rounds);
    free(ring);
    if (fflush(stdout) == EOF)
        return perror("round_robin"), 1;
    return 0;
}
