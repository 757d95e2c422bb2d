"""`edgepose-export evaluate`."""

import json
from collections.abc import Callable
from pathlib import Path

import click
import onnx
from rich.console import Console

from edgepose.model.file import METADATA_PREFIX, find_model
from edgepose_export.cli.progress import progress_bar
from edgepose_export.evaluation.coco import Evaluation
from edgepose_export.evaluation.coco import evaluate as evaluate_model
from edgepose_export.evaluation.report import evaluation_table, robustness_json, robustness_table, to_json
from edgepose_export.evaluation.robustness import Robustness, evaluate_robustness
from edgepose_export.network.onnx_file import set_metadata, write_model


@click.command(epilog="Example: edgepose-export evaluate edgepose/assets/default.onnx coco-dev --json")
@click.argument("model")
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
@click.option("--limit", default=0, help="Only the first pictures; 0 is all.")
@click.option("--size", default=0, help="Long side of the network's input in pixels; 0 is the model's own.")
@click.option("--refiner", metavar="NAME|FILE", help="Look again at the people found with this refiner.")
@click.option("--refine-people", type=click.IntRange(min=0), default=0, help="Most people a picture to look at again; 0 is everybody.")
@click.option("--robustness", is_flag=True, help="On spoilt pictures too: noise, occlusion, little light, blur, from far away, turned, …")
@click.option("--record", is_flag=True, help="Write the figures into the model file, or the refiner's where there is one, as its accuracy.")
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
        raise click.UsageError("--refine-people says how many people to look at again; expected --refiner too, which says with what")
    if robustness and record:
        raise click.UsageError("--record writes figures of whole pictures; expected it without --robustness")
    path = find_model(model)
    second = find_model(refiner) if refiner is not None else None
    with progress_bar() as progress:
        measure: Callable[..., Evaluation | Robustness] = evaluate_robustness if robustness else evaluate_model
        result = measure(
            path,
            data,
            input_size=size,
            limit=limit,
            refiner=second,
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
        _record(path, second, data, result)
    if as_json:
        click.echo(to_json(result))
    else:
        Console().print(evaluation_table(path.stem, result))


def _record(path: Path, refiner: Path | None, data: Path, result: Evaluation) -> None:
    """Figures of a pair are the refiner's: the first network's own would be lost, and say less."""
    written = path if refiner is None else refiner
    figures = {"data": data.resolve().name, **json.loads(to_json(result))}
    if refiner is not None:
        figures["model"] = path.name
    model = onnx.load(str(written))
    set_metadata(model, {METADATA_PREFIX + "accuracy": json.dumps(figures)})
    write_model(model, written)
