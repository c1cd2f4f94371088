#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The tables are those of a program that knows no tasks: it takes the customers one by one,
# in the order in which they come, and notes until when each teller is busy.
. "$(dirname "$0")/example.sh"

run -c 1000 -t 6 -s 2
check 'a thousand customers, and six tellers' gives 0 \
' from   came served   left  mean wait    longest
 9:00     36     36      0    0.0 min    0.0 min
10:00     84     84      0    0.0 min    0.4 min
11:00    153    153      0    0.8 min    3.7 min
12:00    230    218     12    7.1 min   15.0 min
13:00    212    175     37   14.2 min   15.0 min
14:00    152    152      0   10.5 min   14.2 min
15:00    102    102      0    1.4 min    5.9 min
16:00     31     31      0    0.1 min    1.3 min
  all   1000    951     49    6.2 min   15.0 min'
cp "$dir/out" "$dir/table"
run -c 1000 -t 6 -s 2
check 'the same seed gives the same numbers' cmp "$dir/table" "$dir/out"
run -c 1000 -t 6 -s 3
check 'another seed, others' test "$(tail -n 1 "$dir/table")" != "$(tail -n 1 "$dir/out")"
run -c 1000 -t 100
check 'with a hundred tellers nobody waits' test "$(tail -n 1 "$dir/out")" = \
    '  all   1000   1000      0    0.0 min    0.0 min'
run -c 1 -t 1
check 'one and one' test "$(tail -n 1 "$dir/out")" = \
    '  all      1      1      0    0.0 min    0.0 min'
if grep -q __tsan_init "$program"; then
    echo "skipped: ten thousand (ThreadSanitizer knows at most 8,128)"
else
    run
    check 'ten thousand in a day' gives 0 \
' from   came served   left  mean wait    longest
 9:00    303    303      0    0.0 min    0.0 min
10:00    933    933      0    0.0 min    0.0 min
11:00   1584   1584      0    0.3 min    1.4 min
12:00   2100   2100      0    5.2 min   11.6 min
13:00   2166   1875    291   14.4 min   15.0 min
14:00   1586   1586      0   12.0 min   14.6 min
15:00    996    996      0    1.4 min    7.2 min
16:00    332    332      0    0.0 min    0.0 min
  all  10000   9709    291    6.0 min   15.0 min'
fi
for bad in '-c 0' '-t 0' '-x' 'file'; do
    run $bad
    check "'$bad' is refused" refuses 2 usage
done
check 'output that is lost is an error' has_no_room -c 10
exit $status
