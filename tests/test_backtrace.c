/* SPDX-License-Identifier: MIT */
/*
 * Where unwinding goes from a green's entry, what green_backtrace() finds, and
 * what green_dump() says.
 *
 * The functions called frame_... are known to the dynamic linker by their
 * names; a list of frames has these, and a dash for whatever is between.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unwind.h>

#include "testing.h"

#define FRAME __attribute__((noinline, noclone, visibility("default")))
#ifdef __clang__
#undef FRAME
#define FRAME __attribute__((noinline, visibility("default")))
#endif

/* What follows a call keeps it from being the last, which would need no frame. */
#define AFTER __asm__ volatile("")

/* ---- Lists ---------------------------------------------------------------------- */

static char list[4096];

static void add(const char *name)
{
    size_t used = strlen(list);
    if (used > 3900)
        return;
    if (strcmp(name, "-") == 0 && (used == 0 || list[used - 1] == '-'))
        return; /* not at the beginning, nor two in a row */
    snprintf(list + used, sizeof list - used, "%s%s", used != 0 ? " " : "", name);
}

/* The names of n addresses, up to and with frame_main(). */
static const char *names(void **pcs, int n)
{
    list[0] = '\0';
    for (int i = 0; i < n; i++) {
        Dl_info info;
        const char *name = "-";
        if (dladdr((void *)((uintptr_t)pcs[i] - 1), &info) != 0 && info.dli_sname != NULL &&
            strncmp(info.dli_sname, "frame_", 6) == 0)
            name = info.dli_sname + 6;
        add(name);
        if (strcmp(name, "main") == 0)
            break;
    }
    return list;
}

#if defined __GLIBC__ && !defined THROUGH_FAST_H
int backtrace(void **pcs, int n);

static int capture(void **pcs, int n)
{
    return backtrace(pcs, n);
}
#else
struct capture {
    void **pcs;
    int n, used;
};

static _Unwind_Reason_Code visit(struct _Unwind_Context *context, void *arg)
{
    struct capture *capture = arg;
    if (capture->used == capture->n)
        return _URC_END_OF_STACK;
    capture->pcs[capture->used++] = (void *)_Unwind_GetIP(context);
    return _URC_NO_REASON;
}

static int capture(void **pcs, int n)
{
    struct capture capture = {pcs, n, 0};
    _Unwind_Backtrace(visit, &capture);
    return capture.used;
}
#endif

/* The frames from here to main, begun at the caller. */
FRAME const char *frame_here(void)
{
    void *pcs[200];
    const char *text = names(pcs, capture(pcs, 200));
    AFTER;
    return strncmp(text, "here ", 5) == 0 ? text + 5 : text;
}

/* The same, of a green, by green_backtrace(). */
static const char *frames_of(const green_t *g)
{
    void *pcs[200];
    int n = green_backtrace(g, pcs, 200);
    must(n > 0);
    return names(pcs, n);
}

/* ---- Three deep ------------------------------------------------------------------ */

static const green_options_t *options; /* of the next green */

static void *run_in_a_green(green_fn *run, void *value)
{
    green_t *g = green_new_with(run, NULL, options++);
    must(g != NULL);
    void *result = green_switch(g, value);
    must(green_free(g) == 0);
    return result;
}

static char kept_list[4096];

FRAME void *frame_inner(void *value)
{
    strcpy(kept_list, frame_here());
    AFTER;
    return value;
}

FRAME void *frame_middle(void *value)
{
    void *result = run_in_a_green(frame_inner, value);
    AFTER;
    return result;
}

FRAME void *frame_outer(void *value)
{
    void *result = run_in_a_green(frame_middle, value);
    AFTER;
    return result;
}

FRAME void *frame_main(void *value)
{
    void *result = run_in_a_green(frame_outer, value);
    AFTER;
    return result;
}

#define NESTED "inner - middle - outer - main"

static const green_options_t defaults[3];

TEST(a_backtrace_goes_through_nested_greens_to_main)
{
    options = defaults;
    frame_main(NULL);
    assert_string_equal(kept_list, NESTED);
}

TEST(also_on_the_main_green_of_a_thread)
{
    options = defaults;
    in_thread(frame_main, NULL);
    assert_string_equal(kept_list, NESTED);
}

/* Each of three greens may be above or below each other one, and the thread. */
TEST(wherever_the_stacks_are)
{
    enum { SIZE = 256 << 10 };
    char *memory = mmap(NULL, 3 * SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(memory != MAP_FAILED);
    const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    for (int i = 0; i < 6; i++) {
        green_options_t lent[3] = {{0}};
        for (int j = 0; j < 3; j++) {
            lent[j].stack = memory + orders[i][j] * SIZE;
            lent[j].stack_size = SIZE;
        }
        options = lent;
        frame_main(NULL);
        assert_string_equal(kept_list, NESTED);
    }
    munmap(memory, 3 * SIZE);
}

/* The thread's stack lies between two greens'; not close by, or Valgrind takes them for one. */
TEST(also_above_the_threads_own)
{
    if (UNDER_TSAN)
        skip_because("ThreadSanitizer wants more than this of a thread's stack for itself");
    enum { SIZE = 256 << 10, APART = 8 << 20 };
    char *memory = mmap(NULL, 4 * APART, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_true(memory != MAP_FAILED);
    green_options_t lent[3] = {{0}};
    const int places[3] = {0, 3, 1};
    for (int j = 0; j < 3; j++) {
        lent[j].stack = memory + places[j] * APART;
        lent[j].stack_size = SIZE;
    }
    options = lent;
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    assert_int_equal(pthread_attr_setstack(&attributes, memory + 2 * APART, SIZE), 0);
    assert_int_equal(pthread_create(&thread, &attributes, frame_main, NULL), 0);
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attributes);
    munmap(memory, 4 * APART);
    assert_string_equal(kept_list, NESTED);
}

/* ---- Who is gone on to ------------------------------------------------------------ */

static green_t *producer, *consumer;
static char lists[2][4096];

FRAME void *frame_produce(void *value)
{
    for (int i = 0; i < 1000; i++)
        green_switch(consumer, value);
    strcpy(lists[0], frame_here());
    green_switch(consumer, V(1));
    return value;
}

FRAME void *frame_consume(void *value)
{
    while (value == NULL)
        value = green_switch(producer, NULL);
    strcpy(lists[1], frame_here());
    green_yield(NULL);
    return value;
}

/* Each is the other's resumer: that would be a circle. */
TEST(two_that_hand_over_for_ever_go_on_to_their_parent)
{
    producer = green_new(frame_produce, NULL);
    consumer = green_new(frame_consume, NULL);
    green_switch(producer, NULL);
    assert_string_equal(lists[0], "produce -");
    assert_string_equal(lists[1], "consume -");
    assert_int_equal(green_free(producer), 0);
    assert_int_equal(green_free(consumer), 0);
}

FRAME void *frame_child(void *value)
{
    for (;;) {
        strcpy(kept_list, frame_here());
        value = green_yield(value);
        if (value == GREEN_FAILED)
            break;
    }
    strcpy(kept_list, frame_here());
    return NULL;
}

FRAME void *frame_waits(void *g)
{
    g = green_yield(NULL);
    while (g != GREEN_FAILED) {
        green_switch(g, NULL);
        g = green_yield(NULL);
    }
    return NULL;
}

static green_t *waiting(void)
{
    green_t *g = green_new(frame_waits, NULL);
    green_switch(g, NULL);
    return g;
}

FRAME void *frame_scenario(void *value)
{
    must(green_switch(value, NULL) != GREEN_FAILED);
    AFTER;
    return NULL;
}

TEST(it_follows_green_set_parent)
{
    green_t *g = green_new(frame_child, NULL), *other = waiting();
    frame_scenario(g);
    assert_string_equal(kept_list, "child - scenario -");
    assert_int_equal(green_set_parent(g, other), 0);
    frame_scenario(g); /* comes back by other, which waits for a green again */
    assert_string_equal(kept_list, "child - waits - scenario -");
    assert_int_equal(green_set_parent(g, green_main()), 0);
    frame_scenario(g);
    assert_string_equal(kept_list, "child - scenario -");
    assert_int_equal(green_free(g), 0);
    assert_int_equal(green_free(other), 0);
}

TEST(it_passes_over_dead_released_and_new_parents)
{
    green_t *released = green_new(echo, NULL);
    green_t *dead = green_new(echo, released);
    green_t *new = green_new(echo, dead);
    green_t *g = green_new(frame_child, new);
    green_throw(released, 0);
    green_throw(dead, 0);
    assert_int_equal(green_free(released), 0);
    assert_int_equal(green_state(dead), GREEN_DEAD);
    assert_int_equal(green_state(new), GREEN_NEW);
    frame_scenario(g); /* comes back by new, which starts, and is main's child */
    assert_string_equal(kept_list, "child - scenario -");
    assert_int_equal(green_free(g), 0);
    assert_int_equal(green_free(new), 0);
    assert_int_equal(green_free(dead), 0);
}

FRAME void *frame_frees(void *g)
{
    must(green_free(g) == 0);
    AFTER;
    return NULL;
}

TEST(it_goes_past_the_stand_in_of_one_that_is_freed)
{
    green_t *other = waiting();
    green_t *g = green_new(frame_child, NULL);
    green_switch(g, NULL);
    assert_int_equal(green_set_parent(g, other), 0);
    green_t *killer = green_new(frame_frees, NULL);
    green_switch(killer, g);
    assert_string_equal(kept_list, "child - waits -");
    assert_int_equal(green_free(killer), 0);
    assert_int_equal(green_free(other), 0);
}

static green_t *noting;

FRAME void *frame_above(void *value)
{
    value = green_yield(value);
    AFTER;
    if (value == GREEN_FAILED)
        green_switch(noting, NULL);
    return NULL;
}

FRAME void *frame_notes(void *above)
{
    strcpy(kept_list, frame_here());
    green_switch(green_parent(green_current()), NULL);
    return above;
}

TEST(one_that_is_freed_by_its_child_makes_no_circle)
{
    green_t *above = green_new(frame_above, NULL), *child = green_new(frame_frees, above);
    noting = green_new(frame_notes, above);
    green_switch(above, NULL);
    green_switch(child, above);
    assert_string_equal(kept_list, "notes - above -");
    assert_int_equal(green_free(child), 0);
    assert_int_equal(green_free(noting), 0);
}

static char hook_lists[4][4096];
static int hook_calls;

FRAME void frame_hook(green_trace_event_t event, green_t *from, green_t *to, void *data)
{
    (void)event;
    (void)from;
    (void)to;
    (void)data;
    if (hook_calls < 4)
        strcpy(hook_lists[hook_calls++], frame_here());
    AFTER;
}

/* There the current green is not yet the one whose stack is running. */
TEST(it_works_in_a_trace_hook)
{
    green_t *g = green_new(frame_child, NULL);
    hook_calls = 0;
    green_set_trace(frame_hook, NULL);
    frame_scenario(g); /* starts it, and it yields */
    green_throw(g, 0); /* it dies */
    green_set_trace(NULL, NULL);
    assert_int_equal(hook_calls, 4);
    assert_string_equal(hook_lists[0], "hook - scenario -");
    assert_string_equal(hook_lists[1], "hook - child - scenario -");
    assert_string_equal(hook_lists[2], "hook -");
    assert_string_equal(hook_lists[3], "hook -");
    assert_int_equal(green_free(g), 0);
}

/* ---- green_backtrace() -------------------------------------------------------------- */

FRAME void *frame_deep(int depth)
{
    void *value = depth == 0 ? green_yield(NULL) : frame_deep(depth - 1);
    AFTER;
    return value;
}

FRAME void *frame_body(void *value)
{
    value = frame_deep(3);
    AFTER;
    return value;
}

/* greenlet: test_frame, test_can_access_f_back_of_suspended_greenlet */
TEST(a_suspended_greens_own_frames_are_listed)
{
    green_t *g = green_new(frame_body, NULL), *other = green_new(give_back, NULL);
    green_switch(g, NULL);
    assert_string_equal(frames_of(g), "deep deep deep deep body -");
    green_switch(other, NULL); /* has nothing to do with it */
    assert_string_equal(frames_of(g), "deep deep deep deep body -");
    void *all[20], *few[3];
    int n = green_backtrace(g, all, 20);
    assert_in_range(n, 7, 19);
    assert_int_equal(green_backtrace(g, few, 3), 3);
    assert_memory_equal(all, few, sizeof few);
    assert_int_equal(green_backtrace(g, NULL, 0), 0);
    green_switch(g, NULL);
    assert_refused(green_backtrace(g, all, 20), EINVAL);
    assert_int_equal(green_free(g), 0);
    assert_int_equal(green_free(other), 0);
}

FRAME void *frame_lists_itself(void *value)
{
    strcpy(lists[0], frames_of(green_current()));
    strcpy(lists[1], frames_of(value));
    AFTER;
    return value;
}

FRAME void *frame_parent(void *value)
{
    value = run_in_a_green(frame_lists_itself, green_current());
    strcpy(kept_list, frames_of(value));
    return value;
}

TEST(so_are_the_current_ones_and_an_ancestors)
{
    options = defaults;
    run_in_a_green(frame_parent, NULL);
    assert_string_equal(lists[0], "lists_itself -");
    assert_string_equal(lists[1], "parent -");
    assert_string_equal(kept_list, "parent -");
}

FRAME void *frame_looks_at_main(void *value)
{
    strcpy(lists[0], frames_of(green_main()));
    AFTER;
    return value;
}

TEST(those_of_main_end_where_the_thread_began)
{
    green_t *g = green_new(frame_looks_at_main, NULL);
    frame_scenario(g);
    assert_memory_equal(lists[0], "scenario -", 10);
    void *pcs[200];
    int n = green_backtrace(green_main(), pcs, 200), m = capture(pcs, 200);
    assert_in_range(n, m - 3, m); /* the latter begins in the capture */
    assert_int_equal(green_free(g), 0);
}

static void look_in_hook(green_trace_event_t event, green_t *from, green_t *to, void *data)
{
    (void)event;
    (void)data;
    if (hook_calls++ == 0) {
        strcpy(hook_lists[0], frames_of(from)); /* whose stack it runs on */
        strcpy(hook_lists[1], frames_of(to));   /* at its entry yet */
    }
}

TEST(it_may_be_called_in_a_trace_hook)
{
    green_t *g = green_new(frame_body, NULL);
    hook_calls = 0;
    green_set_trace(look_in_hook, NULL);
    frame_scenario(g);
    green_set_trace(NULL, NULL);
    assert_string_equal(hook_lists[0], "scenario -");
    assert_string_equal(hook_lists[1], "");
    assert_int_equal(green_free(g), 0);
}

static void *look_from_a_thread(void *g)
{
    void *pcs[10];
    errno = 0;
    must(green_backtrace(g, pcs, 10) == -1 && errno == EPERM);
    return NULL;
}

TEST(bad_calls_are_refused)
{
    void *pcs[10];
    green_t *g = green_new(frame_body, NULL);
    assert_refused(green_backtrace(NULL, pcs, 10), EINVAL);
    assert_refused(green_backtrace(g, pcs, 10), EINVAL); /* NEW */
    green_switch(g, NULL);
    assert_refused(green_backtrace(g, pcs, -1), EINVAL);
    assert_refused(green_backtrace(g, NULL, 10), EINVAL);
    in_thread(look_from_a_thread, g);
    assert_int_equal(green_free(g), 0);
}

/* ---- green_dump() ------------------------------------------------------------------- */

/* What green_dump() writes, as a string. */
static inline __attribute__((always_inline)) const char *dumped(void)
{
    static char text[4096];
    FILE *file = tmpfile();
    must(file != NULL && green_dump(fileno(file)) == 0);
    child_read(file, text, sizeof text);
    return text;
}

/* The next line of a text, without its addresses and numbers. */
static const char *next_line(const char **text)
{
    static char line[512];
    size_t n = 0;
    const char *from = *text;
    while (*from != '\0' && *from != '\n' && n < sizeof line - 1) {
        if (strncmp(from, "0x", 2) == 0) {
            from += 2 + strspn(from + 2, "0123456789abcdef");
            line[n++] = '@';
        } else if (*from >= '0' && *from <= '9') {
            from += strspn(from, "0123456789");
            line[n++] = '9';
        } else {
            line[n++] = *from++;
        }
    }
    line[n] = '\0';
    *text = *from == '\n' ? from + 1 : from;
    return line;
}

FRAME void *frame_dumps(void *value)
{
    strcpy(kept_list, dumped());
    AFTER;
    return value;
}

TEST(each_green_has_a_line)
{
    const green_options_t named = {.name = "wor\nk\177er"};
    green_t *g = green_new_with(frame_body, NULL, &named);
    green_t *nobody = green_new(frame_dumps, g);
    green_switch(g, NULL);
    frame_scenario(nobody);
    const char *text = kept_list;
    assert_string_equal(next_line(&text), "green @ \"main\": suspended, parent none, "
                                          "stack unknown, at frame_scenario+@");
    assert_string_equal(next_line(&text), "green @ \"wor?k?er\": suspended, parent @ \"main\", "
                                          "stack 9 of 9, at frame_deep+@");
    assert_string_equal(next_line(&text), "green @: running, parent @ \"wor?k?er\", "
                                          "stack 9 of 9, at frame_dumps+@");
    assert_string_equal(text, "");
    assert_int_equal(green_free(nobody), 0);
    assert_int_equal(green_free(g), 0);
}

FRAME void frame_calls(void (*move)(green_t *), green_t *g)
{
    move(g);
    AFTER;
}

FRAME void frame_by_free(green_t *g)
{
    must(green_free(g) == 0);
    AFTER;
}

FRAME void frame_by_throw(green_t *g)
{
    green_throw(g, 0);
    AFTER;
}

FRAME void frame_by_switch(green_t *g)
{
    green_switch(g, NULL);
    AFTER;
}

FRAME void frame_by_thread_end(green_t *g)
{
    (void)g;
    must(green_thread_end() == 0);
    AFTER;
}

FRAME void *frame_dumps_late(void *value)
{
    green_yield(value);
    strcpy(kept_list, dumped());
    return value;
}

TEST(where_is_the_function_that_called_libgreen)
{
    const struct {
        void (*move)(green_t *);
        const char *name;
    } ways[] = {
        {frame_by_free, "frame_by_free+@"},
        {frame_by_throw, "frame_by_throw+@"},
        {frame_by_switch, "frame_by_switch+@"},
        {frame_by_thread_end, "frame_by_thread_end+@"},
    };
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        green_t *g = green_new(frame_dumps_late, NULL);
        green_switch(g, NULL);
        frame_calls(ways[i].move, g);
        const char *text = kept_list, *line = next_line(&text);
        assert_string_equal(strstr(line, " at ") + 4, ways[i].name);
        if (i != 0)
            assert_int_equal(green_free(g), 0);
    }
}

/* Where a green waits, as a dump of it and main says. */
static const char *where(green_t *g)
{
    const char *text = dumped();
    must(green_state(g) == GREEN_SUSPENDED);
    next_line(&text);
    text = strstr(text, " at ");
    must(text != NULL);
    return text + 4;
}

static char **arguments; /* of main() */

static __attribute__((noinline)) void *has_no_symbol(void *value)
{
    value = green_yield(value);
    AFTER;
    return value;
}

/* A shell gives such a name if it has found the program by its path. */
TEST(where_there_is_no_symbol_it_is_the_file_by_whatever_name)
{
    char expected[128], *name = arguments[0];
    snprintf(expected, sizeof expected, "%s+@", program_invocation_short_name);
    green_t *g = green_new(has_no_symbol, NULL);
    green_switch(g, NULL);
    for (int i = 0; i < 2; i++) {
        const char *text = where(g);
        assert_string_equal(next_line(&text), expected);
        arguments[0] = program_invocation_short_name;
    }
    arguments[0] = name;
    assert_int_equal(green_free(g), 0);
}

/* A body to be copied: what it is started with is a function, and its argument. */
__attribute__((visibility("hidden"))) extern const char call_begin[], call_end[];
#if defined __x86_64__
__asm__(".pushsection .text\n"
        ".globl call_begin, call_end\n"
        ".hidden call_begin, call_end\n"
        "call_begin:\n\t"
        "endbr64\n\t"
        "push %rbp\n\t"
        "call *%rdi\n\t"
        "pop %rbp\n\t"
        "ret\n"
        "call_end:\n"
        ".popsection");
#elif defined __aarch64__
__asm__(".pushsection .text\n"
        ".globl call_begin, call_end\n"
        ".hidden call_begin, call_end\n"
        "call_begin:\n\t"
        "hint #34\n\t" /* bti c */
        "stp x29, x30, [sp, #-16]!\n\t"
        "blr x0\n\t"
        "ldp x29, x30, [sp], #16\n\t"
        "ret\n"
        "call_end:\n"
        ".popsection");
#endif
void *yield_of_the_library(void *value) __asm__("green_yield");

TEST(where_there_is_no_file_it_is_the_address)
{
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    char *code = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(code != MAP_FAILED);
    memcpy(code, call_begin, (size_t)(call_end - call_begin));
    __builtin___clear_cache(code, code + size);
    assert_int_equal(mprotect(code, size, PROT_READ | PROT_EXEC), 0);
    green_t *g = green_new((green_fn *)(uintptr_t)code, NULL);
    green_switch(g, (void *)(uintptr_t)yield_of_the_library);
    char *end;
    uintptr_t pc = strtoul(where(g), &end, 16);
    assert_in_range(pc, (uintptr_t)code + 1, (uintptr_t)code + (size_t)(call_end - call_begin));
    assert_string_equal(end, "\n");
    green_switch(g, NULL);
    assert_int_equal(green_free(g), 0);
    munmap(code, size);
}

FRAME void frame_dump_in_hook(green_trace_event_t event, green_t *from, green_t *to, void *data)
{
    (void)event;
    (void)from;
    (void)to;
    (void)data;
    if (hook_calls++ == 0)
        strcpy(kept_list, dumped());
}

TEST(a_dump_works_in_a_trace_hook_and_fails_with_its_write)
{
    green_t *g = green_new(give_back, NULL);
    hook_calls = 0;
    green_set_trace(frame_dump_in_hook, NULL);
    green_switch(g, NULL);
    green_set_trace(NULL, NULL);
    const char *text = kept_list;
    assert_string_equal(next_line(&text) + 8,
                        "\"main\": suspended, parent none, stack unknown, at frame_dump_in_hook+@");
    assert_refused(green_dump(-1), EBADF);
    assert_int_equal(green_free(g), 0);
}

static int pipe_ends[2];
static volatile sig_atomic_t interruptions;

/* Makes room in the pipe, the second time. */
static void interrupt(int number)
{
    char text[4096];
    int error = errno;
    (void)number;
    if (++interruptions == 2)
        must(read(pipe_ends[0], text, sizeof text) > 0);
    errno = error;
}

FRAME int frame_dumps_to(int fd)
{
    int result = green_dump(fd);
    AFTER;
    return result;
}

TEST(a_dump_goes_on_where_a_signal_has_interrupted_it)
{
    static char text[256 << 10];
    const struct sigaction action = {.sa_handler = interrupt}; /* no SA_RESTART */
    const struct itimerval soon = {{0, 20000}, {0, 20000}}, never = {{0, 0}, {0, 0}};
    struct sigaction before;
    size_t used = 0;
    memset(text, '-', sizeof text);
    assert_int_equal(pipe(pipe_ends), 0);
    assert_int_equal(fcntl(pipe_ends[1], F_SETFL, O_NONBLOCK), 0);
    while (write(pipe_ends[1], text, 4096) > 0)
        continue;
    assert_int_equal(fcntl(pipe_ends[1], F_SETFL, 0), 0);

    interruptions = 0;
    sigaction(SIGALRM, &action, &before);
    setitimer(ITIMER_REAL, &soon, NULL);
    int result = frame_dumps_to(pipe_ends[1]);
    setitimer(ITIMER_REAL, &never, NULL);
    sigaction(SIGALRM, &before, NULL);
    assert_int_equal(result, 0);
    assert_in_range(interruptions, 2, 1000);

    assert_int_equal(close(pipe_ends[1]), 0);
    for (ssize_t n; (n = read(pipe_ends[0], text + used, sizeof text - 1 - used)) > 0;)
        used += (size_t)n;
    text[used] = '\0';
    const char *line = text + strspn(text, "-");
    assert_string_equal(next_line(&line) + 8,
                        "\"main\": running, parent none, stack unknown, at frame_dumps_to+@");
    assert_string_equal(line, "");
    assert_int_equal(close(pipe_ends[0]), 0);
}

/* glibc's dprintf() does. */
TEST(a_dump_that_cannot_be_written_leaks_nothing)
{
#if defined __GLIBC__ && __GLIBC_PREREQ(2, 33)
    if (under_valgrind())
        skip(); /* it has another malloc(), and looks for leaks itself */
    assert_refused(green_dump(-1), EBADF);
    size_t before = mallinfo2().uordblks;
    for (int i = 0; i < 10; i++)
        assert_refused(green_dump(-1), EBADF);
    assert_int_equal(mallinfo2().uordblks, before);
#else
    skip(); /* nobody says how much is allocated */
#endif
}

int main(int argc, char **argv)
{
    (void)argc;
    arguments = argv;
    return run_all_tests();
}
