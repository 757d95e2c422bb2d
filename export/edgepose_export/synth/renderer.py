"""Triangles to pixels and masks, on the CPU or a GPU, without a display (EGL)."""

from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepose.errors import UnavailableError

MAX_PEOPLE = 12  # three textures of four channels hold one silhouette each

_VERTEX = """#version 330
in vec4 position; in vec3 color; in float label;
out vec3 shade; out float depth; flat out int owner;
void main() { gl_Position = position; shade = color; depth = position.w; owner = int(label + .5); }"""
_COLOR = """#version 330
in vec3 shade; in float depth; flat in int owner; out vec4 pixel;
void main() { pixel = vec4(shade, 1.); }"""
_OWNER = """#version 330
in vec3 shade; in float depth; flat in int owner; out vec2 pixel;
void main() { pixel = vec2(owner, depth); }"""
_SILHOUETTES = """#version 330
in vec3 shade; in float depth; flat in int owner;
layout(location=0) out vec4 a; layout(location=1) out vec4 b; layout(location=2) out vec4 c;
vec4 bit(int first) { return vec4(owner == first, owner == first + 1, owner == first + 2, owner == first + 3); }
void main() { a = bit(1); b = bit(5); c = bit(9); }"""


@dataclass(frozen=True, slots=True, eq=False)
class Triangles:
    """Triangles in clip space.

    Attributes:
        points: float32 (V, 4).
        colors: float32 (V, 3), RGB, 0 to 1, lit.
        owners: float32 (V,): 1 to 12 is a person, 13 and more anything else.
        faces: int32 (F, 3).
    """

    points: NDArray[np.float32]
    colors: NDArray[np.float32]
    owners: NDArray[np.float32]
    faces: NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class Rendering:
    """What the triangles of a scene look like.

    Attributes:
        color: float32 (H, S, 4), RGB times coverage, and coverage; 0 to 1.
        owner: uint8 (H, S), whose surface is in front at each pixel; 0 is the background.
        depth: float32 (H, S), meters along the view direction; 0 in the background.
        silhouettes: bool (12, H, S), every pixel of each person in the picture, also behind others and things.
    """

    color: NDArray[np.float32]
    owner: NDArray[np.uint8]
    depth: NDArray[np.float32]
    silhouettes: NDArray[np.bool_]


class Renderer:
    """An OpenGL context with the targets for pictures of one size.

    Args:
        size: side of the square pictures of cameras in pixels.
        top: rows above and below that are left out: what is rendered has H = `size` - 2 `top` rows. Depth alone is always square.

    Raises:
        UnavailableError: `moderngl` is not installed, or EGL cannot open a device.
    """

    def __init__(self, size: int, top: int = 0) -> None:
        try:
            import moderngl
        except ModuleNotFoundError as error:
            raise UnavailableError("moderngl is not installed; expected the extra `synth`: pip install './export[synth]'") from error
        self._gl = moderngl
        try:
            self._context: Any = moderngl.create_context(standalone=True, backend="egl")
        except Exception as error:  # moderngl raises plain exceptions
            raise UnavailableError(
                f"EGL cannot open a device for rendering ({error}); expected the packages libegl1 and libgl1-mesa-dri or a GPU's driver"
            ) from error
        context, shape = self._context, (size, size - 2 * top)
        self.size = size
        self._top = top
        self._color = context.program(_VERTEX, _COLOR)
        self._owner = context.program(_VERTEX, _OWNER)
        self._silhouettes = context.program(_VERTEX, _SILHOUETTES)
        self._smooth = context.framebuffer([context.renderbuffer(shape, 4, samples=4)], context.depth_renderbuffer(shape, samples=4))
        self._resolved = context.framebuffer([context.renderbuffer(shape, 4)])
        self._sharp = context.framebuffer([context.renderbuffer(shape, 2, dtype="f4")], context.depth_renderbuffer(shape))
        self._masks = context.framebuffer([context.renderbuffer(shape, 4) for _ in range(3)])
        square = (size, size)
        self._square = (
            context.framebuffer([context.renderbuffer(square, 2, dtype="f4")], context.depth_renderbuffer(square)) if top else self._sharp
        )

    def __enter__(self) -> "Renderer":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._context.release()

    def render(self, triangles: Triangles) -> Rendering:
        """Render the triangles of a scene."""
        color = self._covered(triangles)
        pair = self._nearest(triangles, self._sharp)
        self._draw(self._masks, self._silhouettes, triangles, depth=False)
        masks = [np.frombuffer(self._masks.read(components=4, attachment=index), np.uint8).reshape(-1, self.size, 4) for index in range(3)]
        silhouettes = np.moveaxis(np.concatenate(masks, 2), 2, 0) > 0
        return Rendering(np.asarray(color / np.float32(255), np.float32), pair[..., 0].astype(np.uint8), pair[..., 1], silhouettes)

    def depth(self, triangles: Triangles) -> NDArray[np.float32]:
        """Render the distance (S, S) of the nearest surface along the view direction in meters; 0 where there is none."""
        return self._nearest(triangles, self._square)[..., 1]

    def coverage(self, triangles: Triangles) -> NDArray[np.float32]:
        """Render which share of each pixel the triangles cover: float32 (H, S), 0 to 1."""
        return np.asarray(self._covered(triangles)[..., 3] / np.float32(255), np.float32)

    def _nearest(self, triangles: Triangles, target: Any) -> NDArray[np.float32]:
        """Render owner and depth of the nearest surface (H, S, 2)."""
        self._draw(target, self._owner, triangles, depth=True)
        return np.frombuffer(target.read(components=2, dtype="f4"), np.float32).reshape(-1, self.size, 2)

    def _covered(self, triangles: Triangles) -> NDArray[np.uint8]:
        self._draw(self._smooth, self._color, triangles, depth=True)
        self._context.copy_framebuffer(self._resolved, self._smooth)
        return np.frombuffer(self._resolved.read(components=4), np.uint8).reshape(-1, self.size, 4)

    def _draw(self, target: Any, program: Any, triangles: Triangles, *, depth: bool) -> None:
        target.use()
        target.clear(0, 0, 0, 0)
        target.viewport = (0, 0 if target is self._square else -self._top, self.size, self.size)
        if not len(triangles.faces):
            return
        context, gl = self._context, self._gl
        if depth:
            context.disable(gl.BLEND)
            context.enable(gl.DEPTH_TEST)
        else:
            context.disable(gl.DEPTH_TEST)
            context.enable(gl.BLEND)
            context.blend_equation = gl.MAX
        values = np.concatenate((triangles.points, triangles.colors, triangles.owners[:, None]), 1, dtype=np.float32)
        vertices, faces = context.buffer(values.tobytes()), context.buffer(triangles.faces.tobytes())
        names, layout = [], []
        for name, count in (("position", 4), ("color", 3), ("label", 1)):
            used = name in program
            layout.append(f"{count}f" if used else f"{count}x4")
            names += [name] if used else []
        array = context.vertex_array(program, [(vertices, " ".join(layout), *names)], faces)
        array.render()
        for resource in (array, vertices, faces):
            resource.release()
