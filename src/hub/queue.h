/* SPDX-License-Identifier: MIT */
#ifndef GREEN_HUB_QUEUE_H
#define GREEN_HUB_QUEUE_H
/*
 * Queues, as green_select() sees them.  There are items in it or getters wait, never
 * both; it is full or no putter waits.
 */
#include "hub.h"

struct green_queue {
    struct green_private_line getters, putters; /* getters' hub is the queue's */
    bool closed;
    size_t item_size, capacity;
    size_t count;        /* items in it */
    size_t first, last;  /* where in items, by bytes, the oldest is and the next will be ... */
    size_t end;          /* ... which are so many */
    char items[];
};

/* Whether a get or a put would be done at once, if only to fail with EPIPE. */
static inline bool green__queue_can_get(const green_queue_t *queue)
{
    return queue->count != 0 || queue->putters.first != NULL || queue->closed;
}

static inline bool green__queue_can_put(const green_queue_t *queue)
{
    return queue->count < queue->capacity || queue->getters.first != NULL || queue->closed;
}

/* Does one that can be done: 0 or EPIPE. */
int green__queue_get_now(struct green__hub *hub, green_queue_t *queue, void *item);
int green__queue_put_now(struct green__hub *hub, green_queue_t *queue, const void *item);

/* Whose get a wait is, or NULL. */
green_queue_t *green__queue_of(const struct green__wait *wait);

/*
 * In a child, an item that a dropped wait was given: to who waits for one, if somebody does; or
 * in front of all that are in the queue, if there is room.
 */
bool green__queue_pass_on(struct green__hub *hub, green_queue_t *queue, const void *item);
void green__queue_put_back(green_queue_t *queue, const void *item);

/* Rule 19. */
static inline bool green__queue_is_mine(struct green__hub *hub, green_queue_t *queue)
{
    if (LIKELY(queue->getters.hub == hub->id))
        return true;
    return green__line_claim(hub, &queue->getters) && green__line_claim(hub, &queue->putters);
}

#endif
