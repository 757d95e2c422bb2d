"""The first checkpoint of a network: its teacher's weights, with Ghost modules in closed form."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from edgepose_export.callbacks import TaskProgress
from edgepose_export.data.coco import CocoPose
from edgepose_export.network.checkpoint import Network, NetworkSpec, blend_networks, build, save_network
from edgepose_export.network.ghostify import GhostifyStep
from edgepose_export.network.ghostify import ghostify as make_ghost
from edgepose_export.network.pose_network import PoseNetwork, PoseSpec
from edgepose_export.training.norms import calibrate_norms, plain_batches
from edgepose_export.training.teacher import load_plain


def make_start(
    spec: NetworkSpec,
    teacher: Path,
    data: Sequence[Path],
    output: Path,
    *,
    pictures: int = 64,
    size: int = 320,
    blend: Path | None = None,
    blend_share: float = 0.4,
    progress: TaskProgress = lambda task, done, total: None,
) -> list[GhostifyStep]:
    """Write a checkpoint with a student and its teacher, and return the errors of the layers that became Ghost modules.

    Args:
        spec: the student.
        teacher: ONNX file of RTMDet-nano or PP-TinyPose, or a checkpoint (`.pt`) of a plain network.
        data: sets of calibration pictures.
        output: checkpoint to write.
        pictures: number of calibration pictures.
        size: side of the calibration pictures in pixels; a refiner has its own.
        blend: file of the teacher's structure, trained further, whose weights are blended in.
        blend_share: share of `blend` in the weights, 0 to 1.
        progress: called for each set of labels that is read, picture, and layer.

    Raises:
        ConfigError: a file or the data is refused.
    """
    original, start = load_plain(teacher, spec), load_plain(teacher, spec)
    if blend is not None:
        start = blend_networks(start, load_plain(blend, spec), blend_share)
    labeled = CocoPose(data, progress=lambda done, total: progress("labels", done, total))
    batches = plain_batches(original, labeled, pictures, size, lambda done, total: progress("pictures", done, total))
    steps: list[GhostifyStep] = []
    made: Network = start
    if isinstance(start, PoseNetwork) and isinstance(spec, PoseSpec):

        def note(step: GhostifyStep) -> None:
            steps.append(step)
            progress("layers", len(steps), len(spec.ghost))

        if spec.ghost:
            progress("layers", 0, len(spec.ghost))
        made = make_ghost(start, spec.ghost, lambda: iter(batches), note)
    student = build(spec)
    student.load_state_dict(made.state_dict())
    calibrate_norms(student, batches, lambda done, total: progress("statistics of norms", done, total))
    save_network(output, student, teacher={"spec": msgspec.to_builtins(original.spec), "state": original.state_dict()})
    return steps
