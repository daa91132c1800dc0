"""Stands in for tf2_ros, which may not be installed: its Buffer knows one camera in one map."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from geometry_msgs.msg import TransformStamped
from std_msgs.msg import Header

from vpog_core.geometry.se3 import rotation_from_vector, transform
from vpog_ros import conversions

T_MAP_CAM = transform(rotation_from_vector(np.array([0.3, -1.0, 0.5])), np.array([1.0, 2.0, 0.5]))


class TransformException(Exception):
    pass


class Buffer:
    """Knows the camera in the map from second 10 on."""

    def lookup_transform(self, target, source, time, timeout) -> TransformStamped:
        if (target, source) != ("map", "camera"):
            raise TransformException(f'"{target}" passed to lookupTransform does not exist.')
        if time.nanoseconds < 10e9:
            raise TransformException("Lookup would require extrapolation into the past.")
        return conversions.transform_stamped(T_MAP_CAM, Header(frame_id=target), source)


class TransformListener:
    def __init__(self, buffer, node, spin_thread) -> None:
        pass

    def unregister(self) -> None:
        pass


TF2 = SimpleNamespace(
    Buffer=Buffer, TransformListener=TransformListener, TransformException=TransformException
)
"""Provide the stand-in that replaces `vpog_ros.optional.tf2_ros`."""
