"""How many people each camera sees, in all and in each zone, as retained states."""

import threading
from collections.abc import Mapping
from typing import Protocol

from edgepose.config.schema import Config
from edgepose.event import Occupancy
from edgepose.ground import WorldPlaces
from edgepose.messages.camera_places import camera_places
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
    """

    def __init__(self, publisher: StatePublisher) -> None:
        self._publisher = publisher
        self._lock = threading.Lock()  # a frame under way must not bring back a place that was removed
        self._people: dict[_Place, Occupancy] = {}

    def withdraw(self, config: Config, on_map: WorldPlaces) -> None:
        """Clear the states of places that a configuration does not have.

        Args:
            config: without events or tracking nobody counts people, and there are no places.
            on_map: zones and lines on the map.
        """
        wanted = set(_places(config, on_map))
        with self._lock:
            for place in [place for place in self._people if place not in wanted]:
                del self._people[place]
                self._publisher.clear(_address(*place))

    def configure(self, config: Config, on_map: WorldPlaces, now_ns: int) -> None:
        """Publish that nobody is in new places; `now_ns` is nanoseconds since the Unix epoch, the rest as in `withdraw`."""
        with self._lock:
            for place in _places(config, on_map):
                if place not in self._people:
                    self._set(place, _NOBODY, now_ns)

    def forget(self, camera: str | None, now_ns: int) -> None:
        """Publish that nobody is in the places of a camera, or of all."""
        with self._lock:
            for place in [place for place in self._people if camera in (None, place[0])]:
                self._set(place, _NOBODY, now_ns)

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


def occupancy_addresses(config: Config, on_map: WorldPlaces) -> list[str]:
    """Return the addresses of all occupancy states of a configuration and a map."""
    return [_address(*place) for place in _places(config, on_map)]


def _places(config: Config, on_map: WorldPlaces) -> list[_Place]:
    if not (config.events.enabled and config.track.enabled):
        return []
    return [(places.camera, zone) for places in camera_places(config, on_map) for zone in (None, *places.zones)]


def _address(camera: str, zone: str | None) -> str:
    return topic_address("occupancy", camera) if zone is None else topic_address("zone-occupancy", camera, zone)
