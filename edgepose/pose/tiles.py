"""Tiles: parts of a frame that the pose network visits in full resolution, because letterboxing makes people far away too small.

The whole frame is always visited. A budget decides how many tiles are visited besides; the schedule says which ones, and the merge
joins what was found in them with what was found in the whole frame (slicing after F. Akyon et al., "Slicing Aided Hyper Inference",
ICIP 2022, with a schedule in place of all tiles in every frame).
"""

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgepose.frame import NS_PER_S
from edgepose.person import Candidates, Person
from edgepose.pose.boxes import box_area, iou
from edgepose.pose.letterbox import Letterbox
from edgepose.tile import Tile, TileLook

_OVERLAP = 0.2  # of a tile's side: people up to this long are whole in one of two neighbors
_WORTHWHILE = 1.3  # resolution of a tile over that of the whole frame below which tiles show nothing new
_SMALL_PX = 40  # long side of a box in the network's input below which a visit helps
_FOUND_WHOLE_PX = 24  # long side of a box in the network's input from which most people are found in the whole frame
_EDGE_WEIGHT = 1.5  # how much sooner a tile at the edge of the frame is visited again
_TURN_SHARE = 0.8  # of the period in which each tile has its turn
_SELDOM = 0.25  # how much less often a tile is visited in which people are large enough for the whole frame
_REMEMBERED_NS = NS_PER_S // 2  # for which a tile is visited after its small people were last seen
_LEAST_PX = 8  # long side of the largest person in a tile's input below which nobody is found in it
_CUT_SHARE = 0.02  # of a tile's side: a box that ends this close to the edge of its tile may be cut by it
_SAME_IOU, _INSIDE = 0.45, 0.7  # boxes of two finds are one person's if they overlap this much, or a cut one lies in the other

_SEEN_FROM_PX, _SEEN_PX = 16, 64  # long side in the network's input from which the whole frame may show a person, and should show one
_DOUBT = 0.65  # weight of the opinion of a visit, or of the whole frame, of somebody whom it should show
_UNSEEN_SCORE = 0.03  # of somebody whom it does not show at all
_LARGEST_SHARE = 0.5  # of a tile's side: it may show parts of larger people only


def cover(letterbox: Letterbox, scale: float) -> list[Tile]:
    """Return overlapping tiles that cover a frame, row by row, each with the shape of the network's input.

    Args:
        letterbox: layout of the whole frame in the input.
        scale: input pixels per source pixel in a tile; 2 enlarges.

    Returns:
        No tiles where they would show hardly more than the whole frame does.
    """
    if scale < _WORTHWHILE * letterbox.scale_x:
        return []
    width, height = (
        min(letterbox.source_width, round(letterbox.width / scale)),
        min(letterbox.source_height, round(letterbox.height / scale)),
    )
    lefts, tops = _starts(letterbox.source_width, width), _starts(letterbox.source_height, height)
    return [Tile(left, top, left + width, top + height) for top in tops for left in lefts]


def _starts(length: int, side: int) -> list[int]:
    """Return where tiles of one side begin along a length, evenly spread."""
    count = 1 if side >= length else math.ceil((length - side) / (side * (1 - _OVERLAP))) + 1
    return [0] if count == 1 else [round(index * (length - side) / (count - 1)) for index in range(count)]


def tile_needs(sizes_px: NDArray[np.float64], letterbox: Letterbox, scale: float) -> list[float]:
    """Return how often each tile is to be visited, as a share: always, seldom, or (0) never.

    Tiles are visited where people are smaller than what the network finds in the whole frame, seldom where they are larger, and never where
    there is no ground, or people on it are too far away for the tile, too.

    Args:
        sizes_px: sizes of the smallest and of the largest person in each tile (T, 2), in source pixels; 0 for nobody.
        letterbox: layout of the whole frame.
        scale: as of `cover`.
    """
    return [
        0.0 if largest * scale < _LEAST_PX else 1.0 if smallest * letterbox.scale_x < _SMALL_PX else _SELDOM
        for smallest, largest in sizes_px.tolist()
    ]


class Visited(msgspec.Struct, frozen=True):
    """What one frame has shown: the whole frame, and some tiles.

    Attributes:
        tiles: those that were visited.
        small_px: long side of a box in source pixels below which the whole frame shows nobody reliably.
    """

    tiles: tuple[Tile, ...]
    small_px: float

    @classmethod
    def of(cls, tiles: tuple[Tile, ...], letterbox: Letterbox) -> "Visited":
        """Return what a frame with this layout has shown."""
        return cls(tiles, _FOUND_WHOLE_PX / letterbox.scale_x)

    def expects(self, box: NDArray[np.float32]) -> bool:
        """Return whether a person with this box (4,) would have been found; the tracker counts no miss otherwise."""
        left, top, right, bottom = box.tolist()
        if max(right - left, bottom - top) >= self.small_px:
            return True
        x, y = (left + right) / 2, (top + bottom) / 2
        return any(tile.left <= x < tile.right and tile.top <= y < tile.bottom for tile in self.tiles)


class Coverage(msgspec.Struct, frozen=True):
    """What the tiles have seen of the frame.

    Attributes:
        share: of the tiles that were visited within the period, 0 to 1.
        oldest_s: age of the oldest visit in seconds; infinite where a tile was never visited. Tiles that are visited seldom or never do
            not count.
    """

    share: float
    oldest_s: float


class TileSchedule:
    """The order in which the tiles of one camera are visited.

    Tiles with known people who are small in the whole frame are due in every frame. The others are due in turns that take less than the
    period; those at the edges of the frame, where people enter, come round sooner, and those that telemetry shows to help less come later.

    Args:
        letterbox: layout of the whole frame.
        scale: as of `cover`.
        period_s: time within which every tile is to be visited.
    """

    def __init__(self, letterbox: Letterbox, scale: float, period_s: float) -> None:
        self.tiles = cover(letterbox, scale)
        self._letterbox = letterbox
        self._period_ns = round(period_s * NS_PER_S)
        self._visited_ns: list[int | None] = [None] * len(self.tiles)
        self._people_ns: list[int | None] = [None] * len(self.tiles)  # when a small person was last known in a tile
        self._weights = [_EDGE_WEIGHT if _at_edge(tile, letterbox) else 1.0 for tile in self.tiles]
        self._needs = [1.0] * len(self.tiles)
        self._turns = float(len(self.tiles))  # visits in turn that are due: at first each tile once
        self._in_turn: frozenset[int] = frozenset()
        self._asked_ns: int | None = None

    def due(self, now_ns: int, people: Sequence[Person], needs: Sequence[float] | None = None) -> list[int]:
        """Return the indices of the tiles to visit now, the most urgent first; call it once a frame.

        Tiles that were not visited within the period come first, then those with small people, then those whose turn it is.

        Args:
            now_ns: on the clock of `visited`.
            people: known in the frame before, in source pixels.
            needs: how often each tile is to be visited, as of `tile_needs`; None for all alike.
        """
        self._needs = [1.0] * len(self.tiles) if needs is None else list(needs)
        elapsed_ns = 0 if self._asked_ns is None else max(0, now_ns - self._asked_ns)
        self._asked_ns = now_ns
        weights = [weight * need for weight, need in zip(self._weights, self._needs, strict=True)]
        wanted = [index for index, weight in enumerate(weights) if weight]
        more = sum(weights) * elapsed_ns / max(1.0, _TURN_SHARE * self._period_ns)
        self._turns = min(self._turns + more, len(self.tiles))
        ages_ns = [self._age_ns(index, now_ns) for index in range(len(self.tiles))]
        # Those that were never visited are all infinitely old: the ones that are needed more come first.
        oldest = sorted(wanted, key=lambda index: (-ages_ns[index] * weights[index], -self._needs[index]))
        in_turn = oldest[: int(self._turns)]
        overdue = [index for index in in_turn if ages_ns[index] * self._needs[index] >= self._period_ns]
        with_people = self._with_people(now_ns, people)
        self._in_turn = frozenset(in_turn).difference(with_people)
        return list(dict.fromkeys([*overdue, *with_people, *in_turn]))

    def visited(self, index: int, now_ns: int) -> None:
        """Note that a tile was visited."""
        if index in self._in_turn:
            self._turns = max(0.0, self._turns - 1)
        self._visited_ns[index] = now_ns

    def coverage(self, now_ns: int) -> Coverage:
        """Return what has been seen of the frame within the period."""
        ages_ns = [self._age_ns(index, now_ns) for index, need in enumerate(self._needs) if need == 1]
        if not ages_ns:
            return Coverage(1.0, 0.0)
        return Coverage(sum(age_ns <= self._period_ns for age_ns in ages_ns) / len(ages_ns), max(ages_ns) / NS_PER_S)

    def looks(self, now_ns: int) -> tuple[TileLook, ...]:
        """Return all tiles with the ages of their last visits."""
        return tuple(TileLook(tile, self._age_ns(index, now_ns) / NS_PER_S) for index, tile in enumerate(self.tiles))

    def _age_ns(self, index: int, now_ns: int) -> float:
        visited_ns = self._visited_ns[index]
        return math.inf if visited_ns is None else max(0, now_ns - visited_ns)

    def _with_people(self, now_ns: int, people: Sequence[Person]) -> list[int]:
        """Return the tiles in which small people are known, or were a moment ago."""
        small_px = _SMALL_PX / self._letterbox.scale_x
        for left, top, right, bottom in (person.box.tolist() for person in people):
            if max(right - left, bottom - top) < small_px:
                self._people_ns[_most_central(self.tiles, (left + right) / 2, (top + bottom) / 2)] = now_ns
        return [
            index for index, known_ns in enumerate(self._people_ns) if known_ns is not None and 0 <= now_ns - known_ns <= _REMEMBERED_NS
        ]


def _at_edge(tile: Tile, letterbox: Letterbox) -> bool:
    return tile.left == 0 or tile.top == 0 or tile.right == letterbox.source_width or tile.bottom == letterbox.source_height


def _most_central(tiles: Sequence[Tile], x: float, y: float) -> int:
    """Return the index of the tile whose center is nearest to a point: the one whose edges are least likely to cut a person there."""
    return min(range(len(tiles)), key=lambda index: _squared_distance(tiles[index], x, y))


def _squared_distance(tile: Tile, x: float, y: float) -> float:
    return ((tile.left + tile.right) / 2 - x) ** 2 + ((tile.top + tile.bottom) / 2 - y) ** 2


class TileVisit(msgspec.Struct, frozen=True, eq=False):
    """What the network found in one tile: candidates of one picture, in pixels of the tile's input, and the tile's layout there."""

    tile: Tile
    letterbox: Letterbox
    candidates: Candidates


def merge(whole: Candidates, letterbox: Letterbox, visits: Sequence[TileVisit], lowest_score: float) -> Candidates:
    """Join the finds in the whole frame and in tiles: one candidate for each person.

    A box that the edge of its tile cuts is dropped where another visit, or the whole frame, shows the person whole. Of two finds of one
    person, the one with the higher score stays. Somebody whom another visit or the whole frame should show, but hardly does, loses score:
    enlarged things look like people, and so do small ones that a tile would show better.

    Args:
        whole: candidates of one frame (1, K), in pixels of its input.
        letterbox: layout of the whole frame.
        visits: at tiles of the same frame.
        lowest_score: candidates below it are left out.

    Returns:
        Candidates (1, K'), in pixels of the whole frame's input, by falling score.
    """
    if not visits:
        return whole
    boxes, scores, keypoints, origin, cut = [], [], [], [], []
    for number, (found, visit) in enumerate([(whole, None), *((visit.candidates, visit) for visit in visits)]):
        kept = np.flatnonzero(found.scores[0] >= lowest_score)
        corners, poses = found.boxes[0, kept].reshape(-1, 2, 2), found.keypoints[0, kept].copy()
        if visit is not None:
            shift = np.array((visit.tile.left, visit.tile.top), np.float32)
            source = visit.letterbox.to_source(corners) + shift
            cut.append(_is_cut(source.reshape(-1, 4), visit.tile, letterbox))
            corners = letterbox.to_input(source)
            poses[..., :2] = letterbox.to_input(visit.letterbox.to_source(poses[..., :2]) + shift)
        else:
            cut.append(np.zeros(len(kept), np.bool_))
        boxes.append(corners.reshape(-1, 4))
        scores.append(found.scores[0, kept])
        keypoints.append(poses)
        origin.append(np.full(len(kept), number))
    joined = Candidates(np.concatenate(boxes)[None], np.concatenate(scores)[None], np.concatenate(keypoints)[None])
    rank = _different_people(joined.boxes[0], joined.scores[0], np.concatenate(origin), np.concatenate(cut))
    believed = _doubted(joined.boxes[0, rank], joined.scores[0, rank], whole, letterbox, visits)
    falling = np.argsort(-believed, kind="stable")
    rank = rank[falling]
    return Candidates(joined.boxes[:, rank], believed[None, falling], joined.keypoints[:, rank])


def _doubted(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], whole: Candidates, letterbox: Letterbox, visits: Sequence[TileVisit]
) -> NDArray[np.float32]:
    """Return the scores (K,) of boxes (K, 4) with the opinion of the visit that doubts each most, or of the whole frame.

    An opinion counts more for people who are larger in the network's input. That of a tile counts for those who are whole in it.
    """
    shown = _share_shown(boxes, _SEEN_FROM_PX, _SEEN_PX)
    believed = _with_opinion(boxes, scores, whole, shown)
    source = letterbox.to_source(boxes.reshape(-1, 2, 2))
    for visit in visits:
        tile = visit.tile
        corners = source.reshape(-1, 4)
        largest = _LARGEST_SHARE * max(tile.right - tile.left, tile.bottom - tile.top)
        inside = (source >= (tile.left, tile.top)).all(axis=(1, 2)) & (source <= (tile.right, tile.bottom)).all(axis=(1, 2))
        inside &= ~_is_cut(corners, tile, letterbox) & (_long_side(corners) < largest)
        chosen = np.flatnonzero(inside)
        in_tile = visit.letterbox.to_input(source[chosen] - np.array((tile.left, tile.top), np.float32)).reshape(-1, 4)
        shown = _share_shown(in_tile, _LEAST_PX, _FOUND_WHOLE_PX)
        believed[chosen] = np.minimum(believed[chosen], _with_opinion(in_tile, scores[chosen], visit.candidates, shown))
    return believed


def _with_opinion(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], found: Candidates, shown: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return scores (K,) of boxes (K, 4) with what others found there (1, F): means of the logits; nobody gains.

    Args:
        boxes: in the same pixels as the finds.
        scores: of the boxes.
        found: candidates of one picture.
        shown: to what share (K,) the people should be among them.
    """
    overlap = iou(boxes[:, None], found.boxes[0][None])  # (K, F)
    seen = np.where(overlap > _SAME_IOU, found.scores[0][None], np.float32(0)).max(axis=1, initial=_UNSEEN_SCORE)
    weight = _DOUBT * shown
    logits = (1 - weight) * _logit(scores) + weight * _logit(np.minimum(seen, scores))
    return np.where(seen >= scores, scores, 1 / (1 + np.exp(-logits))).astype(np.float32)


def _share_shown(boxes: NDArray[np.float32], from_px: float, to_px: float) -> NDArray[np.float32]:
    """Return to what share (K,) boxes (K, 4) in a network's input are large enough to be found."""
    return np.asarray(np.clip((_long_side(boxes) - from_px) / (to_px - from_px), 0, 1), np.float32)


def _long_side(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray((boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0), np.float32)


def _logit(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    probable = np.clip(scores.astype(np.float64), 1e-3, 1 - 1e-3)
    return np.asarray(np.log(probable / (1 - probable)))


def _is_cut(boxes: NDArray[np.float32], tile: Tile, letterbox: Letterbox) -> NDArray[np.bool_]:
    """Return which boxes (K, 4) in source pixels end at an edge of their tile that is not an edge of the frame."""
    margin_x, margin_y = _CUT_SHARE * (tile.right - tile.left), _CUT_SHARE * (tile.bottom - tile.top)
    cut = np.zeros(len(boxes), np.bool_)
    if tile.left > 0:
        cut |= boxes[:, 0] < tile.left + margin_x
    if tile.top > 0:
        cut |= boxes[:, 1] < tile.top + margin_y
    if tile.right < letterbox.source_width:
        cut |= boxes[:, 2] > tile.right - margin_x
    if tile.bottom < letterbox.source_height:
        cut |= boxes[:, 3] > tile.bottom - margin_y
    return cut


def _different_people(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], origin: NDArray[np.int64], cut: NDArray[np.bool_]
) -> NDArray[np.intp]:
    """Return the indices of the candidates that stay, by falling score; those of one visit are not compared with one another."""
    falling = np.argsort(-scores, kind="stable")
    whole_first = falling[np.argsort(cut[falling], kind="stable")]  # cut boxes last: any other find of the person is better
    overlap = iou(boxes[:, None], boxes[None])
    corner = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:]) - np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    common = np.prod(np.maximum(corner, 0), axis=-1)
    inside = common / np.maximum(box_area(boxes), np.float32(1e-6))[:, None]  # share of the row's box that lies in the column's
    same = (overlap > _SAME_IOU) | ((inside > _INSIDE) & cut[:, None])
    same &= origin[:, None] != origin[None]
    kept: list[int] = []
    for index in whole_first.tolist():
        if not same[index, kept].any():
            kept.append(index)
    order = np.array(kept, np.intp)
    return order[np.argsort(-scores[order], kind="stable")]
