"""Define alternating attention: over the query and all templates, then in windows of each image.

Global layers compare the images (S2RoPE tells the views apart); local layers sharpen each of them.
The alternation follows VGGT (Wang et al. 2025), the windows Swin (Liu et al. 2021).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vpog_core.models.config import VPOGConfig
from vpog_core.models.layers import Attention, Block
from vpog_core.models.pos_embed import RoPE2D, S2RoPE, grid_positions, rotations


class WindowAttention(Attention):
    """Attends inside square windows of a patch grid; added tokens attend to and are seen by every window.

    Args:
        grid: patches along an image's side; window: patches along a window's side.
    """

    def __init__(self, dim: int, heads: int, rope: RoPE2D, grid: int, window: int) -> None:
        super().__init__(dim, heads, rope)
        self.grid, self.window = grid, window

    def split_windows(self, x: Tensor) -> Tensor:
        """Split into windows: [B, heads, grid * grid, C] -> [B, windows, heads, window * window, C]."""
        n, w = self.grid // self.window, self.window
        x = x.unflatten(2, (n, w, n, w)).permute(0, 2, 4, 1, 3, 5, 6)
        return x.flatten(4, 5).flatten(1, 2)

    def join_windows(self, x: Tensor) -> Tensor:
        """Invert `split_windows`."""
        n, w = self.grid // self.window, self.window
        x = x.unflatten(1, (n, n)).unflatten(4, (w, w)).permute(0, 3, 1, 4, 2, 5, 6)
        return x.flatten(2, 5)

    def forward(self, x: Tensor, rotation: Tensor) -> Tensor:
        """Attend: x [B, grid * grid + A, D] -> same shape.

        Args:
            rotation: `rotations` of phases [B or 1, 1, grid * grid + A, 2, C / 4].
        """
        q, k, v = self.heads_of(x, rotation)
        patches = self.grid**2
        windows = self.split_windows(q[:, :, :patches])
        seen = self._with_added(k, patches, windows.shape[1]), self._with_added(v, patches, windows.shape[1])
        # Fused kernels and ONNX need the windows in the batch dimension.
        attended = F.scaled_dot_product_attention(*(x.flatten(0, 1) for x in (windows, *seen)))
        outputs = self.join_windows(attended.unflatten(0, windows.shape[:2]))
        if x.shape[1] > patches:
            added = F.scaled_dot_product_attention(q[:, :, patches:], k, v)
            outputs = torch.cat((outputs, added), dim=2)
        return self.merge(outputs)

    def _with_added(self, x: Tensor, patches: int, count: int) -> Tensor:
        """Append all added tokens to each window of keys or values: [B, count, heads, window**2 + A, C]."""
        added = x[:, None, :, patches:].expand(-1, count, -1, -1, -1)
        return torch.cat((self.split_windows(x[:, :, :patches]), added), dim=3)


class AAModule(nn.Module):
    """Alternates global and local attention `aa_depth` times."""

    def __init__(self, config: VPOGConfig) -> None:
        super().__init__()
        dim, heads = config.embed_dim, config.aa_heads
        self.grid = config.grid
        self.global_rope = S2RoPE(dim // heads, config.rope_base)
        self.local_rope = RoPE2D(dim // heads, config.rope_base)
        self.global_blocks = nn.ModuleList(
            Block(dim, Attention(dim, heads, self.global_rope)) for _ in range(config.aa_depth)
        )
        self.local_blocks = nn.ModuleList(
            Block(dim, WindowAttention(dim, heads, self.local_rope, config.grid, config.window))
            for _ in range(config.aa_depth)
        )

    def forward(
        self, query: Tensor, templates: Tensor, directions: Tensor, rope_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Compute tokens that depend on all images.

        Args:
            query: [B, N + Aq, D]; templates: [B, S, N + At, D]: the grid's N patches, then added tokens.
            directions: [B, S, 3] unit viewing directions in the reference view's camera frame.
            rope_mask: [B, S + 1, N + A] bool, the query's row first; False skips a token's rotation. An
                image with fewer than A added tokens leaves its last columns unread.

        Returns:
            query [B, N + Aq, D], templates [B, S, N + At, D].
        """
        n_query, n_template = query.shape[1], templates.shape[2]
        query_mask, template_mask = rope_mask[:, 0, :n_query], rope_mask[:, 1:, :n_template]
        of_all = rotations(self._global_phases(directions, query_mask, template_mask))
        of_query = rotations(self._local_phases(query_mask))
        of_templates = rotations(self._local_phases(template_mask.flatten(0, 1)))
        for global_block, local_block in zip(self.global_blocks, self.local_blocks, strict=True):
            everything = torch.cat((query, templates.flatten(1, 2)), dim=1)
            everything = global_block(everything, of_all)
            query = local_block(everything[:, :n_query], of_query)
            flat = everything[:, n_query:].unflatten(1, templates.shape[1:3]).flatten(0, 1)
            templates = local_block(flat, of_templates).unflatten(0, templates.shape[:2])
        return query, templates

    def _global_phases(self, directions: Tensor, query_mask: Tensor, template_mask: Tensor) -> Tensor:
        """Compute phases [B, 1, all tokens, head_dim / 2]: the query's, then each template's."""
        query = self.global_rope.phases(self._positions(query_mask), None, query_mask)
        templates = self.global_rope.phases(
            self._positions(template_mask), directions[:, :, None], template_mask
        )
        return torch.cat((query, templates.flatten(1, 2)), dim=1)[:, None]

    def _local_phases(self, rope_mask: Tensor) -> Tensor:
        """Compute phases [images, 1, tokens, 2, head_dim / 4] of rope_mask [images, tokens]."""
        return self.local_rope.phases(self._positions(rope_mask), rope_mask)[:, None]

    def _positions(self, rope_mask: Tensor) -> Tensor:
        """Return positions [tokens, 2] of rope_mask [..., tokens]: the grid's, then added tokens' zeros."""
        grid = grid_positions(self.grid, self.grid, rope_mask.device)
        return F.pad(grid, (0, 0, 0, rope_mask.shape[-1] - len(grid)))
