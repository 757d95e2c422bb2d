"""The accuracy of a network in training, and the plots of its best measurement."""

from collections.abc import Sequence
from pathlib import Path

from edgepose.person import Person
from edgepose_export.callbacks import TaskProgress
from edgepose_export.data.coco import CocoPose
from edgepose_export.evaluation.coco import evaluate_predictions, predictions_of
from edgepose_export.evaluation.crops import network_crop_accuracy
from edgepose_export.evaluation.network import NetworkPredictor
from edgepose_export.evaluation.plots import write_curves
from edgepose_export.network.checkpoint import Network
from edgepose_export.network.refiner import RefinerNetwork

TASK = "measuring"
"""Name of the task that `progress` is called with."""


class TrainingMeasure:
    """A function from a network to its accuracy, for a trainer.

    A pose network's is COCO's average precision; a refiner's is the share of right people in their labeled boxes
    (`edgepose_export.evaluation.crops.crop_accuracy`).

    Args:
        data: labeled pictures that the network does not learn from.
        input_size: long side of a pose network's input in pixels.
        progress: called after each picture, or after each crop of a refiner.
    """

    def __init__(self, data: CocoPose, input_size: int, progress: TaskProgress = lambda task, done, total: None) -> None:
        self._data, self._input_size, self._progress = data, input_size, progress
        self._best_ap = -1.0
        self._best: Sequence[Sequence[Person]] = ()

    def __call__(self, network: Network) -> float:
        """Measure a network in evaluation mode; ConfigError where nobody is labeled."""

        def report(done: int, total: int) -> None:
            self._progress(TASK, done, total)

        if isinstance(network, RefinerNetwork):
            return network_crop_accuracy(network, self._data, report)
        predictions = predictions_of(NetworkPredictor(network, self._input_size), self._data, 0, report)
        ap = evaluate_predictions(predictions, self._data).ap
        if ap >= self._best_ap:
            self._best_ap, self._best = ap, predictions
        return ap

    def write_plots(self, folder: Path) -> bool:
        """Write `precision-recall.png` and `keypoints.png` of the best measurement; return whether a pose network was measured.

        Raises:
            OutputError: a plot cannot be written.
        """
        if not self._best:
            return False
        write_curves(folder, self._best, list(self._data))
        return True
