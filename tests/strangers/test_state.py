"""Damage to what is on disk: bit flips in the event store, lines taken out of the record of commands, folders deleted."""

from pathlib import Path

from click.testing import CliRunner

from edgepose.cli.main import cli
from edgepose.errors import RecordingError
from edgepose.storage.chained_lines import ChainedLines
from testing.bitflips import flip_bits


def test_bit_flips_in_the_event_store_cost_one_event_each_and_are_counted(tmp_path: Path) -> None:
    outcomes = flip_bits(tmp_path, 300)
    assert outcomes["lost: 1"] > 100
    assert sum(outcomes.values()) == 300


def test_a_deleted_line_of_the_record_of_commands_is_found(tmp_path: Path) -> None:
    path = tmp_path / "commands.jsonl"
    lines = ChainedLines(path, 1 << 20)
    for name in ("pause", "resume", "reload"):
        lines.append({"at": "now", "command": name})
    good = CliRunner().invoke(cli, ["audit", "verify", str(path)])
    assert (good.exit_code, "3 lines verify" in good.output) == (0, True)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[::2]))
    bad = CliRunner().invoke(cli, ["audit", "verify", str(path)])
    assert isinstance(bad.exception, RecordingError)
    assert "line 2: number 2 is missing" in str(bad.exception)
