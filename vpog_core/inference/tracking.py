"""Track objects from image to image, with detections and without."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from vpog_core.inference.alignment import is_near
from vpog_core.inference.constraints import PoseConstraint, by_object
from vpog_core.inference.crop import as_camera
from vpog_core.inference.detection_list import detection_list
from vpog_core.inference.estimator import PoseEstimator
from vpog_core.inference.options import DEFAULT_TRACKER_SETTINGS, MAX_AGE_S, TrackerSettings
from vpog_core.inference.query import Prior
from vpog_core.inference.track_numbers import TrackNumbers, reuse_lost_numbers
from vpog_core.inference.tracks import (
    Key,
    Track,
    assign,
    box_of_pose,
    is_same_object,
    moved_with_box,
    moved_with_pose,
    predicted_box,
    turned_on,
    velocity_after,
)
from vpog_core.types import Camera, Detection, Estimates, PoseEstimate, VPOGError

_LOG = logging.getLogger(__name__)


SIMILARITY_DROP = 0.15
"""An object is searched for among all views if its render at the tracked pose is less similar to
the image by this than at best since the last search of all views. From one image to the next shade
and a partial view take away up to 0.1, a wrong turn of an object with print on it 0.2 and more."""
SEARCH_SPACING = 3
"""Images from one search of all views to the next for an object whose score stays low; in between its tracked
pose is returned all the same. What hides an object will hide it in the next image as well."""


class Tracker:
    """Estimates poses in a sequence of images: the same call as an estimator, with the time of the image.

        tracker = Tracker(estimator)
        poses = tracker.estimate(image, camera, detections, time=stamp)

    Each object has a track, and keeps its number whatever number its detector gives it (see `track_numbers`).
    An object is tracked by comparing a render at the last pose with the image (see `tracked_pose`). If the
    score is low, all views are searched, provided that there is a detection; again every `SEARCH_SPACING`
    images where it stays low. Detections are needed to start and to recover: without one an object is
    tracked for `max_age` seconds, as long as its score is high.

    Without a refiner (`Options.refiner_rounds` 0) objects are not tracked: every detection is estimated
    by itself, and the last pose only selects one of several equivalent poses.

    Args:
        estimator: does the work, and may serve several trackers.
    """

    def __init__(
        self, estimator: PoseEstimator, settings: TrackerSettings = DEFAULT_TRACKER_SETTINGS
    ) -> None:
        self.estimator, self.settings = estimator, settings
        self._tracks: dict[Key, Track] = {}
        self._numbers = TrackNumbers()
        self._frame = 0
        self._has_warned = False

    @property
    def boxes(self) -> dict[Key, np.ndarray]:
        """The boxes [4] of the objects that had a pose in the last image, by class and instance."""
        return {
            key: track.box
            for key, track in self._tracks.items()
            if track.frame == self._frame and not track.lost
        }

    def estimate(
        self,
        image: np.ndarray,
        camera: Camera | np.ndarray,
        detections: Sequence[Detection] | Detection,
        time: float,
        constraints: Mapping[str, PoseConstraint] | None = None,
        is_late: bool = False,
    ) -> Estimates:
        """Estimate a pose for every detection, and follow the tracked objects that no detection shows.

        Args:
            image, camera: as of `PoseEstimator.estimate`.
            time: of the image, seconds; one that lies further back than `max_gap` drops all tracks.
            constraints: see `PoseEstimator.estimate`.
            is_late: the image was taken before the last one, and its detections have come only now: tracks
                are kept however far back it lies.

        Returns:
            An estimate for each detection, in their order, as `PoseEstimator.estimate` gives them, but under
            the number that its object had before, whatever number the detection has; then one for each
            object that was followed without a detection, which `PoseEstimate.detected` tells. Those that are
            lost have none.

        Raises:
            VPOGError: as `PoseEstimator.estimate`.
        """
        return self._estimate(image, camera, detections, time, constraints, is_late, self.settings)

    def _estimate(
        self,
        image: np.ndarray,
        camera: Camera | np.ndarray,
        detections: Sequence[Detection] | Detection,
        time: float,
        constraints: Mapping[str, PoseConstraint] | None,
        is_late: bool,
        settings: TrackerSettings,
    ) -> Estimates:
        """Do what `estimate` says, and follow the tracks without a detection by other settings."""
        detections = detection_list(detections)
        try:
            camera = as_camera(camera, image)
            constraints = by_object(constraints, self.estimator.library)
        except VPOGError:
            # The estimator returns this reason for each detection.
            return self.estimator.estimate(image, camera, detections, constraints=constraints)
        name_of = self.estimator.library.name_of
        detections = [replace(d, class_id=name_of(d.class_id)) for d in detections]
        # Drop old tracks.
        self._frame += 1
        self._warn_without_refiner()
        if not is_late:
            self._forget(time)
        # Find the track of each detection, and the tracks without a detection; number the detections.
        detector_numbers = self._numbers.trusted(detections)
        keys = self._assign(detections, detector_numbers, camera, time)
        undetected = self._undetected(keys, time, settings)
        detections = self._numbers.numbered(
            detections, detector_numbers, keys, {k: t.detector_number for k, t in undetected.items()}
        )
        # Estimate all of them, starting from the tracks' poses.
        due = self._due_for_search([*keys, *undetected])
        priors = [None if key is None else self._prior(self._tracks[key], d, camera, time, key == due)
                  for key, d in zip(keys, detections, strict=True)]  # fmt: skip
        followed = self._detections_of_tracks(undetected, detections, camera, time, due)
        requested = [*detections, *(detection for detection, _ in followed.values())]
        priors += [prior for _, prior in followed.values()]
        results = self.estimator.estimate(image, camera, requested, priors, constraints)
        of_detections, of_tracks = results[: len(detections)], results[len(detections) :]
        # Give the numbers of objects that were lost in this image to new objects without one.
        lost = [key for key, e in zip(followed, of_tracks, strict=True) if e.T_cam_obj is None]
        detections, of_detections = reuse_lost_numbers(
            detections, detector_numbers, keys, of_detections, lost
        )
        # Store the new states of the tracks.
        for detection, number, key, result in zip(
            detections, detector_numbers, keys, of_detections, strict=True
        ):
            self._remember_detected(detection, number, key, result, time)
        found = Estimates(of_detections, results.timings)
        for key, result in zip(followed, of_tracks, strict=True):
            found += self._remember_followed(key, result, found, camera, time)
        self._numbers.keep(self.boxes)
        return found

    def follow(
        self,
        image: np.ndarray,
        camera: Camera | np.ndarray,
        time: float,
        constraints: Mapping[str, PoseConstraint] | None = None,
    ) -> Estimates:
        """Track all objects to a later image, however long ago they were detected."""
        settings = replace(self.settings, without_detections=True, max_age=MAX_AGE_S)
        return self._estimate(image, camera, [], time, constraints, False, settings)

    def reset(self) -> None:
        """Drop all tracks, and the numbers of their objects."""
        self._tracks.clear()
        self._numbers = TrackNumbers()

    def forget(self, object_ids: Collection[str]) -> None:
        """Drop the tracks of some objects, because their meshes have changed."""
        self._tracks = {key: track for key, track in self._tracks.items() if key[0] not in object_ids}

    def _assign(
        self,
        detections: Sequence[Detection],
        detector_numbers: Sequence[int | None],
        camera: Camera,
        time: float,
    ) -> list[Key | None]:
        """Find the tracks of detections, and whether their detector's numbers can be trusted."""
        mesh = self.estimator.library.mesh
        predicted = {key: predicted_box(t, time, camera, mesh(key[0])) for key, t in self._tracks.items()}
        keys = assign(detections, detector_numbers, self._tracks, predicted)
        self._numbers.compare(
            detector_numbers, keys, {key: track.detector_number for key, track in self._tracks.items()}
        )
        return keys

    def _warn_without_refiner(self) -> None:
        """Log once that objects are not tracked, if the refiner is off."""
        if not self._has_warned and not self.estimator.can_track:
            self._has_warned = True
            _LOG.warning(
                "Objects are estimated anew in every image, and have no pose where no detection shows them: "
                "tracking needs the refiner, so set refiner_rounds to 1 or more."
            )

    def _forget(self, time: float) -> None:
        """Drop the tracks that had no pose for too long, and all of them if time has gone back."""
        self._tracks = {key: track for key, track in self._tracks.items() if self._is_kept(track, time)}

    def _is_kept(self, track: Track, time: float) -> bool:
        recent = time - track.time <= self.settings.max_gap or track.frame >= self._frame - 1
        return time >= track.time - self.settings.max_gap and recent

    def _due_for_search(self, keys: Sequence[Key | None]) -> Key | None:
        """Return the object that all views are searched for in this image; None: none is due.

        One object an image: several that are due take turns, so that no image takes much longer than others.
        """
        # Lost ones are searched for in any case.
        waiting = [k for k in keys if k is not None and not self._tracks[k].lost]
        frames = {k: self._tracks[k].frames_since_retrieval + 1 for k in waiting}
        oldest = max(frames, key=frames.__getitem__, default=None)
        every = self.settings.retrieve_every
        return oldest if oldest is not None and every and frames[oldest] >= every else None

    def _prior(self, track: Track, detection: Detection, camera: Camera, time: float, due: bool) -> Prior:
        """Return the last pose, moved as the box has moved."""
        mesh = self.estimator.library.mesh(detection.class_id)
        T_cam_obj = moved_with_box(track, detection.box, camera, mesh)
        return self._prior_at(T_cam_obj, track, turned_on(T_cam_obj, track, time, mesh), due, detected=True)

    def _prior_at(
        self, T_cam_obj: np.ndarray, track: Track, T_turned: np.ndarray, due: bool, detected: bool
    ) -> Prior:
        frames = track.frames_since_retrieval + 1
        score = self.settings.min_score if self.estimator.can_track else None
        similarity = track.similarity - SIMILARITY_DROP
        is_unsure = score is not None and detected and track.score < score and not track.lost
        if is_unsure and frames < SEARCH_SPACING:
            score, similarity = 0.0, -1.0
        # An object that was lost is looked for where it was, and among all views as well.
        return Prior(T_cam_obj, score, due or track.lost, detected, similarity, T_turned)

    def _undetected(
        self, keys: Sequence[Key | None], time: float, settings: TrackerSettings
    ) -> dict[Key, Track]:
        """Return the tracks without a detection that are to be followed."""
        if not (settings.without_detections and self.estimator.can_track):
            return {}
        oldest = time - settings.max_age
        return {
            key: track
            for key, track in self._tracks.items()
            if key not in keys and not track.lost and track.detected >= oldest
        }

    def _detections_of_tracks(
        self,
        undetected: dict[Key, Track],
        detections: Sequence[Detection],
        camera: Camera,
        time: float,
        due: Key | None,
    ) -> dict[Key, tuple[Detection, Prior]]:
        """Make a detection and a prior of each undetected track: its box, computed from its pose."""
        requested: dict[Key, tuple[Detection, Prior]] = {}
        taken = {(d.class_id, d.instance) for d in detections}
        for key, track in undetected.items():
            # A number that a detection elsewhere has does not belong to this object any more.
            if key in taken:
                continue
            mesh = self.estimator.library.mesh(key[0])
            box = box_of_pose(track.T_cam_obj, camera, mesh)
            if box is not None:
                T_turned = turned_on(track.T_cam_obj, track, time, mesh)
                prior = self._prior_at(track.T_cam_obj, track, T_turned, key == due, detected=False)
                requested[key] = (Detection(key[0], box, instance=key[1]), prior)
        return requested

    def _remember_detected(
        self,
        detection: Detection,
        number: int | None,
        track_key: Key | None,
        result: PoseEstimate,
        time: float,
    ) -> None:
        """Store the track of a detected object; number: its detector's; track_key: its track, or None."""
        key = (detection.class_id, detection.instance)
        track = self._tracks.pop(key, None)
        track = track if track_key is not None else None
        if result.T_cam_obj is None:
            if track is not None:
                self._tracks[key] = replace(track, lost=True)
            return
        frames_since_retrieval, similarity = _since_retrieval(track, result)
        box = np.asarray(detection.box, dtype=np.float64)
        mesh = self.estimator.library.mesh(detection.class_id)
        # A pose that was found elsewhere says nothing of how the object moves.
        moves_on = track is not None and (
            result.tracked or is_near(track.T_cam_obj, result.T_cam_obj, mesh.center)
        )
        moved = velocity_after(track if moves_on else None, result.T_cam_obj, time, mesh)
        self._tracks[key] = Track(
            result.T_cam_obj,
            box,
            time,
            time,
            self._frame,
            frames_since_retrieval,
            similarity,
            result.score,
            False,
            number,
            *moved,
        )

    def _remember_followed(
        self, key: Key, result: PoseEstimate, detected: Estimates, camera: Camera, time: float
    ) -> list[PoseEstimate]:
        """Return the estimate of a followed object; [] if it was lost, or detected as another one."""
        track, mesh = self._tracks[key], self.estimator.library.mesh(key[0])
        if result.T_cam_obj is None:
            if track.frame != self._frame:  # Otherwise a detection of this image has its number.
                self._tracks[key] = replace(track, lost=True)
            return []
        poses = [e.T_cam_obj for e in detected if e.class_id == key[0] and e.T_cam_obj is not None]
        if any(is_same_object(result.T_cam_obj, T, mesh) for T in poses):
            del self._tracks[key]
            return []
        velocity, step = velocity_after(track, result.T_cam_obj, time, mesh)
        frames_since_retrieval, similarity = _since_retrieval(track, result)
        self._tracks[key] = replace(
            track,
            velocity=velocity,
            step=step,
            T_cam_obj=result.T_cam_obj,
            box=moved_with_pose(track, result.T_cam_obj, camera, mesh),
            time=time,
            frame=self._frame,
            frames_since_retrieval=frames_since_retrieval,
            similarity=similarity,
            score=result.score,
        )
        return [replace(result, detected=False, detection_age=max(0.0, time - track.detected))]


def _since_retrieval(track: Track | None, result: PoseEstimate) -> tuple[int, float]:
    """Count the images since all views were searched, and find the highest similarity in them."""
    similarity = -1.0 if result.similarity is None else result.similarity
    if track is None or not result.tracked:
        return 0, similarity
    return track.frames_since_retrieval + 1, max(track.similarity, similarity)
