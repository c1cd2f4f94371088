/* SPDX-License-Identifier: MIT */
/*
 * Other programs started from inside a green (rule 17): exec, vfork, posix_spawn
 * and what is made of them.
 */
#define _GNU_SOURCE
#include <spawn.h>

#include "testing.h"

extern char **environ;

static int status_of(pid_t pid)
{
    int status = -1;
    must(pid > 0 && waitpid(pid, &status, 0) == pid);
    return status;
}

static green_t *parked(void)
{
    green_t *g = green_new(echo, NULL);
    must(g != NULL && green_switch(g, V(1)) == V(1));
    return g;
}

#define SHELL "/bin/sh"

/* What the other program is given. */
static char *const *arguments(char *how)
{
    static char script[64], *args[] = { "sh", "-c", script, NULL };
    snprintf(script, sizeof script, "echo new %s; exit 7", how);
    return args;
}

/* ---- exec --------------------------------------------------------------------------- */

static void *exec_here(void *how)
{
    char *const *args = arguments(how);
    parked();
    fflush(stdout);
    execv("/nowhere/at/all", args);
    must(errno == ENOENT && green_current() != green_main()); /* one that fails changes nothing */
    execv(SHELL, args);
    must(0);
    return NULL;
}

static int exec_in_a_green(void *how)
{
    green_t *g = green_new(exec_here, NULL);
    must(green_report_overflow() == 0);
    green_switch(g, how);
    return 1;
}

static void *exec_from_thread(void *how)
{
    return V(exec_in_a_green(how));
}

static int exec_in_a_thread(void *how)
{
    in_thread(exec_from_thread, how);
    return 1;
}

static void exec_starts_anew(int (*fn)(void *))
{
    struct child child = run_child(fn, "exec");
    if (!WIFEXITED(child.status) || WEXITSTATUS(child.status) != 7)
        print_message("status %#x: %s\n", (unsigned)child.status, child.err);
    assert_true(WIFEXITED(child.status) && WEXITSTATUS(child.status) == 7);
    assert_string_equal(child.out, "new exec\n");
}

TEST(exec_in_a_green_starts_another_program)
{
    exec_starts_anew(exec_in_a_green);
}

TEST(so_does_exec_in_the_green_of_another_thread)
{
    exec_starts_anew(exec_in_a_thread);
}

/* ---- vfork and its kin ------------------------------------------------------------------ */

/* The child borrows this very stack until it ends: it calls nothing of the library. */
__attribute__((noinline)) static pid_t vfork_and_end(int status)
{
    pid_t pid = vfork();
    if (pid == 0)
        _exit(status);
    return pid;
}

__attribute__((noinline)) static pid_t vfork_and_exec(char *how)
{
    char *const *args = arguments(how);
    pid_t pid = vfork();
    if (pid == 0) {
        execv(SHELL, args);
        _exit(99);
    }
    return pid;
}

static void *start_others(void *peer)
{
    int local = 40;
    green_t *me = green_current();
    must(green_switch(peer, V(1)) == V(1));
    must(WEXITSTATUS(status_of(vfork_and_end(5))) == 5);
    must(green_current() == me && green_switch(peer, V(2)) == V(2));

    must(WEXITSTATUS(status_of(vfork_and_exec("vfork"))) == 7);
    must(green_switch(peer, V(3)) == V(3));

    pid_t pid;
    must(posix_spawn(&pid, SHELL, NULL, NULL, arguments("spawn"), environ) == 0);
    must(green_switch(peer, V(4)) == V(4)); /* before it has ended */
    must(WEXITSTATUS(status_of(pid)) == 7);

    must(WEXITSTATUS(system("exit 6")) == 6);
    must(green_switch(peer, V(5)) == V(5) && green_current() == me);
    return V(local + 2);
}

static int start_others_in_a_green(void *arg)
{
    (void)arg;
    green_t *peer = green_new(echo, NULL), *g = green_new(start_others, NULL);
    must(green_set_parent(peer, g) == 0);
    must(green_switch(g, peer) == V(42));
    must(green_free(g) == 0 && green_free(peer) == 0);
    return 0;
}

TEST(a_green_may_start_programs_by_vfork_and_its_kin)
{
    struct child child = run_child(start_others_in_a_green, NULL);
    if (child.status != 0)
        print_message("status %#x: %s\n", (unsigned)child.status, child.err);
    assert_int_equal(child.status, 0);
    assert_string_equal(child.out, "new vfork\nnew spawn\n");
}

int main(void)
{
    return run_all_tests();
}
