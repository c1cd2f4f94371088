#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
Mutants of the C: one place of switch.c or green.c is changed at a time, and the
test programs must notice.  The changes: a condition is negated, a comparison
turned or moved by one, && and || exchanged, a number changed by one, true and
false exchanged, a statement left out.

    tests/mutants/c.py [--most N] [--seed S] [--keep] [FILE...]

FILE: of src/, by default switch.c green.c.  --most N: only so many; which ones
depends on S and on the mutants themselves, not on what else there is.  --keep:
says of each one what killed it.

Those that no test can tell stand in equivalent_c.txt with their reasons: a file,
a change, the line without its indentation.  One that stands there and is no
more, or is killed, is a failure.
"""
import argparse
import collections
import concurrent.futures
import hashlib
import os
import re
import shutil
import sys
import time

from build import Library, TESTS, call, compiles, run

HERE = os.path.dirname(os.path.abspath(__file__))

# Programs that see most come first; all that use the public header alone.
FIRST = ['test_target', 'test_death', 'test_throw', 'test_free', 'test_parent', 'test_trace',
         'test_refusal', 'test_defer', 'test_exit', 'test_hook', 'test_new', 'test_registers',
         'test_thread_end', 'test_threads', 'test_stack', 'test_local', 'test_memory',
         'test_cascade', 'test_faults', 'test_arena', 'test_stats']
# These once more, each test repeated until nothing grows: see testing.h.
LEAKS = ['test_stack', 'test_free', 'test_parent', 'test_thread_end', 'test_local']
CPLUSPLUS = ['test_exceptions', 'test_fast_cplusplus', 'test_unwinding_cplusplus']
# Slow, or about something else.
NOT = {'test_backtrace', 'test_fast', 'test_overflow', 'test_overflow_probed', 'test_signals',
       'test_leaks'}

# One on a line of its own, but for declarations and what leaves.
STATEMENT = re.compile(r'^ +(?=\S)(?!return|goto|break|continue|case|else|do\b|for\b|if\b|while\b'
                       r'|switch\b|struct |static |const |green_t \*|size_t |bool |int |unsigned '
                       r'|char |void |uintptr_t |stack_t |\(void\)\w+;)[^\n{}]*;$', re.M)

Mutant = collections.namedtuple('Mutant', 'file key text')


def without_comments(text):
    """
    The same text with comments and strings blank, and what this machine's port has in
    assembler, so that places stay.
    """
    def blank(match):
        return re.sub(r'[^\n]', ' ', match.group(0))
    if os.uname().machine == 'x86_64':
        text = re.sub(r'^#ifndef GREEN__ARCH_SWITCHES$.*?^#endif$', blank, text,
                      flags=re.M | re.S)
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(\\.|[^"\\])*"', blank, text, flags=re.S)


CHANGES = [
    # What, where, what it becomes.
    ('turn', r'(?<![<>=!\-])==(?!=)', '!='),
    ('turn', r'!=', '=='),
    ('turn', r' < ', ' >= '), ('move', r' < ', ' <= '),
    ('turn', r' > ', ' <= '), ('move', r' > ', ' >= '),
    ('turn', r' <= ', ' > '), ('move', r' <= ', ' < '),
    ('turn', r' >= ', ' < '), ('move', r' >= ', ' > '),
    ('exchange', r'&&', '||'), ('exchange', r'\|\|', '&&'),
    ('exchange', r'\btrue\b', 'false'), ('exchange', r'\bfalse\b', 'true'),
    ('not', r'!(?=[A-Za-z(])', ''),
    ('one more', r'(?<![\w.])(0|[1-9]\d*)(?![\w.])', lambda m: str(int(m.group(0)) + 1)),
    ('one less', r'(?<![\w.])([1-9]\d*)(?![\w.])', lambda m: str(int(m.group(0)) - 1)),
    ('backwards', r'\+\+', '--'), ('backwards', r'--', '++'),
    ('backwards', r' \+ ', ' - '), ('backwards', r' - ', ' + '),
]


def mutants_of(file, text):
    code = without_comments(text)
    seen = collections.Counter()

    def mutant(what, start, end, new):  # named so that other lines may come and go
        line = text[text.rfind('\n', 0, start) + 1:text.find('\n', start)].strip()
        key = f'{file}: {what}: {line}'
        seen[key] += 1
        if seen[key] > 1:
            key += f' #{seen[key]}'
        return Mutant(file, key, text[:start] + new + text[end:])

    bodies = []  # of functions: from a { at the start of a line to the } there
    for match in re.finditer(r'^\{\n.*?^\}', code, re.M | re.S):
        bodies.append((match.start(), match.end()))
    for start, end in bodies:
        body = code[start:end]
        for what, pattern, new in CHANGES:
            for match in re.finditer(pattern, body):
                line = body[body.rfind('\n', 0, match.start()) + 1:body.find('\n', match.start())]
                if line.lstrip().startswith(('#', 'static const')) or \
                        '__builtin_frame_address' in line:
                    continue
                replaced = new(match) if callable(new) else new
                yield mutant(f'{what} {match.group(0).strip()}', start + match.start(),
                             start + match.end(), replaced)
        # Conditions as a whole: if (...), while (...), behind LIKELY as well.
        for match in re.finditer(r'\b(if|while) \(', body):
            depth, at = 1, match.end()
            while depth:
                depth += {'(': 1, ')': -1}.get(body[at], 0)
                at += 1
            inside = text[start + match.end():start + at - 1]
            if re.search(r'[<>=!&|]', inside) is None:
                yield mutant('negate', start + match.end(), start + at - 1, f'!({inside})')
        for match in STATEMENT.finditer(body):
            if body.rfind('\n', 0, match.start()) > 0 and \
                    body[:match.start()].rstrip()[-1:] not in ';{}):':
                continue  # the rest of a longer one
            new = match.group(0)[:len(match.group(0)) - len(match.group(0).lstrip())] + ';'
            yield mutant('drop', start + match.start(), start + match.end(), new)


class Bench:
    def __init__(self, library):
        self.library = library
        names = [f[:-2] for f in sorted(os.listdir(TESTS)) if re.match(r'test_\w+\.c$', f)]
        names += CPLUSPLUS
        self.names = FIRST + [n for n in names if n not in FIRST and n not in NOT]
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(library.program, self.names))
            library.link_shared()
            list(pool.map(self.link, self.names))
        # What was not initialized is not zero by chance.
        self.environment = {'GREEN_TEST_SLOW': '1', 'MALLOC_PERTURB_': '165'}
        self.times = {}
        for name in LEAKS:
            if not self.runs(name, library.dir, {'GREEN_TEST_LEAKS': '12'}):
                sys.exit(f'without any mutation {name} has a leak')
        for name in self.names:
            begun = time.monotonic()
            if not self.runs(name, library.dir):
                sys.exit(f'without any mutation {name} does not pass')
            self.times[name] = time.monotonic() - begun

    def link(self, name):
        lib = self.library
        call([*lib.cc, *lib.programs[name], lib.registers, '-L' + lib.dir, '-lgreen', '-pthread', '-lcmocka',
              '-lm', '-ldl',
              '-o', os.path.join(lib.dir, name)])

    def runs(self, name, where, more=None):
        return run([os.path.join(self.library.dir, name)],
                   {**self.environment, **(more or {}), 'LD_LIBRARY_PATH': where},
                   10 + 10 * self.times.get(name, 1))

    def attempt(self, number, mutant):
        """What kills it, or None."""
        where = f'{self.library.dir}/m{number}'
        os.mkdir(where)
        try:
            source = f'{where}/{mutant.file}'
            with open(source, 'w') as f:
                f.write(mutant.text)
            lib = self.library
            if not compiles([*lib.cc, *lib.options, '-fvisibility=hidden', '-I' + lib.src,
                             '-c', source,
                             '-o', f'{where}/changed.o']):
                return 'the compiler'
            try:
                lib.link_shared(f'{where}/libgreen.so', {mutant.file: f'{where}/changed.o'})
            except SystemExit:
                return 'the linker'
            for name in self.names:
                if not self.runs(name, where):
                    return name
            for name in LEAKS:
                if not self.runs(name, where, {'GREEN_TEST_LEAKS': '12'}):
                    return 'leaks in ' + name
            return None
        finally:
            shutil.rmtree(where)


def read_equivalent():
    known, waiting = {}, []
    with open(f'{HERE}/equivalent_c.txt') as f:
        for line in f:
            if re.match(r'\w+\.c: ', line):
                waiting.append(line.strip())
            elif line.startswith('    ') and waiting:
                known.update({key: line.strip() for key in waiting})
                waiting = []
    known.update({key: '' for key in waiting})
    return known


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--most', type=int)
    parser.add_argument('--seed', default='1')
    parser.add_argument('--keep', action='store_true')
    parser.add_argument('files', nargs='*', default=['switch.c', 'green.c'])
    options = parser.parse_args()
    failures = 0
    killers = collections.Counter()
    survivors = 0
    with Library() as library:
        bench = Bench(library)
        mutants = []
        for file in options.files:
            with open(f'{library.src}/{file}') as f:
                mutants += mutants_of(file, f.read())
        known = {key: reason for key, reason in read_equivalent().items()
                 if key.split(':')[0] in options.files}
        for key in known.keys() - {m.key for m in mutants}:
            print(f'FAILED: listed, but there is no such mutant any more: {key}')
            failures += 1
        for key, reason in known.items():
            if not reason:
                print(f'FAILED: listed without a reason: {key}')
                failures += 1
        mutants.sort(key=lambda m: hashlib.sha256((options.seed + m.key).encode()).digest())
        total = len(mutants)
        mutants = mutants[:options.most]

        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            deaths = pool.map(lambda n: bench.attempt(*n), enumerate(mutants))
            for mutant, death in zip(mutants, deaths):
                killers[death] += 1
                if options.keep and death:
                    print(f'{death}: {mutant.key}', flush=True)
                if death is None and mutant.key not in known:
                    print(f'FAILED: survives: {mutant.key}', flush=True)
                    failures += 1
                elif death is None:
                    survivors += 1
                elif mutant.key in known:
                    print(f'FAILED: listed, but killed by {death}: {mutant.key}', flush=True)
                    failures += 1
    del killers[None]
    by = ', '.join(f'{n} by {death}' for death, n in killers.most_common(4))
    print(f'mutants of the C: {len(mutants)} of {total} (seed {options.seed}), '
          f'{sum(killers.values())} killed ({by}), '
          f'{survivors} equivalent, {failures} failures')
    return failures != 0


if __name__ == '__main__':
    sys.exit(main())
