"""Compute the losses of the refiner: correlation, flow with its scale, visibility, pose."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from vpog_core.geometry.se3_torch import rotation_log
from vpog_core.inference.comparison_solver import refined_pose
from vpog_core.models.refiner import Comparison, Correlation, Trace
from vpog_core.models.refiner_config import COARSE_STRIDE, FINE_STRIDE
from vpog_core.training.data.batch import RefinerBatch
from vpog_core.training.losses.classification import masked_mean
from vpog_core.training.losses.labels import FlowComputer, PosedDepth
from vpog_core.training.losses.pose import pose_loss
from vpog_core.training.losses.pose_correspondences import PoseCorrespondences
from vpog_core.training.synthesis.pose_perturbation import OTHER_VIEW
from vpog_core.types import VPOGError

VISIBLE_ERROR_PX = 4.0
"""Flow error, pixels, above which `flow_lost` counts a cell as lost."""

POSE_ERRORS = ("rotation_start", "translation_start", "rotation_error", "translation_error")
"""Errors of a pair's pose before and after one refinement: degrees, and fractions of the diameter."""


@dataclass(frozen=True)
class RefinerLossConfig:
    """Declares the weights of the refiner's loss terms; a term of weight 0 is not computed.

    Attributes:
        correlation: cross-entropy of both levels' correlation over the cells of its window.
        coarse_flow: L1 of the coarse level's flow, in its cells.
        flow: Laplace likelihood of the final flow.
        visibility: binary cross-entropy of the visibility.
        pose: Monte-Carlo loss of the pose distribution (EPro-PnP).
        pose_pairs: pairs of a training batch that take part in the pose loss; pose_points: cells of each.
        pose_samples: poses drawn for each; pose_derivative: what the solution's own error counts.
    """

    correlation: float = 1.0
    coarse_flow: float = 0.5
    flow: float = 1.0
    visibility: float = 0.5
    pose: float = 0.05
    pose_pairs: int = 8
    pose_points: int = 192
    pose_samples: int = 128
    pose_derivative: float = 0.1

    def __post_init__(self) -> None:
        for name, low in (("correlation", 0), ("coarse_flow", 0), ("flow", 0), ("visibility", 0), ("pose", 0),
                          ("pose_pairs", 1), ("pose_points", 8), ("pose_samples", 16),
                          ("pose_derivative", 0)):  # fmt: skip
            if not low <= getattr(self, name) < float("inf"):
                raise VPOGError(f"refiner_loss.{name} is {getattr(self, name)}: give {low} or more.")


@dataclass
class RefinerLabels:
    """Holds the ground truth of B pairs on the grid of the network's cells.

    Attributes:
        flow: [B, g, g, 2] (x, y) pixels; visible: [B, g, g] bool; on_object: [B, g, g] bool, of the render.
        pixels: [g, g, 2] (x, y) that the cells stand for; points: [B, g, g, 3] metres, object frame.
        same_view: [B] bool, the render shows the view that the image shows; nothing is visible elsewhere.
    """

    flow: Tensor
    visible: Tensor
    on_object: Tensor
    pixels: Tensor
    points: Tensor
    same_view: Tensor


def refiner_labels(batch: RefinerBatch) -> RefinerLabels:
    """Compute where the image shows each surface point of the render, and whether it does."""
    computer = FlowComputer(FINE_STRIDE, (FINE_STRIDE // 2, FINE_STRIDE // 2))
    render = PosedDepth(batch.render_depth, batch.K, batch.T_start)
    image = PosedDepth(batch.image_depth[:, None], batch.K[:, None], batch.T_true[:, None])
    pixels, points, on_object = computer.query_points(render)
    place, visible = computer.visible(points, on_object, render, image, batch.diameter)
    same_view = rotation_between(batch.T_start, batch.T_true) < OTHER_VIEW
    visible = visible[:, 0] & same_view[:, None, None]
    return RefinerLabels(place[:, 0] - pixels, visible, on_object, pixels, points, same_view)


def refiner_losses(
    trace: Trace, labels: RefinerLabels, batch: RefinerBatch, config: RefinerLossConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the summed loss of a batch, and the scores of its terms."""
    coarse_target, coarse_visible = coarse_labels(labels)
    found, seen = trace.comparison, labels.visible
    flow_loss, scores = laplace_loss(found, labels)
    terms = {
        "coarse_correlation": config.correlation
        * correlation_loss(trace.coarse, coarse_target / COARSE_STRIDE, coarse_visible),
        "fine_correlation": config.correlation
        * correlation_loss(trace.fine, labels.flow / FINE_STRIDE, seen),
        "coarse_flow": config.coarse_flow
        * coarse_flow_loss(trace.coarse_flow, coarse_target, coarse_visible),
        "flow": config.flow * flow_loss,
        "visibility": config.visibility * visibility_loss(found.visibility, labels),
    }
    if config.pose:
        loss, pose_scores = refiner_pose_loss(found, labels, batch, config)
        terms["pose"], scores = config.pose * loss, scores | pose_scores
    total = sum(terms.values())
    scores |= {"visibility_accuracy": visibility_accuracy(found.visibility, labels)}
    fraction = visible_fraction(found.visibility, labels)
    scores |= mean_visible_fractions(fraction, labels.same_view)
    scores |= {f"loss_{name}": value for name, value in terms.items()}
    return total, {key: value.detach() for key, value in ({"loss": total} | scores).items()}


@torch.no_grad()
def refined_pose_errors(found: Comparison, labels: RefinerLabels, batch: RefinerBatch) -> Tensor:
    """Compute the errors before and after one refinement of each pair: [B, 4], columns `POSE_ERRORS`."""
    solution = refined_pose(
        found, labels.pixels.expand_as(labels.flow), labels.points, labels.on_object, batch.K, batch.T_start
    )
    T = torch.where(solution.valid[:, None, None], solution.T, batch.T_start)
    columns = []
    for pose in (batch.T_start, T):
        columns.append(rotation_between(pose, batch.T_true).rad2deg())
        columns.append((pose[:, :3, 3] - batch.T_true[:, :3, 3]).norm(dim=-1) / batch.diameter)
    return torch.stack(columns, dim=1)


def median_pose_errors(errors: Tensor, same_view: Tensor) -> dict[str, Tensor]:
    """Return the medians of errors [N, 4] over the pairs that show the same view, of all where none does."""
    counted = errors[same_view] if bool(same_view.any()) else errors
    return dict(zip(POSE_ERRORS, counted.median(dim=0).values, strict=True))


def rotation_between(T_a: Tensor, T_b: Tensor) -> Tensor:
    """Compute the angles [B] between the rotations of poses [B, 4, 4], radians."""
    return rotation_log(T_a[:, :3, :3] @ T_b[:, :3, :3].mT).norm(dim=-1)


def coarse_labels(labels: RefinerLabels) -> tuple[Tensor, Tensor]:
    """Return flow [B, g / 2, g / 2, 2] (pixels) and visibility of coarse cells: means of four fine ones."""
    visible = F.avg_pool2d(labels.visible[:, None].float(), 2)
    flow = F.avg_pool2d((labels.flow * labels.visible[..., None]).permute(0, 3, 1, 2), 2)
    mean = (flow / visible.clamp_min(0.25)).permute(0, 2, 3, 1)
    return mean, visible[:, 0] >= 0.5


def correlation_loss(seen: Correlation, shift: Tensor, visible: Tensor) -> Tensor:
    """Compute the cross-entropy over each window's cells, the true place spread over four neighbours.

    Args:
        shift: [B, h, w, 2] (x, y) true displacement, cells; visible: [B, h, w] bool.
    """
    count = seen.logits.shape[-1]
    side = round(count**0.5)
    place = shift.flatten(1, 2) - seen.centre + side // 2  # from the window's corner
    low = place.floor()
    inside = ((low >= 0) & (low < side - 1)).all(dim=-1) & visible.flatten(1)
    part = place - low
    low = torch.where(inside[..., None], low, torch.zeros_like(low)).long()
    log_p = seen.logits.log_softmax(dim=-1)
    value = torch.zeros_like(part[..., 0])
    for dx in (0, 1):
        for dy in (0, 1):
            weight = (part[..., 0] if dx else 1 - part[..., 0]) * (part[..., 1] if dy else 1 - part[..., 1])
            index = (low[..., 1] + dy) * side + low[..., 0] + dx
            value = value - weight * log_p.gather(2, index[..., None])[..., 0].clamp_min(-20.0)
    return masked_mean(torch.where(inside, value, torch.zeros_like(value)), inside)


def coarse_flow_loss(flow: Tensor, target: Tensor, visible: Tensor) -> Tensor:
    """Compute the L1 of the coarse flow [B, 2, h, w] (pixels), in coarse cells."""
    error = (flow.permute(0, 2, 3, 1) - target).abs().sum(dim=-1) / COARSE_STRIDE
    return masked_mean(error, visible)


def laplace_loss(found: Comparison, labels: RefinerLabels) -> tuple[Tensor, dict[str, Tensor]]:
    """Compute the negative log likelihood of the flow where it is visible, per axis; both share a scale."""
    error = found.flow.permute(0, 2, 3, 1) - labels.flow
    values = error.abs().sum(dim=-1) / 2 * (-found.log_scale).exp() + found.log_scale
    distance = error.detach().norm(dim=-1)
    scores = {
        "flow_error": masked_mean(distance, labels.visible),
        "flow_lost": masked_mean((distance > VISIBLE_ERROR_PX).float(), labels.visible),
        "flow_start": masked_mean(labels.flow.norm(dim=-1), labels.visible),
    }
    return masked_mean(values, labels.visible), scores


def visibility_loss(visibility: Tensor, labels: RefinerLabels) -> Tensor:
    """Compute the binary cross-entropy over the cells of the render's object."""
    values = F.binary_cross_entropy_with_logits(visibility, labels.visible.float(), reduction="none")
    return masked_mean(values, labels.on_object)


def visibility_accuracy(visibility: Tensor, labels: RefinerLabels) -> Tensor:
    """Compute the fraction of the object's cells whose visibility is predicted correctly."""
    return masked_mean(((visibility > 0) == labels.visible).float(), labels.on_object)


@torch.no_grad()
def visible_fraction(visibility: Tensor, labels: RefinerLabels) -> Tensor:
    """Return the fraction of each pair's object that is predicted visible, [B]."""
    visible = (visibility.sigmoid() * labels.on_object).sum(dim=(1, 2))
    return visible / labels.on_object.sum(dim=(1, 2)).clamp_min(1)


def mean_visible_fractions(fraction: Tensor, same_view: Tensor) -> dict[str, Tensor]:
    """Return the mean visible fractions of pairs of the same view and of others, if there are any."""
    kinds = {"visible_same_view": same_view, "visible_other_view": ~same_view}
    return {name: fraction[rows].mean() for name, rows in kinds.items() if rows.any()}


def refiner_pose_loss(
    found: Comparison, labels: RefinerLabels, batch: RefinerBatch, config: RefinerLossConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """Compute EPro-PnP's loss of the first pairs of the same view, over cells of the object, drawn anew."""
    pairs = labels.same_view.nonzero()[: config.pose_pairs, 0]
    if not len(pairs):
        return found.flow.sum() * 0.0, {}
    weight = labels.on_object[pairs].flatten(1).float() + 1e-6
    drawn = torch.multinomial(weight, min(config.pose_points, weight.shape[1]))

    def at(values: Tensor) -> Tensor:
        flat = values[pairs].flatten(1, 2)
        return flat.gather(1, drawn[..., None].expand(-1, -1, flat.shape[-1]))

    flow = found.flow.permute(0, 2, 3, 1)
    precision = torch.sigmoid(found.visibility) * (-2 * found.log_scale).exp()
    correspondences = PoseCorrespondences(
        points_2d=at(labels.pixels.expand_as(flow) + flow),
        points_3d=at(labels.points),
        confidence=at((precision * labels.on_object)[..., None])[..., 0],
    )
    loss, scores = pose_loss(
        correspondences, batch.K[pairs], batch.T_true[pairs], batch.diameter[pairs],
        config.pose_samples, config.pose_derivative,
    )  # fmt: skip
    return loss, {f"near_{key}": value for key, value in scores.items()}
