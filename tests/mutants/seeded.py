#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
Shows that the tests of faults, signals, threads, processes, leaks and of the
long run can fail: each is run with the library as it is, and must pass, and
then with one that is broken on purpose, and must not.

    tests/mutants/seeded.py

CC: the compiler for this machine (cc).  A seed replaces a piece of text in a
file of src/; one whose text is not there any more is an error.
"""
import os
import sys

from build import Library, ROOT, run


# What a test is called here: its program, arguments, environment.
TESTS = {
    'faults': ('test_faults', [], {}),
    'signals': ('test_signals', ['400000'], {}),
    'threads': ('test_swarm', ['4', '100', '10'], {}),
    'leaks': ('test_stack', [], {'GREEN_TEST_LEAKS': '12'}),
    'processes': ('load_library', ['{library}'], {}),
    'long run': ('soak', ['0.1'], {}),
}

# Test, file, what stands there, what it becomes.
SEEDS = [
    ('faults', 'green.c', 'no_name:\n    put_block(g);', 'no_name:'),
    ('faults', 'green.c', 'no_stack:\n    free(g->name);', 'no_stack:'),
    ('faults', 'local.c', '    if (locals == NULL)\n        return false;\n    if (g->locals',
     '    if (locals == NULL)\n        return true;\n    if (g->locals'),
    ('faults', 'overflow.c', 'if (i == SIGNALS)', 'if (i <= SIGNALS)'),
    ('faults', 'guard.c', 'mprotect(guard, size, PROT_NONE) == 0', '(mprotect(guard, size, PROT_NONE), true)'),
    ('threads', 'green.c', '        store(g->thread, self);\n        store(g->owner, load(self->id));',
     '        store(g->thread, self);'),
    ('threads', 'green.c', '    store(self->greens, load(self->greens) - 1);\n', ''),
    ('leaks', 'green.c', '    free(g->name);\n    g->name = NULL;', '    g->name = NULL;'),
    ('processes', 'link', '-Wl,-z,nodelete', ''),
    ('long run', 'local.c', '    free(g->locals);\n', ''),
]

# A frame that is left too early: only a signal in between shows it.
if os.uname().machine == 'x86_64':
    SEEDS.append(('signals', 'arch/x86_64/switch.S', '.Lresume:',
                  '.Lresume:\n        addq $400, %rsp\n        pause\n        subq $400, %rsp'))
elif os.uname().machine == 'aarch64':
    SEEDS.append(('signals', 'arch/aarch64/switch.S', '.Lresume:',
                  '.Lresume:\n        add sp, sp, #408\n        yield\n        sub sp, sp, #408'))


def passes(library, test):
    program, arguments, environment = TESTS[test]
    arguments = [a.format(library=library.shared) for a in arguments]
    return run([os.path.join(library.dir, program), *arguments], environment, 60)


def main():
    failed = 0
    with Library() as library:
        for program in {test[0] for test in TESTS.values()}:
            library.program(program, os.path.join(ROOT, 'tests', program + '.c'))
        library.link()
        for test in TESTS:
            if not passes(library, test):
                print(f'FAILED: the test of {test} does not pass with the library as it is')
                failed += 1
        for test, file, old, new in SEEDS:
            with library.broken(file, old, new):
                library.link(TESTS[test][0])
                if passes(library, test):
                    print(f'FAILED: the test of {test} does not find what is wrong in {file}: {old!r}')
                    failed += 1
                else:
                    print(f'ok: the test of {test} finds what is wrong in {file}')
    print(f'seeded: {len(SEEDS)} broken libraries, {len(TESTS)} classes of tests, {failed} failures')
    return failed != 0


if __name__ == '__main__':
    sys.exit(main())
