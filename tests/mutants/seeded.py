#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
Shows that the tests of faults, signals, threads, processes, leaks, of the long
run and the fuzz target can fail: each is run with the library as it is, and must
pass, and then with one that is broken on purpose, and must not.  Of what the fuzz
target finds random_programs must print a short program that fails, too.

    tests/mutants/seeded.py

CC: the compiler for this machine (cc); CLANG: one with libFuzzer (clang).  A seed
replaces a piece of text in a function of src/; one whose text is not there any more
is an error.
"""
import glob
import os
import re
import subprocess
import sys

from build import Library, PLAYER, run


# What a test is called here: its program, arguments, environment.
TESTS = {
    'faults': ('test_faults', [], {}),
    'signals': ('test_signals', ['400000'], {}),
    'threads': ('test_swarm', ['4', '100', '10'], {}),
    'leaks': ('test_stack', [], {'GREEN_TEST_LEAKS': '12'}),
    'processes': ('load_library', ['{library}'], {}),
    'long run': ('soak', ['0.1'], {}),
}

# Test, where (see source.py), what stands there, what it becomes.
SEEDS = [
    ('faults', 'furnish', 'no_name:\n    green__put_block(self, g);', 'no_name:'),
    ('faults', 'furnish', 'no_stack:\n    free(g->name);', 'no_stack:'),
    ('faults', 'grow', '    if (locals == NULL)\n        return false;\n    if (g->locals',
     '    if (locals == NULL)\n        return true;\n    if (g->locals'),
    ('faults', 'install', 'if (i == SIGNALS)', 'if (i <= SIGNALS)'),
    ('faults', 'green__guard_install', 'mprotect(guard, size, PROT_NONE) == 0',
     '(mprotect(guard, size, PROT_NONE), true)'),
    ('threads', 'green__take_over',
     '        store(g->thread, self);\n        store(g->owner, load(self->id));',
     '        store(g->thread, self);'),
    ('threads', 'green__count_out', '    store(self->greens, load(self->greens) - 1);\n', ''),
    ('leaks', 'let_go', '    free(g->name);\n    if (g->children', '    if (g->children'),
    ('processes', 'link', '-Wl,-z,nodelete', ''),
    ('long run', 'green__local_drop', '    free(g->locals);\n', ''),
]

# A frame that is left too early: only a signal in between shows it.
if os.uname().machine == 'x86_64':
    SEEDS.append(('signals', 'x86_64/switch.S', '.Lmodes_done:',
                  '.Lmodes_done:\n        addq $400, %rsp\n        pause\n        subq $400, %rsp'))
elif os.uname().machine == 'aarch64':
    SEEDS.append(('signals', 'aarch64/switch.S', '.Lresume:',
                  '.Lresume:\n        add sp, sp, #408\n        yield\n        sub sp, sp, #408'))

# For the fuzz target: what goes wrong in the library itself, and in what the player compares.
FUZZED = [
    ('deliver', 'while (load(to->life) == GREEN__DEAD)', 'if (load(to->life) == GREEN__DEAD)'),
    ('die', 'green_t *to = green__parent(me);', 'green_t *to = &self->main;'),
]
FUZZING = ['-runs=20000', '-max_len=1600', '-len_control=0']
SHORT = 15  # operations


def passes(library, test):
    program, arguments, environment = TESTS[test]
    arguments = [a.format(library=library.shared) for a in arguments]
    return run([os.path.join(library.dir, program), *arguments], environment, 60)


def fuzzes(library):
    """
    The files that the fuzz target leaves of programs that crash; None if it finds nothing.
    One that crashes without a stack to stand on leaves no file: then it is another's turn.
    """
    prefix = os.path.join(library.dir, 'found-')
    for seed in range(1, 9):
        command = [os.path.join(library.dir, 'fuzz_programs'), *FUZZING, f'-seed={seed}',
                   '-artifact_prefix=' + prefix]
        if run(command, None, 600):
            return None
        files = glob.glob(prefix + 'crash-*')
        if files:
            return files
    return []


def check_fuzzing():
    """How many broken libraries it does not find, or does not print a program for."""
    failed = 0
    watched, plain = Library(), Library()
    watched.cc = [os.environ.get('CLANG', 'clang'), '-fsanitize=fuzzer']
    with watched, plain:
        for library, program in (watched, 'fuzz_programs'), (plain, 'random_programs'):
            library.program(program, PLAYER)
            library.link()
        plain.keep_whole()
        if fuzzes(watched) is not None:
            print('FAILED: the fuzz target does not pass with the library as it is')
            failed += 1
        for place, old, new in FUZZED:
            with watched.broken(place, old, new), plain.broken(place, old, new):
                watched.link('fuzz_programs')
                plain.link('random_programs')
                found = fuzzes(watched)
                if not found:
                    print(f'FAILED: the fuzz target does not find what is wrong in {place}: {old!r}')
                    failed += 1
                    continue
                command = [os.path.join(plain.dir, 'random_programs'), found[0]]
                said = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                      text=True, timeout=300).stderr
                length = re.search(r', (\d+) operations$', said)
                if (not length or int(length.group(1)) > SHORT
                        or not plain.prints_what_fails(command)):
                    print('FAILED: random_programs does not print a short program '
                          f'for what is wrong in {place}: {old!r}')
                    failed += 1
                else:
                    print(f'ok: the fuzz target finds what is wrong in {place}, '
                          f'in a program of {length.group(1)} operations')
            for path in glob.glob(os.path.join(watched.dir, 'found-*')):
                os.unlink(path)
    return failed


def main():
    failed = check_fuzzing()
    with Library() as library:
        for program in {test[0] for test in TESTS.values()}:
            library.program(program)
        library.link()
        for test in TESTS:
            if not passes(library, test):
                print(f'FAILED: the test of {test} does not pass with the library as it is')
                failed += 1
        for test, place, old, new in SEEDS:
            with library.broken(place, old, new):
                library.link(TESTS[test][0])
                if passes(library, test):
                    print(f'FAILED: the test of {test} does not find what is wrong in {place}: '
                          f'{old!r}')
                    failed += 1
                else:
                    print(f'ok: the test of {test} finds what is wrong in {place}')
    print(f'seeded: {len(SEEDS) + len(FUZZED)} broken libraries, '
          f'{len(TESTS) + 1} classes of tests, {failed} failures')
    return failed != 0


if __name__ == '__main__':
    sys.exit(main())
