"""Define the transformer's building blocks, with CroCo's parameter names."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from vpog_core.models.pos_embed import RoPE2D, S2RoPE


class Mlp(nn.Module):
    """Applies two linear layers with a GELU between."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Attention(nn.Module):
    """Applies multi-head self-attention with a rotary embedding.

    Args:
        dim: width.
        heads: heads.
        rope: turns queries and keys [B, heads, N, head_dim] by the rotation given to `forward`.
    """

    def __init__(self, dim: int, heads: int, rope: RoPE2D | S2RoPE) -> None:
        super().__init__()
        self.heads = heads
        self.rope = rope
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def heads_of(self, x: Tensor, rotation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute rotated queries, rotated keys and values [B, heads, N, head_dim].

        Args:
            x: [B, N, D]; rotation: `rotations` of phases [B or 1, 1, N, ...].
        """
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        # Queries and keys are rotated together, as their phases are the same.
        q, k = self.rope.rotate(qkv[:2], rotation).unbind(0)
        return q, k, qkv[2]

    def merge(self, heads: Tensor) -> Tensor:
        """Merge heads: [B, heads, N, head_dim] -> [B, N, D]."""
        return self.proj(heads.transpose(1, 2).flatten(2))

    def forward(self, x: Tensor, rotation: Tensor) -> Tensor:
        q, k, v = self.heads_of(x, rotation)
        return self.merge(F.scaled_dot_product_attention(q, k, v))


class Block(nn.Module):
    """Applies a pre-norm transformer block: attention, then MLP, each with a residual.

    Args:
        attention: any module called as attention(x, rotation).
    """

    def __init__(self, dim: int, attention: nn.Module, mlp_ratio: int = 4) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = attention
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, mlp_ratio * dim)

    def forward(self, x: Tensor, rotation: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x), rotation)
        return x + self.mlp(self.norm2(x))
