/* SPDX-License-Identifier: MIT */
#ifndef STEPPING_H
#define STEPPING_H
/*
 * A program that steps through itself: SIGTRAP comes at each instruction, by the
 * trap flag of x86_64, until its handler ends that.  Other CPUs let no program
 * do it.
 */
#ifndef _GNU_SOURCE
#error "_GNU_SOURCE first"
#endif
#include <ucontext.h>

#if defined __x86_64__
#define CAN_STEP 1
#define TRAP_FLAG 0x100

/* The kernel takes it from the saved flags; the red zone is stepped over. */
static inline void begin_steps(void)
{
    __asm__ volatile("leaq -128(%%rsp), %%rsp\n\t"
                     "pushfq\n\t"
                     "orl %0, (%%rsp)\n\t"
                     "popfq\n\t"
                     "leaq 128(%%rsp), %%rsp"
                     : : "i"(TRAP_FLAG) : "cc", "memory");
}

/* In the handler, with its third argument. */
static inline void end_steps(void *context)
{
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL] &= ~(greg_t)TRAP_FLAG;
}
#else
#define CAN_STEP 0

static inline void begin_steps(void)
{
}

static inline void end_steps(void *context)
{
    (void)context;
}
#endif

#endif
