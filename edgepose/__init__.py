"""edgepose: human pose on the edge, from a camera stream to MQTT."""

import os

__version__ = "0.1.0"

# ONNX Runtime's wheels report home to Microsoft and leave a device number in ~/.cache/Microsoft, unless this is set before they are
# imported. Nobody who watches a camera asked for that. Here, because this runs before every other module of ours.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
