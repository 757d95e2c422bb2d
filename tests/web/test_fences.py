"""A fenced process reaches no network, starts no program and opens no file but its own: tried from inside."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgepose.web import fences

PROGRAM = """
import json, os, resource, socket, subprocess, sys
from edgepose.web import fences
fences.limit_resources(300, 60, 1)
fences.refuse_network()
landlock = fences.allow_files([sys.prefix, sys.base_prefix, "/usr", "/lib", "/lib64", *sys.path], [os.getcwd(), "/dev"], [int(sys.argv[1])])
tried = {}
def attempt(name, action):
    try:
        action()
        tried[name] = "done"
    except (OSError, MemoryError) as error:
        tried[name] = type(error).__name__
attempt("internet", lambda: socket.socket(socket.AF_INET))
attempt("unix", lambda: socket.socket(socket.AF_UNIX))
attempt("packet", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
attempt("pair", socket.socketpair)
attempt("program", lambda: subprocess.run(["/bin/true"]))
attempt("exec", lambda: os.execv("/bin/true", ["true"]))
attempt("upload", lambda: open(f"/proc/self/fd/{sys.argv[1]}", "rb").read())
attempt("own folder", lambda: open("result", "wb").write(b"x"))
attempt("large result", lambda: open("large", "wb").write(bytes(2_000_000)))
attempt("memory", lambda: bytearray(2_000_000_000))
attempt("passwords", lambda: open("/etc/passwd").read())
attempt("neighbor", lambda: open(sys.argv[2]).read())
attempt("neighbor changed", lambda: open(sys.argv[2], "a"))
attempt("list", lambda: os.listdir("/etc"))
import threading
thread = threading.Thread(target=lambda: attempt("thread", lambda: socket.socket(socket.AF_INET)))
thread.start(); thread.join()
print(json.dumps([landlock, tried]))
"""


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> tuple[bool, dict[str, str]]:
    own, other = tmp_path_factory.mktemp("own"), tmp_path_factory.mktemp("other") / "accounts.json"
    other.write_text("secret")
    with (own.parent / "upload").open("w+b") as upload:
        upload.write(b"upload")
        upload.flush()
        Path(upload.name).unlink()  # as an upload has no name
        command = [sys.executable, "-c", PROGRAM, str(upload.fileno()), str(other)]
        environment = dict(os.environ) | {"PYTHONPATH": os.pathsep.join(str(Path(place).resolve()) for place in sys.path if place)}
        done = subprocess.run(command, capture_output=True, text=True, cwd=own, pass_fds=[upload.fileno()], timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    landlock, found = json.loads(done.stdout)
    return landlock, found


@pytest.mark.parametrize("way", ["internet", "unix", "packet", "pair", "program", "exec", "thread", "large result"])
def test_no_way_leads_out(tried: tuple[bool, dict[str, str]], way: str) -> None:
    assert tried[1][way] in ("PermissionError", "OSError"), tried


@pytest.mark.parametrize("way", ["upload", "own folder"])
def test_its_own_files_are_open(tried: tuple[bool, dict[str, str]], way: str) -> None:
    assert tried[1][way] == "done"


def test_memory_is_bounded(tried: tuple[bool, dict[str, str]]) -> None:
    assert tried[1]["memory"] == "MemoryError"


@pytest.mark.parametrize("way", ["passwords", "neighbor", "neighbor changed", "list"])
def test_other_files_are_closed(tried: tuple[bool, dict[str, str]], way: str) -> None:
    if not tried[0]:
        pytest.skip("this kernel has no Landlock")
    assert tried[1][way] == "PermissionError"


def test_the_lists_of_both_machines_name_the_same_calls() -> None:
    assert set(fences._X86_64) == set(fences._AARCH64)
