/* SPDX-License-Identifier: MIT */
#ifndef FILTERS_H
#define FILTERS_H
/* System calls that an old kernel does not have, or a sandbox forbids: for children of a test. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tools.h"

/*
 * A child of a process with threads: to the sanitizers these live there, too, and hold
 * memory, and no more may be started.
 */
static pid_t filters_parent;

__attribute__((constructor)) static void filters_begin(void)
{
    filters_parent = getpid();
}

int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
    return getpid() != filters_parent;
}

const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
    return "die_after_fork=0";
}

/* A test whose child uses the hub, as its parent did: of an older fiber it may say anything. */
#if UNDER_TSAN
#define has_tasks_in_child()                                                                      \
    skip_because("in a child ThreadSanitizer knows the fiber alone that forked")
#else
#define has_tasks_in_child() ((void)0)
#endif

/* A test whose child begins a thread, of the pool for instance. */
#ifdef GREEN_TEST_EMULATED
#define has_threads_in_child()                                                                    \
    skip_because("QEMU fails an assertion of its own where the child of threads begins one")
#else
#define has_threads_in_child() ((void)0)
#endif

/* Ends a child; Valgrind does not see the end, as it would miss what the parent frees. */
_Noreturn static inline void leave_child(int status)
{
    char number[16], *const arguments[] = { (char *)"sh", (char *)"-c", number, NULL };
    snprintf(number, sizeof number, "exit %d", status);
    if (under_valgrind())
        execv("/bin/sh", arguments);
    _exit(status);
}

/* What a child returns, and assert_child_held() sees, if the system has no filters: qemu-user. */
#define NO_FILTERS 77

static inline int set_filter(struct sock_filter *code, unsigned short length)
{
    struct sock_fprog program = { length, code };
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return -1;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

/* From now on these calls of the process fail with this error.  0, or -1 if that cannot be had. */
static inline int filter_calls(const int *calls, int n, int error)
{
    struct sock_filter code[64];
    unsigned short length = 0;
    code[length++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                                                  offsetof(struct seccomp_data, nr));
    for (int i = 0; i < n; i++) {
        code[length++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
                                                      (unsigned)calls[i], 0, 1);
        code[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K,
                                                      SECCOMP_RET_ERRNO | (unsigned)error);
    }
    code[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    return set_filter(code, length);
}

/* The same with one call where the bit is set in its last argument. */
static inline int filter_flag(int call, unsigned bit, int error)
{
    size_t low = offsetof(struct seccomp_data, args[5]); /* both CPUs are little-endian */
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)call, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)low),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, bit, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    return set_filter(code, sizeof code / sizeof code[0]);
}

/* No thread can be started. */
static inline int filter_threads(void)
{
    const int calls[] = {
        SYS_clone,
#ifdef SYS_clone3
        SYS_clone3,
#endif
    };
    return filter_calls(calls, (int)(sizeof calls / sizeof calls[0]), EAGAIN);
}

/* A child of run_child() that ends by leave_child(0), or has no filters. */
#define assert_child_held(result)                                                                 \
    do {                                                                                          \
        struct child done = (result);                                                      \
        if (WIFEXITED(done.status) && WEXITSTATUS(done.status) == NO_FILTERS) {     \
            print_message("skipped: there is no seccomp here\n");                                 \
        } else if (done.status != 0) {                                                     \
            fail_msg("status %x: %s%s", (unsigned)done.status, done.out, done.err);\
        }                                                                                         \
    } while (0)

#endif
