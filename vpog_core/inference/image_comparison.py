"""Correct the best hypotheses by comparing renders with the image, and score them by the result.

A comparison costs as much as finding the pose did. The best hypothesis of each query is compared first;
another one only where a comparison can put it before that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from scipy.special import logit

from vpog_core import cancellation
from vpog_core.inference.alignment import align
from vpog_core.inference.calibration import Calibration
from vpog_core.inference.hypothesis import PoseHypothesis
from vpog_core.inference.onboarding import OnboardedObject
from vpog_core.inference.pose_solver import apply_alignment, compute_compared_features
from vpog_core.inference.query import Query
from vpog_core.inference.render_and_compare import PoseToRefine, RefinedPose
from vpog_core.inference.render_and_compare import refine as refine_poses
from vpog_core.models.refiner import RefinerNet
from vpog_core.objects.renderer import Renderer

FLOW_GAIN = 0.1
"""Largest similarity that the alignment by flow may add; 95 % of poses gain under 0.05 after the refiner."""
RIVAL_GAP = 1.0
"""Log odds below the threshold from which poses are aligned as well: they may look like the best one, and are
told apart from it only where both are exact (see `disambiguation`)."""
MAX_GAIN = 3.0
"""Largest rise of a score's log odds by a comparison: of 482 hypotheses of unseen objects one in a hundred
rose by more, and one of the 83 that came to be the best of their detection."""


@dataclass(frozen=True)
class ImageComparison:
    """Compares hypotheses with the image.

    Attributes:
        refiner: corrects poses, or None; refiner_rounds: its rounds, at most.
        alignments: rounds of alignment, at most, see `alignment.align`.
        calibration: scores what is compared; renderer: makes the renderer of an object.
        stage: measures a stage by its name, see `StageTimings.stage`.
    """

    refiner: RefinerNet | None
    refiner_rounds: int
    alignments: int
    calibration: Calibration
    renderer: Callable[[OnboardedObject], Renderer]
    stage: Callable[[str], AbstractContextManager]

    def best_of(self, queries: Sequence[Query], count: int) -> list[Query]:
        """Correct and score the hypotheses of queries; those that cannot be among the best are dropped.

        Args:
            count: hypotheses wanted of each query.
        """
        # Compare the best hypotheses of each query.
        first = self._compare_useful([(q, q.hypotheses[:count], q.score_to_beat) for q in queries])
        # Compare the others that may come to be among those, and drop the rest.
        thresholds = [
            max(q.score_to_beat, min((h.score for h in done), default=0.0))
            for q, done in zip(queries, first, strict=True)
        ]
        others = self._compare_useful(
            [(q, q.hypotheses[count:], threshold) for q, threshold in zip(queries, thresholds, strict=True)]
        )
        return [
            q.with_hypotheses([*done, *more]) for q, done, more in zip(queries, first, others, strict=True)
        ]

    def _compare_useful(
        self, tried: Sequence[tuple[Query, Sequence[PoseHypothesis], float]]
    ) -> list[list[PoseHypothesis]]:
        """Correct and score those hypotheses of each query that can reach its threshold; drop the others."""
        useful = [[h for h in hypotheses if _can_reach(h, threshold)] for _, hypotheses, threshold in tried]
        compared = self._compare(
            [(q, h, threshold) for (q, _, threshold), some in zip(tried, useful, strict=True) for h in some]
        )
        return [[next(compared) for _ in some] for some in useful]

    def _compare(self, tried: Sequence[tuple[Query, PoseHypothesis, float]]) -> Iterator[PoseHypothesis]:
        """Yield corrected and scored hypotheses for (query, hypothesis, score it must reach)."""
        # The refiner network corrects all poses in one batch.
        with self.stage("compare"):
            refined = self._refined(tried)
        # Align with the image at its full resolution; the similarity of both is part of the score.
        with self.stage("align"):
            return iter([self._aligned(*one, other) for one, other in zip(tried, refined, strict=True)])

    def _refined(self, tried: Sequence[tuple[Query, PoseHypothesis, float]]) -> list[RefinedPose | None]:
        """Refine each hypothesis by the network; None for those without a pose."""
        rows = [n for n, (_, h, _) in enumerate(tried) if h.has_pose]
        corrected: list[RefinedPose | None] = [None] * len(tried)
        if self.refiner is None or not self.refiner_rounds or not rows:
            return corrected
        poses = [
            PoseToRefine(self.renderer(q.target), q.observation, h.T_cam_obj)
            for q, h, _ in (tried[n] for n in rows)
        ]
        for n, pose in zip(rows, refine_poses(self.refiner, poses, self.refiner_rounds), strict=True):
            corrected[n] = pose
        return corrected

    def _aligned(
        self, query: Query, hypothesis: PoseHypothesis, threshold: float, refined: RefinedPose | None
    ) -> PoseHypothesis:
        """Align one hypothesis with the image, starting from the refined pose; one without a pose stays.

        Where the matches do not agree with the aligned pose, the hypothesis keeps its own, and what the
        refiner saw at another pose is no part of its score.
        """
        if not hypothesis.has_pose:
            return hypothesis
        cancellation.check()
        given = self.renderer(query.target), query.observation, hypothesis.T_cam_obj
        alignment = align(
            *given,
            self.alignments,
            refined,
            lambda similarity: self._may_reach(hypothesis, similarity + FLOW_GAIN, threshold, refined),
        )
        aligned = apply_alignment(hypothesis, alignment, refined, self.calibration)
        if aligned is not None:
            return aligned
        return apply_alignment(hypothesis, align(*given, rounds=0), None, self.calibration)

    def _may_reach(
        self, hypothesis: PoseHypothesis, similarity: float, threshold: float, refined: RefinedPose | None
    ) -> bool:
        """Tell whether a hypothesis of this similarity would come near a threshold by its score."""
        features = compute_compared_features(hypothesis, min(similarity, 1.0), refined)
        log_odds = self.calibration.compared(features).logit(features)
        return bool(log_odds >= logit(threshold) - RIVAL_GAP)


def _can_reach(hypothesis: PoseHypothesis, threshold: float) -> bool:
    """Tell whether a comparison can raise the score of a matched hypothesis to a threshold."""
    if not hypothesis.has_pose:
        return threshold == 0.0
    return logit(hypothesis.score) + MAX_GAIN >= logit(threshold)
