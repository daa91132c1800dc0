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
        hypotheses: views tried per crop.
    """

    refined = 1
    """Answers of different views worth refining."""

    def __init__(self, hypotheses: int = 2) -> None:
        self.hypotheses = hypotheses

    def clusters(self, descriptor: Tensor, target: OnboardedObject) -> Iterator[Cluster]:
        """The clusters to match a crop's descriptor [C] with."""
        for found in retrieve(descriptor, target, self.hypotheses):
            yield target.cluster(found.view, found.roll_index, CLUSTER_SIZE)
