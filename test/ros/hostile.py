"""Draw hostile messages by hypothesis, and make good ones to put beside them."""

from __future__ import annotations

import numpy as np
import rclpy
from hypothesis import strategies as st
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, RegionOfInterest
from std_msgs.msg import Header
from vpog_ros.msg import Instance2D, Instance2DArray

from vpog_core.messages.images import ALIASES, BYTES_PER_PIXEL

WIDTH, HEIGHT = 64, 48
FOCAL = 60.0


def texts(max_size: int):
    """Return text that can be sent: a message's strings are UTF-8."""
    return st.text(st.characters(codec="utf-8"), max_size=max_size)


uint32 = st.one_of(
    st.sampled_from([0, 1, 2, 47, 48, 64, 65, 640, 2**31, 2**32 - 1]), st.integers(0, 2**32 - 1)
)
floats = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, FOCAL, 24.0, 31.5, 1e-300, 1e300, -1e300, np.nan, np.inf]),
    st.floats(),
)
names = st.one_of(st.sampled_from(["carton", "", "cup", "carton\n", "../carton", "'" * 3]), texts(20))
headers = st.builds(
    lambda sec, frame_id: Header(frame_id=frame_id, stamp=rclpy.time.Time(seconds=sec).to_msg()),
    st.integers(0, 2**31 - 1),
    names,
)
rois = st.builds(RegionOfInterest, x_offset=uint32, y_offset=uint32, width=uint32, height=uint32)
sizes = st.one_of(st.just((WIDTH, HEIGHT)), st.tuples(uint32, uint32))


@st.composite
def camera_infos(draw) -> CameraInfo:
    """Draw a good calibration with mostly one other number, so that checks after the first are reached."""
    width, height = draw(sizes)
    info = CameraInfo(header=draw(headers), width=width, height=height)
    k = [FOCAL, 0.0, 31.5, 0.0, FOCAL, 23.5, 0.0, 0.0, 1.0]
    for place in draw(st.lists(st.integers(0, 8), max_size=2)):
        k[place] = draw(floats)
    info.k, info.p = k, [*k[:3], 0.0, *k[3:6], 0.0, *k[6:], 0.0]
    info.d = draw(st.lists(floats, max_size=14))
    models = ["plumb_bob", "rational_polynomial", "equidistant", "fisheye", "none", ""]
    info.distortion_model = draw(st.one_of(st.sampled_from(models), texts(8)))
    info.binning_x, info.binning_y = draw(st.tuples(uint32, uint32)) if draw(st.booleans()) else (0, 0)
    info.roi = draw(rois) if draw(st.booleans()) else RegionOfInterest()
    return info


@st.composite
def images(draw) -> Image | CompressedImage:
    if draw(st.integers(0, 5)) == 0:
        data = draw(st.binary(max_size=200))
        return CompressedImage(header=draw(headers), format=draw(texts(20)), data=data)
    encoding = draw(st.one_of(st.sampled_from([*BYTES_PER_PIXEL, *ALIASES, "32FC1"]), texts(8)))
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
    return Instance2DArray(instances=[Instance2D(class_id="carton", score=0.9, roi=roi)])
