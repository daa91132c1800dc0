"""Compute products and lengths of vectors."""

from __future__ import annotations

import numpy as np


def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compute the dot products [N] of vectors [N, C]; a third of the time of a product and a sum."""
    return np.einsum("nc,nc->n", a, b)


def length(v: np.ndarray) -> np.ndarray:
    """Compute lengths [N, 1] of vectors [N, 3], never zero."""
    return np.sqrt(np.maximum(dot(v, v), 1e-12))[:, None]


def unit(v) -> np.ndarray:
    """Normalise a vector [3] to length 1, float32."""
    v = np.asarray(v, np.float32)
    return v / np.linalg.norm(v)
