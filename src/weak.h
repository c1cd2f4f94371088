/* SPDX-License-Identifier: MIT */
#ifndef GREEN_WEAK_H
#define GREEN_WEAK_H
/*
 * Functions that are there or not, which is seen when the program runs: so it does not
 * matter what the library was built with.
 */

/* Found elsewhere if at all, so never hidden. */
#define GREEN__WEAK __attribute__((weak, visibility("default")))

#endif
