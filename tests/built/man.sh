#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The manual pages say what the headers say, and are well formed.
#
#     man.sh declarations PAGES    PAGES has man3 and man7, as built
#     man.sh rules                 those of green_hub(7) are the header's
#     man.sh examples              whole programs in them compile
#     man.sh lint                  mandoc and groff find nothing; 77 without them
#     man.sh calls                 those of green_patch(7) are those that src/patch has
#     man.sh patched LIBRARY [LAUNCHER...]
#                                  the programs of green_patch(3) and (7) print what follows them
#
# CC (with flags) comes from the environment, and PATCH: what those programs are linked with.
. "$(dirname "$0")/../support/script.sh"
: "${CC:=cc}"

# One space where there is any, none where none is needed.
squeeze()
{
    sed 's/[ 	][ 	]*/ /g; s/ *\([(),;{}*]\) */\1/g; s/^ //; s/ $//'
}

# declared HEADER...: its functions, types and constants, one a line, sorted;
# nothing that is private.
declared()
{
    cat "$@" | sed 's@//.*@@' | awk '
        # Comments, which may be several on a line, or many lines long.
        {
            line = $0
            text = ""
            while (line != "") {
                if (comment && (i = index(line, "*/"))) { line = substr(line, i + 2); comment = 0 }
                else if (comment) line = ""
                else if (i = index(line, "/*")) {
                    text = text substr(line, 1, i - 1)
                    line = substr(line, i + 2)
                    comment = 1
                } else { text = text line; line = "" }
            }
            print text
        }' | awk '
        /^[ \t]*#/ {
            if (/^#define GREEN_[A-Z_]*\(/) { # its body is private, as that of { ... }
                print substr($0, 1, index($0, ")"))
            } else if ($1 == "#define" && $2 ~ /^GREEN_[A-Z_]*$/ && NF > 2) {
                sub(/[ \t]+$/, "")
                print $3 == "{" ? $1 " " $2 : $0
            }
            while (/\\$/ && (getline > 0)) continue
            next
        }
        /^extern "C" \{/ { next }
        {
            for (i = 1; i <= length($0); i++) {
                c = substr($0, i, 1)
                if (c == "}" && depth > 0 && --depth == 0 && code) { text = ""; code = 0; continue }
                if (c == "}" && depth == 0 && text ~ /^ *$/) continue # of extern "C"
                if (c == "{" && depth++ == 0 && text ~ /\)[ \t]*$/) { print text ";"; code = 1 }
                if (!code) text = text c
                if (c == ";" && depth == 0) { print text; text = "" }
            }
            text = text " "
        }' | sed 's/^ *GREEN_PRIVATE_INLINE//' | squeeze |
        grep -v -e 'green_private' -e '^#define GREEN_PRIVATE' -e '^#define GREEN_NORETURN' \
            -e '^struct ' -e '^__asm__' -e reinterpret_cast | sort # which is for C++
}

# documented PAGE...: the same of pages.
documented()
{
    cat "$@" | awk '
        function flush() { if (text != "") print text; text = "" }
        /^\.Ft / { type = substr($0, 5); next }
        /^\.Fn / && type != "" {
            rest = substr($0, 5)
            name = rest; sub(/ .*/, "", name)
            sub(/^[^ ]* */, "", rest)
            gsub(/" "/, ", ", rest)
            gsub(/"/, "", rest)
            print type " " name "(" rest ");"
            type = ""
            next
        }
        /^\.Fd #define / { print substr($0, 5); next }
        /^typedef / { inside = 1 }
        inside {
            text = text " " $0
            if ($0 ~ /^(typedef|}).*;$/) { flush(); inside = 0 }
        }' | squeeze | sort
}

# named PAGE: what its NAME section names.
named()
{
    sed -n '/^\.Nd/q; s/^\.Nm \([a-z_]*\).*/\1/p' "$1"
}

declarations()
{
    # What is looked for is found: a header and a page in which all differs.
    cat >"$dir/a.h" <<'END'
#define GREEN_ONE 1 /* one */
#define GREEN_TWO(a, b) \
    int not_this(a);
#define GREEN_THREE { { 0, 0 }, 1 }
#ifdef __cplusplus
extern "C" {
#endif
/* int green_not_this(void); */ int green_this(int (*fn)(void *, int), /* and */
                                               char **arg); /* that */
typedef struct green_it {
    int a; /* ; */
} green_it_t;
GREEN_PRIVATE_INLINE void *green_inline(void)
{
    return 0;
}
#ifdef __cplusplus
}
#endif
END
    declared "$dir/a.h" "$dir/a.h" | uniq >"$dir/found" # more than one, as there are
    cat >"$dir/expected" <<'END'
#define GREEN_ONE 1
#define GREEN_THREE
#define GREEN_TWO(a,b)
int green_this(int(*fn)(void*,int),char**arg);
typedef struct green_it{int a;}green_it_t;
void*green_inline(void);
END
    diff "$dir/expected" "$dir/found" || failed "the headers are not read right"

    declared "$root"/include/*.h >"$dir/declared"
    documented "$root"/man/*.[37] >"$dir/documented"
    [ "$(grep -c '(.*);$' "$dir/declared")" -ge 36 ] ||
        failed "there are more functions than were found"
    # A type may stand on two pages, a function on one alone.
    uniq "$dir/documented" | diff "$dir/declared" - >"$dir/diff" ||
        failed "headers (<) and pages in man/ (>) differ; a function without a page wants one:
$(grep '^[<>]' "$dir/diff")"
    grep -v '^typedef\|^#' "$dir/documented" | uniq -d | grep . && failed "on two pages"

    # Each name has its page or its link, and each reference leads somewhere.
    for page in "$root"/man/*.[37]; do
        base=$(basename "$page")
        [ "$(named "$page" | head -n 1)" = "${base%.?}" ] ||
            failed "$base does not begin with its own name"
        sed -n 's/^\.Ft .*//; s/^\.Fn \([a-z_]*\) .*/\1/p; /^\.Sh DESCRIPTION/q' "$page" |
            sort >"$dir/functions"
        [ "${base##*.}" = 7 ] || named "$page" | sort | diff "$dir/functions" - ||
            failed "$base: NAME (>) and SYNOPSIS (<) differ"
        for name in $(named "$page"); do
            [ -s "$1/man${base##*.}/$name.${base##*.}" ] ||
                failed "$name of $base has no page in $1"
        done
        sed -n 's/^\.\(It \)*Xr \(green[a-z_]*\) \([0-9]\).*/\2 \3/p' "$page" |
        while read -r name section; do
            [ -s "$1/man$section/$name.$section" ] || echo "$base refers to $name($section)"
        done >"$dir/lost"
        [ ! -s "$dir/lost" ] || failed "no such page: $(cat "$dir/lost")"
    done
    [ $status != 0 ] || echo "ok: $(wc -l <"$dir/declared") declarations, each on its page"
}

# header_rules HEADER: each on a line, in words; page_rules PAGE: the same.
header_rules()
{
    awk '
        / \* Errors$/ { exit }
        / \* +[0-9]+\. / && found { printf "%s", rule; rule = "\n" }
        / \* The rules$/ { found = 1 }
        found { sub(/^ \*/, ""); rule = rule " " $0 }
        END { print rule }' "$1" | sed 1d | squeeze
}

page_rules()
{
    awk '
        !found { found = /^\.Ss The rules/; next }
        /^\.El/ { print rule; exit }
        /^\.It / { if (rule != "") print rule; rule = $2; next }
        /^\.(Pf \( )?Fn / {
            word = $2 == "(" ? "(" $4 "()" : $2 "()"
            for (i = $2 == "(" ? 5 : 3; i <= NF; i++) word = word $i
            rule = rule " " word
            next
        }
        /^\.Bl/ { inside = 1; next }
        inside { rule = rule " " $0 }' "$1" | sed 's/\\e/\\/g' | squeeze
}

rules()
{
    # That a word more is found is shown first.
    header_rules "$root/include/green_hub.h" >"$dir/rules"
    sed 's/^\.It 5\.$/&\nmore/' "$root/man/green_hub.7" >"$dir/bad.7"
    page_rules "$dir/bad.7" | diff "$dir/rules" - >"$dir/diff" && failed "a change is not found"
    [ "$(wc -l <"$dir/rules")" -ge 23 ] || failed "only $(wc -l <"$dir/rules") rules"
    page_rules "$root/man/green_hub.7" | diff "$dir/rules" - ||
        failed "the rules of green_hub.h (<) and of green_hub(7) (>) differ"
    [ $status != 0 ] || echo "ok: $(wc -l <"$dir/rules") rules"
}

examples()
{
    count=0
    for page in "$root"/man/*.[37]; do
        rm -f "$dir"/example*.c
        awk -v dir="$dir" '
            /^\.Bd/ { file = dir "/example" ++n ".c"; next }
            /^\.Ed/ { file = "" }
            file != "" { print > file }' "$page"
        for example in "$dir"/example*.c; do
            [ -e "$example" ] || continue
            sed 's/\\e/\\/g' "$example" >"$dir/program.c"
            grep -q '^int main(' "$dir/program.c" || continue
            count=$((count + 1))
            $CC -std=c11 -Wall -Wextra -Wpedantic -Wshadow -Werror -fsyntax-only \
                -I"$root/include" "$dir/program.c" || failed "an example of $(basename "$page")"
        done
    done
    [ $count -ge 15 ] || failed "only $count examples found"
    [ $status != 0 ] || echo "ok: $count examples compile"
}

# hooked FILE...: the names of each list of src/patch, but for second ones, as KIND NAME.
# GREEN_PATCH_LOCKS has three lists.
hooked()
{
    awk '
        /^HOOKS\(/ { kind = $0; sub(/HOOKS\(/, "", kind); sub(/\).*/, "", kind) }
        kind ~ /^(conds|threads)$/ { kind = "locks" }
        kind != "" {
            line = $0
            while (match(line, /HOOKED\([a-z0-9_]*\)/)) {
                name = substr(line, RSTART + 7, RLENGTH - 8)
                if (name !~ /^__/) print kind, name
                line = substr(line, RSTART + RLENGTH)
            }
        }
        /};/ { kind = "" }' "$@" | sort
}

# listed PAGE: the same of what stands before the first paragraph of each of its kinds.
listed()
{
    awk '
        /^\.Ss / { on = /The calls/ }
        /^\.It Dv GREEN_PATCH_/ && on { kind = tolower(substr($3, 13)); next }
        /^\.Pp/ { kind = "" }
        /^\.Xr / && kind != "" { print kind, $2 }' "$1" | sort
}

calls()
{
    listed "$root/man/green_patch.7" >"$dir/listed"
    hooked "$root"/src/patch/*.c >"$dir/hooked"
    sed 's/HOOKED(ppoll)/HOOKED(qpoll)/' "$root"/src/patch/*.c >"$dir/bad.c"
    hooked "$dir/bad.c" | diff "$dir/listed" - >"$dir/diff" && failed "a change is not found"
    [ "$(wc -l <"$dir/hooked")" -ge 50 ] || failed "only $(wc -l <"$dir/hooked") calls"
    diff "$dir/hooked" "$dir/listed" ||
        failed "the calls of src/patch (<) and of green_patch(7) (>) differ"
    [ $status != 0 ] || echo "ok: $(wc -l <"$dir/hooked") calls"
}

# prints PAGE LIBRARY [LAUNCHER...]: its programs print what the block after each says.
prints()
{
    rm -f "$dir"/block*
    awk -v dir="$dir" '
        /^\.Bd/ { file = dir "/block" ++n; next }
        /^\.Ed/ { file = ""; next }
        file != "" { print > file }' "$1"
    page=$(basename "$1")
    library=$2
    shift 2
    n=1
    while [ -e "$dir/block$n" ]; do
        sed 's/\\e/\\/g' "$dir/block$n" >"$dir/program.c"
        n=$((n + 1))
        grep -q '^int main(' "$dir/program.c" || continue
        count=$((count + 1))
        [ -e "$dir/block$n" ] || { echo "$page: nothing says what it prints"; return 1; }
        $CC -std=c11 -Wall -Wextra -Wpedantic -Wshadow -Werror -I"$root/include" \
            "$dir/program.c" $PATCH "$library" -Wl,-rpath,"$(dirname "$library")" -pthread \
            -o "$dir/program" || return
        "$@" "$dir/program" >"$dir/printed" || { echo "$page: status $?"; return 1; }
        diff "$dir/block$n" "$dir/printed" || return
    done
}

patched()
{
    # That nothing says what a program prints is found.
    count=0
    sed '/^It prints$/,$d' "$root/man/green_patch.3" >"$dir/bad.3"
    prints "$dir/bad.3" "$@" >"$dir/log" && failed "a page without output is not found"

    count=0
    for section in 3 7; do
        prints "$root/man/green_patch.$section" "$@" || failed "a program of green_patch.$section"
    done
    [ $count -ge 2 ] || failed "only $count programs found"
    [ $status != 0 ] || echo "ok: $count programs"
}

# lint PAGE: what mandoc and groff have to say.  That the system is named is
# meant, and what other pages there are declarations() knows better.
lint_page()
{
    # Together they would be mixed, in the middle of lines.
    mandoc -T lint "$1" >"$dir/lint" 2>"$dir/lint.err"
    cat "$dir/lint" "$dir/lint.err" |
        grep -v -e 'operating system explicitly specified' -e 'referenced manual not found' \
            -e 'mandoc\.db'
    groff -mdoc -ww -z -Tutf8 "$1" 2>&1
    # A macro in the middle of a line is printed as it is.
    groff -mdoc -Tascii -P-cbou "$1" 2>"$dir/lint.err" | grep '\(^\|[ (]\)\.[A-Z][a-z]\( \|$\)'
}

lint()
{
    for tool in mandoc groff; do
        command -v $tool >/dev/null || { echo "skipped: no $tool (Debian: mandoc groff)"; exit 77; }
    done
    sed 's/^\.Nd.*/.Bd -litteral/' "$root/man/green_exit.3" >"$dir/bad.3"
    [ -n "$(lint_page "$dir/bad.3")" ] || failed "a bad page is not found"
    sed 's/^\.Sh SEE ALSO/Of .Er EINVAL\n&/' "$root/man/green_exit.3" >"$dir/bad.3"
    [ -n "$(lint_page "$dir/bad.3")" ] || failed "a macro that is printed is not found"
    for page in "$root"/man/*.[37]; do
        found=$(lint_page "$page")
        [ -z "$found" ] || failed "$(basename "$page"): $found"
    done
    [ $status != 0 ] || echo "ok: no warnings"
}

"$@"
exit $status
