/* SPDX-License-Identifier: MIT */
/*
 * Queues: items that tasks hand on.  An item goes straight to a getter who waits; one of a
 * putter who waits goes into the queue, or with capacity 0 to the getter, by whoever makes
 * room for it.
 */
#include <stdlib.h>
#include <string.h>

#include "queue.h"

#define PLACE __builtin_return_address(0)

green_queue_t *green_queue_new(size_t item_size, size_t capacity)
{
    if (item_size == 0) {
        errno = EINVAL;
        return NULL;
    }
    if (green__hub_need() == NULL)
        return NULL;
    green_queue_t *queue = NULL;
    size_t size;
    if (!__builtin_mul_overflow(item_size, capacity, &size) &&
        !__builtin_add_overflow(size, sizeof *queue, &size) && size <= PTRDIFF_MAX)
        queue = malloc(size);
    if (queue == NULL) {
        errno = ENOMEM;
        return NULL;
    }
    *queue = (green_queue_t){.item_size = item_size, .capacity = capacity};
    return queue;
}

/* ---- Items -------------------------------------------------------------------------- */

/* Most items are a word or a byte, for which memcpy() would be a call. */
static inline void copy_item(void *to, const void *from, size_t size)
{
    if (size == sizeof(uint64_t))
        memcpy(to, from, sizeof(uint64_t));
    else if (size == sizeof(uint32_t))
        memcpy(to, from, sizeof(uint32_t));
    else if (size == 1)
        *(char *)to = *(const char *)from;
    else
        memcpy(to, from, size);
}

static char *place_of(green_queue_t *queue, size_t i)
{
    size_t place = queue->first + i;
    if (place >= queue->capacity)
        place -= queue->capacity;
    return queue->items + place * queue->item_size;
}

static inline int put_now(struct green__hub *hub, green_queue_t *queue, const void *item)
{
    if (UNLIKELY(queue->closed))
        return EPIPE;
    struct green__entry *getter = green__line_first(&queue->getters);
    if (getter != NULL) {
        copy_item(getter->item, item, queue->item_size);
        green__wait_serve(hub, getter, 0);
    } else {
        copy_item(place_of(queue, queue->count), item, queue->item_size);
        queue->count++;
    }
    return 0;
}

static inline int get_now(struct green__hub *hub, green_queue_t *queue, void *item)
{
    struct green__entry *putter = green__line_first(&queue->putters);
    if (queue->count != 0) {
        copy_item(item, place_of(queue, 0), queue->item_size);
        queue->first = queue->first + 1 < queue->capacity ? queue->first + 1 : 0;
        queue->count--;
        if (putter != NULL) {
            copy_item(place_of(queue, queue->count), putter->item, queue->item_size);
            queue->count++;
            green__wait_serve(hub, putter, 0);
        }
        return 0;
    }
    if (putter == NULL)
        return EPIPE;
    copy_item(item, putter->item, queue->item_size);
    green__wait_serve(hub, putter, 0);
    return 0;
}

int green__queue_put_now(struct green__hub *hub, green_queue_t *queue, const void *item)
{
    return put_now(hub, queue, item);
}

int green__queue_get_now(struct green__hub *hub, green_queue_t *queue, void *item)
{
    return get_now(hub, queue, item);
}

/* ---- Items of waits that are dropped -------------------------------------------------- */

/* By this name its waits are known. */
static const char get_name[] = "green_queue_get";

green_queue_t *green__queue_of(const struct green__wait *wait)
{
    return wait->call == get_name ? (green_queue_t *)wait->object : NULL;
}

bool green__queue_pass_on(struct green__hub *hub, green_queue_t *queue, const void *item)
{
    return queue->getters.first != NULL && put_now(hub, queue, item) == 0;
}

void green__queue_put_back(green_queue_t *queue, const void *item)
{
    if (queue->count == queue->capacity)
        return;
    queue->first = (queue->first != 0 ? queue->first : queue->capacity) - 1;
    queue->count++;
    copy_item(place_of(queue, 0), item, queue->item_size);
}

/* ---- The calls ------------------------------------------------------------------------ */

int green_queue_put(green_queue_t *queue, const void *item, int64_t timeout)
{
    struct green__call call;
    if (queue == NULL || item == NULL)
        return green__call_fail(EINVAL);
    if (!green__call_begin(&call, timeout) || !green__queue_is_mine(call.hub, queue))
        return -1;
    if (LIKELY(green__queue_can_put(queue))) {
        int error = put_now(call.hub, queue, item);
        return LIKELY(error == 0) ? green__call_done(&call, timeout) : green__call_fail(error);
    }
    if (timeout <= 0)
        return green__call_fail(ETIMEDOUT);
    return green__wait_in(&call, &queue->putters, (void *)item, timeout, "green_queue_put", queue,
                          PLACE);
}

int green_queue_get(green_queue_t *queue, void *item, int64_t timeout)
{
    struct green__call call;
    if (queue == NULL || item == NULL)
        return green__call_fail(EINVAL);
    if (!green__call_begin(&call, timeout) || !green__queue_is_mine(call.hub, queue))
        return -1;
    if (LIKELY(green__queue_can_get(queue))) {
        int error = get_now(call.hub, queue, item);
        return LIKELY(error == 0) ? green__call_done(&call, timeout) : green__call_fail(error);
    }
    if (timeout <= 0)
        return green__call_fail(ETIMEDOUT);
    return green__wait_in(&call, &queue->getters, item, timeout, get_name, queue, PLACE);
}

/* The hub of a call on a queue that does not wait; NULL with errno. */
static struct green__hub *queue_hub(green_queue_t *queue)
{
    struct green__hub *hub = green__hub_need();
    return hub != NULL && green__queue_is_mine(hub, queue) ? hub : NULL;
}

int green_queue_close(green_queue_t *queue)
{
    if (queue == NULL)
        return green__call_fail(EINVAL);
    struct green__hub *hub = queue_hub(queue);
    if (hub == NULL)
        return -1;
    queue->closed = true;
    green__wait_serve_all(hub, &queue->putters, EPIPE);
    green__wait_serve_all(hub, &queue->getters, EPIPE);
    return 0;
}

size_t green_queue_size(const green_queue_t *queue)
{
    if (queue == NULL)
        errno = EINVAL;
    else if (green__hub_forbidden)
        errno = EPERM;
    return queue != NULL && !green__hub_forbidden ? queue->count : 0;
}

int green_queue_free(green_queue_t *queue)
{
    if (queue == NULL)
        return 0;
    if (queue_hub(queue) == NULL)
        return -1;
    if (queue->getters.first != NULL || queue->putters.first != NULL)
        return green__call_fail(EBUSY);
    green__hub_self->gone_at = green__loop_turns(green__hub_self) + green__hub_self->ready;
    free(queue);
    return 0;
}
