/* SPDX-License-Identifier: MIT
 *
 * A look inside: every switch of a run, as Chrome's trace events, which
 * https://ui.perfetto.dev draws and examples/draw_trace.py too.
 *
 *     GREEN_TRACE=trace.json ./producer_consumer -n 4 -i 0
 *
 * All there is to it is a hook, green_set_trace(), which each thread sets for
 * itself: the main one before main(), every other as it begins, which is why this
 * is linked with -Wl,--wrap=pthread_create.  In the file a thread is a
 * "process" and a green one of its "threads", with a slice (B, E) for each time
 * that it ran and an arrow (s, f) from who left to who was entered.  An arrow
 * belongs to the slice that it is in, so it begins a nanosecond before the one
 * ends and ends a nanosecond after the other has begun.  An event is a line.
 */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <green.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* The track of a green.  A handle whose green is dead may come back as another's. */
struct track {
    green_t *green; /* NULL: free */
    unsigned tid;   /* 0: dead */
};

/* What is known of a thread: a hash table of its greens, by address. */
struct thread {
    unsigned pid, running; /* the tid of who runs */
    uint64_t since;        /* and from when on */
    struct track *tracks;
    size_t size, used; /* of the table, a power of two; at most half is used */
};

static FILE *file; /* NULL: do not trace */
static struct timespec start;
static unsigned threads, tids, arrows; /* how many there were: the last number given */
static pthread_key_t key;              /* the struct thread */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* for all of the above */

/* One line: an event of that kind now, in microseconds, on a track of the thread's. */
static void line(const struct thread *thread, const char *kind, unsigned tid, uint64_t now)
{
    fprintf(file, ",\n{\"ph\":\"%s\",\"pid\":%u,\"tid\":%u,\"ts\":%" PRIu64 ".%03u,\"cat\":\"green\"",
            kind, thread->pid, tid, now / 1000, (unsigned)(now % 1000));
}

/* The line that names a thread or a green; the file's first line is one. */
static void name_line(const struct thread *thread, unsigned tid, const char *what, const char *name)
{
    fprintf(file, "%s\n{\"ph\":\"M\",\"pid\":%u,\"tid\":%u,\"name\":\"%s\",\"args\":{\"name\":\"",
            tids == 0 ? "[" : ",", thread->pid, tid, what);
    for (; *name != '\0'; name++)
        putc(*name < ' ' || *name > '~' || *name == '"' || *name == '\\' ? '?' : *name, file);
    fputs("\"}}", file);
}

/* Later than the last slice began, by so much that two ends of arrows fit in. */
static uint64_t nanoseconds(const struct thread *thread)
{
    struct timespec now;
    uint64_t time;

    clock_gettime(CLOCK_MONOTONIC, &now);
    time = (uint64_t)(now.tv_sec - start.tv_sec) * 1000000000u + (uint64_t)now.tv_nsec
           - (uint64_t)start.tv_nsec;
    return time >= thread->since + 3 ? time : thread->since + 3;
}

static _Noreturn void no_memory(void)
{
    perror("GREEN_TRACE");
    abort();
}

static struct track *find(struct thread *thread, green_t *g)
{
    size_t i = ((uintptr_t)g >> 4) * 2654435761u;

    while (thread->tracks[i &= thread->size - 1].green != NULL
           && thread->tracks[i].green != g)
        i++;
    return &thread->tracks[i];
}

static void grow(struct thread *thread)
{
    struct thread larger = *thread;

    larger.size = thread->size > 0 ? thread->size * 2 : 16;
    larger.tracks = calloc(larger.size, sizeof *larger.tracks);
    if (larger.tracks == NULL)
        no_memory();
    for (size_t i = 0; i < thread->size; i++)
        if (thread->tracks[i].green != NULL)
            *find(&larger, thread->tracks[i].green) = thread->tracks[i];
    free(thread->tracks);
    *thread = larger;
}

static struct track *track_of(struct thread *thread, green_t *g)
{
    char name[32];
    struct track *track;

    if (thread->used >= thread->size / 2)
        grow(thread);
    track = find(thread, g);
    thread->used += track->green == NULL;
    track->green = g;
    if (track->tid == 0) {
        snprintf(name, sizeof name, "green %u", ++tids);
        name_line(thread, tids, "thread_name", green_name(g) != NULL ? green_name(g) : name);
        track->tid = tids;
    }
    return track;
}

/* The hook.  Who is entered must not see what it does to errno. */
static void note(green_trace_event_t event, green_t *from, green_t *to, void *data)
{
    int error = errno;
    struct thread *thread = data;
    const char *what = event == GREEN_TRACE_THROW ? "throw" : "switch";

    pthread_mutex_lock(&lock);
    if (file != NULL && from != to) {
        uint64_t now = nanoseconds(thread);
        unsigned left = thread->running;

        thread->running = track_of(thread, to)->tid;
        thread->since = now;
        line(thread, "s", left, now - 1);
        fprintf(file, ",\"id\":%u,\"name\":\"%s\"}", ++arrows, what);
        line(thread, "E", left, now);
        fputs("}", file);
        line(thread, "B", thread->running, now);
        fputs(",\"name\":\"run\"}", file);
        line(thread, "f", thread->running, now + 1);
        fprintf(file, ",\"id\":%u,\"name\":\"%s\",\"bp\":\"e\"}", arrows, what);
        if (green_state(from) == GREEN_DEAD)
            find(thread, from)->tid = 0;
    }
    pthread_mutex_unlock(&lock);
    errno = error;
}

static void begin_thread(void)
{
    char name[32];
    struct thread *thread;

    pthread_mutex_lock(&lock);
    if (file == NULL) {
        pthread_mutex_unlock(&lock);
        return;
    }
    thread = calloc(1, sizeof *thread);
    if (thread == NULL || pthread_setspecific(key, thread) != 0)
        no_memory();
    thread->pid = ++threads;
    snprintf(name, sizeof name, "thread %u", thread->pid);
    name_line(thread, 0, "process_name", name);
    thread->running = track_of(thread, green_current())->tid;
    thread->since = nanoseconds(thread);
    line(thread, "B", thread->running, thread->since);
    fputs(",\"name\":\"run\"}", file);
    pthread_mutex_unlock(&lock);
    green_set_trace(note, thread);
}

/* A thread's end: its last slice. */
static void end_thread(void *data)
{
    struct thread *thread = data;

    if (thread == NULL)
        return;
    green_set_trace(NULL, NULL);
    pthread_mutex_lock(&lock);
    if (file != NULL) {
        line(thread, "E", thread->running, nanoseconds(thread));
        fputs("}", file);
    }
    pthread_mutex_unlock(&lock);
    free(thread->tracks);
    free(thread);
}

/* The process's end.  The array is closed, and threads that live on are not traced. */
static void end(void)
{
    end_thread(pthread_getspecific(key));
    pthread_mutex_lock(&lock);
    if (file != NULL && (fputs("\n]\n", file) == EOF || fclose(file) == EOF))
        perror("GREEN_TRACE");
    file = NULL;
    pthread_mutex_unlock(&lock);
}

/* A child process would write into the same file. */
static void before_fork(void)
{
    pthread_mutex_lock(&lock);
    if (file != NULL)
        fflush(file);
}

static void in_parent(void)
{
    pthread_mutex_unlock(&lock);
}

static void in_child(void)
{
    file = NULL;
    pthread_mutex_unlock(&lock);
}

/* Every thread that the program starts begins here. */
struct beginning {
    void *(*run)(void *);
    void *argument;
};

static void *run_thread(void *argument)
{
    struct beginning beginning = *(struct beginning *)argument;

    free(argument);
    begin_thread();
    return beginning.run(beginning.argument);
}

int __real_pthread_create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
int __wrap_pthread_create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*run)(void *), void *argument)
{
    struct beginning *beginning = malloc(sizeof *beginning);
    int error;

    if (beginning == NULL)
        return EAGAIN;
    *beginning = (struct beginning){ run, argument };
    error = __real_pthread_create(thread, attributes, run_thread, beginning);
    if (error != 0)
        free(beginning);
    return error;
}

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("GREEN_TRACE");

    if (path == NULL)
        return;
    file = fopen(path, "w");
    if (file == NULL || (errno = pthread_key_create(&key, end_thread)) != 0
        || (errno = pthread_atfork(before_fork, in_parent, in_child)) != 0 || atexit(end) != 0) {
        perror(path);
        exit(1);
    }
    clock_gettime(CLOCK_MONOTONIC, &start);
    begin_thread();
}
