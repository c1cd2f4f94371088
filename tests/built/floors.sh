#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The sources stand on floors, as CMakeLists.txt lists them from the ground up: none
# names a function or a variable of one that comes later, but what floors.txt lists
# with its reason; and none includes a header of a folder that comes later.
#
#     floors.sh SOURCE... -- OBJECT...
#
# NM comes from the environment.
. "$(dirname "$0")/../support/script.sh"
: "${NM:=nm}"

sources=
while [ "$1" != -- ]; do
    sources="$sources ${1#"$root"/}"
    shift
done
shift

# "object FLOOR", and "defines FLOOR NAME" and "names FLOOR NAME" of each object, by the place of its source.
for object; do
    place=0
    for source in $sources; do
        place=$((place + 1))
        case $object in
            */"$source".o | */"$source".*.o)
                echo "object $place"
                "$NM" -g -P "$object" | awk -v place=$place '
                    { print ($2 ~ /^[Uwv]$/ ? "names" : "defines"), place, $1 }'
                ;;
        esac
    done
done > "$dir/symbols"
[ "$(grep -c ^object "$dir/symbols")" = "$(echo "$sources" | wc -w)" ] ||
    failed "not every source has its object"

# upwards SOURCES EXCEPTIONS: what is named of a later source and is no exception, and
# exceptions that are none.
upwards()
{
    awk -v sources="$1" '
        BEGIN { split(sources, source, " ") }
        FILENAME != ARGV[2]       { if ($1 !~ /^(#|$)/) excepted[$1] = $2 == "some:"; next }
        $1 == "defines"           { floor[$3] = $2; next }
        $1 == "names"             { named[++n] = $3; from[n] = $2 }
        END {
            for (i = 1; i <= n; i++) {
                if (!(named[i] in floor) || floor[named[i]] <= from[i])
                    continue
                if (named[i] in excepted)
                    excepted[named[i]]++
                else
                    print source[from[i]] " names " named[i] " of " source[floor[named[i]]]
            }
            for (name in excepted)
                if (excepted[name] == 0)
                    print "nothing looks up to " name ": no exception is needed"
        }' "$2" "$dir/symbols"
}

found=$(upwards "$sources" "$root/tests/built/floors.txt")
[ -z "$found" ] || failed "the floors:
$found"
for planted in green__page_size green__stack_get; do # which are below all that name them
    (cat "$root/tests/built/floors.txt"; echo "$planted") > "$dir/more.txt"
    upwards "$sources" "$dir/more.txt" | grep -q "up to $planted:" ||
        failed "an exception too many is not noticed: $planted"
done
awk '{ $2 = 1000 - $2; print }' "$dir/symbols" > "$dir/upside_down"
mv "$dir/upside_down" "$dir/symbols"
upwards "$sources" /dev/null | grep -q "names green__page_size" ||
    failed "upside down it is not noticed"

# looks_up FOLDER HEADER: the folder's floor is below that of what it includes.
looks_up()
{
    awk -v folders="arch tools memory core look hub patch" -v from="$1" -v to="$2" '
        BEGIN {
            n = split(folders, folder, " ")
            for (i = 1; i <= n; i++)
                at[folder[i]] = i
            sub(/\/.*/, "", to)
            exit !(to in at && (!(from in at) || at[from] < at[to]))
        }'
}
looks_up memory core/x.h || failed "an include upwards is not noticed"
looks_up core memory/x.h && failed "an include downwards is taken for one upwards"
find "$root/src" -name '*.[ch]' | while read -r file; do
    folder=${file#"$root/src/"}
    sed -n 's/^# *include "\([a-z_0-9]*\/[^"]*\)".*/\1/p' "$file" | while read -r header; do
        looks_up "${folder%%/*}" "$header" && echo "${file#"$root/"} includes $header"
    done
done > "$dir/includes"
[ ! -s "$dir/includes" ] || failed "includes that look up: $(cat "$dir/includes")"

[ $status = 0 ] && echo "ok: $(echo "$sources" | wc -w) sources, none looks up"
exit $status
