"""Implement `vpog export`: write the networks as files for other programs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vpog_core.cli.flags import add_flags
from vpog_core.cli.numbers import positive
from vpog_core.inference.options import LoadSettings
from vpog_core.types import VPOGError

HELP = """\
Write the networks as ONNX files of fixed shapes into a folder: encode, retrieve, match, flow and refiner,
with manifest.json, which lists inputs, outputs, preprocessing and the weights they were made of. Each file
is run in onnxruntime and compared with torch. Needs the packages onnx, onnxruntime and
onnxscript."""

EXAMPLE = """\
example:
  vpog export --onnx networks
Exit status: 0 written and checked, 2 unusable input."""


def add_command(add) -> None:
    """Register the subcommand; `add(name, summary, description, epilog, run)` gives its parser."""
    parser = add("export", "write the networks for other programs", HELP, EXAMPLE, run_export)
    parser.add_argument("--onnx", required=True, metavar="DIR", help="folder for the ONNX files")
    parser.add_argument(
        "--crops", type=positive, default=1, metavar="N", help="crops in one call (default: 1)"
    )
    parser.add_argument(
        "--templates",
        type=positive,
        default=4,
        metavar="N",
        help="templates of each crop (default: 4, a cluster)",
    )
    add_flags(parser, LoadSettings, "weights", "refiner_weights")


def run_export(arguments: argparse.Namespace) -> int:
    """Run `vpog export`.

    Raises:
        VPOGError: weights that cannot be read, a package that is missing, a folder that cannot be written.
    """
    from vpog_core import __version__
    from vpog_core.cli import files
    from vpog_core.inference.networks import DEFAULT_REFINER, DEFAULT_WEIGHTS
    from vpog_core.models.checkpoint import load_refiner, load_weights, weights_key
    from vpog_core.models.onnx_export import export_onnx

    # Load the networks.
    weights = Path(arguments.weights or DEFAULT_WEIGHTS)
    refiner_weights = Path(arguments.refiner_weights or DEFAULT_REFINER)
    model, refiner = load_weights(weights), load_refiner(refiner_weights)
    made_of = {"vpog": __version__, "network": weights_key(weights), "refiner": weights_key(refiner_weights)}
    # Write them as ONNX, and compare each with torch.
    folder = files.output_folder(arguments.onnx)
    try:
        manifest = export_onnx(
            model,
            refiner,
            folder,
            made_of,
            arguments.crops,
            arguments.templates,
            lambda name: print(f"vpog: writing {name}", file=sys.stderr, flush=True),
        )
    except OSError as error:
        raise VPOGError(f"'{folder}' cannot be written ({error.strerror}): choose another --onnx.") from error
    # Print the differences.
    for network in manifest["networks"].values():
        largest = max(output["largest_difference"] for output in network["outputs"])
        print(f"{network['file']}: differs from torch by {largest:.1e} of the largest value, or less")
    print(f"manifest: {folder / 'manifest.json'}")
    return 0
