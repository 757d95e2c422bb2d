#!/bin/sh
# show-progress.sh WHAT COMMAND...: runs a command that says nothing for long, and shows that it runs: the seconds so far on a terminal, else a
# line every ten seconds. Ctrl-C ends the command without its tracebacks.
set -eu
what=$1
shift
setsid "$@" & # a session of its own: Ctrl-C reaches only this script, which ends all of the command
pid=$!
trap 'kill -- "-$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; printf "\n%s: interrupted\n" "$what" >&2; exit 130' INT TERM HUP
seconds=0
while kill -0 "$pid" 2>/dev/null; do
    if [ -t 2 ]; then
        printf '\r%s: %s s ' "$what" "$seconds" >&2
    elif [ $((seconds % 10)) = 0 ]; then
        printf '%s: %s s\n' "$what" "$seconds" >&2
    fi
    sleep 1
    seconds=$((seconds + 1))
done
code=0
wait "$pid" || code=$?
[ ! -t 2 ] || printf '\n' >&2
exit "$code"
