/* SPDX-License-Identifier: MIT */
#ifndef GREEN_SELF_H
#define GREEN_SELF_H
/*
 * The thread that calls: its state, its tag, and the checks of what it may do.  Also
 * the lock of the process.
 */
#include "core/state.h"
#include "own.h"

/*
 * The calling thread's state; never NULL.  Before the first use and after the
 * end it is one that owns nothing (id 0, current NULL).
 *
 * Programs that use green_fast.h read it too.  Its symbol is the name of all
 * that they rely on, and changes with it: see src/core/layout.c.
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

/* What a thread has before its first use and after its end. */
extern struct green__thread green__unused_thread __attribute__((visibility("hidden")));
extern struct green__thread green__ended_thread __attribute__((visibility("hidden")));

/* All there are, in use or not, by next_made; under the lock. */
extern struct green__thread *green__threads __attribute__((visibility("hidden")));

/* Sets tag from what is traced and looked at, and from what waits to be released. */
void green__thread_set_tag(struct green__thread *self);

/*
 * What the library itself asks of libc, in a call that may block: within it the greens of the
 * thread may only look.  So whoever stands before libc, as src/patch does, passes the call on,
 * and nobody is entered in the middle of what the library does.
 */
static inline void green__own_call(int more)
{
    struct green__thread *self = green__self;
    if (load(self->id) != 0) /* else it is all threads' */
        self->look_only += (unsigned)more;
}

#define GREEN__OWN(call)                     \
    __extension__({                          \
        green__own_call(1);                  \
        __typeof__(call) result_ = (call);   \
        green__own_call(-1);                 \
        result_;                             \
    })

/* The one lock of the process: ended threads' greens, take-overs, keys. */
void green__lock(void);
void green__unlock(void);

static inline bool green__is_mine(const struct green__thread *self, const green_t *g)
{
    return load(g->owner) == load(self->id);
}

/*
 * What the short ways of making, starting and releasing a green ask first: g is the
 * thread's, which may do anything just now (it is in no hook and no green_each()), has
 * nobody to tell of it (no hook, no sanitizer), is settled, and has nothing abandoned to
 * release.  The tag is the thread's number then, and else one that no green has.
 */
static inline bool green__is_plainly_mine(const struct green__thread *self, const green_t *g)
{
    return load(g->owner) == load(self->tag);
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

/* What a call that returns an int says where it does nothing. */
static inline int green__refuse(int error)
{
    errno = error;
    return -1;
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
    if (LIKELY(self->look_only == 0 && !self->end.ended))
        return true;
    errno = self->look_only != 0 ? EBUSY : EPERM;
    return false;
}

/* The check of a call that changes or moves g. */
static inline bool green__may_change(const struct green__thread *self, const green_t *g)
{
    if (LIKELY(g != NULL && self->look_only == 0 && green__is_mine(self, g)))
        return true;
    errno = g == NULL ? EINVAL : self->look_only != 0 ? EBUSY : EPERM;
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

#endif
