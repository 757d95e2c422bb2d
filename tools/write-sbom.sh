#!/bin/sh
# write-sbom.sh FOLDER: a CycloneDX bill of materials for each way to install edgepose on a device, from the pinned requirement files.
set -eu
folder=$(mkdir -p "$1" && cd "$1" && pwd)
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' edgepose/__init__.py)
for extra in cpu gpu tensorrt metrics web; do
    file=$folder/edgepose-$version-$extra.cdx.json
    "$python" -W ignore -m cyclonedx_py requirements --pyproject pyproject.toml --mc-type application --output-reproducible --of JSON \
        --output-file "$file" "requirements/$extra.txt"
    echo "$file"
done
