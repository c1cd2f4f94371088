#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Clients and servers that are killed at any moment, for so many seconds:
#
#     tests/tools/kill_clients.sh BUILD-DIRECTORY [SECONDS]
#
# BUILD-DIRECTORY is a build with AddressSanitizer, whose httpd runs twice.  The old
# one lives through it all, with clients of many kinds, which are killed in whatever
# they do.  After each round it must have as many descriptors and tasks as at first.
# The young ones live for a round each, and are told to end or killed themselves.
# Whoever is told to end must end well, and LeakSanitizer finds nothing in it.  What is
# still reachable, but grows, shows in the memory of the old one.
. "$(dirname "$0")/../support/script.sh"
httpd=$1/examples/httpd
seconds=${2:-20}
servers= clients=
trap 'for one in $clients $servers; do kill -KILL "$one" 2>"$dir/gone"; done; rm -rf "$dir"' EXIT
for tool in wrk curl socat shuf; do
    command -v "$tool" >"$dir/found" || { echo "kill_clients: skipped: no $tool"; exit 77; }
done
grep -q __asan_init "$httpd" || { echo "kill_clients: $httpd has no AddressSanitizer"; exit 1; }
# A small quarantine is soon full, and then memory stands still.
ASAN_OPTIONS=detect_leaks=1:quarantine_size_mb=4
export ASAN_OPTIONS

mkdir "$dir/www"
echo 'the index' >"$dir/www/index.html"
head -c 4096 /dev/urandom >"$dir/www/page"
head -c 5000000 /dev/urandom >"$dir/www/large"

# until_true COMMAND...: within two minutes.
until_true()
{
    tries=0
    until "$@" >"$dir/tried" 2>&1; do
        tries=$((tries + 1))
        [ $tries -lt 1200 ] || return 1
        sleep 0.1
    done
}

# start NAME: a server, its process in $pid, its port in $port.
start()
{
    : >"$dir/$1.out"
    "$httpd" -p 0 -j 2 -t 3 "$dir/www" >"$dir/$1.out" 2>"$dir/$1.err" &
    pid=$!
    servers="$servers $pid"
    if ! until_true grep -q 'listens on port' "$dir/$1.out"; then
        failed "the $1 server does not listen"
        cat "$dir/$1.err"
        exit 1
    fi
    port=$(sed -n 's/.*listens on port //p' "$dir/$1.out")
}

has_ended()
{
    ! grep -q '^State:[[:space:]]*[^Z]' "/proc/$1/status"
}

# ends_well NAME PID: it is told to, and does.
ends_well()
{
    kill -TERM "$2"
    if ! until_true has_ended "$2"; then
        failed "the $1 server does not end"
        exit 1
    fi
    result=0
    wait "$2" || result=$?
    if [ $result != 0 ] || [ -s "$dir/$1.err" ]; then
        failed "the $1 server ended with $result"
        head -n 60 "$dir/$1.err"
        exit 1
    fi
}

random()
{
    shuf -n 1 -i "$1-$2"
}

# client PORT: one of a random kind, in the background.
client()
{
    at=http://127.0.0.1:$1
    case $(random 1 8) in
    1 | 2) wrk -t 1 -c "$(random 1 8)" -d 60 "$at/page" ;;
    3) wrk -t 1 -c "$(random 1 4)" -d 60 "$at/large" ;;
    4) wrk -t 1 -c 2 -d 60 -H 'Connection: close' "$at/status" ;;
    5) curl -sS -m 60 --limit-rate 300k "$at/large" "$at/large" ;;
    6) printf 'GET /page HTTP/1.1\r\nHost' | socat -t 60 -,ignoreeof "TCP:127.0.0.1:$1" ;;
    7) yes 'X-More: and more' | socat -u - "TCP:127.0.0.1:$1" ;;
    8) { printf 'GET /large HTTP/1.1\r\nHost: x\r\n\r\n%.0s' 1 2 3 4; sleep 60; } |
        socat -u - "TCP:127.0.0.1:$1" ;; # it never reads
    esac >"$dir/client" 2>&1 &
    clients="$clients $!"
}

# kill_clients PERCENT: with those that they have started.
kill_clients()
{
    rest=
    for one in $clients; do
        if [ "$(random 1 100)" -gt "$1" ]; then
            rest="$rest $one"
            continue
        fi
        kill -KILL $(cat /proc/"$one"/task/*/children 2>"$dir/gone") "$one" 2>"$dir/gone"
        wait "$one" 2>"$dir/gone"
        killed=$((killed + 1))
    done
    clients=$rest
}

descriptors()
{
    ls "/proc/$old/fd" | wc -l
}

resident()
{
    sed -n 's/^VmRSS:[^0-9]*\([0-9]*\) kB/\1/p' "/proc/$old/status"
}

# is_quiet: it has the descriptors that it had at first, and no clients but those that ask.
is_quiet()
{
    [ "$(descriptors)" -le "${first_descriptors:-1000}" ] || { ls -l "/proc/$old/fd"; return 1; }
    for i in 1 2 3 4 5 6; do
        curl -sS -m 60 "http://127.0.0.1:$old_port/status" >"$dir/status" || return
        cat "$dir/status"
        grep -q '^thread [12]: 1 clients of ' "$dir/status" || return
        [ "$(grep -c '^task ' "$dir/status")" -le 4 ] || return
    done
}

end=$(($(date +%s) + seconds))
rounds=0 killed=0 servers_killed=0 early=0 late=0
start old
old=$pid old_port=$port
for i in $(seq 20); do
    curl -sS -m 60 "http://127.0.0.1:$old_port/status" "http://127.0.0.1:$old_port/large" >"$dir/client"
done
until_true is_quiet || failed 'the old server is not quiet at first'
sleep 1.5 # what ended last has been closed
first_descriptors=$(descriptors)
while [ "$(date +%s)" -lt $end ]; do
    start young
    for i in 1 2 3; do
        for j in 1 2 3; do
            client "$old_port"
            [ "$(random 1 2)" = 1 ] || client "$port"
        done
        sleep "0.$(random 1 9)"
        kill_clients 60
    done
    if [ "$(random 1 3)" = 1 ]; then
        kill -KILL "$pid"
        wait "$pid" 2>"$dir/gone"
        servers_killed=$((servers_killed + 1))
    else
        ends_well young "$pid"
    fi
    servers=$old
    kill_clients 100
    if ! until_true is_quiet; then
        failed "something is left of the clients of round $rounds"
        cat "$dir/tried"
        exit 1
    fi
    now=$(resident)
    # The most that it was in the first half, and in the second.
    if [ "$(date +%s)" -lt $((end - seconds / 2)) ]; then
        [ "$now" -le $early ] || early=$now
    else
        [ "$now" -le $late ] || late=$now
    fi
    rounds=$((rounds + 1))
    [ $((rounds % 100)) != 0 ] ||
        echo "kill_clients: $rounds rounds, $((end - $(date +%s))) s left, $killed clients killed, $now KiB"
done
now=$(descriptors)
ends_well old "$old"
servers=
requests=$(sed -n 's/^httpd: \([0-9]*\) requests/\1/p' "$dir/old.out")
[ $late -le $((early + early / 4 + 8192)) ] || failed "memory grows: $early KiB, then $late KiB"
[ "$rounds" -gt 1 ] && [ "$killed" -gt 5 ] && [ "${requests:-0}" -gt 100 ] || failed 'too little was done'
echo "kill_clients: $seconds s, $rounds rounds, $requests requests, $killed clients and" \
    "$servers_killed servers killed; left: $now descriptors of $first_descriptors at first," \
    "$late KiB after $early"
exit $status
