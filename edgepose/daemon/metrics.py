"""What the daemon counts: frames, drops by cause, failures, and how long each stage takes."""

import threading
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter

import numpy as np

STAGES = ("slot", "letterbox", "engine", "decode", "track", "publish")
"""Stages that are timed: waiting in the slot, the four of the work loop, handing over."""

DROP_CAUSES = ("superseded", "stale", "corrupt", "engine_failed", "pose_failed", "writer_busy", "writer_failed")
"""Why a frame never became a pose message, or (the last two) never reached a file."""


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
        self._kept = samples
        self._samples: dict[str, deque[float]] = {stage: deque(maxlen=samples) for stage in STAGES}

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
                self._ages.setdefault(camera, deque(maxlen=self._kept)).append(age_s)

    def dropped(self, camera: str, cause: str, frames: int = 1) -> None:
        """Counts frames that were lost."""
        with self._lock:
            self._dropped.setdefault(camera, Counter())[cause] += frames

    def took(self, stage: str, seconds: float) -> None:
        """Notes how long a stage took."""
        with self._lock:
            self._samples[stage].append(seconds)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Notes how long the block takes."""
        start = perf_counter()
        yield
        self.took(stage, perf_counter() - start)

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

    def _drain(self, kept: dict[str, deque[float]]) -> dict[str, Latency]:
        with self._lock:
            samples = {name: list(values) for name, values in kept.items() if values}
            for values in kept.values():
                values.clear()
        return {name: Latency.of(values) for name, values in samples.items()}
