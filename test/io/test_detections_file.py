"""Test files of detections: what is read, and what is refused in one sentence."""

import json

import cv2
import numpy as np
import pytest

from vpog_core.io.detections_file import read_detections_file
from vpog_core.types import VPOGError

SIZE = (120, 160)


@pytest.fixture
def folder(tmp_path):
    """Return a folder with a mask, and a folder beside it with another one."""
    mask = np.zeros(SIZE, np.uint8)
    mask[20:41, 30:81] = 255
    for name in ("given", "other"):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / "mask.png"), mask)
    return tmp_path / "given"


def read(folder, text: str):
    (folder / "detections.json").write_text(text)
    return read_detections_file(folder / "detections.json", SIZE)


def test_boxes_and_masks_are_read_and_objects_numbered(folder):
    entries = [
        {"object": "mug", "box": [10, 20, 30, 40.5], "score": 0.5},
        {"object": "mug", "mask": "mask.png"},
        {"object": 7, "box": [0, 0, 9, 9], "instance": 4},
    ]
    first, second, third = read(folder, json.dumps(entries))
    assert (first.class_id, first.box.tolist(), first.score, first.instance) == (
        "mug",
        [10, 20, 30, 40.5],
        0.5,
        0,
    )
    assert first.mask is None
    assert (second.box.tolist(), second.score, second.instance) == ([29.5, 19.5, 80.5, 40.5], 1.0, 1)
    assert second.mask.sum() == 21 * 51
    assert (third.class_id, third.instance) == ("7", 4)


def test_yaml_is_as_good(folder):
    (mug,) = read(folder, "# of my detector\n- object: mug\n  box: [1, 2, 3, 4]\n")
    assert mug.box.tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "holds no list of detections"),
        ("{object: mug}", "holds no list of detections"),
        ("[]", "holds no list of detections"),
        ("[{", "is neither YAML nor JSON"),
        ("[mug]", "detection 0: It is 'mug': write {object: mug"),
        ("[{object: mug, bbox: [1, 2, 3, 4]}]", "The key 'bbox' is unknown: use object, box, mask"),
        ("[{box: [1, 2, 3, 4]}]", "'object' must be the name"),
        ("[{object: mug}]", "Give a box or a mask"),
        ("[{object: mug, box: [1, 2, 3, 4], mask: mask.png}]", "Give a box or a mask"),
        ("[{object: mug, box: [1, 2, 3]}]", "'box' must be 4 finite numbers, but is [1, 2, 3]"),
        ("[{object: mug, box: [1, 2, 3, .nan]}]", "'box' must be 4 finite numbers"),
        ("[{object: mug, box: {x: 1}}]", "'box' must be 4 finite numbers"),
        ("[{object: mug, box: [1, 2, 3, 4], score: high}]", "'score' must be a finite number, but is high"),
        ("[{object: mug, mask: 3}]", "'mask' must be the path of an image"),
        ("[{object: mug, mask: none.png}]", "There is no mask"),
        ("[{object: mug, mask: ../other/mask.png}]", "lies outside of the folder"),
        ("[{object: mug, mask: /dev/zero}]", "lies outside of the folder"),
        ("[!!python/object/apply:os.getcwd []]", "is neither YAML nor JSON"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(folder, text, sentence):
    with pytest.raises(VPOGError) as caught:
        read(folder, text)
    assert sentence in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(VPOGError, match="There is no detections file"):
        read_detections_file(tmp_path / "none.json", SIZE)
