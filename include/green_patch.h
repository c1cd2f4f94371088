/* SPDX-License-Identifier: MIT */
#ifndef GREEN_PATCH_H
#define GREEN_PATCH_H
/*
 * libgreen's patch: client libraries that know nothing of tasks wait as tasks do.
 * It is a library of its own, for glibc.  green_patch(3) says how to link it.
 *
 * A library that was written for threads blocks: in poll(), in read(), in
 * getaddrinfo().  The patch has functions of these names, which the library finds
 * before the C library's.  In a task of a thread that has asked for it they wait as
 * those of green_hub.h do, and the hub runs other tasks meanwhile:
 *
 *     static void *query(void *unused)
 *     {
 *         PGconn *db = PQconnectdb("");           // waits, as a task
 *         PQclear(PQexec(db, "SELECT pg_sleep(1)"));
 *         PQfinish(db);
 *         return unused;
 *     }
 *
 *     int main(void)
 *     {
 *         green_patch(GREEN_PATCH_WAIT | GREEN_PATCH_IO | GREEN_PATCH_NAMES);
 *         for (int i = 0; i < 10; i++)            // ten seconds' work in one
 *             green_task_detach(green_task_spawn(query, NULL));
 *         return green_hub_wait(GREEN_FOREVER);
 *     }
 *
 * Read "Hazards" in green_patch(7) first.  While a library waits, other tasks run: under the
 * locks that it holds, and with what it has changed for the process.
 *
 * Whose calls.  Those of tasks, the main task too, in a thread that has asked.  All else is
 * passed on untouched: calls in threads that have not asked or have no hub, in trace hooks,
 * of libgreen itself, and whatever does not block: a time of 0, MSG_DONTWAIT, O_NONBLOCK.
 *
 * What they do.  They wait (green_hub.h 3): others may run even if the call need not have
 * waited.  Arguments, results and errors are those of the C library's function, times and
 * limits too: there is none but the caller's.  Only a signal does not end a wait: EINTR is
 * returned where a signal mask lets the signal in, and else never.  The patch owns nothing:
 * descriptors, their modes and memory are the caller's as without it.
 *
 * How they fail.  In a task that is cancelled with ECANCELED, and after the end of a scope's
 * time with ETIMEDOUT, at once, each time: the library unwinds by itself.  A function that has
 * errors of its own says it by one of these, as getaddrinfo() by EAI_SYSTEM.  close() never
 * fails of it, and neither do mutexes, read-write locks, barriers and pthread_once(), which are
 * waited for whatever comes; pthread_cond_wait() fails with the mutex locked again.  Where
 * nothing could ever end the wait (green_hub.h 15) the thread blocks, as without the patch, and
 * locks fail with EDEADLK.
 *
 * The variable GREEN_PATCH of the environment has some of the words wait, io, names, locks
 * and processes, with commas between them, or the word all.  Every thread of the process
 * then begins as if it had asked for these.
 */
#ifdef __cplusplus
extern "C" {
#endif

#define GREEN_PATCH_WAIT 0x1u      /* poll, select, epoll_wait and the like; sleep and the like */
#define GREEN_PATCH_IO 0x2u        /* connect, accept, read, write, recv, send and the like on
                                      sockets, pipes and terminals in blocking mode; close */
#define GREEN_PATCH_NAMES 0x4u     /* getaddrinfo, getnameinfo, gethostbyname, res_query ... */
#define GREEN_PATCH_LOCKS 0x8u     /* pthread_mutex_lock, pthread_cond_wait, sem_wait ... */
#define GREEN_PATCH_PROCESSES 0x10u /* waitpid, wait4, system, popen, pclose ... */

/*
 * Patches these calls, and no others, for the tasks of the calling thread, from now on;
 * 0: none.  A call that waits goes on as it began.  Returns what was patched before, by this
 * or by the environment; -1 with EINVAL for unknown bits, and nothing has changed.
 *
 * For any thread and any green, at any time; it makes no hub.  A new thread begins with what
 * the environment says, whatever its maker has asked for; the child of fork() with what its
 * parent had.
 */
int green_patch(unsigned what);

/*
 * Whether the process's calls come here at all: 0, or -1 with ENOSYS, as something stands
 * before the patch.  Then *missing is the first name that does not come, a string that
 * stays; NULL may be given for missing.
 *
 * It asks how names are looked up now, and nothing else: it does not matter what is patched,
 * or in which thread.  Libraries that do not look there, as those that were loaded with
 * RTLD_DEEPBIND, it does not see.
 */
int green_patch_check(const char **missing);

#ifdef __cplusplus
}
#endif
#endif
