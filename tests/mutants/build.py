# SPDX-License-Identifier: MIT
"""
Builds the library in pieces, so that what is changed in one place is compiled
in that place only.  For the programs of this directory.
"""
import contextlib
import glob
import os
import shlex
import shutil
import subprocess
import sys
import tempfile

from source import Missing, ROOT, Source, files

TESTS = os.path.join(ROOT, 'tests')
SUPPORT = os.path.join(TESTS, 'support')

UNWOUND = ['test_unwinding', 'test_abandon_anywhere', 'test_told_asan', 'test_hub_afterwards',
           'test_hub_end']
PLAYER = ['play', 'play_log', 'model']  # what tests/random/ is made of, beside its programs
HUB_PLAYER = ['hub_play', 'play_log', 'hub_model']  # the same of its programs of the hub


def test_source(name):
    """The file of a test, wherever it is below tests/."""
    found = [path for end in ('.c', '.cpp')
             for path in glob.glob(f'{TESTS}/**/{name}{end}', recursive=True)]
    if len(found) != 1:
        sys.exit(f'{len(found)} sources of {name}: {found}')
    return found[0]


def include(src, file):
    """Where the private headers of a file of src/ are looked for, wherever a copy of it lies."""
    return ['-iquote', os.path.dirname(os.path.join(src, file)), '-I' + src]


def run(command, environment=None, seconds=20):
    """Whether a program ends well; it may print what it likes, and hang."""
    env = dict(os.environ)
    env.update(environment or {})
    process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               start_new_session=True)
    try:
        return process.wait(seconds) == 0
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)  # it may have children
        process.wait()
        return False


def call(command, **more):
    """A command that must work."""
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            **more)
    if result.returncode != 0:
        sys.exit(f'{shlex.join(command)}\n{result.stdout}')
    return result.stdout


def compiles(command):
    result = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return result.returncode == 0


class Library:
    """libgreen as objects, an archive and a shared library, and programs on it."""

    def __init__(self):
        self.cc = shlex.split(os.environ.get('CC', 'cc'))
        self.options = ['-std=gnu11', '-O1', '-fPIC', '-pthread',
                        '-I' + os.path.join(ROOT, 'include'), '-I' + SUPPORT]
        self.nodelete = '-Wl,-z,nodelete'
        self.programs = {}

    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix='green-mutants.')
        self.shared = os.path.join(self.dir, 'libgreen.so')
        self.src = os.path.join(self.dir, 'src')
        shutil.copytree(os.path.join(ROOT, 'src'), self.src)
        # The same list as CMakeLists.txt has: all there are.
        self.files = [*files(self.src, '.c'), 'arch/switch.S']
        for file in self.files:
            self.compile(file)
        self.registers = os.path.join(self.dir, 'registers.o')
        call([*self.cc, '-c', os.path.join(SUPPORT, 'registers.S'), '-o', self.registers])
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.dir)

    def object(self, file):
        return os.path.join(self.dir, file.replace('/', '_') + '.o')

    def command(self, file, output, source=None):
        """source: what is compiled in the place of that file."""
        return [*self.cc, *self.options, *include(self.src, file), '-fvisibility=hidden',
                '-c', source or os.path.join(self.src, file), '-o', output]

    def compile(self, file):
        call(self.command(file, self.object(file)))

    def link_shared(self, output=None, instead=None):
        """instead: {file: object}"""
        objects = [(instead or {}).get(file, self.object(file)) for file in self.files]
        call([*self.cc, '-shared', *self.nodelete.split(), *objects, '-pthread',
              '-o', output or self.shared])

    def program(self, name, others=()):
        """Compiles a test, and others for it.  They are linked by link()."""
        source = test_source(name)
        objects = [os.path.join(self.dir, name + '.o')]
        if source.endswith('.cpp'):
            call(['c++', *self.options[1:], '-std=c++11', '-c', source, '-o', objects[0]])
            self.programs[name] = objects + ['-lstdc++']
            return
        # As in tests/CMakeLists.txt.
        unwound = ['-fexceptions'] if name in UNWOUND else []
        call([*self.cc, *self.options, *unwound, '-c', source, '-o', objects[0]])
        for other in others:
            objects.append(os.path.join(self.dir, other + '.o'))
            call([*self.cc, *self.options, '-c', test_source(other), '-o', objects[-1]])
        self.programs[name] = objects

    def link(self, *names):
        """Links programs with the objects, and the shared library; all if none is named."""
        objects = [self.object(file) for file in self.files]
        for name in names or self.programs:
            own = [] if name == 'load_library' else objects
            call([*self.cc, *self.programs[name], self.registers, *own, '-pthread', '-lcmocka', '-lm', '-ldl',
                  '-o', os.path.join(self.dir, name)])
        self.link_shared()

    def keep_whole(self):
        """Keeps the library as it is, for prints_what_fails()."""
        self.whole = os.path.join(self.dir, 'whole.a')
        call(['ar', 'rcs', self.whole, *[self.object(file) for file in self.files]])

    def prints_what_fails(self, command):
        """Whether it prints a C program that fails with this library and not with the whole one."""
        source = os.path.join(self.dir, 'printed.c')
        with open(source, 'w') as f:
            subprocess.run(command, stdout=f, stderr=subprocess.DEVNULL, timeout=300)
        objects = [self.object(file) for file in self.files]
        for name, linked in ('broken', objects), ('unbroken', [self.whole]):
            call([*self.cc, *self.options, '-Werror', '-Wall', '-Wextra', source, *linked,
                  '-pthread', '-o', os.path.join(self.dir, name)])
        return (not run([os.path.join(self.dir, 'broken')], None, 60)
                and run([os.path.join(self.dir, 'unbroken')], None, 60))

    @contextlib.contextmanager
    def broken(self, place, old, new):
        """For a while, a place in src/ (see source.py) in which old has become new; or the link."""
        if place == 'link':
            was = self.nodelete
            self.nodelete = was.replace(old, new)
            if self.nodelete == was:
                sys.exit(f'the link has no {old!r}')
            yield
            self.nodelete = was
            return
        try:
            file, text = Source(self.src).replaced(place, old, new)
        except Missing as missing:
            sys.exit(str(missing))
        path = os.path.join(self.src, file)
        with open(path) as f:
            whole = f.read()
        who = [file] if file.endswith('.c') else ['arch/switch.S'] if file.endswith('.S') \
            else self.files
        try:
            with open(path, 'w') as f:
                f.write(text)
            for each in who:
                self.compile(each)
            yield
        finally:
            with open(path, 'w') as f:
                f.write(whole)
            for each in who:
                self.compile(each)
