"""A simulated camera: walkers in place of frames and networks, and the daemon's own tracking, events and occupancy behind them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from msgspec.structs import replace

from edgepose.config.schema import Config
from edgepose.frame import NS_PER_S, Frame
from edgepose.messages.camera_state import CameraState
from edgepose.motion import STILL
from edgepose.person import Candidates
from edgepose.pipeline.postprocessor import Postprocessor
from edgepose.pipeline.stages import FrameResult, PreparedFrame
from edgepose.pose.letterbox import Letterbox
from edgepose.simulation.walkers import HEIGHT, WIDTH, SeenPerson, Walker
from edgepose.telemetry.metrics import Metrics

_IMAGE = np.broadcast_to(np.uint8(0), (HEIGHT, WIDTH, 3))  # of that size without memory: postprocessing does not read it
_INPUT = np.zeros((1, 1, 1, 3), np.uint8)
_LETTERBOX = Letterbox.fit(HEIGHT, WIDTH, HEIGHT, WIDTH)
_AGE_NS = 35_000_000  # what capture, network and postprocessing of a frame take on a small computer


@dataclass(frozen=True, slots=True)
class CameraScript:
    """What happens to a camera beside its walkers, in seconds from the start; then again after each period.

    Attributes:
        paused_s, resumed_s: when commands pause and resume it.
        period_s: time after which the script begins anew.
    """

    paused_s: float = 54.0
    resumed_s: float = 57.0
    period_s: float = 60.0

    def is_paused(self, t_s: float) -> bool:
        """Return whether the camera is paused at a moment."""
        return self.paused_s <= t_s % self.period_s < self.resumed_s


class SimulatedCamera:
    """One camera with its walkers.

    Args:
        name: of the camera in the configuration.
        config: of the simulation.
        seed: of the simulation.
        number: of the camera, from 0.
        people: number of walkers.
        metrics: counts people and times.
    """

    def __init__(self, name: str, config: Config, seed: int, number: int, people: int, metrics: Metrics) -> None:
        self.name = name
        self.state = CameraState(name, "connecting", None, None, 0)
        self._config = config
        self._metrics = metrics
        self._walkers = [Walker(seed, number, walker) for walker in range(people)]
        self._postprocessor = Postprocessor(name, config, metrics)
        self._sequence = 0

    def enter(self, state: CameraState) -> None:
        """Change the state; a new epoch begins with frame 0."""
        if state.epoch != self.state.epoch:
            self._sequence = 0
        self.state = state

    def resumed(self) -> CameraState:
        """Return the state in which a paused camera is opened again."""
        return replace(self.state, state="connecting", cause=None, detail=None, epoch=self.state.epoch + 1)

    def streaming(self) -> CameraState:
        """Return the state of a camera that delivers frames."""
        return replace(self.state, state="streaming", cause=None, detail=None, width=WIDTH, height=HEIGHT)

    def frame(self, t_s: float, start_ns: int) -> FrameResult:
        """Return the people and events of the frame at a moment.

        Args:
            t_s: seconds from the start of the simulation; must not fall.
            start_ns: its start, nanoseconds since the Unix epoch.
        """
        captured_at_ns = start_ns + round(t_s * NS_PER_S)
        self._metrics.received(self.name, t_s)
        frame = Frame(_IMAGE, captured_at_ns, "stream", self._sequence, self.name, self.state.epoch)
        seen = [person for walker in self._walkers if (person := walker.at(t_s)) is not None]
        people = self._postprocessor.people(PreparedFrame(frame, _LETTERBOX, _INPUT), _candidates(seen), STILL)
        self._sequence += 1
        self._metrics.published(self.name, len(people), _AGE_NS / NS_PER_S)
        events, occupancy = self._postprocessor.events, self._postprocessor.occupancy
        return FrameResult(frame, people, events, captured_at_ns + _AGE_NS, live=True, occupancy=occupancy)


def _candidates(seen: Sequence[SeenPerson]) -> Candidates:
    return Candidates(
        np.array([[person.box for person in seen]], np.float32).reshape(1, -1, 4),
        np.array([[person.score for person in seen]], np.float32).reshape(1, -1),
        np.array([[person.keypoints for person in seen]], np.float32).reshape(1, -1, 17, 3),
    )
