/* SPDX-License-Identifier: MIT */
/* What may watch a thread's greens: the trace hook (rule 13), and a walk over them. */
#include "core/family.h"
#include "core/thread.h"

green_trace_fn *green_set_trace(green_trace_fn *fn, void *data)
{
    struct green__thread *self = green__thread_need();
    if (self == NULL)
        return NULL;
    green_trace_fn *previous = self->trace;
    self->trace = fn;
    self->trace_data = data;
    green__thread_set_tag(self);
    return previous;
}

green_trace_fn *green_get_trace(void **data)
{
    struct green__thread *self = green__thread_need();
    if (data != NULL) {
        *data = self != NULL ? self->trace_data : NULL;
        green__given(data, sizeof *data);
    }
    return self != NULL ? self->trace : NULL;
}

static int show(green_t *g, int (*fn)(green_t *g, void *arg), void *arg)
{
    green__passes();
    return fn(g, arg);
}

int green_each(int (*fn)(green_t *g, void *arg), void *arg)
{
    if (fn == NULL)
        return green__refuse(EINVAL);
    struct green__thread *self = green__thread_need();
    if (self == NULL)
        return -1;
    self->look_only++;
    green__thread_set_tag(self);
    int result = show(&self->main, fn, arg);
    for (green_t *g = self->main.next; result == 0 && g != &self->main; g = g->next)
        if (g != &self->end.mark && !green__is_abandoned(g))
            result = show(g, fn, arg);
    self->look_only--;
    green__thread_set_tag(self);
    return result;
}
