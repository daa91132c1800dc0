"""Declare, check and read the node's parameters, as their table has them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.parameter import Parameter

from vpog_core.inference.constraint_settings import normal_of, upright_axes
from vpog_core.setting import settings_of
from vpog_core.types import VPOGError
from vpog_ros import optional
from vpog_ros.parameter_table import CONFIGURE, LIVE, OLD_VALUES, RENAMED, START, TABLE, Spec

WHEN_TEXT = {
    LIVE: "May be changed at any time.",
    CONFIGURE: "Read at configure: change it before, or after cleanup.",
    START: "Read when the process starts, and not changed afterwards.",
}


READERS = {"upright_objects": upright_axes, "plane_normal": normal_of}
"""Functions that read text, and raise a VPOGError where it cannot be understood."""

QOS_OVERRIDES = "qos_overrides."
"""Prefix of the parameters of a topic's quality of service; all of them are `START`."""


Settings = dataclasses.make_dataclass(
    "Settings", [(name, type(spec.default), spec.default) for name, spec in TABLE.items()], frozen=True
)
"""Values of all parameters, read at one moment: an attribute for each row of the table."""


def descriptor(spec: Spec) -> ParameterDescriptor:
    """Make what `ros2 param describe` shows of a parameter."""
    words = [spec.help]
    if spec.choices:
        words.append(f"One of: {spec.range}.")
    if spec.unit:
        words.append(f"Unit: {spec.unit}.")
    words.append(WHEN_TEXT[spec.when])
    message = ParameterDescriptor(description=" ".join(words))
    # read_only would refuse even the current value: loading the same file again must not fail.
    # `problem` checks the type: its sentence is clearer than rclpy's type numbers.
    message.dynamic_typing = True
    if spec.minimum is not None and isinstance(spec.default, float):
        message.floating_point_range = [FloatingPointRange(from_value=spec.minimum, to_value=spec.maximum)]
    elif spec.minimum is not None:
        message.integer_range = [IntegerRange(from_value=int(spec.minimum), to_value=int(spec.maximum))]
    return message


def problem(name: str, value: Any) -> str:
    """Return the sentence on why a value is refused, or ""; names outside of the table are not checked."""
    spec = TABLE.get(name)
    if spec is None:
        return ""
    if type(value) is int and isinstance(spec.default, float):
        # ROS parameters keep their type.
        return f"{name} is {value!r}: it must be a number such as {float(value)}."
    if name == "image_bits" and type(value) is int and 0 < value < 8:
        return f"image_bits is {value}: it must be 0, found from the images, or lie between 8 and 16 bits."
    return spec.problem(name, value) or _further_problem(name, value)


def _further_problem(name: str, value: Any) -> str:
    """Return why a value of correct type and range is refused, or ""."""
    if name == "publish_collision_objects" and value and optional.CollisionObject is None:
        return (
            "publish_collision_objects is true and moveit_msgs is not installed: install it (package "
            "ros-$ROS_DISTRO-moveit-msgs), or leave it false."
        )
    reader = READERS.get(name)
    try:
        if reader is not None and value:
            reader(value)
    except VPOGError as error:
        return str(error)
    return ""


def check_all(parameters: list, now: Mapping[str, Any], configured: bool) -> SetParametersResult:
    """Check a request to set parameters: all of them are accepted, or none.

    Args:
        now: the values that are set, of those of the parameters that have one already.
        configured: the node is configured, or about to be.
    """
    for parameter in parameters:
        reason = problem(parameter.name, parameter.value)
        if not reason and parameter.name in now:
            reason = _too_late(parameter.name, parameter.value, now[parameter.name], configured)
        if reason:
            return SetParametersResult(successful=False, reason=reason)
    return SetParametersResult(successful=True)


def _too_late(name: str, value: Any, now: Any, configured: bool) -> str:
    """Return why a value cannot be changed any more, or ""; setting the same value is accepted."""
    if value == now:
        return ""
    when = TABLE[name].when if name in TABLE else START if name.startswith(QOS_OVERRIDES) else LIVE
    if when == LIVE:
        return ""
    if when == START:
        return f"{name} is read-only once the process runs: give it at start."
    if configured:
        return f"{name} is read when the node is configured: clean the node up before changing it."
    return ""


def declare(node) -> None:
    """Declare every parameter of the table on a node; values given under an old name are taken over.

    Raises:
        rclpy.exceptions.ParameterException: a value given at start is refused.
    """
    given = {new: _given_as(node, old) for old, new in RENAMED.items()}
    for name, spec in TABLE.items():
        value = given.get(name)
        if value is None:
            node.declare_parameter(name, spec.default, descriptor(spec))
        else:
            node.declare_parameter(name, value, descriptor(spec), ignore_override=True)


def _given_as(node, old: str) -> Any:
    """Return the value given at start under an old name, with a warning, or None."""
    value = node.declare_parameter(old, None, ParameterDescriptor(dynamic_typing=True)).value
    node.undeclare_parameter(old)
    if value is not None:
        _warn_renamed(node, old, value)
    return _value_now(old, value)


class RenamedParameters:
    """Lets the parameters of a node be set under their old names: a base of its class, before Node."""

    def set_parameters_atomically(self, parameter_list: list[Parameter]) -> SetParametersResult:
        """Set parameters, all or none, as the services do; a warning names the new name of each old one."""
        for change in parameter_list:
            if change.name in RENAMED:
                _warn_renamed(self, change.name, change.value)
        renamed = [
            Parameter(RENAMED[c.name], value=_value_now(c.name, c.value)) if c.name in RENAMED else c
            for c in parameter_list
        ]
        return super().set_parameters_atomically(renamed)


def _value_now(old: str, value: Any) -> Any:
    """Return the value of today for one given under an old name; what never was a value stays as it is."""
    values = OLD_VALUES.get(old, {})
    return values[value] if isinstance(value, bool) and value in values else value


def _warn_renamed(node, old: str, value: Any) -> None:
    now = _value_now(old, value)
    new_value = f": {now}" if now != value else ""
    node.get_logger().warning(
        f"The parameter {old} is now {RENAMED[old]}{new_value}; the old name will go in the next version."
    )


def ignored(node) -> str:
    """Return the sentence on values given at start for unknown parameters, or "".

    Called once the inputs are there: they declare parameters of their own.
    """
    # rclpy has no public name for values that were given but not declared.
    given = getattr(node, "_parameter_overrides", {})
    names = sorted(name for name in given if not node.has_parameter(name) and name not in RENAMED)
    if not names:
        return ""
    return (
        f"Parameters that this node does not have are ignored: {', '.join(names)}; `ros2 param list "
        f"{node.get_fully_qualified_name()}` shows those that it has."
    )


def read(node) -> Settings:
    """Read the values of all parameters now."""
    return Settings(**{name: node.get_parameter(name).value for name in TABLE})


def group(settings: Settings, settings_class: type, prefix: str = "") -> dict[str, Any]:
    """Return the values of the parameters that stand for the settings of a dataclass, by its names."""
    return {name: getattr(settings, f"{prefix}{name}") for name in settings_of(settings_class)}
