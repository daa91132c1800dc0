"""Cut queries out of annotated images: real photographs and rendered scenes in BOP's format."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np

from vpog_core.bop.frame import BopFrame, BopInstance
from vpog_core.bop.frame_table import FrameTable, Split
from vpog_core.geometry import pinhole
from vpog_core.geometry.boxes import clip_box, jitter_box_normal, projected_box
from vpog_core.geometry.camera import VirtualCamera, look_at_crop, warp
from vpog_core.geometry.se3 import transform
from vpog_core.objects.mesh import Mesh
from vpog_core.objects.renderer import Renderer
from vpog_core.objects.viewpoints import align_roll
from vpog_core.training.synthesis.query_pose import ANCHOR_SPREAD, REFINED_SPREAD, QueryPose, direction_near
from vpog_core.training.synthesis.training_object import TrainingObject
from vpog_core.types import Camera, VPOGError

MIN_VISIBLE = 0.3
"""Instances of which a smaller fraction is visible are not used."""
VISIBLE_BOX = 0.75
"""Fraction of the boxes that are of the visible part; the others are of the whole object."""
MIN_DIAGONAL = 24.0
"""Instances whose visible box has a shorter diagonal, pixels, are not used."""
NEAR, REFINED_NEAR = np.radians(25.0), np.radians(8.0)
"""Largest angle between the view directions of a sample's first query and its others, radians."""
REFINED_RATIO = 0.15
"""Largest logarithm of the ratio of their distances, in a refined sample."""
SENSOR_MARGIN = 0.015
"""A pixel measured this much (m) before the model shows something else (BOP's delta)."""
OCCLUDER_MARGIN = 0.005
"""Another object hides a pixel if it is nearer by this much (m): poses are not exact."""


class BopImages:
    """Holds the images of one split, and renderers of the objects in them.

    Args:
        split: where images are read; table: all its frames.
        renderers: by obj_id, called at each use; without one an object hides nothing.
    """

    def __init__(
        self, split: Split, table: FrameTable, renderers: Mapping[int, Callable[[], Renderer]]
    ) -> None:
        self.split, self.table, self.renderers = split, table, renderers

    def usable_rows(self, obj_id: int, mesh: Mesh) -> np.ndarray:
        """Return rows of an object's instances that are visible and large enough to learn from."""
        table = self.table
        rows = np.flatnonzero(np.asarray(table.obj_id) == obj_id)
        rows = rows[table.T_cam_obj[rows, 2, 3] > 0]
        visible, box = table.visible_fraction[rows], table.boxes[rows, 1]
        hidden = visible < MIN_VISIBLE
        small = np.hypot(box[:, 2] - box[:, 0], box[:, 3] - box[:, 1]) < MIN_DIAGONAL
        # Where the split does not say what is visible, the mesh's projection does.
        unknown = np.isnan(visible) & np.isnan(table.boxes[rows]).all(axis=(1, 2))
        unseen = [bool(u) and not self._shows(int(row), mesh) for u, row in zip(unknown, rows, strict=True)]
        return rows[~hidden & ~small & ~np.array(unseen, dtype=bool)]

    def _shows(self, row: int, mesh: Mesh) -> bool:
        """Tell whether enough of an instance that is not hidden would lie in its image."""
        number = int(self.table.frame_of(np.array([row]))[0])
        camera = self.table.frame(self.split, number).camera
        outline = projected_box(self.table.pose(row), mesh.hull_points, camera.K)
        if outline is None:
            return False
        inside = clip_box(outline, camera.width, camera.height, first=-0.5)
        size, whole = inside[2:] - inside[:2], outline[2:] - outline[:2]
        return bool(np.hypot(*size) >= MIN_DIAGONAL and size.prod() >= MIN_VISIBLE * whole.prod())


class AnnotatedViews:
    """Holds the annotated views of one object in a split.

    Args:
        images: where they lie; rows: [n] of the table.
    """

    def __init__(self, images: BopImages, rows: np.ndarray) -> None:
        self.images, self.rows = images, rows
        self.frames = images.table.frame_of(rows)
        self._cameras: tuple[np.ndarray, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def cameras(self, mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
        """Return directions [n, 3] (unit, object frame), distances [n] (diameters) of the views' cameras."""
        if self._cameras is None:
            T = np.asarray(self.images.table.T_cam_obj[self.rows], dtype=np.float64)
            towards = -np.einsum("nij,ni->nj", T[:, :, :3], T[:, :, 3]) - mesh.center
            length = np.linalg.norm(towards, axis=1)
            self._cameras = towards / length[:, None], length / mesh.diameter
        return self._cameras


class AnnotatedQueries:
    """Cuts queries out of the images an object is annotated in.

    Args:
        size: side of the crops, pixels.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def pose(self, rng: np.random.Generator, obj: TrainingObject, refined: bool) -> QueryPose:
        """Draw a pose near one of the views; of a refined sample nearer, and at the view's distance."""
        view = int(rng.integers(len(obj.views)))
        directions, distances = obj.views.cameras(obj.mesh)
        anchor = direction_near(rng, directions[view], REFINED_SPREAD if refined else ANCHOR_SPREAD)
        return QueryPose(anchor, float(distances[view]) if refined else None, view)

    def queries(
        self, rng: np.random.Generator, obj: TrainingObject, pose: QueryPose, R_ref: np.ndarray, count: int
    ) -> list[dict[str, np.ndarray]]:
        """Cut out the anchor's view and others near it; too few views are repeated and augmented again."""
        images: dict[int, tuple[BopFrame, np.ndarray]] = {}
        out = []
        for view in self._views(rng, obj, pose, count):
            number = int(obj.views.frames[view])
            if number not in images:
                frame = obj.views.images.table.frame(obj.views.images.split, number)
                images[number] = frame, frame.image()
            frame, image = images[number]
            index = int(obj.views.rows[view] - obj.views.images.table.first[number])
            out.append(self._query(rng, obj, frame, image, frame.instances[index], R_ref, pose.turn(rng)))
        return out

    def _views(
        self, rng: np.random.Generator, obj: TrainingObject, pose: QueryPose, count: int
    ) -> np.ndarray:
        """Draw [count] views, the one the anchor was taken from first."""
        directions, distances = obj.views.cameras(obj.mesh)
        first = pose.view
        close = directions @ directions[first] > np.cos(REFINED_NEAR if pose.refined else NEAR)
        if pose.refined:
            close &= np.abs(np.log(distances / distances[first])) < REFINED_RATIO
        others = np.setdiff1d(np.flatnonzero(close), [first])
        chosen = np.concatenate(([first], rng.permutation(others)[: count - 1])).astype(int)
        return np.concatenate((chosen, rng.choice(chosen, count - len(chosen))))

    def _query(
        self,
        rng: np.random.Generator,
        obj: TrainingObject,
        frame: BopFrame,
        image: np.ndarray,
        instance: BopInstance,
        R_ref: np.ndarray,
        turn: float,
    ) -> dict[str, np.ndarray]:
        camera = Camera(frame.K, image.shape[1], image.shape[0])
        box = detected_box(rng, _box(rng, instance, obj.mesh, camera))
        level = look_at_crop(camera, box, self.size)
        roll = align_roll(level.R_virt_cam @ instance.T_cam_obj[:3, :3], R_ref) + turn
        crop = look_at_crop(camera, box, self.size, roll=roll)
        return {
            "query_rgb": warp(image, camera, crop, border=cv2.BORDER_REPLICATE),
            "query_depth": visible_depth(
                frame, instance, camera, crop, obj.renderer, obj.views.images.renderers
            ),
            "query_K": crop.K,
            "query_T": transform(crop.R_virt_cam, np.zeros(3)) @ instance.T_cam_obj,
            "query_outside": beyond_border(camera, crop),
        }


def beyond_border(camera: Camera, crop: VirtualCamera) -> np.ndarray:
    """Return [P, P] bool: where a crop shows nothing of the camera's image."""
    return warp(np.full((camera.height, camera.width), 255, np.uint8), camera, crop) <= 127


def visible_depth(
    frame: BopFrame,
    instance: BopInstance,
    camera: Camera,
    crop: VirtualCamera,
    renderer: Renderer,
    others: Mapping[int, Callable[[], Renderer]],
) -> np.ndarray:
    """Render the depth [P, P] of an instance in a crop, metres; 0 where the image does not show it.

    The dataset's mask says what is visible; where it has none, the other annotated objects of the frame
    (`others`, by obj_id) and the depth map do, where there are some.
    """
    T_crop_cam = transform(crop.R_virt_cam, np.zeros(3))
    depth = renderer.render(T_crop_cam @ instance.T_cam_obj, crop.K, (crop.size, crop.size)).depth
    mask = instance.mask_visible()
    if mask is not None:
        return depth * (warp(mask.astype(np.uint8) * 255, camera, crop) > 127)
    visible = ~beyond_border(camera, crop) & (depth > 0)
    for other in frame.instances:
        if other.index != instance.index and other.obj_id in others:
            visible &= ~_hidden_by(others[other.obj_id](), T_crop_cam @ other.T_cam_obj, crop, depth)
    measured = frame.depth()
    if measured is not None:
        visible &= ~_measured_before(measured, camera, crop, depth)
    return depth * visible


def _hidden_by(
    renderer: Renderer, T_crop_obj: np.ndarray, crop: VirtualCamera, depth: np.ndarray
) -> np.ndarray:
    """Return [P, P] bool: where another object stands before `depth`."""
    size = (crop.size, crop.size)
    x0, y0, x1, y1 = renderer.window(T_crop_obj, crop.K, size)
    if x1 <= x0 or y1 <= y0:
        return np.zeros(size, bool)
    other = renderer.render(T_crop_obj, crop.K, size).depth
    return (other > 0) & (other < depth - OCCLUDER_MARGIN)


def _measured_before(
    measured: np.ndarray, camera: Camera, crop: VirtualCamera, depth: np.ndarray
) -> np.ndarray:
    """Return [P, P] bool: where the depth sensor [H, W] measured less than `depth` along the same ray."""
    in_camera = pinhole.image_rays(crop.K, (crop.size, crop.size)) @ crop.R_virt_cam
    pixels = pinhole.to_pixels(in_camera, camera.K).astype(np.float32)
    sampled = cv2.remap(measured, pixels, None, interpolation=cv2.INTER_NEAREST)
    # Both depths are along an optical axis; the sensor's is along that of the real camera.
    expected = depth * in_camera[..., 2]
    return (sampled > 0) & (sampled < expected - SENSOR_MARGIN)


def detected_box(rng: np.random.Generator, box: np.ndarray) -> np.ndarray:
    """Add a detector's errors to a box [4] (x0, y0, x1, y1): mostly 4 % of its size, at times 10 %."""
    return jitter_box_normal(rng, box, sigma=0.04 if rng.random() < 0.75 else 0.1, least=4)


def _box(rng: np.random.Generator, instance: BopInstance, mesh: Mesh, camera: Camera) -> np.ndarray:
    """Choose the box of the visible part, or at times of the whole; of the mesh where no box is annotated."""
    boxes = [b for b in (instance.box_visible, instance.box_object) if b is not None]
    if not boxes and (projected := projected_box(instance.T_cam_obj, mesh.hull_points, camera.K)) is not None:
        return projected
    if not boxes:
        raise VPOGError("An annotated pose lies around the camera: check the poses and their unit.")
    return boxes[int(rng.random() >= VISIBLE_BOX) % len(boxes)]
