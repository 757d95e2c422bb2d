#!/bin/sh
# pin-requirements.sh [UV ARGUMENT...]: regenerate requirements/*.txt: every package with its version and hashes, for all platforms and
# Pythons that we support. `--upgrade` takes newer versions; without it, versions stay where the inputs allow them.
# torch is not among them: its CPU build has an index of its own, and the Makefile pins it in one line. An override keeps it out.
set -eu
cd "$(dirname "$0")/.."
uv=${UV:-.venv/bin/uv}
inputs=$(mktemp -d)
trap 'rm -rf "$inputs"' EXIT
echo 'torch; python_version < "3"' >"$inputs/overrides.txt"
here=$(pwd)

# pin NAME LINE...: what the lines of requirements need, without our own two packages.
pin() {
    name=$1
    shift
    printf '%s\n' "$@" >"$inputs/$name.in"
    constraint=
    [ "$name" = dev ] || constraint="--constraint requirements/dev.txt" # the same versions in all files
    # shellcheck disable=SC2086
    "$uv" pip compile --quiet --universal --generate-hashes --python-version 3.10 --no-header --no-annotate --no-emit-index-url \
        --no-emit-package edgepose --no-emit-package edgepose-export --override "$inputs/overrides.txt" $constraint $upgrade \
        --output-file "requirements/$name.txt" "$inputs/$name.in"
    echo "requirements/$name.txt: $(grep -c '==' "requirements/$name.txt") pins"
}

upgrade="$*"
pin dev "edgepose[dev] @ file://$here" "edgepose-export[conformance,postgres,store,train] @ file://$here/export" 'setuptools>=77'
pin demo "edgepose[demo] @ file://$here"
pin cpu "edgepose[cpu] @ file://$here"
pin gpu "edgepose[gpu] @ file://$here"
pin tensorrt "edgepose[tensorrt] @ file://$here"
pin triton "edgepose[triton] @ file://$here"
pin mavlink "edgepose[mavlink] @ file://$here"
pin metrics "edgepose[metrics] @ file://$here"
pin web "edgepose[cpu,web] @ file://$here"
pin bundles "edgepose[bundles] @ file://$here"
pin encryption "edgepose[cpu,encryption] @ file://$here"
