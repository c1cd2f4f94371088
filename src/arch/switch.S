/* SPDX-License-Identifier: MIT */
/* The one assembly file a build names: the routines of the CPU at hand. */
#include "arch.h"
#include "asm.h"
#include GREEN__ARCH_SWITCH
