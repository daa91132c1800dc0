"""Record the files that an object's templates were made of, so that unchanged ones are not read again."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path

from vpog_core.utils.atomic_file import atomic_write
from vpog_core.utils.fingerprint import ReadFile, file_state


def write_record(record: Path, sources: Sequence[ReadFile], templates: Path) -> None:
    """Write size and modification time that the files had which templates were made of.

    Templates that the record named before, of an earlier state of the files, are removed, unless another
    record names them. Failures are ignored.
    """
    before = _named_templates(record)
    with contextlib.suppress(OSError):
        files = [[str(source.path.absolute()), *source.state] for source in sources]
        atomic_write(record, json.dumps({"files": files, "templates": templates.name}))
        if before and before not in map(_named_templates, record.parent.glob("*.json")):
            (record.parent / before).unlink(missing_ok=True)


def _named_templates(record: Path) -> str:
    """Return the name of the file that a record is of, in its folder; "" where that cannot be read."""
    try:
        return Path(json.loads(record.read_text(encoding="utf-8"))["templates"]).name
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def recorded_templates(record: Path) -> Path | None:
    """Return the templates of a record, or None where a file has changed or there is no record."""
    try:
        values = json.loads(record.read_text(encoding="utf-8"))
        unchanged = all(file_state(Path(path)) == (size, time) for path, size, time in values["files"])
        templates = record.parent / Path(values["templates"]).name
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return templates if unchanged and values["files"] and templates.is_file() else None
