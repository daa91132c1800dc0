"""The node's parameters: declared, checked and read as their table has them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult

from vpog_ros.parameter_table import CONFIGURE, LIVE, START, TABLE, Spec

WHEN_TEXT = {
    LIVE: "May be changed at any time.",
    CONFIGURE: "Read at configure: change it before, or after cleanup.",
    START: "Read when the process starts, and not changed afterwards.",
}


QOS_OVERRIDES = "qos_overrides."
"""Prefix of the parameters of a topic's quality of service; all of them are `START`."""


Settings = dataclasses.make_dataclass(
    "Settings", [(name, type(spec.default), spec.default) for name, spec in TABLE.items()], frozen=True
)
"""Values of all parameters, read at one moment: an attribute for each row of the table."""


def descriptor(spec: Spec) -> ParameterDescriptor:
    """What `ros2 param describe` shows of a parameter."""
    words = [spec.description]
    if spec.choices:
        words.append(f"One of: {', '.join(spec.choices)}.")
    if spec.unit:
        words.append(f"Unit: {spec.unit}.")
    words.append(WHEN_TEXT[spec.when])
    message = ParameterDescriptor(description=" ".join(words))
    # Not read_only, which refuses even the value it has: loading the file that was loaded is no error.
    # The type is checked by `problem`, whose sentence says more than rclpy's type numbers.
    message.dynamic_typing = True
    if spec.minimum is not None and isinstance(spec.default, float):
        message.floating_point_range = [FloatingPointRange(from_value=spec.minimum, to_value=spec.maximum)]
    elif spec.minimum is not None:
        message.integer_range = [IntegerRange(from_value=int(spec.minimum), to_value=int(spec.maximum))]
    return message


def problem(name: str, value: Any) -> str:
    """Why a value is refused, as one sentence, or ""; names that are not in the table are not judged."""
    spec = TABLE.get(name)
    if spec is None:
        return ""
    if type(value) is not type(spec.default):
        kind = {str: "a string", bool: "true or false", int: "an integer", float: "a number such as 1.0"}
        return f"{name} is {value!r}: it must be {kind[type(spec.default)]}."
    if spec.choices and value not in spec.choices:
        return f"{name} is '{value}': it must be one of {', '.join(spec.choices)}."
    if spec.minimum is not None and not (math.isfinite(value) and spec.minimum <= value <= spec.maximum):
        unit = f" {spec.unit}" if spec.unit else ""
        return f"{name} is {value:g}: it must lie between {spec.minimum:g} and {spec.maximum:g}{unit}."
    if name == "image_bits" and 0 < value < 8:
        return f"image_bits is {value}: it must be 0, found from the images, or lie between 8 and 16 bits."
    return ""


def check_all(parameters: list, now: Mapping[str, Any], configured: bool) -> SetParametersResult:
    """The answer to a request to set parameters: all of them or none.

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
    """Why a value cannot be changed any more, or ""; a value that stays as it is changes nothing."""
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
    """Declare every parameter of the table on a node.

    Raises:
        rclpy.exceptions.ParameterException: a value given at start is refused.
    """
    for name, spec in TABLE.items():
        node.declare_parameter(name, spec.default, descriptor(spec))


def ignored(node) -> str:
    """Say which values were given at start for parameters that the node does not have, or "".

    Called once the inputs are there: they declare parameters of their own.
    """
    # rclpy has no public name for what was given and not declared.
    given = getattr(node, "_parameter_overrides", {})
    names = sorted(name for name in given if not node.has_parameter(name))
    if not names:
        return ""
    return (
        f"Parameters that this node does not have are ignored: {', '.join(names)}; `ros2 param list "
        f"{node.get_fully_qualified_name()}` shows those that it has."
    )


def read(node) -> Settings:
    """The values of all parameters now."""
    return Settings(**{name: node.get_parameter(name).value for name in TABLE})
