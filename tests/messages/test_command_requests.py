"""What a command may carry, and what is said of what it may not."""

import pytest

from edgepose.errors import ConfigError
from edgepose.messages.command_requests import PauseCommand, SetThresholdCommand, SnapshotCommand, parse_request


def test_good_ones() -> None:
    assert parse_request("pause", b"{}") == PauseCommand()
    assert parse_request("set-threshold", b'{"low_score_threshold": 0, "score_threshold": 0.5}') == SetThresholdCommand(
        low_score_threshold=0.0, score_threshold=0.5
    )
    assert parse_request("snapshot", b' {"camera": "front", "width": 16}\n') == SnapshotCommand(camera="front", width=16)


@pytest.mark.parametrize(
    ("name", "payload", "sentences"),
    [
        ("set-threshold", b'{"score_threshold": 2}', ["score_threshold is 2; expected a number from 0 to 1"]),
        (
            "set-threshold",
            b'{"score_threshold": null, "weak": 1}',
            [
                "score_threshold is None; expected a number from 0 to 1",
                "set-threshold has no field 'weak'; expected one of score_threshold, keypoint_threshold, low_score_threshold",
            ],
        ),
        ("reload", b'{"now": true}', ["reload has no field 'now'; expected none"]),
        ("snapshot", b'{"width": true}', ["width is True; expected a whole number from 16 to 1920", "snapshot lacks the field camera; "]),
        ("snapshot", b'{"camera": "\\ud800"}', ["the payload of snapshot is not JSON; expected a JSON object of camera, width"]),
        ("pause", b"[1, 2]", ["the payload of pause is [1, 2]; expected a JSON object of camera"]),
        ("pause", b'"' + b"x" * 60_000 + b'"', ["the payload of pause is 'xxx"]),
        ("pause", b"[" * 60_000, ["the payload of pause is not JSON; expected a JSON object of camera"]),
        ("pause", b"", ["the payload of pause is empty; expected a JSON object, such as {}"]),
        ("x" * 100, b"{}", ["there is no command 'xxx"]),
    ],
)
def test_what_is_wrong_is_said_as_of_a_configuration(name: str, payload: bytes, sentences: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_request(name, payload)
    lines = str(caught.value).splitlines()
    assert len(lines) == len(sentences)
    for line, sentence in zip(lines, sentences, strict=True):
        assert line.startswith(sentence)
        assert len(line) < 300
