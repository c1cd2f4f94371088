/* SPDX-License-Identifier: MIT */
/*
 * A walk over a binary tree of 2^18 nodes, in order: by a generator that calls
 * itself for each half, by a callback, and by a stack kept by hand.
 */
#include <stdlib.h>

#include <green_fast.h>

#include "bench.h"

enum { DEPTH = 18, NODES = (1 << DEPTH) - 1 };

struct node {
    struct node *left, *right;
    long value;
};

static struct node nodes[NODES];

static struct node *grow(int low, int high)
{
    if (low >= high)
        return NULL;
    int middle = low + (high - low) / 2;
    nodes[middle].left = grow(low, middle);
    nodes[middle].right = grow(middle + 1, high);
    nodes[middle].value = middle;
    return &nodes[middle];
}

static struct node *root(void)
{
    static struct node *top;
    if (top == NULL)
        top = grow(0, NODES);
    return top;
}

/* Every walk must find the nodes in their order. */
static bool follows(long value, long *next)
{
    return value == (*next)++;
}

/* ---- Generators -------------------------------------------------------------- */

static void generate(struct node *node)
{
    if (node == NULL)
        return;
    generate(node->left);
    green_yield(node);
    generate(node->right);
}

static void *run(void *tree)
{
    generate(tree);
    return NULL;
}

static void generate_fast(struct node *node)
{
    if (node == NULL)
        return;
    generate_fast(node->left);
    green_yield_fast(node);
    generate_fast(node->right);
}

static void *run_fast(void *tree)
{
    generate_fast(tree);
    return NULL;
}

static bool walk(void)
{
    long next = 0;
    bool good = true;
    green_t *g = green_new(run, NULL);
    if (g == NULL)
        return false;
    for (struct node *node = root(); (node = green_switch(g, node)) != NULL;)
        good &= follows(node->value, &next);
    return green_free(g) == 0 && good && next == NODES;
}

static bool walk_fast(void)
{
    long next = 0;
    bool good = true;
    green_t *g = green_new(run_fast, NULL);
    if (g == NULL)
        return false;
    for (struct node *node = root(); (node = green_switch_fast(g, node)) != NULL;)
        good &= follows(node->value, &next);
    return green_free(g) == 0 && good && next == NODES;
}

/* ---- Without --------------------------------------------------------------------- */

struct order {
    long next;
    bool good;
};

static void visit(struct node *node, void *arg)
{
    struct order *order = arg;
    order->good &= follows(node->value, &order->next);
}

static void (*volatile visitor)(struct node *, void *) = visit;

static void call_back(struct node *node, void (*fn)(struct node *, void *), void *arg)
{
    if (node == NULL)
        return;
    call_back(node->left, fn, arg);
    fn(node, arg);
    call_back(node->right, fn, arg);
}

static bool walk_by_callback(void)
{
    struct order order = {0, true};
    call_back(root(), visitor, &order);
    return order.good && order.next == NODES;
}

struct iterator {
    struct node *way[DEPTH + 1];
    int depth;
};

static void go_left(struct iterator *iterator, struct node *node)
{
    for (; node != NULL; node = node->left)
        iterator->way[iterator->depth++] = node;
}

__attribute__((noinline)) static struct node *step(struct iterator *iterator)
{
    if (iterator->depth == 0)
        return NULL;
    struct node *node = iterator->way[--iterator->depth];
    go_left(iterator, node->right);
    return node;
}

static bool walk_by_hand(void)
{
    struct iterator iterator = {.depth = 0};
    struct order order = {0, true};
    go_left(&iterator, root());
    for (struct node *node; (node = step(&iterator)) != NULL;)
        visit(node, &order);
    return order.good && order.next == NODES;
}

/* ---- All ----------------------------------------------------------------------------- */

/* C has no pointers to functions in void *. */
struct way {
    bool (*walk)(void);
};

static double nodes_by(void *arg, long n)
{
    const struct way *way = arg;
    double start = bench_now();
    for (long i = 0; i < n; i += NODES)
        if (!way->walk())
            return -1;
    return bench_now() - start;
}

#define WAY(fn) (&(struct way){fn})

int main(int argc, char **argv)
{
    const struct candidate candidates[] = {
        {"generator", "green_yield", nodes_by, WAY(walk), NODES, NULL},
        {"generator", "green_yield_fast", nodes_by, WAY(walk_fast), NODES, NULL},
        {"without", "callback", nodes_by, WAY(walk_by_callback), NODES, NULL},
        {"without", "explicit stack", nodes_by, WAY(walk_by_hand), NODES, NULL},
    };
    return bench(argc, argv, "tree", "one node", candidates,
                 sizeof candidates / sizeof candidates[0]);
}
