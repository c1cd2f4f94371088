/* SPDX-License-Identifier: MIT */
#ifndef GREEN_HUB_POLLING_H
#define GREEN_HUB_POLLING_H
/* Waits that look at descriptors, for green_poll() and green_select(). */
#include "fd.h"

/* Two of them for a descriptor, in and out, beside two entries of the wait. */
struct green__poll_entry {
    struct green__fd_entry own;
    struct green__entry *entry;
    bool closed; /* after the wait: the number was closed meanwhile, and may be another's by now */
};

/* poll() that does not wait. */
int green__poll_now(struct pollfd *fds, nfds_t n);

/*
 * Enlists a descriptor by two entries, whose places in the wait are given.  0, or -1 with
 * errno; both are to be given to green__poll_delist() whatever comes.
 */
int green__poll_enlist(struct green__hub *hub, struct green__wait *wait,
                       struct green__poll_entry *entries, int fd, int events, unsigned index);

/* After the wait, of n descriptors.  Whether any is closed. */
bool green__poll_delist(struct green__hub *hub, struct green__poll_entry *entries, size_t n);

#endif
