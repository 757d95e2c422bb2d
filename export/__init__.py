"""edgepose-export: makes the model files that edgepose runs (offline, on a workstation)."""
