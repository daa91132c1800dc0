"""Describe the files of the corpus: what each shows, and what is right for it."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

SQUARE = np.array([[-0.05, 0, -0.05], [0.05, 0, -0.05], [0.05, 0, 0.05], [-0.05, 0, 0.05]])
UV = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float)
FACES = np.array([[0, 1, 2], [0, 2, 3]])
QUARTERS = {
    "top left": (255, 0, 0),
    "top right": (0, 255, 0),
    "bottom left": (0, 0, 255),
    "bottom right": (250, 250, 0),
}
VERTEX_COLORS = np.array([QUARTERS[k] for k in ("bottom left", "bottom right", "top right", "top left")])
PLAIN = dict.fromkeys(QUARTERS, (180, 180, 180))


@dataclass(frozen=True)
class Odd:
    """Holds one file of the corpus.

    Attributes:
        name: says its kind; write: makes it in a folder and returns its path.
        colors: what is seen at the square's corners, or None where that is not what it is about.
        says: the notes hold this; refused: the error holds this.
        area: of all triangles, m^2, or None.
    """

    name: str
    write: Callable[[Path], Path]
    colors: dict | None = None
    says: str = ""
    refused: str = ""
    area: float | None = 0.01


CORPUS: list[Odd] = []


def odd(name: str, colors=QUARTERS, says: str = "", refused: str = "", area: float | None = 0.01):
    """Put what a function writes into the corpus."""

    def add(write):
        CORPUS.append(Odd(name, write, None if refused else colors, says, refused, area))
        return write

    return add


def quarters(mode: str = "RGB") -> Image.Image:
    """Return the square's texture."""
    image = np.zeros((64, 64, 3), np.uint8)
    image[:32, :32], image[:32, 32:] = QUARTERS["top left"], QUARTERS["top right"]
    image[32:, :32], image[32:, 32:] = QUARTERS["bottom left"], QUARTERS["bottom right"]
    return Image.fromarray(image).convert(mode)


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **({"lossless": True} if kind == "WEBP" else {}))
    return out.getvalue()


def skin(folder: Path, name: str = "skin.png", image: Image.Image | None = None) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(image or quarters()))
