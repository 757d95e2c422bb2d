#!/bin/sh
# make-venv.sh PYTHON FOLDER: a virtual environment with pip, also where Debian's python3-venv is not installed and nobody is root.
set -eu
python=$1 folder=$2
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
    echo "found no Python 3.10 or newer ('$python'); expected one, for example: sudo apt-get install python3" >&2
    exit 1
fi
if "$python" -c 'import ensurepip' 2>/dev/null; then
    exec "$python" -m venv "$folder"
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# Debian splits pip's wheel off; it can be downloaded and unpacked without installing it.
if (cd "$scratch" && apt-get download -q python3-pip-whl >/dev/null 2>&1 && dpkg-deb -x python3-pip-whl_*.deb .); then
    "$python" -m venv --without-pip "$folder"
    "$folder/bin/python" "$(echo "$scratch"/usr/share/python-wheels/pip-*.whl)/pip" --disable-pip-version-check install -q pip
    exit
fi
echo "this Python has no ensurepip; expected it, for example: sudo apt-get install python3-venv" >&2
exit 1
