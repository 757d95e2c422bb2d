"""Why there is no pose, and what the kernel and a picture say of it."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgepose.daemon.health import CameraProgress, DaemonSnapshot, diagnose, health_message
from edgepose.messages.camera_state import CameraState
from edgepose.mqtt.stats import PublisherStats
from edgepose.pipeline.pipeline import CameraStats, PipelineStats
from edgepose.pose.image_quality import ImageQuality, measure_image_quality
from edgepose.pose.letterbox import Letterbox
from edgepose.telemetry.sensors import ThrottleSigns

CLEAR, DARK, BLURRED = ImageQuality(100, 0.1), ImageQuality(3, 0.5), ImageQuality(100, 0.0005)


@pytest.mark.parametrize(
    ("state", "cause", "epoch", "now", "seen", "expected"),
    [
        ("connecting", None, 0, CameraProgress(), None, "warming_up"),
        ("connecting", None, 1, CameraProgress(), None, "no_video"),
        ("streaming", None, 0, CameraProgress(), CLEAR, "warming_up"),
        ("streaming", None, 0, CameraProgress(9, 0, 2), CLEAR, "person"),
        ("streaming", None, 0, CameraProgress(9, 0, 2), DARK, "person"),
        ("streaming", None, 0, CameraProgress(9, 0, 0), CLEAR, "no_person"),
        ("streaming", None, 0, CameraProgress(9, 0, 0), None, "no_person"),
        ("streaming", None, 0, CameraProgress(9, 0, 0), DARK, "too_dark"),
        ("streaming", None, 0, CameraProgress(9, 0, 0), BLURRED, "blurred"),
        ("streaming", None, 0, CameraProgress(5, 3, 0), CLEAR, "not_processed"),
        ("stalled", "stalled", 0, CameraProgress(9, 0, 2), CLEAR, "no_video"),
        ("stalled", "frozen", 0, CameraProgress(9, 0, 2), CLEAR, "frozen"),
        ("failed", "refused", 3, CameraProgress(9, 0, 2), CLEAR, "no_video"),
        ("paused", "command", 0, CameraProgress(9, 0, 2), CLEAR, "paused"),
    ],
)
def test_the_reason_that_explains_most(
    state: str, cause: str | None, epoch: int, now: CameraProgress, seen: ImageQuality | None, expected: str
) -> None:
    known = CameraState("a", state, cause, None, epoch)  # type: ignore[arg-type]
    before = CameraProgress(5) if now.published else CameraProgress()
    assert diagnose(known, now, before, seen) == expected


def picture(darken: float = 1.0, blur: float = 0.0) -> tuple[np.ndarray, Letterbox]:
    """Boxes of all sizes on a ground of noise, laid into an input with padding below."""
    random = np.random.default_rng(0)
    image = random.integers(90, 110, (240, 320, 3), np.uint8)
    for left, top, side, gray in random.integers(0, 200, (40, 4)):
        cv2.rectangle(image, (int(left), int(top)), (int(left + side // 3), int(top + side // 2)), (int(gray),) * 3, -1)
    if blur:
        image = cv2.GaussianBlur(image, (0, 0), blur)
    image = np.clip(image * darken, 0, 255).astype(np.uint8)
    letterbox = Letterbox.fit(240, 320, 256, 320)
    return letterbox.apply(image)[None], letterbox


@pytest.mark.parametrize(
    ("darken", "blur", "impairment"), [(1, 0, None), (0.3, 0, None), (0.02, 0, "too_dark"), (1, 6, "blurred"), (0.4, 6, "blurred")]
)
def test_what_keeps_people_from_being_seen(darken: float, blur: float, impairment: str | None) -> None:
    assert measure_image_quality(*picture(darken, blur)).impairment == impairment


def test_padding_is_no_darkness() -> None:
    images = np.zeros((1, 320, 320, 3), np.uint8)
    letterbox = Letterbox.fit(32, 320, 320, 320)
    images[0, : letterbox.content_height] = 200
    assert measure_image_quality(images, letterbox).luma == 200


def test_a_jetson_tells_of_capped_processors_and_of_over_current(tmp_path: Path) -> None:
    def device(number: int, kind: str, state: str) -> Path:
        folder = tmp_path / f"class/thermal/cooling_device{number}"
        folder.mkdir(parents=True)
        (folder / "type").write_text(kind + "\n")
        (folder / "cur_state").write_text(state + "\n")
        return folder / "cur_state"

    signs: list[ThrottleSigns | None] = [None]

    def throttled() -> bool | None:
        """Since the last call."""
        signs.append(ThrottleSigns.read(tmp_path))
        now = signs[-1]
        assert now is not None
        return now.throttled(signs[-2])

    assert throttled() is None
    device(0, "pwm-fan", "3")
    assert throttled() is None  # a fan that turns slows nothing down
    cpu, gpu = device(1, "cpufreq-cpu0", "0"), device(2, "devfreq-17000000.gpu", "0")
    assert throttled() is False
    gpu.write_text("2")
    assert throttled() is True
    gpu.write_text("0")
    cpu.write_text("nonsense")
    counter = tmp_path / "class/hwmon/hwmon1/oc2_event_cnt"
    counter.parent.mkdir(parents=True)
    counter.write_text("4")
    assert throttled() is False
    counter.write_text("5")
    assert throttled() is True
    assert throttled() is False


def test_health_says_what_is_degraded() -> None:
    cameras = {"a": CameraStats(CameraState("a", "streaming", None, None, 0), reconnects=2)}
    snapshot = DaemonSnapshot(
        now_s=1.0,
        pipeline=PipelineStats(cameras, cpu_fallback=True),
        publisher=PublisherStats(store_failure="disk full", duplicate_session="x"),
        restarts={"inference": 1},
        stuck=("postprocess",),
        reload_refused="no",
    )
    health = health_message(snapshot, None)
    assert health.degraded == ["cpu_fallback", "events_in_memory", "stuck:postprocess"]
    assert (health.restarts, health.duplicate_session, health.reload_refused) == ({"inference": 1}, "x", "no")
    assert health.cameras["a"].reconnects == 2
