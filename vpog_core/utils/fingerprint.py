"""Compute the names of cache entries from everything that they were made of."""

from __future__ import annotations

import ast
import hashlib
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

SHORT = 16
"""Hex digits of a digest that are enough to tell the files of one cache apart."""


def digest(parts: Iterable[str | bytes | Path]) -> str:
    """Compute the SHA-256, in hex digits, of texts, bytes and the contents of files one after the other.

    Raises:
        OSError: a file cannot be read.
    """
    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            part = part.read_bytes()
        found.update(part.encode() if isinstance(part, str) else part)
    return found.hexdigest()


def code_of(source: str) -> str:
    """Reduce Python source to what it computes: without comments, docstrings and layout.

    The result depends on the version of Python, too.
    """
    return ast.dump(_WithoutDocstrings().visit(ast.parse(source)))


class _WithoutDocstrings(ast.NodeTransformer):
    """Removes strings that stand alone: docstrings, also those of constants."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        """Remove an expression that is nothing but a string."""
        is_string = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_string else node


def file_state(path: Path) -> tuple[int, int]:
    """Return a file's size in bytes and the time of its last change in nanoseconds.

    Raises:
        OSError: there is no such file.
    """
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns


@dataclass(frozen=True)
class ReadFile:
    """Holds what a file was when it was read.

    Attributes:
        path: of the file; digest: SHA-256 of its contents, in hex digits; state: see `file_state`.
    """

    path: Path
    digest: str
    state: tuple[int, int]

    @classmethod
    def of(cls, path: Path) -> ReadFile:
        """Describe a file as it is now.

        Raises:
            OSError: it cannot be read.
        """
        state = file_state(path)
        return cls(path, digest([path]), state)


def safe_name(name: str) -> str:
    """Convert a name, which may hold anything, to a part of a file name."""
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name)


def safe_names(names: Iterable[str]) -> dict[str, str]:
    """Convert names to parts of file names, each of its own: where two would agree, a digest is added."""
    safe = {name: safe_name(name) for name in names}
    counts = Counter(safe.values())
    return {
        name: part if counts[part] == 1 else f"{part}-{digest([name])[:SHORT]}" for name, part in safe.items()
    }
