/* SPDX-License-Identifier: MIT */
#ifndef GREEN_ASM_H
#define GREEN_ASM_H
/*
 * What every switch.S needs besides instructions: symbols, call frame
 * information, and the notes of an object file.  For GNU as and
 * clang's assembler, on ELF.  Assembler macros throughout, as the preprocessor
 * cannot make lines.
 */

/*
 * A hidden function: its symbol and type; then also its label and the start of its CFI.  It
 * begins a line of the cache: 16 bytes beside that a hub's turn took a seventh more on Zen 4.
 */
.macro green_declare name
        .text
        .balign 64
        .globl  \name
        .hidden \name
        .type   \name, %function
.endm

/* One that green.h declares: as visible as visible.h says. */
.macro green_public name
        .text
        .balign 16
        .globl  \name
#if defined(GREEN_STATIC)
        .hidden \name
#elif !defined(GREEN_SHARED)
        .protected \name
#endif
        .type   \name, %function
\name:
        .cfi_startproc
.endm

.macro green_function name
        green_declare \name
\name:
        .cfi_startproc
.endm

/* One that the code before falls into: right behind that. */
.macro green_part name
        .globl  \name
        .hidden \name
        .type   \name, %function
\name:
        .cfi_startproc
.endm

/* A second name for a place in one. */
.macro green_label name
        .globl  \name
        .hidden \name
\name:
.endm

.macro green_end name
        .cfi_endproc
        .size   \name, . - \name
.endm

/*
 * The CFA is where arch.h, "How a stack is unwound", says.  sp is the stack
 * pointer's DWARF number; at [sp + owner] is a pointer to the owner, and at
 * sp + end the address that the CFA is where unwinding ends.
 *
 * It is an expression for a stack machine.  To the left of each line is where
 * its bytes begin, which the jumps are counted by; to the right what is on the
 * machine's stack.
 */
#define OP_DEREF 0x06
#define OP_DUP 0x12
#define OP_DROP 0x13
#define OP_OVER 0x14
#define OP_SWAP 0x16
#define OP_ADD 0x23
#define OP_IF 0x28
#define OP_EQUAL 0x29
#define OP_JUMP 0x2f
#define OP_CONSTANT 0x30
#define OP_REGISTER 0x70
#define OP_DEREF_SIZE 0x94
#define BY(from, to) ((to) - (from) - 3) & 255, (((to) - (from) - 3) >> 8) & 255

.macro green_unwind_to_owner sp, owner, end
        .cfi_escape     0x0f, 70                /* DW_CFA_def_cfa_expression, bytes */
/*  0 */ .cfi_escape    OP_REGISTER + \sp, \owner, OP_DEREF         /* owner */
/*  3 */ .cfi_escape    OP_DUP, OP_IF, BY(4, 10)
/*  7 */ .cfi_escape    OP_JUMP, BY(7, 67)                          /* NULL */
        /* Who is next? */
/* 10 */ .cfi_escape    OP_ADD, GREEN__OWNER_NEXT, OP_DEREF         /* next */
/* 13 */ .cfi_escape    OP_DUP, OP_IF, BY(14, 20)
/* 17 */ .cfi_escape    OP_JUMP, BY(17, 67)                         /* NULL */
        /* Is it started?  Else who is next to it? */
/* 20 */ .cfi_escape    OP_DUP, OP_ADD, GREEN__OWNER_STATE, OP_DEREF_SIZE, 1
/* 25 */ .cfi_escape    OP_CONSTANT + GREEN__OWNER_STARTED, OP_EQUAL
/* 27 */ .cfi_escape    OP_IF, BY(27, 33)                           /* owner */
/* 30 */ .cfi_escape    OP_JUMP, BY(30, 10)
        /* Does it run? */
/* 33 */ .cfi_escape    OP_DUP, OP_ADD, GREEN__OWNER_GROUP, OP_DEREF
/* 37 */ .cfi_escape    OP_DUP, OP_ADD, GREEN__GROUP_RUNS, OP_DEREF
/* 41 */ .cfi_escape    OP_DUP, OP_IF, BY(42, 52)                   /* owner, group, runs */
/* 45 */ .cfi_escape    OP_DROP, OP_ADD, GREEN__GROUP_CURRENT, OP_DEREF
/* 49 */ .cfi_escape    OP_JUMP, BY(49, 54)                         /* owner, current */
/* 52 */ .cfi_escape    OP_SWAP, OP_DROP                            /* owner, runs */
/* 54 */ .cfi_escape    OP_OVER, OP_EQUAL, OP_IF, BY(56, 67)        /* owner */
        /* No: past the address to resume at. */
/* 59 */ .cfi_escape    OP_ADD, GREEN__OWNER_SP, OP_DEREF, OP_ADD, 8 /* CFA */
/* 64 */ .cfi_escape    OP_JUMP, BY(64, 70)
/* 67 */ .cfi_escape    OP_DROP, OP_REGISTER + \sp, \end            /* CFA */
.endm

/*
 * Comes before the first of these.  Valgrind does not know all operations, and
 * its reader of CFI stops the program at a CFA that it does not know.  But it
 * passes over a function in which a register's value takes more constants than
 * it has room for, which is 19.  register is a number of one that calls destroy.
 */
.macro green_hide_from_valgrind register
        .cfi_escape     0x16, \register, 20     /* DW_CFA_val_expression, bytes */
    .rept 20
        .cfi_escape     OP_CONSTANT
    .endr
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

#endif
