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
    *queue = (green_queue_t){.item_size = item_size, .capacity = capacity, .end = size - sizeof *queue};
    return queue;
}

/* ---- Items -------------------------------------------------------------------------- */

/* Most items are a word or a byte.  False, and nothing is copied: it is of another size. */
static inline __attribute__((always_inline)) bool copy_word(void *to, const void *from, size_t size)
{
    if (LIKELY(size == sizeof(uint64_t)))
        memcpy(to, from, sizeof(uint64_t));
    else if (LIKELY(size == sizeof(uint32_t)))
        memcpy(to, from, sizeof(uint32_t));
    else if (LIKELY(size == 1))
        *(char *)to = *(const char *)from;
    else
        return false;
    return true;
}

static void copy_item(void *to, const void *from, size_t size)
{
    if (!copy_word(to, from, size))
        memcpy(to, from, size);
}

/* The place after one. */
static inline size_t place_after(const green_queue_t *queue, size_t place)
{
    size_t next = place + queue->item_size;
    return next != queue->end ? next : 0;
}

static inline void count_last(green_queue_t *queue)
{
    queue->last = place_after(queue, queue->last);
    queue->count++;
}

static inline void drop_first(green_queue_t *queue)
{
    queue->first = place_after(queue, queue->first);
    queue->count--;
}

/* The first was taken and a putter's item put there: so it is the last. */
static inline void turn_around(green_queue_t *queue)
{
    queue->first = queue->last = place_after(queue, queue->first);
}

static int put_now(struct green__hub *hub, green_queue_t *queue, const void *item)
{
    if (UNLIKELY(queue->closed))
        return EPIPE;
    struct green__entry *getter = green__line_first(&queue->getters);
    if (getter != NULL) {
        copy_item(getter->item, item, queue->item_size);
        green__wait_serve(hub, getter, 0);
    } else {
        copy_item(queue->items + queue->last, item, queue->item_size);
        count_last(queue);
    }
    return 0;
}

static int get_now(struct green__hub *hub, green_queue_t *queue, void *item)
{
    struct green__entry *putter = green__line_first(&queue->putters);
    if (queue->count != 0) {
        copy_item(item, queue->items + queue->first, queue->item_size);
        if (putter != NULL) {
            copy_item(queue->items + queue->first, putter->item, queue->item_size);
            turn_around(queue);
            green__wait_serve(hub, putter, 0);
        } else {
            drop_first(queue);
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
static const char get_name[] = "green_queue_get", put_name[] = "green_queue_put";

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
    queue->first = (queue->first != 0 ? queue->first : queue->end) - queue->item_size;
    queue->count++;
    copy_item(queue->items + queue->first, item, queue->item_size);
}

/* ---- The calls ------------------------------------------------------------------------ */

static __attribute__((noinline)) int put_item_slowly(green_queue_t *queue, const void *item,
                                                int64_t timeout, const void *place)
{
    struct green__call call;
    if (queue == NULL || item == NULL)
        return green__call_fail(EINVAL);
    if (!green__call_begin(&call, timeout) || !green__queue_is_mine(call.hub, queue))
        return -1;
    if (LIKELY(green__queue_can_put(queue))) {
        int error = put_now(call.hub, queue, item);
        return LIKELY(error == 0) ? green__call_done(&call, timeout)
                                  : green__call_tried(&call, timeout, error);
    }
    if (timeout <= 0)
        return green__call_fail(ETIMEDOUT);
    return green__wait_in(&call, &queue->putters, (void *)item, timeout, put_name, queue, place);
}

/*
 * The short ways call nothing, and so keep nothing: what is not done on them is left to
 * the long ones as it was.
 */
static inline __attribute__((always_inline)) bool
is_short_call(struct green__call *call, const green_queue_t *queue, const void *item)
{
    return LIKELY(queue != NULL && item != NULL) && LIKELY(green__call_is_plain(call)) &&
           LIKELY(queue->getters.hub == call->hub->id) && LIKELY(!queue->closed);
}

/* Not in line, as that would have all of it keep registers. */
static __attribute__((noinline)) int wait_to_put(green_queue_t *queue, const void *item,
                                                 struct green__thread *self, const void *place)
{
    struct green__call call = green__call_of_plain(self);
    return green__wait_in(&call, &queue->putters, (void *)item, GREEN_FOREVER, put_name, queue,
                          place);
}

static __attribute__((noinline)) int wait_to_get(green_queue_t *queue, void *item,
                                                 struct green__thread *self, const void *place)
{
    struct green__call call = green__call_of_plain(self);
    return green__wait_in(&call, &queue->getters, item, GREEN_FOREVER, get_name, queue, place);
}

int green_queue_put(green_queue_t *queue, const void *item, int64_t timeout)
{
    struct green__call call;
    if (is_short_call(&call, queue, item)) {
        struct green__entry *getter = green__line_first(&queue->getters);
        if (getter != NULL) {
            if (green__wait_can_serve_barely(call.hub, getter) &&
                copy_word(getter->item, item, queue->item_size)) {
                green__wait_serve_barely(call.hub, &queue->getters, getter);
                return green__call_done(&call, timeout);
            }
        } else if (queue->count < queue->capacity) {
            if (copy_word(queue->items + queue->last, item, queue->item_size)) {
                count_last(queue);
                return green__call_done(&call, timeout);
            }
        } else if (timeout == GREEN_FOREVER) {
            return wait_to_put(queue, item, call.self, PLACE);
        }
    }
    return put_item_slowly(queue, item, timeout, PLACE);
}

static __attribute__((noinline)) int get_item_slowly(green_queue_t *queue, void *item, int64_t timeout,
                                                const void *place)
{
    struct green__call call;
    if (queue == NULL || item == NULL)
        return green__call_fail(EINVAL);
    if (!green__call_begin(&call, timeout) || !green__queue_is_mine(call.hub, queue))
        return -1;
    if (LIKELY(green__queue_can_get(queue))) {
        int error = get_now(call.hub, queue, item);
        return LIKELY(error == 0) ? green__call_done(&call, timeout)
                                  : green__call_tried(&call, timeout, error);
    }
    if (timeout <= 0)
        return green__call_fail(ETIMEDOUT);
    return green__wait_in(&call, &queue->getters, item, timeout, get_name, queue, place);
}

int green_queue_get(green_queue_t *queue, void *item, int64_t timeout)
{
    struct green__call call;
    if (is_short_call(&call, queue, item)) {
        struct green__entry *putter = green__line_first(&queue->putters);
        if (queue->count != 0) {
            if ((putter == NULL || green__wait_can_serve_barely(call.hub, putter)) &&
                copy_word(item, queue->items + queue->first, queue->item_size)) {
                if (putter != NULL) {
                    (void)copy_word(queue->items + queue->first, putter->item, queue->item_size);
                    turn_around(queue);
                    green__wait_serve_barely(call.hub, &queue->putters, putter);
                } else {
                    drop_first(queue);
                }
                return green__call_done(&call, timeout);
            }
        } else if (putter == NULL && timeout == GREEN_FOREVER) {
            return wait_to_get(queue, item, call.self, PLACE);
        }
    }
    return get_item_slowly(queue, item, timeout, PLACE);
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
