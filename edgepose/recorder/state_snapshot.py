"""What the stages remember of a camera's people, as bytes: with it a recording can be played from any segment on, bit for bit.

Python's own pickles, but read back with a list of what they may hold: numbers, arrays, and values that tracking, smoothing, checks and
events keep for themselves. Nothing else is built, whoever wrote the file.
"""

import io
import pickle
from collections.abc import Mapping
from typing import Any

import msgspec

from edgepose.errors import RecordingError

_ROOMS = ("edgepose.pose.", "edgepose.events.")
_OTHERS = {
    ("collections", "deque"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy.core.multiarray", "scalar"),
}


Scene = tuple[int, int, int]
"""What all that is remembered is of: an epoch, and pictures of one width and height in pixels."""


def state_bytes(parts: Mapping[str, object | None], scene: Scene | None) -> bytes:
    """What stages hold, without their settings.

    Args:
        parts: stages by name; None where one is off.
        scene: that they are in; None before the first picture.
    """
    state = {
        name: {key: value for key, value in vars(part).items() if not isinstance(value, msgspec.Struct)}
        for name, part in parts.items()
        if part is not None
    }
    return pickle.dumps((scene, state), protocol=5)


def recall(data: bytes) -> tuple[Scene | None, dict[str, dict[str, Any]]]:
    """Scene and variables of each stage by name, as `state_bytes` took them; RecordingError where the bytes are something else."""
    try:
        scene, state = _Reader(io.BytesIO(data)).load()
        return scene, {str(name): dict(values) for name, values in state.items()}
    except RecordingError:
        raise
    except Exception as error:  # a pickle of another version, or of another program, may raise anything
        raise RecordingError(
            f"what was remembered of people cannot be read ({type(error).__name__}: {error}); expected a recording of this version"
        ) from error


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """A class of ours that holds values, or what arrays are made of; RecordingError for all else."""
        if (module, name) in _OTHERS:
            return super().find_class(module, name)
        if module.startswith(_ROOMS) and "." not in name:
            found = super().find_class(module, name)
            if isinstance(found, type) and found.__module__ == module:
                return found
        raise RecordingError(f"the recording wants {module}.{name} built; expected nothing but what people are remembered by")
