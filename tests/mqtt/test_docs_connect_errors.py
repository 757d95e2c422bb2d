"""docs/operations.md names every way in which a broker refuses, and what may be the matter with the event store."""

from pathlib import Path

import pytest

from edgepose.mqtt import connect_errors as refusals

TEXT = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
SECTION = TEXT.partition("## Broker connection problems")[2].partition("\n## ")[0]


@pytest.mark.parametrize("words", sorted(set(refusals._ALERTS.values()) | set(refusals._CERTIFICATES.values())))
def test_every_end_of_a_handshake_is_there(words):
    assert words.removeprefix("client certificate ") in SECTION


@pytest.mark.parametrize("reason", refusals._REASONS)
def test_every_reason_with_a_remedy_is_there(reason):
    assert reason in SECTION
