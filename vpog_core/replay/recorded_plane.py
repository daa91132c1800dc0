"""Make pose constraints from the settings of a replay, in the camera's frame at an image's time."""

from __future__ import annotations

import numpy as np

from vpog_core.inference.constraint_settings import ConstraintSettings
from vpog_core.inference.constraints import PoseConstraint
from vpog_core.replay.bag_reader import Bag
from vpog_core.replay.transforms import RecordedTransforms
from vpog_core.types import VPOGError


class RecordedPlane:
    """Holds the plane that objects stand on, where it is known from settings and the bag's transforms.

    Args:
        library: the estimator's ObjectLibrary.

    Raises:
        VPOGError: an unknown object, a plane_frame that the bag has not, or the bag is broken inside.
    """

    def __init__(self, settings: ConstraintSettings, library, bag: Bag) -> None:
        settings.check_objects(library)
        self._settings, self._library = settings, library
        self._frame = settings.plane_frame if settings.is_used else ""
        self._transforms = RecordedTransforms(bag) if self._frame else None
        if self._transforms is not None and not self._transforms.has(self._frame):
            known = ", ".join(sorted(self._transforms.frames)) or "none"
            raise VPOGError(
                f"plane_frame is '{self._frame}', and the bag '{bag.path}' has no transforms of it (frames: "
                f"{known}): record /tf and /tf_static, or give plane_normal in the camera's frame alone."
                + "".join(f" {sentence}" for sentence in self.left_out)
            )

    @property
    def left_out(self) -> list[str]:
        """The sentences on transforms that cannot be read and are left out."""
        return [] if self._transforms is None else self._transforms.unreadable.sentences

    def constraints(self, frame_id: str, time_ns: int) -> dict[str, PoseConstraint]:
        """Return the constraints of an image, by the objects' names.

        Raises:
            VPOGError: the plane is not known at the image's time.
        """
        if not self._settings.is_used:
            return {}
        return self._settings.constraints(self._library, self._T_plane_cam(frame_id, time_ns))

    def _T_plane_cam(self, frame_id: str, time_ns: int) -> np.ndarray:
        if self._transforms is None or self._frame == frame_id:
            return np.eye(4)
        try:
            return self._transforms.lookup(self._frame, frame_id, time_ns)
        except VPOGError as error:
            raise VPOGError(
                f"No transform from '{frame_id}' to '{self._frame}' (plane_frame) at the image's time, so no "
                f"pose is estimated in it: {error}."
            ) from error
