/* SPDX-License-Identifier: MIT */
#ifndef GREEN_H
#define GREEN_H
/*
 * libgreen: functions that keep their place.
 *
 * A green is a stackful coroutine: a function with a stack of its own.
 * green_switch() leaves one green and enters another, carrying a value; the one
 * that was left goes on from there when somebody switches back to it.  Every
 * green has a parent, which receives its result when it ends.
 *
 *     #include <green.h>
 *     #include <stdio.h>
 *
 *     static void *count(void *value)
 *     {
 *         for (int i = 1; i <= 3; i++)
 *             value = green_yield(&i);      // hand &i to the parent, wait
 *         return NULL;                      // the end: NULL to the parent
 *     }
 *
 *     int main(void)
 *     {
 *         green_t *g = green_new(count, NULL);
 *         for (int *i; (i = green_switch(g, NULL)) != NULL; )
 *             printf("%d\n", *i);           // 1 2 3
 *         return green_free(g);
 *     }
 *
 * The rules
 * ---------
 * The comments below refer to these by number.
 *
 *  1. States.  A green is NEW until it is first entered, then RUNNING or
 *     SUSPENDED, and DEAD when its body has ended.  One green of a thread is
 *     RUNNING; a started one that waits is SUSPENDED, whomever it waits for.
 *
 *  2. Main.  Each thread has a main green: the stack it came with.  It is made
 *     on first use, has no parent, and is never DEAD while its thread lives.
 *
 *  3. Target.  In green_switch(g, v) a DEAD g stands for its parent,
 *     repeatedly.  A NEW target starts as run(v).  A SUSPENDED one returns v
 *     from the call it waits in, whichever call that was.  The current green
 *     itself returns v at once.
 *
 *  4. Death.  When run returns v, the green is DEAD before anyone else runs,
 *     and v goes to its parent, as it is at that moment, by rule 3.  A parent
 *     that waits in a switch to some other green receives it there.
 *
 *  5. Death by error.  If run returns GREEN_FAILED, the green ends with an
 *     error: errno (ECANCELED if that is not positive).  The call that its
 *     parent waits in returns GREEN_FAILED with that errno.  A NEW parent
 *     that is given an error never runs: it ends with the same error.
 *     ECANCELED is an order obeyed, not an error: the parent gets the plain
 *     value NULL.
 *
 *  6. Throw.  green_throw(g, e): a SUSPENDED g sees GREEN_FAILED and errno e
 *     from the call it waits in, and may go on living.  A NEW g ends with
 *     e and never runs; its parent gets e by rule 5.  If g is DEAD, its nearest
 *     ancestor that is not DEAD gets the error; ECANCELED arrives there as the
 *     value NULL.  Thrown at oneself, it returns GREEN_FAILED and errno e at
 *     once.
 *
 *  7. Threads.  A green belongs to the thread that made it; once started, for
 *     ever.  green_set_parent() hands a NEW one over, and any thread may
 *     green_abandon() one.  Whatever else another thread asks of it is refused
 *     with EPERM, but for green_state() and what rule 14 allows.
 *
 *  8. Parents.  A parent belongs to the same thread, and no green is its own
 *     ancestor.  If none is named, it is the green that is current at
 *     creation.
 *
 *  9. Free.  green_free() ends a SUSPENDED green by throwing ECANCELED into
 *     it; until it returns, the caller stands in for that green's parent.
 *     Children of a freed green stand under its nearest remaining ancestor.
 *     green_abandon() releases a green without running it; if another thread
 *     calls it, the green's own thread releases it a little later.
 *
 * 10. Exit.  green_exit(v) ends the current green, from any depth, as a return
 *     of v from its body would.
 *
 * 11. Clean-up.  What green_defer() was given runs at the end of the green
 *     that gave it and on that green, innermost first, then the destructors of
 *     its keys; then it is DEAD.
 *
 * 12. Cascades.  Chains of dead or NEW greens are followed in constant stack
 *     and linear time, however long.
 *
 * 13. Trace.  A thread's hook sees every switch and throw, just before the
 *     target goes on.
 *
 * 14. Thread end.  A thread that ends takes its started greens with it: they
 *     are DEAD, and nothing of them has run; detached ones are released.
 *     green_thread_end() ends them properly first.  Handles outlive the thread
 *     and may then be freed by any other, those of NEW greens too, which any
 *     other may also take over (rule 7).  pthread_exit() in a green ends the
 *     thread in this way.
 *
 * 15. Kept across a switch: all that the platform's ABI calls callee-saved,
 *     the floating-point control modes included (rounding, exception masks);
 *     a green starts with those of who starts it.  In C++ programs also the exceptions
 *     being handled, as far as "Unwinding" says which C++ runtime is found.  Not
 *     kept: errno, the signal mask, thread-local variables, the floating-point
 *     exception flags: these belong to the thread.  Those of the x87 may be
 *     lost where a switch changes its modes.
 *
 * 16. Pointers to a suspended green's locals stay valid, and another green may
 *     write through them.
 *
 * 17. fork() gives the child copies of the forking thread's greens; those of
 *     other threads are lost to it.  The child of a vfork() has the stack of the
 *     green that called it, and may only exec or _exit().  exit() in a green
 *     runs what is to run at the end of the program on that green: give it a
 *     stack for that.  The library works until the very end, in atexit()
 *     functions and destructors, too.  dlclose() does not unload it; a plugin
 *     that is linked with the static one must be linked with -Wl,-z,nodelete.
 *     Such a plugin has a library of its own, which knows no greens of the
 *     program's: who is to share greens uses the shared library.
 *     A signal handler may run on any green's stack.  In a thread that has used
 *     the library it may call green_current, green_name, green_data and
 *     green_state, and nothing else.
 *
 * 18. After green_new() has succeeded, no switch can fail for want of memory.
 *
 * 19. No user code runs between choosing a target and arriving in it, save the
 *     trace hook.
 *
 * 20. A stack lent by the caller is the caller's again once its green is
 *     released, by its own thread if another has abandoned it.  It has no guard.
 *
 * Unwinding
 * ---------
 * From the body of a green unwinding goes on to the frames of its nearest
 * ancestor that is started and alive (its parent, usually), and so to main:
 * backtraces and debuggers show all these.  pthread_exit() and cancellation
 * clean up in them all, in destructors and what was compiled with -fexceptions
 * (but see green_fast.h); a green whose frames are left so is DEAD, without its
 * deferred functions and key destructors (rule 14), and clean-up in an ancestor
 * may use the library.  Where the C library does not unwind, as musl, all these
 * frames are just left, and the green is current until the thread is gone: what
 * runs then must not switch.
 * pthread_cleanup_push() keeps a list for each thread, not for each green, where
 * it was compiled without -fexceptions: do not switch between it and its pop.
 * A C++ exception goes no further than the body: one that leaves it has a
 * sentence written to stderr and std::terminate() called, where it was thrown.
 *
 * The unwinder and the C++ runtime are those of the program.  They may be shared or
 * linked statically, in the program or in a plugin, and come late: threads that
 * have begun know of them from then on.  Each file of C++ that includes green.h,
 * and each of C compiled with -fexceptions, tells the library when it is loaded
 * what its object is linked with.  Where there is none, both are looked for at a
 * thread's first use and in green_exit(), which loads libgcc_s if there is no
 * unwinder.  Not found are
 *
 *   - a static unwinder or runtime that its object does not export and of which no
 *     such file tells: green_exit() leaves its frames at once, or stops the program
 *     as pthread_exit() does, and its exceptions are not kept across switches
 *   - a C++ runtime beside another, as one of a plugin that has it linked
 *     statically in a program of C++: the exceptions of the first are kept
 *   - in a program that is linked statically, what is not linked
 *
 * Errors
 * ------
 * Functions that return int return 0, or -1 with errno set.  Functions that
 * return a pointer return NULL or GREEN_FAILED, and errno says why.  errno is
 * unspecified after success.  A refused call has changed nothing.  Three
 * refusals are common to all and not repeated below:
 *
 *   EINVAL  NULL where a green or a function is asked for, or a key that is
 *           none
 *   EBUSY   called from inside a trace hook or from green_each()'s function,
 *           unless it only looks
 *   EPERM   the green belongs to another thread (rule 7), or the thread is
 *           past its end: a thread-specific destructor that runs after
 *           libgreen's own, which waits for their second round (a thread whose
 *           first use comes even later leaks what it has made)
 *
 * They are looked for in this order, before ELOOP and ENOMEM.
 *
 * The library prints or aborts only where green_exit() cannot work or is caught,
 * where an exception leaves a body, and where green_report_overflow() has asked
 * it to print.
 *
 * Every function may be called from any thread; none is async-signal-safe, but
 * for those of rule 17.  Nothing here is a cancellation point.
 */
#include <stddef.h>

#define GREEN_VERSION 0x000100 /* 0xMMmmpp: major, minor, patch */

#ifdef __cplusplus
#define GREEN_NORETURN [[noreturn]]
extern "C" {
#elif defined __STDC_VERSION__ && __STDC_VERSION__ >= 201112L
#define GREEN_NORETURN _Noreturn
#else
#define GREEN_NORETURN __attribute__((__noreturn__)) /* a program in C99 */
#endif

typedef struct green green_t;

/* The body of a green: the first value in, the last value out (rules 3-5). */
typedef void *green_fn(void *value);

/* Like MAP_FAILED: errno says why.  It is never a value (rule 3). */
#ifdef __cplusplus
#define GREEN_FAILED (reinterpret_cast<void *>(-1L)) /* the same, for -Wold-style-cast */
#else
#define GREEN_FAILED ((void *)-1)
#endif

typedef enum green_state {
    GREEN_NEW,       /* made, never entered */
    GREEN_RUNNING,   /* its thread's current green */
    GREEN_SUSPENDED, /* started, waits in a call to be entered again */
    GREEN_DEAD       /* ended; the handle waits to be freed */
} green_state_t;

/* ---- Make and end ------------------------------------------------------ */

/*
 * Makes a green of the calling thread that will run `run`.  It does not run
 * yet: the first green_switch() to it starts it.
 *
 * parent  receives its result; NULL means the current green (rule 8).
 *
 * Returns the handle, which the caller owes a green_free(); NULL with ENOMEM
 * if there is no memory or the system grants no guard for its stack.
 * O(1), whatever the parent.
 */
green_t *green_new(green_fn *run, green_t *parent);

#define GREEN_DETACHED 0x1u /* released at its death; the handle is then invalid */
#define GREEN_NO_GUARD 0x2u /* no guard below its stack: an overflow is silent */

/* All zero, or NULL for the whole, means the defaults. */
typedef struct green_options {
    const char *name;  /* for reports; copied, cut at 31 bytes */
    void *data;        /* a pointer of the user's, see green_data() */
    size_t stack_size; /* usable bytes at least; 0: 256 KiB; raised to 16 KiB and whole pages */
    void *stack;       /* the caller's memory of stack_size bytes, or NULL */
    unsigned flags;    /* GREEN_... above; unknown bits: EINVAL */
    void *reserved[4]; /* not zero: EINVAL */
} green_options_t;

/*
 * The same with options, which are copied.
 *
 * A stack of the library's is mapped, costs memory only where it is touched,
 * and has a guard of 64 KiB below it: an overflow that touches it ends in
 * SIGSEGV.  A frame larger than that can step over it, unless compiled with
 * -fstack-clash-protection.  16 KiB is a floor for what the kernel may put
 * there for a signal, not a size to aim for: printf alone takes 3 KiB.
 *
 * A stack of the caller's (rule 20) must leave 16 KiB after its ends are
 * aligned to 16 bytes, else EINVAL; it is used as it is, without a guard.  Valgrind
 * does not follow one that lies on another stack, an array in a function say.
 *
 * EINVAL also for a stack_size that no address space can hold; ENOMEM for one
 * that this one cannot.
 */
green_t *green_new_with(green_fn *run, green_t *parent, const green_options_t *options);

/*
 * Ends g if need be and releases it (rule 9).  NULL: nothing, 0.
 *
 * NEW: it never runs.  DEAD: released.  SUSPENDED: ECANCELED is thrown into
 * it.  Returns 0 if it died, of whatever; the handle is gone and what it left
 * is dropped.  Returns -1 if it lives, the handle being valid: with EBUSY if
 * control came back with a value (which is dropped), or with the errno of an
 * error thrown at the caller meanwhile.
 *
 * What green_set_parent() sets meanwhile takes effect afterwards.  If the caller
 * itself is released meanwhile, g has its real parent again and is not released.
 *
 * EBUSY, nothing changed: the current green, or one that another call is
 * freeing.  EINVAL: a main green, of any thread.
 * Freeing a green before its children is allowed and O(1).
 */
int green_free(green_t *g);

/*
 * Releases g without running it, for one that refuses to die: its deferred
 * functions and destructors do not run, what it held is lost.  The same EINVAL
 * and EBUSY as green_free().
 *
 * Any thread may call it, as a garbage collector does, if no thread will enter g
 * or ask anything of it any more.  That is the caller's promise, and the threads
 * must see to it that it is so before the call.  The handle is gone at once, and
 * g's children stand under its nearest remaining ancestor.  g's own thread
 * releases the rest, its stack above all, at its next call of green_new(),
 * green_free(), green_abandon() or green_trim() that is not refused, or at its
 * end; it may do so earlier.  Until then green_stats() counts the stack as live,
 * and green_set_parent() of another thread g as its parent's child.
 * A green of another thread that is current there, or is being freed, is EBUSY as
 * far as that can be seen: it may become so the next moment.  So it is also while
 * that thread ends it, by green_thread_end() or because the thread itself ends and
 * is being unwound (see "Unwinding"); after that the call succeeds.
 */
int green_abandon(green_t *g);

/*
 * Ends the current green from any depth, as a return of value from its body
 * would (rule 10): GREEN_FAILED means death by errno.
 *
 * Where there is an unwinder, as there is everywhere but in some static programs of
 * C (see "Unwinding"), it unwinds the green's stack as pthread_exit() does a
 * thread's: destructors run, and what C functions compiled with -fexceptions have
 * given __attribute__((cleanup)).  A deferred function runs after the
 * clean-up in the function that deferred it and before that in its callers.  What
 * orders them is where frames lie on the stack.  A helper that has returned has no
 * frame any more: what it deferred may run before the clean-up in functions that
 * were called after it.  So call green_defer() in the function itself.
 * One that ends itself by green_exit() is left in the same way; what it deferred
 * itself runs next, and needs no more stack.
 * Without an unwinder the frames are left at once, as by longjmp().  So are a frame
 * that has no unwind data and those above it.
 *
 * A noexcept function stops the program by std::terminate().  A catch (...) must throw
 * on: one that does not, or calls green_exit() again instead, stops the program by a
 * sentence on stderr and abort(), or by std::terminate() if the exit came from a
 * handler of another exception.  With libc++abi, the runtime of libc++, a
 * catch (...) on the way stops the program in any case, with a sentence, as that
 * runtime cannot throw on what unwinds for an exit; nor can glibc's pthread_exit()
 * pass C++ frames that LLVM's unwinder is for.  On a main green, inside a trace hook or in
 * green_each()'s function it is a bug of the caller: a sentence and abort().
 */
GREEN_NORETURN void green_exit(void *value);

/* ---- Move -------------------------------------------------------------- */

/*
 * Leaves the current green and enters g with value (rule 3).  Returns what the
 * current green is entered with next: a value, or GREEN_FAILED with the errno
 * of an error delivered to it (rules 5, 6).
 *
 * A refusal is GREEN_FAILED too, with EINVAL, EBUSY or EPERM: value is
 * GREEN_FAILED, or one of the common three.
 */
void *green_switch(green_t *g, void *value);

/*
 * The same with an error instead of a value (rule 6).  error is an errno; 0
 * means ECANCELED: die, please; negative: EINVAL.
 */
void *green_throw(green_t *g, int error);

/*
 * green_switch() to the parent of the current green.  EINVAL on a main green,
 * which has none.
 */
void *green_yield(void *value);

/* ---- Look -------------------------------------------------------------- */
/* These work inside a trace hook, but for the two that set something. */

/*
 * The calling thread's current green.  Its first use of the library makes the
 * main green: NULL with ENOMEM if there is no memory for it; never later.
 */
green_t *green_current(void);

/* The calling thread's main green.  Fails as green_current() does. */
green_t *green_main(void);

/*
 * g's parent, in whatever state it is; while green_free() is ending g, the caller
 * of that (rule 9).  NULL for a main green, without an error; NULL with EPERM for
 * a green of a thread that has ended.
 */
green_t *green_parent(const green_t *g);

/*
 * Puts g under parent (rule 8), in any state of either.
 * ELOOP for a cycle, g == parent included.  EINVAL for a main green.
 *
 * A NEW g of another thread is taken over: it belongs to the calling thread
 * from then on.  The two threads must see to it that nothing else is done with
 * g meanwhile.  EBUSY if g has children; EPERM if it is not NEW.
 */
int green_set_parent(green_t *g, green_t *parent);

/*
 * g's state; GREEN_DEAD with EINVAL for NULL.  Any thread may ask while the
 * handle is valid; from another thread the answer is a snapshot.
 */
green_state_t green_state(const green_t *g);

/*
 * g's name: "main" for a main green, NULL if it has none.  Valid until g is
 * released.
 */
const char *green_name(const green_t *g);

/* The user's pointer of g, from its options or green_set_data(); NULL at first. */
void *green_data(const green_t *g);
int green_set_data(green_t *g, void *data);

/* ---- Clean up when a green ends ---------------------------------------- */

/*
 * Has fn(arg) run when the current green ends, by return or green_exit()
 * (rule 11).  The library keeps the pair.  ENOMEM.
 *
 * arg must not be the address of a local variable of the body: after a return
 * that is gone when fn runs.  Pass the value itself, or memory that outlives the
 * body.  For the order among fn and other clean-up see green_exit().
 *
 * Deferred functions run innermost first, on the green itself while it still
 * lives: they may switch, defer more, and end themselves by green_exit(v),
 * whose v replaces the result.  A failed body's errno is taken before the
 * first of them.  The main green's run in green_thread_end() only.
 */
int green_defer(void (*fn)(void *), void *arg);

/*
 * Takes back the innermost deferred function of the current green, and runs it
 * if execute is not 0.  ENOENT if there is none.
 */
int green_undefer(int execute);

/* ---- Green-local storage: as pthread_key_create() and friends ---------- */

typedef unsigned green_key_t;

/*
 * Makes a key, under which every green of the process has a pointer of its
 * own, NULL at first.  When a green ends and its value for the key is not
 * NULL, the value is set to NULL and destructor(value) is called on the green,
 * after its deferred functions.  The order of keys is unspecified, and there are
 * at most four rounds.  destructor may be
 * NULL.  At least 128 keys; EAGAIN beyond.
 */
int green_key_create(green_key_t *key, void (*destructor)(void *));

/*
 * Deletes a key: its destructor no longer runs.  A later key of the same
 * number starts as NULL in every green.
 */
int green_key_delete(green_key_t key);

/* The current green's value; NULL with EINVAL if key is none. */
void *green_getspecific(green_key_t key);

/* Sets it.  ENOMEM. */
int green_setspecific(green_key_t key, const void *value);

/* ---- Watch ------------------------------------------------------------- */

typedef enum green_trace_event {
    GREEN_TRACE_SWITCH, /* a value arrives; also a death by ECANCELED */
    GREEN_TRACE_THROW   /* an error arrives; also at a NEW green, which dies of it unrun */
} green_trace_event_t;  /* more may come: ignore what you do not know */

typedef void green_trace_fn(green_trace_event_t event, green_t *from, green_t *to, void *data);

/*
 * Has fn called for every switch and throw of the calling thread, also for
 * those to oneself; NULL ends it.  Returns the previous hook.
 *
 * It is called on the stack of the green that is being left, when to is
 * already the current one, and so RUNNING.  A NEW green that dies unrun is a
 * THROW to it; what it leaves goes on from it.  Inside the hook the functions
 * that look, and green_set_trace(), work; all else is refused with EBUSY.  It
 * must return: no longjmp() out of it, no exception, no end of the thread.
 *
 * NULL with ENOMEM if this is the thread's first use and there is no memory.
 */
green_trace_fn *green_set_trace(green_trace_fn *fn, void *data);

/* The thread's hook, and its data in *data unless data is NULL. */
green_trace_fn *green_get_trace(void **data);

/*
 * Calls fn for the thread's main green and then for each of its started living
 * greens, until one call returns non-zero, and returns that; else 0.  -1 with
 * errno on error.  fn may only look, and must return, as a trace hook.
 */
int green_each(int (*fn)(green_t *g, void *arg), void *arg);

/*
 * Where g is: up to n addresses into pcs, of its own frames only, from the one
 * that runs or waits (the first is the return address of this call, or an
 * address inside libgreen) to its entry, which for a main green is the
 * thread's.  Returns how many; for functions and lines, see
 * backtrace_symbols_fd() and addr2line.
 *
 * It wants an unwinder: that of the program, which every C++ program has, or
 * that of glibc's backtrace(), which loads one when it is first called; and
 * some 5 KiB of the running stack.  ENOSYS if there is neither.  EINVAL if g is
 * NEW or DEAD, or n negative.  ENOMEM.  Works inside a trace hook.
 */
int green_backtrace(const green_t *g, void **pcs, int n);

/*
 * Writes a line about each of the greens that green_each() finds to fd,
 *
 *     green 0x7f... "name": suspended, parent 0x7f... "main", stack 656 of
 *     266176, at wait_for_work+0x2c
 *
 * The last is the function that called the switch, if the dynamic linker knows
 * its name (link with -rdynamic), else, as for static functions, file and offset,
 * which `addr2line -f -e file offset` names; the address alone in a static program,
 * and ? where green_backtrace() would fail.  The use of a stack is unknown for main
 * greens, and for a green that stands on another stack than its own.  -1 with errno
 * if a write fails.  Works inside a trace hook.
 */
int green_dump(int fd);

/* ---- Stacks ------------------------------------------------------------ */

/*
 * The usable range of g's stack, without the guard: from where that ends to the
 * first frame.  It may have up to a page more than was asked for, as tops are
 * spread for the sake of the CPU's caches, and has four times as much under
 * AddressSanitizer, whose frames are larger.  NULL, 0 for a main green, whose stack
 * the library does not know, and for a DEAD one.  Either pointer may be NULL.
 */
void green_stack(const green_t *g, void **low, size_t *size);

/*
 * Bytes of its stack that g uses now; 0 where green_stack() says 0, and for a
 * NEW green.  If g stands on a stack that the program has switched to inside it, as
 * by swapcontext(), all of its own counts: which of it is used is not known.
 */
size_t green_stack_used(const green_t *g);

/*
 * Has an overflow say whose it was: for the whole process, from now on, a fault
 * in the guard of the current green's stack writes a line to stderr before it
 * takes its course,
 *
 *     libgreen: stack overflow in green "name" (0x7f...): 266176 bytes of
 *     stack, fault at 0x7f..., pc 0x55...; raise options.stack_size
 *
 * Handlers for SIGSEGV and SIGBUS are installed for it, once; they pass every
 * fault on to what was there before, with all it came with: a handler, or the
 * default, which dumps core where it happened.  Install yours first, or call
 * the old one from yours.  System calls are restarted where the handler that was
 * there before asked for it, and where the signal was ignored; those that the
 * system never restarts, as poll(), then fail with EINTR.
 *
 * A handler needs a stack that has not overflowed: the calling thread, and each
 * thread whose first use of the library comes later, gets an alternate signal
 * stack unless it has one, until it ends.  A thread that has used the library
 * already calls this itself.  ENOMEM.
 */
int green_report_overflow(void);

/*
 * Gives memory back to the system until the caller's and the shared stacks
 * that wait for new greens keep no more than `keep` bytes of it.  Returns how
 * much it was.  0 with EBUSY or EPERM as all.
 *
 * A stack that is given up waits for the next green of its thread, with the
 * memory it has touched: up to 16 MiB a thread, some 4,000 stacks that were
 * not deep; beyond that its memory is given back at once.  When a thread ends,
 * up to 16 MiB of its stacks are shared with those that live.  What other
 * threads keep for themselves is not touched.
 */
size_t green_trim(size_t keep);

typedef struct green_stats {
    size_t greens;        /* handles that are not released, main greens not counted */
    size_t threads;       /* that have used the library and not ended, fork()'s lost ones too */
    size_t stacks_live;   /* of the library's that greens have: NEW, RUNNING or SUSPENDED ones */
    size_t stacks_cached; /* that wait for new greens, with memory */
    size_t bytes_mapped;  /* of address space for all stacks, touched or not, with guards */
} green_stats_t;

/*
 * Fills in the numbers of the process.  size is sizeof *stats: a program that
 * was compiled with a larger or a smaller one gets what both know, and else 0.
 * Works everywhere and makes no main green.  While other threads make and free
 * greens, the numbers are of about now.
 */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow" /* the function hides the struct in C++, as stat() does */
int green_stats(green_stats_t *stats, size_t size);
#pragma GCC diagnostic pop

/* ---- Threads, version -------------------------------------------------- */

/*
 * Ends the thread's greens in good order (rule 14): runs the main green's
 * deferred functions, ends every SUSPENDED green of the thread as green_free()
 * would, without releasing a handle, and then runs the destructors of the main
 * green's keys.  What these start or defer is ended and run too; it must not throw
 * exceptions.  -1 with EBUSY if some green refused to die, or if called on another
 * green than main.
 *
 * The library can be used on after it, with the same main green.
 */
int green_thread_end(void);

/* GREEN_VERSION of the library that is linked. */
int green_version(void);

/* ---- Not for use ------------------------------------------------------- */

/*
 * Each object that has a file of C++ or one compiled with -fexceptions, and includes
 * this, tells the library when it is loaded which C++ runtime and which unwinder
 * it has: nobody else can know them where they are linked statically.  They are
 * declared under other names, as other headers have types for them; each may be
 * missing.
 */
struct green_private_runtime {
    void *(*get_globals)(void);
    void (*end_catch)(void);
    void (*unwinder[4])(void);
};

#if (defined(__cplusplus) || defined(__EXCEPTIONS)) && !defined(GREEN_PRIVATE_LIBRARY)
#define GREEN_PRIVATE_WEAK __attribute__((__weak__))
GREEN_PRIVATE_WEAK void green_private_runtime_1(const struct green_private_runtime *runtime);
#ifdef __cplusplus
GREEN_PRIVATE_WEAK void *green_private_get_globals(void) __asm__("__cxa_get_globals");
GREEN_PRIVATE_WEAK void green_private_end_catch(void) __asm__("__cxa_end_catch");
#endif
GREEN_PRIVATE_WEAK void green_private_forced_unwind(void) __asm__("_Unwind_ForcedUnwind");
GREEN_PRIVATE_WEAK void green_private_get_cfa(void) __asm__("_Unwind_GetCFA");
GREEN_PRIVATE_WEAK void green_private_get_ip(void) __asm__("_Unwind_GetIP");
GREEN_PRIVATE_WEAK void green_private_backtrace(void) __asm__("_Unwind_Backtrace");
#undef GREEN_PRIVATE_WEAK

__attribute__((__constructor__(101), __unused__)) static void green_private_tell(void)
{
    static const struct green_private_runtime runtime = {
#ifdef __cplusplus
        green_private_get_globals, green_private_end_catch,
#else
        NULL, NULL,
#endif
        {green_private_forced_unwind, green_private_get_cfa, green_private_get_ip,
         green_private_backtrace},
    };
    if (green_private_runtime_1)
        green_private_runtime_1(&runtime);
}
#else
void green_private_runtime_1(const struct green_private_runtime *runtime);
#endif

#ifdef __cplusplus
}
#endif
#endif
