/* SPDX-License-Identifier: MIT */
/*
 * Counts the instructions that a call takes more because the patch passes it on, by stepping
 * through a child: for a thread that has asked for nothing, and one that has no hub.  See
 * tests/built/count_instructions.c.  Exit status 77 and a reason: skipped.
 */
#include "nothing.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <unistd.h>

#include <green_patch.h>

static int skip(const char *reason)
{
    printf("skipped: %s\n", reason);
    return 77;
}

#if !defined(__x86_64__) || !defined(__OPTIMIZE__) || defined(__OPTIMIZE_SIZE__)
int main(void)
{
    return skip("instructions are counted on x86_64 only, and if optimized for speed");
}
#else

enum { OFF, ASKED, STATES }; /* ASKED: by a thread that has no hub */
enum { TIMES = 10 };

/* ---- The ceilings: lower them when you can, raise them with a reason ------------- */

static const int most[STATES] = {MOST_OFF, MOST_ASKED};

/* ---- In the child ------------------------------------------------------------------ */

/* Counting begins and ends where this is reached. */
__attribute__((noinline)) static void mark(void)
{
    __asm__ volatile("" ::: "memory");
}

#define LOOPS(name, arguments)                                                    \
    __attribute__((noinline)) static void name##_patched(void)                    \
    {                                                                             \
        for (int i = 0; i < TIMES; i++)                                           \
            (void)!name arguments;                                                \
    }                                                                             \
    static __typeof__(&name) name##_next;                                         \
    __attribute__((noinline)) static void name##_plain(void)                      \
    {                                                                             \
        for (int i = 0; i < TIMES; i++)                                           \
            (void)!name##_next arguments;                                         \
    }
NOTHINGS(LOOPS)

#define LOOK_UP(name, arguments) \
    name##_next = (__typeof__(&name))(uintptr_t)dlsym(RTLD_NEXT, #name);

#define COUNT(name, arguments) \
    name##_patched();          \
    mark();                    \
    name##_plain();            \
    mark();                    \
    mark();                    \
    name##_patched();          \
    mark();

static void run(void)
{
    NOTHINGS(LOOK_UP)
    (void)green_patch(0);
    NOTHINGS(COUNT)
    (void)green_patch(GREEN_PATCH_WAIT | GREEN_PATCH_IO | GREEN_PATCH_NAMES | GREEN_PATCH_LOCKS |
                      GREEN_PATCH_PROCESSES);
    NOTHINGS(COUNT)
}

/* ---- In the parent ------------------------------------------------------------------ */

#define NAME(name, arguments) #name,
static const char *const names[] = {NOTHINGS(NAME)};
enum { NAMES = sizeof names / sizeof names[0] };

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

/* Its own waitpid() does nothing here. */
static pid_t (*wait_for)(pid_t, int *, int);

static long count_to_mark(pid_t child)
{
    for (long steps = 1;; steps++) {
        struct user_regs_struct registers;
        int status;
        if (ptrace(PTRACE_SINGLESTEP, child, NULL, NULL) != 0)
            fail("PTRACE_SINGLESTEP");
        if (wait_for(child, &status, 0) != child)
            fail("waitpid");
        if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP) {
            fprintf(stderr, "the child ended with status %#x\n", (unsigned)status);
            exit(1);
        }
        if (ptrace(PTRACE_GETREGS, child, NULL, &registers) != 0)
            fail("PTRACE_GETREGS");
        if (registers.rip == (unsigned long long)(uintptr_t)mark)
            return steps;
    }
}

int main(void)
{
    void *libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
    wait_for = libc == NULL ? NULL : (pid_t(*)(pid_t, int *, int))(uintptr_t)dlsym(libc, "waitpid");
    if (wait_for == NULL || wait_for == waitpid)
        return skip("there is no libc behind");
    pid_t child = fork();
    if (child < 0)
        fail("fork");
    if (child == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
            _exit(77);
        raise(SIGSTOP);
        run();
        _exit(0);
    }
    int status, failed = 0;
    if (wait_for(child, &status, 0) != child)
        fail("waitpid");
    if (WIFEXITED(status))
        return skip("this system does not let a child be traced");
    for (int state = OFF; state < STATES; state++)
        for (int i = 0; i < NAMES; i++) {
            count_to_mark(child);
            long plain = count_to_mark(child);
            count_to_mark(child);
            long more = (count_to_mark(child) - plain) / TIMES;
            printf("%s: %3ld instructions more (at most %d): %s()%s\n",
                   more <= most[state] ? "ok" : "FAILED", more, most[state], names[i],
                   state == ASKED ? ", asked for, without a hub" : "");
            failed += more > most[state];
        }
    if (kill(child, SIGKILL) != 0 || wait_for(child, &status, 0) != child)
        fail("kill");
    return failed != 0;
}
#endif
