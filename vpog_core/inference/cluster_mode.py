"""Cluster mode: the templates around the views that retrieval finds."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from vpog_core.inference.matching import CLUSTER_SIZE
from vpog_core.inference.onboarding import Cluster, OnboardedObject
from vpog_core.inference.retrieval import retrieve


class ClusterMode:
    """Tries the clusters around the best hypotheses.

    Args:
        hypotheses: views tried per crop; second_look: those tried after them where none convinced.
    """

    refined = 1
    """Answers of different views worth refining."""

    def __init__(self, hypotheses: int = 2, second_look: int = 0) -> None:
        self.hypotheses, self.second_look = hypotheses, second_look

    def clusters(self, descriptor: Tensor, target: OnboardedObject) -> Iterator[Cluster]:
        """The clusters to match a crop's descriptor [C] with."""
        return self._ranked(descriptor, target, 0, self.hypotheses)

    def further(self, descriptor: Tensor, target: OnboardedObject) -> Iterator[Cluster]:
        """Those of the second look."""
        return self._ranked(descriptor, target, self.hypotheses, self.hypotheses + self.second_look)

    def _ranked(self, descriptor: Tensor, target: OnboardedObject, first: int, end: int) -> Iterator[Cluster]:
        for found in retrieve(descriptor, target, end)[first:]:
            yield target.cluster(found.view, found.roll_index, CLUSTER_SIZE)
