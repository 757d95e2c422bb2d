"""The watchdog over the work loops: which of them hang, whether the service manager's watchdog is fed, and when the process must end."""

from edgepose.mqtt.publisher import MqttPublisher
from edgepose.pipeline.delivery import Delivery
from edgepose.pipeline.pipeline import Pipeline
from edgepose.supervision.hang_detector import HangDetector, StuckError
from edgepose.supervision.heartbeat import Heartbeat
from edgepose.supervision.systemd import Notifier


class Watchdog:
    """The check of the loops of pipeline, publisher and file writer; it feeds the service manager's watchdog while they progress.

    Attributes:
        hopeless: the error that must end the process, None while there is none.
    """

    def __init__(
        self, notifier: Notifier, pipeline: Pipeline, publisher: MqttPublisher, delivery: Delivery, stuck_after_s: float, now_s: float
    ) -> None:
        """
        Args:
            notifier: the service manager.
            pipeline: its loops are checked.
            publisher: likewise.
            delivery: its file writer is checked, but never ends the process.
            stuck_after_s: how long a loop may hang before the process must end.
            now_s: reading of the monotonic clock.
        """
        self._notifier = notifier
        self._pipeline = pipeline
        self._publisher = publisher
        self._delivery = delivery
        self._fed_s = now_s
        self._hang_detector = HangDetector(stuck_after_s, self._where)
        self.hopeless: StuckError | None = None

    @property
    def stuck(self) -> list[str]:
        """Names of the loops that hang."""
        return self._hang_detector.stuck

    def configure(self, stuck_after_s: float) -> None:
        """Change how long a loop may hang."""
        self._hang_detector.give_up_after_s = stuck_after_s

    def turn(self, now_s: float) -> None:
        """Detect loops that hang, and feed the watchdog where none does; where this fails, nothing feeds it."""
        working, writer = {**self._pipeline.heartbeats(), "publisher": self._publisher.heartbeat}, self._delivery.writer
        loops: dict[str, Heartbeat] = working if writer is None else {**working, writer.name: writer.heartbeat}
        self._hang_detector.check(loops, now_s)
        if self.hopeless is None:
            self.hopeless = self._hang_detector.hopeless(working, now_s)
        watchdog_s = self._notifier.watchdog_s
        if watchdog_s is not None and now_s - self._fed_s >= watchdog_s / 4 and self._hang_detector.all_is_well(working, now_s):
            self._notifier.alive()
            self._fed_s = now_s

    def _where(self, stage: str) -> str:
        """Return the line of code that a loop is at."""
        writer = self._delivery.writer
        return writer.where() if writer is not None and stage == writer.name else self._pipeline.where(stage)
