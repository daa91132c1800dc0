"""The public face of inference: an image and its detections in, poses out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from vpog_core import cancellation
from vpog_core.inference.alignment import Photo, align
from vpog_core.inference.calibration import read_calibration
from vpog_core.inference.crop import crop_detection
from vpog_core.inference.failures import Failures
from vpog_core.inference.matching import CLUSTER_SIZE, solutions
from vpog_core.inference.onboarder import Onboarder, Progress
from vpog_core.inference.onboarding import Cluster, OnboardedObject, encode_images
from vpog_core.inference.options import Options
from vpog_core.inference.query import Answers, Prior, Query
from vpog_core.inference.refinement import cluster_at, cluster_at_pose
from vpog_core.inference.result import write_answers
from vpog_core.inference.solution import DEFAULT_CALIBRATION, Calibration, Solution, aligned
from vpog_core.models.checkpoint import load_weights, weights_key
from vpog_core.models.vpog_model import Encoded, VPOGModel
from vpog_core.objects.library import ObjectLibrary
from vpog_core.objects.renderer import Renderer
from vpog_core.types import Camera, Detection, PoseEstimate, VPOGError

DEFAULT_WEIGHTS = Path(__file__).parent.parent / "weights" / "vpog-tiny.safetensors"
DEFAULT_OPTIONS = Options()
KEPT = 3
"""Answers of different views that are kept in sight while better ones are looked for."""
KEPT_AGAIN = 2
"""Of a second look; all of them are refined."""


class PoseEstimator:
    """Estimates poses of a library's objects. It remembers objects, and nothing of the images it saw.

    Args:
        model: the network, on its device.
        library: the objects; key: tells these weights from others in the cache.
        options: how it works; calibration: what goes with the weights.

    Attributes:
        timings: seconds each stage of the last `estimate` took.
    """

    def __init__(
        self,
        model: VPOGModel,
        library: ObjectLibrary,
        key: str,
        options: Options = DEFAULT_OPTIONS,
        calibration: Calibration = DEFAULT_CALIBRATION,
    ) -> None:
        self.model, self.library, self.key = model, library, key
        self.options, self.calibration = options, calibration
        self.timings: dict[str, float] = {}
        self._failures = Failures()
        self._onboarder = Onboarder(model, library, key, self._failures)
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
            mode: `cluster` or `global`.
            cache_dir: where templates and descriptors are kept; None: the user's cache folder.
            options: the other fields of `Options`.

        Raises:
            VPOGError: weights or folder missing or not fitting, unknown mode, device not there.
        """
        chosen = Options(mode=mode, **options)
        path = Path(weights) if weights else DEFAULT_WEIGHTS
        model = load_weights(path, choose_device(device))
        library = ObjectLibrary(objects_dir, cache_dir)
        return cls(model, library, weights_key(path), chosen, read_calibration(path))

    @property
    def object_ids(self) -> list[str]:
        """Names of the objects known."""
        return list(self.library.ids)

    @property
    def device(self) -> str:
        """Where the network runs."""
        return str(self.model.mean.device)

    def onboard(
        self, object_id: str | None = None, progress: Progress | None = None, strict: bool = False
    ) -> dict[str, str]:
        """Render, encode and cache the templates of one object, or of all.

        Of all objects the meshes are read first, and those that cannot be used are left out: a detection
        of one is answered with the reason.

        Args:
            progress: called with (steps done, steps, object id).
            strict: refuse all objects where one cannot be used.

        Returns:
            `left_out`.

        Raises:
            VPOGError: the object that was asked for, or none of them all, can be used; with `strict`, one
                of them cannot.
            Cancelled: within `cancellation.stop_when`.
        """
        if object_id is None:
            return self._onboarder.all(progress, strict)
        self._onboarder.one(object_id, progress)
        return self.left_out

    @property
    def left_out(self) -> dict[str, str]:
        """Objects that `onboard` could not use, each with the sentence that says why."""
        return dict(self._onboarder.left_out)

    def onboarded(self, class_id: str) -> OnboardedObject:
        """An object ready for matching, onboarded now if it was not yet."""
        return self._onboarder.one(class_id)

    def estimate(
        self,
        image: np.ndarray,
        camera: Camera,
        detections: Sequence[Detection],
        priors: Sequence[Prior | None] | None = None,
    ) -> list[PoseEstimate]:
        """A pose for every detection, in their order; without one, `reason` says why.

        Whatever fails, also in a renderer, the library or the network, is such a reason, and costs the
        detections it concerns alone; the traceback of what was not expected goes to `logging`.

        Args:
            image: [H, W, 3] uint8 RGB, of the camera's size.
            priors: for each detection what is known of its pose, or None; `tracking.Tracker` keeps them.

        Raises:
            Cancelled: within `cancellation.stop_when`, and nothing else.
        """
        self.timings = {}
        results = [PoseEstimate(d.class_id, d.instance) for d in detections]
        priors = [None] * len(detections) if priors is None else list(priors)
        if len(priors) != len(detections):
            for result in results:
                result.reason = f"{len(priors)} priors came with {len(detections)} detections: give one each."
            return results
        with self._timed("crop"):
            queries = {}
            for i, (detection, prior) in enumerate(zip(detections, priors, strict=True)):
                try:
                    queries[i] = self._query(image, camera, detection, prior)
                except Exception as error:
                    results[i] = self._failures.answer(results[i], error)
        if queries:
            self._answer(queries, results)
        return results

    def _answer(self, queries: dict[int, Query], results: list[PoseEstimate]) -> None:
        """Write what is found for the queries into the results of their numbers.

        They go through the network together; where that fails, one by one, to find the one that fails.
        """
        try:
            found = self._solve(list(queries.values()))
        except Exception as error:
            found, failure = None, error
        if found is None and len(queries) > 1:
            for i, query in queries.items():
                self._answer({i: query}, results)
            return
        if found is None:
            (i,) = queries
            results[i] = self._failures.answer(results[i], failure)
            return
        for i, answers in zip(queries, found, strict=True):
            try:
                write_answers(results[i], answers, self.options, self.calibration)
            except Exception as error:
                results[i] = self._failures.answer(results[i], error)

    def _query(self, image: np.ndarray, camera: Camera, detection: Detection, prior: Prior | None) -> Query:
        """The detection's crop and its object."""
        check_image(image, camera)
        target = self.onboarded(detection.class_id)
        crop = crop_detection(image, camera, detection, self.model.config.image_size)
        photo = Photo(image, camera, detection.mask)
        return Query(crop, photo, target, self.library.symmetry(detection.class_id), prior)

    def _solve(self, queries: list[Query]) -> list[Answers]:
        """What is found for each query, all of them through the network together."""
        with self._timed("encode"):
            encoded = encode_images(self.model, np.stack([q.crop.rgb for q in queries]))
        found = [Answers(query, max(KEPT, self.options.alternatives + 1)) for query in queries]
        with self._timed("track"):
            self._weigh(found, encoded, self._at_priors(queries))
        with self._timed("retrieve"):
            descriptors = self._descriptors_of_open(found, encoded)
        strategy = self.options.strategy
        tried = ((n, c) for n, d in descriptors.items() for c in strategy.clusters(d, queries[n].target))
        self._pursue(found, encoded, tried, max(strategy.refined, self.options.alternatives + 1))
        self._look_again(found, encoded, descriptors)
        return found

    def _look_again(
        self, found: list[Answers], encoded: Encoded, descriptors: dict[int, torch.Tensor]
    ) -> None:
        """Try further views for the queries whose best answer does not convince."""
        unsure = [n for n in descriptors if found[n].score < self.options.second_look_below]
        if not unsure:
            return
        again = [Answers(found[n].query, KEPT_AGAIN) for n in unsure]
        further = self.options.strategy.further
        tried = (
            (row, c) for row, n in enumerate(unsure) for c in further(descriptors[n], found[n].query.target)
        )
        self._pursue(again, encoded[unsure], tried, KEPT_AGAIN)
        for n, answers in zip(unsure, again, strict=True):
            found[n].join(answers)

    def solve_from(self, query: Query, encoded: Encoded, cluster: Cluster) -> Solution:
        """What is found for a query, its encoding [1] given, from a cluster that somebody else chose."""
        answers = Answers(query, 1)
        self._pursue([answers], encoded, iter([(0, cluster)]), 1)
        return answers.best

    def _pursue(
        self, found: list[Answers], encoded: Encoded, tried: Iterator[tuple[int, Cluster]], refined: int
    ) -> None:
        """Match queries with clusters, refine the best `refined` answers of each, and align them all."""
        with self._timed("match"):
            self._weigh(found, encoded, tried)
        with self._timed("refine"):
            for _ in range(self.options.refinements):
                self._refine(found, encoded, refined)
        with self._timed("align"):
            if self.options.alignments:
                self._align(found)

    def _descriptors_of_open(self, found: list[Answers], encoded: Encoded) -> dict[int, torch.Tensor]:
        """Descriptors [C] of the queries that all views are to be looked at for, by the queries' numbers."""
        for answers in found:
            answers.settle_tracked()
        rows = [n for n, answers in enumerate(found) if not answers.tracked]
        if not rows:
            return {}
        with torch.inference_mode():
            return dict(zip(rows, self.model.describe(encoded[rows]), strict=True))

    def _weigh(self, found: list[Answers], encoded: Encoded, tried: Iterator[tuple[int, Cluster]]) -> None:
        """Match queries with clusters, (query's number, cluster) each, and weigh what comes out."""
        for n, solution in self._solutions(found, encoded, tried):
            found[n].add(solution)

    def _refine(self, found: list[Answers], encoded: Encoded, count: int) -> None:
        """Render the best `count` answers at their poses, match again, and keep what scores better."""
        chosen = [
            (n, candidate)
            for n, answers in enumerate(found)
            for candidate in answers.candidates[:count]
            if candidate.solution.pnp is not None and not candidate.final
        ]
        tried = ((n, self._cluster_at(found[n].query, candidate.solution)) for n, candidate in chosen)
        for (n, candidate), (_, solution) in zip(chosen, self._solutions(found, encoded, tried), strict=True):
            found[n].refined(candidate, solution)

    def _align(self, found: list[Answers]) -> None:
        """Align every candidate with the picture, and let how alike they look have its say in the order."""
        for answers in found:
            query = answers.query
            for candidate in answers.candidates:
                if candidate.solution.pnp is not None:
                    cancellation.check()
                    pose = query.crop.virtual.T_cam_virt @ candidate.solution.pnp.T_virt_obj
                    alignment = align(
                        self._renderer(query.target), query.photo, pose, self.options.alignments
                    )
                    candidate.solution = aligned(candidate.solution, alignment, self.calibration)
            answers.rank()

    def _solutions(
        self, found: list[Answers], encoded: Encoded, tried: Iterator[tuple[int, Cluster]]
    ) -> Iterator[tuple[int, Solution]]:
        crops = [answers.query.crop for answers in found]
        return solutions(self.model, crops, encoded, tried, self.options.matching, self.calibration)

    def _cluster_at(self, query: Query, solution: Solution) -> Cluster:
        return cluster_at(query.target, self._renderer(query.target), solution, CLUSTER_SIZE)

    def _at_priors(self, queries: list[Query]) -> Iterator[tuple[int, Cluster]]:
        """Clusters at the poses known before."""
        for n, q in enumerate(queries):
            if q.prior is not None and q.prior.enough is not None:
                T_virt_obj = q.virtual(q.prior.T_cam_obj)
                yield n, cluster_at_pose(q.target, self._renderer(q.target), T_virt_obj, CLUSTER_SIZE)

    def _renderer(self, target: OnboardedObject) -> Renderer:
        object_id = target.templates.object_id
        if object_id not in self._renderers:
            self._renderers[object_id] = Renderer(self.library.mesh(object_id))
        return self._renderers[object_id]

    @contextmanager
    def _timed(self, stage: str):
        cancellation.check()
        begin = time.perf_counter()
        yield
        self.timings[stage] = self.timings.get(stage, 0.0) + time.perf_counter() - begin


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
    """Refuse what is no RGB picture of the camera's size, by a VPOGError."""
    if not isinstance(image, np.ndarray):
        raise VPOGError(f"The image is a {type(image).__name__}: give [H, W, 3] uint8 RGB.")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise VPOGError(f"The image is {image.dtype} {image.shape}: give [H, W, 3] uint8 RGB.")
    if image.shape[:2] != (camera.height, camera.width):
        raise VPOGError(
            f"The image is {image.shape[1]}x{image.shape[0]} and the camera {camera.width}x{camera.height}: "
            "use the CameraInfo of this image."
        )
