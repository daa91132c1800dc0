"""Crops against clusters of templates: through the network together, whatever objects they show."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
import torch

from vpog_core import cancellation
from vpog_core.inference.calibration import Calibration
from vpog_core.inference.correspondence import DEFAULT_SETTINGS, DenseMatch, MatchSettings, dense_matches
from vpog_core.inference.crop import Crop
from vpog_core.inference.onboarding import Cluster, encode_clusters
from vpog_core.inference.solution import DEFAULT_CALIBRATION, Solution, solve_all
from vpog_core.models.precision import autocast_for
from vpog_core.models.vpog_model import Encoded, VPOGModel

CLUSTER_SIZE = 4
BATCH = 16
"""Crop-cluster pairs that go through the network at once."""


def solutions(
    model: VPOGModel,
    crops: Sequence[Crop],
    queries: Encoded,
    tried: Iterable[tuple[int, Cluster]],
    settings: MatchSettings = DEFAULT_SETTINGS,
    calibration: Calibration = DEFAULT_CALIBRATION,
    batch: int = BATCH,
) -> Iterator[tuple[int, Solution]]:
    """(crop's number, solution) for each (crop's number, cluster), in their order.

    Clusters are taken as they are needed, so that a long row of them never lies in memory at once.

    Args:
        crops: N; queries: their encodings [N]; batch: pairs that go through the network at once.
    """
    tried = iter(tried)
    while part := list(islice(tried, batch)):
        cancellation.check()
        rows, clusters = [n for n, _ in part], [cluster for _, cluster in part]
        matches = match_clusters(model, queries[rows], clusters, settings.soft)
        yield from zip(
            rows,
            solve_all([crops[n] for n in rows], clusters, matches, settings, calibration),
            strict=True,
        )


def match_clusters(
    model: VPOGModel, queries: Encoded, clusters: Sequence[Cluster], soft: int = 1
) -> list[DenseMatch]:
    """The network's answer for queries [N] against N clusters."""
    encode_clusters(model, clusters)
    templates = Encoded(
        torch.stack([c.encoded.tokens for c in clusters]), torch.stack([c.encoded.stem for c in clusters])
    )
    directions = torch.from_numpy(np.stack([c.directions for c in clusters])).to(queries.tokens.device)
    with torch.inference_mode(), autocast_for(queries.tokens.device):
        return dense_matches(model, model.match(queries, templates, directions), soft)
