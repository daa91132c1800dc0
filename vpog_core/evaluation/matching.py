"""Match estimates with instances by BOP's greedy rule, and count what is found at each threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vpog_core.evaluation.errors import TargetErrors
from vpog_core.evaluation.pose_error import ADD_FRACTION

DIAMETER_FRACTIONS = np.arange(0.05, 0.51, 0.05)
"""Thresholds of VSD, and of MSSD over the diameter."""
PIXELS = np.arange(5.0, 51.0, 5.0)
"""Thresholds of MSPD at an image width of 640."""


@dataclass
class Hits:
    """Holds which of N target instances were found.

    Attributes:
        obj_id, scene_id, image_id: [N]; visible: [N] fraction, NaN where not known.
        vsd: [N, 100] bool, tau by tau, ten thresholds each, or None; mssd, mspd: [N, 10] bool; add: [N] bool.
        rotation: [N] radians; distance: [N, 2] over the distance and over the diameter; both of the estimate
            that is nearest in the image, infinite where there is none.
    """

    obj_id: np.ndarray
    scene_id: np.ndarray
    image_id: np.ndarray
    visible: np.ndarray
    mssd: np.ndarray
    mspd: np.ndarray
    add: np.ndarray
    rotation: np.ndarray
    distance: np.ndarray
    vsd: np.ndarray | None


def match(errors: np.ndarray, threshold: float, allowed: np.ndarray) -> np.ndarray:
    """Match instances with estimates, [G] rows or -1; estimates choose in turn, best score first.

    Args:
        errors: [E, G], estimates by falling score; allowed: [G] bool, instances that may be found.
    """
    found = np.full(errors.shape[1], -1)
    for index, row in enumerate(errors):
        free = np.where(allowed & (found < 0), row, np.inf)
        if len(free) and free.min() < threshold:
            found[int(free.argmin())] = index
    return found


def hits(targets: list[TargetErrors]) -> Hits:
    """Collect all target instances over all objects and frames."""
    rows = [_rows(target) for target in targets]
    with_vsd = bool(targets) and all(target.vsd is not None for target in targets)

    def joined(values, width: int = 0):
        parts = list(values)
        return np.concatenate(parts) if parts else np.zeros((0, width) if width else 0)

    counts = [len(row["add"]) for row in rows]

    def repeated(values):
        return np.repeat(np.array(values, dtype=np.int64), counts)

    return Hits(
        obj_id=repeated([t.obj_id for t in targets]),
        scene_id=repeated([t.key[0] for t in targets]),
        image_id=repeated([t.key[1] for t in targets]),
        visible=joined(t.visible[t.targeted] for t in targets),
        mssd=joined((row["mssd"] for row in rows), len(DIAMETER_FRACTIONS)),
        mspd=joined((row["mspd"] for row in rows), len(PIXELS)),
        add=joined(row["add"] for row in rows),
        rotation=joined(row["rotation"] for row in rows),
        distance=joined((row["distance"] for row in rows), 2),
        vsd=joined(row["vsd"] for row in rows) if with_vsd else None,
    )


def correct_estimates(target: TargetErrors) -> np.ndarray:
    """Tell which estimates have a correct ADD(-S), [E] bool."""
    correct = np.zeros(len(target.scores), dtype=bool)
    found = match(target.add, ADD_FRACTION, target.targeted)
    correct[found[found >= 0]] = True
    return correct


def _rows(target: TargetErrors) -> dict[str, np.ndarray]:
    """Tell which instances are found, [targets, thresholds], for each kind of error."""
    targeted = target.targeted

    def found(errors, thresholds):
        columns = [match(errors, th, targeted)[targeted] >= 0 for th in thresholds]
        return np.stack(columns, axis=1)

    rows = {
        "mssd": found(target.mssd, DIAMETER_FRACTIONS),
        "mspd": found(target.mspd, PIXELS),
        "add": found(target.add, [ADD_FRACTION])[:, 0],
    }
    nearest = match(target.mspd, np.inf, targeted)[targeted]
    matched, mine = nearest >= 0, np.flatnonzero(targeted)
    for name, values in (("rotation", target.rotation), ("distance", target.distance)):
        rows[name] = np.full((len(mine), *values.shape[2:]), np.inf)
        rows[name][matched] = values[nearest[matched], mine[matched]]
    if target.vsd is not None:
        taus = range(target.vsd.shape[-1])
        rows["vsd"] = np.concatenate(
            [found(target.vsd[..., tau], DIAMETER_FRACTIONS) for tau in taus], axis=1
        )
    return rows
