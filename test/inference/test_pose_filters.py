"""Test the filters of objects from image to image, while objects appear and change."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from vpog_core.geometry.se3 import transform
from vpog_core.geometry.symmetry import Symmetry
from vpog_core.inference.pose_filters import PoseFilters
from vpog_core.types import PoseEstimate

LIBRARY = SimpleNamespace(symmetry=lambda class_id: Symmetry.none())


def seen_at(x: float) -> list[PoseEstimate]:
    """Return a mug and a can, both at x, metres, known to a millimetre."""
    T = transform(np.eye(3), [x, 0.0, 0.5])
    return [PoseEstimate(name, 0, T, 0.9, np.eye(6) * 1e-6) for name in ("mug", "can")]


def test_an_object_that_has_changed_is_filtered_anew_and_the_others_go_on():
    filters = PoseFilters(LIBRARY)
    for n in range(5):
        filters.filter(seen_at(0.0), 0.03 * n)
    filters.use(LIBRARY, {"can"})
    mug, can = filters.filter(seen_at(0.2), 0.15)
    # A single jump is left out; the can has no past to jump from.
    assert abs(mug.T_cam_obj[0, 3]) < 0.01
    assert can.T_cam_obj[0, 3] == 0.2
