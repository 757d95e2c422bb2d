"""Occupancy: published when it changes, for the places that there are."""

from msgspec.structs import replace

from edgepose.config.aircraft import FlightConfig, MountConfig
from edgepose.config.schema import CameraConfig, Config, EventsConfig
from edgepose.event import Occupancy
from edgepose.ground import WorldPlaces
from edgepose.messages.camera_places import NOWHERE
from edgepose.messages.occupancy_states import OccupancyStates, occupancy_addresses
from edgepose.messages.structs import Message, OccupancyMessage

CORNERS = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0)]
CONFIG = Config(cameras={"front": CameraConfig(source="x", zones={"door": CORNERS, "yard": CORNERS}), "back": CameraConfig(source="x")})
ON_AIRCRAFT = replace(
    CONFIG,
    cameras={**CONFIG.cameras, "front": replace(CONFIG.cameras["front"], mount=MountConfig(field_of_view_deg=60))},
    flight=FlightConfig(source="fixed"),
)
ON_MAP = WorldPlaces(zones={"meadow": CORNERS})


def counted(frame: int, **zones: int) -> dict[str | None, Occupancy]:
    return {place: Occupancy(count, count, 0) for place, count in ((None, frame), *zones.items())}


class States:
    def __init__(self) -> None:
        self.said: list[tuple[str, int | None]] = []

    def publish_retained(self, address: str, payload: Message | bytes, *, whole: bool = False) -> None:
        assert isinstance(payload, OccupancyMessage)
        assert payload.occupied == (payload.count > 0)
        self.said.append((address, payload.count))

    def clear(self, address: str, *, whole: bool = False) -> None:
        self.said.append((address, None))


def test_nobody_is_there_at_first_and_only_changes_are_published() -> None:
    states = States()
    occupancy = OccupancyStates(states)
    occupancy.configure(CONFIG, NOWHERE, 0)
    front, door, yard, back = (
        *("cameras/front/occupancy", "cameras/front/zones/door/occupancy", "cameras/front/zones/yard/occupancy"),
        "cameras/back/occupancy",
    )
    assert states.said == [(front, 0), (door, 0), (yard, 0), (back, 0)]
    states.said.clear()
    for count in (2, 2, 1):
        occupancy.update("front", counted(frame=count, door=1, yard=0), 0)
    assert states.said == [(front, 2), (door, 1), (front, 1)]


def test_zones_on_the_map_are_places_of_the_cameras_that_look_at_them() -> None:
    states = States()
    occupancy = OccupancyStates(states)
    occupancy.configure(ON_AIRCRAFT, ON_MAP, 0)
    meadow = "cameras/front/zones/meadow/occupancy"
    assert [said for said in states.said if "meadow" in said[0]] == [(meadow, 0)]
    assert {address for address, _ in states.said} == set(occupancy_addresses(ON_AIRCRAFT, ON_MAP))
    occupancy.update("front", counted(frame=0, door=0, yard=0, meadow=2), 0)
    assert states.said[-1] == (meadow, 2)
    occupancy.withdraw(ON_AIRCRAFT, NOWHERE)
    assert states.said[-1] == (meadow, None)


def test_without_a_mount_or_telemetry_no_camera_looks_at_the_map() -> None:
    assert not any("meadow" in address for address in occupancy_addresses(CONFIG, ON_MAP))
    assert not any("meadow" in address for address in occupancy_addresses(replace(ON_AIRCRAFT, flight=FlightConfig()), ON_MAP))


def test_places_that_are_gone_are_cleared_and_do_not_come_back() -> None:
    states = States()
    occupancy = OccupancyStates(states)
    occupancy.configure(CONFIG, NOWHERE, 0)
    occupancy.update("front", counted(frame=3, door=1, yard=0), 0)
    states.said.clear()
    occupancy.withdraw(Config(cameras={"front": CameraConfig(source="x", zones={"yard": CORNERS})}), NOWHERE)
    assert states.said == [("cameras/front/zones/door/occupancy", None), ("cameras/back/occupancy", None)]
    occupancy.update("front", counted(frame=3, door=2, yard=0), 0)  # a frame that was under way
    occupancy.update("back", counted(frame=1), 0)
    assert len(states.said) == 2
    occupancy.withdraw(replace(CONFIG, events=EventsConfig(enabled=False)), NOWHERE)
    assert states.said[2:] == [("cameras/front/occupancy", None), ("cameras/front/zones/yard/occupancy", None)]


def test_what_was_counted_of_a_camera_is_forgotten() -> None:
    states = States()
    occupancy = OccupancyStates(states)
    occupancy.configure(CONFIG, NOWHERE, 0)
    occupancy.update("front", counted(frame=3, door=1, yard=0), 0)
    occupancy.update("back", counted(frame=1), 0)
    states.said.clear()
    occupancy.forget("back", 0)
    assert states.said == [("cameras/back/occupancy", 0)]
    occupancy.forget(None, 0)
    assert dict(states.said) == dict.fromkeys(occupancy_addresses(CONFIG, NOWHERE), 0)


def test_one_who_enters_as_another_leaves_is_a_change() -> None:
    states = States()
    occupancy = OccupancyStates(states)
    occupancy.configure(Config(cameras={"back": CONFIG.cameras["back"]}), NOWHERE, 0)
    for entered, left in ((1, 0), (2, 1), (2, 1)):
        occupancy.update("back", {None: Occupancy(1, entered, left)}, 0)
    assert states.said == [("cameras/back/occupancy", count) for count in (0, 1, 1)]
