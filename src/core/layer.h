/* SPDX-License-Identifier: MIT */
#ifndef GREEN_LAYER_H
#define GREEN_LAYER_H
/*
 * What the core offers to a layer above it: something that decides by itself
 * which green of a thread runs next.  The hub (src/hub) is one; it uses green.h,
 * this header, and nothing else of the core.
 *
 * A layer has a state in each thread that uses it, which begins with a struct
 * green__layer.  In every green it has a word of its own.  It can own greens: their
 * handles are its, and their users may enter and look at them, but not release them.
 * And it can keep a green waiting, whosever that is: nobody else may enter it then.
 *
 * All of it is called in the thread whose greens are meant.
 */
#include <sys/uio.h>

#include "core/green.h"
#include "core/line.h"
#include "core/family.h"
#include "core/told.h"
#include "core/unwind.h"

/* Makes layer that of the calling thread, for which the thread has none.  0, or -1 with errno. */
int green__layer_begin(struct green__layer *layer);

/* It is the thread's no longer; it owns nothing. */
void green__layer_end(void);

/* That of the calling thread, or NULL. */
static inline struct green__layer *green__layer(void)
{
    return green__caller()->layer;
}

/* Whether the calling thread is being ended: nobody will be entered any more. */
static inline bool green__layer_thread_is_ending(void)
{
    const struct green__thread *self = green__caller();
    return self->end.ended || self->end.destructor_ran;
}

/* What a raw system call has written to parts: size bytes. */
static inline void green__layer_given(const struct iovec *parts, size_t size)
{
    for (; size > 0; parts++) {
        size_t n = size < parts->iov_len ? size : parts->iov_len;
        green__given(parts->iov_base, n);
        size -= n;
    }
}

/* The check of all that does not only look: false with EBUSY in a hook, EPERM past the end. */
static inline bool green__layer_may_act(void)
{
    return green__may_act(green__caller());
}

/* Whether the thread's greens may only look now, as in a trace hook. */
static inline bool green__layer_only_looks(void)
{
    return green__caller()->look_only != 0;
}

/* More or less than 0: until it is taken back, the thread's greens may only look. */
static inline void green__layer_look_only(int more)
{
    struct green__thread *self = green__self;
    self->look_only += (unsigned)more;
    green__thread_set_tag(self);
}

/* The current green; the thread has used the library. */
static inline green_t *green__layer_current(void)
{
    return load(green__caller()->current);
}

/*
 * Whether the thread has a layer, nothing forbids anything to its current green, and that
 * is marked as plain; all three are found then.  It may leave by green__layer_go().
 */
static inline bool green__layer_is_plain(struct green__thread **self, struct green__layer **layer,
                                         green_t **me)
{
    *self = green__self;
    *layer = (*self)->layer;
    if (UNLIKELY(*layer == NULL))
        return false;
    if (UNLIKELY(green__call_tag(*self) != load((*self)->id)) &&
        (load((*self)->tag) != load((*self)->id) ||
         ((*self)->exceptions[0] | (*self)->exceptions[1]) != 0))
        return false;
    *me = load((*self)->current);
    return LIKELY(((*me)->kept & GREEN__KEPT_PLAIN) != 0);
}

/* What that has found. */
static inline void green__layer_of_plain(struct green__thread *self, struct green__layer **layer,
                                         green_t **me)
{
    *layer = self->layer;
    *me = load(self->current);
}

/* Marks a green that the layer knows, or takes that back. */
static inline void green__layer_mark_plain(green_t *g, bool plain)
{
    g->kept = (unsigned char)((g->kept & ~GREEN__KEPT_PLAIN) | (plain ? GREEN__KEPT_PLAIN : 0));
}

static inline bool green__layer_is_main(const green_t *g)
{
    return g->is_main;
}

static inline bool green__layer_is_owned(const green_t *g)
{
    return (g->kept & GREEN__KEPT_OWNED) != 0;
}

/*
 * Whether the word is what the layer itself has of this green, as of those that it owns and
 * of a main that it has marked so.
 */
static inline bool green__layer_knows(const green_t *g)
{
    return (g->kept & GREEN__KEPT_KNOWN) != 0;
}

static inline void green__layer_mark_main(green_t *main, bool known)
{
    main->kept = known ? GREEN__KEPT_KNOWN : 0;
}

/* Whether it has been entered and lives. */
static inline bool green__layer_is_started(const green_t *g)
{
    return load(g->life) == GREEN__STARTED && !g->unwound;
}

/* Where the frames of one end that is suspended ... */
static inline uintptr_t green__layer_sp(const green_t *g)
{
    return (uintptr_t)g->sp;
}

/* ... and the stack of one that is not main. */
static inline uintptr_t green__layer_low(const green_t *g)
{
    return (uintptr_t)g->stack.low;
}

static inline uintptr_t green__layer_top(const green_t *g)
{
    return (uintptr_t)g->stack.low + g->stack.size;
}

/* What is at low is about to be read, whatever it is, by a function that no sanitizer minds. */
static inline __attribute__((always_inline)) void green__layer_asks(const void *low, size_t size)
{
    if (UNLIKELY(green__self->stacks.watched)) /* to ask Valgrind takes some time */
        green__valgrind_asks(low, size);
}

/* Whether it waits in green__layer_switch(). */
static inline bool green__layer_waits(const green_t *g)
{
    return (g->kept & GREEN__KEPT_WAITING) != 0;
}

/* The place of a call, given its return address, for reports. */
static inline void green__layer_format_place(char *text, size_t size, const void *place)
{
    green__format_pc(text, size, (uintptr_t)place, true);
}

/* Who gets what g leaves, alive or not: who frees it, or its parent; NULL: g is main. */
static inline green_t *green__layer_above(green_t *g)
{
    return g->is_main ? NULL : green__parent(g);
}

/* The layer's word in a green.  NULL until it is written, and in greens that are DEAD. */
static inline void *green__layer_word(const green_t *g)
{
    return g->layer;
}

static inline void green__layer_set_word(green_t *g, void *word)
{
    g->layer = word;
}

/*
 * GREEN__LAYER_ROOM bytes at the base of the stack of a green that the layer owns, aligned
 * to 16 and with anything in them.  They are the layer's from green__layer_new() until the
 * green is DEAD: what a green needs only while it lives costs nothing there, as the page is
 * there anyway.  What unwinding at a thread's end has left may have lost its stack: from
 * `lost` (told.h) on nothing is there.
 */
static inline void *green__layer_room(const green_t *g)
{
    return green__base(g);
}

/*
 * Makes a green that the layer owns, marked as plain, or, with hub, the layer's own, which
 * nobody else may do anything with but look; under parent.  run is not NULL.  NULL with errno.
 */
static inline green_t *green__layer_new(green_fn *run, green_t *parent,
                                        const green_options_t *options, bool hub)
{
    green_t *g = green__new_kept(run, parent, options);
    if (UNLIKELY(g == NULL))
        return NULL;
    g->kept = hub ? GREEN__KEPT_HUB
                  : GREEN__KEPT_OWNED | GREEN__KEPT_KNOWN | GREEN__KEPT_PLAIN;
    g->children++; /* the layer's handle, see state.h */
    return g;
}

/* Releases an owned or own green that is DEAD or NEW; its stack also if it is started. */
void green__layer_release(green_t *g);

/*
 * Ends an owned green, but the current one, where it stands: it is DEAD.  Until it is released
 * it has its stack, as others may have something there, and holds one child more for that.
 */
void green__layer_end_unrun(green_t *g);

/* The same of one that is DEAD and has nothing left; false, and nothing is done: it is another. */
static inline bool green__layer_release_bare(green_t *g)
{
    struct green__thread *self = green__self;
    if (UNLIKELY(load(g->life) != GREEN__DEAD || g->name != NULL || g->children != 1 ||
                 self->blocks.room == 0))
        return false;
    green_t *parent = g->parent;
    green__count_out(self);
    green__put_spare(self, g);
    green__lose_child(parent);
    return true;
}

/* Whether freed blocks may wait for the next, and no tool is to see each free(). */
static inline bool green__layer_may_spare(void)
{
    return !green__self->stacks.watched;
}

/* Whether a sanitizer looks at the thread's calls of libc, as at what they are given. */
static inline bool green__layer_is_sanitized(void)
{
    return green__self->sanitized || __msan_unpoison != NULL;
}

/* A green that is started, waits, and will not be entered by the layer, is its user's again. */
void green__layer_let_go(green_t *g);

/*
 * Leaves the current green, which waits from now on, for `to`, which is NEW or waits and is
 * not current; to enters its body or returns from this call with value.  Returns what the
 * current green is entered with.  It is not waiting any more then, unless it is the
 * layer's own.
 */
void *green__layer_switch(green_t *to, void *value);

/*
 * The short way of a plain green to another that waits in this function: its call is a jump,
 * if nothing comes after it, and returns straight to who has called its caller.  So who
 * leaves by it has nothing done when it is entered: whoever enters it wakes it before.
 */
static inline __attribute__((always_inline)) int
green__layer_go(struct green__thread *self, green_t *me, green_t *to, void *value)
{
    me->kept |= GREEN__KEPT_WAITING;
    store(me->enter, GREEN__TAG_CLOSED);
    to->kept &= (unsigned char)~GREEN__KEPT_WAITING;
    store(to->enter, load(self->id));
    store(self->current, to);
    return green__arch_switch_int(&me->sp, to->sp, value);
}

/* The same, for whom the short way is none: `to` is as in green__layer_switch(). */
int green__layer_go_long(green_t *to, void *value);

static inline void green__layer_wake(green_t *g)
{
    g->kept &= (unsigned char)~GREEN__KEPT_WAITING;
    store(g->enter, load(g->owner));
}

#endif
