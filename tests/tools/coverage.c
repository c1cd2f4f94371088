/* SPDX-License-Identifier: MIT */
/*
 * For coverage.sh alone, in every test program: counts of what a process did are
 * written out also where it is about to die.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

extern void __gcov_dump(void);
extern void __gcov_reset(void);
extern int __sigaction(int number, const struct sigaction *action, struct sigaction *previous);

static void write_out(void)
{
    __gcov_dump();
    __gcov_reset(); /* else they are counted once more at the exit */
}

/* A handler that gives a fault its default action back. */
__attribute__((weak)) int sigaction(int number, const struct sigaction *action,
                                    struct sigaction *previous)
{
    if (action != NULL && action->sa_handler == SIG_DFL)
        write_out();
    return __sigaction(number, action, previous);
}

__attribute__((weak)) void (*signal(int number, void (*handler)(int)))(int)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART}, previous;
    return sigaction(number, &action, &previous) == 0 ? previous.sa_handler : SIG_ERR;
}

__attribute__((weak)) void abort(void)
{
    write_out();
    signal(SIGABRT, SIG_DFL);
    raise(SIGABRT);
    _exit(127);
}

__attribute__((weak)) void _exit(int status)
{
    write_out();
    for (;;)
        syscall(SYS_exit_group, status);
}
