#!/bin/sh
# check-subject.sh FILE: refuse a commit message whose first line is empty or longer than 72 characters.
set -eu
subject=$(sed -n '/^#/!{p;q;}' "$1")
length=$(printf '%s' "$subject" | wc -m)
if [ "$length" -gt 72 ] || [ "$length" -eq 0 ]; then
    echo "the commit's subject has $length characters; expected 1 to 72" >&2
    exit 1
fi
