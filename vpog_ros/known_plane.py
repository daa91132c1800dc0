"""Makes pose constraints from the parameters, in the camera's frame at an image's time."""

from __future__ import annotations

from std_msgs.msg import Header

from vpog_core.inference.constraint_settings import ConstraintSettings
from vpog_core.types import VPOGError
from vpog_ros import parameters
from vpog_ros.frame_lookup import FrameLookup


class KnownPlane:
    """Holds the plane that objects stand on, from configure to cleanup.

    Args:
        node: has the parameters, and listens to /tf.
        library: the estimator's; the objects that the parameters name must be there.

    Raises:
        VPOGError: parameters that cannot be used together, an unknown object, or tf2_ros is not installed.
    """

    def __init__(self, node, library) -> None:
        self._node = node
        self._said: set[str] = set()
        settings = self._settings()
        if unknown := settings.unknown_objects(library):
            library.resolve(unknown[0])
        self._lookup = FrameLookup(node, settings.plane_frame, "plane_frame", "no pose is estimated in it")

    def destroy(self) -> None:
        """Stop listening to /tf."""
        self._lookup.close()

    def constraints(self, header: Header, library) -> dict:
        """Return the constraints of an image, `PoseConstraint` by object; {} where nothing is known.

        Raises:
            VPOGError: the plane is not known at the image's time, or parameters do not go together.
        """
        settings = self._settings()
        if not settings.is_used:
            return {}
        for name in settings.unknown_objects(library):
            self._warn_unknown(name, library)
        return settings.constraints(library, self._lookup.transform(header))

    def _settings(self) -> ConstraintSettings:
        return ConstraintSettings(**parameters.group(parameters.read(self._node), ConstraintSettings))

    def _warn_unknown(self, name: str, library) -> None:
        """Log once that an object does not exist, or was removed when the objects were read again."""
        if name in self._said:
            return
        self._said.add(name)
        try:
            library.resolve(name)
        except VPOGError as error:
            self._node.get_logger().warning(f"upright_objects or objects_on_plane: {error}")
