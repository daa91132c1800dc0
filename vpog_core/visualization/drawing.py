"""Draw antialiased lines and text on uint8 RGB images in place; what lies outside is clipped."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

_FINE = 4
"""Lines are drawn larger by this factor and averaged down: their widths are exact, their edges smooth."""


def draw_polylines(
    image: np.ndarray, curves: list[np.ndarray], width: float, colour, closed: bool = True, fill: bool = False
) -> None:
    """Draw or fill curves [N, 2] (x, y in pixels, float) of a width in pixels on an image [H, W, 3]."""
    points = np.concatenate(curves)
    limit = np.array([image.shape[1], image.shape[0]])
    low = np.clip(np.floor(points.min(axis=0) - width), 0, limit).astype(int)
    high = np.clip(np.ceil(points.max(axis=0) + width) + 1, 0, limit).astype(int)
    if (high <= low).any():
        return
    fine = np.zeros(((high - low) * _FINE)[::-1], np.uint8)
    fixed = [np.rint(((curve - low + 0.5) * _FINE - 0.5) * 16).astype(np.int32) for curve in curves]
    if fill:
        cv2.fillPoly(fine, fixed, 255, cv2.LINE_8, 4)
    if width > 0:
        # OpenCV draws lines of an even thickness one pixel too wide, of an odd one two.
        thickness = max(1, 2 * round((width * _FINE - 1) / 2))
        cv2.polylines(fine, fixed, closed, 255, thickness, cv2.LINE_8, 4)
    alpha = cv2.resize(fine, (high - low).tolist(), interpolation=cv2.INTER_AREA)
    blend(image, alpha, (low[0], low[1]), colour)


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=size)


def text_size(text: str, size: int) -> tuple[int, int]:
    """Return width and height in pixels of a line of text; the height is the same for every text."""
    font = _font(size)
    ascent, descent = font.getmetrics()
    return int(np.ceil(font.getlength(text))), ascent + descent


def draw_text(image: np.ndarray, text: str, xy: tuple[int, int], size: int, colour=(255, 255, 255)) -> None:
    """Draw text on a uint8 image [H, W, 3] in place; `xy` is the upper left corner."""
    width, height = text_size(text, size)
    mask = Image.new("L", (width + 2, height), 0)
    ImageDraw.Draw(mask).text((0, 0), text, fill=255, font=_font(size))
    blend(image, np.asarray(mask), xy, colour)


def blend(image: np.ndarray, alpha: np.ndarray, xy: tuple[int, int], colour) -> None:
    """Blend a colour into a uint8 image [H, W, 3] in place, by an alpha mask [h, w] uint8 at `xy`."""
    x, y = int(xy[0]), int(xy[1])
    x0, y0 = max(x, 0), max(y, 0)
    x1, y1 = min(x + alpha.shape[1], image.shape[1]), min(y + alpha.shape[0], image.shape[0])
    if x1 <= x0 or y1 <= y0:
        return
    a = alpha[y0 - y : y1 - y, x0 - x : x1 - x, None].astype(np.float32) / 255.0
    region = image[y0:y1, x0:x1]
    region[:] = np.rint(region * (1.0 - a) + np.asarray(colour, np.float32) * a).astype(np.uint8)
