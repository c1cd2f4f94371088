#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Repeats every test until the process stands still: the library's counters,
# mappings, what is allocated and what is resident (see testing.h).
#
#     tests/tools/leaks.sh BUILD-DIRECTORY [TIMES]
#
# TIMES: after so many repetitions a test that still grows has a leak (100: each
# thread of the pool keeps what it has freed for itself at first).
. "$(dirname "$0")/../support/script.sh"
build=$1
GREEN_TEST_LEAKS=${2:-100} GREEN_TEST_SLOW=1
export GREEN_TEST_LEAKS GREEN_TEST_SLOW

programs=$(find "$build/tests" -maxdepth 1 -type f -perm -u+x -name 'test_*' ! -name 'test_fast_*')
[ -n "$programs" ] || { echo "there are no tests in $build/tests"; exit 1; }

# Only those that know of it: not the ones without cmocka.
echo "$programs" | while read -r program; do
    ! grep -q GREEN_TEST_LEAKS "$program" || echo "$program"
done > "$dir/programs"
xargs -P "$(nproc)" -I '{}' sh -c '
    name=$1/$(basename "$2")
    timeout 300 "$2" > "$name.log" 2>&1 || touch "$name.failed"
' sh "$dir" '{}' < "$dir/programs"

for failed in "$dir"/*.failed; do
    [ -e "$failed" ] || continue
    echo "FAILED: $(basename "$failed" .failed)"
    grep -vE '^(\[( RUN  |       OK|  PASSED|=====)|still)' "${failed%.failed}.log" | tail -n 12
done
cat "$dir"/*.log | awk -v programs="$(wc -l < "$dir/programs")" '
    / after [0-9]+ times, / {
        match($0, / after [0-9]+ /)
        times += substr($0, RSTART + 7, RLENGTH - 8)
        tests++
        if (/^LEAKS/) leaks++
    }
    END {
        printf "leaks: %d programs, %d tests, repeated %d times: %d leak\n",
            programs, tests, times, leaks
    }'
! ls "$dir"/*.failed > /dev/null 2>&1
