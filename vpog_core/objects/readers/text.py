"""Decode text of mesh files in any encoding, and parse numbers."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence

import numpy as np

_ROWS_AT_ONCE = 1 << 16
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def decode_text(data: bytes) -> str:
    """Decode text by its byte order mark, else as UTF-8, bare UTF-16 or Latin-1; line ends become `\\n`."""
    text = _decoded(data)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _decoded(data: bytes) -> str:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, errors="replace")
    head = data[:512]
    if head.count(0) > len(head) // 3:
        return data.decode("utf-16-be" if head[:1] == b"\0" else "utf-16-le", errors="replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def numbers(rows: Sequence[str], columns: int) -> np.ndarray:
    """Return [len(rows), columns] float64 from lines of numbers.

    Raises:
        ValueError: something that is no number, or a wrong count of them.
    """
    out = np.empty((len(rows), columns))
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        chunk = rows[start : start + _ROWS_AT_ONCE]
        out[start : start + len(chunk)] = np.array(" ".join(chunk).split(), dtype=np.float64).reshape(
            len(chunk), columns
        )
    return out


def joined_lines(text: str) -> Iterator[str]:
    """Yield lines of OBJ or MTL without comments; a backslash at the end joins a line with the next."""
    if "\\\n" in text:
        text = text.replace("\\\n", " ")
    for line in text.split("\n"):
        line = line.strip()
        if line and not line.startswith("#"):
            yield line


def unquoted(name: str) -> str:
    """Return a name without quotes around it."""
    return name[1:-1] if len(name) > 1 and name[0] == name[-1] and name[0] in "\"'" else name
