# SPDX-License-Identifier: MIT
"""
What the programs of this directory, and coverage.py, take as excepted, and what
they say in the end.

A file of exceptions has a key on a line of its own, and below it, or below
several that stand together, the reason, indented.  # begins a remark.
"""
import collections


class Report:
    """Counts failures, and prints each."""

    def __init__(self):
        self.failures = 0

    def failed(self, what):
        print('FAILED:', what, flush=True)
        self.failures += 1

    def read_exceptions(self, path):
        """{key: reason} of a file of exceptions; a key without a reason fails, and the reverse."""
        exceptions, waiting, reason = {}, [], None
        with open(path) as f:
            lines = f.read().splitlines()
        for line in [*lines, '']:
            if line.startswith('#'):
                continue
            if line.startswith(' '):
                if not waiting:
                    self.failed(f'a reason for nothing: {line.strip()}')
                reason = f'{reason or ""} {line.strip()}'.strip()
                continue
            if reason or not line:  # the end of those that stand together
                for key in waiting:
                    if not reason:
                        self.failed(f'excepted without a reason: {key}')
                    exceptions[key] = reason or ''
                waiting, reason = [], None
            if line:
                if line in exceptions or line in waiting:
                    self.failed(f'excepted twice: {line}')
                waiting.append(line)
        return exceptions


class Mutants(Report):
    """The deaths of mutants, those that are excepted among them."""

    def __init__(self, path, there, keep=False):
        """there: the keys of all mutants that there are.  keep: each death is said."""
        super().__init__()
        self.excepted = self.read_exceptions(path)
        self.keep = keep
        self.killers = collections.Counter()
        self.survivors = 0
        for key in sorted(self.excepted.keys() - set(there)):
            self.failed(f'excepted, but there is no such mutant any more: {key}')

    def died(self, key, death, again):
        """
        What it died of, None if it lives.  again(): the same, tried once more, for those that
        should live: on a busy machine a test may take too long.
        """
        if death and key in self.excepted:
            death = again()
        if death:
            self.killers[death] += 1
            if self.keep:
                print(f'{death}: {key}', flush=True)
            if key in self.excepted:
                self.failed(f'excepted, but killed by {death}: {key}')
        elif key in self.excepted:
            self.survivors += 1
        else:
            self.failed(f'survives: {key}')

    def end(self, title):
        by = ', '.join(f'{n} by {death}' for death, n in self.killers.most_common(4))
        print(f'{title}, {sum(self.killers.values())} killed ({by}), '
              f'{self.survivors} equivalent, {self.failures} failures')
        return self.failures != 0
