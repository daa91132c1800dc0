"""Collect the errors of many poses by object, and summarise them in sentences."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from vpog_core.evaluation.pose_error import ADD_FRACTION, add_or_adds, rotation_error, translation_error


@dataclass(frozen=True)
class PoseScore:
    """Holds the errors of a pose: rotation in radians, translation and ADD(-S) over the diameter."""

    rotation: float
    translation: float
    add: float

    @property
    def correct(self) -> bool:
        """Tell whether ADD(-S) is under ADD_FRACTION."""
        return self.add < ADD_FRACTION


@dataclass
class PoseMetrics:
    """Collects the errors of poses and the latencies of frames.

    Attributes:
        scores: the scores of each object; None stands for no pose.
        latencies: seconds, one for each frame.
    """

    scores: dict[str, list[PoseScore | None]] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)

    def update(
        self,
        object_id: str,
        T_est: np.ndarray | None,
        T_gt: np.ndarray,
        points: np.ndarray,
        diameter: float,
        symmetric: bool = False,
    ) -> PoseScore | None:
        """Compare an estimate (None for no pose) with the truth, T_cam_obj [4, 4] both, and add its score.

        Args:
            points: [N, 3] points of the mesh, metres; a few hundred are enough.
            diameter: of the mesh, metres.
            symmetric: take ADD-S in place of ADD.
        """
        score = None
        if T_est is not None:
            distance = add_or_adds(T_est, T_gt, points, symmetric)
            score = PoseScore(
                rotation=rotation_error(T_est, T_gt),
                translation=translation_error(T_est, T_gt) / diameter,
                add=distance / diameter,
            )
        self.scores.setdefault(object_id, []).append(score)
        return score

    @property
    def recall(self) -> float:
        """The fraction of all pairs (frame, object) with a correct pose; no pose counts as incorrect."""
        scores = [score for each in self.scores.values() for score in each]
        return sum(score is not None and score.correct for score in scores) / max(len(scores), 1)

    def object_lines(self) -> list[str]:
        """Return one line for each object."""
        width = max((len(name) for name in self.scores), default=0)
        return [f"{name:<{width}}  {_sentence(scores)}" for name, scores in self.scores.items()]

    def summary(self) -> str:
        """Return one line over all objects, with the latencies where there are any."""
        scores = [score for each in self.scores.values() for score in each]
        line = f"all objects: {_sentence(scores)}"
        if self.latencies:
            median, p95 = np.percentile(np.asarray(self.latencies) * 1e3, (50, 95))
            line += f", latency median {median:.0f} ms, p95 {p95:.0f} ms over {len(self.latencies)} frames"
        return line


def _sentence(scores: list[PoseScore | None]) -> str:
    found = [score for score in scores if score is not None]
    text = f"{len(found)} of {len(scores)} answered"
    if not found:
        return text
    rotation = np.rad2deg(np.median([score.rotation for score in found]))
    translation = 100.0 * np.median([score.translation for score in found])
    correct = 100.0 * sum(score.correct for score in found) / len(scores)
    return (
        f"{text}, rotation error median {rotation:.1f} deg, translation error median {translation:.1f} % of "
        f"the diameter, ADD(-S) under {100 * ADD_FRACTION:.0f} % of the diameter for {correct:.0f} %"
    )
