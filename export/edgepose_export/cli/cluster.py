"""`edgepose-export cluster`."""

from pathlib import Path

import click
import onnx

from edgepose.model.file import METADATA_PREFIX, read_model
from edgepose_export.cli.progress import progress_bar
from edgepose_export.onnx_file import file_hash, set_metadata, store_half, write_model
from edgepose_export.quantization.calibration import CalibrationSet
from edgepose_export.quantization.clustering import MOST_VALUES, cluster_model, compressed_size
from edgepose_export.quantization.half import with_full_weights
from edgepose_export.quantization.quantize import read_float
from edgepose_export.quantization.repairs import PatchMoments, patch_moments


@click.command(epilog="Example: edgepose-export cluster ghost-n.onnx --data coco-train --output ghost-n-clustered.onnx")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--output", "-o", type=click.Path(path_type=Path), required=True, help="ONNX file to write.")
@click.option(
    "--values", type=click.IntRange(2, MOST_VALUES), default=128, show_default=True, help="Different values that a layer's weights have."
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    multiple=True,
    help="COCO-format folder of pictures to tune the codebooks with; repeatable. Never the test set. Without it: k-means alone.",
)
@click.option("--pictures", default=64, show_default=True, help="Pictures to tune with, evenly chosen; at least 32.")
def cluster(model: Path, output: Path, values: int, data: tuple[Path, ...], pictures: int) -> None:
    """Give the weights of each layer of the float file MODEL a few values, so that the file compresses well.

    The file expands itself when it is loaded, by any inference library. Both sizes after entropy coding are printed.
    """
    info, plain = read_model(model).info, with_full_weights(read_float(model))
    moments: dict[str, PatchMoments] = {}
    if data:
        chosen = CalibrationSet(data, pictures)
        constants = {tensor.name for tensor in plain.graph.initializer}
        convolutions = [node for node in plain.graph.node if node.op_type == "Conv" and node.input[1] in constants]
        with progress_bar() as progress:
            moments = patch_moments(
                plain, convolutions, lambda: chosen.inputs(info), lambda done, total: progress("inputs", done, total), len(chosen)
            )
    result = cluster_model(plain, values, moments)
    set_metadata(result, {METADATA_PREFIX + "parent": file_hash(model), METADATA_PREFIX + "accuracy": "{}"})
    onnx.checker.check_model(result, full_check=True)
    write_model(result, output)
    before, how = compressed_size(store_half(plain).SerializeToString(deterministic=True))
    after, _ = compressed_size(output.read_bytes())
    click.echo(
        f"{output}: {values} values a layer, {how} makes it {after / 1e6:.2f} MB; in half precision {before / 1e6:.2f} MB"
        f" ({after / before:.2f} of it); sha256 {file_hash(output)}",
        err=True,
    )
