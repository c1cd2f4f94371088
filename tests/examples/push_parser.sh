#!/bin/sh
# SPDX-License-Identifier: MIT
. "$(dirname "$0")/example.sh"

slow=${GREEN_TEST_SLOW:+3} # then not everything, in sizes up to that

# in_all_sizes MOST TEXT CHECK...: fed pieces of every size up to MOST, CHECK holds.
in_all_sizes()
{
    most=$1
    printf '%s' "$2" >"$dir/in"
    shift 2
    size=1
    while [ $size -le "$most" ]; do
        run $size <"$dir/in"
        "$@" || return
        size=$((size + 1))
    done
}

# parses TEXT AS: it prints AS.
parses()
{
    in_all_sizes "${slow:-$((${#1} + 1))}" "$1" gives 0 "$2"
}

# stops_at BYTE: the last run found an error there.
stops_at()
{
    [ "$result" = 1 ] && [ "$(cat "$dir/err")" = "push_parser: byte $1: Bad message" ]
}

# refuses_at BYTE TEXT: TEXT has an error there.
refuses_at()
{
    in_all_sizes "${slow:-$((${#2} + 1))}" "$2" stops_at "$1"
}

check 'everything there is' parses \
    ' { "a" : [ 1 , -0.5e+10 , 12E-3, 0 ] , "b\"\\\/\b\f\n\r\t\u00aF" : { } , '\
'"" : [ true,false , null,[ ],"" ] } ' \
    '{"a":[1,-0.5e+10,12E-3,0],"b\"\\\/\b\f\n\r\t\u00aF":{},"":[true,false,null,[],""]}'
check 'a number' parses '  42 ' 42
check 'a string' parses '"é ß"' '"é ß"'
check 'a word' parses null null
tab=$(printf '\t')
count=0
while read -r byte text; do
    count=$((count + 1))
    [ -z "$slow" ] || [ $((count % 12)) = 1 ] || continue
    check "refused at byte $byte: $text" refuses_at "$byte" "$text"
done <<END
0
1 [
2 [1
3 [1,
3 [1,]
1 [,1]
3 [1 2]
1 {1:2}
4 {"a"}
5 {"a":}
6 {"a":1
7 {"a":1,}
5 {"a" 1}
1 {'a':1}
1 -
1 -x
1 01
2 1.
2 1.e3
2 1e
3 1e+
0 .5
0 +1
0 NaN
1 nUll
4 nulls
3 tru
1 "
2 "\\
2 "\\x"
4 "\\u1g23"
2 "a${tab}b"
2 []]
0 ]
3 {} {}
END
printf '"a\0b"' >"$dir/in"
run <"$dir/in"
check 'a NUL inside a string' refuses 1 'byte 2'
printf '\357\273\277[]' >"$dir/in"
run <"$dir/in"
check 'a byte order mark' refuses 1 'byte 0'

nested()
{
    awk -v n="$1" 'BEGIN {
        for (i = 0; i < n; i++) printf "["
        for (i = 0; i < n; i++) printf "]"
        print ""
    }'
}
nested 512 >"$dir/in"
run 1 <"$dir/in"
check '512 deep' gives 0 "$(nested 512)"
nested 513 >"$dir/in"
run 1 <"$dir/in"
check '513 are too deep' refuses 1 'byte 51[23]'

# A large one, in all sizes about those of a page; through a pipe, too.
objects=20000
[ -z "$slow" ] || objects=500
awk -v n=$objects 'BEGIN {
    printf "["
    for (i = 0; i < n; i++) printf "%s{\"n\":%d,\"s\":\"%x\"}", i ? "," : "", i, i * i
    print "]"
}' >"$dir/large"
for size in 1 7 4095 4096 4097 65536; do
    run $size <"$dir/large"
    check "$objects objects by $size" cmp "$dir/large" "$dir/out"
    [ -z "$slow" ] || break
done
cat "$dir/large" |
    { run; check 'through a pipe' cmp "$dir/large" "$dir/out"; exit $status; } || status=1

run 0 </dev/null
check 'no bytes are too few' refuses 2 usage
run <"$dir"
check 'a directory is no input' refuses 1 'directory'
exit $status
