"""How many people each camera sees, in all and in each zone, as retained states."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

from edgepose.config.schema import Config
from edgepose.event import Occupancy
from edgepose.messages.compose import occupancy_message
from edgepose.messages.schema import topic_address
from edgepose.messages.structs import Message

_NOBODY = Occupancy(0, 0, 0)

_Place = tuple[str, str | None]
"""A camera, and a zone or None for the whole frame."""


class StatePublisher(Protocol):
    """The part of `edgepose.mqtt.publisher.MqttPublisher` that keeps retained states."""

    def publish_retained(self, address: str, payload: Message | bytes, *, whole: bool = False) -> None:
        """Set the state of a topic; never blocks."""
        ...

    def clear(self, address: str, *, whole: bool = False) -> None:
        """Clear the state of a topic."""
        ...


class OccupancyStates:
    """The retained occupancy of each camera and zone, published when it changes; safe for any number of threads.

    Args:
        publisher: of the states.
        map_zones: returns the zones on the map in which a camera's people are counted.
    """

    def __init__(self, publisher: StatePublisher, map_zones: Callable[[str], Iterable[str]] = lambda camera: ()) -> None:
        self._publisher = publisher
        self._map_zones = map_zones
        self._lock = threading.Lock()  # a frame under way must not bring back a place that was removed
        self._people: dict[_Place, Occupancy] = {}

    def configure(self, config: Config, now_ns: int) -> None:
        """Publish that nobody is in new places, and clear the states of places that are gone.

        Args:
            config: in use from now on; without events or tracking nobody counts people, and there are no places.
            now_ns: nanoseconds since the Unix epoch.
        """
        wanted: dict[_Place, None] = {}
        if config.events.enabled and config.track.enabled:
            wanted = dict.fromkeys(_places(config))
            wanted |= dict.fromkeys((camera, zone) for camera in config.cameras for zone in self._map_zones(camera))
        with self._lock:
            for place in [place for place in self._people if place not in wanted]:
                del self._people[place]
                self._publisher.clear(_address(*place))
            for place in wanted:
                if place not in self._people:
                    self._set(place, _NOBODY, now_ns)

    def forget(self, camera: str | None) -> None:
        """Clear the states of a camera, or of all; `configure` publishes that nobody is there."""
        with self._lock:
            for place in [place for place in self._people if camera in (None, place[0])]:
                del self._people[place]
                self._publisher.clear(_address(*place))

    def update(self, camera: str, places: Mapping[str | None, Occupancy], captured_at_ns: int) -> None:
        """Publish the places of a camera whose number of people has changed.

        Args:
            camera: its name.
            places: people in the frame (None) and in each zone.
            captured_at_ns: capture time of the frame, nanoseconds since the Unix epoch.
        """
        with self._lock:
            for zone, people in places.items():
                if self._people.get((camera, zone), people) != people:
                    self._set((camera, zone), people, captured_at_ns)

    def _set(self, place: _Place, people: Occupancy, at_ns: int) -> None:
        self._people[place] = people
        self._publisher.publish_retained(_address(*place), occupancy_message(*place, people, at_ns))


def occupancy_addresses(config: Config) -> list[str]:
    """Return the addresses of all occupancy states of a configuration."""
    return [_address(*place) for place in _places(config)] if config.events.enabled and config.track.enabled else []


def _places(config: Config) -> Iterator[_Place]:
    for camera, settings in config.cameras.items():
        yield camera, None
        yield from ((camera, zone) for zone in settings.zones)


def _address(camera: str, zone: str | None) -> str:
    return topic_address("occupancy", camera) if zone is None else topic_address("zone-occupancy", camera, zone)
