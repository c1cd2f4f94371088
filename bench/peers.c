/* SPDX-License-Identifier: MIT */
/*
 * What a hand-off costs others, in the same run: each candidate hands control
 * to a second one and back, as two greens do.  What is not installed is named
 * by CMake and left out.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>

#include <green_fast.h>

#include "bench.h"

enum { STACK = 65536 };

/* ---- libgreen ------------------------------------------------------------------ */

static void *switch_back(void *value)
{
    green_t *main = green_main();
    while (value != GREEN_FAILED)
        value = green_switch(main, value);
    return value;
}

static void *switch_back_fast(void *value)
{
    green_t *main = green_main();
    while (value != GREEN_FAILED)
        value = green_switch_fast(main, value);
    return value;
}

static green_t *make(green_fn *run)
{
    green_t *g = green_new(run, NULL);
    if (g == NULL)
        bench_fail("green_new");
    green_switch(g, NULL);
    return g;
}

static double libgreen(void *arg, long n)
{
    green_t *g = make(switch_back);
    (void)arg;
    double start = bench_now();
    for (long i = 0; i < n; i += 2)
        green_switch(g, NULL);
    double time = bench_now() - start;
    green_free(g);
    return time;
}

static double libgreen_fast(void *arg, long n)
{
    green_t *g = make(switch_back_fast);
    (void)arg;
    double start = bench_now();
    for (long i = 0; i < n; i += 2)
        green_switch_fast(g, NULL);
    double time = bench_now() - start;
    green_free(g);
    return time;
}

/* ---- glibc: swapcontext() --------------------------------------------------------- */

static ucontext_t here, there;

static void swap_back(void)
{
    for (;;)
        swapcontext(&there, &here);
}

static double contexts(void *arg, long n)
{
    static char stack[STACK];
    (void)arg;
    if (getcontext(&there) != 0)
        return -1;
    there.uc_stack.ss_sp = stack;
    there.uc_stack.ss_size = sizeof stack;
    makecontext(&there, swap_back, 0);
    double start = bench_now();
    for (long i = 0; i < n; i += 2)
        swapcontext(&here, &there);
    return bench_now() - start;
}

/* ---- POSIX threads: a mutex and a condition variable -------------------------------- */

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int turn;
    long n;
} table = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0};

static void *take_turns(void *me)
{
    int mine = *(int *)me;
    pthread_mutex_lock(&table.mutex);
    while (table.n > 0) {
        while (table.turn != mine && table.n > 0)
            pthread_cond_wait(&table.changed, &table.mutex);
        table.n--;
        table.turn = !mine;
        pthread_cond_signal(&table.changed);
    }
    pthread_mutex_unlock(&table.mutex);
    return NULL;
}

static double threads(void *arg, long n)
{
    pthread_t second;
    int numbers[2] = {0, 1};
    (void)arg;
    table.n = n;
    double start = bench_now();
    if (pthread_create(&second, NULL, take_turns, &numbers[1]) != 0)
        return -1;
    take_turns(&numbers[0]);
    pthread_join(second, NULL);
    return bench_now() - start;
}

/* ---- Boost.Context: fcontext, which has no header of its own ------------------------- */

#ifdef HAVE_BOOST_CONTEXT
struct transfer {
    void *from;
    void *data;
};

extern void *make_fcontext(void *top, size_t size, void (*run)(struct transfer));
extern struct transfer jump_fcontext(void *to, void *data);

static void jump_back(struct transfer transfer)
{
    for (;;)
        transfer = jump_fcontext(transfer.from, transfer.data);
}

static double boost(void *arg, long n)
{
    static char stack[STACK] __attribute__((aligned(16)));
    struct transfer transfer = {make_fcontext(stack + sizeof stack, sizeof stack, jump_back), arg};
    double start = bench_now();
    for (long i = 0; i < n; i += 2)
        transfer = jump_fcontext(transfer.from, arg);
    return bench_now() - start;
}
#endif

/* ---- State Threads: they yield to each other ------------------------------------------ */

#ifdef HAVE_ST
#include <st.h>

static bool st_go_on;

static void *st_yield_back(void *arg)
{
    while (st_go_on)
        st_usleep(0);
    return arg;
}

static double state_threads(void *arg, long n)
{
    static bool begun;
    if (!begun && st_init() != 0)
        return -1;
    begun = true;
    st_go_on = true;
    st_thread_t second = st_thread_create(st_yield_back, arg, 1, 0);
    if (second == NULL)
        return -1;
    double start = bench_now();
    for (long i = 0; i < n; i += 2)
        st_usleep(0);
    double time = bench_now() - start;
    st_go_on = false;
    st_thread_join(second, NULL);
    return time;
}
#endif

/* ---- GNU Pth: its contexts, which switch without its scheduler -------------------------- */

#ifdef HAVE_PTH
#include <pth.h>

static pth_uctx_t pth_here, pth_there;

static void pth_switch_back(void *arg)
{
    (void)arg;
    for (;;)
        pth_uctx_switch(pth_there, pth_here);
}

static double pth_contexts(void *arg, long n)
{
    static bool begun;
    (void)arg;
    if (!begun && (!pth_uctx_create(&pth_here) || !pth_uctx_create(&pth_there) ||
                   !pth_uctx_make(pth_there, NULL, STACK, NULL, pth_switch_back, NULL, NULL)))
        return -1;
    begun = true;
    double start = bench_now();
    for (long i = 0; i < n; i += 2)
        pth_uctx_switch(pth_here, pth_there);
    return bench_now() - start;
}
#endif

/* ---- Python's greenlet: a program of its own, which tells what it took ------------------ */

#ifdef PYTHON_WITH_GREENLET
static double greenlet(void *arg, long n)
{
    char command[512];
    double time = -1;
    (void)arg;
    snprintf(command, sizeof command, "%s %s %ld", PYTHON_WITH_GREENLET, PEER_GREENLET, n);
    FILE *program = popen(command, "r");
    if (program == NULL)
        return -1;
    if (fscanf(program, "%lf", &time) != 1)
        time = -1;
    return pclose(program) == 0 ? time : -1;
}
#endif

int main(int argc, char **argv)
{
    static const struct candidate candidates[] = {
        {"libgreen", "green_switch", libgreen, NULL, 0, NULL},
        {"libgreen", "green_switch_fast", libgreen_fast, NULL, 0, NULL},
        {"others", "glibc swapcontext", contexts, NULL, 0, NULL},
#ifdef HAVE_BOOST_CONTEXT
        {"others", "Boost.Context fcontext", boost, NULL, 0, NULL},
#endif
#ifdef HAVE_PTH
        {"others", "GNU Pth pth_uctx_switch", pth_contexts, NULL, 0, NULL},
#endif
#ifdef HAVE_ST
        {"others", "State Threads st_usleep(0)", state_threads, NULL, 0, NULL},
#endif
#ifdef PYTHON_WITH_GREENLET
        {"others", "Python greenlet", greenlet, NULL, 100000, NULL},
#endif
        {"others", "threads and a condition variable", threads, NULL, 0, NULL},
    };
    return bench(argc, argv, "peers", "one hand-off", candidates,
                 sizeof candidates / sizeof candidates[0]);
}
