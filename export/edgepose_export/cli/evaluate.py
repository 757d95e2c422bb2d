"""`edgepose-export evaluate`."""

import json
from collections.abc import Callable
from pathlib import Path

import click
import onnx
from rich.console import Console

from edgepose.model.file import METADATA_PREFIX
from edgepose.model.shipped import find_model
from edgepose_export.cli.progress import progress_bar
from edgepose_export.evaluation.coco import Evaluation
from edgepose_export.evaluation.coco import evaluate as evaluate_model
from edgepose_export.evaluation.report import evaluation_table, robustness_json, robustness_table, to_json
from edgepose_export.evaluation.robustness import Robustness, evaluate_robustness
from edgepose_export.onnx_file import set_metadata, write_model


@click.command(epilog="Example: edgepose-export evaluate default coco-dev --json")
@click.argument("model")
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@click.option("--limit", default=0, help="Use only the first pictures; 0 uses all.")
@click.option("--size", default=0, help="Long side of the network's input in pixels; 0 is the model's own.")
@click.option("--refiner", metavar="NAME|FILE", help="Refine the people found with this refiner.")
@click.option("--refine-people", type=click.IntRange(min=0), default=0, help="Most people to refine in a picture; 0 refines everybody.")
@click.option("--robustness", is_flag=True, help="Measure on corrupted pictures too: noise, occlusion, low light, blur, …")
@click.option("--record", is_flag=True, help="Write the figures into the model file, or with --refiner into the refiner's file.")
def evaluate(
    model: str,
    data: Path,
    as_json: bool,
    limit: int,
    size: int,
    refiner: str | None,
    refine_people: int,
    robustness: bool,
    record: bool,
) -> None:
    """Measure the accuracy of MODEL (a name or an ONNX file) on DATA (a COCO-format folder), through the runtime's own stages."""
    if refine_people and refiner is None:
        raise click.UsageError("--refine-people limits the people that a refiner refines; expected --refiner too")
    if robustness and record:
        raise click.UsageError("--record writes the figures of unchanged pictures; expected it without --robustness")
    path = find_model(model)
    refiner_path = find_model(refiner) if refiner is not None else None
    with progress_bar() as progress:
        measure: Callable[..., Evaluation | Robustness] = evaluate_robustness if robustness else evaluate_model
        result = measure(
            path,
            data,
            input_size=size,
            limit=limit,
            refiner=refiner_path,
            refine_people=refine_people,
            progress=lambda done, total: progress("pictures", done, total),
        )
    if isinstance(result, Robustness):
        if as_json:
            click.echo(robustness_json(result))
        else:
            Console().print(robustness_table(path.stem, result))
        return
    if record:
        _record(path, refiner_path, data, result)
    if as_json:
        click.echo(to_json(result))
    else:
        Console().print(evaluation_table(path.stem, result))


def _record(path: Path, refiner: Path | None, data: Path, result: Evaluation) -> None:
    """Write the figures into the model file; figures of a pair go into the refiner's file, so that the first stage keeps its own."""
    written = path if refiner is None else refiner
    figures = {"data": data.resolve().name, **json.loads(to_json(result))}
    if refiner is not None:
        figures["model"] = path.name
    model = onnx.load(str(written))
    set_metadata(model, {METADATA_PREFIX + "accuracy": json.dumps(figures)})
    write_model(model, written)
