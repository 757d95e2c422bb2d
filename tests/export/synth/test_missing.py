"""Without the extra `synth` or a device to render on, one sentence says what is missing."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgepose.errors import UnavailableError
from edgepose_export.cli.main import run
from edgepose_export.synth.renderer import Renderer


def no_device(**_settings: object) -> None:
    raise RuntimeError("eglInitialize failed")


@pytest.mark.parametrize("name", ["anny", "moderngl"])
def test_a_missing_library_is_named_with_what_brings_it(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("edgepose_export.cli.synth.cache_exists", lambda: True)
    if name == "anny":
        monkeypatch.setitem(sys.modules, "moderngl", SimpleNamespace(create_context=lambda **_settings: SimpleNamespace()))
        monkeypatch.setattr("edgepose_export.synth.pictures.Renderer", lambda size: None)
    monkeypatch.setitem(sys.modules, name, None)
    code = run(["synth", "--count", "1", "--seed", "1", "--jobs", "1", "--output", str(tmp_path / "new")])
    written = "".join(capsys.readouterr().err.split())
    assert code == UnavailableError.exit_code
    assert f"{name}isnotinstalled" in written
    assert "expectedtheextra`synth`:pipinstall'./export[synth]'" in written


def test_no_device_to_render_on_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "moderngl", SimpleNamespace(create_context=no_device))
    with pytest.raises(
        UnavailableError, match=r"EGL cannot open .*eglInitialize failed.*; expected the packages libegl1 and libgl1-mesa-dri"
    ):
        Renderer(16)
