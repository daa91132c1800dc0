"""From frame to frame: objects are followed from where they were, with detections and without."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from vpog_core.inference.estimator import PoseEstimator
from vpog_core.inference.options import DEFAULT_TRACKER_SETTINGS, MAX_AGE_S, TrackerSettings
from vpog_core.inference.query import Prior
from vpog_core.inference.track_numbers import TrackNumbers
from vpog_core.inference.tracks import (
    Key,
    Track,
    assign,
    box_of_pose,
    is_same_object,
    moved_with_box,
    moved_with_pose,
    predicted_box,
    velocity_after,
)
from vpog_core.types import Camera, Detection, Estimates, PoseEstimate

_LOG = logging.getLogger(__name__)


class Tracker:
    """An estimator with a memory: the same call, with the time of the image.

        tracker = Tracker(estimator)
        poses = tracker.estimate(image, camera, detections, time=stamp)

    Each object has a track, and keeps its number however its detector numbers it (see `track_numbers`). An
    object is followed by comparing a render at the last pose with the image (see `tracked_pose`); where that
    does not convince it is looked for among all views, if a detection tells where. Detections are needed to
    begin and to recover: in images without one an object is
    followed for `max_age` seconds, as long as the image agrees.

    Without a refiner (`Options.refiner_rounds` 0) nothing is followed: every detection is estimated anew, and
    the last pose only tells which of several equivalent poses to give.

    Args:
        estimator: does the work, and may serve several trackers.
    """

    def __init__(
        self, estimator: PoseEstimator, settings: TrackerSettings = DEFAULT_TRACKER_SETTINGS
    ) -> None:
        self.estimator, self.settings = estimator, settings
        self._tracks: dict[Key, Track] = {}
        self._numbers = TrackNumbers()
        self._answers = 0
        self._said = False

    @property
    def boxes(self) -> dict[Key, np.ndarray]:
        """Boxes [4] of the objects that had a pose in the last image, by class and instance."""
        return {
            key: track.box
            for key, track in self._tracks.items()
            if track.answer == self._answers and not track.lost
        }

    def estimate(
        self, image: np.ndarray, camera: Camera, detections: Sequence[Detection], time: float
    ) -> Estimates:
        """Estimate a pose for every detection, and follow the tracked objects that no detection shows.

        Args:
            time: of the image, seconds; one that lies further back than `max_gap` starts all tracks anew.

        Returns:
            An estimate for each detection, in their order, as `PoseEstimator.estimate` gives them, but under
            the number that its object had before, whatever number the detection has; then one for each
            object that was followed without a detection, which `PoseEstimate.detected` tells. Those that are
            lost have none.
        """
        self._answers += 1
        self._warn_if_tracking_is_off()
        self._forget(time)
        given = self._numbers.trusted(detections)
        keys = self._assign(detections, given, camera, time)
        alone = self._undetected(keys, time)
        detections = self._numbers.numbered(detections, given, keys, {k: t.given for k, t in alone.items()})
        priors = [None if key is None else self._prior(self._tracks[key], d, camera)
                  for key, d in zip(keys, detections, strict=True)]  # fmt: skip
        followed = self._to_follow(alone, detections, camera)
        asked = [*detections, *(detection for detection, _ in followed.values())]
        priors += [prior for _, prior in followed.values()]
        results = self.estimator.estimate(image, camera, asked, priors)
        detections, results = self._handed_over(detections, given, keys, followed, results)
        for detection, number, key, result in zip(detections, given, keys, results, strict=False):
            self._remember_detected(detection, number, key, result, time)
        found = Estimates(results[: len(detections)], results.timings)
        for key, result in zip(followed, results[len(detections) :], strict=True):
            found += self._remember_followed(key, result, found, camera, time)
        self._numbers.keep(self.boxes)
        return found

    def follow(self, image: np.ndarray, camera: Camera, time: float) -> Estimates:
        """Follow all tracked objects to a later image, however long ago they were detected."""
        settings = self.settings
        self.settings = replace(settings, without_detections=True, max_age=MAX_AGE_S)
        try:
            return self.estimate(image, camera, [], time)
        finally:
            self.settings = settings

    def reset(self) -> None:
        """Forget all tracks, and the numbers of their objects."""
        self._tracks.clear()
        self._numbers = TrackNumbers()

    def forget(self, object_ids: Collection[str]) -> None:
        """Forget the tracks of some objects, as their mesh is another now."""
        self._tracks = {key: track for key, track in self._tracks.items() if key[0] not in object_ids}

    def _assign(
        self, detections: Sequence[Detection], given: Sequence[int | None], camera: Camera, time: float
    ) -> list[Key | None]:
        """Find the tracks of detections, and out whether their detector's numbers can be trusted."""
        mesh = self.estimator.library.mesh
        predicted = {key: predicted_box(t, time, camera, mesh(key[0])) for key, t in self._tracks.items()}
        keys = assign(detections, given, self._tracks, predicted)
        self._numbers.compare(given, keys, {key: track.given for key, track in self._tracks.items()})
        return keys

    def _warn_if_tracking_is_off(self) -> None:
        """Log once that nothing is tracked, where that is so."""
        if not self._said and not self.estimator.can_track:
            self._said = True
            _LOG.warning(
                "Objects are estimated anew in every image, and have no pose where no detection shows them: "
                "tracking needs the refiner, so set refiner_rounds to 1 or more."
            )

    def _forget(self, time: float) -> None:
        """Drop the tracks of what had no pose for long, and of another time."""
        self._tracks = {key: track for key, track in self._tracks.items() if self._is_kept(track, time)}

    def _is_kept(self, track: Track, time: float) -> bool:
        recent = time - track.time <= self.settings.max_gap or track.answer >= self._answers - 1
        return time >= track.time - self.settings.max_gap and recent

    def _prior(self, track: Track, detection: Detection, camera: Camera) -> Prior:
        """The last pose, moved as the box moved."""
        mesh = self.estimator.library.mesh(detection.class_id)
        T_cam_obj = moved_with_box(track, detection.box, camera, mesh)
        return self._prior_at(T_cam_obj, track, detected=True)

    def _prior_at(self, T_cam_obj: np.ndarray, track: Track, detected: bool) -> Prior:
        every = self.settings.retrieve_every
        due = bool(every) and track.unchecked + 1 >= every
        score = self.settings.min_score if self.estimator.can_track else None
        return Prior(T_cam_obj, score, look_anew=due, detected=detected)

    def _undetected(self, keys: Sequence[Key | None], time: float) -> dict[Key, Track]:
        """Return the tracks that no detection belongs to and that are to be followed without."""
        if not (self.settings.without_detections and self.estimator.can_track):
            return {}
        oldest = time - self.settings.max_age
        return {
            key: track
            for key, track in self._tracks.items()
            if key not in keys and not track.lost and track.detected >= oldest
        }

    def _to_follow(
        self, alone: dict[Key, Track], detections: Sequence[Detection], camera: Camera
    ) -> dict[Key, tuple[Detection, Prior]]:
        """What to ask of each object that was tracked and is not detected: its box, made of its pose."""
        asked: dict[Key, tuple[Detection, Prior]] = {}
        taken = {(d.class_id, d.instance) for d in detections}
        for key, track in alone.items():
            # A number that a detection has elsewhere is no longer this object's.
            if key in taken:
                continue
            box = box_of_pose(track.T_cam_obj, camera, self.estimator.library.mesh(key[0]))
            if box is not None:
                prior = self._prior_at(track.T_cam_obj, track, detected=False)
                asked[key] = (Detection(key[0], box, instance=key[1]), prior)
        return asked

    def _handed_over(
        self,
        detections: Sequence[Detection],
        given: Sequence[int | None],
        keys: Sequence[Key | None],
        followed: dict[Key, tuple[Detection, Prior]],
        results: Estimates,
    ) -> tuple[list[Detection], Estimates]:
        """Give new objects without a number the numbers of those that are lost in this image: they jumped."""
        count = len(detections)
        lost = [key for key, e in zip(followed, results[count:], strict=True) if e.T_cam_obj is None]
        detections, results = list(detections), Estimates(results, results.timings)
        for n, detection in enumerate(detections):
            of_class = [key for key in lost if key[0] == detection.class_id]
            if keys[n] is None and given[n] is None and results[n].T_cam_obj is not None and of_class:
                lost.remove(of_class[0])
                detections[n] = replace(detection, instance=of_class[0][1])
                results[n] = replace(results[n], instance=of_class[0][1])
        return detections, results

    def _remember_detected(
        self,
        detection: Detection,
        number: int | None,
        known_as: Key | None,
        result: PoseEstimate,
        time: float,
    ) -> None:
        """Remember an object that was detected; number: its detector's; known_as: its track, or None."""
        key = (detection.class_id, detection.instance)
        track = self._tracks.pop(key, None)
        track = track if known_as is not None else None
        if result.T_cam_obj is None:
            return
        unchecked = track.unchecked + 1 if track is not None and result.tracked else 0
        box = np.asarray(detection.box, dtype=np.float64)
        mesh = self.estimator.library.mesh(detection.class_id)
        moved = velocity_after(track, result.T_cam_obj, time, mesh)
        self._tracks[key] = Track(
            result.T_cam_obj, box, time, time, self._answers, unchecked, False, number, *moved
        )

    def _remember_followed(
        self, key: Key, result: PoseEstimate, detected: Estimates, camera: Camera, time: float
    ) -> list[PoseEstimate]:
        """The estimate of an object that was followed; none where it was lost, or was detected as another."""
        track, mesh = self._tracks[key], self.estimator.library.mesh(key[0])
        if result.T_cam_obj is None:
            if track.answer != self._answers:  # Else its number has gone to a detection of this image.
                self._tracks[key] = replace(track, lost=True)
            return []
        poses = [e.T_cam_obj for e in detected if e.class_id == key[0] and e.T_cam_obj is not None]
        if any(is_same_object(result.T_cam_obj, T, mesh) for T in poses):
            del self._tracks[key]
            return []
        velocity, step = velocity_after(track, result.T_cam_obj, time, mesh)
        self._tracks[key] = replace(
            track,
            velocity=velocity,
            step=step,
            T_cam_obj=result.T_cam_obj,
            box=moved_with_pose(track, result.T_cam_obj, camera, mesh),
            time=time,
            answer=self._answers,
            unchecked=track.unchecked + 1 if result.tracked else 0,
        )
        return [replace(result, detected=False, detection_age=max(0.0, time - track.detected))]
