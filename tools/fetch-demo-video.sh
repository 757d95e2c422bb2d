#!/bin/sh
# fetch-demo-video.sh FILE: the pedestrians (768x576, 10 frames/s, 795 frames) that Debian ships with OpenCV's documentation.
# Needs no root: the package is downloaded and unpacked, not installed.
set -eu
target=$1
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || exit 1
mkdir -p "$(dirname "$target")"
target=$(cd "$(dirname "$target")" && pwd)/$(basename "$target")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
mkdir -p lists/partial archives/partial
set -- -o "Dir::State::lists=$scratch/lists" -o "Dir::Cache=$scratch" -o APT::Sandbox::User= -o Debug::NoLocking=1
echo "fetching the demo video (Debian package opencv-doc, 96 MB)" >&2
timeout 90 apt-get download -q opencv-doc >/dev/null 2>&1 ||
    # No package lists, as in a fresh container: lists of our own.
    { timeout 40 apt-get "$@" -q update && timeout 90 apt-get "$@" -q download opencv-doc; } >/dev/null 2>&1 ||
    { echo "the demo video could not be fetched" >&2; exit 1; }
dpkg-deb --fsys-tarfile opencv-doc_*.deb | tar -xO ./usr/share/doc/opencv-doc/examples/data/vtest.avi >"$target.part"
mv "$target.part" "$target"
