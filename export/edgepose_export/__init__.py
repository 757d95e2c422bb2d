"""edgepose-export: makes the model files that edgepose runs (offline, on a workstation)."""

import edgepose  # noqa: F401 - before onnxruntime, whose telemetry it switches off
