"""The visits to tiles: what the network finds in parts of a frame in full resolution, besides the whole frame."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from edgepose.config.schema import Config
from edgepose.engine.backend import Backend
from edgepose.model.file import ModelInfo
from edgepose.person import Candidates, Person
from edgepose.pipeline.stages import PreparedFrame
from edgepose.pose.letterbox import Letterbox
from edgepose.pose.tiles import Coverage, TileSchedule, TileVisit, merge, tile_needs
from edgepose.telemetry.metrics import Metrics
from edgepose.tile import Tile, TileLook

if TYPE_CHECKING:
    from edgepose.flight.expected_sizes import ExpectedSizes

LOWEST_SCORE = 0.05
"""Candidates below it are left out where tiles are merged; no threshold may be lower."""


class TileVisitor:
    """The visits of one camera's frames.

    Args:
        config: sections `tiles`, `pose` and `track`.
        info: of the pose network.
        metrics: takes the time of the visits, as `tiles`.
        sizes: of people in parts of the frame, from telemetry; None where it is not known.
    """

    def __init__(self, config: Config, info: ModelInfo, metrics: Metrics, sizes: "ExpectedSizes | None" = None) -> None:
        self._settings = config.tiles
        self._lowest_score = min(LOWEST_SCORE, config.pose.score_threshold, config.track.low_score_threshold)
        self._align: Literal["start", "center"] = "center" if info.layout == "ultralytics" else "start"
        self._metrics = metrics
        self._sizes = sizes
        self._schedule: TileSchedule | None = None
        self._letterbox: Letterbox | None = None

    def candidates(
        self,
        prepared: PreparedFrame,
        whole: Candidates,
        backend: Backend,
        people: Sequence[Person],
        more: Callable[[int], bool] | None,
    ) -> tuple[Candidates, tuple[Tile, ...] | None]:
        """Visit the tiles of a frame that are due, and return the candidates of all of it, and which tiles were visited.

        Args:
            prepared: the frame.
            whole: candidates of the whole frame (1, K).
            backend: runs the network; EngineError where that fails.
            people: in the frame before, in source pixels.
            more: asked before each visit, with the number of visits so far; False ends them. None visits all tiles that show ground.

        Returns:
            No tiles, None, where the whole frame shows all there is.
        """
        letterbox, frame = prepared.letterbox, prepared.frame
        if self._schedule is None or letterbox != self._letterbox:
            self._letterbox = letterbox
            self._schedule = TileSchedule(letterbox, self._settings.scale, self._settings.period_s)
        schedule = self._schedule
        if not schedule.tiles:
            return whole, None
        needs = self._needs(prepared, schedule)
        due = schedule.due(frame.captured_at_ns, people, needs)[: self._settings.per_frame or None]
        if more is None:
            due = [index for index in range(len(schedule.tiles)) if needs is None or needs[index]]
        visits: list[TileVisit] = []
        with self._metrics.timed("tiles"):
            for index in due:
                if more is not None and not more(len(visits)):
                    break
                visits.append(self._visit(prepared, schedule.tiles[index], backend))
                schedule.visited(index, frame.captured_at_ns)
            return merge(whole, letterbox, visits, self._lowest_score), tuple(visit.tile for visit in visits)

    def coverage(self, now_ns: int) -> Coverage | None:
        """Return what the visits have seen of the frame within the period; None before the first frame.

        Args:
            now_ns: capture time, nanoseconds since the Unix epoch.
        """
        return None if self._schedule is None else self._schedule.coverage(now_ns)

    def looks(self, now_ns: int) -> tuple[TileLook, ...]:
        """Return all tiles with the ages of their last visits, where they are to be drawn."""
        return self._schedule.looks(now_ns) if self._schedule is not None and self._settings.draw else ()

    def _needs(self, prepared: PreparedFrame, schedule: TileSchedule) -> list[float] | None:
        """Return how often each tile is to be visited; None where telemetry does not say."""
        if self._sizes is None:
            return None
        frame = prepared.frame
        sizes_px = self._sizes.of(prepared.captured_monotonic_ns, (frame.width, frame.height), schedule.tiles)
        return None if sizes_px is None else tile_needs(sizes_px, prepared.letterbox, self._settings.scale)

    def _visit(self, prepared: PreparedFrame, tile: Tile, backend: Backend) -> TileVisit:
        whole = prepared.letterbox
        part = np.ascontiguousarray(prepared.frame.image[tile.top : tile.bottom, tile.left : tile.right])
        height, width = part.shape[:2]
        letterbox = Letterbox.fit(height, width, whole.height, whole.width, align=self._align, fill=whole.fill)
        return TileVisit(tile, letterbox, backend.run(letterbox.apply(part)[None]))
