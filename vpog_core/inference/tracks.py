"""Hold the state of tracked objects, and predict where they are in the next image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.transform import Rotation

from vpog_core.geometry.boxes import overlap, seen_box, usable_box
from vpog_core.geometry.projection import can_project, pixel_rays, project
from vpog_core.geometry.se3 import rotation_from_vector, transform_points
from vpog_core.objects.mesh import Mesh
from vpog_core.types import Camera, Detection, VPOGError

BOX_NOISE = 0.1
"""A box that moved by less than this fraction of its size counts as still: detectors are no more exact."""
OTHER_NUMBER = 0.3
"""Intersection over union above which a box of another number, or of a new one, belongs to a track."""
SAME_NUMBER = 0.5
"""Added to the overlap of boxes if the numbers are the same and the boxes overlap at all."""
SMOOTHING = 0.5
"""Weight of the newest step in an object's velocity."""
MAX_STEPS = 2.0
"""A velocity is used for at most this many times the interval that it was measured over."""
MAX_ZOOM = 2.0
"""A box grows or shrinks by no more from one image to the next."""
MIN_SEPARATION = 0.2
"""Two objects of a class whose middles are nearer than this (diameters) are one object."""

Key = tuple[str, int]
"""(class, instance)."""


@dataclass(frozen=True)
class Track:
    """Holds the state of one tracked instance.

    Attributes:
        T_cam_obj: [4, 4], the last pose; box: [4], where a detector would see it in that image.
        time: of that image, seconds; frame: the number of that image in the tracker.
        detected: time of the image in which it was detected last.
        frames_since_retrieval: images since all views were searched.
        similarity: of image and render, the highest in those images; score: of the last pose.
        lost: the last image did not show it at that pose, or its detection there had no pose.
        detector_number: the number that its detector gave it last; None: none, or none that can be trusted.
        velocity: [6] metres per second of its middle and radians per second, about the axes of the camera
            frame; found over `step` seconds.
    """

    T_cam_obj: np.ndarray
    box: np.ndarray
    time: float
    detected: float
    frame: int = 0
    frames_since_retrieval: int = 0
    similarity: float = -1.0
    score: float = 1.0
    lost: bool = False
    detector_number: int | None = None
    velocity: np.ndarray = field(default_factory=lambda: np.zeros(6))
    step: float = 0.0


def moved_with_box(track: Track, box: np.ndarray, camera: Camera, mesh: Mesh) -> np.ndarray:
    """Move a track's pose T_cam_obj [4, 4] as its box moved in the image; rotation and depth stay.

    A motion of the box within a detector's error leaves the pose where it is, and so does any motion where
    the camera cannot project the object's middle.
    """
    shift = _box_center(box) - _box_center(track.box)
    size = np.maximum(np.asarray(track.box[2:]) - np.asarray(track.box[:2]), 1.0)
    if (np.abs(shift) < BOX_NOISE * size).all():
        return track.T_cam_obj
    centre = transform_points(track.T_cam_obj, mesh.center)
    if not can_project(camera, centre):
        return track.T_cam_obj
    pixel = project(camera, centre[None])[0] + shift
    ray = pixel_rays(camera, pixel[None])[0]
    T = track.T_cam_obj.copy()
    if np.isfinite(ray).all():
        T[:3, 3] += ray * centre[2] - centre
    return T


def moved_with_pose(track: Track, T_cam_obj: np.ndarray, camera: Camera, mesh: Mesh) -> np.ndarray:
    """Move the box [4] of a track as its pose moved to another pose [4, 4].

    Where the camera cannot project the object's middle at both, the box stays.
    """
    centres = np.array([transform_points(T, mesh.center) for T in (track.T_cam_obj, T_cam_obj)])
    if not can_project(camera, centres).all():
        return track.box
    before, after = project(camera, centres)
    half = (np.asarray(track.box[2:]) - np.asarray(track.box[:2])) / 2
    half = half * np.clip(centres[0, 2] / centres[1, 2], 1 / MAX_ZOOM, MAX_ZOOM)
    center = _box_center(track.box) + after - before
    box = np.concatenate([center - half, center + half])
    return box if np.isfinite(box).all() else track.box


def velocity_after(track: Track | None, T_cam_obj: np.ndarray, time: float, mesh: Mesh) -> tuple:
    """Compute the velocity [6] and the step, seconds, of an object now at a pose [4, 4]; see `Track`."""
    if track is not None and not track.lost and time == track.time:
        # The same image with other detections.
        return track.velocity, track.step
    if track is None or track.lost or not time > track.time:
        return np.zeros(6), 0.0
    shift = transform_points(T_cam_obj, mesh.center) - transform_points(track.T_cam_obj, mesh.center)
    turn = Rotation.from_matrix(T_cam_obj[:3, :3] @ track.T_cam_obj[:3, :3].T).as_rotvec()
    step = time - track.time
    newest = np.concatenate([shift, turn]) / step
    return (newest if not track.step else track.velocity + SMOOTHING * (newest - track.velocity)), step


def predicted_box(track: Track, time: float, camera: Camera, mesh: Mesh) -> np.ndarray:
    """Predict the box [4] of a track at a time, from its velocity."""
    T = track.T_cam_obj.copy()
    T[:3, 3] += track.velocity[:3] * _trusted_seconds(track, time)
    return moved_with_pose(track, T, camera, mesh)


def turned_on(T_cam_obj: np.ndarray, track: Track, time: float, mesh: Mesh) -> np.ndarray:
    """Turn a track's object at a pose [4, 4] about its middle as far as its velocity says."""
    centre = transform_points(T_cam_obj, mesh.center)
    T = T_cam_obj.copy()
    T[:3, :3] = rotation_from_vector(track.velocity[3:] * _trusted_seconds(track, time)) @ T_cam_obj[:3, :3]
    T[:3, 3] += centre - transform_points(T, mesh.center)
    return T


def _trusted_seconds(track: Track, time: float) -> float:
    """Return the seconds, of those since a track's image, for which its velocity is trusted."""
    return float(np.clip(time - track.time, 0.0, MAX_STEPS * track.step))


def box_of_pose(T_cam_obj: np.ndarray, camera: Camera, mesh: Mesh) -> np.ndarray | None:
    """Return the box [4] of an object in the image at a pose [4, 4]; None where it is out of the image."""
    box = seen_box(camera, T_cam_obj, mesh.hull_points)
    try:
        return None if box is None else usable_box(box, camera)
    except VPOGError:
        return None


def assign(
    detections: Sequence[Detection],
    detector_numbers: Sequence[int | None],
    tracks: Mapping[Key, Track],
    predicted: Mapping[Key, np.ndarray],
) -> list[Key | None]:
    """Find the track that each detection belongs to, by its box and its number; None: it is new.

    Boxes are assigned to the tracks of their class so that the sum of overlaps is largest; boxes with the
    track's number are preferred. So an object that its detector renumbers stays the same object. Predicted
    boxes are tried before last boxes.

    Args:
        detector_numbers: the detector's number of each detection; None: none that can be trusted.
        predicted: of each track the box [4] in which its object is expected.
    """
    last = {key: track.box for key, track in tracks.items()}
    found: list[Key | None] = [None] * len(detections)
    for boxes in (predicted, last):
        rows = [n for n, key in enumerate(found) if key is None]
        keys = [key for key in tracks if key not in found]
        scores = np.array(
            [
                [_match_score(detections[n], detector_numbers[n], k, tracks[k], boxes[k]) for k in keys]
                for n in rows
            ]
        ).reshape(len(rows), len(keys))
        for i, j in zip(*linear_sum_assignment(-scores), strict=True):
            if scores[i, j] > 0:
                found[rows[i]] = keys[j]
    return found


def _match_score(
    detection: Detection, number: int | None, key: Key, track: Track, expected: np.ndarray
) -> float:
    """Compute how well a detection fits a track; 0 where it cannot belong to it."""
    box = np.asarray(detection.box, dtype=np.float64)
    if key[0] != detection.class_id or box.shape != (4,) or not np.isfinite(box).all():
        return 0.0  # The estimator reports what is wrong with such a box.
    same = number is not None and number == track.detector_number
    shared = overlap(box, expected)
    return shared + SAME_NUMBER * same if shared > (0.0 if same else OTHER_NUMBER) else 0.0


def is_same_object(T_cam_obj: np.ndarray, other: np.ndarray, mesh: Mesh) -> bool:
    """Tell whether two poses [4, 4] put an object at nearly the same place."""
    apart = transform_points(T_cam_obj, mesh.center) - transform_points(other, mesh.center)
    return bool(np.linalg.norm(apart) < MIN_SEPARATION * mesh.diameter)


def _box_center(box: np.ndarray) -> np.ndarray:
    return (np.asarray(box[:2], dtype=np.float64) + np.asarray(box[2:], dtype=np.float64)) / 2
