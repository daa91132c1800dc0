"""Provide definitions of the messages that are read from bags and written to them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from rosbags.interfaces import MessageDefinition, MessageDefinitionFormat
from rosbags.typesys import (
    Stores,
    TypesysError,
    get_types_from_idl,
    get_types_from_msg,
    get_typestore,
)
from rosbags.typesys.store import Typestore

import vpog_core
from vpog_core.types import VPOGError

OWN_TYPES = ("Instance2D", "Instance2DArray", "ObjectPose", "ObjectPoseArray")


@cache
def own_typestore() -> Typestore:
    """Make the types of ROS 2's common interfaces and of this package's messages.

    Raises:
        VPOGError: the package's message files are missing.
    """
    folder, types = message_folder(), {}
    for name in OWN_TYPES:
        types.update(get_types_from_msg((folder / f"{name}.msg").read_text(), f"vpog_ros/msg/{name}"))
    store = get_typestore(Stores.LATEST)
    store.register(types)
    return store


def message_folder() -> Path:
    """Find the .msg files of the source tree, or of a pip or colcon installation.

    Raises:
        VPOGError: they are nowhere.
    """
    package = Path(vpog_core.__file__).resolve().parent
    places = [package.parent / "msg"]
    places += [parent / "share" / "vpog_ros" / "msg" for parent in package.parents]
    for place in places:
        if all((place / f"{name}.msg").is_file() for name in OWN_TYPES):
            return place
    raise VPOGError(f"There are no message files beside '{package}': install the package again.")


def typestore_of(msgtype: str, definition: MessageDefinition, topic: str) -> Typestore:
    """Make the types that a topic's messages are read with.

    Args:
        definition: the message's definition as the bag holds it, in the .msg format or in IDL, or none.

    Raises:
        VPOGError: the bag has no definition of the type, and it is none that comes with this package.
    """
    if definition.format != MessageDefinitionFormat.NONE and definition.data:
        store = get_typestore(Stores.EMPTY)
        try:
            if definition.format == MessageDefinitionFormat.IDL:
                store.register(_types_of_idl(definition.data))
            else:
                store.register(get_types_from_msg(definition.data, msgtype))
        except TypesysError as error:
            raise VPOGError(
                f"The bag's definition of {msgtype}, on '{topic}', cannot be read ({error}): record it again."
            ) from error
        return store
    if msgtype not in own_typestore().types:
        raise VPOGError(
            f"The bag holds no definition of {msgtype}, the type of '{topic}': record it as MCAP "
            "(`ros2 bag record --storage mcap`), or with ROS 2 Jazzy or later, which store definitions."
        )
    return own_typestore()


def _types_of_idl(text: str) -> dict:
    """Read the types of a definition in IDL: several files, each after a line of = and one with its name.

    What the files include is among them, so the lines that say so are left out: rosbags cannot read them.
    """
    types = {}
    for part in filter(None, text.split("=" * 80 + "\n")):
        lines = [line for line in part.splitlines() if not line.startswith(("IDL: ", "#include"))]
        types.update(get_types_from_idl("\n".join(lines)))
    return types
