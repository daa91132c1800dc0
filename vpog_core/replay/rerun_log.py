"""Write a recording for the Rerun viewer: image, boxes, meshes at their poses, scores over time."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from vpog_core.replay.frame_reader import FrameInputs
from vpog_core.replay.journal import FrameResult
from vpog_core.replay.pairing import RecordedFrame
from vpog_core.types import Camera, PoseEstimate, VPOGError
from vpog_core.visualization.estimate_drawing import object_colour

CAMERA = "camera"
JPEG_QUALITY = 90


def check_rerun() -> None:
    """Refuse to begin where Rerun is not installed.

    Raises:
        VPOGError: it is not.
    """
    if importlib.util.find_spec("rerun") is None:
        raise VPOGError("--rerun needs the package rerun-sdk: `pip install rerun-sdk`, or leave it out.")


class RerunLog:
    """Writes a recording for Rerun to a file, frame by frame."""

    def __init__(self, path: Path, library, min_score: float) -> None:
        """Begin a recording.

        Args:
            library: the estimator's ObjectLibrary, for meshes.
            min_score: poses under it are not shown; their scores are.
        """
        import rerun

        self._rerun = rerun
        self._library, self._min_score = library, min_score
        self._stream = rerun.RecordingStream("vpog_replay")
        self._stream.save(str(path))
        self._camera: Camera | None = None
        self._shown: set[str] = set()

    def write(self, frame: RecordedFrame, inputs: FrameInputs, result: FrameResult) -> None:
        """Log one frame at the time of its image."""
        rr, stream = self._rerun, self._stream
        stream.set_time("frame", sequence=frame.number)
        stream.set_time("image", timestamp=frame.time_s)
        self._log_camera(inputs.camera)
        stream.log(f"{CAMERA}/image", rr.Image(inputs.image).compress(jpeg_quality=JPEG_QUALITY))
        boxes = rr.Boxes2D(
            array=np.array([d.box for d in inputs.detections]).reshape(-1, 4),
            array_format=rr.Box2DFormat.XYXY,
            labels=[f"{d.class_id} {d.instance}" for d in inputs.detections],
        )
        stream.log(f"{CAMERA}/image/detections", boxes)
        for estimate in result.estimates:
            stream.log(f"scores/{self._part(estimate)}", rr.Scalars(estimate.score))
        self._log_poses(result)

    def close(self) -> None:
        """Close the recording; its file is complete then."""
        self._stream.flush()
        self._stream.disconnect()

    def _log_camera(self, camera: Camera) -> None:
        if self._camera is not None and np.array_equal(camera.K, self._camera.K):
            return
        self._camera = camera
        pinhole = self._rerun.Pinhole(
            image_from_camera=camera.K,
            width=camera.width,
            height=camera.height,
            camera_xyz=self._rerun.ViewCoordinates.RDF,
        )
        self._stream.log(f"{CAMERA}/image", pinhole)

    def _log_poses(self, result: FrameResult) -> None:
        """Log the meshes at their poses, and take away those that have none in this frame."""
        rr, stream, shown = self._rerun, self._stream, set()
        for estimate in result.published(self._min_score):
            entity = f"{CAMERA}/objects/{self._part(estimate)}"
            shown.add(entity)
            if entity not in self._shown:
                stream.log(entity, self._mesh(estimate.class_id))
            T = estimate.T_cam_obj
            stream.log(entity, rr.Transform3D(translation=T[:3, 3], mat3x3=T[:3, :3]))
        for entity in self._shown - shown:
            stream.log(entity, rr.Clear(recursive=True))
        self._shown = shown

    def _part(self, estimate: PoseEstimate) -> str:
        """Return the part of an entity's path that names an object; no two objects have the same."""
        return self._rerun.escape_entity_path_part(f"{estimate.class_id}_{estimate.instance}")

    def _mesh(self, class_id: str):
        mesh = self._library.mesh(class_id)
        colour = object_colour(self._library.ids, class_id)
        if mesh.uv is not None and mesh.texture is not None:
            corners = mesh.faces.reshape(-1)
            return self._rerun.Mesh3D(
                vertex_positions=mesh.vertices[corners].astype(np.float32),
                triangle_indices=np.arange(len(corners), dtype=np.uint32).reshape(-1, 3),
                vertex_texcoords=np.array([0, 1], np.float32) + [1, -1] * mesh.uv.reshape(-1, 2),
                albedo_texture=mesh.texture,
            )
        colours = mesh.vertex_colors
        if colours is None:
            colours = np.tile(np.array(colour, np.uint8), (len(mesh.vertices), 1))
        return self._rerun.Mesh3D(
            vertex_positions=mesh.vertices.astype(np.float32),
            triangle_indices=mesh.faces.astype(np.uint32),
            vertex_colors=colours,
        )
