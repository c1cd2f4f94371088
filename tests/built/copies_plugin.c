/* SPDX-License-Identifier: MIT */
/*
 * A plugin whose libgreen may be one of several in the process: what it asks about its
 * green must be answered by the copy that has made it.  0 if it is.
 */
#include <stdio.h>

#include <green.h>
#include <green_fast.h>

static void *body(void *value)
{
    green_yield_fast(value);
    return value;
}

int plugin(void);
int plugin(void)
{
    void *pcs[10];
    green_stats_t stats;
    int failed = 0;
    const green_options_t options = {.name = "of plugin"};
    green_t *g = green_new_with(body, NULL, &options);
    if (green_switch_fast(g, &failed) != &failed || green_state(g) != GREEN_SUSPENDED)
        printf("not entered\n"), failed++;
    if (green_backtrace(g, pcs, 10) <= 0)
        perror("green_backtrace"), failed++;
    if (green_dump(1) != 0)
        perror("green_dump"), failed++;
    green_stats(&stats, sizeof stats);
    if (stats.greens < 1 || stats.threads != 1 || stats.stacks_live < 1)
        printf("greens %zu, threads %zu, stacks %zu\n", stats.greens, stats.threads,
               stats.stacks_live), failed++;
    green_switch(g, NULL);
    if (green_free(g) != 0 || green_trim(0) == 0)
        printf("not freed\n"), failed++;
    return failed;
}
