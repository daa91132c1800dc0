"""Draw small charts as SVG text, coloured by the page's CSS variables for light and dark themes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 330, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 26, 40
COLOURS = ("var(--c1)", "var(--c2)", "var(--c3)")


def line_chart(curves: Mapping[str, Sequence[Sequence[float]]], x_label: str, y_label: str) -> str:
    """Draw curves of (x, y percent) points over one x axis that starts at zero."""
    largest = max((x for points in curves.values() for x, _ in points), default=1.0)
    parts = [_frame(x_label, y_label, [0, largest / 2, largest])]
    for index, (name, points) in enumerate(curves.items()):
        colour = COLOURS[index % len(COLOURS)]
        path = " ".join(f"{_x(x / largest):.1f},{_y(y / 100):.1f}" for x, y in points)
        dash = ' stroke-dasharray="6 4"' if index else ""
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
        parts.append(_key(index, name, colour))
    return _svg(parts, f"{y_label} over {x_label}")


def reliability_chart(bins: Sequence[Sequence[float]]) -> str:
    """Draw the fraction of correct poses over the mean score, (score, fraction, number) for each bin."""
    most = max((n for _, _, n in bins), default=1)
    line = f'<line x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}" class="ideal"/>'
    parts = [_frame("score", "correct, %", [0, 0.5, 1]), line]
    for mean, fraction, number in bins:
        radius = 3 + 7 * (number / most) ** 0.5
        tip = f"score {mean:.2f}: {100 * fraction:.0f} % correct of {number}"
        parts.append(
            f'<circle cx="{_x(mean):.1f}" cy="{_y(fraction):.1f}" r="{radius:.1f}" class="dot">'
            f"<title>{escape(tip)}</title></circle>"
        )
    return _svg(parts, "fraction of correct poses over score")


def bars(values: Mapping[str, float], unit: str, digits: int = 1) -> str:
    """Draw horizontal bars with their numbers; negative values are written, not drawn."""
    if not values:
        return ""
    height, largest = 26 * len(values) + 8, max([*values.values(), 1e-9])
    parts = []
    for row, (name, value) in enumerate(values.items()):
        y, length = 6 + 26 * row, max(value, 0) / largest * (WIDTH - 210)
        parts.append(f'<text x="128" y="{y + 14}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<rect x="136" y="{y}" width="{length:.1f}" height="19" rx="3" fill="var(--c1)"/>')
        parts.append(f'<text x="{142 + length:.1f}" y="{y + 14}">{value:.{digits}f} {escape(unit)}</text>')
    return _svg(parts, "bars", height)


def _x(fraction: float) -> float:
    return _LEFT + fraction * (WIDTH - _LEFT - _RIGHT)


def _y(fraction: float) -> float:
    return _TOP + (1 - fraction) * (HEIGHT - _TOP - _BOTTOM)


def _frame(x_label: str, y_label: str, x_ticks: Sequence[float]) -> str:
    parts = []
    for percent in (0, 25, 50, 75, 100):
        y = _y(percent / 100)
        parts.append(f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{percent}</text>')
    for tick in x_ticks:
        x = _x(tick / max(x_ticks[-1], 1e-9))
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - _BOTTOM + 16}" text-anchor="middle">{tick:g}</text>')
    middle = _x(0.5)
    parts.append(f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>')
    centre = _y(0.5)
    parts.append(
        f'<text x="12" y="{centre}" text-anchor="middle" transform="rotate(-90 12 {centre})">'
        f"{escape(y_label)}</text>"
    )
    return "".join(parts)


def _key(index: int, name: str, colour: str) -> str:
    x = _LEFT + 90 * index
    line = f'<line x1="{x}" x2="{x + 18}" y1="8" y2="8" stroke="{colour}" stroke-width="3"/>'
    return f'{line}<text x="{x + 24}" y="12">{escape(name)}</text>'


def _svg(parts: Sequence[str], label: str, height: int = HEIGHT) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" '
        f'aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )
