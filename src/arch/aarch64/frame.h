/* SPDX-License-Identifier: MIT */
/*
 * aarch64, little-endian, AAPCS64 (Linux and other ELF systems).
 *
 * What green__arch_switch() leaves on the stack of the one it suspends:
 *
 *     high  |  d8 ... d15         |  112
 *           |  x19 ... x28        |   32
 *           |  FPCR               |   24
 *           |  x30, signed if PAC |   16
 *           |  x29                |    8
 *     low   |  where to resume    |    0   <- saved stack pointer
 *
 * and what green__arch_first() puts at the top of a new stack:
 *
 *     high  |  zero               |   24   <- top is the next address
 *           |  entry              |   16
 *           |  x29: zero          |    8
 *     low   |  where to resume    |    0   <- saved stack pointer
 */
#define GREEN__FRAME_RESUME 0
#define GREEN__FRAME_X30 16
#define GREEN__FRAME_X19 32
#define GREEN__FRAME_D8 112
#define GREEN__FRAME_SIZE 176

#define GREEN__FIRST_X29 8
#define GREEN__FIRST_SIZE 32

#ifndef __ASSEMBLER__
#include <stddef.h>

struct green__frame {
    void *resume;
    uint64_t x29, x30, fpcr;
    uint64_t x19_28[10];
    uint64_t d8_15[8];
};
_Static_assert(offsetof(struct green__frame, resume) == GREEN__FRAME_RESUME,
               "arch.h: first the address to resume at");
_Static_assert(offsetof(struct green__frame, x29) == 8, "arch.h: then the frame pointer");
_Static_assert(offsetof(struct green__frame, x30) == GREEN__FRAME_X30, "");
_Static_assert(offsetof(struct green__frame, fpcr) == GREEN__FRAME_X30 + 8, "stored as a pair");
_Static_assert(offsetof(struct green__frame, x19_28) == GREEN__FRAME_X19, "");
_Static_assert(offsetof(struct green__frame, d8_15) == GREEN__FRAME_D8, "");
_Static_assert(sizeof(struct green__frame) == GREEN__FRAME_SIZE, "");
_Static_assert(GREEN__FRAME_SIZE % 16 == 0, "sp is a multiple of 16 where it is used");

struct green__first_frame {
    void (*resume)(void);
    void *x29;
    void (*entry)(void *);
    void *zero;
};
_Static_assert(offsetof(struct green__first_frame, x29) == GREEN__FIRST_X29, "");
_Static_assert(offsetof(struct green__first_frame, entry) == GREEN__FIRST_X29 + 8,
               "loaded as a pair");
_Static_assert(sizeof(struct green__first_frame) == GREEN__FIRST_SIZE, "");

static inline void *green__arch_first(void *top, void (*entry)(void *value))
{
    struct green__first_frame *frame = (struct green__first_frame *)top - 1;
    *frame = (struct green__first_frame){.resume = green__arch_entry, .entry = entry};
    return frame;
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
#define GREEN__UCONTEXT_PC 440

static inline uintptr_t green__arch_signal_pc(const void *context)
{
    return *(const uint64_t *)((const char *)context + GREEN__UCONTEXT_PC);
}
#endif
