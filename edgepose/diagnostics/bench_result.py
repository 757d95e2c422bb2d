"""The values that a benchmark returns."""

import msgspec

from edgepose.telemetry.metrics import Latency


class RefineBenchResult(msgspec.Struct, frozen=True, kw_only=True):
    """Refinement in the measured daemon.

    Attributes:
        refiner: file name.
        people: maximum number of people refined per frame, as configured.
        budget_ms: time limit per frame in milliseconds, as configured; 0 is adaptive, which is no limit for the frames of a file.
        people_per_frame: mean number of people refined per frame.
        cost_ms: milliseconds per person.
    """

    refiner: str
    people: int
    budget_ms: float
    people_per_frame: float
    cost_ms: float


class BenchRound(msgspec.Struct, frozen=True, kw_only=True):
    """The measurements of one round, made directly one after the other.

    Attributes:
        engine_fps, pipeline_fps, daemon_fps: frames per second.
        engine_core_ms, pipeline_core_ms, daemon_core_ms: core milliseconds of the process for a frame, networks included.
        outside_ms: core milliseconds of the daemon for a frame outside networks and decoding.
    """

    engine_fps: float
    pipeline_fps: float
    daemon_fps: float
    engine_core_ms: float
    pipeline_core_ms: float
    daemon_core_ms: float
    outside_ms: float


class LiveBenchResult(msgspec.Struct, frozen=True, kw_only=True):
    """Live cameras, whose frames are in memory and whose capture times are exact.

    Attributes:
        cameras: their number.
        rate: frames per second of each.
        published: share of the frames that became pose messages.
        age: of poses when they were published, by the clock of the cameras, in milliseconds.
        engine: time of the network for a frame.
        fairness: Jain's index of the frames published of each camera: 1 is equal, 1 / `cameras` is all of one camera.
        frames: pose messages by camera.
    """

    cameras: int
    rate: float
    published: float
    age: Latency
    engine: Latency
    fairness: float
    frames: dict[str, int]


class MemoryBenchResult(msgspec.Struct, frozen=True, kw_only=True):
    """Start and memory of a fresh process, from outside.

    Attributes:
        first_pose_s: seconds from its start to its first pose message.
        peak_rss_mb: peak resident memory, MiB.
        peak_pss_mb: peak of its own share of the memory, MiB; None where the system does not tell it.
        peak_cgroup_mb: peak that a control group of its own counts, MiB; None where none can be made.
    """

    first_pose_s: float
    peak_rss_mb: float
    peak_pss_mb: float | None
    peak_cgroup_mb: float | None


class BenchRow(msgspec.Struct, frozen=True, kw_only=True):
    """One configuration, measured.

    Attributes:
        engine_fps: frames per second of the engine alone (pose network only) on prepared inputs, median over the rounds.
        pipeline_fps: frames per second of the daemon from frames in memory to encoded messages, median over the rounds.
        daemon_fps: frames per second of the daemon from file to encoded message, median over the rounds.
        ratio: median over the rounds of `daemon_fps / engine_fps`.
        networks: time of all networks for a frame over the time of a frame in the daemon; above 1 where two of them run at once.
        first_pose_s: seconds from the start of a fresh process to its first pose message.
        peak_rss_mb, peak_pss_mb, peak_cgroup_mb: memory of that process, MiB (`MemoryBenchResult`).
        outside_ms: core milliseconds for a frame outside networks and decoding, median over the rounds.
        core_ms: core milliseconds for a frame by stage; `decoding` is measured alone, `capture` holds it and the conversion to RGB.
        stages: milliseconds of each stage of the daemon: p50, p95, p99 and maximum.
        live: live cameras at half of the engine's rate.
        refine: refinement; None where nobody was refined.
        rounds: measurements of each round.
    """

    engine_fps: float
    pipeline_fps: float
    daemon_fps: float
    ratio: float
    networks: float
    first_pose_s: float
    peak_rss_mb: float
    peak_pss_mb: float | None = None
    peak_cgroup_mb: float | None = None
    outside_ms: float
    core_ms: dict[str, float]
    stages: dict[str, Latency]
    live: LiveBenchResult
    refine: RefineBenchResult | None
    rounds: list[BenchRound]


class BenchResult(BenchRow, frozen=True, kw_only=True):
    """Result of a benchmark: the row of the pose network alone, without refinement, tiles and camera motion, and others.

    Attributes:
        default: the configuration as it is.
        cameras: number of cameras that play the source at once.
        model, backend, device, source: what was measured.
    """

    default: BenchRow
    cameras: int
    model: str
    backend: str
    device: str
    source: str
