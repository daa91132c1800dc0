"""Make markers that show meshes at their poses, as the node publishes them for RViz and Foxglove."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import numpy as np

from vpog_core.objects.mesh import Mesh, save_mesh
from vpog_core.replay.result_messages import header, make, pose
from vpog_core.types import PoseEstimate
from vpog_core.visualization.estimate_drawing import marker_colour

MESH_RESOURCE, ADD, DELETE = 10, 0, 2
"""Constants of visualization_msgs/Marker."""


class MeshMarkers:
    """Makes the markers of successive frames, and deletes those of objects that are gone.

    Args:
        library: the estimator's ObjectLibrary.
        folder: where copies of the meshes in metres are written; final: its path in the markers.
    """

    def __init__(self, library, folder: Path, final: Path) -> None:
        self._library, self._folder, self._final = library, folder, final
        self._shown: set[tuple[str, int]] = set()

    def of_frame(self, estimates: list[PoseEstimate], head):
        """Make the visualization_msgs/MarkerArray of the estimates that are published."""
        shown = {(e.class_id, int(e.instance)) for e in estimates}
        gone = [self._marker(key, head, DELETE) for key in sorted(self._shown - shown)]
        self._shown = shown
        return make(
            "visualization_msgs/msg/MarkerArray", markers=[*gone, *(self._mesh(e, head) for e in estimates)]
        )

    def _mesh(self, estimate: PoseEstimate, head):
        marker = self._marker((estimate.class_id, int(estimate.instance)), head, ADD)
        marker.pose = pose(estimate.T_cam_obj)
        marker.color = make("std_msgs/msg/ColorRGBA", **marker_colour(self._library.ids, estimate))
        marker.mesh_resource = self._uri(estimate.class_id)
        return marker

    def _marker(self, key: tuple[str, int], head, action: int):
        nothing = np.zeros(0, np.uint8)
        compressed = make("sensor_msgs/msg/CompressedImage", header=header(0, ""), format="", data=nothing)
        return make(
            "visualization_msgs/msg/Marker",
            header=head,
            ns=key[0],
            id=key[1],
            type=MESH_RESOURCE,
            action=action,
            pose=pose(np.eye(4)),
            scale=make("geometry_msgs/msg/Vector3", x=1.0, y=1.0, z=1.0),
            color=make("std_msgs/msg/ColorRGBA", r=0.0, g=0.0, b=0.0, a=0.0),
            lifetime=make("builtin_interfaces/msg/Duration", sec=0, nanosec=0),
            frame_locked=False,
            points=[],
            colors=[],
            texture_resource="",
            texture=compressed,
            uv_coordinates=[],
            text="",
            mesh_resource="",
            mesh_file=make("visualization_msgs/msg/MeshFile", filename="", data=nothing),
            mesh_use_embedded_materials=False,
        )

    def _uri(self, class_id: str) -> str:
        """Write the object's mesh once, and return where viewers will find it."""
        name = f"{quote(class_id, safe='')}.ply"
        if not (self._folder / name).exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            mesh = self._library.mesh(class_id)
            save_mesh(Mesh(mesh.vertices, mesh.faces), self._folder / name)
        return (self._final / name).resolve().as_uri()
