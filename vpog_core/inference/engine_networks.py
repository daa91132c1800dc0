"""Put the steps of another engine in the place of a network's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vpog_core.models.flow_head import Flow, MatchedPixels
from vpog_core.models.refiner import Comparison, RefinerNet
from vpog_core.models.vpog_model import Encoded, Matches, VPOGModel

Step = Callable[..., Sequence[Tensor]]
"""Function of tensors [B, ...], all on one device and with the same B, that returns such tensors."""


class EngineModel:
    """Runs encode, match and flow of a network by an engine; all else is the network's own.

    Args:
        encode, match, flow: the engine's steps; arguments and results as of the modules of
            `vpog_core/models/export.py`, `encode` without the descriptors.
    """

    def __init__(self, model: VPOGModel, encode: Step, match: Step, flow: Step) -> None:
        self._model, self._encode, self._match, self._flow = model, encode, match, flow

    def __getattr__(self, name: str):
        return getattr(self._model, name)

    def encode(self, images: Tensor) -> Encoded:
        """Encode images [N, 3, H, W] uint8, see `VPOGModel.encode`; others are left to the network."""
        return Encoded(*self._encode(images)) if images.dtype == torch.uint8 else self._model.encode(images)

    def match(self, query: Encoded, templates: Encoded, directions: Tensor) -> Matches:
        """Match crops with templates, see `VPOGModel.match`."""
        return Matches(*self._match(query.tokens, query.stem, templates.tokens, templates.stem, directions))

    def flow(self, matches: Matches, index: Tensor) -> MatchedPixels | Flow:
        """Find the flow of matched patches, see `VPOGModel.flow`."""
        m = matches
        return MatchedPixels(*self._flow(m.query, m.templates, m.query_fine, m.template_fine, index))

    def flow_where(self, matches: Matches, index: Tensor, wanted: Tensor) -> MatchedPixels | Flow:
        """Find the flow of all matched patches, wanted or not: the engine's step has fixed shapes."""
        return self.flow(matches, index)


class EngineRefiner:
    """Compares renders with images by an engine; all else is the refiner's own.

    Args:
        compare: the engine's step; arguments and results as of `export.Compare`.
    """

    def __init__(self, refiner: RefinerNet, compare: Step) -> None:
        self._refiner, self._compare = refiner, compare

    def __getattr__(self, name: str):
        return getattr(self._refiner, name)

    def __call__(self, image: Tensor, render: Tensor, normals: Tensor, mask: Tensor) -> Comparison:
        """Compare renders with images, see `RefinerNet.forward`."""
        return Comparison(*self._compare(image, render, normals, mask))
