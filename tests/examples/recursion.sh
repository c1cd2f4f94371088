#!/bin/sh
# SPDX-License-Identifier: MIT
. "$(dirname "$0")/example.sh"

run
check 'it ends well' test "$result" = 0
faults='Segmentation fault|Bus error|Aborted'
check 'some items are made by functions, and then there is a fault' \
    grep -E "^as functions: [0-9]{2,5} items, then: ($faults|it ended by itself)\$" "$dir/out"
check 'the report says whose stack it was' \
    grep 'libgreen: stack overflow in green "recursion" (0x[0-9a-f]*): [0-9]* bytes of stack' \
    "$dir/err"
check 'greens make a million on less than a page' \
    grep -E '^as greens: 1000000 items, and [0-9]{2,4} bytes of stack in use$' "$dir/out"
check 'and that is all' test "$(wc -l <"$dir/out")" = 2
check 'output that is lost is an error' has_no_room
exit $status
