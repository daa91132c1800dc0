from __future__ import annotations

import json
import pickle

import cv2
import numpy as np
import pytest

from vpog_core.bop.dataset import BopDataset
from vpog_core.types import VPOGError


def test_frames_are_what_was_written(bop_root, tiny_bop):
    data = BopDataset(bop_root, "test")
    frames = list(data.frames())
    assert (data.name, data.split, data.scene_ids) == ("tiny", "test", [7])
    assert [(f.scene_id, f.image_id) for f in frames] == [(7, 0), (7, 3), (7, 5)]
    frame = data.frame(7, 3)
    assert np.array_equal(frame.image(), tiny_bop.rgb[3])
    assert (frame.camera.width, frame.camera.height) == (200, 150)
    np.testing.assert_array_equal(frame.camera.K, tiny_bop.K)
    # Stored in tenths of a millimetre.
    np.testing.assert_allclose(frame.depth(), tiny_bop.depth[3], atol=0.0501e-3)
    assert [i.obj_id for i in frame.instances] == [1, 4]


def test_instances_are_in_metres_with_their_masks(bop_root, tiny_bop):
    first, second = BopDataset(bop_root).frame(7, 5).instances
    np.testing.assert_allclose(second.T_cam_obj, tiny_bop.poses[5, 4], atol=1e-12)
    assert np.array_equal(first.mask(), tiny_bop.whole[5, 1])
    assert np.array_equal(first.mask_visible(), tiny_bop.visible[5, 1])
    assert first.extra == {"quality": "rendered"}
    assert 0.3 < first.visible_fraction < 0.95
    assert second.visible_fraction == 1.0
    # Boxes are pixels' outer edges, so the widths are the masks'.
    columns = np.flatnonzero(tiny_bop.visible[5, 1].any(axis=0))
    assert first.box_visible[[0, 2]].tolist() == [columns[0] - 0.5, columns[-1] + 0.5]
    assert (first.box_object[2:] >= first.box_visible[2:]).all()


def test_models_in_metres(bop_root, tiny_bop):
    data = BopDataset(bop_root)
    assert data.model_ids == [1, 4]
    assert data.names == {1: "obj_000001", 4: "obj_000004"}
    assert data.diameter(4) == pytest.approx(tiny_bop.meshes[4].diameter)
    # .ply files hold float32.
    assert data.mesh(1).diameter == pytest.approx(tiny_bop.meshes[1].diameter, rel=1e-5)
    assert data.model_path(4).name == "obj_000004.ply"
    assert len(data.symmetry(4).discrete) == 2
    assert len(data.symmetry(1).discrete) == 1
    (bop_root / "models" / "names.json").write_text('{"4": "cup"}')
    assert BopDataset(bop_root).names == {1: "obj_000001", 4: "cup"}
    (bop_root / "models" / "models_info.json").unlink()
    assert BopDataset(bop_root).diameter(4) == pytest.approx(tiny_bop.meshes[4].diameter, rel=1e-5)


def test_gray_pictures_and_what_may_be_missing(tiny_bop, tmp_path):
    scene = tiny_bop.write(tmp_path, images="gray", masks=False, depth=False)
    (scene / "scene_gt_info.json").unlink()
    frame = BopDataset(tmp_path).frame(7, 0)
    gray = tiny_bop.rgb[0].mean(axis=-1).astype(np.uint8)
    assert np.array_equal(frame.image(), np.repeat(gray[..., None], 3, axis=2))
    assert frame.depth() is None
    instance = frame.instances[0]
    nothing = (instance.mask(), instance.mask_visible(), instance.box_object, instance.visible_fraction)
    assert nothing == (None,) * 4
    (scene / "scene_gt.json").unlink()  # hidden, as those of BOP's own test images
    assert BopDataset(tmp_path).frame(7, 0).instances == []


def test_targets_from_either_year_or_all(bop_root):
    every = [(7, image, obj, 1) for image in (0, 3, 5) for obj in (1, 4)]
    assert BopDataset(bop_root).targets() == every
    images_only = [{"scene_id": 7, "im_id": 3}]
    (bop_root / "test_targets_bop24.json").write_text(json.dumps(images_only))
    assert BopDataset(bop_root).targets() == [(7, 3, 1, 1), (7, 3, 4, 1)]
    older = [{"im_id": 5, "inst_count": 2, "obj_id": 4, "scene_id": 7}]
    (bop_root / "test_targets_bop19.json").write_text(json.dumps(older))
    assert BopDataset(bop_root).targets() == [(7, 5, 4, 2)]


def test_a_nowhere_visible_object_has_no_box(bop_root, edited):
    def hide(info):
        info["3"][0]["bbox_visib"] = [-1, -1, -1, -1]

    edited("scene_gt_info.json", hide)
    instance = BopDataset(bop_root).frame(7, 3).instances[0]
    assert instance.box_visible is None
    assert instance.box_object is not None


def test_a_dataset_travels_to_another_process(bop_root, tiny_bop):
    data = BopDataset(bop_root)
    data.frame(7, 0)
    assert np.array_equal(pickle.loads(pickle.dumps(data)).frame(7, 3).image(), tiny_bop.rgb[3])


def test_a_model_without_a_number_is_passed_over(bop_root):
    for name in ("obj_mug.ply", "obj_²²²²²².ply"):
        (bop_root / "models" / name).write_bytes((bop_root / "models" / "obj_000001.ply").read_bytes())
    assert BopDataset(bop_root).model_ids == [1, 4]


def test_other_splits_are_named(bop_root):
    with pytest.raises(VPOGError, match=r"no split 'train_pbr'.*splits there: test"):
        BopDataset(bop_root, "train_pbr")
    with pytest.raises(VPOGError, match=r"no split"):
        BopDataset(bop_root, "../tiny/test")
    with pytest.raises(VPOGError, match=r"no dataset folder"):
        BopDataset(bop_root / "nowhere")


@pytest.mark.parametrize(
    ("file", "change", "sentence"),
    [
        ("scene_camera.json", lambda c: c["3"].pop("cam_K") and None, r"image 3 has no `cam_K`"),
        ("scene_camera.json", lambda c: c["3"].update(cam_K=[0] * 9), r"image 3 has the `cam_K` \[0"),
        (
            "scene_gt_info.json",
            lambda c: c["3"][1].update(visib_fract="much"),
            r"entry 1 of scene_gt_info\.json",
        ),
        ("scene_gt.json", lambda c: c["3"][1].pop("cam_t_m2c") and None, r"image 3, entry 1: it needs"),
        (
            "scene_gt.json",
            lambda c: c["3"][0].update(cam_R_m2c=[1, 0, 0, 0, 1, 0, 0, 0, 2]),
            r"not a rotation",
        ),
        ("scene_gt.json", lambda c: c["3"].pop() and None, r"do not fit together"),
        ("scene_gt_info.json", lambda c: c.update({"3": 5}), r"image 3: .* do not fit together"),
        ("scene_gt_info.json", lambda c: c.update({"3": {"0": {}, "1": {}}}), r"do not fit together"),
        ("scene_gt.json", lambda c: [1, 2], r"not a mapping of numbers"),
    ],
)
def test_broken_annotations_name_their_place(bop_root, edited, file, change, sentence):
    edited(file, change)
    with pytest.raises(VPOGError, match=sentence):
        BopDataset(bop_root).frame(7, 3)


def test_a_depth_map_of_another_size_is_refused(bop_root):
    (path,) = (bop_root / "test" / "000007" / "depth").glob("000003.*")
    path.write_bytes(cv2.imencode(".png", np.ones((30, 40), np.uint16))[1].tobytes())
    with pytest.raises(VPOGError, match="The depth map of scene 7, image 3, is 40x30 but the image"):
        BopDataset(bop_root).frame(7, 3).depth()


def test_broken_files_are_named(bop_root):
    scene = bop_root / "test" / "000007"
    (scene / "rgb" / "000003.png").write_bytes(b"no picture")
    with pytest.raises(VPOGError, match=r"000003\.png' cannot be read"):
        BopDataset(bop_root).frame(7, 3).image()
    (scene / "rgb" / "000003.png").unlink()
    with pytest.raises(VPOGError, match=r"no image 000003 in rgb or gray"):
        _ = BopDataset(bop_root).frame(7, 3).camera
    (scene / "scene_gt.json").write_text("{")
    with pytest.raises(VPOGError, match=r"scene_gt\.json' is not valid JSON"):
        BopDataset(bop_root).frame(7, 3)
    (bop_root / "test_targets_bop19.json").write_text('{"a": 1}')
    with pytest.raises(VPOGError, match=r"not a list of targets"):
        BopDataset(bop_root).targets()


def test_unknown_numbers_are_refused(bop_root):
    data = BopDataset(bop_root)
    for ask, sentence in (
        (lambda: data.frame(8, 0), "no scene 8"),
        (lambda: data.frame(7, 1), "no image 1"),
        (lambda: data.model_path(2), "no model 2"),
    ):
        with pytest.raises(VPOGError, match=sentence):
            ask()
    with pytest.raises(VPOGError, match="no models folder"):
        _ = BopDataset(bop_root, models="models_eval").model_ids


@pytest.mark.parametrize(("name", "images", "instances"), [("ycb_dev", 15, 50), ("hope_dev", 25, 125)])
def test_the_real_samples(shared_data, name, images, instances):
    data = BopDataset(shared_data / "real" / name)
    frames = list(data.frames())
    assert len(frames) == images
    assert sum(len(f.instances) for f in frames) == instances == len(data.targets())
    frame = frames[-1]
    assert frame.image().shape == (frame.camera.height, frame.camera.width, 3)
    obj_id = frame.instances[0].obj_id
    assert data.mesh(obj_id).diameter == pytest.approx(data.diameter(obj_id), rel=1e-3)
