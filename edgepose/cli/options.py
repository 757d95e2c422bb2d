"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

_Function = TypeVar("_Function", bound=Callable[..., Any])

config_option = click.option(
    "--config",
    "-c",
    "config_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Configuration file; the default is /etc/edgepose/config.yaml where it exists.",
)
set_option = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set one key of the configuration, such as mqtt.host=broker.local; overrides the file and the environment. Repeatable.",
)
model_option = click.option(
    "--model",
    "model",
    metavar="NAME|FILE|URL",
    help="Name of a shipped model, path of an ONNX file, or URL of a model on a server; the default is the configured model.",
)
refiner_option = click.option(
    "--refiner",
    metavar="NAME|FILE",
    help="Refine people with this refiner, up to refine.people of a frame; the default is the configured refiner.",
)
refine_people_option = click.option(
    "--refine-people",
    type=click.IntRange(0, 1000),
    metavar="N",
    help="Refine up to N people per frame; 0 disables refinement.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Write one JSON object, for scripts.")


def configuration_options(function: _Function) -> _Function:
    """Add the options `--config` and `--set` to a command."""
    return config_option(set_option(function))
