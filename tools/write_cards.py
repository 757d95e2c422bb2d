"""Writes a card beside each shipped model, from what the file itself says.

python -m tools.write_cards
"""

from pathlib import Path

from edgepose.model.file import ModelFile, read_model
from edgepose_export.network.model import load_network

ROOT = Path(__file__).resolve().parents[1]
ASSETS = ROOT / "edgepose" / "assets"
CHECKPOINTS = ROOT / "export" / "edgepose_export" / "checkpoints"

DESCENT = {
    "ghost-n": "MoveNet MultiPose Lightning",
    "ghost-s": "MoveNet MultiPose Lightning",
    "refine-n": "MoveNet SinglePose Lightning",
    "refine-s": "MoveNet SinglePose Thunder",
}
FIGURES = {
    "AP": "OKS AP, mean over OKS 0.50 to 0.95",
    "AP50": "OKS AP at 0.50",
    "AP75": "OKS AP at 0.75",
    "APm": "of people of 32² to 96² px²",
    "APl": "of larger people",
    "AR": "average recall",
    "PCK": "keypoints within 0.2 of the box's longer side",
}
POSE_USE = """Finding people and their 17 COCO keypoints in the frames of a camera, on a small machine: one network call a frame,
however many people are in it, {candidates} at most."""
REFINER_USE = """Looking again at people whom another network has found, one crop of the full-resolution frame each (`refine.people`).
It does not find anybody by itself."""
LIMITS = """- Not for telling who somebody is, nor for decisions about people without a human who looks.
- Trained and measured on photographs that were mostly taken from the ground. Views from above were imitated by warping; no set of
  labeled drone photographs was at hand. [performance.md](../../docs/performance.md) counts people in a real video from above.
- People who lie, or a camera that is turned by a quarter: hardly anybody is found. Noise, little light and compression cost a third to
  a half of the AP, twice the distance nearly as much; figures in [models.md](../../docs/models.md#on-bad-pictures).
- Never measured: by age, build, clothing or skin; night; fog; infrared."""


def card(file: ModelFile) -> str:
    """The card of a model file in Markdown."""
    info = file.info
    network = load_network(CHECKPOINTS / f"{info.name}.pt")
    calibration = info.calibration
    calibrated = (
        "" if calibration is None else f"{calibration.images} pictures of `coco-train`, {calibration.method} (set {calibration.hash[:12]}…)"
    )
    use = REFINER_USE if info.task == "refine" else POSE_USE.format(candidates=info.candidates)
    measured = info.accuracy
    pair = f", behind `{measured['model']}`, everybody looked at again" if "model" in measured else ""
    rows = [f"| {name} | {measured[name]:.3f} | {what} |" for name, what in FIGURES.items() if measured.get(name) is not None]
    return "\n".join(
        [
            f"# {info.name}",
            "",
            f"`{file.path.name}`: written by `python -m tools.write_cards` from what the file says of itself.",
            "",
            "| | |",
            "|---|---|",
            f"| Task | {'all people in a picture' if info.task == 'pose' else 'keypoints of one person a crop'} |",
            f"| File | {file.path.stat().st_size / 1e6:.1f} MB, {info.precision}, SHA-256 `{file.sha256}` |",
            f"| Parameters | {network.parameters_count():,} |",
            f"| Input | {info.input_size} pixels, {'long side' if info.task == 'pose' else f'crop of {info.crop_margin:g} x the box'} |",
            f"| Trained on | {info.trained_on} |",
            f"| Calibrated on | {calibrated} |",
            f"| License | {info.license}; descends from {DESCENT[info.name]} by Google (Apache-2.0), see [NOTICE](../../NOTICE) |",
            "| Data | COCO pictures (licenses of their own, not part of this project), COCO annotations (CC BY 4.0) |",
            "",
            "## Intended use",
            "",
            use,
            "",
            "## How good",
            "",
            f"On `{measured.get('data', '')}`, {measured.get('images', 0)} pictures with {measured.get('people', 0)} people "
            f"that it has never seen{pair}:",
            "",
            "| figure | value | what |",
            "|---|---|---|",
            *rows,
            "",
            "How fast, beside others: [models.md](../../docs/models.md).",
            "",
            "## Limits",
            "",
            LIMITS,
            "",
        ]
    )


def main() -> None:
    """Write all cards."""
    for path in sorted(ASSETS.glob("*.onnx")):
        path.with_suffix(".md").write_text(card(read_model(path)))
        print(path.with_suffix(".md").relative_to(ROOT))


if __name__ == "__main__":
    main()
