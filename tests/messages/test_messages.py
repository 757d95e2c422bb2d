import json
import re

import msgspec
import numpy as np
import pytest

from edgepose.errors import UsageError
from edgepose.messages.compose import event_message, poses_message
from edgepose.messages.schema import COMMANDS, TOPICS, asyncapi, json_schema, topic_address
from edgepose.messages.structs import PosesMessage, encode, timestamp
from edgepose.person import Person
from testing.golden import GOLDEN, golden_files, simulated_name
from testing.sample import CAPTURED_AT, sample_event, sample_event_message, sample_frame, sample_message, sample_person


@pytest.mark.parametrize("name", sorted(golden_files()))
def test_the_contract_has_not_changed(name):
    assert golden_files()[name] == (GOLDEN / name).read_text(), "see testing/golden.py"


def test_no_golden_file_is_left_over():
    assert {path.name for path in GOLDEN.iterdir()} == set(golden_files()) | {simulated_name(topic) for topic in TOPICS}


def test_poses_on_the_wire():
    message = json.loads(encode(sample_message()))
    assert list(message) == ["schema", "camera", "epoch", "sequence", "captured_at", "clock", "age_ms", "width", "height", "people"]
    assert (message["schema"], message["age_ms"], message["width"], message["height"]) == (1, 38.1, 1280, 720)
    assert message["captured_at"] == "2026-11-22T10:00:00.123456Z"
    first, second = message["people"]
    assert (first["track"], first["score"], first["box"]) == (7, 0.832, [100.0, 50.0, 60.1, 170.5])
    assert first["keypoints"][1] == [103.3, 60.1, 0.15]
    assert "track" not in second
    assert len(second["keypoints"]) == 17


def test_a_frame_without_people_is_a_message_too():
    assert json.loads(encode(poses_message(sample_frame(), [], CAPTURED_AT)))["people"] == []


def test_a_profile_leaves_out_what_it_says_and_nothing_else():
    full, standard, minimal = (
        poses_message(sample_frame(), [sample_person()], CAPTURED_AT, profile).people for profile in ("full", "standard", "minimal")
    )
    assert (standard[0].box, standard[0].score, standard[0].track) == (full[0].box, full[0].score, full[0].track)
    assert not np.any(standard[0].keypoints)
    assert len(minimal) == len(full)
    assert msgspec.to_builtins(minimal[0]) == {"score": 0, "box": (0, 0, 0, 0), "keypoints": [(0, 0, 0)] * 17}
    known = json.loads(encode(event_message(sample_event())))
    assert json.loads(encode(event_message(sample_event(), "minimal"))) == known | {"box": [0, 0, 0, 0], "evidence": {}}
    assert event_message(sample_event(), "standard") == event_message(sample_event())


def test_both_encodings_have_the_same_content():
    message = sample_message()
    assert msgspec.msgpack.decode(encode(message, "msgpack")) == json.loads(encode(message))
    assert msgspec.json.decode(encode(message), type=PosesMessage) == message


def test_json_stays_valid_for_keypoints_that_are_not_finite():
    person = sample_person()
    keypoints = person.keypoints.copy()
    keypoints[3, 0], keypoints[4, 2] = np.nan, np.inf
    message = poses_message(sample_frame(), [Person(person.box, 0.5, keypoints)], CAPTURED_AT)
    assert message.people[0].keypoints[3] == message.people[0].keypoints[4] == (0, 0, 0)
    assert message.people[0].keypoints[5] == sample_message().people[0].keypoints[5]
    assert b"null" not in encode(message)


@pytest.mark.parametrize(
    ("time_ns", "expected"),
    [
        (0, "1970-01-01T00:00:00.000000Z"),
        (CAPTURED_AT, "2026-11-22T10:00:00.123456Z"),
        (1_795_341_600_999_999_999, "2026-11-22T10:00:00.999999Z"),  # never rounded into the future
    ],
)
def test_timestamp(time_ns, expected):
    assert timestamp(time_ns) == expected


def test_the_asyncapi_document_has_exactly_the_topics():
    document = asyncapi()
    assert document["asyncapi"] == "3.0.0"
    addresses = {"{prefix}/{device}/" + topic.address for topic in TOPICS + COMMANDS}
    assert {channel["address"] for channel in document["channels"].values()} == addresses
    received = {name for name, operation in document["operations"].items() if operation["action"] == "receive"}
    assert received == {topic.name for topic in COMMANDS}
    references = set(re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document)))
    for reference in references:
        node = document
        for key in reference.split("/"):
            node = node[key]
    for channel in document["channels"].values():
        assert set(channel["parameters"]) == set(re.findall(r"{(\w+)}", channel["address"]))


def test_an_unknown_schema_name_lists_the_known_names():
    assert topic_address("poses", "front") == "cameras/front/poses"
    with pytest.raises(UsageError, match=r"no message named 'pose'; expected one of status, info, health, camera-status, poses, events"):
        json_schema("pose")


def test_an_event_has_the_same_identifier_in_every_run():
    message = sample_event_message()
    assert encode(message).decode() + "\n" == (GOLDEN / "events.jsonl").read_text()
    assert message.id == event_message(sample_event(score=0.2)).id
    others = [sample_event(track=8), sample_event(kind="still"), sample_event(epoch=3), sample_event(at_ns=1), sample_event(zone="door")]
    assert len({message.id, *(event_message(other).id for other in others)}) == 6
    assert event_message(others[-1]).zone == "door"
