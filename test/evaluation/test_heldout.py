import numpy as np
import pytest

from vpog_core.evaluation.heldout import CROPS, FIRST_SEED, OBJECTS, HeldOut
from vpog_core.evaluation.heldout_picture import LEVELS, VISIBLE


@pytest.fixture(scope="module")
def heldout():
    return HeldOut(objects=2, crops=2)


@pytest.fixture(scope="module")
def frames(heldout):
    return {level: heldout.frame((level, 1001)) for level in LEVELS}


def test_the_benchmark_is_thirty_objects_with_twenty_pictures_at_four_levels():
    whole = HeldOut()
    assert (OBJECTS, CROPS, list(LEVELS.values())) == (30, 20, ["clean", "light", "clutter", "occluded"])
    assert len(whole.keys) == len(set(whole.keys)) == 30 * 20 * 4
    assert whole.object_ids == list(range(1, 31))
    # Outside the seeds of training (to 99999), validation (800000+), demo and tests (900000+).
    assert FIRST_SEED == 920_000


def test_a_part_shows_the_pictures_of_the_whole(heldout, frames):
    whole = HeldOut()
    assert set(heldout.keys) < set(whole.keys)
    again = whole.frame((2, 1001))
    np.testing.assert_array_equal(again.image, frames[2].image)
    np.testing.assert_array_equal(again.truths[0].T_cam_obj, frames[2].truths[0].T_cam_obj)
    np.testing.assert_array_equal(again.truths[0].box, frames[2].truths[0].box)


def test_pictures_differ_by_level_number_and_object(heldout, frames):
    pictures = [frames[1], frames[2], heldout.frame((1, 1000)), heldout.frame((1, 2001))]
    poses = [frame.truths[0].T_cam_obj for frame in pictures]
    for i, a in enumerate(poses):
        assert all(np.abs(a - b).max() > 1e-3 for b in poses[:i])


@pytest.mark.parametrize("level", LEVELS)
def test_depth_mask_and_box_show_the_object_at_its_pose(level, heldout, frames):
    frame, truth = frames[level], frames[level].truths[0]
    mask = truth.read_mask()
    alone = heldout.object(1).renderer.render(truth.T_cam_obj, frame.camera.K, frame.depth.shape)
    assert mask.any()
    assert not (mask & ~alone.mask).any()
    np.testing.assert_allclose(frame.depth[mask], alone.depth[mask], rtol=1e-6)
    hidden = alone.mask & ~mask & (frame.depth > 0)
    assert (frame.depth[hidden] < alone.depth[hidden]).all()
    assert truth.visible_fraction == pytest.approx(mask.sum() / alone.mask.sum())
    rows, columns = np.nonzero(mask)
    expected = [columns.min() - 0.5, rows.min() - 0.5, columns.max() + 0.5, rows.max() + 0.5]
    np.testing.assert_array_equal(truth.box, expected)


def test_the_occluded_are_occluded_and_the_clean_are_not(heldout, frames):
    assert frames[1].truths[0].visible_fraction == 1.0
    for number in (1000, 2000):
        fraction = heldout.frame((4, number)).truths[0].visible_fraction
        assert VISIBLE[0] <= fraction <= VISIBLE[1]


def test_noise_begins_with_light(frames):
    """A clean picture has no grain: the far wall or table changes little from pixel to pixel."""
    grain = {
        level: np.median(np.abs(np.diff(frames[level].image[:40].astype(float), axis=1))) for level in (1, 2)
    }
    assert grain[1] <= 1.0 < grain[2] + 1.0


def test_the_library_holds_the_objects(heldout, tmp_path):
    heldout.write_library(tmp_path)
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["heldout_01", "heldout_02"]
