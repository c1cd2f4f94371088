/* SPDX-License-Identifier: MIT */
/*
 * Chains of 100,000 dead, NEW and freed greens (rule 12).
 *
 * Constant stack: each scenario runs on a green of 64 KiB, which a recursion
 * would overflow.  Linear time: a chain takes about four times as long as one of
 * a quarter of its length, and quadratic code 16 times.
 * The greens run on lent stacks there, so that the clock does not see the
 * system's memory management.
 */
#include <stdbool.h>
#include <sys/mman.h>
#include <time.h>

#include "testing.h"

enum { LONGEST = 100000 };

/* chain[0] stands under the current green, each of the others under the one before. */
static green_t *chain[LONGEST];

enum kind { NEW, DEAD, FREED, DETACHED };
enum order { ROOT_FIRST, LEAF_FIRST, EVERY_OTHER };
static const char *const order_names[] = {"root first", "leaf first", "every other"};

/* What a scenario is to do, and what it took. */
struct scenario {
    void (*run)(struct scenario *);
    int n;
    enum order order;
    double make, use, release;
};

static int longest(void)
{
    return times(LONGEST, UNDER_TSAN ? 300 : 2000);
}

#define check(expr) ((expr) ? (void)0 : note("%s:%d: %s", __func__, __LINE__, #expr))

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

enum { STACK = 16384, SPARE = 8 };

static char *stacks;  /* LONGEST + SPARE of them */
static bool lent;     /* greens run on these; else the library is to find its own */
static int lent_so_far;

static int map_stacks(void **state)
{
    size_t size = (size_t)STACK * (LONGEST + SPARE);
    (void)state;
    stacks = mmap(NULL, size, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    for (int i = 1; stacks != MAP_FAILED && i <= longest(); i++)
        stacks[(size_t)STACK * (size_t)i - 1] = 0; /* touched once, not under the clock */
    return stacks != MAP_FAILED ? 0 : -1;
}

static int unmap_stacks(void **state)
{
    (void)state;
    return munmap(stacks, (size_t)STACK * (LONGEST + SPARE));
}

static int lend_stacks(void **state)
{
    (void)state;
    lent = true;
    lent_so_far = 0;
    return 0;
}

static int take_stacks_back(void **state)
{
    (void)state;
    lent = false;
    return 0;
}

#define CLOCKED_TEST(sentence) TEST_WITH(sentence, lend_stacks, take_stacks_back)

static green_t *make(green_fn *run, green_t *parent, unsigned flags)
{
    green_options_t options = {.stack_size = STACK, .flags = GREEN_NO_GUARD | flags};
    if (lent)
        options.stack = stacks + (size_t)STACK * (size_t)lent_so_far++;
    green_t *g = green_new_with(run, parent, &options);
    check(g != NULL);
    return g;
}

static green_t *make_dead(void)
{
    green_t *g = make(give_back, NULL, 0);
    green_switch(g, NULL);
    check(green_state(g) == GREEN_DEAD);
    return g;
}

/* A chain of n greens; the kind of the i-th is kinds[i % 3]. */
static void make_chain(int n, green_fn *run, const enum kind kinds[3])
{
    for (int i = 0; i < n; i++)
        if (kinds[i % 3] == DEAD)
            chain[i] = make_dead();
        else
            chain[i] = make(run, i > 0 ? chain[i - 1] : NULL,
                            kinds[i % 3] == DETACHED ? GREEN_DETACHED : 0);
    for (int i = n - 1; i > 0; i--)
        if (kinds[i % 3] == DEAD) /* from the leaf: all chains are short yet */
            check(green_set_parent(chain[i], chain[i - 1]) == 0);
}

static void free_one(int i)
{
    if (chain[i] != NULL)
        check(green_free(chain[i]) == 0);
    chain[i] = NULL;
}

static void free_chain(int from, int to, enum order order)
{
    switch (order) {
    case ROOT_FIRST:
        for (int i = from; i < to; i++)
            free_one(i);
        break;
    case LEAF_FIRST:
        for (int i = to - 1; i >= from; i--)
            free_one(i);
        break;
    case EVERY_OTHER:
        for (int i = from; i < to; i += 2)
            free_one(i);
        free_chain(from, to, LEAF_FIRST);
        break;
    }
}

/* ---- Scenarios ---------------------------------------------------------- */

static void *one_more(void *value)
{
    return V((intptr_t)value + 1);
}

static void *die_of_e1(void *value)
{
    (void)value;
    errno = E1;
    return GREEN_FAILED;
}

/* Whatever goes to the leaf of a chain without living greens arrives here. */
static void use_leaf(int n)
{
    green_t *leaf = chain[n - 1];
    check(green_switch(leaf, V(1)) == V(1));
    check(green_throw(leaf, E1) == GREEN_FAILED && errno == E1);
    check(green_throw(leaf, 0) == NULL);
    green_t *dies = make(give_back, leaf, 0), *fails = make(die_of_e1, leaf, 0);
    green_t *waits = make(echo, leaf, 0);
    check(green_switch(dies, V(2)) == V(2));
    check(green_switch(fails, V(2)) == GREEN_FAILED && errno == E1);
    check(green_switch(waits, V(3)) == V(3));
    check(green_switch(waits, V(4)) == V(4));
    check(green_throw(waits, 0) == NULL);
    check(green_free(waits) == 0);
    check(green_free(fails) == 0);
    check(green_free(dies) == 0);
}

static void dead_chain(struct scenario *s)
{
    double start = now();
    make_chain(s->n, give_back, (enum kind[]){DEAD, DEAD, DEAD});
    double made = now();
    use_leaf(s->n);
    double used = now();
    free_chain(0, s->n, s->order);
    s->make += made - start;
    s->use += used - made;
    s->release += now() - used;
}

/* An error kills all that is NEW, whatever stands between. */
static void error_through(struct scenario *s, const enum kind kinds[3])
{
    double start = now();
    make_chain(s->n, never, kinds);
    for (int i = s->n - 2; i >= 0; i--)
        if (kinds[i % 3] == FREED)
            free_one(i);
    double made = now();
    green_t *child = make(die_of_e1, chain[s->n - 1], 0);
    check(green_switch(child, NULL) == GREEN_FAILED && errno == E1);
    check(green_free(child) == 0);
    for (int i = 0; i < s->n; i++) {
        if (kinds[i % 3] == DETACHED)
            chain[i] = NULL;
        if (chain[i] != NULL)
            check(green_state(chain[i]) == GREEN_DEAD);
    }
    double used = now();
    if (kinds[(s->n - 1) % 3] != DETACHED) { /* else all are gone already */
        use_leaf(s->n);
        used = now();
        free_chain(0, s->n, s->order);
    }
    s->make += made - start;
    s->use += used - made;
    s->release += now() - used;
}

static void new_chain_and_an_error(struct scenario *s)
{
    error_through(s, (enum kind[]){NEW, NEW, NEW});
}

static void detached_chain_and_an_error(struct scenario *s)
{
    error_through(s, (enum kind[]){DETACHED, DETACHED, DETACHED});
}

static void mixed_chain_and_an_error(struct scenario *s)
{
    error_through(s, (enum kind[]){NEW, DEAD, FREED});
}

static void new_chain_and_a_value(struct scenario *s)
{
    double start = now();
    make_chain(s->n, one_more, (enum kind[]){NEW, NEW, NEW});
    double made = now();
    check(green_switch(chain[s->n - 1], V(1)) == V(s->n + 1));
    for (int i = 0; i < s->n; i++)
        check(green_state(chain[i]) == GREEN_DEAD);
    double used = now();
    free_chain(0, s->n, s->order);
    s->make += made - start;
    s->use += used - made;
    s->release += now() - used;
}

/* All but the leaf are freed: its way leads by what remains of them. */
static void freed_chain(struct scenario *s)
{
    double start = now();
    make_chain(s->n, never, (enum kind[]){NEW, DEAD, NEW});
    double made = now();
    free_chain(0, s->n - 1, s->order);
    double freed = now();
    green_t *leaf = chain[s->n - 1], *me = green_current();
    check(green_parent(leaf) == me);
    check(green_throw(leaf, E1) == GREEN_FAILED && errno == E1);
    use_leaf(s->n);
    check(green_set_parent(leaf, green_main()) == 0);
    check(green_parent(leaf) == green_main());
    free_one(s->n - 1);
    s->make += made - start;
    s->use += now() - freed;
    s->release += freed - made;
}

/* The same, the leaf freed in the end with all that remains still above it. */
static void freed_chain_and_its_leaf(struct scenario *s)
{
    double start = now();
    make_chain(s->n, never, (enum kind[]){NEW, NEW, DEAD});
    double made = now();
    free_chain(0, s->n, s->order);
    s->make += made - start;
    s->release += now() - made;
}

static void chain_in_cycle_tests(struct scenario *s)
{
    double start = now();
    make_chain(s->n, never, (enum kind[]){NEW, NEW, NEW});
    double made = now();
    green_t *leaf = chain[s->n - 1];
    errno = 0;
    check(green_set_parent(chain[0], leaf) == -1 && errno == ELOOP);
    check(green_set_parent(chain[0], green_main()) == 0);
    check(green_set_parent(leaf, green_main()) == 0);
    check(green_set_parent(chain[0], leaf) == 0);
    check(green_set_parent(leaf, chain[s->n - 2]) == -1 && errno == ELOOP);
    double used = now();
    free_chain(0, s->n, s->order);
    s->make += made - start;
    s->use += used - made;
    s->release += now() - used;
}

/* ---- Running them ------------------------------------------------------- */

static void *run_scenario(void *value)
{
    struct scenario *s = value;
    s->run(s);
    return NULL;
}

static void on_a_small_stack(struct scenario *s)
{
    green_options_t options = {.stack_size = 65536};
    lent_so_far = 0;
    green_t *g = green_new_with(run_scenario, NULL, &options);
    assert_non_null(g);
    assert_null(green_switch(g, s));
    assert_int_equal(green_state(g), GREEN_DEAD);
    assert_int_equal(green_free(g), 0);
    assert_noted("");
}

/*
 * Quadratic code takes 16 times as long for four times as many; and of 100,000,
 * more than 4 s, whereas the system may ask 0.3 s for memory that it had taken back.
 */
static bool is_linear(double whole, double quarter)
{
    return whole < 9 * quarter || whole < 2;
}

static void assert_linear(void (*run)(struct scenario *))
{
    int n = longest();
    for (enum order order = ROOT_FIRST; order <= EVERY_OTHER; order++) {
        struct scenario whole, quarter;
        int tries = 3;
        do {
            quarter = (struct scenario){.run = run, .n = n / 4, .order = order};
            whole = (struct scenario){.run = run, .n = n, .order = order};
            on_a_small_stack(&quarter);
            on_a_small_stack(&whole);
        } while (!(is_linear(whole.make, quarter.make) && is_linear(whole.use, quarter.use)
                   && is_linear(whole.release, quarter.release))
                 && --tries > 0);
        if (tries == 0)
            fail_msg("%s: %d: make %g use %g release %g s, %d: %g %g %g s",
                     order_names[order], n, whole.make, whole.use, whole.release,
                     n / 4, quarter.make, quarter.use, quarter.release);
    }
}

/* Two tests of each: on lent stacks with the clock, and, shorter, on the library's. */
#define tests_of(name)                                                                  \
    CLOCKED_TEST(name##_takes_linear_time)                                              \
    {                                                                                   \
        assert_linear(name);                                                            \
    }                                                                                   \
    TEST(name##_may_have_the_librarys_stacks)                                           \
    {                                                                                   \
        struct scenario s = {.run = name, .n = longest() / 10, .order = EVERY_OTHER};   \
        on_a_small_stack(&s);                                                           \
    }

tests_of(dead_chain)
tests_of(new_chain_and_an_error)
tests_of(detached_chain_and_an_error)
tests_of(mixed_chain_and_an_error)
tests_of(new_chain_and_a_value)
tests_of(freed_chain)
tests_of(freed_chain_and_its_leaf)
tests_of(chain_in_cycle_tests)

/* ---- The stack itself --------------------------------------------------- */

static struct {
    long events;
    uintptr_t base;      /* what places are measured from */
    uintptr_t low, high; /* the hook's own place below it, at least, at most */
} depth;

static void measure_from(uintptr_t base)
{
    depth.events = 0;
    depth.base = base;
    depth.low = UINTPTR_MAX;
    depth.high = 0;
}

static void measure(green_trace_event_t event, green_t *from, green_t *to, void *skipped)
{
    char here;
    uintptr_t place = depth.base - (uintptr_t)&here;
    (void)event, (void)to;
    if (from == skipped)
        return;
    depth.events++;
    if (place < depth.low)
        depth.low = place;
    if (place > depth.high)
        depth.high = place;
}

TEST(an_error_goes_through_new_greens_on_one_stack_frame)
{
    int n = longest();
    make_chain(n, never, (enum kind[]){NEW, NEW, NEW});
    measure_from((uintptr_t)&n + 4096);
    green_set_trace(measure, NULL);
    errno = 0;
    void *result = green_throw(chain[n - 1], E1);
    int error = errno;
    green_set_trace(NULL, NULL);
    assert_ptr_equal(result, GREEN_FAILED);
    assert_int_equal(error, E1);
    assert_int_equal(depth.events, n + 1);
    assert_true(depth.high - depth.low < 512);
    free_chain(0, n, ROOT_FIRST);
    assert_noted("");
}

static void *one_more_from_the_base(void *value)
{
    void *low;
    size_t size;
    green_stack(green_current(), &low, &size);
    depth.base = (uintptr_t)low + size; /* for the hook at this green's death */
    return V((intptr_t)value + 1);
}

CLOCKED_TEST(each_green_of_a_chain_ends_near_the_base_of_its_own_stack)
{
    int n = longest();
    make_chain(n, one_more_from_the_base, (enum kind[]){NEW, NEW, NEW});
    measure_from(0);
    green_set_trace(measure, green_main());
    void *result = green_switch(chain[n - 1], V(0));
    green_set_trace(NULL, NULL);
    assert_ptr_equal(result, V(n));
    assert_int_equal(depth.events, n);
    assert_true(depth.high < 4096);
    free_chain(0, n, LEAF_FIRST);
    assert_noted("");
}

/* ---- Many children ------------------------------------------------------ */

/* Frees a chain of k with n children under its leaf, leaf first; how long that took. */
static double free_above(int k, int n)
{
    green_t **children = calloc((size_t)n, sizeof *children);
    assert_non_null(children);
    lent_so_far = 0; /* what was lent before is back */
    make_chain(k, never, (enum kind[]){NEW, NEW, NEW});
    for (int i = 0; i < n; i++)
        children[i] = make(never, chain[k - 1], 0);
    double start = now();
    free_chain(0, k, LEAF_FIRST);
    double took = now() - start;
    for (int i = 0; i < n; i++) {
        check(green_parent(children[i]) == green_main());
        check(green_free(children[i]) == 0);
    }
    free(children);
    assert_noted("");
    return took;
}

CLOCKED_TEST(to_free_a_green_costs_the_same_with_many_children)
{
    int k = times(2000, 100), n = times(50000, 1000), tries = 3;
    double many, one;
    do {
        many = free_above(k, n);
        one = free_above(k, 1);
    } while (many > 20 * one + 0.05 && --tries > 0);
    if (tries == 0)
        fail_msg("%d frees: %g s with %d children, %g s with one", k, many, n, one);
}

int main(void)
{
    return run_all_tests_between(map_stacks, unmap_stacks);
}
