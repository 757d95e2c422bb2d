"""Measure INT8 files of networks as strangers export them, made here by the package ultralytics in a Python of its own.

The weights are random, so nothing is learned about accuracy; time does not depend on weights. Prints a table in Markdown.

    python -m tools.measure_strangers /path/to/python --data ../shared/data/coco-train [--name yolov8n-pose]

Nothing of the package (AGPL-3.0) is imported or copied here: that Python writes the ONNX files and ends.
"""

import argparse
import json
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from edgepose.model.file import read_model
from edgepose_export.onnx_file import write_model
from edgepose_export.quantization.calibration import CalibrationSet
from edgepose_export.quantization.quantize import load_float, quantize
from edgepose_export.quantization.sensitivity import map_error, map_tensors, run_maps

NAMES = {
    "yolov8n-pose": ("v8/yolov8-pose.yaml", {}),
    "yolo11n-pose": ("11/yolo11-pose.yaml", {}),
    "yolo26n-pose": ("26/yolo26-pose.yaml", {}),
    "yolo26n-pose-end": ("26/yolo26-pose.yaml", {"nms": False}),
}
"""Structure and settings of the export of each network; `-end` is end to end, without suppression."""

_EXPORT = """
import json, sys
from pathlib import Path

import torch, ultralytics, yaml

name, structure, settings, side, folder = json.loads(sys.argv[1])
described = yaml.safe_load((Path(ultralytics.__file__).parent / "cfg/models" / structure).read_text())
described |= {"nc": 1, "scale": "n"}
path = Path(folder) / f"{name.removesuffix('-end')}.yaml"
path.write_text(yaml.safe_dump(described))
torch.manual_seed(0)
written = ultralytics.YOLO(str(path)).export(format="onnx", imgsz=side, simplify=False, opset=17, **settings)
Path(written).replace(Path(folder) / f"{name}.onnx")
"""


def export(python: str, name: str, side: int, folder: Path) -> Path:
    """Export a network with random weights by another Python, in which the package ultralytics is installed."""
    structure, settings = NAMES[name]
    request = json.dumps([name, structure, settings, side, str(folder)])
    subprocess.run([python, "-c", _EXPORT, request], check=True, capture_output=True, timeout=600, cwd=folder)
    return folder / f"{name}.onnx"


def open_session(path: Path, profile: Path | None = None) -> onnxruntime.InferenceSession:
    """Open a file with one thread, as `edgepose bench` counts time."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def interleaved(sessions: Sequence[onnxruntime.InferenceSession], image: NDArray[np.float32], rounds: int) -> NDArray[np.float64]:
    """Return the times in ms (sessions, rounds) of runs in turns."""
    times = np.zeros((len(sessions), rounds))
    for number in range(-1, rounds):
        for index, session in enumerate(sessions):
            begin_s = time.perf_counter()
            session.run(None, {session.get_inputs()[0].name: image})
            if number >= 0:
                times[index, number] = 1e3 * (time.perf_counter() - begin_s)
    return times


def profiled(path: Path, image: NDArray[np.float32], folder: Path) -> str:
    """Return the operations that take the most time, with their shares."""
    session = open_session(path, folder / "profile")
    for _ in range(3):
        session.run(None, {session.get_inputs()[0].name: image})
    spent: Counter[str] = Counter()
    for entry in json.loads(Path(session.end_profiling()).read_text()):
        if entry.get("cat") == "Node" and entry["name"].endswith("kernel_time"):
            spent[entry["args"]["op_name"]] += entry["dur"]
    return ", ".join(f"{kind} {share / spent.total():.0%}" for kind, share in spent.most_common(5))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("python", help="a Python in which the package ultralytics is installed")
    parser.add_argument("--data", type=Path, required=True, help="pictures that calibrate")
    parser.add_argument("--name", choices=NAMES, action="append")
    parser.add_argument("--side", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=15)
    chosen = parser.parse_args(arguments)
    print("| network | float, ms | INT8, ms | gain | error / variance of the raw maps | size, MB | most time in INT8 |")
    print("|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for name in chosen.name or NAMES:
            source, small = export(chosen.python, name, chosen.side, folder), folder / f"{name}-int8.onnx"
            write_model(quantize(source, CalibrationSet([chosen.data], 32)), small)
            info = read_model(source).info
            others = CalibrationSet([chosen.data], 32, offset=0.5)
            image = next(others.inputs(info)).astype(np.float32)
            plain, quick = interleaved([open_session(source), open_session(small)], image, chosen.rounds)
            maps = map_tensors(float_graph := load_float(source))
            inputs = [image]
            reference, other = (run_maps(model, maps, partial(iter, inputs)) for model in (float_graph, onnx.load(str(small))))
            error = map_error(reference, other)
            print(
                f"| `{name}` | {np.median(plain):.1f} | {np.median(quick):.1f} | {np.median(plain) / np.median(quick):.2f}"
                f" ({plain.min() / quick.min():.2f}) | {error:.4f} | {source.stat().st_size / 1e6:.1f} →"
                f" {small.stat().st_size / 1e6:.1f} | {profiled(small, image, folder)} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
