"""What the daemon counts: frames, drops by cause, failures, and how long each stage takes."""

import threading
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from edgepose.telemetry.histogram import AGE_BOUNDS_S, STAGE_BOUNDS_S, Buckets, Histogram

STAGES = ("slot", "letterbox", "engine", "decode", "track", "refine", "events", "publish")
"""Stages that are timed: waiting in the slot, those of the work loops, handing over; `refine` where people are looked at again."""

DROP_CAUSES = ("superseded", "stale", "corrupt", "frozen", "engine_failed", "pose_failed", "writer_busy", "writer_failed")
"""Why a frame never became a pose message, or (the last two) never reached a file."""

REFINE_FAILURES = ("refiner_failed", "unavailable", "internal")
"""Why somebody was not looked at again although it was their turn."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Quantiles of a duration, in milliseconds."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    maximum_ms: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Latency":
        """Of at least one sample."""
        return cls(*(round(float(value) * 1e3, 3) for value in np.percentile(np.array(seconds), (50, 95, 99, 100))))


@dataclass(frozen=True, slots=True)
class CameraCounts:
    """Counts of one camera since the start.

    Attributes:
        received: frames that the source gave.
        published: frames that became a pose message.
        dropped: frames lost, by cause (`DROP_CAUSES`).
        last_frame_s: monotonic time of the last frame received, or None before the first.
        people: people in the last pose message.
    """

    received: int
    published: int
    dropped: dict[str, int]
    last_frame_s: float | None
    people: int


@dataclass(frozen=True, slots=True)
class RefineCounts:
    """Counts of second looks at people since the start.

    Attributes:
        accepted: looks that agreed with the first, whose keypoints were taken.
        disagreed: looks that did not; the first keypoints stayed.
        failed: people whose turn it was in vain, by cause (`REFINE_FAILURES`).
        skipped: people whom the budget left out.
        dismissed: people who were not published, since after the second look they are probably nobody.
        cost_ms: what looking at one person takes now, milliseconds.
    """

    accepted: int
    disagreed: int
    failed: dict[str, int]
    skipped: int
    dismissed: int
    cost_ms: float


class Metrics:
    """Counters shared by the threads of the daemon; memory does not grow with time."""

    def __init__(self, samples: int = 512) -> None:
        self._lock = threading.Lock()
        self._received: Counter[str] = Counter()
        self._published: Counter[str] = Counter()
        self._dropped: dict[str, Counter[str]] = {}
        self._last_frame_s: dict[str, float] = {}
        self._people: dict[str, int] = {}
        self._ages: dict[str, deque[float]] = {}
        self._age_counts: dict[str, Histogram] = {}
        self._events: dict[str, Counter[str]] = {}
        self._looks: Counter[str] = Counter()
        self._looks_failed: Counter[str] = Counter()
        self._look_ms: float | None = None
        self._kept = samples
        self._samples: dict[str, deque[float]] = {stage: deque(maxlen=samples) for stage in STAGES}
        self._stage_counts = {stage: Histogram(STAGE_BOUNDS_S) for stage in STAGES}

    def received(self, camera: str, now_s: float) -> None:
        """Counts a frame that a source gave."""
        with self._lock:
            self._received[camera] += 1
            self._last_frame_s[camera] = now_s

    def published(self, camera: str, people: int, age_s: float | None) -> None:
        """Counts a pose message; of live frames with the time since the picture was taken."""
        with self._lock:
            self._published[camera] += 1
            self._people[camera] = people
            if age_s is not None:
                if camera not in self._ages:
                    self._ages[camera], self._age_counts[camera] = deque(maxlen=self._kept), Histogram(AGE_BOUNDS_S)
                self._ages[camera].append(age_s)
                self._age_counts[camera].observe(age_s)

    def dropped(self, camera: str, cause: str, frames: int = 1) -> None:
        """Counts frames that were lost."""
        with self._lock:
            self._dropped.setdefault(camera, Counter())[cause] += frames

    def happened(self, camera: str, kind: str) -> None:
        """Counts an event."""
        with self._lock:
            self._events.setdefault(camera, Counter())[kind] += 1

    def events(self, camera: str) -> dict[str, int]:
        """Events of one camera since the start, by kind."""
        with self._lock:
            return dict(self._events.get(camera, {}))

    def took(self, stage: str, seconds: float) -> None:
        """Notes how long a stage took."""
        with self._lock:
            self._samples[stage].append(seconds)
            self._stage_counts[stage].observe(seconds)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Notes how long the block takes."""
        start = perf_counter()
        yield
        self.took(stage, perf_counter() - start)

    def refine_cost(self, person_ms: float) -> None:
        """Notes what a second look at one person takes, milliseconds."""
        with self._lock:
            self._look_ms = person_ms

    def refined(self, accepted: int, disagreed: int) -> None:
        """Counts people who were looked at again."""
        with self._lock:
            self._looks["accepted"] += accepted
            self._looks["disagreed"] += disagreed

    def refine_skipped(self, people: int) -> None:
        """Counts people whom the budget left out."""
        with self._lock:
            self._looks["skipped"] += people

    def refine_failed(self, cause: str, people: int) -> None:
        """Counts people who could not be looked at again."""
        with self._lock:
            self._looks_failed[cause] += people

    def dismissed(self, people: int) -> None:
        """Counts people who were not published since a second look found nobody there."""
        with self._lock:
            self._looks["dismissed"] += people

    def looks(self) -> RefineCounts | None:
        """Counts of second looks, None where nobody is looked at again."""
        with self._lock:
            if self._look_ms is None:
                return None
            looks = self._looks
            return RefineCounts(
                looks["accepted"], looks["disagreed"], dict(self._looks_failed), looks["skipped"], looks["dismissed"], self._look_ms
            )

    def camera(self, name: str) -> CameraCounts:
        """Counts of one camera."""
        with self._lock:
            return CameraCounts(
                self._received[name],
                self._published[name],
                dict(self._dropped.get(name, {})),
                self._last_frame_s.get(name),
                self._people.get(name, 0),
            )

    def latencies(self) -> dict[str, Latency]:
        """Quantiles of the stages that were timed since the last call."""
        return self._drain(self._samples)

    def ages(self) -> dict[str, Latency]:
        """Quantiles of the age of poses when they left (time since the picture was taken) since the last call, by camera."""
        return self._drain(self._ages)

    def stage_buckets(self) -> dict[str, Buckets]:
        """How long each stage took, counted since the start."""
        with self._lock:
            return {stage: counts.buckets() for stage, counts in self._stage_counts.items()}

    def age_buckets(self) -> dict[str, Buckets]:
        """How old poses were when they left, counted since the start, by camera."""
        with self._lock:
            return {camera: counts.buckets() for camera, counts in self._age_counts.items()}

    def _drain(self, kept: dict[str, deque[float]]) -> dict[str, Latency]:
        with self._lock:
            samples = {name: list(values) for name, values in kept.items() if values}
            for values in kept.values():
                values.clear()
        return {name: Latency.of(values) for name, values in samples.items()}
