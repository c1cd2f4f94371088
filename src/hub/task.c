/* SPDX-License-Identifier: MIT */
/*
 * Lives of tasks: spawned, joined, cancelled, ended, released (rules 2, 9, 12 to 14).
 *
 * A task is in its hub's list of the living until its green has died, and then, if its
 * handle is owed, in that of the owed until it is released.  The result is copied
 * to those who join when the task ends: they do not look at it again.
 */
#include <stdlib.h>
#include <string.h>

#include "hub.h"

#define PLACE __builtin_return_address(0)

/* ---- Lists ------------------------------------------------------------------------ */

static void task_link(struct green_task *list, struct green_task *task)
{
    task->next = list;
    task->prev = list->prev;
    list->prev->next = task;
    list->prev = task;
}

static void task_unlink(struct green_task *task)
{
    task->prev->next = task->next;
    task->next->prev = task->prev;
}

/* ---- The beginning ---------------------------------------------------------------- */

bool green__task_may_be(green_fn *run, const green_options_t *options, unsigned flags)
{
    bool may = run != NULL;
    if (options != NULL) {
        may = may && (options->flags & ~flags) == 0 &&
              (options->stack == NULL || (options->flags & GREEN_DETACHED) == 0);
        for (size_t i = 0; i < sizeof options->reserved / sizeof options->reserved[0]; i++)
            may = may && options->reserved[i] == NULL;
    }
    if (!may)
        errno = EINVAL;
    return may;
}

/* Its green, of the hub's size if it asks for none. */
static __attribute__((noinline)) green_t *
make_green_with(struct green__hub *hub, green_fn *run, const green_options_t *options)
{
    green_options_t own = {0};
    if (options != NULL)
        own = *options;
    own.flags &= GREEN_NO_GUARD;
    if (own.stack_size == 0 && own.stack == NULL)
        own.stack_size = hub->stack_size;
    return green__layer_new(run, hub->green, &own, false);
}

/* What is there is anything; what every bare wait writes, and what none has, stays so. */
static inline void init_own(struct green__own *own, struct green_task *task, green_t *green)
{
    struct green__wait *wait = &own->wait;
    wait->turn.green = green;
    wait->turn.next = NULL;
    wait->turn.kind = GREEN__TURN_FULL;
    wait->turn.yields = false;
    wait->task = task;
    wait->entries = &own->entry;
    wait->count = 1;
    wait->descriptors = 0;
    wait->state = GREEN__NO_WAIT;
    wait->shielded = wait->counted = wait->ends_well = false;
    wait->role = GREEN__PLAIN;
    wait->timer = 0;
    own->entry.wait = wait;
}

void green__task_init(struct green_task *task, struct green__own *own, struct green__hub *hub,
                      green_t *green)
{
    *task = (struct green_task){.hub = hub, .green = green};
    init_own(own, task, green);
}

/* The same of one that waited to be used again: what it has had since is as it was then. */
static inline void init_again(struct green_task *task, struct green__own *own, green_t *green)
{
    task->green = green;
    memset(&task->error, 0, sizeof *task - offsetof(struct green_task, error));
    init_own(own, task, green);
}

static inline green_t *make_green(struct green__hub *hub, green_fn *run,
                                  const green_options_t *options)
{
    return options == NULL && hub->stack_size == 0
               ? green__layer_new(run, hub->green, NULL, false)
               : make_green_with(hub, run, options);
}

/*
 * A few freed blocks wait in the hub for the next task: they cost less than malloc() there.
 * Not where a tool looks for what is used after its end.
 */
static inline void put_spare(struct green__hub *hub, struct green_task *task)
{
    hub->spare_room--;
    task->group_next = hub->spare_tasks;
    hub->spare_tasks = task;
}

void green__task_drop_spares(struct green__hub *hub)
{
    for (struct green_task *task; (task = hub->spare_tasks) != NULL;) {
        hub->spare_tasks = task->group_next;
        free(task);
    }
    hub->spare_room = 0;
}

static inline __attribute__((always_inline)) struct green_task *
make_task(struct green__hub *hub, green_fn *run, void *arg, const green_options_t *options)
{
    unsigned flags = options != NULL ? options->flags : 0;
    if (hub->green == NULL) {
        errno = ECANCELED;
        return NULL;
    }
    struct green_task *task = hub->spare_tasks, *spare = task;
    if (task == NULL && (task = malloc(sizeof *task)) == NULL) {
        errno = ENOMEM;
        return NULL;
    }
    green_t *green = make_green(hub, run, options);
    if (UNLIKELY(green == NULL)) {
        if (spare == NULL)
            free(task);
        return NULL;
    }
    struct green__own *own = green__layer_room(green);
    if (LIKELY(spare != NULL)) {
        hub->spare_tasks = task->group_next;
        hub->spare_room++;
        init_again(task, own, green);
    } else {
        green__task_init(task, own, hub, green);
    }
    own->wait.turn.value = arg;
    task->number = ++hub->last_number;
    if (options != NULL) {
        task->detached = (flags & GREEN_DETACHED) != 0;
        task->daemon = (flags & GREEN_DAEMON) != 0;
    }
    green__layer_set_word(green, own);
    if (UNLIKELY(hub->ending)) {
        task->cancelled = true;
        green__layer_mark_plain(green, false);
    }
    task_link(&hub->living, task);
    hub->tasks++;
    if (options != NULL)
        hub->daemons += task->daemon;
    green__loop_push(hub, &own->wait.turn);
    return task;
}

struct green_task *green__task_make(struct green__hub *hub, green_fn *run, void *arg,
                                    const green_options_t *options)
{
    return make_task(hub, run, arg, options);
}

green_task_t *green_task_spawn_with(green_fn *run, void *arg, const green_options_t *options)
{
    if (!green__task_may_be(run, options, GREEN_DAEMON | GREEN_DETACHED | GREEN_NO_GUARD))
        return NULL;
    struct green__hub *hub = green__hub_need();
    return hub != NULL ? green__task_make(hub, run, arg, options) : NULL;
}

green_task_t *green_task_spawn(green_fn *run, void *arg)
{
    struct green__call call;
    if (LIKELY(run != NULL) && LIKELY(green__call_is_plain(&call)))
        return make_task(call.hub, run, arg, NULL);
    return green_task_spawn_with(run, arg, NULL);
}

/* ---- Looking ------------------------------------------------------------------------ */

green_task_t *green_task_current(void)
{
    struct green__hub *hub = green__hub_self;
    if (green__hub_forbidden)
        errno = EPERM;
    return hub != NULL ? green__task_of(hub, green__layer_current()) : NULL;
}

green_t *green_task_green(const green_task_t *task)
{
    if (task == NULL) {
        errno = EINVAL;
        return NULL;
    }
    if (green__hub_forbidden) {
        errno = EPERM;
        return NULL;
    }
    return task->ended && !task->telling ? NULL : task->green;
}

/* The hub of a living or owed task, if it is the thread's; NULL with errno, or if it is no more. */
static struct green__hub *green__task_hub(const struct green_task *task)
{
    if (task == NULL) {
        errno = EINVAL;
        return NULL;
    }
    if (!green__layer_may_act() || task->hub == NULL)
        return NULL;
    if (task->hub == green__hub_self && !green__hub_forbidden)
        return task->hub;
    errno = EPERM;
    return NULL;
}

/* ---- Cancel -------------------------------------------------------------------------- */

void green__task_cancel(struct green__hub *hub, struct green_task *task)
{
    if (task->ended || task->cancelled)
        return;
    task->cancelled = true;
    green__task_mark_plain(task);
    green__wait_cancel(hub, task);
}

int green_task_cancel(green_task_t *task)
{
    struct green__hub *hub = green__task_hub(task);
    if (hub == NULL)
        return task != NULL && task->hub == NULL && green__layer_may_act() ? 0 : -1;
    green__task_cancel(hub, task);
    return 0;
}

int green_task_check(void)
{
    struct green__hub *hub = green__hub_need();
    if (hub == NULL)
        return -1;
    green_t *me = green__layer_current();
    int error = green__scope_verdict(hub, me, green__task_of(hub, me), UINT64_MAX, true);
    return error == 0 ? 0 : green__call_fail(error);
}

/* ---- The end -------------------------------------------------------------------------- */

/* Whoever joins it gets its result. */
static void serve_joiner(struct green__hub *hub, struct green__entry *entry,
                         struct green_task *task)
{
    struct green__wait *wait = entry->wait;
    bool bare = wait->turn.kind != GREEN__TURN_FULL;
    task->joined = task->joined || bare || wait->role == GREEN__JOINS;
    if (!bare) {
        wait->value = task->result;
        wait->value_error = task->error;
    } else if (entry->item != NULL) {
        *(void **)entry->item = task->result;
        if (task->result == GREEN_FAILED)
            wait->turn.error = task->error;
    }
    green__wait_serve(hub, entry, 0);
}

/* The waits of greens below it that still wait: these are main's now, as the greens are. */
static void hand_waits_to_main(struct green__hub *hub, struct green_task *task)
{
    for (struct green__wait *wait; (wait = task->waits) != NULL;) {
        task->waits = wait->next;
        wait->task = &hub->main;
        if (wait->role == GREEN__LOCKS && wait->state == GREEN__SERVED)
            ((green_mutex_t *)wait->object)->green_private_owner = hub->main.number;
        wait->prev = NULL;
        wait->next = hub->main.waits;
        if (wait->next != NULL)
            wait->next->prev = wait;
        hub->main.waits = wait;
    }
}

bool green__task_all_wait(struct green__hub *hub)
{
    size_t left = hub->tasks - hub->daemons + 1; /* main */
    struct green__entry *entry = green__line_first(&hub->hub_wait);
    for (; entry != NULL; entry = entry->next) {
        struct green_task *task = entry->wait->task;
        if (!task->counted && !task->daemon)
            left--;
        task->counted = true;
    }
    for (entry = green__line_first(&hub->hub_wait); entry != NULL; entry = entry->next)
        entry->wait->task->counted = false;
    return left == 0;
}

void green__task_tell_hub_wait(struct green__hub *hub, bool known)
{
    if (hub->hub_wait.first != NULL && (known || green__task_all_wait(hub)))
        green__wait_serve_all(hub, &hub->hub_wait, 0);
    if (hub->tasks == 0)
        green__wait_serve_all(hub, &hub->all_ended, 0);
}

static inline void set_ended(struct green__hub *hub, struct green_task *task, void *value,
                             int error)
{
    task->ended = true;
    task->result = value;
    task->error = error;
    task_unlink(task);
    task_link(&hub->owed, task);
    hub->tasks--;
}

/* What the hub itself is to release, once nobody stands on the stack any more. */
static void give_to_hub(struct green__hub *hub, struct green_task *task)
{
    task->group_next = hub->corpses;
    hub->corpses = task;
}

static void end_task(struct green__hub *hub, struct green_task *task, void *value, int error,
                     bool alone)
{
    set_ended(hub, task, value, error);
    hub->daemons -= task->daemon;
    task->scopes = NULL; /* a clean-up's, or in a child: the next task of this block has none */
    while (task->joiners.first != NULL)
        serve_joiner(hub, task->joiners.first, task);
    if (task->group != NULL)
        hub->ended_in_group(task, alone);
    else if (task->freer != NULL)
        serve_joiner(hub, task->freer, task);
    if (task->group != NULL || task->detached)
        give_to_hub(hub, task);
}

void green__task_ended(struct green__hub *hub, green_t *g, void *value, int error)
{
    struct green_task *task = green__task_of_word(green__layer_word(g));
    hand_waits_to_main(hub, task);
    end_task(hub, task, value, error, false);
    green__task_tell_hub_wait(hub, false);
}

green_t *green__task_done(struct green__layer *layer, green_t *g, void **value)
{
    struct green__hub *hub = (struct green__hub *)layer;
    struct green_task *task = ((struct green__own *)green__layer_word(g))->wait.task;
    struct green__entry *joiner = task->joiners.first;
    uintptr_t held = (uintptr_t)task->group | (uintptr_t)task->waits | (uintptr_t)task->freer |
                     (uintptr_t)hub->corpses | (uintptr_t)hub->hub_wait.first |
                     (uintptr_t)hub->all_ended.first;
    if (UNLIKELY(held != 0 || hub->left == 0 || (task->detached | task->daemon) != 0))
        return NULL;
    if (joiner == NULL ? hub->ready == 0
                       : joiner->next != NULL || !green__wait_can_serve_barely(hub, joiner))
        return NULL;
    set_ended(hub, task, *value, 0);
    if (joiner != NULL) {
        task->joined = true;
        if (joiner->item != NULL)
            *(void **)joiner->item = *value;
        green__wait_serve_barely(hub, &task->joiners, joiner);
    }
    return green__wait_next_plainly(hub, value);
}

bool green__task_has_failed(const struct green_task *task)
{
    return task->result == GREEN_FAILED && task->error != ECANCELED;
}

void green__task_release(struct green__hub *hub, struct green_task *task)
{
    if (hub != NULL) {
        if (hub->failed != NULL && task->group == NULL && !task->joined &&
            green__task_has_failed(task)) {
            int error = errno;
            task->telling = true;
            green__layer_look_only(1);
            hub->failed(task, task->error, hub->data);
            green__layer_look_only(-1);
            errno = error;
        }
        task_unlink(task);
        if (!green__layer_release_bare(task->green))
            green__layer_release(task->green);
        if (hub->spare_room != 0) {
            task->group = NULL;
            task->freer = NULL;
            put_spare(hub, task);
            return;
        }
    }
    free(task);
}

void green__hub_bury(struct green__hub *hub)
{
    for (struct green_task *task; (task = hub->corpses) != NULL;) {
        hub->corpses = task->group_next;
        green__task_release(hub, task);
    }
}

void green__task_keep(struct green_task *task)
{
    task->freer = NULL;
    task->freeing = false;
}

void green__task_end_all(struct green__hub *hub, struct green_task *but, bool alone)
{
    struct green_task *task = hub->living.next;
    while (task != &hub->living) {
        struct green_task *next = task->next;
        if (task != but) {
            if (alone) {
                task->waits = NULL;
                task->joiners.first = task->joiners.last = NULL;
                if (task->group == NULL)
                    green__task_keep(task);
            }
            end_task(hub, task, GREEN_FAILED, ECANCELED, alone);
            green__layer_end_unrun(task->green);
        }
        task = next;
    }
    if (!alone)
        green__task_tell_hub_wait(hub, false);
}

/* ---- Join, detach, free ------------------------------------------------------------------ */

static int give_result(void **value, void *result, int error)
{
    if (value != NULL) {
        *value = result;
        if (result == GREEN_FAILED)
            errno = error;
    }
    return 0;
}

static const char join_name[] = "green_task_join";

static __attribute__((noinline)) int join_slowly(green_task_t *task, void **value,
                                                 int64_t timeout, const void *place)
{
    struct green__call call;
    if (green__task_hub(task) == NULL) {
        if (task == NULL || task->hub != NULL || !green__layer_may_act())
            return -1;
        return give_result(value, task->result, task->error);
    }
    if (!green__call_begin(&call, timeout))
        return -1;
    if (task == call.task)
        return green__call_tried(&call, timeout, EDEADLK);
    if (task->ended) {
        task->joined = true;
        void *result = task->result;
        int error = task->error;
        green__call_done(&call, timeout);
        return give_result(value, result, error);
    }
    if (timeout <= 0)
        return green__call_fail(ETIMEDOUT);
    if (LIKELY(call.self != NULL)) /* it is bare, and then who serves it gives the result */
        return green__wait_in(&call, &task->joiners, value, timeout, join_name, task, place);
    struct green__wait wait;
    struct green__entry entry = {0};
    green__wait_prepare(&wait, &call, join_name, task, place);
    wait.entries = &entry;
    wait.count = 1;
    wait.role = GREEN__JOINS;
    green__wait_enlist(&wait, &entry, &task->joiners);
    if (green__wait(call.hub, &wait, timeout) != 0)
        return -1;
    return give_result(value, wait.value, wait.value_error);
}

int green_task_join(green_task_t *task, void **value, int64_t timeout)
{
    struct green__call call;
    if (LIKELY(task != NULL) && LIKELY(green__call_is_plain(&call)) &&
        LIKELY(task->hub == call.hub) && LIKELY(!task->ended) && LIKELY(task != call.task) &&
        LIKELY(timeout > 0)) {
        if (UNLIKELY(timeout != GREEN_FOREVER))
            return green__wait_with(&task->joiners, value, timeout, join_name, task, PLACE);
        green__wait_begin_barely(&call, &task->joiners, value, join_name, task, PLACE);
        return green__wait_leave(call.hub, &call.own->wait.turn);
    }
    return join_slowly(task, value, timeout, PLACE);
}

/*
 * The check of a handle that is to be given up.  A task whose hub is no more is given
 * up by any thread.
 */
static bool may_give_up(const struct green_task *task)
{
    if (task == NULL) {
        errno = EINVAL;
        return false;
    }
    if (green__task_hub(task) == NULL && (task->hub != NULL || !green__layer_may_act()))
        return false;
    if ((task->hub != NULL && task == &task->hub->main) || task->group != NULL ||
        task->detached) {
        errno = EINVAL;
        return false;
    }
    if (task->freeing) {
        errno = EBUSY;
        return false;
    }
    return true;
}

int green_task_detach(green_task_t *task)
{
    if (!may_give_up(task))
        return -1;
    task->detached = true;
    if (task->ended)
        green__task_release(task->hub, task);
    return 0;
}

/* A task that has ended, and of whose end nobody is to be told. */
static inline bool is_bare_to_free(const struct green__hub *hub, const struct green_task *task)
{
    return LIKELY(task->hub == hub) && LIKELY(task->ended) && LIKELY(task->group == NULL) &&
           LIKELY((task->detached | task->freeing) == 0) &&
           LIKELY(hub->failed == NULL || task->joined) && LIKELY(hub->spare_room != 0);
}

static __attribute__((noinline)) int free_task_slowly(green_task_t *task, const void *place);

int green_task_free(green_task_t *task)
{
    struct green__call call;
    if (LIKELY(task != NULL) && LIKELY(green__call_is_plain(&call)) &&
        is_bare_to_free(call.hub, task) && LIKELY(green__layer_release_bare(task->green))) {
        task_unlink(task);
        put_spare(call.hub, task);
        return 0;
    }
    return free_task_slowly(task, PLACE);
}

static int free_task_slowly(green_task_t *task, const void *place)
{
    if (task == NULL)
        return 0;
    if (!may_give_up(task))
        return -1;
    if (!task->ended) {
        struct green__hub *hub = task->hub;
        struct green__call call = {.hub = hub, .me = green__layer_current()};
        call.task = green__task_of(hub, call.me);
        if (call.task == task)
            return green__call_fail(EDEADLK);
        struct green__wait wait;
        struct green__entry entry = {0};
        green__task_cancel(hub, task);
        green__wait_prepare(&wait, &call, "green_task_free", task, place);
        wait.entries = &entry;
        wait.count = 1;
        wait.shielded = true;
        entry.wait = &wait;
        wait.role = GREEN__FREES_TASK;
        task->freeing = true;
        task->freer = &entry;
        if (green__wait(hub, &wait, GREEN_FOREVER) != 0) {
            if (wait.task != NULL)
                green__task_keep(task);
            return -1;
        }
    }
    green__task_release(task->hub, task);
    return 0;
}
