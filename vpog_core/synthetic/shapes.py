"""Make shapes of table-top objects by seed: packages, cans, bottles, mugs, tools, toys, brackets, ..."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vpog_core.geometry.se3 import random_rotation, rotation_x, rotation_y, rotation_z
from vpog_core.synthetic import containers
from vpog_core.synthetic.fields import (
    box,
    capsule,
    cut,
    cylinder,
    gradient,
    placed,
    polygon,
    superquadric,
    surface,
    torus,
    union,
    warped,
)
from vpog_core.synthetic.shape_parts import Part, Recipe

Rng = np.random.Generator


@dataclass
class Shape:
    """Holds a mesh with vertices evenly spread, the middle of its box at the origin.

    Attributes:
        vertices: [V, 3] float64, metres.
        faces: [F, 3] int32.
        normals: [V, 3] float64 unit, outwards.
        part: [V] int, which part of the recipe a vertex belongs to.
        print_on: for each part "box", "round" or "".
        kind: name of the recipe.
    """

    vertices: np.ndarray
    faces: np.ndarray
    normals: np.ndarray
    part: np.ndarray
    print_on: list[str]
    kind: str


def _tool(rng: Rng) -> Recipe:
    length, thick = rng.uniform(0.05, 0.09), rng.uniform(0.007, 0.014)
    grip = warped(
        superquadric((thick, thick * rng.uniform(0.6, 1), length), 0.4, rng.uniform(0.3, 1)),
        bend=rng.normal(0, 1),
    )
    parts = [Part(grip)]
    shaft = rng.uniform(0.03, 0.09)
    end = length + shaft
    parts.append(Part(capsule((0, 0, length * 0.8), (0, 0, end), thick * 0.45)))
    head = rng.integers(5)
    if head == 0:  # hammer
        claw = capsule((-0.045, 0, end), (0.035, 0, end), 0.008, 0.014)
        parts.append(Part(claw))
    elif head == 1:  # spatula, brush
        blade = box((rng.uniform(0.02, 0.04), 0.003, rng.uniform(0.02, 0.04)), 0.002)
        parts.append(Part(placed(blade, rotation_x(rng.uniform(0, 0.4)), (0, 0, end + 0.02)), "box"))
    elif head == 2:  # wrench
        jaw = cut(cylinder(0.022, 0.006, 0.002), placed(box((0.008, 0.03, 0.02)), t=(0, 0.022, 0)))
        parts.append(
            Part(placed(jaw, rotation_x(np.pi / 2) @ rotation_z(rng.uniform(-0.6, 0.6)), (0, 0, end + 0.01)))
        )
    elif head == 3:  # drill, glue gun
        body = placed(superquadric((0.055, 0.02, 0.026), 0.5, 0.5), t=(0.02, 0, end))
        chuck = placed(cylinder(0.012, 0.02, 0.002), rotation_y(np.pi / 2), (0.085, 0, end))
        parts += [Part(body, "box"), Part(chuck)]
    else:  # ladle, lollipop
        parts.append(Part(placed(superquadric((0.03, 0.022, 0.026), 1, 1), t=(0, 0.01, end))))
    reach = 0.115 if head == 3 else 0.06
    middle = (end + 0.03 - length) / 2
    shift = (-0.03 if head == 3 else 0, 0, -middle)
    parts = [Part(placed(part.field, t=shift), part.print_on) for part in parts]
    return Recipe(parts, np.array([reach, 0.045, length + middle + 0.04]), blend=rng.choice([0.0, 0.004]))


def _bracket(rng: Rng) -> Recipe:
    a, b, w = rng.uniform(0.03, 0.07, 3) * [1, 1, 0.6]
    thick = rng.uniform(0.004, 0.012)
    outline = [
        (-a, -b),
        (a, -b),
        (a, -b + 2 * thick),
        (-a + 2 * thick, -b + 2 * thick),
        (-a + 2 * thick, b),
        (-a, b),
    ]
    if rng.random() < 0.35:  # U instead of L
        outline[2:3] = [(a, b * 0.4), (a - 2 * thick, b * 0.4), (a - 2 * thick, -b + 2 * thick)]
    parts = [Part(polygon(outline, w, 0.001), rng.choice(["box", ""]))]
    holes = []
    for _ in range(int(rng.integers(1, 4))):
        hole = cylinder(rng.uniform(0.15, 0.45) * w, 0.06)
        place = (rng.uniform(-0.4, 0.9) * a, -b, rng.uniform(-0.5, 0.5) * w)
        holes.append(placed(hole, rotation_x(np.pi / 2), place))
    if rng.random() < 0.5:
        rib = polygon([(-a, -b), (rng.uniform(0, a), -b), (-a, rng.uniform(0, b))], thick * 0.8)
        parts.append(Part(placed(rib, t=(0, 0, rng.uniform(-0.5, 0.5) * w))))
    if rng.random() < 0.6:
        boss = cylinder(rng.uniform(0.008, 0.018), rng.uniform(0.01, 0.025), 0.001)
        parts.append(
            Part(
                placed(boss, rotation_y(np.pi / 2), (-a, rng.uniform(0, 0.7) * b, rng.uniform(-0.4, 0.4) * w))
            )
        )
    return Recipe(parts, np.array([a + 0.035, b + 0.01, w + 0.01]), holes)


def _toy(rng: Rng) -> Recipe:
    """Draw a body with a head, limbs, wheels or fins, joined softly."""
    body = rng.uniform(0.02, 0.045, 3) * [1.4, 1, 1]
    parts = [
        Part(
            superquadric(body, rng.uniform(0.3, 1.2), rng.uniform(0.3, 1.2)), rng.choice(["box", "", "round"])
        )
    ]
    for _ in range(int(rng.integers(2, 7))):
        direction = rng.standard_normal(3)
        direction /= np.linalg.norm(direction)
        place = direction * body * rng.uniform(0.75, 1.0)
        size = rng.uniform(0.008, 0.024)
        kind = rng.integers(5)
        if kind == 0:
            piece = superquadric(
                rng.uniform(0.6, 1.3, 3) * size, rng.uniform(0.3, 1.5), rng.uniform(0.3, 1.5)
            )
        elif kind == 1:
            piece = cylinder(size, size * rng.uniform(0.25, 0.8), 0.002)
        elif kind == 2:
            piece = capsule(
                (0, 0, 0), (0, 0, size * rng.uniform(1.5, 3)), size * 0.5, size * rng.uniform(0.2, 0.6)
            )
        elif kind == 3:
            piece = torus(size, size * 0.35, rng.uniform(0.6, 1))
        else:
            piece = box(rng.uniform(0.4, 1.2, 3) * size, 0.002)
        parts.append(Part(placed(piece, random_rotation(rng), place)))
    return Recipe(parts, body + 0.065, blend=rng.choice([0.0, 0.004, 0.01]))


def _blocks(rng: Rng) -> Recipe:
    """Draw a stack of a few solids, each shifted against the one below."""
    parts, low, at = [], 0.0, np.zeros(2)
    for _ in range(int(rng.integers(2, 5))):
        half = rng.uniform(0.012, 0.045, 3)
        kind = rng.integers(4)
        solid = (
            box(half, rng.choice([0.001, 0.005]))
            if kind <= 1
            else cylinder(half[0], half[2], 0.001, half[1] / half[0])
            if kind == 2
            else superquadric(half, rng.uniform(0.2, 1), rng.uniform(0.2, 1.6))
        )
        turn = rotation_z(rng.uniform(0, np.pi))
        parts.append(Part(placed(solid, turn, (*at, low + half[2])), "round" if kind == 2 else "box"))
        low += 2 * half[2] * rng.uniform(0.8, 0.98)
        at = at + rng.uniform(-0.02, 0.02, 2)
    parts = [Part(placed(part.field, t=(0, 0, -low / 2)), part.print_on) for part in parts]
    holes = []
    if rng.random() < 0.4:
        holes.append(
            placed(
                cylinder(rng.uniform(0.006, 0.012), 0.2), random_rotation(rng), rng.uniform(-0.01, 0.01, 3)
            )
        )
    return Recipe(parts, np.array([0.13, 0.13, low / 2 + 0.02]), holes)


def _blob(rng: Rng) -> Recipe:
    """Draw a fruit, stone or loaf: rounded, tapered, bent, bumpy."""
    half = rng.uniform(0.025, 0.06, 3) * [1, 1, 1.4]
    base = warped(
        superquadric(half, rng.uniform(0.5, 1.1), rng.uniform(0.5, 1.1)),
        taper=rng.normal(0, 5),
        twist=rng.normal(0, 6),
        bend=rng.normal(0, 4),
    )
    waves, phases = rng.normal(0, 60, (4, 3)).astype(np.float32), rng.uniform(0, 6.3, 4)
    height = rng.uniform(0.0, 0.0025)

    def bumpy(p: np.ndarray) -> np.ndarray:
        return base(p) + height * sum(np.sin(p @ w + phase) for w, phase in zip(waves, phases, strict=True))

    parts = [Part(bumpy, "round")]
    if rng.random() < 0.5:
        parts.append(Part(capsule((0, 0, half[2] * 0.8), (0.01, 0, half[2] + 0.012), 0.004)))
    return Recipe(parts, half * 1.5 + 0.02, blend=0.003)


def _gadget(rng: Rng) -> Recipe:
    """Draw a remote control, charger or stapler: a slab with keys, dials, dents and a plug."""
    half = np.array([rng.uniform(0.02, 0.05), rng.uniform(0.03, 0.09), rng.uniform(0.007, 0.02)])
    body = warped(box(half, half[2] * rng.uniform(0.2, 0.9)), taper=rng.uniform(-6, 6))
    if rng.random() < 0.5:
        body = warped(superquadric(half, rng.uniform(0.3, 0.7), rng.uniform(0.2, 0.6)))
    parts, holes = [Part(body, rng.choice(["box", "box", ""]))], []
    for _ in range(int(rng.integers(3, 10))):
        x, y = rng.uniform(-0.7, 0.7, 2) * half[:2]
        size = rng.uniform(0.004, 0.012)
        key = (
            cylinder(size, 0.003, 0.001)
            if rng.random() < 0.5
            else box((size, size * rng.uniform(0.4, 1.4), 0.003), 0.001)
        )
        if rng.random() < 0.75:
            parts.append(Part(placed(key, t=(x, y, half[2]))))
        else:
            holes.append(placed(key, t=(x, y, half[2])))
    if rng.random() < 0.4:
        parts.append(
            Part(capsule((0, half[1] * 0.9, 0), (rng.uniform(-0.02, 0.02), half[1] + 0.03, 0), 0.005, 0.003))
        )
    return Recipe(parts, half + np.array([0.02, 0.045, 0.02]), holes)


RECIPES: dict[str, tuple[float, Callable[[Rng], Recipe]]] = {
    "package": (1.8, containers.package),
    "can": (1.2, containers.can),
    "bottle": (1.4, containers.bottle),
    "mug": (1.0, containers.mug),
    "bowl": (0.5, containers.bowl),
    "tool": (1.2, _tool),
    "bracket": (1.0, _bracket),
    "toy": (1.4, _toy),
    "blocks": (1.0, _blocks),
    "blob": (0.7, _blob),
    "gadget": (1.0, _gadget),
}
"""The kinds of shapes by name: how often each is drawn (weight), and the function that draws its recipe."""


def make_shape(seed: int, kind: str | None = None, vertices: int = 15000) -> Shape:
    """Make a shape of 5 to 25 cm by seed; the same seed gives the same shape.

    Args:
        kind: one of `RECIPES`; None draws one by weight.
        vertices: about how many.
    """
    # Draw a recipe. A kind is drawn even where one is given, so that the numbers after it are the same.
    rng = np.random.default_rng([int(seed), 1])
    names = list(RECIPES)
    weights = np.array([RECIPES[name][0] for name in names])
    drawn = names[int(rng.choice(len(names), p=weights / weights.sum()))]
    kind = drawn if kind is None else kind
    recipe = RECIPES[kind][1](rng)
    # Join its parts, and cut out its holes.
    whole = union([part.field for part in recipe.parts], recipe.blend)
    for hole in recipe.holes:
        whole = cut(whole, hole)
    # Extract the surface, with normals.
    points, faces = surface(whole, recipe.half, vertices)
    slope = gradient(whole, points, 0.0005)
    normals = slope / np.maximum(np.linalg.norm(slope, axis=1, keepdims=True), 1e-12)
    # Find the part that each vertex belongs to, and move the middle to the origin.
    near = np.stack([part.field(points.astype(np.float32)) for part in recipe.parts])
    points = points - (points.min(axis=0) + points.max(axis=0)) / 2
    return Shape(points, faces, normals, near.argmin(axis=0), [part.print_on for part in recipe.parts], kind)
