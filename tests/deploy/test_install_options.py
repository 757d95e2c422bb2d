"""Messages of deploy/install.sh before it checks for root and systemd."""

import os
import re
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]


def install(*options: str) -> tuple[int, str]:
    """Return exit code and output."""
    done = subprocess.run([CHECKOUT / "deploy" / "install.sh", *options], capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("extras", "said"),
    [
        ("foo", "unknown extra foo; expected cpu, gpu or tensorrt"),
        ("cpu,foo", "unknown extra foo"),
        ("metrics", "--extras is metrics; expected one of cpu, gpu and tensorrt"),
        ("cpu,gpu", "--extras is cpu,gpu; expected one of cpu, gpu and tensorrt"),
        (",", "--extras is ,; expected one of"),
    ],
)
def test_unknown_extras_are_refused(extras: str, said: str) -> None:
    code, text = install("--dry-run", "--extras", extras)
    assert (code, text.count("\n")) == (64, 1)
    assert said in text


@pytest.mark.parametrize("extras", ["cpu", "cpu,metrics", "metrics,gpu", "triton,cpu", "tensorrt"])
def test_known_extras_are_accepted(extras: str) -> None:
    code, text = install("--extras", extras, "--help")
    assert (code, "--extras LIST" in text) == (0, True)
    assert install("--dry-run", "--extras", extras)[0] != 64
    assert set(extras.split(",")) <= set(re.findall(r"^(\w+) = \[", (CHECKOUT / "pyproject.toml").read_text(), re.M))


@pytest.mark.parametrize(
    ("release", "code", "said"),
    [
        ("# R35 (release), REVISION: 6.1, GCID: 1", 69, r"this is # R35 .*too old; expected JetPack 6.1 or newer"),
        (
            "# R36 (release), REVISION: 4.3, GCID: 1",
            69,
            r"JetPack's TensorRT is not installed for /usr/bin/python3; expected: sudo",
        ),
        (
            "# R38 (release), REVISION: 2.0, GCID: 1",
            69,
            r"JetPack's TensorRT is not installed for /usr/bin/python3; expected: sudo",
        ),
    ],
)
def test_on_a_jetson_tensorrt_is_jetpacks(tmp_path: Path, release: str, code: int, said: str) -> None:
    (tmp_path / "release").write_text(release + "\n")
    environment = {**os.environ, "TEGRA_RELEASE": str(tmp_path / "release")}
    command = [str(CHECKOUT / "deploy" / "install.sh"), "--make-wheelhouse", str(tmp_path / "wheels"), "--extras", "metrics,tensorrt"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == code
    assert re.search(said, done.stderr)


@pytest.mark.skipif(Path("/run/systemd/system").is_dir(), reason="systemd runs here")
def test_without_systemd_it_names_an_existing_chapter() -> None:
    code, text = install("--dry-run")
    assert (code, text.count("\n")) == (69, 1)
    (place, chapter) = re.findall(r"(docs/\S+\.md), '(.*?)'", text)[0]
    assert f" {chapter}\n" in (CHECKOUT / place).read_text()
