"""Parts of a frame that the pose network visits in full resolution (`edgepose.pose.tiles`)."""

import msgspec


class Tile(msgspec.Struct, frozen=True):
    """A part of the frame, in source pixels: x from `left` to `right`, y from `top` to `bottom`."""

    left: int
    top: int
    right: int
    bottom: int


class TileLook(msgspec.Struct, frozen=True):
    """A tile, and the age of its last visit in seconds; infinite where it was never visited."""

    tile: Tile
    age_s: float
