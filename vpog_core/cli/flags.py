"""Add flags to the command line: those of declared settings, see `vpog_core.setting`, and --unit."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection
from typing import Any

from vpog_core.setting import Setting, settings_of


def add_flags(parser, settings_class: type, *names: str, without: Collection[str] = ()) -> None:
    """Add a flag for each setting of a dataclass, or for those that are named.

    Args:
        without: settings that get no flag.
    """
    for name, declared in settings_of(settings_class).items():
        if name not in without and (not names or name in names):
            add_flag(parser, name, declared)


def add_flag(parser, name: str, declared: Setting, flag: str = "") -> None:
    """Add a flag for one setting; the flag of one of true or false turns its default round.

    Args:
        parser: or a group of its arguments.
        flag: "": see `flag_of`.
    """
    flag = flag or flag_of(name, declared)
    # argparse treats a percent sign as the start of a placeholder.
    text = (declared.off if declared.default is True else declared.help).replace("%", "%%")
    more: dict[str, Any] = {"dest": name, "default": declared.default}
    if isinstance(declared.default, bool):
        parser.add_argument(flag, action="store_const", const=not declared.default, help=text, **more)
        return
    if declared.choices:
        more["choices"] = declared.choices
    else:
        more |= {"type": _reader(name, declared), "metavar": (declared.unit or name.split("_")[-1]).upper()}
    text += f" Range: {declared.range}." if declared.minimum is not None else ""
    text += " (default: %(default)s)" if declared.default != "" else ""
    parser.add_argument(flag, help=text, **more)


def add_unit(parser: argparse.ArgumentParser) -> None:
    """Add the flag --unit, of a mesh file or of all meshes of a folder."""
    parser.add_argument(
        "--unit",
        choices=("auto", "m", "cm", "mm"),
        default="auto",
        help="of the mesh files that tell no other in objects.yaml; auto takes metres and refuses what "
        "cannot be (default: %(default)s)",
    )


class Once(argparse.Action):
    """Stores the values of a flag, and refuses a second one; the last of several would count silently."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        """Store the values.

        Raises:
            argparse.ArgumentError: the flag has been given before.
        """
        if getattr(namespace, self.dest) is not None:
            raise argparse.ArgumentError(self, "given twice: one run finds one object, give one of them")
        setattr(namespace, self.dest, values)


def values_of(arguments: argparse.Namespace, settings_class: type) -> dict[str, Any]:
    """Return the values of a dataclass's settings that have a flag."""
    return {
        name: getattr(arguments, name) for name in settings_of(settings_class) if hasattr(arguments, name)
    }


def given_flags(arguments: argparse.Namespace, settings_class: type) -> dict[str, str]:
    """Return the flags of a dataclass's settings that differ from their defaults, with their text or ""."""
    declared, given = settings_of(settings_class), {}
    for name, value in values_of(arguments, settings_class).items():
        if value != declared[name].default:
            given[flag_of(name, declared[name])] = "" if isinstance(value, bool) else str(value)
    return given


def flag_of(name: str, declared: Setting) -> str:
    """Return the flag of a setting; the one of a setting that is true by default turns it off."""
    return f"--{'no-' if declared.default is True else ''}{name.replace('_', '-')}"


def _reader(name: str, declared: Setting) -> Callable[[str], Any]:
    """Return what reads the text of a flag, and refuses a value that the setting cannot have."""

    def read(text: str) -> Any:
        try:
            value = type(declared.default)(text)
        except ValueError:
            value = text
        if problem := declared.problem(name, value):
            raise argparse.ArgumentTypeError(problem)
        return value

    return read
