"""Describe what a shape is made of: parts with materials, and holes that are cut out of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from vpog_core.synthetic.fields import Field


@dataclass
class Part:
    """Holds a piece of a shape with a material of its own.

    Attributes:
        field: its signed distance field.
        print_on: "box" or "round" where a printed label goes well, "" where it does not.
    """

    field: Field
    print_on: str = ""


@dataclass
class Recipe:
    """Holds what a shape is made of.

    Attributes:
        parts: joined to one solid; holes: cut out of all of them.
        half: [3] half sizes of the box that the fields are sampled in, metres.
        blend: radius of the joints between parts, metres; 0: sharp edges.
    """

    parts: list[Part]
    half: np.ndarray
    holes: list[Field] = field(default_factory=list)
    blend: float = 0.0
