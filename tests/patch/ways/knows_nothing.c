/* SPDX-License-Identifier: MIT */
/*
 * Has tasks in two threads, and has never heard of the patch: with it, they poll side by
 * side, and who asks for the shorter time is the first.
 */
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>

#include <green_hub.h>

static void *poll_for(void *ms)
{
    if (poll(NULL, 0, (int)(intptr_t)ms) == 0)
        printf(" %d", (int)(intptr_t)ms);
    return NULL;
}

static void *have_tasks(void *name)
{
    printf("%s:", (const char *)name);
    green_task_t *tasks[2];
    for (int i = 0; i < 2; i++)
        tasks[i] = green_task_spawn(poll_for, (void *)(intptr_t)(60 - 40 * i));
    for (int i = 0; i < 2; i++)
        if (tasks[i] == NULL || green_task_join(tasks[i], NULL, GREEN_FOREVER) != 0 ||
            green_task_free(tasks[i]) != 0)
            perror("task");
    printf("\n");
    return name;
}

int main(void)
{
    pthread_t thread;
    have_tasks((void *)"main");
    if (pthread_create(&thread, NULL, have_tasks, (void *)"thread") != 0 ||
        pthread_join(thread, NULL) != 0)
        return 1;
    return green_hub_end(GREEN_FOREVER);
}
