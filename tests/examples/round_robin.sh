#!/bin/sh
# SPDX-License-Identifier: MIT
. "$(dirname "$0")/example.sh"

run 1234
check 'tasks end after 1 to 10 rounds' gives 0 "1234 tasks, $((123 * 55 + 1 + 2 + 3 + 4)) rounds"
check 'without a terminal there is no progress to see' test ! -s "$dir/err"
if grep -q __tsan_init "$program"; then
    echo "skipped: a hundred thousand (ThreadSanitizer knows at most 8,128)"
elif [ -n "${GREEN_TEST_SLOW:-}" ]; then
    run 10000
    check 'ten thousand' gives 0 '10000 tasks, 55000 rounds'
else
    run
    check 'a hundred thousand' gives 0 '100000 tasks, 550000 rounds'
    check 'in silence, too' test ! -s "$dir/err"
fi
if script -qec true /dev/null </dev/null >"$dir/found" 2>&1; then
    # Under script(1) it has a terminal.
    ran=script
    result=0
    timeout 100 script -qec "$launcher '$program' 50" /dev/null \
        </dev/null >"$dir/terminal" 2>&1 || result=$?
    tr '\r' '\n' <"$dir/terminal" >"$dir/out"
    check 'on a terminal a line says how far they are' \
        grep -x '50 of 50 tasks have ended, after 275 rounds' "$dir/out"
    check 'and the result is printed' grep -x '50 tasks, 275 rounds' "$dir/out"
else
    echo "skipped: on a terminal: $(tail -n 1 "$dir/found")"
fi
run 0
check 'no tasks are too few' refuses 2 usage
check 'output that is lost is an error' has_no_room 10
exit $status
