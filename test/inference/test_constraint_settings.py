"""Test that settings of upright objects and their plane become constraints in the camera's frame."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from vpog_core.geometry.se3 import rotation_x, transform
from vpog_core.inference.constraint_settings import ConstraintSettings
from vpog_core.types import VPOGError

NAMES = {"mug": "mug", "cup": "mug", "box": "box", "can": "can"}


def resolve(name: str) -> str:
    if name not in NAMES:
        raise VPOGError(f"There is no object '{name}'.")
    return NAMES[name]


LIBRARY = SimpleNamespace(ids=["mug", "box", "can"], resolve=resolve)
T_BASE_CAM = transform(rotation_x(-2.2), [0.5, 0.1, 0.9])
"""A camera that looks down, 0.9 m above the base."""


def test_objects_axes_and_plane():
    settings = ConstraintSettings(
        upright_objects="cup, box: -y",
        objects_on_plane="box, can",
        plane_frame="base_link",
        plane_height=0.2,
        upright_tolerance=3.0,
    )
    found = settings.constraints(LIBRARY, T_BASE_CAM)
    assert {name: (None if c.up is None else c.up.tolist(), c.height) for name, c in found.items()} == {
        "mug": ([0, 0, 1], None),
        "box": ([0, -1, 0], 0.0),
        "can": (None, 0.0),
    }
    known = found["box"]
    assert np.degrees(known.tilt_tolerance) == pytest.approx(3.0)
    # A point of the base 0.2 m high lies on the plane, wherever it is.
    for xy in ([0, 0], [3.0, -1.0]):
        point = np.linalg.inv(T_BASE_CAM) @ [*xy, 0.2, 1]
        assert known.normal @ point[:3] == pytest.approx(known.offset)
    np.testing.assert_allclose(T_BASE_CAM[:3, :3] @ known.normal, [0, 0, 1], atol=1e-12)


def test_all_objects_but_with_their_own_axes():
    settings = ConstraintSettings(upright_objects="*, box: x", plane_normal="0 -1 -0.5")
    found = settings.constraints(LIBRARY, np.eye(4))
    assert {name: c.up.tolist() for name, c in found.items()} == {
        "mug": [0, 0, 1], "box": [1, 0, 0], "can": [0, 0, 1],
    }  # fmt: skip
    np.testing.assert_allclose(found["can"].normal, np.array([0, -1, -0.5]) / np.sqrt(1.25))


def test_nothing_known_is_nothing_asked():
    assert not ConstraintSettings().is_used
    assert ConstraintSettings().constraints(LIBRARY, np.eye(4)) == {}


def test_unknown_objects_are_told_and_left_out():
    settings = ConstraintSettings(upright_objects="mug, spoon", objects_on_plane="fork", plane_frame="table")
    assert settings.unknown_objects(LIBRARY) == ["spoon", "fork"]
    assert list(settings.constraints(LIBRARY, np.eye(4))) == ["mug"]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"upright_objects": "mug"}, "upright_objects is set and the plane is not known: set plane_frame"),
        ({"objects_on_plane": "mug"}, "objects_on_plane is set and the plane is not known"),
        ({"upright_objects": "mug: up"}, "upright_objects has 'mug: up': give a name"),
        ({"plane_normal": "0, 0"}, "plane_normal is '0, 0': give three numbers"),
        ({"plane_normal": "0, 0, nan"}, "plane_normal is '0, 0, nan'"),
        ({"upright_tolerance": 0.0}, "between 0.1 and 90 degrees"),
    ],
)
def test_what_cannot_be_used_is_a_sentence(given, sentence):
    with pytest.raises(VPOGError) as error:
        ConstraintSettings(**given)
    assert sentence in str(error.value)
