/* SPDX-License-Identifier: MIT */
#ifndef HEAP_H
#define HEAP_H
/*
 * malloc() and its kin as functions of the program, where they come before
 * libc's: they count the blocks that live, and refuse what the program has them
 * refuse.  Not for a program with a sanitizer; Valgrind passes them by.
 */
#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

enum heap_call { HEAP_MALLOC, HEAP_CALLOC, HEAP_REALLOC, HEAP_MEMALIGN };

/* The program defines it: whether this call is to give NULL; if so, it has set errno. */
static int heap_refuses(enum heap_call call);

static atomic_long live_blocks;

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t number, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *block);

static void *counted(void *block)
{
    if (block != NULL)
        atomic_fetch_add(&live_blocks, 1);
    return block;
}

void *malloc(size_t size)
{
    return heap_refuses(HEAP_MALLOC) ? NULL : counted(__libc_malloc(size));
}

void *calloc(size_t number, size_t size)
{
    return heap_refuses(HEAP_CALLOC) ? NULL : counted(__libc_calloc(number, size));
}

void *realloc(void *old, size_t size)
{
    if (heap_refuses(HEAP_REALLOC))
        return NULL;
    return old == NULL ? counted(__libc_malloc(size)) : __libc_realloc(old, size);
}

void *memalign(size_t alignment, size_t size)
{
    return heap_refuses(HEAP_MEMALIGN) ? NULL : counted(__libc_memalign(alignment, size));
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return memalign(alignment, size);
}

int posix_memalign(void **block, size_t alignment, size_t size)
{
    *block = memalign(alignment, size);
    return *block == NULL ? ENOMEM : 0;
}

/* What is freed too early does not look as before. */
void free(void *block)
{
    if (block == NULL)
        return;
    memset(block, 0xa5, malloc_usable_size(block));
    atomic_fetch_sub(&live_blocks, 1);
    __libc_free(block);
}

#endif
