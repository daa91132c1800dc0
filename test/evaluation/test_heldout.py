import numpy as np
import pytest

from vpog_core.evaluation.heldout import CROPS, OBJECTS, PLAIN, ROUND, TEXTURED, HeldOut
from vpog_core.evaluation.heldout_image import LEVELS, VISIBLE
from vpog_core.objects.library import ObjectLibrary


@pytest.fixture(scope="module")
def heldout():
    return HeldOut(objects=2, crops=2)


@pytest.fixture(scope="module")
def frames(heldout):
    return {level: heldout.frame((level, 1001)) for level in LEVELS}


def test_the_benchmark_is_thirty_objects_with_four_pictures_at_each_of_four_levels():
    whole = HeldOut()
    assert (OBJECTS, CROPS, list(LEVELS.values())) == (30, 4, ["clean", "light", "clutter", "occluded"])
    textured = HeldOut(splits=[TEXTURED])
    assert len(textured.keys) == len(set(textured.keys)) == 30 * CROPS * 4
    assert textured.object_ids == list(range(1, 31))
    assert whole.object_ids == textured.object_ids + [100 + i for i in range(1, 31) if i not in ROUND]
    assert len(whole.keys) == len(set(whole.keys)) == (30 + 28) * CROPS * 4


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
    """A noise-free image has no grain: the far wall or table changes little from pixel to pixel."""
    grain = {
        level: np.median(np.abs(np.diff(frames[level].image[:40].astype(float), axis=1))) for level in (1, 2)
    }
    assert grain[1] <= 1.0 < grain[2] + 1.0


def test_the_library_holds_the_objects(heldout, tmp_path):
    heldout.write_library(tmp_path)
    names = ["heldout_01", "heldout_01_plain", "heldout_02", "heldout_02_plain"]
    assert sorted(path.stem for path in tmp_path.iterdir()) == names


def test_a_plain_picture_is_the_same_but_for_the_objects_colours(heldout, frames):
    """At the level `occluded`, what stands in front is the same, too."""
    textured, plain = frames[4], heldout.frame((14, 1001))
    np.testing.assert_array_equal(plain.truths[0].T_cam_obj, textured.truths[0].T_cam_obj)
    np.testing.assert_array_equal(plain.depth, textured.depth)
    assert plain.targets == {101: 1}
    assert heldout.groups[14] == "plain occluded"
    assert heldout.splits[14] == "plain"
    clean, own = heldout.frame((11, 1001)), frames[1]
    mask = own.truths[0].read_mask()
    np.testing.assert_array_equal(clean.image[~mask], own.image[~mask])
    # One paint: hue apart, only shading and highlights differ, so the colours lie on one line.
    colours = clean.image[mask].astype(float)
    spread = np.linalg.svd(colours - colours.mean(axis=0), compute_uv=False)
    assert spread[1] < 0.1 * spread[0]


def test_a_plain_box_looks_alike_after_half_turns(tmp_path):
    """The third object is a tube of a rectangle: by shape alone a half turn about z is not seen."""
    benchmark = HeldOut(objects=3, crops=1, levels=["clean"], splits=[PLAIN])
    assert len(benchmark.object(103).symmetries) == 2
    assert len(benchmark.object(101).symmetries) == 1
    benchmark.write_library(tmp_path)
    library = ObjectLibrary(tmp_path, tmp_path / "cache")
    np.testing.assert_allclose(
        library.symmetry("heldout_03_plain").discrete, benchmark.object(103).symmetries, atol=1e-9
    )


def test_parts_are_named():
    part = HeldOut(objects=2, crops=1, levels=["occluded", "clean"], splits=[PLAIN])
    assert part.keys == [(11, 1000), (14, 1000), (11, 2000), (14, 2000)]
    assert "plain clean, plain occluded" in part.name
