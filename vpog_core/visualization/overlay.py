"""Draw poses on the camera image: outline of the mesh's silhouette, axes, label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vpog_core.geometry.boxes import shared_area
from vpog_core.geometry.projection import can_project, project
from vpog_core.geometry.se3 import transform_points
from vpog_core.types import Camera
from vpog_core.visualization.drawing import blend, draw_polylines, draw_text, text_size
from vpog_core.visualization.silhouette import outline

PALETTE = (
    (255, 200, 40),
    (60, 220, 255),
    (255, 110, 200),
    (140, 240, 90),
    (255, 140, 60),
    (160, 150, 255),
    (90, 255, 200),
    (255, 110, 110),
)
"""RGB colours that differ from each other, from the axes and from most scenes."""

AXIS_COLOURS = ((235, 50, 50), (50, 200, 60), (60, 110, 255))
_DARK = (15, 15, 15)
_FAR = 16000
_RIM = 0.8
Box = tuple[int, int, int, int]


@dataclass
class PoseDrawing:
    """Holds one object to draw.

    Attributes:
        T_cam_obj: [4, 4] pose, metres.
        vertices: [V, 3] metres, object frame.
        faces: [F, 3] vertex indices.
        colour: RGB 0..255 of the outline and label.
        label: text above the object, empty for none.
    """

    T_cam_obj: np.ndarray
    vertices: np.ndarray
    faces: np.ndarray
    colour: tuple[int, int, int] = PALETTE[0]
    label: str = ""


def draw_pose(
    image: np.ndarray,
    camera: Camera,
    T_cam_obj: np.ndarray,
    vertices: np.ndarray,
    faces: np.ndarray,
    colour: tuple[int, int, int] = PALETTE[0],
    label: str = "",
) -> np.ndarray:
    """Return a copy of a uint8 RGB image [H, W, 3] with one object's pose drawn; see `PoseDrawing`."""
    return draw_poses(image, camera, [PoseDrawing(T_cam_obj, vertices, faces, colour, label)])


def draw_poses(image: np.ndarray, camera: Camera, drawings: list[PoseDrawing]) -> np.ndarray:
    """Return a copy of a uint8 RGB image [H, W, 3] with all poses, near ones over far ones, labels on top.

    The image has the camera's size. What lies behind the camera or outside the image is left out.
    """
    canvas = np.array(image, dtype=np.uint8, order="C")
    ordered = sorted(drawings, key=lambda drawing: -float(drawing.T_cam_obj[2, 3]))
    boxes = [_draw_outline(canvas, camera, drawing) for drawing in ordered]
    for drawing, box in zip(ordered, boxes, strict=True):
        if box is not None:
            _draw_axes(canvas, camera, drawing)
    taken: list[Box] = []
    for drawing, box in zip(ordered, boxes, strict=True):
        if drawing.label and box is not None:
            others = [b for b in boxes if b is not None]
            _draw_label(canvas, drawing.label, box, drawing.colour, others, taken)
    return canvas


def draw_box(
    image: np.ndarray, box: np.ndarray, label: str, colour: tuple[int, int, int] = PALETTE[0]
) -> np.ndarray:
    """Return a copy of a uint8 RGB image [H, W, 3] with a detection's box [4] and a label."""
    canvas = np.array(image, dtype=np.uint8, order="C")
    x0, y0, x1, y1 = np.clip(box, -_FAR, _FAR)
    corners, line = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]), _line_width(canvas)
    draw_polylines(canvas, [corners], line + 2 * _RIM, _DARK)
    draw_polylines(canvas, [corners], line, colour)
    whole = (int(x0), int(y0), int(x1), int(y1))
    _draw_label(canvas, label, whole, colour, [whole], [])
    return canvas


def _draw_outline(canvas, camera, drawing) -> Box | None:
    """Draw the outline; return its box (x0, y0, x1, y1), or None if nothing is visible."""
    curves = outline(camera, drawing.T_cam_obj, drawing.vertices, drawing.faces)
    if not curves:
        return None
    line = _line_width(canvas)
    draw_polylines(canvas, curves, line + 2 * _RIM, _DARK)
    draw_polylines(canvas, curves, line, drawing.colour)
    points = np.concatenate(curves)
    (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0)
    return int(x0), int(y0), int(x1), int(y1)


def _draw_axes(canvas, camera, drawing) -> None:
    """Draw the object's frame at its origin, each axis as long as 0.35 of the mesh's diagonal."""
    length = 0.35 * float(np.linalg.norm(np.ptp(np.asarray(drawing.vertices), axis=0)))
    ends = transform_points(drawing.T_cam_obj, np.vstack([np.zeros(3), length * np.eye(3)]))
    if not can_project(camera, ends).all():
        return
    pixels = project(camera, ends)
    if np.abs(pixels).max() > _FAR:
        return
    line = _line_width(canvas)
    for axis in np.argsort(-ends[1:, 2]):
        _arrow(canvas, pixels[0], pixels[1 + axis], AXIS_COLOURS[axis], line)
    centre = pixels[:1] + 1e-3 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    draw_polylines(canvas, [centre], 2.2 * line + 2 * _RIM, _DARK)
    draw_polylines(canvas, [centre], 2.2 * line, (245, 245, 245))


def _arrow(canvas, start, end, colour, width) -> None:
    """Draw a line with a filled head, at most half as long as the line, all with a dark rim."""
    along = end - start
    length = float(np.linalg.norm(along))
    if length < 1.0:
        return
    along = along / length
    across = np.array([-along[1], along[0]])
    head = min(5.0 * width, 0.5 * length)
    neck = end - head * along
    corners = np.stack([end, neck + 0.42 * head * across, neck - 0.42 * head * across])
    shaft = np.stack([start, neck])
    draw_polylines(canvas, [shaft], width + 2 * _RIM, _DARK, closed=False)
    draw_polylines(canvas, [corners], 2 * _RIM, _DARK, fill=True)
    draw_polylines(canvas, [shaft], width, colour, closed=False)
    draw_polylines(canvas, [corners], 0, colour, fill=True)


def _draw_label(canvas, label, box, colour, objects: list[Box], taken: list[Box]) -> None:
    """Draw a dark plate with a strip in the object's colour, beside the object."""
    size = round(14 * _unit(canvas))
    pad = max(3, size // 4)
    text_width, text_height = text_size(label, size)
    width, height = text_width + 3 * pad, text_height + pad
    x, y = _label_place(canvas.shape, box, width, height, objects, taken)
    taken.append((x, y, x + width, y + height))
    blend(canvas, np.full((height, width), 185, np.uint8), (x, y), _DARK)
    blend(canvas, np.full((height, pad), 255, np.uint8), (x, y), colour)
    draw_text(canvas, label, (x + 2 * pad, y + pad // 2), size)


def _label_place(shape, box: Box, width, height, objects: list[Box], taken: list[Box]) -> tuple[int, int]:
    """Choose the upper left corner of a label: around its box, off other labels and objects if possible."""
    x0, y0, x1, y1 = box
    middle_x, middle_y, gap = (x0 + x1 - width) // 2, (y0 + y1 - height) // 2, 6
    beside = [(x1 + gap, middle_y), (x0 - gap - width, middle_y)]
    wanted = [(middle_x, y0 - gap - height), (middle_x, y1 + gap), *beside]
    wanted += [(x, y) for y in (y0 - gap - height, y1 + gap) for x in (x0 - width // 2, x1 - width // 2)]
    wanted += [(x, y + k * (height + 2)) for x, y in wanted for k in (-2, -1, 1, 2)]
    limit = max(shape[1] - width, 0), max(shape[0] - height, 0)
    places = [(int(np.clip(x, 0, limit[0])), int(np.clip(y, 0, limit[1]))) for x, y in wanted]

    def hidden(place) -> float:
        plate = (*place, place[0] + width, place[1] + height)
        return sum(shared_area(plate, b) for b in objects) + 20 * sum(shared_area(plate, b) for b in taken)

    return min(places, key=hidden)


def _unit(canvas) -> float:
    return max(1.0, canvas.shape[0] / 480.0)


def _line_width(canvas) -> float:
    return 2.6 * _unit(canvas)
