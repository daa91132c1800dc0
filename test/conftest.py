from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from vpog_core.geometry.se3 import rotation_x, rotation_y, transform
from vpog_core.inference.calibration import Calibration
from vpog_core.models.config import VPOGConfig
from vpog_core.models.onnx_export import export_onnx
from vpog_core.models.refiner import RefinerNet
from vpog_core.models.refiner_config import RefinerConfig
from vpog_core.models.vpog_model import VPOGModel
from vpog_core.objects.mesh import Mesh, save_mesh
from vpog_core.objects.renderer import Renderer
from vpog_core.synthetic.objects import make_object


@pytest.fixture(scope="session")
def small_config() -> VPOGConfig:
    """Return a network small enough to run in milliseconds, for crops of 112 pixels."""
    return VPOGConfig(
        image_size=112, embed_dim=64, depth=1, num_heads=2, embed_from_stem=True, aa_depth=1, aa_heads=2,
        fine_dim=16, flow_hidden=32, flow_layers=2, retrieval_dim=8,
    )  # fmt: skip


@pytest.fixture(scope="session")
def refiner_config() -> RefinerConfig:
    """Return a refiner small enough to run in milliseconds, for crops of 32 pixels."""
    return RefinerConfig(
        image_size=32, stem_dim=8, fine_dim=16, coarse_dim=16, attention_layers=1, attention_heads=2,
        coarse_reach=2, fine_reach=1, fine_hidden=16,
    )  # fmt: skip


@pytest.fixture(scope="session")
def torch_networks(small_config, refiner_config) -> tuple[VPOGModel, RefinerNet]:
    """Return both networks with random weights."""
    torch.manual_seed(0)
    return VPOGModel(small_config).eval(), RefinerNet(refiner_config).eval()


@pytest.fixture(scope="session")
def onnx_folder(torch_networks, tmp_path_factory) -> Path:
    """Return both networks as ONNX files, which take a third of a minute to write."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    path = tmp_path_factory.mktemp("onnx")
    export_onnx(*torch_networks, path, {"network": "small"})
    return path


@pytest.fixture
def copied_onnx(onnx_folder, monkeypatch) -> list[Path]:
    """Let the engine copy those files where it would write networks; returns the folders it does so in."""
    made = []

    def copy(model, refiner, folder: Path, keys, **_) -> None:
        made.append(folder)
        shutil.copytree(onnx_folder, folder)

    monkeypatch.setattr("vpog_core.inference.onnx_engine.export_onnx", copy)
    return made


@pytest.fixture(scope="session")
def convinced() -> dict[str, str]:
    """Return metadata of weights by which every pose has a high score.

    An untrained network's poses do not: further views are tried for each, which takes most of the time.
    """
    own = Calibration()
    kinds = {name: replace(getattr(own, name), bias=30.0) for name in ("aligned", "refined", "tracked")}
    return replace(own, bias=30.0, **kinds).to_metadata()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real data: $VPOG_SHARED/data, else ../shared/data beside the repository."""
    root = Path(os.environ.get("VPOG_SHARED", Path(__file__).parents[2] / "shared"))
    if not (root / "data" / "real").is_dir():
        pytest.skip(f"needs the real data: there is no '{root / 'data' / 'real'}'")
    return root / "data"


class TinyBop:
    """Writes, and knows, three images of one scene with two objects, the second before the first.

    Attributes:
        meshes: by obj_id, metres; K: [3, 3]; poses: T_cam_obj by (image_id, obj_id).
        rgb, depth: by image_id; whole, visible: masks by (image_id, obj_id).
    """

    SCENE, IMAGES, SIZE = 7, (0, 3, 5), (150, 200)
    DEPTH_SCALE = 0.1

    def __init__(self) -> None:
        self.meshes = {1: make_object(900_005, vertices=3000), 4: make_object(900_006, vertices=3000)}
        self.K = np.array([[220.0, 0, 101.5], [0, 221.0, 73.25], [0, 0, 1]])
        self.poses: dict[tuple[int, int], np.ndarray] = {}
        self.rgb: dict[int, np.ndarray] = {}
        self.depth: dict[int, np.ndarray] = {}
        self.whole: dict[tuple[int, int], np.ndarray] = {}
        self.visible: dict[tuple[int, int], np.ndarray] = {}
        renderers = {i: Renderer(mesh) for i, mesh in self.meshes.items()}
        for n, image in enumerate(self.IMAGES):
            turned = rotation_y(0.15 * n) @ rotation_x(2.0)
            self.poses[image, 1] = transform(turned, [0.01 * n - 0.02, 0.0, 0.4])
            self.poses[image, 4] = transform(rotation_x(1.7 - 0.1 * n), [0.08, 0.02, 0.33])
            both = {i: renderers[i].render(self.poses[image, i], self.K, self.SIZE) for i in (1, 4)}
            front = both[4].mask & (~both[1].mask | (both[4].depth < both[1].depth))
            self.rgb[image] = np.where(front[..., None], both[4].rgb, both[1].rgb)
            self.rgb[image][~(both[1].mask | both[4].mask)] = (40, 90, 160)
            self.depth[image] = np.where(front, both[4].depth, both[1].depth)
            for i in (1, 4):
                self.whole[image, i] = both[i].mask
                self.visible[image, i] = both[i].mask & (front if i == 4 else ~front)

    def camera(self) -> dict:
        return {"cam_K": self.K.ravel().tolist(), "depth_scale": self.DEPTH_SCALE}

    def gt(self, image: int, megapose: bool = False) -> list[dict]:
        """Return entries of scene_gt.json; `megapose`: of models centred and scaled to 0.2 m."""
        entries = []
        for i in (1, 4):
            R, t = self.poses[image, i][:3, :3], self.poses[image, i][:3, 3]
            if megapose:
                t = (R @ self.meshes[i].center + t) * 0.2 / np.ptp(self.meshes[i].bounds, axis=0).max()
            entries.append(
                {
                    "obj_id": i,
                    "cam_R_m2c": R.ravel().tolist(),
                    "cam_t_m2c": (t * 1000).tolist(),
                    "quality": "rendered",
                }
            )
        return entries

    def info(self, image: int) -> list[dict]:
        """Return entries of scene_gt_info.json."""
        return [
            {
                "bbox_obj": bop_box(self.whole[image, i]),
                "bbox_visib": bop_box(self.visible[image, i]),
                "visib_fract": float(self.visible[image, i].sum() / self.whole[image, i].sum()),
            }
            for i in (1, 4)
        ]

    def stored_depth(self, image: int) -> np.ndarray:
        """Return [H, W] uint16, millimetres over `DEPTH_SCALE`."""
        return np.round(self.depth[image] * 1000 / self.DEPTH_SCALE).astype(np.uint16)

    def write_models(self, folder: Path) -> None:
        """Write obj_XXXXXX.ply in millimetres and models_info.json."""
        info = {}
        for i, mesh in self.meshes.items():
            big = Mesh(mesh.vertices * 1000, mesh.faces, vertex_colors=mesh.vertex_colors)
            save_mesh(big, folder / f"obj_{i:06d}.ply")
            info[str(i)] = {"diameter": mesh.diameter * 1000}
        half_turn = [-1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]
        info["4"]["symmetries_discrete"] = [half_turn]
        (folder / "models_info.json").write_text(json.dumps(info))

    def write(self, root: Path, images: str = "rgb", masks: bool = True, depth: bool = True) -> Path:
        """Write the whole dataset, split `test`; `images` is rgb or gray. Returns the scene's folder."""
        self.write_models(root / "models")
        scene = root / "test" / f"{self.SCENE:06d}"
        for image in self.IMAGES:
            bgr = self.rgb[image][..., ::-1]
            self._image(scene / images, f"{image:06d}", bgr if images == "rgb" else bgr.mean(axis=-1))
            if depth:
                self._image(scene / "depth", f"{image:06d}", self.stored_depth(image))
            for n, i in enumerate((1, 4) if masks else ()):
                for folder, of in (("mask", self.whole), ("mask_visib", self.visible)):
                    self._image(scene / folder, f"{image:06d}_{n:06d}", of[image, i] * 255)
        for name, of in (("scene_gt", self.gt), ("scene_gt_info", self.info)):
            (scene / f"{name}.json").write_text(json.dumps({str(i): of(i) for i in self.IMAGES}))
        cameras = {str(i): self.camera() for i in self.IMAGES}
        (scene / "scene_camera.json").write_text(json.dumps(cameras))
        return scene

    def write_shard(self, path: Path, images: Sequence[int] = IMAGES, megapose: bool = False) -> None:
        """Write images as one shard, as BOP publishes them (but PNG, to compare exactly)."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w") as tar:
            for image in images:
                visible = [self.visible[image, i] for i in (1, 4)]
                members = {
                    "camera.json": self.camera(),
                    "depth.png": self.stored_depth(image),
                    "gt.json": self.gt(image, megapose),
                    "gt_info.json": self.info(image),
                    "mask_visib.json": {str(n): run_lengths(mask) for n, mask in enumerate(visible)},
                    "rgb.png": np.ascontiguousarray(self.rgb[image][..., ::-1]),
                }
                for ext, content in members.items():
                    array = isinstance(content, np.ndarray)
                    data = (
                        cv2.imencode(".png", content)[1].tobytes() if array else json.dumps(content).encode()
                    )
                    member = tarfile.TarInfo(f"{self.SCENE:06d}_{image:06d}.{ext}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))

    @staticmethod
    def _image(folder: Path, name: str, image: np.ndarray) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        image = image if image.dtype == np.uint16 else image.astype(np.uint8)
        assert cv2.imwrite(str(folder / f"{name}.png"), image)


def bop_box(mask: np.ndarray) -> list[int]:
    """Return x, y, width, height of a mask, as BOP writes boxes."""
    rows, columns = np.nonzero(mask)
    x, y = columns.min(), rows.min()
    return [int(x), int(y), int(columns.max() - x + 1), int(rows.max() - y + 1)]


def run_lengths(mask: np.ndarray) -> dict:
    """Encode a mask [H, W] as COCO's uncompressed run lengths, which `decode_rle` reads."""
    flat = mask.T.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate(([0], edges, [flat.size]))).tolist()
    return {"size": list(mask.shape), "counts": [0, *counts] if flat[0] else counts}


@pytest.fixture(scope="session")
def encode_rle() -> Callable[[np.ndarray], dict]:
    """Return the function that encodes masks as run lengths."""
    return run_lengths


@pytest.fixture(scope="session")
def tiny_bop() -> TinyBop:
    return TinyBop()


@pytest.fixture(scope="session")
def bop_original(tiny_bop, tmp_path_factory) -> Path:
    """Return the tiny dataset with everything, on disk; not to be changed."""
    root = tmp_path_factory.mktemp("bop") / "tiny"
    tiny_bop.write(root)
    return root


@pytest.fixture
def bop_root(bop_original, tmp_path) -> Path:
    """Return a copy of the tiny dataset, times of its files included."""
    return shutil.copytree(bop_original, tmp_path / "tiny")


@pytest.fixture
def edited(bop_root) -> Callable[[str, Callable], None]:
    """Return edited(file, change), which rewrites a JSON file of the scene by a function of its content."""

    def edit(name: str, change: Callable) -> None:
        path = bop_root / "test" / f"{TinyBop.SCENE:06d}" / name
        content = json.loads(path.read_text())
        path.write_text(json.dumps(change(content) or content))

    return edit
