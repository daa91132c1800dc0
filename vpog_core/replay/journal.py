"""Store the poses of finished frames in a file, so that a replay that was killed can resume."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from vpog_core.types import PoseEstimate, VPOGError
from vpog_core.utils.atomic_file import atomic_write
from vpog_core.utils.held_file import held_if_free

FOLDER = ".replay"
"""Name of the journal's folder inside the output folder."""
PLAN, LOCK = "plan.json", "lock"


@dataclass(frozen=True)
class FrameResult:
    """Holds the result of one frame.

    Attributes:
        estimates: of all its detections, also those without a pose, and of the objects that were followed.
        failure: why the whole frame could not be used, or "".
        refused: a sentence for each detection that could not be used.
        seconds: that the estimate took.
        skipped: an image without detections, while no object was tracked: nothing was estimated.
    """

    number: int
    estimates: list[PoseEstimate] = field(default_factory=list)
    failure: str = ""
    refused: list[str] = field(default_factory=list)
    seconds: float = 0.0
    skipped: bool = False

    def published(self, min_score: float) -> list[PoseEstimate]:
        """Choose the estimates that are published: those with a pose of at least this score."""
        return [e for e in self.estimates if e.T_cam_obj is not None and e.score >= min_score]


class Journal:
    """Stores the results of the frames that are done, in order; made by `open_journal`.

    Attributes:
        folder: `FOLDER` of the output folder.
        results: of the frames done, from the first on.
    """

    def __init__(self, folder: Path, plan: dict) -> None:
        """Begin a journal, or resume the existing one; a journal without a frame is begun anew.

        Raises:
            VPOGError: the folder holds results of another plan, or is broken.
        """
        self.folder = folder
        self._path = folder / "frames.jsonl"
        self.results: list[FrameResult] = []
        if lines := self._whole_lines():
            self._check_plan(plan)
            self.results = self._read(lines)
        else:
            atomic_write(folder / PLAN, json.dumps(plan, indent=2))
        self._file = self._path.open("a", encoding="utf-8")

    def add(self, result: FrameResult, flow_png: bytes = b"") -> None:
        """Keep the result of the next frame, and the image of its matches where there is one."""
        if flow_png:
            # Written before the line that marks the frame as done.
            atomic_write(self.flow_path(result.number), flow_png)
        else:
            # A replay that was stopped may have left one.
            self.flow_path(result.number).unlink(missing_ok=True)
        values = _to_json(result)
        self._file.write(json.dumps(values) + "\n")
        self._file.flush()
        # A power cut then costs no frame that is done.
        os.fsync(self._file.fileno())
        # Do not return the result itself: its estimates keep all matches in memory.
        self.results.append(_from_json(values))

    def go_back_to(self, number: int) -> None:
        """Drop the results from this frame on."""
        self._file.close()
        del self.results[number:]
        lines = self._path.read_bytes().splitlines(keepends=True)
        atomic_write(self._path, b"".join(lines[:number]))
        self._file = self._path.open("a", encoding="utf-8")

    def flow_path(self, number: int) -> Path:
        """Return where the image of a frame's matches is kept."""
        return self.folder / f"flow_{number:06d}.png"

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _check_plan(self, plan: dict) -> None:
        path = self.folder / PLAN
        try:
            old = dict(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError, FileNotFoundError) as error:
            raise _broken(path) from error
        other = sorted(key for key in {*old, *plan} if old.get(key) != plan.get(key))
        if other:
            raise VPOGError(
                f"The output folder '{self.folder.parent}' holds a replay that differs in "
                f"{', '.join(other)}: choose another --output, or delete it."
            )

    def _whole_lines(self) -> list[bytes]:
        """Read the complete lines; an incomplete last one is cut off."""
        if not self._path.is_file():
            return []
        data = self._path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            atomic_write(self._path, whole)
        return whole.splitlines()

    def _read(self, lines: list[bytes]) -> list[FrameResult]:
        """Read the results of the frames 0, 1, 2, ..."""
        try:
            results = [_from_json(json.loads(line)) for line in lines]
        except (ValueError, KeyError, TypeError) as error:
            raise _broken(self._path) from error
        if [result.number for result in results] != list(range(len(results))):
            raise _broken(self._path)
        return results


@contextmanager
def open_journal(output: Path, plan: dict, restart: bool = False) -> Iterator[Journal]:
    """Begin the journal of an output folder, or resume the existing one; no other replay writes there.

    Args:
        plan: what the results depend on, ready for JSON; a journal of another plan is refused.
        restart: first delete what a replay has written there.

    Raises:
        VPOGError: the folder holds something else or results of another plan, another replay writes there,
            or the journal is broken.
        OSError: the folder cannot be written.
    """
    folder = output / FOLDER
    if output.is_dir() and any(output.iterdir()) and not folder.is_dir():
        raise VPOGError(
            f"The output folder '{output}' is not empty and holds no replay to go on with: "
            "choose another --output."
        )
    folder.mkdir(parents=True, exist_ok=True)
    with held_if_free(folder / LOCK) as is_ours:
        if not is_ours:
            raise VPOGError(
                f"Another replay writes into '{output}': wait for it, or choose another --output."
            )
        if restart:
            _start_anew(output)
        journal = Journal(folder, plan)
        try:
            yield journal
        finally:
            journal.close()


def _start_anew(output: Path) -> None:
    """Delete what a replay wrote into its output folder, and nothing else."""
    folder = output / FOLDER
    for path in (output / "poses", output / "meshes", folder / "writing"):
        shutil.rmtree(path, ignore_errors=True)
    files = [output / name for name in ("poses.csv", "overlay.mp4", "poses.rrd")]
    for path in (*files, *(path for path in folder.iterdir() if path.name != LOCK)):
        path.unlink(missing_ok=True)


def _broken(path: Path) -> VPOGError:
    """Make the error for a file of a journal that cannot be read."""
    return VPOGError(f"'{path}' is broken: start again from the first frame with --restart.")


_FIELDS = (
    "class_id", "instance", "score", "inliers", "reprojection_error", "reason", "tracked", "detected",
    "detection_age",
)  # fmt: skip


def _to_json(result: FrameResult) -> dict:
    fields = asdict(replace(result, estimates=[]))
    return fields | {"estimates": [_estimate_to_json(e) for e in result.estimates]}


def _estimate_to_json(estimate: PoseEstimate) -> dict:
    values = {name: _plain(getattr(estimate, name)) for name in _FIELDS}
    for name in ("T_cam_obj", "covariance"):
        array = getattr(estimate, name)
        values[name] = None if array is None else np.asarray(array, np.float64).tolist()
    return values


def _plain(value):
    return value.item() if isinstance(value, np.generic) else value


def _from_json(values: dict) -> FrameResult:
    return FrameResult(**values | {"estimates": [_estimate_from_json(e) for e in values["estimates"]]})


def _estimate_from_json(values: dict) -> PoseEstimate:
    arrays = {
        name: None if values[name] is None else np.array(values[name], np.float64)
        for name in ("T_cam_obj", "covariance")
    }
    return PoseEstimate(**{name: values[name] for name in _FIELDS}, **arrays)
