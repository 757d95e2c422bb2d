"""Generator of the model cards: one card beside each shipped model, from the metadata of the file.

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
POSE_USE = """Finding people and their 17 COCO keypoints in the frames of a camera, on a small machine: one network call per frame
for all people in it, at most {candidates}."""
REFINER_USE = """Refining the poses of people that the pose network has found, in one crop of the full-resolution frame per person
(`refine.people`). It does not find people by itself."""
LIMITS = """- Not for identifying people, and not for decisions about people without human review.
- Trained and measured on photographs that were mostly taken from the ground. Views from above were simulated by warping; no set of
  labeled drone photographs was available. [performance.md](../../docs/performance.md) counts people in a real video from above.
- The network finds few people who lie down, and few when the camera is rolled by 90 degrees. Noise, low light and compression cost a third
  to a half of the AP, twice the distance nearly as much; figures in [models.md](../../docs/models.md#robustness).
- Never measured: by age, build, clothing or skin; night; fog; infrared."""


def card(file: ModelFile) -> str:
    """Return the card of a model file in Markdown."""
    info = file.info
    network = load_network(CHECKPOINTS / f"{info.name}.pt")
    calibration = info.calibration
    calibrated = (
        "" if calibration is None else f"{calibration.images} pictures of `coco-train`, {calibration.method} (set {calibration.hash[:12]}…)"
    )
    use = REFINER_USE if info.task == "refine" else POSE_USE.format(candidates=info.candidates)
    measured = info.accuracy
    pair = f", after `{measured['model']}`, with all people refined" if "model" in measured else ""
    rows = [f"| {name} | {measured[name]:.3f} | {what} |" for name, what in FIGURES.items() if measured.get(name) is not None]
    return "\n".join(
        [
            f"# {info.name}",
            "",
            f"`{file.path.name}`: written by `python -m tools.write_cards` from the metadata of the file.",
            "",
            "| | |",
            "|---|---|",
            f"| Task | {'all people in an image' if info.task == 'pose' else 'keypoints of one person per crop'} |",
            f"| File | {file.path.stat().st_size / 1e6:.1f} MB, {info.precision}, SHA-256 `{file.sha256}` |",
            f"| Parameters | {network.parameters_count():,} |",
            f"| Input | {info.input_size} pixels, {'long side' if info.task == 'pose' else f'crop of {info.crop_margin:g} x the box'} |",
            f"| Trained on | {info.trained_on} |",
            f"| Calibrated on | {calibrated} |",
            f"| License | {info.license}; descends from {DESCENT[info.name]} by Google (Apache-2.0), see [NOTICE](../../NOTICE) |",
            "| Data | COCO pictures (under their own licenses, not part of this project), COCO annotations (CC BY 4.0) |",
            "",
            "## Intended use",
            "",
            use,
            "",
            "## Accuracy",
            "",
            f"On `{measured.get('data', '')}`, {measured.get('images', 0)} pictures with {measured.get('people', 0)} people "
            f"that were not used in training{pair}:",
            "",
            "| figure | value | description |",
            "|---|---|---|",
            *rows,
            "",
            "Speed, compared with others: [models.md](../../docs/models.md).",
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
