"""The recipes and checkpoints that the package ships, found by their bare names."""

from importlib.resources import files
from pathlib import Path

from edgepose.errors import ConfigError


def find_recipe(name_or_path: str) -> Path:
    """Return the path of a shipped recipe by its name (`ghost-n`), or of a file.

    Raises:
        ConfigError: neither exists; the message lists the shipped recipes.
    """
    return _find(name_or_path, "recipe", ".yaml")


def find_checkpoint(name_or_path: str) -> Path:
    """Return the path of a shipped checkpoint by its name (`ghost-n`), or of a file.

    Raises:
        ConfigError: neither exists; the message lists the shipped checkpoints.
    """
    return _find(name_or_path, "checkpoint", ".pt")


def _find(name_or_path: str, kind: str, suffix: str) -> Path:
    folder = Path(str(files("edgepose_export"))) / f"{kind}s"
    shipped = {path.stem: path for path in sorted(folder.glob(f"*{suffix}"))}
    if name_or_path in shipped:
        return shipped[name_or_path]
    path = Path(name_or_path).expanduser()
    if not path.is_file():
        raise ConfigError(f"{kind} {name_or_path} does not exist; expected a file, or a shipped {kind}: {', '.join(shipped) or 'none'}")
    return path
