"""Draw boxes with a mouse: by two clicks on opposite corners, or by one drag."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import cv2
import numpy as np

from vpog_core.types import VPOGError
from vpog_core.visualization.drawing import draw_text, text_size

MIN_SIDE = 8
"""Least side of a box, pixels; a smaller one shows too little of an object to find its pose."""

WIDTH = 2
FONT_SIZE, LINE_HEIGHT = 14, 22
COLOUR = (255, 200, 0)
"""Colour of drawn boxes, RGB."""


class Mouse(Enum):
    """Declares the kinds of mouse events: the left button is pressed or released, or the mouse moves."""

    PRESS = "press"
    RELEASE = "release"
    MOVE = "move"


@dataclass(frozen=True)
class MouseEvent:
    """Holds an event of the left mouse button at a pixel of the image."""

    kind: Mouse
    x: float
    y: float


@dataclass(frozen=True)
class KeyEvent:
    """Holds a key that was pressed, as a character; "\x1b" is Escape, and the window's own close button."""

    key: str


class BoxDrawing:
    """Turns mouse events into boxes.

    Attributes:
        corner: the first corner (x, y), where it is set and the box is not complete.
        point: where the mouse was last.
    """

    def __init__(self) -> None:
        self.corner: tuple[float, float] | None = None
        self.point: tuple[float, float] | None = None

    def add(self, event: MouseEvent, width: int, height: int) -> np.ndarray | None:
        """Process an event, and return the box [4] (x0, y0, x1, y1) that it completes, or None.

        Args:
            width, height: of the image, pixels; boxes are clipped to it.

        Raises:
            VPOGError: the box is too small to be meant; it is forgotten.
        """
        self.point = (event.x, event.y)
        if event.kind == Mouse.MOVE:
            return None
        if self.corner is None:
            self.corner = self.point if event.kind == Mouse.PRESS else None
            return None
        box = corners_to_box(self.corner, self.point, width, height)
        small = (box[2:] - box[:2] + 1 < MIN_SIDE).any()
        if event.kind == Mouse.RELEASE and small:
            return None  # The first of two clicks was released.
        self.corner = None
        if small:
            raise VPOGError(
                f"A box of {box[2] - box[0] + 1:.0f}x{box[3] - box[1] + 1:.0f} pixels is too small: click "
                f"two opposite corners that are {MIN_SIDE} pixels or more apart."
            )
        return box

    def forget(self) -> None:
        """Discard a corner that was set."""
        self.corner = None


def corners_to_box(
    first: tuple[float, float], second: tuple[float, float], width: int, height: int
) -> np.ndarray:
    """Return the box [4] (x0, y0, x1, y1) between two corners, inside the image."""
    points = np.clip(np.array([first, second], np.float64), 0, [width - 1, height - 1])
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def draw_boxes(image: np.ndarray, boxes: list[tuple[str, np.ndarray]], lines: list[str]) -> np.ndarray:
    """Draw named boxes [4] and lines of text onto a copy of an image [H, W, 3] uint8 RGB."""
    canvas = image.copy()
    scale = max(1.0, image.shape[1] / 1000)
    for name, box in boxes:
        low, high = (tuple(int(v) for v in np.round(corner)) for corner in (box[:2], box[2:]))
        cv2.rectangle(canvas, low, high, COLOUR, round(WIDTH * scale))
        _draw_text(canvas, name, (low[0], max(low[1] - round(LINE_HEIGHT * scale), 0)), scale)
    for row, line in enumerate(filter(None, lines)):
        _draw_text(canvas, line, (8, round(8 + LINE_HEIGHT * scale * row)), scale)
    return canvas


def _draw_text(canvas: np.ndarray, text: str, at: tuple[int, int], scale: float) -> None:
    """Write a line in place on a darkened ground, its upper left corner at a pixel (x, y)."""
    size = round(FONT_SIZE * scale)
    width, height = text_size(text, size)
    x, y = at
    ground = canvas[max(y - 2, 0) : y + height + 2, max(x - 3, 0) : x + width + 3]
    ground[...] = ground // 3
    draw_text(canvas, text, at, size, COLOUR)
