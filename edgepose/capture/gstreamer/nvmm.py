"""Frames in a Jetson's own memory (NVMM), read where they are: the converter scales and colors them, and nothing copies them out.

A Jetson's CPU and GPU share one memory. `nvvidconv` writes RGBA into a surface, and `NvBufSurfaceMap` gives the CPU its address, so that
one pass over it makes RGB, in place of three copies: of `nvvidconv`, `videoconvert` and ours. Documented in `nvbufsurface.h` and NVIDIA's
Multimedia API (https://docs.nvidia.com/jetson/l4t-multimedia/group__ee__nvbufsurf__group.html); not run on a Jetson by us.
"""

import ctypes
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_LIBRARY = "libnvbufsurface.so.1.0.0"
_PLANES, _PADDING = 4, 4
_READ = 0  # NVBUF_MAP_READ
_RGBA_BYTES = 4


class _PlaneParams(ctypes.Structure):
    _fields_ = [
        ("num_planes", ctypes.c_uint32),
        *((name, ctypes.c_uint32 * _PLANES) for name in ("width", "height", "pitch", "offset", "psize", "bytes_per_pixel")),
        ("_reserved", ctypes.c_void_p * (_PADDING * _PLANES)),
    ]


class _MappedAddress(ctypes.Structure):
    _fields_ = [("addr", ctypes.c_void_p * _PLANES), ("egl_image", ctypes.c_void_p), ("_reserved", ctypes.c_void_p * _PADDING)]


class _SurfaceParams(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_uint32) for name in ("width", "height", "pitch", "color_format", "layout")),
        ("buffer_descriptor", ctypes.c_uint64),
        ("data_size", ctypes.c_uint32),
        ("data", ctypes.c_void_p),
        ("planes", _PlaneParams),
        ("mapped", _MappedAddress),
        # What follows differs between releases and is not used; only the first surface of a buffer is.
    ]


class _Surface(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_uint32) for name in ("gpu", "batch_size", "filled")),
        ("contiguous", ctypes.c_bool),
        ("memory_type", ctypes.c_uint32),
        ("surfaces", ctypes.POINTER(_SurfaceParams)),
        ("_reserved", ctypes.c_void_p * _PADDING),
    ]


@cache
def surface_library() -> Any:
    """Return NVIDIA's library of surfaces, None on a machine that has none."""
    try:
        return ctypes.CDLL(_LIBRARY)
    except OSError:
        return None


def read_surface(described: bytes, library: Any) -> NDArray[np.uint8]:
    """Return the RGBA surface of a buffer as an image, uint8 (H, W, 3) RGB, in memory of its own.

    Args:
        described: the buffer's mapped bytes, which are the structure `NvBufSurface` and not pixels.
        library: of `surface_library`.

    Raises:
        ValueError: it is no surface, or the CPU cannot reach it; the text is a part of a sentence.
    """
    least = ctypes.sizeof(_Surface) - ctypes.sizeof(ctypes.c_void_p) * _PADDING
    if len(described) < least:
        raise ValueError(f"its buffer has {len(described)} bytes; expected a surface in NVMM")
    surface = _Surface()
    ctypes.memmove(ctypes.byref(surface), described, min(len(described), ctypes.sizeof(_Surface)))
    if not surface.filled or not surface.surfaces:
        raise ValueError("its surface is empty; expected an image")
    pointer = ctypes.byref(surface)
    if library.NvBufSurfaceMap(pointer, 0, 0, _READ):
        raise ValueError("its surface cannot be mapped for the CPU")
    try:
        if library.NvBufSurfaceSyncForCpu(pointer, 0, 0):
            raise ValueError("its surface cannot be read by the CPU")
        image = surface.surfaces[0]
        width, height, pitch, address = image.width, image.height, image.pitch, image.mapped.addr[0]
        if not address or pitch < width * _RGBA_BYTES:
            raise ValueError(f"its surface of {width}x{height} has rows of {pitch} bytes; expected RGBA")
        memory = (ctypes.c_uint8 * (pitch * height)).from_address(address)
        rows = np.frombuffer(memory, np.uint8).reshape(height, pitch)[:, : width * _RGBA_BYTES].reshape(height, width, _RGBA_BYTES)
        pixels: NDArray[np.uint8] = cv2.cvtColor(rows, cv2.COLOR_RGBA2RGB)
        return pixels
    finally:
        library.NvBufSurfaceUnMap(pointer, 0, 0)
