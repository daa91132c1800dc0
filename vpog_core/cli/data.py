"""Implement `vpog data`: show training samples, and measure what they cost."""

from __future__ import annotations

import argparse
from pathlib import Path

from vpog_core.cli.flags import add_unit
from vpog_core.cli.numbers import count, positive
from vpog_core.cli.renamed import RefusedOption
from vpog_core.types import VPOGError

_HELP = "Show training samples with their labels, or measure how fast they are made."

_PREVIEW_HELP = """\
Draw a sheet of training samples with their labels, and print how much is visible, how boxes fit and
how coarse the images are, over 400 rendered queries. A row shows a query, its matched patches in
colours, the same colours painted where the labels put them in each template, and the way to the
reference. Red crosses mark patches of the object that are unseen there. Colours that do not cover
the same parts of the object on both sides are an error.

With --network refiner a row shows an image, the render at a wrong pose, the same colours painted on
both where the labels say they belong together, the flow from render to image, and what is visible."""

_BENCH_HELP = """\
Measure samples per second of the loader alone (a query, its templates and labels; of a refiner an image, a
render and labels), and the CPU time of each stage."""

_EXAMPLES = """\
examples:
  vpog data preview --procedural 4 --output preview.png
  vpog data preview --meshes meshes/train --photos photos --hdri hdri --rows 12
  vpog data preview --bop data/ycbv:train_pbr --size 224
  vpog data preview --network refiner --meshes meshes/train --photos photos
  vpog data bench --procedural 8 --size 224 --workers 2

Renders are cached in --cache-dir."""


def add_data(commands) -> None:
    """Add the subcommand and its own two to the parser of `vpog`."""
    data = commands.add_parser("data", help="show training samples, or measure them", description=_HELP)
    parts = data.add_subparsers(dest="part", metavar="COMMAND", required=True)
    preview = _part(parts, "preview", "draw samples with their labels", _PREVIEW_HELP, run_preview)
    preview.add_argument(
        "--rows", type=positive, default=8, metavar="N", help="samples (default: %(default)s)"
    )
    preview.add_argument("--output", default="preview.png", metavar="FILE", help="PNG (default: %(default)s)")
    bench = _part(parts, "bench", "samples per second of the loader", _BENCH_HELP, run_bench)
    bench.add_argument("--workers", type=count, default=0, metavar="N", help="also with N loader processes")
    bench.add_argument("--groups", action=RefusedOption, const="--items", help=argparse.SUPPRESS)
    bench.add_argument(
        "--items",
        type=positive,
        default=24,
        metavar="N",
        help="items of the data set that are measured (default: %(default)s)",
    )


def _part(parts, name: str, summary: str, description: str, run) -> argparse.ArgumentParser:
    parser = parts.add_parser(
        name, help=summary, description=description, epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.set_defaults(run=run)
    parser.add_argument(
        "--network",
        choices=("coarse", "refiner"),
        default="coarse",
        help="whose samples (default: %(default)s)",
    )
    parser.add_argument(
        "--meshes", action="append", default=[], metavar="DIR", help="mesh files; may be repeated"
    )
    add_unit(parser)
    parser.add_argument("--gso", default="", metavar="DIR", help="Google Scanned Objects, as published")
    parser.add_argument(
        "--bop",
        action="append",
        default=[],
        metavar="ROOT:SPLIT",
        help="images in BOP's format; may be repeated",
    )
    parser.add_argument("--procedural", type=count, default=0, metavar="N", help="procedural objects")
    parser.add_argument("--photos", default="", metavar="DIR", help="photographs, for backgrounds")
    parser.add_argument("--hdri", default="", metavar="DIR", help="environment maps (.hdr, .exr), for light")
    parser.add_argument("--cache-dir", default="runs/cache", metavar="DIR", help="(default: %(default)s)")
    parser.add_argument("--bank", action=RefusedOption, const="--cache-dir", help=argparse.SUPPRESS)
    parser.add_argument(
        "--size", type=positive, metavar="PX", help="of crops (default: 112, of a refiner 128)"
    )
    parser.add_argument("--seed", type=count, default=0, help="seed of the samples (default: %(default)s)")
    return parser


def run_preview(arguments: argparse.Namespace) -> int:
    """Run `vpog data preview`."""
    import numpy as np

    from vpog_core.cli.files import write_png
    from vpog_core.training.synthesis.sample_statistics import sample_statistics

    output = Path(arguments.output)
    if not output.parent.is_dir():
        raise VPOGError(f"There is no folder '{output.parent}' for --output: make it first.")
    dataset = _dataset(arguments)
    row = _pair_row if arguments.network == "refiner" else _sample_row
    rows = [row(dataset[index], index) for index in range(arguments.rows)]
    write_png(output, np.vstack(rows))
    print(f"{len(rows)} samples of {len(dataset.objects)} objects: {output}")
    print(*sample_statistics(dataset, seed=arguments.seed), sep="\n")
    return 0


def _sample_row(sample: dict, index: int):
    """Draw a query of a sample with its labels."""
    from vpog_core.training.preview import preview_row

    query = index % len(sample["query_rgb"])
    return preview_row(sample, query, f"{index}.{query}")


def _pair_row(pair: dict, index: int):
    """Draw a pair of the refiner with its labels."""
    import torch

    from vpog_core.training.data.batch import RefinerBatch
    from vpog_core.training.refiner_figures import label_row

    batch = RefinerBatch(**{key: torch.as_tensor(value)[None] for key, value in pair.items()})
    return label_row(batch, 0, f"{index}")


def run_bench(arguments: argparse.Namespace) -> int:
    """Run `vpog data bench`."""
    from vpog_core.training.bench import bench

    print(bench(_dataset(arguments), arguments.items, arguments.workers).text())
    return 0


def _dataset(arguments: argparse.Namespace):
    """Make the training set the options describe, of all objects they name: nothing is validated here."""
    from vpog_core.cli.files import check_output
    from vpog_core.training.data.data_config import SOURCES, DataConfig
    from vpog_core.training.data.datasets import build_datasets
    from vpog_core.training.data.refiner_datasets import build_refiner_datasets
    from vpog_core.training.synthesis.pose_perturbation import PerturbationConfig

    refiner = arguments.network == "refiner"
    if refiner and arguments.bop:
        raise VPOGError("A refiner is trained on meshes that are rendered: leave --bop out.")
    sources = {name: getattr(arguments, name) for name in SOURCES}
    if not any(sources.values()):
        flags = [f"--{name}" for name in SOURCES]
        raise VPOGError(f"No objects are named: give {', '.join(flags[:-1])} or {flags[-1]}.")
    check_output(arguments.cache_dir)
    config = DataConfig(
        **sources, unit=arguments.unit, photos=arguments.photos, hdri=arguments.hdri,
        cache_dir=arguments.cache_dir, image_size=arguments.size or (128 if refiner else 112),
        seed=arguments.seed, held_out_every=0, held_out_procedural=0,
    )  # fmt: skip
    if refiner:
        return build_refiner_datasets(config, config.image_size, PerturbationConfig(), validate=False)[0]
    return build_datasets(config, validate=False)[0]
