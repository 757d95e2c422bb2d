"""TensorRT without anything between: build an engine once, check it, keep it, run it.

::

    library ──▶ build ──▶ engine_cache ──▶ runner ──▶ networks
    (which)     (minutes, in a process     (copies,   (the protocols
                 of its own: building)      graphs)    of edgepose.engine.backend)

One code for `tensorrt` 10 and 11 and for `tensorrt_rtx`. Sources: https://docs.nvidia.com/deeplearning/tensorrt/latest/_static/python-api
and the docstrings of the bindings; `tests/engine/tensorrt/test_bindings.py` shows that all that is used here exists in them.
"""
