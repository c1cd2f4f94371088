/* SPDX-License-Identifier: MIT */
#ifndef GREEN_TOOLS_H
#define GREEN_TOOLS_H
/*
 * All tools that check programs, together: what they must be told of stacks and of
 * switches.  What one of them is told alone is in its own header.
 *
 * They are found at run time: sanitizers by weak symbols of their interfaces, Valgrind
 * by a request.  So it does not matter whether the library, the program or both are
 * built with them, and no header of theirs is needed.  A thread under ASan or TSan goes
 * the slow way in every move, so the fast path pays nothing.
 *
 * The tools know no greens: carry.h says when, stack.c where, and who gives or passes
 * something, what.
 */
#include <stdbool.h>
#include <stddef.h>

#include "tools/asan.h"
#include "tools/helgrind.h"
#include "tools/lsan.h"
#include "tools/msan.h"
#include "tools/tsan.h"
#include "tools/valgrind.h"

#if defined(__has_feature)
#if __has_feature(safe_stack)
#error "libgreen: SafeStack is not supported: its second stack would not be switched"
#endif
#if __has_feature(shadow_call_stack)
#error "libgreen: ShadowCallStack is not supported: its second stack would not be switched"
#endif
#endif

/* ---- Stacks ------------------------------------------------------------------ */

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
