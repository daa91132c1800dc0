"""Read YAML in which names stay as written: 000012, 1e3 and no are strings, not 10, 1000.0 and false."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import yaml

from vpog_core.types import VPOGError
from vpog_core.utils.atomic_file import atomic_write

_STRING = "tag:yaml.org,2002:str"
_NULL = "tag:yaml.org,2002:null"
_RESOLVED = {_NULL, *(f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "bool", "timestamp"))}
"""Tags that YAML resolves plain scalars to."""


def read_names(path: Path, names: Container[str]):
    """Read a YAML file; keys, and what stands under the keys in `names`, are strings as written.

    Args:
        names: keys whose value is a name or a list of names. One that is left empty is None.

    Raises:
        VPOGError: it cannot be read, is not YAML, or says something twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _keep_names(path, node, names, set())
        return loader.construct_document(node)
    except OSError as error:
        raise VPOGError(f"'{path}' cannot be read ({error.strerror}): check its permissions.") from error
    except VPOGError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise VPOGError(f"'{path}' is not valid YAML ({reason}): fix that line.") from error


def append_object(path: Path, object_id: str, settings: Mapping[str, Any]) -> None:
    """Add a line to objects.yaml, or make the file; what is there stays as it is, comments too.

    Raises:
        VPOGError: the file is not written with an object a line, or the like.
        OSError: it cannot be written.
    """
    # JSON is YAML.
    line = f"{json.dumps(object_id, ensure_ascii=False)}: {json.dumps(settings, ensure_ascii=False)}"
    names = ("mesh", "unit", "aliases")
    before = (read_names(path, names) if path.exists() else None) or {}
    text = path.read_text(encoding="utf-8-sig") if path.exists() else ""
    indent = "  "
    if not before.get("objects"):
        # An empty mapping such as `objects: {}` is left to be refused below.
        text = text if "objects" in before else f"{text.rstrip()}\nobjects:\n".lstrip()
    else:
        first = next(
            (row for row in text.splitlines() if row[:1] in (" ", "\t") and row.strip()[:1] not in "#"), ""
        )
        indent = first[: len(first) - len(first.lstrip())]
    known = dict(before.get("objects") or {})
    content = f"{text.rstrip()}\n{indent}{line}\n"
    if _content(content, names) != before | {"objects": known | {object_id: dict(settings)}}:
        raise VPOGError(
            f"'{path}' is not written with one object a line: add the line `{line}` to it yourself."
        )
    atomic_write(path, content)


def _content(text: str, names: Container[str]):
    """Return what a text holds, read as `read_names` does; None where it is no YAML."""
    try:
        node = yaml.SafeLoader(text).get_single_node()
        _keep_names(Path(), node, names, set())
        return yaml.SafeLoader(text).construct_document(node)
    except (yaml.YAMLError, VPOGError):
        return None


def _keep_names(path: Path, node: yaml.Node, names: Container[str], seen: set[int]) -> None:
    """Make strings of the names in a node and below; `seen` holds what anchors lead to again."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _keep_names(path, item, names, seen)
    if not isinstance(node, yaml.MappingNode):
        return
    keys = set()
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        if key.value in keys:
            line = key.start_mark.line + 1
            raise VPOGError(f"'{path}', line {line}, has '{key.value}' a second time: keep one of them.")
        keys.add(key.value)
        _make_string(key)
        if key.value not in names:
            _keep_names(path, value, names, seen)
        elif isinstance(value, yaml.SequenceNode):
            for item in value.value:
                _make_string(item)
        elif value.tag != _NULL:
            _make_string(value)


def _make_string(node: yaml.Node) -> None:
    if node.tag in _RESOLVED:
        node.tag = _STRING
