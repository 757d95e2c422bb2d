#!/bin/sh
# Runs the checks that need an NVIDIA GPU or a Jetson, and prints one block to paste into a report. In a checkout, with edgepose and pytest
# installed for PYTHON (default: python3): tests/device/run.sh [options of pytest]
set -u
cd "$(dirname "$0")/../.." || exit 66
python=${PYTHON:-python3}
out=$(mktemp -d)
trap 'rm -rf -- "$out"' EXIT
say() { printf '%s\n' "$*"; }
one_line() { "$@" 2>&1 | head -n 1; }
"$python" -m pytest -m gpu tests/device -q -rA -p no:cacheprovider "$@" >"$out/tests" 2>&1
code=$?
"$python" -m edgepose doctor --json --set mqtt.enabled=false >"$out/doctor" 2>&1
"$python" -m edgepose build-engine --json >"$out/engines" 2>&1
say '----- edgepose on a device: paste from here -----'
say "commit:  $(git rev-parse --short HEAD 2>/dev/null || say unknown)"
say "machine: $(uname -srm), $(tr -d '\0' </proc/device-tree/model 2>/dev/null || say 'no device tree')"
say "L4T:     $(head -n 1 /etc/nv_tegra_release 2>/dev/null || say none)"
say "driver:  $(cat /sys/module/nvidia/version 2>/dev/null || say none)"
say "GPU:     $(one_line nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader)"
say "python:  $(one_line "$python" --version)"
say "tests:   exit code $code"
grep -E '^(PASSED|FAILED|SKIPPED|ERROR|MEASURED)|passed|failed|skipped' "$out/tests"
say 'doctor:'
cat "$out/doctor"
say 'engines:'
cat "$out/engines"
say '----- to here -----'
exit "$code"
