#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
Shows at once, before any of them is tried, that all seeds and exceptions name
something that is there: see source.py.

    tests/mutants/names.py
"""
import os
import sys

import c
import rules
import seeded
from report import Report
from source import Missing, ROOT, Source


def main():
    report, source = Report(), Source()
    tables = [seeded.SEEDS, seeded.FUZZED, *(test[-1] for test in rules.TESTED)]
    seeds = [seed[-3:] for table in tables for seed in table if seed[-3] != 'link']
    for place, old, new in seeds:
        try:
            source.replaced(place, old, new)
        except Missing as missing:
            report.failed(f'a seed: {missing}')
    lines = {key for file in source.texts for key in source.keys(file)}
    mutants = {mutant.key for mutant in c.mutants_of(source, c.chosen(source, []))}
    named = len(seeds)
    for path, there in (('tests/tools/coverage_exceptions.txt', lines),
                        ('tests/mutants/equivalent_c.txt', mutants)):
        exceptions = report.read_exceptions(os.path.join(ROOT, path))
        named += len(exceptions)
        for key in sorted(exceptions.keys() - there):
            report.failed(f'{path} has what is no more: {key}')
    print(f'names: {named} of seeds and exceptions, {report.failures} failures')
    return report.failures != 0 or named < 100


if __name__ == '__main__':
    sys.exit(main())
