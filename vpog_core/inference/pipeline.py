"""Inference from top to bottom: the steps from detections in an image to ranked pose hypotheses.

`crop` makes a query of a detection, `find_poses` is the recipe, and the steps follow in their order. All take
queries and return queries that know more; each step goes over all queries of a call together, whatever
objects they show. How a step does its work is told in the file it calls: retrieval, matching, correspondence,
pose_solver, refinement, alignment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from vpog_core import cancellation
from vpog_core.inference.alignment import align
from vpog_core.inference.calibration import Calibration
from vpog_core.inference.crop import check_image, crop_detection
from vpog_core.inference.hypothesis import PoseHypothesis
from vpog_core.inference.matching import CLUSTER_SIZE, match_and_solve, stack
from vpog_core.inference.object_store import ObjectStore
from vpog_core.inference.observation import Observation
from vpog_core.inference.onboarding import Cluster, OnboardedObject, encode_images
from vpog_core.inference.options import Options
from vpog_core.inference.pose_solver import apply_alignment
from vpog_core.inference.query import MAX_HYPOTHESES, Prior, Query, accept_tracked, keep_better, rank
from vpog_core.inference.refine import PoseToRefine, RefinedPose
from vpog_core.inference.refine import refine as refine_poses
from vpog_core.inference.refinement import cluster_at_pose
from vpog_core.inference.stage_timings import StageTimings
from vpog_core.models.refiner import RefinerNet
from vpog_core.models.vpog_model import VPOGModel
from vpog_core.types import Camera, Detection

MAX_RETRY_HYPOTHESES = 2
"""Hypotheses of different views that a retry keeps; all of them are refined."""

Tried = Iterable[tuple[int, Cluster]]
"""Pairs to match: (number of a query, cluster of templates), made as they are needed."""


@dataclass(frozen=True)
class Setup:
    """Hold what all steps of one call work with."""

    model: VPOGModel
    objects: ObjectStore
    options: Options
    calibration: Calibration
    refiner: RefinerNet | None = None
    timings: StageTimings = field(default_factory=StageTimings)

    def stage(self, name: str):
        """Measure a stage of the call, see `StageTimings.stage`."""
        return self.timings.stage(name)


def crop(setup: Setup, image: np.ndarray, camera: Camera, detection: Detection, prior: Prior | None) -> Query:
    """Make a query of a detection: the crop the network sees, and the object it is said to show.

    Args:
        image: [H, W, 3] uint8 RGB, of the camera's size; prior: what is known of the pose, or None.

    Raises:
        VPOGError: an image, a box, a mask or an object that cannot be used.
    """
    check_image(image, camera)
    target = setup.objects.get(detection.class_id)
    return Query(
        detection,
        crop_detection(image, camera, detection, setup.model.config.image_size),
        Observation(image, camera, detection.mask),
        target,
        setup.objects.library.symmetry(detection.class_id),
        prior,
        max_hypotheses=max(MAX_HYPOTHESES, setup.options.alternatives + 1),
    )


def find_poses(setup: Setup, queries: Sequence[Query]) -> list[Query]:
    """Find the poses of all queries; each comes back with its hypotheses, best first.

    A query comes back with one hypothesis at least; where nothing agrees, it is one without a pose.
    """
    mode = setup.options.template_mode
    # Encode the crops.
    queries = encode(setup, queries)
    # Track: where a pose is known before, look there first; what is good enough ends here.
    queries = track(setup, queries)
    # Retrieve: describe the other crops, for the mode to choose templates by.
    queries = retrieve(setup, queries)
    # Match with those templates, solve for poses, refine the best of them, and rank.
    num_refined = max(mode.num_refined, setup.options.alternatives + 1)
    queries = match_refine(setup, queries, _chosen_by(mode.clusters, queries), num_refined)
    # Retry with further templates where the best pose does not convince.
    return retry(setup, queries)


def encode(setup: Setup, queries: Sequence[Query]) -> list[Query]:
    """Encode the crops of all queries in one pass of the network."""
    with setup.stage("encode"):
        encoded = encode_images(setup.model, np.stack([q.crop.rgb for q in queries]))
        return [replace(q, encoding=encoded[n : n + 1]) for n, q in enumerate(queries)]


def track(setup: Setup, queries: Sequence[Query]) -> list[Query]:
    """Match with templates rendered at the poses known before, and accept what scores as high as is asked."""
    with setup.stage("track"):
        queries = match(setup, queries, _at_priors(setup, queries))
        return [accept_tracked(q) for q in queries]


def retrieve(setup: Setup, queries: Sequence[Query]) -> list[Query]:
    """Describe the crops of the queries that are not tracked, in one pass of the network."""
    with setup.stage("retrieve"):
        rows = [n for n, q in enumerate(queries) if not q.tracked]
        if not rows:
            return list(queries)
        with torch.inference_mode():
            descriptors = setup.model.describe(stack([queries[n].encoding for n in rows]))
        described = list(queries)
        for n, descriptor in zip(rows, descriptors, strict=True):
            described[n] = replace(queries[n], descriptor=descriptor)
        return described


def match_refine(setup: Setup, queries: Sequence[Query], tried: Tried, num_refined: int) -> list[Query]:
    """Match queries with clusters of templates, refine the best poses of each query, and rank them.

    Args:
        num_refined: hypotheses of each query that are rendered and matched again.
    """
    with setup.stage("match"):
        queries = match(setup, queries, tried)
    queries = refine(setup, queries, num_refined)
    return [rank(q, q.hypotheses) for q in queries]


def match(setup: Setup, queries: Sequence[Query], tried: Tried) -> list[Query]:
    """Match queries with clusters, solve each match for a pose, and rank it among the query's hypotheses."""
    found = list(queries)
    for n, hypothesis in _match_and_solve(setup, queries, tried):
        found[n] = rank(found[n], [*found[n].hypotheses, hypothesis])
    return found


def refine(setup: Setup, queries: Sequence[Query], num_refined: int) -> list[Query]:
    """Refine the poses of the queries' hypotheses, and score them anew.

    All that refines is called from here: it takes hypotheses, and returns hypotheses with other poses,
    covariances, score features and scores.

    Args:
        num_refined: hypotheses of each query that are rendered and matched again; all are aligned.
    """
    # Render templates at the poses found, and match again: the views are nearly correct now.
    with setup.stage("refine"):
        for _ in range(setup.options.refinements):
            queries = _rematch(setup, queries, num_refined)
    if not setup.options.alignments:
        return list(queries)
    # Compare renders with the image: the refiner network corrects all poses in one batch.
    with setup.stage("compare"):
        refined = iter(_compared(setup, queries))
    # Align with the image at its full resolution; the similarity of render and image is part of the score.
    with setup.stage("align"):
        return [q.with_hypotheses([_aligned(setup, q, h, next(refined)) for h in q.hypotheses])
                for q in queries]  # fmt: skip


def retry(setup: Setup, queries: Sequence[Query]) -> list[Query]:
    """Try further templates for the queries that are not tracked and whose best pose does not convince."""
    below = setup.options.retry_below_score
    rows = [n for n, q in enumerate(queries) if q.descriptor is not None and q.score < below]
    if not rows:
        return list(queries)
    # They are matched and refined by themselves, and only then ranked with what was found before.
    again = [replace(queries[n], hypotheses=(), max_hypotheses=MAX_RETRY_HYPOTHESES) for n in rows]
    tried = _chosen_by(setup.options.template_mode.retry_clusters, again)
    again = match_refine(setup, again, tried, MAX_RETRY_HYPOTHESES)
    found = list(queries)
    for n, other in zip(rows, again, strict=True):
        found[n] = rank(found[n], [*found[n].hypotheses, *other.hypotheses])
    return found


def _chosen_by(
    choose: Callable[[Tensor, OnboardedObject], Iterator[Cluster]], queries: Sequence[Query]
) -> Tried:
    """Yield the clusters that a mode chooses for each query that has a descriptor."""
    for n, query in enumerate(queries):
        if query.descriptor is not None:
            for cluster in choose(query.descriptor, query.target):
                yield n, cluster


def _at_priors(setup: Setup, queries: Sequence[Query]) -> Tried:
    """Yield a cluster rendered at the pose known before, for each query that may be tracked."""
    for n, query in enumerate(queries):
        if query.prior is not None and query.prior.accept_score is not None:
            yield n, _rendered_cluster(setup, query, query.in_crop(query.prior.T_cam_obj))


def _rendered_cluster(setup: Setup, query: Query, T_virt_obj: np.ndarray) -> Cluster:
    """Render a cluster of a query's object at a pose [4, 4] of the crop's camera."""
    return cluster_at_pose(query.target, setup.objects.renderer(query.target), T_virt_obj, CLUSTER_SIZE)


def _match_and_solve(
    setup: Setup, queries: Sequence[Query], tried: Tried
) -> Iterator[tuple[int, PoseHypothesis]]:
    return match_and_solve(setup.model, queries, tried, setup.options.matching, setup.calibration)


def _rematch(setup: Setup, queries: Sequence[Query], num_refined: int) -> list[Query]:
    """Match the best hypotheses again, with templates rendered at their poses; keep what scores better."""
    chosen = [
        (n, hypothesis)
        for n, query in enumerate(queries)
        for hypothesis in query.hypotheses[:num_refined]
        if hypothesis.has_pose and not hypothesis.converged
    ]
    tried = ((n, _rendered_cluster(setup, queries[n], h.T_virt_obj)) for n, h in chosen)
    refined = list(queries)
    for (n, before), (_, after) in zip(chosen, _match_and_solve(setup, queries, tried), strict=True):
        refined[n] = keep_better(refined[n], before, after)
    return refined


def _compared(setup: Setup, queries: Sequence[Query]) -> list[RefinedPose | None]:
    """The refiner's correction of each hypothesis of each query; None for those without a pose."""
    rounds = setup.options.refiner_rounds
    hypotheses = [(q, h) for q in queries for h in q.hypotheses]
    corrected: list[RefinedPose | None] = [None] * len(hypotheses)
    rows = [n for n, (_, h) in enumerate(hypotheses) if h.has_pose]
    if setup.refiner is None or not rounds or not rows:
        return corrected
    poses = [
        PoseToRefine(setup.objects.renderer(q.target), q.observation, h.T_cam_obj)
        for q, h in (hypotheses[n] for n in rows)
    ]
    for n, refined in zip(rows, refine_poses(setup.refiner, poses, rounds), strict=True):
        corrected[n] = refined
    return corrected


def _aligned(
    setup: Setup, query: Query, hypothesis: PoseHypothesis, refined: RefinedPose | None
) -> PoseHypothesis:
    """Align one hypothesis with the image, from where the refiner leads; without a pose it stays as it is."""
    if not hypothesis.has_pose:
        return hypothesis
    cancellation.check()
    renderer = setup.objects.renderer(query.target)
    rounds = setup.options.alignments
    alignment = align(renderer, query.observation, hypothesis.T_cam_obj, rounds, refined)
    return apply_alignment(hypothesis, alignment, setup.calibration)
