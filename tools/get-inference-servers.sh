#!/bin/sh
# get-inference-servers.sh FOLDER: Triton Inference Server with its python backend (from the wheel of nvidia-pytriton) and MLServer, each in
# an environment of its own, for tests of models on a server (`make triton`). Needs the system's Python 3.11 with venv.
set -eu
folder=$1
python=${PYTHON:-/usr/bin/python3}
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
mkdir -p "$folder"
if [ ! -e "$folder/triton/complete" ]; then
    rm -rf "$folder/triton"
    "$python" -m venv "$folder/triton"
    "$folder/triton/bin/pip" install --quiet --disable-pip-version-check 'nvidia-pytriton==0.7.0' 'numpy<2' onnxruntime
    site=$folder/triton/lib/python$version/site-packages
    cp -r "$site/pytriton/tritonserver" "$folder/triton/server"
    cp "$folder/triton/server/python_backend_stubs/$version/triton_python_backend_stub" "$folder/triton/server/backends/python/"
    chmod -R +x "$folder/triton/server/bin" "$folder/triton/server/backends/python"
    : >"$folder/triton/complete"
fi
if [ ! -e "$folder/mlserver/complete" ]; then
    rm -rf "$folder/mlserver"
    "$python" -m venv "$folder/mlserver"
    "$folder/mlserver/bin/pip" install --quiet --disable-pip-version-check 'mlserver==1.7.1' onnxruntime
    : >"$folder/mlserver/complete"
fi
