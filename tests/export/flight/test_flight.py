"""A flight from recorded messages: paths and events in GeoJSON and KML, and a map that shows them in a browser."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edgepose.earth import LocalFrame
from edgepose.event import Event
from edgepose.frame import Frame
from edgepose.ground import Aircraft, GroundPlace
from edgepose.messages.compose import event_message, poses_message
from edgepose.messages.structs import encode
from edgepose.person import Person
from edgepose_export.cli.flight import flight

START_NS = 1_795_341_600_000_000_000
HOME = LocalFrame(47.397742, 8.545594)


def record(folder: Path) -> Path:
    """Record a flight of 20 s east over two people, one of whom waves; telemetry fails for a second."""
    image, lines = np.zeros((4, 4, 3), np.uint8), []
    for number in range(200):
        at_ns = START_NS + number * 100_000_000
        latitude, longitude = HOME.degrees(2.0 * number / 10, 5.0)
        fails = 100 <= number < 110
        aircraft = Aircraft("stale") if fails else Aircraft("ok", 10.0, (47.4, 8.5), latitude, longitude, 30.0, 480.0, 90.0, -45.0, 90.0)
        people = []
        for track, (east, north) in enumerate(((5 + 0.1 * number, 20.0), (25.0, 12 + 3 * np.sin(number / 20))), 1):
            spot = GroundPlace(east, float(north), 1.5, *HOME.degrees(east, float(north)))
            people.append(Person(np.ones(4, np.float32), 0.9, np.zeros((17, 3), np.float32), track, None if fails else spot))
        frame = Frame(image, at_ns, "stream", number, "front")
        lines.append(encode(poses_message(frame, people, at_ns, "full", aircraft)).decode())
        if number == 150:
            event = Event("waving", "front", 0, number, at_ns, at_ns, "stream", 1, 0.8, (0, 0, 1, 1), 4, 4)
            lines.append(json.dumps({"topic": "edgepose/d/cameras/front/events", "payload": json.loads(encode(event_message(event)))}))
    folder.mkdir(exist_ok=True)
    (folder / "poses.jsonl").write_text("\n".join([*lines, '{"broken', '{"people": [], "camera": "</script>"}']) + "\n")
    return folder


def test_a_flight_becomes_geojson_kml_and_a_page(tmp_path: Path) -> None:
    folder = record(tmp_path / "recordings")
    done = CliRunner().invoke(flight, [str(folder), "--title", "</script><b>Field</b>"])
    assert done.exit_code == 0, done.output
    features = json.loads((folder / "flight.geojson").read_text())["features"]
    assert [(each["properties"]["kind"], each["geometry"]["type"]) for each in features] == [
        *(("aircraft", "LineString"), ("person", "LineString"), ("person", "LineString")),
        ("waving", "Point"),
    ]
    walker = features[1]
    first, last = (HOME.meters(*reversed(walker["geometry"]["coordinates"][index])) for index in (0, -1))
    assert first == pytest.approx((5, 20), abs=0.02)
    assert last == pytest.approx((24.8, 20), abs=0.3)
    assert len(walker["properties"]["times"]) == len(walker["properties"]["radius_m"]) == len(walker["geometry"]["coordinates"])
    spaces = {"k": "http://www.opengis.net/kml/2.2", "gx": "http://www.google.com/kml/ext/2.2"}
    tracks = ET.parse(folder / "flight.kml").getroot().findall(".//gx:Track", spaces)
    assert len(tracks) == 3
    assert all(len(track.findall("k:when", spaces)) == len(track.findall("gx:coord", spaces)) for track in tracks)
    page = (folder / "flight.html").read_text()
    assert "10 messages without places (10 stale); 2 unreadable lines" in page
    assert "<b>Field" not in page
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--bounds", "1,2,3,4"], "belong together"),
        (["--orthophoto", "x.jpg", "--bounds", "1,2"], "is not four numbers"),
        (["--orthophoto", "x.jpg", "--bounds", "3,2,1,4"], "not in order"),
        (["--orthophoto", "x.jpg", "--bounds", "1,2,3,4"], "cannot be read"),
    ],
)
def test_a_wrong_orthophoto_is_refused(tmp_path: Path, options: list[str], says: str) -> None:
    done = CliRunner().invoke(flight, [str(record(tmp_path / "r")), *options])
    assert done.exit_code != 0
    assert says in f"{done.output} {done.exception}"


def test_a_folder_without_messages_is_refused(tmp_path: Path) -> None:
    assert "has no files *.jsonl" in str(CliRunner().invoke(flight, [str(tmp_path)]).exception)
    (tmp_path / "a.jsonl").write_text("{}\n")
    assert "has no pose messages" in str(CliRunner().invoke(flight, [str(tmp_path)]).exception)
