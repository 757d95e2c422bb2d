import json
from pathlib import Path

import pytest

from edgepose.errors import OutputError
from edgepose.output.coco import CocoWriter, numbers_in_names, table_path
from testing.sample import sample_message


@pytest.mark.parametrize(
    ("names", "numbers"),
    [
        (["000000397133.jpg", "x/000000000139.jpg"], [397133, 139]),
        (["cam2_frame_10.png"], [10]),
        (["1.png", "b.png"], None),
        (["a/1.png", "b/1.png"], None),
        (["99999999999999999999.png"], None),
        ([], []),
    ],
)
def test_numbers_in_names(names, numbers):
    expected = None if numbers is None else dict(zip(names, numbers, strict=True))
    assert numbers_in_names([Path(name) for name in names]) == expected


def test_further_frames_of_a_file_get_free_numbers(tmp_path):
    writer = CocoWriter(tmp_path / "r.json", {"5.webp": 5, "9.png": 9})
    for source in ("5.webp", "5.webp", "9.png"):
        writer.write(sample_message(), source)
    writer.close()
    writer.close()
    table = json.loads((tmp_path / "r.images.json").read_text())
    assert [(image["id"], image["file_name"]) for image in table["images"]] == [(5, "5.webp"), (10, "5.webp"), (9, "9.png")]
    results = json.loads((tmp_path / "r.json").read_text())
    assert [result["image_id"] for result in results] == [5, 5, 10, 10, 9, 9]
    first = sample_message().people[0]
    assert results[0] == {
        "image_id": 5,
        "category_id": 1,
        "bbox": list(first.box),
        "keypoints": [value for keypoint in first.keypoints for value in keypoint],
        "score": first.score,
    }


def test_existing_results_stay_until_the_first_frame(tmp_path):
    (tmp_path / "r.json").write_text("of the last time")
    CocoWriter(tmp_path / "r.json").close()
    assert (tmp_path / "r.json").read_text() == "of the last time"
    assert not table_path(tmp_path / "r.json").exists()
    with pytest.raises(OutputError, match="expected a writable file in an existing folder"):
        CocoWriter(tmp_path / "missing" / "r.json")
