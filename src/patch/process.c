/* SPDX-License-Identifier: MIT */
/*
 * Processes: waitpid() and its kin, system(), popen().
 *
 * One child is waited for by green_waitpid().  Where the call may reap any of several, or asks
 * for more than the end, it asks with WNOHANG, after 1 ms, 2, 4, up to 32: whatever is asked is
 * the real call, so that it reaps what the real one would.  A thread of the pool could reap
 * a child for a wait that has been cancelled meanwhile, and its status would be lost.
 *
 * libc's own system(), popen() and pclose() wait within libc, where nothing of this file is
 * seen: here are others.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "patch/patch.h"

/* ---- A child, or any ---------------------------------------------------------------- */

/* Waits before the n-th time of asking; after a second of that it is 32 ms each. */
static int pause_before(int64_t *pause)
{
    int result = green_sleep(*pause);
    if (*pause < GREEN_MS(32))
        *pause *= 2;
    return result;
}

static pid_t wait_for(pid_t pid, int *status, int options, struct rusage *usage)
{
    int64_t pause = GREEN_MS(1);
    if (pid > 0 && options == 0 && usage == NULL)
        return green_waitpid(pid, status, 0);
    if (green_task_check() != 0)
        return -1;
    for (;;) {
        pid_t result = wait4(pid, status, options | WNOHANG, usage);
        if (result != 0)
            return result;
        if (pause_before(&pause) != 0)
            return -1;
    }
}

HOOK(pid_t, waitpid, pid_t pid, int *status, int options)
{
    PASS_ON(GREEN_PATCH_PROCESSES, waitpid, pid, status, options);
    if ((options & WNOHANG) != 0 || !green__patch_enter(GREEN_PATCH_PROCESSES))
        return NEXT(waitpid)(pid, status, options);
    pid_t result = wait_for(pid, status, options, NULL);
    green__patch_leave();
    return result;
}

HOOK(pid_t, wait, int *status)
{
    PASS_ON(GREEN_PATCH_PROCESSES, wait, status);
    if (!green__patch_enter(GREEN_PATCH_PROCESSES))
        return NEXT(wait)(status);
    pid_t result = wait_for(-1, status, 0, NULL);
    green__patch_leave();
    return result;
}

HOOK(pid_t, wait4, pid_t pid, int *status, int options, struct rusage *usage)
{
    PASS_ON(GREEN_PATCH_PROCESSES, wait4, pid, status, options, usage);
    if ((options & WNOHANG) != 0 || !green__patch_enter(GREEN_PATCH_PROCESSES))
        return NEXT(wait4)(pid, status, options, usage);
    pid_t result = wait_for(pid, status, options, usage);
    green__patch_leave();
    return result;
}

HOOK(pid_t, wait3, int *status, int options, struct rusage *usage)
{
    PASS_ON(GREEN_PATCH_PROCESSES, wait3, status, options, usage);
    if ((options & WNOHANG) != 0 || !green__patch_enter(GREEN_PATCH_PROCESSES))
        return NEXT(wait3)(status, options, usage);
    pid_t result = wait_for(-1, status, options, usage);
    green__patch_leave();
    return result;
}

enum { BY_PIDFD = 3 }; /* P_PIDFD, which older headers do not have */

/* One by a pidfd with O_NONBLOCK says EAGAIN. */
static bool waits_for_id(idtype_t type, id_t id, int options)
{
    long flags = (int)type == BY_PIDFD ? syscall(SYS_fcntl, (int)id, F_GETFL) : 0;
    return (options & WNOHANG) == 0 && (flags < 0 || (flags & O_NONBLOCK) == 0);
}

HOOK(int, waitid, idtype_t type, id_t id, siginfo_t *info, int options)
{
    PASS_ON(GREEN_PATCH_PROCESSES, waitid, type, id, info, options);
    if (!waits_for_id(type, id, options) || !green__patch_enter(GREEN_PATCH_PROCESSES))
        return NEXT(waitid)(type, id, info, options);
    int result = -1;
    int64_t pause = GREEN_MS(1);
    siginfo_t own;
    siginfo_t *at = info != NULL ? info : &own;
    if (green_task_check() == 0)
        for (;;) {
            at->si_pid = 0;
            result = NEXT(waitid)(type, id, at, options | WNOHANG);
            if (result != 0 || at->si_pid != 0)
                break;
            result = pause_before(&pause);
            if (result != 0)
                break;
        }
    green__patch_leave();
    return result;
}

/* ---- Shells ------------------------------------------------------------------------- */

/* Of the process; held over no wait. */
int green__shells_lock;

static void lock_shells(void)
{
    while (__atomic_exchange_n(&green__shells_lock, 1, __ATOMIC_ACQUIRE) != 0)
        sched_yield();
}

static void unlock_shells(void)
{
    __atomic_store_n(&green__shells_lock, 0, __ATOMIC_RELEASE);
}

/* Reaps whatever comes. */
static void reap(pid_t pid, int *status)
{
    green_scope_t shield;
    bool shielded = green_scope_begin(&shield, GREEN_FOREVER, GREEN_SHIELD) == 0;
    if (green_waitpid(pid, status, 0) < 0 && errno != ECHILD)
        while (NEXT(waitpid)(pid, status, 0) < 0 && errno == EINTR)
            continue;
    if (shielded)
        (void)green_scope_end(&shield);
}

/*
 * While any task is in system() the process ignores SIGINT and SIGQUIT, and while one of a
 * thread is, SIGCHLD is blocked in this: the first sets that, the last undoes it.  libc's own
 * system(), in other threads, has a count of its own.
 */
static unsigned systems;
static struct sigaction int_before, quit_before;
static _Thread_local unsigned my_systems;
static _Thread_local sigset_t mask_before;

static void begin_system(sigset_t *mask, sigset_t *defaults)
{
    const struct sigaction ignore = { .sa_handler = SIG_IGN };
    sigset_t child;
    lock_shells();
    if (systems++ == 0) {
        sigaction(SIGINT, &ignore, &int_before);
        sigaction(SIGQUIT, &ignore, &quit_before);
    }
    sigemptyset(defaults);
    if (int_before.sa_handler != SIG_IGN)
        sigaddset(defaults, SIGINT);
    if (quit_before.sa_handler != SIG_IGN)
        sigaddset(defaults, SIGQUIT);
    unlock_shells();
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    if (my_systems++ == 0)
        pthread_sigmask(SIG_BLOCK, &child, &mask_before);
    *mask = mask_before;
}

static void end_system(void)
{
    int error = errno;
    if (--my_systems == 0)
        pthread_sigmask(SIG_SETMASK, &mask_before, NULL);
    lock_shells();
    if (--systems == 0) {
        sigaction(SIGINT, &int_before, NULL);
        sigaction(SIGQUIT, &quit_before, NULL);
    }
    unlock_shells();
    errno = error;
}

static int spawn_shell(pid_t *pid, const char *command, const posix_spawn_file_actions_t *files,
                       const posix_spawnattr_t *attributes)
{
    char *const words[] = { (char *)"sh", (char *)"-c", (char *)"--", (char *)command, NULL };
    return posix_spawn(pid, "/bin/sh", files, attributes, words, environ);
}

/* As libc's when its thread is cancelled: the shell is killed, and reaped. */
static int run_system(const char *command)
{
    sigset_t mask, defaults;
    posix_spawnattr_t attributes;
    pid_t pid;
    int status = -1;
    if (green_task_check() != 0)
        return -1;
    begin_system(&mask, &defaults);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &mask);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
    int error = spawn_shell(&pid, command, NULL, &attributes);
    posix_spawnattr_destroy(&attributes);
    if (error != 0) {
        status = W_EXITCODE(127, 0);
        errno = error;
    } else if (green_waitpid(pid, &status, 0) != pid) {
        status = -1;
        error = errno;
        if (error != ECHILD) {
            int unused;
            kill(pid, SIGKILL);
            reap(pid, &unused);
        }
        errno = error;
    }
    end_system();
    return status;
}

HOOK(int, system, const char *command)
{
    PASS_ON(GREEN_PATCH_PROCESSES, system, command);
    if (!green__patch_enter(GREEN_PATCH_PROCESSES))
        return NEXT(system)(command);
    int status = command != NULL ? run_system(command) : run_system("exit 0") == 0;
    green__patch_leave();
    return status;
}

/* ---- Pipes to shells ------------------------------------------------------------------ */

/* A stream of popen(), and then, without one, a child that is to be reaped. */
struct pipe_to {
    struct pipe_to *next;
    FILE *stream;
    int fd;
    pid_t pid;
};

static struct pipe_to *pipes;

static struct pipe_to *take_pipe(const FILE *stream)
{
    lock_shells();
    struct pipe_to **at = &pipes;
    while (*at != NULL && (*at)->stream != stream)
        at = &(*at)->next;
    struct pipe_to *found = *at;
    if (found != NULL)
        *at = found->next;
    unlock_shells();
    return found;
}

static bool is_mode(const char *mode, bool *reads, bool *closes)
{
    int directions = 0;
    *closes = false;
    for (; *mode != '\0'; mode++)
        if (*mode == 'r' || *mode == 'w') {
            *reads = *mode == 'r';
            directions++;
        } else if (*mode == 'e') {
            *closes = true;
        } else {
            return false;
        }
    return directions == 1;
}

/* The streams of earlier calls are closed in the child, as POSIX has it. */
static int spawn_into(struct pipe_to *pipe_to, const char *command, int theirs, bool reads)
{
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    int error = posix_spawn_file_actions_adddup2(&files, theirs, reads ? 1 : 0);
    for (struct pipe_to *other = pipes; other != NULL && error == 0; other = other->next)
        if (other->fd != (reads ? 1 : 0))
            error = posix_spawn_file_actions_addclose(&files, other->fd);
    if (error == 0)
        error = spawn_shell(&pipe_to->pid, command, &files, NULL);
    posix_spawn_file_actions_destroy(&files);
    return error;
}

/*
 * A stream of green_fdopen(), whose reads and writes wait as tasks do.  libc has its
 * descriptor for fileno() nowhere else than there.
 */
static FILE *open_stream(int fd, bool reads)
{
    FILE *stream = green_fdopen(fd, reads ? "r" : "w");
    if (stream != NULL)
        stream->_fileno = fd;
    return stream;
}

static FILE *open_pipe(const char *command, bool reads, bool closes)
{
    int ends[2];
    struct pipe_to *pipe_to = calloc(1, sizeof *pipe_to);
    if (pipe_to == NULL)
        return NULL;
    if (pipe2(ends, O_CLOEXEC) != 0) {
        free(pipe_to);
        return NULL;
    }
    int ours = ends[reads ? 0 : 1], theirs = ends[reads ? 1 : 0];
    pipe_to->fd = ours;
    pipe_to->stream = open_stream(ours, reads);
    int error = pipe_to->stream == NULL ? errno : 0;
    if (error == 0) {
        lock_shells();
        error = spawn_into(pipe_to, command, theirs, reads);
        if (error == 0) {
            if (!closes)
                fcntl(ours, F_SETFD, 0);
            pipe_to->next = pipes;
            pipes = pipe_to;
        }
        unlock_shells();
    }
    (void)close(theirs);
    if (error == 0)
        return pipe_to->stream;
    if (pipe_to->stream != NULL)
        (void)fclose(pipe_to->stream);
    else
        (void)close(ours);
    free(pipe_to);
    errno = error;
    return NULL;
}

HOOK(FILE *, popen, const char *command, const char *mode)
{
    PASS_ON(GREEN_PATCH_PROCESSES, popen, command, mode);
    bool reads = false, closes;
    if (!is_mode(mode, &reads, &closes) || !green__patch_enter(GREEN_PATCH_PROCESSES))
        return NEXT(popen)(command, mode);
    FILE *stream = green_task_check() == 0 ? open_pipe(command, reads, closes) : NULL;
    green__patch_leave();
    return stream;
}

/* A child whose pclose() has failed of a cancel: it is reaped when it ends. */
static void *reap_later(void *arg)
{
    pid_t pid = (pid_t)(intptr_t)arg;
    (void)green_waitpid(pid, NULL, 0);
    return NULL;
}

static int close_pipe(struct pipe_to *pipe_to)
{
    int status;
    pid_t pid = pipe_to->pid;
    (void)fclose(pipe_to->stream);
    free(pipe_to);
    if (green_waitpid(pid, &status, 0) == pid)
        return status;
    int error = errno;
    if (error != ECHILD) {
        const green_options_t options = { .flags = GREEN_DETACHED | GREEN_DAEMON };
        (void)green_task_spawn_with(reap_later, (void *)(intptr_t)pid, &options);
    }
    errno = error;
    return -1;
}

/* A stream of popen() above may be closed by whoever has not asked for anything. */
HOOK(int, pclose, FILE *stream)
{
    struct pipe_to *pipe_to = __atomic_load_n(&pipes, __ATOMIC_RELAXED) != NULL ? take_pipe(stream)
                                                                                : NULL;
    if (pipe_to == NULL)
        return NEXT(pclose)(stream);
    if (green__patch_enter(GREEN_PATCH_PROCESSES)) {
        int result = close_pipe(pipe_to);
        green__patch_leave();
        return result;
    }
    int status = -1;
    pid_t pid = pipe_to->pid, reaped;
    (void)fclose(stream);
    free(pipe_to);
    while ((reaped = NEXT(waitpid)(pid, &status, 0)) < 0 && errno == EINTR)
        continue;
    return reaped == pid ? status : -1;
}

HOOK_TOO(waitpid, __waitpid);
HOOK_TOO(wait, __wait);

HOOKS(processes) = {
    HOOKED(waitpid), HOOKED(wait),  HOOKED(wait3),  HOOKED(wait4), HOOKED(waitid),
    HOOKED(system),  HOOKED(popen), HOOKED(pclose),
    HOOKED_TOO(waitpid, __waitpid), HOOKED_TOO(wait, __wait), HOOKS_END,
};
