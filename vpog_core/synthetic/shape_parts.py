"""Parts with materials that a shape is made of, and holes that are cut out of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from vpog_core.synthetic.fields import Field


@dataclass
class Part:
    """A piece of a shape with a material of its own.

    Attributes:
        field: its signed distance field.
        print_on: "box" or "round" where a printed label goes well, "" where it does not.
    """

    field: Field
    print_on: str = ""


@dataclass
class Recipe:
    """Parts, what is cut out of all of them, how softly they join, and the sampling box's half sizes [3]."""

    parts: list[Part]
    half: np.ndarray
    holes: list[Field] = field(default_factory=list)
    blend: float = 0.0
