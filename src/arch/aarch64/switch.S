/* SPDX-License-Identifier: MIT */
/*
 * The switch for aarch64.  arch.h explains it, frame.h draws the stack.
 *
 * Callee-saved: x19-x28, x29 (frame pointer), sp, the low halves of v8-v15
 * (AAPCS64, 6.1.1 "General-purpose registers", 6.1.2 "SIMD and floating-point
 * registers"), and the control bits of FPCR (same section).  x30 is where we
 * return to.
 *
 * A stack is resumed by jumping to the address on its top with sp just past it
 * and the value in x0.  That sp is no multiple of 16; the CPU minds only when
 * memory is addressed by it, so the resumed side first steps back onto the word.
 */

/* ---- Landing pads -------------------------------------------------------------- */

/*
 * Branch target identification (BTI) and signed return addresses (PAC), by
 * -mbranch-protection.  Both are encoded as hints, which older CPUs ignore.
 */
#if defined(__ARM_FEATURE_BTI_DEFAULT)
#define GREEN__BTI 1
#else
#define GREEN__BTI 0
#endif
#if defined(__ARM_FEATURE_PAC_DEFAULT)
#define GREEN__PAC 2
#else
#define GREEN__PAC 0
#endif

/* Where calls land. */
.macro green_landing_pad
#if GREEN__BTI
        hint    #34             /* bti c */
#endif
.endm

/* Where jumps land. */
.macro green_jump_pad
#if GREEN__BTI
        hint    #36             /* bti j */
#endif
.endm

/* A landing pad that also signs x30 with sp; paciasp is both. */
.macro green_sign
#if !GREEN__PAC
        green_landing_pad
#elif defined(__ARM_FEATURE_PAC_DEFAULT) && (__ARM_FEATURE_PAC_DEFAULT & 2)
        hint    #27             /* pacibsp: key B */
        .cfi_b_key_frame
        .cfi_negate_ra_state
#else
        hint    #25             /* paciasp: key A */
        .cfi_negate_ra_state
#endif
.endm

/* Flips what the CFI says of x30: signed or not. */
.macro green_flip_signed
#if GREEN__PAC
        .cfi_negate_ra_state
#endif
.endm

/* Checks x30 against sp. */
.macro green_check
#if GREEN__PAC && (__ARM_FEATURE_PAC_DEFAULT & 2)
        hint    #31             /* autibsp */
        .cfi_negate_ra_state
#elif GREEN__PAC
        hint    #29             /* autiasp */
        .cfi_negate_ra_state
#endif
.endm

/*
 * arch.h, "How a switch leaves".  Before green_sign: keeps the return address, as
 * the return predictor has it.  Where another has resumed: nobody knows what it has.
 * For the life of a stack: puts it into memory.  At the end: returns to a checked x30
 * if that is the same, else jumps there.  With BTI only a return may land there, and
 * nothing need be kept.
 */
.macro green_note_return register
#if !GREEN__BTI
        mov     \register, x30
#endif
.endm
.macro green_forget_return register
#if !GREEN__BTI
        mov     \register, xzr
#endif
.endm
.macro green_put_return register, offset
#if !GREEN__BTI
        str     \register, [sp, #\offset]
#endif
.endm
.macro green_get_return register, offset
#if !GREEN__BTI
        ldr     \register, [sp, #\offset]
#endif
.endm
.macro green_return_or_jump register
#if !GREEN__BTI
        cmp     x30, \register
        b.eq    1f
        br      x30
        brk     #1
1:
#endif
        ret
.endm

#if GREEN__BTI || GREEN__PAC
        green_property 0xc0000000, GREEN__BTI + GREEN__PAC /* GNU_PROPERTY_AARCH64_FEATURE_1_AND */
#endif

/* ---- The routines -------------------------------------------------------------- */

/* Stores and loads two callee-saved registers at an offset from sp, where the frame begins. */
.macro save_pair first, second, offset
        stp     \first, \second, [sp, #\offset]
        .cfi_rel_offset \first, \offset
        .cfi_rel_offset \second, \offset + 8
.endm
.macro load_pair first, second, offset
        ldp     \first, \second, [sp, #\offset]
        .cfi_restore \first
        .cfi_restore \second
.endm

/*
 * void *green__arch_switch(void **save, void *target, void *value)
 *
 *     x0   save: where the stack pointer of the one who leaves is stored
 *     x1   target: the saved stack pointer of the one who goes on
 *     x2   value
 *     x9   where the target goes on
 *     x10  FPCR
 *     x11  where we shall go on
 *     x13  our return address, which the return predictor has on top
 */
green_function green__arch_switch
        green_note_return x13
        green_sign
        ldr     x9, [x1]

        /* Suspend ourselves. */
        sub     sp, sp, #GREEN__FRAME_SIZE
        .cfi_def_cfa_offset GREEN__FRAME_SIZE
        mrs     x10, fpcr
        adr     x11, .Lresume
        stp     x11, x29, [sp, #GREEN__FRAME_RESUME]
        .cfi_rel_offset x29, GREEN__FRAME_X29
        save_pair x19, x30, GREEN__FRAME_X19
        stp     x20, x10, [sp, #GREEN__FRAME_X20]
        .cfi_rel_offset x20, GREEN__FRAME_X20
        save_pair x21, x22, GREEN__FRAME_X21
        save_pair x23, x24, GREEN__FRAME_X21 + 16
        save_pair x25, x26, GREEN__FRAME_X21 + 32
        save_pair x27, x28, GREEN__FRAME_X21 + 48
        save_pair d8, d9, GREEN__FRAME_D8
        save_pair d10, d11, GREEN__FRAME_D8 + 16
        save_pair d12, d13, GREEN__FRAME_D8 + 32
        save_pair d14, d15, GREEN__FRAME_D8 + 48
        .cfi_remember_state
        mov     x12, sp
        str     x12, [x0]

        /* Resume the target. */
        mov     x0, x2
        add     sp, x1, #8
        /*
         * At this point we stand on the target's stack, about to go on where it
         * was suspended: its resume address, unsigned, is our return address, and
         * the two words after it are on top.
         */
        green_flip_signed
        .cfi_def_cfa sp, 0
        .cfi_register x30, x9
        .cfi_offset x29, 0
        .cfi_offset x19, 8
        .cfi_same_value x20
        .cfi_same_value x21
        .cfi_same_value x22
        .cfi_same_value x23
        .cfi_same_value x24
        .cfi_same_value x25
        .cfi_same_value x26
        .cfi_same_value x27
        .cfi_same_value x28
        .cfi_same_value d8
        .cfi_same_value d9
        .cfi_same_value d10
        .cfi_same_value d11
        .cfi_same_value d12
        .cfi_same_value d13
        .cfi_same_value d14
        .cfi_same_value d15
        cmp     x9, x11
        b.eq    .Lhere
        ldr     x29, [x1, #8]           /* unwinders go by it where it was inlined */
        br      x9
        .cfi_restore_state
        .cfi_def_cfa sp, GREEN__FRAME_SIZE - 8
        /*
         * Nobody comes by here.  The trap is there for unwinders that look up
         * the byte before an address: theirs is the CFI of .Lresume.
         */
        brk     #1

        /*
         * We have been resumed by something else.  At this point x0 holds the value,
         * sp is the saved stack pointer plus 8, and no other register means anything.
         */
.Lresume:
        green_label green__arch_resumed
        green_jump_pad
        green_forget_return x13
.Lhere:
        sub     sp, sp, #8
        .cfi_def_cfa_offset GREEN__FRAME_SIZE
        ldr     x29, [sp, #GREEN__FRAME_X29]
        .cfi_restore x29
        load_pair x21, x22, GREEN__FRAME_X21
        load_pair x23, x24, GREEN__FRAME_X21 + 16
        load_pair x25, x26, GREEN__FRAME_X21 + 32
        load_pair x27, x28, GREEN__FRAME_X21 + 48
        load_pair d8, d9, GREEN__FRAME_D8
        load_pair d10, d11, GREEN__FRAME_D8 + 16
        load_pair d12, d13, GREEN__FRAME_D8 + 32
        load_pair d14, d15, GREEN__FRAME_D8 + 48
        ldp     x20, x10, [sp, #GREEN__FRAME_X20]
        .cfi_restore x20
        load_pair x19, x30, GREEN__FRAME_X19
        mrs     x11, fpcr
        cmp     x10, x11
        b.ne    .Lfpcr
.Lfpcr_done:
        add     sp, sp, #GREEN__FRAME_SIZE
        .cfi_def_cfa_offset 0
        .cfi_remember_state
        green_check
        green_return_or_jump x13
        brk     #1

        /* Rare: a rounding mode or a trap enable differs. */
.Lfpcr:
        .cfi_restore_state
        .cfi_def_cfa sp, GREEN__FRAME_SIZE
        msr     fpcr, x10
        b       .Lfpcr_done
green_end green__arch_switch

/*
 * _Noreturn void green__arch_jump(void *target, void *value)
 *
 *     x0   target, then value
 *     x1   value
 *     x9   where the target goes on
 *     x13  zero: for a new stack
 */
green_function green__arch_jump
        green_landing_pad
        green_forget_return x13
        ldr     x9, [x0]
        add     sp, x0, #8
        .cfi_register x30, x9           /* as in green__arch_switch */
        .cfi_offset x29, 0
        .cfi_offset x19, 8
        ldr     x29, [x0, #8]
        mov     x0, x1
        br      x9
        brk     #1
green_end green__arch_jump

/*
 * void green__arch_entry(void)
 *
 * At this point x0 holds the value, which is also the first argument, x13 the
 * starter's return address or zero, and sp is the saved stack pointer plus 8.  x29
 * becomes zero, where walkers of frame pointers stop.
 *
 *     x19  what is called
 *
 * The stack ends at green__arch_ended, by a jump to there from whatever frame.  It
 * returns from the call, as the return predictor expects:
 *
 *     x0   value
 *     x1   the saved stack pointer of the one who goes on
 *     x2   the first frame
 *     x9   where the target goes on
 *     x13  the starter's return address, which the return predictor has on top again
 */
.macro unwind_to_owner taken, register=31 /* bytes of the first frame below sp */
        green_unwind_to_owner \register, (GREEN__FIRST_OWNER - \taken), (GREEN__FIRST_END - \taken)
.endm

green_declare green__arch_entry
        .cfi_startproc
        .cfi_personality 0x1b, green__arch_personality /* relative to here, 4 bytes */
        .cfi_signal_frame
        green_hide_from_valgrind 9              /* x9 */
        .cfi_offset x30, -8
        .cfi_offset x29, 0
        .cfi_offset x19, 8
        unwind_to_owner 8
        brk     #1                      /* for who looks up the byte before */
green__arch_entry:
        green_jump_pad
        sub     sp, sp, #8
        unwind_to_owner 0
        ldp     x29, x19, [sp, #GREEN__FIRST_X29]
        add     sp, sp, #16
        unwind_to_owner 16
        green_put_return x13, GREEN__FIRST_STARTER - 16
        blr     x19
        green_label green__arch_entry_called
        green_get_return x13, GREEN__FIRST_STARTER - 16
        ldr     x9, [x1]
        adr     x11, .Lresume
        add     sp, x1, #8
        .cfi_def_cfa sp, 0
        .cfi_register x30, x9           /* as in green__arch_switch */
        cmp     x9, x11
        b.eq    .Lhere
        ldr     x29, [x1, #8]
        br      x9
        brk     #1
        green_label green__arch_ended
        unwind_to_owner 0, 2            /* x2 */
        .cfi_offset x30, -8
        adr     x30, green__arch_entry_called
        add     sp, x2, #16
        ret
        brk     #1
green_end green__arch_entry

/*
 * void green__arch_call_as(void *sp, void (*fn)(void *arg), void *arg)
 *
 *     x0   sp: the saved stack pointer
 *     x1   fn
 *     x2   arg
 */
green_function green__arch_call_as
        .cfi_signal_frame               /* as in green__arch_entry */
        green_sign
        sub     sp, sp, #32
        .cfi_def_cfa_offset 32
        save_pair x29, x30, 0
        str     x19, [sp, #16]
        .cfi_rel_offset x19, 16
        mov     x19, x0
        .cfi_remember_state
        green_flip_signed               /* where the stack is resumed is not */
        .cfi_def_cfa x19, 8
        .cfi_offset x30, -8
        .cfi_offset x29, 0
        .cfi_offset x19, 8
        mov     x0, x2
        blr     x1
        .cfi_restore_state
        ldr     x19, [sp, #16]
        .cfi_restore x19
        load_pair x29, x30, 0
        add     sp, sp, #32
        .cfi_def_cfa_offset 0
        green_check
        ret
green_end green__arch_call_as
