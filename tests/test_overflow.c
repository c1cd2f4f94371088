/* SPDX-License-Identifier: MIT */
/*
 * green_report_overflow(): an overflow names the green, and all other faults
 * take their course.
 */
#define _GNU_SOURCE
#include <fcntl.h>

#include "overflow.h"

RECURSION(frames_of_16, 16)
RECURSION(frames_of_200, 200)
RECURSION(frames_of_1000, 1000)
RECURSION(frames_of_4096, 4096)
RECURSION(frames_of_16384, 16384)
RECURSION(frames_of_60000, 60000)
RECURSION(one_of_90000, 90000)

static void *alloca_of_100(void *value)
{
    volatile size_t bytes = 100;
    (void)value;
    return alloca_of(&bytes);
}

static void *alloca_of_20000(void *value)
{
    volatile size_t bytes = 20000;
    (void)value;
    return alloca_of(&bytes);
}

static void *an_array(void *value)
{
    volatile size_t bytes = 300 * KIB;
    (void)value;
    return array_of(&bytes);
}

static const struct way ways[] = {
    { "frames of 16", frames_of_16, 16 * KIB },
    { "frames of 200", frames_of_200, 64 * KIB },
    { "frames of 1000", frames_of_1000, 16 * KIB },
    { "frames of 4096", frames_of_4096, 256 * KIB },
    { "frames of 16384", frames_of_16384, MIB },
    { "frames of 60000", frames_of_60000, 128 * KIB },
    { "one of 90000", one_of_90000, 64 * KIB },
    { "alloca of 100", alloca_of_100, 64 * KIB },
    { "alloca of 20000", alloca_of_20000, 4 * MIB },
    { "an array", an_array, 256 * KIB },
};

TEST(hundred_programs_die_with_the_name_of_their_green)
{
    all_die_with_their_names(ways, sizeof ways / sizeof *ways);
}

/* ---- In the switch itself -------------------------------------------------------- */

static volatile size_t frame_size;

__attribute__((noinline)) static int leave_at_each_depth(green_t *other, int depth)
{
    volatile char frame[frame_size];
    frame[0] = (char)depth;
    USE(frame);
    must(green_switch(other, V(1)) == V(1));
    return (endless ? leave_at_each_depth(other, depth + 1) : 0) + frame[0];
}

static void *switch_to_and_fro(void *value)
{
    const green_options_t options = { .name = "other" };
    green_t *other = green_new_with(echo, NULL, &options);
    must(other != NULL);
    return V(leave_at_each_depth(other, 0) + (value != NULL));
}

/* What a switch stores on the stack it leaves may be what does not fit. */
TEST(who_leaves_at_the_end_of_its_stack_is_named)
{
    const struct way way = { "to and fro", switch_to_and_fro, 64 * KIB };
    const struct situation ways_there[] = { { "plainly", plainly, 0 },
                                            { "in nested greens", in_nested_greens, 0 },
                                            { "in a second thread", in_a_second_thread, 0 } };
    if (SANITIZED)
        skip_because("with a sanitizer the fault may be in its code");
    if (under_valgrind())
        skip_because("to Valgrind a touched guard is an error");
    int good = 0, all = 0;
    for (frame_size = 16; frame_size <= 320; frame_size += 16, all++)
        good += dies_with_its_name(&way, &ways_there[all % 3]);
    assert_int_equal(good, all);
}

static green_t *overflows;

static void overflow_once(green_trace_event_t event, green_t *from, green_t *to, void *data)
{
    (void)event, (void)to, (void)data;
    if (from == overflows)
        frames_of_200(NULL);
}

static int in_a_hook(void *way)
{
    must(reporting() == 0);
    overflows = make(way);
    must(green_set_trace(overflow_once, NULL) == 0);
    green_switch(overflows, NULL);
    return 0;
}

TEST(in_a_hook_it_is_the_stack_that_counts)
{
    const struct way way = { "hooked", echo, 64 * KIB };
    const struct situation situation = { "in a hook", in_a_hook, 0 };
    if (SANITIZED)
        skip_because("with a sanitizer the fault may be in its code");
    if (under_valgrind())
        skip_because("to Valgrind a touched guard is an error");
    assert_true(dies_with_its_name(&way, &situation));
}

/* ---- The line ------------------------------------------------------------------ */

struct shared {
    green_t *green;
    size_t size;
};

static int without_a_name(void *arg)
{
    struct shared *shared = arg;
    must(reporting() == 0);
    shared->green = green_new(frames_of_16, NULL);
    green_stack(shared->green, NULL, &shared->size);
    green_switch(shared->green, NULL);
    return 0;
}

TEST(a_green_without_a_name_has_an_address)
{
    if (under_valgrind())
        skip_because("to Valgrind a touched guard is an error");
    struct shared *shared =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct child child = run_child(without_a_name, shared);
    char begin[100];
    snprintf(begin, sizeof begin, "libgreen: stack overflow in green %p: %zu bytes of stack, ",
             (void *)shared->green, shared->size);
    munmap(shared, 4096);
    assert_int_equal(WTERMSIG(child.status), SIGSEGV);
    assert_memory_equal(child.err, begin, strlen(begin));
}

static int with_a_strange_name(void *unused)
{
    (void)unused;
    const green_options_t options = { .name = "a\nb\tc\x7f""d\xc3\xa9" };
    must(reporting() == 0);
    green_switch(green_new_with(frames_of_16, NULL, &options), NULL);
    return 0;
}

TEST(a_name_does_not_break_the_line)
{
    if (under_valgrind())
        skip_because("to Valgrind a touched guard is an error");
    struct child child = run_child(with_a_strange_name, NULL);
    assert_non_null(strstr(child.err, " \"a?b?c?d\xc3\xa9\" (0x"));
    assert_string_equal(after_line(said(&child)), "");
}

/* ---- All other faults ------------------------------------------------------------ */

static void *fault_at(void *address)
{
    char *volatile hidden = address; /* from the compiler */
    *(volatile char *)hidden = 1;
    return NULL;
}

static int fault_in_a_green(void *address)
{
    must(reporting() == 0);
    green_switch(green_new(fault_at, NULL), address);
    return 0;
}

static int fault_in_main(void *address)
{
    must(reporting() == 0);
    fault_at(address);
    return 0;
}

static int fault_in_the_guard_of_another(void *unused)
{
    void *low;
    (void)unused;
    must(reporting() == 0);
    green_t *g = green_new(echo, NULL);
    green_switch(g, NULL);
    green_stack(g, &low, NULL);
    fault_at((char *)low - 1);
    return 0;
}

static int overflow_main(void *unused)
{
    (void)unused;
    must(reporting() == 0);
    green_main();
    frames_of_4096(NULL);
    return 0;
}

static int send_it(void *unused)
{
    (void)unused;
    must(reporting() == 0);
    kill(getpid(), SIGSEGV);
    for (;;)
        pause();
}

enum { SKIPPED = 77 };

/* Of memory that nobody has touched yet: the kernel says so once. */
static int send_a_memory_error(void *handler)
{
    siginfo_t info = { .si_signo = SIGBUS, .si_code = 5 /* BUS_MCEERR_AO */ };
    if (emulated())
        return SKIPPED;
    must(signal(SIGBUS, handler != NULL ? SIG_IGN : SIG_DFL) != SIG_ERR);
    must(green_report_overflow() == 0);
    must(syscall(SYS_rt_sigqueueinfo, getpid(), SIGBUS, &info) == 0);
    return 0;
}

TEST(what_no_instruction_caused_is_passed_on_too)
{
    struct child child = run_child(send_a_memory_error, NULL);
    if (WIFEXITED(child.status) && WEXITSTATUS(child.status) == SKIPPED)
        skip_because("an emulator does not pass such a signal on");
    assert_string_equal(said(&child), "");
    assert_true(WIFSIGNALED(child.status) && WTERMSIG(child.status) == SIGBUS);
}

static int overflow_without_asking(void *unused)
{
    (void)unused;
    signal(SIGSEGV, SIG_DFL);
    green_switch(green_new(frames_of_200, NULL), NULL);
    return 0;
}

TEST(other_faults_are_passed_on_without_a_word)
{
    int (*const programs[])(void *) = {
        fault_in_a_green, fault_in_main, fault_in_the_guard_of_another,
        overflow_main,    send_it,       overflow_without_asking,
    };
    if (under_valgrind())
        skip_because("to Valgrind a touched guard is an error");
    for (size_t i = 0; i < sizeof programs / sizeof *programs; i++) {
        struct child child = run_child(programs[i], V(16));
        assert_string_equal(said(&child), "");
        assert_true(WIFSIGNALED(child.status));
        assert_int_equal(WTERMSIG(child.status), SIGSEGV);
    }
}

static sigjmp_buf back;

static void jump_out(int number)
{
    siglongjmp(back, number);
}

/* A previous handler that knows how to go on. */
static int go_on_after_faults(void *unused)
{
    (void)unused;
    struct sigaction action = { .sa_handler = jump_out };
    must(sigaction(SIGSEGV, &action, NULL) == 0);
    must(green_report_overflow() == 0);
    for (int i = 0; i < 3; i++)
        if (sigsetjmp(back, 1) == 0)
            fault_at(V(16));
    signal(SIGUSR1, SIG_IGN);
    return 42;
}

/* Among these must be one that is near. */
static green_t *neighbours[16];

static void *fault_in_a_neighbours_guard(void *unused)
{
    volatile int near = 0;
    for (volatile int i = 0; i < 16; i++) {
        void *low;
        green_stack(neighbours[i], &low, NULL);
        if ((uintptr_t)low - (uintptr_t)&low + MIB / 2 >= MIB)
            continue;
        near++;
        if (sigsetjmp(back, 1) == 0)
            fault_at((char *)low - 1);
    }
    must(near > 0);
    return unused;
}

static void *overflow_without_the_library(void *value)
{
    static char memory[65536];
    stack_t stack = { .ss_sp = memory, .ss_size = sizeof memory };
    must(sigaltstack(&stack, NULL) == 0);
    if (sigsetjmp(back, 1) == 0)
        frames_of_4096(NULL);
    return value;
}

static int go_on_after_what_is_no_greens_overflow(void *unused)
{
    (void)unused;
    struct sigaction action = { .sa_handler = jump_out };
    must(sigaction(SIGSEGV, &action, NULL) == 0);
    must(green_report_overflow() == 0);
    const green_options_t small = { .stack_size = 16 * KIB };
    for (int i = 0; i < 16; i++) {
        must((neighbours[i] = green_new_with(echo, NULL, &small)) != NULL);
        must(green_switch(neighbours[i], V(1)) == V(1));
    }
    green_t *g = green_new_with(fault_in_a_neighbours_guard, NULL, &small);
    must(green_switch(g, NULL) == NULL);
    must(in_thread(overflow_without_the_library, V(2)) == V(2));
    return 42;
}

TEST(what_is_no_greens_overflow_is_not_called_one)
{
    if (SANITIZED)
        skip_because("with a sanitizer the fault may be in its code");
    if (under_valgrind())
        skip_because("to Valgrind a touched guard is an error");
    struct child child = run_child(go_on_after_what_is_no_greens_overflow, NULL);
    assert_string_equal(child.err, "");
    assert_int_equal(WEXITSTATUS(child.status), 42);
}

TEST(a_previous_handler_may_jump_out_each_time)
{
    if (under_valgrind())
        skip_because("to Valgrind a touched guard is an error");
    struct child child = run_child(go_on_after_faults, NULL);
    assert_int_equal(WEXITSTATUS(child.status), 42);
}

static int ignore_what_is_sent(void *unused)
{
    (void)unused;
    signal(SIGSEGV, SIG_IGN);
    must(green_report_overflow() == 0);
    must(raise(SIGSEGV) == 0 && kill(getpid(), SIGSEGV) == 0);
    fault_at(V(16)); /* this cannot be ignored */
    return 0;
}

static int read_from[2], write_to[2];

/* Signals its parent while that waits in read(), each time it is told to; then writes. */
static void signal_a_reader(int number, pid_t reader)
{
    char byte, state = 0;
    while (state != 'S') { /* it sleeps: it waits */
        char name[64], text[256];
        snprintf(name, sizeof name, "/proc/%ld/stat", (long)reader);
        int fd = open(name, O_RDONLY);
        ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
        must(n > 0 && close(fd) == 0);
        text[n] = '\0';
        must(sscanf(text, "%*d (%*[^)]) %c", &state) == 1);
    }
    must(kill(reader, number) == 0);
    must(read(write_to[0], &byte, 1) == 1); /* it was interrupted, or will not be */
    must(write(read_from[1], "x", 1) == 1);
    _exit(0);
}

static volatile sig_atomic_t interruptions;

static void let_it_write(int number)
{
    (void)number;
    interruptions = interruptions + 1;
    must(write(write_to[1], "x", 1) == 1);
}

struct reader {
    int number, flags;       /* of the signal, and of its handler, */
    void (*handler)(int);    /* which there was before */
    int result;              /* of read() */
};

static int read_while_signaled(void *arg)
{
    const struct reader *reader = arg;
    if (emulated())
        return SKIPPED;
    struct sigaction action = { .sa_handler = reader->handler, .sa_flags = reader->flags };
    char byte;
    must(pipe(read_from) == 0 && pipe(write_to) == 0);
    must(sigaction(reader->number, &action, NULL) == 0);
    must(green_report_overflow() == 0);
    pid_t self = getpid(), child = fork();
    must(child >= 0);
    if (child == 0)
        signal_a_reader(reader->number, self);
    if (reader->handler == SIG_IGN)
        must(write(write_to[1], "x", 1) == 1); /* nobody tells that it is ignored */
    errno = 0;
    ssize_t n = read(read_from[0], &byte, 1);
    must(n == reader->result && (n == 1 || errno == EINTR));
    must(interruptions == (reader->handler != SIG_IGN));
    must(n == 1 || read(read_from[0], &byte, 1) == 1);
    must(waitpid(child, NULL, 0) == child);
    return 42;
}

TEST(system_calls_are_interrupted_as_before)
{
    if (UNDER_TSAN)
        skip_because("ThreadSanitizer handles signals when the call is over");
    for (int i = 0; i < 2; i++) {
        int number = i == 0 ? SIGSEGV : SIGBUS;
        struct reader readers[] = {
            { number, 0, SIG_IGN, 1 },
            { number, SA_RESTART, let_it_write, 1 },
            { number, 0, let_it_write, -1 },
        };
        for (size_t k = 0; k < sizeof readers / sizeof *readers; k++) {
            struct child child = run_child(read_while_signaled, &readers[k]);
            if (WIFEXITED(child.status) && WEXITSTATUS(child.status) == SKIPPED)
                skip_because("an emulator restarts calls in its own way");
            assert_string_equal(child.err, "");
            assert_int_equal(WEXITSTATUS(child.status), 42);
        }
    }
}

TEST(what_no_instruction_caused_is_ignored_if_it_was)
{
    struct child child = run_child(send_a_memory_error, V(1));
    if (WIFEXITED(child.status) && WEXITSTATUS(child.status) == SKIPPED)
        skip_because("an emulator does not pass such a signal on");
    assert_string_equal(child.err, "");
    assert_int_equal(child.status, 0);
}

TEST(what_was_ignored_is_ignored_but_for_a_fault)
{
    if (under_valgrind())
        skip_because("to Valgrind a touched guard is an error");
    struct child child = run_child(ignore_what_is_sent, NULL);
    assert_true(WIFSIGNALED(child.status) && WTERMSIG(child.status) == SIGSEGV);
}

static int fault_in_a_mapped_file(void *unused)
{
    (void)unused;
    FILE *file = tmpfile();
    must(file != NULL);
    char *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(file), 0);
    must(memory != MAP_FAILED);
    must(reporting() == 0);
    fault_at(memory);
    return 0;
}

TEST(a_bus_error_stays_one)
{
    if (under_valgrind())
        skip_because("to Valgrind a touched guard is an error");
    struct child child = run_child(fault_in_a_mapped_file, NULL);
    assert_string_equal(said(&child), "");
    assert_true(WIFSIGNALED(child.status) && WTERMSIG(child.status) == SIGBUS);
}

/* ---- Alternate stacks --------------------------------------------------------------- */

static void *see_alternate_stack(void *unused)
{
    stack_t stack;
    (void)unused;
    green_main();
    must(sigaltstack(NULL, &stack) == 0);
    return stack.ss_flags & SS_DISABLE ? NULL : stack.ss_sp;
}

static unsigned long mapped(void)
{
    FILE *file = fopen("/proc/self/maps", "r");
    char line[512];
    unsigned long from, to, bytes = 0;
    must(file != NULL);
    while (fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "%lx-%lx", &from, &to) == 2)
            bytes += to - from;
    fclose(file);
    return bytes;
}

static int have_threads(void *unused)
{
    (void)unused;
    must(in_thread(see_alternate_stack, NULL) == NULL);
    must(green_report_overflow() == 0);
    void *first = in_thread(see_alternate_stack, NULL);
    must(first != NULL);
    unsigned long before = mapped();
    for (int i = 0; i < 100; i++)
        must(in_thread(see_alternate_stack, NULL) != NULL);
    must(mapped() < before + 4 * MIB); /* given back, so that they do not pile up */
    green_stats_t stats;
    must(green_stats(&stats, sizeof stats) == 0 && stats.stacks_live == 0);
    return 0;
}

TEST(threads_get_an_alternate_stack_and_give_it_back)
{
    if (UNDER_ASAN || UNDER_TSAN || under_helgrind())
        skip_because("the tool gives each thread an alternate stack, or more memory, itself");
    struct child child = run_child(have_threads, NULL);
    assert_string_equal(child.err, "");
    assert_int_equal(child.status, 0);
}

static int refusals;

static void ask_in_hook(green_trace_event_t event, green_t *from, green_t *to, void *data)
{
    (void)event, (void)from, (void)to, (void)data;
    errno = 0;
    refusals += green_report_overflow() == -1 && errno == EBUSY;
}

TEST(it_is_refused_inside_a_hook)
{
    green_t *g = green_new(give_back, NULL);
    refusals = 0;
    green_set_trace(ask_in_hook, NULL);
    green_switch(g, NULL);
    green_set_trace(NULL, NULL);
    assert_int_equal(green_free(g), 0);
    assert_int_equal(refusals, 2);
}

int main(void)
{
    return run_all_tests();
}
