# SPDX-License-Identifier: MIT
"""What coverage.sh has measured against coverage_exceptions.txt.

    coverage.py COVERAGE.json

Fails if a line or a branch was not taken and is not excepted, and if an
excepted line is gone.
"""
import json
import os
import sys

here = os.path.dirname(os.path.abspath(__file__))
root = os.path.dirname(os.path.dirname(here))


def read_exceptions():
    """The (file, text of the line) that are excepted; a row: file | text | reason."""
    exceptions = set()
    with open(os.path.join(here, "coverage_exceptions.txt")) as rows:
        for row in rows:
            if row.strip() and not row.startswith("#"):
                file, rest = row.split(" | ", 1)
                text, reason = rest.rsplit(" | ", 1)
                assert reason.strip(), row
                exceptions.add((file.strip(), text.strip()))
    return exceptions


def main():
    exceptions = read_exceptions()
    there = set()
    mend = lines = branches = 0
    with open(sys.argv[1]) as report:
        files = json.load(report)["files"]
    for file in files:
        with open(os.path.join(root, file["file"])) as source:
            text = [line.strip() for line in source]
        there.update((file["file"], line) for line in text)
        for line in file["lines"]:
            if line["gcovr/noncode"]:
                continue
            taken = [branch["count"] for branch in line["branches"]]
            lines += 1
            branches += len(taken)
            key = (file["file"], text[line["line_number"] - 1])
            if (line["count"] > 0 and all(taken)) or key in exceptions:
                continue
            mend += 1
            what = (f"{taken.count(0)} of {len(taken)} branches not taken" if line["count"] > 0
                    else "not executed")
            print(f"{file['file']}:{line['line_number']}: {what}: {key[1]}")
    for file, text in sorted(exceptions - there):
        mend += 1
        print(f"excepted, but gone: {file}: {text}")
    print(f"coverage: {lines} lines, {branches} branches, "
          f"{len(exceptions)} lines excepted, {mend} to mend")
    return mend != 0 or lines < 1000


sys.exit(main())
