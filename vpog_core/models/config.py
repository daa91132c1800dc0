"""Define the configuration of the VPOG network, and its presets."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

from vpog_core.types import VPOGError

PATCH = 16
"""Side of a patch, pixels. Fixed: the flow head predicts 16x16 pixels for each query patch."""
MIN_HEAD_DIM = 16
"""Fewest channels of an alternating-attention head: S2RoPE splits them into eight pairs."""
MAX_VALUES = 8192
"""Largest size in a configuration; a file with a larger one is damaged."""
MAX_LAYERS = 128
MAX_IMAGE_SIZE = 560
"""Largest image_size: the retrieval head's table of placements grows with its fourth power, to 450 MB."""
BACKBONES = ("", "efficientnet-lite0")
LAYERS = ("depth", "aa_depth", "flow_layers")


@dataclass(frozen=True)
class VPOGConfig:
    """Sets the sizes of the VPOG network.

    Attributes:
        image_size: side of crops and templates, pixels; a multiple of 16.
        embed_dim, depth, num_heads: the encoder's width, layers and heads.
        embed_from_stem: tokens from the convolutional stem (learns sooner) instead of CroCo's linear patches.
        backbone: '' or `efficientnet-lite0`, whose features of natural images are added to the tokens.
        freeze_encoder: what makes the tokens does not learn (`VPOGModel.freeze_encoder`).
        aa_depth, aa_heads, window: alternating-attention layers, heads, side of a local window in patches.
        query_added, template_added: learnable tokens added per query and per template ('unseen here').
        fine_dim: channels of the stride-4 features.
        flow_hidden, flow_layers: the flow head's MLP.
        retrieval_dim: channels of a patch's retrieval descriptor.
        temperature: divides the classification logits.
        rope_base: base of the rotary frequency ladders.
    """

    image_size: int = 224
    embed_dim: int = 768
    depth: int = 12
    num_heads: int = 12
    embed_from_stem: bool = False
    backbone: str = ""
    freeze_encoder: bool = False
    aa_depth: int = 4
    aa_heads: int = 12
    window: int = 7
    query_added: int = 0
    template_added: int = 1
    fine_dim: int = 64
    flow_hidden: int = 256
    flow_layers: int = 3
    retrieval_dim: int = 64
    temperature: float = 1.0
    rope_base: float = 100.0

    def __post_init__(self) -> None:
        self._check_numbers()
        if self.backbone not in BACKBONES:
            raise VPOGError(f"backbone is '{self.backbone}': use one of {', '.join(map(repr, BACKBONES))}.")
        if self.image_size > MAX_IMAGE_SIZE:
            raise VPOGError(f"image_size is {self.image_size}: give {MAX_IMAGE_SIZE} at most.")
        if self.image_size % PATCH:
            raise VPOGError(
                f"image_size {self.image_size} is no multiple of {PATCH}: "
                f"use {max(1, round(self.image_size / PATCH)) * PATCH}."
            )
        if self.grid % self.window:
            raise VPOGError(
                f"image_size {self.image_size} makes a grid of {self.grid} patches, which does not split "
                f"into windows of {self.window}: use an image_size that is a multiple of "
                f"{PATCH * self.window}, or another window."
            )
        for name, heads in (("num_heads", self.num_heads), ("aa_heads", self.aa_heads)):
            if self.embed_dim % (4 * heads):
                raise VPOGError(
                    f"embed_dim {self.embed_dim} must be a multiple of 4 x {name} ({heads}): change either."
                )
        if self.embed_dim // self.aa_heads < MIN_HEAD_DIM:
            raise VPOGError(
                f"aa_heads {self.aa_heads} leaves {self.embed_dim // self.aa_heads} channels for a head: "
                f"S2RoPE needs {MIN_HEAD_DIM} at least."
            )

    def _check_numbers(self) -> None:
        """Check that numbers are whole and, but for the added query tokens, at least one."""
        for f in fields(self):
            value, low = getattr(self, f.name), 0 if f.name == "query_added" else 1
            high = MAX_LAYERS if f.name in LAYERS else MAX_VALUES
            if f.type == "int" and not (type(value) is int and low <= value <= high):
                raise VPOGError(f"{f.name} is {value!r}: give a whole number from {low} to {high}.")
            if f.type == "float" and not (type(value) in (int, float) and 0 < value < float("inf")):
                raise VPOGError(f"{f.name} is {value!r}: give a number above zero.")
            if f.type == "bool" and type(value) is not bool:
                raise VPOGError(f"{f.name} is {value!r}: give true or false.")

    @property
    def grid(self) -> int:
        """The number of patches along a side."""
        return self.image_size // PATCH

    @property
    def num_patches(self) -> int:
        """The number of patches of an image."""
        return self.grid**2

    @property
    def least_parameters(self) -> int:
        """A number that the network's parameters are sure to exceed: those of its square layers."""
        layers = 4 * (self.depth + self.aa_depth) * self.embed_dim**2
        return layers + (self.flow_layers - 1) * self.flow_hidden**2

    def to_dict(self) -> dict:
        """Return plain values, for a checkpoint's metadata."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> VPOGConfig:
        """Read the configuration in a checkpoint's metadata; unknown names are refused."""
        known = {f.name for f in fields(cls)}
        unknown = [key for key in values if key not in known]
        if unknown:
            raise VPOGError(
                f"The network configuration has the unknown key '{unknown[0]}': use weights of this version."
            )
        return cls(**values)


PRESETS: dict[str, VPOGConfig] = {
    "vpog-tiny": VPOGConfig(
        image_size=112, embed_dim=192, depth=6, num_heads=6, embed_from_stem=True,
        backbone="efficientnet-lite0", aa_depth=2, aa_heads=6, fine_dim=32, flow_hidden=192, flow_layers=2,
        retrieval_dim=32,
    ),
    "vpog-small": VPOGConfig(
        embed_dim=384, depth=8, num_heads=6, embed_from_stem=True, aa_depth=3, aa_heads=6, fine_dim=48,
    ),
    "vpog-base": VPOGConfig(),
    "vpog-large": VPOGConfig(embed_dim=1024, depth=24, num_heads=16, aa_depth=6, aa_heads=16),
}  # fmt: skip
"""The networks by name."""
