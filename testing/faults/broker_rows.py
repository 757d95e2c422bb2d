"""Faults of the broker."""

import subprocess
from collections.abc import Sequence
from contextlib import ExitStack

from testing.faults.row import Row, mount_needed, network_needed
from testing.faults.world import World, fill, mounted

_BACK = "poses within 5 s of its return; "


def _down_at_start(world: World) -> None:
    world.start(daemon=False)
    _stop(world)
    world.fault()
    world.start_daemon()
    world.hold(12)
    _start(world)
    world.back()


def _killed(world: World) -> None:
    world.start()
    world.fault()
    _stop(world)
    world.hold(10)
    _start(world)
    world.back()
    _states_are_there(world)


def _silent(world: World) -> None:
    world.gated = False
    world.late_allowed = 4  # the broker delivers after the thaw what it held when it froze
    world.start()
    world.fault()
    for seconds in (6, 20):
        world.broker.freeze()
        world.hold(seconds)
        world.broker.thaw()
        world.healed()
        world.back()
        world.sleep(3)


def _refuses(world: World) -> None:
    world.users = {"pilot": "s3cret"}
    secret = world.folder / "password"
    secret.write_text("s3cret\n")
    secret.chmod(0o600)
    world.settings |= {"mqtt.username": "pilot", "mqtt.password_file": str(secret)}
    world.gated = False
    world.start()
    world.fault()
    passwords = world.folder / "passwords"
    right = passwords.read_bytes()
    subprocess.run(["mosquitto_passwd", "-b", str(passwords), "pilot", "another"], check=True, capture_output=True)
    world.broker.restart()
    world.hold(10)
    world.check(world.logged("refused"), "the log does not say that the broker refuses")
    world.check(not world.logged("s3cret"), "the password is in the log")
    passwords.write_bytes(right)
    world.broker.restart()
    world.heard.ready()
    world.healed()
    world.back()


def _slow(world: World) -> None:
    world.separate()
    world.start()
    world.fault()
    assert world.network is not None
    world.network.slow_out(64)
    world.hold(30)
    world.network.fast()
    world.healed()
    world.back()


def _forgetful(world: World) -> None:
    world.start()
    world.fault()
    for _ in range(3):
        _stop(world)
        _start(world)
        world.back()
        _states_are_there(world)


def _partition(world: World) -> None:
    world.separate()
    world.start()
    world.fault()
    assert world.network is not None
    world.network.cut(world.broker.port)
    world.hold(60)
    world.network.mend()
    world.healed()
    world.back()


def _full_store(world: World) -> None:
    with ExitStack() as stack:
        disk = world.folder / "disk"
        mounted(stack, disk, 256)
        world.settings["events.store"] = str(disk / "events.db")
        world.start()
        world.fault()
        _stop(world)
        ballast = fill(disk)
        world.hold(30)
        world.check(world.logged(str(disk)), "the log does not name the store on the full disk")
        _start(world)
        world.back()
        ballast.unlink()
        world.hold(5)
        world.conclude()


def _stop(world: World) -> None:
    """End the broker with all that it has in memory."""
    world.relay.shut()
    world.broker.kill()
    world.heard.deaf()


def _start(world: World) -> None:
    """Start the broker, empty; the subscriber connects before the daemon, or it would miss the first messages."""
    world.broker.start()
    world.heard.ready()
    world.relay.open()
    world.healed()


def _states_are_there(world: World) -> None:
    """Check that a new subscriber gets status, info and the status of the camera."""
    for what, kept in (("status", world.heard.said.device), ("info", world.heard.said.info), ("camera", world.heard.said.cameras)):
        world.wait(lambda kept=kept: kept[-1][0] > world.healed_s, f"retained {what} at the new broker", 5)  # type: ignore[misc]


ROWS: Sequence[Row] = (
    Row("broker", "down at start", "not running for the first 12 s", _BACK + "earlier events arrive", _down_at_start),
    Row(
        "broker",
        "killed",
        "SIGKILL, started again after 10 s, without its state",
        _BACK + "retained states are published again",
        _killed,
        quick=True,
    ),
    Row("broker", "silent", "SIGSTOP for 6 s, and for 20 s", _BACK + "at most the 4 poses that it held arrive late", _silent),
    Row("broker", "refuses", "password changed for 10 s", _BACK + "the log says `refused`, without the password", _refuses),
    Row(
        "broker",
        "slow",
        "64 kbit/s (tbf) for 30 s, less than all poses need",
        "the newest poses win, none is late; poses within 5 s of full speed",
        _slow,
        needs=(network_needed,),
    ),
    Row("broker", "restarted without persistence", "three times, immediately", _BACK + "retained states are published again", _forgetful),
    Row("broker", "partition", "packets vanish for 60 s", _BACK + "events from that time arrive", _partition, needs=(network_needed,)),
    Row(
        "broker",
        "store on a full disk",
        "broker down for 30 s, no disk space for events",
        _BACK + "the log says so; events are kept in memory and arrive",
        _full_store,
        needs=(mount_needed,),
    ),
)
