#!/bin/sh
# SPDX-License-Identifier: MIT
. "$(dirname "$0")/example.sh"
. "$(dirname "$0")/server.sh"
needs curl socat
echo_server=$(dirname "$program")/echo_server
socat='timeout 60 socat -t 60'

# The port that is given to a server of ours, or of socat's, in a file that it writes.
port_in()
{
    until_true grep -q 'listen.* port \|listening on' "$1"
    sed -n 's/.*listens on port //p; s/.*listening on .*:\([0-9]*\)$/\1/p' "$1" | head -n 1
}

timeout --foreground -k 5 120 $launcher "$echo_server" -p 0 >"$dir/echo" 2>"$dir/echo.err" &
servers=$!
target=$(port_in "$dir/echo")

# What a client of curl's sees at $1 is a reset, and not an end that looks like a good one.
is_reset()
{
    code=0
    curl -sS -m 60 "$1" </dev/null >"$dir/back" 2>"$dir/told" || code=$?
    [ "$code" = 56 ] || { [ "$code" = 7 ] && grep -v refused "$dir/told"; }
}

start -p 0 127.0.0.1 "$target"
head -c 3000000 /dev/urandom >"$dir/bytes"
$socat - "TCP:127.0.0.1:$port" <"$dir/bytes" >"$dir/back"
check 'three million bytes, there and back' cmp "$dir/bytes" "$dir/back"
clients=
for i in $(seq 30); do
    (echo "I am $i" | $socat - "TCP:127.0.0.1:$port" | grep -qx "I am $i") &
    clients="$clients $!"
done
result=0
for client in $clients; do
    wait "$client" || result=1
done
check 'thirty at once' test "$result" = 0
stop INT
check 'it ends well' ends_well

# A target that reads all, to its end, and answers only then.
timeout 60 socat -d -d -t 60 TCP-LISTEN:0,bind=127.0.0.1 SYSTEM:'wc -c' >"$dir/log.out" 2>"$dir/log" &
servers="$servers $!"
start -p 0 127.0.0.1 "$(port_in "$dir/log")"
$socat - "TCP:127.0.0.1:$port" <"$dir/bytes" >"$dir/back"
check 'one half is closed, the other goes on' test "$(tr -d ' ' <"$dir/back")" = 3000000
# Nobody listens there any more.
check 'who cannot be reached' is_reset "telnet://127.0.0.1:$port"
check 'and why' until_true grep 'proxy: 127.0.0.1: Connection refused' "$dir/err"
stop TERM

start -p 0 -t 2 127.0.0.1 "$target"

check 'where nothing moves' is_reset "telnet://127.0.0.1:$port"
check 'it says so' until_true grep 'proxy: a connection: Connection timed out' "$dir/err"

(for i in 1 2 3 4 5 6; do echo $i; sleep 0.4; done) | $socat - "TCP:127.0.0.1:$port" >"$dir/back"
check 'a little is enough to live' test "$(wc -l <"$dir/back")" = 6
stop TERM
start -p 0 -n 1 127.0.0.1 "$target"
clients=
for i in 1 2 3; do
    (echo "I am $i" | $socat - "TCP:127.0.0.1:$port" | grep -qx "I am $i") &
    clients="$clients $!"
done
result=0
for client in $clients; do
    wait "$client" || result=1
done
check 'three, one by one' test "$result" = 0
stop TERM
for bad in '' '-n 0 a 1' '-c x a 1' '-x a 1' 'a'; do
    run $bad
    check "'$bad' is refused" refuses 2 usage
done
exit $status
