/* SPDX-License-Identifier: MIT */
#ifndef SYSTEM_H
#define SYSTEM_H
/*
 * What the library asks of the system for stacks, counted and refused.  These
 * functions stand in the program, where they come before libc's.
 */
#ifndef _GNU_SOURCE
#error "_GNU_SOURCE first"
#endif
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "testing.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

/* What a mapping of so many bytes takes. */
static inline long in_pages(size_t size)
{
    return (long)((size + 4095) & ~(size_t)4095);
}

static inline int refuse(int error)
{
    errno = error;
    return -1;
}

/* A program may have functions of its own instead, or none. */
#ifndef SYSTEM_OWN

/* How often; guards are no other advice. */
static struct asked {
    _Atomic(int) maps, unmaps, protects, guards, advices;
} asked;

enum how { GRANT, REFUSE, PRETEND };

static struct refusal {
    size_t maps_above;  /* mappings larger than this; 0: none */
    enum how guards;    /* MADV_GUARD_INSTALL */
    enum how protects;  /* mprotect to PROT_NONE */
} refusal;

BEFORE_MAIN void *mmap(void *address, size_t size, int access, int flags, int fd, off_t offset)
{
    asked.maps++;
    if (refusal.maps_above != 0 && size > refusal.maps_above) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return (void *)syscall(SYS_mmap, address, size, access, flags, fd, offset);
}

BEFORE_MAIN int munmap(void *address, size_t size)
{
    asked.unmaps++;
    return (int)syscall(SYS_munmap, address, size);
}

BEFORE_MAIN int mprotect(void *address, size_t size, int access)
{
    asked.protects++;
    if (access == PROT_NONE && refusal.protects == REFUSE)
        return refuse(ENOMEM);
    return (int)syscall(SYS_mprotect, address, size, access);
}

BEFORE_MAIN int madvise(void *address, size_t size, int advice)
{
    if (advice != MADV_GUARD_INSTALL) {
        asked.advices++;
        return (int)syscall(SYS_madvise, address, size, advice);
    }
    asked.guards++;
    if (refusal.guards == REFUSE)
        return refuse(EINVAL);
    return refusal.guards == PRETEND ? 0 : (int)syscall(SYS_madvise, address, size, advice);
}

#endif

/* 0 if a byte can be read there, else the errno that the kernel gives. */
static inline int probe(const char *address)
{
    static int ends[2];
    char byte;
    if (under_valgrind())
        return probe_unseen(address);
    if (ends[0] == 0)
        must(syscall(SYS_pipe2, ends, O_NONBLOCK | O_CLOEXEC) == 0);
    if (write(ends[1], address, 1) != 1)
        return errno;
    must(read(ends[0], &byte, 1) == 1);
    return 0;
}

/* Whether an emulator stands in for the kernel: one accepts advice and does nothing. */
static inline int is_emulated(void)
{
    char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(page != MAP_FAILED);
    int emulated = syscall(SYS_madvise, page, 4096, MADV_GUARD_INSTALL) == 0 && probe(page) == 0;
    munmap(page, 4096);
    return emulated;
}

static inline char *low_of(const green_t *g)
{
    void *low = V(1); /* to be written over */
    green_stack(g, &low, NULL);
    return low;
}

static inline size_t size_of(const green_t *g)
{
    size_t size = 1;
    green_stack(g, NULL, &size);
    return size;
}

/* All 64 KiB below g's stack fault, and the stack does not. */
static inline int is_guarded(const green_t *g)
{
    char *low = low_of(g);
    return probe(low) == 0 && probe(low - 1) == EFAULT && probe(low - 4096) == EFAULT &&
           probe(low - 32768) == EFAULT && probe(low - 65536) == EFAULT;
}

static inline green_stats_t stats(void)
{
    green_stats_t now;
    must(green_stats(&now, sizeof now) == 0);
    return now;
}

static inline green_t *with(green_fn *run, size_t size, unsigned flags)
{
    green_options_t options = { .stack_size = size, .flags = flags };
    return green_new_with(run, NULL, &options);
}

#endif
