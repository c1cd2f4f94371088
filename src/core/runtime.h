/* SPDX-License-Identifier: MIT */
#ifndef GREEN_RUNTIME_H
#define GREEN_RUNTIME_H
/*
 * runtime.c: the unwinder and the C++ runtime of the program, which are there or
 * not, and may come later.
 */
#include <unwind.h>

#include "core/state.h"

/* Interface: Itanium C++ ABI, Exception Handling, 1.3 to 1.6. */
struct green__unwinder {
    __typeof__(_Unwind_ForcedUnwind) *forced_unwind;
    __typeof__(_Unwind_GetCFA) *get_cfa;
    __typeof__(_Unwind_GetIP) *get_ip;
    __typeof__(_Unwind_Backtrace) *backtrace;
};

/* The program's, or one that is loaded for it; NULL if there is none. */
const struct green__unwinder *green__unwinder(void);

/* Ends exceptions that are being handled until those are left that were once; NULL: none. */
void green__end_handlers(struct green__thread *self, const uintptr_t once[2]);

/* Looks for a C++ runtime, unless one is known. */
void green__runtime_look(void);

/* A thread begins: finds its exceptions. */
void green__runtime_begin(struct green__thread *self);

/* The same for one that has begun before the runtime was known. */
void green__runtime_settle(struct green__thread *self);

#endif
