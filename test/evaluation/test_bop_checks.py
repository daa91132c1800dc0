"""Test that a dataset's differences from BOP's format are reported, or refused if they prevent scoring."""

import json
import shutil

import numpy as np
import pytest

from vpog_core.evaluation.bop_benchmark import BopBenchmark
from vpog_core.evaluation.detections import from_truth
from vpog_core.objects.library import ObjectLibrary
from vpog_core.types import VPOGError


@pytest.fixture
def scene(bop_root):
    return bop_root / "test" / "000007"


def rewrite(path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def scaled(factor: float):
    def change(gt):
        for entry in (entry for entries in gt.values() for entry in entries):
            entry["cam_t_m2c"] = [factor * v for v in entry["cam_t_m2c"]]

    return change


def test_a_dataset_as_bop_has_it_needs_no_word(bop_root):
    assert BopBenchmark(bop_root).notes == []


def test_without_gt_info_boxes_come_from_masks(bop_root, scene):
    given = dict(boxes(BopBenchmark(bop_root)))
    (scene / "scene_gt_info.json").unlink()
    benchmark = BopBenchmark(bop_root)
    for key, found in boxes(benchmark):
        np.testing.assert_array_equal(found, given[key])
    assert benchmark.notes == [
        "scene_gt_info.json has no boxes in scene 7: they are taken from the masks, or from the models' "
        "outlines where there are none."
    ]


def test_without_masks_either_they_come_from_the_outlines(bop_root, scene):
    given = dict(boxes(BopBenchmark(bop_root)))
    (scene / "scene_gt_info.json").unlink()
    for name in ("mask", "mask_visib"):
        shutil.rmtree(scene / name)
    for key, found in boxes(BopBenchmark(bop_root)):
        # The second object is in front of the first, so it is whole; a pixel for the rasteriser's edges.
        if key[1] == 4:
            np.testing.assert_allclose(found, given[key], atol=1.0)
        assert (found[:2] <= given[key][:2] + 1).all()
        assert (found[2:] >= given[key][2:] - 1).all()
    assert len(from_truth(BopBenchmark(bop_root).frame((7, 0)))) == 2


def boxes(benchmark):
    for key in benchmark.keys:
        for truth in benchmark.frame(key).truths:
            yield (key, truth.obj_id), truth.box


def test_hidden_poses_cannot_be_scored(bop_root, scene):
    targets = [{"scene_id": 7, "im_id": 0, "obj_id": obj_id, "inst_count": 1} for obj_id in (1, 4)]
    (bop_root / "test_targets_bop19.json").write_text(json.dumps(targets))
    rewrite(scene / "scene_gt.json", lambda gt: gt["0"].pop())
    rewrite(scene / "scene_gt_info.json", lambda info: info["0"].pop())
    assert BopBenchmark(bop_root).notes == [
        "1 of 2 instances asked for have no pose in scene_gt.json and are left out."
    ]
    (scene / "scene_gt.json").unlink()
    (scene / "scene_gt_info.json").unlink()
    with pytest.raises(VPOGError, match=r"None of the 2 instances .*hidden.*use the split val"):
        _ = BopBenchmark(bop_root).notes
    (bop_root / "test_targets_bop19.json").unlink()
    with pytest.raises(VPOGError, match="nothing to find"):
        BopBenchmark(bop_root)


def test_a_target_of_an_image_or_object_that_is_not_there(bop_root):
    for target, sentence in (
        ({"scene_id": 48, "im_id": 0, "obj_id": 1}, "no scene 48"),
        ({"scene_id": 7, "im_id": 0, "obj_id": 2}, "no model 2"),
    ):
        (bop_root / "test_targets_bop19.json").write_text(json.dumps([target]))
        with pytest.raises(VPOGError, match=sentence):
            _ = BopBenchmark(bop_root).notes


def test_poses_in_metres_are_said(bop_root, scene):
    given = BopBenchmark(bop_root).frame((7, 0)).truths[0].T_cam_obj
    rewrite(scene / "scene_gt.json", scaled(0.001))
    benchmark = BopBenchmark(bop_root)
    np.testing.assert_allclose(benchmark.frame((7, 0)).truths[0].T_cam_obj, given, atol=1e-9)
    assert len(benchmark.notes) == 1
    assert benchmark.notes[0].startswith("The poses of scene 7 are read as metres")


def test_units_that_do_not_fit_the_boxes_are_refused(bop_root, scene):
    """Poses in centimetres make the models look ten times as large as their boxes."""
    rewrite(scene / "scene_gt.json", scaled(0.1))
    with pytest.raises(VPOGError, match="bring the models and cam_t_m2c to millimetres"):
        _ = BopBenchmark(bop_root).notes


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_k_of_another_resolution_is_said(bop_root, scene, scale):
    def change(cameras):
        for entry in cameras.values():
            entry["cam_K"] = [scale * v for v in entry["cam_K"][:8]] + [1.0]

    rewrite(scene / "scene_camera.json", change)
    (note,) = BopBenchmark(bop_root).notes
    assert note.startswith("The camera of scene 7: The principal point")
    assert "is K for another resolution" in note


@pytest.mark.parametrize("name", ["objects.yaml", "objects.yml"])
def test_a_settings_file_among_the_models_is_not_written_to(name, bop_root, tmp_path):
    """The library's folder links the models; its own objects.yaml must not go through such a link."""
    settings = bop_root / "models" / name
    settings.write_text("objects: {}\n")
    folder = tmp_path / "library"
    folder.mkdir()
    BopBenchmark(bop_root).write_library(folder)
    assert settings.read_text() == "objects: {}\n"
    assert "obj_000004" in ObjectLibrary(folder, tmp_path / "cache").ids


def test_models_for_scoring(bop_root):
    """Models for scoring are read from models_eval, or from the eval folder of the models' own kind."""
    for name in ("models_cad", "models_cad_eval", "models_eval"):
        shutil.copytree(bop_root / "models", bop_root / name)
    shutil.rmtree(bop_root / "models")
    benchmark = BopBenchmark(bop_root)
    assert benchmark._scored.folder.name == "models_cad_eval"
    shutil.rmtree(bop_root / "models_cad_eval")
    assert BopBenchmark(bop_root)._scored.folder.name == "models_eval"
