#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
Mutants of the switch: each instruction of the CPU's switch.S and of the switch
that green_fast.h inlines is left out once, and swapped with the next one; each
directive of switch.S is left out, with landing pads and without.  The tests arch_* and test_fast_path (test_fast
for the inlined one) must fail for every one of them, or what objdump and readelf
show must be wrong.

    tests/mutants/assembly.py [--every N] [--seed S] [--keep] [--only PATTERN] [CPU]

CPU: x86_64 or aarch64, by default this machine's; the other one is run by
qemu-user.  --every N: of the mutants one in N; which ones depends on S and on the
mutants themselves, so that the same tree has the same ones.
--keep: says of each one what killed it.  --only: those whose name has the pattern.

Those that change nothing that anybody could see stand in equivalent_CPU.txt
with their reasons; one that stands there and is no more, or is killed, is a
failure too.
"""
import argparse
import collections
import concurrent.futures
import filecmp
import hashlib
import os
import re
import subprocess
import sys
import tempfile

from build import ROOT, SUPPORT, TESTS, call, compiles, include, run, test_source
from report import Mutants
from source import files

HERE = os.path.dirname(os.path.abspath(__file__))

CPUS = {
    # Compiler; what its tools begin with; options for landing pads of all kinds, and for none;
    # what runs a program; seconds.
    'x86_64': ('gcc', '', '-fcf-protection=full', '-fcf-protection=none', [], 5),
    'aarch64': ('aarch64-linux-gnu-gcc', 'aarch64-linux-gnu-', '-mbranch-protection=standard',
                '-mbranch-protection=none', ['qemu-aarch64', '-cpu', 'max'], 20),
}

# ---- The text of switch.S ----------------------------------------------------------


def expand(text):
    """Plain assembler text from what the preprocessor gives: .macro and .endm done."""
    macros, out = {}, []
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith('#')]
    at = 0
    while at < len(lines):
        line = lines[at]
        at += 1
        if line.startswith('.macro'):
            name, *parameters = re.split(r'[\s,]+', line[len('.macro'):].strip())
            body = []
            while lines[at] != '.endm':
                body.append(lines[at])
                at += 1
            at += 1
            macros[name] = (parameters, body)
            continue
        word = re.split(r'\s', line, maxsplit=1)
        if word[0] in macros:
            parameters, body = macros[word[0]]
            values = [v.strip() for v in word[1].split(',')] if len(word) > 1 else []
            names = [p.split('=')[0].split(':')[0] for p in parameters]
            defaults = [p.split('=')[1] if '=' in p else '' for p in parameters]
            values += defaults[len(values):]
            done = []
            for piece in body:
                for name, value in sorted(zip(names, values), key=lambda pair: -len(pair[0])):
                    piece = piece.replace('\\' + name, value)
                done.append(piece.replace('\\()', ''))
            lines[at:at] = done
            continue
        out.append(line)
    return out


def is_label(line):
    return re.match(r'^[\w.$]+:$', line) is not None


def is_directive(line):
    return line.startswith('.')


# Of these nothing depends on one alone.
PLAIN = re.compile(
    r'^\.(text|section \.rodata|balign|p2align|file|if|else|endif|set|ident|rept|endr)\b')

Mutant = collections.namedtuple('Mutant', 'key lines')


def mutants_of(lines):
    """Each with a name that survives changes elsewhere."""
    seen = collections.Counter()
    where = 'notes'

    def named(what, text):
        key = f'{what} {where}: ' + re.sub(r'\s+', ' ', text)
        seen[key] += 1
        return key if seen[key] == 1 else f'{key} #{seen[key]}'

    instructions = [i for i, line in enumerate(lines)
                    if not is_label(line) and not is_directive(line)]
    following = dict(zip(instructions, instructions[1:]))
    for i, line in enumerate(lines):
        if line.startswith('.globl') and \
                any(l.startswith('.type') for l in lines[i + 1:i + 3]):
            where = line.split()[1]
        if is_label(line) or PLAIN.match(line) or line in ('.cfi_startproc', '.cfi_endproc'):
            continue
        yield Mutant(named('drop', line), lines[:i] + lines[i + 1:])
        if i in following and lines[following[i]] != line:
            j = following[i]
            swapped = list(lines)
            swapped[i], swapped[j] = lines[j], lines[i]
            yield Mutant(named('swap', f'{line} <> {lines[j]}'), swapped)


# ---- What an object must look like ---------------------------------------------------


def wrong_in(tools, cpu, pads, path):
    """A sentence if something is; pads: it has landing pads."""
    code = call([tools + 'objdump', '-d', '--no-show-raw-insn', path])
    functions = {}
    for line in code.splitlines():
        head = re.match(r'^[0-9a-f]+ <([\w.]+)>:', line)
        if head:
            current = functions.setdefault(head.group(1), [])
        elif '\t' in line:
            current.append(' '.join(line.split('\t')[1:]).strip())
    everything = [(name, line) for name, lines in functions.items() for line in lines]
    for (name, line), (_, following) in zip(everything, everything[1:] + [('', '')]):
        leaves = re.match(r'(notrack )?jmp\s+\*|(br|blr|ret)\b|call\s+\*', line)
        calls = name in ('green__arch_entry', 'green__arch_call_as') and \
            re.match(r'call\s+\*|blr\b', line)
        ends = name == 'green__arch_call_as' and re.match(r'ret\b', line)
        if leaves and not calls and not ends and not re.match(r'ud2|brk\s', following):
            return f'no trap behind {line}'
        if pads and re.match(r'jmp\s+\*', line):
            return 'a jump without notrack'
    public = ['green_switch'] if cpu == 'x86_64' else []
    for name in ('green__arch_switch', 'green__arch_jump', 'green__arch_call_as', *public):
        first = functions.get(name, [''])[0]
        if bool(re.match(r'endbr64|bti\s+c|paciasp|pacibsp', first)) != pads:
            return f'{name} is no place to land, or is one for nothing'
    symbols = call([tools + 'readelf', '-sW', path])
    inner = ['green__arch_suspend'] if cpu == 'x86_64' else []
    for name in ('green__arch_switch', 'green__arch_switch_int', 'green__arch_jump', 'green__arch_entry',
                 'green__arch_call_as', *inner):
        found = re.search(rf'\s(\d+)\s+FUNC\s+GLOBAL\s+HIDDEN\s+\d+ {name}$', symbols, re.M)
        if not found or (found.group(1) == '0'):
            return f'{name} is no hidden function with a size'
    for name in public:
        if not re.search(rf'\s[1-9]\d*\s+FUNC\s+GLOBAL\s+PROTECTED\s+\d+ {name}$', symbols, re.M):
            return f'{name} is no function with a size that all may call'
    frames = call([tools + 'objdump', '-Wf', path])
    if set(re.findall(r'Augmentation:\s+"(\w+)"', frames)) != {'zR', 'zRS', 'zPRS'}:
        return 'the entry has no personality, or it or the call are not as signal frames'
    for name in ('green__arch_resumed', 'green__arch_entry_called', 'green__arch_ended'):
        if not re.search(rf' GLOBAL\s+HIDDEN\s+\d+ {name}$', symbols, re.M):
            return f'{name} is not hidden'
    sections = call([tools + 'readelf', '-SnW', path])
    if not re.search(r'\.note\.GNU-stack\s+PROGBITS\s+\S+ \S+ 0+ 00\s+0', sections):
        return 'it asks for an executable stack'
    wanted = r'x86 feature: IBT$' if cpu == 'x86_64' else r'AArch64 feature: BTI, PAC$'
    if bool(re.search(wanted, sections, re.M)) != pads:
        return 'the property note is not as it should be'
    return None


# ---- The inlined switch ----------------------------------------------------------------


def inlined(header, cpu):
    """Where its instructions stand in green_fast.h: numbers of lines."""
    lines = header.splitlines(keepends=True)
    start = next(i for i, line in enumerate(lines)
                 if re.match(r'#(el)?if defined\(__%s__\)' % cpu, line))
    start = next(i for i in range(start, len(lines))
                 if '__asm__ __volatile__("' in lines[i]
                 and '""' not in lines[i] and 'FRAME_POINTER' not in lines[i])
    found = []
    for i in range(start, len(lines)):
        text = re.search(r'"([^"]*)"', lines[i])
        if lines[i].lstrip().startswith(':'):
            break
        if text and not text.group(1).startswith('1:') and \
                text.group(1).strip() not in ('', 'notrack'):
            found.append(i)
    return lines, found


def inlined_mutants(header, cpu):
    lines, found = inlined(header, cpu)

    def text(i):
        return re.search(r'"([^"]*)"', lines[i]).group(1)

    def put(copy, i, instruction):
        end = '"1:\\n\\t"' if '1:' in instruction else None
        assert end is None
        copy[i] = lines[i].replace('"' + text(i) + '"', '"' + instruction + '"', 1)

    def body(i):
        return re.sub(r'(\\n|\\t)+$', '', text(i))

    def tail(i):
        return text(i)[len(body(i)):]

    for n, i in enumerate(found):
        copy = list(lines)
        put(copy, i, tail(i))
        yield Mutant('drop inlined: ' + body(i).replace('%%', '%'), ''.join(copy))
        if n + 1 < len(found) and body(found[n + 1]) != body(i):
            j = found[n + 1]
            copy = list(lines)
            put(copy, i, body(j) + tail(i))
            put(copy, j, body(i) + tail(j))
            yield Mutant(f'swap inlined: {body(i)} <> {body(j)}'.replace('%%', '%'), ''.join(copy))


# ---- All of them -------------------------------------------------------------------------


class Bench:
    def __init__(self, cpu, pads, dir):
        self.cpu, self.pads, self.dir = cpu, pads, dir
        os.mkdir(dir)
        cc, self.tools, with_pads, without, self.runner, self.seconds = CPUS[cpu]
        self.cc = os.environ.get('CC', cc).split() if cpu == os.uname().machine else [cc]
        self.options = ['-std=gnu11', '-O2', with_pads if pads else without, '-pthread',
                        f'-I{ROOT}/include', f'-I{ROOT}/src', f'-I{SUPPORT}']
        self.environment = {'GREEN_TEST_SLOW': '1'}

        # The library whole, but for what is mutated; and the tests.
        self.library = []
        for file in files(ROOT + '/src', '.c'):
            self.library.append(self.compiled(f'{ROOT}/src/{file}', *include(ROOT + '/src', file),
                                              '-fvisibility=hidden'))
        self.switch = self.compiled(ROOT + '/src/arch/switch.S')
        self.tests = {}
        registers = self.compiled(f'{SUPPORT}/registers.S')
        names = sorted(file[:-2] for file in os.listdir(f'{TESTS}/arch') if file.endswith('.c'))
        for name in [*names, 'test_fast_path']:
            self.tests[name] = [self.compiled(test_source(name)), registers]
        self.more = ['-lcmocka', '-lm']
        if cpu == 'aarch64' and pads:  # they count there
            self.more += [self.compiled(SUPPORT + '/enforce_bti.c'), '-Wl,--wrap=main', '-Wl,-z,now']
        call(['ar', 'rc', f'{dir}/libgreen.a', *self.library])

    def compiled(self, source, *options):
        output = f'{self.dir}/{os.path.relpath(source, ROOT).replace("/", "_").replace(".", "_")}.o'
        call([*self.cc, *self.options, *options, '-c', source, '-o', output])
        return output

    def runs(self, objects, output):
        """Whether a program of these can be linked and ends well."""
        if not compiles([*self.cc, *objects, f'{self.dir}/libgreen.a', *self.more, '-pthread',
                         '-o', output]):
            return False
        try:
            return run([*self.runner, output], self.environment, self.seconds)
        finally:
            os.unlink(output)

    def put_to_the_test(self, name, switch):
        """What the object of a mutant dies of, or None."""
        for test, objects in self.tests.items():
            if not self.runs([*objects, switch], f'{self.dir}/{name}.{test}'):
                return test
        return wrong_in(self.tools, self.cpu, self.pads, switch)

    def try_switch(self, numbered):
        number, mutant = numbered
        source, output = f'{self.dir}/m{number}.s', f'{self.dir}/m{number}.o'
        with open(source, 'w') as f:
            f.write('\n'.join(mutant.lines) + '\n')
        if not compiles([*self.cc, '-c', source, '-o', output]):
            return 'the assembler'
        if filecmp.cmp(output, self.unchanged, False):
            return None
        death = self.put_to_the_test(f'm{number}', output)
        os.unlink(output)
        return death

    def try_inlined(self, numbered):
        number, mutant = numbered
        include = f'{self.dir}/i{number}'
        os.makedirs(include, exist_ok=True)
        with open(f'{include}/green_fast.h', 'w') as f:
            f.write(mutant.lines)
        for level in ('-O2', '-O0'):
            output = f'{include}/test_fast.o'
            if not compiles([*self.cc, '-I' + include, *self.options, level,
                             '-c', test_source('test_fast'), '-o', output]):
                return 'the compiler'
            if not self.runs([output, self.switch], f'{include}/test_fast'):
                return 'test_fast' + level
        return None

    def lines(self):
        text = call([*self.cc, *self.options, '-E', ROOT + '/src/arch/switch.S'])
        return expand(text)

    def check_unchanged(self, lines):
        """That all passes as it is, and that to expand it changed nothing."""
        source, self.unchanged = f'{self.dir}/unchanged.s', f'{self.dir}/unchanged.o'
        with open(source, 'w') as f:
            f.write('\n'.join(lines) + '\n')
        call([*self.cc, '-c', source, '-o', self.unchanged])
        objdump = [self.tools + 'objdump', '-d', '-s', '-j', '.text', '-j', '.eh_frame']
        code = [call([*objdump, o]).split('\n', 3)[3] for o in (self.unchanged, self.switch)]
        if code[0] != code[1]:
            sys.exit('expanded by this program, switch.S is another one')
        death = self.put_to_the_test('unchanged', self.unchanged)
        if death:
            sys.exit(f'without any mutation: {death}')


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--every', type=int, default=1)
    parser.add_argument('--seed', default='1')
    parser.add_argument('--keep', action='store_true')
    parser.add_argument('--only', default='')
    parser.add_argument('cpu', nargs='?', choices=CPUS, default=os.uname().machine)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix='green-mutants.') as dir, \
            concurrent.futures.ThreadPoolExecutor(2 * os.cpu_count()) as pool:
        tries = collections.defaultdict(list)  # of each mutant, by its key: what may kill it
        for pads in True, False:
            bench = Bench(options.cpu, pads, f'{dir}/{pads}')
            lines = bench.lines()
            bench.check_unchanged(lines)
            for mutant in mutants_of(lines):
                tries[mutant.key].append((bench.try_switch, mutant))
            if pads:
                with open(ROOT + '/include/green_fast.h') as f:
                    for mutant in inlined_mutants(f.read(), options.cpu):
                        tries[mutant.key].append((bench.try_inlined, mutant))

        def attempt(job):
            number, key = job
            for put_to_the_test, mutant in tries[key]:
                death = put_to_the_test((number, mutant))
                if death:
                    return death
            return None

        report = Mutants(f'{HERE}/equivalent_{options.cpu}.txt', tries, options.keep)

        def is_drawn(key):
            digest = hashlib.sha256((options.seed + key).encode()).digest()
            return int.from_bytes(digest, 'big') % options.every == 0

        jobs = [(number, key) for number, key in enumerate(tries)
                if re.search(options.only, key) and is_drawn(key)]
        for job, death in zip(jobs, pool.map(attempt, jobs)):
            report.died(job[1], death, lambda: attempt(job))
    return report.end(f'mutants of the assembly, {options.cpu}: {len(jobs)} of one in '
                      f'{options.every} (seed {options.seed})')


if __name__ == '__main__':
    sys.exit(main())
