"""Implement `vpog demo`: estimate poses in a synthetic scene and compare them with the true ones."""

from __future__ import annotations

import argparse

from vpog_core.cli.estimators import add_model, estimator_arguments
from vpog_core.cli.numbers import count, positive
from vpog_core.inference.options import MORE_POSES

HELP = """\
Estimate poses of objects unseen in training, which move through a cluttered scene, and
compare them with the true ones. Prints a line for each object and one over all; draws
overlays and matches into --output."""

EXAMPLE = """\
example:
  vpog demo --frames 20 --output demo_output"""


def add_command(add) -> None:
    """Register the subcommand; `add(name, summary, description, epilog, run)` gives its parser."""
    parser = add(
        "demo",
        "estimate poses in a made-up scene and compare with the truth",
        HELP,
        EXAMPLE,
        run_demo,
    )
    parser.add_argument("--frames", type=positive, default=20, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--objects", type=positive, default=3, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--seed", type=count, default=0, help="another scene (default: %(default)s)")
    add_model(parser, without=MORE_POSES)
    parser.add_argument(
        "--output", default="demo_output", metavar="DIR", help="where the images go (default: %(default)s)"
    )


def run_demo(arguments: argparse.Namespace) -> int:
    """Run `vpog demo`."""
    from vpog_core.cli.demo_run import demo

    return demo(
        frames=arguments.frames,
        objects=arguments.objects,
        seed=arguments.seed,
        output=arguments.output,
        **estimator_arguments(arguments),
    )
