"""Record hypotheses that the pipeline finds of synthetic objects, right and wrong ones, one file an object.

Each hypothesis is moved a little, rendered and compared as in the refiner's last round, which starts from
poses that are nearly converged; it is recorded with the error of the pose that was found.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vpog_core.evaluation.heldout_image import heldout_camera
from vpog_core.evaluation.hypothesis_records import NORMAL_SCALE, SUFFIX, TYPES, HypothesisRecords
from vpog_core.evaluation.pose_error import mssd
from vpog_core.evaluation.recorded_objects import (
    ObjectSources,
    RecordedImage,
    check_numbers,
    make_images,
    make_variants,
    write_library,
)
from vpog_core.evaluation.tracking_samples import Motion, moved
from vpog_core.geometry.symmetry import Symmetry
from vpog_core.inference.estimator import PoseEstimator
from vpog_core.inference.networks import Networks
from vpog_core.inference.observation import Observation
from vpog_core.inference.render_and_compare import PoseToRefine, make_pair
from vpog_core.objects.library import ObjectLibrary
from vpog_core.objects.mesh import Mesh
from vpog_core.objects.renderer import Renderer
from vpog_core.types import Detection, VPOGError
from vpog_core.utils.worker_pool import WorkerPool

IMAGES = {"clean": 1, "light": 1, "clutter": 2, "occluded": 4}
"""Images of each object and each variant at each level."""
ALTERNATIVES = 11
"""Poses of other views that are recorded beside the best."""
LAST_STEP = Motion(4, 0.01, 0.02)
"""How far the pose that the refiner's last round starts from is off the one it leads to."""
CORRECT = 0.1
"""Error below which a pose counts as correct, diameters."""
ERROR_POINTS = 400


@dataclass(frozen=True)
class RecordingConfig:
    """Says what is recorded, and where.

    Attributes:
        output: folder of the files; sources: what the objects are made of.
        weights, refiner_weights, device: of the networks, see `Networks.load`; "": those that ship.
        images: images of an object's variant, for each level of `heldout_image.LEVELS`.
    """

    output: Path
    sources: ObjectSources = field(default_factory=ObjectSources)
    weights: str = ""
    refiner_weights: str = ""
    device: str = "auto"
    images: Mapping[str, int] = field(default_factory=lambda: dict(IMAGES))

    def path(self, number: int) -> Path:
        """Return the file of an object."""
        return self.output / f"object_{number:05d}{SUFFIX}"


@dataclass(frozen=True)
class Recorded:
    """Says what was recorded of an object; `problem` is why nothing was, or ""."""

    number: int
    hypotheses: int = 0
    detections: int = 0
    correct: int = 0
    problem: str = ""


class _Row(NamedTuple):
    """Holds one hypothesis, as `HypothesisRecords` holds many."""

    image: np.ndarray
    render: np.ndarray
    normals: np.ndarray
    mask: np.ndarray
    error: float
    detection: int


class HypothesisRecorder:
    """Records the hypotheses of one object after the other."""

    def __init__(self, config: RecordingConfig) -> None:
        self.config = config
        self.networks = Networks.load(config.weights, config.refiner_weights, config.device)

    def run(self, number: int) -> Recorded:
        """Record the hypotheses of an object into its file.

        Raises:
            VPOGError: the file cannot be written.
        """
        try:
            records = self.record(number)
        except VPOGError as error:
            return Recorded(number, problem=str(error))
        path = self.config.path(number)
        try:
            mesh_file = self.config.sources.mesh_file(number)
            records.save(path, mesh_file.name if mesh_file else "")
        except OSError as error:
            raise VPOGError(
                f"'{path}' cannot be written ({error.strerror}): choose another --output."
            ) from error
        return Recorded(
            number,
            len(records),
            len(np.unique(records.detection)),
            int(np.count_nonzero(records.error < CORRECT)),
        )

    def record(self, number: int) -> HypothesisRecords:
        """Return the hypotheses of an object; the same number and seed give the same ones.

        Raises:
            VPOGError: the object cannot be used, or no pose of it is found.
        """
        rows: list[_Row] = []
        with tempfile.TemporaryDirectory(prefix="vpog_") as temporary:
            # Make the object, and an estimator that knows it.
            folder = Path(temporary)
            write_library(folder, make_variants(self.config.sources, number))
            library = ObjectLibrary(folder, folder / "cache")
            estimator = PoseEstimator(library, self.networks, alternatives=ALTERNATIVES)
            for which, name in enumerate(library.ids):
                # Estimate its poses in images, and record all that are found.
                seed = [self.config.sources.seed, number, which]
                of_images, of_steps = (np.random.default_rng([*seed, n]) for n in range(2))
                renderer, symmetry = Renderer(library.mesh(name)), library.symmetry(name)
                for view in make_images(of_images, renderer, number, self.config.images):
                    detection = rows[-1].detection + 1 if rows else 0
                    poses = _poses(estimator, name, view)
                    rows.extend(self._compared(of_steps, renderer, symmetry, view, poses, detection))
        if not rows:
            raise VPOGError(f"No pose of object {number} is found in its images: record other ones.")
        columns = zip(*rows, strict=True)
        arrays = (np.array(c, dtype=kind) for c, kind in zip(columns, TYPES.values(), strict=True))
        return HypothesisRecords(*arrays)

    def _compared(
        self,
        rng: np.random.Generator,
        renderer: Renderer,
        symmetry: Symmetry,
        view: RecordedImage,
        poses: list[np.ndarray],
        detection: int,
    ) -> Iterator[_Row]:
        """Yield the poses of one detection as they are recorded; what cannot be compared is left out."""
        observation = Observation(view.image, heldout_camera())
        for T_cam_obj in poses:
            # Compare the pose with the truth.
            T_true = symmetry.nearest(view.T_cam_obj, T_cam_obj)
            error = pose_error(renderer.mesh, T_cam_obj, T_true)
            # Render and crop where the refiner's last round could have started.
            start = moved(rng, T_cam_obj, renderer.mesh, LAST_STEP)
            size = self.networks.refiner.config.image_size
            pair = make_pair(PoseToRefine(renderer, observation, T_cam_obj), start, size)
            if isinstance(pair, str):
                continue
            normals = np.round(pair.normals * NORMAL_SCALE).astype(np.int8)
            yield _Row(pair.crop, pair.render.rgb, normals, pair.render.mask, error, detection)


def record_hypotheses(
    config: RecordingConfig,
    numbers: range,
    workers: int = 1,
    cluster: str | None = None,
    progress: Callable[[Recorded | None], None] = lambda recorded: None,
) -> list[Recorded]:
    """Record the hypotheses of objects, one file each; those that have a file are left as they are.

    Args:
        numbers: of the objects; workers: processes.
        cluster: address of a Dask scheduler whose workers are used in place of processes.
        progress: called for each object, with what was recorded of it; None: it had a file.

    Returns:
        what was recorded now, by number.

    Raises:
        VPOGError: unreadable weights, too many objects, a file that cannot be written.
    """
    check_numbers(numbers)
    missing = []
    for number in numbers:
        if config.path(number).exists():
            progress(None)
        else:
            missing.append(number)
    if not missing:
        return []
    found = []
    with WorkerPool(HypothesisRecorder, (config,), min(workers, len(missing)), cluster) as pool:
        for recorded in pool.map(HypothesisRecorder.run, missing):
            found.append(recorded)
            progress(recorded)
    return sorted(found, key=lambda recorded: recorded.number)


def pose_error(mesh: Mesh, T_cam_obj: np.ndarray, T_true: np.ndarray) -> float:
    """Compute the MSSD of a pose, in diameters, without symmetries.

    The farthest displacement of two rigid poses is at a vertex of the convex hull, so only these count.
    """
    points = mesh.hull_points
    thinned = points[:: -(-len(points) // ERROR_POINTS)]
    return mssd(T_cam_obj, T_true, thinned) / mesh.diameter


def _poses(estimator: PoseEstimator, name: str, view: RecordedImage) -> list[np.ndarray]:
    """Return the poses [4, 4] of all hypotheses that are found in an image."""
    (found,) = estimator.estimate(view.image, heldout_camera(), [Detection(name, view.box)])
    poses = [pose.T_cam_obj for pose in (found, *found.alternatives)]
    return [T_cam_obj for T_cam_obj in poses if T_cam_obj is not None]
