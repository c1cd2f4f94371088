/* SPDX-License-Identifier: MIT */
/*
 * A library with libgreen in it, for load_plugin.c: used already in its first
 * constructor, later by both switches.
 */
#include <green_fast.h>

#include "plugin.h"

static void *echo(void *value)
{
    while (value != GREEN_FAILED)
        value = green_yield_fast(green_yield(value));
    return GREEN_FAILED;
}

int plugin_works(void)
{
    static int values[3];
    green_t *g = green_new(echo, NULL);
    return g != NULL && green_switch(g, &values[0]) == &values[0] &&
           green_switch_fast(g, &values[1]) == &values[1] &&
           green_switch(g, &values[2]) == &values[2] && green_free(g) == 0;
}

int plugin_worked_early;

static __attribute__((constructor(101))) void use_it(void)
{
    plugin_worked_early = plugin_works();
}
