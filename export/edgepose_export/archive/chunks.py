"""Chunks of a video: cut at key frames, and sent through the network without regard to what comes before and after."""

from dataclasses import dataclass
from pathlib import Path

import av

from edgepose.capture.limits import MB, file_options
from edgepose.capture.presentation import blackened, choose_track
from edgepose.capture.stream import Stream
from edgepose.config.schema import Config
from edgepose.engine.backend import Backend
from edgepose.frame import NS_PER_S, Frame
from edgepose.model.file import ModelInfo
from edgepose.pipeline.stages import Preprocessor
from edgepose.pipeline.tiles import LOWEST_SCORE, TileVisitor
from edgepose.telemetry.metrics import Metrics
from edgepose_export.archive.network_results import RememberingNetwork
from edgepose_export.archive.videos import ArchivedVideo


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a video.

    Attributes:
        video: that it is part of.
        number: of the chunk, from 0.
        begin_ns, end_ns: presentation times of its first key frame and of the next chunk's; None for the last chunk.
    """

    video: ArchivedVideo
    number: int
    begin_ns: int
    end_ns: int | None


def key_frame_times(path: Path) -> list[int]:
    """Return the presentation times of the key frames of a video, in ns; empty where it has none that can be found.

    Nothing is decoded: the packets are read once.
    """
    try:
        with av.open(f"file:{path}", metadata_errors="ignore", options=dict(file_options)) as container:
            track, _ = choose_track(container, str(path))
            base = track.time_base
            packets = container.demux(track)
            times = [int(packet.pts) * int(base.numerator) * NS_PER_S // int(base.denominator) for packet in packets if _is_key(packet)]
    except (av.FFmpegError, OSError, ValueError):
        return []
    return sorted(set(times))


def split(video: ArchivedVideo, path: Path, chunk_s: float) -> list[Chunk]:
    """Return the chunks of a video: each begins at a key frame and is at least as long as asked, but for the last.

    A video of one chunk returns none: it goes through everything in one piece.
    """
    begins: list[int] = []
    for time_ns in key_frame_times(path):
        if not begins or time_ns - begins[-1] >= chunk_s * NS_PER_S:
            begins.append(time_ns)
    if len(begins) < 2:
        return []
    return [Chunk(video, number, begin, end) for number, (begin, end) in enumerate(zip(begins, [*begins[1:], None], strict=True))]


def lowest_score(config: Config) -> float:
    """Return the score below which no candidate is ever used."""
    return min(LOWEST_SCORE, config.pose.score_threshold, config.track.low_score_threshold)


def run_chunk(chunk: Chunk, path: Path, config: Config, network: Backend, info: ModelInfo, target: Path) -> int:
    """Send the frames of a chunk through the network, write the results into a file, and return the number of frames.

    Args:
        chunk: of the video.
        path: of the video on this machine.
        config: with one camera, that of the video.
        network: open.
        info: of the network.
        target: file for the results.

    Raises:
        EngineError: the network failed.
    """
    camera = next(iter(config.cameras.values()))
    stream = Stream(
        f"file:{path}",
        dict(file_options),
        str(path),
        open_timeout_s=camera.open_timeout_s,
        read_timeout_s=camera.read_timeout_s,
        is_file=True,
        low_delay=False,
        limit_bytes=camera.frame_limit_mb * MB,
        rate=camera.rate,
    )
    metrics = Metrics()
    remembering = RememberingNetwork(network, lowest_score(config))
    preprocessor = Preprocessor(info, config.model.input_size, metrics.took)
    tiles = TileVisitor(config, info, metrics) if config.tiles.enabled else None
    frames = 0
    try:
        stream.open()
        if chunk.number:
            stream.seek(chunk.begin_ns)
        while (decoded := stream.next_frame()) is not None:
            if decoded.pts_ns is not None and decoded.pts_ns < chunk.begin_ns:
                continue
            if decoded.pts_ns is not None and chunk.end_ns is not None and decoded.pts_ns >= chunk.end_ns:
                break
            frame = Frame(blackened(stream.image(decoded), camera.masks), 0, "stream", frames, chunk.video.camera)
            prepared = preprocessor.prepare(frame)
            candidates = remembering.run(prepared.images)
            if tiles is not None:
                tiles.candidates(prepared, candidates, remembering, [], None)
            frames += 1
    except (av.FFmpegError, ValueError):
        pass  # what is damaged is told, and what is missing is computed, where the video is read from its beginning
    finally:
        stream.close()
    remembering.save(target)
    return frames


def _is_key(packet: av.Packet) -> bool:
    return bool(packet.is_keyframe) and packet.pts is not None
