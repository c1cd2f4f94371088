/* SPDX-License-Identifier: MIT */
#ifndef GREEN_OWN_H
#define GREEN_OWN_H
/*
 * The library's own locks, which every floor may take: see GREEN__OWN in core/self.h, where
 * this is defined.
 */
#include <pthread.h>

void green__own_lock(pthread_mutex_t *mutex);

#endif
