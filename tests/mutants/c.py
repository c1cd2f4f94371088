#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
Mutants of the C: one place of the library's core is changed at a time, and the
test programs must notice.  The changes: a condition is negated, a comparison
turned or moved by one, && and || exchanged, a number changed by one, true and
false exchanged, a statement left out.

    tests/mutants/c.py [--most N] [--seed S] [--keep] [FUNCTION...]

FUNCTION: of the library; by default all in its core, in whichever files that is.
--most N: only so many, of those that must die; which ones depends on S and on the
mutants themselves, not on what else there is.  --keep: says of each one what killed it.

Those that no test can tell stand in equivalent_c.txt with their reasons: a
function, a change, the line without its indentation.  One that stands there and
is no more, or is killed, is a failure.
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

from build import Library, ROOT, TESTS, call, compiles, run
from report import Mutants
from source import Source, without_comments

HERE = os.path.dirname(os.path.abspath(__file__))

# Reports are read by tests of their own.
NOT_CORE = re.compile(r'green__line_')

# Programs that see most come first; all that use the public header alone.
FIRST = ['test_target', 'test_death', 'test_throw', 'test_free', 'test_parent', 'test_trace',
         'test_refusal', 'test_defer', 'test_exit', 'test_hook', 'test_new', 'test_registers',
         'test_thread_end', 'test_threads', 'test_stack', 'test_local', 'test_memory',
         'test_cascade', 'test_faults', 'test_arena', 'test_stats']
# These once more, each test repeated until nothing grows: see testing.h.
LEAKS = ['test_stack', 'test_free', 'test_parent', 'test_thread_end', 'test_local',
         'test_hook', 'test_hub_spawn']
# Programs in which a runtime lies in another scope, see built/runtimes.sh: for these files alone.
OF_RUNTIMES = ('core/runtime.c', 'core/unwind.c', 'core/exit.c')
RUNTIMES = {
    'runtime_cxx': ['c++', '-O2', '-DPROGRAM', 'runtime.cpp'],
    'runtime_cxx_static': ['c++', '-O2', '-DPROGRAM', 'runtime.cpp', '-static-libstdc++',
                           '-static-libgcc'],
    'runtime_cxx_hidden': ['c++', '-O2', '-DPROGRAM', 'runtime.cpp', '-static-libstdc++',
                           '-static-libgcc', '-Wl,--exclude-libs,ALL'],
    'runtime_c': ['cc', '-O1', '-fexceptions', 'runtime.c'],
    'runtime_c_static': ['cc', '-O1', '-fexceptions', 'runtime.c', '-static-libgcc'],
    'runtime_exit': ['cc', 'runtime_exit.c', '-ldl'],
    'runtime_exit_naming': ['cc', '-DNAMES_UNWINDER', '-rdynamic', 'runtime_exit.c', '-ldl'],
    'runtime_host': ['cc', 'runtime_host.c', '-ldl'],
    'runtime_host_linked': ['cc', 'runtime_host.c', '-Wl,--no-as-needed', '-ldl'],
    'runtime_host_naming': ['cc', '-DNAMES_RUNTIME', '-rdynamic', 'runtime_host.c',
                            '-Wl,--no-as-needed', '-ldl'],
}
PLUGINS = {
    'shared.so': [],
    'hidden.so': ['-static-libstdc++', '-static-libgcc', '-Wl,--exclude-libs,ALL'],
    'untold.so': ['-DGREEN_PRIVATE_LIBRARY'],
}
CPLUSPLUS = ['test_exceptions', 'test_fast_cplusplus', 'test_unwinding_cplusplus',
             'test_hub_cplusplus']
# Slow, or about something else.
NOT = {'test_backtrace', 'test_fast', 'test_overflow', 'test_overflow_probed', 'test_signals',
       'test_leaks', 'test_hub_calls', 'test_hub_children', 'test_hub_faults', 'test_hub_files',
       'test_hub_fork_world', 'test_hub_names', 'test_hub_offload', 'test_hub_overflow',
       'test_hub_readiness', 'test_hub_resolver', 'test_hub_sandbox', 'test_hub_signals',
       'test_hub_sockets', 'test_hub_streams', 'test_hub_watch'}

# One on a line of its own, but for declarations and what leaves.
STATEMENT = re.compile(r'^ +(?=\S)(?!return|goto|break|continue|case|else|do\b|for\b|if\b|while\b'
                       r'|switch\b|struct |static |const |green_t \*|size_t |bool |int |unsigned '
                       r'|char |void |uintptr_t |stack_t |\(void\)\w+;)[^\n{}]*;$', re.M)

Mutant = collections.namedtuple('Mutant', 'file key text')


def code_of(text):
    """
    The same text with comments and strings blank, and what this machine's port has in
    assembler, so that places stay.
    """
    text = without_comments(text)
    if os.uname().machine == 'x86_64':
        text = re.sub(r'^#ifndef GREEN__ARCH_SWITCHES$.*?^#endif$',
                      lambda match: re.sub(r'[^\n]', ' ', match.group(0)), text, flags=re.M | re.S)
    return text


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


def mutants_of(source, functions):
    """Of each in turn; named so that other lines may come and go."""
    seen = collections.Counter()
    for function in functions:
        text = source.texts[function.file]
        for what, start, end, new in changes_of(text, code_of(text), function):
            line = text[text.rfind('\n', 0, start) + 1:text.find('\n', start)].strip()
            key = f'{function.name}: {what}: {line}'
            seen[key] += 1
            if seen[key] > 1:
                key += f' #{seen[key]}'
            yield Mutant(function.file, key, text[:start] + new + text[end:])


def changes_of(text, code, function):
    """What is done, from where to where, and what comes there."""
    start, body = function.body, code[function.body:function.end]
    for what, pattern, new in CHANGES:
        for match in re.finditer(pattern, body):
            line = body[body.rfind('\n', 0, match.start()) + 1:body.find('\n', match.start())]
            if line.lstrip().startswith(('#', 'static const')) or \
                    '__builtin_frame_address' in line:
                continue
            replaced = new(match) if callable(new) else new
            yield (f'{what} {match.group(0).strip()}', start + match.start(),
                   start + match.end(), replaced)
    # Conditions as a whole: if (...), while (...), behind LIKELY as well.
    for match in re.finditer(r'\b(if|while) \(', body):
        depth, at = 1, match.end()
        while depth:
            depth += {'(': 1, ')': -1}.get(body[at], 0)
            at += 1
        inside = text[start + match.end():start + at - 1]
        if re.search(r'[<>=!&|]', inside) is None:
            yield 'negate', start + match.end(), start + at - 1, f'!({inside})'
    for match in STATEMENT.finditer(body):
        if body.rfind('\n', 0, match.start()) > 0 and \
                body[:match.start()].rstrip()[-1:] not in ';{}):':
            continue  # the rest of a longer one
        new = match.group(0)[:len(match.group(0)) - len(match.group(0).lstrip())] + ';'
        yield 'drop', start + match.start(), start + match.end(), new


class Bench:
    def __init__(self, library):
        self.library = library
        names = [f[:-2] for f in sorted(os.listdir(TESTS)) if re.match(r'test_\w+\.c$', f)]
        names += CPLUSPLUS
        self.names = FIRST + [n for n in names if n not in FIRST and n not in NOT]
        with concurrent.futures.ThreadPoolExecutor(2 * os.cpu_count()) as pool:
            list(pool.map(library.program, self.names))
            library.link_shared()
            list(pool.map(self.link, self.names))
        self.runtimes = list(self.link_runtimes())
        # What was not initialized is not zero by chance.
        self.environment = {'GREEN_TEST_SLOW': '1', 'MALLOC_PERTURB_': '165'}
        self.times = {}
        for name in LEAKS:
            if not self.runs(name, library.dir, {'GREEN_TEST_LEAKS': '12'}):
                sys.exit(f'without any mutation {name} has a leak')
        for name in self.names + self.runtimes:
            begun = time.monotonic()
            if not self.runs(name, library.dir):
                sys.exit(f'without any mutation {name} does not pass')
            self.times[name] = time.monotonic() - begun

    def link(self, name):
        lib = self.library
        call([*lib.cc, *lib.programs[name], lib.registers, '-L' + lib.dir, '-lgreen', '-pthread', '-lcmocka',
              '-lm', '-ldl',
              '-o', os.path.join(lib.dir, name)])

    def link_runtimes(self):
        """Their commands, one for each plugin where they want one."""
        lib = self.library
        built = os.path.join(TESTS, 'built')

        def link(output, command):
            end = [] if output == 'runtime_host' else ['-L' + lib.dir, '-lgreen']
            call([command[0], '-I' + os.path.join(ROOT, 'include'), *command[1:], *end, '-pthread',
                  '-o', os.path.join(lib.dir, output)], cwd=built)

        for plugin, options in PLUGINS.items():
            link(plugin, ['c++', '-O2', '-shared', '-fPIC', 'runtime.cpp', *options])
        for name, command in RUNTIMES.items():
            link(name, command)
            for plugin in PLUGINS if 'host' in name else [None]:
                yield name if plugin is None else f'{name} {lib.dir}/{plugin}'
        link('fake.so', ['cc', '-shared', '-fPIC', 'runtime_fake.c'])
        for name in 'runtime_exit', 'runtime_exit_naming':
            yield f'{name} -l'
            yield f'{name} -l {lib.dir}/fake.so'
            yield f'{name} {lib.dir}/fake.so'
        yield f'runtime_host {lib.dir}/fake.so'
        for named in 'named.so', 'named_2.so':
            link(named, ['cc', '-shared', '-fPIC', 'runtime_named.c'])
        for last in 'untold.so', 'fake.so':
            yield f'runtime_host_linked {lib.dir}/named.so {lib.dir}/named_2.so {lib.dir}/{last}'
        using = ['cc', '-DUSES_GREEN', 'runtime_host.c', '-ldl']
        naming = [*using, '-DNAMES_RUNTIME', '-rdynamic']
        for name, command in ('using', using), ('using_naming', naming):
            link(f'runtime_host_{name}', command)
            yield f'runtime_host_{name} {lib.dir}/hidden.so'

    def runs(self, name, where, more=None):
        program, *arguments = name.split()
        return run([os.path.join(self.library.dir, program), *arguments],
                   {**self.environment, **(more or {}), 'LD_LIBRARY_PATH': where},
                   10 + 10 * self.times.get(name, 1))

    def attempt(self, number, mutant):
        """What kills it, or None."""
        where = f'{self.library.dir}/m{number}'
        os.mkdir(where)
        try:
            source = f'{where}/changed.c'
            with open(source, 'w') as f:
                f.write(mutant.text)
            lib = self.library
            if not compiles(lib.command(mutant.file, f'{where}/changed.o', source)):
                return 'the compiler'
            try:
                lib.link_shared(f'{where}/libgreen.so', {mutant.file: f'{where}/changed.o'})
            except SystemExit:
                return 'the linker'
            for name in self.names:
                if not self.runs(name, where):
                    return name
            for name in self.runtimes if mutant.file in OF_RUNTIMES else []:
                if not self.runs(name, where):
                    return name
            for name in LEAKS:
                if not self.runs(name, where, {'GREEN_TEST_LEAKS': '12'}):
                    return 'leaks in ' + name
            return None
        finally:
            shutil.rmtree(where)


def chosen(source, names):
    """The functions of these names, or all of the core."""
    for name in names:
        if name not in source.functions:
            sys.exit(f'src/ has no function {name}()')
    every = [each for those in source.functions.values() for each in those
             if each.file.endswith('.c')]
    others = {each.file for each in every
              if NOT_CORE.match(each.name) or not each.file.startswith('core/')}
    wanted = [each for each in every
              if (each.name in names if names else each.file not in others)]
    return sorted(wanted, key=lambda each: (each.file, each.start))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--most', type=int)
    parser.add_argument('--seed', default='1')
    parser.add_argument('--keep', action='store_true')
    parser.add_argument('functions', nargs='*')
    options = parser.parse_args()
    source = Source()
    mutants = list(mutants_of(source, chosen(source, options.functions)))
    every = mutants if not options.functions else mutants_of(source, chosen(source, []))
    report = Mutants(f'{HERE}/equivalent_c.txt', {m.key for m in every}, options.keep)
    mutants.sort(key=lambda m: hashlib.sha256((options.seed + m.key).encode()).digest())
    total = len(mutants)
    if options.most is not None:  # those that may live take the longest, and show the least
        mutants = [m for m in mutants if m.key not in report.excepted][:options.most]
    with Library() as library:
        bench = Bench(library)
        with concurrent.futures.ThreadPoolExecutor(2 * os.cpu_count()) as pool:
            deaths = list(pool.map(lambda n: bench.attempt(*n), enumerate(mutants)))
        for number, (mutant, death) in enumerate(zip(mutants, deaths)):
            report.died(mutant.key, death, lambda: bench.attempt(number, mutant))
    return report.end(f'mutants of the C: {len(mutants)} of {total} (seed {options.seed})')


if __name__ == '__main__':
    sys.exit(main())
