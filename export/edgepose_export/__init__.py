"""edgepose-export: makes the model files that edgepose runs (offline, on a workstation)."""

import edgepose  # noqa: F401 - imported before onnxruntime, because it switches telemetry off
