from __future__ import annotations

import json
import tarfile

import numpy as np
import pytest

from vpog_core.bop.shards import BopShards
from vpog_core.types import VPOGError


def test_frames_of_shards_are_those_of_scenes(shard_root, tiny_bop):
    shards = BopShards(shard_root)
    frames = list(shards.frames())
    assert shards.name == "MegaPose-GSO"
    assert shards.sections == [0, 1]
    assert [(f.scene_id, f.image_id, f.key) for f in frames] == [
        (7, 0, "000007_000000"), (7, 3, "000007_000003"), (7, 5, "000007_000005"),
    ]  # fmt: skip
    frame = frames[1]
    assert np.array_equal(frame.image(), tiny_bop.rgb[3])
    np.testing.assert_allclose(frame.depth(), tiny_bop.depth[3], atol=0.0501e-3)
    assert (frame.camera.width, frame.camera.height) == (200, 150)
    instance = frame.instances[1]
    np.testing.assert_allclose(instance.T_cam_obj, tiny_bop.poses[3, 4], atol=1e-12)
    assert np.array_equal(instance.mask_visible(), tiny_bop.visible[3, 4])
    assert instance.mask() is None
    assert instance.visible_fraction == 1.0


def test_model_names(shard_root):
    assert BopShards(shard_root).model_names == {1: "Bowl", 4: "Fruit"}
    assert BopShards(shard_root).model_set == "gso"
    (shard_root / "gso_models.json").write_text('[{"obj_id": 1, "gso_id": "../secret"}]')
    with pytest.raises(VPOGError, match=r"'\.\./secret', which is no plain name"):
        _ = BopShards(shard_root).model_names
    (shard_root / "gso_models.json").unlink()
    shapes = [{"obj_id": 3, "shapenet_synset_id": "02", "shapenet_source_id": "abc"}]
    (shard_root / "shapenet_models.json").write_text(json.dumps(shapes))
    assert BopShards(shard_root).model_names == {3: "02/abc"}


def test_broken_shards_are_named(shard_root):
    whole = (shard_root / "shard-000000.tar").read_bytes()
    frame = next(iter(BopShards(shard_root).frames()))
    (shard_root / "shard-000000.tar").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(VPOGError, match=r"shard-000000\.tar"):
        list(BopShards(shard_root).frames())
    (shard_root / "shard-000000.tar").write_bytes(whole[:1024])
    with pytest.raises(VPOGError, match=r"shard-000000\.tar' is cut short"):
        frame.image()
    (shard_root / "shard-000000.tar").write_bytes(b"no tar file" * 100)
    with pytest.raises(VPOGError, match=r"shard-000000\.tar' cannot be read"):
        list(BopShards(shard_root).frames())
    with pytest.raises(VPOGError, match=r"no shard-\*\.tar in"):
        BopShards(shard_root, "train")


def test_a_key_of_other_digits_numbers_no_scene(shard_root, tmp_path):
    renamed = tmp_path / "shard-000000.tar"
    with tarfile.open(shard_root / renamed.name) as old, tarfile.open(renamed, "w") as new:
        for member in old.getmembers():
            content = old.extractfile(member)
            member.name = member.name.replace("000007_", "²_")
            new.addfile(member, content)
    assert [(f.scene_id, f.image_id) for f in BopShards(tmp_path).frames()] == [(0, 0), (0, 1)]
