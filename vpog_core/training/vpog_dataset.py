"""Training groups: a few queries of one object, the templates around them, and cameras for the labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from torch.utils.data import Dataset

from vpog_core.geometry.camera import roll_matrix
from vpog_core.geometry.se3 import rotation_z, transform
from vpog_core.objects.mesh import Mesh, load_mesh
from vpog_core.objects.renderer import Renderer
from vpog_core.objects.template_set import template_camera
from vpog_core.objects.viewpoints import align_roll, viewpoint_directions
from vpog_core.synthetic.objects import make_object
from vpog_core.training.augmentation import degrade, random_lights
from vpog_core.training.query_composer import Sprite, compose
from vpog_core.training.template_bank import BankedTemplates, bank_templates
from vpog_core.training.template_selector import TemplateSelector

RENDER_MARGIN = 1.35
"""Resolution of query renders over that of the crop, so that the warp into the crop stays sharp."""


@dataclass
class TrainingObject:
    """A mesh, what renders it, and its banked templates."""

    name: str
    mesh: Mesh
    renderer: Renderer
    templates: BankedTemplates


def load_object(source: str, bank: Path, size: int, photos: Sequence[np.ndarray] = ()) -> TrainingObject:
    """An object by source: the path of a mesh file, or `seed:N` for a procedural one."""
    if source.startswith("seed:"):
        seed = int(source[5:])
        name = f"seed_{seed:06d}"
        photo = photos[seed % len(photos)] if photos and seed % 3 == 0 else None
        mesh = _cached_mesh(bank / name, lambda: make_object(seed, photo=photo))
    else:
        name = Path(source).stem
        mesh = load_mesh(source)
    return TrainingObject(name, mesh, Renderer(mesh), bank_templates(mesh, bank / name / str(size), size))


def _cached_mesh(folder: Path, make) -> Mesh:
    file = folder / "mesh.npz"
    if file.is_file():
        with np.load(file) as data:
            return Mesh(**{key: data[key] for key in data.files})
    mesh = make()
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(file, vertices=mesh.vertices, faces=mesh.faces, vertex_colors=mesh.vertex_colors)
    return mesh


class Stage:
    """Backgrounds and sprites: photographs where there are some, other objects' templates.

    Args:
        photos: [h, w, 3] uint8 pictures; objects: whose templates serve as clutter and occluders.
    """

    def __init__(self, photos: Sequence[np.ndarray], objects: Sequence[TrainingObject]) -> None:
        self.photos, self.objects = photos, objects

    def background(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """[size, size, 3] uint8: part of a photograph, or a plain or cloudy surface."""
        if self.photos and rng.random() < 0.75:
            photo = self.photos[rng.integers(len(self.photos))]
            side = int(min(photo.shape[:2]) * rng.uniform(0.3, 1.0))
            y, x = (rng.integers(0, n - side + 1) for n in photo.shape[:2])
            return cv2.resize(photo[y : y + side, x : x + side], (size, size), interpolation=cv2.INTER_AREA)
        color = rng.uniform(0, 255, 3)
        cells = int(rng.integers(2, 12))
        noise = rng.normal(0, rng.uniform(0, 40), (cells, cells, 1)) + rng.normal(0, 8, (cells, cells, 3))
        cloud = cv2.resize(noise.astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
        return (color + cloud).clip(0, 255).astype(np.uint8)

    def sprite(self, rng: np.random.Generator) -> Sprite:
        """A template of some object."""
        templates = self.objects[rng.integers(len(self.objects))].templates
        view = rng.integers(len(templates.rgb))
        return Sprite(np.asarray(templates.rgb[view]), (templates.depth[view] > 0).astype(np.uint8) * 255)


@dataclass(frozen=True)
class QueryPose:
    """Where a group's queries are seen from.

    Attributes:
        anchor: [3] unit direction they lie around; distance: in diameters; None: each query draws its own.
    """

    anchor: np.ndarray
    distance: float | None

    @classmethod
    def draw(cls, rng: np.random.Generator, anchor: np.ndarray, refined: bool) -> QueryPose:
        """Around an anchor; in a refined group all queries lie close to it, at one distance."""
        return cls(anchor, _distance(rng) if refined else None)

    @property
    def refined(self) -> bool:
        """Whether the reference is rendered at nearly this pose."""
        return self.distance is not None

    def near(self, rng: np.random.Generator) -> tuple[np.ndarray, float, float]:
        """A query's direction [3], distance (diameters), and in-plane turn (radians) against the reference."""
        if self.refined:
            return _unit(self.anchor + rng.normal(0, 0.05, 3)), self.distance, rng.normal(0, 0.06)
        turn = rng.uniform(-0.26, 0.26) + rng.normal(0, 0.06)
        return _unit(self.anchor + rng.normal(0, 0.14, 3)), _distance(rng), turn


class VPOGTrainDataset(Dataset):
    """Item i is a group of G queries of one object, drawn by (seed, i): the same on every run.

    Args:
        objects: what is drawn from; stage: backgrounds and clutter.
        size: side of crops and templates, pixels; seed: of everything random.
        queries: G; cluster: S templates for matching; negatives: further templates for retrieval.
        refined_share: of the groups take as reference a render of nearly the queries' pose, as refinement does.
        length: items.
    """

    def __init__(
        self,
        objects: Sequence[TrainingObject],
        stage: Stage,
        size: int,
        seed: int = 0,
        queries: int = 4,
        cluster: int = 4,
        negatives: int = 8,
        refined_share: float = 0.3,
        length: int = 10_000_000,
    ) -> None:
        self.objects, self.stage, self.size, self.seed = objects, stage, size, seed
        self.queries, self.cluster, self.negatives, self.length = queries, cluster, negatives, length
        self.refined_share = refined_share

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """Arrays of one group; G queries, T = cluster + negatives templates, S = cluster.

        query_rgb [G, P, P, 3] uint8, query_depth [G, P, P], query_K [G, 3, 3], query_T [G, 4, 4],
        template_rgb [T, P, P, 3] uint8, template_depth [S, P, P], template_K [S, 3, 3],
        template_T [T, 4, 4], directions [S, 3] (in the reference view's frame), diameter [].
        """
        rng = np.random.default_rng([self.seed, index])
        obj = self.objects[rng.integers(len(self.objects))]
        anchor = _unit(rng.normal(size=3))
        banked = obj.templates
        rotations = banked.T_virt_obj[:, :3, :3]
        pose = QueryPose.draw(rng, anchor, refined=rng.random() < self.refined_share)
        selector = TemplateSelector(rotations, self.cluster, self.negatives)
        selection = selector.draw(rng, anchor, exact=pose.refined)
        templates = self._templates(banked, selection)
        if pose.refined:
            self._render_reference(rng, obj, pose, templates)
        R_ref = templates["template_T"][0, :3, :3]
        queries = [self._query(rng, obj, pose, R_ref) for _ in range(self.queries)]
        group = {key: np.stack([q[key] for q in queries]) for key in queries[0]}
        directions = viewpoint_directions()[selection.views[: self.cluster]]
        directions[0] = pose.anchor if pose.refined else directions[0]
        group["directions"] = directions @ R_ref.T
        group["diameter"] = np.array(banked.diameter)
        group = {**group, **templates}
        return {k: v if v.dtype == np.uint8 else v.astype(np.float32) for k, v in group.items()}

    def _templates(self, banked: BankedTemplates, selection) -> dict[str, np.ndarray]:
        out = {"template_rgb": [], "template_depth": [], "template_K": [], "template_T": []}
        for n, (view, roll) in enumerate(zip(selection.views, selection.rolls, strict=True)):
            turn = roll_matrix(roll, self.size)
            size = (self.size, self.size)
            out["template_rgb"].append(cv2.warpAffine(np.asarray(banked.rgb[view]), turn, size))
            out["template_T"].append(transform(rotation_z(roll), np.zeros(3)) @ banked.T_virt_obj[view])
            if n < selection.cluster:
                depth = np.asarray(banked.depth[view], dtype=np.float32)
                out["template_depth"].append(cv2.warpAffine(depth, turn, size, flags=cv2.INTER_NEAREST))
                out["template_K"].append(banked.K[view])
        return {key: np.stack(values) for key, values in out.items()}

    def _render_reference(
        self, rng: np.random.Generator, obj: TrainingObject, pose: QueryPose, templates: dict[str, np.ndarray]
    ) -> None:
        """Put a render from the anchor, at nearly the queries' distance, in the first template's place."""
        distance = pose.distance * np.exp(rng.normal(0, 0.06))
        upright = template_camera(obj.mesh, pose.anchor, self.size, distance=distance)[1]
        roll = align_roll(upright[:3, :3], templates["template_T"][0, :3, :3])
        K, T = template_camera(obj.mesh, pose.anchor, self.size, roll=roll, distance=distance)
        render = obj.renderer.render(T, K, (self.size, self.size))
        values = {"rgb": render.rgb, "depth": render.depth, "K": K, "T": T}
        for key, value in values.items():
            templates[f"template_{key}"][0] = value

    def _query(
        self, rng: np.random.Generator, obj: TrainingObject, pose: QueryPose, R_ref: np.ndarray
    ) -> dict[str, np.ndarray]:
        side = round(self.size * RENDER_MARGIN)
        direction, distance, turn = pose.near(rng)
        K, T = template_camera(obj.mesh, direction, side, distance=distance)
        render = obj.renderer.render(T, K, (side, side), lights=random_lights(rng))
        roll = align_roll(T[:3, :3], R_ref) + turn
        query = compose(rng, render, K, roll, self.size, self.stage)
        return {
            "query_rgb": degrade(rng, query.rgb),
            "query_depth": query.depth,
            "query_K": query.K,
            "query_T": transform(query.R_crop_render, np.zeros(3)) @ T,
        }


def _distance(rng: np.random.Generator) -> float:
    """Of a camera from the object, in diameters."""
    return float(np.exp(rng.uniform(np.log(2.5), np.log(9.0))))


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.linalg.norm(v)
