"""The pointer and the folders: whatever is cut, it names a complete bundle, the old one or the new one."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edgepose.bundles import durable
from edgepose.bundles.manifest import verified
from edgepose.bundles.public_keys import key_id
from edgepose.bundles.store import Attempt, BundleStore
from edgepose.errors import ConfigError, OutputError, UnavailableError
from testing.bundles import KEY, OTHER_KEY, message, reference

KEYS = {key_id(KEY.public_key()): KEY.public_key()}
MODEL = b"a network" * 100


def put(store: BundleStore, number: int) -> None:
    """Bring a bundle to the disk, as a staging does."""
    bundle = verified(message(number, f"# {number}\n", (reference("a.onnx", "https://files.example/a.onnx", MODEL),)), KEYS)
    folder = store.stage(bundle)
    (folder / "a.onnx").write_bytes(MODEL)
    store.keep(number)


def used(store: BundleStore, number: int) -> None:
    put(store, number)
    store.activate(number, ["front"])
    store.confirm()


def test_a_bundle_is_tried_and_stays(tmp_path: Path) -> None:
    store = BundleStore(tmp_path)
    used(store, 3)
    put(store, 5)
    store.activate(5, ["front"])
    again = BundleStore(tmp_path)
    assert again.pointer == store.pointer
    assert (again.pointer.current, again.pointer.previous, again.pointer.highest) == (5, 3, 5)
    assert again.pointer.trial is not None
    again.count_start()
    assert again.pointer.trial.starts == 2
    assert again.pointer.trial.cameras == ["front"]
    again.confirm()
    assert again.pointer.trial is None
    used(again, 7)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["5", "7", "pointer.json"]
    assert again.find("a.onnx") == [tmp_path / number / "a.onnx" for number in ("7", "5")]
    assert again.find("b.onnx") == []


def test_the_one_before_returns(tmp_path: Path) -> None:
    store = BundleStore(tmp_path)
    used(store, 3)
    put(store, 5)
    store.activate(5, [])
    store.roll_back("it did not work")
    pointer = BundleStore(tmp_path).pointer
    assert (pointer.current, pointer.previous, pointer.trial, pointer.highest) == (3, None, None, 5)
    assert pointer.attempt is not None
    assert (pointer.attempt.state, pointer.attempt.number, pointer.attempt.reason) == ("rolled_back", 5, "it did not work")
    assert pointer.attempt.digest == verified((tmp_path / "5" / "bundle.json").read_bytes(), KEYS).digest
    store.roll_back("nor did this one")
    assert store.pointer.current is None
    for old in (3, 5):
        with pytest.raises(ConfigError, match="not newer than 5"):
            store.activate(old, [])


def test_what_is_damaged_is_not_used(tmp_path: Path) -> None:
    store = BundleStore(tmp_path)
    used(store, 3)
    assert store.check(3, KEYS).number == 3
    with pytest.raises(ConfigError, match="is signed with the key"):
        store.check(3, {key_id(OTHER_KEY.public_key()): OTHER_KEY.public_key()})
    shutil.copytree(tmp_path / "3", tmp_path / "4")
    with pytest.raises(ConfigError, match="holds bundle 3; expected bundle 4"):
        store.check(4, KEYS)
    for name in ("a.onnx", "config.yaml", "bundle.json"):
        original = (tmp_path / "3" / name).read_bytes()
        (tmp_path / "3" / name).write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
        with pytest.raises(ConfigError, match=r"damaged|is no bundle"):
            store.check(3, KEYS)
        (tmp_path / "3" / name).unlink()
        with pytest.raises(ConfigError, match="cannot be read"):
            store.check(3, KEYS)
        (tmp_path / "3" / name).write_bytes(original)
    store.check(3, KEYS)


def test_a_damaged_pointer_leads_to_the_own_configuration(tmp_path: Path) -> None:
    store = BundleStore(tmp_path)
    used(store, 3)
    used(store, 5)
    (tmp_path / "pointer.json").write_bytes(b'{"schema":1,"curr')
    pointer = BundleStore(tmp_path).pointer
    assert (pointer.current, pointer.highest) == (None, 4)  # the newest may come again, older ones not
    assert pointer.attempt is not None
    assert "was damaged" in pointer.attempt.reason


def test_one_process_has_the_folder(tmp_path: Path) -> None:
    store = BundleStore(tmp_path / "new" / "folder")
    store.hold()
    with pytest.raises(UnavailableError, match="another edgepose uses"):
        BundleStore(tmp_path / "new" / "folder").hold()
    store.release()
    store.hold()
    store.release()


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "folder", Path("/proc/edgepose")):
        with pytest.raises(OutputError, match=r"bundles\.folder: .* cannot be (written|read)"):
            BundleStore(place).hold()


class PowerCutError(BaseException):
    """The end of everything at one moment."""


@contextmanager
def cut_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Let only so many steps reach the disk: a write that is not synced leaves nothing, or half of it, behind."""
    done: list[str] = []
    unsynced: dict[str, Path] = {}

    def step(name: str) -> None:
        if len(done) >= steps:
            for path in unsynced.values():
                if path.exists():
                    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 if steps % 2 else 0])
            raise PowerCutError
        done.append(name)

    def wrapped(name: str, real: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            step(name)
            return real(*arguments, **named)

        return call

    real_open, real_fsync = durable.open_new, os.fsync

    def open_new(path: Path) -> Any:
        step("open")
        unsynced[str(path)] = path
        return real_open(path)

    def fsync(descriptor: int) -> None:
        step("fsync")
        unsynced.pop(os.readlink(f"/proc/self/fd/{descriptor}"), None)
        real_fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(durable, "open_new", open_new)
        patch.setattr(os, "fsync", fsync)
        for name in ("replace", "rename"):
            patch.setattr(os, name, wrapped(name, getattr(os, name)))
        patch.setattr(shutil, "rmtree", wrapped("rmtree", shutil.rmtree))
        yield done


def update(store: BundleStore) -> None:
    bundle = verified(message(5, "# 5\n", (reference("a.onnx", "https://files.example/a.onnx", MODEL),)), KEYS)
    folder = store.stage(bundle)
    with durable.open_new(folder / "a.onnx") as file:
        file.write(MODEL)
        durable.sync(file)
    store.keep(5)
    store.activate(5, [])
    store.count_start()
    store.note(Attempt(state="refused", number=6, digest=None, key=None, reason="no"))
    store.confirm()
    store.roll_back("no")


def test_power_is_cut_at_every_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used(BundleStore(tmp_path / "origin"), 3)
    steps, seen = 0, []
    while True:
        place = tmp_path / str(steps)
        shutil.copytree(tmp_path / "origin", place)
        try:
            with cut_after(steps, monkeypatch):
                update(BundleStore(place))
        except PowerCutError:
            pass
        else:
            break
        after = BundleStore(place)
        assert after.pointer.current is not None
        assert after.check(after.pointer.current, KEYS).number == after.pointer.current
        assert after.pointer.previous in (None, 3)
        if after.pointer.previous is not None:
            after.check(3, KEYS)
        seen.append(after.pointer.current)
        after.prune()
        if after.pointer.highest < 5:  # the same bundle comes again, and is taken
            update(after)
            assert after.pointer.highest == 5
        steps += 1
    assert steps > 25
    assert [number for index, number in enumerate(seen) if index == 0 or number != seen[index - 1]] == [3, 5, 3]
