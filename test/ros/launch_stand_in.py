"""Run a launch file where `launch` is not installed; what the real one does not know is an error."""

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


@dataclass(frozen=True)
class LaunchContext:
    launch_configurations: dict[str, str]

    def within(self, namespace: str) -> LaunchContext:
        """Return the context after PushRosNamespace."""
        return LaunchContext(
            self.launch_configurations | {"ros_namespace": joined(self.namespace, namespace)}
        )

    @property
    def namespace(self) -> str:
        return self.launch_configurations.get("ros_namespace", "")


def joined(outer: str, namespace: str) -> str:
    """Return a namespace within another, or by itself where it begins with a slash."""
    return namespace if namespace.startswith("/") else f"{outer}/{namespace}".strip("/")


class LaunchConfiguration:
    def __init__(self, name: str) -> None:
        self.name = name

    def perform(self, context: LaunchContext) -> str:
        return context.launch_configurations[self.name]


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


@dataclass
class PythonLaunchDescriptionSource:
    launch_file_path: str


@dataclass
class IncludeLaunchDescription:
    launch_description_source: PythonLaunchDescriptionSource
    launch_arguments: Any = ()


@dataclass
class GroupAction:
    actions: list


@dataclass
class PushRosNamespace:
    namespace: str


@dataclass
class OnProcessExit:
    target_action: Any = None
    on_exit: list = field(default_factory=list)


@dataclass
class RegisterEventHandler:
    event_handler: OnProcessExit


@dataclass
class Shutdown:
    reason: str = ""


@dataclass
class EmitEvent:
    event: Shutdown


class Node:
    """Stands in for launch_ros.actions.Node; its attributes are performed by `run`."""

    def __init__(
        self, *, package, executable, name="", namespace="", parameters=(), remappings=(), arguments=(),
        ros_arguments=(), **process,
    ) -> None:  # fmt: skip
        if unknown := process.keys() - PROCESS_OPTIONS:
            raise TypeError(f"Node knows no {', '.join(unknown)}")
        self.options = process | {
            key: value for key, value in locals().items() if key not in ("self", "process", "unknown")
        }

    def perform(self, context) -> None:
        for key, value in self.options.items():
            setattr(self, key, performed(value, context))


def performed(value, context):
    """Return the value with every substitution in it replaced."""
    if hasattr(value, "perform"):
        return value.perform(context)
    if isinstance(value, dict):
        return {key: performed(item, context) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(performed(item, context) for item in value)
    return value


MODULES = {
    "launch": [LaunchDescription],
    "launch.actions": [
        DeclareLaunchArgument,
        EmitEvent,
        GroupAction,
        IncludeLaunchDescription,
        LogInfo,
        OpaqueFunction,
        RegisterEventHandler,
    ],
    "launch.conditions": [IfCondition],
    "launch.event_handlers": [OnProcessExit],
    "launch.events": [Shutdown],
    "launch.launch_description_sources": [PythonLaunchDescriptionSource],
    "launch.substitutions": [LaunchConfiguration, PathJoinSubstitution],
    "launch_ros": [],
    "launch_ros.actions": [Node, PushRosNamespace],
    "launch_ros.parameter_descriptions": [ParameterValue],
}


def run(monkeypatch, path: Path, **arguments: str) -> list:
    """Return the nodes and log messages that a launch file gives for these arguments.

    What is started when a process ends is among them, and what included files start.

    Raises:
        KeyError: an argument that the file does not declare, or one that is missing.
    """
    for name, members in MODULES.items():
        module = ModuleType(name)
        module.__dict__.update({member.__name__: member for member in members})
        monkeypatch.setitem(sys.modules, name, module)
    return _run_file(path, arguments, LaunchContext({}))


def _run_file(path: Path, arguments: dict[str, str], outer: LaunchContext) -> list:
    spec = importlib.util.spec_from_file_location("launch_file", path)
    file = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(file)
    entities = file.generate_launch_description().entities
    declared = {e.name: e for e in entities if isinstance(e, DeclareLaunchArgument)}
    if unknown := arguments.keys() - declared.keys():
        raise KeyError(f"{path.name} has no argument {', '.join(unknown)}")
    values = {name: argument.default_value for name, argument in declared.items()} | arguments
    if missing := [name for name, value in values.items() if value is None]:
        raise KeyError(f"{path.name} needs the argument {', '.join(missing)}")
    return _started(entities, LaunchContext(outer.launch_configurations | values))


def _started(entities: list, context: LaunchContext) -> list:
    """Return the nodes and log messages of entities, and of those within them."""
    found = []
    for entity in entities:
        if isinstance(entity, OpaqueFunction):
            if entity.condition is None or entity.condition.holds(context):
                assert list(inspect.signature(entity.function).parameters) == ["context"]
                found += _started(entity.function(context), context)
        elif isinstance(entity, IncludeLaunchDescription):
            given = {name: performed(value, context) for name, value in entity.launch_arguments}
            found += _run_file(Path(entity.launch_description_source.launch_file_path), given, context)
        elif isinstance(entity, GroupAction):
            found += _started(entity.actions, context)
        elif isinstance(entity, RegisterEventHandler):
            found += _started(entity.event_handler.on_exit, context)
        elif isinstance(entity, PushRosNamespace):
            context = context.within(entity.namespace)
        elif isinstance(entity, Node):
            entity.perform(context)
            entity.namespace = joined(context.namespace, entity.namespace)
            found.append(entity)
        elif isinstance(entity, LogInfo):
            found.append(entity)
        else:
            assert isinstance(entity, DeclareLaunchArgument | EmitEvent), entity
    return found
