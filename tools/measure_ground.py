"""Measures how exactly people of rendered scenes are placed on the ground: `python -m tools.measure_ground --count 240`.

The pose of the camera and the place of each person are known there. People are seen by their labels with drawn noise, and by the networks
that ship. Telemetry is exact, or has drawn errors of the sizes that are configured by default, or comes from a mount that is wrong by 5
degrees. Needs the extra `synth`.
"""

import argparse
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

import edgepose
from edgepose.config.aircraft import FlightConfig
from edgepose.flight.geometry import CameraView, Lens, ViewErrors, place
from edgepose.flight.rotations import matrix
from edgepose.flight.sightings import sighting_of
from edgepose.person import OKS_SIGMAS, Person
from edgepose_export.synth import pictures
from edgepose_export.synth.bodies import BodyModel
from edgepose_export.synth.scene import Scene, draw_scene
from edgepose_export.synth.views import View

_SIZE = 640
_ELEVATIONS = (20.0, 30.0, 45.0, 60.0, 75.0, 90.0)
_HIPS = (11, 12)
_THRESHOLD = 0.2
_SETTINGS = FlightConfig()
CONFIGURED = ViewErrors(
    math.radians(_SETTINGS.tilt_error_deg),
    math.radians(_SETTINGS.heading_error_deg),
    math.radians(1.0),
    _SETTINGS.height_error_m,
    _SETTINGS.position_error_m,
)


def scenes(count: int, seed: int) -> Iterator[tuple[float, Scene, pictures.LabeledPicture]]:
    """Yield elevations, scenes without lens distortion and rolling shutter, and their labeled pictures."""
    kept: list[Scene] = []

    def draw_plain(rng: np.random.Generator, model: BodyModel, view: View, size: int) -> Scene:
        scene = draw_scene(rng, model, view, size)
        kept.append(replace(scene, camera=replace(scene.camera, radial=(0.0, 0.0), shear=0.0, wobble=(0.0, 0.0, 0.0))))
        return kept[-1]

    sizes = np.random.default_rng(seed).uniform(30, 150, count)
    vars(pictures)["draw_scene"] = draw_plain
    maker = pictures.PictureMaker(pictures.Plan(seed, "train", _SIZE, looks=("clear",)))
    for index in range(count):
        elevation = _ELEVATIONS[index % len(_ELEVATIONS)]
        view = View(elevation, float(sizes[index]))
        vars(pictures)["draw_view"] = lambda *_, view=view: view
        labeled = maker.make(index)
        yield elevation, kept.pop(), labeled


def view_of(scene: Scene) -> CameraView:
    """Return the view of a scene's camera."""
    camera = scene.camera
    lens = Lens(camera.focal_px, camera.focal_px, _SIZE / 2, _SIZE / 2)
    return CameraView(lens, camera.eye.astype(np.float64), camera.axes.T)


def disturbed(view: CameraView, rng: np.random.Generator, errors: ViewErrors, mount: float) -> CameraView:
    """Return what telemetry with drawn errors says of a view, with a mount that is wrong by an angle (radians) around a random axis."""
    drawn = rng.normal(0, (errors.tilt, errors.tilt, errors.heading)) + rng.normal(0, errors.mount, 3)
    axis = rng.normal(0, 1, 3)
    moved = view.position + rng.normal(0, (errors.position_m, errors.position_m, errors.height_m))
    return CameraView(view.lens, moved, _turn(drawn) @ _turn(axis / np.linalg.norm(axis) * mount) @ view.axes)


def noisy(person: dict[str, list[float]], rng: np.random.Generator) -> Person:
    """Return a labeled person with the noise of a good network: 3 % of the longer side, keypoints by their OKS deviations."""
    left, top, width, height = person["bbox"]
    box = np.array([left, top, left + width, top + height]) + rng.normal(0, 0.03 * max(width, height), 4)
    keypoints = np.array(person["keypoints"], np.float64).reshape(17, 3)
    keypoints[:, :2] += rng.normal(0, 1, (17, 2)) * np.array(OKS_SIGMAS)[:, None] * math.sqrt(width * height)
    keypoints[:, 2] = 0.9 * (keypoints[:, 2] > 0)
    return Person(box.astype(np.float32), 0.9, keypoints.astype(np.float32))


def people_in(networks: edgepose.PoseModel, labeled: pictures.LabeledPicture) -> list[Person]:
    """Return the people whom networks find in a picture."""
    image = cv2.imdecode(np.frombuffer(labeled.jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    result = networks.predict(image)
    return [Person(*parts) for parts in zip(result.boxes, result.scores.tolist(), result.keypoints, strict=True)]


def matched(found: list[Person], box: list[float]) -> Person | None:
    """Return the found person whose box overlaps a labeled one by half."""
    left, top, width, height = box
    for person in found:
        x1, y1, x2, y2 = person.box.tolist()
        across, down = min(x2, left + width) - max(x1, left), min(y2, top + height) - max(y1, top)
        shared = max(0.0, across) * max(0.0, down)
        if shared / ((x2 - x1) * (y2 - y1) + width * height - shared) > 0.5:
            return person
    return None


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=240)
    parser.add_argument("--seed", type=int, default=3)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    five = math.radians(5)
    telemetry = {
        "exact": (ViewErrors(), 0.0, ViewErrors()),
        "drawn errors": (CONFIGURED, 0.0, CONFIGURED),
        "mount off by 5 deg": (CONFIGURED, five, CONFIGURED),
        "the same, angle_error_deg 3": (CONFIGURED, five, replace(CONFIGURED, mount=math.radians(3))),
    }
    rows: defaultdict[tuple[str, str, float], list[tuple[float, bool, float]]] = defaultdict(list)
    missed: defaultdict[tuple[str, str, float], int] = defaultdict(int)
    with edgepose.load() as networks:
        for elevation, scene, labeled in scenes(options.count, options.seed):
            found = people_in(networks, labeled)
            truth = view_of(scene)
            for label in labeled.people:
                if label["iscrowd"]:
                    continue
                placed = _whose(scene, truth, label)
                spot = placed[list(_HIPS), :2].mean(0)
                distance = float(np.linalg.norm([*spot, 0] - truth.position))
                seen = {"labels": noisy(label, rng), "networks": matched(found, label["bbox"])}
                for source, person in seen.items():
                    if person is None:
                        continue
                    for name, (drawn, mount, claimed) in telemetry.items():
                        told = disturbed(truth, rng, drawn, mount)
                        spotted = place(told, sighting_of(person, told, (_SIZE, _SIZE), _THRESHOLD), claimed)
                        if spotted is None:
                            missed[source, name, elevation] += 1
                            continue
                        error = math.dist(spotted[:2], spot)
                        rows[source, name, elevation].append((error / distance, error <= spotted[2], spotted[2] / distance))
    print("| people from | telemetry | degrees down | people | median error, % | 90 %, % | radius, % | in radius, % | no place |")
    print("|---|---|---|---|---|---|---|---|---|")
    for (source, name, elevation), values in sorted(rows.items(), key=lambda row: (row[0][0], list(telemetry).index(row[0][1]), row[0][2])):
        errors, inside, radii = (np.array(column, np.float64) for column in zip(*values, strict=True))
        numbers = (f"{100 * np.median(errors):.1f}", f"{100 * np.quantile(errors, 0.9):.1f}", f"{100 * np.median(radii):.1f}")
        lost = missed[source, name, elevation]
        print(f"| {source} | {name} | {elevation:.0f} | {len(values)} | {' | '.join(numbers)} | {100 * inside.mean():.0f} | {lost} |")


def _whose(scene: Scene, view: CameraView, label: dict[str, list[float]]) -> NDArray[np.float64]:
    """Return the joints in the world of the person that a label is about: whose middle is nearest to the middle of its box."""
    left, top, width, height = label["bbox"]
    labeled = np.array(label["keypoints"], np.float64).reshape(17, 3)
    offs = []
    for person in scene.people:
        pixels = view.pixels(person.keypoints)
        known = labeled[:, 2] > 0
        off = np.abs(pixels[known] - labeled[known, :2]) if known.any() else np.abs(pixels.mean(0) - (left + width / 2, top + height / 2))
        offs.append(float(np.nan_to_num(off.mean(), nan=1e9)))
    return scene.people[int(np.argmin(offs))].keypoints


def _turn(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rotation by a rotation vector."""
    angle = float(np.linalg.norm(vector))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = vector / angle * math.sin(angle / 2)
    return matrix((math.cos(angle / 2), float(x), float(y), float(z)))


if __name__ == "__main__":
    main()
