/* SPDX-License-Identifier: MIT */
/*
 * Green-local storage.
 *
 * A key is a slot of one table of the process.  Each making of a key has a
 * serial number of its own, which is kept with every value: a value counts only
 * while its key is still of that making, so deleting a key need not visit the
 * greens.  A slot's serial is odd while it holds a key.
 */
#include <stdlib.h>

#include "core/core.h"

#define KEYS 256
#define ROUNDS 4 /* as PTHREAD_DESTRUCTOR_ITERATIONS */

static struct {
    _Atomic(uint64_t) serial;     /* written under the lock */
    void (*destructor)(void *);   /* under the lock */
} keys[KEYS];

struct value {
    uint64_t serial;
    void *pointer;
};

/* A green's values: as many as the highest key that it has set asks for. */
struct green__locals {
    unsigned count;
    unsigned next;   /* where destructors go on in this round */
    unsigned round;  /* rounds that have begun with this one ... */
    bool any;        /* ... and whether it has found a value */
    struct value values[];
};

int green_key_create(green_key_t *key, void (*destructor)(void *))
{
    if (key == NULL) {
        errno = EINVAL;
        return -1;
    }
    if (!green__may_act(green__settled()))
        return -1;
    green__lock();
    unsigned i = 0;
    while (i < KEYS && load(keys[i].serial) % 2 != 0)
        i++;
    if (i < KEYS) {
        keys[i].destructor = destructor;
        store(keys[i].serial, load(keys[i].serial) + 1);
    }
    green__unlock();
    if (i == KEYS) {
        errno = EAGAIN;
        return -1;
    }
    *key = i;
    green__given(key, sizeof *key);
    return 0;
}

/* The serial of a key; 0 with EINVAL if it is none. */
static uint64_t serial_of(green_key_t key)
{
    uint64_t serial = key < KEYS ? load(keys[key].serial) : 0;
    if (serial % 2 != 0)
        return serial;
    errno = EINVAL;
    return 0;
}

int green_key_delete(green_key_t key)
{
    if (serial_of(key) == 0)
        return -1;
    if (!green__may_act(green__settled()))
        return -1;
    green__lock();
    uint64_t serial = serial_of(key); /* another thread may have been faster */
    if (serial != 0) {
        keys[key].destructor = NULL;
        store(keys[key].serial, serial + 1);
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
        locals->values[i] = (struct value){0};
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
    if (!has_room && !grow(me, key)) {
        errno = ENOMEM;
        return -1;
    }
    me->locals->values[key] = (struct value){.serial = serial, .pointer = (void *)value};
    return 0;
}

/* The destructor that waits for a value, or NULL. */
static void (*destructor_of(green_key_t key, const struct value *value))(void *)
{
    void (*destructor)(void *) = NULL;
    green__lock();
    if (value->serial == load(keys[key].serial))
        destructor = keys[key].destructor;
    green__unlock();
    return destructor;
}

bool green__local_take(green_t *g, struct green__due *due)
{
    struct green__locals *locals = g->locals;
    while (locals != NULL && locals->round < ROUNDS) {
        while (locals->next < locals->count) {
            green_key_t key = locals->next++;
            struct value *value = &locals->values[key];
            void *pointer = value->pointer;
            void (*destructor)(void *) = pointer != NULL ? destructor_of(key, value) : NULL;
            if (destructor != NULL) {
                locals->any = true;
                value->pointer = NULL;
                *due = (struct green__due){destructor, pointer};
                return true;
            }
        }
        locals->round = locals->any ? locals->round + 1 : ROUNDS;
        locals->next = 0;
        locals->any = false;
    }
    return false;
}

void green__local_rewind(green_t *g)
{
    if (g->locals != NULL)
        g->locals->round = g->locals->next = 0;
}

void green__local_drop(green_t *g)
{
    free(g->locals);
    g->locals = NULL;
}
