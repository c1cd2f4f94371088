#!/bin/sh
# SPDX-License-Identifier: MIT
. "$(dirname "$0")/example.sh"

run -v 300 100 100
check 'results come in the order of completion' gives 0 'job 2, of 100 ms
job 3, of 100 ms
job 1, of 300 ms
3 of 3 done'
run -v -w 1 300 100 200
check 'one worker does one after the other' gives 0 'job 1, of 300 ms
job 2, of 100 ms
job 3, of 200 ms
3 of 3 done'
run -v -w 3 300 100 200
check 'three do three at a time' gives 0 'job 2, of 100 ms
job 3, of 200 ms
job 1, of 300 ms
3 of 3 done'
run -v -w 10 5
check 'more workers than jobs' gives 0 'job 1, of 5 ms
1 of 1 done'
run -v 1000000 100 0 x 100
check 'the first failure stops all' gives 1 'job 2, of 100 ms
job 3, of 0 ms
job 4: Invalid argument
2 of 5 done, the rest was given up'
run 20 10 0
check 'without virtual time it takes its time, and all are done' gives 0 "$(
    sed '$d' "$dir/out")
3 of 3 done"
check 'each of them' test "$(sed '$d' "$dir/out" | sort | xargs)" = \
    'job 1, of 20 ms job 2, of 10 ms job 3, of 0 ms'
run
check 'no jobs are too few' refuses 2 usage
run -w 0 1
check 'no workers, too' refuses 2 usage
check 'output that is lost is an error' has_no_room -v 1
exit $status
