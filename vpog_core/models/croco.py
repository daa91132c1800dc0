"""Load the encoder of a CroCo-v2 checkpoint: pre-trained by cross-view completion (Weinzaepfel et al. 2023).

The official files, `CroCo_V2_ViTBase_SmallDecoder.pth`, `CroCo_V2_ViTBase_BaseDecoder.pth` and
`CroCo_V2_ViTLarge_BaseDecoder.pth`, are read from where you put them; nothing is downloaded or shipped.
Their licence is their authors' (Naver, CC BY-NC-SA 4.0: no commercial use), and it reaches every
network trained from them.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from vpog_core.models.checkpoint import check_fit
from vpog_core.models.config import PATCH, PRESETS, VPOGConfig
from vpog_core.models.encoder import Encoder
from vpog_core.models.stem import ConvStem
from vpog_core.models.vpog_model import VPOGModel
from vpog_core.types import VPOGError

LOG = logging.getLogger(__name__)
DEFAULTS = {
    "img_size": 224, "patch_size": 16, "enc_embed_dim": 768, "enc_depth": 12, "enc_num_heads": 12,
    "pos_embed": "cosine",
}  # fmt: skip
"""Defaults of CroCo's own constructor, for numbers missing in `croco_kwargs`."""
LEFT_OUT = ("decoder_embed.", "dec_blocks.", "dec_norm.", "prediction_head.", "mask_token")
"""Prefixes of CroCo's keys after the encoder, which are not loaded."""
OFFICIAL = "use an official CroCo_V2_*.pth file"


@dataclass(frozen=True)
class CroCoEncoder:
    """Holds the encoder of a CroCo-v2 file.

    Attributes:
        path: the file.
        tensors: the encoder's weights by their names, which are our `Encoder`'s too.
        embed_dim, depth, num_heads: its width, layers and heads.
        rope_base: base of its rotary ladders (100 in 'RoPE100').
        image_size: (height, width) it was trained on, pixels; with RoPE it takes others too.
        left_out: tensors of the decoder and the mask token, not used.
    """

    path: Path
    tensors: dict[str, Tensor]
    embed_dim: int
    depth: int
    num_heads: int
    rope_base: float
    image_size: tuple[int, int]
    left_out: int

    def config(self, **changes) -> VPOGConfig:
        """Return the configuration this encoder fits: vpog-base for ViT-Base, vpog-large for ViT-Large.

        Args:
            changes: other numbers of `VPOGConfig`, such as `window=4` or `freeze_encoder=True`.

        Raises:
            VPOGError: the numbers make no network, such as an image that is not square.
        """
        height, width = self.image_size
        if height != width and "image_size" not in changes:
            raise VPOGError(
                f"'{self.path}' was trained on images of {width}x{height} pixels and crops are square: "
                "give an image_size."
            )
        numbers = {
            "embed_dim": self.embed_dim, "depth": self.depth, "num_heads": self.num_heads,
            "rope_base": self.rope_base, "image_size": height,
        }  # fmt: skip
        return replace(self._nearest_preset(), **{**numbers, **changes})

    def check_fits(self, config: VPOGConfig) -> None:
        """Refuse a network whose encoder is another, by the first number that differs."""
        if config.embed_from_stem:
            raise VPOGError(
                f"The network takes its tokens from its stem (embed_from_stem), '{self.path}' from linear "
                "patches: use vpog-base or vpog-large."
            )
        for name in ("embed_dim", "depth", "num_heads", "rope_base"):
            have, want = getattr(self, name), getattr(config, name)
            if have != want:
                raise VPOGError(
                    f"'{self.path}' has an encoder of {name} {have:g} where the network's is {want:g}: "
                    "make the network from load_croco(path).config()."
                )

    def _nearest_preset(self) -> VPOGConfig:
        for preset in PRESETS.values():
            numbers = preset.embed_dim, preset.depth, preset.num_heads
            if not preset.embed_from_stem and numbers == (self.embed_dim, self.depth, self.num_heads):
                return preset
        return VPOGConfig(embed_dim=self.embed_dim, num_heads=self.num_heads, aa_heads=self.num_heads)


def load_croco(path: str | Path) -> CroCoEncoder:
    """Read a CroCo-v2 file, strictly on the encoder's keys.

    Raises:
        VPOGError: no such file, no CroCo-v2 file, or one that does not hold the encoder its own numbers
            (`croco_kwargs`) describe.
    """
    path = Path(path)
    given, state = _read(path)
    numbers = {**DEFAULTS, **given}
    rope_base = _rope_base(path, numbers["pos_embed"])
    if numbers["patch_size"] not in (PATCH, (PATCH, PATCH), [PATCH, PATCH]):
        raise VPOGError(
            f"'{path}' has patch_size {numbers['patch_size']!r} where {PATCH} is needed: {OFFICIAL}."
        )
    sizes = {
        ours: _parse_integer(path, name, numbers[name])
        for ours, name in (
            ("embed_dim", "enc_embed_dim"),
            ("depth", "enc_depth"),
            ("num_heads", "enc_num_heads"),
        )
    }
    tensors = {k: v for k, v in state.items() if not k.startswith(LEFT_OUT)}
    _check_tensors(path, sizes, tensors)
    left_out = len(state) - len(tensors)
    LOG.info("%s: %d tensors of the encoder, %d of the decoder left out", path, len(tensors), left_out)
    return CroCoEncoder(
        path, tensors, **sizes, rope_base=rope_base, image_size=_image_size(path, numbers["img_size"]),
        left_out=left_out,
    )  # fmt: skip


def init_encoder(model: VPOGModel, croco: CroCoEncoder | str | Path) -> None:
    """Load the weights of a CroCo-v2 file into a network's encoder; the rest of it stays.

    Raises:
        VPOGError: as `load_croco`, or the file's encoder is another than the network's.
    """
    croco = croco if isinstance(croco, CroCoEncoder) else load_croco(croco)
    croco.check_fits(model.config)
    model.encoder.load_state_dict(croco.tensors)


def model_from_croco(path: str | Path, **changes) -> VPOGModel:
    """Make a network for a CroCo-v2 file, with its encoder; the rest is initialised.

    Args:
        changes: other numbers of `VPOGConfig`, such as `freeze_encoder=True`.
    """
    croco = load_croco(path)
    model = VPOGModel(croco.config(**changes))
    init_encoder(model, croco)
    return model


def _read(path: Path) -> tuple[dict, dict[str, Tensor]]:
    """Read `croco_kwargs` and the tensors of a file."""
    if not path.is_file():
        raise VPOGError(f"There is no CroCo checkpoint at '{path}': download it and give its path.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes make torch.load raise nearly anything
        raise VPOGError(_why_unreadable(path, str(error))) from error
    state = content.get("model") if isinstance(content, dict) else None
    if not (isinstance(state, dict) and all(isinstance(v, Tensor) for v in state.values())):
        raise VPOGError(f"'{path}' is no CroCo checkpoint, it has no tensors under 'model': {OFFICIAL}.")
    if not isinstance(content.get("croco_kwargs"), dict):
        raise VPOGError(
            f"'{path}' has no 'croco_kwargs', as files of CroCo v1 and of unfinished training have none: "
            f"{OFFICIAL}."
        )
    return content["croco_kwargs"], state


def _why_unreadable(path: Path, error: str) -> str:
    refused = re.search(r"(?:GLOBAL|class) ([\w.]+)", error)
    if refused:
        return (
            f"'{path}' holds the Python object '{refused[1]}', which is not loaded as it could run code: "
            f"save 'model' and 'croco_kwargs' alone, or {OFFICIAL}."
        )
    first_line = (error.splitlines() or ["empty"])[0]
    return f"'{path}' is no readable checkpoint ({first_line[:100]}): download it again."


def _rope_base(path: Path, pos_embed: object) -> float:
    match = re.fullmatch(r"RoPE(\d+(?:\.\d+)?)", str(pos_embed))
    if not match or float(match[1]) == 0:
        raise VPOGError(
            f"'{path}' has pos_embed {pos_embed!r} where RoPE100 or the like is needed (CroCo v1 has "
            f"'cosine'): {OFFICIAL}."
        )
    return float(match[1])


def _parse_integer(path: Path, name: str, value: object) -> int:
    if type(value) is not int or value < 1:
        raise VPOGError(f"In '{path}' {name} is {value!r}, which is no whole number above zero: {OFFICIAL}.")
    return value


def _image_size(path: Path, value: object) -> tuple[int, int]:
    height, width = value if isinstance(value, (tuple, list)) and len(value) == 2 else (value, value)
    return _parse_integer(path, "img_size", height), _parse_integer(path, "img_size", width)


def _check_tensors(path: Path, sizes: dict[str, int], tensors: dict[str, Tensor]) -> None:
    """Refuse tensors that are not the encoder of these sizes."""
    try:
        config = VPOGConfig(**sizes, aa_heads=1)
    except VPOGError as error:
        raise VPOGError(f"In 'croco_kwargs' of '{path}': {error}") from error
    with torch.device("meta"):
        expected = Encoder(config, ConvStem().channels).state_dict()
    check_fit(path, expected, tensors, OFFICIAL)
