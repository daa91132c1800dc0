"""The option --cluster, and the work of whole commands that goes to a cluster."""

from __future__ import annotations

import argparse


def add_cluster(parser: argparse.ArgumentParser) -> None:
    """Add the option to a parser."""
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="of a Dask scheduler whose workers do the work, such as tcp://10.0.0.1:8786 (docs/cluster.md)",
    )
