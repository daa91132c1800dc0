"""Provide the option --cluster, and run the work of whole commands on a cluster."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from vpog_core.cli.exit_status import exit_status
from vpog_core.cli.flags import values_of
from vpog_core.inference.options import LoadSettings
from vpog_core.types import VPOGError


def add_cluster(parser: argparse.ArgumentParser) -> None:
    """Add the option to a parser."""
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="of a Dask scheduler whose workers do the work, such as tcp://10.0.0.1:8786 (docs/cluster.md)",
    )


def absolute_paths(arguments: argparse.Namespace, *names: str) -> dict:
    """Return the options of a command with absolute paths, for processes that work in another folder."""
    given = vars(arguments)
    return {**given, **{name: str(Path(given[name]).resolve()) for name in names if given[name]}}


def run_each(
    run: Callable[[argparse.Namespace], int], jobs: Mapping[str, argparse.Namespace], cluster: str | None
) -> int:
    """Run a command for each of several jobs, here or on a cluster, and print how each ends.

    A job that fails with a VPOGError, or for a file, costs no other one.

    Args:
        run: a function of a module; jobs: options, by the name that people know the job by.
        cluster: address of a scheduler; None: one after the other, here.

    Returns:
        the largest of the exit statuses.
    """
    from vpog_core.utils.worker_pool import WorkerPool

    # Functions that the parser stores in the options cannot be sent to workers.
    items = [
        (name, argparse.Namespace(**{k: v for k, v in vars(job).items() if not callable(v)}))
        for name, job in jobs.items()
    ]
    worst = 0
    with WorkerPool(_nothing, (), 1, cluster) as pool:
        for name, status, sentence in pool.map(partial(_ended, run), items):
            worst = max(worst, status)
            print(f"{name}: {sentence or ('done' if status == 0 else f'exit status {status}')}", flush=True)
    if worst:
        print("vpog: not all of them ended with status 0.", file=sys.stderr)
    return worst


def onboard_on_cluster(arguments: argparse.Namespace, object_ids: list[str]) -> None:
    """Onboard the objects of a folder into the cache, on the workers of a cluster.

    Raises:
        VPOGError: one mesh is given in place of a folder, or the cluster cannot be used.
    """
    if not Path(arguments.mesh).is_dir():
        raise VPOGError("--cluster is for a folder of meshes: leave it out.")
    paths = absolute_paths(arguments, "mesh", "weights", "refiner_weights", "cache_dir")
    jobs = {name: argparse.Namespace(**paths, object_id=name) for name in object_ids}
    run_each(_onboard_one, jobs, arguments.cluster)


def _onboard_one(arguments: argparse.Namespace) -> int:
    """Onboard one object of a folder into the cache."""
    from vpog_core.inference.estimator import PoseEstimator

    estimator = PoseEstimator(arguments.mesh, unit=arguments.unit, **values_of(arguments, LoadSettings))
    estimator.onboard(arguments.object_id)
    return 0


def _nothing() -> None:
    """Make no tool: each job makes what it works with."""


def _ended(
    run: Callable[[argparse.Namespace], int], _: None, item: tuple[str, argparse.Namespace]
) -> tuple[str, int, str]:
    """Run a job; returns its name, its status, and why it failed."""
    name, arguments = item
    return name, *exit_status(run, arguments)
