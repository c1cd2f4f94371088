/* SPDX-License-Identifier: MIT */
/* What green_exit() owes to C compiled with -fexceptions: 0 if the clean-up has run. */
#include <green.h>
#include <stdio.h>

static int cleaned;

static void clean(int *unused)
{
    (void)unused;
    cleaned++;
}

static void *leave(void *value)
{
    __attribute__((cleanup(clean), unused)) int local = 1;
    if (green_yield(value) == GREEN_FAILED)
        green_exit(GREEN_FAILED);
    return value;
}

int main(void)
{
    green_t *g = green_new(leave, NULL);
    green_switch(g, NULL);
    green_free(g);
    printf("clean-up ran %d times\n", cleaned);
    return cleaned != 1;
}
