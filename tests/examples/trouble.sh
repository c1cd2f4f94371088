#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Servers at the far end of a bad line, see trouble.py: what comes is whole.
#
#     trouble.sh HTTPD [LAUNCHER...]
. "$(dirname "$0")/example.sh"
. "$(dirname "$0")/server.sh"
needs python3 nsenter ip curl socat
examples=$(dirname "$program") plain_launcher=$launcher

python3 "$(dirname "$0")/trouble.py" >"$dir/line" 2>"$dir/line.err" &
line=$!
servers=$line
until_true test -s "$dir/line"
grep skipped "$dir/line" && exit 77
read -r far near <"$dir/line" || { failed 'there is no line'; cat "$dir/line.err"; exit 1; }
near="nsenter --net=$near timeout 100"

mkdir "$dir/files"
head -c 1000000 /dev/urandom >"$dir/files/bytes"
head -c 300000 /dev/urandom >"$dir/some"

launcher="nsenter --net=$far $plain_launcher"
start -a 10.9.0.1 -p 0 "$dir/files"
check 'a million bytes from httpd' $near curl -sS -o "$dir/back" "http://10.9.0.1:$port/bytes"
check 'they are whole' cmp "$dir/files/bytes" "$dir/back"
check 'twenty requests on one connection' $near curl -sS -o "$dir/back#1" \
    "http://10.9.0.1:$port/bytes?[1-20]" -r 0-9999
head -c 10000 "$dir/files/bytes" >"$dir/first"
check 'each is whole' cmp "$dir/first" "$dir/back20"
stop TERM
check 'it ends well' ends_well

# echoed ADDRESS: what is sent there comes back, and then the end.
echoed()
{
    $near socat -t 90 - "TCP:$1" <"$dir/some" >"$dir/back" && cmp "$dir/some" "$dir/back"
}
program=$examples/echo_server
start -a 10.9.0.1 -p 0
echo_server=$server target=$port
check 'three hundred thousand bytes come back' echoed "10.9.0.1:$target"

# The proxy is near, and what it reaches is far.
program=$examples/proxy launcher="$near $plain_launcher"
start -p 0 10.9.0.1 "$target"
check 'and through a proxy' echoed "127.0.0.1:$port"
stop TERM
check 'it ends well, too' ends_well
kill "$echo_server"

kill "$line"
wait "$line"
tail -n 1 "$dir/line" >"$dir/counts"
read -r came lost overtaken <"$dir/counts"
ran=trouble.py
check 'the line was a bad one' test "$lost" -gt 0 -a "$overtaken" -gt 0
echo "$came packets came, $lost were lost, $overtaken were overtaken"
exit $status
