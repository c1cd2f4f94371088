/* SPDX-License-Identifier: MIT */
#ifndef GREEN_ASM_H
#define GREEN_ASM_H
/*
 * All that a switch.S needs besides instructions: symbols, call frame
 * information, landing pads, and the notes of an object file.  For GNU as and
 * clang's assembler, on ELF.  Assembler macros throughout, as the preprocessor
 * cannot make lines.
 */

/* A hidden function: its symbol and type; then also its label and the start of its CFI. */
.macro green_declare name
        .text
        .balign 16
        .globl  \name
        .hidden \name
        .type   \name, %function
.endm

.macro green_function name
        green_declare \name
\name:
        .cfi_startproc
.endm

.macro green_end name
        .cfi_endproc
        .size   \name, . - \name
.endm

/* No executable stack. Without this note the linker asks for one. */
        .section .note.GNU-stack, "", %progbits

/*
 * What the code is fit for.  The linker keeps a feature only if every object
 * claims it, so a claim that is not true breaks programs, and a missing one
 * takes the feature from the whole program: each is claimed exactly when the
 * compiler claims it for the C files, but for shadow stacks (SHSTK on x86, GCS
 * on aarch64), which a switch of stacks breaks and which are never claimed.
 */
.macro green_property type, bits
        .section .note.gnu.property, "a", %note
        .balign 8
        .long   4               /* size of the name */
        .long   16              /* size of the description */
        .long   5               /* NT_GNU_PROPERTY_TYPE_0 */
        .asciz  "GNU"
        .long   \type
        .long   4               /* size of the data */
        .long   \bits
        .long   0               /* padding to 8 bytes */
.endm

#if defined(__x86_64__)

/*
 * Indirect branch tracking (IBT, -fcf-protection=branch): an indirect call or
 * jump must land on endbr64, unless it is prefixed with notrack.
 */
#if defined(__CET__) && (__CET__ & 1)
.macro green_landing_pad
        endbr64
.endm
.macro green_jump register
        notrack jmp *\register
.endm
        green_property 0xc0000002, 1    /* GNU_PROPERTY_X86_FEATURE_1_AND: IBT */
#else
.macro green_landing_pad
.endm
.macro green_jump register
        jmp     *\register
.endm
#endif

#elif defined(__aarch64__)

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

/* Checks x30 against sp and returns to it.  With BTI only ret may land there. */
.macro green_return
#if GREEN__PAC && (__ARM_FEATURE_PAC_DEFAULT & 2)
        hint    #31             /* autibsp */
        .cfi_negate_ra_state
#elif GREEN__PAC
        hint    #29             /* autiasp */
        .cfi_negate_ra_state
#endif
#if GREEN__BTI
        ret
#else
        br      x30
#endif
.endm

#if GREEN__BTI || GREEN__PAC
        green_property 0xc0000000, GREEN__BTI + GREEN__PAC /* GNU_PROPERTY_AARCH64_FEATURE_1_AND */
#endif

#endif
#endif
