/* SPDX-License-Identifier: MIT */
#ifndef GREEN_HUB_FD_H
#define GREEN_HUB_FD_H
/*
 * Readiness of descriptors: who waits for what, and what epoll was asked.
 *
 * A descriptor's number is all that the hub knows it by; its owner may close it and
 * the system give the number to another at any moment.  What is remembered of a
 * number is a guess, then, but for what green_close(), green_accept() and green_connect()
 * say of it.
 *
 * TCP sockets that those made are registered once, edge-triggered, and what is known of
 * their readiness is remembered.  All others are registered for one event at a time
 * (EPOLLONESHOT), for whoever waits.  Of these a byte stream is tried once more before that,
 * when nobody is ready any more: what comes next was often written meanwhile.
 */
#include "hub.h"

enum green__fd_mode {
    GREEN__FD_NONE,    /* not registered, as far as is known */
    GREEN__FD_EDGE,    /* once, for all events */
    GREEN__FD_ONCE,    /* for the events of `armed` */
    GREEN__FD_ALWAYS   /* epoll refuses it: a regular file, say, which is always ready */
};

enum green__fd_kind { GREEN__FD_UNKNOWN, GREEN__FD_SOCKET, GREEN__FD_OTHER, GREEN__FD_FILE };

#define GREEN__FD_IN 1u   /* bits of directions */
#define GREEN__FD_OUT 2u
#define GREEN__FD_HUP 4u  /* ready for ever: nothing that is read makes it not so */

/*
 * Of one number.  With many descriptors each line of the CPU's cache is a miss: what an
 * event and a wait to read touch is in the first 64 bytes.
 */
struct green__fd {
    struct green_private_line in; /* who wait to take something out of it */
    uint32_t closes;         /* how often it was closed, or begun again: epoll has that with it */
    uint32_t armed;          /* ONCE: the events that are asked for */
    unsigned char mode, kind; /* enums above */
    unsigned char ready;     /* of a made one: the directions that may be ready */
    bool made;               /* a TCP socket that the hub made */
    bool stream;             /* a short read of it has emptied it */
    unsigned char no_nowait; /* the directions in which it cannot be asked not to block */
    bool closing;            /* to be closed when the pool is done with it */
    bool renews;             /* it is among those to be looked at for a renewal */
    unsigned woken[2];       /* who were woken for it, in or out, and have not tried yet */
    int64_t relied_on;       /* since when, about, somebody who waits relies on its registration */
    struct green_private_line out;
    unsigned jobs;           /* calls of the pool */
    int renew_next;          /* with renews: the next such number; -1: none */
    /* Of others than made ones: */
    bool to_retry;           /* it is among those that are tried once more ... */
    bool retried;            /* ... and who was woken for that has not read anything yet */
    unsigned char in_vain;   /* how many waits ask at once after that was in vain, ... */
    unsigned char rest;      /* ... and how many still do */
    int retry_next;          /* with to_retry: the next such number; -1: none */
    uint64_t retry_after;    /* when there were more turns than that */
    green_t *holder;         /* whose call it is that has it for its own; NULL: it is the user's */
} __attribute__((aligned(64)));
_Static_assert(offsetof(struct green__fd, out) == 64, "");

#define GREEN__FD_CHUNK 64 /* numbers; what is known of one does not move */
#define GREEN__FD_RENEW_LISTS 32 /* as there are bits */

struct green__fds {
    struct green__fd **chunks;
    size_t count;       /* of chunks */
    int retry_last;     /* of the hub's numbers to retry */
    uint32_t renew_any; /* which of these lists have any, by bits ... */
    int renew[GREEN__FD_RENEW_LISTS]; /* ... by the time when they are due */
};

/* What is known of a number; NULL: nothing, or with ENOMEM if there is to be something. */
static inline struct green__fd *green__fd_look(const struct green__hub *hub, int fd)
{
    const struct green__fds *fds = hub->fds;
    size_t chunk = (size_t)fd / GREEN__FD_CHUNK;
    if (UNLIKELY(fds == NULL || fd < 0 || chunk >= fds->count || fds->chunks[chunk] == NULL))
        return NULL;
    return &fds->chunks[chunk][(size_t)fd % GREEN__FD_CHUNK];
}
struct green__fd *green__fd_need(struct green__hub *hub, int fd);

/* The number is that of a new descriptor; made: a TCP socket of the hub's. */
void green__fd_begin(struct green__hub *hub, int fd, bool made);

/* The number is seen to be a descriptor's that the hub has not made.  Who waits for it goes on. */
void green__fd_is_anothers(struct green__hub *hub, int fd, struct green__fd *known);

/*
 * A descriptor is a call's own until it is released, which closes it, or given away.
 * Where the call goes on no more, in a child or at an end, the hub closes it: then the
 * number is not the call's, and nothing is done.  0, or -1 with errno, and it is closed.
 */
int green__fd_hold(const struct green__call *call, int fd);
void green__fd_release(const struct green__call *call, int fd); /* keeps errno */
void green__fd_give_away(const struct green__call *call, int fd);

/* What an entry of a wait for a descriptor has for its item. */
struct green__fd_entry {
    struct green__entry *entry;
    int fd;
    uint32_t events;      /* EPOLL...: what is waited for */
    bool looks;           /* it takes nothing: others may be woken, too */
    bool retries;         /* it was woken to try once more, whether or not it is ready */
    uint32_t closes;      /* of the number, when it was enlisted */
};

/*
 * Puts an entry among those who wait for its descriptor, and asks epoll.  0, 1 if it is
 * ready whatever it is, or -1 with errno, also EBADF.
 */
int green__fd_enlist(struct green__hub *hub, struct green__wait *wait,
                     struct green__fd_entry *entry);

/*
 * After the wait: what was for this entry alone is over.  False if the number was closed
 * meanwhile, also after the wait was served: it may be another descriptor's by now.
 */
bool green__fd_delist(struct green__hub *hub, struct green__fd_entry *entry);

/*
 * Waits in a call until fd is ready for one of events.  0, or -1 with errno: EBADF also if it
 * was ready and has been closed since.  green__fd_tried() must follow when it is 0 and the
 * descriptor has been tried.
 */
int green__fd_wait(struct green__call *call, int fd, uint32_t events, const char *name,
                   const void *place);

/* The same with a limit of the call's own. */
int green__fd_wait_for(struct green__call *call, int fd, uint32_t events, int64_t timeout,
                       const char *name, const void *place);

/*
 * The same of a number of which that is known; NULL: nothing, for want of memory.  By the
 * first of these events a read waits, by the other a write.  Of a read it may be 1: it is
 * not known to be ready, and is worth another try.
 */
#define GREEN__FD_READS (EPOLLIN | EPOLLRDHUP)
#define GREEN__FD_WRITES EPOLLOUT
int green__fd_wait_known(struct green__call *call, int fd, struct green__fd *known, uint32_t events,
                         int64_t timeout, const char *name, const void *place);

/*
 * Lets some time go by: 0, or -1 with errno, EBADF if the number is closed meanwhile.  Who
 * serves that line, if it is not NULL, ends it too.
 */
int green__fd_pause(struct green__call *call, int fd, int64_t time,
                    struct green_private_line *ending, const char *name, const void *place);

/* How often the hub knows that a number was closed: whether it was, between two calls. */
static inline uint32_t green__fd_closes(int fd)
{
    const struct green__hub *hub = green__hub_self;
    const struct green__fd *known = hub != NULL ? green__fd_look(hub, fd) : NULL;
    return known != NULL ? known->closes : 0;
}

/* Something was read. */
static inline void green__fd_was_read(struct green__fd *known)
{
    if (!known->made && known->retried) {
        known->retried = false;
        known->in_vain = 0;
    }
}

/* Who was woken for a direction has tried, or will not: the next may be.  errno is kept. */
void green__fd_wake_next(struct green__hub *hub, int fd, struct green__fd *known,
                         unsigned direction);
static inline void green__fd_known_tried(struct green__hub *hub, int fd, struct green__fd *known,
                                         unsigned direction)
{
    if (known->woken[direction] == 0)
        return;
    known->woken[direction]--;
    if (UNLIKELY((direction == 0 ? &known->in : &known->out)->first != NULL))
        green__fd_wake_next(hub, fd, known, direction);
}
static inline void green__fd_tried(struct green__hub *hub, int fd, unsigned direction)
{
    struct green__fd *known = green__fd_look(hub, fd);
    if (known != NULL)
        green__fd_known_tried(hub, fd, known, direction);
}

/*
 * Closes what a task has left that runs no more.  wakes: those who wait for it stand on
 * stacks that are still there.
 */
void green__fd_drop(struct green__hub *hub, int fd, bool wakes);

#endif
