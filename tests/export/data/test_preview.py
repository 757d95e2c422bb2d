import cv2
import pytest

from edgepose.errors import OutputError
from edgepose_export.data.augment import Augmentation, PicturePlans
from edgepose_export.data.coco import CocoPose
from edgepose_export.data.crops import CropPlans
from edgepose_export.data.preview import contact_sheet
from testing.export.folders import write_dotted


def test_contact_sheet_shows_boxes_and_ignore_regions(tmp_path):
    data = CocoPose([write_dotted(tmp_path / "a", all_people_labeled=False)])
    path = tmp_path / "sheet.png"
    contact_sheet(data, PicturePlans(data), path, Augmentation.none(), size=128, columns=3, rows=2)
    written = cv2.imread(str(path))
    assert written is not None
    sheet = written[..., ::-1]
    assert sheet.shape == (2 * 262 + 6, 3 * 262 + 6, 3)
    for color in ((255, 220, 0), (150, 150, 150)):
        assert (sheet == color).all(2).sum() > 100


def test_unwritable_sheet_is_one_sentence(tmp_path):
    data = CocoPose([write_dotted(tmp_path / "a")])
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        contact_sheet(data, PicturePlans(data), tmp_path / "file" / "sheet.png", Augmentation(), columns=1, rows=1)


def test_a_refiner_s_sheet_has_a_person_a_crop(tmp_path):
    data = CocoPose([write_dotted(tmp_path / "a")])
    path = tmp_path / "sheet.png"
    contact_sheet(data, CropPlans(data, 1.05), path, Augmentation.none(), size=(96, 64), columns=2, rows=1)
    written = cv2.imread(str(path))
    assert written is not None
    sheet = written[..., ::-1]
    assert sheet.shape == (2 * 96 + 12, 2 * (2 * 64 + 6) + 6, 3)
    assert (sheet == (255, 220, 0)).all(2).sum() > 100
