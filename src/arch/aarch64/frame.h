/* SPDX-License-Identifier: MIT */
/*
 * aarch64, little-endian, AAPCS64 (Linux and other ELF systems).
 *
 * What green__arch_switch() leaves on the stack of the one it suspends:
 *
 *     high  |  d8 ... d15         |  112
 *           |  x21 ... x28        |   48
 *           |  FPCR               |   40
 *           |  x20                |   32
 *           |  x30, signed if PAC |   24
 *           |  x19                |   16
 *           |  x29                |    8
 *     low   |  where to resume    |    0   <- saved stack pointer
 *
 * and what green__arch_first() puts at the top of a new stack:
 *
 *     high  |  owner              |   40   <- top is the next address
 *           |  zero               |   32   where unwinding ends, past a return address of zero
 *           |  zero               |   24
 *           |  x19: entry         |   16   then the starter's return address, or zero
 *           |  x29: zero          |    8
 *     low   |  where to resume    |    0   <- saved stack pointer
 */
#define GREEN__FRAME_RESUME 0
#define GREEN__FRAME_X29 8
#define GREEN__FRAME_X19 16
#define GREEN__FRAME_X30 24
#define GREEN__FRAME_X20 32
#define GREEN__FRAME_X21 48
#define GREEN__FRAME_D8 112
#define GREEN__FRAME_SIZE 176

#define GREEN__ARCH_RED_ZONE 0

#define GREEN__FIRST_X29 8
#define GREEN__FIRST_STARTER 16
#define GREEN__FIRST_OWNER 40
#define GREEN__FIRST_END 32

#ifndef __ASSEMBLER__
#include <stddef.h>

struct green__frame {
    void *resume;
    uint64_t x29, x19, x30, x20, fpcr;
    uint64_t x21_28[8];
    uint64_t d8_15[8];
};
_Static_assert(offsetof(struct green__frame, resume) == GREEN__FRAME_RESUME,
               "arch.h: first the address to resume at");
_Static_assert(offsetof(struct green__frame, x29) == GREEN__FRAME_X29,
               "arch.h: then the frame pointer");
_Static_assert(offsetof(struct green__frame, x19) == GREEN__FRAME_X19, "arch.h: then x19");
_Static_assert(offsetof(struct green__frame, x30) == GREEN__FRAME_X30, "");
_Static_assert(offsetof(struct green__frame, x20) == GREEN__FRAME_X20, "");
_Static_assert(offsetof(struct green__frame, fpcr) == GREEN__FRAME_X20 + 8, "stored as a pair");
_Static_assert(offsetof(struct green__frame, x21_28) == GREEN__FRAME_X21, "");
_Static_assert(offsetof(struct green__frame, d8_15) == GREEN__FRAME_D8, "");
_Static_assert(sizeof(struct green__frame) == GREEN__FRAME_SIZE, "");
_Static_assert(GREEN__FRAME_SIZE % 16 == 0, "sp is a multiple of 16 where it is used");

struct green__first_frame {
    void (*resume)(void);
    void *x29;
    void (*x19)(void *);
    void *return_address;
    void *end;
    const void *owner;
};
_Static_assert(offsetof(struct green__first_frame, x29) == GREEN__FIRST_X29, "");
_Static_assert(offsetof(struct green__first_frame, x19) == GREEN__FIRST_X29 + 8,
               "loaded as a pair");
_Static_assert(offsetof(struct green__first_frame, x19) == GREEN__FIRST_STARTER, "its place");
_Static_assert(offsetof(struct green__first_frame, owner) == GREEN__FIRST_OWNER, "");
_Static_assert(offsetof(struct green__first_frame, end) == GREEN__FIRST_END, "");
_Static_assert(sizeof(struct green__first_frame) % 16 == 0, "sp is a multiple of 16");

static inline void *green__arch_first(void *top, void (*entry)(void *value), const void *owner)
{
    struct green__first_frame *frame = (struct green__first_frame *)top - 1;
    *frame = (struct green__first_frame){
        .resume = green__arch_entry, .x19 = entry, .owner = owner};
    return frame;
}

static inline _Noreturn void green__arch_end(void *first, void *target, void *value)
{
    register void *x0 __asm__("x0") = value;
    register void *x1 __asm__("x1") = target;
    register void *x2 __asm__("x2") = first;
    __asm__ volatile("b green__arch_ended" : : "r"(x0), "r"(x1), "r"(x2) : "memory");
    __builtin_unreachable();
}

/* valgrind.h, "arm64": four rotations that add up to nothing, and a marker. */
static inline uintptr_t green__arch_valgrind(uintptr_t code, uintptr_t a, uintptr_t b)
{
    volatile uintptr_t request[6] = {code, a, b};
    register volatile uintptr_t *question __asm__("x4") = request;
    register uintptr_t answer __asm__("x3") = 0;
    __asm__ volatile("ror x12, x12, #3; ror x12, x12, #13; ror x12, x12, #51; ror x12, x12, #61\n\t"
                     "orr x10, x10, x10"
                     : "+r"(answer)
                     : "r"(question)
                     : "cc", "memory");
    return answer;
}

/*
 * The kernel's struct ucontext, which is ABI: 176 bytes of flags, link, stack and
 * signal mask with padding; then the fault's address, x0 ... x30, sp, pc.
 */
#define GREEN__UCONTEXT_SP 432
#define GREEN__UCONTEXT_PC 440
#endif
