"""Declare the ranges of seeds of procedural objects: no object is in both training and test."""

from __future__ import annotations

from vpog_core.types import VPOGError

TRAINING = range(100_000)
"""Objects that networks are trained on: `data.procedural` takes the first so many."""
VALIDATION = range(800_000, 900_000)
"""Objects that a training run validates on; the first is also the seed that its samples are drawn by."""
DEMO = range(900_000, 910_000)
"""Objects of `vpog demo`, of the demonstration node and of the tests."""
CALIBRATION = range(910_000, 915_000)
"""Objects of the scenes that `vpog calibrate` fits scores on."""
SPEED = range(915_000, 920_000)
"""Objects of the scene that `vpog bench` measures."""
HELD_OUT = range(920_000, 925_000)
"""Objects of the held-out benchmark; the first is also a seed of its scenes."""
HELD_OUT_OTHERS = range(925_000, 930_000)
"""Objects that lie around those of the held-out benchmark, and hide them."""
DISTRACTORS = range(10_000_000, 11_000_000)
"""Objects that lie around others in synthetic scenes, see `scene.make_scene`."""


def take(seeds: range, first: int, count: int) -> range:
    """Return `count` seeds of one of these ranges, from its `first` on.

    Raises:
        VPOGError: the range does not hold so many.
    """
    taken = seeds[first : first + count]
    if len(taken) < count:
        raise VPOGError(
            f"Procedural objects {first} to {first + count - 1} are asked for, and there are {len(seeds)} "
            "for this purpose: ask for fewer."
        )
    return taken
