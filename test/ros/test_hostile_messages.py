"""Messages as nobody should send them, through the node's own conversions and the whole estimator.

Whatever comes, a frame is answered or refused by one sentence, and no pose is published that is none.
"""

from __future__ import annotations

import os
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy")

import rclpy
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, RegionOfInterest
from std_msgs.msg import Header
from vpog_ros.msg import Instance2D, Instance2DArray

from vpog_core.inference.estimator import PoseEstimator
from vpog_core.messages.images import ALIASES, BYTES_PER_PIXEL
from vpog_core.models.checkpoint import save_weights
from vpog_core.models.config import VPOGConfig
from vpog_core.models.vpog_model import VPOGModel
from vpog_core.objects.mesh import save_mesh
from vpog_core.synthetic.objects import make_object
from vpog_core.types import VPOGError
from vpog_ros.diagnostics import Statistics
from vpog_ros.frame_buffer import Frame, FrameBuffer
from vpog_ros.frame_processor import FrameProcessor
from vpog_ros.notices import Notices
from vpog_ros.vpog_node import SUCCESS, VpogNode

EXAMPLES = int(os.environ.get("VPOG_FUZZ_EXAMPLES", "50"))
"""Examples of each kind; a change of conversions or checks is worth some thousands."""

WIDTH, HEIGHT = 64, 48
FOCAL = 60.0


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """A node in this process, configured, with a small network as it is before training."""
    torch.manual_seed(0)
    config = VPOGConfig(
        image_size=48, window=3, embed_dim=64, depth=1, num_heads=2, embed_from_stem=True, aa_depth=1,
        aa_heads=2, fine_dim=16, flow_hidden=32, flow_layers=2, retrieval_dim=8,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "objects").mkdir()
    save_mesh(make_object(900_022, vertices=800), folder / "objects" / "mug.ply")
    save_weights(VPOGModel(config).eval(), folder / "net.safetensors")

    def estimator(chosen, progress) -> PoseEstimator:
        made = PoseEstimator(
            folder / "objects", folder / "net.safetensors", device="cpu", cache_dir=folder / "cache"
        )
        made.onboard()
        return made

    context = rclpy.Context()
    rclpy.init(context=context)
    made = VpogNode(estimator, "hostile_node", context=context)
    assert made.trigger_configure() == SUCCESS
    yield made
    made.destroy_node()
    context.try_shutdown()


class Sink:
    """Stands where the publishers are, and remembers the poses."""

    def __init__(self) -> None:
        self.estimates: list = []

    def publish_poses(self, estimates, header, chosen) -> None:
        self.estimates += estimates

    def publish_images(self, *_) -> None:
        pass


@pytest.fixture
def process(node):
    """Sends a frame the whole way; returns the sentence it is refused by, or "", and the poses."""

    def process(image, info: CameraInfo, detections) -> tuple[str, list]:
        sink, notices = Sink(), Notices(node.get_logger())
        processor = FrameProcessor(node, node._estimator, sink, Statistics(), notices, FrameBuffer())
        stamp_ns = image.header.stamp.sec * 1_000_000_000 + image.header.stamp.nanosec
        processor.camera_infos.add(info)
        try:
            processor.process(Frame(stamp_ns, image, detections))
        except VPOGError as error:
            return str(error), []
        return "", sink.estimates

    return process


uint32 = st.one_of(
    st.sampled_from([0, 1, 2, 47, 48, 64, 65, 640, 2**31, 2**32 - 1]), st.integers(0, 2**32 - 1)
)
floats = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, FOCAL, 24.0, 31.5, 1e-300, 1e300, -1e300, np.nan, np.inf]),
    st.floats(),
)
names = st.one_of(st.sampled_from(["mug", "", "cup", "mug\n", "../mug", "'" * 3]), st.text(max_size=20))
headers = st.builds(
    lambda sec, frame_id: Header(frame_id=frame_id, stamp=rclpy.time.Time(seconds=sec).to_msg()),
    st.integers(0, 2**31 - 1),
    names,
)
rois = st.builds(RegionOfInterest, x_offset=uint32, y_offset=uint32, width=uint32, height=uint32)
sizes = st.one_of(st.just((WIDTH, HEIGHT)), st.tuples(uint32, uint32))


@st.composite
def camera_infos(draw) -> CameraInfo:
    """Mostly one number of a good calibration is another, so that what lies behind the first check is met."""
    width, height = draw(sizes)
    info = CameraInfo(header=draw(headers), width=width, height=height)
    k = [FOCAL, 0.0, 31.5, 0.0, FOCAL, 23.5, 0.0, 0.0, 1.0]
    for place in draw(st.lists(st.integers(0, 8), max_size=2)):
        k[place] = draw(floats)
    info.k, info.p = k, [*k[:3], 0.0, *k[3:6], 0.0, *k[6:], 0.0]
    info.d = draw(st.lists(floats, max_size=14))
    models = ["plumb_bob", "rational_polynomial", "equidistant", "fisheye", "none", ""]
    info.distortion_model = draw(st.one_of(st.sampled_from(models), st.text(max_size=8)))
    info.binning_x, info.binning_y = draw(st.tuples(uint32, uint32)) if draw(st.booleans()) else (0, 0)
    info.roi = draw(rois) if draw(st.booleans()) else RegionOfInterest()
    return info


@st.composite
def images(draw) -> Image | CompressedImage:
    if draw(st.integers(0, 5)) == 0:
        data = draw(st.binary(max_size=200))
        return CompressedImage(header=draw(headers), format=draw(st.text(max_size=20)), data=data)
    encoding = draw(st.one_of(st.sampled_from([*BYTES_PER_PIXEL, *ALIASES, "32FC1"]), st.text(max_size=8)))
    width, height = draw(sizes)
    pixels = draw(st.sampled_from([b"", b"\x00", b"\xff\x7f", bytes(range(256))]))
    rows = HEIGHT * 3 // 2
    whole = (pixels or b"\x80") * (rows * WIDTH * BYTES_PER_PIXEL.get(encoding, 3) // max(len(pixels), 1) + 1)
    message = Image(header=draw(headers), height=height, width=width, encoding=encoding)
    message.is_bigendian = draw(st.sampled_from([0, 1, 255]))
    message.step = draw(st.one_of(st.just(0), uint32))
    message.data = draw(st.one_of(st.just(whole), st.just(pixels), st.binary(max_size=64)))
    return message


@st.composite
def instance_arrays(draw) -> Instance2DArray:
    messages = []
    for _ in range(draw(st.integers(0, 4))):
        message = Instance2D(class_id=draw(names), instance=draw(st.integers(-(2**31), 2**31 - 1)))
        message.score = draw(st.sampled_from([0.0, 0.5, -1.0, 2.0, float("nan"), float("inf")]))
        message.roi = draw(rois)
        if draw(st.booleans()):
            width, height = draw(sizes)
            message.mask = Image(
                height=height, width=width, encoding=draw(st.sampled_from(["mono8", "8UC1", ""]))
            )
            message.mask.data = draw(st.sampled_from([b"", b"\xff" * 64, b"\xff" * WIDTH * HEIGHT]))
        messages.append(message)
    return Instance2DArray(instances=messages)


@st.composite
def vision_arrays(draw):
    """Draw what looks like a vision_msgs/Detection2DArray; the package may be missing."""
    detections = []
    for _ in range(draw(st.integers(0, 4))):
        results = [
            SimpleNamespace(hypothesis=SimpleNamespace(class_id=draw(names), score=draw(floats)))
            for _ in range(draw(st.integers(0, 3)))
        ]
        position = SimpleNamespace(x=draw(floats), y=draw(floats))
        centre = SimpleNamespace(position=position, theta=draw(floats))
        bbox = SimpleNamespace(center=centre, size_x=draw(floats), size_y=draw(floats))
        word = draw(st.one_of(st.sampled_from(["", "-1", "0", "7" * 5000, "²"]), st.text(max_size=5)))
        detections.append(SimpleNamespace(results=results, id=word, bbox=bbox))
    return SimpleNamespace(detections=detections)


def good_info() -> CameraInfo:
    info = CameraInfo(width=WIDTH, height=HEIGHT, distortion_model="plumb_bob")
    info.k = [FOCAL, 0.0, 31.5, 0.0, FOCAL, 23.5, 0.0, 0.0, 1.0]
    info.header.stamp.sec = 1
    return info


def good_image() -> Image:
    image = Image(height=HEIGHT, width=WIDTH, encoding="rgb8", step=3 * WIDTH)
    image.data = np.random.default_rng(0).integers(0, 255, 3 * WIDTH * HEIGHT, np.uint8).tobytes()
    image.header.stamp.sec = 1
    return image


def good_detections() -> Instance2DArray:
    roi = RegionOfInterest(x_offset=10, y_offset=8, width=40, height=32)
    return Instance2DArray(instances=[Instance2D(class_id="mug", score=0.9, roi=roi)])


def is_sound(sentence: str, poses: list) -> bool:
    """One sentence, or poses that are poses."""
    if sentence:
        return sentence[0].isupper() and "\n" not in sentence.strip() and len(sentence) < 1000
    matrices = [pose.T_cam_obj for pose in poses]
    numbers = {(pose.class_id, pose.instance) for pose in poses}
    turned = all(np.allclose(T[:3, :3] @ T[:3, :3].T, np.eye(3), atol=1e-6) for T in matrices)
    return len(numbers) == len(poses) and turned and all(np.isfinite(T).all() for T in matrices)


fuzz = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def test_a_good_frame_goes_the_whole_way(process):
    sentence, _ = process(good_image(), good_info(), good_detections())
    assert sentence == ""


@fuzz
@given(info=camera_infos())
def test_any_camera_info(process, info):
    assert is_sound(*process(good_image(), info, good_detections()))


@fuzz
@given(image=images())
def test_any_image(process, image):
    assert is_sound(*process(image, good_info(), good_detections()))


@fuzz
@given(detections=st.one_of(instance_arrays(), vision_arrays()))
def test_any_detections(process, detections):
    assert is_sound(*process(good_image(), good_info(), detections))
