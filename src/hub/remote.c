/* SPDX-License-Identifier: MIT */
/*
 * Handles for other threads (rule 19): a list that any thread pushes to without a lock,
 * and an eventfd that is written only when the hub sleeps.
 *
 * Who posts looks at `sleeping` after that, and the hub looks at the list after it has said
 * that it sleeps, both sequentially consistent: one of them sees the other.
 */
#include <stdlib.h>

#include "hub.h"
#include "quiet.h"

/* A task that is to be spawned.  Made by who posts, freed by the hub. */
struct spawn_post {
    struct green__post post; /* first */
    green_fn *run;
    void *arg;
};

/* What all handles of a hub share; it is there as long as one is open or the hub lives. */
struct green_hub {
    _Atomic(struct green__post *) posts; /* the last first; &no_hub: the hub is no more */
    _Atomic(bool) sleeping;        /* who posts is to write the eventfd */
    _Atomic(bool) refuses;         /* the hub is being ended: nothing new from other threads */
    _Atomic(unsigned) closed;      /* handles that were given back, for the hub to count */
    _Atomic(unsigned) owners;      /* open handles, the hub, and calls that post */
    int event;                     /* the hub's eventfd, open as long as this is there */
    unsigned open;                 /* handles, as the hub knows; the hub's */
    struct green__post *undelivered; /* for which there was no memory, the first first; the hub's */
};

static struct green__post no_hub;

static void disown(struct green_hub *remote)
{
    if (atomic_fetch_sub(&remote->owners, 1) != 1)
        return;
    if (remote->event >= 0)
        green__close(remote->event);
    free(remote);
}

/* After something was posted. */
static void wake_hub(struct green_hub *remote)
{
    const uint64_t one = 1;
    if (atomic_load(&remote->sleeping) && atomic_exchange(&remote->sleeping, false))
        (void)green__write(remote->event, &one, sizeof one);
}

/* ---- The hub's side --------------------------------------------------------------- */

/* In the order in which they were posted. */
static struct green__post *take_posts(struct green_hub *remote)
{
    struct green__post *posts = atomic_load_explicit(&remote->posts, memory_order_relaxed);
    if (posts == NULL)
        return NULL;
    posts = atomic_exchange(&remote->posts, NULL);
    struct green__post *first = NULL;
    while (posts != NULL) {
        green__take_handed(posts);
        struct green__post *next = posts->next;
        posts->next = first;
        first = posts;
        posts = next;
    }
    return first;
}

static void collect_posts(struct green__hub *hub)
{
    struct green_hub *remote = hub->remote;
    unsigned closed = atomic_load(&remote->closed); /* first: who has closed has posted before */
    struct green__post **last = &remote->undelivered;
    while (*last != NULL)
        last = &(*last)->next;
    *last = take_posts(remote);
    for (struct green__post *post; (post = remote->undelivered) != NULL;) {
        struct green__post *next = post->next;
        if (!post->arrive(hub, post))
            break; /* no memory: again at the next look */
        remote->undelivered = next;
    }
    if (closed != 0) {
        atomic_fetch_sub(&remote->closed, closed);
        remote->open -= closed;
        if (remote->open == 0)
            green__loop_remove_world(hub);
    }
}

/* Before the hub waits, and after.  How long it may at most: 0 if something has come. */
static int64_t fall_asleep(struct green__hub *hub, bool asleep)
{
    struct green_hub *remote = hub->remote;
    atomic_store(&remote->sleeping, asleep);
    if (atomic_load(&remote->posts) != NULL || atomic_load(&remote->closed) != 0)
        return 0;
    return remote->undelivered != NULL || hub->event < 0 ? GREEN_MS(10) : GREEN_FOREVER;
}

int green__remote_need(struct green__hub *hub)
{
    if (hub->remote != NULL)
        return 0;
    if (green__loop_need_epoll(hub) != 0)
        return -1;
    struct green_hub *remote = calloc(1, sizeof *remote);
    if (remote == NULL)
        return green__call_fail(ENOMEM);
    green__atomics(remote, sizeof *remote);
    atomic_init(&remote->owners, 1);
    remote->event = hub->event;
    atomic_init(&remote->sleeping, hub->fd_asked);
    atomic_init(&remote->refuses, hub->ending);
    hub->remote = remote;
    hub->collect = collect_posts;
    hub->fall_asleep = fall_asleep;
    return 0;
}

green_hub_t *green_hub_open(void)
{
    struct green__hub *hub = green__hub_need();
    if (hub == NULL || green__remote_need(hub) != 0)
        return NULL;
    struct green_hub *remote = hub->remote;
    atomic_fetch_add(&remote->owners, 1);
    if (remote->open++ == 0)
        green__loop_add_world(hub);
    return remote;
}

void green__remote_refuse(struct green__hub *hub, bool refuse)
{
    if (hub->remote != NULL)
        atomic_store(&hub->remote->refuses, refuse);
}

bool green__remote_close_if_empty(struct green__hub *hub)
{
    struct green_hub *remote = hub->remote;
    struct green__post *none = NULL;
    return remote == NULL || (remote->undelivered == NULL &&
                              atomic_compare_exchange_strong(&remote->posts, &none, &no_hub));
}

/* Without it being done. */
static void drop_posts(struct green_hub *remote, struct green__post *posts)
{
    for (int i = 0; i < 2; i++) {
        while (posts != NULL && posts != &no_hub) {
            struct green__post *next = posts->next;
            posts->arrive(NULL, posts);
            posts = next;
        }
        posts = remote->undelivered;
    }
    remote->undelivered = NULL;
}

void green__remote_detach(struct green__hub *hub)
{
    struct green_hub *remote = hub->remote;
    if (remote == NULL)
        return;
    drop_posts(remote, atomic_exchange(&remote->posts, &no_hub));
    hub->remote = NULL;
    hub->collect = NULL;
    hub->fall_asleep = NULL;
    hub->event = -1; /* it goes with the last handle */
    disown(remote);
}

void green__remote_fork(struct green__hub *hub, bool mine)
{
    struct green_hub *remote = hub->remote;
    if (remote == NULL)
        return;
    if (!mine) {
        atomic_store(&remote->posts, &no_hub);
        return;
    }
    drop_posts(remote, atomic_exchange(&remote->posts, NULL)); /* the parent does it */
    remote->event = hub->event;
    atomic_store(&remote->sleeping, false);
}

/* ---- From any thread ----------------------------------------------------------------- */

/* False: the hub is no more. */
bool green__remote_post(struct green_hub *remote, struct green__post *post)
{
    struct green__post *last = atomic_load(&remote->posts);
    do {
        if (last == &no_hub)
            return false;
        post->next = last;
        green__hand_over(post);
    } while (!atomic_compare_exchange_weak(&remote->posts, &last, post));
    wake_hub(remote);
    return true;
}

/* Without a hub: it has ended before the task could begin. */
static bool spawn_arrives(struct green__hub *hub, struct green__post *post)
{
    static const green_options_t detached = {.flags = GREEN_DETACHED};
    struct spawn_post *own = (struct spawn_post *)post;
    if (hub != NULL && green__task_make(hub, own->run, own->arg, &detached) == NULL)
        return false;
    free(own);
    return true;
}

int green_hub_spawn(green_hub_t *remote, green_fn *run, void *arg)
{
    if (remote == NULL || run == NULL)
        return green__call_fail(EINVAL);
    if (green__layer_only_looks())
        return green__call_fail(EBUSY);
    /* What the hub's own tasks spawn while they are ended belongs to that end. */
    const struct green__hub *mine = green__hub_self;
    if (atomic_load(&remote->refuses) && (mine == NULL || mine->remote != remote))
        return green__call_fail(ESRCH);
    struct spawn_post *post = malloc(sizeof *post);
    if (post == NULL)
        return green__call_fail(ENOMEM);
    *post = (struct spawn_post){.post = {.arrive = spawn_arrives}, .run = run, .arg = arg};
    /* The task may close the handle, and the hub end, before the call returns. */
    atomic_fetch_add(&remote->owners, 1);
    bool posted = green__remote_post(remote, &post->post);
    disown(remote);
    if (posted)
        return 0;
    free(post);
    return green__call_fail(ESRCH);
}

int green_hub_close(green_hub_t *remote)
{
    if (remote == NULL)
        return 0;
    if (green__layer_only_looks())
        return green__call_fail(EBUSY);
    atomic_fetch_add(&remote->closed, 1);
    wake_hub(remote);
    disown(remote);
    return 0;
}
