"""Define the VPOG network: it encodes images once, then matches a query crop with a few templates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vpog_core.models.aa_module import AAModule
from vpog_core.models.checks import check_directions, check_index, check_pair, check_pairs, network_images
from vpog_core.models.classification_head import ClassificationHead
from vpog_core.models.config import VPOGConfig
from vpog_core.models.efficientnet_lite import CHANNELS, EfficientNetLite
from vpog_core.models.encoder import Encoder
from vpog_core.models.flow_head import Flow, FlowHead, MatchedPixels
from vpog_core.models.retrieval_head import RetrievalHead
from vpog_core.models.stem import ConvStem
from vpog_core.models.token_manager import TokenManager

IMAGE_MEAN = (0.485, 0.456, 0.406)
"""Mean of ImageNet's colours; CroCo was trained with it and IMAGE_STD."""
IMAGE_STD = (0.229, 0.224, 0.225)


@dataclass
class Encoded:
    """Holds the encoding of an image; `...` is [N], [B] or [B, S].

    Attributes:
        tokens: [..., Nq, D]; stem: [..., C, H / 4, W / 4].
        backbone: [..., Nq, B] features of the backbone, which retrieval reads; None where there is none.
    """

    tokens: Tensor
    stem: Tensor
    backbone: Tensor | None = None

    def __getitem__(self, index) -> Encoded:
        return self.map(lambda values: values[index])

    def tensors(self) -> list[Tensor]:
        """Return the tensors that are there."""
        return [values for values in vars(self).values() if values is not None]

    def map(self, change: Callable[[Tensor], Tensor]) -> Encoded:
        """Return the encoding with all tensors changed."""
        return Encoded(*map(change, self.tensors()))

    @staticmethod
    def join(join: Callable[[Sequence[Tensor]], Tensor], encodings: Sequence[Encoded]) -> Encoded:
        """Join encodings, such as by `torch.cat` or `torch.stack`."""
        return Encoded(*(join(each) for each in zip(*(e.tensors() for e in encodings), strict=True)))


@dataclass
class Matches:
    """Holds query crops matched with templates.

    Attributes:
        logits: [B, S, Nq, Nt + A]; the last A columns mean 'unseen in this template'.
        query: [B, Nq, D]; templates: [B, S, Nt, D]: tokens after the alternating attention.
        query_fine: [B, C, h, w]; template_fine: [B, S, C, h, w]: stride-4 features.
    """

    logits: Tensor
    query: Tensor
    templates: Tensor
    query_fine: Tensor
    template_fine: Tensor


class VPOGModel(nn.Module):
    """Encodes, retrieves, matches and predicts flow: the whole network.

    Args:
        config: sizes (`PRESETS["vpog-tiny"]` and its siblings).

    Every public method refuses what it cannot use by one sentence (`VPOGError`).
    """

    def __init__(self, config: VPOGConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.embed_dim
        self.stem = ConvStem()
        self.backbone = EfficientNetLite().requires_grad_(False) if config.backbone else None
        self.encoder = Encoder(config, self.stem.channels)
        self.retrieval_head = RetrievalHead(
            dim + CHANNELS * (self.backbone is not None), config.retrieval_dim, config.grid
        )
        self.encoder_head = ClassificationHead(dim, config.temperature, config.rope_base)
        self.encoder_unseen = nn.Parameter(torch.zeros(config.template_added, dim))
        self.token_manager = TokenManager(dim, config.query_added, config.template_added)
        self.aa_module = AAModule(config)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.classification_head = ClassificationHead(dim, config.temperature, config.rope_base)
        self.flow_head = FlowHead(config, self.stem.channels)
        self.register_buffer("mean", torch.tensor(IMAGE_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(IMAGE_STD)[:, None, None], persistent=False)
        if config.freeze_encoder:
            self.freeze_encoder()

    def freeze_encoder(self, frozen: bool = True) -> None:
        """Freeze the parameters of the encoder, or unfreeze them.

        That is the encoder, and the stem where it feeds the encoder (`config.embed_from_stem`). Tokens
        and retrieval templates computed before stay valid; weights files are the same either way.
        """
        parts = (self.encoder, self.stem) if self.config.embed_from_stem else (self.encoder,)
        for part in parts:
            part.requires_grad_(not frozen)

    def encode(self, images: Tensor) -> Encoded:
        """Encode RGB images [N, 3, H, W], uint8, or float in 0..1, to tokens and stem features.

        Values of floating point images are checked, which waits for a GPU; those of uint8 images are not.

        Raises:
            VPOGError: wrong shape, size, device or range, NaN.
        """
        rgb = network_images(images, self.config.image_size, self.mean)
        images = (rgb - self.mean) / self.std
        stem = self.stem(images)
        if self.backbone is None:
            return Encoded(self.encoder(images, stem), stem).map(lambda values: values.to(images.dtype))
        features = self.backbone(rgb).flatten(2).transpose(1, 2)
        features = F.layer_norm(features, features.shape[-1:])
        tokens = self.encoder(images, stem, features)
        return Encoded(tokens, stem, features).map(lambda values: values.to(images.dtype))

    def describe(self, encoded: Encoded) -> Tensor:
        """Return the retrieval descriptors [N, C] of encoded crops [N]."""
        return self.retrieval_head(_retrieved(encoded)).to(encoded.tokens.dtype)

    def describe_templates(self, encoded: Encoded) -> Tensor:
        """Return the retrieval descriptors [N, C] of encoded templates [N].

        `retrieval_head.logits` compares the descriptors of crops with them.
        """
        return self.retrieval_head.of_templates(_retrieved(encoded)).to(encoded.tokens.dtype)

    def match(self, query: Encoded, templates: Encoded, directions: Tensor) -> Matches:
        """Match query crops [B] against templates [B, S] seen along `directions`.

        Args:
            directions: [B, S, 3] unit vectors from the object to each template's camera, in the
                camera frame of the reference view.

        Raises:
            VPOGError: shapes or devices that do not belong together, or encodings of another network.
        """
        self._check_pair(query, templates)
        check_directions(directions, templates.tokens)
        # Exchange information between query and templates.
        q, t, rope_mask = self.token_manager.add(query.tokens, templates.tokens)
        q, t = self.aa_module(q, t, directions, rope_mask)
        q, t, added = self.token_manager.split(self.norm(q), self.norm(t))
        # Compare patches, and compute the features for flow.
        logits = self.classification_head(q, t, added)
        query_fine = self.flow_head.fine(query.stem, q)
        template_fine = self.flow_head.fine(templates.stem.flatten(0, 1), t.flatten(0, 1))
        return Matches(logits, q, t, query_fine, template_fine.unflatten(0, t.shape[:2]))

    def encoder_logits(self, query: Encoded, templates: Encoded) -> Tensor:
        """Compute logits [B, S, Nq, Nt + A] from the encoder's own tokens: early supervision in training."""
        self._check_pair(query, templates)
        added = self.encoder_unseen.expand(*templates.tokens.shape[:2], -1, -1)
        return self.encoder_head(query.tokens, templates.tokens, added)

    def flow(self, matches: Matches, index: Tensor) -> Flow:
        """Compute flow [B, S, Nq, ...] of each query patch in the template patch index [B, S, Nq].

        Raises:
            VPOGError: wrong shape, or (on a CPU, where looking costs nothing) an index that is no patch.
        """
        check_index(index, matches.templates)
        m = matches
        return self.flow_head.matched(m.query, m.templates, m.query_fine, m.template_fine, index)

    def flow_where(self, matches: Matches, index: Tensor, wanted: Tensor) -> MatchedPixels:
        """Compute flow and confidence as `flow` does, of those query patches at least that are wanted.

        On a CPU the others are left out, and zero; on a GPU to look for them would take longer.

        Args:
            wanted: [B, S, Nq] bool.

        Raises:
            VPOGError: as `flow`.
        """
        if not wanted.is_cpu:
            flow = self.flow(matches, index)
            return MatchedPixels(flow.flow, flow.confidence)
        check_index(index, matches.templates)
        pairs = torch.cat((wanted.nonzero(), index[wanted][:, None]), dim=1)
        flow = self.flow_of_pairs(matches, pairs)
        return MatchedPixels(_spread(flow.flow, wanted), _spread(flow.confidence, wanted))

    def flow_of_pairs(self, matches: Matches, pairs: Tensor) -> Flow:
        """Compute flow [P, ...] of pairs [P, 4] (batch, template, query patch, template patch).

        Raises:
            VPOGError: wrong shape, or (on a CPU) a number that is no crop, template or patch.
        """
        check_pairs(pairs, matches.templates)
        m = matches
        return self.flow_head.pairs(m.query, m.templates, m.query_fine, m.template_fine, pairs)

    def _check_pair(self, query: Encoded, templates: Encoded) -> None:
        pair = (query.tokens, query.stem), (templates.tokens, templates.stem)
        check_pair(*pair, self.config, self.stem.channels)


def _retrieved(encoded: Encoded) -> Tensor:
    """Return what retrieval reads of an encoding [..., Nq, D (+ B)]: tokens, and features of the backbone."""
    return encoded.tokens if encoded.backbone is None else torch.cat((encoded.tokens, encoded.backbone), -1)


def _spread(values: Tensor, where: Tensor) -> Tensor:
    """Return zeros [..., *] with values [P, *] in the P places that are true in a mask [...]."""
    spread = values.new_zeros(*where.shape, *values.shape[1:])
    spread[where] = values
    return spread
