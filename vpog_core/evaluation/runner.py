"""Run all frames of an evaluation in several processes; each frame is stored, so that a run can resume."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from vpog_core.evaluation.benchmark import Benchmark, FrameKey
from vpog_core.evaluation.frame_run import EvaluationConfig, FrameRunner
from vpog_core.types import VPOGError
from vpog_core.utils.atomic_file import atomic_write
from vpog_core.utils.fingerprint import SHORT, digest
from vpog_core.utils.worker_pool import WorkerPool

FORMAT = 3
"""Format of stored frames; increase it when their content, or how errors are computed, changes."""
CODE_FOLDERS = ("bop", "evaluation", "geometry", "inference", "io", "models", "objects", "synthetic")
"""Folders whose code determines a frame's record; a change there invalidates stored frames."""

Progress = Callable[[str, int, int], None]
"""(what, done, total)."""


def run(
    config: EvaluationConfig,
    benchmark: Benchmark,
    folder: Path,
    workers: int = 1,
    progress: Progress | None = None,
    cluster: str | None = None,
) -> list[dict]:
    """Run all frames and return their records in the benchmark's order; those in `folder` are reused.

    Args:
        benchmark: the config's.
        folder: where frames are kept, in a folder named by everything they depend on.
        workers: processes, each with one torch thread; 1 runs here.
        progress: called after each object onboarded and each frame.
        cluster: address of a Dask scheduler whose workers are used; `folder` and what the config names must
            be there under the same paths.
    """
    store = FrameStore(folder, run_key(config, benchmark))
    missing = [key for key in benchmark.keys if key not in store]
    done = len(benchmark.keys) - len(missing)
    shared = None if cluster is None else folder.resolve()
    with tempfile.TemporaryDirectory(prefix="vpog_objects_", dir=shared) as library:
        if missing:
            benchmark.write_library(Path(library))
            arguments = config.with_absolute_paths(), Path(library)
            with WorkerPool(FrameRunner, arguments, min(workers, len(missing)), cluster) as pool:
                for count, _ in enumerate(pool.map(_onboard, benchmark.object_ids), start=1):
                    _report(progress, "objects", count, len(benchmark.object_ids))
                _report(progress, "frames", done, len(benchmark.keys))
                for key, record in pool.map(_run, missing):
                    store.write(key, record)
                    done += 1
                    _report(progress, "frames", done, len(benchmark.keys))
    return [store.read(key) for key in benchmark.keys]


def run_key(config: EvaluationConfig, benchmark: Benchmark) -> str:
    """Compute a key of all that a frame's record depends on: code, weights, options, dataset, detections."""
    not_options = (
        "dataset", "weights", "refiner_weights", "detections",
        "limit", "objects", "crops", "levels", "splits",
    )  # fmt: skip
    options = {k: v for k, v in asdict(config).items() if k not in not_options}
    parts = [str(FORMAT), benchmark.fingerprint, json.dumps(options, sort_keys=True)]
    parts += [*map(_digest, config.weights_files), code_digest()]
    parts.append(config.detections if config.detections == "gt" else _digest(Path(config.detections)))
    return digest(["\n".join(parts)])[:SHORT]


class FrameStore:
    """Stores one JSON file for each frame; each is written atomically."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder / key
        self.folder.mkdir(parents=True, exist_ok=True)

    def __contains__(self, key: FrameKey) -> bool:
        try:
            return self.read(key)["key"] == list(key)
        except (OSError, ValueError, KeyError):
            return False

    def read(self, key: FrameKey) -> dict:
        """Read a frame's record."""
        return json.loads(self._path(key).read_text(encoding="utf-8"))

    def write(self, key: FrameKey, record: dict) -> None:
        """Keep a frame's record."""
        atomic_write(self._path(key), json.dumps(record))

    def _path(self, key: FrameKey) -> Path:
        return self.folder / f"{key[0]:06d}_{key[1]:06d}.json"


def _onboard(runner: FrameRunner, obj_id: int) -> int:
    runner.onboard(obj_id)
    return obj_id


def _run(runner: FrameRunner, key: FrameKey) -> tuple[FrameKey, dict]:
    return key, runner.run(key)


def code_digest() -> str:
    """Compute a digest of the code that poses and their errors depend on."""
    root = Path(__file__).parent.parent
    return digest(sorted(path for room in CODE_FOLDERS for path in (root / room).rglob("*.py")))


def _digest(path: Path) -> str:
    try:
        return digest([path])
    except OSError as error:
        raise VPOGError(f"There is no file '{path}' ({error.strerror}): check the path.") from error


def _report(progress: Progress | None, what: str, done: int, total: int) -> None:
    if progress is not None:
        progress(what, done, total)
