"""The black box of a configuration; a daemon without one loads nothing of it."""

from typing import TYPE_CHECKING

from edgepose.config.schema import Config
from edgepose.model.file import ModelFile

if TYPE_CHECKING:
    from edgepose.recorder.black_box import BlackBox


def configured_box(config: Config, model: ModelFile) -> "BlackBox | None":
    """Return the configured black box, None where there is none."""
    if config.black_box.path is None:
        return None
    from edgepose.recorder.black_box import BlackBox

    return BlackBox(config, model)
