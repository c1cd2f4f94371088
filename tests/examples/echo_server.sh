#!/bin/sh
# SPDX-License-Identifier: MIT
. "$(dirname "$0")/example.sh"
. "$(dirname "$0")/server.sh"
needs socat

# echoed FILE: it comes back as it is, and then the end.
echoed()
{
    timeout 60 socat -t 60 - "TCP:127.0.0.1:$port" <"$1" >"$dir/back" && cmp "$1" "$dir/back"
}

# together N: so many clients at once have what they sent.
together()
{
    clients=
    for i in $(seq "$1"); do
        (echo "I am $i" | timeout 60 socat -t 60 - "TCP:127.0.0.1:$port" | grep -qx "I am $i") &
        clients="$clients $!"
    done
    for client in $clients; do
        wait "$client" || return
    done
}

start -p 0 -n 5
echo hello >"$dir/line"
check 'a line comes back' echoed "$dir/line"
head -c 3000000 /dev/urandom >"$dir/bytes"
check 'three million bytes come back' echoed "$dir/bytes"
check 'twenty clients, five at a time' together 20

# Two that wait when the signal comes; a fifo each keeps their inputs open.
mkfifo "$dir/hold1" "$dir/hold2"
timeout 60 socat -t 60 - "TCP:127.0.0.1:$port" <"$dir/hold1" >"$dir/told1" &
one=$!
timeout 60 socat -t 60 - "TCP:127.0.0.1:$port" <"$dir/hold2" >"$dir/told2" &
two=$!
exec 8>"$dir/hold1" 9>"$dir/hold2"
echo 1st >&8
echo 2nd >&9
check 'both are there' until_true grep 1st "$dir/told1"
check 'both are there' until_true grep 2nd "$dir/told2"
stop INT
check 'it ends well' gives 0 "echo_server: listens on port $port
echo_server: goodbye, after 24 clients and $((3000000 + 6 + 9 * 7 + 11 * 8 + 2 * 4)) bytes"
exec 8>&- 9>&-
wait "$one" "$two"
check 'the first is told' test "$(tail -n 1 "$dir/told1")" = goodbye
check 'the second is told' test "$(tail -n 1 "$dir/told2")" = goodbye

start -p 0 -t 1
timeout 60 socat -u "TCP:127.0.0.1:$port" - >"$dir/told" &
check 'who says nothing is told, too' until_true grep goodbye "$dir/told"
busy=$port
run -p "$busy"
check 'a port that is taken' refuses 1 'Address already in use'
stop TERM
check 'SIGTERM does the same' test "$result" = 0
for bad in '-n 0' '-n x' '-t' '-x' 'file'; do
    run $bad
    check "'$bad' is refused" refuses 2 usage
done
exit $status
