"""Faults of the camera."""

import random
import socket
import time
from collections.abc import Sequence

from testing.faults.row import Row, faketime_needed, network_needed
from testing.faults.world import World, street_video

_BACK = "poses within 5 s of its return; "


def _killed(world: World) -> None:
    world.start()
    world.fault()
    world.camera.kill()
    world.told("ended", "refused")
    world.hold(8)
    world.camera.start()
    world.healed()
    world.back()


def _silent(world: World) -> None:
    world.start()
    world.fault()
    world.camera.freeze()
    world.told("stalled", within_s=8)
    world.hold(10)
    world.camera.thaw()
    world.healed()
    world.back()


def _never_answers(world: World) -> None:
    world.start()
    world.fault()
    world.camera.kill()
    with socket.create_server(("127.0.0.1", world.camera.port), backlog=16):
        world.told("timeout", within_s=15)
        world.hold(12)
    world.camera.start()
    world.healed()
    world.back()


def _slow(world: World) -> None:
    world.separate()
    world.start()
    world.fault()
    assert world.network is not None
    world.network.slow_in(_half_of_the_stream(world))
    world.hold(30)
    world.network.fast()
    world.healed()
    world.back()


def _half_of_the_stream(world: World) -> int:
    """Return half of the bit rate, kbit/s."""
    return max(16, round(world.video.stat().st_size * 8 / 600 / 1000 / 2))


def _lossy(world: World) -> None:
    world.separate()
    world.settings["cameras.front.rtsp_transport"] = "udp"
    world.start()
    world.fault()
    assert world.network is not None
    world.network.lose(0.3)
    before = len(world.heard.said.poses)
    world.hold(30)
    during = len(world.heard.said.poses) - before
    world.found.notes.append(f"{during} poses during {30 * world.patience:g} s of loss")
    world.check(during > 0, "there was no pose during the loss")
    world.network.mend()
    world.healed()
    world.back()


def _partition(world: World) -> None:
    world.separate()
    world.start()
    world.fault()
    assert world.network is not None
    world.network.cut(world.camera.port)
    world.told("stalled", "timeout", within_s=12)
    world.hold(20)
    world.network.mend()
    world.healed()
    world.back()


def _unplugged(world: World) -> None:
    world.separate()
    world.start()
    world.fault()
    assert world.network is not None
    world.network.unplug()
    world.hold(20)
    world.network.plug()
    world.healed()
    world.back()
    # The cable was the broker's too: if the camera returns before the broker, only the newest state is published.
    world.wait(lambda: world.heard.said.cameras[-1][1]["epoch"] > 0, "status with a new epoch", 1)
    world.check(world.logged("(stalled)") or world.logged("(timeout)"), "the log does not say why there was no video")


def _another_resolution(world: World) -> None:
    other = street_video(world.folder, 480, 360, minutes=3)
    world.start()
    world.fault()
    world.camera.restart("--file", str(other))
    world.healed()
    world.back()
    sizes = {(pose.width, pose.height) for pose in world.heard.said.poses}
    world.check(sizes == {(320, 240), (480, 360)}, f"poses were of frames of {sorted(sizes)}, expected both sizes")
    world.wait(lambda: world.heard.said.cameras[-1][1].get("width") == 480, "status with the new size", 5)


def _corrupt(world: World) -> None:
    world.camera_relayed = True
    world.start()
    generator = random.Random(12)
    world.fault()
    world.camera_relay.mangle = lambda data: flipped(data, generator)
    world.hold(20)
    world.camera_relay.mangle = None
    world.healed()
    world.back()


def flipped(data: bytes, generator: random.Random, share: float = 0.5) -> bytes:
    """Return the same bytes, in that share of the cases with one to eight bits flipped."""
    if generator.random() > share:
        return data
    damaged = bytearray(data)
    for _ in range(generator.randint(1, 8)):
        damaged[generator.randrange(len(damaged))] ^= 1 << generator.randrange(8)
    return bytes(damaged)


def _clock_jumps(world: World) -> None:
    put = world.fake_clock()
    world.start()
    for seconds in (3600.0, -3600.0, 0.0):
        world.fault()
        put(seconds)
        world.sleep(1.5)  # libfaketime reads it once a second
        world.healed()
        world.back()
        world.sleep(5)
        world.heard.offsets_s = (seconds,)
        world.sleep(3)
        behind = [pose.age_s for pose in world.heard.said.poses if pose.heard_s > time.monotonic() - 2]
        world.check(bool(behind), "there were no poses in the last 2 s")
        world.check(all(-1 < age_s < 3 for age_s in behind), f"poses are {max(behind, default=0):.1f} s old by the daemon's new clock")
    epochs = {message["epoch"] for _, message in world.heard.said.cameras}
    world.check(epochs == {0}, f"the stream was reopened: epochs {sorted(epochs)}")


ROWS: Sequence[Row] = (
    Row("camera", "killed", "SIGKILL; started again after 8 s", _BACK + "`ended`, then `refused` on its status", _killed, quick=True),
    Row("camera", "silent", "SIGSTOP for 10 s and more", _BACK + "`stalled` on its status", _silent, quick=True),
    Row("camera", "never answers", "a program listens on its port and sends nothing", _BACK + "`timeout` on its status", _never_answers),
    Row("camera", "slow", "half of the stream's bit rate (tbf) for 30 s", "poses within 5 s of full speed", _slow, needs=(network_needed,)),
    Row(
        "camera",
        "loss",
        "30 % of UDP packets for 30 s",
        "poses during the fault, and within 5 s of its end",
        _lossy,
        needs=(network_needed,),
    ),
    Row(
        "camera",
        "partition",
        "packets are dropped for 20 s",
        _BACK + "`stalled` or `timeout` on its status",
        _partition,
        needs=(network_needed,),
    ),
    Row(
        "camera",
        "unplugged",
        "the cable is unplugged for 20 s",
        _BACK + "a new epoch on its status; the log gives the reason",
        _unplugged,
        needs=(network_needed,),
    ),
    Row(
        "camera",
        "another resolution",
        "restarted with 480x360 instead of 320x240",
        _BACK + "poses and status have the new size",
        _another_resolution,
    ),
    Row("camera", "corrupt", "bits flipped in half of all TCP segments for 20 s", "poses within 5 s of its end; no crash", _corrupt),
    Row(
        "camera",
        "clock jump",
        "the host's clock set 1 h forward, 2 h back, 1 h forward",
        "no reconnect; capture times follow the clock within 5 s",
        _clock_jumps,
        needs=(faketime_needed,),
    ),
)
