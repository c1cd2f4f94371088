/* SPDX-License-Identifier: MIT */
#ifndef GREEN_HUB_GROUP_H
#define GREEN_HUB_GROUP_H
/* What green_serve() asks of a group. */
#include "hub.h"

/*
 * Waits until a spawn need not wait, if nobody else has spawned by then, or until it is served
 * in the line `ending`, where `ends` is its item.  0, or -1 with errno, ECANCELED if the group
 * is.
 */
int green__group_wait_for_room(green_group_t *group, struct green_private_line *ending,
                               void *ends, const char *name, const void *place);

/* Whether a spawn would wait. */
bool green__group_is_full(const green_group_t *group);

/*
 * From here to the release it may be asked, even if it is freed meanwhile: then it is
 * cancelled.  False with EPERM if it is another thread's.
 */
bool green__group_hold(struct green__hub *hub, green_group_t *group);
void green__group_release(green_group_t *group); /* keeps errno */

/* Who stands in this line is served with ECANCELED when the group is cancelled. */
struct green_private_line *green__group_servers(green_group_t *group);
bool green__group_is_cancelled(const green_group_t *group);

#endif
