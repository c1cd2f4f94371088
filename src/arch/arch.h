/* SPDX-License-Identifier: MIT */
#ifndef GREEN_ARCH_H
#define GREEN_ARCH_H
/*
 * The contract of a port.  This file and green_fast.h are the only
 * places that ask which CPU this is; the rest of libgreen knows no register,
 * and a port knows no greens, but for one exception below: a saved stack pointer,
 * a value, an entry is all.
 *
 * How a switch works
 * ------------------
 * A switch looks to both sides like a function call that takes its time.  The
 * compiler has already saved whatever a call may destroy; what is left is what
 * the ABI calls callee-saved, the stack pointer and the address to go on at.
 * So the one who leaves pushes these onto the stack it leaves, and the address
 * of that heap, the saved stack pointer, is all that must be remembered:
 *
 *          A's stack                            B's stack
 *     |  frames of A       |               |  frames of B       |
 *     |  return address    |               |  return address    |
 *     |  callee-saved      |               |  callee-saved      |
 *     |  frame pointer     |               |  frame pointer     |
 *     |  where to resume   | <- saved      |  where to resume   | <- sp
 *
 * The top words of every suspended stack are, in this order (low to high):
 *
 *     the address to resume at
 *     the frame pointer
 *     the register that compilers address locals by where they realign a
 *     stack: rbx, x19
 *
 * What lies above is private to whoever suspended; it is reached through the
 * address to resume at, with
 *
 *     the stack pointer just past that word,
 *     the value in the ABI's register for results,
 *     nothing else promised.
 *
 * Whoever resumes out of line brings the frame pointer along all the same: where
 * a switch is inlined, unwinders go by it before its first instruction has
 * loaded it.
 *
 * Therefore whoever suspends may have a frame of its own, and each kind resumes
 * every other: the out-of-line switch below, the one inlined into its caller,
 * the first entry of a new stack.  The call frame information (CFI) at the
 * address to resume at holds for that stack pointer, so a debugger can walk a
 * suspended stack knowing only where it was saved.
 *
 * How a stack is unwound
 * ----------------------
 * From the entry of a stack to the stack of its next owner, and so to the
 * thread's own.  Nobody keeps a record of that: the entry's CFI finds it
 * when an unwinder asks, by an expression that walks from owner to owner.  What
 * owns a stack is any struct that has, where the constants below say,
 *
 *     a saved stack pointer,
 *     the next owner,
 *     a state, which says whether it is suspended if it does not run,
 *     a group, in which one says who runs, and another whose stack it is that
 *     runs if that is not the same.
 *
 * The expression goes on to the next of the owners that is in the right state,
 * and to its saved frame.  If that is the one that runs, whose stack pointer is
 * saved nowhere, or if there is none, it ends at a return address of zero in
 * the first frame.  The CFI of any other frame holds for a stack pointer just
 * past the saved word, with the frame pointer and the register after it as
 * saved, and so the same is said of every kind of suspended frame.
 *
 * The other stack may lie anywhere, higher or lower, and one goes on exactly at
 * the address to resume at, not behind a call: as after a signal, so that is
 * what the entry's CFI says it is (.cfi_signal_frame; gdb then also calls it
 * <signal handler called>).  Walkers of frame pointers stop at the entry.
 *
 * What a port provides
 * --------------------
 * src/arch/<cpu>/frame.h, for C and for the assembler: a drawing of the frame a
 * switch leaves, its offsets, structs with static asserts that the two agree, where the
 * kernel tells a signal's handler of registers, and the inline functions declared below.
 * src/arch/<cpu>/switch.S: the routines declared below, each with its register
 * map, the section of the ABI that says what is callee-saved, CFI on every
 * instruction, and nothing that asm.h can do for it; also its landing pads, and the
 * note of what it is fit for.
 *
 * Kept: the ABI's callee-saved registers and the floating-point control modes.
 * These are compared where a stack is resumed and written only if they differ:
 * reading them costs a few cycles, writing them drains the pipeline.  Status
 * flags belong to the thread and are not kept; where new modes would raise what
 * a flag reports, it is cleared.
 *
 * On a suspended stack GREEN__ARCH_RED_ZONE bytes below the stack pointer are the
 * port's, too: whoever puts a frame there leaves them out.
 *
 * A port whose frame.h defines GREEN__ARCH_SWITCHES has green_switch() in its
 * switch.S, where nothing is lost between its checks and the switch: the fast path
 * as switch.c has it for the other ports, and a jump to green__switch_slowly() in
 * all other cases.  It is the one thing of a port that knows greens.
 *
 * How a switch leaves.  Return predictors keep a stack of their own: the return
 * addresses of the calls that the CPU has seen.  On top of it is that of the one
 * who has just called the switch.
 *
 *   - If the one who goes on waits at the same return address, leave by a
 *     return.  It goes where it is predicted to go, and it takes away the entry that
 *     the call has made, so the returns that follow find their own.
 *   - Else leave by an indirect jump.  A return would be mispredicted every time.
 *     The jump leaves one entry too many, so the returns that follow are
 *     mispredicted, but a loop of two that wait at two places has none.
 *
 * A stack that ends without having been left meanwhile is like a call that is over.
 * So it keeps the return address of its starter, and ends by a return from the entry's
 * call: then that address is on top again, and the one who goes on compares with it.
 *
 * Whoever is resumed by something else leaves by the jump: it does not know what is
 * on top.
 *
 * How to add a port
 * -----------------
 *   1. Copy the directory of the nearest CPU; its two files are the port.
 *   2. Add its row to the table below.  Its switch may be in green_fast.h, too; without,
 *      the calls of that are those of green.h.
 *   3. Run the tests: test_registers (it wants the patterns for your registers
 *      in test_registers.S), test_kept, then all.
 *      Of these, test_backtrace wants the entry's CFI.
 */

#ifndef __ELF__
#error "libgreen: only ELF platforms are supported; see how to add a port in src/arch/arch.h"
#endif

/* The table of ports: which CPU, which directory. */
#if defined(__x86_64__) && defined(__LP64__)
#define GREEN__ARCH_FRAME "x86_64/frame.h"
#define GREEN__ARCH_SWITCH "x86_64/switch.S"
#elif defined(__aarch64__) && defined(__LP64__) && !defined(__AARCH64EB__)
#define GREEN__ARCH_FRAME "aarch64/frame.h"
#define GREEN__ARCH_SWITCH "aarch64/switch.S"
#else
#error "libgreen: no port to this CPU yet; src/arch/arch.h says how to add one"
#endif

/*
 * Whether the thread's variable is at a fixed distance from the thread pointer.  glibc
 * keeps room for that in libraries that dlopen() loads; musl refuses to load these.  So
 * with another C library than glibc, code for shared libraries finds it by a call, as the
 * compiler has it done by itself, and green_switch() is the one in C.
 */
#include <features.h>
#if defined(__GLIBC__) || !defined(__PIC__) || defined(__PIE__)
#define GREEN__TLS_FIXED 1
#endif

/* Where an owner of a stack has what the unwinding wants; core/state.h compares. */
#define GREEN__OWNER_SP 0
#define GREEN__OWNER_NEXT 16
#define GREEN__OWNER_STATE 32 /* a byte */
#define GREEN__OWNER_GROUP 72
#define GREEN__OWNER_STARTED 1 /* the state */
#define GREEN__GROUP_CURRENT 0
#define GREEN__GROUP_RUNS 16   /* whose stack runs, or NULL: the current one's */

/*
 * What a port wants that has green_switch() in assembler, too, and says so by
 * GREEN__ARCH_SWITCHES in its frame.h: the same data that green_fast.h reads, and
 * what tells of C++ exceptions.  core/state.h compares.
 */
#define GREEN__OWNER_ENTER 8
#define GREEN__GROUP_TAG 8
#define GREEN__GROUP_CALL_TAG 24
#define GREEN__GROUP_EXCEPTIONS 32
#define GREEN__SELF green_private_abi_1

#ifndef __ASSEMBLER__
#include <stdint.h>

/*
 * Suspends the running stack, stores its stack pointer in *save, and resumes
 * the stack saved as target with value.  Returns the value it is resumed with.
 */
void *green__arch_switch(void **save, void *target, void *value);

/* The same for who returns an int: so that a call of it at the end is a jump. */
int green__arch_switch_int(void **save, void *target, void *value);

/* Resumes the stack saved as target; the running one is never resumed. */
_Noreturn void green__arch_jump(void *target, void *value);

/*
 * Where a new stack is first resumed: calls the function that
 * green__arch_first() was given with the value.  Not to be called.
 */
void green__arch_entry(void);

/* The return address of its call: a frame that is there is a stack's last. */
extern const char green__arch_entry_called[];

/* Where a stack is resumed that a switch out of line has suspended. */
extern const char green__arch_resumed[];

/*
 * Calls fn(arg) in such a way that unwinding goes from there to the stack saved
 * as sp, as if that had called it, and not to the caller.
 */
void green__arch_call_as(void *sp, void (*fn)(void *arg), void *arg);

/*
 * The personality routine of the entry's frame (Itanium C++ ABI, Exception
 * Handling, 1.6.2): unwinders ask it when an exception comes by.  Whoever uses
 * a port defines it.
 */
int green__arch_personality(int version, int actions, uint64_t exception_class, void *exception,
                            void *context);

/*
 * Prepares a stack that ends at top (a multiple of 16) so that resuming it
 * calls entry(value), and returns its saved stack pointer.  The floating-point
 * control modes are then those of whoever resumes it.  entry must not return.
 * owner is where unwinding begins to look for where it goes on; NULL: nowhere.
 */
static inline void *green__arch_first(void *top, void (*entry)(void *value), const void *owner);

/*
 * As green__arch_jump(), from a stack that was not left since it was first resumed:
 * first is what green__arch_first() has returned.
 */
static inline _Noreturn void green__arch_end(void *first, void *target, void *value);

/*
 * A client request to Valgrind: its code and two arguments.  Returns Valgrind's
 * answer, 0 when not running under it.
 */
static inline uintptr_t green__arch_valgrind(uintptr_t code, uintptr_t a, uintptr_t b);
#endif

#include GREEN__ARCH_FRAME

#ifndef __ASSEMBLER__

/* Has unwinding end at the entry from now on, as the owner is about to go. */
static inline void green__arch_disown(void *top)
{
    ((struct green__first_frame *)top - 1)->owner = NULL;
}

/*
 * Where the code was that a signal interrupted, and its stack pointer: from the
 * third argument of the signal's handler.
 */
static inline uintptr_t green__arch_signal_pc(const void *context)
{
    return *(const uintptr_t *)((const char *)context + GREEN__UCONTEXT_PC);
}

static inline uintptr_t green__arch_signal_sp(const void *context)
{
    return *(const uintptr_t *)((const char *)context + GREEN__UCONTEXT_SP);
}
#endif
#endif
