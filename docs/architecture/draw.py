"""Draw the packages of vpog_core on their floors: `python docs/architecture/draw.py`."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[2]
WIDTH, HEIGHT, GAP, MARGIN, TITLE = 1000, 52, 9, 16, 34
COLOURS = {"vpog_ros": "#d5e8d4", "inference": "#ffe6cc"}
PURPOSES = {
    "vpog_ros": "the ROS 2 node, its launch files' arguments, the demo",
    "cli": "the command vpog",
    "training": "data, losses and the training loop",
    "evaluation": "scores, reports, calibration",
    "replay": "poses of recorded bags",
    "frame_dump": "one frame written to a folder",
    "inference": "PoseEstimator, Tracker and the pipeline: from detections to poses",
    "synthetic": "procedural objects and scenes",
    "bop": "datasets in BOP's format",
    "objects": "meshes, renderer, templates, the library of objects",
    "visualization": "overlays and match images",
    "models": "the two networks; they know no geometry",
    "messages": "ROS messages read without ROS",
    "io": "image, mask and camera files",
    "geometry": "cameras, poses, symmetries, PnP",
    "utils": "files written atomically, worker pools",
    "setting": "declares a setting once",
    "types": "Camera, Detection, PoseEstimate, VPOGError",
    "threads": "numbers of threads",
    "cancellation": "stops long work",
}


def floors() -> list[list[str]]:
    """Read the layers of the first contract in pyproject.toml, from the top, without `vpog_core.`."""
    text = (ROOT / "pyproject.toml").read_text()
    block = re.search(r"^layers = \[\n(.*?)^\]", text, re.DOTALL | re.MULTILINE).group(1)
    rows = re.findall(r'"([^"]+)"', block)
    return [[name.strip().removeprefix("vpog_core.") for name in re.split("[:|]", row)] for row in rows]


def svg() -> str:
    """Draw one row for each floor, with a box for each package on it."""
    rows = floors()
    height = TITLE + len(rows) * (HEIGHT + GAP) + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="Helvetica, Arial, sans-serif">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{MARGIN}" y="22" font-size="14" fill="#555">'
        "A package imports from the floors below it alone.</text>",
    ]
    for number, names in enumerate(rows):
        width = (WIDTH - 2 * MARGIN - GAP * (len(names) - 1)) / len(names)
        for column, name in enumerate(names):
            x, y = MARGIN + column * (width + GAP), TITLE + number * (HEIGHT + GAP)
            parts += _box(name, x, y, width)
    return "\n".join([*parts, "</svg>", ""])


def _box(name: str, x: float, y: float, width: float) -> list[str]:
    """Draw a package: its name, and below it what it is for."""
    middle, colour = x + width / 2, COLOURS.get(name, "#dae8fc")
    return [
        f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{HEIGHT}" rx="6" '
        f'fill="{colour}" stroke="#678"/>',
        f'<text x="{middle:.1f}" y="{y + 22}" font-size="17" font-weight="bold" text-anchor="middle" '
        f'fill="#222">{escape(name)}</text>',
        f'<text x="{middle:.1f}" y="{y + 41}" font-size="13" text-anchor="middle" fill="#333">'
        f"{escape(PURPOSES[name])}</text>",
    ]


if __name__ == "__main__":
    (Path(__file__).parent / "packages.svg").write_text(svg())
