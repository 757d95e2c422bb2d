"""What is known of a file beyond its frames: how many there should be, what was skipped, what is missing."""

import msgspec


class SourceFacts(msgspec.Struct):
    """The facts about a source of files; they grow while it is read. A stream keeps the defaults.

    Attributes:
        expected_frames: number of frames from the first to the last, None where it is not known.
        skipped: names of the files that are not read, by cause.
        time_jumps: number of places where timestamps went back or leaped; the clock goes on there.
        missing: how much of a cut file is missing, in one sentence; None where nothing is.
        notes: sentences about choices that were made, for the operator.
    """

    expected_frames: int | None = None
    skipped: dict[str, list[str]] = msgspec.field(default_factory=dict)
    time_jumps: int = 0
    missing: str | None = None
    notes: list[str] = msgspec.field(default_factory=list)

    def skip(self, cause: str, name: str) -> None:
        """Note a file that is not read."""
        self.skipped.setdefault(cause, []).append(name)
