#!/bin/sh
# SPDX-License-Identifier: MIT
. "$(dirname "$0")/example.sh"
. "$(dirname "$0")/server.sh"
needs curl socat

mkdir -p "$dir/www/sub/deep" "$dir/sec"
www=$dir/www
echo 'the index' >"$www/index.html"
echo 'of sub' >"$www/sub/index.html"
echo 'a space' >"$www/a b.txt"
head -c 100000 /dev/urandom >"$www/bytes"
: >"$www/empty"
echo hidden >"$dir/sec/file"
echo hidden >"$dir/wwwx"
ln -s "$dir/sec/file" "$www/link_out"
ln -s "$dir/sec" "$www/sub/directory_out"
ln -s ../../wwwx "$www/sub/like_it"
ln -s ../bytes "$www/sub/link_in"
ln -s "$www/bytes" "$www/from_the_top"
mkfifo "$www/fifo"

# get PATH [OPTION...]: the body in $dir/body, its head in $dir/head, and $code.
get()
{
    path=$1
    shift
    : >"$dir/body"
    code=$(curl -sS --path-as-is -m 60 -D "$dir/head" -o "$dir/body" -w '%{http_code}' "$@" \
        "http://127.0.0.1:$port$path" 2>"$dir/curl")
}

# answers CODE [BODY]: the last get was answered so.
answers()
{
    [ "$code" = "$1" ] && { [ $# = 1 ] || printf '%s\n' "$2" | cmp - "$dir/body"; }
}

# says LINE: a line of the head.
says()
{
    tr -d '\r' <"$dir/head" | grep -x -e "$1"
}

# has CODE FIRST COUNT: those bytes of the file.
has()
{
    tail -c +$(($2 + 1)) "$www/bytes" | head -c "$3" >"$dir/part"
    [ "$code" = "$1" ] && cmp "$dir/part" "$dir/body"
}

# raw TEXT: sent as it is; what comes back in $dir/body.
raw()
{
    printf "$1" | timeout 60 socat -t 60 - "TCP:127.0.0.1:$port" >"$dir/body" 2>"$dir/socat"
}

# refused STATUS TEXT: that is what it says, and then the connection ends.
refused()
{
    raw "$2"
    head -n 1 "$dir/body" | grep "^HTTP/1.1 $1 "
}

start -p 0 -n 30 -t 2 "$www"
get /
check 'the index of the root' answers 200 'the index'
check 'with its type' says 'Content-Type: text/html; charset=utf-8'
get /sub/
check 'that of a directory' answers 200 'of sub'
get /sub
check 'a directory without its slash' answers 301
check 'is elsewhere' says 'Location: /sub/'
get '//sub?x'
check 'and never on another host' says 'Location: /sub/'
get '/a%20b.txt?query'
check 'a name that is encoded' answers 200 'a space'
get /bytes
check 'a large file' has 200 0 100000
get /empty
check 'an empty one' test "$code" = 200 -a ! -s "$dir/body"
get /sub/link_in
check 'a link within' has 200 0 100000
get /from_the_top
check 'one that begins at the top' has 200 0 100000
get /bytes -I
check 'HEAD' says 'Content-Length: 100000'
check 'has no body' test "$(wc -c <"$dir/body")" -lt 1000
get /bytes -H 'Accept: */*' -d 'a body'
check 'POST is refused' answers 405
for path in /nothing /sub/deep/ /link_out /sub/directory_out/file /sub/directory_out/ /sub/like_it \
    /../sec/file /sub/../../sec/file /%2e%2e/sec/file /sub/..%2f..%2fsec/file \
    /sub/.. /fifo /bytes/ /index.html/x; do
    get "$path"
    check "$path is not there" answers 404 '404 Not Found'
done

get /bytes -r 100-199
check 'a range' has 206 100 100
check 'says where it is' says 'Content-Range: bytes 100-199/100000'
get /bytes -r 99990-
check 'the last ten' has 206 99990 10
get /bytes -r -7
check 'the last seven' has 206 99993 7
get /bytes -r 99999-200000
check 'up to the end' has 206 99999 1
get /bytes -r -200000
check 'more than there are' has 206 0 100000
get /bytes -r 100000-
check 'behind the end' answers 416
check 'says how long it is' says 'Content-Range: bytes \*/100000'
get /empty -r 0-0
check 'of nothing' answers 416
for range in 5-2 1-2,4-5 x- -; do
    get /bytes -H "Range: bytes=$range"
    check "'$range' is no range" has 200 0 100000
done
get /bytes
date=$(tr -d '\r' <"$dir/head" | sed -n 's/^Last-Modified: //p')
get /bytes -H "If-Modified-Since: $date"
check 'nothing new' test "$code" = 304 -a ! -s "$dir/body"
get /bytes -H 'If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT'
check 'something new' has 200 0 100000
get /bytes -H 'If-Modified-Since: yesterday'
check 'no date' has 200 0 100000
get /bytes -r 1-2 -H "If-Range: $date"
check 'a range of the same' has 206 1 2
get /bytes -r 1-2 -H 'If-Range: Thu, 01 Jan 1970 00:00:00 GMT'
check 'a range of what was' has 200 0 100000

curl -sSv -m 60 "http://127.0.0.1:$port/?[1-5]" >"$dir/body" 2>"$dir/curl"
check 'five in one connection' test "$(grep -c '^\* Connected to' "$dir/curl")" = 1 \
    -a "$(grep -c 'the index' "$dir/body")" = 5
raw 'GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /sub/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\n\r\n'
check 'two at once, and then no more' test "$(grep -c -e 'the index' -e 'of sub' "$dir/body")" = 2
raw 'GET /sub/ HTTP/1.0\r\n\r\nGET / HTTP/1.0\r\n\r\n'
check 'HTTP/1.0 has one' test "$(grep -c -e 'the index' -e 'of sub' "$dir/body")" = 1
check 'no host' refused 400 'GET / HTTP/1.1\r\n\r\n'
check 'no request' refused 400 'hello\r\n\r\n'
check 'a zero' refused 400 'GET /%%00 HTTP/1.0\r\n\r\n'
check 'half a byte' refused 400 'GET /%%4 HTTP/1.0\r\n\r\n'
check 'no path' refused 400 'GET bytes HTTP/1.0\r\n\r\n'
check 'a line break is none of the answer' refused 404 'GET /%%0d%%0aX:%%20y HTTP/1.0\r\n\r\n'
check 'HTTP/2' refused 505 'GET / HTTP/2.0\r\n\r\n'
printf 'GET / HTTP/1.1\r\nHost' |
    timeout 60 socat -,ignoreeof "TCP:127.0.0.1:$port" >"$dir/body" 2>"$dir/socat"
check 'a head that does not end in time' grep '^HTTP/1.1 408 ' "$dir/body"
{ printf 'GET / HTTP/1.1\r\n'; yes 'X-More: and more' | head -c 200000; } >"$dir/endless"
timeout 60 socat -t 60 - "TCP:127.0.0.1:$port" <"$dir/endless" >"$dir/body" 2>"$dir/socat"
check 'endless headers' grep '^HTTP/1.1 431 ' "$dir/body"
{ printf 'GET /'; head -c 6000 /dev/zero | tr '\0' a; printf ' HTTP/1.0\r\n\r\n'; } >"$dir/long"
timeout 60 socat -t 60 - "TCP:127.0.0.1:$port" <"$dir/long" >"$dir/body"
check 'a long name' grep '^HTTP/1.1 414 ' "$dir/body"

get /status
check 'the tasks of the thread' grep '^task 0x[0-9a-f]* "signals": in green_sigwait(' "$dir/body"
check 'and how many clients' grep '^thread 1: 1 clients of at most 30, ' "$dir/body"
seq 300 | timeout 100 xargs -P 40 -n 10 sh -c 'for i; do echo "url = http://127.0.0.1:'"$port"'/bytes"; done |
    curl -sS -m 90 -K -' sh >"$dir/body"
check 'three hundred by forty at a time' test "$(wc -c <"$dir/body")" = 30000000
# A page with two hundred pictures, as a browser fetches it: by some connections, which are kept.
mkdir "$www/pictures" "$dir/got"
for i in $(seq 200); do
    head -c $((i * 50)) "$www/bytes" >"$www/pictures/$i.png"
done
curl -sS -m 100 --parallel --parallel-max 6 -w '%{http_code} %{num_connects}\n' -o "$dir/got/#1.png" \
    "http://127.0.0.1:$port/pictures/[1-200].png" >"$dir/codes" 2>"$dir/curl"
check 'two hundred pictures at once' test "$(grep -c '^200 ' "$dir/codes")" = 200
check 'each is what it should be' diff -r "$www/pictures" "$dir/got"
check 'by few connections' test "$(awk '{ n += $2 } END { print n }' "$dir/codes")" -lt 100
if command -v wrk >"$dir/found"; then
    wrk -t 1 -c 20 -d 1 "http://127.0.0.1:$port/a%20b.txt" >"$dir/wrk"
    check 'wrk has no errors' grep 'requests in' "$dir/wrk"
    check 'wrk has no errors' test "$(grep -c -e 'Socket errors' -e 'Non-2xx' "$dir/wrk")" = 0
fi
stop TERM
check 'it ends well' test "$result" = 0
check 'and says how much it did' grep -x 'httpd: [0-9]* requests' "$dir/out"

# A client that says nothing is no reason to stay.
start -p 0 "$www"
mkfifo "$dir/hold"
timeout 60 socat - "TCP:127.0.0.1:$port" <"$dir/hold" >"$dir/told" &
exec 9>"$dir/hold"
check 'one that says nothing is shown' until_true \
    sh -c "curl -sS -m 60 http://127.0.0.1:$port/status | grep '^thread 1: 2 clients of'"
stop INT
check 'it ends at once' test "$result" = 0
exec 9>&-

start -p 0 -j 3 "$www"
seq 60 | timeout 100 xargs -P 20 -n 1 sh -c "curl -sS -m 60 http://127.0.0.1:$port/status" sh >"$dir/body"
check 'three threads' test "$(sed -n 's/^\(thread [0-9]*\): .*/\1/p' "$dir/body" | sort -u | wc -l)" = 3
stop TERM
check 'and they end' gives 0 "httpd: listens on port $port
httpd: 60 requests"
run -p 0 "$dir/nowhere"
check 'no directory' refuses 1 'nowhere: No such file or directory'
for bad in '' '-n 0 .' '-j x .' '-x .' '. .'; do
    run $bad
    check "'$bad' is refused" refuses 2 usage
done
exit $status
