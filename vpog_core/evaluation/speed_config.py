"""Say what `vpog bench` times."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SpeedConfig:
    """Sets what is timed.

    Attributes:
        detections: numbers of detections in an image; frames: images for each, after the first.
        objects: in the scene; networks: presets of which the steps are timed: `tiny`, `small`.
        device: `cpu` or `cuda`; precision: see `precision.PRECISIONS`.
        engine: what runs the networks, see `Networks.load`.
        comparisons: also time the estimator without its optimisations, and the classical method.
        weights: a file, or None for the one that ships.
    """

    detections: tuple[int, ...] = (1, 4, 16)
    frames: int = 10
    objects: int = 3
    networks: tuple[str, ...] = ("tiny", "small")
    device: str = "cpu"
    precision: str = "auto"
    engine: str = "torch"
    comparisons: bool = True
    weights: str | None = None

    @property
    def comparison_detections(self) -> int:
        """The number of detections in the images of comparisons: several, so that they are batched."""
        return max(2, min(4, max(self.detections)))
