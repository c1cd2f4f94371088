/* SPDX-License-Identifier: MIT */
#ifndef GREEN_GREEN_H
#define GREEN_GREEN_H
/*
 * Making a green, for who stands on the core.
 */
#include "core/state.h"

/*
 * green_new_with() of a green that a layer owns: its parent may be the layer's own, and
 * run is not NULL.
 */
green_t *green__new_kept(green_fn *run, green_t *parent, const green_options_t *options);

#endif
