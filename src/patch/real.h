/* SPDX-License-Identifier: MIT */
#ifndef GREEN_PATCH_REAL_H
#define GREEN_PATCH_REAL_H
/*
 * The function that would have been called: the next of the name.  It is looked up at
 * the first call, which may come before any constructor.
 */

typedef void green__real_fn(void); /* of whatever type */

/* The next function of that name, kept in *slot; one that fails with ENOSYS if there is none. */
green__real_fn *green__real_find(green__real_fn **slot, const char *name);

static inline green__real_fn *green__real(green__real_fn **slot, const char *name)
{
    green__real_fn *real = __atomic_load_n(slot, __ATOMIC_RELAXED);
    return __builtin_expect(real != 0, 1) ? real : green__real_find(slot, name);
}

#endif
