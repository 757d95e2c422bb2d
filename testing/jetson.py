"""Stand-ins for NVIDIA's GStreamer elements, so that a Jetson's pipelines run unchanged where there is none.

`nvarguscamerasrc` and `nvv4l2decoder` give frames marked as in NVIDIA's memory (`memory:NVMM`); only `nvvidconv` takes
them and converts them. A pipeline with missing or wrong caps does not link, as on a Jetson.

As a program it is `edgepose` on a machine with these elements: `python -m testing.jetson run …`. Events of the camera are
appended to the file that the environment variable ARGUS_LOG names: `opening`, `opened` and `closed`. ARGUS_OPEN_S and ARGUS_CLOSE_S
say how many seconds opening and closing take.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from edgepose.capture.gstreamer.library import Library, load

CAMERA = "nvarguscamerasrc"
CONVERTER = "nvvidconv"
DECODER = "nvv4l2decoder"

_IN_NVMM = "video/x-raw(memory:NVMM), format=NV12"
_SOFTWARE_DECODERS = ("avdec_h264", "openh264dec")
# nvvidconv and videoflip number their turns differently.
_TURNS = ("none", "counterclockwise", "rotate-180", "clockwise", "horizontal-flip", "upper-right-diagonal", "vertical-flip")


@cache
def _classes() -> tuple[Library, dict[str, type[Any]]]:
    library = load()
    gst = library.gst
    import gi

    gi.require_version("GstBase", "1.0")
    from gi.repository import GObject, GstBase

    def describe(kind: Any, name: str, role: str, pads: dict[str, str]) -> None:
        kind.set_metadata(name, role, "stand-in for tests", "edgepose")
        for pad, caps in pads.items():
            direction = gst.PadDirection.SINK if pad == "sink" else gst.PadDirection.SRC
            kind.add_pad_template(gst.PadTemplate.new(pad, direction, gst.PadPresence.ALWAYS, gst.Caps.from_string(caps)))

    class Relabel(GstBase.BaseTransform):  # type: ignore[misc]
        """An element that passes frames on unchanged, with the caps of another kind of memory."""

        into_nvmm = GObject.Property(type=bool, default=True)

        def __init__(self) -> None:
            super().__init__()
            self.set_passthrough(True)

        def do_transform_caps(self, direction: Any, caps: Any, wanted: Any) -> Any:
            from_sink = direction == gst.PadDirection.SINK
            memories: tuple[str, ...]
            if self.into_nvmm:
                memories = ("memory:NVMM",) if from_sink else ("memory:SystemMemory",)
            else:  # takes both kinds
                memories = ("memory:SystemMemory",) if from_sink else ("memory:NVMM", "memory:SystemMemory")
            result = gst.Caps.new_empty()
            for memory in memories:
                for index in range(caps.get_size()):
                    result.append_structure_full(caps.get_structure(index).copy(), gst.CapsFeatures.from_string(memory))
            return result if wanted is None else result.intersect_full(wanted, gst.CapsIntersectMode.FIRST)

    describe(Relabel, "relabel", "Filter/Video", dict.fromkeys(("sink", "src"), "video/x-raw(ANY)"))
    gst.Element.register(None, "standinrelabel", gst.Rank.NONE, Relabel)

    def build(chain: Any, text: str) -> list[Any]:
        """Put elements in a row into a bin, so that they act as one."""
        elements: list[Any] = []
        for description in text.split(" ! "):
            name, *settings = description.split(" ")
            element = gst.ElementFactory.make(name)
            for setting in settings:
                key, _, value = setting.partition("=")
                gst.util_set_object_arg(element, key, value)
            chain.add(element)
            if elements:
                assert elements[-1].link(element)
            elements.append(element)
        templates = {template.name_template: template for template in chain.get_pad_template_list()}
        for name, element in (("sink", elements[0]), ("src", elements[-1])):
            if name in templates:
                chain.add_pad(gst.GhostPad.new_from_template(name, element.get_static_pad(name), templates[name]))
        return elements

    class Camera(gst.Bin):  # type: ignore[misc, name-defined]
        """The camera; only sensor 0 exists."""

        sensor_id = GObject.Property(type=int, default=0)

        def __init__(self) -> None:
            super().__init__()
            build(self, "videotestsrc is-live=true pattern=smpte ! capsfilter caps=video/x-raw,format=NV12 ! standinrelabel")

        def do_change_state(self, transition: Any) -> Any:
            if transition == gst.StateChange.NULL_TO_READY:
                if self.sensor_id:
                    return gst.StateChangeReturn.FAILURE
                _note("opening")
                time.sleep(float(os.environ.get("ARGUS_OPEN_S", 0)))
                _note("opened")
            result = gst.Bin.do_change_state(self, transition)
            if transition == gst.StateChange.READY_TO_NULL:
                time.sleep(float(os.environ.get("ARGUS_CLOSE_S", 0)))
                _note("closed")
            return result

    class Converter(gst.Bin):  # type: ignore[misc, name-defined]
        flip_method = GObject.Property(type=int, default=0)

        def __init__(self) -> None:
            super().__init__()
            self._flip = build(self, "standinrelabel into-nvmm=false ! videoflip ! videoconvert")[1]
            self.connect("notify::flip-method", lambda *_: gst.util_set_object_arg(self._flip, "method", _TURNS[self.flip_method]))

    class Decoder(gst.Bin):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            software = next(name for name in _SOFTWARE_DECODERS if library.has(name))
            build(self, f"{software} ! videoconvert ! capsfilter caps=video/x-raw,format=NV12 ! standinrelabel")

    describe(Camera, CAMERA, "Source/Video", {"src": _IN_NVMM})
    # As on the Jetson, no RGB of three bytes.
    to_system = "video/x-raw, format={I420,NV12,BGRx,RGBA}"
    describe(Converter, CONVERTER, "Filter/Converter/Video", {"sink": "video/x-raw(ANY)", "src": to_system})
    describe(
        Decoder,
        DECODER,
        "Codec/Decoder/Video",
        {"sink": "video/x-h264, stream-format=byte-stream, alignment=au", "src": _IN_NVMM},
    )
    return library, {CAMERA: Camera, CONVERTER: Converter, DECODER: Decoder}


def _note(what: str) -> None:
    log = os.environ.get("ARGUS_LOG")
    if log is not None:
        with Path(log).open("a") as file:
            file.write(f"{what}\n")


@contextmanager
def elements(*names: str) -> Iterator[Library]:
    """Register these elements in this process, for a while."""
    library, classes = _classes()
    gst = library.gst
    for name in names:
        gst.Element.register(None, name, gst.Rank.PRIMARY + 11 if name == DECODER else gst.Rank.NONE, classes[name])
    try:
        yield library
    finally:
        for name in names:
            gst.Registry.get().remove_feature(gst.ElementFactory.find(name))


if __name__ == "__main__":
    from edgepose.__main__ import main

    with elements(CAMERA, CONVERTER):
        main()
