"""What strangers did to the process itself: configurations, signals, terminals that nobody reads, names that others hold."""

import http.client
import logging
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from edgepose.cli.log import JsonFormatter, TextFormatter
from edgepose.config.load import load
from edgepose.config.schema import Config, MqttConfig
from edgepose.daemon.instance import InstanceLock, lock_key
from edgepose.errors import ConfigError, UnavailableError
from edgepose.telemetry.line_writer import LINES_LIMIT, LineWriter
from testing.onnx_files import write_edgepose
from testing.servers.mosquitto import free_port
from testing.videos import write_video
from testing.waiting import in_time, wait_for

DIGITS = "9" * 5000
MEGABYTE = 1024 * 1024
HUGE = {  # configurations of strangers, and what the one sentence about them says
    "5000 digits": (f"mqtt: {{port: {DIGITS}}}", r"config\.yaml:1: mqtt\.port is '9+… \(5002 characters\); expected a whole number"),
    "5000 digits for seconds": (f"mqtt: {{pose_expiry_s: {DIGITS}}}", r"mqtt\.pose_expiry_s is"),
    "hexadecimal": (f"mqtt: {{port: 0x{'f' * 5000}}}", r"mqtt\.port is"),
    "sexagesimal": (f"mqtt: {{port: {'1:' + '59:' * 20_000 + '0'}}}", r"mqtt\.port is"),
    "exponent": ("mqtt: {pose_expiry_s: 1e999999999}", r"mqtt\.pose_expiry_s is"),
    "a date that is none": ("mqtt: {port: 2026-13-45}", r"mqtt\.port is '2026-13-45'"),
    "an int that is none": ("mqtt: {port: !!int abc}", r"mqtt\.port is 'abc'"),
    "digits in a corner": (
        f"cameras: {{a: {{source: x.mp4, zones: {{z: [[0, {DIGITS}], [1, 0], [1, 1]]}}}}}}",
        r"cameras\.a\.zones\.z is \[\[0, '9+…",
    ),
    "digits as a key": (f"mqtt: {{? {DIGITS} : 1}}", r"unknown key mqtt\.9+…; expected one of"),
    "a list as a key": ("mqtt: {? [a, b] : 1}", r"a key in mqtt is a list or a section; expected a name"),
    "nested": ("mqtt: " + "[" * 100_000, r"nested more than 24 levels deep"),
    "nested blocks": ("".join(" " * depth + "a:\n" for depth in range(1000)), r"nested more than 24 levels deep"),
    "aliases": (
        "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 40)),
        "more than 20000 values",
    ),
    "50 MB of comments": ("# nothing\n" * (5 * MEGABYTE), r"is larger than 1024 KiB"),
    "50 MB of keys": ("".join(f"k{n}: 1\n" for n in range(4 * MEGABYTE)), r"is larger than 1024 KiB"),
    "many unknown keys": ("".join(f"key{n}: 1\n" for n in range(9000)), r"unknown key key0; .*\n(.*\n)*… and 8980 more$"),
    "a line of a megabyte": ("device: " + "a" * (MEGABYTE - 20), r"device is 'a+… \(\d+ characters\); expected"),
    "colons": ("mqtt: {port: 'rtsp://" + ":" * 500_000 + "'}", r"mqtt\.port is"),
    "null characters": ("device: a\0b", r"not valid YAML"),
    "not UTF-8": ("device: \udcff", r"it is not UTF-8 text"),
}


@pytest.mark.parametrize(("text", "sentence"), HUGE.values(), ids=HUGE)
def test_a_configuration_of_any_content_is_refused_in_a_sentence_and_in_seconds(tmp_path: Path, text: str, sentence: str) -> None:
    config = tmp_path / "config.yaml"
    config.write_bytes(text.encode("utf-8", "surrogateescape"))
    began_s = time.process_time()
    with pytest.raises(ConfigError, match=sentence) as caught:
        load(config, environment={})
    assert time.process_time() - began_s < 10  # of the processor: a minute before
    assert max(map(len, str(caught.value).splitlines())) < 2000


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        (f"mqtt.port={DIGITS}", r"--set mqtt\.port: mqtt\.port is '9+…"),
        ("events.disabled=" + "[" * 5000, r"events\.disabled is '\[+…"),
        (f"events.disabled=[{DIGITS}]", r"events\.disabled is \['9+…"),
        ("cameras.a.zones.z=[[0,0],[1,0],[1,1e400]]", r"cameras\.a\.zones\.z is"),
    ],
)
def test_a_setting_of_any_content_is_refused_in_a_sentence(setting: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        load(settings=["cameras.a.source=x.mp4", setting], environment={})


def test_the_program_ends_with_78(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(f"mqtt: {{port: {DIGITS}}}\n")
    command = [sys.executable, "-m", "edgepose", "check", "--config", str(tmp_path / "config.yaml")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 78
    assert "Traceback" not in ended.stdout + ended.stderr


CAMERA = "cameras: {front: {source: 'rtsp://127.0.0.1:1/cam', reconnect_maximum_s: 0.5}}\n"


def write_configuration(folder: Path, lines: str = "") -> Path:
    config = folder / "config.yaml"
    config.write_text(f"{CAMERA}model: {{path: {write_edgepose(folder / 'tiny.onnx')}, threads: 1}}\nmqtt: {{enabled: false}}\n{lines}")
    return config


def started(config: Path, **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "edgepose", "run", "--config", str(config)], **options)


def is_live(port: int) -> bool:
    """Return whether a daemon with this monitoring port says that it is live."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection, suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/livez")
        return connection.getresponse().status == 200
    return False


def catches(process: subprocess.Popen[bytes], number: signal.Signals) -> bool:
    """Return whether a process handles a signal, as the kernel knows it."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = int(next(line for line in status.splitlines() if line.startswith("SigCgt")).split()[1], 16)
    return bool(caught >> (number - 1) & 1)


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGHUP])
def test_a_signal_at_any_moment_of_the_start_does_not_kill(tmp_path: Path, number: signal.Signals) -> None:
    port = free_port()
    config = write_configuration(tmp_path, f"monitoring: {{enabled: true, port: {port}}}\n")
    with (tmp_path / "log").open("wb") as log, started(config, stderr=log) as process:
        try:
            wait_for(lambda: catches(process, number), within_s=30)

            def answers() -> bool:
                process.send_signal(number)  # again and again, until the daemon has started
                return is_live(port)

            wait_for(answers, within_s=60, every_s=0.02)
            process.send_signal(signal.SIGTERM)
            assert process.wait(120) == 0
        finally:
            process.kill()
    assert "Traceback" not in (tmp_path / "log").read_text()


@pytest.mark.parametrize("delay_s", [0.0, 0.05, 0.1, 0.2, 0.4, 0.8])
def test_sigterm_at_any_moment_of_the_start_ends_in_order(tmp_path: Path, delay_s: float) -> None:
    with (tmp_path / "log").open("wb") as log, started(write_configuration(tmp_path), stderr=log) as process:
        try:
            wait_for(lambda: catches(process, signal.SIGTERM), within_s=30)
            time.sleep(delay_s)  # the moment does not matter, whatever the machine's speed
            process.send_signal(signal.SIGTERM)
            assert process.wait(120) == 0
        finally:
            process.kill()
    assert "Traceback" not in (tmp_path / "log").read_text()


@contextmanager
def unread_pipe() -> Iterator[tuple[int, int]]:
    """A full pipe that nobody reads: what is written to it waits for ever."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 4096)
    os.set_blocking(writing, True)
    try:
        yield reading, writing
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_log_that_nobody_reads_delays_neither_answers_nor_the_end(tmp_path: Path, form: str) -> None:
    port = free_port()
    lines = f"monitoring: {{enabled: true, port: {port}}}\nlog: {{level: debug, format: {form}}}\n"
    with unread_pipe() as (_, writing), started(write_configuration(tmp_path, lines), stderr=writing) as process:
        try:

            def answers() -> bool:
                return is_live(port)

            wait_for(answers, within_s=60)
            for _ in range(200):  # each is a line
                assert answers()
            began_s = time.monotonic()
            assert answers()
            assert in_time(time.monotonic() - began_s, 1.0)
            began_s = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(120) == 0
            assert in_time(time.monotonic() - began_s, 4.0, at_most_s=30)
        finally:
            process.kill()


def test_an_error_at_the_end_does_not_wait_for_a_reader(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("nonsense: 1\n")
    with unread_pipe() as (_, writing), started(tmp_path / "config.yaml", stderr=writing) as process:
        assert process.wait(120) == 78


def test_dropped_lines_are_counted_and_told_when_somebody_reads_again() -> None:
    with unread_pipe() as (reading, writing), os.fdopen(os.dup(writing), "w") as stream:
        writer = LineWriter(stream, lambda dropped: f"{dropped} were dropped")
        for number in range(LINES_LIMIT + 500):
            writer.write(f"line {number}")
        assert writer.dropped == 500
        assert not writer.flush(0.2)
        read = b""

        def drained() -> bool:
            nonlocal read
            read += os.read(reading, 65536)
            return read.endswith(b"were dropped\n")

        wait_for(drained)
        lines = [f"line {number}" for number in range(LINES_LIMIT)]
        assert read.lstrip(b"x").decode().splitlines() == [*lines, "500 were dropped"]


@pytest.mark.parametrize(
    "hostile", ["a\nERROR forged", "\x1b[2J\x1b[31m", "\x9b31m", "a\rb", "\u202egnp.exe", "a\u2028b", "\udcff", "x" * 100_000]
)
@pytest.mark.parametrize("form", ["text", "json"])
def test_text_of_others_forges_no_line_of_the_log(hostile: str, form: str) -> None:
    formatter = JsonFormatter() if form == "json" else TextFormatter("%(levelname)s %(message)s")
    line = formatter.format(logging.makeLogRecord({"msg": "camera %s is gone", "args": (hostile,), "levelname": "INFO"}))
    assert line.isprintable()
    assert len(line) < 20_000


DEVICE = Config(device=f"drone-{os.getpid()}", mqtt=MqttConfig(host="broker.example"))
"""Its name is unique to this process: other processes run the same tests at the same time."""

SQUAT = """
import os, socket, sys, time
os.setgroups([])
os.setuid(int(sys.argv[1]))
taken = socket.socket(socket.AF_UNIX)
taken.bind(chr(0) + sys.argv[2])
if sys.argv[3] == "listen":
    taken.listen(1)
print("holds", flush=True)
time.sleep(3600)
"""


@contextmanager
def squatter(user: int, suffix: str = "", listens: bool = True) -> Iterator[subprocess.Popen[str]]:
    """A process of another user that holds the name of a daemon."""
    name = (lock_key(DEVICE) or "").removeprefix("\0") + suffix
    command = [sys.executable, "-c", SQUAT, str(user), name, "listen" if listens else "bind"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "holds\n"
            yield process
        finally:
            process.kill()


@pytest.mark.needs("root")
@pytest.mark.parametrize(("user", "listens"), [(4321, True), (65534, True), (4321, False)])
def test_another_user_who_holds_the_name_is_named_and_does_not_keep_a_daemon_from_starting(
    user: int, listens: bool, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = InstanceLock(DEVICE), InstanceLock(DEVICE)
    with squatter(user, listens=listens) as process:
        first.take()
        try:
            (line,) = [record.getMessage() for record in caplog.records]
            assert line.startswith("another user")
            if listens:
                assert f"(process {process.pid} of user {'nobody' if user == 65534 else user})" in line
            with pytest.raises(
                UnavailableError, match=rf"another edgepose \(process {os.getpid()} of user root\) .* publishes edgepose/{DEVICE.device}"
            ):
                second.take()
        finally:
            first.release()


@pytest.mark.needs("root")
@pytest.mark.parametrize("user", [0, 101, 61200])
def test_a_service_that_holds_the_name_is_a_daemon(user: int) -> None:
    with squatter(user) as process, pytest.raises(UnavailableError, match=rf"\(process {process.pid} of user .*another `device` name here"):
        InstanceLock(DEVICE).take()


INSTALL = Path(__file__).parents[2] / "deploy" / "install.sh"
WITH_ITS_OWN_RUN = (
    "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system /run/lock && chmod 1777 /run/lock && echo precious >/run/victim && "
)


@pytest.mark.needs("root", "unshare")
@pytest.mark.parametrize(
    ("before", "code", "said"),
    [
        (
            "ln -s /run/victim /run/lock/edgepose-install.lock;"
            " mkdir -m 700 /run/edgepose-install; exec 8>/run/edgepose-install/lock; flock 8",
            75,
            "another installation is running",
        ),
        ("ln -s /run/lock /run/edgepose-install", 73, "is not a folder that only root can enter"),
        ("mkdir /run/edgepose-install; chmod 777 /run/edgepose-install", 73, "is not a folder that only root can enter"),
        ("mkdir -m 700 /run/edgepose-install; chown 4321 /run/edgepose-install", 73, "is not a folder that only root can enter"),
        ("ln -s /run/victim /run/edgepose-install", 73, "is not a folder that only root can enter"),
    ],
)
def test_the_lock_of_an_installation_is_roots(before: str, code: int, said: str) -> None:
    script = f"{WITH_ITS_OWN_RUN} {{ {before}; }} && {INSTALL} --uninstall; code=$?; cat /run/victim; exit $code"
    done = subprocess.run(["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (code, "precious\n")
    assert said in done.stderr


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", 100)


BEGIN = "from edgepose.__main__ import main; print('begun', flush=True); main()"


def demo(folder: Path, clip: Path, model: Path) -> list[str]:
    return [sys.executable, "-c", BEGIN, "demo", str(clip), "--model", str(model), "--output", str(folder / "out"), "--seconds", "2"]


@pytest.mark.needs("amqtt")
@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("delay_s", [0.0, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.5])
def test_ctrl_c_at_any_moment_of_the_demo_gives_no_traceback(tmp_path: Path, clip: Path, delay_s: float, times: int) -> None:
    with (tmp_path / "said").open("wb") as said:
        process = subprocess.Popen(demo(tmp_path, clip, write_edgepose(tmp_path / "tiny.onnx")), stdout=said, stderr=said)
        try:
            wait_for(lambda: (tmp_path / "said").read_text(), within_s=30)  # Python itself has started
            time.sleep(delay_s)
            for _ in range(times):
                process.send_signal(signal.SIGINT)
                time.sleep(0.05)
            assert process.wait(120) in (0, 130, -signal.SIGINT)
        finally:
            process.kill()
            process.wait(60)
    assert "Traceback" not in (tmp_path / "said").read_text()


@pytest.mark.needs("amqtt")
def test_the_demos_lines_on_a_terminal_do_not_run_into_each_other(tmp_path: Path, clip: Path) -> None:
    main, terminal = pty.openpty()
    process = subprocess.Popen(demo(tmp_path, clip, write_edgepose(tmp_path / "tiny.onnx")), stdout=terminal, stderr=terminal)
    os.close(terminal)
    said = b""
    with suppress(OSError):  # the terminal is gone with the process
        while chunk := os.read(main, 65536):
            said += chunk
    os.close(main)
    assert process.wait(120) == 0
    lines = said.decode().replace("\r", "").split("\n")
    assert lines[1] == f"watching {clip.name}"
    assert re.fullmatch(r"messages: mqtt://127\.0\.0\.1:\d+, topic edgepose/demo/#", lines[2])
    assert any(re.search(r"^(\x1b\[\?25h)?\d+ frames in ", line) for line in lines)


SHOW_PROGRESS = str(Path(__file__).parents[2] / "tools" / "show-progress.sh")


def test_an_installation_shows_that_it_runs_and_passes_its_exit_code_on() -> None:
    done = subprocess.run([SHOW_PROGRESS, "installing", "sh", "-c", "sleep 1; exit 7"], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (7, "")
    assert done.stderr.startswith("installing: 0 s\n")


def test_ctrl_c_ends_all_of_an_installation_without_a_traceback(tmp_path: Path) -> None:
    program = f"import pathlib, time; pathlib.Path({str(tmp_path / 'began')!r}).touch(); time.sleep(3600)"
    command = [str(SHOW_PROGRESS), "installing", "sh", "-c", f'"{sys.executable}" -c "{program}"; true']
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        wait_for((tmp_path / "began").exists, within_s=30)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        assert process.stderr is not None
        said = process.stderr.read()  # ends when nobody holds it any more: the whole command is gone
        assert process.wait(120) == 130
    assert "Traceback" not in said
    assert "installing: interrupted" in said
