/* SPDX-License-Identifier: MIT */
/*
 * Runs somebody else's main(), renamed to their_main(), in a task under the patch, beside a task
 * that gives turns all the time.  GREEN_PLAIN in the environment: without either.
 */
#include <errno.h>
#include <green_hub.h>
#include <green_patch.h>
#include <stdlib.h>

int their_main(int argc, char **argv);

static int argc;
static char **argv;

static void *run(void *result)
{
    *(int *)result = their_main(argc, argv);
    return NULL;
}

static void *give_turns(void *unused)
{
    (void)unused;
    while (green_sleep(GREEN_US(100)) == 0)
        continue;
    return NULL;
}

int main(int count, char **arguments)
{
    const green_options_t options = { .stack_size = 1 << 20 };
    int result = 1;

    argc = count;
    argv = arguments;
    if (getenv("GREEN_PLAIN") != NULL)
        return their_main(count, arguments);
    if (green_patch(GREEN_PATCH_WAIT | GREEN_PATCH_IO | GREEN_PATCH_NAMES) != 0)
        return perror("green_patch"), 1;
    green_task_t *other = green_task_spawn(give_turns, NULL);
    green_task_t *task = green_task_spawn_with(run, &result, &options);
    if (other == NULL || task == NULL || green_task_join(task, NULL, GREEN_FOREVER) != 0)
        return perror("in_task"), 1;
    green_task_free(task);
    green_task_free(other);
    return result;
}
