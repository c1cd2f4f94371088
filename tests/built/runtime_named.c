/* SPDX-License-Identifier: MIT */
/* A plugin that names functions of a C++ runtime, and has none: who looks there looks on. */
extern void *__cxa_get_globals(void) __attribute__((weak));

void *(*of_another)(void) = __cxa_get_globals;

int check_runtime(void)
{
    return of_another != 0;
}
