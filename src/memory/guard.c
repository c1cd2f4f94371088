/* SPDX-License-Identifier: MIT */
/*
 * Guards: pages below a stack that fault.
 *
 * A guard is made by MADV_GUARD_INSTALL where that works, else by mprotect.
 * The former leaves the mapping in one piece, so the kernel's limit on mappings
 * (65,530 by default, two for each mprotect'ed guard) does not bound the
 * stacks.  It is tried each time anew: what refuses it may be only this
 * mapping, after mlockall() for instance.
 *
 * gdb's gcore (13 and others) writes zeroes for a mapping that has such guards.
 * GREEN_GUARD_MPROTECT is for those who need it; the kernel's own core dumps
 * are right with either.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "memory/arena.h"
#include "quiet.h"
#include "tools/helgrind.h"
#include "tools/valgrind.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102 /* Linux 6.13 */
#endif

#ifdef GREEN_GUARD_MPROTECT
enum { BY_ADVICE = false };
#else
enum { BY_ADVICE = true };
#endif

/*
 * Whether a guard that madvise() has just accepted is one.  An emulator may
 * accept advice it does not know and do nothing; the kernel refuses to read
 * from a guarded page with EFAULT.
 */
static int guard_holds(const char *guard)
{
    int ends[2];
    /* ThreadSanitizer sees neither, and nobody who stands before libc. */
    if (syscall(SYS_pipe2, ends, O_CLOEXEC | O_NONBLOCK) != 0)
        return -1;
    green__valgrind_return(guard, 1); /* it is asked about, not used */
    int holds = green__write(ends[1], guard, 1) < 0 && errno == EFAULT;
    green__valgrind_unuse(guard, 1);
    (void)syscall(SYS_close, ends[0]);
    (void)syscall(SYS_close, ends[1]);
    return holds;
}

/* Guards by advice are believed in once one has been seen to hold. */
static bool guard_by_advice(char *guard, size_t size)
{
    static int believed = BY_ADVICE ? 0 : -1; /* 1 yes, -1 no, 0 not known yet */
    green__atomics(&believed, sizeof believed);
    int belief = __atomic_load_n(&believed, __ATOMIC_RELAXED);
    if (belief < 0 || madvise(guard, size, MADV_GUARD_INSTALL) != 0)
        return false;
    if (belief == 0) {
        int holds = guard_holds(guard);
        if (holds < 0)
            return false; /* no descriptor to ask with: ask again next time */
        belief = holds ? 1 : -1;
        __atomic_store_n(&believed, belief, __ATOMIC_RELAXED);
    }
    return belief > 0;
}

bool green__guard_install(char *guard, size_t size)
{
    return guard_by_advice(guard, size) || mprotect(guard, size, PROT_NONE) == 0;
}
