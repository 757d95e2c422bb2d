import json
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from tools.release import ReleaseError, release, section

ROOT = Path(__file__).resolve().parents[2]
TODAY = "2026-12-01"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with what a release touches; the large files of the second distribution are left out."""
    root = tmp_path / "checkout"
    root.mkdir()
    for name in ("edgepose", "export", "requirements", "tools"):
        shutil.copytree(
            ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build", "*.pt", "*.onnx", "*.mp4")
        )
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE", ".gitignore"):
        shutil.copy(ROOT / name, root)
    (root / "CHANGELOG.md").write_text("# Changes\n\n## [Unreleased]\n\n- **A thing** works.\n\n## [0.0.1]\n\n- Begun.\n")
    git(root, "init", "--quiet", "--initial-branch=main")
    git(root, "config", "user.name", "a tester")
    git(root, "config", "user.email", "tester@example.org")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "Begin")
    return root


def git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True).stdout


def test_a_release_has_one_version_everywhere(checkout: Path) -> None:
    made = {path.name: path for path in release(checkout, "9.8.7", today=TODAY)}
    assert {"edgepose-9.8.7-py3-none-any.whl", "edgepose_export-9.8.7-py3-none-any.whl"} <= set(made)
    for name, package in (("edgepose", "edgepose"), ("edgepose_export", "edgepose_export")):
        with zipfile.ZipFile(made[f"{name}-9.8.7-py3-none-any.whl"]) as wheel:
            assert wheel.read(f"{name}-9.8.7.dist-info/top_level.txt").decode().split() == [package]
    bill = json.loads(made["edgepose-9.8.7-cpu.cdx.json"].read_text())
    assert {"numpy", "av", "paho-mqtt", "onnxruntime"} <= {part["name"] for part in bill["components"]}
    assert all(part["externalReferences"][0]["hashes"] for part in bill["components"])
    assert git(checkout, "log", "-1", "--format=%s").strip() == "Release 9.8.7"
    assert git(checkout, "status", "--porcelain") == ""
    assert (
        (checkout / "CHANGELOG.md").read_text().startswith(f"# Changes\n\n## [Unreleased]\n\n## [9.8.7] - {TODAY}\n\n- **A thing** works.")
    )
    assert "- **A thing** works." in git(checkout, "tag", "--list", "--format=%(contents)", "v9.8.7")
    with pytest.raises(ReleaseError, match="nothing under"):
        release(checkout, "9.8.8", today=TODAY)


@pytest.mark.parametrize(("version", "sentence"), [("", "version is ''"), ("v1", "version is 'v1'"), ("1.0.0", "not committed")])
def test_a_release_that_cannot_be_is_refused_and_changes_nothing(checkout: Path, version: str, sentence: str) -> None:
    (checkout / "stray.txt").touch()
    before = git(checkout, "rev-parse", "HEAD")
    with pytest.raises(ReleaseError, match=sentence):
        release(checkout, version, today=TODAY)
    assert git(checkout, "rev-parse", "HEAD") == before
    assert git(checkout, "tag") == ""


def test_the_changelog_says_something_of_the_next_release() -> None:
    assert section((ROOT / "CHANGELOG.md").read_text())
