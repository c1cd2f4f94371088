#!/bin/sh
# SPDX-License-Identifier: MIT
#
# With a server of its own, or else it is skipped: see tests/patch/servers.sh.
if [ -z "${GREEN_POSTGRES_PORT:-}" ]; then
    exec sh "$(dirname "$0")/../patch/servers.sh" postgres sh "$0" "$@"
fi
. "$(dirname "$0")/example.sh"
case $launcher in
*qemu*) echo 'skipped: QEMU has no libpq to run'; exit 77 ;;
esac
info="host=127.0.0.1 port=$GREEN_POSTGRES_PORT user=green dbname=postgres"

# seconds ARGUMENT...: as run, and how long that took, in tenths.
seconds()
{
    begin=$(date +%s%N)
    run "$@"
    took=$((($(date +%s%N) - begin) / 100000000))
}

# faster_than_by_turns: twenty queries took less than a half of 20 times 0.2 s; on a machine that
# is busy with others it may not be so the first time.
faster_than_by_turns()
{
    for try in 1 2 3 4 5; do
        seconds "$info"
        [ "$result" = 0 ] || return
        [ $took -ge 20 ] || return 0
    done
    return 1
}

run "$info"
check 'twenty squares' gives 0 '20 of 20, the sum of the squares is 2870'
check 'without a terminal there is no progress to see' test ! -s "$dir/err"
check 'all in less time than one after the other' faster_than_by_turns
run -n 100 "$info"
check 'a hundred, twenty at a time' gives 0 '100 of 100, the sum of the squares is 338350'
run -n 3 'host=127.0.0.1 port=1'
check 'nobody listens there' refuses 1 'refused'
check 'and it says how many had an answer' test "$(cat "$dir/out")" = \
    '0 of 3, the sum of the squares is 0'
if script -qec true /dev/null </dev/null >"$dir/found" 2>&1; then
    ran=script
    result=0
    timeout 100 script -qec "$launcher '$program' '$info'" /dev/null \
        </dev/null >"$dir/terminal" 2>&1 || result=$?
    tr '\r' '\n' <"$dir/terminal" >"$dir/out"
    check 'on a terminal a line says how far they are' grep -x '20 of 20, after [0-9.]* s' "$dir/out"
    check 'and it begins with none' grep -x '0 of 20, after [0-9.]* s' "$dir/out"
else
    echo "skipped: on a terminal: $(tail -n 1 "$dir/found")"
fi
for bad in '' '-n 0 x' '-x' 'a b'; do
    run $bad
    check "'$bad' is refused" refuses 2 usage
done
check 'output that is lost is an error' has_no_room "$info"
exit $status
