"""`edgepose-export bundle` signs what a device takes, and nothing that every device refuses."""

import subprocess
from pathlib import Path

import pytest

from edgepose.bundles.manifest import verified
from edgepose.bundles.public_keys import read_keys
from edgepose_export.cli.main import run
from testing.requirements import require


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    require("openssl")
    for command in (
        "genpkey -algorithm ed25519 -out fleet.key",
        "pkey -in fleet.key -pubout -out fleet.pub",
        "pkey -in fleet.key -aes256 -passout pass:secret -out locked.key",
        "genpkey -algorithm ed448 -out other.key",
    ):
        subprocess.run(["openssl", *command.split()], check=True, capture_output=True, cwd=tmp_path)
    (tmp_path / "night.yaml").write_text("model: {path: night.onnx}\n")
    (tmp_path / "night.onnx").write_bytes(b"network")
    return tmp_path


def sign(folder: Path, *arguments: str, key: str = "fleet.key", config: str = "night.yaml") -> int:
    paths = [str(folder / each) if each.endswith(".onnx") else each for each in arguments]
    return run(["bundle", str(folder / config), "--key", str(folder / key), "--number", "12", "--output", str(folder / "b.json"), *paths])


def test_a_device_takes_what_was_signed(folder: Path) -> None:
    times = ("--not-before", "2026-11-30", "--expires", "2026-12-24T18:00:00")
    assert sign(folder, "night.onnx", "--url", "https://files.example/m/", "--device", "drone-7", "--group", "night", *times) == 0
    manifest = verified((folder / "b.json").read_bytes(), read_keys(folder / "fleet.pub")).manifest
    assert (manifest.number, manifest.devices, manifest.groups) == (12, ["drone-7"], ["night"])
    assert manifest.configuration == "model: {path: night.onnx}\n"
    (file,) = manifest.files
    assert (file.name, file.url, file.size) == ("night.onnx", "https://files.example/m/night.onnx", 7)
    assert str(manifest.not_before) == "2026-11-30 00:00:00+00:00"
    assert str(manifest.expires) == "2026-12-24 18:00:00+00:00"


def test_a_key_may_have_a_password(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("click.prompt", lambda *_, **__: "secret")
    assert sign(folder, "--device", "a", key="locked.key") == 0
    monkeypatch.setattr("click.prompt", lambda *_, **__: "wrong")
    assert sign(folder, "--device", "a", key="locked.key") == 78
    assert "the password is another" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "key", "text", "why"),
    [
        ((), "fleet.key", "", "the bundle is for nobody"),
        (("--device", "a", "night.onnx"), "fleet.key", "", "there are files and no --url"),
        (("--device", "a", "night.onnx", "--url", "http://files.example"), "fleet.key", "", "is not accepted; expected https://"),
        (("--device", "a/b"), "fleet.key", "", "manifest of the bundle is not valid"),
        (("--device", "a"), "other.key", "", "private key of another kind"),
        (("--device", "a"), "fleet.pub", "", "is no private key"),
        (("--device", "a"), "nothing.key", "", "cannot be read"),
        (("--device", "a"), "fleet.key", "mqtt: {host: elsewhere}", "mqtt.host is pinned"),
        (("--device", "a"), "fleet.key", "# " + "x" * 65536, "manifest of the bundle is not valid"),
        (("--device", "a", "missing.onnx", "--url", "https://files.example"), "fleet.key", "", "cannot be read"),
    ],
)
def test_what_no_device_takes_is_not_signed(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], key: str, text: str, why: str
) -> None:
    (folder / "night.yaml").write_text(text)
    assert sign(folder, *arguments, key=key) in (64, 78)
    err = capsys.readouterr().err
    assert why in err
    assert "; expected" in err
    assert not (folder / "b.json").exists()
