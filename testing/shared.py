"""The folder of data that is not part of the project, or None where it is missing."""

from pathlib import Path

_CANDIDATE = Path(__file__).resolve().parents[2] / "shared"

SHARED: Path | None = _CANDIDATE if (_CANDIDATE / "data").is_dir() else None
