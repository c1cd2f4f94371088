/* SPDX-License-Identifier: MIT */
#ifndef UNWIND_GAP_H
#define UNWIND_GAP_H

#ifdef __cplusplus
extern "C" {
#endif

/* Calls fn(value) from a frame about which the unwinder is told nothing. */
void call_without_unwind_data(void (*fn)(void *), void *value);

#ifdef __cplusplus
}
#endif

#if defined __x86_64__
__asm__(".pushsection .text\n"
        ".globl call_without_unwind_data\n"
        ".type call_without_unwind_data, @function\n"
        "call_without_unwind_data:\n\t"
#if defined __CET__
        "endbr64\n\t"
#endif
        "push %rbp\n\t"
        "mov %rdi, %rax\n\t"
        "mov %rsi, %rdi\n\t"
        "call *%rax\n\t"
        "pop %rbp\n\t"
        "ret\n"
        ".size call_without_unwind_data, . - call_without_unwind_data\n"
        ".popsection");
#elif defined __aarch64__
__asm__(".pushsection .text\n"
        ".globl call_without_unwind_data\n"
        ".type call_without_unwind_data, %function\n"
        "call_without_unwind_data:\n\t"
        "hint #34\n\t"
        "stp x29, x30, [sp, #-16]!\n\t"
        "mov x2, x0\n\t"
        "mov x0, x1\n\t"
        "blr x2\n\t"
        "ldp x29, x30, [sp], #16\n\t"
        "ret\n"
        ".size call_without_unwind_data, . - call_without_unwind_data\n"
        ".popsection");
#endif

#endif
