import os
import threading
import time
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgepose.capture.files.listing import find_images, natural_key
from edgepose.capture.source import open_source
from edgepose.config.schema import CameraConfig
from edgepose.errors import EndOfStream, SourceError
from edgepose.frame import Frame
from testing.reading import read_until_error
from testing.waiting import in_time, wait_for


def write_image(path: Path, rgb: tuple[int, int, int], size: tuple[int, int] = (8, 6)) -> Path:
    cv2.imwrite(str(path), np.full((size[1], size[0], 3), rgb[::-1], np.uint8))
    return path


def read_all(source: str) -> tuple[list[Frame], int]:
    with closing(open_source("front", CameraConfig(source=source), epoch=2)) as opened:
        assert not opened.live
        frames, error = read_until_error(opened)
        assert isinstance(error, EndOfStream)
        return frames, opened.corrupt_frames


@pytest.mark.parametrize(
    "names",
    [
        ["1.png", "2.png", "10.png"],
        ["frame2.jpg", "frame10.jpg", "frame10b.jpg"],
        ["1a.png", "a1.png", "A2.png", "a10.png", "b1.png"],
    ],
)
def test_natural_order(names: list[str]) -> None:
    assert [path.name for path in sorted(map(Path, reversed(names)), key=natural_key)] == names


def test_a_folder_delivers_every_image_in_natural_order_at_a_fixed_rate_from_the_first_date_on(tmp_path: Path) -> None:
    for number in (10, 9, 1):
        path = write_image(tmp_path / f"frame{number}.png", (number, 0, 200), size=(number + 4, 6))
        os.utime(path, ns=(0, 1_700_000_000_000_000_000 + number))
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "below.png").mkdir()
    frames, corrupt = read_all(str(tmp_path))
    assert [frame.image[0, 0].tolist() for frame in frames] == [[1, 0, 200], [9, 0, 200], [10, 0, 200]]  # RGB
    assert [frame.width for frame in frames] == [5, 13, 14]
    assert [frame.captured_at_ns for frame in frames] == [1_700_000_000_000_000_001 + number * 40_000_000 for number in range(3)]
    assert [(frame.clock, frame.sequence, frame.camera, frame.epoch) for frame in frames] == [("stream", i, "front", 2) for i in range(3)]
    assert [Path(frame.file).name for frame in frames] == ["frame1.png", "frame9.png", "frame10.png"]
    assert corrupt == 0


def test_one_image_is_a_folder_with_one_image(tmp_path: Path) -> None:
    frames, _ = read_all(str(write_image(tmp_path / "one%02d.PNG", (1, 2, 3))))
    assert [frame.image.shape for frame in frames] == [(6, 8, 3)]


def test_an_image_that_cannot_be_decoded_is_counted_and_skipped(tmp_path: Path) -> None:
    write_image(tmp_path / "1.png", (1, 1, 1))
    (tmp_path / "2.png").write_bytes(b"no image at all")
    (tmp_path / "3.png").touch()
    write_image(tmp_path / "4.png", (4, 4, 4))
    frames, corrupt = read_all(str(tmp_path))
    assert [(int(frame.image[0, 0, 0]), frame.sequence) for frame in frames] == [(1, 0), (4, 3)]
    assert corrupt == 2


def test_loop_starts_again(tmp_path: Path) -> None:
    for number in (1, 2):
        write_image(tmp_path / f"{number}.png", (number, 0, 0))
    with closing(open_source("front", CameraConfig(source=str(tmp_path), loop=True))) as source:
        frames = [source.read() for _ in range(5)]
    assert [(int(frame.image[0, 0, 0]), frame.sequence) for frame in frames] == [(1, 0), (2, 1), (1, 2), (2, 3), (1, 4)]


@pytest.mark.parametrize("loop", [False, True])
def test_nothing_but_damaged_files_is_an_error_not_an_end(tmp_path: Path, loop: bool) -> None:
    (tmp_path / "1.jpg").write_bytes(b"\xff\xd8 no image at all")
    with closing(open_source("front", CameraConfig(source=str(tmp_path / "1.jpg"), loop=loop))) as source:
        frames, error = read_until_error(source)
    assert frames == []
    assert not isinstance(error, EndOfStream)
    assert error.cause == "unsupported"
    assert ": this file could not be decoded, it is damaged or no image; images in .bmp, .jpeg, .jpg" in str(error)


def test_a_folder_without_images_says_what_is_accepted(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"holds no images; .*\.png") as caught:
        open_source("front", CameraConfig(source=str(tmp_path)))
    assert caught.value.cause == "no_video"


def test_a_closed_source_reports_it(tmp_path: Path) -> None:
    source = open_source("front", CameraConfig(source=str(write_image(tmp_path / "1.png", (1, 1, 1)))))
    source.close()
    source.close()
    with pytest.raises(SourceError) as caught:
        source.read()
    assert caught.value.cause == "closed"


def test_only_images_are_found(tmp_path: Path) -> None:
    for name in ("a.JPEG", "b.tiff", "c.gif", "d.mp4"):
        (tmp_path / name).touch()
    assert [path.name for path in find_images(tmp_path)] == ["a.JPEG", "b.tiff"]


def test_an_image_that_cannot_be_read_in_time_is_a_stall(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    os.mkfifo(path)  # like a file on a file server that is gone
    with closing(open_source("front", CameraConfig(source=str(path), read_timeout_s=0.3))) as source:
        start_s = time.monotonic()
        with pytest.raises(SourceError, match=r"did not deliver picture\.png within 0\.3 s") as caught:
            source.read()
        assert caught.value.cause == "stalled"
        assert in_time(time.monotonic() - start_s, 2)
    os.close(os.open(path, os.O_RDWR))  # releases the hanging thread
    assert wait_for(lambda: all(thread.name != "capture-front" for thread in threading.enumerate()))


def test_close_ends_a_read_that_hangs(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    os.mkfifo(path)
    source = open_source("front", CameraConfig(source=str(path), read_timeout_s=20))
    threading.Timer(0.1, source.close).start()
    start_s = time.monotonic()
    with pytest.raises(SourceError) as caught:
        source.read()
    assert caught.value.cause == "closed"
    assert in_time(time.monotonic() - start_s, 5)
    os.close(os.open(path, os.O_RDWR))
