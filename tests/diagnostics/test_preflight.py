"""Checks of what a configuration stores: the key of encrypted files, and areas that were drawn on the live page."""

from collections.abc import Callable
from pathlib import Path

import pytest

from edgepose.cli.main import run
from edgepose.config.areas import CameraAreas, DrawnAreas
from edgepose.encryption.files import ClearFiles, state_files, use_files
from edgepose.storage.areas_file import FILE, write_areas
from testing.requirements import missing

CLIP = Path(__file__).parents[2] / "edgepose" / "assets" / "demo.mp4"
CORNERS = [(0.0, 0.0), (0.5, 0.0), (0.5, 0.5)]


@pytest.fixture
def check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run the command with a live page, and return its exit code and its lines about what is stored."""
    (tmp_path / "web" / "live").mkdir(parents=True)

    def checked(*settings: str) -> tuple[int, str]:
        fixed = [f"cameras.front.source={CLIP}", "mqtt.enabled=false", "refine.people=0", "web.enabled=true", f"web.folder={tmp_path}/web"]
        code = run(["check", *(word for each in [*fixed, *settings] for word in ("--set", each))])
        return code, "\n".join(line for line in capsys.readouterr().out.splitlines() if "drawn areas" in line or "encryption" in line)

    return checked


def test_drawn_areas_are_checked_with_the_configuration(check: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    path = tmp_path / "web" / "live" / FILE
    assert check() == (0, "ok    drawn areas             none")
    write_areas(path, DrawnAreas(cameras={"front": CameraAreas(zones={"door": CORNERS})}))
    assert check() == (0, "ok    drawn areas             of front")
    for content, sentence in (
        ("cameras: [", "is damaged"),
        ("cameras: {front: {source: other.mp4}}\n", "is damaged"),
        (
            "cameras: {front: {zones: {door: [[0, 0], [1, 1], [1, 0], [0, 1]]}}}\n",
            "does not fit the configuration: ",
        ),
    ):
        path.write_text(content)
        code, line = check()
        assert code == 78
        assert line.startswith("FAIL  drawn areas")
        assert f"{path} {sentence}" in line
    assert check("web.enabled=false") == (0, "")


@pytest.mark.skipif(missing("encryption") is not None, reason="cryptography is not installed")
def test_a_key_is_checked_and_opens_what_was_drawn(check: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    from edgepose.encryption.encrypted_files import EncryptedFiles
    from edgepose.encryption.master_keys import MasterKey, write_keys

    key = tmp_path / "state.key"
    encrypted = ("encryption.enabled=true", f"encryption.key={key}")
    code, line = check(*encrypted)
    assert code == 78
    assert line.startswith(f"FAIL  encryption              encryption.key: {key} cannot be read")
    write_keys(key, [master := MasterKey.new()], new=True)
    before = use_files(EncryptedFiles([master]))
    write_areas(tmp_path / "web" / "live" / FILE, DrawnAreas(cameras={"front": CameraAreas(masks={"door": CORNERS})}))
    use_files(before)
    code, lines = check(*encrypted)
    assert code == 0
    assert [line[:6] for line in lines.splitlines()] == ["ok    ", "ok    "]
    assert "of front" in lines
    assert isinstance(state_files(), ClearFiles)
