"""Compact poses: the decoders of docs/mqtt.md, run as they are written there, read what is encoded to a quarter pixel."""

import json
import re
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from edgepose.errors import OutputError
from edgepose.messages.compact import HEADER, PERSON, decode, encode
from edgepose.messages.flight_structs import AircraftMessage, GroundMessage
from edgepose.messages.live_table import LiveTable
from edgepose.messages.structs import PersonMessage, PosesMessage, timestamp
from edgepose.mqtt.watcher import as_json
from testing.sample import sample_message

PAGE = (Path(__file__).parents[2] / "docs" / "mqtt.md").read_text()
FRAMES = 10_000

NODE = """
const file = require("fs").readFileSync(process.argv[2]);
const lines = [];
for (let at = 0; at < file.length; ) {
  const length = file.readUInt32LE(at);
  const poses = decodePoses(new Uint8Array(file.subarray(at + 4, at + 4 + length)));
  const { session, epoch, sequence, captured_at_us, clock, age_ms, width, height, pixel_aspect, people } = poses;
  const places = (g) => [g.lat, g.lon, g.east_m, g.north_m, g.radius_m, g.speed_mps, g.course_deg, g.nearest_m].map((v) => v ?? -1);
  const values = people.flatMap((one) => [
    one.track ?? 4294967295, one.score, ...one.box, ...one.keypoints.flat(), ...places(one.ground ?? {}),
  ]);
  lines.push(JSON.stringify([session, clock, epoch, sequence, captured_at_us, age_ms, width, height, pixel_aspect, ...values]));
  at += 4 + length;
}
require("fs").writeFileSync(1, lines.join("\\n"));
"""

C = """
#include <inttypes.h>
#include <stdio.h>
int main(int count, char **arguments) {
    static uint8_t bytes[1 << 20];
    FILE *file = fopen(arguments[count - 1], "rb");
    const char *clocks[] = {"rtcp", "stream", "host"};
    uint8_t size[4];
    while (fread(size, 1, 4, file) == 4) {
        const size_t length = little(size, 4);
        struct poses poses;
        struct person one;
        if (fread(bytes, 1, length, file) != length || read_poses(bytes, length, &poses)) return 1;
        printf("[\\"");
        for (int n = 0; n < 8; n++) printf("%02x", poses.session[n]);
        printf("\\",\\"%s\\",%" PRIu32 ",%" PRIu64 ",%" PRId64 ",%.9g,%" PRIu32 ",%" PRIu32 ",%.9g", clocks[poses.clock], poses.epoch,
               poses.sequence, poses.captured_at_us, poses.age_ms, poses.width, poses.height, poses.pixel_aspect);
        for (unsigned n = 0; n < poses.people; n++) {
            read_person(bytes, n, &one);
            printf(",%" PRIu32 ",%.9g", one.track, one.score);
            for (int side = 0; side < 4; side++) printf(",%.9g", one.box[side]);
            for (int k = 0; k < 51; k++) printf(",%.9g", one.keypoints[k / 3][k % 3]);
            struct place place;
            if (read_place(bytes, n, &place)) {
                printf(",-1,-1,-1,-1,-1,-1,-1,-1");
                continue;
            }
            if (place.lat == INT32_MIN) printf(",-1,-1");
            else printf(",%.9f,%.9f", place.lat / 1e7, place.lon / 1e7);
            const float meters[] = {place.east_m, place.north_m, place.radius_m, place.speed_mps, place.course_deg, place.nearest_m};
            for (int k = 0; k < 6; k++) printf(",%.9g", meters[k] == meters[k] ? meters[k] : -1);
        }
        printf("]\\n");
    }
    return 0;
}
"""


def code(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


AIRCRAFTS = (
    AircraftMessage(state="stale"),
    AircraftMessage(
        state="ok",
        age_ms=12.5,
        origin=(47.1234567, 8.7654321),
        lat=-47.5,
        lon=-179.9999999,
        height_m=31.25,
        heading_deg=359.9,
        camera_pitch_deg=-90.0,
        camera_heading_deg=12.3,
    ),
)


def ground(rng: np.random.Generator) -> GroundMessage:
    east, north, radius, speed, course, nearest = (round(float(value), 2) for value in rng.uniform(0, 9000, 6))
    known = rng.uniform() < 0.5
    return GroundMessage(
        east_m=east,
        north_m=-north,
        radius_m=radius,
        lat=round(float(rng.uniform(-90, 90)), 7) if known else UNSET,
        lon=round(float(rng.uniform(-180, 180)), 7) if known else UNSET,
        speed_mps=speed if known else UNSET,
        course_deg=round(course % 360, 1) if known else UNSET,
        nearest_m=UNSET if known else nearest,
    )


def frames() -> list[PosesMessage]:
    """Frames of all sizes with up to four people each, some of whom are partly outside of them."""
    rng = np.random.default_rng(7)
    messages = []
    for number in range(FRAMES):
        width, height = (int(size) for size in rng.integers(16, (20_000, 20_000) if number % 5 == 0 else (4000, 3000)))
        people = []
        for _ in range(rng.integers(0, 5)):
            xy = np.round(rng.uniform(-0.01, 1.01, (17, 2)) * (width, height), 1)
            confidences = np.round(rng.uniform(0, 1, 17), 3)
            left, top, right, bottom = (round(float(side), 1) for side in (*rng.uniform(0, 0.5, 2), *rng.uniform(0, 0.5, 2)))
            people.append(
                PersonMessage(
                    track=UNSET if rng.uniform() < 0.2 else int(rng.integers(0, 2**31)),
                    score=round(float(rng.uniform()), 3),
                    box=(left * width, top * height, right * width, bottom * height),
                    keypoints=[(x, y, c) for (x, y), c in zip(xy.tolist(), confidences.tolist(), strict=True)],
                    ground=UNSET if number % 3 or rng.uniform() < 0.3 else ground(rng),
                )
            )
        messages.append(
            PosesMessage(
                camera="front",
                session=rng.bytes(8).hex(),
                epoch=int(rng.integers(0, 1000)),
                sequence=int(rng.integers(0, 2**50)),
                captured_at=timestamp(int(rng.integers(0, 2**60))),
                clock=("rtcp", "stream", "host")[number % 3],
                age_ms=round(float(rng.uniform(-1000, 1000)), 1),
                width=width,
                height=height,
                pixel_aspect=UNSET if number % 2 else 1.0667,
                people=people,
                aircraft=UNSET if number % 3 else AIRCRAFTS[number % 2],
            )
        )
    return messages


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[PosesMessage], Path]:
    messages = frames()
    path = tmp_path_factory.mktemp("compact") / "frames"
    path.write_bytes(b"".join(struct.pack("<I", len(payload)) + payload for payload in map(encode, messages)))
    return messages, path


def numbers(place: GroundMessage | UnsetType) -> list[float]:
    """Return the numbers of a place, -1 for those that are absent."""
    names = ("lat", "lon", "east_m", "north_m", "radius_m", "speed_mps", "course_deg", "nearest_m")
    values = [getattr(place, name, UNSET) for name in names]
    return [-1 if value is UNSET else value for value in values]


def check(messages: list[PosesMessage], lines: list[str]) -> None:
    assert len(lines) == len(messages) == FRAMES
    for message, line in zip(messages, lines, strict=True):
        session, clock, epoch, sequence, captured_at_us, age_ms, width, height, aspect, *values = json.loads(line)
        assert (session, clock, epoch, sequence) == (message.session, message.clock, message.epoch, message.sequence)
        assert (timestamp(captured_at_us * 1000), width, height) == (message.captured_at, message.width, message.height)
        assert age_ms == pytest.approx(message.age_ms, abs=1e-3)
        assert aspect == pytest.approx(1.0 if message.pixel_aspect is UNSET else message.pixel_aspect, abs=1e-6)
        assert len(values) == 65 * len(message.people)
        # Half a step of rounding; a step is a quarter pixel up to 8000 pixels.
        tolerance_px = 0.126 * max(1, -(-max(width, height) // 8000))
        for n, person in enumerate(message.people):
            track, score, *rest = values[65 * n : 65 * n + 57]
            places = values[65 * n + 57 : 65 * n + 65]
            assert places == pytest.approx(numbers(person.ground), rel=1e-6, abs=1e-7)
            assert track == (0xFFFFFFFF if person.track is UNSET else person.track)
            assert abs(score - person.score) < 0.003
            assert np.abs(np.array(rest[:4]) - person.box).max() <= tolerance_px <= 0.4
            difference = np.abs(np.array(rest[4:]).reshape(17, 3) - np.array(person.keypoints))
            assert difference[:, :2].max() <= tolerance_px
            assert difference[:, 2].max() < 0.003


@pytest.mark.needs("node")
def test_the_decoder_in_javascript(sent: tuple[list[PosesMessage], Path], tmp_path: Path) -> None:
    program = tmp_path / "decode.js"
    program.write_text(code("js") + NODE)
    done = subprocess.run(["node", str(program), str(sent[1])], capture_output=True, text=True, timeout=300, check=True)
    check(sent[0], done.stdout.splitlines())


@pytest.mark.needs("gcc")
def test_the_decoder_in_c(sent: tuple[list[PosesMessage], Path], tmp_path: Path) -> None:
    program = tmp_path / "decode.c"
    program.write_text(code("c") + C)
    subprocess.run(["gcc", "-O1", "-Wall", "-Werror", "-o", str(tmp_path / "decode"), str(program)], check=True, timeout=300)
    done = subprocess.run([str(tmp_path / "decode"), str(sent[1])], capture_output=True, text=True, timeout=300, check=True)
    check(sent[0], done.stdout.splitlines())


def test_a_person_takes_98_bytes() -> None:
    message = sample_message()
    assert (PERSON.itemsize, HEADER.size) == (98, 50)
    assert len(encode(message)) == 50 + 98 * len(message.people)
    assert len(encode(replace(message, people=[]))) == 50


def test_the_decoder_of_this_program_reads_it_too() -> None:
    message = replace(sample_message(), session="0123456789abcdef", epoch=3)
    decoded = decode(encode(message), "front")
    assert replace(decoded, people=[]) == replace(message, people=[])
    assert [person.track for person in decoded.people] == [person.track for person in message.people]
    assert decoded.people[1].box == pytest.approx(message.people[1].box, abs=0.126)


def test_places_and_the_aircraft_come_back_as_they_were(sent: tuple[list[PosesMessage], Path]) -> None:
    placed = 0
    for message in sent[0][:300]:
        decoded = decode(encode(message), "front")
        assert decoded.aircraft == message.aircraft
        assert [person.ground for person in decoded.people] == [person.ground for person in message.people]
        placed += sum(person.ground is not UNSET for person in message.people)
        size = 50 + 98 * len(message.people) + (0 if message.aircraft is UNSET else 37 + 32 * len(message.people))
        assert len(encode(message)) == size
    assert placed > 50


def test_positions_that_do_not_fit_are_moved_to_the_nearest_that_does() -> None:
    person = replace(sample_message().people[0], keypoints=[(1e6, -1e6, 2.0)] * 17)
    x, y, confidence = decode(encode(replace(sample_message(), people=[person])), "front").people[0].keypoints[0]
    assert (x, y, confidence) == (0x7FFF / 4, -0x8000 / 4, 1.0)


@pytest.mark.parametrize(
    "damage", [lambda b: b[:30], lambda b: b[:-1], lambda b: b"\x02" + b[1:], lambda b: b"\x03" + b[1:], lambda b: b[:2] + b"\0" + b[3:]]
)
def test_what_is_no_compact_message_is_refused(damage) -> None:
    with pytest.raises(OutputError, match="compact pose message"):
        decode(damage(encode(sample_message())), "front")


def test_watch_reads_compact_poses() -> None:
    topic, payload = "edgepose/drone/cameras/front/poses", encode(sample_message())
    table = LiveTable("edgepose")
    table.take(topic, payload, 0.0)
    table.take(topic, b"\x01", 0.0)  # damaged: ignored
    (camera,) = table.cameras()
    assert camera.poses is not None
    assert len(camera.poses.people) == 2
    line = as_json(topic, payload)
    assert line is not None
    assert json.loads(line)["people"][0]["track"] == 7
    assert as_json(topic, b"\x01") is None
