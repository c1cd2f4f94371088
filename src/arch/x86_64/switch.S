/* SPDX-License-Identifier: MIT */
/*
 * The switch for x86_64.  arch.h explains it, frame.h draws the stack.
 *
 * Callee-saved: rbx, rbp, rsp, r12-r15, the control bits of MXCSR and the x87
 * control word (System V ABI, AMD64 supplement, 3.2.1 "Registers" and figure
 * 3.4).  The ABI also wants the direction flag clear and the x87 unit in x87
 * mode at every call, so neither needs saving.
 *
 * A stack is resumed by jumping to the address on its top with rsp just past
 * it, the value in rax, and in rdx the address of the present control words, in
 * the order of the frame: the one who leaves has just read them, and reading
 * MXCSR is slow on some CPUs.  Who has not read them, green__arch_jump() and the
 * switch of green_fast.h, gives words that say GREEN__MXCSR_UNKNOWN.
 */

/*
 * The control bits of MXCSR: masks, rounding, flush to zero, and AMD's misaligned
 * exception mask (AMD64 Architecture Programmer's Manual, 1, 4.2.2 "MXCSR
 * Register"), zero where it is not.  The rest is status.
 */
#define MXCSR_CONTROL 0x2ffc0

/* A push and a pop of a callee-saved register; cfa: bytes from rsp to the CFA afterwards. */
.macro push_saved register, cfa
        pushq   \register
        .cfi_def_cfa_offset \cfa
        .cfi_offset \register, -(\cfa)
.endm
.macro pop_saved register, cfa
        popq    \register
        .cfi_def_cfa_offset \cfa
        .cfi_restore \register
.endm

/*
 * void *green__arch_switch(void **save, void *target, void *value)
 *
 *     rdi  save: where the stack pointer of the one who leaves is stored
 *     rsi  target: the saved stack pointer of the one who goes on
 *     rdx  value, then where our control words are
 *     rcx  where the target goes on
 *     r8   where we shall go on
 */
green_function green__arch_switch
        green_landing_pad
        movq    (%rsi), %rcx            /* early: the jump below waits for it */
        leaq    .Lresume(%rip), %r8

        /*
         * Suspend ourselves.  The floating-point words go first: they take
         * longest to store, and the pushes hide it.
         */
        subq    $8, %rsp
        .cfi_def_cfa_offset 16
        stmxcsr (%rsp)
        fnstcw  GREEN__FRAME_X87 - GREEN__FRAME_MXCSR(%rsp)
        push_saved %r15, 24
        push_saved %r14, 32
        push_saved %r13, 40
        push_saved %r12, 48
        push_saved %rbx, 56
        push_saved %rbp, 64
        .cfi_remember_state             /* this is how we shall be resumed */
        pushq   %r8
        .cfi_def_cfa_offset GREEN__FRAME_SIZE
        movq    %rsp, (%rdi)

        /* Resume the target. */
        movq    %rdx, %rax
        leaq    GREEN__FRAME_MXCSR(%rsp), %rdx
        leaq    8(%rsi), %rsp
        /*
         * At this point we stand on the target's stack, about to go on where it
         * was suspended: its resume address is our return address.
         */
        .cfi_def_cfa %rsp, 0
        .cfi_register %rip, %rcx
        .cfi_same_value %rbx
        .cfi_same_value %rbp
        .cfi_same_value %r12
        .cfi_same_value %r13
        .cfi_same_value %r14
        .cfi_same_value %r15
        green_jump %rcx
        .cfi_restore_state
        .cfi_def_cfa %rsp, 64
        /*
         * Nobody comes by here.  The trap is there for unwinders that look up
         * the byte before an address: theirs is the CFI of .Lresume.
         */
        ud2

        /*
         * We have been resumed.  At this point rax holds the value, rdx points at
         * the present control words, rsp points at the saved rbp, and no other
         * register means anything.
         */
.Lresume:
        green_label green__arch_resumed
        pop_saved %rbp, 56
        pop_saved %rbx, 48
        pop_saved %r12, 40
        pop_saved %r13, 32
        pop_saved %r14, 24
        pop_saved %r15, 16
        /*
         * Now rsp points at our own control words.  MXCSR comes last: where
         * reading it is slow, it has not yet arrived in memory.
         */
        movzwl  GREEN__FRAME_X87 - GREEN__FRAME_MXCSR(%rdx), %ecx
        cmpw    %cx, GREEN__FRAME_X87 - GREEN__FRAME_MXCSR(%rsp)
        jne     .Lmodes
        movl    (%rdx), %ecx
        cmpl    (%rsp), %ecx            /* status and all: mostly equal, and soonest known */
        jne     .Lmxcsr
.Lmodes_done:
        .cfi_remember_state
        addq    $8, %rsp
        .cfi_def_cfa_offset 8
        popq    %rcx
        .cfi_def_cfa_offset 0
        .cfi_register %rip, %rcx
        green_jump %rcx
        ud2

        /* The status bits are the thread's: they may differ. */
.Lmxcsr:
        .cfi_restore_state
        .cfi_def_cfa %rsp, 16
        xorl    (%rsp), %ecx
        testl   $(MXCSR_CONTROL | GREEN__MXCSR_UNKNOWN), %ecx
        jz      .Lmodes_done

        /*
         * Rare: a rounding mode or a mask differs, or nobody knows.  The present
         * words are read into the red zone.  Of MXCSR only the control bits
         * change; the status bits are the thread's, as those of the x87 unit are
         * but for the case below.
         */
.Lmodes:
        stmxcsr -16(%rsp)
        fnstcw  -8(%rsp)
        movl    -16(%rsp), %edx
        xorl    (%rsp), %edx
        andl    $MXCSR_CONTROL, %edx
        jz      .Lmxcsr_done
        xorl    %edx, -16(%rsp)
        ldmxcsr -16(%rsp)
.Lmxcsr_done:
        movzwl  GREEN__FRAME_X87 - GREEN__FRAME_MXCSR(%rsp), %ecx
        cmpw    %cx, -8(%rsp)
        je      .Lmodes_done
        /*
         * The x87 unit raises pending exceptions as soon as they are unmasked:
         * what another stack's code has left there must not strike this one.
         */
        fnstsw  -8(%rsp)
        notl    %ecx
        testb   -8(%rsp), %cl           /* of both, the low six bits are exceptions */
        jz      .Lx87_load
        fnclex
.Lx87_load:
        fldcw   GREEN__FRAME_X87 - GREEN__FRAME_MXCSR(%rsp)
        jmp     .Lmodes_done
green_end green__arch_switch

/*
 * _Noreturn void green__arch_jump(void *target, void *value)
 *
 *     rdi  target
 *     rsi  value
 *     rax  value
 *     rcx  where the target goes on
 *     rdx  words that say that nobody has read ours
 */
green_function green__arch_jump
        green_landing_pad
        movq    (%rdi), %rcx
        movq    %rsi, %rax
        leaq    .Lunknown(%rip), %rdx
        leaq    8(%rdi), %rsp
        .cfi_def_cfa %rsp, 0            /* as in green__arch_switch */
        .cfi_register %rip, %rcx
        green_jump %rcx
        ud2
green_end green__arch_jump

        .section .rodata
        .balign 8
.Lunknown:
        .long   GREEN__MXCSR_UNKNOWN, 0

/*
 * void green__arch_entry(void)
 *
 * At this point rax holds the value, and rsp points at the first frame's rbp:
 * zero, where walkers of frame pointers stop.  The call leaves rsp a multiple
 * of 16, as the ABI wants it (3.2.2 "The Stack Frame").
 *
 *     rbx  what is called
 *     rdi  value
 */
.macro unwind_to_owner taken            /* bytes of the first frame below rsp */
        green_unwind_to_owner 7, (GREEN__FIRST_OWNER - \taken), (GREEN__FIRST_END - \taken)
.endm

green_declare green__arch_entry
        .cfi_startproc
        .cfi_personality 0x1b, green__arch_personality /* relative to here, 4 bytes */
        .cfi_signal_frame
        green_hide_from_valgrind 2              /* rcx */
        .cfi_offset %rip, -8
        .cfi_offset %rbp, 0
        .cfi_offset %rbx, 8
        unwind_to_owner 8
        ud2                             /* for who looks up the byte before */
green__arch_entry:
        popq    %rbp
        unwind_to_owner 16
        popq    %rbx
        unwind_to_owner 24
        movq    %rax, %rdi
        call    *%rbx
        green_label green__arch_entry_called
        ud2                             /* so that this is still the entry */
green_end green__arch_entry

/*
 * void green__arch_call_as(void *sp, void (*fn)(void *arg), void *arg)
 *
 *     rdi  sp: the saved stack pointer
 *     rsi  fn
 *     rdx  arg
 */
green_function green__arch_call_as
        .cfi_signal_frame               /* as in green__arch_entry */
        green_landing_pad
        push_saved %rbx, 16
        movq    %rdi, %rbx
        .cfi_remember_state
        .cfi_def_cfa %rbx, 8
        .cfi_offset %rbp, 0
        .cfi_offset %rbx, 8
        movq    %rdx, %rdi
        call    *%rsi
        .cfi_restore_state
        pop_saved %rbx, 8
        ret
green_end green__arch_call_as
