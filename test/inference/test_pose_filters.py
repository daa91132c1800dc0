"""Test the filters of objects from image to image, while objects appear and change."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from vpog_core.geometry.se3 import at_point, moved, rotation_z, transform, transform_points
from vpog_core.geometry.symmetry import Symmetry
from vpog_core.inference.pose_filters import PoseFilters
from vpog_core.types import PoseEstimate

LIBRARY = SimpleNamespace(
    symmetry=lambda class_id: Symmetry.none(), mesh=lambda class_id: SimpleNamespace(center=np.zeros(3))
)


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


def test_an_image_that_comes_twice_is_filtered_once():
    """Several detectors of one image: each of them makes a frame of it."""
    filters = PoseFilters(LIBRARY)
    places = []
    for n, x in enumerate((0.0, 0.0, 0.0, 0.0, 0.2, 0.0)):
        for _ in range(2):
            (mug, _) = filters.filter(seen_at(x), 0.03 * n)
            places.append(mug.T_cam_obj[0, 3])
    assert np.abs(places).max() < 0.01


def test_what_is_gone_takes_no_memory():
    filters = PoseFilters(LIBRARY, max_gap=1.0)
    for n in range(100):
        (seen,) = seen_at(0.0)[:1]
        filters.filter([replace(seen, instance=n)], 0.1 * n)
    # Those of the last second, and the last image.
    assert len(filters._states) <= 12


def spin(class_id: str, apart: float) -> np.ndarray:
    """Filter a spinning object whose middle lies `apart` from its origin, metres.

    Returns:
        [60, 3] errors of the middle's place, metres.
    """
    rng, middle = np.random.default_rng(0), np.array([apart, 0.0, 0.0])
    axis = {"continuous": [{"axis": "z", "offset": middle.tolist()}]}
    symmetry = Symmetry.from_mapping(axis if class_id == "can" else {})
    library = SimpleNamespace(
        symmetry=lambda class_id: symmetry, mesh=lambda class_id: SimpleNamespace(center=middle)
    )
    filters, sigma, errors = PoseFilters(library), np.array([0.001] * 3 + [0.01] * 3), []
    for n in range(60):
        true = transform(rotation_z(4.0 * n / 30), [0.0, 0.0, 0.7])
        noisy = moved(true, sigma * rng.standard_normal(6))
        T_cam_obj, covariance = at_point(noisy, np.diag(sigma**2), -middle)
        (found,) = filters.filter([PoseEstimate(class_id, 0, T_cam_obj, 0.9, covariance)], n / 30)
        errors.append(transform_points(found.T_cam_obj, middle) - true[:3, 3])
    return np.array(errors)


@pytest.mark.parametrize("class_id", ["mug", "can"])
@pytest.mark.parametrize("apart", [0.3, 1.0])
def test_an_object_that_spins_is_filtered_alike_wherever_its_origin_lies(class_id, apart):
    """A mesh in the coordinates of its assembly: the origin moves on a circle about the object."""
    errors = spin(class_id, apart)
    np.testing.assert_allclose(errors, spin(class_id, 0.0), atol=1e-9)
    # The middle is at rest, and known better than it was measured, with errors of 1.7 mm.
    assert np.sqrt((errors[20:] ** 2).sum(axis=1).mean()) < 1.5e-3
