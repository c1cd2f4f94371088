/* SPDX-License-Identifier: MIT */
/* The thread that calls, and the lock of the process. */
#include <pthread.h>

#include "core/self.h"

struct green__thread green__ended_thread = {.end.ended = true};
struct green__thread green__unused_thread = {.next_made = &green__ended_thread};
struct green__thread *green__threads = &green__unused_thread;

_Thread_local struct green__thread *green__self = &green__unused_thread;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void green__own_lock(pthread_mutex_t *mutex)
{
    (void)GREEN__OWN(pthread_mutex_lock(mutex));
}

void green__lock(void)
{
    green__own_lock(&lock);
}

void green__unlock(void)
{
    pthread_mutex_unlock(&lock);
}

void green__thread_set_tag(struct green__thread *self)
{
    unsigned char unsettled = load(self->unsettled);
    do {
        bool slow = self->trace != NULL || self->look_only != 0 || self->sanitized || unsettled != 0;
        uint64_t tag = slow ? GREEN__TAG_SLOW : load(self->id);
        __atomic_store_n(&self->call_tag, self->has_cxx ? GREEN__TAG_SLOW : tag, __ATOMIC_RELAXED);
        /*
         * Another thread that abandons a green of ours puts it in the list, then makes the
         * tag slow.  The exchange sees that, and the list with it, if it has undone it.
         */
        if (load(self->tag) != tag)
            atomic_exchange_explicit(&self->tag, tag, memory_order_acq_rel);
        if (UNLIKELY(load(self->abandoned) != NULL))
            store(self->tag, GREEN__TAG_SLOW);
        /* In the same way one that makes a C++ runtime known comes before or after this. */
    } while (!atomic_compare_exchange_strong(&self->unsettled, &unsettled, unsettled));
}
