#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The same is done by awk, in another way: all cards in one string.
. "$(dirname "$0")/example.sh"

expected()
{
    awk '
        function punch(card) { text = text sprintf("%-80s ", card) }
        {
            while (length($0) > 80) { punch(substr($0, 1, 80)); $0 = substr($0, 81) }
            punch($0)
        }
        END {
            gsub(/\*\*/, "^", text)
            for (; text != ""; text = substr(text, 126)) printf "%-125s\n", substr(text, 1, 125)
        }' "$1"
}

# converts FILE
converts()
{
    run <"$1"
    expected "$1" >"$dir/expected"
    [ "$result" = 0 ] && diff "$dir/expected" "$dir/out"
}

printf '**a***b*\n*\n' >"$dir/stars"
run <"$dir/stars"
check '** becomes ^, leftmost first' gives 0 \
    "$(printf '^a^*b*%73s*%80s' '' '' |
        awk '{ print substr($0, 1, 125) } { printf "%-125s\n", substr($0, 126) }')"

: >"$dir/empty"
check 'no cards, no lines' converts "$dir/empty"
echo >"$dir/blank"
check 'a blank card' converts "$dir/blank"
printf 'no newline at the end *' >"$dir/last"
check 'a last line without a newline' converts "$dir/last"
awk 'BEGIN {
    for (i = 0; i < 300; i++) {
        for (j = 0; j < i; j++)
            printf "%s", substr("**ab*", (i * j) % 5 + 1, 1)
        print ""
    }
}' >"$dir/lengths"
check 'lines of every length up to 300' converts "$dir/lengths"
for file in "$root/README.md" "$root"/tests/examples/*.sh \
    /usr/share/common-licenses/GPL-3; do
    [ ! -e "$file" ] || check "$(basename "$file")" converts "$file"
    [ -z "$launcher" ] || break # it takes its time
done
run <"$dir"
check 'a directory is no file' refuses 1 'directory'
exit $status
