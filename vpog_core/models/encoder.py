"""Define a ViT encoder shaped like CroCo v2: pre-norm blocks, RoPE2D, no class token."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from vpog_core.models.config import PATCH, VPOGConfig
from vpog_core.models.efficientnet_lite import CHANNELS
from vpog_core.models.layers import Attention, Block
from vpog_core.models.pos_embed import RoPE2D, grid_positions, rotations
from vpog_core.models.stem import STRIDE
from vpog_core.types import VPOGError


class PatchEmbed(nn.Module):
    """Embeds non-overlapping patches as tokens, by a linear layer on unfolded patches.

    Equal to the strided convolution whose weight it stores, and much faster on CPUs in bfloat16.

    Args:
        channels: of the input; patch: side in input cells; dim: width of the tokens.
    """

    def __init__(self, channels: int, patch: int, dim: int) -> None:
        super().__init__()
        self.patch = patch
        self.proj = nn.Conv2d(channels, dim, patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        """Embed patches: [N, C, H, W] -> [N, (H / patch) * (W / patch), dim], row-major."""
        n, c, h, w = x.shape
        p = self.patch
        patches = x.reshape(n, c, h // p, p, w // p, p).permute(0, 2, 4, 1, 3, 5).reshape(n, -1, c * p * p)
        return F.linear(patches, self.proj.weight.flatten(1), self.proj.bias)


class Encoder(nn.Module):
    """Encodes images to tokens.

    Args:
        config: sizes.
        stem_channels: channels of the stem's features when `config.embed_from_stem`.
    """

    def __init__(self, config: VPOGConfig, stem_channels: int) -> None:
        super().__init__()
        self.embed_from_stem = config.embed_from_stem
        dim = config.embed_dim
        if config.embed_from_stem:
            self.patch_embed = PatchEmbed(stem_channels, PATCH // STRIDE, dim)
        else:
            self.patch_embed = PatchEmbed(3, PATCH, dim)
        self.backbone_embed = None
        if config.backbone:
            # Zero, so that a network which had no backbone begins as it was.
            self.backbone_embed = nn.Linear(CHANNELS, dim)
            nn.init.zeros_(self.backbone_embed.weight)
            nn.init.zeros_(self.backbone_embed.bias)
        self.rope = RoPE2D(dim // config.num_heads, config.rope_base)
        self.enc_blocks = nn.ModuleList(
            Block(dim, Attention(dim, config.num_heads, self.rope)) for _ in range(config.depth)
        )
        self.enc_norm = nn.LayerNorm(dim, eps=1e-6)

    def forward(
        self, images: Tensor, stem_features: Tensor, backbone_features: Tensor | None = None
    ) -> Tensor:
        """Encode normalised images [N, 3, H, W] and stem features [N, C, H / 4, W / 4] to tokens [N, Nq, D].

        Args:
            backbone_features: [N, Nq, CHANNELS] normalised, where the network has a backbone.

        Raises:
            VPOGError: H or W is no multiple of the patch.
        """
        height, width = images.shape[-2:]
        if height % PATCH or width % PATCH:
            raise VPOGError(
                f"Images of {width}x{height} pixels do not split into {PATCH}x{PATCH} patches: resize them."
            )
        x = self.patch_embed(stem_features if self.embed_from_stem else images)
        if self.backbone_embed is not None:
            x = x + self.backbone_embed(backbone_features)
        positions = grid_positions(height // PATCH, width // PATCH, device=images.device)
        rotation = rotations(self.rope.phases(positions)[None, None])
        for block in self.enc_blocks:
            x = block(x, rotation)
        return self.enc_norm(x)
