/* SPDX-License-Identifier: MIT */
/*
 * green_abandon() at each instruction of what a green's own thread does with it of its
 * own accord: it ends it (green_thread_end()), or unwinds it.  The other thread comes at an
 * instruction, and is done or waits for a lock before the next: so nothing here is a
 * matter of luck.
 *
 * A program that is wrong here breaks memory, so each runs in a child.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <link.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

#include "stepping.h"
#include "testing.h"

#ifndef __EXCEPTIONS
#error "-fexceptions is missing"
#endif

/* ---- The other thread ------------------------------------------------------------ */

static struct helper other;
static char other_stat[64]; /* what the kernel says of it */
static green_t *garbage; /* what it is to abandon */
static atomic_bool begun, done;
static sem_t changed; /* it is done; or nothing has, look all the same */
static int answer;    /* 0 or errno */

static void tell_its_name(void *unused)
{
    (void)unused;
    snprintf(other_stat, sizeof other_stat, "/proc/self/task/%ld/stat", syscall(SYS_gettid));
}

static void abandon(void *unused)
{
    (void)unused;
    atomic_store(&begun, true);
    answer = green_abandon(garbage) == 0 ? 0 : errno;
    atomic_store(&done, true);
    sem_post(&changed);
}

/* Whether the other thread sleeps: between begun and done it waits for the library's lock then. */
static bool other_sleeps(void)
{
    char text[256];
    int file = open(other_stat, O_RDONLY);
    ssize_t n = file >= 0 ? read(file, text, sizeof text - 1) : -1;
    must(n > 0);
    close(file);
    text[n] = '\0';
    const char *after_name = strrchr(text, ')');
    return after_name != NULL && after_name[2] == 'S';
}

/* Has it abandon the garbage, while the caller stays where it is as long as that goes on. */
static void let_other_abandon(void)
{
    atomic_store(&begun, false);
    atomic_store(&done, false);
    helper_begin(&other, abandon, NULL);
    for (;;) {
        struct timespec soon;
        clock_gettime(CLOCK_REALTIME, &soon);
        soon.tv_nsec += 1000000;
        soon.tv_sec += soon.tv_nsec / 1000000000;
        soon.tv_nsec %= 1000000000;
        (void)sem_timedwait(&changed, &soon);
        if (atomic_load(&done) || (atomic_load(&begun) && other_sleeps()))
            return;
    }
}

/* ---- Where it comes ---------------------------------------------------------------- */

static volatile sig_atomic_t stepping;
static volatile unsigned long step, at; /* the other thread comes when the first is the second */
static volatile sig_atomic_t came;
static uintptr_t text_from, text_to; /* only instructions in here count: the library's object */

static int find_text(struct dl_phdr_info *object, size_t size, void *place)
{
    (void)size;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[i];
        uintptr_t from = object->dlpi_addr + part->p_vaddr;
        if (part->p_type == PT_LOAD && (uintptr_t)place - from < part->p_memsz) {
            text_from = from;
            text_to = from + part->p_memsz;
            return 1;
        }
    }
    return 0;
}

static void come(int signal, siginfo_t *info, void *context)
{
    int error = errno;
    (void)signal, (void)info;
    bool counts = true;
#if defined __x86_64__
    uintptr_t pc = (uintptr_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    counts = pc - text_from < text_to - text_from;
#endif
    if (green_current() == garbage)
        counts = false; /* it is refused, and nothing else */
    if (stepping && counts && step++ == at) {
        came = 1;
        stepping = 0;
        let_other_abandon();
    }
    if (!stepping)
        end_steps(context);
    errno = error;
}

static void prepare(unsigned long where)
{
    step = 0;
    at = where;
    came = 0;
}

static void begin_stepping(void)
{
    stepping = 1;
    begin_steps();
}

static void end_stepping(void)
{
    stepping = 0; /* the next stop is the last */
    __asm__ volatile("nop" : : : "memory");
}

/* What the other thread was told, now that nothing is done with the green any more. */
static void finish_abandoning(unsigned long answers[2])
{
    helper_wait(&other);
    while (sem_trywait(&changed) == 0)
        continue;
    must(answer == 0 || answer == EBUSY);
    answers[answer == EBUSY]++;
    if (answer == EBUSY) {
        helper_do(&other, abandon, NULL);
        must(answer == 0);
    }
}

/* ---- What is counted ------------------------------------------------------------------ */

static green_stats_t stats(void)
{
    green_stats_t now;
    must(green_stats(&now, sizeof now) == 0);
    return now;
}

static void must_be_as(green_stats_t before)
{
    green_stats_t now = stats();
    must(now.greens == before.greens && now.stacks_live == before.stacks_live);
}

/* Abandoned greens are released, and a stack is used again: by a green on whose frames it is. */
static void use_the_library(void)
{
    green_t *g = green_new(echo, NULL);
    must(g != NULL && green_switch(g, V(1)) == V(1));
    must(green_switch(g, V(2)) == V(2));
    must(green_throw(g, E1) == GREEN_FAILED && errno == E1);
    must(green_free(g) == 0);
}

/* A green is ended by its thread; the other thread comes at an instruction, if it is reached. */
typedef void round_fn(unsigned long where, unsigned long answers[2]);

/*
 * In a child: all rounds, or, where there are more than `most`, each n-th.  A busy machine takes
 * long to let the other thread come.
 */
static int run_rounds(round_fn *round, unsigned long most)
{
    struct sigaction action = { .sa_sigaction = come, .sa_flags = SA_SIGINFO };
    unsigned long answers[2] = { 0, 0 }, all, where;
    signal(SIGSEGV, SIG_DFL); /* and no handler of cmocka's, on another thread than the test's */
    signal(SIGBUS, SIG_DFL);
    signal(SIGILL, SIG_DFL);
    must(sigaction(SIGTRAP, &action, NULL) == 0);
    must(dl_iterate_phdr(find_text, (void *)(uintptr_t)green_thread_end) == 1);
    must(green_main() != NULL);
    sem_init(&changed, 0, 0);
    helper_start(&other);
    helper_do(&other, tell_its_name, NULL);
    round(ULONG_MAX, answers); /* what is linked lazily is linked now */
    round(ULONG_MAX, answers);
    all = step;
    for (where = 0; where < all; where += 1 + all / most)
        round(where, answers);
    helper_end(&other);
    printf("of %lu instructions: abandoned at %lu, refused at %lu\n",
           all, answers[0], answers[1]);
    must(answers[0] + answers[1] > all / (1 + all / most) / 2);
    must(answers[0] > 0); /* who waits for the lock may come too late to be refused */
    return 0;
}

static void assert_holds(int (*fn)(void *))
{
    if (!CAN_STEP)
        skip_because("only x86_64 lets a program step through itself");
    if (SANITIZED)
        skip_because("nearly all the instructions are the sanitizer's");
    if (under_valgrind())
        skip_because("Valgrind does not know the trap flag");
    struct child child = run_child(fn, NULL);
    print_message("%s%s", child.out, child.err);
    assert_int_equal(child.status, 0);
}

/* ---- green_thread_end() -------------------------------------------------------------- */

static void abandon_during_thread_end(unsigned long where, unsigned long answers[2])
{
    green_stats_t before = stats();
    green_t *g = garbage = green_new(echo, NULL);
    must(g != NULL && green_switch(g, V(1)) == V(1));
    prepare(where);
    begin_stepping();
    int result = green_thread_end();
    end_stepping();
    must(result == 0);
    if (came)
        finish_abandoning(answers);
    else
        must(green_state(g) == GREEN_DEAD && green_free(g) == 0);
    use_the_library();
    must_be_as(before);
}

static int end_with_a_collector(void *unused)
{
    (void)unused;
    return run_rounds(abandon_during_thread_end, 150);
}

TEST(while_its_thread_ends_its_greens)
{
    assert_holds(end_with_a_collector);
}

/* ---- pthread_exit() ------------------------------------------------------------------ */

#ifdef __GLIBC__ /* musl does not unwind */
static void begin_stepping_on_leaving(const int *unused)
{
    (void)unused;
    begin_stepping();
}

static void end_stepping_on_leaving(const int *unused)
{
    (void)unused;
    end_stepping();
    use_the_library();
}

static void *exit_below(void *unused)
{
    __attribute__((cleanup(begin_stepping_on_leaving), unused)) int frame = 0;
    (void)unused;
    pthread_exit(NULL);
}

static void *have_a_child_that_exits(void *unused)
{
    __attribute__((cleanup(end_stepping_on_leaving), unused)) int frame = 0;
    const green_options_t detached = { .flags = GREEN_DETACHED };
    return green_switch(green_new_with(exit_below, NULL, &detached), unused);
}

static void *be_unwound(void *unused)
{
    must((garbage = green_new(have_a_child_that_exits, NULL)) != NULL);
    return green_switch(garbage, unused);
}

static void abandon_during_unwinding(unsigned long where, unsigned long answers[2])
{
    green_stats_t before = stats();
    prepare(where);
    in_thread(be_unwound, NULL);
    if (came)
        finish_abandoning(answers);
    else
        must(green_state(garbage) == GREEN_DEAD && green_free(garbage) == 0);
    must_be_as(before);
}

static int unwind_with_a_collector(void *unused)
{
    (void)unused;
    return run_rounds(abandon_during_unwinding, 80); /* most of the steps are the unwinder's */
}

TEST(while_its_frames_are_unwound_after_a_childs)
{
    assert_holds(unwind_with_a_collector);
}
#endif

int main(void)
{
    return run_all_tests();
}
