"""Define the configuration of the coarse network's loss; config/train/loss has the same fields."""

from __future__ import annotations

from dataclasses import dataclass, field

from vpog_core.types import VPOGError

FLOW_KINDS = ("l1", "huber")


@dataclass(frozen=True)
class LossWeights:
    """Declares the weight of each loss term; a term of weight 0 is not computed.

    Attributes:
        classification: of query patches against template patches.
        encoder_classification: the same from the encoder's own tokens, which makes the first hours cheaper.
        flow: inside matched patches, with its confidence.
        retrieval: of the viewpoint.
        regularization: mean square of the weights.
        pose: Monte-Carlo loss of the pose distribution (EPro-PnP).
    """

    classification: float = 1.0
    encoder_classification: float = 0.4
    flow: float = 1.0
    retrieval: float = 1.0
    regularization: float = 0.0
    pose: float = 0.5

    def retrieval_alone(self) -> LossWeights:
        """Return the weight of retrieval, and 0 for all other terms."""
        return LossWeights(**dict.fromkeys(vars(self), 0.0) | {"retrieval": self.retrieval})

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value < float("inf"):
                raise VPOGError(f"The loss's weight of '{name}' is {value}: give 0 (left out) or more.")


@dataclass(frozen=True)
class LossOptions:
    """Declares how the loss terms are computed.

    Attributes:
        matching_every: of so many steps one computes all terms, the others retrieval alone, which takes half
            the time; all batches of a step do the same. On several GPUs that needs a strategy which finds
            unused parameters.
        unseen_weight: of unseen patches against seen ones, each kind averaged apart.
        label_smoothing: fraction of a class label that is spread over all classes, 0..1.
        flow_kind: l1 or huber; huber_px: where Huber's loss turns linear, pixels.
        confidence_weighting: 0: all seen pixels count equally in the flow loss; 1: by their confidence.
        pose_queries: queries of a training batch that take part in the pose loss; pose_patches: patches of
            each; pose_samples: poses drawn for each.
        pose_derivative: what the solution's own error counts in the pose loss (EPro-PnP's derivative
            regularization).
    """

    matching_every: int = 1
    unseen_weight: float = 0.5
    label_smoothing: float = 0.0
    flow_kind: str = "l1"
    huber_px: float = 2.0
    confidence_weighting: float = 0.0
    pose_queries: int = 4
    pose_patches: int = 24
    pose_samples: int = 128
    pose_derivative: float = 0.1

    def __post_init__(self) -> None:
        if self.flow_kind not in FLOW_KINDS:
            raise VPOGError(f"flow_kind is '{self.flow_kind}': choose one of {', '.join(FLOW_KINDS)}.")
        for name in ("label_smoothing", "confidence_weighting"):
            if not 0 <= getattr(self, name) <= 1:
                raise VPOGError(f"{name} is {getattr(self, name)}: give a number from 0 to 1.")
        for name in ("unseen_weight", "pose_derivative"):
            if not getattr(self, name) >= 0:
                raise VPOGError(f"{name} is {getattr(self, name)}: give 0 or more.")
        if not self.huber_px > 0:
            raise VPOGError(f"huber_px is {self.huber_px}: give a number of pixels above 0.")
        for name, least in (
            ("matching_every", 1),
            ("pose_queries", 1),
            ("pose_patches", 2),
            ("pose_samples", 16),
        ):
            if not getattr(self, name) >= least:
                raise VPOGError(f"{name} is {getattr(self, name)}: give {least} or more.")


@dataclass(frozen=True)
class LossConfig:
    """Declares the whole loss: `weights` of its terms, and `options` of how they are computed."""

    weights: LossWeights = field(default_factory=LossWeights)
    options: LossOptions = field(default_factory=LossOptions)
