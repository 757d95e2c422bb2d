"""edgepose: human pose on the edge, from a camera stream to MQTT."""

import os

__version__ = "0.1.0"

# ONNX Runtime's wheels send telemetry to Microsoft and store a device identifier in ~/.cache/Microsoft, unless this variable is set before
# they are imported. This module runs before every other module of the package.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
