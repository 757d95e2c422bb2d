"""Surfaces in a Jetson's memory, against a stand-in for NVIDIA's library: no Jetson was at hand."""

import ctypes

import numpy as np
import pytest

from edgepose.capture.gstreamer import nvmm
from edgepose.capture.gstreamer.launch import csi, validation_error

HEIGHT, WIDTH, PITCH = 4, 6, 256


class Library:
    """Maps the pixels that it was given, and remembers what was called."""

    def __init__(self, pixels: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]", *, maps: bool = True) -> None:
        self.pixels, self.maps, self.calls = pixels, maps, list[str]()

    def NvBufSurfaceMap(self, surface: object, index: int, plane: int, kind: int) -> int:  # noqa: N802
        self.calls.append("map")
        if self.maps:
            surface._obj.surfaces[0].mapped.addr[0] = self.pixels.ctypes.data  # type: ignore[attr-defined]
        return 0 if self.maps else -1

    def NvBufSurfaceSyncForCpu(self, *_: object) -> int:  # noqa: N802
        self.calls.append("sync")
        return 0

    def NvBufSurfaceUnMap(self, *_: object) -> int:  # noqa: N802
        self.calls.append("unmap")
        return 0


@pytest.fixture
def pixels() -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    return np.random.default_rng(0).integers(0, 255, (HEIGHT, PITCH), np.uint8)


def described(params: nvmm._SurfaceParams) -> bytes:
    return bytes(nvmm._Surface(0, 1, 1, True, 4, ctypes.pointer(params)))


def test_a_surface_is_read_in_place_without_the_padding_of_its_rows(pixels: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]") -> None:
    library, params = Library(pixels), nvmm._SurfaceParams(WIDTH, HEIGHT, PITCH)
    image = nvmm.read_surface(described(params), library)
    np.testing.assert_array_equal(image, pixels[:, : WIDTH * 4].reshape(HEIGHT, WIDTH, 4)[:, :, :3])
    assert library.calls == ["map", "sync", "unmap"]


def test_what_cannot_be_read_is_named(pixels: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]") -> None:
    params = nvmm._SurfaceParams(WIDTH, HEIGHT, PITCH)
    with pytest.raises(ValueError, match="has 7 bytes; expected a surface in NVMM"):
        nvmm.read_surface(b"not one", Library(pixels))
    with pytest.raises(ValueError, match="cannot be mapped"):
        nvmm.read_surface(described(params), Library(pixels, maps=False))
    with pytest.raises(ValueError, match="is empty"):
        nvmm.read_surface(bytes(nvmm._Surface()), Library(pixels))
    library, narrow = Library(pixels), nvmm._SurfaceParams(WIDTH, HEIGHT, 8)
    with pytest.raises(ValueError, match="has rows of 8 bytes; expected RGBA"):
        nvmm.read_surface(described(narrow), library)
    assert library.calls[-1] == "unmap"


@pytest.mark.parametrize(("field", "offset"), [("surfaces", 24), ("memory_type", 16)])
def test_the_layout_is_that_of_the_header(field: str, offset: int) -> None:
    assert getattr(nvmm._Surface, field).offset == offset
    assert (nvmm._SurfaceParams.planes.offset, nvmm._SurfaceParams.mapped.offset) == (48, 280)


def test_a_camera_asks_for_its_memory() -> None:
    launch = csi("csi://0?memory=nvmm&flip=2")
    assert launch.nvmm
    assert launch.text.endswith("nvvidconv flip-method=2 ! video/x-raw(memory:NVMM),format=RGBA ! appsink")
    assert not csi("csi://0?memory=system").nvmm
    assert "has an unknown memory; expected nvmm, system" in (validation_error("csi://0?memory=gpu") or "")
