from __future__ import annotations

import json
import logging
from pathlib import Path

import cv2
import numpy as np
import pytest

from vpog_core.objects.mesh import Mesh, save_mesh
from vpog_core.synthetic.objects import make_object
from vpog_core.synthetic.seeds import VALIDATION
from vpog_core.training.data.data_config import DataConfig
from vpog_core.training.data.datasets import build_datasets, object_sources, open_splits
from vpog_core.types import VPOGError

SIZE = 32


def write_meshes(folder: Path, count: int) -> None:
    mesh = make_object(900_008, vertices=600)
    for n in range(count):
        save_mesh(Mesh(mesh.vertices * (1 + 0.1 * n), mesh.faces), folder / f"{n:02d}.ply")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({}, r"names no objects"),
        ({"procedural": -1}, r"data\.procedural is '-1'"),
        ({"procedural": 200_000}, r"set 100000 at most"),
        ({"procedural": 1, "held_out_procedural": 200_000}, r"set 100000 at most"),
        ({"procedural": 2, "image_size": 100}, r"multiple of the patch size, 16"),
        ({"procedural": 2, "queries": 0}, r"data\.queries is '0'"),
        ({"procedural": 2, "bank": "runs/bank"}, r"data.bank is called data.cache_dir now"),
        ({"procedural": 2, "refined_fraction": 1.5}, r"fraction between 0 and 1"),
        ({"procedural": 2, "held_out_every": 1}, r"leaves nothing to train on"),
        ({"meshes": "a/b"}, r"data\.meshes is a list of paths, not 'a/b'"),
        ({"procedural": 2, "weights": {"gso": 1.0}}, r"name each source in use \(procedural\)"),
        ({"procedural": 2, "weights": {"procedural": 0.0}}, r"not all of them zero"),
        ({"procedual": 2}, r"data\.procedual is not known: use one of meshes"),
    ],
)
def test_settings_that_cannot_be_are_refused(values, sentence):
    with pytest.raises(VPOGError, match=sentence):
        DataConfig.from_mapping(values)


def test_both_sets_from_meshes_and_seeds(tmp_path):
    write_meshes(tmp_path / "meshes", 4)
    (tmp_path / "photos").mkdir()
    cv2.imwrite(str(tmp_path / "photos" / "a.png"), np.full((64, 64, 3), 128, np.uint8))
    config = DataConfig(
        meshes=[str(tmp_path / "meshes")], procedural=1, photos=str(tmp_path / "photos"), held_out_every=3,
        held_out_procedural=1, cache_dir=str(tmp_path / "cache"), image_size=SIZE, queries=2, cluster=2,
        negatives=1, validation_samples=5, processes=2, weights={"meshes": 3, "procedural": 1},
    )  # fmt: skip
    train, validation = build_datasets(config, progress=False)
    assert [o.name for o in train.objects] == ["01", "02", "seed_000000"]
    assert [o.name for o in validation.objects] == ["00", "03", f"seed_{VALIDATION.start}"]
    assert len(validation) == 5
    sample = train[0]
    assert sample["query_rgb"].shape == (2, SIZE, SIZE, 3)
    assert sample["template_T"].shape == (3, 4, 4)
    # The same again, from the cache, without loading meshes in advance.
    again, validated = build_datasets(config, progress=False, preload=False)
    for before, after in ((train, again), (validation, validated)):
        assert all(np.array_equal(before[1][key], after[1][key]) for key in sample)


def test_what_is_held_out_is_held_out_everywhere(tmp_path, bop_original):
    """The models of the BOP set are a mesh folder, too, in another order."""
    write_meshes(tmp_path / "meshes", 1)
    config = DataConfig(
        meshes=[str(tmp_path / "meshes"), str(bop_original / "models")], unit="mm", held_out_every=2,
        bop=[f"{bop_original}:test"], cache_dir=str(tmp_path), processes=1,
    )  # fmt: skip
    train, held_out = object_sources(config, open_splits(config, progress=False))
    assert [s.name for s in train] == ["obj_000001", "tiny_000001"]
    assert [s.name for s in held_out] == ["00", "obj_000004", "tiny_000004"]
    assert [s.kind for s in train] == ["meshes", "bop"]


def test_megapose_shards_find_their_models(tmp_path, tiny_bop, caplog):
    """Models of Google Scanned Objects are found in any place, and have a scale of their own."""
    root, gso = tmp_path / "MegaPose-GSO", tmp_path / "gso"
    for obj_id, name in ((1, "Bowl"), (4, "Fruit")):
        mesh = tiny_bop.meshes[obj_id]
        folder = gso / name / "meshes"
        folder.mkdir(parents=True)
        lines = [f"v {x} {y} {z}" for x, y, z in (mesh.vertices - mesh.center) * 1.7 + 0.2]
        lines += [f"f {a} {b} {c}" for a, b, c in mesh.faces + 1]
        (folder / "model.obj").write_text("\n".join(lines))
    tiny_bop.write_shard(root / "shard-000000.tar", megapose=True)
    models = [{"obj_id": 1, "gso_id": "Bowl"}, {"obj_id": 4, "gso_id": "Fruit"}]
    (root / "gso_models.json").write_text(json.dumps(models))
    settings = {
        "bop": [str(root)], "gso": str(gso), "held_out_every": 2, "cache_dir": str(tmp_path / "cache"),
        "image_size": SIZE, "processes": 1,
    }  # fmt: skip
    train, validation = build_datasets(DataConfig(**settings), progress=False)
    assert [(o.name, o.kind) for o in train.objects] == [("Fruit", "gso"), ("megapose_gso_Fruit", "bop")]
    assert [o.name for o in validation.objects] == ["Bowl", "megapose_gso_Bowl"]
    assert len(train.objects[1].views) == 3
    assert train.objects[1].mesh.bounds[1].max() == pytest.approx(0.1)
    assert (train[0]["query_depth"] > 0).any()
    # A model that is not there is left out, and said; none at all is an error.
    (gso / "Bowl" / "meshes" / "model.obj").unlink()
    with caplog.at_level(logging.WARNING):
        build_datasets(DataConfig(**settings, procedural=1, held_out_procedural=1), progress=False)
    assert "1 of 2 objects" in caplog.text
    with pytest.raises(VPOGError, match=r"kept elsewhere: set data\.gso"):
        build_datasets(DataConfig(**{**settings, "gso": ""}), progress=False)


def test_an_empty_set_says_so(tmp_path):
    write_meshes(tmp_path / "meshes", 1)
    config = DataConfig(
        meshes=[str(tmp_path / "meshes")], cache_dir=str(tmp_path / "cache"), image_size=SIZE, processes=1
    )
    with pytest.raises(VPOGError, match=r"No object is left to validate on"):
        build_datasets(config, progress=False)
    missing = DataConfig(bop=[f"{tmp_path}:test"], cache_dir=str(tmp_path / "cache"))
    with pytest.raises(VPOGError, match=r"no split 'test'"):
        build_datasets(missing, progress=False)
