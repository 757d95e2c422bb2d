"""Cameras, poses and meshes: geometry without a body model or a renderer."""

import numpy as np
import pytest

from edgepose_export.synth import meshes, poses, things
from edgepose_export.synth.camera import Camera, look_at
from edgepose_export.synth.views import EVAL_ELEVATIONS, draw_view


def camera(elevation: float, *, distance: float = 10.0, roll: float = 0.0, **lens) -> Camera:
    eye, axes = look_at(np.array([1.0, 2.0, 0.5]), distance, np.radians(elevation), 0.7, roll)
    return Camera(eye, axes, 500.0, 400, **lens)


@pytest.mark.parametrize("elevation", [0, 30, 60, 90])
@pytest.mark.parametrize("roll", [0.0, 2.0])
def test_a_camera_sees_its_target_in_the_middle_at_its_distance(elevation: float, roll: float) -> None:
    seen = camera(elevation, roll=roll)
    pixels, depth = seen.pixels(np.array([[1.0, 2.0, 0.5]]))
    assert pixels[0] == pytest.approx([200, 200])
    assert depth[0] == pytest.approx(10)
    assert seen.elevation(np.array([1.0, 2.0, 0.5])) == pytest.approx(elevation)
    assert seen.axes @ seen.axes.T == pytest.approx(np.eye(3))
    assert np.linalg.det(seen.axes) == pytest.approx(1)  # a mirrored picture would swap left and right


def test_what_is_higher_is_higher_in_the_picture() -> None:
    pixels, _ = camera(20).pixels(np.array([[1.0, 2.0, 0.0], [1.0, 2.0, 1.5]]))
    assert pixels[1, 1] < pixels[0, 1] - 50
    assert pixels[1, 0] == pytest.approx(pixels[0, 0])


@pytest.mark.parametrize("elevation", [25, 60, 90])
def test_the_ground_below_a_pixel_is_seen_in_that_pixel(elevation: float) -> None:
    seen = camera(elevation, roll=0.3)
    wanted = np.array([[200.0, 200.0], [150.0, 260.0], [390.0, 399.0]])
    flat, distance = seen.ground(wanted)
    assert np.isfinite(distance).all()
    found, _ = seen.pixels(np.column_stack((flat, np.zeros(3))))
    assert found == pytest.approx(wanted, abs=1e-6)


def test_nothing_is_on_the_ground_above_the_horizon() -> None:
    _, distance = camera(5).ground(np.array([[200.0, 10.0], [200.0, 390.0]]))
    assert distance[0] == np.inf
    assert distance[1] < 100


def test_clip_space_holds_the_pixels() -> None:
    seen = camera(40, radial=(-0.1, 0.01), shear=0.05, wobble=(0.004, 3.0, 0.2))
    pixels, depth = seen.pixels(np.random.default_rng(0).normal(1, 1, (50, 3)))
    points = seen.clip(pixels, depth).astype(np.float64)
    assert (points[:, :2] / points[:, 3:] + 1) * 200 == pytest.approx(pixels, abs=0.01)
    assert points[:, 3] == pytest.approx(depth, rel=1e-5)
    assert (np.abs(points[:, 2]) <= points[:, 3]).all()


def test_barrel_distortion_draws_the_edge_inward_and_leaves_the_middle() -> None:
    points = np.array([[1.0, 2.0, 0.5], [2.5, 4.5, 0.5]])
    straight, _ = camera(70).pixels(points)
    bent, _ = camera(70, radial=(-0.15, 0.0)).pixels(points)
    assert bent[0] == pytest.approx(straight[0])
    assert np.linalg.norm(bent[1] - 200) < np.linalg.norm(straight[1] - 200) - 1


@pytest.mark.parametrize("kind", [*poses.ON_LAND, *poses.IN_WATER])
def test_every_activity_gives_rotations(kind: str) -> None:
    for seed in range(5):
        pose = poses.draw_pose(np.random.default_rng(seed), {kind: 1.0})
        assert pose.kind == kind
        for matrix in (*pose.bones.values(), pose.tilt):
            assert matrix @ matrix.T == pytest.approx(np.eye(3))
            assert np.linalg.det(matrix) == pytest.approx(1)


@pytest.mark.parametrize(
    ("raised", "forward", "direction"),
    [(0.0, 0.0, (0, 0, -1)), (np.pi / 2, 0.0, (1, 0, 0)), (np.pi / 2, np.pi / 2, (0, -1, 0)), (3.0, 0.0, (0.14, 0, 0.99))],
    ids=["hangs", "sideways", "ahead", "up"],
)
@pytest.mark.parametrize("side", ["L", "R"])
def test_an_arm_points_where_it_is_told(side: str, raised: float, forward: float, direction: tuple[float, ...]) -> None:
    pose = poses.Pose("stand")
    pose.arm(side, raised, forward, 0.0)
    mirror = np.array([1 if side == "L" else -1, 1, 1])  # the left is at +x
    rest = np.array([0.67, 0.0, -0.74]) * mirror
    assert pose.bones[f"upperarm01.{side}"] @ rest == pytest.approx(np.array(direction) * mirror, abs=0.01)


@pytest.mark.parametrize(
    "mesh",
    [
        meshes.box((1, 2, 3), (1, 2, 0.5), (1, 0, 0)),
        meshes.ellipsoid((0, 0, 1), (1, 2, 0.5), (1, 0, 0)),
        meshes.tube((0, 0, 0), (1, 1, 1), 0.1, (1, 0, 0)),
        meshes.wheel((0, 0, 0), 1.0, 0.2, (1, 0, 0)),
    ],
    ids=["box", "ellipsoid", "tube", "wheel"],
)
def test_normals_are_units_and_point_outward(mesh: meshes.Mesh) -> None:
    assert np.linalg.norm(mesh.normals, axis=1) == pytest.approx(1, abs=1e-3)
    corners = mesh.vertices[mesh.faces]
    volume = np.einsum("fi,fi->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6  # positive where all faces look outward
    assert volume > 0


@pytest.mark.parametrize("builders", [things.ON_LAND, things.IN_WATER], ids=["on land", "in water"])
def test_every_thing_stands_on_the_ground_and_has_the_size_of_one(builders: dict[things.Builder, tuple[float, float]]) -> None:
    for builder in builders:
        mesh = builder(np.random.default_rng(1))
        assert -0.75 < mesh.vertices[:, 2].min() < 0.05, builder
        assert 0.1 < np.ptp(mesh.vertices, axis=0).max() < 6, builder
        assert (mesh.colors >= 0).all(), builder
        assert mesh.faces.max() < len(mesh.vertices), builder


def test_half_of_the_training_views_are_steep_and_the_eval_split_is_even() -> None:
    rng = np.random.default_rng(0)
    steep = np.array([draw_view(rng, "train", index, 640).elevation for index in range(2000)])
    assert np.mean(steep >= 60) == pytest.approx(0.5, abs=0.04)
    assert np.mean(steep < 30) == pytest.approx(0.25, abs=0.04)
    views = [draw_view(rng, "eval", index, 640) for index in range(120)]
    counts = {(view.set_name, band): 0 for view in views for band in (24, 48, 96)}
    for view in views:
        counts[view.set_name, max(low for low in (24, 48, 96) if low < view.person_px)] += 1
    assert counts == {(str(elevation), low): 10 for elevation in EVAL_ELEVATIONS for low in (24, 48, 96)}
