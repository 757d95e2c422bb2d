"""A vehicle on the wire that is not ours: MAVSDK's autopilot component with its telemetry server, which flies a known path.

Run by a Python that has `mavsdk` (BSD-3): `python vehicle.py URL[,URL] RATE_HZ`. It writes a line for each connection. The path is a
function of the monotonic clock, which all processes of a machine share: north at 5 m/s, heading 60 degrees, in a slow roll.
"""

import math
import sys
import time

SYSTEM = 7
METERS_PER_DEGREE = 111_194.9
LATITUDE, LONGITUDE, ALTITUDE_M = 47.397_742, 8.545_594, 488.0


def path(now_s: float) -> tuple[float, float, float, float, float, float]:
    """Return meters east and north of the start, height in meters, and roll, pitch, heading in degrees."""
    north = 40 * math.sin(now_s / 8)
    return 10.0, north, 30 + 3 * math.sin(now_s / 5), 5 * math.sin(now_s), 2 * math.cos(now_s / 2), 60 + 20 * math.sin(now_s / 3)


def speed(now_s: float) -> tuple[float, float, float]:
    """Return meters per second north, east, down."""
    return 5 * math.cos(now_s / 8), 0.0, -0.6 * math.cos(now_s / 5)


def rates(now_s: float) -> tuple[float, float, float]:
    """Return body rates in radians per second, but for the coupling of small angles."""
    roll, pitch, heading = 5 * math.cos(now_s), -math.sin(now_s / 2), 20 / 3 * math.cos(now_s / 3)
    return math.radians(roll), math.radians(pitch), math.radians(heading)


def place(now_s: float) -> tuple[float, float, float]:
    """Return latitude, longitude and height."""
    east, north, height, *_ = path(now_s)
    longitude = LONGITUDE + east / (METERS_PER_DEGREE * math.cos(math.radians(LATITUDE)))
    return LATITUDE + north / METERS_PER_DEGREE, longitude, height


def fly(urls: list[str], rate_hz: float) -> None:
    from mavsdk.component_type import ComponentType
    from mavsdk.mavsdk import Configuration, Mavsdk
    from mavsdk.plugins.telemetry_server import telemetry_server as server

    configuration = Configuration.create_with_component_type(ComponentType.AUTOPILOT)
    configuration.system_id = SYSTEM
    vehicle = Mavsdk(configuration)
    started_s = time.monotonic()  # its positions count from here
    for url in urls:
        print("connection", vehicle.add_any_connection(url), flush=True)
    telemetry = server.TelemetryServer(vehicle.server_component())
    home = server.Position(LATITUDE, LONGITUDE, ALTITUDE_M, 0.0)
    next_s = time.monotonic()
    while True:
        now_s = time.monotonic()
        *_, roll, pitch, heading = path(now_s)
        latitude, longitude, height = place(now_s)
        north_mps, east_mps, down_mps = speed(now_s)
        position = server.Position(latitude, longitude, ALTITUDE_M + height, height)
        telemetry.publish_home(home)
        telemetry.publish_raw_gps(
            server.RawGps(0, latitude, longitude, ALTITUDE_M + height, 1.0, 1.0, 5.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0),
            server.GpsInfo(12, server.FixType.FIX_3D),
        )
        telemetry.publish_position(position, server.VelocityNed(north_mps, east_mps, down_mps), server.Heading(heading % 360))
        angles = server.EulerAngle(roll, pitch, (heading + 180) % 360 - 180, int((now_s - started_s) * 1e6))
        telemetry.publish_attitude(angles, server.AngularVelocityBody(*rates(now_s)))
        next_s = max(next_s + 1 / rate_hz, now_s)
        time.sleep(max(0.0, next_s - time.monotonic()))


if __name__ == "__main__":
    fly(sys.argv[1].split(","), float(sys.argv[2]))
