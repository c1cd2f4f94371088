#!/bin/sh
# SPDX-License-Identifier: MIT
. "$(dirname "$0")/example.sh"
case $launcher in
*valgrind*) echo 'skipped: the C library keeps memory of names that it looks up'; exit 77 ;;
esac
httpd=$(dirname "$program")/httpd
servers=
trap 'for one in $servers; do kill "$one" 2>"$dir/gone"; done; rm -rf "$dir"' EXIT

# fetched RESULT LINES: what it said, in any order.
fetched()
{
    sed 's/ in [0-9]* ms$//' "$dir/out" | sort >"$dir/said"
    [ "$result" = "$1" ] && printf '%s\n' "$2" | sort | diff - "$dir/said"
}

mkdir "$dir/www"
head -c 200000 /dev/urandom >"$dir/www/bytes"
echo hello >"$dir/www/index.html"
: >"$dir/httpd"
timeout --foreground -k 5 120 $launcher "$httpd" -p 0 "$dir/www" >"$dir/httpd" 2>"$dir/httpd.err" &
servers=$!
until port=$(sed -n 's/.*listens on port //p' "$dir/httpd") && [ -n "$port" ]; do
    kill -0 "$servers" || exit
    sleep 0.02
done
at=http://127.0.0.1:$port

run "$at" "$at/bytes"
check 'two pages' fetched 0 "$at: 6 bytes
$at/bytes: 200000 bytes
2 of 2"
run -j 3 $(for i in $(seq 100); do echo "$at/bytes?$i"; done)
check 'a hundred, three at a time' fetched 0 "$(for i in $(seq 100); do
    echo "$at/bytes?$i: 200000 bytes"; done; echo '100 of 100')"
run "$at/bytes" "$at/nothing" https://127.0.0.1 http:// http://127.0.0.1:1/ http://name.invalid./
check 'what fails, and why' fetched 1 "$at/bytes: 200000 bytes
$at/nothing: status 404
https://127.0.0.1: not http://
http://: no host
http://127.0.0.1:1/: Connection refused
$(grep 'name.invalid' "$dir/out")
1 of 6"
check 'a name that nobody has' grep -e 'name.invalid./: no such host' \
    -e "name.invalid./: the host's name cannot" "$dir/out"
if command -v socat >"$dir/found"; then
    # They listen, and then: say nothing; less than they promised; no HTTP.
    for what in 'sleep 60' 'printf "HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\nfour"' 'echo hello'; do
        script=$dir/server.${#what}
        echo "sed '/^.\\{0,1\\}\$/q' >$script.request; $what" >"$script"
        timeout 60 socat -d -d TCP-LISTEN:0,bind=127.0.0.1,fork "SYSTEM:sh $script" \
            >"$script.out" 2>"$script.log" &
        servers="$servers $!"
        until [ -e "$script.log" ] && grep -q 'listening on' "$script.log"; do
            sleep 0.02
        done
        sed -n 's/.*listening on .*:\([0-9]*\)$/\1/p' "$script.log" >>"$dir/ports"
    done
    { read -r silent && read -r short && read -r strange; } <"$dir/ports"
    run -t 60 "http://127.0.0.1:$short/" "http://127.0.0.1:$strange/" "$at"
    check 'answers that are none' fetched 1 "http://127.0.0.1:$short/: 4 bytes of 9
http://127.0.0.1:$strange/: not an answer of HTTP
$at: 6 bytes
1 of 3"
    run -t 1 "http://127.0.0.1:$silent/1" "http://127.0.0.1:$silent/2"
    check 'a limit for each' fetched 1 "http://127.0.0.1:$silent/1: not within 1 s
http://127.0.0.1:$silent/2: not within 1 s
0 of 2"
    run -T 1 -j 2 "http://127.0.0.1:$silent/1" "http://127.0.0.1:$silent/2" "$at"
    check 'and one for all' fetched 1 "http://127.0.0.1:$silent/1: not within the 1 s for all
http://127.0.0.1:$silent/2: not within the 1 s for all
$at: not begun within the 1 s for all
0 of 3"
else
    echo 'skipped: limits (no socat)'
fi
check 'output that is lost is an error' has_no_room "$at"
for bad in '' '-j 0 x' '-t x x' '-x x'; do
    run $bad
    check "'$bad' is refused" refuses 2 usage
done
exit $status
