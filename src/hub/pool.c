/* SPDX-License-Identifier: MIT */
/*
 * The process's pool of threads: for what blocks a thread, and for long computations.
 *
 * A thread is started when there is something to do and none is idle, up to the limit, and
 * ends when it has been idle for long.  A call that has ended is posted to its hub.  A
 * call whose wait was given up (`drop`) is the pool's alone: it drops the result.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include "pool.h"

#define PLACE __builtin_return_address(0)
#define IDLE_SECONDS 10

/* Of a job with `drop`: who is first, its end or the end of its wait. */
enum job_state { JOB_WANTED, JOB_ENDED, JOB_GIVEN_UP };

static pthread_mutex_t pool_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t pool_work; /* for idle threads; on CLOCK_MONOTONIC */
static pthread_cond_t pool_done = PTHREAD_COND_INITIALIZER; /* a job has left its hub's thread */
static struct green__job *pool_first, **pool_last = &pool_first;
static unsigned pool_threads, pool_idle, pool_looking_up, pool_queued;

/* ---- In the pool's threads; under the lock but while a job runs -------------------------- */

static unsigned most_threads(void)
{
    return atomic_load_explicit(&green__hub_pool_threads, memory_order_relaxed);
}

static bool may_run(const struct green__job *job)
{
    unsigned half = most_threads() / 2;
    return !job->looks_up || pool_looking_up < (half != 0 ? half : 1);
}

static struct green__job *take_job(void)
{
    for (struct green__job **at = &pool_first; *at != NULL; at = &(*at)->next) {
        struct green__job *job = *at;
        if (!may_run(job))
            continue;
        *at = job->next;
        if (pool_last == &job->next)
            pool_last = at;
        pool_looking_up += job->looks_up;
        pool_queued--;
        return job;
    }
    return NULL;
}

/* What a thread is at. */
struct work {
    struct green__job *job; /* NULL: it has ended, and may be gone */
    bool looks_up;
};

static void end_work(const struct work *work)
{
    green__own_lock(&pool_lock);
    pool_looking_up -= work->looks_up;
    pthread_cond_broadcast(&pool_done);
}

/* The last touch of a job whose memory is the caller's is the post.  Takes the lock. */
static void end_job(struct work *work, void *value, int error)
{
    struct green__job *job = work->job;
    void (*drop)(void *value) = job->drop;
    work->job = NULL;
    job->value = value;
    job->error = error;
    if (drop != NULL) {
        int wanted = JOB_WANTED;
        if (!atomic_compare_exchange_strong(&job->state, &wanted, JOB_ENDED)) {
            free(job);
            job = NULL;
            drop(value);
        }
    }
    end_work(work);
    if (job != NULL) {
        job->ended = true;
        green__remote_post(job->hub->remote, &job->post);
    }
}

static int start_thread(void);

/* By pthread_exit() in what it ran, or as that was cancelled: another does what is left. */
static void leave_thread(void *arg)
{
    struct work *work = arg;
    if (work->job != NULL)
        end_job(work, GREEN_FAILED, ECANCELED);
    else
        end_work(work);
    pool_threads--;
    if (pool_first != NULL && pool_idle == 0)
        (void)start_thread();
    pthread_mutex_unlock(&pool_lock);
}

static void do_job(struct green__job *job)
{
    struct work work = {.job = job, .looks_up = job->looks_up};
    void *value;
    pthread_mutex_unlock(&pool_lock);
    pthread_cleanup_push(leave_thread, &work);
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
    errno = 0;
    value = job->run(job->arg);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    end_job(&work, value, errno);
    pthread_cleanup_pop(0);
}

static void *pool_thread(void *unused)
{
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    green__hub_forbidden = true;
    green__own_lock(&pool_lock);
    for (;;) {
        struct green__job *job = take_job();
        if (job != NULL) {
            do_job(job);
            continue;
        }
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += IDLE_SECONDS;
        pool_idle++;
        int error = pthread_cond_timedwait(&pool_work, &pool_lock, &until);
        pool_idle--;
        if (error != 0 && pool_first == NULL)
            break;
    }
    pool_threads--;
    pthread_mutex_unlock(&pool_lock);
    return unused;
}

/* With all signals blocked: the program's handlers run in its own threads. */
static int start_thread(void)
{
    pthread_t thread;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&thread, NULL, pool_thread, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error == 0) {
        pthread_detach(thread);
        pool_threads++;
    }
    return error;
}

/* ---- In the hubs' threads -------------------------------------------------------------------- */

static void begin_pool_work(void)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes); /* which cannot fail, nor what follows */
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&pool_work, &attributes);
    pthread_condattr_destroy(&attributes);
}

static void reset_pool(void)
{
    pthread_mutex_init(&pool_lock, NULL);
    begin_pool_work();
    pthread_cond_init(&pool_done, NULL);
    pool_first = NULL;
    pool_last = &pool_first;
    pool_threads = pool_idle = pool_looking_up = pool_queued = 0;
}

static bool fork_is_handled;

static void begin_pool(void)
{
    begin_pool_work();
    fork_is_handled = pthread_atfork(NULL, NULL, reset_pool) == 0;
}

/* Gives a job to the pool: 0, or EAGAIN. */
static int queue_job(struct green__job *job)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    int error = 0;
    (void)GREEN__OWN(pthread_once(&once, begin_pool));
    if (!fork_is_handled)
        return ENOMEM;
    green__own_lock(&pool_lock);
    if (pool_queued >= pool_idle && pool_threads < most_threads() && start_thread() != 0 &&
        pool_threads == 0)
        error = EAGAIN;
    if (error == 0) {
        job->next = NULL;
        *pool_last = job;
        pool_last = &job->next;
        pool_queued++;
        pthread_cond_signal(&pool_work);
    }
    pthread_mutex_unlock(&pool_lock);
    return error;
}

static void job_leaves_hub(struct green__hub *hub, struct green__job *job)
{
    if (job->hub_prev != NULL)
        job->hub_prev->hub_next = job->hub_next;
    else
        hub->jobs = job->hub_next;
    if (job->hub_next != NULL)
        job->hub_next->hub_prev = job->hub_prev;
    hub->offloads--;
    green__loop_remove_world(hub);
}

static void job_enters_hub(struct green__hub *hub, struct green__job *job)
{
    job->hub_prev = NULL;
    job->hub_next = hub->jobs;
    if (hub->jobs != NULL)
        hub->jobs->hub_prev = job;
    hub->jobs = job;
    hub->offloads++;
    green__loop_add_world(hub);
}

/* The post of a job has come to its hub. */
static bool job_arrives(struct green__hub *hub, struct green__post *post)
{
    struct green__job *job = (struct green__job *)post;
    if (hub == NULL)
        return true;
    job_leaves_hub(hub, job);
    if (job->wait->state == GREEN__WAITS)
        green__wait_serve_alone(hub, job->wait);
    job->hub = NULL; /* its wait has failed otherwise, and looks at this */
    return true;
}

/*
 * Those that nobody has begun are taken back; those with `drop` are the pool's from now
 * on; for the others' ends it waits, as they have memory of tasks.
 */
static void leave_pool(struct green__hub *hub)
{
    struct green__job *ended = NULL;
    green__own_lock(&pool_lock);
    for (struct green__job *job = hub->jobs, *next; job != NULL; job = next) {
        int wanted = JOB_WANTED;
        next = job->hub_next;
        if (job->drop != NULL &&
            atomic_compare_exchange_strong(&job->state, &wanted, JOB_GIVEN_UP))
            continue;
        struct green__job **at = &pool_first;
        while (*at != NULL && *at != job)
            at = &(*at)->next;
        if (*at == job) {
            *at = job->next;
            if (pool_last == &job->next)
                pool_last = at;
            pool_queued--;
            continue;
        }
        while (!job->ended)
            (void)GREEN__OWN(pthread_cond_wait(&pool_done, &pool_lock));
        if (job->drop != NULL) {
            job->hub_next = ended;
            ended = job;
        }
    }
    hub->jobs = NULL;
    hub->offloads = 0;
    pthread_mutex_unlock(&pool_lock);
    green__remote_detach(hub); /* where their posts are */
    for (struct green__job *job; (job = ended) != NULL;) {
        ended = job->hub_next;
        job->drop(job->value);
        free(job);
    }
}

/* All that waited for a thread fails: rule 20. */
static void fork_jobs(struct green__hub *hub)
{
    for (struct green__job *job; (job = hub->jobs) != NULL;) {
        job_leaves_hub(hub, job);
        if (job->wait->state == GREEN__WAITS)
            green__wait_fail(hub, job->wait, ECANCELED);
        job->hub = NULL;
    }
}

static int not_begun(struct green__job *job, int error)
{
    free(job);
    errno = error;
    return GREEN__POOL_NOT_BEGUN;
}

static void *hand_on(void *value)
{
    return value;
}

/* What came is dropped in a thread of the pool, where drop() may block; else here. */
static void drop_in_pool(struct green__job *job)
{
    job->run = hand_on;
    job->arg = job->value;
    job->looks_up = false;
    atomic_store(&job->state, JOB_GIVEN_UP);
    if (queue_job(job) == 0)
        return;
    job->drop(job->value);
    free(job);
}

int green__pool_call(struct green__call *call, green_fn *run, void *arg, void **value,
                     void (*drop)(void *value), bool looks_up, const char *name,
                     const void *object, const void *place)
{
    struct green__hub *hub = call->hub;
    struct green__job own, *job = drop != NULL ? malloc(sizeof *job) : &own;
    struct green__wait wait;
    if (job == NULL)
        return not_begun(NULL, ENOMEM);
    hub->leave_pool = leave_pool;
    hub->fork_pool = fork_jobs;
    if (hub->green == NULL || green__remote_need(hub) != 0)
        return not_begun(drop != NULL ? job : NULL, hub->green == NULL ? ECANCELED : errno);
    *job = (struct green__job){
        .post = {.arrive = job_arrives},
        .hub = hub,
        .wait = &wait,
        .run = run,
        .arg = arg,
        .drop = drop,
        .looks_up = looks_up,
    };
    green__wait_prepare(&wait, call, name, object, place);
    wait.shielded = drop == NULL;
    int error = queue_job(job);
    if (error != 0)
        return not_begun(drop != NULL ? job : NULL, error);
    job_enters_hub(hub, job);

    int result = green__wait(hub, &wait, GREEN_FOREVER);
    error = errno;
    if (result != 0) {
        if (drop == NULL)
            return green__call_fail(error);
        int wanted = JOB_WANTED;
        bool in_child = job->hub == NULL; /* where no thread has it */
        if (!in_child)
            job_leaves_hub(hub, job); /* before it is the pool's, which frees it */
        if (atomic_compare_exchange_strong(&job->state, &wanted, JOB_GIVEN_UP)) {
            if (in_child)
                free(job);
            return green__call_fail(error);
        }
        if (!in_child)
            job_enters_hub(hub, job);
        /* It has ended, and its post has come or is under way. */
        while (job->hub != NULL && hub->green != NULL)
            green__wait_give_turn(hub, call->me);
        if (job->hub != NULL)
            return green__call_fail(error); /* the thread's end will */
        drop_in_pool(job);
        return green__call_fail(error);
    }
    if (value != NULL) {
        *value = job->value;
        if (job->value == GREEN_FAILED)
            error = job->error;
    }
    if (drop != NULL)
        free(job);
    errno = error;
    return 0;
}

int green_offload(green_fn *run, void *arg, void **value, void (*drop)(void *value))
{
    struct green__call call;
    if (run == NULL)
        return green__call_fail(EINVAL);
    if (!green__call_begin(&call, GREEN_FOREVER))
        return -1;
    int result = green__pool_call(&call, run, arg, value, drop, false, "green_offload", arg, PLACE);
    if (result == GREEN__POOL_NOT_BEGUN)
        return green__call_tried(&call, GREEN_FOREVER, errno);
    return result;
}
