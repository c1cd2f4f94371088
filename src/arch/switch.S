/* SPDX-License-Identifier: MIT */
/* The one assembly file a build names: the routines of the CPU at hand. */
#include "arch.h"
#include "asm.h"
#include GREEN__ARCH_SWITCH

/* Its other name in C, by which it returns an int: see arch.h. */
        .globl  green__arch_switch_int
        .hidden green__arch_switch_int
        .set    green__arch_switch_int, green__arch_switch
