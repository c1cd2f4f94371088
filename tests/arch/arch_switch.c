/* SPDX-License-Identifier: MIT */
/*
 * The routines of a port, by the contract of src/arch/arch.h alone: small and
 * quick, as every mutant of them is put to it (tests/mutants/assembly.py).
 *
 * The second half stops at each instruction of a switch.  A signal comes there,
 * on the stack that is running, which must lose nothing by it; and from there
 * the call frame information must lead to a caller with all its registers.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unwind.h>

#include <green_fast.h>

#include "arch/arch.h"
#include "registers.h"
#include "stepping.h"

static void skip_under_valgrind(const char *reason)
{
    if (under_valgrind()) {
        print_message("skipped: %s\n", reason);
        skip();
    }
}

/* Two stacks that resume each other; the program's own is the first. */
struct group {
    const struct side *current;
    void *unused;
    const struct side *runs;
};

static struct side {
    void *sp; /* while it is suspended */
    void *unused;
    const struct side *next; /* by this unwinding goes on, if a new stack has an owner */
    void *unused_too;
    unsigned char state;
    char more[GREEN__OWNER_GROUP - GREEN__OWNER_STATE - 1];
    const struct group *group;
    uint64_t in[MOST], out[MOST];
} sides[2];
_Static_assert(offsetof(struct side, sp) == GREEN__OWNER_SP, "arch.h");
_Static_assert(offsetof(struct side, next) == GREEN__OWNER_NEXT, "arch.h");
_Static_assert(offsetof(struct side, state) == GREEN__OWNER_STATE, "arch.h");
_Static_assert(offsetof(struct side, group) == GREEN__OWNER_GROUP, "arch.h");
_Static_assert(offsetof(struct group, current) == GREEN__GROUP_CURRENT, "arch.h");
_Static_assert(offsetof(struct group, runs) == GREEN__GROUP_RUNS, "arch.h");

/* No exception comes by here.  Weak, as the library may be there with its own. */
__attribute__((weak)) int green__arch_personality(int version, int actions, uint64_t class,
                                                  void *exception, void *context)
{
    (void)version, (void)actions, (void)class, (void)exception, (void)context;
    abort();
}

/* Nor does green_switch() by its slow path, with which some ports' code is linked. */
__attribute__((weak)) void *green__switch_slowly(green_t *g, void *value)
{
    (void)g, (void)value;
    abort();
}

enum { ROOM = 65536 };
static _Alignas(4096) char stack[ROOM];

static void *new_stack_of(const struct side *owner, void (*entry)(void *))
{
    /* memcheck.h: may be written */
    green__arch_valgrind(0x4d430001, (uintptr_t)stack, sizeof stack);
    memset(stack + sizeof stack - 256, 0x5a, 256); /* nothing there is zero by chance */
    return green__arch_first(stack + sizeof stack, entry, owner);
}

static void *new_stack(void (*entry)(void *))
{
    return new_stack_of(NULL, entry);
}

static int is_second(const void *address)
{
    return (uintptr_t)address - (uintptr_t)stack < sizeof stack;
}

static void *leave(void *from, void *value)
{
    struct side *me = from, *to = &sides[me == sides];
    return green__arch_switch(&me->sp, to->sp, value);
}

/* The same at another return address. */
static void *leave_from_elsewhere(void *from, void *value)
{
    struct side *me = from, *to = &sides[me == sides];
    value = green__arch_switch(&me->sp, to->sp, value);
    __asm__ volatile("" : "+r"(value)); /* the switch returns to here */
    return value;
}

/* As a program does with green_fast.h, which does not keep the modes. */
static void *leave_inlined(void *from, void *value)
{
    struct side *me = from, *to = &sides[me == sides];
    return green_private_enter((struct green_private *)me, (struct green_private *)to, value);
}

static void *(*leaves[2])(void *, void *) = { leave, leave }; /* by side */

/* To stop at single instructions is slow: so only around what is looked at. */
static volatile sig_atomic_t stops_wanted, stopping;
static void set_breakpoint(void);

static void begin_stops(void)
{
    if (!stops_wanted)
        return;
    if (CAN_STEP) {
        stopping = 1;
        begin_steps();
    } else {
        set_breakpoint();
    }
}

static void end_stops(void)
{
    stopping = 0; /* the next stop is the last */
    __asm__ volatile("nop" : : : "memory");
}

#define AS_CALL(fn) ((void (*)(void))(fn))

/* Leaves this side with a pattern in every register; they must come back. */
static void *leave_with_pattern(struct side *me, void *value)
{
    void *volatile result;
    for (uint32_t w = 0; w < registers_count; w++)
        me->in[w] = (next_random() & registers_mask[w] & settable[w]) | registers_base[w];
#if defined __x86_64__
    /* Neither word must pass for the other, nor what is left below the stack pointer. */
    if (next_random() % 2)
        me->in[7] = registers_base[7];
    if (next_random() % 4 == 0)
        me->in[6] = me->in[7];
    if (next_random() % 2)
        me->in[5] = (me->in[5] & ~(uint64_t)0xffff) | me->in[7];
#endif
    begin_stops();
    result = registers_call(AS_CALL(leaves[me - sides]), me, value, me->in, me->out);
    end_stops();
    calls++;
    uint32_t kept = leaves[me - sides] == leave_inlined ? registers_control : registers_count;
    for (uint32_t w = 0; w < kept; w++)
        if (((me->in[w] ^ me->out[w]) & registers_mask[w] & settable[w]) != 0)
            changed++;
    return result;
}

/* ---- Switches ------------------------------------------------------------------- */

static void bounce(void *value)
{
    for (;;)
        value = leave_with_pattern(&sides[1], V((intptr_t)value + 1));
}

TEST(every_register_and_the_value_arrive)
{
    calls = changed = 0;
    sides[1].sp = new_stack(bounce);
    for (int i = 0; i < 300; i++)
        assert_ptr_equal(leave_with_pattern(&sides[0], V(i)), V(i + 1));
    assert_true(calls >= 599);
    assert_int_equal(changed, 0);
}

static uint64_t top[2][3];

static void note_top(int side)
{
    memcpy(top[side], sides[side].sp, sizeof top[side]);
}

static void note_tops(void *unused)
{
    (void)unused;
    for (;;) {
        note_top(0);
        registers_call(AS_CALL(green__arch_switch), &sides[1].sp, sides[0].sp, sides[1].in,
                       sides[1].out);
    }
}

/* arch.h: the address to resume at, the frame pointer, on x86_64 rbx. */
TEST(the_top_words_are_those_of_the_contract)
{
    for (int i = 0; i < 2; i++)
        for (uint32_t w = 0; w < registers_control; w++)
            sides[i].in[w] = next_random();
    sides[1].sp = new_stack(note_tops);
    /* Without a frame in between; registers_call() leaves its third argument for the value. */
    registers_call(AS_CALL(green__arch_switch), &sides[0].sp, sides[1].sp, sides[0].in,
                   sides[0].out);
    note_top(1);
    for (int i = 0; i < 2; i++) {
        assert_int_equal((uintptr_t)sides[i].sp % 8, 0);
        assert_int_equal(is_second(sides[i].sp), i);
        assert_true(top[i][0] > (uintptr_t)green__arch_switch);
        assert_true(top[i][0] < (uintptr_t)green__arch_jump);
#if defined __x86_64__
        assert_int_equal(top[i][1], sides[i].in[1]);
        assert_int_equal(top[i][2], sides[i].in[0]);
#else
        assert_int_equal(top[i][1], sides[i].in[10]);
#endif
    }
}

/* ---- Jumps ------------------------------------------------------------------------ */

/* A signal's handler may not count on registers, but a jump's target may count on its own. */
static void jump_back(void *value)
{
    leave_with_pattern(&sides[1], V(0)); /* so that the modes are others */
    for (int i = 0; i < 3; i++)
        registers_call(AS_CALL(leave), &sides[1], value, sides[1].in, sides[1].out);
    registers_call(AS_CALL(green__arch_jump), sides[0].sp, value, sides[1].in, sides[1].out);
}

TEST(a_jump_resumes_with_every_register_and_the_value)
{
    calls = changed = 0;
    for (int i = 0; i < 100; i++) {
        sides[1].sp = new_stack(jump_back);
        for (int j = 0; j < 5; j++)
            assert_ptr_equal(leave_with_pattern(&sides[0], V(i)), V(j == 0 ? 0 : i));
    }
    assert_int_equal(changed, 0);
}

static void jump_at_once(void *value)
{
    green__arch_jump(sides[0].sp, value);
}

TEST(so_does_one_to_a_stack_with_the_same_modes)
{
    changed = 0;
    for (int i = 0; i < 20; i++) {
        sides[1].sp = new_stack(jump_at_once);
        assert_ptr_equal(leave_with_pattern(&sides[0], V(i)), V(i));
    }
    assert_int_equal(changed, 0);
}

/* ---- The start ---------------------------------------------------------------------- */

static uint64_t words[8];
static uintptr_t entry_end; /* behind its call */

static void *start_words(void *unused, void *unused_value)
{
    (void)unused;
    (void)unused_value;
    return green__arch_switch(&sides[0].sp, sides[1].sp, words);
}

static void enter_by_words(void *value)
{
    uintptr_t frame = (uintptr_t)__builtin_frame_address(0);
    uintptr_t back = (uintptr_t)__builtin_return_address(0);
    volatile uintptr_t entry = (uintptr_t)green__arch_entry;
    must(value == words && frame % 16 == 0);
    /* The call returns to within the entry; before that is a trap. */
    must(back > entry && back - entry < 256);
    must(back == (uintptr_t)green__arch_entry_called);
    entry_end = back;
#if defined __x86_64__
    must(memcmp((char *)entry - 2, "\x0f\x0b", 2) == 0);
#elif defined __aarch64__
    must((((uint32_t *)entry)[-1] & 0xffe0001f) == 0xd4200000);
#endif
    for (;;) {
        registers_entry(words);
        leave(&sides[1], value);
    }
}

TEST(a_stack_starts_aligned_and_with_the_modes_of_its_starter)
{
    uint64_t in[MOST] = {0}, out[MOST] = {0};
    for (int i = 0; i < 50; i++) {
        sides[1].sp = new_stack(enter_by_words);
        for (uint32_t w = 0; w < registers_count; w++)
            in[w] = (next_random() & registers_mask[w] & settable[w]) | registers_base[w];
        assert_ptr_equal(registers_call(AS_CALL(start_words), NULL, NULL, in, out), words);
        assert_true(is_second((void *)(uintptr_t)words[0]));
        for (uint32_t w = 0; w < registers_count; w++) {
            uint64_t mask = registers_mask[w] & settable[w];
            assert_int_equal(out[w] & mask, in[w] & mask);
            if (w >= registers_control)
                assert_int_equal(words[1 + w - registers_control] & mask, in[w] & mask);
        }
    }
}

/* Frame pointers: the chain from a body ends at zero. */
static void *chain[4];

static void walk_chain(void *value)
{
    void **frame = __builtin_frame_address(0); /* which has the compiler keep one here */
    int n = 0;
    while (n < 4 && is_second(frame)) {
        chain[n++] = frame;
        frame = *frame;
    }
    chain[n < 4 ? n : 3] = frame;
    for (;;)
        leave(&sides[1], value);
}

TEST(a_new_stacks_frame_pointers_end_at_zero)
{
    memset(chain, 0xff, sizeof chain);
    sides[1].sp = new_stack(walk_chain);
    leave(&sides[0], V(1));
    int n = 0;
    while (n < 3 && is_second(chain[n]))
        n++;
    assert_null(chain[n]);
}

/* ---- Floating-point modes and flags ------------------------------------------------- */

#if defined __x86_64__

static void set_x87(unsigned control)
{
    uint16_t word = (uint16_t)control;
    __asm__ volatile("fldcw %0" : : "m"(word));
}

static unsigned x87_flags(void)
{
    uint16_t word;
    __asm__ volatile("fnstsw %0" : "=m"(word));
    return word & 0x3f;
}

static unsigned mxcsr(void)
{
    uint32_t word;
    __asm__ volatile("stmxcsr %0" : "=m"(word));
    return word;
}

static void set_mxcsr(uint32_t word)
{
    __asm__ volatile("ldmxcsr %0" : : "m"(word));
}

static void divide_by_zero_x87(void)
{
    __asm__ volatile("fld1; fldz; fdivrp; fstp %%st(0)" : : : "st");
}

enum { X87 = 0x037f, X87_UP = 0x0b7f, X87_UNMASKED = 0x037b, ZERO_DIVIDE = 4, INEXACT = 32 };
enum { SSE = 0x1f80, SSE_UP = 0x5f80, SSE_DENORMAL = 0x1e80 };

/* The other side, with these modes. */
static unsigned theirs_x87, theirs_sse, seen_x87, seen_sse;

static void keep_modes(void *value)
{
    for (;;) {
        set_x87(theirs_x87);
        set_mxcsr((mxcsr() & 0x3f) | theirs_sse);
        value = leave(&sides[1], value);
        seen_x87 = x87_flags();
        seen_sse = mxcsr();
    }
}

static void other_side(unsigned x87, unsigned sse)
{
    set_x87(X87);
    set_mxcsr(SSE);
    theirs_x87 = x87;
    theirs_sse = sse;
    sides[1].sp = new_stack(keep_modes);
    leave(&sides[0], V(1));
}

/* Flags are the thread's: a change of modes neither sets nor clears them. */
TEST(flags_stay_when_modes_change)
{
    skip_under_valgrind("Valgrind has no floating-point flags");
    other_side(X87_UP, SSE_UP);
    assert_int_equal(mxcsr() & 0xffc0, SSE);
    for (int flag = 1; flag < 64; flag *= 2) {
        set_mxcsr(SSE | (unsigned)flag);
        leave(&sides[0], V(2)); /* it has other modes, and comes back with them */
        assert_int_equal(seen_sse, SSE_UP | flag);
        assert_int_equal(mxcsr(), SSE | flag);
    }
    set_mxcsr(SSE);
    __asm__ volatile("fnclex");
    divide_by_zero_x87();
    leave(&sides[0], V(2));
    assert_int_equal(seen_x87, ZERO_DIVIDE);
    assert_int_equal(x87_flags(), ZERO_DIVIDE);
    assert_int_equal(mxcsr(), SSE);
    __asm__ volatile("fnclex");
}

/* Its registers hold what a switch would give one that wants no other modes. */
static void jump_with_the_words_of_the_other(void *value)
{
    struct green__frame frame;
    void *sp = sides[0].sp;
    memcpy(&frame, (char *)sp - offsetof(struct green__frame, resume), sizeof frame);
    set_x87(frame.x87 ^ 0x0c00); /* rounding */
    set_mxcsr(frame.mxcsr ^ 0x6000);
    __asm__ volatile("jmp green__arch_jump"
                     : : "D"(sp), "S"(value), "d"(frame.mxcsr), "c"((uint32_t)frame.x87) : "memory");
}

TEST(who_is_jumped_to_reads_the_modes)
{
    changed = 0;
    for (int i = 0; i < 20; i++) {
        sides[1].sp = new_stack(jump_with_the_words_of_the_other);
        assert_ptr_equal(leave_with_pattern(&sides[0], V(i)), V(i));
    }
    assert_int_equal(changed, 0);
}

TEST(each_mode_is_enough_of_a_difference)
{
    skip_under_valgrind("Valgrind has no masks of exceptions");
    static const unsigned x87[] = { X87, X87_UP, X87, X87, 0x027f, X87 };
    static const unsigned sse[] = { SSE, SSE, SSE_UP, SSE_DENORMAL, SSE, SSE | 0x8000 };
    for (int i = 0; i < 6; i++) {
        other_side(x87[i], sse[i]);
        for (int j = 0; j < 3; j++) {
            uint16_t word;
            leave(&sides[0], V(2));
            assert_int_equal(seen_sse & 0xffc0, sse[i]);
            assert_int_equal(mxcsr() & 0xffc0, SSE);
            __asm__ volatile("fnstcw %0" : "=m"(word));
            assert_int_equal(word, X87);
        }
    }
}

/* What one side has left pending does not strike the other, which has it unmasked. */
TEST(a_pending_exception_strikes_nobody_else)
{
    skip_under_valgrind("Valgrind has no floating-point flags");
    other_side(X87_UNMASKED, SSE);
    divide_by_zero_x87();
    leave(&sides[0], V(2)); /* with fwait in it: set_x87() */
    assert_int_equal(seen_x87 & ZERO_DIVIDE, 0);
    assert_int_equal(x87_flags() & ZERO_DIVIDE, 0);
    __asm__ volatile("fld1; fldpi; fdivrp; fstp %%st(0)" : : : "st");
    leave(&sides[0], V(2)); /* what it has masked is left alone */
    assert_int_equal(seen_x87, INEXACT);
    assert_int_equal(x87_flags(), INEXACT);
    __asm__ volatile("fnclex");
}

#else

TEST(flags_stay_when_modes_change)
{
    uint64_t fpsr, one = 1;
    sides[1].sp = new_stack(bounce);
    __asm__ volatile("msr fpsr, %0" : : "r"(one));
    for (int i = 0; i < 10; i++)
        leave_with_pattern(&sides[0], V(i));
    __asm__ volatile("mrs %0, fpsr" : "=r"(fpsr));
    assert_int_equal(fpsr, one);
}

#endif

/* ---- Stops at every instruction ------------------------------------------------------ */

static volatile sig_atomic_t stops, right, strangers;
static volatile uintptr_t stopped_at, range_low, range_high;
static uintptr_t callers[2];   /* where the stack pointer of each side's registers_call() is */
static uintptr_t end_of_start; /* the entry's call frame address, at each of its instructions */
static char why[160];

static int in_switch(uintptr_t pc)
{
    return pc - (uintptr_t)green__arch_switch
           < (uintptr_t)green__arch_jump - (uintptr_t)green__arch_switch;
}

/* What the unwinder calls in[]: DWARF's numbers. */
#if defined __x86_64__
static const int columns[] = { 3, 6, 12, 13, 14, 15 };
enum { TOP_1 = 6, TOP_2 = 3 };
#else
static const int columns[] = { 19, 20, 21, 22, 23, 24, 25, 26, 27, 28,
                               29, 72, 73, 74, 75, 76, 77, 78, 79 };
enum { TOP_1 = 29, TOP_2 = 19 };
#endif

/* The same registers of a context that was interrupted. */
static uint64_t interrupted_register(const ucontext_t *context, size_t i)
{
#if defined __x86_64__
    static const int registers[] = { REG_RBX, REG_RBP, REG_R12, REG_R13, REG_R14, REG_R15 };
    return (uint64_t)context->uc_mcontext.gregs[registers[i]];
#else
    uint64_t halves[2];
    if (i < 11)
        return context->uc_mcontext.regs[19 + i];
    /* The first record is that of the vector registers: 16 bytes, then v0 and on. */
    memcpy(halves, (const char *)context->uc_mcontext.__reserved + 16 + 16 * (8 + i - 11),
           sizeof halves);
    return halves[0];
#endif
}

struct walk {
    const ucontext_t *context;
    int frames, there, after, found, wrong; /* after: frames beyond the one that was stopped */
    uintptr_t end;                          /* the last one's call frame address */
};

static _Unwind_Reason_Code look_at_frame(struct _Unwind_Context *context, void *arg)
{
    struct walk *walk = arg;
    uintptr_t pc = _Unwind_GetIP(context), call_frame = _Unwind_GetCFA(context);
    if (++walk->frames > 12)
        return _URC_END_OF_STACK;
    walk->after += walk->there && pc != 0; /* 0: the end */
    if (walk->there)
        walk->end = call_frame;
    /* The target, to which nobody has gone yet: what is not among its top words. */
    if (walk->after == 1 && in_switch(pc) && stopped_at < (uintptr_t)green__arch_entry)
        for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
            walk->wrong += columns[i] != TOP_1 && columns[i] != TOP_2 &&
                           _Unwind_GetGR(context, columns[i]) !=
                               interrupted_register(walk->context, i);
    if (walk->there && walk->after > 0 && in_switch(pc)) {
        /* One that is suspended, where others wait as it waits: by its top words. */
        const uint64_t *on_top = sides[is_second((void *)call_frame)].sp;
        walk->wrong += _Unwind_GetGR(context, TOP_1) != on_top[1];
        walk->wrong += _Unwind_GetGR(context, TOP_2) != on_top[2];
    }
    walk->there |= pc == stopped_at;
    if (!walk->there || pc - (uintptr_t)registers_call >=
                            (uintptr_t)registers_entry - (uintptr_t)registers_call)
        return _URC_NO_REASON;
    walk->found++;
    const int which = is_second((void *)call_frame);
    const struct side *side = &sides[which];
    if (callers[which] == 0)
        callers[which] = call_frame;
    walk->wrong += callers[which] != call_frame;
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
        walk->wrong += _Unwind_GetGR(context, columns[i]) != side->in[i];
    return _URC_END_OF_STACK;
}

static const uint64_t *interrupted_sp(const ucontext_t *context)
{
#if defined __x86_64__
    return (const uint64_t *)context->uc_mcontext.gregs[REG_RSP];
#else
    return (const uint64_t *)context->uc_mcontext.sp;
#endif
}

/*
 * Where somebody waits inlined, unwinders go by the frame pointer from its first
 * instruction on: so whoever is out of line brings it along.
 */
static int has_its_frame_pointer(const ucontext_t *context)
{
#if defined __x86_64__
    uint64_t frame_pointer = (uint64_t)context->uc_mcontext.gregs[REG_RBP];
#else
    uint64_t frame_pointer = context->uc_mcontext.regs[29];
#endif
    return frame_pointer == *interrupted_sp(context);
}

static int goes_on; /* whether unwinding goes on where a stack starts */

/* On the stack that was interrupted. */
static void check_here(uintptr_t pc, const ucontext_t *context)
{
    struct walk walk = { context, 0, 0, 0, 0, 0, 0 };
    int is_start = pc >= (uintptr_t)green__arch_entry && pc < (uintptr_t)green__arch_call_as &&
                   is_second(interrupted_sp(context));
    stops++;
    stopped_at = pc;
    _Unwind_Backtrace(look_at_frame, &walk);
    if ((pc == (uintptr_t)green__arch_entry || pc == (uintptr_t)green__arch_resumed) &&
        leaves[1] != leave_inlined)
        strangers += !has_its_frame_pointer(context);
    if (end_of_start == 0 && is_start)
        end_of_start = walk.end;
    if (walk.there && (is_start && !goes_on ? walk.after == 0 && walk.end == end_of_start
                                            : walk.found == 1 && walk.wrong == 0))
        right++;
    else if (why[0] == '\0')
        snprintf(why, sizeof why,
                 "at +%#lx: %d frames, %d beyond, the caller found %d times, %d registers wrong",
                 (unsigned long)(pc - (uintptr_t)green__arch_switch), walk.frames, walk.after,
                 walk.found, walk.wrong);
}

/* How those leave who are stopped at each instruction; see "How a switch leaves" in arch.h. */
static unsigned returns, jumps;

static int in_range(uintptr_t pc)
{
    return pc - range_low < range_high - range_low;
}

#if defined __x86_64__

static unsigned stmxcsrs, ldmxcsrs, fldcws, fnclexes, mxcsr_tests;

static void step(int number, siginfo_t *info, void *context)
{
    ucontext_t *interrupted = context;
    uintptr_t pc = (uintptr_t)interrupted->uc_mcontext.gregs[REG_RIP];
    (void)number;
    (void)info;
    if (!stopping) {
        end_steps(context);
        return;
    }
    if (in_range(pc)) {
        const unsigned char *code = (const unsigned char *)pc;
        stmxcsrs += code[0] == 0x0f && code[1] == 0xae && (code[2] >> 3 & 7) == 3;
        ldmxcsrs += code[0] == 0x0f && code[1] == 0xae && (code[2] >> 3 & 7) == 2;
        fldcws += code[0] == 0xd9 && (code[1] >> 3 & 7) == 5;
        fnclexes += code[0] == 0xdb && code[1] == 0xe2;
        mxcsr_tests += code[0] == 0xf7 && code[1] == 0xc2; /* testl $..., %edx */
        returns += code[0] == 0xc3;
        jumps += memcmp(code + (code[0] == 0x3e), "\xff\x64\x24\xf8", 4) == 0; /* -8(%rsp) */
        check_here(pc, interrupted);
    }
}

static void set_breakpoint(void)
{
}

static void stop_everywhere(void (*fn)(void))
{
    struct sigaction action = { .sa_flags = SA_SIGINFO }, old;
    action.sa_sigaction = step;
    assert_int_equal(sigaction(SIGTRAP, &action, &old), 0);
    stops_wanted = 1;
    fn();
    stops_wanted = 0;
    assert_int_equal(sigaction(SIGTRAP, &old, NULL), 0);
}

#else

/* By a breakpoint at each instruction in turn, which is set anew when it has been met. */
static uint32_t *volatile wanted, *volatile patched;
static uint32_t original;
static unsigned modes_written;

static void write_code(uint32_t *at, uint32_t instruction)
{
    char *page = (char *)((uintptr_t)at & ~(uintptr_t)4095);
    must(mprotect(page, 8192, PROT_READ | PROT_WRITE | PROT_EXEC) == 0);
    *at = instruction;
    __builtin___clear_cache((char *)at, (char *)(at + 1));
    must(mprotect(page, 8192, PROT_READ | PROT_EXEC) == 0);
}

static void set_breakpoint(void)
{
    if (patched != NULL)
        return;
    original = *wanted;
    patched = wanted;
    write_code(wanted, 0xd4200020); /* brk #1 */
}

static void take_breakpoint_away(void)
{
    write_code(patched, original);
    patched = NULL;
}

static void step(int number, siginfo_t *info, void *context)
{
    uintptr_t pc = (uintptr_t)((ucontext_t *)context)->uc_mcontext.pc;
    (void)number;
    (void)info;
    if (pc != (uintptr_t)patched)
        must_failed(__FILE__, __LINE__, "a trap that was never set");
    take_breakpoint_away();
    modes_written += (original & ~0x1fu) == 0xd51b4400; /* msr fpcr */
    returns += original == 0xd65f03c0;                  /* ret */
    jumps += original == 0xd61f03c0;                    /* br x30 */
    /* There is no red zone: whatever runs here may write below the stack pointer. */
    uintptr_t sp = (uintptr_t)((ucontext_t *)context)->uc_mcontext.sp;
    memset((char *)sp - 1024, 0xee, 1024);
    check_here(pc, context);
}

static void stop_everywhere(void (*fn)(void))
{
    static _Alignas(16) char room[128 << 10];
    struct sigaction action = { .sa_flags = SA_SIGINFO | SA_ONSTACK }, old;
    const stack_t alternate = { .ss_sp = room, .ss_size = sizeof room },
                  none = { .ss_flags = SS_DISABLE };
    action.sa_sigaction = step;
    assert_int_equal(sigaltstack(&alternate, NULL), 0);
    assert_int_equal(sigaction(SIGTRAP, &action, &old), 0);
    stops_wanted = 1;
    for (wanted = (uint32_t *)range_low; in_range((uintptr_t)wanted); wanted++) {
        fn();
        if (patched != NULL) /* nobody comes by there any more */
            take_breakpoint_away();
    }
    stops_wanted = 0;
    assert_int_equal(sigaction(SIGTRAP, &old, NULL), 0);
    assert_int_equal(sigaltstack(&none, NULL), 0);
}

#endif

/* fn goes by every instruction there is between the two. */
static void finds_all_in_order(void (*fn)(void), uintptr_t low, uintptr_t high, int least)
{
    stops = right = strangers = 0;
    callers[0] = callers[1] = 0;
    changed = 0;
    why[0] = '\0';
    range_low = low;
    range_high = high;
    stop_everywhere(fn);
    if (why[0] != '\0')
        print_message("%s\n", why);
    assert_int_equal(right, stops);
    assert_true(stops >= least);
    assert_int_equal(strangers, 0);
    assert_int_equal(changed, 0);
}

static void there_and_back(void)
{
    leave_with_pattern(&sides[0], V(1));
    leave_with_pattern(&sides[0], V(2));
    __asm__ volatile(""); /* both from here, none by a jump */
}

TEST(at_each_instruction_of_a_switch_signals_and_unwinders_find_all_in_order)
{
    skip_under_valgrind("Valgrind does not stop at single instructions");
    sides[1].sp = new_stack(bounce);
    leave_with_pattern(&sides[0], V(0)); /* both wait in a switch */
    finds_all_in_order(there_and_back,
                       (uintptr_t)green__arch_switch, (uintptr_t)green__arch_jump, 30);
}

TEST(so_they_do_if_the_other_waits_inlined)
{
    skip_under_valgrind("Valgrind does not stop at single instructions");
    leaves[1] = leave_inlined;
    sides[1].sp = new_stack(bounce);
    leave_with_pattern(&sides[0], V(0));
    finds_all_in_order(there_and_back,
                       (uintptr_t)green__arch_switch, (uintptr_t)green__arch_jump, 30);
    leaves[1] = leave;
}

TEST(so_they_do_if_the_other_waits_at_another_place)
{
    skip_under_valgrind("Valgrind does not stop at single instructions");
    leaves[1] = leave_from_elsewhere;
    sides[1].sp = new_stack(bounce);
    leave_with_pattern(&sides[0], V(0));
    finds_all_in_order(there_and_back,
                       (uintptr_t)green__arch_switch, (uintptr_t)green__arch_jump, 30);
    leaves[1] = leave;
}

/* With BTI only a return may land behind a call. */
#ifdef __ARM_FEATURE_BTI_DEFAULT
#define ONLY_RETURNS 1
#else
#define ONLY_RETURNS 0
#endif

static void leave_by(void (*fn)(void), int by_return)
{
    returns = jumps = 0;
    range_low = (uintptr_t)green__arch_switch;
    range_high = (uintptr_t)green__arch_jump;
    stop_everywhere(fn);
    if (by_return || ONLY_RETURNS) {
        assert_true(returns > 0);
        assert_int_equal(jumps, 0);
    } else {
        assert_int_equal(returns, 0);
        assert_true(jumps > 0);
    }
}

TEST(who_waits_at_the_same_place_is_returned_to_and_others_are_jumped_to)
{
    skip_under_valgrind("Valgrind does not stop at single instructions");
    static void *(*const others[])(void *, void *) = { leave, leave_from_elsewhere, leave_inlined };
    for (int i = 0; i < 3; i++) {
        leaves[1] = others[i];
        sides[1].sp = new_stack(bounce);
        leave_with_pattern(&sides[0], V(0)); /* both wait */
        leave_by(there_and_back, others[i] == leave);
    }
    leaves[1] = leave;
}

/* A register holds what a switch would have there if both waited at the same place. */
static void jump_with_return_address(void *sp, void *value, const struct green__frame *frame)
{
#if defined __x86_64__
    __asm__ volatile("movq %2, %%r9\n\t"
                     "jmp green__arch_jump"
                     : : "D"(sp), "S"(value), "r"(frame->return_address) : "r9", "memory");
#else
    __asm__ volatile("mov x30, %2\n\t"
                     "hint #7\n\t" /* xpaclri: unsigned */
                     "mov x13, x30\n\t"
                     "mov x0, %0\n\t"
                     "mov x1, %1\n\t"
                     "b green__arch_jump"
                     : : "r"(sp), "r"(value), "r"(frame->x30)
                     : "x0", "x1", "x13", "x30", "memory");
#endif
    __builtin_unreachable();
}

/* The same where a switch is inlined, as green_fast.h resumes. */
static void resume_with_return_address(void *sp, void *value, const struct green__frame *frame)
{
#if defined __x86_64__
    __asm__ volatile("movq %2, %%r9\n\t"
                     "leaq 8(%1), %%rsp\n\t"
                     "notrack jmp *(%1)"
                     : : "a"(value), "S"(sp), "r"(frame->return_address) : "r9", "memory");
#else
    __asm__ volatile("mov x30, %2\n\t"
                     "hint #7\n\t"
                     "mov x13, x30\n\t"
                     "mov x1, %0\n\t"
                     "mov x0, %1\n\t"
                     "ldr x4, [x1]\n\t"
                     "add sp, x1, #8\n\t"
                     "br x4"
                     : : "r"(sp), "r"(value), "r"(frame->x30)
                     : "x0", "x1", "x4", "x13", "x30", "memory");
#endif
    __builtin_unreachable();
}

static void resume_the_other_with_its_return_address(void *value)
{
    struct green__frame frame;
    memcpy(&frame, (char *)sides[0].sp - offsetof(struct green__frame, resume), sizeof frame);
    begin_stops();
    resume_with_return_address(sides[0].sp, value, &frame);
}

static void be_resumed_with_the_return_address(void)
{
    sides[1].sp = new_stack(resume_the_other_with_its_return_address);
    leave_with_pattern(&sides[0], V(1));
}

TEST(who_is_resumed_by_something_else_leaves_by_a_jump)
{
    skip_under_valgrind("Valgrind does not stop at single instructions");
    changed = 0;
    leave_by(be_resumed_with_the_return_address, 0);
    assert_int_equal(changed, 0);
}

/* ---- The end ------------------------------------------------------------------------ */

static void end_at_once(void *value)
{
    if (CAN_STEP)
        jumps = 0; /* that to here: all is gone through at once */
    /* What was in a register that calls may lose is lost. */
#if defined __x86_64__
    __asm__ volatile("xorl %%ecx, %%ecx\n\txorl %%r9d, %%r9d" : : : "rcx", "r9", "cc");
#else
    __asm__ volatile("mov x11, xzr\n\tmov x13, xzr" : : : "x11", "x13");
#endif
    begin_stops();
    green__arch_end(sides[1].sp, sides[0].sp, V((intptr_t)value + 1));
}

static void start_one_that_ends(void)
{
    sides[1].sp = new_stack(end_at_once);
    must(leave_with_pattern(&sides[0], V(1)) == V(2));
}

TEST(a_stack_that_ends_is_left_for_who_is_named_with_every_register_and_the_value)
{
    calls = changed = 0;
    for (int i = 0; i < 100; i++) {
        leaves[0] = i % 3 == 0 ? leave_from_elsewhere : i % 3 == 1 ? leave_inlined : leave;
        start_one_that_ends();
    }
    leaves[0] = leave;
    assert_int_equal(calls, 100);
    assert_int_equal(changed, 0);
}

TEST(at_each_instruction_of_the_end_unwinders_find_all_in_order)
{
    skip_under_valgrind("Valgrind does not stop at single instructions");
    sides[1].sp = new_stack(enter_by_words);
    start_words(NULL, NULL); /* so that it is known where the entry ends */
    for (int i = 0; i < 3; i++) {
        leaves[0] = i == 0 ? leave_from_elsewhere : i == 1 ? leave_inlined : leave;
        end_of_start = 0;
        finds_all_in_order(start_one_that_ends, (uintptr_t)green__arch_entry_called,
                           (uintptr_t)green__arch_call_as, 7);
    }
}

/* The starter has called the switch, and that call is over: the return is as predicted. */
TEST(who_has_started_one_that_ends_is_returned_to)
{
    skip_under_valgrind("Valgrind does not stop at single instructions");
    leave_by(start_one_that_ends, 1);
    leaves[0] = leave_from_elsewhere;
    leave_by(start_one_that_ends, 1);
    leaves[0] = leave;
}

/* The second is started by one that waits at another place than the first, to whom it leaves. */
static _Alignas(4096) char third_stack[ROOM];
static void *starter_sp;

static void start_another(void *value)
{
    sides[1].sp = green__arch_first(third_stack + sizeof third_stack, end_at_once, NULL);
    value = green__arch_switch(&starter_sp, sides[1].sp, value);
    __asm__ volatile("" : "+r"(value)); /* a place of its own */
    abort();
}

static void start_one_that_starts_another(void)
{
    sides[1].sp = new_stack(start_another);
    leave_with_pattern(&sides[0], V(1));
}

static void jump_to_one_that_ends(void *value)
{
    struct green__frame frame;
    memcpy(&frame, (char *)sides[0].sp - offsetof(struct green__frame, resume), sizeof frame);
    sides[1].sp = green__arch_first(third_stack + sizeof third_stack, end_at_once, NULL);
    jump_with_return_address(sides[1].sp, value, &frame);
}

static void start_one_that_jumps_to_another(void)
{
    sides[1].sp = new_stack(jump_to_one_that_ends);
    leave_with_pattern(&sides[0], V(1));
}

TEST(who_has_not_is_jumped_to)
{
    skip_under_valgrind("Valgrind does not stop at single instructions");
    changed = 0;
    leave_by(start_one_that_starts_another, 0);
    leave_by(start_one_that_jumps_to_another, 0);
    assert_int_equal(changed, 0);
}

/* A green's death may start its parent. */
static void end_for_a_new_one(void *value)
{
    void *first = sides[1].sp;
    struct green__first_frame *new =
        green__arch_first(third_stack + sizeof third_stack, jump_at_once, NULL);
#if defined __x86_64__
    new->rbp = V(8); /* another than this stack has begun with */
#else
    new->x29 = V(8);
#endif
    begin_stops();
    green__arch_end(first, new, value);
}

static void start_one_that_ends_for_a_new_one(void)
{
    sides[1].sp = new_stack(end_for_a_new_one);
    must(leave_with_pattern(&sides[0], V(1)) == V(1));
}

TEST(an_end_brings_the_frame_pointer_along)
{
    skip_under_valgrind("Valgrind does not stop at single instructions");
    changed = 0;
    stops = strangers = 0;
    range_low = (uintptr_t)green__arch_entry;
    range_high = range_low + 1;
    stop_everywhere(start_one_that_ends_for_a_new_one);
    assert_true(stops > 0);
    assert_int_equal(strangers, 0);
    assert_int_equal(changed, 0);
}

static void jump_with_pattern(void *value)
{
    leave_with_pattern(&sides[1], value); /* which is where its pattern comes from */
    begin_stops();
    registers_call(AS_CALL(green__arch_jump), sides[0].sp, value, sides[1].in, sides[1].out);
}

static void be_jumped_to(void)
{
    sides[1].sp = new_stack(jump_with_pattern);
    leave_with_pattern(&sides[0], V(1));
    leave_with_pattern(&sides[0], V(2));
    __asm__ volatile(""); /* both from here, none by a jump */
}

TEST(so_they_do_at_each_of_a_jump)
{
    skip_under_valgrind("Valgrind does not stop at single instructions");
    finds_all_in_order(be_jumped_to, (uintptr_t)green__arch_jump, (uintptr_t)green__arch_entry, 3);
    /* and at each where it arrives */
    finds_all_in_order(be_jumped_to,
                       (uintptr_t)green__arch_resumed, (uintptr_t)green__arch_jump, 10);
}

static const struct side *owner;

static void start_anew(void)
{
    sides[1].sp = new_stack_of(owner, bounce);
    leave_with_pattern(&sides[0], V(1));
}

static void start_with_owner(const struct side *first, int on)
{
    sides[1].sp = new_stack(enter_by_words);
    start_words(NULL, NULL); /* so that it is known where the entry ends */
    owner = first;
    goes_on = on;
    end_of_start = 0;
    finds_all_in_order(start_anew, (uintptr_t)green__arch_entry, entry_end, 3);
    goes_on = 0;
}

TEST(where_a_stack_without_owner_starts_an_unwinder_finds_its_end)
{
    skip_under_valgrind("Valgrind does not stop at single instructions");
    start_with_owner(NULL, 0);
}

TEST(else_it_goes_on_to_the_nearest_that_is_started_and_does_not_run)
{
    skip_under_valgrind("Valgrind does not stop at single instructions");
    struct group group = { &sides[1], NULL, NULL }; /* of which the second runs */
    struct side first = { .state = GREEN__OWNER_STARTED, .group = &group };
    struct side second = { .state = GREEN__OWNER_STARTED + 1, .group = &group };
    struct side third = { .state = 0, .group = &group };
    sides[0].state = GREEN__OWNER_STARTED;
    sides[0].group = &group;

    first.next = &sides[0]; /* the first it asks is who is next, not who owns */
    start_with_owner(&first, 1);
    first.next = &second;
    second.next = &third;
    third.next = &sides[0];
    start_with_owner(&first, 1);
    third.next = NULL;
    start_with_owner(&first, 0);
    third.next = first.next = &sides[0];
    start_with_owner(&first, 1);

    group.runs = &first;
    group.current = &sides[0]; /* does not count */
    start_with_owner(&first, 1);
    group.runs = &sides[0];
    start_with_owner(&first, 0);
    group.runs = NULL;
    start_with_owner(&first, 0);
    group.current = &sides[1];
    first.next = NULL;
    start_with_owner(&first, 0);
}

static void disown_and_walk(void *value)
{
    struct walk walk = { .there = 1 };
    green__arch_disown(stack + sizeof stack);
    _Unwind_Backtrace(look_at_frame, &walk);
    must(walk.found == 0);
    bounce(value);
}

TEST(one_that_is_disowned_ends_there_again)
{
    struct group group = { &sides[1], NULL, NULL };
    struct side first = { .next = &sides[0] };
    sides[0].state = GREEN__OWNER_STARTED;
    sides[0].group = &group;
    sides[1].sp = new_stack_of(&first, disown_and_walk);
    assert_ptr_equal(leave_with_pattern(&sides[0], V(1)), V(2));
}

static int walked;

/* Unwinding goes to the second side, whoever calls. */
static void walk_to_the_other(void *arg)
{
    struct walk walk = { .there = 1 };
    uintptr_t before = callers[1];
    end_stops();
    callers[1] = 0;
    _Unwind_Backtrace(look_at_frame, &walk);
    must((uintptr_t)arg == (uintptr_t)walk_to_the_other && walk.found == 1 && walk.wrong == 0);
    must(callers[1] != 0);
    callers[1] = before;
    walked++;
    begin_stops();
}

/* Called without a frame in between; registers_call() leaves its third argument for arg. */
static void call_as_with_pattern(void)
{
    for (uint32_t w = 0; w < registers_count; w++)
        sides[0].in[w] = (next_random() & registers_mask[w] & settable[w]) | registers_base[w];
    walked = 0;
    begin_stops();
    registers_call(AS_CALL(green__arch_call_as), sides[1].sp, (void *)(uintptr_t)walk_to_the_other,
                   sides[0].in, sides[0].out);
    end_stops();
    must(walked == 1);
    for (uint32_t w = 0; w < registers_count; w++)
        changed += ((sides[0].in[w] ^ sides[0].out[w]) & registers_mask[w] & settable[w]) != 0;
}

/* Where a short function ends: behind its return. */
static uintptr_t end_of(uintptr_t function)
{
    uintptr_t end = function;
#if defined __x86_64__
    while (end < function + 64 && *(const unsigned char *)end++ != 0xc3)
        continue;
#else
    while (end < function + 64 && *(const uint32_t *)end != 0xd65f03c0 && /* ret */
           *(const uint32_t *)end != 0xd61f03c0) /* br x30 */
        end += 4;
    end += 4;
#endif
    return end;
}

TEST(a_call_as_a_suspended_stack_is_one_to_unwinders)
{
    skip_under_valgrind("Valgrind does not stop at single instructions");
    sides[1].sp = new_stack(bounce);
    leave_with_pattern(&sides[0], V(1));
    finds_all_in_order(call_as_with_pattern, (uintptr_t)green__arch_call_as,
                       end_of((uintptr_t)green__arch_call_as), 6);
}

#if defined __x86_64__

static void there_and_back_as_it_is(void)
{
    begin_stops();
    leave(&sides[0], V(1));
    end_stops();
}

/* To write control words costs more than all the rest; to read them, too, where it is slow. */
TEST(only_modes_that_differ_are_written)
{
    skip_under_valgrind("Valgrind does not stop at single instructions");
    range_low = (uintptr_t)green__arch_switch;
    range_high = (uintptr_t)green__arch_jump;
    for (int which = 0; which < 4; which++) { /* bit 0: the x87 differs; bit 1: MXCSR does */
        other_side(which & 1 ? X87_UP : X87, which & 2 ? SSE_UP : SSE);
        leave(&sides[0], V(0));
        set_mxcsr(SSE | INEXACT); /* flags are none of it */
        stmxcsrs = ldmxcsrs = fldcws = fnclexes = mxcsr_tests = 0;
        stop_everywhere(there_and_back_as_it_is);
        assert_int_equal(stmxcsrs, which == 0 ? 2 : 4);
        assert_int_equal(ldmxcsrs, which & 2 ? 2 : 0);
        assert_int_equal(fldcws, which & 1 ? 2 : 0);
        assert_int_equal(fnclexes, 0);
        if (which == 0)
            assert_int_equal(mxcsr_tests, 1); /* one had not seen the flag */
        stop_everywhere(there_and_back_as_it_is);
        if (which == 0)
            assert_int_equal(mxcsr_tests, 1);
    }
    set_mxcsr(SSE);
    set_x87(X87);
}

#else

static void stay(void *value)
{
    uint64_t mode;
    for (;;) {
        memcpy(&mode, value, sizeof mode);
        __asm__ volatile("msr fpcr, %0" : : "r"(mode));
        value = leave(&sides[1], value);
    }
}

static uint64_t their_mode;

static void there_and_back_as_it_is(void)
{
    begin_stops();
    leave(&sides[0], &their_mode);
    end_stops();
}

/* To write the control word costs more than all the rest. */
TEST(only_modes_that_differ_are_written)
{
    skip_under_valgrind("Valgrind does not stop at single instructions");
    range_low = (uintptr_t)green__arch_switch;
    range_high = (uintptr_t)green__arch_jump;
    for (int differs = 0; differs < 2; differs++) {
        their_mode = differs ? 1 << 22 : 0; /* rounding up */
        sides[1].sp = new_stack(stay);
        leave(&sides[0], &their_mode);
        modes_written = 0;
        stop_everywhere(there_and_back_as_it_is);
        assert_int_equal(modes_written, differs);
    }
}

#endif

int main(void)
{
#if SANITIZED
    print_message("skipped: nobody tells a sanitizer of these switches\n");
    return 77;
#endif
    green__arch_valgrind(0x1501, (uintptr_t)stack, (uintptr_t)stack + sizeof stack); /* a stack */
    return run_all_tests_between(find_settable_bits, NULL);
}
