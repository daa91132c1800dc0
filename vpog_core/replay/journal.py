"""Store the poses of finished frames in a file, so that a replay that was killed can resume."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from vpog_core.types import PoseEstimate, VPOGError
from vpog_core.utils.atomic_file import atomic_write

FOLDER = ".replay"
"""Name of the journal's folder inside the output folder."""


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
    """Stores the results of the frames that are done, in order, in `FOLDER` of the output folder.

    Attributes:
        results: of the frames done, from the first on.
    """

    def __init__(self, output: Path, plan: dict) -> None:
        """Begin a journal, or resume the existing one.

        Args:
            plan: what the results depend on, ready for JSON; a journal of another plan is refused.

        Raises:
            VPOGError: the folder holds something else, or results of another plan.
        """
        self.folder = output / FOLDER
        self._path = self.folder / "frames.jsonl"
        self.results: list[FrameResult] = []
        if (self.folder / "plan.json").is_file():
            self._check_plan(output, plan)
            self.results = self._read()
        elif output.is_dir() and any(output.iterdir()) and not self.folder.is_dir():
            raise VPOGError(
                f"The output folder '{output}' is not empty and holds no replay to go on with: "
                "choose another --output."
            )
        else:
            atomic_write(self.folder / "plan.json", json.dumps(plan, indent=2))
        self._file = self._path.open("a", encoding="utf-8")

    def add(self, result: FrameResult, flow_png: bytes = b"") -> None:
        """Keep the result of the next frame, and the image of its matches where there is one."""
        if flow_png:
            # Written before the line that marks the frame as done.
            atomic_write(self.flow_path(result.number), flow_png)
        values = _to_json(result)
        self._file.write(json.dumps(values) + "\n")
        self._file.flush()
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

    def _check_plan(self, output: Path, plan: dict) -> None:
        old = json.loads((self.folder / "plan.json").read_text())
        other = sorted(key for key in {*old, *plan} if old.get(key) != plan.get(key))
        if other:
            raise VPOGError(
                f"The output folder '{output}' holds a replay that differs in {', '.join(other)}: choose "
                "another --output, or delete it."
            )

    def _read(self) -> list[FrameResult]:
        """Read the complete lines; an incomplete last one is cut off."""
        if not self._path.is_file():
            return []
        data = self._path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            atomic_write(self._path, whole)
        try:
            return [_from_json(json.loads(line)) for line in whole.splitlines()]
        except (ValueError, KeyError, TypeError) as error:
            raise VPOGError(f"'{self._path}' is broken: delete '{self.folder}' to begin anew.") from error


def start_anew(output: Path) -> None:
    """Delete what a replay wrote into its output folder, and nothing else."""
    if not (output / FOLDER / "plan.json").is_file():
        return
    for name in ("poses", "meshes", FOLDER):
        shutil.rmtree(output / name, ignore_errors=True)
    for name in ("poses.csv", "overlay.mp4", "poses.rrd"):
        (output / name).unlink(missing_ok=True)
    (output / FOLDER).mkdir()


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
