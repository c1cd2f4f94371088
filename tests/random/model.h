/* SPDX-License-Identifier: MIT */
#ifndef MODEL_H
#define MODEL_H
/*
 * What libgreen should do, as a plain state machine: rules 1 to 14 of green.h,
 * written from them alone.  It knows no stacks, no handles and no library.
 *
 * Greens are numbers.  A function here is a call that the current green of the
 * current thread makes.  It says in `next` where control is after that, and
 * with what: the result of the call that was made, or of another green's that
 * has waited, or the start of a function; and in `traced` what a hook sees.
 */
#include <stdbool.h>

enum {
    M_SLOTS = 12,                     /* greens that are made */
    M_THREADS = 3,
    M_GREENS = M_SLOTS + M_THREADS,   /* these, and each thread's main */
    M_KEYS = 4,
    M_DEFERRED = 8,                   /* functions a green can have deferred ... */
    M_DEEP = 12,                      /* ... and calls it can be in */
    M_TRACED = 64,
    M_NOBODY = -1,                    /* NULL, where a green is asked for */
    M_FAILED = -1                     /* GREEN_FAILED, as a value */
};

enum m_state { M_NONE, M_NEW, M_RUNNING, M_SUSPENDED, M_DEAD };

/* What a green is in the middle of, outermost first. */
enum m_call {
    M_BODY,     /* its body */
    M_CLEANS,   /* a function that runs at its end */
    M_UNDEFERS, /* green_undefer(), in the function */
    M_SWITCHES, /* waits in switch, throw, yield */
    M_FREES,    /* waits in green_free() */
    M_KILLS,    /* waits in green_thread_end() for one to die */
    M_ENDS      /* green_thread_end(), in a function of main's */
};

struct m_green {
    enum m_state state;
    int owner;          /* its thread's id */
    int parent;         /* the real one */
    int stand_in;       /* who is freeing it, or M_NOBODY */
    int frees;          /* whom it is freeing, in M_FREES and M_KILLS ... */
    bool died;          /* ... and whether that one has died */
    bool detached, tried;
    int started;        /* a number that grows */
    enum m_call calls[M_DEEP];
    int depth;
    long result;        /* at its end */
    int error;
    long deferred[M_DEFERRED];
    int deferrals;
    struct { long value; int made; } locals[M_KEYS];
    int round, key;     /* of destructors: where they are */
    bool any;
};

struct m_thread {
    int id;             /* 0: there is none */
    int current;
    bool traces, ends, refused;
    bool owes;          /* has not released yet what others have abandoned */
};

/* An error that is not 0 stands for the value: -1, NULL or GREEN_FAILED with this errno. */
enum m_what { M_RESULT, M_START, M_DEFERRED_FN, M_DESTRUCTOR, M_TURN };

struct m_next {
    enum m_what what;
    int thread, green, key;
    long value;
    int error;
};

struct model {
    struct m_green green[M_GREENS];
    struct m_thread threads[M_THREADS];
    int thread;         /* the one that runs; the others wait for their turn */
    struct { int made; bool destructor; } keys[M_KEYS]; /* made 0: none */
    int count;          /* for ids, started, made */
    struct m_next next;
    struct { bool is_throw; int from, to; } traced[M_TRACED];
    int traces;
};

static inline int m_main(int thread)
{
    return M_SLOTS + thread;
}

void m_begin(struct model *m); /* thread 0 and its main, no more */
int m_parent(const struct model *m, int g);
bool m_is_mine(const struct model *m, int g);
int m_current(const struct model *m);

void m_new(struct model *m, int slot, int parent, bool detached);
void m_switch(struct model *m, int g, long value);
void m_throw(struct model *m, int g, int error);
void m_yield(struct model *m, long value);
void m_return(struct model *m, long value, int error); /* from the innermost function */
void m_exit(struct model *m, long value, int error);
void m_free(struct model *m, int g);
void m_abandon(struct model *m, int g);
void m_release(struct model *m); /* the thread releases what others have abandoned */
bool m_owes(const struct model *m, int g); /* g's thread may count a child too many */
void m_set_parent(struct model *m, int g, int parent);
void m_defer(struct model *m, long arg);
void m_undefer(struct model *m, bool execute);
void m_key_create(struct model *m, bool destructor); /* gives the lowest that is free */
void m_key_delete(struct model *m, int key);
void m_setspecific(struct model *m, int key, long value);
void m_set_trace(struct model *m, bool on);
void m_thread_end(struct model *m);

void m_spawn(struct model *m, int thread);
void m_hand_over(struct model *m, int thread);
void m_thread_exit(struct model *m); /* thread 0 goes on */

#endif
