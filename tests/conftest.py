"""Before all tests."""

import edgepose  # noqa: F401 (switches the telemetry of ONNX Runtime off, which some tests import before anything of ours)
