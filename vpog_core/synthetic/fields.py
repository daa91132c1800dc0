"""Build shapes of signed distance fields, and extract the surface of a field as a mesh.

A field is a function: points [..., 3] float32 (metres) -> [...] float32, negative inside. Distances may
be rough away from the surface; only the sign and a slope of about one near it matter.
Formulas after Inigo Quilez, https://iquilezles.org/articles/distfunctions/.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Field = Callable[[np.ndarray], np.ndarray]


def box(half: Sequence[float], rounding: float = 0.0) -> Field:
    """Return a box of half sizes [3] with rounded edges."""
    inner = np.asarray(half, dtype=np.float32) - np.float32(rounding)

    def field(p: np.ndarray) -> np.ndarray:
        x, y, z = (np.abs(p[..., k]) - inner[k] for k in range(3))
        outside = np.sqrt(np.maximum(x, 0) ** 2 + np.maximum(y, 0) ** 2 + np.maximum(z, 0) ** 2)
        return outside + np.minimum(np.maximum(np.maximum(x, y), z), 0) - rounding

    return field


def _extrude(flat: np.ndarray, along: np.ndarray, half: float, rounding: float) -> np.ndarray:
    a, b = flat + rounding, np.abs(along) - (half - rounding)
    outside = np.sqrt(np.maximum(a, 0) ** 2 + np.maximum(b, 0) ** 2)
    return outside + np.minimum(np.maximum(a, b), 0) - rounding


def cylinder(radius: float, half: float, rounding: float = 0.0, squash: float = 1.0) -> Field:
    """Return a cylinder along z; `squash` scales its width in y."""

    def field(p: np.ndarray) -> np.ndarray:
        flat = np.hypot(p[..., 0], p[..., 1] / squash) - radius
        return _extrude(flat * min(squash, 1.0), p[..., 2], half, rounding)

    return field


def polygon(corners: np.ndarray, half: float, rounding: float = 0.0) -> Field:
    """Return a simple polygon [N, 2] in x, y, extruded along z."""
    a = np.asarray(corners, dtype=np.float32)
    b = np.roll(a, -1, axis=0)

    def field(p: np.ndarray) -> np.ndarray:
        x, y = p[..., 0], p[..., 1]
        nearest = np.full(x.shape, np.inf, dtype=np.float32)
        inside = np.zeros(x.shape, dtype=bool)
        for (ax, ay), (bx, by) in zip(a, b, strict=True):
            ex, ey, wx, wy = bx - ax, by - ay, x - ax, y - ay
            along = np.clip((wx * ex + wy * ey) / (ex * ex + ey * ey), 0, 1)
            np.minimum(nearest, (wx - ex * along) ** 2 + (wy - ey * along) ** 2, out=nearest)
            crosses = (ay > y) != (by > y)
            inside ^= crosses & (wx < ex * wy / (ey if ey != 0 else 1e-12))
        flat = np.sqrt(nearest) * np.where(inside, -1, 1)
        return _extrude(flat, p[..., 2], half, rounding)

    return field


def lathe(heights: np.ndarray, radii: np.ndarray, squash: float = 1.0) -> Field:
    """Return a solid of revolution about z: radius `radii` [N] at `heights` [N] (rising), flat ends."""
    heights, radii = np.asarray(heights, float), np.asarray(radii, float)
    table = np.linspace(heights[0], heights[-1], 256)
    radius = np.interp(table, heights, radii)
    slope = np.sqrt(1 + np.gradient(radius, table) ** 2)
    middle, half = (heights[0] + heights[-1]) / 2, (heights[-1] - heights[0]) / 2

    def field(p: np.ndarray) -> np.ndarray:
        z = p[..., 2]
        flat = np.hypot(p[..., 0], p[..., 1] / squash) - np.interp(z, table, radius).astype(np.float32)
        flat = flat * min(squash, 1.0) / np.interp(z, table, slope).astype(np.float32)
        return _extrude(flat, z - np.float32(middle), half, 0.0)

    return field


def torus(ring: float, tube: float, squash: float = 1.0) -> Field:
    """Return a ring in the x, y plane; `squash` scales its y."""

    def field(p: np.ndarray) -> np.ndarray:
        flat = np.hypot(p[..., 0], p[..., 1] / squash) - ring
        return np.hypot(flat * min(squash, 1.0), p[..., 2]) - tube

    return field


def capsule(
    start: Sequence[float], end: Sequence[float], radius: float, end_radius: float | None = None
) -> Field:
    """Return a rod with round ends, its radius running from `radius` to `end_radius`."""
    a, b = np.asarray(start, np.float32), np.asarray(end, np.float32)
    tip = radius if end_radius is None else end_radius

    def field(p: np.ndarray) -> np.ndarray:
        along = np.clip(((p - a) @ (b - a)) / float((b - a) @ (b - a)), 0, 1)
        x, y, z = (p[..., k] - a[k] - along * (b - a)[k] for k in range(3))
        return np.sqrt(x * x + y * y + z * z) - (radius + (tip - radius) * along)

    return field


def superquadric(half: Sequence[float], e1: float, e2: float) -> Field:
    """Return a superquadric: half sizes [3], exponents e1 (along z), e2 (across): 1 ellipsoid, near 0 box."""
    a = np.asarray(half, dtype=np.float32)

    def field(p: np.ndarray) -> np.ndarray:
        q = np.abs(p / a) + 1e-6
        flat = (q[..., 0] ** (2 / e2) + q[..., 1] ** (2 / e2)) ** (e2 / e1)
        return ((flat + q[..., 2] ** (2 / e1)) ** (e1 / 2) - 1) * float(a.min())

    return field


def placed(field: Field, R: np.ndarray | None = None, t: Sequence[float] = (0, 0, 0)) -> Field:
    """Move a field: a point q of it comes to R q + t."""
    turn = np.eye(3, dtype=np.float32) if R is None else np.asarray(R, dtype=np.float32)
    shift = np.asarray(t, dtype=np.float32)
    return lambda p: field((p - shift) @ turn)


def union(fields: Sequence[Field], blend: float = 0.0) -> Field:
    """Join fields; `blend` (m) rounds the joints."""

    def field(p: np.ndarray) -> np.ndarray:
        out = fields[0](p)
        for other in fields[1:]:
            d = other(p)
            if blend > 0:
                h = np.maximum(blend - np.abs(out - d), 0) / blend
                out = np.minimum(out, d) - h * h * np.float32(blend / 4)
            else:
                out = np.minimum(out, d)
        return out

    return field


def cut(field: Field, away: Field) -> Field:
    """Take the second field out of the first."""
    return lambda p: np.maximum(field(p), -away(p))


def warped(field: Field, taper: float = 0.0, twist: float = 0.0, bend: float = 0.0) -> Field:
    """Narrow a field along z (fraction per metre), twist it about z (rad / m) or bend it in x (1 / m)."""

    def warp(p: np.ndarray) -> np.ndarray:
        x, y, z = p[..., 0], p[..., 1], p[..., 2]
        x = x + bend * z * z
        c, s = np.cos(twist * z), np.sin(twist * z)
        wide = np.clip(1 + taper * z, 0.4, 2.5)
        return field(np.stack([(c * x - s * y) / wide, (s * x + c * y) / wide, z], axis=-1)) * np.minimum(
            wide, 1
        )

    return warp


def surface(field: Field, half: Sequence[float], vertices: int = 15000) -> tuple[np.ndarray, np.ndarray]:
    """Return the surface of a field as an even mesh.

    Args:
        half: [3] the field is sampled in the box -half..half, which must hold the whole surface.
        vertices: about how many there shall be.

    Returns:
        vertices [V, 3] float64, faces [F, 3] int32, outside to the right-hand side.
    """
    half = np.asarray(half, dtype=np.float64)
    coarse = float(half.max()) / 16
    found = len(_surface_nets(*_sample(field, half, coarse))[0])
    step = coarse * np.sqrt(max(found, 50) / vertices)
    step = max(step, float((8 * np.prod(half) / 1.5e6) ** (1 / 3)))
    points, faces = _surface_nets(*_sample(field, half, step))
    return _snap(field, points, step), faces


def _sample(field: Field, half: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray, float]:
    count = np.ceil(half / step).astype(int) + 1
    axes = [np.arange(-n, n + 1, dtype=np.float32) * np.float32(step) for n in count]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    values = np.concatenate([field(slab) for slab in np.array_split(points, max(1, len(points) // 8))])
    return values.astype(np.float32), -count * step, step


def _surface_nets(values: np.ndarray, low: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Apply naive surface nets (Gibson 1998): a vertex in each cut cell, a quad for each cut edge."""
    inside = values < 0
    cells = tuple(n - 1 for n in values.shape)
    total = np.zeros((*cells, 3), dtype=np.float32)
    count = np.zeros(cells, dtype=np.int8)
    quads = []
    for axis in range(3):
        low_end, high_end = np.moveaxis(values, axis, 0)[:-1], np.moveaxis(values, axis, 0)[1:]
        edges = np.moveaxis((low_end < 0) != (high_end < 0), 0, axis)
        at = np.argwhere(edges)
        a = values[tuple(at.T)]
        after = at.copy()
        after[:, axis] += 1
        place = at.astype(np.float32)
        place[:, axis] += a / (a - values[tuple(after.T)])
        around, ok = _cells_around(at, axis, cells)
        for corner in around:
            index = tuple(corner[ok].T)
            np.add.at(total, index, place[ok])
            np.add.at(count, index, 1)
        quad = np.stack([np.ravel_multi_index(tuple(corner[ok].T), cells) for corner in around], axis=1)
        quads.append(np.where(inside[tuple(at[ok].T)][:, None], quad, quad[:, ::-1]))
    used = np.flatnonzero(count)
    number = np.full(count.size, -1, dtype=np.int64)
    number[used] = np.arange(len(used))
    points = total.reshape(-1, 3)[used] / count.reshape(-1)[used, None] * step + low
    quad = number[np.concatenate(quads)]
    faces = np.concatenate([quad[:, [0, 1, 2]], quad[:, [0, 2, 3]]])
    return points.astype(np.float64), faces.astype(np.int32)


def _cells_around(at: np.ndarray, axis: int, cells: tuple[int, ...]) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the four cells around each edge, counter-clockwise about the axis, and which edges have all."""
    u, v = (axis + 1) % 3, (axis + 2) % 3
    around = []
    for du, dv in ((-1, -1), (0, -1), (0, 0), (-1, 0)):
        corner = at.copy()
        corner[:, u] += du
        corner[:, v] += dv
        around.append(corner)
    ok = np.ones(len(at), dtype=bool)
    for corner in around:
        ok &= (corner >= 0).all(axis=1) & (corner < np.array(cells)).all(axis=1)
    return around, ok


def gradient(field: Field, points: np.ndarray, step: float) -> np.ndarray:
    """Compute the [N, 3] float64 slope of a field at points [N, 3], by central differences."""
    slope = np.empty((len(points), 3))
    for axis in range(3):
        shift = np.zeros(3)
        shift[axis] = step
        above, below = field((points + shift).astype(np.float32)), field((points - shift).astype(np.float32))
        slope[:, axis] = (above.astype(np.float64) - below) / (2 * step)
    return slope


def _snap(field: Field, points: np.ndarray, step: float) -> np.ndarray:
    """Move points onto the surface by Newton steps of at most half a cell."""
    start = points
    for _ in range(2):
        slope = gradient(field, points, step * 0.25)
        value = field(points.astype(np.float32)).astype(np.float64)
        move = slope * (value / np.maximum((slope**2).sum(axis=1), 0.05))[:, None]
        points = start + np.clip(points - move - start, -step / 2, step / 2)
    return points
