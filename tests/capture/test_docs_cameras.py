"""docs/cameras.md names what the code names."""

from pathlib import Path

import pytest

from edgepose.capture.failures import CAUSES
from edgepose.capture.source import NETWORK_SCHEMES

TEXT = (Path(__file__).parents[2] / "docs" / "cameras.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("cause", [*CAUSES, "end_of_stream", "internal"])
def test_every_cause_is_explained(cause: str) -> None:
    assert TEXT.count(f"| `{cause}` |") == 1


@pytest.mark.parametrize("scheme", NETWORK_SCHEMES)
def test_every_scheme_is_explained(scheme: str) -> None:
    assert f"`{scheme}://" in TEXT
