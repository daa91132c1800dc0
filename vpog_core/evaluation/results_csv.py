"""Write and read pose estimates as CSV in BOP's format: scene_id,im_id,obj_id,score,R,t,time; millimetres.

https://github.com/thodan/bop_toolkit/blob/master/docs/bop_challenge_2019.md
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from vpog_core.evaluation.benchmark import FrameKey
from vpog_core.evaluation.errors import Estimate
from vpog_core.geometry.se3 import transform
from vpog_core.types import VPOGError

HEADER = "scene_id,im_id,obj_id,score,R,t,time"


def write_results(path: str | Path, estimates: Mapping[FrameKey, Sequence[Estimate]]) -> None:
    """Write the estimates of all frames."""
    lines = [HEADER]
    for (scene_id, image_id), of_frame in sorted(estimates.items()):
        for e in of_frame:
            R = " ".join(repr(float(v)) for v in e.T_cam_obj[:3, :3].ravel())
            t = " ".join(repr(float(v)) for v in 1000.0 * e.T_cam_obj[:3, 3])
            lines.append(f"{scene_id},{image_id},{e.obj_id},{float(e.score)!r},{R},{t},{float(e.seconds)!r}")
    Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_results(path: str | Path) -> dict[FrameKey, list[Estimate]]:
    """Read the estimates in a file, by frame, in its order.

    Raises:
        VPOGError: no such file, or a line that is not of the format.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise VPOGError(f"The results file '{path}' cannot be read ({error}): check the path.") from error
    found: dict[FrameKey, list[Estimate]] = {}
    for number, line in enumerate(lines, start=1):
        if line.strip() and not (number == 1 and line.startswith(HEADER)):
            key, estimate = _parse(line, f"'{path}', line {number}")
            found.setdefault(key, []).append(estimate)
    return found


def _parse(line: str, where: str) -> tuple[FrameKey, Estimate]:
    fields = line.split(",")
    try:
        scene_id, image_id, obj_id = (int(value) for value in fields[:3])
        score, seconds = float(fields[3]), float(fields[6])
        R = np.array([float(v) for v in fields[4].split()]).reshape(3, 3)
        t = np.array([float(v) for v in fields[5].split()]).reshape(3) / 1000.0
        if len(fields) != 7 or not np.isfinite([score, *R.ravel(), *t]).all():
            raise ValueError
    except (ValueError, IndexError) as error:
        raise VPOGError(f"{where} is not {HEADER} with nine and three numbers: write it again.") from error
    return (scene_id, image_id), Estimate(obj_id, transform(R, t), score, seconds)
