"""Add flags of `vpog estimate` for what is known of the object's pose with respect to a plane."""

from __future__ import annotations

import argparse

import numpy as np

from vpog_core.cli.flags import add_flag, given_flags, values_of
from vpog_core.inference.constraint_settings import ConstraintSettings
from vpog_core.setting import settings_of
from vpog_core.types import VPOGError

GROUP = "where the object stands upright or lies on a plane, which is given in the camera's frame"


def add_known_pose(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each setting of `ConstraintSettings` but plane_frame, which an image does not have."""
    group = parser.add_argument_group("known pose", GROUP)
    for name, declared in settings_of(ConstraintSettings).items():
        if name != "plane_frame":
            add_flag(group, name, declared)


def lacks_plane(arguments: argparse.Namespace) -> bool:
    """Tell whether something is known of the object with respect to a plane that is not given."""
    return bool((arguments.upright_objects or arguments.objects_on_plane) and not arguments.plane_normal)


def unused_flags(arguments: argparse.Namespace) -> str:
    """Return the sentence on flags of a plane that no object is on, or "" where none is given in vain."""
    if arguments.upright_objects.strip() or arguments.objects_on_plane.strip():
        return ""
    given = given_flags(arguments, ConstraintSettings)
    if not given:
        return ""
    return (
        f"{', '.join(given)} changes nothing by itself: say with --upright-objects or --objects-on-plane "
        "which object it is about."
    )


def known_settings(arguments: argparse.Namespace) -> ConstraintSettings:
    """Return what the flags say.

    Raises:
        VPOGError: text that cannot be read.
    """
    return ConstraintSettings(**values_of(arguments, ConstraintSettings))


def known_constraints(settings: ConstraintSettings, library, alone: bool) -> dict:
    """Make the constraints of a library's objects, `PoseConstraint` by object.

    Args:
        alone: the library is made for one mesh file, and has no folder that the user knows.

    Raises:
        VPOGError: an object that the library does not have.
    """
    unknown = settings.unknown_objects(library)
    if alone and unknown:
        raise VPOGError(
            f"There is no object '{unknown[0]}': the one of --object is called '{library.ids[0]}' here."
        )
    settings.check_objects(library)
    return settings.constraints(library, np.eye(4))
