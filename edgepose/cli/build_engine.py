"""Command `edgepose build-engine`: the engines of TensorRT, built before the daemon needs them."""

from pathlib import Path

import click

from edgepose.cli.options import configuration_options, json_option


@click.command(
    "build-engine",
    short_help="Build the engines of TensorRT on this device.",
    epilog="Example: edgepose build-engine --config /etc/edgepose/config.yaml --set model.backend=tensorrt",
)
@configuration_options
@click.option("--force", is_flag=True, help="Build engines again that are there.")
@json_option
def command(config_file: Path | None, settings: tuple[str, ...], force: bool, as_json: bool) -> None:
    """Build the engines of the configured networks, compare what they find with ONNX Runtime, and keep them.

    An engine that is there, whole and for this device is not built again. Where model.backend is auto and TensorRT cannot be used,
    nothing is built, and the exit code is 0.
    """
    import json
    import os
    import time

    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    from edgepose.cli.log import log_to_stderr
    from edgepose.config.load import load, service_variables
    from edgepose.diagnostics.engines import EngineReport, build_engines
    from edgepose.engine.backend import log_progress
    from edgepose.engine.tensorrt.build import BuildProgress
    from edgepose.supervision.systemd import Notifier

    config = load(config_file, settings)
    log_to_stderr(config.log.level, config.log.format)
    notifier = Notifier(service_variables(), os.getpid())
    console = Console(stderr=True)
    told_s = 0.0
    log = log_progress("the configuration")
    with Progress(
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    ) as bar:
        task = bar.add_task("", total=100)

        def report(progress: BuildProgress) -> None:
            nonlocal told_s
            bar.update(task, completed=progress.percent, description=progress.phase)
            if not console.is_terminal:
                log(progress)
            if time.monotonic() >= told_s + 1:
                told_s = time.monotonic()
                notifier.status(f"building: {progress.percent:.0f} %, {progress.phase}")
                notifier.extend_timeout(120)

        reports: list[EngineReport] = build_engines(config, report, force=force)
    notifier.ready()
    if as_json:
        click.echo(json.dumps({"engines": [entry.fields() for entry in reports]}))
        return
    for entry in reports:
        click.echo(entry.words)
