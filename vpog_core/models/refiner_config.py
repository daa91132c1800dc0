"""Define the configuration of the refiner network, and its presets."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

from vpog_core.types import VPOGError

COARSE_STRIDE, FINE_STRIDE = 8, 4
"""Pixels between neighbouring cells of the two levels that render and image are correlated at."""
MAX_VALUES = 2048
"""Largest size in a configuration; a file with a larger one is damaged."""


@dataclass(frozen=True)
class RefinerConfig:
    """Sets the sizes of a refiner network.

    Attributes:
        image_size: side of the image crop and of the render, pixels; a multiple of 8.
        stem_dim: channels of the stride-2 features.
        fine_dim, coarse_dim: channels of the features at stride 4 and 8.
        attention_layers, attention_heads: joint attention over the coarse cells of both images.
        coarse_reach, fine_reach: cells on each side of the expected place that are correlated, at each level.
        fine_hidden: channels of the fine decoder.
        scorer_dim: channels of the scorer of poses.
        rope_base: base of the rotary frequencies of the joint attention.
    """

    image_size: int = 128
    stem_dim: int = 24
    fine_dim: int = 48
    coarse_dim: int = 96
    attention_layers: int = 2
    attention_heads: int = 4
    coarse_reach: int = 4
    fine_reach: int = 3
    fine_hidden: int = 64
    scorer_dim: int = 48
    rope_base: float = 100.0

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            low = 0 if f.name == "attention_layers" else 1
            if f.type == "int" and not (type(value) is int and low <= value <= MAX_VALUES):
                raise VPOGError(f"{f.name} is {value!r}: give a whole number from {low} to {MAX_VALUES}.")
        if not 0 < self.rope_base < float("inf"):
            raise VPOGError(f"rope_base is {self.rope_base!r}: give a number above zero.")
        if self.image_size % (2 * COARSE_STRIDE):
            raise VPOGError(f"image_size is {self.image_size}: give a multiple of {2 * COARSE_STRIDE}.")
        for name in ("stem_dim", "fine_dim", "coarse_dim", "fine_hidden", "scorer_dim"):
            if getattr(self, name) % 8:
                raise VPOGError(f"{name} is {getattr(self, name)}: give a multiple of 8.")
        if self.coarse_dim % (4 * self.attention_heads):
            raise VPOGError(
                f"coarse_dim {self.coarse_dim} must be a multiple of 4 x attention_heads "
                f"({self.attention_heads}): change either."
            )

    @property
    def grid(self) -> int:
        """The number of cells along a side of the output."""
        return self.image_size // FINE_STRIDE

    @property
    def least_parameters(self) -> int:
        """A number that the network's parameters are sure to exceed: those of its attention layers."""
        return 4 * self.attention_layers * self.coarse_dim**2

    def to_dict(self) -> dict:
        """Return plain values, for a weights file's metadata."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> RefinerConfig:
        """Read the configuration in a weights file's metadata; unknown names are refused.

        Raises:
            VPOGError: an unknown name, or a value that cannot be.
        """
        known = {f.name for f in fields(cls)}
        for key in values:
            if key not in known:
                raise VPOGError(
                    f"The refiner's configuration has the unknown key '{key}': use weights of this version."
                )
        return cls(**values)


REFINER_PRESETS: dict[str, RefinerConfig] = {
    "refiner-tiny": RefinerConfig(),
    "refiner-small": RefinerConfig(
        image_size=224, stem_dim=48, fine_dim=96, coarse_dim=192, attention_layers=4, attention_heads=6,
        fine_hidden=128, scorer_dim=96,
    ),
}  # fmt: skip
"""The refiner networks by name."""
