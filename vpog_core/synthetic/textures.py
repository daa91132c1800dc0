"""Colour the vertices of a shape by seed: solid patterns, projected prints and photographs."""

from __future__ import annotations

import cv2
import numpy as np
from scipy.ndimage import map_coordinates

from vpog_core.synthetic.prints import make_print, palette
from vpog_core.synthetic.shapes import Shape

Rng = np.random.Generator


def noise(rng: Rng, points: np.ndarray, scale: float, octaves: int = 3) -> np.ndarray:
    """Draw [N] smooth noise about -1..1 at points [N, 3]; `scale`: size of its largest blots, metres."""
    lattice = rng.uniform(-1, 1, (24, 24, 24)).astype(np.float32)
    total, weight = np.zeros(len(points), dtype=np.float32), 0.0
    for octave in range(octaves):
        at = (points / scale * 2**octave + rng.uniform(0, 24, 3)).T
        total += map_coordinates(lattice, at, order=1, mode="grid-wrap").astype(np.float32) / 2**octave
        weight += 0.5**octave
    return total / weight * 1.6


def solid_texture(rng: Rng, points: np.ndarray, colors: np.ndarray, strong: bool = True) -> np.ndarray:
    """Return [N, 3] float32 colours 0..255 as a function of place alone.

    Args:
        points: [N, 3] metres, object frame.
        colors: [C, 3] uint8, C >= 3.
        strong: a pattern with contrast; else shades of the first colour.
    """
    colors = colors.astype(np.float32)
    if not strong:
        return _weak(rng, points, colors)
    size = _extent(points)
    pattern = rng.choice([_stripes, _checks, _cells, _blobs, _marble, _wood, _camouflage, _bands])
    return pattern(rng, points, colors, size)


def _weak(rng: Rng, points: np.ndarray, colors: np.ndarray) -> np.ndarray:
    size = _extent(points)
    shade = 1 + rng.uniform(0.03, 0.14) * noise(rng, points, size * rng.uniform(0.08, 0.5))
    out = colors[0] * shade[:, None]
    if rng.random() < 0.4:  # specks
        out = np.where((noise(rng, points, 0.006, 1) > rng.uniform(0.75, 1.1))[:, None], colors[1], out)
    return out


def _extent(points: np.ndarray) -> float:
    """Return the longest side of the points' box, metres; at least 1 mm, as a part may be one vertex."""
    return max(float(np.ptp(points, axis=0).max()), 1e-3)


def _direction(rng: Rng) -> np.ndarray:
    direction = rng.standard_normal(3)
    return direction / np.linalg.norm(direction)


def _mix(a: np.ndarray, b: np.ndarray, fraction: np.ndarray) -> np.ndarray:
    return a + (b - a) * np.clip(fraction, 0, 1)[:, None]


def _stripes(rng: Rng, p: np.ndarray, colors: np.ndarray, size: float) -> np.ndarray:
    wave = p @ _direction(rng) / (size * rng.uniform(0.06, 0.25)) + rng.uniform(0, 0.5) * noise(
        rng, p, size * 0.4
    )
    out = _mix(colors[0], colors[1], (np.sin(wave * np.pi) * 4 + 0.5))
    broken = noise(rng, p, size * 0.5) > rng.uniform(0.1, 0.5)
    return np.where(broken[:, None], colors[2], out)


def _bands(rng: Rng, p: np.ndarray, colors: np.ndarray, size: float) -> np.ndarray:
    along = p @ _direction(rng)
    edges = np.sort(rng.uniform(along.min(), along.max(), int(rng.integers(2, 7))))
    order = rng.integers(0, len(colors), len(edges) + 1)
    order[1:] += order[1:] == order[:-1]
    return colors[(order % len(colors))[np.searchsorted(edges, along)]]


def _checks(rng: Rng, p: np.ndarray, colors: np.ndarray, size: float) -> np.ndarray:
    cell = np.floor(p / (size * rng.uniform(0.07, 0.25)) + rng.uniform(0, 1, 3)).astype(int)
    pick = rng.integers(0, len(colors), 997)
    return colors[pick[(cell @ [73, 179, 283]) % 997]]


def _cells(rng: Rng, p: np.ndarray, colors: np.ndarray, size: float) -> np.ndarray:
    seeds = p[rng.integers(0, len(p), int(rng.integers(8, 50)))]
    distance = ((p[:, None] - seeds[None]) ** 2).sum(axis=2)
    nearest = np.partition(distance, 1, axis=1)[:, :2]
    pick = rng.integers(0, len(colors), len(seeds))
    out = colors[pick[distance.argmin(axis=1)]]
    if rng.random() < 0.5:
        seam = np.sqrt(nearest[:, 1]) - np.sqrt(nearest[:, 0]) < size * 0.015
        out = np.where(seam[:, None], colors[0] * 0.3, out)
    return out


def _blobs(rng: Rng, p: np.ndarray, colors: np.ndarray, size: float) -> np.ndarray:
    out = np.tile(colors[0], (len(p), 1))
    for _ in range(int(rng.integers(8, 45))):
        reach = np.linalg.norm(p - p[rng.integers(len(p))], axis=1)
        out[reach < size * rng.uniform(0.02, 0.12)] = colors[rng.integers(1, len(colors))]
    return out


def _marble(rng: Rng, p: np.ndarray, colors: np.ndarray, size: float) -> np.ndarray:
    wave = p @ _direction(rng) / size * rng.uniform(8, 25) + rng.uniform(1, 3) * noise(rng, p, size * 0.4, 4)
    return _mix(colors[0], colors[1], np.abs(np.sin(wave)) ** rng.uniform(0.5, 3))


def _wood(rng: Rng, p: np.ndarray, colors: np.ndarray, size: float) -> np.ndarray:
    light = np.array([rng.uniform(150, 225), rng.uniform(110, 165), rng.uniform(60, 110)], dtype=np.float32)
    axis = _direction(rng)
    flat = p - (p @ axis)[:, None] * axis + rng.uniform(-0.5, 0.5, 3) * size
    rings = np.linalg.norm(flat, axis=1) / size * rng.uniform(8, 25) + 0.6 * noise(rng, p, size * 0.5)
    grain = 0.12 * noise(rng, p * (1 - 0.8 * np.abs(axis)), size * 0.03)
    return _mix(light, light * 0.6, (rings % 1.0) ** 2 + grain)


def _camouflage(rng: Rng, p: np.ndarray, colors: np.ndarray, size: float) -> np.ndarray:
    level = noise(rng, p, size * rng.uniform(0.12, 0.4))
    edges = np.quantile(level, np.sort(rng.uniform(0.15, 0.85, min(4, len(colors)) - 1)))
    return colors[np.searchsorted(edges, level)]


def sample_image(image: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Sample an image [h, w, 3] at u (right), v (down) in 0..1: [N, 3] float32 colours; mirrored beyond."""
    if not len(u):
        return np.zeros((0, 3), dtype=np.float32)
    h, w = image.shape[:2]
    x = (u * w - 0.5).astype(np.float32).reshape(-1, 1)
    y = (v * h - 0.5).astype(np.float32).reshape(-1, 1)
    # remap takes at most 32767 rows in one piece.
    pieces = [
        cv2.remap(
            image, x[at : at + 30000], y[at : at + 30000], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        )
        for at in range(0, len(x), 30000)
    ]
    return np.concatenate(pieces)[:, 0].astype(np.float32)


SIDES = (
    # Each row: normal axis, its sign, axis to the right as seen from outside, its sign, axis up.
    (0, 1, 1, 1, 2),
    (0, -1, 1, -1, 2),
    (1, 1, 0, -1, 2),
    (1, -1, 0, 1, 2),
    (2, 1, 0, 1, 1),
    (2, -1, 0, -1, 1),
)


def facing_side(normals: np.ndarray) -> np.ndarray:
    """Return [N] int index into `SIDES` of the direction each normal [N, 3] points to most."""
    axis = np.abs(normals).argmax(axis=1)
    return 2 * axis + (normals[np.arange(len(normals)), axis] < 0)


def _spacing(points: np.ndarray) -> float:
    """Estimate the distance (m) of neighbouring vertices of a closed even mesh."""
    a, b, c = np.maximum(np.ptp(points, axis=0), 1e-4)
    return float(np.sqrt(2 * (a * b + b * c + c * a) / max(len(points), 1)))


def print_box(
    rng: Rng, points: np.ndarray, normals: np.ndarray, colors: np.ndarray, photo: np.ndarray | None = None
) -> np.ndarray:
    """Colour points as a package: six printed sides, projected along their normals, [N, 3] float32."""
    low, extent = points.min(axis=0), np.maximum(np.ptp(points, axis=0), 1e-4)
    side = facing_side(normals)
    out = np.tile(colors[0].astype(np.float32), (len(points), 1))
    step = _spacing(points)
    for index, (_, _, right, sign, up) in enumerate(SIDES):
        ground = colors if rng.random() < 0.7 else colors[rng.permutation(len(colors))]
        busy = rng.choice([0.3, 1.0, 1.6])
        panel = _panel(rng, extent[right], extent[up], step, ground, photo, busy)
        on = side == index
        u = (points[on, right] - low[right]) / extent[right]
        u = u if sign > 0 else 1 - u
        v = 1 - (points[on, up] - low[up]) / extent[up]
        out[on] = sample_image(panel, u, v)
    return out


def print_round(
    rng: Rng, points: np.ndarray, normals: np.ndarray, colors: np.ndarray, photo: np.ndarray | None = None
) -> np.ndarray:
    """Colour points with a label wrapped around z, the ends in one colour, [N, 3] float32."""
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    low, extent = points.min(axis=0), np.maximum(np.ptp(points, axis=0), 1e-4)
    x, y = ((points - middle)[:, :2] / extent[:2]).T
    angle = np.arctan2(y, x) / (2 * np.pi) + rng.random()
    start, stop = (0.0, 1.0) if rng.random() < 0.4 else (rng.uniform(0.03, 0.25), rng.uniform(0.65, 0.97))
    around, high = np.pi * extent[:2].mean(), (stop - start) * extent[2]
    panels = []
    # Join three different panels to one label.
    for _ in range(3):
        panels.append(
            _panel(rng, around / 3, high, _spacing(points), colors, photo, rng.choice([0.5, 1.0, 1.6]))
        )
    label = np.concatenate(panels, axis=1)
    z = (points[:, 2] - low[2]) / extent[2]
    v = (stop - z) / (stop - start)
    on = (v >= 0) & (v <= 1) & (np.abs(normals[:, 2]) < 0.8)
    out = np.tile(colors[rng.integers(len(colors))].astype(np.float32), (len(points), 1))
    out[on] = sample_image(label, angle[on] % 1.0, v[on])
    return out


def _panel(
    rng: Rng, wide: float, high: float, step: float, colors: np.ndarray, photo: np.ndarray | None, busy: float
) -> np.ndarray:
    """Draw a print for a side of wide x high metres, as fine as vertices `step` apart can show."""
    scale = 220 / max(wide, high)
    panel = make_print(rng, max(24, int(high * scale)), max(24, int(wide * scale)), colors, photo, busy)
    fraction = 1.0 / (0.7 * step * scale)
    if fraction < 1:
        panel = cv2.resize(panel, None, fx=fraction, fy=fraction, interpolation=cv2.INTER_AREA)
    return panel


def image_texture(
    points: np.ndarray, normals: np.ndarray, image: np.ndarray, rng: Rng | None = None
) -> np.ndarray:
    """Colour points by a photograph projected along the nearest axis, another part on each side.

    Args:
        points, normals: [N, 3], object frame.
        image: [h, w, 3] uint8 RGB.
        rng: chooses the parts; None takes fixed ones.
    """
    rng = np.random.default_rng(0) if rng is None else rng
    low, size = points.min(axis=0), _extent(points)
    fraction = min(1.0, size / _spacing(points) / (0.7 * min(image.shape[:2])))
    if fraction < 1:
        image = cv2.resize(image, None, fx=fraction, fy=fraction, interpolation=cv2.INTER_AREA)
    aspect = image.shape[0] / image.shape[1]
    side = facing_side(normals)
    out = np.zeros((len(points), 3), dtype=np.float32)
    for index, (_, _, right, sign, up) in enumerate(SIDES):
        on = side == index
        u = sign * (points[on, right] - low[right]) / size * min(1.0, aspect) + rng.uniform(0, 1)
        v = (low[up] - points[on, up]) / size * min(1.0, 1 / aspect) + rng.uniform(0, 1)
        out[on] = sample_image(image, u, v)
    return out


def color_shape(rng: Rng, shape: Shape, photo: np.ndarray | None = None) -> np.ndarray:
    """Colour a shape, [V, 3] uint8: a material for each part, prints on those that take them, and wear."""
    # Colour the parts; the first has the palette's colours, the others some of their own.
    out = np.zeros((len(shape.vertices), 3), dtype=np.float32)
    colors = palette(rng, 6)
    for index, print_on in enumerate(shape.print_on):
        on = shape.part == index
        if not on.any():
            continue
        own = colors if index == 0 else np.concatenate([colors[rng.permutation(6)[:3]], palette(rng, 3)])
        out[on] = _material(rng, shape.vertices[on], shape.normals[on], own, print_on, photo, index == 0)
    # Lighten and darken all of them a little, as wear does.
    size = _extent(shape.vertices)
    wear = 1 + rng.uniform(0.0, 0.08) * noise(rng, shape.vertices, size * 0.3)
    return np.clip(np.round(out * wear[:, None]), 0, 255).astype(np.uint8)


def _material(
    rng: Rng,
    points: np.ndarray,
    normals: np.ndarray,
    colors: np.ndarray,
    print_on: str,
    photo: np.ndarray | None,
    main: bool,
) -> np.ndarray:
    draw = rng.random()
    if print_on and draw < (0.72 if main else 0.4):
        return (print_box if print_on == "box" else print_round)(rng, points, normals, colors, photo)
    if photo is not None and draw < (0.9 if main else 0.5):
        return image_texture(points, normals, photo, rng)
    return solid_texture(rng, points, colors, strong=rng.random() < (0.75 if main else 0.4))
