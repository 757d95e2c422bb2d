"""The state of a camera's postprocessing as bytes: with it, a recording replays bit for bit from any segment on.

The state is a plain typed struct (numbers, strings, bytes, and lists and dictionaries of them) that the stages make and take back
themselves. Reading it builds nothing but the values that the struct names.
"""

from typing import TypeVar

import msgspec

from edgepose.errors import RecordingError

_State = TypeVar("_State", bound=msgspec.Struct)

_encoder = msgspec.msgpack.Encoder()


def encode_state(state: msgspec.Struct) -> bytes:
    """Return a state as MessagePack."""
    return _encoder.encode(state)


def decode_state(data: bytes, kind: type[_State]) -> _State:
    """Return the state that `encode_state` encoded.

    Raises:
        RecordingError: the bytes are something else.
    """
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RecordingError(f"the recorded state of people cannot be read ({error}); expected a recording of this version") from error
