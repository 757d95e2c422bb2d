"""No room writes a file but through `edgepose.encryption.files`, except where this list says why."""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "edgepose"

EXCEPTIONS = {
    "bundles/durable.py": "bundles: settings and models, which came over the network and are verified at each start",
    "bundles/store.py": "an empty file to lock",
    "cli/program.py": "/dev/null",
    "cli/watch.py": "what a person records on another machine",
    "engine/engine_cache.py": "engines: nothing of people",
    "engine/kserve.py": "memory that is shared with a server",
    "output/coco.py": "results of `infer`, for the person who asks for them",
    "output/files.py": "pipes and devices",
    "output/video.py": "the place of a file that is checked, and videos that are clear",
    "recorder/folder.py": "a copy of a segment as it is on the disk",
    "web/accounts/file.py": "an empty file to lock",
    "web/certificate.py": "a file in memory",
    "web/job_process.py": "standard output",
    "web/jobs.py": "uploads and results, which are in memory where files are encrypted",
}
"""Modules that open or write something else, and why."""


def writes(path: Path) -> Iterator[int]:
    """Yield the lines of calls that open a file for writing, or write one."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id if isinstance(node.func, ast.Name) else ""
        owner = node.func.value.id if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name) else ""
        texts = [each.value for each in [*node.args, *(word.value for word in node.keywords)] if isinstance(each, ast.Constant)]
        modes = [text for text in texts if isinstance(text, str) and len(text) <= 3 and set(text) & set("wax+")]
        if (
            name in ("write_bytes", "write_text", "copyfile", "imwrite", "NamedTemporaryFile", "mkstemp")
            or (owner, name) == ("shutil", "copy")
            or (name in ("open", "fdopen", "FileIO") and modes)
            or ((owner, name) == ("os", "open") and any(flag in ast.unparse(node) for flag in ("O_WRONLY", "O_RDWR")))
        ):
            yield node.lineno


def test_every_other_file_is_written_through_one_module() -> None:
    found = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if any(writes(path))}
    assert {name for name in found if not name.startswith(("encryption/", "diagnostics/"))} == set(
        EXCEPTIONS
    )  # a benchmark makes its files up
