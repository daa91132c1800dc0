"""Read names and values of a YAML, JSON or XML file, OpenCV's `FileStorage` among them, safely."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import yaml

from vpog_core.io.file_bytes import read_bytes
from vpog_core.types import VPOGError


class _StorageLoader(yaml.SafeLoader):
    """Loads YAML safely, with the tags of OpenCV's matrices."""


def _matrix(loader: yaml.SafeLoader, suffix: str, node: yaml.Node):
    return loader.construct_mapping(node, deep=True)


_StorageLoader.add_multi_constructor("tag:yaml.org,2002:opencv-", _matrix)


class Fields:
    """Provides the values of a camera file by name in any case, and remembers which were used."""

    def __init__(self, data: Mapping, path) -> None:
        self.path = path
        self._values, self._names = {}, {}
        for name, value in data.items():
            key = plain_key(name)
            self._names.setdefault(key, []).append(str(name))
            self._values.setdefault(key, value)
        self._used: set[str] = set()

    def first(self, *keys: str):
        """Return the value of the first of these keys that has one, or None."""
        for key in keys:
            if self._values.get(key) is not None:
                self._used.add(key)
                return self._values[key]
        return None

    def number(self, key: str) -> float | None:
        """Return one number, or None where there is no such key."""
        if key not in self._values:
            return None
        self._used.add(key)
        return float(self.numbers(self._values[key], self.name(key), (1,))[0])

    def count(self, key: str) -> int | None:
        """Return one whole number, or None where there is no such key."""
        value = self.number(key)
        if value is not None and value != int(value):
            raise VPOGError(
                f"In the camera file '{self.path}', {self.name(key)} must be a whole number, "
                f"but is {value:g}."
            )
        return None if value is None else int(value)

    def numbers(self, value, name: str, counts: tuple[int, ...] = ()) -> np.ndarray:
        """Return numbers [n] of a value; `counts` are the n that are allowed, any where it is empty."""
        if isinstance(value, Mapping):
            value = value.get("data")
        value = value.split() if isinstance(value, str) else value
        try:
            numbers = np.asarray(value, dtype=np.float64).ravel()
        except (TypeError, ValueError):
            numbers = np.full(1, np.nan)
        if not np.isfinite(numbers).all() or (counts and numbers.size not in counts):
            amount = f"{counts[0]} numbers" if counts else "numbers"
            amount = "a number" if counts == (1,) else amount
            raise VPOGError(
                f"In the camera file '{self.path}', {name} must be {amount}, but is {str(value)[:60]}."
            )
        return numbers

    def name(self, key: str) -> str:
        """Return the key as the file spells it."""
        return self._names.get(key, [key])[0]

    def used_name(self, keys: tuple[str, ...]) -> str:
        """Return how the file spells the one of these keys that was used."""
        return next((self.name(key) for key in keys if key in self._used), keys[0])

    def unused(self, known: tuple[str, ...]) -> list[str]:
        """Return the keys that were not read, as the file spells them, except for `known` irrelevant ones."""
        names = [
            name
            for key, spelled in self._names.items()
            for name in (spelled[1:] if key in self._used else spelled)
            if key not in known
        ]
        return sorted(names)


def plain_key(name) -> str:
    """Remove case and punctuation from a name: `camera_matrix` and `cameraMatrix` are the same."""
    return "".join(letter for letter in str(name).lower() if letter.isalnum())


def read_mapping(path: str | Path, what: str) -> Mapping:
    """Return names and values of a file; of several documents the first. `what` names the file in errors.

    Raises:
        VPOGError: missing, of another format, or no names with values.
    """
    data = read_bytes(path, what)
    try:
        text = data.decode("utf-8-sig")
        found = _xml(text) if text.lstrip().startswith("<") else _yaml(text)
    except (yaml.YAMLError, UnicodeDecodeError, ElementTree.ParseError, RecursionError, ValueError) as error:
        raise VPOGError(
            f"The {what} '{path}' is neither YAML nor JSON nor XML: {_first_line(error)}."
        ) from error
    if not isinstance(found, Mapping):
        raise VPOGError(f"The {what} '{path}' holds no names with values: give fx, fy, cx and cy.")
    return found


def _yaml(text: str):
    # OpenCV's "%YAML:1.0" is no YAML, and PyYAML takes no directive of YAML 1.2.
    if text.startswith("%YAML"):
        text = text.partition("\n")[2]
    return next(iter(yaml.load_all(text, _StorageLoader)), None)


def _xml(text: str) -> dict:
    return {child.tag: _element(child) for child in ElementTree.fromstring(text)}


def _element(element: ElementTree.Element):
    """Return a mapping of an element's children, or its text."""
    children = {child.tag: _element(child) for child in element}
    return children or (element.text or "").strip().strip('"')


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".:") if text else type(error).__name__
