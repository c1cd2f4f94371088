/* SPDX-License-Identifier: MIT */
/*
 * x86_64, System V ABI (Linux and other ELF systems).
 *
 * What a switch leaves on the stack of the one it suspends:
 *
 *     high  |  return address   |  56
 *           |  r15              |  48
 *           |  r14              |  40
 *           |  r13              |  32
 *           |  r12              |  24
 *           |  rbx              |  16
 *           |  rbp              |   8
 *           |  where to resume  |   0   <- saved stack pointer
 *           |  x87 control word |  -4
 *     low   |  MXCSR            |  -8
 *
 * The control words are in the red zone (3.2.2 "The Stack Frame"), so that no
 * instruction need make room for them: see GREEN__ARCH_RED_ZONE in arch.h.
 *
 * What green__arch_first() puts at the top of a new stack:
 *
 *     high  |  starter          |  48   <- top is the next address
 *           |  owner            |  40
 *           |  zero             |  32   where unwinding ends, past a return address of zero
 *           |  zero             |  24   also for walkers that are lost and look on the stack
 *           |  rbx: entry       |  16
 *           |  rbp: zero        |   8
 *     low   |  where to resume  |   0   <- saved stack pointer
 */
#define GREEN__FRAME_MXCSR (-8)
#define GREEN__FRAME_X87 (-4)
#define GREEN__FRAME_RETURN 56
#define GREEN__FRAME_SIZE 64 /* above the saved stack pointer */

#define GREEN__ARCH_RED_ZONE 8 /* what of it is used; Valgrind lets 128 bytes be written */
#ifdef GREEN__TLS_FIXED
#define GREEN__ARCH_SWITCHES 1 /* switch.S has green_switch() */
#endif

#define GREEN__FIRST_STARTER 48 /* its return address, or zero */
#define GREEN__FIRST_OWNER 40
#define GREEN__FIRST_END 32

#ifndef __ASSEMBLER__
#include <stddef.h>

struct green__frame {
    uint32_t mxcsr;
    uint16_t x87, unused;
    void *resume; /* here is the saved stack pointer */
    uint64_t rbp, rbx, r12, r13, r14, r15;
    void *return_address;
};
#define FROM_SAVED(field) \
    ((ptrdiff_t)offsetof(struct green__frame, field) - (ptrdiff_t)offsetof(struct green__frame, resume))
_Static_assert(FROM_SAVED(mxcsr) == GREEN__FRAME_MXCSR, "");
_Static_assert(FROM_SAVED(x87) == GREEN__FRAME_X87, "");
_Static_assert(FROM_SAVED(rbp) == 8, "arch.h: the frame pointer after where to resume");
_Static_assert(FROM_SAVED(rbx) == 16, "arch.h: then rbx");
_Static_assert(FROM_SAVED(return_address) == GREEN__FRAME_RETURN, "");
_Static_assert((ptrdiff_t)sizeof(struct green__frame) + GREEN__FRAME_MXCSR == GREEN__FRAME_SIZE, "");
#undef FROM_SAVED

struct green__first_frame {
    void (*resume)(void);
    void *rbp;
    void (*rbx)(void *);
    void *return_address;
    void *end;
    const void *owner;
    void *starter;
};
_Static_assert(offsetof(struct green__first_frame, rbx) == 16, "arch.h");
_Static_assert(offsetof(struct green__first_frame, owner) == GREEN__FIRST_OWNER, "");
_Static_assert(offsetof(struct green__first_frame, end) == GREEN__FIRST_END, "");
_Static_assert(offsetof(struct green__first_frame, starter) == GREEN__FIRST_STARTER, "");
_Static_assert(sizeof(struct green__first_frame) % 16 == 8,
               "the entry calls with an aligned stack, three words up");

static inline void *green__arch_first(void *top, void (*entry)(void *value), const void *owner)
{
    struct green__first_frame *frame = (struct green__first_frame *)top - 1;
    frame->resume = green__arch_entry;
    frame->rbp = NULL;
    frame->rbx = entry;
    frame->return_address = NULL;
    frame->end = NULL;
    frame->owner = owner;
    return frame;
}

static inline _Noreturn void green__arch_end(void *first, void *target, void *value)
{
    __asm__ volatile("jmp green__arch_ended" : : "D"(first), "S"(target), "a"(value) : "memory");
    __builtin_unreachable();
}

/* valgrind.h, "amd64": four rotations that add up to nothing, and a marker. */
static inline uintptr_t green__arch_valgrind(uintptr_t code, uintptr_t a, uintptr_t b)
{
    volatile uintptr_t request[6] = {code, a, b};
    uintptr_t answer = 0;
    __asm__ volatile("rolq $3, %%rdi; rolq $13, %%rdi; rolq $61, %%rdi; rolq $51, %%rdi\n\t"
                     "xchgq %%rbx, %%rbx"
                     : "+d"(answer)
                     : "a"(&request[0])
                     : "cc", "memory");
    return answer;
}

/*
 * The kernel's struct ucontext, which is ABI: 40 bytes of flags, link and stack;
 * then the registers, of which rsp is the 16th and rip the 17th.
 */
#define GREEN__UCONTEXT_SP 160
#define GREEN__UCONTEXT_PC 168
#endif
