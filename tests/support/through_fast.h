/* SPDX-License-Identifier: MIT */
#ifndef THROUGH_FAST_H
#define THROUGH_FAST_H
/*
 * Has a test that knows only green.h go through green_fast.h: included before
 * all else in it, for the tests fast_*.  Not for any other use.
 */
#include <green_fast.h>

#define green_switch green_switch_fast
#define green_yield green_yield_fast

#endif
