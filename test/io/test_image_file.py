"""Test image files of every kind: they are read as the stored pixels, or refused in a sentence."""

import io
import itertools
import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from vpog_core.bop.files import decode_rgb
from vpog_core.io.image_file import ORIENTATION, encoded_size, open_image, read_image, read_photo, to_rgb
from vpog_core.types import VPOGError

ORANGE = np.full((6, 8, 3), (255, 128, 0), np.uint8)


@pytest.fixture
def blocks() -> np.ndarray:
    """Return [32, 48, 3] in blocks of 8, so that JPEG loses little."""
    small = np.random.default_rng(0).integers(20, 236, (4, 6, 3), dtype=np.uint8)
    return small.repeat(8, axis=0).repeat(8, axis=1)


def saved(path, image: Image.Image, **options):
    image.save(path, **options)
    return path


def test_colours_and_grey(tmp_path):
    saved(tmp_path / "a.png", Image.fromarray(ORANGE))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), ORANGE)
    saved(tmp_path / "grey.png", Image.fromarray(ORANGE[..., 1]))
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png"), np.full_like(ORANGE, 128))


@pytest.mark.parametrize("mode", ["P", "1", "L", "LA", "RGBA", "CMYK"])
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_every_mode_shows_what_pillow_shows(tmp_path, blocks, mode, suffix):
    if (mode, suffix) in {("CMYK", "png"), ("P", "jpg"), ("LA", "jpg"), ("RGBA", "jpg")}:
        pytest.skip("no such file")
    image = Image.fromarray(blocks).convert(mode)
    path = saved(tmp_path / f"a.{suffix}", image, **({"quality": 100} if suffix == "jpg" else {}))
    # CMYK and JPEG's chroma: conversions of the two libraries differ by some levels.
    tolerance = 8 if suffix == "jpg" else 0
    np.testing.assert_allclose(read_image(path).astype(int), np.asarray(image.convert("RGB")), atol=tolerance)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_sixteen_bits_are_scaled_by_the_bits_in_use(tmp_path, caplog, blocks, bits):
    blocks[0, 0] = 255
    blocks[:8, :8] = 255
    values = (blocks.astype(np.uint16) * 257) >> (16 - bits)
    cv2.imwrite(str(tmp_path / "deep.png"), values[..., ::-1])
    np.testing.assert_allclose(read_image(tmp_path / "deep.png").astype(int), blocks, atol=1)
    assert (f"uses {bits} of 16 bits" in caplog.text) == (bits < 16)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_pixels_are_those_that_are_stored_whatever_exif_says(tmp_path, caplog, blocks, orientation, suffix):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = saved(tmp_path / f"a.{suffix}", Image.fromarray(blocks), exif=exif)
    data = path.read_bytes()
    for image in (read_image(path), read_photo(path), decode_rgb(data, "a")):
        assert image.shape == blocks.shape
        # JPEG at Pillow's usual quality.
        np.testing.assert_allclose(image.mean((0, 1)), blocks.mean((0, 1)), atol=2)
        np.testing.assert_allclose(image[:8, :8].mean((0, 1)), blocks[0, 0], atol=12)
    assert encoded_size(data, "a") == (48, 32)
    assert ("asks to be turned" in caplog.text) == (orientation != 1)


def test_what_alpha_hides_is_black_and_alpha_that_is_the_same_everywhere_says_nothing(tmp_path, caplog):
    alpha = np.full((6, 8, 1), 255, np.uint8)
    alpha[:, 4:] = 0
    path = saved(tmp_path / "cut_out.png", Image.fromarray(np.dstack([ORANGE, alpha])))
    np.testing.assert_array_equal(read_image(path), np.where(alpha > 0, ORANGE, 0))
    assert "has transparent parts" in caplog.text
    caplog.clear()
    for value in (0, 255):
        path = saved(tmp_path / "flat.png", Image.fromarray(np.dstack([ORANGE, np.full_like(alpha, value)])))
        np.testing.assert_array_equal(read_image(path), ORANGE)
    assert not caplog.text


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_several_images_in_one_file_are_refused(tmp_path, blocks, suffix):
    first = Image.fromarray(blocks)
    path = saved(tmp_path / f"a.{suffix}", first, save_all=True, append_images=[first.rotate(180)])
    with pytest.raises(VPOGError, match="holds several images"):
        read_image(path)


def test_the_first_image_of_a_telephone_s_jpeg_is_read(tmp_path, blocks):
    first = Image.fromarray(blocks)
    path = saved(tmp_path / "a.jpg", first, format="MPO", save_all=True, append_images=[first.rotate(180)])
    np.testing.assert_allclose(read_image(path)[:8, :8].mean((0, 1)), blocks[0, 0], atol=12)


def test_numbers_that_are_no_colours_are_refused(tmp_path):
    path = saved(tmp_path / "depth.tif", Image.fromarray(np.full((6, 8), 0.7, np.float32)))
    with pytest.raises(VPOGError, match="float32 numbers, as depth maps do"):
        read_image(path)


@pytest.mark.parametrize("read", [read_image, read_photo, open_image])
def test_missing_and_broken_files_are_refused(tmp_path, read):
    with pytest.raises(VPOGError, match=r"There is no .* 'nowhere\.png'"):
        read("nowhere.png")
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.png").write_bytes(b"")
    for name in ("text.png", "empty.png"):
        with pytest.raises(VPOGError, match=f"{name}' cannot be read"):
            read(tmp_path / name)


@pytest.mark.parametrize(("suffix", "part"), list(itertools.product(["PNG", "BMP", "TIFF"], [0.1, 0.5, 0.9])))
def test_cut_files_are_refused(tmp_path, blocks, suffix, part):
    stream = io.BytesIO()
    Image.fromarray(blocks).save(stream, suffix)
    (tmp_path / "cut").write_bytes(stream.getvalue()[: int(part * stream.tell())])
    with pytest.raises(VPOGError, match="cut' cannot be read"):
        read_image(tmp_path / "cut")


def test_a_broken_header_is_refused_without_warnings_of_pillow(tmp_path, blocks):
    """The test runs in a process of its own, as pytest handles warnings itself."""
    path = tmp_path / "cut.tiff"
    path.write_bytes(cv2.imencode(".tiff", blocks)[1].tobytes()[:-20])
    code = f"from vpog_core.io.image_file import open_image; open_image({str(path)!r})"
    ended = subprocess.run([sys.executable, "-W", "default", "-c", code], capture_output=True, text=True)
    assert "VPOGError: The image" in ended.stderr
    assert "UserWarning" not in ended.stderr


def test_pixels_of_another_kind_of_memory_are_refused():
    with pytest.raises(VPOGError, match="int32 numbers"):
        to_rgb(np.zeros((4, 4), np.int32), "a")
