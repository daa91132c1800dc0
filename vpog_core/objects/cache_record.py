"""Tell which files an object's templates were made of: what has not changed need not be read again."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from vpog_core.utils.atomic_file import atomic_write


def write_record(record: Path, sources: Sequence[Path], templates: Path) -> None:
    """Note the size and the time of change of the files that templates were made of; failing is no error."""
    with contextlib.suppress(OSError):
        files = [[str(path.absolute()), *_state(path)] for path in sources]
        atomic_write(record, json.dumps({"files": files, "templates": templates.name}))


def recorded_templates(record: Path) -> Path | None:
    """Return the templates of a record, or None where a file has changed or there is no record."""
    try:
        values = json.loads(record.read_text(encoding="utf-8"))
        unchanged = all(_state(Path(path)) == (size, time) for path, size, time in values["files"])
        templates = record.parent / Path(values["templates"]).name
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return templates if unchanged and values["files"] and templates.is_file() else None


def _state(path: Path) -> tuple[int, int]:
    """Return size in bytes and time of the last change in nanoseconds."""
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns
