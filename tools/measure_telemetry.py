"""Measures places over bad links from a vehicle and a ground station that are not ours: `make flight`.

MAVSDK is the vehicle (see `testing/flight/vehicle.py`), MAVProxy the ground station; `MAVSDK_PYTHON` names a Python that has both. The
link loses 20 % of the packets, delays 30 % by up to 0.3 s, which reorders them, and repeats 10 %. Halfway the vehicle is killed, and starts
again after two seconds.
"""

import argparse
import math
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

from edgepose.config.aircraft import FlightConfig, FlightReportConfig, MavlinkConfig, MountConfig
from edgepose.config.schema import CameraConfig, Config
from edgepose.earth import LocalFrame
from edgepose.flight.service import FlightService
from edgepose.ground import Aircraft, GroundPlace
from edgepose.person import Person
from testing.flight import vehicle
from testing.flight.bad_link import BadLink
from testing.flight.sender import free_udp_port

_FRAME_S, _DELAY_S = 0.05, 0.1  # between frames, and from the capture of one to its postprocessing
_AWAY_S = 2.0


def measure(python: str, rate_hz: float, maximum_age_s: float, seconds: float) -> str:
    """Return a row of the table: states and errors of the aircraft's pose at each frame."""
    port = free_udp_port()
    link = MavlinkConfig(address=f"udpin://127.0.0.1:{port}")
    mount = MountConfig(field_of_view_deg=60, pitch_deg=-90)
    flying = FlightService(
        Config(
            cameras={"a": CameraConfig(source="x", mount=mount)},
            flight=FlightConfig(source="mavlink", mavlink=link, maximum_age_s=maximum_age_s),
        )
    )
    flying.start()
    locator = flying.locator("a")
    assert locator is not None
    states: Counter[str] = Counter()
    errors: list[float] = []
    with BadLink(port, loss=0.2, late=0.3, repeated=0.1) as bad:
        program = [python, vehicle.__file__, f"udpout://127.0.0.1:{bad.port}", str(rate_hz)]
        drone = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        began_s, away = time.monotonic(), False
        try:
            while time.monotonic() - began_s < seconds:
                time.sleep(_FRAME_S)
                if not away and time.monotonic() - began_s > seconds / 2:
                    away = True
                    drone.kill()
                    drone.wait()
                    time.sleep(_AWAY_S)
                    drone = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                captured_ns = time.monotonic_ns() - round(_DELAY_S * 1e9)
                aircraft = locator.begin(captured_ns, (640, 480))
                states[aircraft.state] += 1
                if aircraft.latitude is not None and aircraft.longitude is not None:
                    latitude, longitude, _ = vehicle.place(captured_ns / 1e9)
                    errors.append(math.hypot(*LocalFrame(latitude, longitude).meters(aircraft.latitude, aircraft.longitude)))
            stats = flying.stats()
        finally:
            drone.kill()
            drone.wait()
            flying.close()
    assert stats is not None
    said = ", ".join(f"{state} {count}" for state, count in states.most_common())
    share = 100 * stats.lost / max(1, stats.packets + stats.lost)
    worst = f"{np.median(errors):.3f} | {max(errors):.3f}" if errors else "- | -"
    return f"| {rate_hz:g} | {said} | {worst} | {share:.0f} % | {stats.restarts} |"


def show_people(python: str) -> str:
    """Return what MAVProxy lists of two people that are sent to it."""
    ports = free_udp_port(), free_udp_port()
    link = MavlinkConfig(address=f"udpin://127.0.0.1:{ports[0]}")
    report = FlightReportConfig(heartbeat=True, people_address=f"udpout://127.0.0.1:{ports[1]}")
    flying = FlightService(Config(flight=FlightConfig(source="mavlink", mavlink=link, report=report)))
    flying.start()
    program = [python, vehicle.__file__, ",".join(f"udpout://127.0.0.1:{port}" for port in ports), "10"]
    drone = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    proxy = [str(Path(python).parent / "mavproxy.py"), f"--master=udpin:127.0.0.1:{ports[1]}", "--load-module=adsb", "--state-basedir=/tmp"]
    station = subprocess.Popen([python, *proxy], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        people = []
        for track in (3, 8):
            spot = GroundPlace(0, 0, 2, vehicle.LATITUDE + track * 1e-5, vehicle.LONGITUDE)
            people.append(Person(np.ones(4, np.float32), 0.9, np.zeros((17, 3), np.float32), track, spot))
        assert station.stdin is not None
        for _ in range(100):
            flying.tell_people("front", Aircraft("ok", ground_altitude_m=vehicle.ALTITUDE_M), people)
            time.sleep(0.1)
        station.stdin.write("adsb status\n")
        station.stdin.flush()
        time.sleep(1.5)
        station.stdin.write("exit\n")
        station.stdin.flush()
        output, _ = station.communicate(timeout=10)
    except subprocess.TimeoutExpired:
        station.kill()
        output, _ = station.communicate()
    finally:
        for process in (station, drone):
            process.kill()
            process.wait()
        flying.close()
    return "\n".join(line for line in output.splitlines() if "threat count" in line or "Detected vehicle" in line) or output


def main() -> None:
    """Measure, and print a table and what the ground station says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=40.0)
    options = parser.parse_args()
    python = os.environ.get("MAVSDK_PYTHON")
    if not python:
        sys.exit("MAVSDK_PYTHON is not set; expected the path of a Python with mavsdk and MAVProxy")
    print("| packets a second | states of frames | median error, m | largest error, m | lost | restarts |")
    print("|---|---|---|---|---|---|")
    for rate_hz, maximum_age_s in ((50.0, 1.0), (1.0, 1.5)):
        print(measure(python, rate_hz, maximum_age_s, options.seconds), flush=True)
    print(show_people(python))


if __name__ == "__main__":
    main()
