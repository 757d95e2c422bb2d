"""The exceptions of ONNX Runtime as errors of ours, each in one sentence."""

import re

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as native

from edgepose.errors import EdgeposeError, EngineError, ModelError

# The error for each exception class of ONNX Runtime while loading a file; while running, all mean EngineError.
ERRORS_WHEN_LOADING: dict[str, type[EdgeposeError]] = {
    "Fail": ModelError,  # a version or an operation that this release does not know, or an inconsistent graph
    "InvalidArgument": ModelError,
    "InvalidGraph": ModelError,
    "InvalidProtobuf": ModelError,
    "ModelRequiresCompilation": ModelError,
    "NoModel": ModelError,
    "NoSuchFile": ModelError,
    "NotImplemented": ModelError,  # an operation or type that no kernel of this device supports
    "RuntimeException": ModelError,  # a kernel refuses what the file says of it
    "DeviceReset": EngineError,
    "EngineError": EngineError,
    "EPFail": EngineError,
    "ModelLoadCanceled": EngineError,
    "ModelLoaded": EngineError,
    "NotFound": EngineError,
}
# Older releases lack some of them; the Python layer itself raises RuntimeError and ValueError.
NATIVE_ERRORS = (RuntimeError, ValueError, *(getattr(native, name) for name in ERRORS_WHEN_LOADING if hasattr(native, name)))

_GENERAL = ("Fail", "RuntimeException")
_LONGEST = 600
_CODE = re.compile(r"^\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ")
_LOADING = re.compile(r"Load model from .{1,300}? failed: ?|Exception during initialization: ")
_SOURCE_PLACE = re.compile(r"/\S+\.(?:cc|h|cpp|hpp|cu):\d+ [^()]{0,300}\((?:[^()]|\([^()]*\)){0,900}\)(?: const)? ?")
_IR_VERSION = re.compile(r"model IR version: (\d+), max supported IR version: (\d+)")
_OPSET = re.compile(r"Opset (\d+) is under development.*support for domain (\S+) is till opset (\d+)")
_MEMORY = re.compile(r"bad_alloc|bad allocation|[Ff]ailed to allocate|out of memory|[Cc]annot allocate")


def lacks_memory(error: BaseException) -> bool:
    """Return whether an exception of ONNX Runtime means that memory is short, for which no file is to blame."""
    return _MEMORY.search(str(error)) is not None


def error_when_loading(error: Exception, what: str, *, cpu: bool) -> EdgeposeError:
    """Return our error for an exception while a file is loaded.

    Args:
        what: beginning of its sentence.
        cpu: whether it is loaded on the CPU, where a general failure is the fault of the file; elsewhere it may be that of the device.
    """
    name = type(error).__name__
    kind = ERRORS_WHEN_LOADING.get(name, EngineError)
    if lacks_memory(error) or (name in _GENERAL and not cpu):
        kind = EngineError
    return kind(f"{what}: {reason(error)}")


def reason(error: Exception) -> str:
    """Return the reason that an exception names, on one line, without the places in the library's source."""
    text = " ".join(str(error).split())
    library = f"onnxruntime {onnxruntime.__version__}"
    if (found := _IR_VERSION.search(text)) is not None:
        version, limit = found.groups()
        return f"its IR version is {version}, and {library} reads up to {limit}; expected an older IR version, or a newer onnxruntime"
    if (found := _OPSET.search(text)) is not None:
        version, domain, limit = found.groups()
        return (
            f"it uses opset {version} of {domain}, and {library} supports up to {limit}; expected an export with opset={limit} or lower,"
            " or a newer onnxruntime"
        )
    text = _SOURCE_PLACE.sub("", _LOADING.sub("", _CODE.sub("", text)))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"
