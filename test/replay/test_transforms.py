"""Test that the transforms of a bag are found as tf2 finds them, and that constraints come of them."""

from __future__ import annotations

import numpy as np
import pytest

from vpog_core.geometry.se3 import invert, quaternion_xyzw, rotation_x, rotation_z, transform
from vpog_core.inference.constraint_settings import ConstraintSettings
from vpog_core.objects.library import ObjectLibrary
from vpog_core.replay import result_messages as messages
from vpog_core.replay.bag_reader import open_bag
from vpog_core.replay.bag_writer import new_bag
from vpog_core.replay.recorded_plane import RecordedPlane
from vpog_core.replay.transforms import RecordedTransforms
from vpog_core.types import VPOGError

SECOND_NS = 1_000_000_000
T_HEAD_CAM = transform(rotation_x(-2.2), [0.1, 0.0, 0.05])
T_ARM_TOOL = transform(rotation_z(0.5), [0.0, 0.2, 0.0])


def moving_head(seconds: float) -> np.ndarray:
    """Return T_base_head [4, 4]: the head turns about z at 0.4 radians, and moves at 0.1 m, a second."""
    return transform(rotation_z(0.4 * seconds), [0.1 * seconds, 0.0, 1.0])


def tf(parent: str, child: str, T: np.ndarray, time_ns: int):
    x, y, z, w = quaternion_xyzw(T[:3, :3])
    turn = messages.make("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w)
    at = messages.make("geometry_msgs/msg/Vector3", x=T[0, 3], y=T[1, 3], z=T[2, 3])
    one = messages.make(
        "geometry_msgs/msg/TransformStamped",
        header=messages.header(time_ns, parent),
        child_frame_id=child,
        transform=messages.make("geometry_msgs/msg/Transform", translation=at, rotation=turn),
    )
    return messages.make("tf2_msgs/msg/TFMessage", transforms=[one])


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    """Yield a base with an arm and a head, which has the camera; the head is known from 10 to 12 s."""
    path = tmp_path_factory.mktemp("bags") / "robot"
    with new_bag(path) as writer:
        writer.write("/tf_static", tf("head", "camera", T_HEAD_CAM, 0), 1)
        writer.write("/tf_static", tf("arm", "tool", T_ARM_TOOL, 0), 2)
        writer.write("/tf_static", tf("base", "/arm", np.eye(4), 0), 3)
        writer.write("/tf_static", tf("island", "palm", np.eye(4), 0), 4)
        # The one of 10 s comes last: networks reorder messages.
        for seconds in (11, 12, 10):
            time_ns = seconds * SECOND_NS
            writer.write("/robot/tf", tf("base", "head", moving_head(seconds), time_ns), time_ns)
    with open_bag(path) as opened:
        yield opened


@pytest.fixture(scope="module")
def transforms(bag) -> RecordedTransforms:
    return RecordedTransforms(bag)


@pytest.mark.parametrize("seconds", [10.0, 10.25, 11.0, 11.9, 12.0])
def test_transforms_are_composed_and_interpolated(transforms, seconds):
    found = transforms.lookup("tool", "camera", round(seconds * SECOND_NS))
    # Turning and moving at constant speed, as interpolation assumes; rotations in quaternions of doubles.
    expected = invert(T_ARM_TOOL) @ moving_head(seconds) @ T_HEAD_CAM
    np.testing.assert_allclose(found, expected, atol=1e-9)
    back = transforms.lookup("camera", "tool", round(seconds * SECOND_NS))
    np.testing.assert_allclose(back @ found, np.eye(4), atol=1e-9)


@pytest.mark.parametrize(
    ("target", "source", "seconds", "reason"),
    [
        ("base", "camera", 9.9, "the bag has the transform from 'head' to 'base' from 10.000 to 12.000 s"),
        ("base", "camera", 12.1, "from 10.000 to 12.000 s"),
        ("palm", "camera", 11.0, "do not connect them"),
        ("odom", "camera", 11.0, "the bag's transforms have no frame 'odom'"),
    ],
)
def test_transforms_that_are_not_known_are_refused(transforms, target, source, seconds, reason):
    with pytest.raises(VPOGError, match=reason):
        transforms.lookup(target, source, round(seconds * SECOND_NS))


def test_a_plane_of_the_base_is_given_in_the_camera_s_frame(bag, objects_dir):
    library = ObjectLibrary(objects_dir)
    settings = ConstraintSettings(objects_on_plane="carton", plane_frame="base", plane_height=0.2)
    plane = RecordedPlane(settings, library, bag)
    (known,) = plane.constraints("camera", 11 * SECOND_NS).values()
    T_cam_base = invert(moving_head(11.0) @ T_HEAD_CAM)
    np.testing.assert_allclose(known.normal, T_cam_base[:3, 2], atol=1e-9)
    # A point of the plane, anywhere in it.
    point = T_cam_base @ [0.7, -0.3, 0.2, 1.0]
    assert known.normal @ point[:3] == pytest.approx(known.offset)
    with pytest.raises(VPOGError, match=r"No transform from 'camera' to 'base' \(plane_frame\) at the image"):
        plane.constraints("camera", 13 * SECOND_NS)
    assert RecordedPlane(ConstraintSettings(), library, bag).constraints("camera", 13 * SECOND_NS) == {}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"plane_frame": "table"}, r"no transforms of it \(frames: arm, base, camera, head"),
        ({"plane_frame": "base", "upright_objects": "spoon"}, "There is no object 'spoon'"),
    ],
)
def test_a_plane_that_cannot_be_known_is_refused_before_anything_else(bag, objects_dir, given, sentence):
    settings = ConstraintSettings(**{"upright_objects": "*", **given})
    with pytest.raises(VPOGError, match=sentence):
        RecordedPlane(settings, ObjectLibrary(objects_dir), bag)


def test_a_transform_that_cannot_be_read_costs_the_others_nothing(bag, break_messages, tmp_path):
    break_messages(bag.path, tmp_path / "bag", "/robot/tf", [2])
    with open_bag(tmp_path / "bag") as broken:
        found = RecordedTransforms(broken)
    (sentence,) = found.unreadable.sentences
    assert "'/robot/tf' that cannot be read are left out: 1" in sentence
    # The head is known at 10 and 11 s still, and no more at 12 s.
    T = found.lookup("base", "camera", 11 * SECOND_NS)
    np.testing.assert_allclose(T, moving_head(11) @ T_HEAD_CAM, atol=1e-12)
    with pytest.raises(VPOGError, match=r"from 10\.000 to 11\.000 s"):
        found.lookup("base", "camera", 12 * SECOND_NS)
