#!/bin/sh
# SPDX-License-Identifier: MIT
. "$(dirname "$0")/example.sh"

run '((a b) c)' '(a (b c))'
check 'trees of different shapes have the same leaves' gives 0 'the same'
run '()' '(() (()))'
check 'trees without leaves have the same' gives 0 'the same'
run word ' ( word ) '
check 'a leaf is a tree' gives 0 'the same'
run '((a b) c)' '(a (x c))'
check 'the first difference is named' gives 1 'b is not x'
run '(a b)' '(a (b c))'
check 'one ends before the other' gives 1 'the end is not c'
run '(a (b c))' '(a b)'
check 'and the other way round' gives 1 'c is not the end'
run '(a b' '(x (('
check 'nobody looks further than the first difference' gives 1 'a is not x'
for bad in '(a b' 'a)' 'a b' '' ')'; do
    run '(a b)' "$bad"
    check "'$bad' is no tree, or another" test "$result" != 0
done
run '(a b' '(a b)'
check 'an unfinished tree is refused' refuses 2 'Invalid argument'

depth=20000
[ -z "$launcher" ] || depth=2000
deep=$(awk -v n=$depth 'BEGIN {
    for (i = 0; i < n; i++) printf "("
    printf "a"
    for (i = 0; i < n; i++) printf ")"
}')
run "$deep" a
check "$depth deep" gives 0 'the same'
run a
check 'one tree is too few' refuses 2 usage
check 'output that is lost is an error' has_no_room a a
exit $status
