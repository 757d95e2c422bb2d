"""Data folders mixed in chosen shares."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from edgepose.errors import ConfigError
from edgepose_export.data.augment import Augmentation, PicturePlans
from edgepose_export.data.batches import Batches
from edgepose_export.data.coco import CocoPose
from edgepose_export.data.crops import CropPlans
from edgepose_export.data.mix import MixedFolder, MixedPlans
from testing.export.annotations import person, write
from testing.export.folders import write_dotted
from testing.export.yolo_folders import write_yolo

NONE = Augmentation.none()


def mixed(sources: list[MixedFolder], *, crops: bool = False) -> tuple[CocoPose, MixedPlans]:
    data = CocoPose([source.folder for source in sources])
    return data, MixedPlans(CropPlans(data, 1.1) if crops else PicturePlans(data), data, sources)


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Folders of 2, 6 and 4 pictures with one person each."""
    return [write_dotted(tmp_path / name, sizes=((300, 220),) * count) for name, count in (("a", 2), ("b", 6), ("c", 4))]


def shares_of(plans: MixedPlans, data: CocoPose, folders: list[Path], draws: int = 2000) -> list[float]:
    rng = np.random.default_rng(0)
    counts: Counter[Path] = Counter()
    for number in range(draws):
        plan = plans.plan(number % len(plans), 32, NONE, rng)
        counts[data[plan.parts[0].index].path.parents[1]] += 1
    return [counts[folder] / draws for folder in folders]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ((None, None, None), (2 / 12, 6 / 12, 4 / 12)),
        ((0.5, None, None), (0.5, 0.5 * 0.6, 0.5 * 0.4)),
        ((0.6, 0.3, 0.1), (0.6, 0.3, 0.1)),  # adds up to a little less than 1 in floating point
        ((0.2, None, 0.7), (0.2, 0.1, 0.7)),
    ],
)
@pytest.mark.parametrize("crops", [False, True])
def test_folders_give_their_shares(folders: list[Path], asked: tuple[float | None, ...], expected: tuple[float, ...], crops: bool) -> None:
    sources = [MixedFolder(folder, share) for folder, share in zip(folders, asked, strict=True)]
    data, plans = mixed(sources, crops=crops)
    assert len(plans) == 12
    assert shares_of(plans, data, folders) == pytest.approx(expected, abs=0.03)


def test_data_sets_of_every_form_are_mixed(folders: list[Path], tmp_path: Path) -> None:
    yolo = write_yolo(tmp_path / "yolo")
    sources = [MixedFolder.parse(text) for text in (f"{yolo}:val@0.25", str(yolo), f"{folders[0]}@0.5")]
    data, plans = mixed(sources)
    rng = np.random.default_rng(0)
    drawn = Counter(data.source(plans.plan(number % len(plans), 32, NONE, rng).parts[0].index) for number in range(2000))
    assert [drawn[number] / 2000 for number in range(3)] == pytest.approx((0.25, 0.25, 0.5), abs=0.03)
    assert {data[index].path.parent.name for index in range(len(data)) if data.source(index) == 0} == {"val"}


def test_every_picture_of_a_folder_is_drawn(folders: list[Path]) -> None:
    data, plans = mixed([MixedFolder(folders[0], 0.9), MixedFolder(folders[1])])
    rng = np.random.default_rng(1)
    drawn = {plans.plan(index, 32, NONE, rng).parts[0].index for _ in range(60) for index in range(len(plans))}
    assert drawn == set(range(len(data)))


def test_the_same_seed_gives_the_same_stream(folders: list[Path]) -> None:
    data, plans = mixed([MixedFolder(folders[0], 0.4), MixedFolder(folders[1])])

    def stream(seed: int, **arguments: object) -> list[np.ndarray]:
        with Batches(data, Augmentation(), batch_size=2, sizes=(32,), seed=seed, plans=plans, **arguments) as batches:  # type: ignore[arg-type]
            return [np.asarray(next(batches).images) for _ in range(6)]

    first = stream(3)
    assert all(np.array_equal(a, b) for a, b in zip(first, stream(3, workers=2), strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, stream(4), strict=True))


@pytest.mark.parametrize(
    ("text", "folder", "share"),
    [
        ("coco", "coco", None),
        ("synthetic@0.3", "synthetic", 0.3),
        ("a@b@0.25", "a@b", 0.25),
        ("mine:val@0.5", "mine:val", 0.5),
        ("a@b:val", "a@b:val", None),
    ],
)
def test_a_source_is_a_folder_and_its_share(text: str, folder: str, share: float | None) -> None:
    assert MixedFolder.parse(text) == MixedFolder(Path(folder), share)


def test_a_folder_whose_name_has_an_at_sign_is_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "shots@0.5"
    folder.mkdir()
    assert MixedFolder.parse(str(folder)) == MixedFolder(folder)


@pytest.mark.parametrize("text", ["a@", "a@half", "a@0", "a@1", "a@-0.2", "a@30", "a@nan"])
def test_a_share_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"expected FOLDER@SHARE with a number between 0 and 1, or FOLDER"):
        MixedFolder.parse(text)


@pytest.mark.parametrize("asked", [(0.5, 0.6, None), (0.5, 0.2, 0.2), (0.7, 0.7, 0.7)])
def test_shares_that_do_not_add_up_are_refused(folders: list[Path], asked: tuple[float | None, ...]) -> None:
    with pytest.raises(ConfigError, match=r"add up to .*; expected 1, or less with a folder without a share"):
        mixed([MixedFolder(folder, share) for folder, share in zip(folders, asked, strict=True)])


def test_a_folder_without_anything_to_train_on_is_refused(folders: list[Path], tmp_path: Path) -> None:
    """A refiner needs people with keypoints."""
    empty = write(tmp_path / "boxes", [person(keypoints=[0] * 51, num_keypoints=0)])
    for sources in ([MixedFolder(folders[0]), MixedFolder(empty, 0.3)], [MixedFolder(folders[0], 0.7), MixedFolder(empty)]):
        with pytest.raises(ConfigError, match=r"boxes has nothing that this network can train on"):
            mixed(sources, crops=True)
    data, plans = mixed([MixedFolder(folders[0]), MixedFolder(empty)], crops=True)  # no share was asked for
    assert shares_of(plans, data, [folders[0], empty], 50) == [1, 0]
