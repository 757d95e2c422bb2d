"""The smallest set of parts in float with which a quantized network keeps its accuracy."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx

from edgepose.errors import ModelError
from edgepose_export.callbacks import Progress
from edgepose_export.quantization.graph import Graph, lies_in, place
from edgepose_export.quantization.quantize import CalibratedModel
from edgepose_export.quantization.sensitivity import raw_map_convolutions

MeasureAccuracy = Callable[[onnx.ModelProto], float]
"""Returns the accuracy of a model, such as AP."""


@dataclass(frozen=True)
class Trial:
    """One set of parts in float.

    Attributes:
        float_places: the parts.
        accuracy: of the quantized model.
    """

    float_places: tuple[str, ...]
    accuracy: float


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        model: quantized model.
        best: its parts in float and its accuracy.
        reference: accuracy of the float model.
        always: parts that every set has in float.
        trials: everything that was measured, in order.
    """

    model: onnx.ModelProto
    best: Trial
    reference: float
    always: tuple[str, ...]
    trials: tuple[Trial, ...]


def always_float(model: onnx.ModelProto) -> tuple[str, ...]:
    """Return the parts that no search quantizes: the last convolutions, whose maps are decoded in float and cost next to nothing."""
    return tuple(dict.fromkeys(place(node) for node in raw_map_convolutions(model)))


def search_float_parts(
    calibrated: CalibratedModel,
    by_sensitivity: Sequence[str],
    measure: MeasureAccuracy,
    *,
    reference: float,
    max_drop: float,
    progress: Progress = lambda done, total: None,
) -> SearchResult:
    """Find a smallest set of parts in float with which the accuracy falls by at most `max_drop`.

    The number of the most sensitive parts in float is found by bisection; then each of them, the least sensitive first, becomes INT8
    again if the accuracy allows it. So none of the set can be left out.

    Args:
        calibrated: with the ranges of all tensors.
        by_sensitivity: parts of the network (`sensitivity.parts`), the most sensitive first.
        measure: accuracy of a model.
        reference: accuracy of the float model.
        max_drop: largest fall of the accuracy that is accepted.
        progress: called after each measurement; the total grows as long as the search goes on.

    Raises:
        ModelError: the accuracy falls by more with the least sensitive part alone in INT8.
    """
    kept = always_float(calibrated.model)
    free = [node for node in Graph(calibrated.model).convolutions() if not lies_in(node, kept)]
    order = [part for part in by_sensitivity if any(lies_in(node, [part]) for node in free)]
    trials: list[Trial] = []
    models: dict[tuple[str, ...], onnx.ModelProto] = {}

    def keeps(chosen: Sequence[str]) -> bool:
        places = (*kept, *chosen)
        models[places] = calibrated.quantized(places)
        trials.append(Trial(places, measure(models[places])))
        progress(len(trials), len(trials) + 1)
        accepted = reference - trials[-1].accuracy <= max_drop
        if not accepted:
            del models[places]
        return accepted

    least, most = 0, len(order) - 1  # in float
    if not keeps(order[:least]):
        if most < 1 or not keeps(order[:most]):
            best = max(trial.accuracy for trial in trials)
            check_drop(calibrated.source, best, reference=reference, max_drop=max_drop)
        while most - least > 1:
            middle = (least + most) // 2
            least, most = (least, middle) if keeps(order[:middle]) else (middle, most)
        least = most
    chosen = order[:least]
    for part in reversed(chosen[:-1]):
        without = [other for other in chosen if other != part]
        if keeps(without):
            chosen = without
    places = (*kept, *chosen)
    best_trial = next(trial for trial in reversed(trials) if trial.float_places == places)
    return SearchResult(models[places], best_trial, reference, kept, tuple(trials))


def check_drop(source: object, accuracy: float, *, reference: float, max_drop: float) -> None:
    """Refuse a model that lost more than is accepted; ModelError says how much."""
    if reference - accuracy > max_drop:
        raise ModelError(
            f"{source} in INT8 has an AP of {accuracy:.4f}, {reference - accuracy:.4f} less than in float; expected at most"
            f" {max_drop:g} less, so no file is written"
        )
