#!/bin/sh
# SPDX-License-Identifier: MIT
. "$(dirname "$0")/example.sh"

run
check 'three letters have six orders' gives 0 'abc
acb
bac
bca
cba
cab
6'
run ''
check 'no letters have one order' gives 0 '
1'
run abcdef
check 'six letters have 720' gives 0 "$(cat "$dir/out")"
check 'and no two of these are the same' \
    test "$(sed '$d' "$dir/out" | sort -u | grep -c '^[a-f]\{6\}$')" = 720
run abcdefghijklmnopqrstuvwxyzabcdefghijkl
check 'too many are refused' refuses 2 usage
check 'output that is lost is an error' has_no_room abc
exit $status
