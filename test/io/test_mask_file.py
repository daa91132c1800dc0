"""Test which pixels of mask files are the object, and which files are refused."""

import cv2
import numpy as np
import pytest
from PIL import Image

from vpog_core.io.mask_file import read_mask
from vpog_core.types import VPOGError

SIZE = (60, 80)
INSIDE = np.zeros(SIZE, bool)
INSIDE[20:45, 30:61] = True


def saved(tmp_path, pixels: np.ndarray | Image.Image, name="mask.png", **options):
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(tmp_path / name, **options)
    return tmp_path / name


@pytest.mark.parametrize("value", [1, 7, 128, 255])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_one_value_on_black(tmp_path, value, kind):
    np.testing.assert_array_equal(read_mask(saved(tmp_path, (INSIDE * value).astype(kind)), SIZE), INSIDE)


def test_one_colour_on_black_and_one_bit(tmp_path):
    red = INSIDE[..., None] * np.uint8([200, 0, 0])
    np.testing.assert_array_equal(read_mask(saved(tmp_path, red), SIZE), INSIDE)
    np.testing.assert_array_equal(read_mask(saved(tmp_path, Image.fromarray(INSIDE)), SIZE), INSIDE)


@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (90, 160, 40)])
def test_varying_transparency_is_the_mask(tmp_path, colour):
    pixels = np.dstack([np.full((*SIZE, 3), colour, np.uint8), INSIDE.astype(np.uint8) * 255])
    np.testing.assert_array_equal(read_mask(saved(tmp_path, pixels), SIZE), INSIDE)


def test_a_photograph_cut_out_is_the_mask(tmp_path):
    photograph = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    pixels = np.dstack([photograph, INSIDE.astype(np.uint8) * 255])
    np.testing.assert_array_equal(read_mask(saved(tmp_path, pixels), SIZE), INSIDE)


@pytest.mark.parametrize("alpha", [0, 255])
def test_transparency_that_is_the_same_everywhere_says_nothing(tmp_path, alpha):
    white = np.repeat(INSIDE[..., None] * np.uint8(255), 3, axis=2)
    pixels = np.dstack([white, np.full(SIZE, alpha, np.uint8)])
    np.testing.assert_array_equal(read_mask(saved(tmp_path, pixels), SIZE), INSIDE)


@pytest.mark.parametrize("save", [{"name": "mask.png"}, {"name": "mask.jpg", "quality": 60}])
def test_soft_rims_are_cut_in_their_middle(tmp_path, save):
    soft = cv2.GaussianBlur(INSIDE.astype(np.uint8) * 255, (0, 0), 1.0)
    read = read_mask(saved(tmp_path, soft, **save), SIZE)
    # The blur rounds the corners, JPEG moves the rim by less than a pixel.
    assert (read != INSIDE).sum() <= (4 if save["name"].endswith("png") else 30)


def labels(*values) -> np.ndarray:
    """Return a map with one square for each value."""
    pixels = np.zeros((*SIZE, np.size(values[0])), np.uint8).squeeze()
    for n, value in enumerate(values):
        pixels[10:40, 5 + 25 * n : 25 + 25 * n] = value
    return pixels


@pytest.mark.parametrize(
    ("pixels", "shown"),
    [
        (labels(1, 2, 3), r"3 values \(1, 2, 3\)"),
        (labels(1, 255), r"2 values \(1, 255\)"),
        (labels(100, 200), r"2 values \(100, 200\)"),
        (labels((255, 0, 0), (0, 255, 0)), r"2 values \(RGB \(0, 255, 0\), RGB \(255, 0, 0\)\)"),
        (labels(1, 2).astype(np.uint16) * 1000, r"2 values \(1000, 2000\)"),
        (np.where(INSIDE, 255, 30).astype(np.uint8), r"2 values \(30, 255\)"),
    ],
)
def test_label_maps_are_refused_by_their_labels(tmp_path, pixels, shown):
    with pytest.raises(VPOGError, match=f"{shown} beside black"):
        read_mask(saved(tmp_path, pixels), SIZE)


def test_label_maps_with_a_palette_or_in_jpeg_are_refused(tmp_path):
    indexed = Image.fromarray(labels(1, 2))
    indexed.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    with pytest.raises(VPOGError, match=r"RGB \(0, 128, 0\), RGB \(128, 0, 0\)"):
        read_mask(saved(tmp_path, indexed), SIZE)
    with pytest.raises(VPOGError, match="2 values"):
        read_mask(saved(tmp_path, labels((255, 0, 0), (0, 255, 0)), "mask.jpg", quality=90), SIZE)


def test_labels_of_small_numbers_in_jpeg_are_refused(tmp_path):
    with pytest.raises(VPOGError, match=r"nowhere brighter than \d of 255.*PNG"):
        read_mask(saved(tmp_path, labels(1, 2), "mask.jpg", quality=95), SIZE)


def test_masks_that_tell_nothing_are_refused(tmp_path, caplog):
    with pytest.raises(VPOGError, match="80x60 but the image 90x60"):
        read_mask(saved(tmp_path, INSIDE), (60, 90))
    with pytest.raises(VPOGError, match="all black"):
        read_mask(saved(tmp_path, np.zeros(SIZE, np.uint8)), SIZE)
    with pytest.raises(VPOGError, match="black nowhere"):
        read_mask(saved(tmp_path, np.full(SIZE, 255, np.uint8)), SIZE)
    with pytest.raises(VPOGError, match="float32"):
        read_mask(saved(tmp_path, INSIDE.astype(np.float32), "mask.tif"), SIZE)
    assert not caplog.messages
    read_mask(saved(tmp_path, ~INSIDE), SIZE)
    assert "covers 84 % of the image: is the object white?" in caplog.text


def test_a_thin_object_keeps_its_pixels(tmp_path):
    line = np.zeros(SIZE, np.uint8)
    line[30, 10:50] = 3
    np.testing.assert_array_equal(read_mask(saved(tmp_path, line), SIZE), line > 0)
