/* SPDX-License-Identifier: MIT */
#ifndef GREEN_CORE_H
#define GREEN_CORE_H
/*
 * What the files of libgreen share: struct green, struct green__thread, their
 * states and invariants.  The rules meant by number are those of green.h.
 *
 * Who reads what from another thread: of a green its life, enter, owner and
 * thread; of a thread its id and current.  These are atomic, always relaxed
 * unless noted, and cost what plain ones do.  All else is touched only by the
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
#include "tools/sanitize.h"
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

/* One of them as it is printed: names are the user's, and a line stays a line. */
static inline char green__printed(char c)
{
    if ((unsigned char)c < ' ' || c == 0x7f)
        return '?';
    return c;
}

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
     * line of it is a miss.  green_fast.h reads these four; src/look/fast.c says what
     * to do when they change.
     */
    void *sp;                 /* saved stack pointer; valid while SUSPENDED */
    _Atomic(uint64_t) enter;  /* owner's id if a fast path may enter it, else a GREEN__TAG_... */
    green_t *parent;          /* may be a released green; green__parent() is who counts */
    green_t *stand_in;        /* who is freeing it, instead of the parent; NULL if released */

    _Atomic(unsigned char) life; /* enum green__life; written by green__change_life() alone */
    unsigned char kept;       /* GREEN__KEPT_... below, by layer.h; 0: no layer has a say in it */
    unsigned char is_main;
    unsigned char detached;
    unsigned char released;   /* the handle is gone; kept for its children only */
    unsigned char tried;      /* inside green_thread_end(): it has been asked to die */
    unsigned char left;       /* by forced unwinding; dead as soon as somebody asks */
    unsigned char cleaning;   /* its ending holds something, see unwind.c */
    int error;                /* at its end: errno if result is GREEN_FAILED */
    unsigned valgrind;        /* the number of a lent stack there */
    uintptr_t exceptions[2];  /* __cxa_eh_globals while it waits; not 0 only if enter is closed */

    /* Whose it is: changes only when a NEW green is taken over. */
    _Atomic(uint64_t) owner;  /* that thread's id */
    _Atomic(struct green__thread *) thread;

    /*
     * The family: children counts the greens whose parent field points here,
     * main greens excepted, which count nothing.
     */
    uint32_t children;
    uint32_t gone;            /* of these, taken over by other threads; under the lock */
    green_t *next_bereaved;   /* in the thread's list of greens with gone != 0; under the lock */

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

/* A block's eight bytes from life on: of a NEW green with which nothing is special, zero. */
_Static_assert(GREEN__NEW == 0, "");
_Static_assert(offsetof(struct green, kept) == offsetof(struct green, life) + 1, "");
_Static_assert(offsetof(struct green, cleaning) == offsetof(struct green, life) + 7, "");

/* What ending a green takes, above its first frame. */
#define GREEN__ENDING_SIZE 128
_Static_assert(GREEN__ENDING_SIZE + sizeof(struct green__first_frame) <= GREEN__VALGRIND_FIRST,
               "Valgrind lets these be written");
static inline char *green__base(const green_t *g)
{
    return green__stack_top(&g->stack) - GREEN__ENDING_SIZE;
}

/* To Helgrind. */
static inline void green__tell_atomics(green_t *g)
{
    green__atomics(&g->enter, sizeof g->enter);
    green__atomics(&g->life, sizeof g->life);
    green__atomics(&g->owner, sizeof g->owner + sizeof g->thread);
}

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
    green_t *spare;           /* freed blocks for the next greens, by their parent field */
    unsigned spare_room;      /* how many more may wait; none where a tool looks for their use */
    struct green__stack lent; /* of a green that has died, under a tool: to be given back ... */
    unsigned lent_valgrind;   /* ... and its number there */
    bool sanitized;           /* under ASan or TSan, which are told of every switch: */
    const void *main_low;     /* where main's stack is, as ASan says when it is left */
    size_t main_size;
    bool left_main;           /* main is what was left last */
    const char *main_waits;   /* where LSan looks at main's frames from while main waits, or NULL */
    struct green__fiber dead; /* of a green that has died and was not left behind yet */
    struct green__fiber unwound; /* of one that forced unwinding has left, or none */
    _Atomic(size_t) greens;   /* made less released by it: only the sum of all threads counts */

    struct green__layer *layer; /* what stands on this thread's greens, or NULL */

    void *signal_stack;       /* an alternate one of ours, or NULL ... */
    size_t signal_stack_size; /* ... and its size */

    green_trace_fn *trace;
    void *trace_data;
    unsigned looking;         /* inside a trace hook or green_each(): only look */
    _Atomic(unsigned char) unsettled; /* GREEN__UNSETTLED_...; tags are SLOW as long as it is not 0 */
    bool has_cxx;             /* a C++ runtime is known to the thread */
    green__word no_exceptions[2]; /* always zero */
    bool ended;               /* what a thread has past its end */
    bool ends;                /* its thread-specific destructor has run once */
    bool ending;              /* inside green_thread_end() ... */
    green_t mark;             /* ... then a place in the list of STARTED greens, and no green */

    _Atomic(green_t *) bereaved; /* greens with gone != 0; written under the lock */
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

/* The bounds of GREEN__MOVES, by the linker.  Under other names gcc would not hide them. */
extern const char __start_green_moves[] __attribute__((visibility("hidden")));
extern const char __stop_green_moves[] __attribute__((visibility("hidden")));

/* ---- thread.c ----------------------------------------------------------- */

/*
 * The calling thread's state; never NULL.  Before the first use and after the
 * end it is one that owns nothing (id 0, current NULL).
 *
 * Programs that use green_fast.h read it too.  Its symbol is the name of all
 * that they rely on, and changes with it: see src/look/fast.c.
 */
#ifdef GREEN__TLS_FIXED
#define GREEN__TLS_MODEL __attribute__((tls_model("initial-exec")))
#else
#define GREEN__TLS_MODEL
#endif
#define GREEN__STRING(x) #x
#define GREEN__NAME_OF(x) GREEN__STRING(x)
extern _Thread_local struct green__thread *green__self __asm__(GREEN__NAME_OF(GREEN__SELF))
    __attribute__((visibility(GREEN__NAME_OF(GREEN__VISIBILITY)))) GREEN__TLS_MODEL;

/*
 * If forced unwinding has gone on to an ancestor's frames, and something is done
 * there: the greens that it has left are dead, and the ancestor is current.  If a
 * C++ runtime has come, the thread's exceptions are known from now on.
 */
void green__settle_thread(struct green__thread *self);

/* The same, settled: with this begins every call that a signal handler may not make. */
static inline struct green__thread *green__settled(void)
{
    struct green__thread *self = green__self;
    if (UNLIKELY(load(self->unsettled) != 0))
        green__settle_thread(self);
    return self;
}

/* The same, made if this is the first use; NULL with ENOMEM, or EPERM past the end. */
struct green__thread *green__thread_begin(void);
static inline struct green__thread *green__thread_need(void)
{
    struct green__thread *self = green__settled();
    return LIKELY(load(self->id) != 0) ? self : green__thread_begin();
}

/* All there are, in use or not, by next_made; under the lock. */
extern struct green__thread *green__threads __attribute__((visibility("hidden")));

/* debug.c: notes what a debugger recognizes the calling thread by. */
void green__debug_begin(struct green__thread *self);

/* green_thread_end() is over, also if it does not return. */
void green__thread_end_is_left(struct green__thread *self);

/* Sets tag from what is traced and looked at, and from what waits to be released. */
void green__thread_set_tag(struct green__thread *self);

/* The one lock of the process: ended threads' greens, take-overs, keys. */
void green__lock(void);
void green__unlock(void);

static inline bool green__is_mine(const struct green__thread *self, const green_t *g)
{
    return load(g->owner) == load(self->id);
}

/* Whether g's thread has ended; then g is the lock's. */
static inline bool green__is_orphan(const green_t *g)
{
    struct green__thread *thread = load(g->thread);
    return atomic_load_explicit(&thread->id, memory_order_acquire) != load(g->owner);
}

/* Whose stack is running, which inside a trace hook is not the current one's. */
static inline green_t *green__running(const struct green__thread *self)
{
    return self->runs != NULL ? self->runs : load(self->current);
}

/* The check of a call that only looks at g: false with errno. */
static inline bool green__may_look(const struct green__thread *self, const green_t *g)
{
    if (LIKELY(g != NULL && green__is_mine(self, g)))
        return true;
    errno = g == NULL ? EINVAL : EPERM;
    return false;
}

/* The check of a call that concerns no green. */
static inline bool green__may_act(const struct green__thread *self)
{
    if (LIKELY(self->looking == 0 && !self->ended))
        return true;
    errno = self->looking != 0 ? EBUSY : EPERM;
    return false;
}

/* The check of a call that changes or moves g. */
static inline bool green__may_change(const struct green__thread *self, const green_t *g)
{
    if (LIKELY(g != NULL && self->looking == 0 && green__is_mine(self, g)))
        return true;
    errno = g == NULL ? EINVAL : self->looking != 0 ? EBUSY : EPERM;
    return false;
}

/* And of one that a layer refuses for a green that it has any of these rights in. */
static inline bool green__is_free_of(const green_t *g, unsigned rights)
{
    if (LIKELY((g->kept & rights) == 0))
        return true;
    errno = EBUSY;
    return false;
}

/* ---- green.c ------------------------------------------------------------ */

/* Makes the main green of a thread, whose memory may have been another's. */
void green__init_main(green_t *main, struct green__thread *thread);

/* Frees the blocks that wait in a thread. */
void green__drop_blocks(struct green__thread *self);

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

/* The nearest ancestor whose handle is not released. */
green_t *green__real_parent(green_t *g);

/* Who gets what g, no main green, leaves: a stand-in, else the real parent. */
static inline green_t *green__parent(green_t *g)
{
    if (UNLIKELY(g->stand_in != NULL))
        return g->stand_in;
    return LIKELY(!g->parent->released) ? g->parent : green__real_parent(g);
}

/* Makes g DEAD without running it, its stack given back to the thread self or the system. */
void green__bury(struct green__thread *self, green_t *g);

/* green_new_with() of a green that a layer owns: its parent may be the layer's own. */
green_t *green__new_kept(green_fn *run, green_t *parent, const green_options_t *options);

/* Gives up the handle of a DEAD green.  By its thread, or under the lock if that has ended. */
void green__release(green_t *g);

/* Ends the stand-in of a green that frees another and will not come back to it. */
void green__stop_freeing(green_t *g);

/* Lets the thread's greens know of children that other threads have taken over; under the lock. */
void green__settle(struct green__thread *thread);

/* Whether another thread has abandoned g: its handle is gone, its thread has not released it. */
static inline bool green__is_abandoned(const green_t *g)
{
    return load(g->enter) == GREEN__TAG_ABANDONED;
}

/* Releases the thread's greens that others have abandoned; at its end, under the lock. */
void green__release_abandoned(struct green__thread *self, bool at_end);

/*
 * The same, if there are any: before all that makes, frees, or goes where an
 * abandoned green may be found on the way.  Not inside a hook, which may be looking
 * at them.
 */
static inline void green__collect_abandoned(struct green__thread *self)
{
    if (UNLIKELY(load(self->abandoned) != NULL) && self->looking == 0)
        green__release_abandoned(self, false);
}

/* ---- switch.c ----------------------------------------------------------- */

/* green_switch(), but for the fast path. */
void *green__switch_slowly(green_t *g, void *value) GREEN__MOVES;

/*
 * Throws ECANCELED into a SUSPENDED green with the current one standing in for
 * its parent (rule 9).  0 if it died; it is then released, if asked for.
 */
int green__cancel(struct green__thread *self, green_t *g, bool release) GREEN__MOVES;

/* Has the sanitizers forget a SUSPENDED green that will not be entered again. */
void green__forget(struct green__thread *self, green_t *g);

/* The thread ends: it runs on its own stack again, whatever green it was in. */
void green__return_to_main(struct green__thread *self);

/*
 * Begins the current green's stack anew with the function that winds up: all its
 * frames are left.
 */
_Noreturn void green__leave_frames(struct green__thread *self, green_t *me);

/* Ends exceptions that are being handled until those are left that were once; NULL: none. */
void green__end_handlers(struct green__thread *self, const uintptr_t once[2]);

/*
 * Forced unwinding (the thread ends) is about to go on from a green's entry to
 * its ancestor's frames.  Until it is there these must be found as before.
 */
void green__left_by_unwinding(struct green__thread *self);

/* Who is current once that is settled; changes nothing, as a signal handler may ask. */
green_t *green__current_when_settled(const struct green__thread *self);

/* ---- backtrace.c --------------------------------------------------------- */

/* An address of code, or the return address of a call, by its symbol if there is one. */
void green__format_pc(char *text, size_t size, uintptr_t pc, bool is_return);

/* ---- layer.c ------------------------------------------------------------- */

/* green_yield() in a green that the layer owns. */
void *green__layer_yield(struct green__thread *self);

/* g, which has a word of the layer's, runs no more of its body. */
void green__layer_leave(struct green__thread *self, green_t *g, bool returned);

/* g, which the layer keeps, is DEAD, of a value or of an error ... */
void green__layer_dead(struct green__thread *self, green_t *g, void *value, int error);

/* ... or without having ended. */
void green__layer_lost(struct green__thread *self, green_t *g);

/* green_thread_end() begins: false with errno if the layer does not let it. */
bool green__layer_may_end(struct green__thread *self);

/* The thread ends: none of its greens will run any more. */
void green__layer_thread_ends(struct green__thread *self);

/* ---- unwind.c ------------------------------------------------------------ */

/*
 * Leaves the current green's frames, or those of the deferred function or
 * destructor that runs, cleaning up in each if there is an unwinder.
 */
_Noreturn void green__unwind(struct green__thread *self, green_t *me);

/*
 * Runs one of the current green's deferred functions or destructors, in which
 * green__unwind() comes back here; false if there is none.
 */
bool green__clean_up_one(struct green__thread *self, green_t *me);

/* A deferred function, or a destructor, and its argument. */
struct green__due {
    void (*fn)(void *);
    void *arg;
};

/*
 * Runs one that is taken out, on the running stack.  *frame, unless frame is NULL,
 * becomes the stack pointer of the call: all of fn's frames are below it.
 */
void green__run_due(const struct green__due *due, const char **frame);

/* The number of the call of a deferred function or destructor that the green is in, or 0. */
uint64_t green__clean_up_call(const green_t *me);

/* ---- defer.c, local.c, trace.c ------------------------------------------ */

/*
 * Whether the innermost deferred function was given during a call, unless that
 * is 0, and from a frame below a stack pointer.
 */
bool green__defer_is_due(const green_t *g, uint64_t call, const char *sp);

/* Takes the innermost deferred function out; false if there is none. */
bool green__defer_take(green_t *g, struct green__due *due);
void green__defer_drop(green_t *g); /* forgets them all */

/* Takes out a value that a destructor waits for; false if there is none or the rounds are over. */
bool green__local_take(green_t *g, struct green__due *due);
void green__local_drop(green_t *g); /* forgets all values */
void green__local_rewind(green_t *g); /* lets the rounds begin anew, for a main green */

/*
 * overflow.c: gives the calling thread an alternate signal stack if overflows
 * are reported, and takes it back.  -1 with ENOMEM, or if it stands on it.
 */
int green__overflow_begin(struct green__thread *self);
void green__overflow_end(struct green__thread *self);

/* Calls the thread's hook, if it has one. */
void green__trace(struct green__thread *self, green_trace_event_t event, green_t *from,
                  green_t *to);

#endif
