/* SPDX-License-Identifier: MIT
 *
 * Has a test program's own code run with branch target identification enforced.
 *
 * The loader does so for programs whose every object is marked.  Where the
 * system's start files are not (Debian 12), this does it instead, from main()
 * to exit(), and makes sure that it works.  Linked into every test program
 * built with BTI; qemu-user enforces it too.
 */
#define _GNU_SOURCE
#include <link.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef __ARM_FEATURE_BTI_DEFAULT
#error "built without BTI: wants -mbranch-protection=standard or bti"
#endif

enum { HAS_BTI = 1 << 17, ENFORCE_BTI = 0x10 }; /* HWCAP2_BTI, PROT_BTI */

static void fail(const char *what)
{
    perror(what);
    abort();
}

/* The first object is the program itself; it alone is changed. */
static int protect(struct dl_phdr_info *object, size_t size, void *protection)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);

    (void)size;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &object->dlpi_phdr[i];
        uintptr_t low = object->dlpi_addr + segment->p_vaddr;
        uintptr_t high = low + segment->p_memsz;

        low &= ~(page - 1);
        if (segment->p_type == PT_LOAD && segment->p_flags & PF_X
            && mprotect((void *)low, high - low, *(int *)protection) != 0)
            fail("enforce_bti: mprotect");
    }
    return 1;
}

/* A place to jump to that is not marked as one. */
__attribute__((visibility("hidden"))) void unmarked(void);
__asm__(".text\n.globl unmarked\n.hidden unmarked\nunmarked: ret\n");

static sigjmp_buf caught;

static void illegal(int signal_number)
{
    siglongjmp(caught, signal_number);
}

static void release(void)
{
    dl_iterate_phdr(protect, &(int){ PROT_READ | PROT_EXEC });
}

static void enforce(void)
{
    struct sigaction action = { .sa_handler = illegal }, before;
    void (*volatile jump)(void) = unmarked;

    if (!(getauxval(AT_HWCAP2) & HAS_BTI)) {
        fputs("enforce_bti: this CPU has no BTI\n", stderr);
        return;
    }
    dl_iterate_phdr(protect, &(int){ PROT_READ | PROT_EXEC | ENFORCE_BTI });
    atexit(release);

    sigaction(SIGILL, &action, &before);
    if (sigsetjmp(caught, 1) == 0) {
        jump();
        fputs("enforce_bti: a jump to an unmarked place went through\n", stderr);
        abort();
    }
    sigaction(SIGILL, &before, NULL);
}

/* What the start files call instead of main(): the linker is told --wrap=main. */
int __wrap_main(int argc, char **argv);
int __real_main(int argc, char **argv);

int __wrap_main(int argc, char **argv)
{
    enforce();
    return __real_main(argc, argv);
}
