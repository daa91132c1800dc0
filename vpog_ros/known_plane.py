"""Make pose constraints from the parameters, in the camera's frame at an image's time."""

from __future__ import annotations

from std_msgs.msg import Header

from vpog_core.inference.constraint_settings import ConstraintSettings
from vpog_ros import parameters
from vpog_ros.frame_lookup import FrameLookup, Transforms
from vpog_ros.notices import Notices
from vpog_ros.parameters import Settings


class KnownPlane:
    """Finds the plane that objects stand on.

    Args:
        transforms: those of /tf.
        settings: the parameters; the objects that they name must be there.
        library: the estimator's.
        notices: warn of objects that are not there any more.

    Raises:
        VPOGError: parameters that cannot be used together, an unknown object, or tf2_ros is not installed.
    """

    def __init__(self, transforms: Transforms, settings: Settings, library, notices: Notices) -> None:
        known = _constraint_settings(settings)
        known.check_objects(library)
        self._notices = notices
        self._lookup = FrameLookup(transforms, known.plane_frame, "plane_frame", "no pose is estimated in it")

    def trouble(self, header: Header, settings: Settings) -> str:
        """Return why the plane is not known yet at the time of an image, or ""."""
        return self._lookup.trouble(header) if _constraint_settings(settings).is_used else ""

    def constraints(self, header: Header, library, settings: Settings) -> dict:
        """Return the constraints of an image, `PoseConstraint` by object; {} where nothing is known.

        Raises:
            VPOGError: the plane is not known at the image's time, or parameters do not go together.
        """
        known = _constraint_settings(settings)
        self._notices.warn_while("unknown object", _unknown(known.unknown_objects(library)))
        if not known.is_used:
            return {}
        return known.constraints(library, self._lookup.transform(header, settings.transform_timeout))


def _unknown(names: list[str]) -> str:
    """Return the sentence on names that no object has, as after a change of the parameters, or ""."""
    if not names:
        return ""
    return (
        f"upright_objects or objects_on_plane has {', '.join(names)}, and there is no such object: correct "
        "the parameter, or add the mesh and call ~/reload_objects."
    )


def _constraint_settings(settings: Settings) -> ConstraintSettings:
    return ConstraintSettings(**parameters.group(settings, ConstraintSettings))
