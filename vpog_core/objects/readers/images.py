"""Read texture files as arrays of 8 bits a channel."""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image

from vpog_core.types import VPOGError

MAX_PIXELS = 16384 * 8192


def decode_texture(data: bytes) -> np.ndarray:
    """Return [h, w, 3 or 4] uint8 RGB or, where the file has transparency, RGBA.

    Raises:
        VPOGError: no image, a cut one, or one of too many pixels; the sentence starts with its verb.
    """
    try:
        # Suppress Pillow's warnings on sizes, which are checked here.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data))
        if image.width * image.height > MAX_PIXELS:
            raise Image.DecompressionBombError
        return _to_bytes(image)
    except Image.DecompressionBombError:
        raise VPOGError(f"has more than {MAX_PIXELS // 10**6} million pixels: make it smaller") from None
    except Exception as error:  # Pillow's decoders raise nearly anything for broken bytes.
        reason = str(error).split("<")[0].strip() or type(error).__name__
        raise VPOGError(f"cannot be decoded ({reason}): save it again as PNG or JPEG") from error


def _to_bytes(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I") or image.mode == "F":
        # 16 bits and floats: Pillow's own conversion clips them at 255.
        values = np.asarray(image, dtype=np.float64)
        values = np.nan_to_num(values)
        largest = (
            1.0 if image.mode == "F" and values.max() <= 1.0 else 255.0 if values.max() <= 255 else 65535.0
        )
        grey = np.round(np.clip(values / largest, 0, 1) * 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    transparent = image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info
    return np.asarray(image.convert("RGBA" if transparent else "RGB"), dtype=np.uint8)
