"""Compute the loss of a batch: encode its images, match queries with their clusters, sum the loss terms."""

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
from vpog_core.training.losses.labels import LABEL_STRIDE, Labels, PosedDepth, cluster_depth, matching_labels
from vpog_core.training.losses.pose import pose_loss
from vpog_core.training.losses.pose_correspondences import pose_correspondences
from vpog_core.training.losses.regularization import regularization_loss
from vpog_core.training.losses.retrieval import retrieval_loss

_DEFAULTS = LossOptions()


def compute_losses(
    model: VPOGModel,
    batch: Batch,
    weights: LossWeights,
    offset: tuple[int, int],
    predicted_fraction: float = 0.6,
    options: LossOptions = _DEFAULTS,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Compute the summed loss and the scores of its terms; a term of weight 0 is neither computed nor scored.

    Args:
        weights: of the terms; options: how they are computed.
        offset: (row, column), 0..3 each: which of every 4x4 pixels is supervised; see `supervised_pixel`.
        predicted_fraction: of the pairs take the predicted template patch in place of the true one.
    """
    forward = ForwardPass(model, batch, offset, predicted_fraction, options)
    terms, scores = {}, {}
    for name, compute in LOSS_TERMS.items():
        if getattr(weights, name):
            terms[name], new = compute(forward)
            scores |= new
    total = sum((getattr(weights, name) * value for name, value in terms.items()), torch.zeros(()))
    return total, {key: value.detach() for key, value in ({"loss": total} | terms | scores).items()}


def supervised_pixel(step: int) -> tuple[int, int]:
    """Return (row, column) of the pixel that a step supervises in every 4x4: each once in 16 steps."""
    return step % LABEL_STRIDE, step // LABEL_STRIDE % LABEL_STRIDE


@dataclass
class ForwardPass:
    """Holds one batch and its network outputs; each is computed once, on its first use by a loss term."""

    model: VPOGModel
    batch: Batch
    offset: tuple[int, int]
    predicted_fraction: float
    options: LossOptions

    @cached_property
    def encoded(self) -> Encoded:
        """Encode the images that are matched [B, Q + S], queries first."""
        encoded = self.model.encode(self.batch.images())
        return encoded.map(lambda v: v.unflatten(0, (len(self.batch.diameter), -1)))

    @cached_property
    def candidates(self) -> Encoded:
        """Encode the remaining templates [B * (T - S)], without gradient.

        The retrieval head learns from them, the encoder from queries and clusters alone: a third of the cost.
        """
        with torch.no_grad():
            return self.model.encode(self.batch.candidate_images())

    @cached_property
    def pairing(self) -> tuple[Encoded, Encoded]:
        """Return the queries [B * Q] and the cluster of each [B * Q, S]."""
        queries = self.batch.query_rgb.shape[1]
        crops = self.encoded.map(lambda v: v[:, :queries].flatten(0, 1))
        return crops, self.encoded.map(lambda v: self.batch.per_query(v[:, queries:]))

    @cached_property
    def matches(self) -> Matches:
        """Match the queries with their clusters."""
        return self.model.match(*self.pairing, self.batch.per_query(self.batch.directions))

    @cached_property
    def labels(self) -> Labels:
        """Compute the ground truth."""
        return matching_labels(self.batch, self.offset)


def _classification_term(forward: ForwardPass) -> tuple[Tensor, dict[str, Tensor]]:
    o = forward.options
    return classification_loss(
        forward.matches.logits, forward.labels.patch_class, o.unseen_weight, o.label_smoothing
    )


def _encoder_classification_term(forward: ForwardPass) -> tuple[Tensor, dict[str, Tensor]]:
    o, logits = forward.options, forward.model.encoder_logits(*forward.pairing)
    loss, scores = classification_loss(logits, forward.labels.patch_class, o.unseen_weight, o.label_smoothing)
    return loss, {"encoder_seen_accuracy": scores["seen_accuracy"]}


def _flow_term(forward: ForwardPass) -> tuple[Tensor, dict[str, Tensor]]:
    found = seen_pairs(forward.labels)
    pairs, target, seen = mix_in_predictions(*found, forward.matches.logits, forward.predicted_fraction)
    return flow_loss(
        forward.model.flow_of_pairs(forward.matches, pairs), target, seen, forward.offset, forward.options
    )


def _retrieval_term(forward: ForwardPass) -> tuple[Tensor, dict[str, Tensor]]:
    samples, queries = forward.batch.query_rgb.shape[:2]
    crops = forward.encoded.map(lambda v: v[:, :queries].flatten(0, 1))
    cluster = forward.encoded.map(lambda v: v[:, queries:].flatten(0, 1))
    described = forward.model.describe(crops).unflatten(0, (samples, -1))
    templates = [forward.model.describe_templates(cluster).unflatten(0, (samples, -1))]
    if forward.batch.template_rgb.shape[1] > forward.batch.cluster_size:
        templates.append(forward.model.describe_templates(forward.candidates).unflatten(0, (samples, -1)))
    logits = forward.model.retrieval_head.logits(described, torch.cat(templates, dim=1))
    return retrieval_loss(logits, forward.batch.rotation_distance())


def _regularization_term(forward: ForwardPass) -> tuple[Tensor, dict[str, Tensor]]:
    return regularization_loss(forward.model)


def _pose_term(forward: ForwardPass) -> tuple[Tensor, dict[str, Tensor]]:
    """Compute the pose loss of the first queries of every sample, as many as the options say in all."""
    batch, o = forward.batch, forward.options
    samples, queries = batch.query_rgb.shape[:2]
    each = max(1, min(queries, o.pose_queries // samples))
    chosen = torch.arange(samples * queries, device=batch.query_K.device).view(samples, queries)[:, :each]
    chosen = chosen.flatten()[: o.pose_queries]
    matches = Matches(*(v[chosen] for v in vars(forward.matches).values()))
    views = PosedDepth(*(v[chosen] for v in vars(cluster_depth(batch)).values()))
    diameter = batch.per_query(batch.diameter)[chosen]
    K, T_true = batch.query_K.flatten(0, 1)[chosen], batch.query_T.flatten(0, 1)[chosen]
    found = pose_correspondences(forward.model, matches, views, diameter, o.pose_patches, forward.offset)
    return pose_loss(found, K, T_true, diameter, o.pose_samples, o.pose_derivative)


LOSS_TERMS = {
    "classification": _classification_term,
    "encoder_classification": _encoder_classification_term,
    "flow": _flow_term,
    "retrieval": _retrieval_term,
    "regularization": _regularization_term,
    "pose": _pose_term,
}


def seen_pairs(labels: Labels) -> tuple[Tensor, Tensor, Tensor]:
    """Return the P pairs with a true match: [P, 4] indices, flow [P, n, n, 2], seen [P, n, n]."""
    unseen_class = labels.patch_class.shape[-1]
    b, s, i = (labels.patch_class < unseen_class).nonzero().unbind(dim=1)
    pairs = torch.stack((b, s, i, labels.patch_class[b, s, i]), dim=1)
    return pairs, labels.flow[b, s, i], labels.seen[b, s, i]


def mix_in_predictions(
    pairs: Tensor, flow: Tensor, seen: Tensor, logits: Tensor, fraction: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Replace the true template patch of some pairs by the predicted one, as inference starts from it.

    A neighbour of the true patch gets the flow that leads back to the true place; farther off all pixels
    count as unseen, so that the confidence learns to be low there.

    Args:
        pairs, flow, seen: of P true matches, as `seen_pairs` gives them.
        logits: [B, S, Nq, Nt + A]; fraction: of the pairs that take the prediction, 0..1.
    """
    b, s, i, j = pairs.unbind(dim=1)
    side = round(logits.shape[2] ** 0.5)
    predicted = logits.detach()[..., : side * side].argmax(dim=-1)[b, s, i]
    taken = torch.where(torch.rand(len(j), device=j.device) < fraction, predicted, j)
    shift = torch.stack((j % side - taken % side, j // side - taken // side), dim=-1)
    near = shift.abs().amax(dim=-1) <= 1
    pairs = torch.stack((b, s, i, taken), dim=1)
    return pairs, flow + shift[:, None, None], seen & near[:, None, None]
