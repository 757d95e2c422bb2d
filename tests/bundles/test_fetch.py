"""Files of bundles from a real https server that does what servers do."""

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgepose.bundles.fetch import Fetching, FetchSettings
from edgepose.bundles.manifest import BundleFile
from edgepose.errors import ConfigError, OutputError, UnavailableError
from testing.bundles import FileServer, reference
from testing.servers.certificates import Authority
from testing.servers.mosquitto import free_port
from testing.waiting import wait_for

DATA = bytes(range(256)) * 1000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FileServer]:
    with FileServer(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def settings(server: FileServer, tmp_path: Path) -> FetchSettings:
    (tmp_path / "card").mkdir()
    return replace(FetchSettings.of(str(server.ca_file), str(tmp_path / "card"), 20), first_wait_s=0.01)


def fetch(settings: FetchSettings, file: BundleFile, folder: Path) -> bytes:
    Fetching(settings).fetch(file, folder / file.name)
    return (folder / file.name).read_bytes()


def test_a_file_arrives(server: FileServer, settings: FetchSettings, tmp_path: Path) -> None:
    assert fetch(settings, server.put("a.onnx", DATA), tmp_path) == DATA


def test_redirects_are_followed_to_https_only(server: FileServer, settings: FetchSettings, tmp_path: Path) -> None:
    file = server.put("a.onnx", DATA)
    server.files["/a.onnx"] = f"{server.url}/b.onnx?signed=secret"
    server.files["/b.onnx"] = DATA
    login = replace_url(file, file.url.replace("https://", "https://pilot:pass%21@"))
    assert fetch(settings, login, tmp_path) == DATA
    assert [headers.get("Authorization") for _, headers in server.requests[-2:]] == ["Basic cGlsb3Q6cGFzcyE=", None]
    for elsewhere in (f"http://localhost:{server.port}/b.onnx", "file:///etc/passwd", "ftp://localhost/b.onnx"):
        server.files["/a.onnx"] = elsewhere
        with pytest.raises(ConfigError, match=r"address of a\.onnx is not accepted"):
            fetch(settings, file, tmp_path)
    server.files["/a.onnx"] = "/a.onnx"
    with pytest.raises(ConfigError, match=r"redirects a\.onnx again and again"):
        fetch(settings, file, tmp_path)


def replace_url(file: BundleFile, url: str) -> BundleFile:
    return BundleFile(name=file.name, url=url, size=file.size, sha256=file.sha256)


def test_what_is_not_as_the_bundle_says_is_refused_for_good(server: FileServer, settings: FetchSettings, tmp_path: Path) -> None:
    file = server.put("a.onnx", DATA)
    for wrong, why in (
        (DATA[:-1] + b"!", "has the SHA-256"),
        (DATA + b"!", "has 256001 bytes"),
        (DATA[:-1], "has 255999 bytes"),
        (404, "answers 404"),
        (403, "answers 403"),
    ):
        server.files["/a.onnx"] = wrong
        before = len(server.requests)
        with pytest.raises(ConfigError, match=why):
            fetch(settings, file, tmp_path)
        assert len(server.requests) == before + 1  # not tried again


def test_more_than_was_announced_is_not_read(settings: FetchSettings, server: FileServer, tmp_path: Path) -> None:
    file = server.put("a.onnx", DATA)

    def endless(request: object) -> None:
        assert hasattr(request, "wfile")
        request.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n")
        while not server.leaving.is_set():
            request.wfile.write(bytes(65536))

    server.files["/a.onnx"] = endless
    with pytest.raises(ConfigError, match="is longer than 256000 bytes"):
        fetch(settings, file, tmp_path)
    assert (tmp_path / "a.onnx").stat().st_size <= len(DATA)


def test_a_server_that_recovers_is_tried_again(server: FileServer, settings: FetchSettings, tmp_path: Path) -> None:
    file = server.put("a.onnx", DATA)
    server.files["/a.onnx"] = 503
    fetching = Fetching(settings)
    thread = threading.Thread(target=fetching.fetch, args=(file, tmp_path / "a.onnx"))
    thread.start()
    wait_for(lambda: "answers 503" in (fetching.trouble or ""))
    server.files["/a.onnx"] = server.cut(DATA, 1000)
    wait_for(lambda: "of 256000 bytes" in (fetching.trouble or "") or "IncompleteRead" in (fetching.trouble or ""))
    server.files["/a.onnx"] = DATA
    thread.join(60)
    assert (tmp_path / "a.onnx").read_bytes() == DATA
    assert fetching.fetched_bytes == len(DATA)


def test_a_server_that_is_slow_or_away_is_given_up(server: FileServer, settings: FetchSettings, tmp_path: Path) -> None:
    file = server.put("a.onnx", DATA)
    server.files["/a.onnx"] = server.slowly(DATA, 0.02)
    began_s = time.monotonic()
    with pytest.raises(UnavailableError, match=r"(no answer in time|only \d+ of 256000 bytes).*gave up after 0.3 s"):
        fetch(replace(settings, within_s=0.3), file, tmp_path)
    away = replace_url(file, f"https://localhost:{free_port()}/a.onnx?token=secret")
    with pytest.raises(UnavailableError, match=r"does not deliver a.onnx: Connection refused.*gave up") as refused:
        fetch(replace(settings, within_s=0.1), away, tmp_path)
    assert "secret" not in str(refused.value)
    with pytest.raises(UnavailableError, match="gave up"):
        fetch(replace(settings, within_s=0.05), replace_url(file, "https://nowhere.invalid/a.onnx"), tmp_path)
    assert time.monotonic() - began_s < 60


def test_a_certificate_of_somebody_else_is_not_trusted(server: FileServer, settings: FetchSettings, tmp_path: Path) -> None:
    other = FetchSettings.of(str(Authority(tmp_path, "other").certificate), None, 0.05)
    with pytest.raises(UnavailableError, match="certificate that is not trusted"):
        fetch(other, server.put("a.onnx", DATA), tmp_path)


def test_one_that_is_not_wanted_any_more_ends(server: FileServer, settings: FetchSettings, tmp_path: Path) -> None:
    file = server.put("a.onnx", DATA)
    server.files["/a.onnx"] = 503
    fetching = Fetching(settings)
    fetching.cancel()
    with pytest.raises(UnavailableError, match="a newer bundle has arrived"):
        fetching.fetch(file, tmp_path / "a.onnx")


@pytest.mark.parametrize(
    "url",
    ["http://files.example/a", "ftp://files.example/a", "https:///a", "a.onnx", "https://a:b:c/", "https://a/\n", "https://a/ b", "file:"],
)
def test_other_addresses_are_refused(settings: FetchSettings, tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match="is not accepted"):
        fetch(settings, reference("a.onnx", url, DATA), tmp_path)


def test_files_come_from_below_one_folder(settings: FetchSettings, tmp_path: Path) -> None:
    card = tmp_path / "card"
    (card / "a b.onnx").write_bytes(DATA)
    (tmp_path / "outside").write_bytes(DATA)
    (card / "link").symlink_to(tmp_path / "outside")
    os.mkfifo(card / "pipe")
    assert fetch(settings, reference("x", f"file://{card}/a%20b.onnx", DATA), tmp_path) == DATA
    once = replace(settings, within_s=0.01)
    for path, why in (
        (f"{tmp_path}/outside", "outside bundles.media_folder"),
        (f"{card}/../outside", "outside bundles.media_folder"),
        (f"{card}/%2e%2e/outside", "outside bundles.media_folder"),
        (f"{card}/link", "outside bundles.media_folder"),
        (f"{card}/pipe", "is not a file"),
        (f"{card}/nothing", "cannot be read"),
    ):
        with pytest.raises((ConfigError, UnavailableError), match=why):
            fetch(once, reference("x", f"file://{path}", DATA), tmp_path)
    with pytest.raises(ConfigError, match="outside"):
        fetch(once, reference("x", f"file://elsewhere{card}/a%20b.onnx", DATA), tmp_path)
    with pytest.raises(ConfigError, match=r"this device has no bundles\.media_folder"):
        fetch(replace(once, media_folder=None), reference("x", f"file://{card}/a%20b.onnx", DATA), tmp_path)


def test_what_is_here_already_is_copied(server: FileServer, settings: FetchSettings, tmp_path: Path) -> None:
    file = reference("a.onnx", "https://nowhere.invalid/", DATA)
    fetching = Fetching(settings)
    known = tmp_path / "known"
    for content, same in ((DATA, True), (DATA[1:], False), (DATA[::-1], False)):
        known.write_bytes(content)
        assert fetching.copy(file, known, tmp_path / "a.onnx") == same
    assert fetching.fetched_bytes == len(DATA)
    assert not fetching.copy(file, tmp_path / "nothing", tmp_path / "a.onnx")


def test_a_disk_that_is_full_says_so(server: FileServer, settings: FetchSettings) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        Fetching(settings).fetch(server.put("a.onnx", DATA), Path("/nowhere/a.onnx"))
