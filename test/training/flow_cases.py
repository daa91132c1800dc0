"""Make planes seen by two cameras, whose flow is known."""

from __future__ import annotations

import numpy as np
import torch

from vpog_core.training.losses.labels import FlowComputer, Labels, PosedDepth

SIZE, SIDE, PATCH = 112, 7, 16
UNSEEN = SIDE**2
FOCAL, DEPTH = 100.0, 1.0
NO_TURN = np.eye(4)


def views(depth, K, T) -> PosedDepth:
    """Return PosedDepth of a batch of one."""
    arrays = (np.asarray(v, dtype=np.float32)[None] for v in (depth, K, T))
    return PosedDepth(*(torch.from_numpy(a) for a in arrays))


def plane(shift=(0.0, 0.0), depth=DEPTH):
    """Return depth [P, P] and K of a camera square on a plane; its image moved by `shift` pixels."""
    middle = (SIZE - 1) / 2
    K = np.array([[FOCAL, 0, middle + shift[0]], [0, FOCAL, middle + shift[1]], [0, 0, 1.0]])
    return np.full((SIZE, SIZE), depth), K


def label(query, templates, diameter=1.0, stride=1, offset=(0, 0)) -> Labels:
    """Return labels of one query against several templates (depth, K, T each)."""
    stacked = [np.stack(v) for v in zip(*templates, strict=True)]
    return FlowComputer(stride, offset)(views(*query), views(*stacked), torch.tensor([diameter]))


def image_of(values: torch.Tensor) -> np.ndarray:
    """Join patches [Nq, 16, 16] to an image [P, P]."""
    return values.unflatten(0, (SIDE, SIDE)).transpose(1, 2).reshape(SIZE, SIZE).numpy()
