/* SPDX-License-Identifier: MIT */
/*
 * Where in the structs things stand, for those outside who know: debuggers, and
 * green_fast.h.
 */
#include <pthread.h>

#include "arch/arch.h"
#include "core/layout.h"
#include "core/self.h"

#include <green_fast.h>

/* ---- Debuggers ---------------------------------------------------------------- */

/*
 * What a debugger finds greens by, live and on a core: the list of threads, and
 * where in them and in greens things stand, so that it needs no debug information.
 * src/gdb/green-gdb.py reads it.
 *
 * The symbol's number counts the layouts of the table, not of what it tells of: it
 * changes when a field below changes its place or meaning, and then that script does,
 * too.
 */
#if defined(__has_attribute)
#if __has_attribute(retain)
#define RETAIN __attribute__((retain)) /* also where sections are collected */
#endif
#endif
#ifndef RETAIN
#define RETAIN
#endif

/* Offsets, sizes and counts, in the order of FIELDS there. */
struct green__debug {
    struct green__thread *const *threads;
    const char *resumed, *moves_begin, *moves_end; /* where greens wait, see state.h */
    uint16_t thread_size, thread_next, thread_id, thread_handle, thread_current, thread_runs,
        thread_main, thread_mark;
    uint16_t green_size, green_sp, green_parent, green_stand_in, green_is_main, green_released,
        green_next, green_stack_low, green_stack_size, green_name, name_max;
};

#define THREAD(field) .thread_##field = offsetof(struct green__thread, field)
#define GREEN(field) .green_##field = offsetof(struct green, field)

extern const struct green__debug green__debug __asm__("green_private_debug_1")
    __attribute__((visibility("default")));

__attribute__((used)) RETAIN const struct green__debug green__debug = {
    .threads = &green__threads,
    .resumed = green__arch_resumed,
    .moves_begin = __start_green_moves,
    .moves_end = __stop_green_moves,
    .thread_size = sizeof(struct green__thread),
    .thread_next = offsetof(struct green__thread, next_made),
    THREAD(id),
    THREAD(handle),
    THREAD(current),
    THREAD(runs),
    THREAD(main),
    .thread_mark = offsetof(struct green__thread, end.mark),
    .green_size = sizeof(struct green),
    GREEN(sp),
    GREEN(parent),
    GREEN(stand_in),
    GREEN(is_main),
    GREEN(released),
    GREEN(next),
    .green_stack_low = offsetof(struct green, stack.low),
    .green_stack_size = offsetof(struct green, stack.size),
    GREEN(name),
    .name_max = GREEN__NAME_MAX,
};

void green__layout_begin(struct green__thread *self)
{
    self->handle = (uintptr_t)pthread_self();
}

/* In programs that the library is part of: where the script is. */
#ifdef GREEN_GDB_SCRIPT
__asm__(".pushsection \".debug_gdb_scripts\", \"MS\", %progbits, 1\n\t"
        ".byte 1\n\t" /* a file, in Python */
        ".asciz \"" GREEN_GDB_SCRIPT "\"\n\t"
        ".popsection");
#endif

/* ---- green_fast.h ------------------------------------------------------------- */

/*
 * Programs carry a copy of green_fast.h.  So when an assertion fails here, or
 * when one of these fields, the top words of a suspended stack, or what a
 * resumed one is promised changes its meaning, then change green_fast.h and
 * count the symbol up, there and in arch.h: old programs then fail to link or
 * load, instead of running into the new library.  It counts from the first
 * release on, before which there are no old programs.
 */

/* Some of the fields are pointers: NOLINTBEGIN(bugprone-sizeof-expression) */
#define SAME(ours, theirs, field)                                   \
    _Static_assert(offsetof(ours, field) == offsetof(theirs, field) \
                       && sizeof(((ours *)0)->field) == sizeof(((theirs *)0)->field), #field)

SAME(struct green, struct green_private, sp);
SAME(struct green, struct green_private, enter);
SAME(struct green, struct green_private, parent);
SAME(struct green, struct green_private, stand_in);
SAME(struct green__thread, struct green_private_thread, current);
SAME(struct green__thread, struct green_private_thread, tag);
/* NOLINTEND(bugprone-sizeof-expression) */
