"""Where the data that is not part of the project lies, when it is there."""

from pathlib import Path

_CANDIDATE = Path(__file__).resolve().parents[2] / "shared"

SHARED: Path | None = _CANDIDATE if (_CANDIDATE / "data").is_dir() else None
