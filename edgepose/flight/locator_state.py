"""The state of a ground locator in a recording, apart from the locator: a camera that nobody flies loads none."""

import msgspec


class GroundLocatorState(msgspec.Struct, frozen=True):
    """Snapshot of a `GroundLocator`: by track, nanoseconds and meters east and north, the track that was unseen for longest first."""

    paths: dict[int, list[tuple[int, float, float]]]
