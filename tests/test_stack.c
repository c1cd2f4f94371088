/* SPDX-License-Identifier: MIT */
/*
 * Options and stacks (rule 20): what green_new_with() takes, the guard, the
 * caller's own memory, green_stack(), green_stack_used(), name and data.
 */
#define _GNU_SOURCE
#include <signal.h>

#define SYSTEM_OWN /* of system.h only what looks at stacks */
#include "system.h"

#include "contexts.h"

enum { FLOOR = 16384, GUARD = 65536 };

static green_t *with_size(size_t size)
{
    return with(echo, size, 0);
}

/* Or up to a page more: green_stack(). */
static void has_size(const green_t *g, size_t size)
{
    assert_in_range(size_of(g), size, size + 4095);
}

static _Alignas(16) char other_stack[256 << 10];

static void call_it(void *fn)
{
    (*(void (**)(void))fn)();
}

static void on_another_stack(void (*fn)(void))
{
    on_stack(other_stack, sizeof other_stack, call_it, &fn);
}

/* ---- Options --------------------------------------------------------------------------- */

TEST(no_options_are_the_defaults)
{
    green_t *g[3] = { green_new(echo, NULL), green_new_with(echo, NULL, NULL), with_size(0) };
    for (int i = 0; i < 3; i++) {
        assert_non_null(g[i]);
        has_size(g[i], STACK_FACTOR * 256 * 1024);
        assert_null(green_name(g[i]));
        assert_null(green_data(g[i]));
        assert_ptr_equal(green_switch(g[i], V(1)), V(1));
        assert_int_equal(green_free(g[i]), 0);
    }
}

TEST(what_is_not_known_is_einval)
{
    for (int bit = 2; bit < 32; bit++) {
        green_options_t options = { .flags = 1u << bit };
        assert_null_errno(green_new_with(echo, NULL, &options), EINVAL);
        options.flags |= GREEN_DETACHED | GREEN_NO_GUARD;
        assert_null_errno(green_new_with(echo, NULL, &options), EINVAL);
    }
    for (int i = 0; i < 4; i++) {
        green_options_t options = { .name = "reserved" };
        options.reserved[i] = &options;
        assert_null_errno(green_new_with(echo, NULL, &options), EINVAL);
    }
    green_options_t options = { .name = "good" };
    assert_null_errno(green_new(NULL, NULL), EINVAL);
    assert_null_errno(green_new_with(NULL, NULL, &options), EINVAL);
}

TEST(sizes_are_raised_to_the_floor_and_rounded_up_to_pages)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t sizes[] = { 1,     page - 1,  page,          FLOOR - 1,
                             FLOOR, FLOOR + 1, 5 * FLOOR + 1, 1000000, 8 << 20 };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        green_t *g = with_size(sizes[i]);
        assert_non_null(g);
        size_t want = STACK_FACTOR * (sizes[i] < FLOOR ? FLOOR : sizes[i]);
        want = (want + page - 1) / page * page;
        has_size(g, want);
        assert_ptr_equal(green_switch(g, V(1)), V(1));
        assert_int_equal(green_free(g), 0);
    }
}

/* Bytes of its stack that are below its frame. */
static void *see_room(void *g)
{
    void *low;
    green_stack(g, &low, NULL);
    return (void *)((uintptr_t)__builtin_frame_address(0) - (uintptr_t)low);
}

/* Neighbours have their tops at different places. */
TEST(all_that_was_asked_for_is_below_the_first_frame)
{
    enum { MANY = 40 };
    green_t *g[MANY];
    for (int i = 0; i < MANY; i++)
        assert_non_null(g[i] = with(see_room, 5 * FLOOR, 0));
    for (int i = 0; i < MANY; i++) {
        assert_true((uintptr_t)green_switch(g[i], g[i]) >= STACK_FACTOR * 5 * FLOOR);
        assert_int_equal(green_free(g[i]), 0);
    }
}

static void *run_it_here(void *g)
{
    must(green_set_parent(g, green_main()) == 0);
    must(green_switch(g, V(1)) == V(1) && green_free(g) == 0);
    green_t *next = with(echo, 0, GREEN_NO_GUARD);
    must(next != NULL && size_of(next) / 4096 == STACK_FACTOR * 256 * 1024 / 4096);
    must(green_free(next) == 0);
    return NULL;
}

/* Stacks of a size come back to a thread that has asked for none of it, or not lately. */
TEST(what_comes_back_is_not_given_for_another_size)
{
    enum { SIZES = 12 };
    green_t *g[SIZES];
    in_thread(run_it_here, with(give_back, FLOOR, GREEN_NO_GUARD));
    for (size_t i = 0; i < SIZES; i++) {
        assert_non_null(g[i] = with(echo, FLOOR + i * 4096, i % 2 ? 0 : GREEN_NO_GUARD));
        assert_ptr_equal(green_switch(g[i], V(1)), V(1));
    }
    for (size_t i = 0; i < SIZES; i++) {
        assert_int_equal(green_free(g[i]), 0);
        for (unsigned flags = 0; flags <= GREEN_NO_GUARD; flags += GREEN_NO_GUARD) {
            green_t *next = with(echo, 0, flags);
            assert_non_null(next);
            has_size(next, STACK_FACTOR * 256 * 1024);
            assert_int_equal(green_free(next), 0);
        }
    }
}

TEST(a_size_that_no_address_space_holds_is_einval)
{
    const size_t sizes[] = { SIZE_MAX,        SIZE_MAX - 1,     SIZE_MAX - 4095,
                             SIZE_MAX - 4096, SIZE_MAX - GUARD, SIZE_MAX - 2 * GUARD };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (unsigned flags = 0; flags <= GREEN_NO_GUARD; flags += GREEN_NO_GUARD) {
            green_options_t options = { .stack_size = sizes[i], .flags = flags };
            assert_null_errno(green_new_with(echo, NULL, &options), EINVAL);
        }
    /* Where EINVAL ends and ENOMEM begins depends on the CPU. */
    for (int bit = 48; bit < 64; bit++) {
        errno = 0;
        assert_null(with_size((size_t)1 << bit));
        assert_true(errno == EINVAL || errno == ENOMEM);
    }
    green_t *g = with_size(1); /* all is well */
    assert_ptr_equal(green_switch(g, V(1)), V(1));
    assert_int_equal(green_free(g), 0);
}

/* ---- green_stack(), green_stack_used() --------------------------------------------------- */

struct seen {
    void *low;
    size_t size, used, deep;
    char *here;
};

__attribute__((noinline)) static size_t used_deep_down(void)
{
    char frame[10000];
    __asm__ volatile("" : : "r"(frame) : "memory"); /* it is used */
    size_t used = green_stack_used(green_current());
    green_yield(NULL);
    __asm__ volatile("" : : "r"(frame) : "memory");
    return used;
}

static void *see_own_stack(void *value)
{
    struct seen *seen = value;
    seen->here = HERE;
    green_stack(green_current(), &seen->low, &seen->size);
    seen->used = green_stack_used(green_current());
    green_yield(NULL);
    seen->deep = used_deep_down();
    return NULL;
}

/* greenlet: test_stack_saved */
TEST(a_green_lives_on_its_stack_and_uses_some_of_it)
{
    for (unsigned flags = 0; flags <= GREEN_NO_GUARD; flags += GREEN_NO_GUARD) {
        struct seen seen;
        green_options_t options = { .stack_size = 65536, .flags = flags };
        green_t *g = green_new_with(see_own_stack, NULL, &options);
        char *low = low_of(g);
        assert_non_null(low);
        size_t size = size_of(g);
        has_size(g, STACK_FACTOR * 65536);
        assert_int_equal(green_stack_used(g), 0); /* NEW */
        green_switch(g, &seen);
        assert_ptr_equal(seen.low, low);
        assert_int_equal(seen.size, size);
        assert_in_range((uintptr_t)seen.here, (uintptr_t)low, (uintptr_t)low + size - 1);
        assert_in_range(seen.used, 1, 8192);
        size_t shallow = green_stack_used(g);
        assert_in_range(shallow, 1, 8192);
        assert_in_range((uintptr_t)seen.here, (uintptr_t)low + size - shallow,
                        (uintptr_t)low + size - 1);
        green_switch(g, NULL);
        assert_in_range(green_stack_used(g), shallow + 10000, shallow + 14000);
        green_switch(g, NULL);
        assert_in_range(seen.deep, seen.used + 10000, seen.used + 14000);
        assert_int_equal(green_state(g), GREEN_DEAD);
        assert_int_equal(green_stack_used(g), 0);
        assert_null(low_of(g));
        assert_int_equal(size_of(g), 0);
        assert_int_equal(green_free(g), 0);
    }
}

static void *see_main(void *value)
{
    return V((low_of(green_main()) == NULL) + (size_of(green_main()) == 0) +
             (green_stack_used(green_main()) == 0) + (int)(intptr_t)value);
}

static size_t used_there;

static void see_there(void)
{
    void *pcs[64];
    used_there = green_stack_used(green_current());
    must(green_backtrace(green_current(), pcs, 64) > 0 || errno == ENOSYS);
    green_yield(NULL);
}

static void *wait_elsewhere(void *unused)
{
    (void)unused;
    on_another_stack(see_there);
    return green_yield(NULL);
}

static void exit_there(void)
{
    green_exit(V(3));
}

static void *exit_elsewhere(void *unused)
{
    (void)unused;
    on_another_stack(exit_there);
    return NULL;
}

TEST(on_another_stack_all_of_its_own_counts)
{
    void *pcs[64];
    if (!HAS_CONTEXTS || UNDER_TSAN)
        skip_because("there is no swapcontext(), or the tool does not know it");
    green_t *g = green_new(wait_elsewhere, NULL);
    green_switch(g, NULL);
    assert_int_equal(used_there, size_of(g));
    assert_int_equal(green_stack_used(g), size_of(g));
    assert_true(green_backtrace(g, pcs, 64) > 0 || errno == ENOSYS);
    FILE *file = tmpfile();
    assert_non_null(file);
    assert_int_equal(green_dump(fileno(file)), 0);
    char text[2048], wanted[64];
    child_read(file, text, sizeof text);
    snprintf(wanted, sizeof wanted, "stack unknown of %zu,", size_of(g));
    assert_non_null(strstr(text, wanted));
    green_switch(g, NULL);
    assert_in_range(green_stack_used(g), 1, size_of(g) - 1); /* it has come back */
    assert_int_equal(green_free(g), 0);
}

TEST(it_may_end_there)
{
    if (!HAS_CONTEXTS || UNDER_TSAN)
        skip_because("there is no swapcontext(), or the tool does not know it");
    green_t *g = green_new(exit_elsewhere, NULL);
    assert_ptr_equal(green_switch(g, NULL), V(3));
    assert_int_equal(green_state(g), GREEN_DEAD);
    assert_int_equal(green_free(g), 0);
}

__attribute__((weak)) int __lsan_do_recoverable_leak_check(void);

static void *look_for_leaks(void *value)
{
    if (__lsan_do_recoverable_leak_check != NULL)
        must(__lsan_do_recoverable_leak_check() == 0);
    return value;
}

static void visit(void)
{
    green_t *g = green_new(look_for_leaks, NULL);
    must(g != NULL && green_switch(g, V(1)) == V(1) && green_free(g) == 0);
}

/* A tool that looks for leaks may look at main's frames only where they are. */
TEST(main_may_wait_there)
{
    if (!HAS_CONTEXTS || UNDER_TSAN)
        skip_because("there is no swapcontext(), or the tool does not know it");
    on_another_stack(visit);
    assert_int_equal(green_stack_used(green_main()), 0);
}

TEST(mains_stack_is_not_known)
{
    assert_ptr_equal(see_main(V(0)), V(3));
    green_t *g = green_new(see_main, NULL);
    assert_ptr_equal(green_switch(g, V(0)), V(3));
    assert_int_equal(green_free(g), 0);
    green_stack(green_main(), NULL, NULL);
}

TEST(what_there_is_to_see_of_null_is_einval)
{
    void *low = V(1);
    size_t size = 1;
    errno = 0;
    green_stack(NULL, &low, &size);
    assert_int_equal(errno, EINVAL);
    assert_null(low);
    assert_int_equal(size, 0);
    errno = 0;
    assert_int_equal(green_stack_used(NULL), 0);
    assert_int_equal(errno, EINVAL);
    assert_null_errno(green_name(NULL), EINVAL);
    assert_null_errno(green_data(NULL), EINVAL);
    assert_refused(green_set_data(NULL, NULL), EINVAL);
}

/* ---- The guard ------------------------------------------------------------------------------ */

static volatile int deeper = 1;

/* Uses its whole stack and then more, in small frames. */
__attribute__((noinline)) static int dig(char *above)
{
    char frame[512] = { above[0] };
    __asm__ volatile("" : : "r"(frame) : "memory");
    return (deeper ? dig(frame) : 0) + frame[1];
}

static void *overflow(void *value)
{
    char first = 0;
    return V(dig(&first) + (value != NULL));
}

static int overflow_a_stack(void *size)
{
    signal(SIGSEGV, SIG_DFL); /* instead of cmocka's */
    green_options_t options = { .stack_size = (size_t)(intptr_t)size };
    green_t *g = green_new_with(overflow, NULL, &options);
    green_switch(g, NULL);
    return 0;
}

TEST(an_overflow_ends_in_sigsegv)
{
    for (int size = FLOOR; size <= 64 * FLOOR; size *= 8) {
        struct child child = run_child(overflow_a_stack, V(size));
        assert_true(WIFSIGNALED(child.status));
        assert_int_equal(WTERMSIG(child.status), SIGSEGV);
    }
}

static void has_a_guard(green_t *g)
{
    char *low = low_of(g);
    assert_int_equal(probe(low + size_of(g) - 1), 0);
    assert_int_equal(probe(low), 0);
    for (int i = 1; i <= GUARD; i *= 2)
        assert_int_equal(probe(low - i), EFAULT);
    assert_int_equal(probe(low - GUARD), EFAULT);
}

TEST(the_guard_reaches_64_kib_down)
{
    if (under_valgrind())
        skip_because("to Valgrind a touched guard is an error");
    green_t *g[20];
    for (int i = 0; i < 20; i++)
        g[i] = with_size((size_t)(i % 4 * 100000));
    for (int i = 0; i < 20; i++)
        has_a_guard(g[i]);
    for (int i = 0; i < 20; i++) {
        green_switch(g[i], V(1));
        has_a_guard(g[i]);
        assert_int_equal(green_free(g[i]), 0);
    }
}

/* No mapping without access ends at low; and what is mapped below can be read. */
static void has_no_guard(green_t *g)
{
    uintptr_t low = (uintptr_t)low_of(g);
    FILE *maps = fopen("/proc/self/maps", "r");
    assert_non_null(maps);
    char line[512];
    while (fgets(line, sizeof line, maps) != NULL) {
        unsigned long from, to;
        char access[5];
        if (sscanf(line, "%lx-%lx %4s", &from, &to, access) != 3 || low <= from || low > to)
            continue;
        assert_int_equal(access[0], 'r');
        if (!under_valgrind())
            assert_int_equal(probe(low_of(g) - 1), 0);
    }
    fclose(maps);
}

TEST(no_guard_means_none)
{
    const green_options_t options = { .flags = GREEN_NO_GUARD };
    for (int i = 0; i < 10; i++) {
        green_t *g = green_new_with(echo, NULL, &options);
        has_no_guard(g);
        green_switch(g, V(1));
        has_no_guard(g);
        assert_int_equal(green_free(g), 0);
    }
}

TEST(a_stack_used_again_has_the_guard_it_was_asked_for)
{
    if (under_valgrind())
        skip_because("to Valgrind a touched guard is an error");
    for (unsigned first = 0; first < 2; first++) /* of a size that no other test uses */
        for (unsigned i = first; i < 20 + first; i++) {
            unsigned flags = i % 2 ? GREEN_NO_GUARD : 0;
            green_options_t options = { .stack_size = 81920 + 8192 * first, .flags = flags };
            green_t *g = green_new_with(echo, NULL, &options);
            green_switch(g, V(1));
            if (flags)
                has_no_guard(g);
            else
                has_a_guard(g);
            assert_int_equal(green_free(g), 0);
        }
}

TEST(a_green_without_options_gets_no_other_stack)
{
    const green_options_t others[] = { { .flags = GREEN_NO_GUARD }, { .stack_size = 1 } };
    for (int i = 0; i < 4; i++) {
        green_t *g = green_new_with(give_back, NULL, &others[i % 2]);
        assert_ptr_equal(green_switch(g, V(1)), V(1));
        assert_int_equal(green_free(g), 0);
        assert_non_null(g = green_new(give_back, NULL));
        assert_true(size_of(g) >= STACK_FACTOR * 256 * 1024);
        if (!under_valgrind()) /* to which a touched guard is an error */
            has_a_guard(g);
        assert_int_equal(green_free(g), 0);
    }
}

/* A thread keeps a few kinds of stacks: one may be the oldest, and differ in its guard alone. */
TEST(also_if_one_of_its_size_was_used_some_sizes_ago)
{
    if (under_valgrind())
        skip_because("to Valgrind a touched guard is an error");
    for (unsigned others = 0; others < 12; others++)
        for (unsigned first = 0; first < 2; first++) {
            green_options_t options = { .stack_size = 98304 };
            options.flags = first ? GREEN_NO_GUARD : 0;
            green_free(green_new_with(echo, NULL, &options));
            for (unsigned i = 1; i <= others; i++)
                green_free(with_size(98304 + 8192 * i));
            options.flags ^= GREEN_NO_GUARD;
            green_t *g = green_new_with(echo, NULL, &options);
            if (first)
                has_a_guard(g);
            else
                has_no_guard(g);
            assert_int_equal(green_free(g), 0);
        }
}

/* ---- The caller's memory ----------------------------------------------------------- */

enum { ROOM = 40000, MARGIN = 4096, TOTAL = MARGIN + ROOM + MARGIN };
static _Alignas(4096) unsigned char memory[TOTAL + 4096];

static green_t *on(void *stack, size_t size, unsigned flags)
{
    green_options_t options = { .stack = stack, .stack_size = size, .flags = flags };
    return green_new_with(echo, NULL, &options);
}

TEST(a_lent_stack_must_leave_16_kib_after_alignment)
{
    const struct {
        size_t offset, size;
        int good;
    } rows[] = {
        { 0, 0, 0 },          { 0, 1, 0 },           { 0, FLOOR - 1, 0 },
        { 0, FLOOR, 1 },      { 0, FLOOR + 15, 1 },  { 1, FLOOR, 0 },
        { 1, FLOOR + 14, 0 }, { 1, FLOOR + 15, 1 },  { 15, FLOOR, 0 },
        { 15, FLOOR + 1, 1 }, { 8, FLOOR + 7, 0 },   { 8, FLOOR + 8, 1 },
        { 16, FLOOR, 1 },     { 7, FLOOR + 100, 1 }, { 0, SIZE_MAX, 0 },
        { 0, SIZE_MAX - 4095, 0 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (!rows[i].good) {
            assert_null_errno(on(memory + rows[i].offset, rows[i].size, 0), EINVAL);
            continue;
        }
        green_t *g = on(memory + rows[i].offset, rows[i].size, 0);
        assert_non_null(g);
        char *low = low_of(g), *from = (char *)memory + rows[i].offset;
        assert_in_range((uintptr_t)low, (uintptr_t)from, (uintptr_t)from + 15);
        assert_true(size_of(g) >= FLOOR && low + size_of(g) <= from + rows[i].size);
        assert_int_equal((uintptr_t)low % 16, 0);
        assert_int_equal(size_of(g) % 16, 0);
        assert_ptr_equal(green_switch(g, V(1)), V(1));
        assert_int_equal(green_free(g), 0);
    }
}

static void *see_where(void *value)
{
    for (char *where = HERE; value != GREEN_FAILED;)
        value = green_yield(where);
    return NULL;
}

static int margins_are_whole(const unsigned char *stack, size_t size)
{
    for (const unsigned char *at = memory; at < memory + sizeof memory; at++)
        if ((at < stack || at >= stack + size) && *at != 0xa5)
            return 0;
    return 1;
}

TEST(it_is_used_and_nothing_around_it_is)
{
    for (unsigned offset = 0; offset < 40; offset += 13) {
        unsigned char *stack = memory + MARGIN + offset;
        memset(memory, 0xa5, sizeof memory);
        green_options_t options = { .stack = stack, .stack_size = ROOM };
        green_t *g = green_new_with(see_where, NULL, &options);
        assert_true(margins_are_whole(stack, ROOM));
        void *where = green_switch(g, NULL);
        assert_in_range((uintptr_t)where, (uintptr_t)stack, (uintptr_t)stack + ROOM - 1);
        assert_in_range(green_stack_used(g), 1, 8192);
        assert_int_equal(green_free(g), 0);
        assert_true(margins_are_whole(stack, ROOM));
        memset(memory, 0x5a, sizeof memory); /* nothing was protected or unmapped */
    }
}

TEST(once_released_it_is_the_callers_again)
{
    static unsigned char copy[sizeof memory];
    unsigned char *stack = memory + MARGIN;
    for (int i = 0; i < 6; i++) {
        green_t *g = on(stack, ROOM, i % 2 ? GREEN_DETACHED : 0);
        assert_non_null(g);
        if (i < 2) { /* never run */
            assert_int_equal(green_free(g), 0);
        } else if (i < 4) { /* killed */
            assert_ptr_equal(green_switch(g, V(1)), V(1));
            assert_int_equal(green_free(g), 0);
        } else { /* dead */
            assert_ptr_equal(green_switch(g, V(1)), V(1));
            assert_null(green_throw(g, 0));
            assert_int_equal(i % 2 ? 0 : green_free(g), 0);
        }
        memset(memory, i, sizeof memory);
        memcpy(copy, memory, sizeof memory);
        green_t *another = green_new(echo, NULL);
        assert_ptr_equal(green_switch(another, V(2)), V(2));
        assert_int_equal(green_free(another), 0);
        assert_memory_equal(copy, memory, sizeof memory); /* nobody touches it any more */
    }
}

static void *lend_own_stack(void *value)
{
    char room[ROOM];
    green_options_t options = { .stack = room, .stack_size = sizeof room };
    green_t *g = green_new_with(echo, NULL, &options);
    must(g != NULL && green_switch(g, value) == value);
    must(green_switch(g, V(2)) == V(2) && green_free(g) == 0);
    return value;
}

TEST(any_memory_will_do)
{
    green_t *g;
    if (!under_valgrind()) { /* it takes a stack within a stack for a part of it */
        lend_own_stack(V(1)); /* main's stack, a green's, the heap */
        g = green_new(lend_own_stack, NULL);
        assert_ptr_equal(green_switch(g, V(3)), V(3));
        assert_int_equal(green_free(g), 0);
    }
    for (int i = 0; i < 3; i++) {
        void *heap = malloc(ROOM);
        g = on(heap, ROOM, GREEN_NO_GUARD); /* which it is anyway */
        assert_ptr_equal(green_switch(g, V(4)), V(4));
        assert_int_equal(i == 0 ? green_abandon(g) : green_free(g), 0);
        free(heap);
    }
}

/* ---- Name and data ----------------------------------------------------------------- */

TEST(a_name_is_copied_and_cut_at_31_bytes)
{
    const char *digits = "0123456789012345678901234567890123456789012345678901234567890";
    for (size_t length = 0; length < 60; length++) {
        char name[64] = "";
        memcpy(name, digits, length);
        green_options_t options = { .name = name };
        green_t *g = green_new_with(echo, NULL, &options);
        memset(name, 'x', sizeof name);
        memset(&options, 0xff, sizeof options); /* copied, too */
        char want[32] = "";
        memcpy(want, digits, length < 31 ? length : 31);
        assert_string_equal(green_name(g), want);
        green_switch(g, V(1));
        assert_string_equal(green_name(g), want);
        green_throw(g, 0);
        assert_string_equal(green_name(g), want); /* until it is released */
        assert_int_equal(green_free(g), 0);
    }
    assert_string_equal(green_name(green_main()), "main");
}

static void *set_own_data(void *value)
{
    must(green_data(green_current()) == NULL);
    must(green_set_data(green_current(), value) == 0);
    return value;
}

/* greenlet: test_instance_dict */
TEST(data_is_the_users_in_every_state)
{
    green_options_t options = { .data = V(5) };
    green_t *g = green_new_with(echo, NULL, &options), *h = green_new(set_own_data, NULL);
    assert_ptr_equal(green_data(g), V(5));
    assert_int_equal(green_set_data(g, GREEN_FAILED), 0); /* any pointer */
    assert_ptr_equal(green_data(g), GREEN_FAILED);
    green_switch(g, V(1));
    assert_int_equal(green_set_data(g, V(6)), 0);
    green_throw(g, 0);
    assert_ptr_equal(green_data(g), V(6));
    assert_int_equal(green_set_data(g, NULL), 0);
    assert_null(green_data(g));
    assert_null(green_data(h));
    assert_ptr_equal(green_switch(h, V(7)), V(7));
    assert_ptr_equal(green_data(h), V(7));
    assert_null(green_data(green_main()));
    assert_int_equal(green_set_data(green_main(), V(8)), 0);
    assert_ptr_equal(green_data(green_main()), V(8));
    assert_int_equal(green_set_data(green_main(), NULL), 0);
    assert_int_equal(green_free(g), 0);
    assert_int_equal(green_free(h), 0);
}

TEST(the_version_is_that_of_the_header)
{
    assert_int_equal(green_version(), GREEN_VERSION);
}

int main(void)
{
    return run_all_tests();
}
