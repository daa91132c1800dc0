from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from vpog_core.models.encoder import Encoder, PatchEmbed
from vpog_core.models.stem import ConvStem
from vpog_core.models.vpog_model import VPOGModel
from vpog_core.types import VPOGError


@pytest.mark.parametrize(("channels", "patch", "size"), [(3, 16, 48), (64, 4, 12)])
def test_patch_embed_is_the_strided_convolution(channels, patch, size):
    torch.manual_seed(0)
    embed = PatchEmbed(channels, patch, 32)
    x = torch.randn(2, channels, size, size + patch)
    expected = F.conv2d(x, embed.proj.weight, embed.proj.bias, stride=patch).flatten(2).transpose(1, 2)
    # Sums of some 1000 products of order 0.03, in another order.
    torch.testing.assert_close(embed(x), expected, atol=1e-5, rtol=0)


def test_stem_has_stride_four():
    assert ConvStem(16)(torch.randn(2, 3, 32, 48)).shape == (2, 16, 8, 12)


@pytest.mark.parametrize("from_stem", [True, False])
def test_tokens_of_a_batch_are_those_of_its_images(config, from_stem):
    torch.manual_seed(0)
    model = VPOGModel(replace(config, embed_from_stem=from_stem)).eval()
    images = torch.rand(3, 3, 112, 112)
    with torch.no_grad():
        encoded = model.encode(images)
        alone = model.encode(images[1:2])
    assert encoded.tokens.shape == (3, config.num_patches, config.embed_dim)
    assert encoded.stem.shape == (3, 64, 28, 28)
    torch.testing.assert_close(encoded[1:2].tokens, alone.tokens, atol=1e-5, rtol=0)
    assert (encoded.tokens[0] - encoded.tokens[1]).abs().max() > 0.01


def test_pictures_are_normalised_like_imagenets(model):
    """The mean colour becomes zero: an image of it is encoded as zeros."""
    plain = model.mean[None].expand(1, 3, 112, 112)
    zeros = torch.zeros(1, 3, 112, 112)
    with torch.no_grad():
        expected = model.encoder(zeros, model.stem(zeros))
        torch.testing.assert_close(model.encode(plain).tokens, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(100, 112), (112, 100), (16, 20)])
def test_images_that_do_not_split_are_refused(config, size):
    encoder = Encoder(config, 64)
    with pytest.raises(VPOGError, match=f"{size[1]}x{size[0]}"):
        encoder(torch.zeros(1, 3, *size), torch.zeros(1, 64, 28, 28))


def test_positions_matter(config):
    """Two equal patches at two places give two tokens: the encoder knows where it looks."""
    torch.manual_seed(0)
    encoder = Encoder(replace(config, embed_from_stem=False), 64)
    image = torch.zeros(1, 3, 112, 112)
    image[:, :, :16, :16] = image[:, :, 80:96, 48:64] = torch.randn(3, 16, 16) * 3
    with torch.no_grad():
        tokens = encoder(image, torch.zeros(1, 64, 28, 28))[0]
    assert (tokens[0] - tokens[5 * 7 + 3]).abs().max() > 1e-4
