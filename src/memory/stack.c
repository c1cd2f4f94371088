/* SPDX-License-Identifier: MIT */
/*
 * Memory for stacks, as threads get and put it.
 *
 * A stack that comes back waits in its thread's cache, guard, pages and all.
 * What a cache keeps is bounded by its pages, not by its stacks: where a stack
 * more would exceed it, one of those used least lately loses its pages and, in
 * company, goes home to the arenas.  How many pages a stack has is counted when
 * it first comes back and then every so often, sooner if they were many; it loses
 * those below the frames it came back with on such an occasion, so that one deep
 * call is not paid for ever.
 */
#include "memory/stack.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "memory/arena.h"
#include "tools/tools.h"

/* More than any address space has, and room to multiply and add without overflow. */
#define SIZE_LIMIT ((size_t)1 << (sizeof(size_t) * 8 - 5))

/* Resident memory that a cache may keep: some 4,000 stacks that were not deep. */
#define CACHE_BYTES ((size_t)16 << 20)

/* Slots that go to the arenas and come from there at a time. */
#define BATCH 32

/*
 * A stack's pages are counted when it first comes back, and after it has come back
 * so often again.  Counting costs as much as making some fifty greens.
 */
#define COUNT_EVERY 4096
_Static_assert(COUNT_EVERY <= UINT16_MAX, "as often as a slot can tell");
#define COUNT_DEEP 64 /* if there are more than who stays at its top needs */
#define SHALLOW 2     /* pages: the spread's, and what a few frames may need below it */

/*
 * Tops are so far apart, modulo the second: a few cache lines and half a page.  No
 * two of 32 neighbours share a place: a CPU that compares the low 12 bits of addresses
 * takes a load from one stack for one of what was just stored on the other.  What is
 * left of the page is more than what stands above the first frame (state.h), so all that
 * was asked for is the green's.
 */
#define SPREAD_STEP 192
#define SPREAD_RANGE 2048
#define SPREAD_LEAST 64 /* as the spread is less than a page */

/* Of those that are put without a cache; under the caller's lock. */
static _Atomic(size_t) live_without;

/* Not on the way of most stacks, whose registers it must not cost. */
#define RARE __attribute__((noinline, cold))

/* ---- The cache ----------------------------------------------------------- */

static void push_cold(struct green__stack_kind *kind, struct green__slot *slot)
{
    green__slot_push(&kind->cold, slot);
    kind->colds++;
}

static struct green__slot *pop_cold(struct green__stack_kind *kind)
{
    struct green__slot *slot = green__slot_pop(&kind->cold);
    kind->colds -= slot != NULL;
    return slot;
}

/* Sends n of a kind's cold slots home. */
static void send_home(struct green__stack_kind *kind, unsigned n)
{
    struct green__slot *going = NULL;
    for (; n > 0 && kind->cold != NULL; n--)
        green__slot_push(&going, pop_cold(kind));
    green__arena_give(going);
}

/* Of the slots without pages a thread keeps a few. */
static RARE void retire(struct green__stack_kind *kind, struct green__slot *slot)
{
    push_cold(kind, slot);
    if (kind->colds >= 2 * BATCH)
        send_home(kind, BATCH);
}

static void empty(struct green__stack_cache *cache, struct green__stack_kind *kind)
{
    struct green__slot *slot, *going = NULL;
    while ((slot = green__stack_pop_warm(cache, kind)) != NULL)
        green__slot_push(&going, slot);
    green__arena_give(going);
    send_home(kind, kind->colds);
    *kind = (struct green__stack_kind){0};
}

/* Makes a kind the first; one too many makes the last give way. */
static RARE struct green__stack_kind *fetch_kind(struct green__stack_cache *cache, size_t shape)
{
    struct green__stack_kind *kinds = cache->kinds;
    size_t last = sizeof cache->kinds / sizeof cache->kinds[0] - 1, at = 1;
    while (at < last && kinds[at].shape != 0 && kinds[at].shape != shape)
        at++;
    if (kinds[at].shape != shape) {
        empty(cache, &kinds[at]);
        /* Asked for by nobody yet: a stack may come back before one is got. */
        kinds[at] = (struct green__stack_kind){.shape = shape, .asked_shape = SIZE_MAX, .batch = 1};
    }
    struct green__stack_kind kind = kinds[at];
    memmove(kinds + 1, kinds, at * sizeof *kinds);
    kinds[0] = kind;
    return &kinds[0];
}

static inline struct green__stack_kind *find_kind(struct green__stack_cache *cache, size_t shape)
{
    return cache->kinds[0].shape == shape ? &cache->kinds[0] : fetch_kind(cache, shape);
}

/* Takes the pages from a stack of the kind used least lately; false if there is none. */
static bool cool_one(struct green__stack_cache *cache, size_t *given)
{
    size_t at = sizeof cache->kinds / sizeof cache->kinds[0];
    while (at > 0 && cache->kinds[at - 1].warm == NULL)
        at--;
    if (at == 0)
        return false;
    struct green__stack_kind *kind = &cache->kinds[at - 1];
    struct green__slot *slot = green__stack_pop_warm(cache, kind);
    *given += green__slot_clear(slot, NULL);
    retire(kind, slot);
    return true;
}

/* Slots come home with pages or without. */
static bool fill(struct green__stack_cache *cache, struct green__stack_kind *kind)
{
    unsigned count;
    struct green__slot *slot;
    struct green__slot *taken = green__arena_take(kind->shape, kind->batch, &count);
    if (kind->batch < BATCH)
        kind->batch *= 2;
    while ((slot = green__slot_pop(&taken)) != NULL) {
        if (slot->pages != 0)
            green__stack_push_warm(cache, kind, slot);
        else
            push_cold(kind, slot);
    }
    return count != 0;
}

static struct green__slot *take(struct green__stack_cache *cache, struct green__stack_kind *kind)
{
    struct green__slot *slot = green__stack_pop_warm(cache, kind);
    return slot != NULL ? slot : pop_cold(kind);
}

/*
 * Takes the pages from a stack that no shallow use of it will want again.  They
 * stay counted until the next time: who goes deep now and then shall keep fewer.
 */
static void clear_deep(struct green__slot *slot)
{
    const char *low = green__slot_low(slot), *kept = low + green__slot_arena(slot)->size - 1;
    const char *here = __builtin_frame_address(0);
    size_t page = green__page_size();
    if (green__slot_is_running(slot) && here < kept) /* what is called from here stands below */
        kept = (size_t)(here - low) > page ? here - page : low;
    green__slot_clear(slot, kept);
}

static RARE void count_pages(struct green__slot *slot)
{
    bool first = slot->pages == 0;
    green__slot_count(slot);
    green__slot_clear_uncounted(slot, false);
    if (slot->pages == 0)
        return;
    slot->uses = slot->pages <= SHALLOW ? COUNT_EVERY : COUNT_DEEP;
    if (slot->pages > SHALLOW && !first)
        clear_deep(slot);
}

/* Makes room for so many pages more in a cache. */
static RARE void make_room(struct green__stack_cache *cache, size_t pages)
{
    size_t given = 0;
    cache->most_pages = CACHE_BYTES / green__page_size();
    while (cache->pages + pages > cache->most_pages && cool_one(cache, &given)) {
    }
}

static void keep(struct green__stack_cache *cache, struct green__slot *slot)
{
    struct green__stack_kind *kind = find_kind(cache, green__stack_unspread(slot->shape));

    if (slot->uses == 0)
        count_pages(slot);
    if (slot->pages == 0) { /* its green never ran */
        retire(kind, slot);
        return;
    }
    slot->uses--;
    if (cache->pages + slot->pages > cache->most_pages)
        make_room(cache, slot->pages);
    green__stack_push_warm(cache, kind, slot);
}

/* ---- What greens see ------------------------------------------------------- */

/* The usable range of the caller's memory; one after the other may not be. */
static void align(const void *memory, size_t size, uintptr_t *low, uintptr_t *end)
{
    *low = ((uintptr_t)memory + 15) & ~(uintptr_t)15;
    *end = ((uintptr_t)memory + size) & ~(uintptr_t)15;
}

bool green__stack_valid(const void *memory, size_t size)
{
    if (memory == NULL)
        return size <= SIZE_LIMIT;
    uintptr_t low, end;
    align(memory, size, &low, &end);
    return size <= UINTPTR_MAX - (uintptr_t)memory && low >= (uintptr_t)memory && low < end &&
           end - low >= GREEN__STACK_MIN;
}

/*
 * Stacks that end at the same place in a page fight for the same lines of the
 * cache, so their tops are spread over the page above what was asked for.
 */
static void measure(struct green__slot *slot)
{
    const struct green__arena *arena = green__slot_arena(slot);
    size_t colour = slot->index * SPREAD_STEP % SPREAD_RANGE + SPREAD_LEAST;
    size_t size = arena->size + GREEN__SPREAD - colour;
    slot->shape = green__stack_shape(size, arena->guard != 0);
}

/* Gets one that no warm stack of the kind used last will do for. */
static RARE struct green__slot *get_slot(struct green__stack_cache *cache, size_t asked,
                                         bool guarded)
{
    size_t page = green__page_size();
    size_t size = asked == 0 ? GREEN__STACK_DEFAULT : asked;
    if (size < GREEN__STACK_MIN)
        size = GREEN__STACK_MIN;
    size = green__round_up(size * green__frame_factor(), page);

    size_t shape = green__stack_shape(size, guarded);
    struct green__stack_kind *kind = find_kind(cache, shape);
    if (kind->warm == NULL && kind->cold == NULL && !fill(cache, kind)) {
        green__stack_drop(cache); /* other kinds may be what fills the address space */
        kind = find_kind(cache, shape);
        if (!fill(cache, kind))
            return NULL;
    }
    kind->asked_shape = green__stack_shape(asked, guarded);
    struct green__slot *slot = take(cache, kind);
    if (green__slot_prepare(slot) != 0) {
        push_cold(kind, slot); /* but there may be some that have their guard */
        send_home(kind, kind->colds);
        slot = green__arena_take_ready(shape);
    }
    if (slot != NULL)
        measure(slot);
    return slot;
}

static RARE void tell_of_use(const struct green__stack *stack)
{
    green__stack_begins(stack->low, stack->size);
    green__valgrind_use(green__stack_top(stack));
}

int green__stack_get(struct green__stack_cache *cache, size_t size, bool guarded,
                     struct green__stack *stack)
{
    if (GREEN__STRESS)
        green__stack_drop(cache);
    if (!green__stack_get_warm(cache, green__stack_shape(size, guarded), stack)) {
        struct green__slot *slot = get_slot(cache, size, guarded);
        if (slot == NULL) {
            errno = ENOMEM;
            return -1;
        }
        *stack = (struct green__stack){.low = slot->low, .size = slot->shape >> 1, .slot = slot};
        green__stack_count(&cache->live, 1);
    }
    if (cache->watched)
        tell_of_use(stack);
    return 0;
}

unsigned green__stack_lend(void *memory, size_t size, struct green__stack *stack)
{
    uintptr_t low, end;
    align(memory, size, &low, &end);
    *stack = (struct green__stack){.low = (char *)low, .size = end - low};
    unsigned number = green__valgrind_register((void *)low, (void *)end);
    green__stack_begins(stack->low, stack->size);
    return number;
}

static RARE void tell_of_end(const struct green__stack *stack)
{
    green__stack_ends(stack->low, stack->size);
    if (stack->slot != NULL && !green__slot_is_running(stack->slot))
        green__valgrind_unuse(stack->low, stack->size);
}

/* Where there is more to do, somebody to be told, or no cache for it. */
static RARE void put_slowly(struct green__stack_cache *cache, struct green__stack *stack,
                               unsigned number)
{
    struct green__slot *slot = stack->slot;
    if ((cache == NULL || cache->watched) && stack->low != NULL)
        tell_of_end(stack);
    if (GREEN__STRESS && cache != NULL)
        green__stack_drop(cache);
    if (slot != NULL)
        green__stack_count(cache != NULL ? &cache->live : &live_without, (size_t)-1);
    if (slot != NULL && cache != NULL && (!GREEN__STRESS || green__slot_is_running(slot))) {
        keep(cache, slot);
    } else if (slot != NULL) {
        slot->next = NULL;
        green__arena_give(slot);
    } else if (stack->low != NULL) {
        green__valgrind_return(stack->low, stack->size);
        green__valgrind_deregister(number);
    }
    *stack = (struct green__stack){0};
}

void green__stack_put(struct green__stack_cache *cache, struct green__stack *stack,
                      unsigned number)
{
    if (cache == NULL || cache->watched || !green__stack_put_warm(cache, stack))
        put_slowly(cache, stack, number);
}

size_t green__stack_guard(const struct green__stack *stack)
{
    return stack->slot != NULL ? green__slot_arena(stack->slot)->guard : 0;
}

/* ---- All at once ------------------------------------------------------------- */

void green__stack_drop(struct green__stack_cache *cache)
{
    for (size_t i = 0; i < sizeof cache->kinds / sizeof cache->kinds[0]; i++)
        if (cache->kinds[i].shape != 0)
            empty(cache, &cache->kinds[i]);
}

/*
 * What a stack really has may have changed since it was counted.  Returns how much of it
 * was given back, as it cannot be counted.
 */
static size_t count_all(struct green__stack_cache *cache)
{
    size_t given = 0;
    cache->pages = 0;
    for (size_t i = 0; i < sizeof cache->kinds / sizeof cache->kinds[0]; i++) {
        for (struct green__slot *slot = cache->kinds[i].warm; slot != NULL; slot = slot->next) {
            green__slot_count(slot);
            given += green__slot_clear_uncounted(slot, true);
            cache->pages += slot->pages;
        }
    }
    return given;
}

size_t green__stack_trim(struct green__stack_cache *cache, size_t keep)
{
    size_t given = 0, page = green__page_size();
    if (cache != NULL) {
        given = count_all(cache);
        while ((cache->pages > keep / page || keep == 0) && cool_one(cache, &given)) {
        }
        for (size_t i = 0; i < sizeof cache->kinds / sizeof cache->kinds[0]; i++)
            if (cache->kinds[i].cold != NULL)
                send_home(&cache->kinds[i], cache->kinds[i].colds);
        keep -= cache->pages * page;
    }
    return given + green__arena_trim(keep);
}

void green__stack_add_counts(const struct green__stack_cache *cache,
                             struct green__stack_counts *counts)
{
    if (cache == NULL) {
        size_t waiting;
        green__arena_counts(&waiting, &counts->mapped);
        counts->cached += waiting;
        counts->live += atomic_load_explicit(&live_without, memory_order_relaxed);
    } else {
        counts->cached += atomic_load_explicit(&cache->warm, memory_order_relaxed);
        counts->live += atomic_load_explicit(&cache->live, memory_order_relaxed);
    }
}

void green__stack_lock(void)
{
    green__arena_lock();
}

void green__stack_unlock(void)
{
    green__arena_unlock();
}
