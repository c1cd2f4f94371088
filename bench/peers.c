/* SPDX-License-Identifier: MIT */
/*
 * What a hand-off costs others, in the same run: each candidate hands control
 * to a second one and back, as two greens do.  What is not installed is named
 * by CMake and left out.
 *
 * The last group repeats some of it between one side that calculates and one
 * that does not, which matters to those who keep floating-point modes.
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

struct pair {
    ucontext_t here, there;
    char stack[STACK];
};

static struct pair pair;

static void swap_back(void)
{
    for (;;)
        swapcontext(&pair.there, &pair.here);
}

static bool make_context(struct pair *new, void (*run)(void))
{
    if (getcontext(&new->there) != 0)
        return false;
    new->there.uc_stack.ss_sp = new->stack;
    new->there.uc_stack.ss_size = sizeof new->stack;
    makecontext(&new->there, run, 0);
    return true;
}

static double contexts(void *arg, long n)
{
    (void)arg;
    if (!make_context(&pair, swap_back))
        return -1;
    double start = bench_now();
    for (long i = 0; i < n; i += 2)
        swapcontext(&pair.here, &pair.there);
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

/* ---- One of the two calculates --------------------------------------------------------- */

/*
 * On x86 arithmetic leaves status bits in MXCSR, which holds the modes too: that
 * a result was inexact, say, and they stay.  Who saves and loads the whole of it
 * at each hand-off, as fcontext and swapcontext() do, gives each side its own
 * bits back.  So they differ for ever between one that has calculated and one
 * that has not, and to load others than are there is slow.  (Beside the system
 * call of swapcontext() it hardly shows.)
 *
 * Here main divides before each of its hand-offs.  The others calculate nothing
 * and are made when the program begins: later they would start with main's bits.
 */
static volatile double three = 3, third;

static struct {
    green_t *g, *fast;
    struct pair pair;
    bool has_pair;
#ifdef HAVE_BOOST_CONTEXT
    struct transfer transfer;
#endif
} idle;

static void swap_back_idle(void)
{
    for (;;)
        swapcontext(&idle.pair.there, &idle.pair.here);
}

static void make_idle(void)
{
    idle.g = make(switch_back);
    idle.fast = make(switch_back_fast);
    idle.has_pair = make_context(&idle.pair, swap_back_idle);
#ifdef HAVE_BOOST_CONTEXT
    static char stack[STACK] __attribute__((aligned(16)));
    idle.transfer.from = make_fcontext(stack + sizeof stack, sizeof stack, jump_back);
#endif
}

static double libgreen_calculating(void *arg, long n)
{
    green_t *g = idle.g;
    (void)arg;
    double start = bench_now();
    for (long i = 0; i < n; i += 2) {
        third = 1 / three;
        green_switch(g, NULL);
    }
    return bench_now() - start;
}

static double libgreen_fast_calculating(void *arg, long n)
{
    green_t *g = idle.fast;
    (void)arg;
    double start = bench_now();
    for (long i = 0; i < n; i += 2) {
        third = 1 / three;
        green_switch_fast(g, NULL);
    }
    return bench_now() - start;
}

static double contexts_calculating(void *arg, long n)
{
    (void)arg;
    if (!idle.has_pair)
        return -1;
    double start = bench_now();
    for (long i = 0; i < n; i += 2) {
        third = 1 / three;
        swapcontext(&idle.pair.here, &idle.pair.there);
    }
    return bench_now() - start;
}

#ifdef HAVE_BOOST_CONTEXT
static double boost_calculating(void *arg, long n)
{
    struct transfer transfer = idle.transfer;
    double start = bench_now();
    for (long i = 0; i < n; i += 2) {
        third = 1 / three;
        transfer = jump_fcontext(transfer.from, arg);
    }
    double time = bench_now() - start;
    idle.transfer = transfer;
    return time;
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
#define CALCULATING "one of the two calculates"
        {CALCULATING, "green_switch", libgreen_calculating, NULL, 0, NULL},
        {CALCULATING, "green_switch_fast", libgreen_fast_calculating, NULL, 0, NULL},
        {CALCULATING, "glibc swapcontext", contexts_calculating, NULL, 0, NULL},
#ifdef HAVE_BOOST_CONTEXT
        {CALCULATING, "Boost.Context fcontext", boost_calculating, NULL, 0, NULL},
#endif
    };
    make_idle(); /* first of all */
    return bench(argc, argv, "peers", "one hand-off", candidates,
                 sizeof candidates / sizeof candidates[0]);
}
