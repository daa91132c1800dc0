"""Match crops with clusters of templates in batches that may show different objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice

import numpy as np
import torch

from vpog_core import cancellation
from vpog_core.inference.calibration import DEFAULT_CALIBRATION, Calibration
from vpog_core.inference.correspondence import DenseMatch, dense_matches
from vpog_core.inference.crop import Crop
from vpog_core.inference.hypothesis import PoseHypothesis
from vpog_core.inference.onboarding import Cluster, encode_clusters, encode_images
from vpog_core.inference.options import DEFAULT_OPTIONS, Options
from vpog_core.inference.pose_solver import solve_all
from vpog_core.inference.query import Query
from vpog_core.models.precision import inference_context
from vpog_core.models.vpog_model import Encoded, VPOGModel

CLUSTER_SIZE = 4
BATCH = 16
"""Crop-cluster pairs that go through the network at once."""


def match_and_solve(
    model: VPOGModel,
    queries: Sequence[Query],
    tried: Iterable[tuple[int, Cluster]],
    options: Options = DEFAULT_OPTIONS,
    calibration: Calibration = DEFAULT_CALIBRATION,
    batch: int = BATCH,
    stage: Callable[[str], AbstractContextManager] = lambda name: nullcontext(),
) -> Iterator[tuple[int, PoseHypothesis]]:
    """Match queries with clusters in batches, and solve each match for a pose.

    Clusters are generated as needed, so that never all of them are in memory.

    Args:
        queries: encoded.
        tried: (number of a query, cluster to match it with), as many as there are.
        batch: pairs that go through the network at once.
        stage: measures the stage `solve`, see `StageTimings.stage`.

    Returns:
        (number of the query, hypothesis) for each pair, in their order.
    """
    tried = iter(tried)
    while pairs := list(islice(tried, batch)):
        cancellation.check()
        chosen, clusters = [queries[n] for n, _ in pairs], [cluster for _, cluster in pairs]
        # Match: which template pixel shows what each crop pixel shows.
        matches = match_clusters(model, stack([q.encoding for q in chosen]), clusters, options.match_patches)
        # Solve: the pose that most correspondences agree on.
        with stage("solve"):
            hypotheses = solve_all([q.crop for q in chosen], clusters, matches, options, calibration)
        yield from zip((n for n, _ in pairs), hypotheses, strict=True)


def match_crop(
    model: VPOGModel, crop: Crop, cluster: Cluster, options: Options, calibration: Calibration
) -> PoseHypothesis:
    """Encode a crop, match it with a cluster, and solve the match for a pose."""
    encoding = encode_images(model, crop.rgb[None])
    matches = match_clusters(model, encoding, [cluster], options.match_patches)
    (hypothesis,) = solve_all([crop], [cluster], matches, options, calibration)
    return hypothesis


def stack(encodings: Sequence[Encoded]) -> Encoded:
    """Join the encodings [1, ...] of N crops to one of [N, ...]."""
    return Encoded.join(torch.cat, encodings)


def match_clusters(
    model: VPOGModel, queries: Encoded, clusters: Sequence[Cluster], match_patches: int = 1
) -> list[DenseMatch]:
    """Run the network on N encoded crops against a cluster each."""
    templates = Encoded.join(torch.stack, encode_clusters(model, clusters))
    directions = torch.from_numpy(np.stack([c.directions for c in clusters])).to(queries.tokens.device)
    with torch.inference_mode(), inference_context(model):
        return dense_matches(model, model.match(queries, templates, directions), match_patches)
