"""Compute average recalls over all targets and over parts of them: the scores of BOP's leaderboards."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np

from vpog_core.evaluation.calibration_fit import calibration_error
from vpog_core.evaluation.errors import TargetErrors
from vpog_core.evaluation.matching import DIAMETER_FRACTIONS, PIXELS, Hits, correct_estimates, hits

VISIBILITY = (0.0, 0.3, 0.6, 0.9, 1.0 + 1e-9)
"""Edges of the visibility bins."""
UNKNOWN = "unknown"


def summary(found: Hits, part: np.ndarray | slice = slice(None)) -> dict:
    """Compute percentages over the instances that `part` selects, and their number; `rotation` is in degrees.

    AR_X is the mean recall over the thresholds of X (for VSD over its tolerances, too); AR their mean.
    The medians are over all instances, None where half of them or more have no pose.
    """
    recalls = {
        "AR_VSD": None if found.vsd is None else found.vsd[part],
        "AR_MSSD": found.mssd[part],
        "AR_MSPD": found.mspd[part],
    }
    means = {name: None if rows is None else _percent(rows) for name, rows in recalls.items()}
    correct = found.add[part]
    return {
        "AR": float(np.mean([value for value in means.values() if value is not None])),
        **means,
        "ADD_S_10": _percent(correct),
        "rotation": _median(np.degrees(found.rotation[part])),
        "distance": _median(100.0 * found.distance[part][:, 0]),
        "distance_diameter": _median(100.0 * found.distance[part][:, 1]),
        "correct": int(np.sum(correct)),
        "targets": len(correct),
    }


def score(
    targets: list[TargetErrors],
    names: Mapping[int, str],
    groups: Mapping[int, str],
    splits: Mapping[int, str],
) -> dict:
    """Compute all scores of one method: `summary` over all, per object, visibility, group and split.

    Args:
        names: of the objects, by number; groups, splits: labels of scenes, see `Benchmark`.
    """
    found = hits(targets)
    out = summary(found)
    out["per_object"] = {
        names[i]: summary(found, found.obj_id == i) for i in sorted(set(found.obj_id.tolist()))
    }
    out["per_visibility"] = {
        label: summary(found, part) for label, part in visibility_parts(found.visible) if part.any()
    }
    for key, labels in (("per_group", groups), ("per_split", splits)):
        if labels:
            parts = scene_parts(found.scene_id, labels)
            out[key] = {label: summary(found, part) for label, part in parts if part.any()}
    for label, part in out.get("per_split", {}).items():
        part["calibration_error"] = calibration([t for t in targets if splits[t.key[0]] == label])["error"]
    out["recall"] = recall_curves(found)
    out["calibration"] = calibration(targets)
    return out


def scene_parts(scene_id: np.ndarray, labels: Mapping[int, str]) -> list[tuple[str, np.ndarray]]:
    """Return (label, [N] bool) of each label of scenes; scene_id: [N]."""
    return [
        (label, np.isin(scene_id, [scene for scene, its in labels.items() if its == label]))
        for label in dict.fromkeys(labels.values())
    ]


def visibility_parts(visible: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Return (label, [N] bool) of each visibility bin."""
    parts = [
        (f"{100 * low:.0f}-{100 * min(high, 1):.0f} %", (visible >= low) & (visible < high))
        for low, high in pairwise(VISIBILITY)
    ]
    return [*parts, (UNKNOWN, np.isnan(visible))]


def recall_curves(found: Hits) -> dict[str, list[list[float]]]:
    """Return [threshold, percent found] for each kind of error; VSD is averaged over its tolerances."""
    curves = {"MSSD": (DIAMETER_FRACTIONS, found.mssd), "MSPD": (PIXELS, found.mspd)}
    if found.vsd is not None:
        curves["VSD"] = (
            DIAMETER_FRACTIONS,
            found.vsd.reshape(len(found.vsd), -1, len(DIAMETER_FRACTIONS)).mean(axis=1),
        )
    return {
        name: [[round(float(th), 4), _percent(rows[:, i])] for i, th in enumerate(thresholds)]
        for name, (thresholds, rows) in curves.items()
    }


def calibration(targets: list[TargetErrors], bins: int = 10) -> dict:
    """Measure how far a score is the probability that a pose is correct (ADD(-S) under 10 %).

    Returns:
        `bins`: [mean score, fraction correct, number] of each tenth of the scores with poses; `error`: the
        expected calibration error.
    """
    parts = [(t.scores, correct_estimates(t)) for t in targets]
    scores = np.concatenate([s for s, _ in parts] or [np.zeros(0)])
    correct = np.concatenate([r for _, r in parts] or [np.zeros(0, dtype=bool)])
    at = np.clip((scores * bins).astype(int), 0, bins - 1)
    rows = [
        [float(scores[at == b].mean()), float(correct[at == b].mean()), int((at == b).sum())]
        for b in range(bins)
        if (at == b).any()
    ]
    return {"bins": rows, "error": calibration_error(scores, correct, bins)}


def _median(values: np.ndarray) -> float | None:
    median = float(np.median(values)) if values.size else np.inf
    return median if np.isfinite(median) else None


def _percent(rows: np.ndarray) -> float:
    return 100.0 * float(np.mean(rows)) if rows.size else 0.0
