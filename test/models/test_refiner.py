"""Test the refiner network: correlation by hand, known flows, and what it refuses."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from vpog_core.models.refiner import OUTSIDE, RefinerNet, correlate, expected_shift, window_offsets
from vpog_core.models.refiner_config import REFINER_PRESETS, RefinerConfig
from vpog_core.types import VPOGError


def pairs(size: int, count: int = 2) -> tuple[torch.Tensor, ...]:
    """Return random images, renders, normals and masks [count, ...]."""
    generator = torch.Generator().manual_seed(5)
    image, render = (
        torch.randint(0, 256, (count, 3, size, size), generator=generator, dtype=torch.uint8)
        for _ in range(2)
    )
    normals = nn.functional.normalize(torch.randn(count, 3, size, size, generator=generator), dim=1)
    return image, render, normals, torch.rand(count, size, size, generator=generator) < 0.7


@pytest.mark.parametrize("guessed", [False, True])
def test_correlation_is_that_of_a_loop_over_cells(guessed):
    torch.manual_seed(0)
    batch, channels, height, width, reach = 2, 5, 4, 6, 2
    render, image = torch.randn(2, batch, channels, height, width).unbind(0)
    guess = torch.randint(-3, 4, (batch, 2, height, width)).float() if guessed else None
    found = correlate(render, image, reach, guess)
    assert found.logits.shape == (batch, height * width, 25)
    for b in range(batch):
        for y in range(height):
            for x in range(width):
                dx, dy = (0, 0) if guess is None else guess[b, :, y, x].int().tolist()
                expected = []
                for v in range(y + dy - reach, y + dy + reach + 1):
                    for u in range(x + dx - reach, x + dx + reach + 1):
                        inside = 0 <= u < width and 0 <= v < height
                        product = (
                            render[b, :, y, x] @ image[b, :, v, u] / channels**0.5 if inside else OUTSIDE
                        )
                        expected.append(torch.as_tensor(product))
                # Sums of five products in another order: float32 rounding.
                torch.testing.assert_close(
                    found.logits[b, y * width + x], torch.stack(expected).float(), rtol=1e-5, atol=1e-5
                )


def test_windows_at_borders_hold_the_image_s_cells_alone():
    """A corner's window of 3 x 3 has four cells in the image; the softmax gives the others nothing."""
    features = torch.zeros(1, 8, 4, 4)
    found = correlate(features, features, 1)
    probability = found.logits.softmax(dim=-1)[0]
    assert (probability > 0).sum(dim=-1).view(4, 4).tolist() == [
        [4, 6, 6, 4], [6, 9, 9, 6], [6, 9, 9, 6], [4, 6, 6, 4],
    ]  # fmt: skip
    # In the top left corner what is inside lies to the right and below: the mean is half a cell each way.
    torch.testing.assert_close(expected_shift(found, 1)[0, 0], torch.tensor([0.5, 0.5]))
    far = correlate(features, features, 1, torch.full((1, 2, 4, 4), 1e6))
    assert (far.logits == OUTSIDE).all()
    assert expected_shift(far, 1).isfinite().all()


def test_the_expected_shift_is_the_mean_under_the_softmax():
    found = correlate(torch.zeros(1, 8, 5, 5), torch.zeros(1, 8, 5, 5), 2)
    right, above = (window_offsets(2).tolist().index(cell) for cell in ([2, 0], [0, -1]))
    found.logits[:] = OUTSIDE
    found.logits[0, :, right], found.logits[0, :, above] = 0.0, float(torch.log(torch.tensor(3.0)))
    # A quarter of the way two cells right, three quarters one cell up.
    torch.testing.assert_close(expected_shift(found, 2)[0, 12], torch.tensor([0.5, -0.75]))


class Given(nn.Module):
    """Returns given features in place of the trunk's, whatever the images show."""

    def __init__(self, fine: torch.Tensor, coarse: torch.Tensor) -> None:
        super().__init__()
        self.features = fine, coarse

    def forward(self, image: torch.Tensor, render: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.features


def one_hot(channels: int, side: int) -> torch.Tensor:
    """Return features [1, channels, side, side] that no two cells share, sharp in a softmax."""
    return 100.0 * torch.eye(side * side)[:channels].view(1, channels, side, side)


@torch.no_grad()
def test_features_that_are_moved_by_whole_cells_are_followed_by_both_levels(refiner_config):
    """The shift is a coarse cell, two fine ones, right and up, and a fine cell right: (12, -8) pixels."""
    config = replace(refiner_config, fine_dim=64, coarse_dim=16)
    network = RefinerNet(config).eval()
    fine, coarse = one_hot(64, 8), one_hot(16, 4)
    moved = fine.roll((3, -2), dims=(3, 2)), coarse.roll((1, -1), dims=(3, 2))
    network.trunk = Given(torch.cat((fine, moved[0])), torch.cat((coarse, moved[1])))
    network.attention, network.fine_lateral = nn.Identity(), nn.Identity()
    for parameter in network.fine_top_down.parameters():
        parameter.zero_()
    # The decoders' outlets begin at zero: the flow is what the correlations say.
    trace = network.trace(*pairs(32, 1))
    coarse_flow = trace.coarse_flow[0, :, 1:, :3]
    torch.testing.assert_close(coarse_flow, torch.tensor([8.0, -8.0]).view(2, 1, 1).expand(2, 3, 3))
    # Cells whose guess is mixed with one that leads out of the image are left out.
    inner = trace.comparison.flow[0, :, 3:, :5]
    torch.testing.assert_close(inner, torch.tensor([12.0, -8.0]).view(2, 1, 1).expand_as(inner))


@torch.no_grad()
def test_an_untrained_network_answers_on_the_stride_4_grid(refiner):
    found = refiner(*pairs(32, 3))
    assert found.flow.shape == (3, 2, 8, 8)
    assert found.log_scale.shape == found.visibility.shape == (3, 8, 8)
    assert (found.visibility == 0).all()  # even odds
    # Windows reach two coarse cells and then one fine one, 20 pixels; their means lie within.
    assert found.flow.abs().max() <= 20


@torch.no_grad()
def test_pairs_of_a_batch_do_not_know_of_each_other(refiner):
    torch.manual_seed(1)
    for parameter in refiner.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    inputs = pairs(32, 3)
    together = refiner(*inputs)
    for n in range(3):
        alone = refiner(*(v[n : n + 1] for v in inputs))
        for a, b in zip(vars(alone).values(), vars(together).values(), strict=True):
            # Matrix products of another size may be summed in another order.
            torch.testing.assert_close(a[0], b[n], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_bfloat16_answers_nearly_alike(refiner):
    torch.manual_seed(1)
    for parameter in refiner.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    inputs = pairs(32)
    exact = refiner.trace(*inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = refiner.trace(*inputs)
    # What lies outside the image stays marked as such, to the bit.
    assert torch.equal(rough.coarse.logits == OUTSIDE, exact.coarse.logits == OUTSIDE)
    error = (rough.comparison.flow.float() - exact.comparison.flow).abs().mean()
    # bfloat16 keeps 8 bits, 0.4 %; a dozen layers one after the other make some per cent of the spread.
    assert 0 < error < 0.1 * exact.comparison.flow.std()


@torch.no_grad()
def test_an_all_black_image_and_an_empty_render_give_numbers(refiner):
    black = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    found = refiner(black, black, torch.zeros(1, 3, 32, 32), torch.zeros(1, 32, 32, dtype=torch.bool))
    assert all(value.isfinite().all() for value in vars(found).values())


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({0: lambda v: v[:1]}, ["render has the shape (2, 3, 32, 32)", "B=1"]),
        ({0: lambda v: v[..., :16]}, ["image has the shape (2, 3, 32, 16)", "W=32"]),
        ({3: lambda v: v[:, None]}, ["mask has the shape (2, 1, 32, 32)", "[B=2, H=32, W=32]"]),
        ({1: lambda v: v / 255}, ["render is torch.float32", "uint8"]),
        ({3: lambda v: v.float()}, ["mask torch.float32", "bool"]),
    ],
)
def test_pairs_that_cannot_be_compared_are_refused_in_a_sentence(refiner, change, parts):
    inputs = [change.get(n, lambda v: v)(v) for n, v in enumerate(pairs(32))]
    with pytest.raises(VPOGError) as told:
        refiner(*inputs)
    assert all(part in str(told.value) for part in parts), told.value
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"image_size": 120}, r"image_size is 120: give a multiple of 16"),
        ({"image_size": 0}, r"image_size is 0: give a whole number from 1"),
        ({"image_size": 128.0}, r"image_size is 128.0: give a whole number"),
        ({"stem_dim": True}, r"stem_dim is True: give a whole number"),
        ({"fine_dim": 4096}, r"fine_dim is 4096: give a whole number from 1 to 2048"),
        ({"fine_dim": 20}, r"fine_dim is 20: give a multiple of 8"),
        ({"coarse_dim": 88}, r"coarse_dim 88 must be a multiple of 4 x attention_heads \(4\)"),
        ({"coarse_reach": 0}, r"coarse_reach is 0"),
        ({"rope_base": float("nan")}, r"rope_base is nan: give a number above zero"),
        ({"rope_base": 0.0}, r"rope_base is 0.0"),
        ({"wings": 2}, r"unknown key 'wings': use weights of this version"),
    ],
)
def test_sizes_that_cannot_be_are_refused(values, sentence):
    with pytest.raises(VPOGError, match=sentence):
        RefinerConfig.from_dict(values)


def test_a_network_may_do_without_attention(refiner_config):
    network = RefinerNet(replace(refiner_config, attention_layers=0))
    assert network(*pairs(32)).flow.shape == (2, 2, 8, 8)


@pytest.mark.parametrize("name", REFINER_PRESETS)
def test_configurations_come_back_from_plain_values(name):
    config = REFINER_PRESETS[name]
    assert RefinerConfig.from_dict(config.to_dict()) == config
    assert config.grid == config.image_size // 4
