# SPDX-License-Identifier: MIT
"""What coverage.sh has measured against coverage_exceptions.txt.

    coverage.py COVERAGE.json

Of the hub and of the patch so many percent of the lines must be executed; their exceptions
are not listed.
In all else it fails if a line or a branch was not taken and is not excepted, and if an excepted
line is gone, or was taken though no reason says that it may be.  A line is named by
its function and its text, the second of the same in a function with #2 behind it.
"""
import json
import os
import sys

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(here), 'mutants'))

from report import Report
from source import ROOT, Source

AT_TIMES = 'at times:'
LEAST_OF = {'hub': 90, 'patch': 88} # per cent of the lines


def main():
    report = Report()
    exceptions = report.read_exceptions(os.path.join(here, 'coverage_exceptions.txt'))
    source = Source()
    seen = set()
    lines = branches = 0
    counts_of = {part: [] for part in LEAST_OF}
    with open(sys.argv[1]) as f:
        files = json.load(f)['files']
    for file in files:
        name = os.path.relpath(os.path.join(ROOT, file['file']), source.src)
        part = name.split('/')[0]
        if part in LEAST_OF:
            counts_of[part] += [line['count'] for line in file['lines']
                                if not line['gcovr/noncode']]
            continue
        keys = source.keys(name)
        for line in file['lines']:
            if line['gcovr/noncode']:
                continue
            taken = [branch['count'] for branch in line['branches']]
            lines += 1
            branches += len(taken)
            key = keys[line['line_number'] - 1]
            if line['count'] > 0 and all(taken):
                if not exceptions.get(key, AT_TIMES).startswith(AT_TIMES):
                    report.failed(f'excepted, but taken: {key}')
            elif key not in exceptions:
                what = (f'{taken.count(0)} of {len(taken)} branches not taken'
                        if line['count'] > 0 else 'not executed')
                report.failed(f"{file['file']}:{line['line_number']}: {what}: {key}")
            seen.add(key)
    for key in sorted(exceptions.keys() - seen):
        report.failed(f'excepted, but gone: {key}')
    for part, least in LEAST_OF.items():
        counts = counts_of[part]
        percent = 100 * (len(counts) - counts.count(0)) / max(len(counts), 1)
        print(f'coverage: of the {part} {percent:.1f} % of {len(counts)} lines, {least} must be')
        if percent < least:
            report.failed(f'the tests of the {part} execute too little of it')
    print(f'coverage: {lines} lines, {branches} branches, '
          f'{len(exceptions)} lines excepted, {report.failures} to mend')
    return report.failures > 0 or lines < 1000


sys.exit(main())
