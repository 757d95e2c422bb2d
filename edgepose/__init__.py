"""edgepose: human pose on the edge, from a camera stream to MQTT."""

__version__ = "0.1.0"
