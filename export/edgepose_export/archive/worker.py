"""One worker of an archive: its network stays open from one video or chunk to the next."""

import hashlib
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from edgepose import __version__
from edgepose.config.schema import Config, FilesConfig
from edgepose.engine.backend import Backend, open_backend, pose_model, refiner_model
from edgepose.engine.selection import select, with_settings
from edgepose.errors import SourceError
from edgepose.event import Event
from edgepose.messages.compose import event_message
from edgepose.messages.structs import encode
from edgepose.model.file import ModelFile
from edgepose.pipeline.offline.run import OfflineRun, Summary
from edgepose.pipeline.offline.settings import offline_config
from edgepose.validation.inputs import OfflineInput
from edgepose_export.archive.chunks import Chunk, run_chunk, split
from edgepose_export.archive.locations import ResultFolder, is_remote, local_copy
from edgepose_export.archive.network_results import RecalledNetwork
from edgepose_export.archive.results import write_parquet
from edgepose_export.archive.videos import ArchivedVideo


@dataclass(frozen=True, slots=True)
class AnnotateSettings:
    """Settings of a run over an archive; the same on all machines.

    Attributes:
        config: of the networks and of everything after them.
        output: folder of the results.
        start_ns: capture time of the first frame of each video, nanoseconds since the Unix epoch; None for its last change.
        chunk_s: shortest length of a chunk, seconds.
        model, refiner, refine_people, track: as in `edgepose.pipeline.offline.settings.offline_config`.
        networks: hashes of the files of the networks.
    """

    config: Config
    output: str
    start_ns: int | None = None
    chunk_s: float = 60.0
    model: str | None = None
    refiner: str | None = None
    refine_people: int | None = None
    track: bool | None = None
    networks: str = ""

    def with_networks(self) -> "AnnotateSettings":
        """Return the settings with the hashes of their networks, so that another network under the same name gives other results.

        Raises:
            ConfigError, ModelError, EngineError: a network is missing or wrong.
        """
        config = self.of(ArchivedVideo("video.mp4", 0, 0), FilesConfig())
        config = with_settings(config, select(config).ready)
        models = [pose_model(config.model)]
        if config.refine.people:
            models.append(refiner_model(config.refine.path, config.model))
        files = [model.path.read_bytes() if model.path.is_file() else str(model.path).encode() for model in models]
        return replace(self, networks=" ".join(hashlib.sha256(data).hexdigest() for data in files))

    def of(self, video: ArchivedVideo, files: FilesConfig) -> Config:
        """Return the configuration of one video, the one that `edgepose infer` would use."""
        inputs = [OfflineInput(video.camera, video.source)]
        return offline_config(
            self.config, inputs, files, model=self.model, refiner=self.refiner, refine_people=self.refine_people, track=self.track
        )

    def fingerprint(self, video: ArchivedVideo) -> str:
        """Return a text that is another one where a result might be another one."""
        parts = [__version__, video.source, video.size, video.modified_ns, self.start_ns, self.model, self.refiner, self.refine_people]
        parts += [self.track, self.networks, msgspec.json.encode(self.config, order="deterministic").decode()]
        return hashlib.sha256(repr(parts).encode()).hexdigest()


class VideoDone(msgspec.Struct, frozen=True, kw_only=True):
    """The mark of a video whose results are complete, `done/NAME.json`; written after all of them."""

    source: str
    fingerprint: str
    frames: int = 0
    people: int = 0
    events: int = 0
    corrupt: int = 0
    seconds: float = 0.0
    recomputed: int = 0
    missing: str = ""
    failure: str = ""


def done_before(results: ResultFolder, video: ArchivedVideo, settings: AnnotateSettings) -> VideoDone | None:
    """Return the mark of a video that needs no further work, None where it needs some."""
    data = results.read(f"done/{video.name}.json")
    try:
        mark = msgspec.json.decode(data, type=VideoDone) if data else None
    except msgspec.MsgspecError:
        return None
    return mark if mark is not None and not mark.failure and mark.fingerprint == settings.fingerprint(video) else None


class Worker:
    """A worker; used by one thread.

    Args:
        settings: of the run.
    """

    def __init__(self, settings: AnnotateSettings) -> None:
        self._settings = settings
        self._results = ResultFolder(settings.output)
        self._network: Backend | None = None
        self._model: ModelFile | None = None

    def plan(self, video: ArchivedVideo) -> list[Chunk]:
        """Return the chunks of a video; none for one that goes through everything in one piece, or cannot be read."""
        try:
            with local_copy(video.source) as path:
                return split(video, path, self._settings.chunk_s)
        except SourceError:
            return []  # which is told when the video's turn comes

    def run_chunk(self, chunk: Chunk) -> int:
        """Send a chunk through the network, and return its number of frames; one whose results are there already costs nothing."""
        name = self._chunk_file(chunk)
        if name.rsplit("/", 1)[-1] in self._results.names(f"work/{chunk.video.name}"):
            return 0
        config = self._opened(self._settings.of(chunk.video, FilesConfig()))
        assert self._network is not None
        assert self._model is not None
        with tempfile.TemporaryDirectory() as folder, local_copy(chunk.video.source) as path:
            target = Path(folder) / "results.npz"
            frames = run_chunk(chunk, path, config, self._network, self._model.info, target)
            self._results.write(name, target)
        return frames

    def annotate(
        self, video: ArchivedVideo, advance: Callable[[], None] = lambda: None, stop: Callable[[], bool] = lambda: False
    ) -> VideoDone | None:
        """Write the results of a video, and return its mark; None where `stop` ended it, and then nothing is written.

        A video that cannot be read has a mark with the reason.

        Args:
            advance: called after each frame.
            stop: called after each frame.

        Raises:
            ConfigError, ModelError, EngineError, OutputError: the run cannot go on.
        """
        began_s = time.monotonic()
        fingerprint = self._settings.fingerprint(video)
        with tempfile.TemporaryDirectory(prefix="edgepose-archive-") as name:
            folder = Path(name)
            try:
                with local_copy(video.source) as path:
                    summary, events, recomputed = self._run(video, path, folder, advance, stop)
            except SourceError as error:
                mark = VideoDone(source=video.source, fingerprint=fingerprint, failure=str(error))
            else:
                if summary.interrupted:
                    return None
                write_parquet(folder / "poses.jsonl", folder / "poses.parquet")
                for kind, suffix in (("poses", "jsonl"), ("poses", "parquet"), ("events", "jsonl")):
                    place = f"{'parquet' if suffix == 'parquet' else kind}/{video.name}.{suffix}"
                    self._results.write(place, folder / f"{kind}.{suffix}")
                mark = VideoDone(
                    source=video.source,
                    fingerprint=fingerprint,
                    frames=summary.frames,
                    people=summary.people,
                    events=events,
                    corrupt=summary.corrupt,
                    seconds=round(time.monotonic() - began_s, 3),
                    recomputed=recomputed,
                    missing=next(iter(summary.missing.values()), ""),
                )
            (folder / "done.json").write_bytes(msgspec.json.encode(mark))
            self._results.write(f"done/{video.name}.json", folder / "done.json")
        self._results.remove(f"work/{video.name}")
        return mark

    def close(self) -> None:
        """Close the network."""
        if self._network is not None:
            self._network.close()
            self._network = None

    def _run(
        self, video: ArchivedVideo, path: Path, folder: Path, advance: Callable[[], None], stop: Callable[[], bool]
    ) -> tuple[Summary, int, int]:
        """Write poses and events of a video into a folder; return the summary, the number of events and of results computed anew."""
        lines = folder / "poses.jsonl"
        local = ArchivedVideo(str(path), video.size, video.modified_ns)
        config = self._opened(self._settings.of(local, FilesConfig(jsonl=str(lines))))
        assert self._network is not None
        network = RecalledNetwork(self._network, self._remembered(video, folder))
        chunked = bool(network.known)
        start_ns = self._settings.start_ns if self._settings.start_ns is not None else video.modified_ns
        events = 0
        with (folder / "events.jsonl").open("wb") as file:

            def take(found: list[Event]) -> None:
                nonlocal events
                for event in found:
                    file.write(encode(event_message(event, config.privacy.profile)) + b"\n")
                events += len(found)

            inputs = [OfflineInput(local.camera, local.source)]
            with OfflineRun(config, inputs, start_ns=start_ns, network=network, take_events=take) as run:
                summary = run.run(advance, stop)
        if is_remote(video.source):
            _name_source(lines, str(path), video.source)
        return summary, events, network.missed if chunked else 0

    def _remembered(self, video: ArchivedVideo, folder: Path) -> list[Path]:
        """Return files of this machine with the results of the video's chunks."""
        paths = []
        prefix = f"{self._settings.fingerprint(video)[:16]}-"
        for name in self._results.names(f"work/{video.name}"):
            data = self._results.read(f"work/{video.name}/{name}") if name.startswith(prefix) else None
            if data is not None:
                paths.append(folder / name)
                paths[-1].write_bytes(data)
        return paths

    def _chunk_file(self, chunk: Chunk) -> str:
        return f"work/{chunk.video.name}/{self._settings.fingerprint(chunk.video)[:16]}-{chunk.number:06d}.npz"

    def _opened(self, config: Config) -> Config:
        """Return a configuration whose pose network is open."""
        config = with_settings(config, select(config).ready)
        if self._network is None:
            self._model = pose_model(config.model)
            self._network = open_backend(self._model, config.model)
        return config


def _name_source(lines: Path, path: str, source: str) -> None:
    """Name the address of a video in its results, in the place of the copy that was read: the last field of each line."""
    old, new = (b'"source":' + msgspec.json.encode(text) + b"}\n" for text in (path, source))
    renamed = lines.with_suffix(".renamed")
    with lines.open("rb") as before, renamed.open("wb") as after:
        for line in before:
            after.write(line.removesuffix(old) + new if line.endswith(old) else line)
    renamed.replace(lines)
