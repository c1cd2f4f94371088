/* SPDX-License-Identifier: MIT
 *
 * Workers share a queue of jobs, and main prints the results as they come.
 *
 * A job is a number of milliseconds, the time it takes; anything else cannot be
 * done.  The first that fails stops all: the workers are a group of the kind
 * GREEN_ALL_OR_NONE, so that the failure of one cancels the others in whatever
 * they wait.
 *
 *     workers [-w WORKERS] [-v] JOB...     say 300 100 200; two workers unless given
 *
 * With -v in virtual time: the same lines, but nobody waits.
 */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <green_hub.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct job {
    const char *text;
    int number, error;
};

static green_queue_t *jobs, *results;

/* Puts all of them; that is a task too, as it waits while the workers are busy. */
static void *hand_out(void *texts)
{
    struct job job = { NULL, 0, 0 };

    for (char **text = texts; *text != NULL; text++) {
        job.text = *text;
        job.number++;
        if (green_queue_put(jobs, &job, GREEN_FOREVER) != 0)
            return GREEN_FAILED;
    }
    green_queue_close(jobs); /* the workers end when they have done them */
    return NULL;
}

static int do_job(const struct job *job)
{
    char *end;
    long time = strtol(job->text, &end, 10);

    if (end == job->text || *end != '\0' || time < 0 || time > 1000000) {
        errno = EINVAL;
        return -1;
    }
    return green_sleep(GREEN_MS(time));
}

static void *work(void *unused)
{
    struct job job;

    (void)unused;
    while (green_queue_get(jobs, &job, GREEN_FOREVER) == 0) {
        job.error = do_job(&job) == 0 ? 0 : errno;
        if (green_queue_put(results, &job, GREEN_FOREVER) != 0)
            return GREEN_FAILED;
        errno = job.error;
        if (job.error != 0)
            return GREEN_FAILED;
    }
    return errno == EPIPE ? NULL : GREEN_FAILED; /* EPIPE: closed, and empty */
}

/* There are no more results when the group has ended, in one way or the other. */
static void *close_results(void *group)
{
    int error;

    if (green_group_wait(group, &error, GREEN_FOREVER) != 0)
        error = errno;
    green_queue_close(results);
    errno = error;
    return error == 0 ? NULL : GREEN_FAILED;
}

/* The workers, and who gives them something to do. */
static int hire(green_group_t *group, int workers, char **texts)
{
    char name[32];

    for (int i = 1; i <= workers; i++) {
        snprintf(name, sizeof name, "worker %d", i);
        if (green_group_spawn_with(group, work, NULL, &(green_options_t){ .name = name }) != 0)
            return -1;
    }
    return green_group_spawn_with(group, hand_out, texts, &(green_options_t){ .name = "foreman" });
}

int main(int argc, char **argv)
{
    green_hub_options_t options = { .flags = 0 };
    int workers = 2, failed = 0, done = 0;
    green_group_t *group;
    green_task_t *closer;
    struct job job;
    void *value;

    for (int option; (option = getopt(argc, argv, "w:v")) != -1; ) {
        if (option == 'v')
            options.flags = GREEN_HUB_VIRTUAL_TIME;
        else
            workers = option == 'w' ? atoi(optarg) : 0;
    }
    if (workers < 1 || optind == argc)
        return fprintf(stderr, "usage: workers [-w WORKERS] [-v] JOB...\n"), 2;

    if (green_hub_init(&options) != 0 || (jobs = green_queue_new(sizeof job, 1)) == NULL
        || (results = green_queue_new(sizeof job, 0)) == NULL
        || (group = green_group_new(0, GREEN_ALL_OR_NONE)) == NULL
        || hire(group, workers, argv + optind) != 0
        || (closer = green_task_spawn_with(close_results, group,
                                            &(green_options_t){ .name = "closer" })) == NULL)
        return perror("workers"), 1;

    while (green_queue_get(results, &job, GREEN_FOREVER) == 0) {
        if (job.error == 0)
            done += printf("job %d, of %s ms\n", job.number, job.text) > 0;
        else
            printf("job %d: %s\n", job.number, strerror(job.error));
    }
    if (green_task_join(closer, &value, GREEN_FOREVER) != 0)
        return perror("workers"), 1;
    failed = value == GREEN_FAILED;
    printf("%d of %d done%s\n", done, argc - optind, failed ? ", the rest was given up" : "");
    if (fflush(stdout) == EOF)
        return perror("workers"), 1;
    if (green_task_free(closer) || green_group_free(group) || green_queue_free(jobs)
        || green_queue_free(results))
        return perror("workers"), 1;
    return failed;
}
