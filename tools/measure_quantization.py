"""Measure what each way to quantize a model costs: all calibrators, then each repair alone, then all repairs; prints a table in Markdown.

Every convolution but the last ones is INT8, so that the ways differ. The error is that of the raw maps, relative to their variance.

    python -m tools.measure_quantization model.onnx --data ../shared/data/coco-train --evaluate ../shared/data/coco-dev --boxes --limit 100
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import onnx

from edgepose.model.file import read_model
from edgepose_export.evaluation.boxes import evaluate_boxes
from edgepose_export.evaluation.coco import evaluate
from edgepose_export.onnx_file import write_model
from edgepose_export.quantization.calibration import CalibrationSet
from edgepose_export.quantization.quantize import DEFAULT_METHOD, REPAIRS, Repair, calibrate, load_float
from edgepose_export.quantization.ranges import METHODS, Method
from edgepose_export.quantization.search import always_float
from edgepose_export.quantization.sensitivity import map_error, map_tensors, run_maps


def ways() -> list[tuple[Method, tuple[Repair, ...]]]:
    """Return all pairs of method and repairs to measure."""
    alone: list[tuple[Repair, ...]] = [(repair,) for repair in REPAIRS]
    return [*((method, ()) for method in METHODS), *((DEFAULT_METHOD, repairs) for repairs in [*alone, REPAIRS])]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="pictures that calibrate")
    parser.add_argument("--evaluate", type=Path, help="pictures that measure AP")
    parser.add_argument("--boxes", action="store_true", help="AP of boxes")
    parser.add_argument("--limit", type=int, default=0)
    parser.add_argument("--pictures", type=int, default=64)
    chosen = parser.parse_args(arguments)
    pictures = CalibrationSet([chosen.data], chosen.pictures)
    plain = load_float(chosen.model)
    kept, maps = always_float(plain), map_tensors(plain)

    def ap(model: onnx.ModelProto) -> str:
        if chosen.evaluate is None:
            return "–"
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            write_model(model, path)
            measured = evaluate_boxes if chosen.boxes else evaluate
            return f"{measured(path, chosen.evaluate, limit=chosen.limit).ap:.4f}"

    print("| calibrator | repairs | error / variance | AP |\n|---|---|---|---|")
    print(f"| none (float) | none | 0 | {ap(onnx.load(str(chosen.model)))} |", flush=True)
    others = list(CalibrationSet([chosen.data], 32, offset=0.5).inputs(read_model(chosen.model).info))[:16]
    reference = run_maps(plain, maps, lambda: iter(others))
    for method, repairs in ways():
        made = calibrate(chosen.model, pictures, method=method, repairs=repairs)
        model = made.quantized(kept)
        error = map_error(reference, run_maps(model, maps, lambda: iter(others)))
        print(f"| {method} | {', '.join(repairs) or 'none'} | {error:.4f} | {ap(model)} |", flush=True)


if __name__ == "__main__":
    main()
