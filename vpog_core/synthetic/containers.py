"""Draw recipes of containers: packages, cans, bottles, mugs, bowls."""

from __future__ import annotations

import numpy as np

from vpog_core.geometry.se3 import rotation_x, rotation_z
from vpog_core.synthetic.fields import box, capsule, cut, cylinder, lathe, placed, polygon, torus
from vpog_core.synthetic.shape_parts import Part, Recipe

Rng = np.random.Generator


def package(rng: Rng) -> Recipe:
    """Draw a box, some with a spout, a knob or a folded top."""
    half = np.sort(rng.uniform(0.012, 0.06, 2))
    half = np.array([half[0], half[1], rng.uniform(0.03, 0.11)])
    parts = [Part(box(half, rng.choice([0.0005, 0.002, 0.006])), "box")]
    if rng.random() < 0.3:  # a spout, a knob or a folded top
        place = (rng.uniform(-0.3, 0.3) * half[0], rng.uniform(-0.5, 0.5) * half[1], half[2])
        parts.append(Part(placed(cylinder(min(half[:2]) * 0.6, 0.012, 0.001), t=place)))
    elif rng.random() < 0.3:
        flap = polygon([(-half[0], 0), (half[0], 0), (0, half[0] * rng.uniform(0.8, 1.6))], half[1], 0.001)
        # The polygon's x, y, z come to the package's x, z, -y.
        parts.append(Part(placed(flap, rotation_x(np.pi / 2), (0, 0, half[2] - 0.001)), "box"))
    return Recipe(parts, half + np.array([0.01, 0.01, 2 * half[0] + 0.02]))


def can(rng: Rng) -> Recipe:
    """Draw a can, with a lid or with rims and a tab."""
    radius, half = rng.uniform(0.025, 0.05), rng.uniform(0.015, 0.075)
    rim = rng.uniform(0.001, 0.003)
    body = Part(cylinder(radius, half, 0.002, rng.choice([1.0, 1.0, rng.uniform(0.5, 0.9)])), "round")
    if rng.random() < 0.5:
        lid = Part(placed(cylinder(radius + rim, rng.uniform(0.003, 0.012), 0.001), t=(0, 0, half)))
        parts = [body, lid]
        holes = []
    else:
        parts = [body]
        holes = [placed(cylinder(radius - 0.004, 0.004), t=(0, 0, s * half)) for s in (-1, 1)]
        tab = box((radius * 0.22, radius * 0.4, 0.0025), 0.002)
        parts.append(Part(placed(tab, rotation_z(rng.uniform(0, 6.3)), (radius * 0.2, 0, half - 0.003))))
    return Recipe(parts, np.array([radius + 0.01, radius + 0.01, half + 0.02]), holes)


def bottle(rng: Rng) -> Recipe:
    """Draw a bottle with its cap, some with a trigger, a spout or a grip."""
    height, radius = rng.uniform(0.12, 0.24), rng.uniform(0.022, 0.045)
    neck, shoulder = radius * rng.uniform(0.25, 0.55), rng.uniform(0.5, 0.78)
    waist = rng.uniform(0.72, 1.05)
    h = np.array([0, 0.03, 0.25, 0.45, shoulder, shoulder + 0.12, 0.88, 0.9]) * height
    r = np.array([0.93, 1, 1, waist, 1, (neck / radius + 0.6) / 2, neck / radius, neck / radius]) * radius
    squash = rng.choice([1.0, rng.uniform(0.5, 0.8)])
    body = placed(lathe(h, r, squash), t=(0, 0, -height / 2))
    cap = cylinder(neck * rng.uniform(1.1, 1.6), height * 0.05, 0.001)
    parts = [Part(body, "round"), Part(placed(cap, t=(0, 0, 0.43 * height)))]
    if rng.random() < 0.45:  # a trigger, a spout or a grip
        if rng.random() < 0.5:
            tip = (radius * rng.uniform(0.8, 1.4), 0, height * 0.46)
            parts.append(Part(capsule((0, 0, height * 0.46), tip, neck * 0.5, neck * 0.3)))
        else:
            ring = placed(torus(radius * 0.8, 0.006, 1.5), rotation_x(np.pi / 2), (radius, 0, height * 0.08))
            parts.append(Part(ring))
    return Recipe(parts, np.array([2.2 * radius + 0.02, radius + 0.015, height / 2 + 0.015]), blend=0.002)


def mug(rng: Rng) -> Recipe:
    """Draw a mug, most with a handle."""
    radius, half = rng.uniform(0.03, 0.05), rng.uniform(0.03, 0.06)
    wall = rng.uniform(0.003, 0.005)
    flare = rng.uniform(-0.15, 0.25)
    heights = np.linspace(-half, half, 6)
    radii = radius * (
        1 + flare * np.linspace(-0.5, 0.5, 6) + rng.uniform(-0.1, 0.1) * np.sin(np.linspace(0, 3, 6))
    )
    hollow = lathe(np.append(heights + 2 * wall, half + 0.02), np.append(radii - wall, radii[-1] - wall))
    parts = [Part(lathe(heights, radii), "round")]
    tall = rng.uniform(0.7, 1.1)
    reach = float(np.interp(0, heights, radii))
    handle = placed(
        cut(
            torus(half * 0.62, rng.uniform(0.004, 0.007), 1 / tall),
            placed(box((0.1, 0.2, 0.1)), t=(-0.1, 0, 0)),
        ),
        rotation_x(np.pi / 2),
        (reach - 0.002, 0, rng.uniform(-0.1, 0.1) * half),
    )
    if rng.random() < 0.85:
        parts.append(Part(handle))
    return Recipe(
        parts, np.array([radius * 1.3 + half + 0.01, radius * 1.3 + 0.01, half + 0.01]), [hollow], 0.002
    )


def bowl(rng: Rng) -> Recipe:
    """Draw a bowl, some with grips."""
    radius, height = rng.uniform(0.05, 0.1), rng.uniform(0.02, 0.07)
    wall, power = rng.uniform(0.004, 0.006), rng.uniform(0.3, 0.8)
    s = np.linspace(0, 1, 12)
    radii = radius * (0.35 + 0.65 * s**power)
    squash = rng.choice([1.0, rng.uniform(0.6, 0.9)])
    outer = lathe((s - 0.5) * height, radii, squash)
    hollow = lathe(np.append((s - 0.5) * height + wall, height), np.append(radii, radii[-1]) - wall, squash)
    parts = [Part(outer, "round")]
    for side in range(int(rng.integers(0, 3))):
        grip = box((0.02, 0.014, 0.004), 0.003)
        parts.append(Part(placed(grip, t=((1 - 2 * side) * radius, 0, height * 0.42))))
    return Recipe(parts, np.array([radius + 0.03, radius + 0.01, height / 2 + 0.01]), [hollow])
