/* SPDX-License-Identifier: MIT */
/* Green-local storage: the calls for keys and their values. */
#include <stdlib.h>

#include "core/cleanup.h"
#include "core/thread.h"

int green_key_create(green_key_t *key, void (*destructor)(void *))
{
    if (key == NULL)
        return green__refuse(EINVAL);
    if (!green__may_act(green__caller()))
        return -1;
    green__lock();
    unsigned i = 0;
    while (i < GREEN__KEYS && load(green__keys[i].serial) % 2 != 0)
        i++;
    if (i < GREEN__KEYS) {
        green__keys[i].destructor = destructor;
        store(green__keys[i].serial, load(green__keys[i].serial) + 1);
    }
    green__unlock();
    if (i == GREEN__KEYS)
        return green__refuse(EAGAIN);
    *key = i;
    green__given(key, sizeof *key);
    return 0;
}

/* The serial of a key; 0 with EINVAL if it is none. */
static uint64_t serial_of(green_key_t key)
{
    uint64_t serial = key < GREEN__KEYS ? load(green__keys[key].serial) : 0;
    if (serial % 2 != 0)
        return serial;
    errno = EINVAL;
    return 0;
}

int green_key_delete(green_key_t key)
{
    if (serial_of(key) == 0)
        return -1;
    if (!green__may_act(green__caller()))
        return -1;
    green__lock();
    uint64_t serial = serial_of(key); /* another thread may have been faster */
    if (serial != 0) {
        green__keys[key].destructor = NULL;
        store(green__keys[key].serial, serial + 1);
    }
    green__unlock();
    return serial != 0 ? 0 : -1;
}

void *green_getspecific(green_key_t key)
{
    uint64_t serial = serial_of(key);
    if (serial == 0)
        return NULL;
    green_t *me = green_current();
    if (me == NULL)
        return NULL;
    const struct green__locals *locals = me->locals;
    if (locals == NULL || key >= locals->count || locals->values[key].serial != serial)
        return NULL;
    return locals->values[key].pointer;
}

/* Makes room for key; false if there is no memory. */
static bool grow(green_t *g, green_key_t key)
{
    unsigned old = g->locals != NULL ? g->locals->count : 0;
    unsigned count = old != 0 ? old : 4;
    while (count <= key)
        count *= 2;
    struct green__locals *locals =
        realloc(g->locals, sizeof *locals + count * sizeof locals->values[0]);
    if (locals == NULL)
        return false;
    if (g->locals == NULL)
        *locals = (struct green__locals){0};
    for (unsigned i = old; i < count; i++)
        locals->values[i] = (struct green__value){0};
    locals->count = count;
    g->locals = locals;
    return true;
}

int green_setspecific(green_key_t key, const void *value)
{
    uint64_t serial = serial_of(key);
    if (serial == 0)
        return -1;
    struct green__thread *self = green__thread_need();
    if (self == NULL || !green__may_change(self, load(self->current)))
        return -1;
    green_t *me = load(self->current);
    bool has_room = me->locals != NULL && key < me->locals->count;
    if (!has_room && value == NULL)
        return 0; /* that is what it has */
    if (!has_room && !grow(me, key))
        return green__refuse(ENOMEM);
    me->locals->values[key] = (struct green__value){.serial = serial, .pointer = (void *)value};
    return 0;
}
