"""A batch of groups to one loss: encode once, match every query with its group's cluster, sum the losses."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vpog_core.models.vpog_model import Encoded, VPOGModel
from vpog_core.training.flow_computer import FlowComputer, Labels, Views
from vpog_core.training.losses.classification import classification_loss
from vpog_core.training.losses.flow import flow_loss
from vpog_core.training.losses.retrieval import retrieval_loss

LABEL_STRIDE = 4


@dataclass(frozen=True)
class LossWeights:
    """What each loss counts."""

    classification: float = 1.0
    encoder_classification: float = 0.4
    flow: float = 1.0
    retrieval: float = 1.0


@dataclass
class Batch:
    """O groups of G queries, T templates, the first S of them the cluster: `VPOGTrainDataset`'s."""

    query_rgb: Tensor
    query_depth: Tensor
    query_K: Tensor
    query_T: Tensor
    template_rgb: Tensor
    template_depth: Tensor
    template_K: Tensor
    template_T: Tensor
    directions: Tensor
    diameter: Tensor

    def to(self, device: torch.device | str) -> Batch:
        """The same on a device."""
        return Batch(**{key: value.to(device, non_blocking=True) for key, value in vars(self).items()})

    def images(self) -> Tensor:
        """[O * (G + T), 3, P, P] in 0..1, queries first within each group."""
        stacked = torch.cat((self.query_rgb, self.template_rgb), dim=1).flatten(0, 1)
        return stacked.permute(0, 3, 1, 2).float() / 255.0

    def per_query(self, templates: Tensor) -> Tensor:
        """[O, S, ...] -> [O * G, S, ...]: each query's own copy of its group's templates."""
        return templates.repeat_interleave(self.query_rgb.shape[1], dim=0)

    def labels(self, offset: int) -> Labels:
        """Ground truth of every query [O * G] against its cluster [S], at every fourth pixel."""
        query = Views(*(v.flatten(0, 1) for v in (self.query_depth, self.query_K, self.query_T)))
        cluster = self.template_depth.shape[1]
        templates = Views(
            *(self.per_query(v[:, :cluster]) for v in (self.template_depth, self.template_K, self.template_T))
        )
        return FlowComputer(LABEL_STRIDE, offset)(query, templates, self.per_query(self.diameter))

    def rotation_distance(self) -> Tensor:
        """[O, G, T] radians between each query and each template on SO(3)."""
        R_query, R_template = self.query_T[..., :3, :3], self.template_T[..., :3, :3]
        trace = torch.einsum("ogij,otij->ogt", R_query, R_template)
        return torch.acos(((trace - 1) / 2).clamp(-1 + 1e-6, 1 - 1e-6))


def objective(
    model: VPOGModel, batch: Batch, weights: LossWeights, offset: int, predicted_share: float = 0.6
) -> tuple[Tensor, dict[str, Tensor]]:
    """The summed loss and the scores of its parts.

    Args:
        offset: 0..3, which of every four pixels along a side is supervised.
        predicted_share: of the pairs take the predicted template patch in place of the true one.
    """
    groups, queries = batch.query_rgb.shape[:2]
    cluster = batch.template_depth.shape[1]
    encoded = model.encode(batch.images())
    by_group = Encoded(*(v.unflatten(0, (groups, -1)) for v in vars(encoded).values()))
    query = Encoded(*(v[:, :queries].flatten(0, 1) for v in vars(by_group).values()))
    templates = Encoded(
        *(batch.per_query(v[:, queries : queries + cluster]) for v in vars(by_group).values())
    )
    labels = batch.labels(offset)

    matches = model.match(query, templates, batch.per_query(batch.directions))
    loss, scores = classification_loss(matches.logits, labels.patch_class)
    encoder_loss, encoder_scores = classification_loss(
        model.encoder_logits(query, templates), labels.patch_class
    )
    pairs, target, seen = meet_predictions(*seen_pairs(labels), matches.logits, predicted_share)
    flow, flow_scores = flow_loss(model.flow_of_pairs(matches, pairs), target, seen, offset)
    descriptors = model.describe(encoded).unflatten(0, (groups, -1))
    similarity = model.retrieval_head.logits(descriptors[:, :queries], descriptors[:, queries:])
    retrieval, retrieval_scores = retrieval_loss(similarity, batch.rotation_distance())

    total = (
        weights.classification * loss
        + weights.encoder_classification * encoder_loss
        + weights.flow * flow
        + weights.retrieval * retrieval
    )
    scores |= {"encoder_seen_accuracy": encoder_scores["seen_accuracy"], **flow_scores, **retrieval_scores}
    parts = {"loss": total, "classification": loss, "flow": flow, "retrieval": retrieval}
    return total, {key: value.detach() for key, value in (parts | scores).items()}


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
