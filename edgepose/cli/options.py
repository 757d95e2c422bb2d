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
    help="Configuration file; without it /etc/edgepose/config.yaml where that exists.",
)
set_option = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set one key of the configuration, such as mqtt.host=broker.local; wins over the file and the environment. Repeatable.",
)
model_option = click.option(
    "--model", "model", metavar="NAME|FILE", help="Name of a shipped model or path of an ONNX file; the configured one where absent."
)
refiner_option = click.option(
    "--refiner",
    metavar="NAME|FILE",
    help="Look again at people with this refiner, at all of them unless told otherwise; the configured one where absent.",
)
refine_people_option = click.option(
    "--refine-people",
    type=click.IntRange(0, 1000),
    metavar="N",
    help="Look again at up to N people a frame; 0 at nobody.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Write one JSON object, for scripts.")


def configuration_options(function: _Function) -> _Function:
    """The options `--config` and `--set`."""
    return config_option(set_option(function))
