/* SPDX-License-Identifier: MIT */
#ifndef GREEN_FAST_H
#define GREEN_FAST_H
/*
 * The switch without a call: for those who need the last nanosecond.
 *
 * green_switch_fast() and green_yield_fast() are green_switch() and
 * green_yield() inlined into their caller.  All rules of green.h hold, and
 * greens that wait in one kind of call are entered by the other as by their
 * own.  Only rule 15 and unwinding keep less.  Not kept are
 *
 *   - the floating-point control modes: whoever changes them changes them for
 *     all greens of the thread that wait in a fast call;
 *   - the exceptions being handled in C++: do not wait in a fast call inside a
 *     catch block, nor in a destructor that an exception runs;
 *   - unwinding in C++: if a green below may end the thread by pthread_exit() or
 *     cancellation, do not wait in a fast call in a function that has destructors
 *     or try blocks.  To compilers nothing passes there that would need them: gcc
 *     has std::terminate() called, unless with -fnon-call-exceptions, and clang
 *     may pass them over.
 *
 * It costs code: a few dozen instructions at each use, and every register is
 * lost there, so the function around it keeps nothing in them and has a frame
 * pointer.  Use it where a switch is most of what a loop does.
 *
 * A function that a target attribute gives registers the rest of its file does
 * not have must not use it with gcc (there is no way to name these to the
 * compiler); with -mavx512f and the like for the whole file all is well.
 *
 * The names green_private_... are not for use.
 */
#include <stdint.h>

#include <green.h>

/* What of the library's own data is read here; src/core/layout.c compares the two. */
struct __attribute__((__may_alias__)) green_private {
    void *sp;       /* where it is suspended */
    uint64_t enter; /* its thread's tag, if it may be entered from here */
    green_t *parent;
    green_t *stand_in;
};

struct __attribute__((__may_alias__)) green_private_thread {
    struct green_private *current;
    uint64_t tag;
};

/*
 * The calling thread's; never NULL.  What a program is linked against is called
 * green_private_abi_1, and otherwise as soon as anything here changes its
 * meaning.  As every use reads the pointer, a program that was compiled for
 * another library than it meets does not link, or does not start.
 */
#ifdef __cplusplus
extern "C" {
#endif
extern __thread struct green_private_thread *green_private_self __asm__("green_private_abi_1")
#ifdef __GLIBC__ /* others, as musl, do not load libraries that find it so */
    __attribute__((__tls_model__("initial-exec")))
#endif
    __attribute__((__visibility__("default")));
#ifdef __cplusplus
}
#endif

#ifdef __cplusplus
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wold-style-cast"
#endif

/*
 * The rest is a port: arch.h says what a suspended stack looks like.
 *
 * Instead of saving the registers a port has this tell the compiler that all
 * are lost, and so it saves those it uses, once.  Left to save are the
 * stack pointer, and by hand the frame pointer and the one register that
 * compilers reserve where they realign a stack, neither of which can be
 * declared.
 *
 * The frame pointer is asked for because it makes the call frame information
 * right: with it, that of the function around does not depend on the stack
 * pointer, which the instructions here move, and about which they could tell an
 * assembler nothing without knowing it.  To walk a suspended stack, take the
 * three words at its top; one instruction after the address to resume at, the
 * registers say the same.
 */
#define GREEN_PRIVATE_INLINE static inline __attribute__((__always_inline__, __unused__))
#define GREEN_PRIVATE_FRAME_POINTER() \
    __asm__ __volatile__("" : : "m"(*(const char *)__builtin_frame_address(0)))

#if defined(__x86_64__) && defined(__LP64__)

#ifdef __APX_F__
#error "green_fast.h: the registers of APX are not known to it; use green_switch()"
#endif
#if defined(__clang__) && defined(__AMX_TILE__) /* gcc keeps nothing in a tile by itself */
#error "green_fast.h: the tiles of AMX are not kept by it; use green_switch() or -mno-amx-tile"
#endif

/* gcc refuses registers that the target has not; clang takes all and may need all. */
#ifdef __clang__
#define GREEN_PRIVATE_HAS_AVX512
#define GREEN_PRIVATE_HAS_MMX
#define GREEN_PRIVATE_HAS_SSE
#define GREEN_PRIVATE_HAS_X87
#else
#ifdef __AVX512F__
#define GREEN_PRIVATE_HAS_AVX512
#endif
#ifdef __MMX__
#define GREEN_PRIVATE_HAS_MMX
#endif
#ifdef __SSE__
#define GREEN_PRIVATE_HAS_SSE
#endif
#ifndef _SOFT_FLOAT
#define GREEN_PRIVATE_HAS_X87
#endif
#endif

/*
 *     high  |  red zone: the leaf function's around  |  24
 *           |  rbx                                   |  16
 *           |  rbp                                   |   8
 *     low   |  where to resume                       |   0   <- saved stack pointer
 *
 * Under IBT the jump has a notrack prefix, as that of switch.S.
 */

GREEN_PRIVATE_INLINE void *green_private_enter(struct green_private *me, struct green_private *to,
                                               void *value)
{
    void *target = to->sp;
    GREEN_PRIVATE_FRAME_POINTER();
    __asm__ __volatile__("leaq 1f(%%rip), %%rcx\n\t"
                         "leaq -128(%%rsp), %%rsp\n\t"
                         "pushq %%rbx\n\t"
                         "pushq %%rbp\n\t"
                         "pushq %%rcx\n\t"
                         "movq %%rsp, (%%rdi)\n\t"
                         "leaq 8(%%rsi), %%rsp\n\t"
#if defined(__CET__) && (__CET__ & 1)
                         "notrack "
#endif
                         "jmp *(%%rsi)\n" /* by rsp, just changed, it is slow on Zen */
                         "1:\n\t"
                         "popq %%rbp\n\t"
                         "popq %%rbx\n\t"
                         "leaq 128(%%rsp), %%rsp"
                         : "+a"(value), "+D"(me), "+S"(target)
                         :
                         : "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"
#ifdef GREEN_PRIVATE_HAS_X87
                         , "st", "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)", "st(7)"
#endif
#ifdef GREEN_PRIVATE_HAS_MMX
                         , "mm0", "mm1", "mm2", "mm3", "mm4", "mm5", "mm6", "mm7"
#endif
#ifdef GREEN_PRIVATE_HAS_SSE
                         , "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7"
                         , "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"
#endif
#ifdef GREEN_PRIVATE_HAS_AVX512
                         , "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23"
                         , "xmm24", "xmm25", "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31"
                         , "k0", "k1", "k2", "k3", "k4", "k5", "k6", "k7"
#endif
                         , "cc", "memory");
    return value;
}

#undef GREEN_PRIVATE_HAS_AVX512
#undef GREEN_PRIVATE_HAS_MMX
#undef GREEN_PRIVATE_HAS_SSE
#undef GREEN_PRIVATE_HAS_X87

#elif defined(__aarch64__) && defined(__LP64__) && !defined(__AARCH64EB__)

#ifdef __ARM_FEATURE_SME
#error "green_fast.h: the streaming mode of SME is not kept by it; use green_switch()"
#endif

/*
 *     high  |  unused           |  24
 *           |  x19              |  16
 *           |  x29              |   8
 *     low   |  where to resume  |   0   <- saved stack pointer
 *
 * The stack pointer is a multiple of 16 wherever memory is addressed by it.
 */
GREEN_PRIVATE_INLINE void *green_private_enter(struct green_private *me, struct green_private *to,
                                               void *value)
{
    void *target = to->sp; /* before the registers are taken: it may be a call */
    GREEN_PRIVATE_FRAME_POINTER();
    register void *x0 __asm__("x0") = value;
    register void *x1 __asm__("x1") = me;
    register void *x2 __asm__("x2") = target;
    __asm__ __volatile__("adr x3, 1f\n\t"
                         "ldr x4, [x2]\n\t"
                         "sub sp, sp, #32\n\t"
                         "stp x3, x29, [sp]\n\t"
                         "str x19, [sp, #16]\n\t"
                         "mov x3, sp\n\t"
                         "str x3, [x1]\n\t"
                         "add sp, x2, #8\n\t"
                         "br x4\n"
                         "1:\n\t"
#ifdef __ARM_FEATURE_BTI_DEFAULT
                         "hint #36\n\t" /* bti j */
#endif
                         "sub sp, sp, #8\n\t"
                         "ldp x29, x19, [sp, #8]\n\t"
                         "add sp, sp, #32"
                         : "+r"(x0), "+r"(x1), "+r"(x2)
                         :
                         : "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13"
                         , "x14", "x15", "x16", "x17", "x20", "x21", "x22", "x23", "x24", "x25"
                         , "x26", "x27", "x28", "x30"
#ifndef __ANDROID__
                         , "x18" /* there it is the system's, and the thread's */
#endif
                         , "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11"
                         , "v12", "v13", "v14", "v15", "v16", "v17", "v18", "v19", "v20", "v21"
                         , "v22", "v23", "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31"
#if defined(__ARM_FEATURE_SVE) || defined(__clang__) || __GNUC__ >= 10
                         , "p0", "p1", "p2", "p3", "p4", "p5", "p6", "p7", "p8", "p9", "p10", "p11"
                         , "p12", "p13", "p14", "p15"
#endif
                         , "cc", "memory");
    return x0;
}

#else
#define GREEN_PRIVATE_CALLS /* a port that has none: the two are calls */
#endif

#undef GREEN_PRIVATE_FRAME_POINTER

/* ---- The calls ------------------------------------------------------------- */

#define GREEN_PRIVATE_UNLIKELY(x) __builtin_expect(!!(x), 0)

/*
 * Enters to if the thread's tag says so, which is never that of a green that is
 * new, dead, released or another thread's, nor under trace or a sanitizer.
 */
#define GREEN_PRIVATE_MAY_ENTER(self, to)               \
    (__atomic_load_n(&(to)->enter, __ATOMIC_RELAXED) == \
     __atomic_load_n(&(self)->tag, __ATOMIC_RELAXED))

/* green_switch() */
GREEN_PRIVATE_INLINE void *green_switch_fast(green_t *g, void *value)
{
#ifdef GREEN_PRIVATE_CALLS
    return green_switch(g, value);
#else
    struct green_private_thread *self = green_private_self;
    struct green_private *me = __atomic_load_n(&self->current, __ATOMIC_RELAXED);
    struct green_private *to = (struct green_private *)g;

    /* Else compilers test it before a loop, and keep the answer in memory for each switch. */
    __asm__("" : "+r"(to));
    if (GREEN_PRIVATE_UNLIKELY(to == NULL) || GREEN_PRIVATE_UNLIKELY(value == GREEN_FAILED) ||
        GREEN_PRIVATE_UNLIKELY(to == me) ||
        GREEN_PRIVATE_UNLIKELY(!GREEN_PRIVATE_MAY_ENTER(self, to)))
        return green_switch(g, value);
    __atomic_store_n(&self->current, to, __ATOMIC_RELAXED);
    return green_private_enter(me, to, value);
#endif
}

/* green_yield() */
GREEN_PRIVATE_INLINE void *green_yield_fast(void *value)
{
#ifdef GREEN_PRIVATE_CALLS
    return green_yield(value);
#else
    struct green_private_thread *self = green_private_self;
    struct green_private *me = __atomic_load_n(&self->current, __ATOMIC_RELAXED);
    struct green_private *to;

    /* A parent that is released is DEAD, and who has a stand-in is being freed. */
    if (GREEN_PRIVATE_UNLIKELY(me == NULL) || GREEN_PRIVATE_UNLIKELY(me->stand_in != NULL) ||
        GREEN_PRIVATE_UNLIKELY((to = (struct green_private *)me->parent) == NULL) ||
        GREEN_PRIVATE_UNLIKELY(value == GREEN_FAILED) ||
        GREEN_PRIVATE_UNLIKELY(!GREEN_PRIVATE_MAY_ENTER(self, to)))
        return green_yield(value);
    __atomic_store_n(&self->current, to, __ATOMIC_RELAXED);
    return green_private_enter(me, to, value);
#endif
}

#ifdef __cplusplus
#pragma GCC diagnostic pop
#endif

#undef GREEN_PRIVATE_MAY_ENTER
#undef GREEN_PRIVATE_UNLIKELY
#undef GREEN_PRIVATE_CALLS
#undef GREEN_PRIVATE_INLINE
#endif
