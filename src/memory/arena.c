/* SPDX-License-Identifier: MIT */
/*
 * The arenas of the process: where stacks are cut from and come home to.
 *
 * An arena is a private anonymous mapping.  It is mapped without reserving
 * memory, so only what is touched costs any, and marked as stacks, which keeps
 * huge pages away from it.  Each new one of a kind is as large as all of that kind
 * together, so that a million stacks are a few dozen mappings.  It is smaller where
 * the process would otherwise have more at home than it uses, and half as large, down
 * to a single stack, where the system refuses it.
 *
 * One lock guards it all.  Threads come here for several slots at a time.
 */
#define _GNU_SOURCE
#include "memory/arena.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "memory/stack.h"
#include "own.h"
#include "tools/asan.h"
#include "tools/helgrind.h"
#include "tools/valgrind.h"

#ifndef MAP_STACK
#define MAP_STACK 0
#endif
#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0
#endif
#ifndef MADV_NOHUGEPAGE
#define MADV_NOHUGEPAGE 15
#endif

/* The first arena of a kind, and the largest: in bytes, or one slot if that is more. */
#define ARENA_FIRST ((size_t)4 << 20)
#define ARENA_MOST ((size_t)8 << 30)

/*
 * What is at home may exceed what is used if a kind has many stacks: a new arena is at
 * least this part of its kind, so that their number stays small.
 */
#define ARENA_LEAST_PART 8

/* Arenas may be kept when all their slots are home: the largest of a kind, in all this much. */
#define IDLE_MOST ((size_t)64 << 20)

/* Resident memory that slots at home may keep together. */
#define HOME_BYTES ((size_t)16 << 20)

/* A stack that uses more than this is deep, however deep. */
#define COUNT_MOST ((size_t)16 << 20)
_Static_assert(COUNT_MOST / 4096 <= UINT16_MAX, "as many pages as a slot can tell");

/* Slots of one shape.  It exists while it has an arena. */
struct green__kind {
    size_t shape;              /* see green__stack_shape() */
    struct green__kind *next;  /* whose hash is the same */
    struct green__arena *open; /* its arenas with slots at home */
    struct green__arena *idle; /* of these, one all of whose slots are; or NULL */
    size_t bytes;              /* mapped in all */
};

#define HASHES 64

static pthread_mutex_t arenas_lock = PTHREAD_MUTEX_INITIALIZER;
static struct green__kind *kinds_at[HASHES];
static struct green__slot *occupied; /* running stacks of threads that have ended */
static size_t home_pages;         /* resident in slots at home */
static size_t home_slots;         /* that have any */
static size_t mapped_bytes;
static size_t away_bytes;         /* of these: slots that are not at home, */
static size_t idle_bytes;         /* and the idle arenas */

void green__arena_lock(void)
{
    green__own_lock(&arenas_lock);
}

void green__arena_unlock(void)
{
    pthread_mutex_unlock(&arenas_lock);
}

size_t green__page_size(void)
{
    static size_t size; /* the same whoever writes it */
    size_t known = __atomic_load_n(&size, __ATOMIC_RELAXED);
    if (known == 0) {
        green__atomics(&size, sizeof size);
        known = (size_t)sysconf(_SC_PAGESIZE);
        __atomic_store_n(&size, known, __ATOMIC_RELAXED);
    }
    return known;
}

static size_t guard_size(void)
{
    return green__round_up(GREEN__GUARD_SIZE, green__page_size());
}

/* ---- Slots ----------------------------------------------------------------- */

static unsigned *valgrind_number(struct green__arena *arena, uint32_t index)
{
    return (unsigned *)(arena->slot_at + arena->slots) + index;
}

int green__slot_prepare(struct green__slot *slot)
{
    if (slot->low != NULL)
        return 0;
    struct green__arena *arena = green__slot_arena(slot);
    char *low = green__slot_low(slot);
    if (arena->guard != 0 && !green__guard_install(low - arena->guard, arena->guard))
        return -1;
    unsigned number = green__valgrind_register(low, low + green__slot_size(slot));
    if (number != 0) /* else leave the memory for it untouched */
        *valgrind_number(arena, slot->index) = number;
    slot->low = low;
    return 0;
}

/* Counts the resident pages of a range; false if that cannot be told. */
static bool count_resident(char *low, const char *end, size_t *pages)
{
    unsigned char resident[256] = {0}; /* MSan does not know what mincore() writes */
    size_t page = green__page_size(), piece = sizeof resident * page;
    *pages = 0;
    for (; low < end; low += piece) {
        size_t left = (size_t)(end - low), n = left < piece ? left : piece;
        if (mincore(low, n, resident) != 0)
            return false;
        for (size_t i = 0; i < n / page; i++)
            *pages += resident[i] & 1;
    }
    return true;
}

/* How much of a slot is too deep to be counted. */
static size_t uncounted(const struct green__slot *slot)
{
    size_t size = green__slot_size(slot);
    return size < COUNT_MOST ? 0 : size - COUNT_MOST;
}

void green__slot_count(struct green__slot *slot)
{
    char *low = green__slot_low(slot);
    size_t pages;
    if (count_resident(low + uncounted(slot), low + green__slot_size(slot), &pages))
        slot->pages = (uint16_t)pages; /* else what was counted last */
}

size_t green__slot_clear_uncounted(struct green__slot *slot, bool tells)
{
    char *low = green__slot_low(slot);
    size_t size = uncounted(slot), page = green__page_size(), before = 0, after = 0;
    uintptr_t here = (uintptr_t)__builtin_frame_address(0) - (uintptr_t)low;
    if (size == 0 || here < size + page) /* what is called from here stands below */
        return 0;
    if (tells)
        (void)count_resident(low, low + size, &before);
    (void)madvise(low, size, MADV_DONTNEED);
    if (tells)
        (void)count_resident(low, low + size, &after); /* locked memory stays */
    return before > after ? (before - after) * page : 0;
}

size_t green__slot_clear(struct green__slot *slot, const char *kept)
{
    size_t page = green__page_size();
    char *low = green__slot_low(slot);
    size_t size = green__slot_size(slot), before = slot->pages;
    if (kept != NULL)
        size = (size_t)(kept - low) & ~(page - 1);
    bool cleared = madvise(low, size, MADV_DONTNEED) == 0;
    if (kept != NULL)
        return 0;
    if (cleared)
        slot->pages = 0;
    else
        green__slot_count(slot); /* locked memory stays, until it is unmapped */
    slot->uses = 0;
    return before > slot->pages ? (before - slot->pages) * page : 0;
}

bool green__slot_is_running(const struct green__slot *slot)
{
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    return here - (uintptr_t)green__slot_low(slot) < green__slot_size(slot);
}

/* ---- Arenas ------------------------------------------------------------------ */

/* Where the kind is linked in, or is to be. */
static struct green__kind **place_of_kind(size_t shape)
{
    uint64_t number = (uint64_t)shape / 8192 * 2 + (shape & 1); /* sizes are whole pages */
    struct green__kind **at = &kinds_at[number * 0x9e3779b97f4a7c15 >> 32 & (HASHES - 1)];
    while (*at != NULL && (*at)->shape != shape)
        at = &(*at)->next;
    return at;
}

static struct green__kind *need_kind(size_t shape)
{
    struct green__kind **at = place_of_kind(shape);
    if (*at == NULL && (*at = calloc(1, sizeof **at)) != NULL)
        (*at)->shape = shape;
    return *at;
}

static void drop_kind_if_empty(struct green__kind *kind)
{
    if (kind->bytes == 0) {
        *place_of_kind(kind->shape) = kind->next;
        free(kind);
    }
}

static void open_arena(struct green__arena *arena)
{
    struct green__kind *kind = arena->kind;
    arena->prev = NULL;
    arena->next = kind->open;
    if (kind->open != NULL)
        kind->open->prev = arena;
    kind->open = arena;
}

static void close_arena(struct green__arena *arena)
{
    if (arena->next != NULL)
        arena->next->prev = arena->prev;
    if (arena->prev != NULL)
        arena->prev->next = arena->next;
    else
        arena->kind->open = arena->next;
}

static size_t arena_bytes(const struct green__arena *arena)
{
    size_t known = sizeof *arena + arena->slots * (sizeof arena->slot_at[0] + sizeof(unsigned));
    return arena->slots * arena->slot + green__round_up(known, green__page_size());
}

/* All its slots are home, and it is kept for the next of its kind. */
static void keep_idle(struct green__arena *arena)
{
    arena->kind->idle = arena;
    idle_bytes += arena_bytes(arena);
}

/* It is used again, or unmapped. */
static void end_idle(struct green__arena *arena)
{
    if (arena != NULL && arena->kind->idle == arena) {
        arena->kind->idle = NULL;
        idle_bytes -= arena_bytes(arena);
    }
}

/*
 * Whether a mapping made now is locked into memory, and so resident as a whole,
 * as mlockall(MCL_FUTURE) asks for.
 */
static bool mappings_are_locked(void)
{
    size_t page = green__page_size();
    unsigned char resident = 0;
    char *memory = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return true; /* as good as: small it shall be */
    (void)mincore(memory, page, &resident);
    munmap(memory, page);
    return (resident & 1) != 0;
}

/* Where to ask for a mapping: anywhere, or by turns below and above the others, never twice. */
static void *place(size_t bytes)
{
    static char *high;
    static bool is_low;
    if (!GREEN__STRESS)
        return NULL;
    is_low = !is_low;
    if (is_low) {
        static uintptr_t low = (uintptr_t)4 << 30;
        return (void *)((low += bytes) - bytes);
    }
    if (high == NULL) { /* where the system begins with them */
        high = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (high == MAP_FAILED)
            return high = NULL;
        munmap(high, bytes);
        return high;
    }
    return high -= bytes;
}

static struct green__arena *map_slots(struct green__arena wanted, uint32_t slots)
{
    struct green__kind *kind = wanted.kind;
    size_t slot = wanted.slot;
    wanted.slots = slots;
    size_t bytes = arena_bytes(&wanted);
    wanted.memory = mmap(place(bytes), bytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
    if (wanted.memory == MAP_FAILED)
        return NULL;
    (void)madvise(wanted.memory, bytes, MADV_NOHUGEPAGE); /* for kernels before 6.7 */
    green__valgrind_unuse(wanted.memory, slots * slot); /* its search for leaks reads the rest */
    wanted.home = slots;
    struct green__arena *arena = (struct green__arena *)(wanted.memory + slots * slot);
    green__memory_clean(arena, bytes - slots * slot);
    *arena = wanted;
    kind->bytes += bytes;
    mapped_bytes += bytes;
    open_arena(arena);
    return arena;
}

/* Unmaps an arena all of whose slots are home; false if the system cannot even do that. */
static bool unmap_arena(struct green__arena *arena)
{
    struct green__kind *kind = arena->kind;
    size_t bytes = arena_bytes(arena), pages = 0, resident = 0;
    for (struct green__slot *slot = arena->free; slot != NULL; slot = slot->next) {
        if (slot->low != NULL)
            green__valgrind_deregister(*valgrind_number(arena, slot->index));
        pages += slot->pages;
        resident += slot->pages != 0;
    }
    bool idle = kind->idle == arena;
    end_idle(arena);
    close_arena(arena);
    if (munmap(arena->memory, bytes) != 0) {
        open_arena(arena);
        if (idle)
            keep_idle(arena);
        return false;
    }
    kind->bytes -= bytes;
    mapped_bytes -= bytes;
    home_pages -= pages;
    home_slots -= resident;
    drop_kind_if_empty(kind);
    return true;
}

/* Unmaps what is kept only because it may be of use again; false if there was nothing. */
static bool unmap_idle(void)
{
    bool any = false;
    for (size_t i = 0; i < HASHES; i++) {
        struct green__kind *next;
        for (struct green__kind *kind = kinds_at[i]; kind != NULL; kind = next) {
            next = kind->next;
            if (kind->idle != NULL && unmap_arena(kind->idle))
                any = true;
        }
    }
    return any;
}

/*
 * How much to map for a kind none of whose slots are at home.  What is at home, of all
 * kinds, shall not be more than what is used, or than the first arena.
 */
static size_t growth(const struct green__kind *kind)
{
    size_t home = mapped_bytes - away_bytes - idle_bytes;
    size_t most = away_bytes > ARENA_FIRST ? away_bytes : ARENA_FIRST;
    size_t bytes = kind->bytes > ARENA_FIRST ? kind->bytes : ARENA_FIRST;
    size_t room = home < most ? most - home : 0;
    if (bytes > room)
        bytes = room > kind->bytes / ARENA_LEAST_PART ? room : kind->bytes / ARENA_LEAST_PART;
    return bytes < ARENA_MOST ? bytes : ARENA_MOST;
}

static struct green__arena *map_arena(size_t shape)
{
    struct green__kind *kind = need_kind(shape);
    if (kind == NULL)
        return NULL;
    size_t size = shape >> 1, guard = shape & 1 ? guard_size() : 0;
    size_t slot = guard + size + green__round_up(GREEN__SPREAD, green__page_size());
    const struct green__arena wanted = {.kind = kind, .size = size, .guard = guard, .slot = slot};
    size_t bytes = growth(kind);
    size_t slots = bytes > slot && !GREEN__STRESS && !mappings_are_locked() ? bytes / slot : 1;
    for (;;) {
        struct green__arena *arena = map_slots(wanted, (uint32_t)slots);
        if (arena != NULL)
            return arena;
        if (slots > 1) {
            slots /= 2;
        } else if (!unmap_idle()) {
            drop_kind_if_empty(kind);
            return NULL;
        }
    }
}

/* What is no green's is no slot either. */
void *green__stack_map(size_t *size)
{
    size_t page = green__page_size(), guard = guard_size();
    *size = green__round_up(*size, page);
    char *memory = mmap(NULL, guard + *size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    if (!green__guard_install(memory, guard)) {
        munmap(memory, guard + *size);
        return NULL;
    }
    green__valgrind_unuse(memory, guard);
    green__memory_clean(memory + guard, *size);
    return memory + guard;
}

void green__stack_unmap(void *memory, size_t size)
{
    size_t guard = guard_size();
    munmap((char *)memory - guard, guard + size);
}

/* ---- Home ---------------------------------------------------------------------- */

static void come_home(struct green__slot *slot)
{
    struct green__arena *arena = green__slot_arena(slot);
    if (home_pages + slot->pages > HOME_BYTES / green__page_size())
        green__slot_clear(slot, NULL);
    home_pages += slot->pages;
    home_slots += slot->pages != 0;
    away_bytes -= arena->slot;
    slot->next = arena->free;
    arena->free = slot;
    if (arena->home++ == 0)
        open_arena(arena);
    if (arena->home < arena->slots)
        return;
    size_t bytes = arena_bytes(arena);
    struct green__arena *idle = arena->kind->idle;
    if (bytes > IDLE_MOST || (idle != NULL && arena_bytes(idle) >= bytes) || GREEN__STRESS) {
        unmap_arena(arena); /* if the system cannot even do that, it stays at home */
        return;
    }
    end_idle(idle);
    if (idle_bytes + bytes > IDLE_MOST)
        unmap_idle(); /* none of these was used later */
    keep_idle(arena);
    if (idle != NULL)
        unmap_arena(idle);
}

static struct green__slot *leave_home(struct green__arena *arena)
{
    struct green__slot *slot = arena->free;
    end_idle(arena);
    away_bytes += arena->slot;
    if (slot != NULL) {
        arena->free = slot->next;
        home_pages -= slot->pages;
        home_slots -= slot->pages != 0;
    } else {
        slot = &arena->slot_at[arena->cut];
        slot->index = arena->cut++;
    }
    if (--arena->home == 0)
        close_arena(arena);
    return slot;
}

/*
 * A thread that ends may do so on a green's stack: musl runs thread-specific
 * destructors where pthread_exit() was called.  Such a stack comes home when
 * the kernel knows the thread no more.  Until then the thread's number, of at most
 * 22 bits, stands where its pages and uses do.
 */
static void keep_occupied(struct green__slot *slot)
{
    uint32_t thread = (uint32_t)syscall(SYS_gettid);
    slot->pages = thread & 0x7fff;
    slot->uses = (uint16_t)(thread >> 15);
    slot->next = occupied;
    occupied = slot;
}

static void fetch_occupied(void)
{
    struct green__slot *slot = occupied;
    occupied = NULL;
    while (slot != NULL) {
        struct green__slot *next = slot->next;
        uint32_t thread = (uint32_t)slot->uses << 15 | slot->pages;
        if (syscall(SYS_tgkill, getpid(), thread, 0) == 0 || errno != ESRCH) {
            slot->next = occupied;
            occupied = slot;
        } else {
            slot->pages = 0;
            green__slot_count(slot);
            green__slot_clear(slot, NULL);
            come_home(slot);
        }
        slot = next;
    }
}

struct green__slot *green__arena_take(size_t shape, unsigned most, unsigned *count)
{
    struct green__slot *taken = NULL;
    green__arena_lock();
    fetch_occupied();
    struct green__kind *kind = *place_of_kind(shape);
    struct green__arena *arena = kind != NULL ? kind->open : NULL;
    if (arena == NULL)
        arena = map_arena(shape);
    for (*count = 0; arena != NULL && arena->home != 0 && *count < most; ++*count) {
        struct green__slot *slot = leave_home(arena);
        slot->next = taken;
        taken = slot;
    }
    green__arena_unlock();
    return taken;
}

/* Makes one of an arena that needs no preparing the first to leave; false if there is none. */
static bool bring_ready(struct green__arena *arena)
{
    struct green__slot **from = &arena->free;
    while (*from != NULL && (*from)->low == NULL)
        from = &(*from)->next;
    struct green__slot *slot = green__slot_pop(from);
    if (slot != NULL)
        green__slot_push(&arena->free, slot);
    return slot != NULL;
}

struct green__slot *green__arena_take_ready(size_t shape)
{
    struct green__slot *slot = NULL;
    green__arena_lock();
    struct green__kind *kind = *place_of_kind(shape);
    struct green__arena *arena = kind != NULL ? kind->open : NULL;
    while (arena != NULL && !bring_ready(arena))
        arena = arena->next;
    if (arena != NULL)
        slot = leave_home(arena);
    green__arena_unlock();
    return slot;
}

void green__arena_give(struct green__slot *slots)
{
    green__arena_lock();
    while (slots != NULL) {
        struct green__slot *slot = slots;
        slots = slot->next;
        if (green__slot_is_running(slot))
            keep_occupied(slot);
        else
            come_home(slot);
    }
    green__arena_unlock();
}

/* ---- Giving back ----------------------------------------------------------------- */

/* Gives back pages of an arena's slots until no more than `keep` are kept at home. */
static size_t clear_arena(struct green__arena *arena, size_t keep)
{
    size_t given = 0;
    for (struct green__slot *slot = arena->free; slot != NULL && home_pages > keep;
         slot = slot->next) {
        if (slot->pages == 0)
            continue;
        home_pages -= slot->pages;
        home_slots--;
        green__slot_count(slot);
        given += green__slot_clear(slot, NULL);
        home_pages += slot->pages;
        home_slots += slot->pages != 0;
    }
    return given;
}

/* The pages of an arena that nobody uses. */
static size_t pages_of(const struct green__arena *arena)
{
    size_t pages = 0;
    for (const struct green__slot *slot = arena->free; slot != NULL; slot = slot->next)
        pages += slot->pages;
    return pages;
}

static size_t trim_kind(struct green__kind *kind, size_t keep)
{
    size_t given = 0;
    struct green__arena *next;
    for (struct green__arena *arena = kind->open; arena != NULL; arena = next) {
        next = arena->next; /* of the last one kind may be gone */
        given += clear_arena(arena, keep);
        if (arena->home < arena->slots)
            continue;
        size_t pages = pages_of(arena); /* locked memory can be given back only so */
        if ((pages == 0 || home_pages > keep) && unmap_arena(arena))
            given += pages * green__page_size();
    }
    return given;
}

size_t green__arena_trim(size_t keep)
{
    size_t given = 0;
    green__arena_lock();
    fetch_occupied();
    for (size_t i = 0; i < HASHES; i++) {
        struct green__kind *next;
        for (struct green__kind *kind = kinds_at[i]; kind != NULL; kind = next) {
            next = kind->next;
            given += trim_kind(kind, keep / green__page_size());
        }
    }
    green__arena_unlock();
    return given;
}

void green__arena_counts(size_t *waiting, size_t *mapped)
{
    green__arena_lock();
    *waiting = home_slots;
    *mapped = mapped_bytes;
    green__arena_unlock();
}
