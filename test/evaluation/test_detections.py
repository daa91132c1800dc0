import json

import numpy as np
import pytest

from vpog_core.bop.rle import encode_rle
from vpog_core.evaluation.bop_benchmark import BopBenchmark
from vpog_core.evaluation.detections import (
    BOX_JITTER,
    DetectionFile,
    describe,
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
    found = DetectionFile(path)(frame)
    count = frame.targets[1]
    assert [d.score for _, d in found] == sorted(scores, reverse=True)[:count]
    # First pixel and counts become outer edges.
    np.testing.assert_array_equal(found[0][1].box, [9.5, 19.5, 39.5, 59.5])
    assert found[0][1].mask is None


def test_masks_are_read(frame, tmp_path):
    mask = np.zeros((120, 160), dtype=bool)
    mask[20:60, 10:40] = True
    path = write(tmp_path, [entry(segmentation=encode_rle(mask))])
    np.testing.assert_array_equal(DetectionFile(path)(frame)[0][1].mask, mask)


@pytest.mark.parametrize(
    "broken",
    [{"bbox": [1, 2, 3]}, {"bbox": [1, 2, 0, 4]}, {"score": "high"}, {"segmentation": [[1, 2]]}],
)
def test_a_broken_entry_is_named(broken, tmp_path):
    with pytest.raises(VPOGError, match="detection 1, is not"):
        DetectionFile(write(tmp_path, [entry(), entry(**broken)]))


def test_a_file_that_is_no_list_or_not_there_is_told(tmp_path):
    with pytest.raises(VPOGError, match="detection 0, is not"):
        open_detections(str(write(tmp_path, {"a": 1})))
    with pytest.raises(VPOGError, match=r"nowhere\.json"):
        open_detections("nowhere.json")


def test_titles_say_where_boxes_come_from():
    assert "true boxes with 5 % seeded jitter" in describe("gt")
    assert "cnos.json" in describe("somewhere/cnos.json")


def test_a_detection_belongs_to_the_instance_it_overlaps():
    assert overlap(np.array([0, 0, 2, 2]), np.array([1, 0, 3, 2])) == pytest.approx(1 / 3)
    assert overlap(np.array([0, 0, 1, 1]), np.array([2, 2, 3, 3])) == 0.0


def test_a_detection_beside_everything_belongs_to_none(frame):
    found = dict(from_truth(frame))
    assert truth_of(frame, 1, found[1]).obj_id == 1
    found[1].box[:] = [0, 0, 5, 5]
    assert truth_of(frame, 1, found[1]) is None
