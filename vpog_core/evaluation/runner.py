"""All frames of a plan, over several processes, each frame kept on disk so that a killed run goes on."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from vpog_core.crew import Crew
from vpog_core.evaluation.benchmark import Benchmark, FrameKey
from vpog_core.evaluation.frame_run import FrameRunner, Plan
from vpog_core.inference.networks import DEFAULT_REFINER, DEFAULT_WEIGHTS
from vpog_core.types import VPOGError
from vpog_core.whole_file import write_whole

FORMAT = 2
"""Of the frames kept; raise it when what they hold, or how errors are computed, changes."""
COMPUTING = ("bop", "geometry", "inference", "models", "objects", "synthetic")
"""Rooms whose code decides what a frame comes to; a change there starts anew."""

Progress = Callable[[str, int, int], None]
"""(what, done, total)."""


def run(
    plan: Plan,
    benchmark: Benchmark,
    folder: Path,
    workers: int = 1,
    progress: Progress | None = None,
    cluster: str | None = None,
) -> list[dict]:
    """The records of all frames, in the benchmark's order; those in `folder` from before are kept.

    Args:
        benchmark: the plan's.
        folder: where frames are kept, in a folder named by everything they depend on.
        workers: processes, each with one torch thread; 1 runs here.
        progress: told after each object onboarded and each frame.
        cluster: address of a Dask scheduler whose workers are used; `folder` and what the plan names must be
            there under the same paths.
    """
    store = FrameStore(folder, run_key(plan, benchmark))
    missing = [key for key in benchmark.keys if key not in store]
    done = len(benchmark.keys) - len(missing)
    shared = None if cluster is None else folder.resolve()
    with tempfile.TemporaryDirectory(prefix="vpog_objects_", dir=shared) as library:
        if missing:
            benchmark.write_library(Path(library))
            arguments = plan.with_absolute_paths(), Path(library)
            with Crew(FrameRunner, arguments, min(workers, len(missing)), cluster) as crew:
                for count, _ in enumerate(crew.map(_onboard, benchmark.object_ids), start=1):
                    _tell(progress, "objects", count, len(benchmark.object_ids))
                _tell(progress, "frames", done, len(benchmark.keys))
                for key, record in crew.map(_run, missing):
                    store.write(key, record)
                    done += 1
                    _tell(progress, "frames", done, len(benchmark.keys))
    return [store.read(key) for key in benchmark.keys]


def run_key(plan: Plan, benchmark: Benchmark) -> str:
    """Names everything a frame's record depends on: code, weights, options, dataset, detections."""
    not_options = ("dataset", "weights", "detections", "limit", "objects", "crops", "levels", "splits")
    options = {k: v for k, v in asdict(plan).items() if k not in not_options}
    weights = Path(plan.weights) if plan.weights else DEFAULT_WEIGHTS
    parts = [str(FORMAT), benchmark.fingerprint, json.dumps(options, sort_keys=True), _digest(weights)]
    parts += [_digest(DEFAULT_REFINER), _code_digest()]
    parts.append(plan.detections if plan.detections == "gt" else _digest(Path(plan.detections)))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


class FrameStore:
    """One JSON file for each frame; a file is there whole or not at all."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder / key
        self.folder.mkdir(parents=True, exist_ok=True)

    def __contains__(self, key: FrameKey) -> bool:
        try:
            return self.read(key)["key"] == list(key)
        except (OSError, ValueError, KeyError):
            return False

    def read(self, key: FrameKey) -> dict:
        """A frame's record."""
        return json.loads(self._path(key).read_text(encoding="utf-8"))

    def write(self, key: FrameKey, record: dict) -> None:
        """Keep a frame's record."""
        write_whole(self._path(key), json.dumps(record))

    def _path(self, key: FrameKey) -> Path:
        return self.folder / f"{key[0]:06d}_{key[1]:06d}.json"


def _onboard(runner: FrameRunner, obj_id: int) -> int:
    runner.onboard(obj_id)
    return obj_id


def _run(runner: FrameRunner, key: FrameKey) -> tuple[FrameKey, dict]:
    return key, runner.run(key)


def _code_digest() -> str:
    root = Path(__file__).parent.parent
    digest = hashlib.sha256()
    for path in sorted(path for room in COMPUTING for path in (root / room).rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise VPOGError(f"There is no file '{path}' ({error.strerror}): check the path.") from error


def _tell(progress: Progress | None, what: str, done: int, total: int) -> None:
    if progress is not None:
        progress(what, done, total)
