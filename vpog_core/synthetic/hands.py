"""Make hands and forearms by seed: capsules in the colours of skin and gloves."""

from __future__ import annotations

import numpy as np
import trimesh

from vpog_core.objects.mesh import Mesh
from vpog_core.synthetic.prints import palette

SKIN = np.array([[236, 190, 164], [214, 158, 124], [180, 122, 88], [128, 82, 56], [84, 54, 40]])
"""Colours of skin from light to dark, RGB; colours in between are drawn as well."""
GLOVE = 0.15
"""Probability of a glove in any colour."""


def make_hand(seed: int) -> Mesh:
    """Return a hand with bent fingers and a forearm along -y, 18 cm from wrist to finger tips, in metres."""
    rng = np.random.default_rng([int(seed), 7])
    skin, sleeve = _colors(rng)
    parts = [(_palm(rng), skin), (_capsule([0, 0.0, 0], [0, -0.09, 0], 0.027, 0.8), skin)]
    parts.append((_capsule([0, -0.085, 0], [0, -0.2, rng.normal(0, 0.03)], 0.034), sleeve))
    bend = rng.uniform(0.1, 1.1)
    for finger, x in enumerate(np.linspace(-0.032, 0.032, 4)):
        own = bend + rng.normal(0, 0.12)
        length = np.array([0.042, 0.028, 0.022]) * (1 - 0.08 * abs(finger - 1.4))
        parts += [(part, skin) for part in _finger([x, 0.09, 0], length, own, rng.normal(0, 0.06), 0.0085)]
    thumb = _finger([-0.04, 0.03, 0.0], np.array([0.045, 0.035]), 0.5 * bend, rng.uniform(0.5, 1.1), 0.0105)
    parts += [(part, skin) for part in thumb]
    return _joined(parts)


def _colors(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw colours [3] of skin (or glove) and sleeve (or bare arm)."""
    if rng.random() < GLOVE:
        glove = palette(rng)[0]
        return glove, palette(rng)[0]
    tone = rng.uniform(0, len(SKIN) - 1)
    skin = SKIN[int(tone)] + (tone % 1) * (SKIN[min(int(tone) + 1, len(SKIN) - 1)] - SKIN[int(tone)])
    return skin, palette(rng)[0] if rng.random() < 0.5 else skin


def _palm(rng: np.random.Generator) -> trimesh.Trimesh:
    palm = trimesh.creation.icosphere(subdivisions=2)
    palm.apply_scale([0.043, 0.055, rng.uniform(0.016, 0.022)])
    palm.apply_translation([0, 0.045, 0])
    return palm


def _finger(
    start: list[float], lengths: np.ndarray, bend: float, spread: float, radius: float
) -> list[trimesh.Trimesh]:
    """Make links from `start` on, each bent by `bend` more than the last, the first turned by `spread`."""
    parts, place, angle = [], np.array(start), 0.3 * bend
    for length in lengths:
        ahead = np.array([-np.sin(spread) * np.cos(angle), np.cos(spread) * np.cos(angle), np.sin(angle)])
        parts.append(_capsule(place, place + length * ahead, radius))
        place, angle, radius = place + length * ahead, angle + bend, 0.92 * radius
    return parts


def _capsule(start, end, radius: float, flat: float = 1.0) -> trimesh.Trimesh:
    start, end = np.asarray(start, dtype=float), np.asarray(end, dtype=float)
    capsule = trimesh.creation.capsule(height=np.linalg.norm(end - start), radius=radius, count=[10, 10])
    capsule.apply_transform(trimesh.geometry.align_vectors([0, 0, 1], end - start))
    capsule.apply_translation(start)
    capsule.apply_scale([1, 1, flat])
    return capsule


def _joined(parts: list[tuple[trimesh.Trimesh, np.ndarray]]) -> Mesh:
    offsets = np.cumsum([0, *(len(part.vertices) for part, _ in parts[:-1])])
    return Mesh(
        np.concatenate([part.vertices for part, _ in parts]),
        np.concatenate([part.faces + at for (part, _), at in zip(parts, offsets, strict=True)]),
        vertex_colors=np.concatenate([np.full(p.vertices.shape, color, np.uint8) for p, color in parts]),
    )
