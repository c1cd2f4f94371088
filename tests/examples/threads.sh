#!/bin/sh
# SPDX-License-Identifier: MIT
. "$(dirname "$0")/example.sh"

for threads in 7 1 2 64; do
    run $threads
    check "$threads threads find what one does" \
        gives 0 "9592 primes below 100000, found by $threads threads"
    [ -z "$launcher" ] || break # it takes its time
done
run
check 'as many as there are cores' \
    grep -E '^9592 primes below 100000, found by [1-9][0-9]* threads$' "$dir/out"
run 3 100
check 'a limit' gives 0 '25 primes below 100, found by 3 threads'
run 0
check 'no threads are too few' refuses 2 usage
check 'output that is lost is an error' has_no_room 1 100
exit $status
