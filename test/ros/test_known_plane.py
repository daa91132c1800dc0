"""Test the node's known plane, from parameters and tf2 to the estimator, and its warnings.

tf2_ros may not be installed: a stand-in answers as its Buffer does.
"""

from __future__ import annotations

from contextlib import ExitStack, closing

import numpy as np
import pytest

pytest.importorskip("rclpy")

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.exceptions import ParameterException
from rclpy.parameter import Parameter
from std_msgs.msg import Header
from vpog_ros.msg import ObjectPoseArray

from vpog_core.geometry.se3 import transform
from vpog_core.objects.library import ObjectLibrary
from vpog_core.types import Estimates, PoseEstimate
from vpog_ros import optional
from vpog_ros.transitions import FAILURE

from .camera_here import CameraHere
from .node_here import NodeHere
from .tf2_stand_in import T_MAP_CAM, TF2


class Listening:
    """Remembers the constraints that the estimator was given."""

    device, left_out, can_track = "cpu", {}, True

    def __init__(self, library: ObjectLibrary) -> None:
        self.library, self.object_ids, self.constraints = library, list(library.ids), []

    @property
    def objects(self):
        return self

    def is_open(self, object_id: str) -> bool:
        return True

    def estimate(self, image, camera, detections, priors=None, constraints=None) -> Estimates:
        self.constraints.append(constraints)
        T = transform(np.eye(3), [0.0, 0.0, 0.5])
        return Estimates(PoseEstimate(d.class_id, d.instance, T, 0.9) for d in detections)


@pytest.fixture(autouse=True)
def tf2(monkeypatch):
    monkeypatch.setattr(optional, "tf2_ros", TF2)


@pytest.fixture
def start(mug_library):
    with ExitStack() as nodes:

        def start(**parameters) -> NodeHere:
            node = NodeHere(Listening(mug_library), "standing", diagnostics_period=0.1, **parameters)
            return nodes.enter_context(closing(node))

        yield start


def header(nanosec: int = 0) -> Header:
    """Return the header of an image of second 12, which the map is known at."""
    return Header(frame_id="camera", stamp=Time(sec=12, nanosec=nanosec))


@pytest.mark.parametrize("tracking", [True, False])
def test_the_plane_comes_to_the_estimator_in_the_camera_s_frame(start, tracking):
    node = start(upright_objects="mug", plane_frame="map", tracking=tracking)
    node.activate()
    camera = CameraHere(node)
    camera.send(header(1), detector=header(1))
    asked = node.estimator.constraints
    assert node.spin_until(lambda: asked)
    assert list(asked[0]) == ["mug"]
    np.testing.assert_allclose(asked[0]["mug"].normal, T_MAP_CAM[:3, :3].T @ [0, 0, 1], atol=1e-9)
    assert asked[0]["mug"].height is None
    # It may be changed while the node runs, to what can be read; an object that is not there is left out.
    (answer,) = node.node.set_parameters([Parameter("upright_objects", value="mug: north")])
    assert "give a name" in answer.reason
    told = node.listen(DiagnosticArray, "/diagnostics")
    node.node.set_parameters(
        [Parameter("objects_on_plane", value="mug, spoon"), Parameter("plane_height", value=0.3)]
    )
    asked.clear()
    camera.send(header(2), detector=header(2))
    assert node.spin_until(lambda: asked)
    sentence = "upright_objects or objects_on_plane has spoon, and there is no such object"
    assert node.spin_until(lambda: any(sentence in message.status[0].message for message in told))
    offset = asked[0]["mug"].offset
    assert (asked[0]["mug"].height, list(asked[0])) == (0.0, ["mug"])
    assert offset == pytest.approx(0.3 - T_MAP_CAM[2, 3])


def test_a_frame_that_is_not_there_is_one_sentence_and_no_pose(start):
    node = start(upright_objects="mug", plane_frame="odom")
    node.activate()
    told, came = node.listen(DiagnosticArray, "/diagnostics"), node.listen(ObjectPoseArray, "/standing/poses")
    CameraHere(node).send(header(), detector=header())
    sentence = "No transform from 'camera' to 'odom' (plane_frame) at the image's time"
    assert node.spin_until(
        lambda: any(sentence in v.value for m in told for v in m.status[0].values), timeout_s=15.0
    )
    assert not came
    assert node.estimator.constraints == []


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"upright_objects": "mug"}, "upright_objects is set and the plane is not known"),
        ({"upright_objects": "spoon", "plane_frame": "map"}, "spoon"),
    ],
)
def test_what_does_not_go_together_is_refused_at_configure(start, given, sentence):
    node = start(**given)
    told = node.listen(DiagnosticArray, "/diagnostics")
    assert node.node.trigger_configure() == FAILURE
    assert node.spin_until(lambda: any(sentence in v.value for m in told for v in m.status[0].values))


def test_without_tf2_a_plane_in_another_frame_is_refused(start, monkeypatch):
    monkeypatch.setattr(optional, "tf2_ros", None)
    assert start(upright_objects="mug", plane_frame="map").node.trigger_configure() == FAILURE
    # The camera's own frame needs none.
    start(upright_objects="mug", plane_normal="0, -1, 0").activate()


def test_text_that_is_no_direction_is_refused_at_start(start):
    with pytest.raises(ParameterException, match="plane_normal is 'up': give three numbers"):
        start(plane_normal="up")
