"""The node's known plane: from parameters and tf2 to the estimator, or a sentence that says what is wrong.

tf2_ros may not be installed: a stand-in answers as its Buffer does.
"""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.exceptions import ParameterException
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from vpog_ros.msg import Instance2DArray, ObjectPoseArray

from vpog_core.geometry.se3 import transform
from vpog_core.objects.library import ObjectLibrary
from vpog_core.objects.mesh import save_mesh
from vpog_core.synthetic.objects import make_object
from vpog_core.types import Camera, Detection, Estimates, PoseEstimate
from vpog_ros import conversions, optional
from vpog_ros.image_conversion import rgb_to_image
from vpog_ros.vpog_node import FAILURE

from .node_here import NodeHere
from .tf2_stand_in import T_MAP_CAM, TF2

CAMERA = Camera(K=np.array([[50.0, 0, 31.5], [0, 50, 23.5], [0, 0, 1]]), width=64, height=48)


class Listening:
    """An estimator that remembers the constraints that it was given."""

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


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> ObjectLibrary:
    folder = tmp_path_factory.mktemp("objects")
    save_mesh(make_object(900_023, vertices=300), folder / "mug.ply")
    return ObjectLibrary(folder)


@pytest.fixture
def start(library):
    made: list[NodeHere] = []

    def start(**parameters) -> NodeHere:
        given = {"diagnostics_period": 0.1, **parameters}
        made.append(NodeHere(Listening(library), "standing", **given))
        return made[-1]

    yield start
    for node in made:
        node.close()


class Camera12:
    """Sends images of second 12, which the map is known at, with a mug in them."""

    def __init__(self, node: NodeHere, frame_id: str = "camera") -> None:
        kinds = {"image": Image, "camera_info": CameraInfo, "instances": Instance2DArray}
        self.senders = {n: node.peer.create_publisher(kind, n, 10) for n, kind in kinds.items()}
        self.header = Header(frame_id=frame_id)
        self.header.stamp.sec = 12
        assert node.spin_until(lambda: all(s.get_subscription_count() for s in self.senders.values()))

    def send(self) -> None:
        self.header.stamp.nanosec += 1
        self.senders["camera_info"].publish(conversions.camera_to_info(CAMERA, self.header))
        self.senders["image"].publish(rgb_to_image(np.zeros((48, 64, 3), np.uint8), self.header))
        seen = Detection("mug", np.array([20.0, 15.0, 45.0, 35.0]))
        instances = [conversions.instance_from_detection(seen, self.header)]
        self.senders["instances"].publish(Instance2DArray(header=self.header, instances=instances))


@pytest.mark.parametrize("tracking", [True, False])
def test_the_plane_comes_to_the_estimator_in_the_camera_s_frame(start, tracking):
    node = start(upright_objects="mug", plane_frame="map", tracking=tracking)
    node.activate()
    camera = Camera12(node)
    camera.send()
    asked = node.estimator.constraints
    assert node.spin_until(lambda: asked)
    assert list(asked[0]) == ["mug"]
    np.testing.assert_allclose(asked[0]["mug"].normal, T_MAP_CAM[:3, :3].T @ [0, 0, 1], atol=1e-9)
    assert asked[0]["mug"].height is None
    # It may be changed while the node runs, to what can be read; an object that is not there is left out.
    (answer,) = node.node.set_parameters([parameter("upright_objects", "mug: north")])
    assert "give a name" in answer.reason
    node.node.set_parameters([parameter("objects_on_plane", "mug, spoon"), parameter("plane_height", 0.3)])
    asked.clear()
    camera.send()
    assert node.spin_until(lambda: asked)
    offset = asked[0]["mug"].offset
    assert (asked[0]["mug"].height, list(asked[0])) == (0.0, ["mug"])
    assert offset == pytest.approx(0.3 - T_MAP_CAM[2, 3])


def parameter(name: str, value):
    from rclpy.parameter import Parameter

    return Parameter(name, value=value)


def test_a_frame_that_is_not_there_is_one_sentence_and_no_pose(start):
    node = start(upright_objects="mug", plane_frame="odom")
    node.activate()
    told, came = node.listen(DiagnosticArray, "/diagnostics"), node.listen(ObjectPoseArray, "/standing/poses")
    Camera12(node).send()
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
