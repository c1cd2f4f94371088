/* SPDX-License-Identifier: MIT
 *
 * A producer and a consumer as plain functions that call each other.  Neither
 * ever returns, so every item leaves two more frames on the stack, until that
 * has run out; green_report_overflow() says whose it was.  That happens in a
 * child process.  Then the same two as greens, with stacks of the same size.
 */
#define _DEFAULT_SOURCE

#include <green.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STACK = 64 << 10, ENOUGH = 1000000 };

static long *items; /* shared with the child, so that it outlives it */

/* ---- As functions.  The compiler may not look through the pointers and make a loop of it. */

static void consume(char *item);
static void produce(void);
static void (*volatile call_consume)(char *item) = consume;
static void (*volatile call_produce)(void) = produce;

static void produce(void)
{
    char item = (char)('a' + *items % 26);

    call_consume(&item);
}

static void consume(char *item)
{
    *items += *item >= 'a';
    call_produce();
}

static void *recurse(void *value)
{
    call_produce();
    return value;
}

static int child(void)
{
    const struct rlimit no_core = { 0, 0 };
    green_options_t options = { .name = "recursion", .stack_size = STACK };
    green_t *g = green_new_with(recurse, NULL, &options);

    if (g == NULL || green_report_overflow() == -1 || setrlimit(RLIMIT_CORE, &no_core) == -1)
        return perror("recursion"), 1;
    green_switch(g, NULL);
    return 0; /* not reached */
}

/* ---- As greens. */

static green_t *producer, *consumer;

static void *produce_on(void *value)
{
    for (char item; *items < ENOUGH && value != GREEN_FAILED; value = green_switch(consumer, &item))
        item = (char)('a' + *items % 26);
    return value;
}

static void *consume_on(void *item)
{
    for (; item != GREEN_FAILED; item = green_switch(producer, NULL))
        *items += *(char *)item >= 'a';
    return NULL;
}

int main(void)
{
    const green_options_t options = { .stack_size = STACK };
    int status;
    pid_t pid;

    items = mmap(NULL, sizeof *items, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (items == MAP_FAILED || (pid = fork()) == -1)
        return perror("recursion"), 1;
    if (pid == 0)
        _exit(child());
    if (waitpid(pid, &status, 0) == -1)
        return perror("recursion"), 1;
    printf("as functions: %ld items, then: %s\n", *items,
           WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "it ended by itself");

    *items = 0;
    producer = green_new_with(produce_on, NULL, &options);
    consumer = green_new_with(consume_on, NULL, &options);
    if (!producer || !consumer || green_switch(producer, NULL) == GREEN_FAILED)
        return perror("recursion"), 1;
    printf("as greens: %ld items, and %zu bytes of stack in use\n", *items,
           green_stack_used(consumer));
    if (fflush(stdout) == EOF)
        return perror("recursion"), 1;
    return green_free(consumer) || green_free(producer);
}
