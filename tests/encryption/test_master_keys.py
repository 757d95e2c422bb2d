"""Master keys: texts, systemd's credentials, and files that were clear before there was one."""

import os
import sys
from pathlib import Path

import pytest

from edgepose.cli.main import run
from edgepose.daemon.health import DaemonSnapshot
from edgepose.daemon.prometheus import prometheus
from edgepose.encryption.encrypted_files import EncryptedFiles
from edgepose.encryption.files import use_files
from edgepose.encryption.master_keys import MasterKey, parse_keys, read_keys, write_keys
from edgepose.encryption.start import locked
from edgepose.errors import ConfigError, UnavailableError
from edgepose.storage.chained_lines import ChainedLines, verify_lines


def test_a_text_holds_keys_and_nothing_else() -> None:
    keys = [MasterKey.new(), MasterKey.new()]
    text = "# of this device\n\n" + "".join(f"{key.text}\n" for key in keys)
    assert [key.secret for key in parse_keys(text, "it")] == [key.secret for key in keys]
    assert keys[0].text not in repr(keys[0])
    for wrong in ("", "# nothing\n", "password", keys[0].text[:-8], keys[0].text + "A"):
        with pytest.raises(ConfigError, match="it holds"):
            parse_keys(wrong, "it")


def test_without_the_library_the_extra_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "edgepose.encryption.master_keys", None)  # as where its own imports fail
    for arguments in (
        ["create", str(tmp_path / "state.key")],
        ["status", "--set", "encryption.enabled=true", "--set", f"encryption.key={tmp_path}/state.key"],
    ):
        assert run(["keys", *arguments]) in (69, 78)
        assert "run `pip install '.[cpu,encryption]'`" in capsys.readouterr().err


def test_what_was_clear_is_encrypted_once_and_read_as_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key, audit, box = tmp_path / "key", tmp_path / "state" / "commands.jsonl", tmp_path / "state" / "box"
    (box / "20261122T100000Z-signal").mkdir(parents=True)
    (box / "20261122T100000Z-signal" / "00000001.segment").write_bytes(b"segment")
    lines = ChainedLines(audit, 1000)
    for number in range(20):
        lines.append({"at": "now", "command": f"c{number}"})
    lines.close()
    verified = verify_lines(audit)
    write_keys(key, [MasterKey.new()], new=True)
    settings = {"encryption.enabled": "true", "encryption.key": key, "commands.audit": audit, "black_box.path": box, "web.folder": tmp_path}
    sets = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    for count in (4, 0):
        assert run(["keys", "encrypt", *sets]) == 0
        assert capsys.readouterr().out == f"{count} files were encrypted\n"
    assert not [path for path in (tmp_path / "state").rglob("*") if b"command" in path.name.encode() or path.suffix == ".segment"]
    files = EncryptedFiles(read_keys(key))
    before = use_files(files)
    try:
        assert verify_lines(audit) == verified
        assert files.load(box / "20261122T100000Z-signal" / "00000001.segment", "segment") == b"segment"
    finally:
        use_files(before)


def test_a_rotation_waits_for_nobody_and_disturbs_nobody(tmp_path: Path) -> None:
    held = list(locked([tmp_path], exclusive=False))
    more = list(locked([tmp_path], exclusive=False))
    with pytest.raises(UnavailableError, match="a process of edgepose uses"):
        list(locked([tmp_path], exclusive=True))
    for lock in (*held, *more):
        os.close(lock)
    for lock in locked([tmp_path], exclusive=True):
        os.close(lock)


def test_damage_is_a_metric_by_cause() -> None:
    families = prometheus(DaemonSnapshot(storage_damage={"cut": 2}))
    samples = {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}
    assert samples["edgepose_storage_damage_total", "cut"] == 2
    assert samples["edgepose_storage_damage_total", "moved"] == 0
