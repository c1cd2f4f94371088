/* SPDX-License-Identifier: MIT
 *
 * What test_registers.c needs in assembly: a call with a pattern in every
 * callee-saved register, and a body that notes what it is entered with.
 *
 *     void *registers_call(void (*fn)(void), void *a, void *b,
 *                          const uint64_t *in, uint64_t *out);
 *
 * returns fn(a, b), which was called with in[] in the registers and left out[]
 * in them.  All are restored for the caller.
 *
 *     void *registers_entry(void *words);
 *
 * a body: words[0] = the stack pointer, words[1] and on = the control words.
 *
 * registers_count: how many words, of which from registers_control on are
 * floating-point control; registers_mask[i]: the bits of in[i] to vary and of
 * out[i] to look at; registers_base[i]: bits to have set.
 */
#if defined __x86_64__

/* rbx rbp r12 r13 r14 r15, MXCSR, x87 control word */

/* keep and restore REGISTER: on the stack, and known to an unwinder. */
        .macro  keep register
        push    \register
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset \register, 0
        .endm
        .macro  restore register
        pop     \register
        .cfi_adjust_cfa_offset -8
        .endm

        .text
        .globl registers_call
        .type registers_call, %function
        .p2align 4
registers_call:
        .cfi_startproc
        endbr64
        keep    %rbp
        keep    %rbx
        keep    %r12
        keep    %r13
        keep    %r14
        keep    %r15
        sub     $24, %rsp
        .cfi_adjust_cfa_offset 24
        fnclex                          /* nothing may be pending when unmasked */
        stmxcsr 8(%rsp)
        fnstcw  12(%rsp)
        mov     %r8, (%rsp)

        mov     (%rcx), %rbx
        mov     8(%rcx), %rbp
        mov     16(%rcx), %r12
        mov     24(%rcx), %r13
        mov     32(%rcx), %r14
        mov     40(%rcx), %r15
        ldmxcsr 48(%rcx)
        fldcw   56(%rcx)
        mov     %rdi, %rax
        mov     %rsi, %rdi
        mov     %rdx, %rsi
        call    *%rax

        mov     (%rsp), %rcx
        mov     %rbx, (%rcx)
        mov     %rbp, 8(%rcx)
        mov     %r12, 16(%rcx)
        mov     %r13, 24(%rcx)
        mov     %r14, 32(%rcx)
        mov     %r15, 40(%rcx)
        movq    $0, 48(%rcx)
        movq    $0, 56(%rcx)
        stmxcsr 48(%rcx)
        fnstcw  56(%rcx)
        ldmxcsr 8(%rsp)
        fldcw   12(%rsp)

        add     $24, %rsp
        .cfi_adjust_cfa_offset -24
        restore %r15
        restore %r14
        restore %r13
        restore %r12
        restore %rbx
        restore %rbp
        ret
        .cfi_endproc
        .size registers_call, . - registers_call

        .globl registers_entry
        .type registers_entry, %function
        .p2align 4
registers_entry:
        .cfi_startproc
        endbr64
        lea     8(%rsp), %rax           /* as it was before the call */
        mov     %rax, (%rdi)
        movq    $0, 8(%rdi)
        movq    $0, 16(%rdi)
        stmxcsr 8(%rdi)
        fnstcw  16(%rdi)
        mov     %rdi, %rax
        ret
        .cfi_endproc
        .size registers_entry, . - registers_entry

        .section .rodata
        .globl registers_count, registers_control, registers_mask, registers_base
        .type registers_count, %object
        .size registers_count, 4
        .type registers_control, %object
        .size registers_control, 4
        .type registers_mask, %object
        .size registers_mask, 64
        .type registers_base, %object
        .size registers_base, 64
        .p2align 3
registers_count:
        .long   8
registers_control:
        .long   6
registers_mask: /* MXCSR but for its status; masks, precision, rounding of the x87 */
        .quad   -1, -1, -1, -1, -1, -1, 0xffc0, 0x0d3f
registers_base:
        .quad   0, 0, 0, 0, 0, 0, 0, 0x0240

        .section .note.gnu.property, "a"        /* IBT, never shadow stacks */
        .p2align 3
        .long   4, 16, 5
        .asciz  "GNU"
        .long   0xc0000002, 4, 1, 0

#elif defined __aarch64__

/* x19 to x28, x29, d8 to d15, FPCR */

/* each_x, each_d OP, BASE, AT: loads or stores x19 to x28, d8 to d15 there. */
        .macro  each_x op, base, at
        \op     x19, x20, [\base, #\at]
        \op     x21, x22, [\base, #\at + 16]
        \op     x23, x24, [\base, #\at + 32]
        \op     x25, x26, [\base, #\at + 48]
        \op     x27, x28, [\base, #\at + 64]
        .endm
        .macro  each_d op, base, at
        \op     d8, d9, [\base, #\at]
        \op     d10, d11, [\base, #\at + 16]
        \op     d12, d13, [\base, #\at + 32]
        \op     d14, d15, [\base, #\at + 48]
        .endm

/* keep A, B, AT: there in the frame of 192 bytes, and known to an unwinder. */
        .macro  keep a, b, at
        stp     \a, \b, [sp, #\at]
        .cfi_offset \a, \at - 192
        .cfi_offset \b, \at + 8 - 192
        .endm

        .text
        .globl registers_call
        .type registers_call, %function
        .p2align 4
registers_call:
        .cfi_startproc
        hint    #34                     /* bti c */
        stp     x29, x30, [sp, #-192]!
        .cfi_def_cfa_offset 192
        .cfi_offset x29, -192
        .cfi_offset x30, -184
        keep    x19, x20, 16
        keep    x21, x22, 32
        keep    x23, x24, 48
        keep    x25, x26, 64
        keep    x27, x28, 80
        each_d  stp, sp, 96
        mrs     x9, fpcr
        stp     x4, x9, [sp, #160]

        each_x  ldp, x3, 0
        ldr     x29, [x3, #80]
        each_d  ldp, x3, 88
        ldr     x9, [x3, #152]
        msr     fpcr, x9
        mov     x9, x0
        mov     x0, x1
        mov     x1, x2
        blr     x9

        ldp     x9, x10, [sp, #160]
        each_x  stp, x9, 0
        str     x29, [x9, #80]
        each_d  stp, x9, 88
        mrs     x11, fpcr
        str     x11, [x9, #152]
        msr     fpcr, x10

        each_d  ldp, sp, 96
        each_x  ldp, sp, 16
        ldp     x29, x30, [sp], #192
        .cfi_def_cfa_offset 0
        ret
        .cfi_endproc
        .size registers_call, . - registers_call

        .globl registers_entry
        .type registers_entry, %function
        .p2align 4
registers_entry:
        .cfi_startproc
        hint    #34                     /* bti c */
        mov     x1, sp
        mrs     x2, fpcr
        stp     x1, x2, [x0]
        ret
        .cfi_endproc
        .size registers_entry, . - registers_entry

        .section .rodata
        .globl registers_count, registers_control, registers_mask, registers_base
        .type registers_count, %object
        .size registers_count, 4
        .type registers_control, %object
        .size registers_control, 4
        .type registers_mask, %object
        .size registers_mask, 160
        .type registers_base, %object
        .size registers_base, 160
        .p2align 3
registers_count:
        .long   20
registers_control:
        .long   19
registers_mask: /* of FPCR: the traps, stride and length left out, rounding, FZ, DN, AHP */
        .quad   -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1
        .quad   -1, -1, -1, -1, -1, -1, -1, -1
        .quad   0x07c09f00
registers_base:
        .quad   0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
        .quad   0, 0, 0, 0, 0, 0, 0, 0
        .quad   0

        .section .note.gnu.property, "a"        /* BTI and PAC */
        .p2align 3
        .long   4, 16, 5
        .asciz  "GNU"
        .long   0xc0000000, 4, 3, 0

#else
#error "no test_registers.S for this CPU: write the two routines and four tables above"
#endif

        .section .note.GNU-stack, "", %progbits
