/* SPDX-License-Identifier: MIT */
#ifndef GREEN_CLEANUP_H
#define GREEN_CLEANUP_H
/*
 * What a green wants done when it ends: deferred functions (rule 11), the destructors
 * of its key values, and the calls of both, which can be left.
 */
#include <unwind.h>

#include "core/self.h"

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

/*
 * What is kept above the first frame, as frames are being overwritten while they
 * are left.  Nothing is there unless the green has_ending.
 */
struct green__ending {
    uintptr_t cxx_header[10]; /* zero: what C++ runtimes look at before an exception, by mistake */
    struct _Unwind_Exception exception;
    struct green__clean_up *call; /* the innermost, or NULL */
    uint64_t calls;    /* there have been */
};
_Static_assert(sizeof(struct green__ending) <= GREEN__ENDING_SIZE, "");

static inline struct green__ending *green__ending_of(const green_t *g)
{
    return (struct green__ending *)(green__stack_top(&g->stack) - GREEN__ENDING_SIZE);
}

/* That of a green which has none yet, or has one: from now on it has. */
struct green__ending *green__ending_begin(green_t *me);

/* ---- Calls that can be left ------------------------------------------------------ */

/*
 * Runs one of the current green's deferred functions or destructors, in which
 * green_exit() comes back here; false if there is none.
 */
bool green__clean_up_one(struct green__thread *self, green_t *me);

/*
 * Runs the deferred functions that are due when a frame is reached: those given from
 * frames that have been left.  The innermost frame's run first.
 */
void green__clean_up_frame(struct green__thread *self, green_t *me, const char *sp);

/* Whether that frame is no longer of the innermost call, or of one that it has made. */
bool green__clean_up_is_left(const green_t *me, const char *sp);

/* Goes back to where the innermost call was made; returns if there is none. */
void green__clean_up_leave(struct green__thread *self, green_t *me);

/* The number of the call of a deferred function or destructor that the green is in, or 0. */
uint64_t green__clean_up_call(const green_t *me);

/* ---- Deferred functions ---------------------------------------------------------- */

struct green__deferred {
    struct green__deferred *outer;
    void (*fn)(void *);
    void *arg;
    const char *sp; /* of the function that gave it */
    uint64_t call;  /* of a deferred function or destructor in which it was given, or 0 */
};

/* Takes the innermost deferred function out; false if there is none. */
bool green__defer_take(green_t *g, struct green__due *due);
void green__defer_drop(green_t *g); /* forgets them all */

/* ---- Key values ------------------------------------------------------------------ */

/*
 * A key is a slot of one table of the process.  Each making of a key has a
 * serial number of its own, which is kept with every value: a value counts only
 * while its key is still of that making, so deleting a key need not visit the
 * greens.  A slot's serial is odd while it holds a key.
 */
#define GREEN__KEYS 256
extern struct green__key {
    _Atomic(uint64_t) serial;     /* written under the lock */
    void (*destructor)(void *);   /* under the lock */
} green__keys[GREEN__KEYS] __attribute__((visibility("hidden")));

struct green__value {
    uint64_t serial;
    void *pointer;
};

/* A green's values: as many as the highest key that it has set asks for. */
struct green__locals {
    unsigned count;
    unsigned next;   /* where destructors go on in this round */
    unsigned round;  /* rounds that have begun with this one ... */
    bool any;        /* ... and whether it has found a value */
    struct green__value values[];
};

/* Takes out a value that a destructor waits for; false if there is none or the rounds are over. */
bool green__local_take(green_t *g, struct green__due *due);
void green__local_drop(green_t *g); /* forgets all values */
void green__local_rewind(green_t *g); /* lets the rounds begin anew, for a main green */

#endif
