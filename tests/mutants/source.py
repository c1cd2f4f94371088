# SPDX-License-Identifier: MIT
"""
Finds places in src/ by the names that stand there: of a function, in whichever
file it is.  What is written down about the library's code (seeds, exceptions)
names functions and texts in them, never files or lines.
"""
import collections
import glob
import os
import re

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# A function: from its signature's first line to its last brace, in characters.
Function = collections.namedtuple('Function', 'name file start body end')


class Missing(Exception):
    """There is no such place, or not just one."""


def files(src, *ends):
    """Names below src, sorted."""
    return sorted(os.path.relpath(path, src) for path in glob.glob(src + '/**/*', recursive=True)
                  if path.endswith(ends))


def read(src, file):
    with open(os.path.join(src, file)) as f:
        return f.read()


def without_comments(text):
    """The same text with comments and strings blank, so that places stay."""
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(\\.|[^"\\\n])*"',
                  lambda match: re.sub(r'[^\n]', ' ', match.group(0)), text, flags=re.S)


def functions_of(file, text):
    """Those of a C file: a body begins and ends with a brace at the start of a line."""
    code = without_comments(text)
    for match in re.finditer(r'^\{\n.*?^\}', code, re.M | re.S):
        start = max(code.rfind(end, 0, match.start()) for end in (';\n', '}\n', '\n\n', '\n#'))
        if code[start:start + 2] == '\n#':
            start = code.index('\n', start + 1) - 1
        start += 2
        signature = code[start:match.start()].rstrip()
        depth, at = 0, len(signature)
        while signature.endswith(')'):  # the arguments are the last that is in brackets
            at -= 1
            depth += {')': 1, '(': -1}.get(signature[at], 0)
            if depth == 0:
                break
        name = re.search(r'(\w+)\s*$', signature[:at])
        if signature.endswith(')') and name:
            yield Function(name.group(1), file, start + len(code[start:]) - len(code[start:].lstrip()),
                           match.start(), match.end())


class Source:
    """A tree like src/, as it is now."""

    def __init__(self, src=os.path.join(ROOT, 'src')):
        self.src = src
        self.texts = {file: read(src, file) for file in files(src, '.c', '.h', '.S')}
        self.functions = collections.defaultdict(list)
        for file, text in self.texts.items():
            if not file.endswith('.S'):
                for function in functions_of(file, text):
                    self.functions[function.name].append(function)

    def regions(self, place):
        """(file, start, end) of what is called so: a function, `#define NAME`, `CPU/switch.S`."""
        if place.startswith('#define '):
            pattern = re.compile(re.escape(place) + r'\b.*$', re.M)
            return [(file, match.start(), match.end()) for file, text in self.texts.items()
                    for match in pattern.finditer(text)]
        if place.endswith('.S'):
            return [(file, 0, len(text)) for file, text in self.texts.items()
                    if ('/' + file).endswith('/' + place)]
        return [(function.file, function.start, function.end)
                for function in self.functions.get(place, [])]

    def replaced(self, place, old, new):
        """(file, its text in which old has become new at that place)."""
        found = []
        for file, start, end in self.regions(place):
            text = self.texts[file]
            found += [(file, text, start + match.start())
                      for match in re.finditer(re.escape(old), text[start:end])]
        if len(found) != 1:
            others = [each for each in self.functions if each != place
                      for file, start, end in self.regions(each) if old in self.texts[file][start:end]]
            raise Missing(f'{place} has {len(found)} of {old!r}, others that do: {others}')
        file, text, at = found[0]
        return file, text[:at] + new + text[at + len(old):]

    def keys(self, file):
        """Of each line `FUNCTION: its text`, with #2 behind it if it is the second such there."""
        text = self.texts[file]
        names = [''] * (text.count('\n') + 1)
        for each in (each for those in self.functions.values() for each in those):
            if each.file == file:
                first = text.count('\n', 0, each.start)
                last = text.count('\n', 0, each.end)
                names[first:last + 1] = [each.name] * (last + 1 - first)
        seen = collections.Counter()
        keys = []
        for name, line in zip(names, text.split('\n')):
            key = f'{name}: {line.strip()}'
            seen[key] += 1
            keys.append(key if seen[key] == 1 else f'{key} #{seen[key]}')
        return keys
