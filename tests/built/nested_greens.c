/* SPDX-License-Identifier: MIT */
/* Aborts three greens deep, for frames.sh to look at with gdb. */
#include <stdlib.h>

#include <green.h>

#define FRAME __attribute__((noinline))
#define AFTER __asm__ volatile("") /* so that the call before is not the last */

static void *run_in_a_green(green_fn *run)
{
    return green_switch(green_new(run, NULL), NULL);
}

static FRAME void *inner(void *value)
{
    abort();
    return value;
}

static FRAME void *middle(void *value)
{
    run_in_a_green(inner);
    AFTER;
    return value;
}

static FRAME void *outer(void *value)
{
    run_in_a_green(middle);
    AFTER;
    return value;
}

int main(void)
{
    run_in_a_green(outer);
    return 0;
}
