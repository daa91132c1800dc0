"""Test that reading any file gives its content or an error of one sentence."""

import json

import cv2
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vpog_core.io.camera_file import read_camera
from vpog_core.io.image_file import read_image
from vpog_core.io.mask_file import read_mask
from vpog_core.types import Camera, VPOGError

# The same examples in every run: a test that fails for one change must not fail for the next at random.
fuzz = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

K = [600.0, 0.0, 319.5, 0.0, 600.0, 239.5, 0.0, 0.0, 1.0]
SIMPLE = {"fx": 600, "fy": 600, "cx": 319.5, "cy": 239.5}
keys = st.sampled_from([
    *SIMPLE, "K", "D", "k", "d", "k1", "p1", "width", "image_height", "camera_matrix", "intrinsics", "cam0",
    "distortion", "distortion_model", "model", "camera_model", "fisheye_model", "roi", "binning_x",
    "resolution", "1",
])  # fmt: skip
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["pinhole", "equi"]),
)
values = st.recursive(
    st.one_of(scalars, st.just(K)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.dictionaries(
            st.one_of(keys, st.sampled_from(["data", "rows", "x_offset", "width"])), inner, max_size=4
        ),
    ),
    max_leaves=12,
)


def unless_refused(function, *arguments):
    """Return the function's result, or None where it raises a VPOGError of one line."""
    try:
        return function(*arguments)
    except VPOGError as error:
        sentence = str(error)
    assert "\n" not in sentence
    return None


@fuzz
@given(st.dictionaries(keys, values, max_size=6), st.sampled_from([{}, SIMPLE, {"K": K}]))
def test_any_mapping_is_refused_or_a_camera(tmp_path, content, usual):
    path = tmp_path / "camera.yaml"
    path.write_text(json.dumps({**content, **usual}))
    assert isinstance(unless_refused(read_camera, path, (480, 640)), Camera | None)


starts = st.sampled_from([b"", b"%YAML:1.0\n---\n", b"<?xml version='1.0'?><opencv_storage>", b"K: "])
texts = st.one_of(
    st.binary(max_size=60), st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace"))
)


@fuzz
@given(starts, texts)
def test_any_text_is_refused(tmp_path, start, content):
    path = tmp_path / "camera.yaml"
    path.write_bytes(start + content)
    unless_refused(read_camera, path, (480, 640))


@st.composite
def encoded(draw) -> bytes:
    """Return an encoded image, whole, cut or with some bytes changed."""
    suffix = draw(st.sampled_from([".png", ".jpg", ".webp", ".bmp"]))
    channels = draw(st.sampled_from([(), (3,), (4,)]))
    pixels = np.arange(48 * int(np.prod(channels)), dtype=np.uint8).reshape(6, 8, *channels)
    data = bytearray(cv2.imencode(suffix, pixels)[1].tobytes())
    for place in draw(st.lists(st.integers(0, len(data) - 1), max_size=3)):
        data[place] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.one_of(st.just(len(data)), st.integers(0, len(data))))])


@fuzz
@given(encoded())
def test_any_image_file_is_refused_or_gives_pixels(tmp_path, data):
    path = tmp_path / "image"
    path.write_bytes(data)
    rgb = unless_refused(read_image, path)
    assert rgb is None or (rgb.ndim, rgb.shape[2], rgb.dtype) == (3, 3, np.uint8)
    mask = unless_refused(read_mask, path, (6, 8))
    assert mask is None or (mask.shape, mask.dtype) == ((6, 8), bool)
