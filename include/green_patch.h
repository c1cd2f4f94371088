/* SPDX-License-Identifier: MIT */
#ifndef GREEN_PATCH_H
#define GREEN_PATCH_H
/*
 * libgreen's patch: client libraries that know nothing of tasks wait as tasks do.
 * It is a library of its own, for glibc.
 *
 * A library that was written for threads blocks: in poll(), in read(), in
 * getaddrinfo().  The patch has functions of these names, which a program finds before
 * the C library's.  In a task of a thread that has asked for it they wait as those of
 * green_hub.h do, and the hub runs other tasks meanwhile:
 *
 *     static void *query(void *number)
 *     {
 *         PGconn *db = PQconnectdb("");           // waits, as a task
 *         PQclear(PQexec(db, "SELECT pg_sleep(1)"));
 *         PQfinish(db);
 *         return NULL;
 *     }
 *
 *     int main(void)
 *     {
 *         green_patch(GREEN_PATCH_WAIT | GREEN_PATCH_IO | GREEN_PATCH_NAMES);
 *         for (intptr_t i = 0; i < 10; i++)       // ten seconds' work in one
 *             green_task_detach(green_task_spawn(query, (void *)i));
 *         return green_hub_wait(GREEN_FOREVER);
 *     }
 *
 * Everywhere else, and for what does not block, the calls are passed on untouched: in
 * threads that have not asked or have no hub, in trace hooks, in signal handlers that
 * interrupt the patch.  Read "Hazards" in green_patch(7) first.
 *
 * A call whose task is cancelled fails with ECANCELED, one whose scope is over with
 * ETIMEDOUT, each time: the library unwinds by itself.  close() never fails of it, and so
 * it is with mutexes, read-write locks, barriers and pthread_once(), which are waited for
 * whatever comes.  pthread_cond_wait() fails with the mutex locked again.
 *
 * With GREEN_PATCH=wait,io,names,locks,processes in the environment, or some of them,
 * or all, every thread of the process begins as if it had asked for these.
 */
#ifdef __cplusplus
extern "C" {
#endif

#define GREEN_PATCH_WAIT 0x1u      /* poll, select, epoll_wait and the like; sleep and the like */
#define GREEN_PATCH_IO 0x2u        /* connect, accept, read, write, recv, send and the like on
                                      sockets, pipes and terminals in blocking mode; close */
#define GREEN_PATCH_NAMES 0x4u     /* getaddrinfo, getnameinfo, gethostbyname, res_query ... */
#define GREEN_PATCH_LOCKS 0x8u     /* pthread_mutex_lock, pthread_cond_wait, sem_wait ... */
#define GREEN_PATCH_PROCESSES 0x10u /* waitpid, wait4, system, pclose ... */

/*
 * Patches these calls, and no others, for the tasks of the calling thread, from now on;
 * 0: none.  Those that wait go on as they began.  Returns what was patched before; -1
 * with EINVAL for unknown bits.
 */
int green_patch(unsigned what);

/*
 * Whether the process's calls come here at all: 0, or -1 with ENOSYS, then *missing,
 * unless missing is NULL, is the first name that does not, as something stands before
 * the patch.
 */
int green_patch_check(const char **missing);

#ifdef __cplusplus
}
#endif
#endif
