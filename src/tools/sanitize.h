/* SPDX-License-Identifier: MIT */
#ifndef GREEN_SANITIZE_H
#define GREEN_SANITIZE_H
/*
 * What checking tools must be told of stacks, of switches and of values.
 *
 * They are found at run time, by weak symbols of the sanitizers' interfaces
 * (sanitizer/common_interface_defs.h, asan_interface.h, lsan_interface.h,
 * tsan_interface.h, msan_interface.h) and by a request to Valgrind: so it does
 * not matter whether the library, the program or both are built with them, and
 * no header of theirs is needed.  A thread under ASan or TSan goes the slow way
 * in every move, so the fast path pays nothing.  Knows no greens: switch.c says
 * when, stack.c where, and who gives or passes something, what.
 */
#include <stdbool.h>
#include <stddef.h>

#include "arch/arch.h"

#if defined(__has_feature)
#if __has_feature(safe_stack)
#error "libgreen: SafeStack is not supported: its second stack would not be switched"
#endif
#if __has_feature(shadow_call_stack)
#error "libgreen: ShadowCallStack is not supported: its second stack would not be switched"
#endif
#endif

/* Found elsewhere if at all, so never hidden. */
#define GREEN__WEAK __attribute__((weak, visibility("default")))

GREEN__WEAK void __sanitizer_start_switch_fiber(void **fake_stack, const void *low, size_t size);
GREEN__WEAK void __sanitizer_finish_switch_fiber(void *fake_stack, const void **low, size_t *size);
GREEN__WEAK void __asan_poison_memory_region(const volatile void *low, size_t size);
GREEN__WEAK void __asan_unpoison_memory_region(const volatile void *low, size_t size);
GREEN__WEAK void __lsan_register_root_region(const void *low, size_t size);
GREEN__WEAK void __lsan_unregister_root_region(const void *low, size_t size);
GREEN__WEAK void *__tsan_get_current_fiber(void);
GREEN__WEAK void *__tsan_create_fiber(unsigned flags);
GREEN__WEAK void __tsan_destroy_fiber(void *fiber);
GREEN__WEAK void __tsan_switch_to_fiber(void *fiber, unsigned flags);
/* Not const: gcc warns of what is shown so before it is set. */
GREEN__WEAK void __msan_unpoison(volatile void *low, size_t size);
GREEN__WEAK void __msan_unpoison_param(size_t count);

/* For functions that are entered before, or left after, the sanitizer knows where it is. */
#define GREEN__NO_ASAN __attribute__((no_sanitize("address")))

/* For a plain load of what other threads store atomically. */
#define GREEN__NO_TSAN __attribute__((no_sanitize("thread")))

/* For those that are called by what is never built with MSan; gcc does not have it. */
#ifdef __clang__
#define GREEN__NO_MSAN __attribute__((no_sanitize("memory")))
#else
#define GREEN__NO_MSAN
#endif

/* The codes of valgrind.h. */
#define GREEN__VALGRIND_RUNNING 0x1001
#define GREEN__VALGRIND_STACK_REGISTER 0x1501
#define GREEN__VALGRIND_STACK_DEREGISTER 0x1502
#define GREEN__MEMCHECK_MAKE_MEM_NOACCESS 0x4d430000 /* memcheck.h */
#define GREEN__MEMCHECK_MAKE_MEM_UNDEFINED 0x4d430001
#define GREEN__MEMCHECK_MAKE_MEM_DEFINED 0x4d430002

#define GREEN__HELGRIND_SEND 0x48470121 /* helgrind.h */
#define GREEN__HELGRIND_RECEIVE 0x48470122
#define GREEN__HELGRIND_FORGET 0x48470123
#define GREEN__HELGRIND_MAKE_UNTRACKED 0x48470127

/* Atomic variables: Helgrind takes what is done to them for races. */
static inline void green__atomics(const volatile void *low, size_t size)
{
    green__arch_valgrind(GREEN__HELGRIND_MAKE_UNTRACKED, (uintptr_t)low, size);
}

/* What one thread hands to another by atomic operations: what was done before is seen after. */
static inline void green__hand_over(const void *what)
{
    green__arch_valgrind(GREEN__HELGRIND_SEND, (uintptr_t)what, 0);
}

static inline void green__take_handed(const void *what)
{
    green__arch_valgrind(GREEN__HELGRIND_RECEIVE, (uintptr_t)what, 0);
    green__arch_valgrind(GREEN__HELGRIND_FORGET, (uintptr_t)what, 0);
}

/*
 * Memory that the user has given up and we have not: ASan reports who touches
 * it, until it is freed.  Whole units of 8 bytes.
 */
static inline void green__forbid(const volatile void *low, size_t size)
{
    if (__asan_poison_memory_region != NULL)
        __asan_poison_memory_region(low, size);
}

/*
 * MSan, where the program alone is built with it, does not see us set what we
 * give back through a pointer,
 */
static inline void green__given(volatile void *low, size_t size)
{
    if (__msan_unpoison != NULL)
        __msan_unpoison(low, size);
}

/* nor the arguments of a function of the program's: right before its call. */
static inline void green__passes(void)
{
    if (__msan_unpoison_param != NULL)
        __msan_unpoison_param(4);
}

/* ---- Stacks ------------------------------------------------------------------ */

/* Valgrind must know both stacks to take a change for a switch.  Returns its number there. */
static inline unsigned green__valgrind_register(const void *low, const void *end)
{
    return (unsigned)green__arch_valgrind(GREEN__VALGRIND_STACK_REGISTER, (uintptr_t)low,
                                          (uintptr_t)end);
}

/*
 * To Memcheck what is below a stack pointer is out of bounds.  So is all of a
 * stack between two greens, lest what the last one has left there keeps a leak
 * from being seen; and where the first frame of the next one comes is not.
 */
#define GREEN__VALGRIND_FIRST ((size_t)256)

static inline void green__valgrind_use(const char *top)
{
    green__arch_valgrind(GREEN__MEMCHECK_MAKE_MEM_UNDEFINED,
                         (uintptr_t)top - GREEN__VALGRIND_FIRST, GREEN__VALGRIND_FIRST);
}

static inline void green__valgrind_unuse(const void *low, size_t size)
{
    green__arch_valgrind(GREEN__MEMCHECK_MAKE_MEM_NOACCESS, (uintptr_t)low, size);
}

/* The caller's memory is no stack any more. */
static inline void green__valgrind_return(const void *low, size_t size)
{
    green__arch_valgrind(GREEN__MEMCHECK_MAKE_MEM_DEFINED, (uintptr_t)low, size);
}

static inline void green__valgrind_deregister(unsigned number)
{
    green__arch_valgrind(GREEN__VALGRIND_STACK_DEREGISTER, number, 0);
}

/* ASan makes frames up to four times as large. */
static inline size_t green__frame_factor(void)
{
    return __asan_unpoison_memory_region != NULL ? 4 : 1;
}

/*
 * ASan forgets what was poisoned here: by frames that were never left, or, as
 * it does so at no munmap(), by whoever had this address before.
 */
static inline void green__memory_clean(const void *low, size_t size)
{
    if (__asan_unpoison_memory_region != NULL)
        __asan_unpoison_memory_region(low, size);
}

/*
 * LSan finds pointers here; what is in it then is not lost.  It reads all of it,
 * so there must be no guard, and is told of the end by the same place and size.
 */
static inline void green__roots_begin(const void *low, size_t size)
{
    if (__lsan_register_root_region != NULL)
        __lsan_register_root_region(low, size);
}

static inline void green__roots_end(const void *low, size_t size)
{
    if (__lsan_unregister_root_region != NULL)
        __lsan_unregister_root_region(low, size);
}

/* A stack is about to be used. */
static inline void green__stack_begins(const void *low, size_t size)
{
    green__memory_clean(low, size);
    green__roots_begin(low, size);
}

/* It is used no longer: what only it points to is lost, and the memory may become another's. */
static inline void green__stack_ends(const void *low, size_t size)
{
    green__memory_clean(low, size);
    green__roots_end(low, size);
}

/* ---- Switches ---------------------------------------------------------------- */

/* Whether a sanitizer must be told of switches. */
static inline bool green__is_sanitized(void)
{
    return __sanitizer_start_switch_fiber != NULL || __tsan_switch_to_fiber != NULL;
}

/* Whether there is a tool that wants to know what is used, and how long. */
static inline bool green__is_watched(void)
{
    return green__is_sanitized() || __lsan_register_root_region != NULL ||
           green__arch_valgrind(GREEN__VALGRIND_RUNNING, 0, 0) != 0;
}

/*
 * What a sanitizer has of a stack: for ASan the fake stack of one that is
 * suspended, for TSan its fiber.  Its place, low and size, matters to ASan.
 */
struct green__fiber {
    void *sanitizers;
};

/* TSan wants a fiber for every stack before it is entered; the thread's own it has. */
static inline void green__fiber_begin(struct green__fiber *fiber, bool is_thread)
{
    if (__tsan_create_fiber != NULL)
        fiber->sanitizers = is_thread ? __tsan_get_current_fiber() : __tsan_create_fiber(0);
}

/*
 * Right before a switch, in the same function.  from is NULL if it ends; then
 * green__fiber_end() follows on another stack.
 */
static inline __attribute__((always_inline)) void
green__fiber_leave(struct green__fiber *from, const struct green__fiber *to, const void *low,
                   size_t size)
{
    if (__sanitizer_start_switch_fiber != NULL)
        __sanitizer_start_switch_fiber(from != NULL ? &from->sanitizers : NULL, low, size);
    if (__tsan_switch_to_fiber != NULL)
        __tsan_switch_to_fiber(to->sanitizers, 0);
}

/* Right after it.  Says where the stack is that was left. */
static inline __attribute__((always_inline)) void
green__fiber_arrive(const struct green__fiber *here, const void **low, size_t *size)
{
    if (__sanitizer_start_switch_fiber != NULL)
        __sanitizer_finish_switch_fiber(here->sanitizers, low, size);
}

/* Of a stack that has been left for good. */
static inline void green__fiber_end(struct green__fiber *fiber)
{
    if (fiber->sanitizers != NULL && __tsan_destroy_fiber != NULL)
        __tsan_destroy_fiber(fiber->sanitizers);
    fiber->sanitizers = NULL;
}

/*
 * Lets go of what the sanitizers have of a suspended stack that is dropped.
 * ASan frees a fake stack only when its stack is left for good, so it is made
 * believe that: we visit it and come back.  low, size: the running stack.
 */
static inline GREEN__NO_ASAN void green__fiber_drop(struct green__fiber *fiber, const void *low,
                                                    size_t size)
{
    if (fiber->sanitizers != NULL && __sanitizer_start_switch_fiber != NULL) {
        void *ours;
        const void *unused_low;
        size_t unused_size;
        __sanitizer_start_switch_fiber(&ours, low, size);
        __sanitizer_finish_switch_fiber(fiber->sanitizers, &unused_low, &unused_size);
        __sanitizer_start_switch_fiber(NULL, low, size);
        __sanitizer_finish_switch_fiber(ours, &unused_low, &unused_size);
    }
    green__fiber_end(fiber);
}

#endif
