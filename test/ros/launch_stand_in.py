"""Runs a launch file where `launch` is not installed; what the real one does not know is an error."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

PROCESS_OPTIONS = {
    "output",
    "condition",
    "respawn",
    "respawn_delay",
    "emulate_tty",
    "additional_env",
    "on_exit",
}
"""Take the arguments of launch's ExecuteProcess, which launch_ros's Node passes on."""


class LaunchConfiguration:
    def __init__(self, name: str) -> None:
        self.name = name

    def perform(self, context: dict[str, str]) -> str:
        return context[self.name]


class PathJoinSubstitution:
    def __init__(self, substitutions) -> None:
        self.substitutions = substitutions

    def perform(self, context) -> str:
        return "/".join(performed(part, context) for part in self.substitutions)


class IfCondition:
    def __init__(self, predicate) -> None:
        self.predicate = predicate

    def holds(self, context) -> bool:
        return {"true": True, "false": False}[performed(self.predicate, context).lower()]


@dataclass
class ParameterValue:
    value: Any
    value_type: type | None = None

    def perform(self, context):
        text = performed(self.value, context)
        if self.value_type is bool:
            return {"true": True, "false": False}[text.lower()]
        return self.value_type(text)


@dataclass
class DeclareLaunchArgument:
    name: str
    default_value: Any = None
    description: str = ""


@dataclass
class OpaqueFunction:
    function: Any
    condition: IfCondition | None = None


@dataclass
class LogInfo:
    msg: str


@dataclass
class LaunchDescription:
    entities: list = field(default_factory=list)


class Node:
    """launch_ros.actions.Node; its attributes are performed by `run`."""

    def __init__(
        self, *, package, executable, name="", namespace="", parameters=(), remappings=(), arguments=(),
        ros_arguments=(), **process,
    ) -> None:  # fmt: skip
        if unknown := process.keys() - PROCESS_OPTIONS:
            raise TypeError(f"Node knows no {', '.join(unknown)}")
        self.options = {
            key: value for key, value in locals().items() if key not in ("self", "process", "unknown")
        }

    def perform(self, context) -> None:
        for key, value in self.options.items():
            setattr(self, key, performed(value, context))


def performed(value, context):
    """The value with every substitution in it replaced."""
    if hasattr(value, "perform"):
        return value.perform(context)
    if isinstance(value, dict):
        return {key: performed(item, context) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(performed(item, context) for item in value)
    return value


MODULES = {
    "launch": [LaunchDescription],
    "launch.actions": [DeclareLaunchArgument, LogInfo, OpaqueFunction],
    "launch.conditions": [IfCondition],
    "launch.substitutions": [LaunchConfiguration, PathJoinSubstitution],
    "launch_ros": [],
    "launch_ros.actions": [Node],
    "launch_ros.parameter_descriptions": [ParameterValue],
}


def run(monkeypatch, path: Path, **arguments: str) -> list:
    """Return the nodes and log messages that a launch file gives for these arguments.

    Raises:
        KeyError: an argument that the file does not declare.
    """
    for name, members in MODULES.items():
        module = ModuleType(name)
        module.__dict__.update({member.__name__: member for member in members})
        monkeypatch.setitem(sys.modules, name, module)
    spec = importlib.util.spec_from_file_location("launch_file", path)
    file = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(file)
    entities = file.generate_launch_description().entities
    declared = {e.name: e for e in entities if isinstance(e, DeclareLaunchArgument)}
    if unknown := arguments.keys() - declared.keys():
        raise KeyError(f"{path.name} has no argument {', '.join(unknown)}")
    context = {name: argument.default_value for name, argument in declared.items()} | arguments
    found = []
    for entity in entities:
        if isinstance(entity, OpaqueFunction) and (
            entity.condition is None or entity.condition.holds(context)
        ):
            assert list(inspect.signature(entity.function).parameters) == ["context"]
            found += entity.function(context)
    for node in found:
        if isinstance(node, Node):
            node.perform(context)
    return found
