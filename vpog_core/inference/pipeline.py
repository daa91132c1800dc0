"""Run the pipeline of inference: the steps from detections in an image to ranked pose hypotheses.

`crop` makes a query of a detection, `find_poses` is the recipe, and the steps follow in their order. All take
queries and return queries with more fields set; each step processes all queries of a call together, also of
different objects. How a step works is documented in the module it calls: tracked_pose, retrieval, matching,
correspondence, pose_solver, rendered_cluster, image_comparison, disambiguation, outline_alignment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from operator import attrgetter

import numpy as np
import torch

from vpog_core import cancellation
from vpog_core.inference.constraints import ObjectConstraint, PoseConstraint
from vpog_core.inference.crop import check_image, crop_detection
from vpog_core.inference.disambiguation import disambiguate
from vpog_core.inference.hypothesis import PoseHypothesis
from vpog_core.inference.image_comparison import ImageComparison
from vpog_core.inference.matching import CLUSTER_SIZE, match_and_solve, stack
from vpog_core.inference.networks import Networks
from vpog_core.inference.object_store import ObjectStore
from vpog_core.inference.observation import Observation
from vpog_core.inference.onboarding import CROP_TURNS, Cluster, encode_images
from vpog_core.inference.options import Options
from vpog_core.inference.outline_alignment import outline_aligned
from vpog_core.inference.query import (
    MAX_HYPOTHESES,
    Prior,
    Query,
    accept_confirmed,
    accept_tracked,
    keep_better,
    rank,
)
from vpog_core.inference.rendered_cluster import cluster_at_pose
from vpog_core.inference.retrieval import ViewSearch, best_views, crop_at_turns, template_logits
from vpog_core.inference.stage_timings import StageTimings
from vpog_core.inference.template_modes import template_mode
from vpog_core.inference.tracked_pose import follow
from vpog_core.types import Camera, Detection

MAX_RETRY_HYPOTHESES = 4
"""Hypotheses of different views that a retry keeps; all of them are refined."""

Tried = Iterable[tuple[int, Cluster]]
"""Pairs to match: (row of a query, cluster of templates), generated as needed."""


@dataclass(frozen=True)
class Setup:
    """Holds what all steps of one call share."""

    networks: Networks
    objects: ObjectStore
    options: Options
    timings: StageTimings = field(default_factory=StageTimings)

    def stage(self, name: str):
        """Measure a stage of the call, see `StageTimings.stage`."""
        return self.timings.stage(name)


def crop(
    setup: Setup,
    image: np.ndarray,
    camera: Camera,
    detection: Detection,
    prior: Prior | None,
    constraint: PoseConstraint | None = None,
) -> Query:
    """Make a query of a detection: the crop the network sees, and the object of the detection's class.

    Args:
        image: [H, W, 3] uint8 RGB, of the camera's size; prior: what is known of the pose, or None.
        constraint: what is known of it with respect to a plane, or None.

    Raises:
        VPOGError: an image, a box, a mask or an object that cannot be used.
    """
    check_image(image, camera)
    target = setup.objects.get(detection.class_id)
    library, constrained = setup.objects.library, None
    if constraint is not None:
        mesh, symmetry = library.mesh(detection.class_id), library.symmetry(detection.class_id)
        constrained = ObjectConstraint(constraint, mesh.hull_points, mesh.diameter, symmetry)
    return Query(
        detection,
        crop_detection(image, camera, detection, setup.networks.model.config.image_size),
        Observation(image, camera, detection.mask),
        target,
        library.symmetry(detection.class_id),
        prior,
        max_hypotheses=max(MAX_HYPOTHESES, setup.options.alternatives + 1),
        constraint=constrained,
    )


def find_poses(setup: Setup, queries: Sequence[Query]) -> list[Query]:
    """Find the poses of all queries; each returns with its hypotheses, best first.

    Each query returns with at least one hypothesis, which has no pose if no correspondences agree.
    """
    # Track objects whose previous pose is known; queries whose score is high enough are done.
    queries = track(setup, queries)
    # Search for the others among all views.
    return _continue(queries, attrgetter("is_open"), partial(find_anew, setup))


def find_anew(setup: Setup, queries: Sequence[Query]) -> list[Query]:
    """Find the poses of queries among all views."""
    # Encode the crops.
    queries = encode(setup, queries)
    # Compare the crops with all views; accept good tracked poses that show the likeliest one.
    queries = [confirm(q) for q in retrieve(setup, queries)]
    # Match the others with the templates of the first round, and solve for poses.
    queries = _continue(queries, attrgetter("is_open"), partial(match_anew, setup))
    # Refine the best poses of those that are left, and rank them.
    queries = _continue(queries, attrgetter("is_open"), partial(refine_and_retry, setup))
    # Tell those apart that look alike.
    queries = _continue(queries, attrgetter("is_open"), partial(disambiguate_all, setup))
    # Align the outlines of the best ones with the image.
    return _continue(queries, attrgetter("is_open"), partial(align_outlines, setup))


def confirm(query: Query) -> Query:
    """Accept a good tracked pose that is only to be checked, if it shows the likeliest of all views.

    A match with that view would nearly always find a pose near it: it is left out, as most of the time of a
    look at all views would go into it.
    """
    if query.is_to_check:
        for found in best_views(_view_search(query), 1):
            query = accept_confirmed(query, query.target.rotation(found.view, found.roll_index))
    return query


def match_anew(setup: Setup, queries: Sequence[Query]) -> list[Query]:
    """Match queries with templates of the first round; accept tracked poses that the best match confirms."""
    tried = ((n, cluster) for n, query in enumerate(queries) for cluster in _clusters(setup, 0, query))
    return [
        accept_confirmed(q, q.best.T_virt_obj[:3, :3]) if q.best is not None and q.best.has_pose else q
        for q in match(setup, queries, tried)
    ]


def _continue(
    queries: Sequence[Query],
    is_due: Callable[[Query], bool],
    step: Callable[[Sequence[Query]], Sequence[Query]],
) -> list[Query]:
    """Run a step on the queries that are due for it, if there are any; return all queries in their order."""
    rows, found = [n for n, q in enumerate(queries) if is_due(q)], list(queries)
    if rows:
        for n, query in zip(rows, step([queries[n] for n in rows]), strict=True):
            found[n] = query
    return found


def refine_and_retry(setup: Setup, queries: Sequence[Query]) -> list[Query]:
    """Refine the best poses of matched queries, and try further templates where the best score is low."""
    num_refined = max(template_mode(setup.options).num_refined, setup.options.alternatives + 1)
    queries = retry(setup, refine(setup, queries, num_refined))
    # Rank tracked poses that were not accepted with the new ones: they may still be the best.
    return [q if q.followed is None else rank(q, [*q.hypotheses, q.followed]) for q in queries]


def encode(setup: Setup, queries: Sequence[Query]) -> list[Query]:
    """Encode the crops of all queries, at the turns they are described at, in one pass of the network."""
    with setup.stage("encode"):
        turned = np.concatenate([crop_at_turns(q.crop, q.observation) for q in queries])
        encoded = encode_images(setup.networks.model, turned)
        turns = [encoded[n : n + CROP_TURNS] for n in range(0, len(turned), CROP_TURNS)]
        return [replace(q, encoding=t[:1], turns=t) for q, t in zip(queries, turns, strict=True)]


def track(setup: Setup, queries: Sequence[Query]) -> list[Query]:
    """Follow the objects whose previous pose is known; accept high enough scores."""
    rows = [n for n, q in enumerate(queries) if q.may_be_tracked]
    found = list(queries)
    if setup.networks.refiner is None or not setup.options.refiner_rounds or not rows:
        return found
    # Track them by optical flow and by the refiner.
    with setup.stage("track"):
        followed = follow(
            setup.networks.refiner,
            [queries[n] for n in rows],
            lambda query: setup.objects.recent_renders(query.target),
            setup.networks.calibration,
            setup.options.refiner_rounds,
        )
        # Accept the poses whose score is high enough.
        for n, hypothesis in zip(rows, followed, strict=True):
            found[n] = accept_tracked(queries[n], hypothesis)
    return found


def retrieve(setup: Setup, queries: Sequence[Query]) -> list[Query]:
    """Describe the crops of the queries in one pass of the network, and compare them with all views."""
    with setup.stage("retrieve"), torch.inference_mode():
        described = setup.networks.model.describe(stack([q.turns for q in queries])).split(CROP_TURNS)
        return [
            replace(q, logits=template_logits(d, q.target)) for q, d in zip(queries, described, strict=True)
        ]


def match_refine(setup: Setup, queries: Sequence[Query], tried: Tried, num_refined: int) -> list[Query]:
    """Match queries with clusters of templates, refine the best poses of each query, and rank them.

    Args:
        num_refined: hypotheses of each query that are rendered and matched again.
    """
    return refine(setup, match(setup, queries, tried), num_refined)


def match(setup: Setup, queries: Sequence[Query], tried: Tried) -> list[Query]:
    """Match queries with clusters, solve each match for a pose, and rank it among the query's hypotheses."""
    with setup.stage("match"):
        found = list(queries)
        for n, hypothesis in _match_and_solve(setup, queries, tried):
            found[n] = rank(found[n], [*found[n].hypotheses, hypothesis])
        return found


def refine(setup: Setup, queries: Sequence[Query], num_refined: int) -> list[Query]:
    """Refine the poses of the queries' hypotheses, recompute their scores, and rank them.

    All refinement is called from here: it returns hypotheses with new poses, covariances, score features and
    scores.

    Args:
        num_refined: hypotheses of each query that are rendered and matched again; those that can be among
            the best are compared with the image, the others are dropped.
    """
    # Render templates at the poses found, and match again: the views are nearly correct now.
    with setup.stage("refine"):
        for _ in range(setup.options.refinements):
            queries = _rematch(setup, queries, num_refined)
    # Correct poses by comparing renders with the image, and score them by it.
    if setup.options.alignments:
        queries = _image_comparison(setup).best_of(queries, setup.options.alternatives + 1)
    return [rank(q, q.hypotheses) for q in queries]


def disambiguate_all(setup: Setup, queries: Sequence[Query]) -> list[Query]:
    """Compare hypotheses of each query that look alike where their renders differ, and rank them again."""
    if not setup.options.alignments:
        return list(queries)
    with setup.stage("align"):
        return [_disambiguated(setup, q) for q in queries]


def _disambiguated(setup: Setup, query: Query) -> Query:
    """Disambiguate the hypotheses of a query, but for those that violate its constraint: they are wrong."""
    impossible = [h for h in query.hypotheses if query.violation(h)]
    possible = [h for h in query.hypotheses if h not in impossible]
    renderer = setup.objects.renderer(query.target)
    return rank(query, [*disambiguate(renderer, query.observation, possible), *impossible])


def align_outlines(setup: Setup, queries: Sequence[Query]) -> list[Query]:
    """Align the outlines of the queries' best hypotheses with the image; their scores stay.

    Where optical flow has found corners to follow, these tell the pose better: print beside an outline has
    edges of its own.
    """
    count = setup.options.alternatives + 1 if setup.options.alignments else 0
    with setup.stage("align"):
        return [
            q.with_hypotheses([_outline_aligned(setup, q, h) if n < count else h
                               for n, h in enumerate(q.hypotheses)])
            for q in queries
        ]  # fmt: skip


def _outline_aligned(setup: Setup, query: Query, hypothesis: PoseHypothesis) -> PoseHypothesis:
    """Align the outline of a hypothesis with the image, unless that would violate the constraint."""
    cancellation.check()
    renderer, factor = setup.objects.renderer(query.target), setup.networks.calibration.covariance
    aligned = outline_aligned(renderer, query.observation, hypothesis, factor)
    return hypothesis if query.violation(aligned) else aligned


def retry(setup: Setup, queries: Sequence[Query]) -> list[Query]:
    """Try further templates, in rounds, for the queries whose best score is low."""
    found = list(queries)
    for number in range(1, template_mode(setup.options).num_rounds):
        found = _continue(
            found, lambda q: q.score < setup.options.retry_below_score, partial(_try_further, setup, number)
        )
    return found


def _try_further(setup: Setup, number: int, queries: Sequence[Query]) -> list[Query]:
    """Match queries with the templates of a further round; rank all hypotheses."""
    # Match and refine the new hypotheses by themselves, then rank them with the earlier ones.
    again = [
        replace(
            q,
            hypotheses=(),
            max_hypotheses=MAX_RETRY_HYPOTHESES,
            score_to_beat=_score_to_beat(q, setup.options.alternatives + 1),
        )
        for q in queries
    ]
    tried = ((n, cluster) for n, query in enumerate(again) for cluster in _clusters(setup, number, query))
    again = match_refine(setup, again, tried, MAX_RETRY_HYPOTHESES)
    return [rank(q, [*q.hypotheses, *other.hypotheses]) for q, other in zip(queries, again, strict=True)]


def _score_to_beat(query: Query, count: int) -> float:
    """Return the least score of the `count` best hypotheses; 0 where there are fewer that may be given."""
    best = [h.score for h in query.hypotheses if h.has_pose and not query.violation(h)][:count]
    return best[-1] if len(best) == count else 0.0


def _clusters(setup: Setup, number: int, query: Query) -> Iterator[Cluster]:
    """Yield the clusters to match a query with in a round, of views that its constraint allows."""
    mode = template_mode(setup.options)
    return mode.clusters(number, _view_search(query))


def _view_search(query: Query) -> ViewSearch:
    """Return which views are tried for a query, and how likely its crop shows each."""
    return ViewSearch(query.logits, query.target, partial(_may_be_view, query), query.symmetry)


def _may_be_view(query: Query, R_virt_obj: np.ndarray) -> bool:
    """Tell whether a query's constraint allows a view, given by its rotation to the crop's camera."""
    if query.constraint is None:
        return True
    return query.constraint.may_be_view(query.crop.virtual.T_cam_virt[:3, :3] @ R_virt_obj)


def _rendered_cluster(setup: Setup, query: Query, T_virt_obj: np.ndarray) -> Cluster:
    """Render a cluster of a query's object at a pose [4, 4] of the crop's camera."""
    return cluster_at_pose(query.target, setup.objects.renderer(query.target), T_virt_obj, CLUSTER_SIZE)


def _match_and_solve(
    setup: Setup, queries: Sequence[Query], tried: Tried
) -> Iterator[tuple[int, PoseHypothesis]]:
    how = setup.options, setup.networks.calibration
    return match_and_solve(setup.networks.model, queries, tried, *how, stage=setup.stage)


def _rematch(setup: Setup, queries: Sequence[Query], num_refined: int) -> list[Query]:
    """Match the best hypotheses again with templates rendered at their poses; keep what scores better."""
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


def _image_comparison(setup: Setup) -> ImageComparison:
    options = setup.options
    return ImageComparison(
        setup.networks.refiner,
        options.refiner_rounds,
        options.alignments,
        setup.networks.calibration,
        setup.objects.renderer,
        setup.stage,
    )
