"""Select the templates of a training query: a cluster around a reference view, and further candidates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from vpog_core.objects.viewpoints import upright_rotation, viewpoint_directions

REFERENCE_NEIGHBOURS = 7
"""The reference is one of this many views nearest to the query's, as retrieval is not exact."""
FAR_NEIGHBOURS = 60
"""Wrong views are drawn from this many nearest ones, without the first `REFERENCE_NEIGHBOURS`."""
WRONG_ROLLS, WRONG_VIEWS = 1, 2
"""Numbers of negatives, of each eight, that show a near view at a wrong roll, and another view beside it; the
others show any view at any roll, which retrieval confuses most."""
LEAST_TURN, VIEW_TURN = 0.4, 0.2
"""Least error of a wrong roll; standard deviation of a wrong view's roll (radians)."""


ROLL_ERROR = np.radians(15.0)
"""Largest error of the roll of the best candidate: half of the step between two rolls of a template."""


def roll_free_distance(R: Tensor, R_ref: Tensor) -> tuple[Tensor, Tensor]:
    """Compute how far views are apart once the in-plane rotation is taken out.

    Args:
        R, R_ref: [..., 3, 3] rotations into camera frames.

    Returns:
        min over r of the SO(3) geodesic between Rz(r) R and R_ref, and that r: radians [...] each.
    """
    M = R @ R_ref.transpose(-1, -2)
    cosine, sine = M[..., 0, 0] + M[..., 1, 1], M[..., 0, 1] - M[..., 1, 0]
    trace = torch.hypot(cosine, sine) + M[..., 2, 2]
    # trace = 1 + 2 cos a. The half angle is used, since the arc cosine is inexact near zero.
    return 2 * torch.asin(((3 - trace) / 4).clamp(0, 1).sqrt()), torch.atan2(sine, cosine)


@dataclass
class Selection:
    """Holds views and rolls; the first `cluster` of them go to matching, all of them to retrieval.

    Attributes:
        views: [..., T] indices of templates; rolls: [..., T] radians each is turned by.
        cluster: how many of them, from the front, form the cluster; the very first is the reference.
    """

    views: Tensor | np.ndarray
    rolls: Tensor | np.ndarray
    cluster: int


class TemplateSelector:
    """Draws selections for queries, on the device of its rotations.

    Args:
        rotations: [V, 3, 3] R_virt_obj of the templates as rendered, in the order of `viewpoint_directions`.
        cluster: S, templates for matching: positives by SO(3) distance once the roll is taken out.
        negatives: further views and rolls for retrieval.
    """

    def __init__(self, rotations: Tensor | np.ndarray, cluster: int = 4, negatives: int = 8) -> None:
        self.rotations = torch.as_tensor(rotations, dtype=torch.float64)
        self.cluster, self.negatives = cluster, negatives
        self._upright, self._order = (v.to(self.rotations.device) for v in _viewpoints())

    def nearest(self, R: Tensor, count: int) -> Tensor:
        """Return [B, count] views nearest to cameras R [B, 3, 3] that look at the object, nearest first."""
        distance = roll_free_distance(self._upright, R[:, None].to(self._upright))[0]
        return distance.argsort(dim=-1, stable=True)[:, :count]

    def select(self, R: Tensor, generator: torch.Generator | None = None, exact: bool = False) -> Selection:
        """Draw selections [B, T] for queries seen by cameras R [B, 3, 3], each at a random common roll.

        Args:
            generator: on the rotations' device.
            exact: the reference is the view nearest to the query; else, half of the time, one of the nearest.
        """
        B, device = len(R), self.rotations.device

        def uniform(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator, device=device, dtype=torch.float64)

        # Draw the reference views.
        rank = (uniform(B) * REFERENCE_NEIGHBOURS).long() * (uniform(B) < 0.5) * (not exact)
        reference = self.nearest(R, REFERENCE_NEIGHBOURS).gather(1, rank[:, None])[:, 0]
        # Choose the clusters around them, and draw the negatives.
        low, high, turn = self._negative_kinds(
            uniform(B, self.negatives), uniform(B, self.negatives), generator
        )
        ranks = torch.arange(self.cluster, device=device).expand(B, -1)
        ranks = torch.cat([ranks, low + (uniform(B, self.negatives) * (high - low)).long()], dim=1)
        views = self._order[reference].gather(1, ranks)
        # Roll all views like the reference, the negatives by their own turns as well.
        R_ref = rotation_z(2 * torch.pi * uniform(B)) @ self.rotations[reference]
        rolls = roll_free_distance(self.rotations[views], R_ref[:, None])[1]
        none = torch.zeros(B, self.cluster, device=device, dtype=torch.float64)
        return Selection(views, rolls + torch.cat([none, turn], dim=1), self.cluster)

    def draw(self, rng: np.random.Generator, anchor: np.ndarray, exact: bool = False) -> Selection:
        """Draw a selection [T], as arrays, for queries around the direction `anchor` [3] (object frame)."""
        generator = torch.Generator(self.rotations.device).manual_seed(int(rng.integers(2**62)))
        R = torch.as_tensor(upright_rotation(anchor))[None]
        drawn = self.select(R, generator, exact)
        return Selection(np.array(drawn.views[0].tolist()), np.array(drawn.rolls[0].tolist()), self.cluster)

    def nearest_to(self, rng: np.random.Generator, R: np.ndarray) -> Selection:
        """Draw the right candidate of each query seen by cameras R [B, 3, 3]: the nearest view, at its roll.

        Retrieval compares a crop with all views at steps of the roll: it has a candidate as near as this one.
        """
        cameras = torch.as_tensor(R, dtype=torch.float64)
        views = self.nearest(cameras, 1)[:, 0]
        rolls = roll_free_distance(self.rotations[views], cameras)[1].numpy()
        return Selection(views.numpy(), rolls + rng.uniform(-ROLL_ERROR, ROLL_ERROR, len(rolls)), 0)

    def _negative_kinds(self, u: Tensor, sign: Tensor, generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw ranks (`low` to below `high`) and turns: some wrong rolls, some wrong views, some of any."""
        kind = torch.arange(self.negatives, device=u.device).expand(len(u), -1) % 8
        roll, view = kind < WRONG_ROLLS, (kind >= WRONG_ROLLS) & (kind < WRONG_ROLLS + WRONG_VIEWS)
        low = torch.where(view, REFERENCE_NEIGHBOURS, 0)
        high = torch.where(roll, REFERENCE_NEIGHBOURS, torch.where(view, FAR_NEIGHBOURS, len(self.rotations)))
        wrong = (LEAST_TURN + u * (torch.pi - LEAST_TURN)) * torch.where(sign < 0.5, -1, 1)
        normal = torch.randn(u.shape, generator=generator, device=u.device, dtype=u.dtype) * VIEW_TURN
        return low, high, torch.where(roll, wrong, torch.where(view, normal, (2 * u - 1) * torch.pi))


@lru_cache(maxsize=1)
def _viewpoints() -> tuple[Tensor, Tensor]:
    """Return upright cameras [V, 3, 3] of the viewpoints, and for each all views by distance [V, V]."""
    upright = torch.as_tensor(np.stack([upright_rotation(d) for d in viewpoint_directions()]))
    distance = roll_free_distance(upright[None], upright[:, None])[0]
    return upright, distance.argsort(dim=-1, stable=True)


def rotation_z(angle: Tensor) -> Tensor:
    """Return [..., 3, 3] rotations about z by angles [...] (radians)."""
    c, s, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    rows = torch.stack((c, -s, zero, s, c, zero, zero, zero, zero + 1), dim=-1)
    return rows.unflatten(-1, (3, 3))
