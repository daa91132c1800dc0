"""Ask an estimator about one of the objects in an image."""

from dataclasses import replace

import numpy as np
import pytest

from vpog_core.types import Camera, Detection, VPOGError

CAMERA = Camera(np.array([[600.0, 0, 320.0], [0, 600.0, 240.0], [0, 0, 1]]), 640, 480)


def estimate(estimator, picture, **change):
    image, boxes = picture
    return estimator.estimate(image, CAMERA, [replace(Detection("thing", boxes[0]), **change)])[0]


def error_of(call) -> str:
    with pytest.raises(VPOGError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)
