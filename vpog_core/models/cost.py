"""Compute the cost of networks: parameters, and floating point operations of each step.

python -m vpog_core.models.cost                            print the tables
python -m vpog_core.models.cost --update docs/network.md   write each between its two marks in the file
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vpog_core.models.config import PRESETS, VPOGConfig
from vpog_core.models.export import example_pairs
from vpog_core.models.refiner import RefinerNet
from vpog_core.models.refiner_config import REFINER_PRESETS, RefinerConfig
from vpog_core.models.vpog_model import VPOGModel
from vpog_core.types import VPOGError

CLUSTER = 4
"""Templates a crop is matched with in cluster mode."""
VIEWS, TEMPLATE_TURNS, CROP_TURNS = 162, 6, 6
"""Views of an object, and the in-plane turns that each of them, and a crop, is described at."""
Result = TypeVar("Result")
MARKS = "<!-- {}: begin -->", "<!-- {}: end -->"
"""Comments that enclose a table in a document; the placeholder is the table's name."""


@dataclass(frozen=True)
class Cost:
    """Holds the cost of one network.

    Attributes:
        parameters: of all; encoder: of the encoder and the stem.
        encode, match, flow, retrieve: floating point operations (a multiply-add is two) of one crop's
            tokens; matching it with 4 templates; the flow of every patch in each; comparing a crop at 6
            turns with 162 views at 6. Matrix products, convolutions and attention are counted,
            elementwise work is not.
        object_bytes: float32 descriptors of one object.
    """

    parameters: int
    encoder: int
    encode: int
    match: int
    flow: int
    retrieve: int
    object_bytes: int


@cache
def network_cost(config: VPOGConfig) -> Cost:
    """Compute the cost of a network from its graph, without weights."""
    with torch.device("meta"):
        model = VPOGModel(config).eval()
        image = torch.zeros(1, 3, config.image_size, config.image_size)
        directions = torch.zeros(1, CLUSTER, 3)
        index = torch.zeros(1, CLUSTER, config.num_patches, dtype=torch.long)
        descriptors = torch.zeros(VIEWS * TEMPLATE_TURNS, config.num_patches * config.retrieval_dim)
    with torch.no_grad():
        encode, crop = _counted(lambda: model.encode(image))
        templates = crop.map(lambda v: v[None].expand(1, CLUSTER, *v.shape[1:]))
        match, matches = _counted(lambda: model.match(crop, templates, directions))
        flow, _ = _counted(lambda: model.flow(matches, index))
        turns = crop.map(lambda v: v.expand(CROP_TURNS, *v.shape[1:]))
        retrieve, _ = _counted(lambda: model.retrieval_head.logits(model.describe(turns), descriptors))
    return Cost(
        parameters=_parameters(model),
        encoder=_parameters(model.encoder) + _parameters(model.stem),
        encode=encode, match=match, flow=flow, retrieve=retrieve,
        object_bytes=descriptors.numel() * descriptors.element_size(),
    )  # fmt: skip


@cache
def refiner_cost(config: RefinerConfig) -> tuple[int, int]:
    """Return the parameters of a refiner, and the operations of comparing one pair, counted as for `Cost`."""
    with torch.device("meta"):
        refiner = RefinerNet(config).eval()
        inputs = example_pairs(refiner)
    with torch.no_grad():
        operations, _ = _counted(lambda: refiner(*inputs))
    return _parameters(refiner), operations


def network_table() -> str:
    """Make a Markdown table of the presets' costs."""
    costs = {name: network_cost(config) for name, config in PRESETS.items()}
    rows = {
        "crop, pixels": [str(c.image_size) for c in PRESETS.values()],
        "encoder: width x layers": [f"{c.embed_dim} x {c.depth}" for c in PRESETS.values()],
        "alternating attention: layers": [f"{c.aa_depth} x 2" for c in PRESETS.values()],
        "parameters, millions": [f"{c.parameters / 1e6:.1f}" for c in costs.values()],
        "of these encoder and stem": [f"{c.encoder / 1e6:.1f}" for c in costs.values()],
        "encode a crop, GFLOP": [_giga(c.encode) for c in costs.values()],
        f"describe it at {CROP_TURNS} turns, compare with {VIEWS} x {TEMPLATE_TURNS}, GFLOP": [
            _giga(c.retrieve) for c in costs.values()
        ],
        f"match it with {CLUSTER} templates, GFLOP": [_giga(c.match) for c in costs.values()],
        f"flow in {CLUSTER} templates, GFLOP": [_giga(c.flow) for c in costs.values()],
        "descriptors of an object, MiB": [f"{c.object_bytes / 2**20:.0f}" for c in costs.values()],
    }
    return _markdown(costs, rows)


def refiner_table() -> str:
    """Make a Markdown table of the refiner presets' costs."""
    configs = REFINER_PRESETS.values()
    costs = [refiner_cost(c) for c in configs]
    rows = {
        "image and render, pixels": [str(c.image_size) for c in configs],
        "cells of the output": [f"{c.grid} x {c.grid}" for c in configs],
        "features at stride 4 and 8": [f"{c.fine_dim}, {c.coarse_dim}" for c in configs],
        "joint attention: layers": [str(c.attention_layers) for c in configs],
        "parameters, millions": [f"{parameters / 1e6:.2f}" for parameters, _ in costs],
        "one comparison, GFLOP": [_giga(operations) for _, operations in costs],
    }
    return _markdown(REFINER_PRESETS, rows)


TABLES = {"cost": network_table, "refiner cost": refiner_table}
"""The tables of a document by name."""


def updated(text: str) -> str:
    """Return a document's text with today's tables, each between its two marks.

    Raises:
        VPOGError: the marks are not there.
    """
    for name, table in TABLES.items():
        begin, end = (mark.format(name) for mark in MARKS)
        before, has_begin, rest = text.partition(begin)
        _, has_end, after = rest.partition(end)
        if not (has_begin and has_end):
            raise VPOGError(f"The document has no place for a table: put '{begin}' and '{end}' into it.")
        text = f"{before}{begin}\n{table()}\n{end}{after}"
    return text


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Parameters and floating point operations of the presets.")
    parser.add_argument("--update", type=Path, metavar="FILE", help="write the tables into this document")
    args = parser.parse_args(argv)
    if args.update:
        args.update.write_text(updated(args.update.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print("\n\n".join(table() for table in TABLES.values()))


def _markdown(names: Iterable[str], rows: dict[str, list[str]]) -> str:
    """Make a table with a column for each name."""
    names = list(names)
    lines = ["| | " + " | ".join(names) + " |", "| --- |" + " ---: |" * len(names)]
    return "\n".join(lines + [f"| {name} | " + " | ".join(cells) + " |" for name, cells in rows.items()])


def _parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _counted(run: Callable[[], Result]) -> tuple[int, Result]:
    """Count the operations of a call, and return them with its result."""
    with FlopCounterMode(display=False) as counter:
        result = run()
    return counter.get_total_flops(), result


def _giga(operations: int) -> str:
    return f"{operations / 1e9:.3g}"


if __name__ == "__main__":
    main()
