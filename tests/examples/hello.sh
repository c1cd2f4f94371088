#!/bin/sh
# SPDX-License-Identifier: MIT
#
# usage: hello.sh BINARY [LAUNCHER...]
#
# The README shows examples/hello.c to the letter, and what it prints.
. "$(dirname "$0")/../support/script.sh"
binary=$1
shift

# The README's first code block that opens with ```LANGUAGE.
block()
{
    awk -v open="\`\`\`$1" '
        inside && $0 == "```" { exit }
        inside                { print }
        $0 == open            { inside = 1 }' "$root/README.md"
}

# same WHAT README REALITY
same()
{
    if [ -n "$2" ] && [ "$2" = "$3" ]; then
        echo "ok: $1"
    else
        printf 'FAILED: %s\n--- README.md has\n%s\n--- but it is\n%s\n' "$1" "$2" "$3"
        status=1
    fi
}

# Its first line, the licence, is left out.
same 'the program is examples/hello.c' "$(block c)" "$(sed 1d "$root/examples/hello.c")"

output=$("$@" "$binary") || failed "it exits with $?"
same 'the output is what it prints' "$(block text)" "$output"
exit $status
