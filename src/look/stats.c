/* SPDX-License-Identifier: MIT */
/*
 * What the process has, and what it gives back.
 *
 * Threads count for themselves, without atomic operations, and are added up
 * here.  A single thread's numbers mean nothing: what one makes another may
 * release.
 */
#include <string.h>

#include "core/family.h"
#include "core/unwind.h"

size_t green_trim(size_t keep)
{
    struct green__thread *self = green__caller();
    if (self->look_only != 0) {
        errno = EBUSY;
        return 0;
    }
    if (self->end.ended) {
        errno = EPERM;
        return 0;
    }
    green__collect_abandoned(self);
    return green__stack_trim(load(self->id) != 0 ? &self->stacks : NULL, keep);
}

int green_stats(green_stats_t *stats, size_t size)
{
    if (stats == NULL)
        return green__refuse(EINVAL);
    green_stats_t known = {0};
    struct green__stack_counts stacks = {0};

    green__lock();
    for (const struct green__thread *thread = green__threads; thread != NULL;
         thread = thread->next_made) {
        known.greens += load(thread->greens);
        known.threads += load(thread->id) != 0;
        green__stack_add_counts(&thread->stacks, &stacks);
    }
    green__stack_add_counts(NULL, &stacks);
    green__unlock();

    known.stacks_live = stacks.live;
    known.stacks_cached = stacks.cached;
    known.bytes_mapped = stacks.mapped;
    memset(stats, 0, size);
    memcpy(stats, &known, size < sizeof known ? size : sizeof known);
    green__given(stats, size);
    return 0;
}
