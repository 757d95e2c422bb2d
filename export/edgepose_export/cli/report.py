"""`edgepose-export report`."""

import json
from dataclasses import replace
from pathlib import Path

import click

from edgepose_export.cli.progress import progress_bar
from edgepose_export.report.columns import parse_columns
from edgepose_export.report.measure import Measurements, ReportOptions
from edgepose_export.report.page import page
from edgepose_export.steps import replace_text

_QUICK_PICTURES, _QUICK_LATENCY = 40, 50


@click.command(epilog="Example: edgepose-export report ghost-n ghost-n-int8 --data coco-dev --output report.html --max-drop 0.01")
@click.argument("models", nargs=-1, required=True, metavar="MODEL[+REFINER]...")
@click.option("--data", type=click.Path(path_type=Path), required=True, metavar="FOLDER[:SPLIT]", help="Labeled pictures to measure on.")
@click.option(
    "--above", type=click.Path(path_type=Path), multiple=True, metavar="FOLDER", help="Pictures from above, with boxes; repeatable."
)
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), default=Path("report.html"), show_default=True, help="Page; the JSON lies beside it."
)
@click.option("--work", type=click.Path(path_type=Path), help="Folder of the steps' results.  [default: OUTPUT.work]")
@click.option("--fresh", is_flag=True, help="Measure everything again, also what has not changed.")
@click.option("--limit", type=click.IntRange(min=0), default=0, help="Use only the first pictures; 0 uses all.")
@click.option(
    "--robustness",
    type=click.IntRange(min=0),
    default=100,
    show_default=True,
    help="Pictures on which 8 corruptions in 3 strengths are measured; 0 uses all.",
)
@click.option("--no-robustness", is_flag=True, help="Measure no corruptions.")
@click.option(
    "--latency", type=click.IntRange(min=0), default=1000, show_default=True, help="Pictures whose time is measured; 0 measures none."
)
@click.option("--quick", is_flag=True, help=f"A fast look: {_QUICK_PICTURES} pictures, {_QUICK_LATENCY} of them timed, none corrupted.")
@click.option("--size", default=0, help="Long side of the network's input in pixels; 0 is the model's own.")
@click.option(
    "--embed", type=click.IntRange(min=0, max=50), default=0, help="Show so many of the worst pictures, with skeletons; 0 names them only."
)
@click.option("--max-drop", type=click.FloatRange(0, 1), help="Exit with 1 where a model has so much less AP than the first.")
@click.pass_context
def report(
    ctx: click.Context,
    models: tuple[str, ...],
    data: Path,
    above: tuple[Path, ...],
    output: Path,
    work: Path | None,
    fresh: bool,
    limit: int,
    robustness: int,
    no_robustness: bool,
    latency: int,
    quick: bool,
    size: int,
    embed: int,
    max_drop: float | None,
) -> None:
    """Write one page about one MODEL or several side by side: accuracy, robustness, time, size, and what INT8 costs.

    A MODEL is a name or an ONNX file, of a pose network; MODEL+REFINER adds a refiner. The first one is the reference of the others.
    The page needs no other file and no network. What has not changed is not measured again.
    """
    if output.suffix == ".json":
        raise click.UsageError(f"--output {output} is the name of the JSON beside the page; expected a name such as report.html")
    options = ReportOptions(
        columns=parse_columns(models, size),
        data=data,
        work=work or output.with_suffix(".work"),
        above=above,
        limit=limit,
        robustness=None if no_robustness else robustness,
        latency=latency,
        max_drop=max_drop,
        embed=embed,
        fresh=fresh,
    )
    if quick:
        options = replace(
            options,
            limit=min(limit or _QUICK_PICTURES, _QUICK_PICTURES),
            robustness=None,
            latency=min(latency, _QUICK_LATENCY),
        )
    with progress_bar() as bar:
        made = Measurements(options, progress=bar).run()
    replace_text(output, page(made))
    written = output.with_suffix(".json")
    replace_text(written, json.dumps(made.figures, indent=1) + "\n")
    click.echo(f"{output}: {output.stat().st_size / 1e6:.2f} MB, figures in {written}", err=True)
    if failures := made.gate.failures:
        for failure in failures:
            click.echo(f"edgepose-export: {failure}", err=True)
        ctx.exit(1)
