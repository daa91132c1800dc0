"""Estimate the poses of detected objects in an image: the front of inference."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vpog_core.geometry.camera_checks import camera_doubts, check_camera
from vpog_core.inference import pipeline
from vpog_core.inference.constraints import PoseConstraint, by_object
from vpog_core.inference.crop import as_camera
from vpog_core.inference.detection_list import detection_list
from vpog_core.inference.detection_threads import DetectionThreads
from vpog_core.inference.failures import Failures
from vpog_core.inference.hypothesis import PoseHypothesis
from vpog_core.inference.networks import Networks
from vpog_core.inference.object_store import ObjectStore, Progress
from vpog_core.inference.onboarding import Cluster, OnboardedObject
from vpog_core.inference.onboarding_workers import fill_cache
from vpog_core.inference.options import Options
from vpog_core.inference.query import Prior, Query
from vpog_core.inference.result import pose_estimate
from vpog_core.inference.stage_timings import StageTimings
from vpog_core.models.vpog_model import VPOGModel
from vpog_core.objects.library import ObjectLibrary
from vpog_core.objects.renderer import Renderer
from vpog_core.types import Camera, Detection, Estimates, PoseEstimate, VPOGError

_LOG = logging.getLogger(__name__)


class PoseEstimator:
    """Estimates poses of a library's objects. It keeps onboarded objects, and nothing of the images.

        estimator = PoseEstimator("meshes")
        estimates = estimator.estimate(image, K, [Detection("mug", box)])

    Args:
        objects: a folder of meshes, one mesh file, or a library made of them.
        weights: a file, or networks that are loaded already; None: those that ship.
        device: `cpu`, `cuda`, or `auto` (CUDA where there is one), for weights that are loaded now.
        cache_dir: where templates and descriptors are kept; None: the user's cache folder.
        refiner_weights: of the refiner network; None: those that ship.
        precision, engine: see `Networks.load`.
        unit: of the meshes, see `ObjectLibrary`; for a folder or a file.
        options: fields of `Options`, such as `mode`.

    Attributes:
        objects: the onboarded objects; may be exchanged for `ObjectStore.renewed` ones between two estimates.

    Raises:
        VPOGError: weights or folder missing or not fitting, unknown mode, device not there.
    """

    def __init__(
        self,
        objects: str | Path | ObjectLibrary,
        weights: str | Path | Networks | None = None,
        *,
        device: str = "auto",
        cache_dir: str | Path | None = None,
        refiner_weights: str | Path | None = None,
        precision: str = "auto",
        engine: str = "torch",
        unit: str = "auto",
        **options: Any,
    ) -> None:
        self.options = Options(**options)
        # The folder is read before the networks: mistakes in it are more frequent, and quickly found.
        library = _library(objects, cache_dir, unit)
        loaded = isinstance(weights, Networks)
        given = refiner_weights, device, precision, engine
        self.networks = weights if loaded else Networks.load(weights, *given)
        self._failures = Failures()
        self._threads = DetectionThreads(self.model.config.embed_dim, self.device)
        self._logged_doubts: set[str] = set()
        self.objects = ObjectStore(self.model, library, self.networks.key, self._failures)
        if library is not objects:
            self.objects.warn_if_useless()

    def variant(self, options: Options | None = None, networks: Networks | None = None) -> PoseEstimator:
        """Return an estimator of the same onboarded objects with other options or networks.

        Args:
            networks: of the same weights; their calibration, precision or engine may be another.
        """
        other = copy(self)
        other.options, other.networks = options or self.options, networks or self.networks
        return other

    @property
    def library(self) -> ObjectLibrary:
        """The library of known objects."""
        return self.objects.library

    @property
    def model(self) -> VPOGModel:
        """The network that retrieves views and matches them."""
        return self.networks.model

    @property
    def object_ids(self) -> list[str]:
        """The names of the known objects."""
        return list(self.library.ids)

    @property
    def device(self) -> str:
        """The device the network runs on."""
        return str(self.model.mean.device)

    @property
    def can_track(self) -> bool:
        """Tell whether poses known before can be followed: by the refiner, in one round at least."""
        return self.networks.refiner is not None and self.options.refiner_rounds > 0

    def onboard(
        self,
        object_id: str | None = None,
        progress: Progress | None = None,
        strict: bool = False,
        workers: int = 1,
    ) -> dict[str, str]:
        """Render, encode and cache the templates of one object, or of all.

        To onboard all objects, their meshes are read first, and those that cannot be used are left out: the
        estimate of such an object has the reason.

        Args:
            progress: called with (steps done, steps, which object and what is done with it).
            strict: refuse all objects where one cannot be used.
            workers: processes that onboard several objects, on a CPU. A script that asks for more than one
                keeps what it does under `if __name__ == "__main__":`, as they import it.

        Returns:
            `left_out`.

        Raises:
            VPOGError: the requested object, or none of all, can be used; with `strict`, one
                of them cannot.
            Cancelled: within `cancellation.stop_when`.
        """
        if object_id is None:
            if workers > 1:
                fill_cache(self.objects, self.objects.read_meshes(strict, progress), workers, progress)
            return self.objects.onboard_all(progress, strict)
        self.objects.get(object_id, progress)
        return self.left_out

    def warm_up(self) -> None:
        """Do what would make the first estimate slower than the others, see `Networks.warm_up`."""
        self.networks.warm_up()

    @property
    def left_out(self) -> dict[str, str]:
        """The objects that `onboard` could not use, each with the sentence that says why."""
        return dict(self.objects.left_out)

    def onboarded(self, class_id: str) -> OnboardedObject:
        """Return an object ready for matching; it is onboarded now if it was not yet."""
        return self.objects.get(class_id)

    def estimate(
        self,
        image: np.ndarray,
        camera: Camera | np.ndarray,
        detections: Sequence[Detection] | Detection,
        priors: Sequence[Prior | None] | None = None,
        constraints: Mapping[str, PoseConstraint] | None = None,
    ) -> Estimates:
        """Estimate a pose for every detection, in their order; an estimate without a pose has a `reason`.

        Every failure, also in a renderer, the library or the network, becomes a reason of the detections that
        it concerns. Tracebacks of unexpected errors are logged, and, once, what is unlikely about a camera
        that was not read from a file or a message.

        Args:
            image: [H, W, 3] uint8 RGB, of the camera's size.
            camera: the calibrated camera, or the intrinsics K [3, 3] of one without distortion.
            detections: with a box, a mask or both; a single one is as good as a list of one.
            priors: for each detection what is known of its pose, or None; `tracking.Tracker` keeps them.
            constraints: what is known of the poses of some objects with respect to a plane, by the objects'
                names in the library or their aliases; a name that no object has is the reason of every
                detection. A pose that violates its object's constraint is not given.

        Returns:
            An estimate for each detection, under the object's name where the detection has an alias, and the
            seconds each stage took.

        Raises:
            VPOGError: something among the detections is no `Detection`, or has neither a box nor a mask.
            Cancelled: within `cancellation.stop_when`, and nothing else.
        """
        detections = detection_list(detections)
        try:
            camera = as_camera(camera, image)
            known = by_object(constraints, self.library)
            self._check_camera(camera)
            # Threads that share the detections must not record graphs beside each other.
            if len(detections) > 1 and torch.get_num_threads() > 1:
                self.warm_up()
        except Exception as error:
            return Estimates(self._failures.estimate(d, error) for d in detections)
        setup = self._setup()
        priors = [None] * len(detections) if priors is None else list(priors)
        if len(priors) != len(detections):
            reason = f"{len(priors)} priors came with {len(detections)} detections: give one each."
            return Estimates(PoseEstimate(d.class_id, d.instance, reason=reason) for d in detections)
        found: dict[int, PoseEstimate] = {}
        queries: dict[int, Query] = {}
        # Make a query of each detection that can be used.
        with setup.stage("crop"):
            for n, (detection, prior) in enumerate(zip(detections, priors, strict=True)):
                try:
                    detection = replace(detection, class_id=self.library.name_of(detection.class_id))
                    constraint = known.get(detection.class_id)
                    queries[n] = pipeline.crop(setup, image, camera, detection, prior, constraint)
                except Exception as error:
                    found[n] = self._failures.estimate(detection, error)
        # Find the poses of all queries, which threads share among them.
        solved = self._threads.share(self._find_poses, setup, list(queries.values()))
        found.update(zip(queries, solved, strict=True))
        return Estimates((found[n] for n in range(len(detections))), setup.timings.seconds)

    def solve_from(self, query: Query, cluster: Cluster) -> PoseHypothesis:
        """Find the pose of an encoded query from a cluster that the caller chose."""
        query = replace(query, max_hypotheses=1)
        (solved,) = pipeline.match_refine(self._setup(), [query], [(0, cluster)], 1)
        return solved.best

    def match_with(self, query: Query, cluster: Cluster) -> PoseHypothesis:
        """Match an encoded query with a cluster that the caller chose; the pose is not refined."""
        (matched,) = pipeline.match(self._setup(), [query], [(0, cluster)])
        return matched.best

    def renderer(self, class_id: str) -> Renderer:
        """Return the renderer of an object, which is onboarded now if it was not yet."""
        return self.objects.renderer(self.onboarded(class_id))

    def _check_camera(self, camera: Camera) -> None:
        """Refuse a camera that cannot be; log what is wrong or unlikely about it once, unless it was checked.

        Raises:
            VPOGError: see `check_camera`.
        """
        if camera.checked:
            return
        try:
            check_camera(camera)
        except VPOGError as error:
            self._log_doubts([str(error)])
            raise
        self._log_doubts(camera_doubts(camera))

    def _log_doubts(self, doubts: Sequence[str]) -> None:
        for doubt in doubts:
            if doubt not in self._logged_doubts:
                self._logged_doubts.add(doubt)
                _LOG.warning("%s", doubt)

    def _setup(self) -> pipeline.Setup:
        return pipeline.Setup(self.networks, self.objects, self.options, StageTimings(self.device))

    def _find_poses(self, setup: pipeline.Setup, queries: Sequence[Query]) -> list[PoseEstimate]:
        """Find the poses of queries together; if that fails for all of them, one by one."""
        if not queries:
            return []
        try:
            solved = pipeline.find_poses(setup, queries)
        except Exception as error:
            if isinstance(error, torch.cuda.OutOfMemoryError):
                self.objects.clear_clusters()
            if len(queries) == 1:
                return [self._failures.estimate(queries[0].detection, error)]
        else:
            return [self._estimate_of(query) for query in solved]
        # Outside of the exception handler, so that memory held by the error has been freed.
        return [self._find_poses(setup, [query])[0] for query in queries]

    def _estimate_of(self, query: Query) -> PoseEstimate:
        try:
            return pose_estimate(query, self.options, self.networks)
        except Exception as error:
            return self._failures.estimate(query.detection, error)


def _library(objects: str | Path | ObjectLibrary, cache_dir: str | Path | None, unit: str) -> ObjectLibrary:
    if isinstance(objects, (str, Path)):
        return ObjectLibrary(objects, cache_dir or None, unit)
    if not isinstance(objects, ObjectLibrary):
        raise VPOGError(
            f"The objects are a {type(objects).__name__}: give the path of a folder of meshes, or of a mesh."
        )
    if unit != "auto":
        raise VPOGError("unit is for the path of a folder or a mesh: give it to the ObjectLibrary.")
    return objects
