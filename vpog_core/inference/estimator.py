"""The public face of inference: an image and its detections in, poses out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from vpog_core.geometry.pnp import rotate_covariance
from vpog_core.inference.cluster_mode import CLUSTER_SIZE, Solution, match_and_solve
from vpog_core.inference.crop import Crop, crop_detection
from vpog_core.inference.match_view import match_view
from vpog_core.inference.onboarding import Cluster, OnboardedObject, describe_templates, encode_images
from vpog_core.inference.refinement import cluster_at
from vpog_core.inference.retrieval import retrieve
from vpog_core.models.checkpoint import load_weights, weights_key
from vpog_core.models.vpog_model import Encoded, VPOGModel
from vpog_core.objects.library import ObjectLibrary
from vpog_core.objects.renderer import Renderer
from vpog_core.objects.template_set import TemplateSet
from vpog_core.types import Camera, Detection, PoseEstimate, VPOGError

DEFAULT_WEIGHTS = Path(__file__).parent.parent / "weights" / "vpog-tiny.safetensors"
MODES = ("cluster",)
Progress = Callable[[int, int, str], None]


@dataclass
class Query:
    """A crop, and the object it is said to show."""

    crop: Crop
    target: OnboardedObject


class PoseEstimator:
    """Estimates poses of a library's objects.

    Args:
        model: the network, on its device.
        library: the objects; key: tells these weights from others in the cache.
        hypotheses: views tried per detection; the one with the best score wins.
        refinements: times the pose is rendered and matched again.
    """

    def __init__(
        self, model: VPOGModel, library: ObjectLibrary, key: str, hypotheses: int = 2, refinements: int = 1
    ) -> None:
        self.model, self.library, self.key = model, library, key
        self.hypotheses, self.refinements = hypotheses, refinements
        self.timings: dict[str, float] = {}
        self._objects: dict[str, OnboardedObject] = {}
        self._renderers: dict[str, Renderer] = {}

    @classmethod
    def from_files(
        cls,
        weights: str | Path | None,
        objects_dir: str | Path,
        device: str = "auto",
        mode: str = "cluster",
        cache_dir: str | Path | None = None,
        **options,
    ) -> PoseEstimator:
        """An estimator of a weights file (None: the one we ship) and a folder of meshes.

        Args:
            device: `cpu`, `cuda`, or `auto` (CUDA where there is one).
            cache_dir: where templates and descriptors are kept; None: the user's cache folder.
            options: `hypotheses`, `refinements`.

        Raises:
            VPOGError: weights or folder missing or not fitting, unknown mode, device not there.
        """
        if mode not in MODES:
            raise VPOGError(f"Mode '{mode}' is not known: use one of {', '.join(MODES)}.")
        path = Path(weights) if weights else DEFAULT_WEIGHTS
        model = load_weights(path, choose_device(device))
        return cls(model, ObjectLibrary(objects_dir, cache_dir), weights_key(path), **options)

    @property
    def object_ids(self) -> list[str]:
        """Names of the objects known."""
        return list(self.library.ids)

    @property
    def device(self) -> str:
        """Where the network runs."""
        return str(self.model.mean.device)

    def onboard(self, object_id: str | None = None, progress: Progress | None = None) -> None:
        """Render, encode and cache the templates of one object, or of all.

        Args:
            progress: called with (steps done, steps, object id).
        """
        for name in [object_id] if object_id else self.object_ids:
            self.onboarded(name, progress)

    def estimate(
        self, image: np.ndarray, camera: Camera, detections: Sequence[Detection]
    ) -> list[PoseEstimate]:
        """A pose for every detection, in their order; without one, `reason` says why.

        Args:
            image: [H, W, 3] uint8 RGB, of the camera's size.

        Raises:
            VPOGError: the image is no RGB picture of the camera's size.
        """
        check_image(image, camera)
        self.timings = {}
        results = [PoseEstimate(d.class_id, d.instance) for d in detections]
        with self._timed("crop"):
            queries = {
                i: q for i, d in enumerate(detections) if (q := self._query(image, camera, d, results[i]))
            }
        if queries:
            for i, solution in zip(queries, self._solve(list(queries.values())), strict=True):
                _fill(results[i], solution)
        return results

    def _query(
        self, image: np.ndarray, camera: Camera, detection: Detection, result: PoseEstimate
    ) -> Query | None:
        """The detection's crop and its object, or None with the reason in the result."""
        try:
            target = self.onboarded(detection.class_id)
            return Query(crop_detection(image, camera, detection, self.model.config.image_size), target)
        except VPOGError as error:
            result.reason = str(error)
            return None

    def _solve(self, queries: list[Query]) -> list[Solution]:
        """The best solution of every query: several views tried, the best of them refined."""
        with self._timed("encode"):
            encoded = encode_images(self.model, np.stack([q.crop.rgb for q in queries]))
        with self._timed("retrieve"), torch.inference_mode():
            descriptors = self.model.describe(encoded)
            tried = [
                (n, q.target.cluster(found.view, found.roll_index, CLUSTER_SIZE))
                for n, q in enumerate(queries)
                for found in retrieve(descriptors[n], q.target, self.hypotheses)
            ]
        best: dict[int, Solution] = {}
        with self._timed("match"):
            self._improve(best, queries, encoded, tried)
        with self._timed("refine"):
            for _ in range(self.refinements):
                self._improve(best, queries, encoded, self._rendered(best, queries))
        return [best[n] for n in range(len(queries))]

    def _improve(
        self,
        best: dict[int, Solution],
        queries: list[Query],
        encoded: Encoded,
        tried: list[tuple[int, Cluster]],
    ) -> None:
        """Match queries with clusters, (query's number, cluster) each, and keep what scores better."""
        rows = [n for n, _ in tried]
        if not rows:
            return
        crops, clusters = [queries[n].crop for n in rows], [cluster for _, cluster in tried]
        for n, solution in zip(
            rows, match_and_solve(self.model, crops, encoded[rows], clusters), strict=True
        ):
            if n not in best or solution.score > best[n].score:
                best[n] = solution

    def _rendered(self, best: dict[int, Solution], queries: list[Query]) -> list[tuple[int, Cluster]]:
        """For every query with a pose, a cluster around a template rendered there."""
        return [
            (n, cluster_at(queries[n].target, self._renderer(queries[n].target), solution, CLUSTER_SIZE))
            for n, solution in best.items()
            if solution.pnp is not None
        ]

    def onboarded(self, class_id: str, progress: Progress | None = None) -> OnboardedObject:
        """An object ready for matching, onboarded now if it was not yet."""
        object_id = self.library.resolve(class_id)
        if object_id not in self._objects:
            templates = self.library.templates(object_id, self.model.config.image_size)
            descriptors = self._descriptors(templates, progress)
            self._objects[object_id] = OnboardedObject(templates, self.model, descriptors)
        return self._objects[object_id]

    def _descriptors(self, templates: TemplateSet, progress: Progress | None) -> torch.Tensor:
        """Retrieval descriptors of the templates: from the cache when these weights made it, else now."""
        if templates.features_key != self.key:
            step = (lambda done, total: progress(done, total, templates.object_id)) if progress else None
            made = describe_templates(self.model, templates, step)
            templates.features = {"descriptors": made.half().cpu().numpy()}
            templates.features_key = self.key
            self.library.store(templates)
        return torch.from_numpy(templates.features["descriptors"]).to(self.device).float()

    def _renderer(self, target: OnboardedObject) -> Renderer:
        object_id = target.templates.object_id
        if object_id not in self._renderers:
            self._renderers[object_id] = Renderer(self.library.mesh(object_id))
        return self._renderers[object_id]

    @contextmanager
    def _timed(self, stage: str):
        begin = time.perf_counter()
        yield
        self.timings[stage] = time.perf_counter() - begin


def choose_device(device: str) -> str:
    """`cuda` or `cpu`; `auto` takes CUDA where there is one."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise VPOGError(
            f"Device '{device}' is asked for and torch finds no CUDA GPU: set device to 'cpu' or 'auto'."
        )
    if device != "cpu" and not device.startswith("cuda"):
        raise VPOGError(f"Device '{device}' is not known: use 'auto', 'cpu' or 'cuda'.")
    return device


def check_image(image: np.ndarray, camera: Camera) -> None:
    """Refuse what is no RGB picture of the camera's size."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise VPOGError(f"The image is {image.dtype} {image.shape}: give [H, W, 3] uint8 RGB.")
    if image.shape[:2] != (camera.height, camera.width):
        raise VPOGError(
            f"The image is {image.shape[1]}x{image.shape[0]} and the camera {camera.width}x{camera.height}: "
            "use the CameraInfo of this image."
        )


def _fill(result: PoseEstimate, solution: Solution) -> None:
    if solution.pnp is None:
        result.reason = f"No pose agrees with the {len(solution.pairs.weights)} correspondences found."
    else:
        T_cam_virt = solution.crop.virtual.T_cam_virt
        result.T_cam_obj = T_cam_virt @ solution.pnp.T_virt_obj
        result.covariance = rotate_covariance(solution.pnp.covariance, T_cam_virt[:3, :3])
        result.inliers = int(solution.pnp.inlier.sum())
        result.reprojection_error = solution.pnp.reprojection_error
        result.score = solution.score
    result.match = match_view(solution)
