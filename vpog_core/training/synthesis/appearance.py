"""Draw the appearance of objects for each sample: their own colours, paint, prints, photographs, decals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vpog_core.objects.appearance_symmetry import appearance_symmetry
from vpog_core.synthetic.repaint import APPEARANCES, repainted
from vpog_core.training.synthesis.training_object import TrainingObject
from vpog_core.types import VPOGError


@dataclass(frozen=True)
class AppearanceParams:
    """Declares how often the object of a sample has which appearance, relative to each other.

    Attributes:
        own: the mesh's own colours; plain: one colour of paint; print: a printed design or a pattern;
            photo: parts of photographs (of `data.photos`; without any, prints); decals: stickers on its own.
    """

    own: float = 0.4
    plain: float = 0.2
    print: float = 0.15
    photo: float = 0.15
    decals: float = 0.1

    def __post_init__(self) -> None:
        values = list(vars(self).values())
        if not all(0 <= v < float("inf") for v in values) or sum(values) <= 0:
            raise VPOGError(f"data.appearances are {vars(self)}: set numbers of zero or more, not all zero.")


OWN_COLOURS = AppearanceParams(own=1, plain=0, print=0, photo=0, decals=0)
"""All objects have the colours of their own meshes."""


def appearance_generator(seed: int, index: int) -> np.random.Generator:
    """Return the generator that draws the appearance of item `index`; pose and scene have their own."""
    return np.random.default_rng([seed, index, 1])


def sample_appearance(
    rng: np.random.Generator, obj: TrainingObject, params: AppearanceParams, photos: Sequence[np.ndarray]
) -> TrainingObject:
    """Return an object with the appearance drawn for one sample, in queries and templates alike.

    Its symmetry is that of the appearance: plain paint keeps all symmetries of the shape.

    Args:
        photos: [h, w, 3] uint8. An object of annotated images keeps the appearance that they show.
    """
    weights = np.array([params.own, *(getattr(params, name) for name in APPEARANCES)])
    chosen = int(rng.choice(len(weights), p=weights / weights.sum())) - 1
    if chosen < 0 or obj.views is not None:
        return obj
    renderer = repainted(rng, obj.renderer, APPEARANCES[chosen], photos)
    shape = obj.shape_symmetry
    symmetry = shape if APPEARANCES[chosen] == "plain" else appearance_symmetry(renderer, shape)
    return TrainingObject(obj.name, lambda: renderer, obj.kind, find_symmetries=lambda: (symmetry, shape))
