# SPDX-License-Identifier: MIT
#
# What the scripts in the folders of tests/ begin with: each reads this file first.
#
#     . "$(dirname "$0")/../support/script.sh"
#
# $root is the checkout, $dir a directory that goes when the script ends, and
# $status what it shall exit with.
set -u
LC_ALL=C
export LC_ALL
root=$(cd "$(dirname "$0")/../.." && pwd) || exit
dir=$(mktemp -d) || exit
trap 'rm -rf "$dir"' EXIT
status=0

failed()
{
    echo "FAILED: $*"
    status=1
}
