"""Make a release: the version, the changelog's section, a commit, a tag, wheels of both distributions, bills of materials.

python -m tools.release 0.2.0     (or: make release VERSION=0.2.0)

Nothing is pushed. The tag's message is the changelog's section.
"""

import re
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

_VERSION = re.compile(r"\d+\.\d+\.\d+(?:rc\d+)?")
_UNRELEASED = "## [Unreleased]"


class ReleaseError(Exception):
    """A release that cannot be made, in one sentence."""


def release(root: Path, version: str, *, today: str) -> list[Path]:
    """Make a release of a checkout and return the files that it made.

    Args:
        root: of the checkout.
        version: such as `0.2.0` or `0.2.0rc1`.
        today: date of the changelog's section, `YYYY-MM-DD`.

    Raises:
        ReleaseError: the version, the tree or the changelog does not allow it; nothing was changed.
    """
    if not _VERSION.fullmatch(version):
        raise ReleaseError(f"the version is {version!r}; expected one such as 0.2.0 or 0.2.0rc1")
    if _git(root, "status", "--porcelain"):
        raise ReleaseError("the working tree has changes that are not committed; expected none")
    if _git(root, "tag", "--list", f"v{version}"):
        raise ReleaseError(f"the tag v{version} exists already; expected a new version")
    source, changelog = root / "edgepose" / "__init__.py", root / "CHANGELOG.md"
    notes = section(changelog.read_text(encoding="utf-8"))
    changelog.write_text(
        changelog.read_text(encoding="utf-8").replace(_UNRELEASED, f"{_UNRELEASED}\n\n## [{version}] - {today}", 1), encoding="utf-8"
    )
    source.write_text(re.sub(r'^__version__ = ".*"$', f'__version__ = "{version}"', source.read_text(), flags=re.MULTILINE))
    _git(root, "commit", "--quiet", "--all", "--message", f"Release {version}")
    _git(root, "tag", "--annotate", f"v{version}", "--cleanup=verbatim", "--message", f"edgepose {version}\n\n{notes}")
    return build(root, root / "dist")


def section(changelog: str) -> str:
    """Return what the changelog says of the next release; ReleaseError where that is nothing."""
    _, found, rest = changelog.partition(f"{_UNRELEASED}\n")
    notes = re.split(r"^## ", rest, maxsplit=1, flags=re.MULTILINE)[0].strip()
    if not found or not notes:
        raise ReleaseError(f"CHANGELOG.md has nothing under {_UNRELEASED!r}; expected what has changed")
    return notes


def build(root: Path, folder: Path) -> list[Path]:
    """Build the wheels of both distributions and the bills of materials into a folder, and return their paths."""
    for distribution in (root, root / "export"):
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
        subprocess.run([*command, str(distribution)], check=True)
    subprocess.run([root / "tools" / "write-sbom.sh", folder], check=True, env={"PATH": "/usr/bin:/bin", "PYTHON": sys.executable})
    return sorted(folder.iterdir())


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    try:
        made = release(Path(__file__).resolve().parents[1], "".join(sys.argv[1:2]), today=f"{datetime.now(timezone.utc):%Y-%m-%d}")
    except ReleaseError as error:
        sys.exit(f"release: {error}")
    print("\n".join(map(str, made)))
    print("Next: look at the commit and the tag, then push both.")
