"""Test which layouts of BOP's format are read; others are refused by their name."""

from __future__ import annotations

import json
import shutil

import cv2
import numpy as np
import pytest

from vpog_core.bop.dataset import BopDataset
from vpog_core.objects.mesh import Mesh, save_mesh
from vpog_core.types import VPOGError

SENSOR_FILES = ("scene_camera", "scene_gt", "scene_gt_info")
FOLDERS = ("rgb", "depth", "mask", "mask_visib")


def scene_of(root):
    return root / "test" / "000007"


def to_sensor(root, sensor: str) -> None:
    """Rename a scene's files and folders as those of one of several sensors."""
    for name in SENSOR_FILES:
        (scene_of(root) / f"{name}.json").rename(scene_of(root) / f"{name}_{sensor}.json")
    for name in FOLDERS:
        (scene_of(root) / name).rename(scene_of(root) / f"{name}_{sensor}")


def test_the_images_of_a_sensor(bop_root, tiny_bop):
    """Scenes of IPD, XYZ-IBD and ITODD-MV hold scene_camera_photoneo.json, rgb_photoneo/ and so on."""
    to_sensor(bop_root, "photoneo")
    data = BopDataset(bop_root)  # the only one need not be named
    frame = data.frame(7, 5)
    assert np.array_equal(frame.image(), tiny_bop.rgb[5])
    np.testing.assert_allclose(frame.depth(), tiny_bop.depth[5], atol=0.0501e-3)
    assert np.array_equal(frame.instances[0].mask_visible(), tiny_bop.visible[5, 1])
    assert frame.instances[1].box_visible is not None
    assert data.section_files(7)[0].name == "scene_camera_photoneo.json"
    again = data.files(7, 5, 0.1, np.zeros(0))
    assert np.array_equal(again.image(), tiny_bop.rgb[5])


def test_of_several_sensors_one_is_chosen(bop_root, tiny_bop):
    """HOT3D keeps the images of the sensor gray1 in gray1/, without the prefix rgb."""
    to_sensor(bop_root, "photoneo")
    scene = scene_of(bop_root)
    for name in SENSOR_FILES:
        shutil.copy(scene / f"{name}_photoneo.json", scene / f"{name}_gray1.json")
    shutil.copytree(scene / "rgb_photoneo", scene / "gray1")
    with pytest.raises(VPOGError, match=r"several sensors \(gray1, photoneo\): choose one with --sensor"):
        BopDataset(bop_root)
    with pytest.raises(VPOGError, match=r"no sensor 'cam1' .*gray1, photoneo"):
        BopDataset(bop_root, sensor="cam1")
    assert np.array_equal(BopDataset(bop_root, sensor="gray1").frame(7, 3).image(), tiny_bop.rgb[3])


def test_numbers_of_any_digits(bop_root, tiny_bop):
    scene = scene_of(bop_root)
    for folder, digits in (("rgb", 4), ("mask_visib", 3)):
        for path in list((scene / folder).iterdir()):
            parts = [f"{int(part):0{digits}d}" for part in path.stem.split("_")]
            path.rename(path.with_name("_".join(parts) + ".PNG"))
    scene.rename(scene.with_name("7"))
    data = BopDataset(bop_root)
    assert data.scene_ids == [7]
    frame = data.frame(7, 3)
    assert np.array_equal(frame.image(), tiny_bop.rgb[3])
    assert np.array_equal(frame.instances[1].mask_visible(), tiny_bop.visible[3, 4])
    assert frame.instances[1].mask() is not None
    shutil.copytree(scene.with_name("7"), scene)
    with pytest.raises(VPOGError, match="have the same number"):
        BopDataset(bop_root)


def test_gray_tif_images_and_depth(bop_root, tiny_bop):
    """ITODD keeps grey images and depth as .tif."""
    scene = scene_of(bop_root)
    (scene / "gray").mkdir()
    for image in tiny_bop.IMAGES:
        gray = tiny_bop.rgb[image].mean(axis=-1).astype(np.uint8)
        cv2.imwrite(str(scene / "gray" / f"{image:06d}.tif"), gray)
        cv2.imwrite(str(scene / "depth" / f"{image:06d}.tif"), tiny_bop.stored_depth(image))
        (scene / "depth" / f"{image:06d}.png").unlink()
    shutil.rmtree(scene / "rgb")
    frame = BopDataset(bop_root).frame(7, 0)
    assert frame.camera.width == 200
    assert np.array_equal(frame.image()[..., 1], tiny_bop.rgb[0].mean(axis=-1).astype(np.uint8))
    np.testing.assert_allclose(frame.depth(), tiny_bop.depth[0], atol=0.0501e-3)


@pytest.mark.parametrize(
    ("folders", "used"),
    [
        (["models_cad", "models_eval", "models_reconst"], "models_cad"),
        (["models_eval", "models_fine"], "models_fine"),
        (["models_eval"], "models_eval"),
    ],
)
def test_folders_of_models(bop_root, folders, used):
    for name in folders:
        shutil.copytree(bop_root / "models", bop_root / name)
    shutil.rmtree(bop_root / "models")
    assert BopDataset(bop_root).models.folder.name == used


def test_models_and_poses_in_metres_are_recognised(bop_root, tiny_bop, edited):
    folder = bop_root / "models"
    info = json.loads((folder / "models_info.json").read_text())
    info["4"]["symmetries_discrete"] = [[-1, 0, 0, 0.02, 0, -1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]]
    for i, mesh in tiny_bop.meshes.items():
        save_mesh(Mesh(mesh.vertices, mesh.faces), folder / f"obj_{i:06d}.ply")
        info[str(i)]["diameter"] *= 0.001
    (folder / "models_info.json").write_text(json.dumps(info))
    assert BopDataset(bop_root).models.unit == "m"

    def to_metres(gt):
        for entries in gt.values():
            for entry in entries:
                entry["cam_t_m2c"] = [0.001 * v for v in entry["cam_t_m2c"]]

    edited("scene_gt.json", to_metres)
    data = BopDataset(bop_root)
    assert not data.in_millimetres(7)
    assert data.diameter(4) == pytest.approx(tiny_bop.meshes[4].diameter)
    assert data.mesh(4).diameter == pytest.approx(tiny_bop.meshes[4].diameter, rel=1e-5)
    assert data.symmetry(4).discrete[1][0, 3] == pytest.approx(0.02)
    np.testing.assert_allclose(data.frame(7, 3).instances[1].T_cam_obj, tiny_bop.poses[3, 4], atol=1e-9)


@pytest.mark.parametrize("diameter", [0.12, 1.2e5, -3, "wide"])
def test_a_diameter_that_is_not_the_meshs_is_named(bop_root, diameter):
    path = bop_root / "models" / "models_info.json"
    info = json.loads(path.read_text())
    info["1"]["diameter"] = diameter
    path.write_text(json.dumps(info))
    with pytest.raises(VPOGError, match=r"models_info\.json .* the model 1"):
        BopDataset(bop_root).diameter(4)


def empty(root):
    shutil.rmtree(root / "test")
    return root / "test"


def shards(root):
    empty(root).mkdir()
    (root / "test" / "shard-000000.tar").touch()


def image_wise(root):
    empty(root).mkdir()
    (root / "test" / "000007_000000.camera.json").write_text("{}")


def onboarding(root):
    scene_of(root).rename(root / "test" / "obj_000001_up")


def sixd(root):
    for name in ("scene_camera.json", "scene_gt.json"):
        (scene_of(root) / name).unlink()
    (scene_of(root) / "info.yml").touch()


def without_camera(root):
    (scene_of(root) / "scene_camera.json").rename(root / "camera.json")


def test_a_folder_above_or_below_the_dataset_is_named(bop_root):
    for inner in ("test", "test/000007"):
        with pytest.raises(
            VPOGError, match=rf"not the dataset's folder: give '{bop_root}' and the split test"
        ):
            BopDataset(bop_root / inner)
    with pytest.raises(VPOGError, match=rf"but '{bop_root}' is a dataset"):
        BopDataset(bop_root.parent)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (shards, r"holds shards \(BOP-webdataset\)"),
        (image_wise, r"a file for each image \(BOP-imagewise\)"),
        (onboarding, r"onboarding images \(obj_\.\.\.\)"),
        (sixd, r"in SIXD's layout"),
        (without_camera, r"000007' has no scene_camera\.json .*cam_K of each image"),
    ],
)
def test_other_layouts_are_named(bop_root, change, sentence):
    change(bop_root)
    with pytest.raises(VPOGError, match=sentence):
        BopDataset(bop_root)


def test_a_lens_that_is_not_read_is_named(bop_root, edited):
    """HOT3D's images are fisheye's, with `cam_model` in place of `cam_K`."""

    def fisheye(cameras):
        cameras["3"]["cam_model"] = {"projection_model_type": "CameraModelType.FISHEYE624"}
        del cameras["3"]["cam_K"]

    edited("scene_camera.json", fisheye)
    with pytest.raises(VPOGError, match=r"image 3 .*`cam_model`.*undistort"):
        BopDataset(bop_root).frame(7, 3)
