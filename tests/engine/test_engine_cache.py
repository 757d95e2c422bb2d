import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgepose.engine.engine_cache import BuildState, EngineCache, EngineKey, default_folder
from edgepose.errors import OutputError
from testing.waiting import wait_for

KEY = EngineKey("ghost-n", "ab" * 32, "tensorrt 10.3.0", "Orin", "8.7", "12.6", "1x32x32")
PLAN = np.random.default_rng(0).bytes(600)


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    cache = EngineCache(tmp_path / "engines")
    cache.store(KEY, PLAN, "2 people")
    return cache


def files(cache: EngineCache) -> tuple[Path, Path]:
    return cache.folder / f"{KEY.stem}.engine", cache.folder / f"{KEY.stem}.json"


def test_what_was_stored_is_found_for_the_same_machine_only(cache: EngineCache) -> None:
    assert cache.load(KEY) == PLAN
    for field, value in (
        *(("model", "cd" * 32), ("library", "tensorrt 10.3.1"), ("device", "Thor"), ("compute_capability", "11.0")),
        *(("driver", "12.8"), ("profile", "1x64x64"), ("dla", True), ("name", "other")),
    ):
        assert cache.load(msgspec.structs.replace(KEY, **{field: value})) is None
    assert EngineCache(cache.folder / "none").load(KEY) is None


def test_no_flipped_bit_is_ever_used(cache: EngineCache) -> None:
    for path in files(cache):
        whole = path.read_bytes()
        for position in range(len(whole) * 8):
            if path.suffix == ".engine" and position % 7:  # of the engine every seventh: its hash knows no places
                continue
            flipped = bytearray(whole)
            flipped[position // 8] ^= 1 << position % 8
            path.write_bytes(flipped)
            assert cache.load(KEY) is None, (path.suffix, position)
        path.write_bytes(whole)
    assert cache.load(KEY) == PLAN


def test_no_truncated_file_is_ever_used(cache: EngineCache) -> None:
    for path in files(cache):
        whole = path.read_bytes()
        for length in range(len(whole)):
            path.write_bytes(whole[:length])
            assert cache.load(KEY) is None, (path.suffix, length)
        path.write_bytes(whole + b"x")
        assert cache.load(KEY) is None
        path.write_bytes(whole)
    assert cache.load(KEY) == PLAN


def test_an_entry_under_another_name_is_not_used(cache: EngineCache) -> None:
    other = msgspec.structs.replace(KEY, library="tensorrt 10.3.1")
    for path in files(cache):
        path.rename(path.with_name(path.name.replace(KEY.stem, other.stem)))
    assert cache.load(other) is None


def test_a_half_written_entry_is_not_used_and_written_again(cache: EngineCache) -> None:
    engine, description = files(cache)
    cache.store(KEY, PLAN + b"new", "")
    assert cache.load(KEY) == PLAN + b"new"
    engine.write_bytes(PLAN)  # as if it had ended between the two renames
    assert cache.load(KEY) is None
    (cache.folder / f"{KEY.stem}.engine.part").write_bytes(b"half")
    cache.store(KEY, PLAN, "")
    assert cache.load(KEY) == PLAN
    assert sorted(path.name for path in cache.folder.iterdir()) == sorted((engine.name, description.name))


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_files_that_others_may_write_are_not_used(cache: EngineCache, mode: int, caplog: pytest.LogCaptureFixture) -> None:
    for path in files(cache):
        path.chmod(mode)
        assert cache.load(KEY) is None
        assert f"others may write {path.name} (mode {mode:o})" in caplog.text
        path.chmod(0o600)
    assert cache.load(KEY) == PLAN


def test_a_folder_that_others_may_write_is_not_used(cache: EngineCache) -> None:
    cache.folder.chmod(0o770)
    assert cache.load(KEY) is None
    with pytest.raises(OutputError, match=r"others may write the folder \(mode 770\); expected a folder that belongs"):
        cache.store(KEY, PLAN, "")
    with pytest.raises(OutputError, match="no engine can be built in"), cache.locked(KEY):
        pass
    assert cache.prune(KEY) == []
    cache.forget(KEY)
    cache.folder.chmod(0o700)
    assert cache.load(KEY) == PLAN


def test_files_of_others_are_not_used(cache: EngineCache) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    engine, _ = files(cache)
    os.chown(engine, 12345, 12345)
    assert cache.load(KEY) is None
    os.chown(engine, 0, 0)
    os.chown(cache.folder, 12345, -1)
    assert cache.load(KEY) is None


def test_links_are_not_followed(cache: EngineCache, tmp_path: Path) -> None:
    for path in files(cache):
        real = tmp_path / path.name
        path.rename(real)
        path.symlink_to(real)
        assert cache.load(KEY) is None
        path.unlink()
        real.rename(path)
    linked = tmp_path / "linked"
    linked.symlink_to(cache.folder)
    assert EngineCache(linked).load(KEY) is None
    assert cache.load(KEY) == PLAN


def test_a_pipe_does_not_block(cache: EngineCache) -> None:
    engine, _ = files(cache)
    engine.unlink()
    os.mkfifo(engine)
    assert cache.load(KEY) is None


def test_only_the_owner_may_read_what_is_written(cache: EngineCache) -> None:
    assert {path.stat().st_mode & 0o777 for path in files(cache)} == {0o600}
    assert cache.folder.stat().st_mode & 0o777 == 0o700


def test_a_description_of_another_version_is_not_used(cache: EngineCache) -> None:
    from edgepose.engine.engine_cache import _sealed

    files(cache)[1].write_bytes(_sealed(b'{"size": 3}'))
    assert cache.load(KEY) is None


def test_pruning_removes_what_cannot_be_used_again(cache: EngineCache) -> None:
    of_another_library = msgspec.structs.replace(KEY, library="tensorrt 10.0.1")
    same_machine = [msgspec.structs.replace(KEY, name=f"m{index}", model=f"{index:064d}") for index in range(20)]
    for number, key in enumerate([of_another_library, *same_machine]):
        cache.store(key, PLAN, "")
        os.utime(cache.folder / f"{key.stem}.engine", (1000 + number, 1000 + number))
    (cache.folder / "torn-0.json").write_bytes(b"torn")
    removed = cache.prune(KEY)
    assert {of_another_library.stem, "torn-0", *(key.stem for key in same_machine[:5])} == set(removed)
    assert cache.load(KEY) == PLAN
    assert cache.load(same_machine[-1]) == PLAN
    assert cache.load(of_another_library) is None


def test_what_is_being_built_is_not_pruned(cache: EngineCache) -> None:
    other = msgspec.structs.replace(KEY, library="tensorrt 10.0.1")
    cache.store(other, PLAN, "")
    with cache.locked(other):
        assert cache.prune(KEY) == []
    assert cache.prune(KEY) == [other.stem]


def test_one_builds_and_the_others_wait_and_hear_how_far_it_is(cache: EngineCache) -> None:
    heard: list[BuildState] = []
    held = threading.Event()
    done: list[str] = []

    def second() -> None:
        with cache.locked(KEY, heard.append):
            done.append("second")

    thread = threading.Thread(target=second)
    with cache.locked(KEY) as notes:
        thread.start()
        notes.write(BuildState(37.5, "Tactics"))
        wait_for(lambda: BuildState(37.5, "Tactics") in heard)
        assert done == []
        held.set()
    thread.join(60)
    assert done == ["second"]
    with (
        cache.locked(KEY),
        pytest.raises(OutputError, match="another process has built the engine of ghost-n for 0 s"),
        cache.locked(KEY, within_s=0),
    ):
        pass


_BUILDER = """
import sys, time
from pathlib import Path
from edgepose.engine.engine_cache import EngineCache, EngineKey
cache = EngineCache(Path(sys.argv[1]))
key = EngineKey("ghost-n", "ab" * 32, "tensorrt 10.3.0", "Orin", "8.7", "12.6", "1x32x32")
number = 0
while True:
    with cache.locked(key):
        print(number, flush=True)
        cache.store(key, bytes([number % 256]) * 200_000, "")
    number += 1
"""


def test_fifty_kills_leave_a_cache_that_works(tmp_path: Path) -> None:
    """A builder that writes engines without a pause is killed at fifty moments; each time the cache has a whole engine or none."""
    cache = EngineCache(tmp_path / "engines")
    generator = np.random.default_rng(7)
    loaded = 0
    for _ in range(50):
        builder = subprocess.Popen([sys.executable, "-c", _BUILDER, str(cache.folder)], stdout=subprocess.PIPE)
        assert builder.stdout is not None
        for _ in range(generator.integers(1, 4)):
            builder.stdout.readline()
        time.sleep(generator.uniform(0, 0.02))  # a moment anywhere in what it does
        builder.send_signal(signal.SIGKILL)
        builder.wait()
        builder.stdout.close()
        found = cache.load(KEY)
        assert found is None or (len(found) == 200_000 and len(set(found)) == 1)
        loaded += found is not None
    with cache.locked(KEY, within_s=60):  # the right to build ended with each of them
        cache.store(KEY, PLAN, "")
    assert cache.load(KEY) == PLAN
    assert loaded > 0


def test_the_folder_where_none_is_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert default_folder() == tmp_path / ".cache" / "edgepose" / "engines"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_folder() == Path("/var/lib/edgepose/engines")
