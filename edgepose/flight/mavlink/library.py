"""The library pymavlink, loaded when it is first needed: the wire format of MAVLink 2 in the dialect `common`."""

import importlib
import time
from pathlib import Path
from typing import Any

from edgepose.errors import ConfigError

_KEY_BYTES = 32


def load_dialect() -> Any:
    """Return the module of the dialect.

    Raises:
        ConfigError: the library is not installed.
    """
    try:
        return importlib.import_module("pymavlink.dialects.v20.common")
    except ImportError as error:
        raise ConfigError(
            f"flight.source is mavlink, and pymavlink cannot be loaded ({error}); expected the extra mavlink: in a checkout of edgepose,"
            " pip install '.[mavlink]'"
        ) from error


def read_signing_key(path: str | None) -> bytes | None:
    """Return the key of a link: 32 bytes as they are, or in hexadecimal.

    Raises:
        ConfigError: the file cannot be read, or holds something else.
    """
    if path is None:
        return None
    try:
        data = Path(path).read_bytes()
        return data if len(data) == _KEY_BYTES else _from_hexadecimal(data)
    except (OSError, ValueError) as error:
        raise ConfigError(f"flight.mavlink.signing_key_file {path} cannot be used ({error}); expected {_KEY_BYTES} bytes") from error


def open_codec(dialect: Any, system_id: int, component_id: int, key: bytes | None) -> Any:
    """Return what packs and unpacks packets; with a key it signs, and refuses packets without a valid signature."""
    codec = dialect.MAVLink(None, srcSystem=system_id, srcComponent=component_id)
    codec.robust_parsing = True
    if key is not None:
        codec.signing.secret_key = key
        codec.signing.sign_outgoing = True
        codec.signing.timestamp = _signing_time()
    return codec


def _from_hexadecimal(data: bytes) -> bytes:
    key = bytes.fromhex(data.decode("ascii").strip())
    if len(key) != _KEY_BYTES:
        raise ValueError(f"it holds {len(key)} bytes")
    return key


def _signing_time() -> int:
    """Return units of 10 us since 2015-01-01, as packets are signed with (MAVLink 2, message signing)."""
    return int((time.time() - 1_420_070_400) * 1e5)
