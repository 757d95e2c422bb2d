"""Which way up a person is: the quarter turn in which the refiner sees each tracked person.

The refiner knows people who stand. Of somebody who lies, or stands below a camera that looks straight down, it is far surer in a crop
that is turned until the head is up. Finding the turn takes three more crops, so a track remembers it, and other turns are
tried again only from time to time: all at once, or one after the other where frames wait.
"""

from collections.abc import Sequence

from edgepose.person import Person

TURNS = (0, 1, 2, 3)
"""Counterclockwise quarter turns of a crop."""

_TRY_EVERY = 15
"""Refinements of a track between two trials of other turns: about a second where everybody is refined in most frames."""

_MOST_TRACKS = 1000


class CropTurns:
    """The turns of one camera's tracks. People without a track are upright, and all other turns are always tried.

    Attributes:
        hurried: whether frames wait: one turn of a track is tried then, three times as often.
    """

    def __init__(self) -> None:
        self.hurried = False
        self._turn: dict[int, int] = {}  # by track, the newest at the end
        self._untried: dict[int, int] = {}  # refinements since other turns were tried
        self._trial: dict[int, int] = {}  # turn that was tried last

    def of(self, person: Person) -> int:
        """Return the turn in which a person was last seen best; 0 for somebody new."""
        return 0 if person.track is None else self._turn.get(person.track, 0)

    def knows(self, person: Person) -> bool:
        """Return whether a turn of the person is remembered."""
        return person.track in self._turn

    def others(self, person: Person) -> tuple[int, ...]:
        """Return the turns to try if the remembered one is doubtful."""
        best = self.of(person)
        every = _TRY_EVERY // len(TURNS[1:]) if self.hurried else _TRY_EVERY
        if person.track is not None and self._untried.get(person.track, _TRY_EVERY) < every:
            return ()
        if person.track is None or not self.hurried:
            return tuple(turn for turn in TURNS if turn != best)
        last = self._trial.get(person.track, best)
        return (next(turn for step in TURNS[1:] if (turn := (last + step) % len(TURNS)) != best),)

    def note(self, person: Person, turn: int, tried: Sequence[int]) -> None:
        """Remember the best turn of a person, and which others were tried."""
        if person.track is None:
            return
        self._turn.pop(person.track, None)
        self._turn[person.track] = turn
        self._untried[person.track] = 0 if tried else self._untried.get(person.track, _TRY_EVERY) + 1
        if tried:
            self._trial[person.track] = tried[-1]
        if len(self._turn) > _MOST_TRACKS:
            oldest = next(iter(self._turn))
            del self._turn[oldest], self._untried[oldest]
            self._trial.pop(oldest, None)
