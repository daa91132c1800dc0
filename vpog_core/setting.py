"""Declare each setting once, in a field of a dataclass: default, range, unit, choices and help.

    @dataclass(frozen=True)
    class Options:
        rolls: int = setting(2, "In-plane turns each view is tried at.", unit="turns", minimum=1, maximum=12)

        def __post_init__(self) -> None:
            check(self)

The flags of the command line and the parameters of the node, with their files and pages, are made from
`settings_of`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from vpog_core.types import VPOGError

_KINDS = {str: "a string", bool: "true or false", int: "an integer", float: "a number such as 1.0"}


@dataclass(frozen=True)
class Setting:
    """Holds the declaration of one setting. Its type is the type of its default.

    Attributes:
        help: a sentence.
        off: the sentence of its flag, of a setting that is true by default: what that turns off.
        minimum, maximum: the range of a number, both included.
        choices: the values that a string may have; (): any.
    """

    default: Any
    help: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    off: str = ""

    def problem(self, name: str, value: Any) -> str:
        """Return the sentence on why the setting `name` cannot have a value, or ""."""
        kind = type(self.default)
        fits = isinstance(value, (int, float) if kind is float else kind)
        if not fits or isinstance(value, bool) is not (kind is bool):
            return f"{name} is {value!r}: it must be {_KINDS[kind]}."
        if self.choices and value not in self.choices:
            return f"{name} is '{value}': it must be one of {', '.join(self.choices)}."
        # A comparison with NaN is false.
        if self.minimum is not None and not self.minimum <= value <= self.maximum:
            unit = f" {self.unit}" if self.unit else ""
            return f"{name} is {value:g}: it must lie between {self.minimum:g} and {self.maximum:g}{unit}."
        return ""

    @property
    def range(self) -> str:
        """Return the values that it may have, in words."""
        if self.choices:
            return ", ".join(self.choices)
        if self.minimum is not None:
            return f"{self.minimum:g} to {self.maximum:g}"
        return {str: "text", bool: "true, false"}[type(self.default)]


def setting(default: Any, help: str, **more: Any) -> Any:
    """Declare a field of a dataclass; for the arguments see `Setting`."""
    return field_of(Setting(default, help, **more))


def field_of(declared: Setting) -> Any:
    """Make a field of a dataclass of a setting that is declared elsewhere already."""
    return field(default=declared.default, metadata={"setting": declared})


def settings_of(settings_class: type) -> dict[str, Setting]:
    """Return the settings of a dataclass by the names of their fields; fields of other kinds are left out."""
    return {f.name: f.metadata["setting"] for f in fields(settings_class) if "setting" in f.metadata}


def check(instance: Any) -> None:
    """Check the values of all settings of a dataclass.

    Raises:
        VPOGError: a value that is of another type or out of range.
    """
    for name, declared in settings_of(type(instance)).items():
        if problem := declared.problem(name, getattr(instance, name)):
            raise VPOGError(problem)
