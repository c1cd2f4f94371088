#!/bin/sh
# SPDX-License-Identifier: MIT
. "$(dirname "$0")/example.sh"

# letters: those that it produced.
letters()
{
    sed -n 's/^Produced: //p' "$dir/out" | tr -d '\n'
}

# by_turns N: N times something was produced, and then consumed.
by_turns()
{
    [ "$result" = 0 ] && awk -v n="$1" '
        { bad = bad || $1 != (NR % 2 ? "Produced:" : "Consumed:") || $2 !~ /^[a-e]$/ || NF != 2 }
        NR % 2 == 0 && $2 != item { bad = 1 }
        { item = $2 }
        END { exit bad || NR != 2 * n }' "$dir/out"
}

run -n 3 -i 0 -s 1
check 'both say what they do, by turns' gives 0 'Produced: a
Consumed: a
Produced: e
Consumed: e
Produced: a
Consumed: a'
run -n 1000 -i 0
check 'a thousand, without a pause' by_turns 1000
run -n 4 -i 0.01
check 'and with one' by_turns 4
run
check 'ten, unless told otherwise' by_turns 10
run -n 20 -i 0 -s 4711
one=$(letters)
run -n 20 -i 0 -s 4712
two=$(letters)
run -n 20 -i 0 -s 4711
check 'the seed decides the letters' test "$one" = "$(letters)" -a "$one" != "$two"
for bad in '-n x' '-n' '-i -1' '-i nan' '-s x' '-x' 'file'; do
    run $bad
    check "'$bad' is refused" refuses 2 usage
done
check 'output that is lost is an error' has_no_room -n 10 -i 0
exit $status
