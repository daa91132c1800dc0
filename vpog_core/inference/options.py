"""How an estimator works: what a user can choose."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from vpog_core.inference.correspondence import MatchSettings
from vpog_core.inference.template_modes import ClusterMode, GlobalMode, TemplateMode
from vpog_core.types import VPOGError

MODES = ("cluster", "global")


@dataclass(frozen=True)
class Options:
    """Choices of an estimator.

    Attributes:
        mode: `cluster` tries the templates around the views retrieval finds, `global` all of them.
        hypotheses: views tried per detection in cluster mode.
        retry_views: further views tried, in cluster mode, where the best pose does not convince: where its
            score is lower than `retry_below_score` (0..1).
        rolls: in-plane turns every group of views is tried at in global mode.
        refinements: times, at most, a pose is rendered and matched again.
        refiner_rounds: rounds of the refiner network before a pose is aligned; 0: none.
        alignments: rounds, at most, of aligning the rendered object with the full image; 0: not at all, also
            not by the refiner, and the similarity of render and image is no part of the score.
        alternatives: further poses, of different views, returned beside the best.
        samples: poses drawn from the distribution of each answer.
        level, soft, min_confidence: see `MatchSettings`.

    Raises:
        VPOGError: a value that cannot be used.
    """

    mode: str = "cluster"
    hypotheses: int = 2
    retry_views: int = 4
    retry_below_score: float = 0.5
    rolls: int = 2
    refinements: int = 1
    refiner_rounds: int = 2
    alignments: int = 2
    alternatives: int = 0
    samples: int = 0
    level: str = "pixel"
    soft: int = 1
    min_confidence: float = 0.02

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise VPOGError(f"Mode '{self.mode}' is not known: use one of {', '.join(MODES)}.")
        least = {"hypotheses": 1, "rolls": 1, "refinements": 0, "refiner_rounds": 0}
        least |= {"alignments": 0, "retry_views": 0, "alternatives": 0, "samples": 0}
        for name, low in least.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise VPOGError(f"{name} is {value!r}: give a whole number of {low} or more.")
        if not 0.0 <= self.retry_below_score <= 1.0:
            raise VPOGError(f"retry_below_score is {self.retry_below_score}: give a number from 0 to 1.")
        _ = self.matching

    @cached_property
    def matching(self) -> MatchSettings:
        """How matches become correspondences."""
        return MatchSettings(self.level, self.soft, self.min_confidence)

    @cached_property
    def template_mode(self) -> TemplateMode:
        """Which templates a crop is matched with."""
        if self.mode == "global":
            return GlobalMode(self.rolls)
        # A view for each pose asked for.
        return ClusterMode(max(self.hypotheses, self.alternatives + 1), self.retry_views)
