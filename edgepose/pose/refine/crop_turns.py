"""Which way up a person is: the quarter turn in which the refiner sees each tracked person.

The refiner knows people who stand. Of somebody who lies, or stands below a camera that looks straight down, it is far surer in a crop
that is turned until the head is up. Finding the turn takes three more crops, so a track remembers it, and other turns are
tried again only from time to time.
"""

from edgepose.person import Person

TURNS = (0, 1, 2, 3)
"""Counterclockwise quarter turns of a crop."""

_TRY_EVERY = 15
"""Refinements of a track between two trials of other turns: about a second where everybody is refined in most frames."""

_MOST_TRACKS = 1000


class CropTurns:
    """The turns of one camera's tracks. People without a track are upright, and other turns are always tried."""

    def __init__(self) -> None:
        self._turn: dict[int, int] = {}  # by track, the newest at the end
        self._untried: dict[int, int] = {}  # refinements since other turns were tried

    def of(self, person: Person) -> int:
        """Return the turn in which a person was last seen best; 0 for somebody new."""
        return 0 if person.track is None else self._turn.get(person.track, 0)

    def knows(self, person: Person) -> bool:
        """Return whether a turn of the person is remembered."""
        return person.track in self._turn

    def may_try_others(self, person: Person) -> bool:
        """Return whether other turns may be tried if the remembered one is doubtful."""
        return person.track is None or self._untried.get(person.track, _TRY_EVERY) >= _TRY_EVERY

    def note(self, person: Person, turn: int, *, tried: bool) -> None:
        """Remember the best turn of a person, and whether the others were tried."""
        if person.track is None:
            return
        self._turn.pop(person.track, None)
        self._turn[person.track] = turn
        self._untried[person.track] = 0 if tried else self._untried.get(person.track, _TRY_EVERY) + 1
        if len(self._turn) > _MOST_TRACKS:
            oldest = next(iter(self._turn))
            del self._turn[oldest], self._untried[oldest]
