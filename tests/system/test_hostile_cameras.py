"""The shipped unit, MemoryMax as shipped, with hostile cameras beside a good one; `HOSTILE_SECONDS` sets for how long."""

import os
import time
from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from testing.servers.http_camera import Answer, HttpCamera
from testing.system.service import CLIP, Service
from testing.waiting import wait_for

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("hostile")]  # one booted systemd

SECONDS = float(os.environ.get("HOSTILE_SECONDS", "15"))
GOOD = f"front: {{source: {CLIP}, loop: true, realtime: true}}"
MULTIPART = "multipart/x-mixed-replace; boundary=x"


def forever(piece: bytes) -> Iterator[bytes]:
    while True:
        yield piece


def huge_part() -> Iterator[bytes]:
    yield b"--x\r\nContent-Type: image/jpeg\r\nContent-Length: 2000000000\r\n\r\n\xff\xd8\xff\xe0"
    yield from forever(bytes(65_536))


@pytest.fixture(scope="module")
def bad() -> Iterator[HttpCamera]:
    """A camera that serves pictures of a quarter of a gigapixel, parts of two gigabytes, and redirects without end."""
    done, encoded = cv2.imencode(".jpg", np.full((15_900, 15_900), 90, np.uint8))
    assert done
    large = encoded.tobytes()
    part = f"--x\r\nContent-Type: image/jpeg\r\nContent-Length: {len(large)}\r\n\r\n".encode() + large
    answers: dict[str, Answer] = {
        "/large": lambda visit: visit.send(body=forever(part), content_type=MULTIPART),
        "/large.jpg": lambda visit: visit.send(body=large, content_type="image/jpeg"),
        "/huge": lambda visit: visit.send(body=huge_part(), content_type=MULTIPART),
        "/again": lambda visit: visit.send(302, Location="/again"),
        "/list.m3u8": lambda visit: visit.send(body=b"#EXTM3U\n" + b"#EXT-X-STREAM-INF:BANDWIDTH=1\nlist.m3u8\n" * 500),
    }
    with HttpCamera(answers) as camera:
        yield camera


def frames_published(service: Service, cameras: str) -> int:
    """Return how many frames of the good camera are published in `SECONDS`, once everything runs."""
    service.configure("{" + cameras + "}")
    service.started()
    before = len(wait_for(lambda: service.on("cameras/front/poses"), within_s=30))
    time.sleep(SECONDS)
    published = len(service.on("cameras/front/poses")) - before
    assert (service.show("ActiveState"), service.show("NRestarts")) == ("active", "0")
    return published


def test_a_bad_camera_costs_itself_only(service: Service, bad: HttpCamera) -> None:
    alone = frames_published(service, GOOD)
    service.machine.run("systemctl", "stop", "edgepose")
    paths = ["/large", "/large.jpg", "/huge", "/again", "/list.m3u8"]
    cameras = ", ".join([GOOD, *(f"bad{number}: {{source: '{bad.url(path)}'}}" for number, path in enumerate(paths))])
    beside = frames_published(service, cameras)
    print(f"{alone} frames alone, {beside} beside hostile cameras, memory peak {service.show('MemoryPeak')}")
    assert {path.partition("?")[0] for path in bad.paths} == set(paths)
    assert "oom" not in service.journal().lower()
    if len(os.sched_getaffinity(0)) > os.getloadavg()[0] - 1:  # otherwise other programs decide
        assert beside > 0.95 * alone
