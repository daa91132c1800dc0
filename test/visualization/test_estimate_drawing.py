"""Test how estimates are coloured."""

from __future__ import annotations

import pytest

from vpog_core.types import PoseEstimate
from vpog_core.visualization.estimate_drawing import marker_colour
from vpog_core.visualization.overlay import PALETTE


def test_the_surer_the_more_opaque_in_the_object_s_colour():
    fields = [marker_colour(["mug", "box"], PoseEstimate("box", score=score)) for score in (0.0, 0.5, 1.0)]
    assert [f["a"] for f in fields] == pytest.approx([0.15, 0.5, 0.85])
    for colour in fields:
        assert tuple(round(255 * colour[name]) for name in "rgb") == PALETTE[1]
