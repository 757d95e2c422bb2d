"""The counters of the daemon: frames, drops by cause, failures, and how long each stage takes."""

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import perf_counter

import msgspec
import numpy as np
from msgspec.structs import replace

from edgepose.telemetry.histogram import AGE_BOUNDS_S, STAGE_BOUNDS_S, Buckets, Histogram

STAGES = ("slot", "letterbox", "engine", "tiles", "decode", "motion", "track", "refine", "ground", "events", "publish")
"""Stages that are timed: waiting in the slot, the stages of the work loops, publishing; `refine` only where people are refined."""

DROP_CAUSES = (
    "superseded",
    "stale",
    "corrupt",
    "frozen",
    "over_rate",
    "skipped",
    "heat",
    "engine_failed",
    "pose_failed",
    "writer_busy",
    "writer_failed",
)
"""Reasons why a frame became no pose message, or (the last two) reached no file."""

REFINE_FAILURES = ("refiner_failed", "unavailable", "internal")
"""Reasons why a person was not refined although the schedule chose them."""


class Latency(msgspec.Struct, frozen=True):
    """Quantiles of a duration, in milliseconds."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    maximum_ms: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Latency":
        """Return the quantiles of at least one sample."""
        return cls(*(round(float(value) * 1e3, 3) for value in np.percentile(np.array(seconds), (50, 95, 99, 100))))


class CameraCounts(msgspec.Struct, frozen=True):
    """Counts of one camera since the start.

    Attributes:
        received: frames that the source delivered.
        published: frames that became a pose message.
        dropped: frames lost, by cause (`DROP_CAUSES`).
        last_frame_s: monotonic time of the last frame received, or None before the first.
        people: people in the last pose message.
        events: events, by kind.
        undecidable: people of whom events could not be told, seen from straight above, by kind.
        over_limit: people who were left out since a frame had more than `pose.maximum_people`.
        coverage: share of the tiles visited within the period, and age of the oldest visit in seconds (infinite where a tile was never
            visited); None where the camera has no tiles.
    """

    received: int = 0
    published: int = 0
    dropped: Mapping[str, int] = msgspec.field(default_factory=dict)
    last_frame_s: float | None = None
    people: int = 0
    events: Mapping[str, int] = msgspec.field(default_factory=dict)
    over_limit: int = 0
    coverage: tuple[float, float] | None = None
    undecidable: Mapping[str, int] = msgspec.field(default_factory=dict)


class RefineCounts(msgspec.Struct, frozen=True):
    """Counts of refined people since the start.

    Attributes:
        accepted: people whose refined keypoints filled the box, and replaced the pose network's.
        disagreed: people whose refined keypoints did not fill the box; the pose network's stayed.
        failed: people whose refinement failed, by cause (`REFINE_FAILURES`).
        skipped: people whom the budget left out, or for whom a waiting frame left no time.
        dismissed: people who were not published, since after refinement their score is too low.
        doubles: people who were not published, since their refined pose is nearly that of another.
        cost_ms: current time to refine one person, in milliseconds.
    """

    accepted: int
    disagreed: int
    failed: dict[str, int]
    skipped: int
    dismissed: int
    doubles: int
    cost_ms: float


class MetricsStats(msgspec.Struct, frozen=True):
    """All counters at one moment.

    Attributes:
        cameras: counts since the start, by camera; a camera without a frame is absent.
        refine: counts since the start; None where nobody is refined.
        stages: how long each stage took, counted since the start.
        ages: how old poses were when they were published, counted since the start, by camera.
        stage_latencies: quantiles of the stages that were timed since they were last drained; empty unless this value drained them.
        age_latencies: quantiles of the age of poses, by camera, likewise.
    """

    cameras: Mapping[str, CameraCounts] = msgspec.field(default_factory=dict)
    refine: RefineCounts | None = None
    stages: Mapping[str, Buckets] = msgspec.field(default_factory=dict)
    ages: Mapping[str, Buckets] = msgspec.field(default_factory=dict)
    stage_latencies: Mapping[str, Latency] = msgspec.field(default_factory=dict)
    age_latencies: Mapping[str, Latency] = msgspec.field(default_factory=dict)

    def camera(self, name: str) -> CameraCounts:
        """Return the counts of one camera."""
        return self.cameras.get(name, CameraCounts())


class Metrics:
    """Counters shared by the threads of the daemon; memory does not grow with time."""

    def __init__(self, samples: int = 512, clock: Callable[[], float] = perf_counter) -> None:
        """
        Args:
            samples: durations of each stage that are kept for quantiles.
            clock: seconds that stages are timed with; that of the thread gives core time.
        """
        self.clock = clock
        self._lock = threading.Lock()
        self._received: Counter[str] = Counter()
        self._published: Counter[str] = Counter()
        self._dropped: dict[str, Counter[str]] = {}
        self._last_frame_s: dict[str, float] = {}
        self._people: dict[str, int] = {}
        self._ages: dict[str, deque[float]] = {}
        self._age_counts: dict[str, Histogram] = {}
        self._events: dict[str, Counter[str]] = {}
        self._undecidable: dict[str, Counter[str]] = {}
        self._over_limit: Counter[str] = Counter()
        self._coverage: dict[str, tuple[float, float]] = {}
        self._refined: Counter[str] = Counter()
        self._refine_failed: Counter[str] = Counter()
        self._refine_cost_ms: float | None = None
        self._samples_limit = samples
        self._samples: dict[str, deque[float]] = {stage: deque(maxlen=samples) for stage in STAGES}
        self._stage_counts = {stage: Histogram(STAGE_BOUNDS_S) for stage in STAGES}

    def stats(self, *, drain: bool = False) -> MetricsStats:
        """Return the counters of this moment.

        Args:
            drain: whether the latency samples are taken out and their quantiles returned; only the health report does that.
        """
        with self._lock:
            cameras = {*self._received, *self._published, *self._dropped, *self._events, *self._over_limit, *self._undecidable}
            samples = (_take(self._samples), _take(self._ages)) if drain else ({}, {})
            stats = MetricsStats(
                cameras={name: self._camera(name) for name in cameras},
                refine=self._refine_counts(),
                stages={stage: counts.buckets() for stage, counts in self._stage_counts.items()},
                ages={camera: counts.buckets() for camera, counts in self._age_counts.items()},
            )
        stage_latencies, age_latencies = ({name: Latency.of(values) for name, values in each.items()} for each in samples)
        return replace(stats, stage_latencies=stage_latencies, age_latencies=age_latencies)

    def received(self, camera: str, now_s: float) -> None:
        """Count a frame that a source delivered."""
        with self._lock:
            self._received[camera] += 1
            self._last_frame_s[camera] = now_s

    def published(self, camera: str, people: int, age_s: float | None) -> None:
        """Count a pose message; `age_s` is the time since capture, None for frames that are not live."""
        with self._lock:
            self._published[camera] += 1
            self._people[camera] = people
            if age_s is not None:
                if camera not in self._ages:
                    self._ages[camera], self._age_counts[camera] = deque(maxlen=self._samples_limit), Histogram(AGE_BOUNDS_S)
                self._ages[camera].append(age_s)
                self._age_counts[camera].observe(age_s)

    def dropped(self, camera: str, cause: str, frames: int = 1) -> None:
        """Count frames that were lost."""
        with self._lock:
            self._dropped.setdefault(camera, Counter())[cause] += frames

    def covered(self, camera: str, share: float, oldest_s: float) -> None:
        """Record what the tiles have seen of a camera's frame, as in `CameraCounts.coverage`."""
        with self._lock:
            self._coverage[camera] = share, oldest_s

    def over_limit(self, camera: str, people: int) -> None:
        """Count people who were left out since a frame had too many."""
        with self._lock:
            self._over_limit[camera] += people

    def happened(self, camera: str, kind: str) -> None:
        """Count an event."""
        with self._lock:
            self._events.setdefault(camera, Counter())[kind] += 1

    def undecidable(self, camera: str, kind: str) -> None:
        """Count a person who came to be seen from straight above, of whom events of a kind cannot be told."""
        with self._lock:
            self._undecidable.setdefault(camera, Counter())[kind] += 1

    def took(self, stage: str, seconds: float) -> None:
        """Record how long a stage took."""
        with self._lock:
            self._samples[stage].append(seconds)
            self._stage_counts[stage].observe(seconds)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Record how long the block takes."""
        started_s = self.clock()
        yield
        self.took(stage, self.clock() - started_s)

    def refine_cost(self, person_ms: float) -> None:
        """Record the time that refining one person takes, in milliseconds."""
        with self._lock:
            self._refine_cost_ms = person_ms

    def refined(self, accepted: int, disagreed: int) -> None:
        """Count people who were refined."""
        with self._lock:
            self._refined["accepted"] += accepted
            self._refined["disagreed"] += disagreed

    def refine_skipped(self, people: int) -> None:
        """Count people whom the budget left out."""
        with self._lock:
            self._refined["skipped"] += people

    def refine_failed(self, cause: str, people: int) -> None:
        """Count people whose refinement failed."""
        with self._lock:
            self._refine_failed[cause] += people

    def dismissed(self, people: int) -> None:
        """Count people who were not published, since their score after refinement is too low."""
        with self._lock:
            self._refined["dismissed"] += people

    def refine_doubles(self, people: int) -> None:
        """Count people who were not published, since their refined pose is nearly that of another."""
        with self._lock:
            self._refined["doubles"] += people

    def refinement(self) -> RefineCounts | None:
        """Return the counts of refined people, None where nobody is refined."""
        with self._lock:
            return self._refine_counts()

    def camera(self, name: str) -> CameraCounts:
        """Return the counts of one camera."""
        with self._lock:
            return self._camera(name)

    def latencies(self) -> dict[str, Latency]:
        """Drain the latency samples; return the quantiles of the stages that were timed since the last call."""
        return dict(self.stats(drain=True).stage_latencies)

    def _camera(self, name: str) -> CameraCounts:
        return CameraCounts(
            self._received[name],
            self._published[name],
            dict(self._dropped.get(name, {})),
            self._last_frame_s.get(name),
            self._people.get(name, 0),
            dict(self._events.get(name, {})),
            self._over_limit[name],
            self._coverage.get(name),
            dict(self._undecidable.get(name, {})),
        )

    def _refine_counts(self) -> RefineCounts | None:
        if self._refine_cost_ms is None:
            return None
        counts, failed = self._refined, dict(self._refine_failed)
        return RefineCounts(
            accepted=counts["accepted"],
            disagreed=counts["disagreed"],
            failed=failed,
            skipped=counts["skipped"],
            dismissed=counts["dismissed"],
            doubles=counts["doubles"],
            cost_ms=self._refine_cost_ms,
        )


def _take(samples: dict[str, deque[float]]) -> dict[str, list[float]]:
    taken = {name: list(values) for name, values in samples.items() if values}
    for values in samples.values():
        values.clear()
    return taken
