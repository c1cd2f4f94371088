#!/bin/sh
# SPDX-License-Identifier: MIT
#
# What the C library exports at the address of a function that the patch has, under another
# name, the patch has, too.
#
#     second_names.sh LIST
#
# LIST is green_patch.list.  CC and NM are asked for the C library, and what it exports to
# others than its own.
. "$(dirname "$0")/../support/script.sh"
list=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
NM=${NM:-nm}

# Whose callers get a stream that nobody makes any more.
but=_IO_popen

# shellcheck disable=SC2086
libc=$(${CC:-cc} -print-file-name=libc.so.6)
tr -d ' {};' <"$list" | grep . >"$dir/hooked"
$NM -D --defined-only "$libc" |
    awk '$2 ~ /[TWi]/ && !/@GLIBC_PRIVATE/ { sub(/@.*/, "", $3); print $1, $3 }' |
    sort -u >"$dir/libc"

# missing HOOKED: the other names of these that are none of these.
missing()
{
    awk -v but="$but" '
        NR == FNR { hooked[$1] = 1; next }
        { at[$2] = at[$2] " " $1; names[$1] = names[$1] " " $2 }
        END {
            for (name in hooked) {
                n = split(at[name], places, " ")
                for (i = 1; i <= n; i++) {
                    m = split(names[places[i]], others, " ")
                    for (k = 1; k <= m; k++)
                        if (!(others[k] in hooked) && others[k] != but) print others[k]
                }
            }
        }' "$1" "$dir/libc" | sort -u
}

grep -v '^__read$' "$dir/hooked" >"$dir/fewer"
[ "$(missing "$dir/fewer")" = __read ] || failed "that __read is missing is not found"
for name in $(missing "$dir/hooked"); do
    failed "$name is another name of a function that the patch has"
done
[ $status != 0 ] || echo "ok: of $(wc -l <"$dir/hooked") names"
exit $status
