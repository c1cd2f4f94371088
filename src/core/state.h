/* SPDX-License-Identifier: MIT */
#ifndef GREEN_STATE_H
#define GREEN_STATE_H
/*
 * What a green and a thread are: struct green, struct green__thread, their states
 * and invariants.  The rules meant by number are those of green.h.
 *
 * Who reads what from another thread: of a green its life, enter, owner and
 * thread; of a thread its id and current.  These are atomic, always relaxed
 * unless noted, and cost what plain ones do.  Who abandons a green of another
 * thread reads some more, see seems_busy().  All else is touched only by the
 * thread that owns it, or under the lock once that thread has ended.
 *
 * Memory that is reachable from a handle stays readable: a struct
 * green__thread is never unmapped but used again by a later thread, under a
 * new id.  A pair (thread, owner) in which owner is no longer the thread's id
 * therefore means: the owner has ended.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "visible.h"

GREEN__PUSH_VISIBILITY(GREEN__VISIBILITY)
#include <green.h>
#pragma GCC visibility pop

#include "arch/arch.h"
#include "tools/tools.h"
#include "memory/stack.h"

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

#define load(object) atomic_load_explicit(&(object), memory_order_relaxed)
#define store(object, value) atomic_store_explicit(&(object), (value), memory_order_relaxed)

/* Freed blocks that wait in a thread for its next greens, at most. */
#define GREEN__SPARES 1024

/*
 * Numbers of threads are used once and never again.  Three are never given out:
 * the number that no green carries in `enter`, and those no thread compares it
 * with.
 */
#define GREEN__TAG_SLOW 0u   /* a thread's tag while every move must go the slow way */
#define GREEN__TAG_CLOSED 1u /* a green's enter while it cannot be entered */
#define GREEN__TAG_ABANDONED 2u /* ... and when another thread has abandoned it */
#define GREEN__TAG_FIRST 3u

#define GREEN__NAME_MAX 31 /* bytes of a name */

/* How far a green has come; green_state() tells RUNNING from SUSPENDED. */
enum green__life {
    GREEN__NEW,     /* not entered yet: has a stack with nothing on it */
    GREEN__STARTED, /* has frames on its stack, is in its thread's list */
    GREEN__DEAD     /* has no stack, deferred functions or key values any more */
};

/* A word of anybody's. */
typedef uintptr_t __attribute__((__may_alias__)) green__word;

/* A call of green_free() or green_thread_end() that waits for a green's end. */
struct green__freeing {
    green_t *green; /* whose parent the caller stands in for; NULL: no longer */
    bool died;      /* it has; it may be released already */
};

struct green {
    /*
     * What a switch and a yield touch, close together: with many greens each
     * line of it is a miss.  green_fast.h reads these four; src/core/layout.c says what
     * to do when they change.
     */
    void *sp;                 /* saved stack pointer; valid while SUSPENDED */
    _Atomic(uint64_t) enter;  /* owner's id if a fast path may enter it, else a GREEN__TAG_... */
    green_t *parent;          /* may be a released green; green__parent() is who counts */
    /*
     * Who is freeing it, instead of the parent; NULL if released.  These make no circle:
     * whoever begins to free one that frees others ends that first, see green__cancel().
     * By green__set_stand_in() alone.
     */
    green_t *stand_in;

    _Atomic(unsigned char) life; /* enum green__life; written by green__change_life() alone */
    unsigned char kept;       /* GREEN__KEPT_... below, by layer.h; 0: no layer has a say in it */
    unsigned char is_main;
    unsigned char detached;
    unsigned char released;   /* the handle is gone; kept for its children only */
    unsigned char asked_to_end; /* inside green_thread_end(): it has been asked to die */
    unsigned char unwound;    /* set under the lock: by forced unwinding; dead when somebody asks */
    unsigned char has_ending; /* its ending holds something, see cleanup.h */
    int error;                /* at its end: errno if result is GREEN_FAILED */
    unsigned valgrind;        /* the number of a lent stack there */
    uintptr_t exceptions[2];  /* __cxa_eh_globals while it waits; not 0 only if enter is closed */

    /* Whose it is: changes only when a NEW green is taken over. */
    _Atomic(uint64_t) owner;  /* that thread's id */
    _Atomic(struct green__thread *) thread;

    /*
     * The family: children counts the greens whose parent field points here,
     * main greens excepted, which count nothing; and what layer.h has to hold.
     */
    uint32_t children;
    uint32_t taken;           /* of these, taken over by other threads; under the lock */
    green_t *next_with_taken; /* in the thread's list of greens with taken != 0; under the lock */

    /* What most have nothing of: side by side, as they are made NULL together. */
    struct green__freeing *freeing; /* while it frees another: that call, on its stack */
    struct green__fiber fiber;      /* what sanitizers have of it */
    struct green__deferred *deferred; /* innermost first */
    struct green__locals *locals;     /* or NULL: no key has a value */
    void *layer;              /* layer.h: the layer's word; NULL: none */
    void *data;
    char *name;               /* malloc'ed, or NULL */

    green_t *next, *prev;     /* the thread's STARTED greens, round from main */

    union {
        green_fn *run;        /* until it is called */
        void *result;         /* at its end: what run returned or green_exit() got */
        green_t *next_abandoned; /* in the thread's list of those; under the lock */
    };
    struct green__stack stack;
};

/*
 * What a layer above (layer.h) has taken from a green's users.  A green with any of
 * these is closed to the fast paths while it does not run; its handle's owner counts as
 * one of its children, which sends green_free() the complete way.
 */
#define GREEN__KEPT_WAITING 1u /* it waits in the layer, which alone may enter it */
#define GREEN__KEPT_OWNED 2u   /* its handle is the layer's; while NEW, so is its start */
#define GREEN__KEPT_HUB 4u     /* the layer's own: nobody else does anything with it but look */
#define GREEN__KEPT_KNOWN 8u   /* takes nothing: the layer's word is what it has of the green itself */
#define GREEN__KEPT_PLAIN 16u  /* nor does this, the layer's own mark on such a green */

/* A block's eight bytes from life on: of a NEW green with which nothing is special, zero. */
_Static_assert(GREEN__NEW == 0, "");
_Static_assert(offsetof(struct green, kept) == offsetof(struct green, life) + 1, "");
_Static_assert(offsetof(struct green, has_ending) == offsetof(struct green, life) + 7, "");

/* What ending a green takes, at the top of its stack. */
#define GREEN__ENDING_SIZE 128

/* What a layer has there for itself, between that and the first frame: layer.h says more. */
#define GREEN__LAYER_ROOM 240

_Static_assert(GREEN__ENDING_SIZE % 16 == 0 && GREEN__LAYER_ROOM % 16 == 0,
               "what is below them is aligned, too");
_Static_assert(GREEN__ENDING_SIZE + GREEN__LAYER_ROOM + sizeof(struct green__first_frame) <=
                   GREEN__VALGRIND_FIRST,
               "Valgrind lets these be written");

/* Where the first frame ends, and the layer's room begins. */
static inline char *green__base(const green_t *g)
{
    return green__stack_top(&g->stack) - GREEN__ENDING_SIZE - GREEN__LAYER_ROOM;
}

/* To Helgrind. */
static inline void green__tell_atomics(green_t *g)
{
    green__atomics(&g->enter, sizeof g->enter);
    green__atomics(&g->stand_in, sizeof(void *));
    green__atomics(&g->life, sizeof g->life);
    green__atomics(&g->owner, sizeof g->owner + sizeof g->thread);
}

/* Freed blocks that wait for the thread's next greens: see family.c. */
struct green__blocks {
    green_t *spare; /* by their parent field */
    unsigned room;  /* how many more may wait; none where a tool looks for their use */
};

/* What tools that check programs have of the thread: see carry.h. */
struct green__tools {
    const void *main_low;     /* where main's stack is, as ASan says when it is left */
    size_t main_size;
    bool left_main;           /* main is what was left last */
    const char *main_waits;   /* where LSan looks at main's frames from while main waits, or NULL */
    struct green__fiber dead; /* of a green that has died and was not left behind yet */
    struct green__fiber unwound; /* of one that forced unwinding has left, or none */
    struct green__stack lent; /* of a green that has died: to be given back ... */
    unsigned lent_valgrind;   /* ... and its number there */
};

/* How far a thread's end has come: see thread.c. */
struct green__end {
    bool ended;          /* this is what a thread has past its end */
    bool destructor_ran; /* its thread-specific destructor has run once */
    const green_t *unwinds; /* in whose frames forced unwinding is; under the lock */
    bool in_thread_end;  /* inside green_thread_end() ... */
    green_t mark;        /* ... then a place in the list of STARTED greens, and no green */
};

/* What a thread has to do before its next call. */
#define GREEN__UNSETTLED_LEFT 1 /* the current green is left, see green__settle_thread() */
#define GREEN__UNSETTLED_CXX 2  /* a C++ runtime has come; set by any thread, see runtime.c */

struct green__thread {
    /* What a switch touches; green_fast.h the first two. */
    _Atomic(green_t *) current;
    _Atomic(uint64_t) tag;    /* id, or GREEN__TAG_SLOW; by green__thread_set_tag(), or at its end */
    green_t *runs;            /* inside a trace hook: whose stack it is on; else NULL */
    uint64_t call_tag;        /* tag, but GREEN__TAG_SLOW if exceptions are to be looked at */
    green__word *exceptions;  /* the thread's __cxa_eh_globals: two words; or no_exceptions */

    _Atomic(uint64_t) id;     /* 0 once ended; written under the lock */
    green_t main;
    struct green__stack_cache stacks;
    struct green__blocks blocks;
    bool sanitized;           /* under ASan or TSan, which are told of every switch */
    struct green__tools tools;
    _Atomic(size_t) greens;   /* made less released by it: only the sum of all threads counts */

    struct green__layer *layer; /* what stands on this thread's greens, or NULL */

    void *signal_stack;       /* an alternate one of ours, or NULL ... */
    size_t signal_stack_size; /* ... and its size */

    green_trace_fn *trace;
    void *trace_data;
    unsigned look_only;       /* inside a trace hook or green_each(): only look */
    _Atomic(unsigned char) unsettled; /* GREEN__UNSETTLED_...; tags are SLOW as long as it is not 0 */
    bool has_cxx;             /* a C++ runtime is known to the thread */
    green__word no_exceptions[2]; /* always zero */
    struct green__end end;

    _Atomic(green_t *) with_taken; /* greens with taken != 0; written under the lock */
    _Atomic(green_t *) abandoned; /* by other threads, to be released; written under the lock */
    struct green__thread *next;  /* among those to be used again; under the lock */
    struct green__thread *next_made; /* among all there are */
    uintptr_t handle;         /* pthread_self(), for debuggers */
};

/*
 * The thread's own look at call_tag, which others set to GREEN__TAG_SLOW: atomic as any
 * load of a word is, but by a comparison with memory, which is an instruction less.
 */
static inline GREEN__NO_TSAN uint64_t green__call_tag(const struct green__thread *self)
{
    return self->call_tag;
}

/*
 * What unwinding finds its way by, the green being the owner of its stack: see
 * arch/arch.h.  Next is the real parent: with those who stand in there would be
 * circles, as a green may be freed by one that stands under it.
 */
_Static_assert(offsetof(struct green, sp) == GREEN__OWNER_SP, "");
_Static_assert(offsetof(struct green, parent) == GREEN__OWNER_NEXT, "");
_Static_assert(offsetof(struct green, life) == GREEN__OWNER_STATE, "");
_Static_assert(offsetof(struct green, thread) == GREEN__OWNER_GROUP, "");
_Static_assert(GREEN__STARTED == GREEN__OWNER_STARTED, "");
_Static_assert(offsetof(struct green__thread, current) == GREEN__GROUP_CURRENT, "");
_Static_assert(offsetof(struct green__thread, runs) == GREEN__GROUP_RUNS, "");

/* What green_switch() finds, where a port has it in assembler. */
_Static_assert(offsetof(struct green, enter) == GREEN__OWNER_ENTER, "");
_Static_assert(offsetof(struct green__thread, tag) == GREEN__GROUP_TAG, "");
_Static_assert(offsetof(struct green__thread, call_tag) == GREEN__GROUP_CALL_TAG, "");
_Static_assert(offsetof(struct green__thread, exceptions) == GREEN__GROUP_EXCEPTIONS, "");

/*
 * The functions in which greens wait are in a section of their own, so that
 * green_dump() and debuggers can tell them from the functions that call them.
 */
#define GREEN__MOVES __attribute__((section("green_moves")))
__typeof__(green_switch) green_switch GREEN__MOVES;
__typeof__(green_throw) green_throw GREEN__MOVES;
__typeof__(green_yield) green_yield GREEN__MOVES;
__typeof__(green_free) green_free GREEN__MOVES;
__typeof__(green_thread_end) green_thread_end GREEN__MOVES;
void *green__layer_switch(green_t *to, void *value) GREEN__MOVES;
int green__layer_go_long(green_t *to, void *value) GREEN__MOVES;

/* The bounds of GREEN__MOVES, by the linker.  Under other names gcc would not hide them. */
extern const char __start_green_moves[] __attribute__((visibility("hidden")));
extern const char __stop_green_moves[] __attribute__((visibility("hidden")));

/*
 * Other threads look at it before they abandon g: as long as somebody stands in who is not
 * abandoned too, they do not.  Where the library enters g of its own accord, as in
 * green_thread_end(), it is set under the lock.  What was done to g meanwhile comes before
 * it is taken back.
 */
static inline void green__set_stand_in(green_t *g, green_t *freer)
{
    __atomic_store_n(&g->stand_in, freer, __ATOMIC_RELEASE);
}

/*
 * Changes life from old, and with it enter and the thread's list, which a signal
 * handler of the thread may follow by next at any moment.  Another thread that
 * sees it DEAD may abandon it: nothing here that abandoning writes comes after.
 */
static inline void green__change_life(green_t *g, enum green__life old, enum green__life life)
{
    if (old == GREEN__STARTED) {
        g->prev->next = g->next;
        g->next->prev = g->prev;
    }
    store(g->enter, life == GREEN__STARTED ? load(g->owner) : GREEN__TAG_CLOSED);
    atomic_store_explicit(&g->life, (unsigned char)life, memory_order_release);
    if (life == GREEN__STARTED) {
        green_t *main = &load(g->thread)->main;
        g->next = main;
        g->prev = main->prev;
        atomic_signal_fence(memory_order_release);
        main->prev->next = g;
        main->prev = g;
    }
}

static inline void green__set_life(green_t *g, enum green__life life)
{
    green__change_life(g, load(g->life), life);
}

#endif
