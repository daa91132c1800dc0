"""Make training samples: queries of one object, the templates around them, and cameras for the labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch.utils.data import Dataset

from vpog_core.objects.template_set import template_camera
from vpog_core.objects.viewpoints import align_roll, upright_rotation, viewpoint_directions
from vpog_core.synthetic.photometry import degrade
from vpog_core.training.data.batch import Batch
from vpog_core.training.data.bop_queries import AnnotatedQueries
from vpog_core.training.synthesis.appearance import (
    OWN_COLOURS,
    AppearanceParams,
    appearance_generator,
    sample_appearance,
)
from vpog_core.training.synthesis.query_pose import QueryMaker, QueryPose
from vpog_core.training.synthesis.rendered_queries import RenderedQueries
from vpog_core.training.synthesis.scene_assets import SceneAssets
from vpog_core.training.synthesis.template_selector import TemplateSelector
from vpog_core.training.synthesis.template_views import render_templates
from vpog_core.training.synthesis.training_object import TrainingObject


class VPOGTrainDataset(Dataset):
    """Provides samples of Q queries of one object; item i is drawn by (seed, i): the same on every run.

    Queries are rendered, or cut out of the images an object is annotated in (`TrainingObject.views`).

    Args:
        objects: what is drawn from; assets: backgrounds, clutter and light.
        size: side of crops and templates, pixels; seed: of everything random.
        queries: Q; cluster: S templates for matching; negatives: further templates for retrieval, of which
            Q, or all, are the right ones of the queries.
        refined_fraction: of the samples whose reference is rendered at nearly the queries' pose, as in
            refinement.
        length: items.
        weights: of each kind of object, relative; None: every object has the same probability.
        photometry: apply lens, sensor and file effects here; else the trainer does.
        appearances: how often objects have which appearance.
    """

    batch_type = Batch

    def __init__(
        self,
        objects: Sequence[TrainingObject],
        assets: SceneAssets,
        size: int,
        seed: int = 0,
        queries: int = 4,
        cluster: int = 4,
        negatives: int = 24,
        refined_fraction: float = 0.3,
        length: int = 10_000_000,
        weights: Mapping[str, float] | None = None,
        photometry: bool = True,
        appearances: AppearanceParams = OWN_COLOURS,
    ) -> None:
        self.objects, self.assets, self.size, self.seed = objects, assets, size, seed
        self.queries, self.cluster, self.negatives, self.length = queries, cluster, negatives, length
        self.refined_fraction, self.photometry, self.appearances = refined_fraction, photometry, appearances
        self._rendered, self._annotated = RenderedQueries(assets, size), AnnotatedQueries(size)
        # Cameras of templates look at boxes and differ from these by about a degree: too little to matter.
        upright = np.stack([upright_rotation(d) for d in viewpoint_directions()])
        self._right = min(queries, negatives)
        self._selector = TemplateSelector(upright, cluster, negatives - self._right)
        self._probabilities = (
            object_probabilities([obj.kind for obj in objects], weights) if weights else None
        )

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """Return the arrays of one sample; Q queries, T = cluster + negatives templates, S = cluster.

        query_rgb [Q, P, P, 3] uint8, query_depth [Q, P, P], query_K [Q, 3, 3], query_T [Q, 4, 4],
        query_outside [Q, P, P] bool (beyond the border of the camera's image),
        template_rgb [T, P, P, 3] uint8, template_depth [S, P, P], template_K [S, 3, 3],
        template_T [T, 4, 4], directions [S, 3] (in the reference view's frame), diameter [],
        distance [Q, T] (radians between query and template; infinite where the template is no candidate of
        retrieval, such as a reference rendered at the queries' pose).

        Of the poses of a symmetric object that look alike, query_T is the one nearest to the reference, and
        distance that to the nearest one.
        """
        # Draw the object, its appearance and where it is seen from.
        rng = np.random.default_rng([self.seed, index])
        obj = sample_appearance(
            appearance_generator(self.seed, index), self._object(rng), self.appearances, self.assets.photos
        )
        maker: QueryMaker = self._annotated if obj.views is not None else self._rendered
        pose = maker.pose(rng, obj, refined=rng.random() < self.refined_fraction)
        # Render the templates around that view.
        selection = self._selector.draw(rng, pose.anchor, exact=pose.refined)
        templates = render_templates(obj.renderer, selection, self.size)
        if pose.refined:
            self._render_reference(rng, obj, pose, templates)
        T_ref = templates["template_T"][0]
        R_ref = T_ref[:3, :3]
        # Make the queries, and degrade them as a camera would.
        queries = maker.queries(rng, obj, pose, R_ref, self.queries)
        if self.photometry:
            for query in queries:
                query["query_rgb"] = degrade_inside(rng, query["query_rgb"], query["query_outside"])
        # Choose the equivalent poses nearest to the reference; collect the labels' inputs.
        sample = {key: np.stack([q[key] for q in queries]) for key in queries[0]}
        sample["query_T"] = np.stack([obj.symmetry.nearest(T, T_ref) for T in sample["query_T"]])
        # Retrieval finds the right view of each query among the candidates.
        right = self._selector.nearest_to(rng, sample["query_T"][: self._right, :3, :3])
        for key, values in render_templates(obj.renderer, right, self.size).items() if self._right else ():
            templates[key] = np.concatenate([templates[key], values])
        rotations = sample["query_T"][:, :3, :3], templates["template_T"][:, :3, :3]
        sample["distance"] = obj.symmetry.least_angles(*rotations)
        if pose.refined:
            sample["distance"][:, 0] = np.inf
        directions = viewpoint_directions()[selection.views[: self.cluster]]
        directions[0] = pose.anchor if pose.refined else directions[0]
        sample["directions"] = directions @ R_ref.T
        sample["diameter"] = np.array(obj.mesh.diameter)
        sample = {**sample, **templates}
        return {k: v if v.dtype in (np.uint8, bool) else v.astype(np.float32) for k, v in sample.items()}

    def _object(self, rng: np.random.Generator) -> TrainingObject:
        if self._probabilities is None:
            return self.objects[rng.integers(len(self.objects))]
        return self.objects[rng.choice(len(self.objects), p=self._probabilities)]

    def _render_reference(
        self, rng: np.random.Generator, obj: TrainingObject, pose: QueryPose, templates: dict[str, np.ndarray]
    ) -> None:
        """Replace the first template by a render from the anchor, at nearly the queries' distance."""
        direction, distance = pose.anchor, pose.distance * np.exp(rng.normal(0, 0.06))
        upright = template_camera(obj.mesh, direction, self.size, distance=distance)[1]
        roll = align_roll(upright[:3, :3], templates["template_T"][0, :3, :3])
        K, T = template_camera(obj.mesh, direction, self.size, roll=roll, distance=distance)
        render = obj.renderer.render(T, K, (self.size, self.size))
        values = {"rgb": render.rgb, "depth": render.depth, "K": K, "T": T}
        for key, value in values.items():
            templates[f"template_{key}"][0] = value


def degrade_inside(rng: np.random.Generator, rgb: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """Degrade a crop [P, P, 3] uint8 as some camera would; where `outside` [P, P] bool holds it is black."""
    degraded = degrade(rng, rgb)
    degraded[outside] = 0
    return degraded


def object_probabilities(kinds: Sequence[str], weights: Mapping[str, float]) -> np.ndarray:
    """Return [n] probabilities of objects: those of a kind sum to its weight (normalized), and are equal."""
    counts = {kind: kinds.count(kind) for kind in set(kinds)}
    probabilities = np.array([weights[kind] / counts[kind] for kind in kinds], dtype=np.float64)
    return probabilities / probabilities.sum()
