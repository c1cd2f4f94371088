/* SPDX-License-Identifier: MIT */
/*
 * A hub's beginning and end, what the core tells it, and the calls on the hub as a
 * whole.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "hub.h"

#define PLACE __builtin_return_address(0)

_Thread_local struct green__hub *green__hub_self;
_Thread_local bool green__hub_forbidden;

/* All that live: for rule 19, which asks whether a thing's hub is still there. */
static pthread_mutex_t hubs_lock = PTHREAD_MUTEX_INITIALIZER;
static struct green__hub *hubs;
static uint64_t last_hub_id;

/*
 * Numbers of tasks and of waits: each hub has so many that no other has, and if it needs more,
 * those of one that begins later are greater.  What is less than next_number was given away.
 */
#define NUMBERS_OF_A_HUB (UINT64_C(1) << 32)
static uint64_t next_number = 1;

bool green__hub_is_alive(uint64_t id)
{
    green__own_lock(&hubs_lock);
    const struct green__hub *hub = hubs;
    while (hub != NULL && hub->id != id)
        hub = hub->next_hub;
    pthread_mutex_unlock(&hubs_lock);
    return hub != NULL;
}

static void register_hub(struct green__hub *hub)
{
    green__own_lock(&hubs_lock);
    hub->id = ++last_hub_id;
    hub->last_number = hub->waits_made = next_number;
    next_number += NUMBERS_OF_A_HUB;
    hub->next_hub = hubs;
    hubs = hub;
    pthread_mutex_unlock(&hubs_lock);
}

static void unregister_hub(struct green__hub *hub)
{
    green__own_lock(&hubs_lock);
    struct green__hub **at = &hubs;
    while (*at != hub)
        at = &(*at)->next_hub;
    *at = hub->next_hub;
    uint64_t used = hub->last_number > hub->waits_made ? hub->last_number : hub->waits_made;
    if (next_number <= used)
        next_number = used + 1;
    pthread_mutex_unlock(&hubs_lock);
}

void green__hub_lock(void)
{
    green__own_lock(&hubs_lock);
}

void green__hub_unlock(void)
{
    pthread_mutex_unlock(&hubs_lock);
}

void green__hub_forget_all_but(struct green__hub *hub)
{
    for (struct green__hub *other = hubs; other != NULL; other = other->next_hub)
        if (other != hub)
            green__remote_fork(other, false);
    hubs = hub;
    if (hub != NULL)
        hub->next_hub = NULL;
}

_Atomic(unsigned) green__hub_pool_threads;

/* The first hub of the process decides. */
static void limit_pool(unsigned threads)
{
    unsigned none = 0;
    (void)atomic_compare_exchange_strong(&green__hub_pool_threads, &none,
                                         threads != 0 ? threads : GREEN__HUB_POOL_THREADS);
}

/* ---- The end ----------------------------------------------------------------------- */

/* Without living tasks: what is owed outlives it. */
static void unmake(struct green__hub *hub)
{
    if (hub->leave_pool != NULL)
        hub->leave_pool(hub);
    green__hub_bury(hub);
    green__watch_end(hub);
    green__remote_detach(hub);
    if (hub->drop_served != NULL)
        hub->drop_served(hub, NULL);
    if (hub->end_fds != NULL)
        hub->end_fds(hub);
    green__loop_end(hub);
    for (struct green_task *task; (task = hub->owed.next) != &hub->owed;) {
        hub->owed.next = task->next;
        green__task_keep(task); /* who was freeing it has ended */
        green__layer_release(task->green);
        task->green = NULL;
        task->hub = NULL;
    }
    green__scope_end_all(hub->main.green, false);
    green__layer_set_word(hub->main.green, NULL);
    green__layer_mark_main(hub->main.green, false);
    unregister_hub(hub);
    green__task_drop_spares(hub);
    green__layer_release(hub->own_green);
    green__layer_end();
    green__hub_self = NULL;
    free(hub);
}

static void forget_waits(struct green__hub *hub)
{
    hub->line.next = hub->line.prev = &hub->line;
    hub->ready = hub->yielding = 0;
    hub->timers.count = 0;
    hub->timers.spilt = NULL;
    hub->descriptors = 0;
    hub->children = NULL;
    hub->main.waits = NULL;
    hub->main_own.wait.turn.next = NULL;
    hub->main_own.wait.state = GREEN__NO_WAIT;
    green__loop_go_long(hub);
    green__layer_mark_plain(hub->main.green, false);
    hub->hub_wait.first = hub->hub_wait.last = NULL;
    hub->all_ended.first = hub->all_ended.last = NULL;
}

/* ---- What the core tells ----------------------------------------------------------------- */

static int on_yield(struct green__layer *layer)
{
    (void)layer;
    return green_sleep(0);
}

static void on_leave(struct green__layer *layer, green_t *g, bool returned)
{
    (void)layer;
    green__scope_end_all(g, returned);
}

static void on_dead(struct green__layer *layer, green_t *g, void *value, int error)
{
    green__task_ended((struct green__hub *)layer, g, value, error);
}

static void *on_entered(struct green__layer *layer, green_t *g, void *value)
{
    return green__wait_entered((struct green__hub *)layer, g, value);
}

static green_t *on_next(struct green__layer *layer, void **value)
{
    return green__wait_next((struct green__hub *)layer, value);
}

/*
 * The thread is being unwound, and what waits below the hub has gone with its stacks.
 * Things that were its may have lines of such waits: it is another hub to them now.
 */
static void on_lost(struct green__layer *layer, green_t *g)
{
    struct green__hub *hub = (struct green__hub *)layer;
    green__layer_mark_plain(g, false);
    if (hub->green == NULL)
        return;
    hub->green = NULL;
    unregister_hub(hub);
    register_hub(hub);
    forget_waits(hub);
    hub->main.scopes = NULL;
    if (hub->drop_served != NULL)
        hub->drop_served(hub, NULL);
    if (hub->end_fds != NULL)
        hub->end_fds(hub);
    hub->renew_at = GREEN_FOREVER;
    green__task_end_all(hub, NULL, true);
}

/* Threads of the pool may write to those frames: rule 16. */
static void on_leaving(struct green__layer *layer)
{
    struct green__hub *hub = (struct green__hub *)layer;
    if (hub->leave_pool != NULL)
        hub->leave_pool(hub);
}

/* Whether any green of main's is in a wait. */
static bool main_waits(struct green__hub *hub)
{
    return green__task_waits(&hub->main) != NULL || hub->main_own.wait.turn.next != NULL;
}

static int on_thread_end(struct green__layer *layer)
{
    struct green__hub *hub = (struct green__hub *)layer;
    if (hub->tasks != 0 || main_waits(hub))
        return green__call_fail(EBUSY);
    unmake(hub);
    return 0;
}

static void on_thread_ends(struct green__layer *layer)
{
    struct green__hub *hub = (struct green__hub *)layer;
    hub->green = NULL;
    forget_waits(hub);
    hub->main.scopes = NULL;
    green__task_end_all(hub, NULL, true);
    unmake(hub);
}

static const struct green__layer_calls calls = {
    .yield = on_yield,
    .leave = on_leave,
    .dead = on_dead,
    .done = green__task_done,
    .entered = on_entered,
    .next = on_next,
    .lost = on_lost,
    .leaving = on_leaving,
    .may_end = on_thread_end,
    .thread_ends = on_thread_ends,
};

/* ---- The beginning ------------------------------------------------------------------------- */

static void empty_list(struct green_task *list)
{
    list->next = list->prev = list;
}

static struct green__hub *begin_hub(const green_hub_options_t *options)
{
    static const green_options_t own = {.name = "hub", .stack_size = GREEN__HUB_STACK};
    green_t *main = green_main();
    if (main == NULL || green__fork_handle() != 0)
        return NULL;
    struct green__hub *hub = calloc(1, sizeof *hub);
    if (hub == NULL) {
        errno = ENOMEM;
        return NULL;
    }
    hub->layer.calls = &calls;
    hub->stack_size = options->stack_size;
    hub->is_virtual = (options->flags & GREEN_HUB_VIRTUAL_TIME) != 0;
    hub->random = options->seed;
    hub->shuffled = options->seed != 0;
    hub->failed = options->failed;
    limit_pool(options->threads);
    hub->data = options->data;
    hub->on_due = green__wait_is_due;
    hub->layout = &green__hub_layout;
    empty_list(&hub->living);
    empty_list(&hub->owed);
    green__loop_begin(hub);
    hub->green = hub->own_green = green__layer_new(green__wait_hub_body, main, &own, true);
    if (hub->green == NULL) {
        free(hub);
        return NULL;
    }
    if (options->longest_turn != 0 &&
        green__watch_begin(hub, options->longest_turn, options->hogged, options->data) != 0) {
        int error = errno;
        green__layer_release(hub->own_green);
        free(hub);
        errno = error;
        return NULL;
    }
    hub->is_plain = true;
    hub->left = GREEN__HUB_LOOK_EVERY;
    hub->turns_at_look = GREEN__HUB_LOOK_EVERY;
    if (hub->is_virtual || hub->shuffled || hub->watch != NULL)
        green__loop_go_long(hub);
    hub->spare_room = green__layer_may_spare() ? GREEN__HUB_SPARES : 0;
    register_hub(hub);
    hub->hub_wait.hub = hub->all_ended.hub = hub->id;
    green__task_init(&hub->main, &hub->main_own, hub, main);
    hub->main.number = hub->last_number;
    green__layer_set_word(main, &hub->main_own);
    green__layer_mark_main(main, true);
    green__task_mark_plain(&hub->main);
    green__layer_begin(&hub->layer);
    green__hub_self = hub;
    green__wait_start_hub(hub);
    return hub;
}

struct green__hub *green__hub_need_slowly(void)
{
    static const green_hub_options_t defaults;
    if (green__hub_forbidden) {
        errno = EPERM;
        return NULL;
    }
    if (!green__layer_may_act())
        return NULL;
    if (green__hub_self != NULL)
        return green__hub_self;
    if (green__layer_thread_is_ending()) {
        errno = ECANCELED;
        return NULL;
    }
    return begin_hub(&defaults);
}

static bool options_are_valid(const green_hub_options_t *options)
{
    for (size_t i = 0; i < sizeof options->reserved / sizeof options->reserved[0]; i++)
        if (options->reserved[i] != NULL)
            return false;
    return (options->flags & ~GREEN_HUB_VIRTUAL_TIME) == 0 && options->longest_turn >= 0 &&
           (options->longest_turn == 0 || options->hogged != NULL);
}

int green_hub_init(const green_hub_options_t *options)
{
    static const green_hub_options_t defaults;
    if (options == NULL)
        options = &defaults;
    if (!options_are_valid(options))
        return green__call_fail(EINVAL);
    if (green__hub_self != NULL && green__layer_may_act())
        return green__call_fail(EBUSY);
    if (green__hub_forbidden)
        return green__call_fail(EPERM);
    if (!green__layer_may_act())
        return -1;
    if (green__layer_thread_is_ending())
        return green__call_fail(ECANCELED);
    return begin_hub(options) != NULL ? 0 : -1;
}

/* ---- The hub as a whole ---------------------------------------------------------------------- */

int green_hub_wait(int64_t timeout)
{
    struct green__call call;
    if (!green__call_begin(&call, timeout))
        return -1;
    if (call.hub->green == NULL) /* all have ended, but not by themselves */
        return green__call_fail(ECANCELED);
    struct green__wait wait;
    struct green__entry entry = {0};
    green__wait_prepare(&wait, &call, "green_hub_wait", NULL, PLACE);
    wait.entries = &entry;
    wait.count = 1;
    green__wait_enlist(&wait, &entry, &call.hub->hub_wait);
    if (green__task_all_wait(call.hub)) {
        green__wait_take_back(&wait);
        green__task_tell_hub_wait(call.hub, true);
        return green__call_done(&call, timeout);
    }
    if (timeout <= 0) {
        green__wait_take_back(&wait);
        return green__call_fail(ETIMEDOUT);
    }
    return green__wait(call.hub, &wait, timeout);
}

/* Waits until no task lives, whatever comes; timeout is for all that. */
static int wait_for_tasks(struct green__call *call, int64_t timeout, const void *place)
{
    struct green__hub *hub = call->hub;
    int64_t due = GREEN_FOREVER;
    if (timeout != GREEN_FOREVER)
        due = green__time_add(green__loop_now(hub), timeout > 0 ? timeout : 0);
    for (;;) {
        if (hub->collect != NULL)
            hub->collect(hub);
        if (hub->tasks == 0 && green__remote_close_if_empty(hub))
            return 0;
        int64_t left = due == GREEN_FOREVER ? GREEN_FOREVER : due - green__loop_now(hub);
        if (left <= 0)
            return green__call_fail(ETIMEDOUT);
        struct green__wait wait;
        struct green__entry entry = {0};
        green__wait_prepare(&wait, call, "green_hub_end", NULL, place);
        wait.entries = &entry;
        wait.count = 1;
        wait.shielded = true;
        green__wait_enlist(&wait, &entry, &hub->all_ended);
        if (hub->tasks == 0) { /* there is no memory for what others have posted */
            green__wait_take_back(&wait);
            green__wait_give_turn(hub, call->me);
        } else if (green__wait(hub, &wait, left) != 0) {
            return -1;
        }
    }
}

int green_hub_end(int64_t timeout)
{
    struct green__hub *hub = green__hub_self;
    if (green__hub_forbidden)
        return green__call_fail(EPERM);
    if (!green__layer_may_act())
        return -1;
    if (hub == NULL)
        return 0;
    struct green__call call = {.hub = hub, .me = green__layer_current(), .task = &hub->main};
    if (call.me != hub->main.green || main_waits(hub))
        return green__call_fail(EBUSY);
    hub->ending = true;
    green__remote_refuse(hub, true);
    struct green_task *next;
    for (struct green_task *task = hub->living.next; task != &hub->living; task = next) {
        next = task->next;
        green__task_cancel(hub, task);
    }
    if (wait_for_tasks(&call, timeout, PLACE) != 0) {
        hub->ending = false;
        green__remote_refuse(hub, false);
        return -1;
    }
    unmake(hub);
    return 0;
}

int green_hub_run(int64_t timeout)
{
    struct green__call call;
    if (!green__call_begin(&call, timeout))
        return -1;
    struct green__hub *hub = call.hub;
    if (call.me != hub->main.green)
        return green__call_fail(EBUSY);
    if (hub->green == NULL)
        return green__call_fail(ECANCELED);
    int64_t own_due = 0;
    if (hub->ready == 0) {
        int64_t due = green__scope_due(call.me, UINT64_MAX);
        int64_t limit = timeout > 0 ? timeout : 0;
        own_due = green__time_add(green__loop_now(hub), limit);
        if (limit > 0 && due != GREEN_FOREVER && due - green__loop_now(hub) < limit)
            limit = due - green__loop_now(hub);
        green__loop_look(hub, limit, true);
    }
    if (hub->ready == 0) {
        bool is_over = own_due != GREEN_FOREVER && own_due <= green__loop_now(hub);
        int error = green__scope_verdict(hub, call.me, call.task, UINT64_MAX, !is_over);
        if (error == ETIMEDOUT && is_over)
            error = 0; /* rule 8: its own time comes first, and is no failure */
        if (error == 0 && timeout == GREEN_FOREVER)
            error = EDEADLK;
        if (hub->fd_asked)
            green__loop_tell_fd(hub);
        if (error == ECANCELED || error == ETIMEDOUT)
            green__task_set_failures(call.task, 1);
        return error == 0 ? 0 : green__call_fail(error);
    }
    green__wait_give_turn(hub, call.me);
    green__task_set_failures(&hub->main, 0);
    return 1;
}

int green_hub_fd(void)
{
    struct green__hub *hub = green__hub_need();
    return hub != NULL ? green__loop_ask_fd(hub) : -1;
}

int green_hub_stats(green_hub_stats_t *stats, size_t size)
{
    if (stats == NULL)
        return green__call_fail(EINVAL);
    if (green__hub_forbidden)
        return green__call_fail(EPERM);
    green_hub_stats_t all = {0};
    const struct green__hub *hub = green__hub_self;
    if (hub != NULL) {
        (void)green__layer_current(); /* as in green_hub_dump() */
        all = (green_hub_stats_t){
            .tasks = hub->tasks + 1,
            .ready = hub->ready,
            .daemons = hub->daemons,
            .descriptors = hub->descriptors,
            .timers = green__timer_count(&hub->timers),
            .offloads = hub->offloads,
            .turns = green__loop_turns(hub),
            .polls = hub->polls,
        };
    }
    memset(stats, 0, size);
    memcpy(stats, &all, size < sizeof all ? size : sizeof all);
    return 0;
}
