"""What is remembered of a tracked object, and where that leads one to look for it in the next image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vpog_core.geometry.boxes import overlap
from vpog_core.geometry.camera import clip_box, pixel_rays, project
from vpog_core.geometry.se3 import transform_points
from vpog_core.objects.mesh import Mesh
from vpog_core.types import Camera, Detection, VPOGError

STAYS = 0.1
"""A box that has moved by less than this fraction of its size has not moved: detectors err by as much."""
OTHER_NUMBER = 0.3
"""Intersection over union above which a box of another number, or of a new one, belongs to a track."""
SAME_NUMBER = 0.5
"""What the same number is worth beside that, where the boxes overlap at all."""
TOO_NEAR = 0.2
"""Two objects of a class whose middles are nearer than this (diameters) are one object."""

Key = tuple[str, int]
"""(class, instance)."""


@dataclass(frozen=True)
class Track:
    """Remember one instance.

    Attributes:
        T_cam_obj: [4, 4], the last pose; box: [4], where a detector would see it in that image.
        time: of that image, seconds; answer: which of the tracker's answers that was.
        detected: time of the image in which it was detected last.
        unchecked: answers since all views were looked at.
        lost: the last image did not show it at that pose.
    """

    T_cam_obj: np.ndarray
    box: np.ndarray
    time: float
    detected: float
    answer: int = 0
    unchecked: int = 0
    lost: bool = False


def moved_with_box(track: Track, box: np.ndarray, camera: Camera, mesh: Mesh) -> np.ndarray:
    """T_cam_obj [4, 4] of a track whose object has moved in the image as its box did; turn and depth stay.

    What moves the box by no more than a detector's error leaves the pose where it is.
    """
    shift = _middle(box) - _middle(track.box)
    size = np.maximum(np.asarray(track.box[2:]) - np.asarray(track.box[:2]), 1.0)
    if (np.abs(shift) < STAYS * size).all():
        return track.T_cam_obj
    centre = transform_points(track.T_cam_obj, mesh.center)
    pixel = project(camera, centre[None])[0] + shift
    ray = pixel_rays(camera, pixel[None])[0]
    T = track.T_cam_obj.copy()
    if np.isfinite(ray).all():
        T[:3, 3] += ray * centre[2] - centre
    return T


def moved_with_pose(track: Track, T_cam_obj: np.ndarray, camera: Camera, mesh: Mesh) -> np.ndarray:
    """Return the box [4] of a track whose object has moved to another pose [4, 4]."""
    centres = [transform_points(T, mesh.center) for T in (track.T_cam_obj, T_cam_obj)]
    before, after = project(camera, np.array(centres))
    shift = np.tile(after - before, 2)
    return track.box + shift if np.isfinite(shift).all() else track.box


def box_of_pose(T_cam_obj: np.ndarray, camera: Camera, mesh: Mesh) -> np.ndarray | None:
    """Return the box [4] of an object in the image at a pose [4, 4]; None where it is out of the image."""
    points = transform_points(T_cam_obj, mesh.hull_points)
    if not np.isfinite(points).all() or points[:, 2].min() <= 0:
        return None
    pixels = project(camera, points)
    if not np.isfinite(pixels).all():
        return None
    try:
        return clip_box(camera, np.concatenate([pixels.min(axis=0), pixels.max(axis=0)]))
    except VPOGError:
        return None


def assign(detections: Sequence[Detection], tracks: dict[Key, Track]) -> list[Key | None]:
    """Find the track that each detection belongs to, by its box and its number; None: it is new.

    A box belongs to the track of its class that it overlaps most, one of its own number before others: so an
    object that its detector numbers anew stays the same object.
    """
    pairs = []
    for row, detection in enumerate(detections):
        box = np.asarray(detection.box, dtype=np.float64)
        if box.shape != (4,) or not np.isfinite(box).all():
            continue  # The estimator says what is wrong with it.
        for key, track in tracks.items():
            shared = overlap(box, track.box)
            same = key[1] == detection.instance
            if key[0] == detection.class_id and shared > (0.0 if same else OTHER_NUMBER):
                pairs.append((shared + SAME_NUMBER * same, row, key))
    found: list[Key | None] = [None] * len(detections)
    for _, row, key in sorted(pairs, reverse=True):
        if found[row] is None and key not in found:
            found[row] = key
    return found


def is_same_object(T_cam_obj: np.ndarray, other: np.ndarray, mesh: Mesh) -> bool:
    """Tell whether two poses [4, 4] put an object so near that both cannot be there."""
    apart = transform_points(T_cam_obj, mesh.center) - transform_points(other, mesh.center)
    return bool(np.linalg.norm(apart) < TOO_NEAR * mesh.diameter)


def _middle(box: np.ndarray) -> np.ndarray:
    return (np.asarray(box[:2], dtype=np.float64) + np.asarray(box[2:], dtype=np.float64)) / 2
