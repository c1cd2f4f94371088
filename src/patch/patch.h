/* SPDX-License-Identifier: MIT */
#ifndef GREEN_PATCH_PATCH_H
#define GREEN_PATCH_PATCH_H
/*
 * What the files of src/patch share.  They use the public headers alone.
 *
 * A file has hooks of one kind, and a list of them:
 *
 *     HOOK(int, poll, struct pollfd *fds, nfds_t n, int timeout)
 *     {
 *         PASS_ON(GREEN_PATCH_WAIT, poll, fds, n, timeout);
 *         if (timeout == 0 || !green__patch_enter(GREEN_PATCH_WAIT))
 *             return NEXT(poll)(fds, n, timeout);
 *         int result = ...;         // by green_poll()
 *         green__patch_leave();     // keeps errno
 *         return result;
 *     }
 *     HOOKS(wait) = {HOOKED(poll), HOOKS_END};
 *
 * Between enter and leave every hook passes what the same green calls on, so libgreen's own
 * calls do not come back here.  The build reads the names off the lines that begin
 * with HOOK( or HOOK_TOO(.
 *
 * A wait that fails with EDEADLK is one that nothing could end as a task: it is the
 * real call's then, since no task can run.
 */
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>

#include "visible.h"

#include <green_hub.h>
GREEN__PUSH_VISIBILITY(GREEN__VISIBILITY)
#include <green_patch.h>
#pragma GCC visibility pop

#include "patch/real.h"

#define GREEN__PATCH_ALL 0x1fu

/* ---- Hooks ------------------------------------------------------------------------ */

/*
 * Defines what is called by this name.  The function has a name of its own, so that no
 * header's declaration meets it, and that its address is this one's, whoever comes first.
 */
#define HOOK(result, name, ...)                                                             \
    static green__real_fn *green__next_##name;                                                        \
    __attribute__((visibility("hidden"))) result green__hook_##name(__VA_ARGS__);           \
    result green__export_##name(__VA_ARGS__) __asm__(#name)                                 \
        __attribute__((visibility("default"), alias("green__hook_" #name)));                \
    result green__hook_##name(__VA_ARGS__)

/* It is called by another name, too, that the C library has for the same function. */
#define HOOK_TOO(name, other)                                                               \
    __typeof__(green__hook_##name) green__export_##other __asm__(#other)                    \
        __attribute__((visibility("default"), alias("green__hook_" #name)))

/* The first line of a hook: what is no task's that has asked for it is passed on at once. */
#define PASS_ON(what, name, ...)                                                            \
    do {                                                                                    \
        if (!green__patch_may_enter(what))                                                  \
            return NEXT(name)(__VA_ARGS__);                                                 \
    } while (0)

/* The function that would have been called. */
#define NEXT(name)                                                                          \
    ((__typeof__(&green__hook_##name))green__real(&green__next_##name, #name))

struct green__patch_hook {
    const char *name; /* NULL: the end of the list */
    green__real_fn *hook;
};
#define HOOKED(name) {#name, (green__real_fn *)green__hook_##name}
#define HOOKED_TOO(name, other) {#other, (green__real_fn *)green__hook_##name}
#define HOOKS_END {NULL, NULL}
#define HOOKS(kind)                                                                         \
    __attribute__((visibility("hidden"))) const struct green__patch_hook green__patch_hooks_##kind[]

extern HOOKS(wait);
extern HOOKS(io);
extern HOOKS(names);
extern HOOKS(locks);
extern HOOKS(conds);
extern HOOKS(threads);
extern HOOKS(processes);

/* ---- Whether a call is a task's ------------------------------------------------------ */

/* What is patched in this thread; at first all bits: not known yet. */
extern _Thread_local unsigned green__patch_state
    __attribute__((visibility("hidden"), tls_model("initial-exec")));

/* Whether the call is a task's that has asked for that.  Keeps errno, and touches nothing. */
__attribute__((visibility("hidden"))) bool green__patch_is_tasks(unsigned what);
static inline bool green__patch_may_enter(unsigned what)
{
    return __builtin_expect((green__patch_state & what) != 0, 0) && green__patch_is_tasks(what);
}

/*
 * And whether that shall wait as such now; then green__patch_leave() ends it.  Keeps
 * errno.
 */
__attribute__((visibility("hidden"))) bool green__patch_enter_slowly(unsigned what);
static inline bool green__patch_enter(unsigned what)
{
    return __builtin_expect((green__patch_state & what) != 0, 0) &&
           green__patch_enter_slowly(what);
}
__attribute__((visibility("hidden"))) void green__patch_leave(void);

/* Odd while a thread changes the mode of a descriptor; and not 0 while one starts a shell. */
extern unsigned green__modes __attribute__((visibility("hidden")));
extern int green__shells_lock __attribute__((visibility("hidden")));

#endif
