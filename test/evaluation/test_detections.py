import gzip
import json

import numpy as np
import pytest

from vpog_core.evaluation.bop_benchmark import BopBenchmark
from vpog_core.evaluation.detection_file import DetectionFile
from vpog_core.evaluation.detections import (
    BOX_JITTER,
    describe_detections,
    from_truth,
    open_detections,
    overlap,
    truth_of,
)
from vpog_core.types import VPOGError


@pytest.fixture(scope="module")
def frame(bop_case):
    benchmark = BopBenchmark(bop_case[0])
    return benchmark.frame(benchmark.keys[0])


def entry(**more):
    given = {"scene_id": 1, "image_id": 0, "category_id": 1, "bbox": [10, 20, 30, 40], "score": 0.5}
    return {**given, **more}


def write(tmp_path, entries):
    path = tmp_path / "detections.json"
    path.write_text(json.dumps(entries))
    return path


def read(path):
    """Read the file for the images 0 to 2 of the scenes 1 and 2, with models 1, 2 and 4."""
    keys = {(scene, image) for scene in (1, 2) for image in (0, 1, 2)}
    return DetectionFile(path, {1, 2, 4}, keys, "made test")


def test_true_boxes_err_a_little_and_always_the_same(frame):
    found, again = from_truth(frame), from_truth(frame)
    assert len(found) == sum(frame.targets.values())
    for (obj_id, one), (_, other) in zip(found, again, strict=True):
        truth = frame.truths[one.instance]
        assert truth.obj_id == obj_id
        np.testing.assert_array_equal(one.box, other.box)
        size = np.tile(truth.box[2:] - truth.box[:2], 2)
        assert 0 < np.abs((one.box - truth.box) / size).max() <= BOX_JITTER


def test_the_most_visible_are_looked_for(frame):
    for obj_id, count in frame.targets.items():
        given = {d.instance for i, d in from_truth(frame) if i == obj_id}
        mine = [i for i, t in enumerate(frame.truths) if t.obj_id == obj_id]
        best = sorted(mine, key=lambda i: -frame.truths[i].visible_fraction)[:count]
        assert given == set(best)


def test_a_file_gives_the_best_of_each_object(frame, tmp_path):
    scores = [0.3, 0.9, 0.6, 0.8]
    path = write(tmp_path, [entry(score=s) for s in scores] + [entry(image_id=1), entry(category_id=99)])
    found = read(path)(frame)
    count = frame.targets[1]
    assert [d.score for _, d in found] == sorted(scores, reverse=True)[:count]
    # First pixel and counts become outer edges.
    np.testing.assert_array_equal(found[0][1].box, [9.5, 19.5, 39.5, 59.5])
    assert found[0][1].mask is None


def test_masks_are_read(frame, tmp_path, encode_rle):
    mask = np.zeros((120, 160), dtype=bool)
    mask[20:60, 10:40] = True
    path = write(tmp_path, [entry(segmentation=encode_rle(mask))])
    np.testing.assert_array_equal(read(path)(frame)[0][1].mask, mask)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"bbox": [212, 305, 0, 14]}, "with a box of no width or height (first: number 1)"),
        ({"bbox": [212, 305, 9, -14]}, "with a box of no width or height (first: number 1)"),
        ({"bbox": [1, 2, 3]}, "with a bbox that is not four finite numbers"),
        ({"bbox": [1, 2, float("inf"), 4]}, "with a bbox that is not four finite numbers"),
        ({"bbox": None}, "without bbox"),
        ({"score": float("nan")}, "with a score that is no finite number"),
        ({"score": "high"}, "with a score that is no finite number"),
        ({"score": None}, "without score"),
        ({"image_id": 0.5}, "with a image_id that is no whole number"),
        ({"category_id": 99}, "of a category without a model (first: number 1, category_id 99)"),
        ({"segmentation": [[1, 2, 3, 4, 5, 6]]}, "with a segmentation that is not run-length encoded"),
        ({"segmentation": {"size": [120, 160], "counts": [5, 5]}}, "with a segmentation that is not"),
        ({"segmentation": {"size": [120, 160], "counts": [120 * 160]}}, "with an empty mask"),
    ],
)
def test_a_bad_entry_is_left_out_counted_and_named(broken, said, frame, tmp_path):
    bad = {key: value for key, value in entry(**{"score": 0.99, **broken}).items() if value is not None}
    found = read(write(tmp_path, [entry(), bad]))
    assert [d.score for _, d in found(frame)] == [0.5]
    assert len(found.notes) == 1
    assert found.notes[0].startswith("1 of 2 detections left out of 'detections.json', numbered from 0: 1 ")
    assert said in found.notes[0]


def test_what_the_format_allows_is_read(frame, tmp_path):
    """Entries have boxes of floats, no time, or numbers as text; the file is packed; one lacks keys."""
    given = [entry(bbox=[10.25, 20.5, 30.5, 40.0], time=0.2), entry(category_id="4", segmentation=None)]
    path = tmp_path / "p.json.gz"
    path.write_bytes(gzip.compress(json.dumps([*given, {}]).encode()))
    found = read(path)
    np.testing.assert_array_equal(dict(found(frame))[1].box, [9.75, 20.0, 40.25, 60.0])
    assert 4 in dict(found(frame))
    assert found.notes == [
        "1 of 3 detections left out of 'p.json.gz', numbered from 0: 1 without scene_id (first: number 2)."
    ]


def test_compressed_masks_are_read(frame, tmp_path):
    """The string is COCO's for runs of 600, 2 and 18598 pixels."""
    segmentation = {"size": [120, 160], "counts": "hb02VUb0"}
    mask = read(write(tmp_path, [entry(segmentation=segmentation)]))(frame)[0][1].mask
    assert np.flatnonzero(mask.T.ravel()).tolist() == [600, 601]


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ([], r"no detection that can be used, of 0: it is empty"),
        ([entry(score=None), entry(bbox=[1, 2, 0, 0])], r"of 2: 1 without score .* 1 with a box of no width"),
        (
            [entry(scene_id=48), entry(scene_id=48)],
            r"None of the 2 detections .* scene 48, image 0\): give those",
        ),
        ([entry(score=10**400), entry(bbox=[10**400, 1, 2, 2])], r"of 2: 1 with a score that is no finite"),
        ({"a": 1}, r"holds no list of detections but a dict"),
    ],
)
def test_a_file_of_no_use_is_refused(entries, sentence, tmp_path):
    with pytest.raises(VPOGError, match=sentence):
        read(write(tmp_path, entries))


def test_detections_of_images_that_are_not_asked_for_are_said(frame, tmp_path):
    found = read(write(tmp_path, [entry(), entry(image_id=77)]))
    assert len(found(frame)) == 1
    assert found.notes == [
        "1 of 2 detections in 'detections.json' are of images that are not asked for (first: number 1)."
    ]


def test_a_file_that_is_packed_and_broken_is_told(tmp_path):
    path = tmp_path / "detections.json.gz"
    path.write_bytes(gzip.compress(b"[]")[:10] + b"garbage")
    with pytest.raises(VPOGError, match="cannot be read"):
        read(path)


def test_a_file_that_is_not_there_is_told(bop_case):
    with pytest.raises(VPOGError, match=r"nowhere\.json' cannot be read"):
        open_detections("nowhere.json", BopBenchmark(bop_case[0]))
    assert open_detections("gt", BopBenchmark(bop_case[0])).notes == []


def test_titles_say_where_boxes_come_from():
    assert "true boxes with 5 % seeded jitter" in describe_detections("gt")
    assert "cnos.json" in describe_detections("somewhere/cnos.json")


def test_a_detection_belongs_to_the_instance_it_overlaps():
    assert overlap(np.array([0, 0, 2, 2]), np.array([1, 0, 3, 2])) == pytest.approx(1 / 3)
    assert overlap(np.array([0, 0, 1, 1]), np.array([2, 2, 3, 3])) == 0.0


def test_a_detection_beside_everything_belongs_to_none(frame):
    found = dict(from_truth(frame))
    assert truth_of(frame, 1, found[1]).obj_id == 1
    found[1].box[:] = [0, 0, 5, 5]
    assert truth_of(frame, 1, found[1]) is None
