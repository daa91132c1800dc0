from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from vpog_core.geometry.projection import project
from vpog_core.geometry.se3 import rotation_x, rotation_y, transform, transform_points
from vpog_core.inference.crop import Crop, crop_detection
from vpog_core.inference.estimator import PoseEstimator
from vpog_core.inference.onboarding import OnboardedObject, describe_templates
from vpog_core.models.checkpoint import save_weights
from vpog_core.models.config import VPOGConfig
from vpog_core.models.vpog_model import VPOGModel
from vpog_core.objects.mesh import Mesh, save_mesh
from vpog_core.objects.renderer import Renderer
from vpog_core.objects.template_set import TemplateSet, build_template_set
from vpog_core.synthetic.objects import make_object
from vpog_core.types import Camera, Detection

from .asking import CAMERA

SIZES = {
    "depth": 1, "embed_dim": 64, "num_heads": 2, "embed_from_stem": True, "aa_depth": 1, "aa_heads": 2,
    "fine_dim": 16, "flow_hidden": 32, "flow_layers": 2, "retrieval_dim": 8,
}  # fmt: skip


@dataclass
class Scene:
    """Holds an object before a camera, and its true pose."""

    mesh: Mesh
    renderer: Renderer
    camera: Camera
    T_cam_obj: np.ndarray

    @property
    def box(self) -> np.ndarray:
        """Return the box [4] of the whole object, pixels."""
        pixels = project(self.camera, transform_points(self.T_cam_obj, self.mesh.hull_points))
        return np.concatenate([pixels.min(axis=0), pixels.max(axis=0)])

    def detection(self, class_id: str = "thing", **more) -> Detection:
        return Detection(class_id, self.box, **more)

    def image(self) -> np.ndarray:
        """Return what a pinhole camera sees."""
        size = (self.camera.height, self.camera.width)
        return self.renderer.render(self.T_cam_obj, self.camera.K, size, background=(90, 100, 80)).rgb


@pytest.fixture(scope="session")
def mesh() -> Mesh:
    return make_object(900_001, vertices=4000)


@pytest.fixture(scope="session")
def untrained() -> VPOGModel:
    """Return a small network for crops of 112 pixels, as it is before training."""
    torch.manual_seed(0)
    return VPOGModel(VPOGConfig(image_size=112, **SIZES)).eval().requires_grad_(False)


@pytest.fixture(scope="session")
def templates(mesh) -> TemplateSet:
    return build_template_set(mesh, "thing", 112)


@pytest.fixture(scope="session")
def undescribed(templates, untrained) -> OnboardedObject:
    """Return templates without descriptors, for what does not retrieve."""
    return OnboardedObject(templates, untrained, torch.zeros(162 * 12, 1))


@pytest.fixture(scope="session")
def small_model() -> VPOGModel:
    """Return a network for crops of 48 pixels: onboarding in a second or two."""
    torch.manual_seed(0)
    return VPOGModel(VPOGConfig(image_size=48, window=3, **SIZES)).eval().requires_grad_(False)


@pytest.fixture(scope="session")
def described(mesh, small_model) -> OnboardedObject:
    """Return an object onboarded for the small network."""
    templates = build_template_set(mesh, "thing", 48)
    return OnboardedObject(templates, small_model, describe_templates(small_model, templates))


@pytest.fixture(scope="session")
def crop_of(mesh):
    """Return a function that makes the crop of an onboarded object in front of a plain wall."""

    def made(target: OnboardedObject) -> Crop:
        camera = Camera(np.array([[300.0, 0, 160], [0, 300, 120], [0, 0, 1]]), 320, 240)
        T = transform(rotation_x(1.9), np.array([0.02, 0.01, 0.5]) - rotation_x(1.9) @ mesh.center)
        scene = Scene(mesh, Renderer(mesh), camera, T)
        return crop_detection(scene.image(), camera, scene.detection(), target.templates.size)

    return made


@pytest.fixture(scope="session")
def workshop(tmp_path_factory, mesh, small_model) -> dict[str, Path]:
    """Return weights, a folder of one mesh with an alias, and a cache."""
    root = tmp_path_factory.mktemp("workshop")
    (root / "objects").mkdir()
    save_mesh(mesh, root / "objects" / "thing.ply")
    (root / "objects" / "objects.yaml").write_text("objects:\n  thing: {aliases: [gadget]}\n")
    save_weights(small_model, root / "net.safetensors")
    return {"weights": root / "net.safetensors", "objects": root / "objects", "cache_dir": root / "cache"}


@pytest.fixture(scope="module")
def estimator(workshop) -> PoseEstimator:
    made = PoseEstimator(**workshop, device="cpu")
    made.onboard()
    return made


@pytest.fixture(scope="module")
def picture(mesh):
    """Return an image with three objects, and their boxes."""
    renderer, image, boxes = Renderer(mesh), np.full((480, 640, 3), 90, np.uint8), []
    for i, x in enumerate((-0.18, 0.0, 0.18)):
        T = transform(rotation_x(2.0 + i) @ rotation_y(0.7 * i), [x, 0.03 * i, 0.6])
        render = renderer.render(T, CAMERA.K, (480, 640))
        image[render.mask] = render.rgb[render.mask]
        row, column = np.nonzero(render.mask)
        boxes.append(np.array([column.min(), row.min(), column.max(), row.max()], dtype=float))
    return image, boxes
