/* SPDX-License-Identifier: MIT */
#ifndef GREEN_HUB_GROUP_H
#define GREEN_HUB_GROUP_H
/* What green_serve() asks of a group. */
#include "hub.h"

/*
 * Waits until a spawn need not wait, if nobody else has spawned by then.  0, or -1 with errno,
 * ECANCELED if the group is.
 */
int green__group_wait_for_room(green_group_t *group, const char *name, const void *place);

/* Whether a spawn would wait. */
bool green__group_is_full(const green_group_t *group);

#endif
