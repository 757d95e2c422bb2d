"""What a run tells a program while it trains."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """How far a run is.

    Attributes:
        phase: name of the current phase.
        done: share of the phase that is done, 0 to 1.
        pictures: trained on in this phase.
        total: pictures of the phase; estimated by the measured speed where the run has a length in minutes.
        steps: of all phases.
        minutes: of training, over all phases.
        pictures_per_s: moving average of the speed; 0 before the first step.
        learning_rate: of the last step, before each tensor's own share.
        losses: moving averages by name, weighted.
    """

    phase: str
    done: float
    pictures: int
    total: int
    steps: int
    minutes: float
    pictures_per_s: float
    learning_rate: float
    losses: dict[str, float] = field(default_factory=dict)


class TrainingCallbacks:
    """The calls of a run, in its own thread; a subclass overrides those that it needs, because all of them do nothing here.

    An exception ends the run. Of several processes the first one alone calls.
    """

    def on_start(self, progress: TrainingProgress) -> None:
        """Take the place where the run begins, or goes on, before its first step."""

    def on_step(self, progress: TrainingProgress) -> None:
        """Take the progress after a step."""

    def on_measure(self, progress: TrainingProgress, ap: float, best: bool) -> None:
        """Take a measured average precision, and whether it is the best of the run so far."""

    def on_phase_end(self, progress: TrainingProgress) -> None:
        """Take the progress at the end of a phase, after its measurement and before its checkpoint."""

    def on_end(self, complete: bool) -> None:
        """Take the end: the recipe is complete, or the time limit is reached. The last checkpoint is written."""
