"""From frame to frame: where an object was tells where to look, and which of its equivalent poses to give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vpog_core.geometry.camera import pixel_rays, project
from vpog_core.geometry.se3 import transform_points
from vpog_core.inference.estimator import PoseEstimator
from vpog_core.inference.query import Prior
from vpog_core.objects.mesh import Mesh
from vpog_core.types import Camera, Detection, Estimates, PoseEstimate, VPOGError


@dataclass(frozen=True)
class TrackerSettings:
    """When a track is trusted.

    Attributes:
        min_score: an answer of a lower score is looked for among all views again.
        retrieve_every: frames after which all views are looked at whatever the score; 0: never.
        max_gap: seconds after which an object that was not seen is met as if for the first time. What the
            last answer held is remembered however long ago that was: answers may come once in ten seconds.

    Raises:
        VPOGError: a value that cannot be used.
    """

    min_score: float = 0.4
    retrieve_every: int = 30
    max_gap: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.min_score <= 1.0:
            raise VPOGError(f"min_score is {self.min_score}: give a number from 0 to 1.")
        if self.retrieve_every < 0 or not self.max_gap > 0:
            raise VPOGError("retrieve_every must be 0 or more frames, and max_gap more than 0 seconds.")


DEFAULT_SETTINGS = TrackerSettings()


@dataclass
class Track:
    """Remember one instance: its last pose, box and score, when, and since when unchecked.

    Attributes:
        time: of the image, seconds; answer: which of the tracker's answers that was.
    """

    T_cam_obj: np.ndarray
    box: np.ndarray
    score: float
    time: float
    unchecked: int = 0
    answer: int = 0


class Tracker:
    """An estimator with a memory: the same call, with the time of the image.

        tracker = Tracker(estimator)
        poses = tracker.estimate(image, camera, detections, time=stamp)

    Each (class, instance) has a track. Detectors that number instances anew in each frame lose nothing but
    the tracks: a box in another place starts a new one.

    Args:
        estimator: does the work, and may serve several trackers.
    """

    def __init__(self, estimator: PoseEstimator, settings: TrackerSettings = DEFAULT_SETTINGS) -> None:
        self.estimator, self.settings = estimator, settings
        self._tracks: dict[tuple[str, int], Track] = {}
        self._answers = 0

    def estimate(
        self, image: np.ndarray, camera: Camera, detections: Sequence[Detection], time: float
    ) -> Estimates:
        """A pose for every detection, as `PoseEstimator.estimate` gives them.

        Args:
            time: of the image, seconds; one before the last call's starts all tracks anew.
        """
        self._answers += 1
        self._forget(time)
        tracks = [self._track(d) for d in detections]
        priors = [
            None if track is None else self._prior(track, d, camera)
            for track, d in zip(tracks, detections, strict=True)
        ]
        results = self.estimator.estimate(image, camera, detections, priors)
        for detection, track, result in zip(detections, tracks, results, strict=True):
            self._remember(detection, track, result, time)
        return results

    def reset(self) -> None:
        """Forget all tracks."""
        self._tracks.clear()

    def _track(self, detection: Detection) -> Track | None:
        """The track of a detection's instance, if it is where the detection is."""
        track = self._tracks.get((detection.class_id, detection.instance))
        return track if track is not None and _overlap(track.box, detection.box) else None

    def _forget(self, time: float) -> None:
        """Drop the tracks of what was not seen for long, and of a time that has not come yet."""
        self._tracks = {k: track for k, track in self._tracks.items() if self._is_kept(track, time)}

    def _is_kept(self, track: Track, time: float) -> bool:
        recent = time - track.time <= self.settings.max_gap or track.answer >= self._answers - 1
        return time >= track.time and recent

    def _prior(self, track: Track, detection: Detection, camera: Camera) -> Prior:
        """The last pose, moved as the box moved; enough only while the track is strong and lately checked."""
        due = self.settings.retrieve_every and track.unchecked + 1 >= self.settings.retrieve_every
        enough = None if track.score < self.settings.min_score else self.settings.min_score
        if enough is not None and due:
            enough = np.inf
        mesh = self.estimator.library.mesh(detection.class_id)
        return Prior(moved_with_box(track, detection.box, camera, mesh), enough)

    def _remember(self, detection: Detection, track: Track | None, result: PoseEstimate, time: float) -> None:
        key = (detection.class_id, detection.instance)
        if result.T_cam_obj is None:
            self._tracks.pop(key, None)
            return
        unchecked = track.unchecked + 1 if track is not None and result.tracked else 0
        box = np.asarray(detection.box, dtype=np.float64)
        self._tracks[key] = Track(result.T_cam_obj, box, result.score, time, unchecked, self._answers)


def moved_with_box(track: Track, box: np.ndarray, camera: Camera, mesh: Mesh) -> np.ndarray:
    """T_cam_obj [4, 4] of a track whose object has moved in the image as its box did; turn and depth stay."""
    centre = transform_points(track.T_cam_obj, mesh.center)
    shift = _middle(box) - _middle(track.box)
    pixel = project(camera, centre[None])[0] + shift
    ray = pixel_rays(camera, pixel[None])[0]
    T = track.T_cam_obj.copy()
    if np.isfinite(ray).all():
        T[:3, 3] += ray * centre[2] - centre
    return T


def _middle(box: np.ndarray) -> np.ndarray:
    return (np.asarray(box[:2], dtype=np.float64) + np.asarray(box[2:], dtype=np.float64)) / 2


def _overlap(box: np.ndarray, other: np.ndarray) -> bool:
    """Whether two boxes [4] overlap; False where one is not finite."""
    low, high = np.maximum(box[:2], other[:2]), np.minimum(box[2:], other[2:])
    return bool((low < high).all())
