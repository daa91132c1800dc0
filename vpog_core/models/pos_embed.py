"""Define rotary position embeddings: RoPE2D on the patch grid, and S2RoPE with the viewing direction.

A rotary embedding turns pairs of a head's channels by a phase, so that a query-key product depends
on the difference of their phases (Su et al. 2021; in 2D as in CroCo v2, Weinzaepfel et al. 2023).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

AXES = ((1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1))
"""The six directions S2RoPE measures angles to."""
SPHERE_FREQUENCY = 4.0
"""Lowest spherical frequency: neighbouring viewpoints, 18 degrees apart, differ by 1.3 radians of phase."""


def grid_positions(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """Return positions [H * W, 2] of patches, (row, column), row-major."""
    rows = torch.arange(height, device=device)
    columns = torch.arange(width, device=device)
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).reshape(-1, 2)


def frequencies(count: int, base: float) -> Tensor:
    """Return frequencies [count]: base ** (-k / count)."""
    return base ** (-torch.arange(count, dtype=torch.float32) / count)


def angles_to(axes: Tensor, directions: Tensor) -> Tensor:
    """Compute angles [..., K] in 0..pi between unit directions [..., 3] and unit axes [K, 3].

    By the arc tangent of sine and cosine: the arc cosine alone is blunt next to an axis, where the
    reference view looks, and a matrix product would round the cosine to bfloat16 under autocast.
    """
    directions = directions[..., None, :].float()
    cosine = (directions * axes).sum(dim=-1)
    sine = (directions - cosine[..., None] * axes).norm(dim=-1)
    return torch.atan2(sine, cosine)


def rotations(phases: Tensor) -> Tensor:
    """Compute rotations [2, ..., 2, P] of pairs from phases [..., P], radians, once for all blocks.

    The first is what multiplies both members of each pair, the second what multiplies the other members.
    """
    cos, sin = phases.cos(), phases.sin()
    return torch.stack((torch.stack((cos, cos), dim=-2), torch.stack((-sin, sin), dim=-2)))


def rotate_pairs(x: Tensor, rotation: Tensor) -> Tensor:
    """Rotate pairs of channels.

    Args:
        x: [..., 2, P]: first and second members of P pairs.
        rotation: [2, ..., 2, P] from `rotations`, broadcast against x.
    """
    # Rotate both members of the pairs at once, which is faster; each is rounded as if computed alone.
    first, second = x.unbind(dim=-2)
    straight, across = rotation.to(x.dtype).unbind(0)
    return x * straight + torch.stack((second, first), dim=-2) * across


class RoPE2D(nn.Module):
    """Rotates half of the channels by the row, half by the column: CroCo v2's layout.

    Args:
        head_dim: channels of a head, a multiple of 4.
        base: base of the ladder (100 in CroCo v2).
    """

    def __init__(self, head_dim: int, base: float = 100.0) -> None:
        super().__init__()
        self.register_buffer("ladder", frequencies(head_dim // 4, base), persistent=False)

    def phases(self, positions: Tensor, rope_mask: Tensor | None = None) -> Tensor:
        """Compute phases [..., N, 2, C / 4] of positions [..., N, 2]; zero if not rope_mask [..., N]."""
        phase = positions[..., None].float() * self.ladder
        return phase if rope_mask is None else phase * rope_mask[..., None, None]

    def rotate(self, x: Tensor, rotation: Tensor) -> Tensor:
        """Rotate x [..., N, head_dim] by the `rotations` of phases [..., N, 2, head_dim / 4]."""
        pairs = x.unflatten(-1, (2, 2, -1))
        return rotate_pairs(pairs, rotation).flatten(-3)


class S2RoPE(nn.Module):
    """Embeds row, column and viewing direction in one rotary embedding.

    The head_dim / 2 pairs are split as p_x + p_y + 6 p_s: column, row, and for each of the six axis
    directions d a phase proportional to the angle between the viewing direction and d.

    Args:
        head_dim: channels of a head, a multiple of 4.
        base: base of the row and column ladders.
    """

    def __init__(self, head_dim: int, base: float = 100.0) -> None:
        super().__init__()
        pairs = head_dim // 2
        self.sphere_pairs = max(1, pairs // 16)
        in_plane = pairs - 6 * self.sphere_pairs
        if in_plane < 2:
            raise ValueError(f"head_dim {head_dim} has too few channels for S2RoPE: use 16 at least.")
        self.register_buffer("row_ladder", frequencies(in_plane // 2, base), persistent=False)
        self.register_buffer("column_ladder", frequencies(in_plane - in_plane // 2, base), persistent=False)
        sphere = SPHERE_FREQUENCY * 2.0 ** torch.arange(self.sphere_pairs, dtype=torch.float32)
        self.register_buffer("sphere_ladder", sphere, persistent=False)
        self.register_buffer("axes", torch.tensor(AXES, dtype=torch.float32), persistent=False)

    def phases(self, positions: Tensor, directions: Tensor | None, rope_mask: Tensor | None = None) -> Tensor:
        """Compute phases [..., N, head_dim / 2].

        Args:
            positions: [..., N, 2] (row, column).
            directions: [..., N or 1, 3] unit viewing directions in the reference view's frame, or None
                (query tokens: spherical phases are zero).
            rope_mask: [..., N] bool; False makes every phase of a token zero.
        """
        positions = positions.float()
        row = positions[..., :1] * self.row_ladder
        column = positions[..., 1:] * self.column_ladder
        if directions is None:
            sphere = row.new_zeros(6 * self.sphere_pairs)
        else:
            sphere = (angles_to(self.axes, directions)[..., None] * self.sphere_ladder).flatten(-2)
        shape = torch.broadcast_shapes(row.shape[:-1], sphere.shape[:-1])
        phase = torch.cat([p.expand(*shape, p.shape[-1]) for p in (row, column, sphere)], dim=-1)
        return phase if rope_mask is None else phase * rope_mask[..., None]

    def rotate(self, x: Tensor, rotation: Tensor) -> Tensor:
        """Rotate x [..., N, head_dim] by the `rotations` of phases [..., N, head_dim / 2]."""
        return rotate_pairs(x.unflatten(-1, (2, -1)), rotation).flatten(-2)
