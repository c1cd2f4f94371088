/* SPDX-License-Identifier: MIT */
/*
 * Where greens are: green_backtrace(), green_dump().
 *
 * A suspended stack is walked by the unwinder at hand, which can only begin
 * where it is called: so it is called as if the suspended frame had done it.
 * That unwinder is the program's own or, with glibc, the one that backtrace()
 * loads.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <unwind.h>

#include "arch/arch.h"
#include "core/family.h"
#include "core/line.h"
#include "core/runtime.h"
#include "core/unwind.h"

/* May be missing. */
__attribute__((weak, visibility("default"))) int backtrace(void **pcs, int n);

/* ---- The walk --------------------------------------------------------------- */

struct walk {
    const void *first; /* the address in the first frame that is wanted */
    void **pcs;
    int n, used;       /* room, and what there is */
    bool begun;
    int error;
};

/* One frame; false if there is to be no other. */
static GREEN__NO_MSAN bool step(struct walk *walk, void *pc)
{
    walk->begun = walk->begun || pc == walk->first;
    if (!walk->begun)
        return true;
    if (walk->used == walk->n || pc == NULL) /* behind the thread's first, some have one more */
        return false;
    walk->pcs[walk->used++] = pc;
    return pc != (const void *)green__arch_entry_called &&
           (uintptr_t)pc != (uintptr_t)green__arch_entry;
}

static GREEN__NO_MSAN _Unwind_Reason_Code visit(struct _Unwind_Context *context, void *walk)
{
    return step(walk, (void *)green__unwinder()->get_ip(context)) ? _URC_NO_REASON : _URC_END_OF_STACK;
}

/* By backtrace(), which gives all frames or as many as there is room for. */
static void walk_by_backtrace(struct walk *walk)
{
    for (int room = 64;; room *= 2) {
        void **pcs = malloc((size_t)room * sizeof *pcs);
        if (pcs == NULL) {
            walk->error = ENOMEM;
            return;
        }
        int count = backtrace(pcs, room);
        bool more = true;
        walk->used = 0;
        walk->begun = false;
        for (int i = 0; i < count && more; i++)
            more = step(walk, pcs[i]);
        free(pcs);
        if (!more || count < room)
            return;
    }
}

static __attribute__((noinline)) void walk_from_here(void *arg)
{
    struct walk *walk = arg;
    const struct green__unwinder *unwinder = green__unwinder();
    if (unwinder != NULL && unwinder->backtrace != NULL)
        (void)unwinder->backtrace(visit, walk);
    else if (backtrace != NULL)
        walk_by_backtrace(walk);
    else
        walk->error = ENOSYS;
}

/* The frames of g, a started green; here: the address to begin at if it is running. */
static int walk_green(const green_t *g, const void *here, void **pcs, int n)
{
    struct walk walk = {.first = here, .pcs = pcs, .n = n};
    if (g == green__running(green__self)) {
        walk_from_here(&walk);
    } else {
        walk.first = *(void **)g->sp;
        green__arch_call_as(g->sp, walk_from_here, &walk);
    }
    if (walk.error == 0) {
        green__given(pcs, sizeof *pcs * (size_t)walk.used);
        return walk.used;
    }
    return green__refuse(walk.error);
}

__attribute__((noinline)) int green_backtrace(const green_t *g, void **pcs, int n)
{
    if (n < 0 || (pcs == NULL && n > 0))
        return green__refuse(EINVAL);
    if (!green__may_look(green__caller(), g))
        return -1;
    if (load(g->life) != GREEN__STARTED)
        return green__refuse(EINVAL);
    return n > 0 ? walk_green(g, __builtin_return_address(0), pcs, n) : 0;
}

/* ---- The list ----------------------------------------------------------------- */

static bool is_move(uintptr_t pc)
{
    return pc == (uintptr_t)green__arch_resumed ||
           pc - (uintptr_t)__start_green_moves <=
               (uintptr_t)__stop_green_moves - (uintptr_t)__start_green_moves;
}

static void format_where(char *text, size_t size, const green_t *g, const void *here)
{
    void *pcs[32];
    int n = walk_green(g, here, pcs, 32), at = 0;
    while (at < n - 1 && is_move((uintptr_t)pcs[at]))
        at++;
    if (at < n)
        green__format_pc(text, size, (uintptr_t)pcs[at], at > 0 || pcs[0] == here);
    else
        snprintf(text, size, "?");
}

/* `ADDRESS "NAME"`, or the address alone. */
static void put_green(struct green__line *line, const green_t *g)
{
    const char *name = g->is_main ? "main" : g->name;
    green__line_address(line, (uintptr_t)g);
    if (name != NULL) {
        green__line_char(line, ' ');
        green__line_name(line, name);
    }
}

struct dump {
    int fd;
    const void *here;
};

/*
 * Not by dprintf(), which leaks its buffer where it cannot write; nor by what is in
 * quiet.h, which may wait here: ThreadSanitizer handles signals in calls it knows.
 */
static bool write_all(int fd, const char *text, size_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, text, size);
        if (n < 0 && errno != EINTR)
            return false;
        if (n > 0) {
            text += n;
            size -= (size_t)n;
        }
    }
    return true;
}

static int dump_one(green_t *g, void *arg)
{
    static const char *const states[] = {
        [GREEN_NEW] = "new",
        [GREEN_RUNNING] = "running",
        [GREEN_SUSPENDED] = "suspended",
        [GREEN_DEAD] = "dead",
    };
    const struct dump *dump = arg;
    char where[256];
    struct green__line line;
    line.used = 0;
    green__line_text(&line, "green ");
    put_green(&line, g);
    green__line_text(&line, ": ");
    green__line_text(&line, states[green_state(g)]);
    green__line_text(&line, ", parent ");
    if (g->is_main)
        green__line_text(&line, "none, stack unknown");
    else {
        put_green(&line, green__parent(g));
        size_t used = green_stack_used(g), size = g->stack.size;
        green__line_text(&line, ", stack ");
        if (used < size)
            green__line_number(&line, used);
        else /* it stands on another one */
            green__line_text(&line, "unknown");
        green__line_text(&line, " of ");
        green__line_number(&line, size);
    }
    format_where(where, sizeof where, g, dump->here);
    green__line_text(&line, ", at ");
    green__line_text(&line, where);
    green__line_char(&line, '\n');
    return !write_all(dump->fd, line.text, line.used);
}

__attribute__((noinline)) int green_dump(int fd)
{
    struct dump dump = {fd, __builtin_return_address(0)};
    int cancelable;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancelable);
    int result = green_each(dump_one, &dump);
    pthread_setcancelstate(cancelable, NULL);
    return result == 0 ? 0 : -1;
}
