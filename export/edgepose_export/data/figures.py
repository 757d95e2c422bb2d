"""Writing of matplotlib figures of labels and evaluations."""

from pathlib import Path
from typing import Any

from matplotlib import pyplot

from edgepose.errors import OutputError


def save_figure(figure: Any, path: Path, *, dpi: int = 100) -> None:
    """Write a figure as a PNG, creating its folder, and close it in any case.

    Raises:
        OutputError: the PNG cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=dpi)
    except OSError as error:
        raise OutputError(f"plot {path} cannot be written: {error.strerror or error}") from error
    finally:
        pyplot.close(figure)
