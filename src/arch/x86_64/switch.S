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
 * it, and the value in rax.
 */

/* ---- Landing pads -------------------------------------------------------------- */

/*
 * Indirect branch tracking (IBT, -fcf-protection=branch): an indirect call or
 * jump must land on endbr64, unless it is prefixed with notrack.  green_jump_back
 * is a return, but for the return predictor: to the address just below rsp.
 */
#if defined(__CET__) && (__CET__ & 1)
.macro green_landing_pad
        endbr64
.endm
.macro green_jump_back
        notrack jmp *-8(%rsp)
.endm
        green_property 0xc0000002, 1    /* GNU_PROPERTY_X86_FEATURE_1_AND: IBT */
#else
.macro green_landing_pad
.endm
.macro green_jump_back
        jmp     *-8(%rsp)
.endm
#endif

/* ---- The routines -------------------------------------------------------------- */

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

.macro pop_all_saved
        pop_saved %rbp, 48
        pop_saved %rbx, 40
        pop_saved %r12, 32
        pop_saved %r13, 24
        pop_saved %r14, 16
        pop_saved %r15, 8
.endm

/*
 * void *green__arch_switch(void **save, void *target, void *value)
 *
 *     rdi  save: where the stack pointer of the one who leaves is stored
 *     rsi  target: the saved stack pointer of the one who goes on
 *     rdx  value
 */
green_function green__arch_switch
        green_landing_pad
        stmxcsr GREEN__FRAME_MXCSR - GREEN__FRAME_RETURN(%rsp)
        movq    %rdx, %rax
        movq    %rdi, %rdx
        jmp     .Lsuspend
green_end green__arch_switch

#ifdef GREEN__ARCH_SWITCHES
/*
 * void *green_switch(green_t *g, void *value)
 *
 * Its fast path, which switch.c has in C for CPUs without one in assembler: here
 * it saves the jump from there and some moves, a tenth of the whole.  All else is
 * up to green__switch_slowly().
 *
 *     rdi  g
 *     rsi  value
 *     rax  value
 *     rcx  the thread
 *     rdx  the current green, whose first word is where to save the stack pointer
 *     r8   whose g is
 */
green_public green_switch
        green_landing_pad
        testq   %rdi, %rdi
        je      .Lslowly
        cmpq    $-1, %rsi               /* GREEN_FAILED */
        je      .Lslowly
        movq    GREEN__SELF@gottpoff(%rip), %rcx
        movq    %fs:(%rcx), %rcx
        movq    GREEN__GROUP_CURRENT(%rcx), %rdx
        cmpq    %rdi, %rdx
        je      .Lslowly
        /*
         * While stmxcsr is decoded nothing else is (Intel's Golden Cove), so it comes
         * when six are: what one cycle takes.  It writes into the red zone, where the
         * pushes will leave room.
         */
        stmxcsr GREEN__FRAME_MXCSR - GREEN__FRAME_RETURN(%rsp)
        movq    GREEN__OWNER_ENTER(%rdi), %r8
        cmpq    GREEN__GROUP_CALL_TAG(%rcx), %r8
        jne     .Lexceptions
.Lenter:
        movq    %rdi, GREEN__GROUP_CURRENT(%rcx)
        movq    %rsi, %rax
        movq    GREEN__OWNER_SP(%rdi), %rsi
green_end green_switch                  /* falls into: */
#endif

/*
 * The switch itself, a function of its own to those who name frames.  At this point
 * MXCSR is read, and
 *
 *     rax  value
 *     rdx  where the stack pointer of the one who leaves is stored
 *     rsi  the saved stack pointer of the one who goes on
 *     r8   where we shall go on
 *     r9   our return address, which the return predictor has on top
 *     rdi  our saved stack pointer
 */
green_part green__arch_suspend
.Lsuspend:
        movq    (%rsp), %r9
        fnstcw  GREEN__FRAME_X87 - GREEN__FRAME_RETURN(%rsp)
        push_saved %r15, 16
        push_saved %r14, 24
        push_saved %r13, 32
        push_saved %r12, 40
        push_saved %rbx, 48
        leaq    .Lresume(%rip), %r8
        push_saved %rbp, 56
        pushq   %r8
        .cfi_def_cfa_offset GREEN__FRAME_SIZE
        movq    %rsp, (%rdx)

        /* Resume the target. */
        movq    %rsp, %rdi
        leaq    8(%rsi), %rsp
        /*
         * At this point we stand on the target's stack, about to go on where it
         * was suspended: its resume address is our return address, and the two words
         * after it are on top.
         */
        .cfi_remember_state             /* this is how we shall be resumed, but for one word */
        .cfi_def_cfa %rsp, 0
        .cfi_offset %rbp, 0
        .cfi_offset %rbx, 8
        .cfi_same_value %r12
        .cfi_same_value %r13
        .cfi_same_value %r14
        .cfi_same_value %r15
        cmpq    %r8, -8(%rsp)
        jne     .Lelsewhere
        /*
         * Mostly it was suspended here, and it goes on without a jump.  The control
         * words of the one who left are on its stack: MXCSR is slow to read, so what
         * was read comes late.
         */
        .cfi_restore_state
        .cfi_def_cfa %rsp, 56
        pop_all_saved
        movzwl  GREEN__FRAME_X87(%rdi), %ecx
        cmpw    %cx, GREEN__FRAME_X87 - GREEN__FRAME_RETURN(%rsp)
        jne     .Lmodes
        movl    GREEN__FRAME_MXCSR(%rdi), %edx
        cmpl    %edx, GREEN__FRAME_MXCSR - GREEN__FRAME_RETURN(%rsp)
        jne     .Lmxcsr                 /* status and all: mostly equal */
.Lmodes_done:
        cmpq    %r9, (%rsp)
        jne     .Lother_place
        ret                             /* both wait at the same place: as predicted */
        ud2
.Lother_place:
        addq    $8, %rsp
        .cfi_def_cfa_offset 0
        green_jump_back
        ud2

        /* A stack that something else has suspended, or a new one. */
.Lelsewhere:
        .cfi_offset %rbp, 0             /* as before the jump */
        .cfi_offset %rbx, 8
        movq    (%rsp), %rbp            /* unwinders go by it where it was inlined */
        green_jump_back
        /*
         * Nobody comes by here.  The trap is there for unwinders that look up
         * the byte before an address: theirs is the CFI of .Lresume.
         */
        .cfi_def_cfa_offset 56
        .cfi_offset %rbp, -56
        .cfi_offset %rbx, -48
        .cfi_offset %r12, -40
        .cfi_offset %r13, -32
        .cfi_offset %r14, -24
        .cfi_offset %r15, -16
        ud2

        /*
         * We have been resumed by something else.  At this point rax holds the value,
         * rsp points at the saved rbp, and no other register means anything.
         */
.Lresume:
        green_label green__arch_resumed
        xorl    %r9d, %r9d              /* nobody knows what the return predictor has */
.Lended:                                /* but who has ended does */
        pop_all_saved

        /*
         * Rare: a rounding mode or a mask differs, or nobody has read them.  The
         * present words are read into the red zone, above our own.  Of MXCSR only the
         * control bits change; the status bits are the thread's, as those of the x87
         * unit are but for the case below.
         */
.Lmodes:
        stmxcsr -16(%rsp)
        fnstcw  -8(%rsp)
        movl    -16(%rsp), %edx
        xorl    GREEN__FRAME_MXCSR - GREEN__FRAME_RETURN(%rsp), %edx
        andl    $MXCSR_CONTROL, %edx
        jz      .Lmxcsr_done
        xorl    %edx, -16(%rsp)
        ldmxcsr -16(%rsp)
.Lmxcsr_done:
        movzwl  GREEN__FRAME_X87 - GREEN__FRAME_RETURN(%rsp), %ecx
        cmpw    %cx, -8(%rsp)
        je      .Lmodes_done
        /*
         * The x87 unit raises pending exceptions as soon as they are unmasked:
         * what another stack's code has left there must not strike this one.
         */
        fnstsw  -8(%rsp)
        notl    %ecx
        testb   -8(%rsp), %cl           /* exceptions; bit 7, of flags: one is raised */
        jz      .Lx87_load
        fnclex
.Lx87_load:
        fldcw   GREEN__FRAME_X87 - GREEN__FRAME_RETURN(%rsp)
        jmp     .Lmodes_done

        /* The status bits are the thread's: they may differ. */
.Lmxcsr:
        xorl    GREEN__FRAME_MXCSR - GREEN__FRAME_RETURN(%rsp), %edx
        testl   $MXCSR_CONTROL, %edx
        jz      .Lmodes_done
        jmp     .Lmodes
#ifdef GREEN__ARCH_SWITCHES

        /*
         * In C++ programs the thread's call tag equals nothing, and its state of
         * exceptions is looked at: two words, zero while none is being handled.
         */
.Lexceptions:
        cmpq    GREEN__GROUP_TAG(%rcx), %r8
        jne     .Lslowly
        movq    GREEN__GROUP_EXCEPTIONS(%rcx), %r8
        movq    8(%r8), %rax
        orq     (%r8), %rax
        je      .Lenter
.Lslowly:
        jmp     green__switch_slowly
#endif
green_end green__arch_suspend

/*
 * _Noreturn void green__arch_jump(void *target, void *value)
 *
 *     rdi  target
 *     rsi  value
 *     rax  value
 *     r9   zero: for a new stack
 */
green_function green__arch_jump
        green_landing_pad
        movq    %rsi, %rax
        xorl    %r9d, %r9d
        leaq    8(%rdi), %rsp
        .cfi_def_cfa %rsp, 0            /* as in green__arch_suspend */
        .cfi_offset %rbp, 0
        .cfi_offset %rbx, 8
        movq    (%rsp), %rbp
        green_jump_back
        ud2
green_end green__arch_jump

/*
 * void green__arch_entry(void)
 *
 * At this point rax holds the value, r9 the starter's return address or zero, and
 * rsp points at the first frame's rbp: zero, where walkers of frame pointers stop.
 * The call leaves rsp a multiple of 16, as the ABI wants it (3.2.2 "The Stack Frame").
 *
 *     rbx  what is called
 *     rdi  value
 *
 * The stack ends at green__arch_ended, by a jump to there from whatever frame.  It
 * returns from the call, as the return predictor expects:
 *
 *     rax  value
 *     rsi  the saved stack pointer of the one who goes on
 *     rdi  the first frame
 *     r9   the starter's return address, which the return predictor has on top again
 */
.macro unwind_to_owner taken, register=7 /* bytes of the first frame below rsp */
        green_unwind_to_owner \register, (GREEN__FIRST_OWNER - \taken), (GREEN__FIRST_END - \taken)
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
        movq    %r9, GREEN__FIRST_STARTER - 24(%rsp)
        call    *%rbx
        green_label green__arch_entry_called
        movq    GREEN__FIRST_STARTER - 24(%rsp), %r9
        leaq    8(%rsi), %rsp
        .cfi_def_cfa %rsp, 0
        leaq    .Lresume(%rip), %rcx
        cmpq    %rcx, (%rsi)
        je      .Lended
        movq    (%rsp), %rbp
        green_jump_back
        ud2
        green_label green__arch_ended
        unwind_to_owner 0, 5            /* rdi */
        leaq    16(%rdi), %rsp
        ret
        ud2
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
