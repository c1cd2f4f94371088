/* SPDX-License-Identifier: MIT */
/*
 * A deferred function goes to another stack, at a higher address than the green's, and calls
 * green_exit() there: 0 if that ends it, and not the program.
 */
#include <green.h>
#include <stdio.h>

#ifdef __GLIBC__
#include <ucontext.h>

static char *stack; /* a part of main()'s: there is none above that */
static size_t size;
static char value;

static void exit_there(void)
{
    green_exit(&value);
}

static void go_there(void *unused)
{
    ucontext_t here, there;
    (void)unused;
    if (getcontext(&there) != 0)
        return;
    there.uc_stack.ss_sp = stack;
    there.uc_stack.ss_size = size;
    there.uc_link = &here;
    makecontext(&there, exit_there, 0);
    swapcontext(&here, &there);
}

static void *run(void *unused)
{
    green_defer(go_there, NULL);
    return unused;
}

int main(void)
{
    char room[64 << 10];
    stack = room;
    size = sizeof room;
    green_t *g = green_new(run, NULL);
    if (green_switch(g, NULL) != &value || green_free(g) != 0) {
        printf("it did not end by what it left there\n");
        return 1;
    }
    return 0;
}
#else
int main(void)
{
    return 0;
}
#endif
