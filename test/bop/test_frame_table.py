from __future__ import annotations

import numpy as np
import pytest

from vpog_core.bop.dataset import BopDataset
from vpog_core.bop.frame_table import FrameTable, open_split
from vpog_core.bop.shards import BopShards
from vpog_core.types import VPOGError


@pytest.mark.parametrize("kind", ["scenes", "shards"])
def test_frames_out_of_the_table_are_those_of_the_split(kind, bop_root, shard_root, tmp_path):
    split = open_split(bop_root, "test") if kind == "scenes" else open_split(shard_root)
    assert isinstance(split, BopDataset if kind == "scenes" else BopShards)
    parts = [FrameTable.of(s, split.section_frames(s)) for s in split.sections]
    (tmp_path / "table").mkdir()
    FrameTable.joined(parts).save(tmp_path / "table")
    table = FrameTable.load(tmp_path / "table")
    frames = list(split.frames())
    assert len(table.section) == len(frames) == 3
    assert table.first.tolist() == [0, 2, 4, 6]
    assert table.frame_of(np.array([0, 1, 2, 5])).tolist() == [0, 0, 1, 2]
    for n, expected in enumerate(frames):
        frame = table.frame(split, n)
        assert np.array_equal(frame.image(), expected.image())
        assert np.array_equal(frame.depth(), expected.depth())
        assert np.array_equal(frame.K, expected.K)
        for instance, other in zip(frame.instances, expected.instances, strict=True):
            # Poses are kept in float32.
            np.testing.assert_allclose(instance.T_cam_obj, other.T_cam_obj, atol=1e-7)
            np.testing.assert_array_equal(instance.box_visible, other.box_visible)
            assert (instance.obj_id, instance.index) == (other.obj_id, other.index)
            assert instance.visible_fraction == pytest.approx(other.visible_fraction)
            assert np.array_equal(instance.mask_visible(), other.mask_visible())


def test_what_is_not_known_stays_unknown(bop_root):
    (bop_root / "test" / "000007" / "scene_gt_info.json").unlink()
    split = BopDataset(bop_root)
    instance = FrameTable.of(7, split.section_frames(7)).frame(split, 1).instances[0]
    assert instance.visible_fraction is None
    assert instance.box_visible is None
    assert instance.box_object is None


def test_a_broken_index_is_named(tmp_path):
    with pytest.raises(VPOGError, match=r"delete it to make it anew"):
        FrameTable.load(tmp_path)
