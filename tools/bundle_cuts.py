"""End a daemon at random moments of an update, 50 by default, and see what runs afterwards: `make bundle-cuts`.

Two of three bundles work; the third names a camera that is not there, which only its trial shows. The process gets SIGKILL, as a power cut
would end it; what a power cut does to the disk is in `tests/bundles/test_store.py`.
"""

import argparse
import random
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from testing.bundles import FileServer, Fleet, last, message, works
from testing.onnx_files import write_edgepose
from testing.servers.daemon import Listener
from testing.servers.mosquitto import Mosquitto, free_port
from testing.waiting import wait_for
from tools.write_reference import with_table

_LONGEST_S = 2.5  # an update takes about two seconds here; its trial of one that does not work longer
_TRIAL_S = 5.0


def cut(fleet: Fleet, count: int, seed: int) -> Counter[str]:
    """Cut `count` updates at random moments; return how often each state was found on the disk.

    Raises:
        AssertionError: after a cut, neither the old bundle nor the new one works, or what is said to run does not.
    """
    draw = random.Random(seed)
    found: Counter[str] = Counter()
    models = {}
    for name in ("even.onnx", "odd.onnx"):
        models[name] = fleet.server.put(name, write_edgepose(fleet.folder / name, metadata={"edgepose.license": name}).read_bytes())
    dead = f"cameras: {{front: {{source: 'rtsp://127.0.0.1:{free_port()}/cam'}}}}\n"
    active, running = None, "tiny.onnx"
    with ExitStack() as device:
        daemon, heard = device.enter_context(fleet.device(_TRIAL_S))
        for number in range(1, count + 1):
            name, is_good = ("even.onnx", "odd.onnx")[number // 2 % 2], number % 3 != 2
            works(heard)
            fleet.publish(message(number, f"model: {{path: {name}}}\n{'' if is_good else dead}", (models[name],)))
            time.sleep(draw.random() ** 3 * _LONGEST_S)  # the steps before the trial are the shorter ones
            daemon.process.kill()
            daemon.process.wait(30)
            cut_in = [each for each in heard.on("bundle") if each.get("number") == number]
            found[f"{'good' if is_good else 'bad'}, {cut_in[-1]['state'] if cut_in else 'not received'}"] += 1
            device.close()
            daemon, heard = device.enter_context(fleet.device(_TRIAL_S))
            # The broker still has the bundle: where it was not in use yet, it is taken now.
            wait_for(partial(_is_settled, heard, number), within_s=40)
            said = last(heard)
            if is_good:
                active, running = number, name
            assert said["state"] == ("active" if is_good else "rolled_back"), said
            assert said.get("active") == active, said
            works(heard)
            assert heard.on("info")[-1]["model"]["name"] == running
            fleet.publish(b"")
    return found


def _is_settled(heard: Listener, number: int) -> bool:
    said = last(heard)
    return said.get("number") == number and said["state"] in ("active", "rolled_back")


def main() -> None:
    """Cut, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("document", type=Path)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, Mosquitto(Path(folder)) as broker, FileServer(Path(folder)) as server:
        found = cut(Fleet(Path(folder), broker, server), arguments.count, arguments.seed)
    took_s = time.monotonic() - began_s
    lines = [
        f"{arguments.count} updates were cut by SIGKILL at random moments ({took_s:.0f} s in all). After each, the daemon started with the",
        "old bundle, or with the new one on trial. In the end every good bundle was in use, and every bad one was rolled back or refused:",
        "the one before ran.",
        "",
        "| bundle, and its state at the cut | cuts |",
        "|---|---|",
        *(f"| {what} | {times} |" for what, times in sorted(found.items())),
    ]
    document: Path = arguments.document
    document.write_text(with_table(document.read_text(), "bundle-cuts", "\n".join(lines)))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
