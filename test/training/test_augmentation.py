from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from vpog_core.synthetic import photometry
from vpog_core.synthetic.photometry import (
    SOURCE_STEP,
    Photometry,
    PhotometryParams,
    degrade,
    draw,
    photograph,
)
from vpog_core.training.synthesis import device_augmentation

QUIET = PhotometryParams(
    gamma=(1, 1), gain=(1, 1), contrast=(1, 1), offset=0, white_balance=0, saturation=(1, 1), grey=0,
    vignette=0, defocus=0, source=(112, 448), motion=0, noise=0, sharpen=0, jpeg=0,
)  # fmt: skip


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """Return smooth shapes, sharp edges and some grain: [112, 112, 3] uint8."""
    rng = np.random.default_rng(0)
    image = cv2.resize(
        rng.uniform(30, 220, (7, 7, 3)).astype(np.float32), (112, 112), interpolation=cv2.INTER_CUBIC
    )
    cv2.rectangle(image, (30, 40), (80, 90), (200, 60, 40), -1)
    cv2.circle(image, (70, 50), 18, (20, 90, 190), -1)
    return (image + rng.normal(0, 3, image.shape)).clip(0, 255).astype(np.uint8)


def through(image, **params) -> np.ndarray:
    return degrade(np.random.default_rng(1), image, replace(QUIET, **params)).astype(int)


def test_without_effects_nothing_changes(image):
    assert np.array_equal(through(image), image)


EFFECTS = {
    "gain": {"gain": (0.5, 0.5)},
    "gamma": {"gamma": (2, 2)},
    "contrast": {"contrast": (0.5, 0.5)},
    "offset": {"offset": 0.2},
    "white_balance": {"white_balance": 0.2},
    "saturation": {"saturation": (0.3, 0.3)},
    "grey": {"grey": 1.0},
    "vignette": {"vignette": 1.0, "vignette_depth": (0.5, 0.5)},
    "defocus": {"defocus": 1.0},
    "motion": {"motion": 1.0},
    "low_resolution": {"source": (60, 60)},
    "noise": {"noise": 1.0, "read": (0.02, 0.02)},
    "sharpen": {"sharpen": 1.0},
    "jpeg": {"jpeg": 1.0, "jpeg_quality": (20, 20)},
}


def test_a_whole_image_keeps_its_shape_and_shows_the_same(image):
    """A camera's image has any size, and other effects each time."""
    whole = cv2.resize(image, (320, 240), interpolation=cv2.INTER_CUBIC)
    taken = [photograph(np.random.default_rng(seed), whole, 112) for seed in range(6)]
    for each in taken:
        assert (each.shape, each.dtype) == (whole.shape, whole.dtype)
        assert np.corrcoef(each.mean(axis=2).ravel(), whole.mean(axis=2).ravel())[0, 1] > 0.8
        assert not np.array_equal(each, taken[0]) or each is taken[0]


@pytest.mark.parametrize("name", EFFECTS)
def test_each_effect_acts_alone_and_keeps_the_picture(image, name):
    out = through(image, **EFFECTS[name])
    assert np.abs(out - image).mean() > 0.5
    # The image stays: its luminance goes up and down where it did.
    a, b = (
        np.diff(cv2.GaussianBlur(v.mean(axis=-1).astype(np.float32), (0, 0), 3)).ravel() for v in (out, image)
    )
    assert np.corrcoef(a, b)[0, 1] > 0.85


def test_gain_grey_and_contrast_are_what_they_say(image):
    assert np.abs(through(image, gain=(0.5, 0.5)) - image * 0.5).max() <= 1
    grey = through(image, grey=1.0)
    assert np.ptp(grey, axis=-1).max() <= 1
    assert np.abs(grey[..., 0] - image.mean(axis=-1)).max() <= 1
    assert np.abs(through(image, contrast=(0.5, 0.5)) - (image * 0.5 + 63.75)).max() <= 1


def test_blurs_keep_the_mean_and_sharpening_undoes_some(image):
    def edges(image):
        return np.abs(np.diff(np.asarray(image, float), axis=1)).mean()

    for name in ("defocus", "motion"):
        out = through(image, **{name: 1.0})
        assert edges(out) < 0.9 * edges(image)
        assert out.mean() == pytest.approx(image.mean(), abs=1)
    assert edges(through(image, sharpen=1.0)) > 1.1 * edges(image)


def test_shot_noise_grows_with_the_root_of_the_light():
    shot = replace(QUIET, noise=1.0, shot=(0.1, 0.1), read=(0, 0))
    dark, bright = (
        np.std(degrade(np.random.default_rng(0), np.full((112, 112, 3), level, np.uint8), shot))
        for level in (40, 160)
    )
    assert bright / dark == pytest.approx(2.0, rel=0.05)
    assert bright == pytest.approx(0.1 * np.sqrt(160 / 255) * 255, rel=0.05)


def test_draws_have_the_shares_and_ranges_of_the_table():
    s, n = PhotometryParams(), 4000
    p = draw(np.random.default_rng(0), n, 112, s)
    fractions = {
        "jpeg": (p.quality > 0, s.jpeg),
        "grey": (p.saturation == 0, s.grey),
        "vignette": (p.vignette[:, 2] > 0, s.vignette),
        # Even in the logarithm from 40 to 400 pixels, rounded to steps of 14.
        "low": (p.scale < 1, np.log(105 / 40) / np.log(10)),
        "very low": (p.scale < 0.5, np.log(49 / 40) / np.log(10)),
        "blurred": (p.kernel.max(axis=(1, 2))[p.scale == 1] < 1, s.defocus + s.motion),
        "small": (p.kernel.max(axis=(1, 2))[p.scale < 1] < 1, s.small_blur * (s.defocus + s.motion)),
        "noise": (p.read > 0, s.noise),
        "sharpen": (p.sharpen > 0, s.sharpen),
    }
    for name, (found, fraction) in fractions.items():
        # Four standard deviations of a fraction over these draws.
        assert found.mean() == pytest.approx(fraction, abs=4 * np.sqrt(fraction / len(found))), name
    np.testing.assert_allclose(np.unique(p.scale) * 112, np.arange(42, 113, SOURCE_STEP), atol=1e-4)
    assert p.gamma.min() >= s.gamma[0]
    assert p.gamma.max() <= s.gamma[1]
    np.testing.assert_allclose(p.kernel.sum(axis=(1, 2)), 1, atol=1e-5)


def test_blurs_grow_with_the_crop():
    def spread(size):
        kernel = draw(
            np.random.default_rng(5), 300, size, replace(QUIET, defocus=1.0, source=(300, 300))
        ).kernel
        axis = np.arange(kernel.shape[1]) - kernel.shape[1] // 2
        return np.sqrt((kernel.sum(axis=1) * axis**2).sum(axis=1)).mean()

    # Pixels add a little of their own width to both.
    assert spread(224) / spread(112) == pytest.approx(2.0, rel=0.1)


def batch_numbers(size: int, **params) -> Photometry:
    return draw(np.random.default_rng(7), 12, size, replace(QUIET, **params))


@pytest.mark.parametrize("name", [n for n in EFFECTS if n not in ("noise", "jpeg")])
def test_torch_does_what_numpy_does(image, name):
    """Equal numbers give equal images but for rounding to whole levels, on the way and at the end."""
    numbers = batch_numbers(112, **EFFECTS[name])
    there = device_augmentation.apply(torch.from_numpy(image).expand(12, -1, -1, -1), numbers).numpy()
    for n in range(12):
        here = photometry.apply(np.random.default_rng(0), image, numbers, n).astype(float)
        assert np.abs(here - there[n]).max() <= 2.01, (name, n)
        assert np.abs(here - there[n]).mean() < 0.3


@pytest.mark.parametrize("quality", [35, 60, 92])
def test_torch_jpeg_loses_what_jpeg_loses(image, quality):
    numbers = batch_numbers(112, jpeg=1.0, jpeg_quality=(quality, quality))
    there = device_augmentation.apply(torch.from_numpy(image)[None].expand(12, -1, -1, -1), numbers).numpy()[
        0
    ]
    here = photometry.apply(np.random.default_rng(0), image, numbers, 0).astype(float)
    loss, difference = np.abs(here - image).mean(), np.abs(here - there).mean()
    assert np.abs(there - image).mean() == pytest.approx(loss, rel=0.15)
    # Decoders differ in how they blow up chroma; the rest of the loss is the same.
    assert difference < 0.5 * loss


def test_torch_noise_has_the_strength_of_the_numbers():
    numbers = batch_numbers(112, noise=1.0, shot=(0.05, 0.05), read=(0.02, 0.02))
    images = torch.full((12, 112, 112, 3), 128, dtype=torch.uint8)
    out = device_augmentation.apply(images, numbers, torch.Generator().manual_seed(0))
    expected = 255 * np.sqrt(0.02**2 + 0.05**2 * 128 / 255)
    assert float(out.std()) == pytest.approx(expected, rel=0.02)
    assert abs(float((out[0] - out[1]).mean())) < 0.5


def test_batches_keep_their_shape_type_and_seed(image):
    images = torch.from_numpy(image).expand(3, 4, -1, -1, -1)
    one, two, other = (
        device_augmentation.augment(images, torch.Generator().manual_seed(s)) for s in (1, 1, 2)
    )
    assert one.shape == images.shape
    assert one.dtype == torch.uint8
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert not torch.equal(one[0, 0], one[0, 1])
    as_float = device_augmentation.augment(images.float(), torch.Generator().manual_seed(1))
    assert torch.equal(as_float, one.float())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_gpu_gives_the_same_pictures(image):
    numbers = draw(np.random.default_rng(7), 32, 112, replace(PhotometryParams(), noise=0.0))
    images = torch.from_numpy(image).expand(32, -1, -1, -1)
    here, there = (
        device_augmentation.apply(images, numbers),
        device_augmentation.apply(images.cuda(), numbers),
    )
    assert there.is_cuda
    assert (here - there.cpu()).abs().mean() < 0.2
