"""The card of a model, from the metadata of its files."""

from pathlib import Path

from edgepose.model.file import ModelFile, ModelInfo, read_model
from edgepose_export.network.checkpoint import Network, parameters_count
from edgepose_export.network.ghost import GhostModule
from edgepose_export.network.pose_network import PoseNetwork

VARIANTS = {"": "float, weights in half precision", "-int8": "INT8 for CPUs", "-tensorrt": "INT8 for TensorRT"}
"""What the end of a file's name says about it."""

DESCENT = {"pose": "RTMDet-nano by OpenMMLab", "refine": "PP-TinyPose by PaddlePaddle"}
DATA = {
    "pose": "COCO and Objects365 (by the authors of RTMDet-nano); COCO, synthetic people, thermal pictures of HIT-UAV (here)",
    "refine": "COCO and AI Challenger (by the authors of PP-TinyPose); COCO and synthetic people (here)",
}
"""Data sets in the weights. None of their pictures is part of this project."""
FIGURES = {
    "AP": "OKS AP, mean over OKS 0.50 to 0.95",
    "AP50": "OKS AP at 0.50",
    "AP75": "OKS AP at 0.75",
    "APm": "of people of 32² to 96² px²",
    "APl": "of larger people",
    "AR": "average recall",
    "PCK": "keypoints within 0.2 of the box's longer side",
}
POSE_USE = """Finding people and their 17 COCO keypoints in the frames of a camera, on a small machine: one network call per frame
for all people in it, at most {candidates}. The boxes are good, the keypoints are rough: a refiner, which is on by default,
computes them again."""
REFINER_USE = """Refining the poses of people that the pose network has found, in one crop of the full-resolution frame per person
(`refine.people`). It does not find people by itself."""
LIMITS = """- Not for identifying people, and not for decisions about people without human review.
- Distance, rolled cameras, people who lie, noise, low light, compression and occlusion cost accuracy:
  [figures](../../docs/models.md#robustness). So do views from above: [figures](../../docs/models.md#from-above).
- Keypoints of people seen from straight above are weak. They are measured on rendered people only; no photographs with such labels exist.
- Never measured: by age, build, clothing or skin; fog; keypoints in thermal pictures."""


def files_by_model(folder: Path) -> dict[str, list[ModelFile]]:
    """Return the files of each model in a folder by the model's name, the float file first."""
    stems = {path.stem: path for path in sorted(folder.glob("*.onnx"))}
    variants = tuple(ending for ending in VARIANTS if ending)
    names = [stem for stem in stems if not stem.endswith(variants)]
    return {name: [read_model(stems[name + ending]) for ending in VARIANTS if name + ending in stems] for name in names}


def card(name: str, files: list[ModelFile], network: Network) -> str:
    """Return the card of a model in Markdown.

    Args:
        name: of the model, such as `ghost-n`.
        files: its files, the float one first.
        network: of its checkpoint.
    """
    info = files[0].info
    ghosts = sum(isinstance(module, GhostModule) for module in network.modules())
    rows = [
        ("Task", "all people in an image" if info.task == "pose" else "keypoints of one person per crop"),
        ("Parameters", f"{parameters_count(network):,}"),
        ("Structure", f"{_structure(network)}; {ghosts or 'no'} Ghost modules"),
        ("Input", _input(info)),
        ("Trained on", info.trained_on),
        ("License", f"{info.license}; descends from {DESCENT[info.task]} (Apache-2.0), see [NOTICE](../../NOTICE)"),
        ("Data", f"{DATA[info.task]}; terms in [NOTICE](../../NOTICE)"),
    ]
    use = REFINER_USE if info.task == "refine" else POSE_USE.format(candidates=info.candidates)
    return "\n".join(
        [
            f"# {name}",
            "",
            "Written by `python -m tools.write_cards` from the metadata of the files.",
            "",
            "| | |",
            "|---|---|",
            *(f"| {key} | {value} |" for key, value in rows),
            "",
            "| file | contents | size | SHA-256 |",
            "|---|---|---|---|",
            *(_file_row(name, file) for file in files),
            "",
            "## Intended use",
            "",
            use,
            "",
            "## Accuracy",
            "",
            *_accuracy(files),
            "",
            "Speed, compared with others: [models.md](../../docs/models.md).",
            "",
            "## Limits",
            "",
            LIMITS,
            "",
        ]
    )


def _structure(network: Network) -> str:
    if isinstance(network, PoseNetwork):
        steps = network.spec.refinements
        return f"CSPNeXt, path aggregation, a head for box, score and 17 keypoints, refinement inside the graph: {steps or 'none'}"
    return f"Lite-HRNet with branches of {', '.join(map(str, network.spec.widths))} maps, heat maps decoded inside the graph"


def _input(info: ModelInfo) -> str:
    if info.task == "pose":
        return f"{info.input_size} pixels, long side"
    return f"{info.input_width}x{info.input_height} pixels, crop of {info.crop_margin:g} x the box grown to the crop's aspect"


def _file_row(name: str, file: ModelFile) -> str:
    kind = VARIANTS[file.path.stem.removeprefix(name)]
    calibration = file.info.calibration
    if calibration is not None:
        kind += f"; calibrated on {calibration.images} pictures, {calibration.method} (set {calibration.hash[:12]}…)"
    return f"| `{file.path.name}` | {kind} | {file.path.stat().st_size / 1e6:.1f} MB | `{file.sha256}` |"


def _accuracy(files: list[ModelFile]) -> list[str]:
    """Return the figures of all files, a column each."""
    measured = [file.info.accuracy for file in files]
    known = next((figures for figures in measured if figures), None)
    if known is None:
        return ["Not measured."]
    pair = f", after `{known['model']}`, with all people refined" if "model" in known else ""
    return [
        f"On `{known.get('data', '')}`, {known.get('images', 0)} pictures with {known.get('people', 0)} people "
        f"that were not used in training{pair}:",
        "",
        f"| figure | {' | '.join(f'`{file.path.name}`' for file in files)} | description |",
        f"|---|{'---|' * len(files)}---|",
        *(
            f"| {figure} | {' | '.join(_number(figures.get(figure)) for figures in measured)} | {text} |"
            for figure, text in FIGURES.items()
            if any(figures.get(figure) is not None for figures in measured)
        ),
    ]


def _number(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float | int) else ""
