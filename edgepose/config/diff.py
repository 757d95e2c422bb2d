"""Difference of two configurations: what a reload has to change."""

import msgspec
from msgspec.structs import replace

from edgepose.config.load import device_name
from edgepose.config.schema import CameraConfig, Config

AT_NEXT_START = ("black_box", "encryption", "monitoring", "web")
"""Sections that are read at the start only."""


class Changes(msgspec.Struct, frozen=True):
    """Difference of two configurations.

    Attributes:
        added, removed, changed: names of cameras; a camera whose zones, lines and mount alone differ is not among them, since it
            stays open.
        sections: names of all sections that differ.
        publisher, webhook, files: whether these must be replaced.
        later: sections that differ and are read at the start only.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    sections: tuple[str, ...]
    publisher: bool
    webhook: bool
    files: bool
    later: tuple[str, ...]

    @classmethod
    def between(cls, old: Config, new: Config) -> "Changes":
        """Return the changes from the old configuration to the new one."""
        sections = tuple(name for name in Config.__struct_fields__ if getattr(old, name) != getattr(new, name))
        before, after = old.cameras, new.cameras
        added = tuple(name for name in after if name not in before)
        removed = tuple(name for name in before if name not in after)
        # Each camera has its own annotated video, which draws the keypoints above the threshold.
        drawn = new.files.video is not None or new.files.images is not None
        restyled = old.pose.keypoint_threshold != new.pose.keypoint_threshold or old.privacy != new.privacy
        redraw = drawn and bool(added or removed or restyled)
        stores = [(config.events.enabled, config.events.store, config.events.store_limit) for config in (old, new)]
        return cls(
            added=added,
            removed=removed,
            changed=tuple(name for name in after if name in before and _stream(after[name]) != _stream(before[name])),
            sections=sections,
            publisher=stores[0] != stores[1]
            or "mqtt" in sections
            or device_name(old) != device_name(new)
            or (old.commands.enabled, old.commands.response_topics) != (new.commands.enabled, new.commands.response_topics)
            or (old.bundles.enabled, old.bundles.groups) != (new.bundles.enabled, new.bundles.groups),
            webhook="webhook" in sections or device_name(old) != device_name(new) or old.events.store_limit != new.events.store_limit,
            files="files" in sections or redraw,
            later=tuple(name for name in AT_NEXT_START if name in sections),
        )

    def words(self) -> list[str]:
        """Return a short description of each change."""
        cameras = [("added", self.added), ("removed", self.removed), ("changed", self.changed)]
        words = [f"camera {name} {what}" for what, names in cameras for name in names]
        words += [f"{section} applied" for section in self.sections if section not in ("cameras", *self.later)]
        if "cameras" in self.sections and not (self.added or self.removed or self.changed):
            words.append("zones and lines applied")
        return words + [f"{section} takes effect at the next start" for section in self.later]


def _stream(camera: CameraConfig) -> CameraConfig:
    return replace(camera, zones={}, lines={}, mount=None)
