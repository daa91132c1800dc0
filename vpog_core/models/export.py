"""Wrap the networks as modules of tensors alone, for torch.export (AOTInductor, ONNX).

Shapes are fixed when a graph is made: the number of images, of crops B and templates S, or of pairs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vpog_core.models.refiner import RefinerNet
from vpog_core.models.vpog_model import Encoded, Matches, VPOGModel


class Encode(nn.Module):
    """Encodes images [N, 3, H, W], float in 0..1 or uint8 -> tokens [N, Nq, D], stem [N, C, H / 4, W / 4],
    where there is a backbone its features [N, Nq, B], and
    retrieval descriptors [N, Nq * retrieval_dim] of the images as crops, and as templates."""

    def __init__(self, model: VPOGModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        encoded = self.model.encode(images)
        described = self.model.describe(encoded), self.model.describe_templates(encoded)
        return *encoded.tensors(), *described


class Match(nn.Module):
    """Matches a query with templates (tokens, stem of both; directions) -> fields of `Matches`, in order."""

    def __init__(self, model: VPOGModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, tokens: Tensor, stem: Tensor, template_tokens: Tensor, template_stem: Tensor, directions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        query, templates = Encoded(tokens, stem), Encoded(template_tokens, template_stem)
        m = self.model.match(query, templates, directions)
        return m.logits, m.query, m.templates, m.query_fine, m.template_fine


class MatchedFlow(nn.Module):
    """Predicts flow: query and template tokens and fine features (`Match`'s), index [B, S, Nq] -> flow
    [B, S, Nq, 16, 16, 2] and its confidence [B, S, Nq, 16, 16]."""

    def __init__(self, model: VPOGModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, query: Tensor, templates: Tensor, query_fine: Tensor, template_fine: Tensor, index: Tensor
    ) -> tuple[Tensor, Tensor]:
        matches = Matches(query.new_empty(0), query, templates, query_fine, template_fine)
        flow = self.model.flow(matches, index)
        return flow.flow, flow.confidence


class Compare(nn.Module):
    """Compares B pairs: image, render, normals, mask, as `RefinerNet.forward` takes them -> fields of
    `Comparison`, in order."""

    def __init__(self, refiner: RefinerNet) -> None:
        super().__init__()
        self.refiner = refiner

    def forward(
        self, image: Tensor, render: Tensor, normals: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        found = self.refiner(image, render, normals, mask)
        return found.flow, found.log_scale, found.visibility, found.score


def example_inputs(model: VPOGModel, crops: int = 1, templates: int = 4) -> dict[str, tuple[Tensor, ...]]:
    """Make inputs of fixed shapes for graphs, by the module's name: grey images, one direction."""
    size, device = model.config.image_size, model.mean.device
    images = torch.full((crops, 3, size, size), 0.5, device=device)
    with torch.no_grad():
        tokens, stem, *_ = Encode(model)(images)
        of_templates = (v[:, None].repeat(1, templates, *(1,) * (v.ndim - 1)) for v in (tokens, stem))
        directions = torch.tensor([0.0, 0.0, -1.0], device=device).repeat(crops, templates, 1)
        match_inputs = (tokens, stem, *of_templates, directions)
        logits, *parts = Match(model)(*match_inputs)
    index = logits[..., : parts[1].shape[2]].argmax(dim=-1)
    return {"Encode": (images,), "Match": match_inputs, "MatchedFlow": (*parts, index)}


def export_network(
    model: VPOGModel, crops: int = 1, templates: int = 4
) -> dict[str, torch.export.ExportedProgram]:
    """Export graphs of `Encode`, `Match` and `MatchedFlow` at fixed shapes.

    Args:
        crops: images encoded at once, and crops matched at once; templates: of each crop.
    """
    inputs = example_inputs(model, crops, templates)
    modules = {cls.__name__: cls(model).eval() for cls in (Encode, Match, MatchedFlow)}
    return {name: torch.export.export(module, inputs[name]) for name, module in modules.items()}


def export_refiner(refiner: RefinerNet, pairs: int = 1) -> torch.export.ExportedProgram:
    """Export a graph of `Compare` for a number of pairs."""
    return torch.export.export(Compare(refiner).eval(), example_pairs(refiner, pairs))


def example_pairs(refiner: RefinerNet, pairs: int = 1) -> tuple[Tensor, ...]:
    """Make inputs of `Compare` of fixed shapes: grey images, empty renders.

    No tensor is given twice: a graph would hold one input for both.
    """
    size, device = refiner.config.image_size, refiner.mean.device
    grey = torch.full((pairs, 3, size, size), 128, dtype=torch.uint8, device=device)
    mask = torch.zeros(pairs, size, size, dtype=torch.bool, device=device)
    return grey, grey.clone(), torch.zeros(grey.shape, device=device), mask
