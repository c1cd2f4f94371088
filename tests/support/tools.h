/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_H
#define TOOLS_H
/*
 * Which tool a test runs under: for what cannot be had there.  What is skipped
 * says why.
 */
#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* gcc says it by macros, clang by features. */
#ifndef __has_feature
#define TOOLS_H_FEATURE(name) 0
#else
#define TOOLS_H_FEATURE(name) __has_feature(name)
#endif

#if defined __SANITIZE_ADDRESS__ || TOOLS_H_FEATURE(address_sanitizer)
#define UNDER_ASAN 1
#else
#define UNDER_ASAN 0
#endif
#if defined __SANITIZE_THREAD__ || TOOLS_H_FEATURE(thread_sanitizer)
#define UNDER_TSAN 1
#else
#define UNDER_TSAN 0
#endif
#if TOOLS_H_FEATURE(memory_sanitizer)
#define UNDER_MSAN 1
#else
#define UNDER_MSAN 0
#endif

/* ThreadSanitizer itself calls this, before it is ready to be told of anything. */
#define BEFORE_MAIN __attribute__((no_sanitize("thread")))

/* A build of the library in which no stack is kept. */
#ifdef GREEN_STRESS
#define STRESSED 1
#else
#define STRESSED 0
#endif

/* One of those that stand between the program and the system. */
#define SANITIZED (UNDER_ASAN || UNDER_TSAN || UNDER_MSAN)

/* Memcheck looks at what write() is given, and at who holds memory when a child ends. */
static inline int under_helgrind(void)
{
    const char *preload = getenv("LD_PRELOAD");
    return preload != NULL && strstr(preload, "vgpreload_helgrind") != NULL;
}

static inline int under_valgrind(void)
{
    const char *preload = getenv("LD_PRELOAD");
    return getenv("RUNNING_ON_VALGRIND") != NULL ||
           (preload != NULL && strstr(preload, "vgpreload") != NULL);
}

/*
 * In a child of run_child(): whether qemu-user or Valgrind runs it.  They answer
 * what a program asks of itself, and the kernel what it asks of its parent, which
 * is the same program.
 */
static inline int emulated(void)
{
    char parent[64], own[PATH_MAX], other[PATH_MAX];
    snprintf(parent, sizeof parent, "/proc/%ld/exe", (long)getppid());
    ssize_t n = readlink("/proc/self/exe", own, sizeof own);
    return readlink(parent, other, sizeof other) != n ||
           (n > 0 && memcmp(own, other, (size_t)n) != 0);
}

/*
 * 0 if a byte can be read there, else the errno that the kernel gives.  For
 * Memcheck, which would report it of what is below a stack pointer.
 */
static inline int probe_unseen(const char *address)
{
    char byte;
    struct iovec to = { &byte, 1 }, from = { (void *)(uintptr_t)address, 1 };
    return syscall(SYS_process_vm_readv, getpid(), &to, 1UL, &from, 1UL, 0UL) == 1 ? 0 : errno;
}

/*
 * A place on the running stack.  A local variable may be elsewhere: looking for
 * uses after return AddressSanitizer has a second stack for them.
 */
#define HERE ((char *)__builtin_frame_address(0))

/* With AddressSanitizer stacks are so many times as large, as frames are. */
#define STACK_FACTOR (UNDER_ASAN ? (size_t)4 : (size_t)1)

/* Why a test cannot be had here, a sentence for each. */
#define skip_because(reason)                    \
    do {                                        \
        print_message("skipped: %s\n", reason); \
        skip();                                 \
    } while (0)

/* The same for a whole program: what its main() returns. */
static inline int skip_all_because(const char *reason)
{
    printf("skipped: %s\n", reason);
    return 77; /* to ctest */
}

#endif
