/* SPDX-License-Identifier: MIT */
/*
 * A plugin in C that has what the library looks for in a C++ runtime, and no more.  The
 * names stand in this order, so that another than these comes behind the one looked for.
 */
#include <stdint.h>
#include <stdio.h>

#include <green.h>

static uintptr_t globals[2];

void __cxa_end_catch(void)
{
    globals[0] = 0;
}

void *__cxa_get_globals(void)
{
    return globals;
}

static int mixed_up;

static void *leave_a_mark(void *mark)
{
    globals[1] = (uintptr_t)mark;
    green_yield(NULL);
    mixed_up += globals[1] != (uintptr_t)mark;
    globals[1] = 0;
    return NULL;
}

/* 0 if each green finds there what it has left there. */
int check_runtime(void)
{
    green_t *a = green_new(leave_a_mark, NULL), *b = green_new(leave_a_mark, NULL);
    green_switch(a, &a);
    mixed_up += globals[1] != 0;
    green_switch(b, &b);
    mixed_up += globals[1] != 0;
    green_switch(a, NULL);
    green_switch(b, NULL);
    if (mixed_up != 0 || green_free(a) != 0 || green_free(b) != 0)
        printf("exceptions mixed up: %d\n", mixed_up);
    return mixed_up != 0;
}
