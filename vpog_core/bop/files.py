"""Read JSON, images and depth maps as BOP stores them; errors are VPOGErrors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from vpog_core.io.image_file import decode_image, to_rgb
from vpog_core.types import VPOGError


def read_json(path: Path):
    """Read a JSON file.

    Raises:
        VPOGError: no such file, or not JSON.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise VPOGError(
            f"There is no file '{path}' ({error.strerror}): check the dataset's folder."
        ) from error
    return parse_json(data, str(path))


def parse_json(data: bytes, name: str):
    """Parse JSON text; `name` says in errors where it is from."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise VPOGError(f"'{name}' is not valid JSON ({error}): download it again.") from error


def decode_rgb(data: bytes, name: str) -> np.ndarray:
    """Decode a colour or gray image, 8 or 16 bits deep, to [H, W, 3] uint8 RGB."""
    return to_rgb(decode_image(data, name).pixels, name)


def decode_depth(data: bytes, name: str, scale: float) -> np.ndarray:
    """Decode a depth map to [H, W] float32 metres; `scale` brings its numbers to millimetres."""
    depth = decode_image(data, name, "depth map").pixels
    if depth.ndim != 2:
        raise VPOGError(f"The depth map '{name}' has {depth.shape[2]} channels, not one: download it again.")
    return depth.astype(np.float32) * np.float32(scale * 0.001)


def decode_mask(data: bytes, name: str) -> np.ndarray:
    """Decode a mask to [H, W] bool."""
    mask = decode_image(data, name, "mask").pixels
    return (mask if mask.ndim == 2 else mask[..., 0]) > 0


def by_number(content, path: Path) -> dict:
    """Turn the keys of a JSON mapping into numbers."""
    try:
        return {int(key): value for key, value in content.items()}
    except (AttributeError, ValueError) as error:
        raise VPOGError(f"'{path}' is not a mapping of numbers to entries: download it again.") from error
