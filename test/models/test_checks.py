"""Test that bad input is refused before computing, in one sentence that names the value and the remedy."""

import numpy as np
import pytest
import torch

from vpog_core.models.vpog_model import Encoded
from vpog_core.types import VPOGError


def sentence_of(call) -> str:
    with pytest.raises(VPOGError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


@pytest.mark.parametrize(
    ("shape", "parts"),
    [
        ((3, 112, 112), ["(3, 112, 112)", "[N, 3, 112, 112]"]),
        ((1, 112, 112, 3), ["(1, 112, 112, 3)", "[N, 3, 112, 112]"]),
        ((1, 4, 112, 112), ["(1, 4, 112, 112)", "RGB"]),
        ((0, 3, 112, 112), ["(0, 3, 112, 112)"]),
        ((1, 3, 100, 112), ["112x100", "16x16 patches", "resize them to 112x112"]),
        ((1, 3, 112, 120), ["120x112", "16x16 patches"]),
        ((1, 3, 128, 128), ["128x128", "image_size 112", "resize them to 112x112"]),
        ((1, 3, 112, 224), ["224x112", "image_size 112"]),
    ],
)
def test_shapes_of_images(model, shape, parts):
    text = sentence_of(lambda: model.encode(torch.zeros(shape)))
    assert all(part in text for part in parts), text


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_images_that_are_no_numbers(model, value):
    images = torch.rand(3, 3, 112, 112)
    images[1, 2, 50, 60] = value
    text = sentence_of(lambda: model.encode(images))
    assert "Image 1" in text
    assert "NaN" in text


def test_images_in_another_range(model):
    picture = torch.rand(1, 3, 112, 112)
    picture[0, 0, 0, :2] = torch.tensor([0.0, 1.0])
    text = sentence_of(lambda: model.encode(picture * 255))
    assert "from 0 to 255" in text
    assert "uint8" in text
    assert "not normalised" in sentence_of(lambda: model.encode((picture - model.mean) / model.std))


@torch.no_grad()
def test_resampling_may_overshoot(model):
    picture = torch.rand(1, 3, 28, 28).round()
    cubic = torch.nn.functional.interpolate(picture, size=(112, 112), mode="bicubic")
    assert cubic.max() > 1.1
    assert model.encode(cubic).tokens.isfinite().all()


@torch.no_grad()
def test_types_of_images(model):
    """uint8 images give the same as their floating point values in 0..1, of any precision."""
    picture = torch.randint(0, 256, (2, 3, 112, 112), dtype=torch.uint8)
    expected = model.encode(picture.float() / 255.0).tokens
    assert torch.equal(model.encode(picture).tokens, expected)
    torch.testing.assert_close(model.encode(picture.double() / 255.0).tokens, expected, atol=1e-5, rtol=0)
    assert "torch.int64" in sentence_of(lambda: model.encode(picture.long()))
    assert "ndarray" in sentence_of(lambda: model.encode(picture.numpy()))


@pytest.fixture
def case(model):
    """Return a query [2], templates [2, 3] and directions that fit."""
    torch.manual_seed(0)
    with torch.no_grad():
        encoded = model.encode(torch.rand(8, 3, 112, 112))
    templates = Encoded(encoded.tokens[2:].unflatten(0, (2, 3)), encoded.stem[2:].unflatten(0, (2, 3)))
    return encoded[:2], templates, torch.eye(3).expand(2, 3, 3)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda q, t, d: (q[:1], t, d), ["templates.tokens", "(2, 3, 49, 64)", "[B=1, S, N=49, D=64]"]),
        (lambda q, t, d: (q, t[:, 0], d), ["templates.tokens", "(2, 49, 64)"]),
        (lambda q, t, d: (q, t[:, :0], d[:, :0]), ["0 templates"]),
        (lambda q, t, d: (Encoded(q.tokens[:, :40], q.stem), t, d), ["query.tokens", "(2, 40, 64)", "N=49"]),
        (lambda q, t, d: (Encoded(q.tokens[..., :32], q.stem), t, d), ["query.tokens", "D=64"]),
        (lambda q, t, d: (Encoded(q.tokens, q.stem[:1]), t, d), ["query.stem", "(1, 64, 28, 28)"]),
        (lambda q, t, d: (q, Encoded(t.tokens, t.stem[..., :27]), d), ["templates.stem", "W/4=28"]),
        (lambda q, t, d: (q, t, d[:, :2]), ["directions", "(2, 2, 3)", "[B=2, S=3, 3]"]),
        (lambda q, t, d: (q, t, d[0]), ["directions", "(3, 3)"]),
        (lambda q, t, d: (q, t, d[..., :2]), ["directions", "(2, 3, 2)"]),
        (lambda q, t, d: (q, t, d.long()), ["directions", "torch.int64"]),
        (lambda q, t, d: (q, t, d.to("meta")), ["directions", "meta", ".to('cpu')"]),
    ],
)
def test_encodings_that_do_not_belong_together(model, case, change, parts):
    text = sentence_of(lambda: model.match(*change(*case)))
    assert all(part in text for part in parts), text


def test_encoder_logits_look_too(model, case):
    query, templates, _ = case
    assert "templates.tokens" in sentence_of(lambda: model.encoder_logits(query[:1], templates))


@torch.no_grad()
def test_flow_of_patches_that_are_none(model, case):
    matches = model.match(*case)
    index = torch.zeros(2, 3, 49, dtype=torch.long)
    index[1, 2, 3] = 49  # the added token: 'unseen here'
    text = sentence_of(lambda: model.flow(matches, index))
    assert "49 where 0..48" in text
    assert "unseen" in text
    assert "(2, 3)" in sentence_of(lambda: model.flow(matches, index[..., 0]))
    assert "torch.float32" in sentence_of(lambda: model.flow(matches, index.float()))
    pairs = torch.tensor([[0, 0, 0, 0], [1, 3, 0, 0]])
    assert "3 where 0..2" in sentence_of(lambda: model.flow_of_pairs(matches, pairs))
    assert "(2, 3)" in sentence_of(lambda: model.flow_of_pairs(matches, pairs[:, :3]))
    assert "-1 where 0..48" in sentence_of(
        lambda: model.flow_of_pairs(matches, -(pairs[:1] + 1) * pairs.new_tensor([0, 0, 0, 1]))
    )


@torch.no_grad()
def test_no_pairs_have_no_flow(model, case):
    matches = model.match(*case)
    assert model.flow_of_pairs(matches, torch.zeros(0, 4, dtype=torch.long)).flow.shape == (0, 16, 16, 2)
