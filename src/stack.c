/* SPDX-License-Identifier: MIT */
/*
 * Memory for stacks.
 *
 * A stack is a private anonymous mapping with its guard at the low end.  It is
 * mapped without reserving memory, so only what is touched costs any, and
 * marked as a stack, which keeps huge pages away from it.  A stack that comes
 * back waits in its thread's cache, guard and all; the oldest beyond the bound
 * are unmapped.
 *
 * A guard is made by MADV_GUARD_INSTALL where that works, else by mprotect.
 * The former leaves the mapping in one piece, so the kernel's limit on mappings
 * (65,530 by default, two for each mprotect'ed guard) does not bound the stacks.
 */
#define _GNU_SOURCE
#include "stack.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sanitize.h"

#ifndef MAP_STACK
#define MAP_STACK 0
#endif
#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102 /* Linux 6.13 */
#endif
#ifndef MADV_NOHUGEPAGE
#define MADV_NOHUGEPAGE 15
#endif

#define GUARD_SIZE ((size_t)64 << 10)

/* How much address space a cache may hold: 256 stacks of the default size. */
#define CACHE_BYTES (256 * GREEN__STACK_DEFAULT)

/* More than any address space has, and room to round and add without overflow. */
#define SIZE_LIMIT ((size_t)1 << (sizeof(size_t) * 8 - 2))

/* A stack in a cache: stands in the stack's own header, which is most likely resident. */
struct green__kept {
    struct green__kept *older, *newer;
    struct green__stack stack;
};
_Static_assert(sizeof(struct green__kept) <= GREEN__STACK_HEADER, "");

/* Running stacks that green__stack_drop() had to leave; unmapped by a later one. */
static struct green__stack_cache left_behind;

static size_t page_size(void)
{
    static size_t size; /* the same whoever writes it */
    size_t known = __atomic_load_n(&size, __ATOMIC_RELAXED);
    if (known == 0) {
        known = (size_t)sysconf(_SC_PAGESIZE);
        __atomic_store_n(&size, known, __ATOMIC_RELAXED);
    }
    return known;
}

static size_t round_up(size_t size, size_t multiple)
{
    return (size + multiple - 1) & ~(multiple - 1);
}

/* ---- Guards -------------------------------------------------------------- */

/*
 * Whether a guard that madvise() has just accepted is one.  An emulator may
 * accept advice it does not know and do nothing; the kernel refuses to read
 * from a guarded page with EFAULT.
 */
static int guard_holds(const char *guard)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
        return -1;
    ssize_t written = write(ends[1], guard, 1);
    int holds = written < 0 && errno == EFAULT;
    close(ends[0]);
    close(ends[1]);
    return holds;
}

/* Guards by advice are believed in once one has been seen to hold. */
static bool guard_by_advice(char *guard, size_t size)
{
    static int believed; /* 1 yes, -1 no, 0 not known yet */
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

static bool install_guard(char *guard, size_t size)
{
    return guard_by_advice(guard, size) || mprotect(guard, size, PROT_NONE) == 0;
}

/* ---- Mappings ------------------------------------------------------------ */

static int map(size_t size, size_t guard, struct green__stack *stack)
{
    char *memory = mmap(NULL, guard + size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        errno = ENOMEM;
        return -1;
    }
    (void)madvise(memory, guard + size, MADV_NOHUGEPAGE); /* for kernels before 6.7 */
    if (guard != 0 && !install_guard(memory, guard)) {
        munmap(memory, guard + size);
        errno = ENOMEM;
        return -1;
    }
    *stack = (struct green__stack){.low = memory + guard, .size = size, .guard = guard};
    stack->valgrind = green__valgrind_register(stack->low, stack->low + stack->size);
    return 0;
}

static void unmap(const struct green__stack *stack)
{
    green__valgrind_deregister(stack->valgrind);
    munmap(stack->low - stack->guard, stack->guard + stack->size);
}

/* ---- The cache ----------------------------------------------------------- */

static void keep(struct green__stack_cache *cache, const struct green__stack *stack)
{
    struct green__kept *kept = (void *)green__stack_top(stack);
    *kept = (struct green__kept){.older = cache->newest, .stack = *stack};
    if (cache->newest != NULL)
        cache->newest->newer = kept;
    else
        cache->oldest = kept;
    cache->newest = kept;
    cache->bytes += stack->size;
}

static void take_out(struct green__stack_cache *cache, const struct green__kept *kept)
{
    if (kept->newer != NULL)
        kept->newer->older = kept->older;
    else
        cache->newest = kept->older;
    if (kept->older != NULL)
        kept->older->newer = kept->newer;
    else
        cache->oldest = kept->newer;
    cache->bytes -= kept->stack.size;
}

/* The usable range of the caller's memory; one after the other may not be. */
static void align(const void *memory, size_t size, uintptr_t *low, uintptr_t *end)
{
    *low = ((uintptr_t)memory + 15) & ~(uintptr_t)15;
    *end = ((uintptr_t)memory + size) & ~(uintptr_t)15;
}

bool green__stack_valid(const void *memory, size_t size)
{
    if (memory == NULL)
        return size <= SIZE_LIMIT;
    uintptr_t low, end;
    align(memory, size, &low, &end);
    return size <= UINTPTR_MAX - (uintptr_t)memory && low >= (uintptr_t)memory && low < end &&
           end - low >= GREEN__STACK_MIN;
}

int green__stack_get(struct green__stack_cache *cache, size_t size, bool guarded,
                     struct green__stack *stack)
{
    if (size == 0)
        size = GREEN__STACK_DEFAULT;
    if (size < GREEN__STACK_MIN)
        size = GREEN__STACK_MIN;
    size = round_up(size, page_size());
    size_t guard = guarded ? round_up(GUARD_SIZE, page_size()) : 0;

    for (struct green__kept *kept = cache->newest; kept != NULL; kept = kept->older) {
        if (kept->stack.size == size && kept->stack.guard == guard) {
            *stack = kept->stack;
            take_out(cache, kept);
            green__stack_begins(stack->low, stack->size);
            return 0;
        }
    }
    if (map(size, guard, stack) != 0)
        return -1;
    green__stack_begins(stack->low, stack->size);
    return 0;
}

void green__stack_lend(void *memory, size_t size, struct green__stack *stack)
{
    uintptr_t low, end;
    align(memory, size, &low, &end);
    *stack = (struct green__stack){.low = (char *)low, .size = end - low, .lent = true};
    stack->valgrind = green__valgrind_register((void *)low, (void *)end);
    green__stack_begins(stack->low, stack->size);
}

void green__stack_put(struct green__stack_cache *cache, struct green__stack *stack)
{
    if (stack->low != NULL)
        green__stack_ends(stack->low, stack->size);
    if (stack->lent) {
        green__valgrind_deregister(stack->valgrind);
    } else if (stack->low != NULL && cache == NULL) {
        unmap(stack);
    } else if (stack->low != NULL) {
        keep(cache, stack);
        while (cache->bytes > CACHE_BYTES && cache->oldest != cache->newest) {
            struct green__stack oldest = cache->oldest->stack;
            take_out(cache, cache->oldest);
            unmap(&oldest);
        }
    }
    *stack = (struct green__stack){0};
}

static bool is_running(const struct green__stack *stack)
{
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    return here - (uintptr_t)stack->low < stack->size;
}

void green__stack_drop(struct green__stack_cache *cache)
{
    struct green__stack_cache *caches[] = {cache, &left_behind};
    struct green__stack running = {0};
    for (int i = 0; i < 2; i++) {
        while (caches[i]->newest != NULL) {
            struct green__stack stack = caches[i]->newest->stack;
            take_out(caches[i], caches[i]->newest);
            if (is_running(&stack))
                running = stack;
            else
                unmap(&stack);
        }
    }
    if (running.low != NULL)
        keep(&left_behind, &running);
}
