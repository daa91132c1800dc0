"""Write the results of a replay atomically: bag, video and table."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import cv2
import numpy as np

from vpog_core.replay.bag_writer import BagWriter, new_bag
from vpog_core.replay.frame_reader import FrameInputs
from vpog_core.replay.journal import FrameResult, Journal
from vpog_core.replay.mesh_markers import MeshMarkers
from vpog_core.replay.pairing import RecordedFrame
from vpog_core.replay.pose_table import pose_table
from vpog_core.replay.result_messages import header, image, object_pose_array, pose_stamped, transforms
from vpog_core.replay.settings import ReplaySettings
from vpog_core.replay.video import VideoWriter
from vpog_core.types import VPOGError
from vpog_core.utils.atomic_file import atomic_write
from vpog_core.visualization.estimate_drawing import estimate_drawings
from vpog_core.visualization.overlay import draw_poses

NODE = "/vpog_node"
"""Results are on the topics of a node of this name."""

BAG, MESHES, VIDEO, TABLE, RERUN = "poses", "meshes", "overlay.mp4", "poses.csv", "poses.rrd"


def check_places(output: Path) -> None:
    """Check that nothing of another kind is where results go, before any work.

    Raises:
        VPOGError: a file is in the place of a folder, or a folder in the place of a file.
    """
    for name in (BAG, MESHES, VIDEO, TABLE, RERUN):
        place, of_folder = output / name, name in (BAG, MESHES)
        if place.exists() and place.is_dir() != of_folder:
            kinds = ("file", "folder") if of_folder else ("folder", "file")
            raise VPOGError(
                f"'{place}' is a {kinds[0]}, and a {kinds[1]} of results goes there: move it away, or choose "
                "another --output."
            )


class ResultsWriter:
    """Writes the results of frames, in order, below the output folder; `with` puts them in place at its end.

    Args:
        library: the estimator's ObjectLibrary, for meshes.
        fps: images a second of the video.
    """

    def __init__(self, settings: ReplaySettings, journal: Journal, library, fps: float) -> None:
        self._settings, self._journal, self._library = settings, journal, library
        self._folder = journal.folder / "writing"
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        self._bag_context = new_bag(self._folder / BAG, settings.storage)
        self._video = VideoWriter(self._folder / VIDEO, fps)
        self._bag: BagWriter | None = None
        self._markers = MeshMarkers(library, self._folder / MESHES, settings.output / MESHES)
        self._rerun = _rerun_log(self._folder, library, settings)

    def __enter__(self) -> ResultsWriter:
        self._bag = self._bag_context.__enter__()
        return self

    def __exit__(self, kind, error, trace) -> None:
        try:
            self._video.__exit__(kind, error, trace)
            if self._rerun is not None:
                self._rerun.close()
            self._bag_context.__exit__(kind, error, trace)
            if kind is None:
                for name in (BAG, MESHES, VIDEO, RERUN):
                    _replace(self._folder / name, self._settings.output / name)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def write(self, frame: RecordedFrame, inputs: FrameInputs, result: FrameResult) -> None:
        """Write the messages of one frame, and its image to the video."""
        # Draw the poses for video and Rerun.
        head = header(frame.stamp_ns, inputs.frame_id)
        published = result.published(self._settings.min_score)
        overlay = draw_poses(
            inputs.image,
            inputs.camera,
            estimate_drawings(result.estimates, self._library, self._settings.min_score),
        )
        self._video.write(overlay)
        if self._rerun is not None:
            self._rerun.write(frame, inputs, result)
        if result.failure or result.skipped:
            return
        # Make the messages that the node would publish.
        messages = {f"{NODE}/poses": object_pose_array(published, head)}
        messages[f"{NODE}/markers"] = self._markers.of_frame(published, head)
        best = max(published, key=lambda e: e.score, default=None)
        if best is not None:
            messages[f"{NODE}/pose"] = pose_stamped(best, head)
        if published and inputs.frame_id:
            messages["/tf"] = transforms(published, head)
        if self._settings.images:
            messages[f"{NODE}/overlay_image"] = image(overlay, head)
            flow = _read_flow_image(self._journal.flow_path(frame.number))
            if flow is not None:
                messages[f"{NODE}/flow_image"] = image(flow, head)
        for topic, message in messages.items():
            self._bag.write(topic, message, frame.image_time_ns)


def write_table(settings: ReplaySettings, journal: Journal, stamps_ns: list[int]) -> None:
    """Write the table of poses."""
    table = pose_table(journal.results, stamps_ns, settings.min_score)
    atomic_write(settings.output / TABLE, table)


def _read_flow_image(path: Path) -> np.ndarray | None:
    """Read the image [H, W, 3] uint8 RGB of a frame's matches; None where the frame has none."""
    if not path.is_file():
        return None
    flow = cv2.imread(str(path), cv2.IMREAD_COLOR)
    return None if flow is None else np.ascontiguousarray(flow[..., ::-1])


def _rerun_log(folder: Path, library, settings: ReplaySettings):
    """Start a recording for Rerun if the settings enable it."""
    if not settings.rerun:
        return None
    # An optional package, which may be missing.
    from vpog_core.replay.rerun_log import RerunLog

    return RerunLog(folder / RERUN, library, settings.min_score)


def _replace(made: Path, place: Path) -> None:
    """Replace a folder or file by a new one."""
    if not made.exists():
        return
    if place.is_dir():
        shutil.rmtree(place)
    os.replace(made, place)
