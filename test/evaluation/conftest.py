"""Make a small dataset in BOP's layout and pose estimates for it, both by seed."""

import json

import cv2
import numpy as np
import pytest
import trimesh

from vpog_core.evaluation.errors import Estimate
from vpog_core.geometry.se3 import random_rotation, rotation_from_vector, transform
from vpog_core.objects.mesh import Mesh
from vpog_core.objects.renderer import Renderer

K = np.array([[300.0, 0, 79.5], [0, 300.0, 59.5], [0, 0, 1]])
SIZE = (120, 160)
HALF_TURN = np.diag([-1.0, -1.0, 1.0, 1.0])


def _shapes() -> dict[int, Mesh]:
    """Return a brick that looks alike after half a turn, a can, and an L without symmetry; metres."""
    foot = trimesh.creation.box((0.1, 0.03, 0.03))
    leg = trimesh.creation.box((0.03, 0.03, 0.08))
    leg.apply_translation([0.035, 0, 0.055])
    made = {
        1: trimesh.creation.box((0.1, 0.06, 0.04)),
        2: trimesh.creation.cylinder(radius=0.04, height=0.1, sections=48),
        4: trimesh.util.concatenate([foot, leg]),
    }
    return {i: Mesh(m.vertices, m.faces) for i, m in made.items()}


def _write_models(folder, meshes) -> None:
    folder.mkdir(parents=True)
    info = {}
    for i, mesh in meshes.items():
        out = trimesh.Trimesh(mesh.vertices * 1000, mesh.faces, process=False)
        (folder / f"obj_{i:06d}.ply").write_bytes(out.export(file_type="ply"))
        info[i] = {"diameter": mesh.diameter * 1000}
    info[1]["symmetries_discrete"] = [HALF_TURN.ravel().tolist()]
    info[2]["symmetries_continuous"] = [{"axis": [0, 0, 1], "offset": [0, 0, 0]}]
    (folder / "models_info.json").write_text(json.dumps(info))


def _write_image(folder, image_id, instances, renderers, rng, with_depth) -> None:
    depth = np.full(SIZE, 0.9)
    for obj_id, T in instances:
        seen = renderers[obj_id].render(T, K, SIZE).depth
        depth = np.where((seen > 0) & (seen < depth), seen, depth)
    depth = depth + rng.normal(size=SIZE) * 0.003
    depth[rng.random(SIZE) < 0.05] = 0
    image = rng.integers(0, 255, (*SIZE, 3), dtype=np.uint8)
    cv2.imwrite(str(folder / "rgb" / f"{image_id:06d}.png"), image)
    if with_depth:
        tenths = np.round(depth * 1e4).astype(np.uint16)
        cv2.imwrite(str(folder / "depth" / f"{image_id:06d}.png"), tenths)


def write_dataset(root, with_depth: bool = True, scenes: int = 2, images: int = 3):
    """Write a dataset of three objects, some of them twice in an image; returns its true poses by frame."""
    rng = np.random.default_rng(11)
    meshes = _shapes()
    renderers = {i: Renderer(mesh) for i, mesh in meshes.items()}
    _write_models(root / "models", meshes)
    targets, truths = [], {}
    for scene in range(1, scenes + 1):
        folder = root / "test" / f"{scene:06d}"
        (folder / "rgb").mkdir(parents=True)
        (folder / "depth").mkdir()
        gt, info, cameras = {}, {}, {}
        for image in range(images):
            ids = [1, 2, 4, *rng.choice([1, 2, 4], 2).tolist()]
            poses = [
                transform(random_rotation(rng), [rng.uniform(-0.1, 0.1), rng.uniform(-0.08, 0.08), 0.6])
                for _ in ids
            ]
            instances = list(zip(ids, poses, strict=True))
            truths[scene, image] = instances
            _write_image(folder, image, instances, renderers, rng, with_depth)
            gt[image] = [
                {"obj_id": i, "cam_R_m2c": T[:3, :3].ravel().tolist(), "cam_t_m2c": (T[:3, 3] * 1e3).tolist()}
                for i, T in instances
            ]
            info[image] = [
                {"visib_fract": round(float(rng.uniform(0.1, 1)), 3), "bbox_visib": [40, 30, 50, 40]}
                for _ in ids
            ]
            cameras[image] = {"cam_K": K.ravel().tolist(), "depth_scale": 0.1}
            for obj_id in (1, 2, 4):
                count = int(rng.integers(1, ids.count(obj_id) + 1))
                targets.append({"scene_id": scene, "im_id": image, "obj_id": obj_id, "inst_count": count})
        for name, values in (("gt", gt), ("gt_info", info), ("camera", cameras)):
            (folder / f"scene_{name}.json").write_text(json.dumps(values))
    (root / "test_targets_bop19.json").write_text(json.dumps(targets))
    return truths


def looks_alike(obj_id: int, rng) -> np.ndarray:
    """Draw one of the symmetries of an object."""
    if obj_id == 1:
        return HALF_TURN if rng.random() < 0.5 else np.eye(4)
    angle = rng.uniform(0, 2 * np.pi) if obj_id == 2 else 0.0
    return transform(rotation_from_vector(np.array([0, 0, angle])), np.zeros(3))


def perturbed(truths) -> dict:
    """Make estimates by frame: near and far from the truth, some missing, some twice, some of equal scores.

    Those of symmetric objects are near any of the poses that look alike.
    """
    rng = np.random.default_rng(12)
    estimates = {}
    for key, instances in truths.items():
        estimates[key] = []
        for obj_id, T in instances:
            for _ in range(int(rng.choice([0, 1, 1, 2]))):
                much = rng.choice([0.1, 0.4, 1.5, 8.0])
                turn = rotation_from_vector(rng.normal(size=3) * 0.06 * much)
                shift = rng.normal(size=3) * np.array([0.003, 0.003, 0.01]) * much
                moved = T @ transform(turn, np.zeros(3)) @ looks_alike(obj_id, rng)
                moved[:3, 3] += shift
                estimates[key].append(Estimate(obj_id, moved, round(float(rng.random()), 1), 0.25))
    return estimates


@pytest.fixture(scope="session")
def bop_case(tmp_path_factory):
    """Return (dataset's folder, estimates by frame)."""
    root = tmp_path_factory.mktemp("bop") / "made"
    truths = write_dataset(root)
    return root, perturbed(truths)
