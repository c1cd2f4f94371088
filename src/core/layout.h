/* SPDX-License-Identifier: MIT */
#ifndef GREEN_LAYOUT_H
#define GREEN_LAYOUT_H
/*
 * Where in the structs things stand, for debuggers and green_fast.h.
 */
#include "core/state.h"

/* A thread begins: notes what a debugger recognizes it by. */
void green__layout_begin(struct green__thread *self);

#endif
