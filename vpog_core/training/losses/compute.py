"""A batch of groups to one loss: encode once, match every query with its group's cluster, sum the losses."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from vpog_core.models.vpog_model import Encoded, Matches, VPOGModel
from vpog_core.training.data.batch import Batch
from vpog_core.training.losses.classification import classification_loss
from vpog_core.training.losses.config import LossOptions, LossWeights
from vpog_core.training.losses.flow import flow_loss
from vpog_core.training.losses.labels import LABEL_STRIDE, Labels, Views, cluster_depth, matching_labels
from vpog_core.training.losses.pose import pose_loss
from vpog_core.training.losses.pose_correspondences import pose_correspondences
from vpog_core.training.losses.regularization import regularization_loss
from vpog_core.training.losses.retrieval import retrieval_loss

_DEFAULTS = LossOptions()


def objective(
    model: VPOGModel,
    batch: Batch,
    weights: LossWeights,
    offset: tuple[int, int],
    predicted_share: float = 0.6,
    options: LossOptions = _DEFAULTS,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The summed loss and the scores of its parts; a part that counts 0 is neither computed nor scored.

    Args:
        weights: what each part counts; options: how it is computed.
        offset: (row, column), 0..3 each: which of every 4x4 pixels is supervised; see `supervised_pixel`.
        predicted_share: of the pairs take the predicted template patch in place of the true one.
    """
    step = _Step(model, batch, offset, predicted_share, options)
    parts, scores = {}, {}
    for name, part in _PARTS.items():
        if getattr(weights, name):
            parts[name], new = part(step)
            scores |= new
    total = sum((getattr(weights, name) * value for name, value in parts.items()), torch.zeros(()))
    return total, {key: value.detach() for key, value in ({"loss": total} | parts | scores).items()}


def supervised_pixel(step: int) -> tuple[int, int]:
    """(row, column) of the pixel that a step supervises in every 4x4: each of them once in 16 steps."""
    return step % LABEL_STRIDE, step // LABEL_STRIDE % LABEL_STRIDE


@dataclass
class _Step:
    """One batch on its way through the network; what parts share is computed once, when first asked for."""

    model: VPOGModel
    batch: Batch
    offset: tuple[int, int]
    predicted_share: float
    options: LossOptions

    @cached_property
    def encoded(self) -> Encoded:
        """Of the images that are matched [O, G + S], queries first."""
        encoded = self.model.encode(self.batch.images())
        return Encoded(*(v.unflatten(0, (len(self.batch.diameter), -1)) for v in vars(encoded).values()))

    @cached_property
    def candidates(self) -> Encoded:
        """Of the further templates [O * (T - S)], without gradient.

        The retrieval head learns from them, the encoder from queries and clusters alone: a third of the cost.
        """
        with torch.no_grad():
            return self.model.encode(self.batch.candidate_images())

    @cached_property
    def pairing(self) -> tuple[Encoded, Encoded]:
        """Queries [O * G] and each one's cluster [O * G, S]."""
        queries = self.batch.query_rgb.shape[1]
        split = [v.split((queries, self.batch.cluster_size), 1) for v in vars(self.encoded).values()]
        return Encoded(*(v[0].flatten(0, 1) for v in split)), Encoded(
            *(self.batch.per_query(v[1]) for v in split)
        )

    @cached_property
    def matches(self) -> Matches:
        """Of the queries with their clusters."""
        return self.model.match(*self.pairing, self.batch.per_query(self.batch.directions))

    @cached_property
    def labels(self) -> Labels:
        """Ground truth."""
        return matching_labels(self.batch, self.offset)


def _classification_part(step: _Step) -> tuple[Tensor, dict[str, Tensor]]:
    o = step.options
    return classification_loss(
        step.matches.logits, step.labels.patch_class, o.unseen_weight, o.label_smoothing
    )


def _encoder_classification_part(step: _Step) -> tuple[Tensor, dict[str, Tensor]]:
    o, logits = step.options, step.model.encoder_logits(*step.pairing)
    loss, scores = classification_loss(logits, step.labels.patch_class, o.unseen_weight, o.label_smoothing)
    return loss, {"encoder_seen_accuracy": scores["seen_accuracy"]}


def _flow_part(step: _Step) -> tuple[Tensor, dict[str, Tensor]]:
    found = seen_pairs(step.labels)
    pairs, target, seen = meet_predictions(*found, step.matches.logits, step.predicted_share)
    return flow_loss(step.model.flow_of_pairs(step.matches, pairs), target, seen, step.offset, step.options)


def _retrieval_part(step: _Step) -> tuple[Tensor, dict[str, Tensor]]:
    groups, queries = step.batch.query_rgb.shape[:2]
    crops, cluster = (
        Encoded(*(v[:, rows].flatten(0, 1) for v in vars(step.encoded).values()))
        for rows in (slice(queries), slice(queries, None))
    )
    described = step.model.describe(crops).unflatten(0, (groups, -1))
    templates = [step.model.describe_templates(cluster).unflatten(0, (groups, -1))]
    if step.batch.template_rgb.shape[1] > step.batch.cluster_size:
        templates.append(step.model.describe_templates(step.candidates).unflatten(0, (groups, -1)))
    logits = step.model.retrieval_head.logits(described, torch.cat(templates, dim=1))
    return retrieval_loss(logits, step.batch.rotation_distance())


def _regularization_part(step: _Step) -> tuple[Tensor, dict[str, Tensor]]:
    return regularization_loss(step.model)


def _pose_part(step: _Step) -> tuple[Tensor, dict[str, Tensor]]:
    """Of the first queries of every group, as many as the options say in all."""
    batch, o = step.batch, step.options
    groups, queries = batch.query_rgb.shape[:2]
    each = max(1, min(queries, o.pose_queries // groups))
    chosen = torch.arange(groups * queries, device=batch.query_K.device).view(groups, queries)[:, :each]
    chosen = chosen.flatten()[: o.pose_queries]
    matches = Matches(*(v[chosen] for v in vars(step.matches).values()))
    views = Views(*(v[chosen] for v in vars(cluster_depth(batch)).values()))
    diameter = batch.per_query(batch.diameter)[chosen]
    K, T_true = batch.query_K.flatten(0, 1)[chosen], batch.query_T.flatten(0, 1)[chosen]
    found = pose_correspondences(step.model, matches, views, diameter, o.pose_patches, step.offset)
    return pose_loss(found, K, T_true, diameter, o.pose_samples, o.pose_derivative)


_PARTS = {
    "classification": _classification_part,
    "encoder_classification": _encoder_classification_part,
    "flow": _flow_part,
    "retrieval": _retrieval_part,
    "regularization": _regularization_part,
    "pose": _pose_part,
}


def seen_pairs(labels: Labels) -> tuple[Tensor, Tensor, Tensor]:
    """The P pairs with a true match: [P, 4] indices, flow [P, n, n, 2], seen [P, n, n]."""
    unseen_class = labels.patch_class.shape[-1]
    b, s, i = (labels.patch_class < unseen_class).nonzero().unbind(dim=1)
    pairs = torch.stack((b, s, i, labels.patch_class[b, s, i]), dim=1)
    return pairs, labels.flow[b, s, i], labels.seen[b, s, i]


def meet_predictions(
    pairs: Tensor, flow: Tensor, seen: Tensor, logits: Tensor, share: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Let the flow head train on what it meets in inference: pairs with the predicted template patch.

    A neighbour of the true patch gets the flow that leads back to the truth; farther off nothing is seen, so
    that the confidence learns to tell.

    Args:
        pairs, flow, seen: of P true matches, as `seen_pairs` gives them.
        logits: [B, S, Nq, Nt + A]; share: of the pairs that take the prediction, 0..1.
    """
    b, s, i, j = pairs.unbind(dim=1)
    side = round(logits.shape[2] ** 0.5)
    predicted = logits.detach()[..., : side * side].argmax(dim=-1)[b, s, i]
    taken = torch.where(torch.rand(len(j), device=j.device) < share, predicted, j)
    shift = torch.stack((j % side - taken % side, j // side - taken // side), dim=-1)
    near = shift.abs().amax(dim=-1) <= 1
    pairs = torch.stack((b, s, i, taken), dim=1)
    return pairs, flow + shift[:, None, None], seen & near[:, None, None]
