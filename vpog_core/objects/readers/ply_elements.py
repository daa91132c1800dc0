"""Read the elements of a PLY file as arrays, ASCII or binary of either byte order, lists included."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from vpog_core.objects.readers.mesh_file import MAX_TRIANGLES, MeshFile
from vpog_core.objects.readers.text import decode_text

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8", "int64": "i8", "uint64": "u8",
}  # fmt: skip
_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}


@dataclass(frozen=True)
class Property:
    """Holds one property of an element: its name in small letters, its type, and a list's type of count."""

    name: str
    kind: np.dtype
    count: np.dtype | None = None


@dataclass(frozen=True)
class Lists:
    """Holds a list for each row: counts [rows], and all values one after another [sum of counts]."""

    counts: np.ndarray
    values: np.ndarray


@dataclass
class Element:
    """Holds one element: the number of rows, its properties, and their values by name once they are read."""

    name: str
    rows: int
    properties: list[Property] = field(default_factory=list)
    values: dict[str, np.ndarray | Lists] = field(default_factory=dict)

    def kind(self, name: str) -> np.dtype:
        """Return the type a property has in the file."""
        return next(p.kind for p in self.properties if p.name == name)


def read_elements(file: MeshFile) -> tuple[dict[str, Element], list[str]]:
    """Return all elements by name, and the comments of the header.

    Raises:
        VPOGError: no PLY, a header that cannot be followed, or a file that is cut.
    """
    header, body = _split(file)
    order, elements, comments = _parse_header(file, header)
    ascii_body = order == ""
    if ascii_body:
        body = _as_doubles(file, body)
    offset = 0
    for element in elements:
        stored = _of_doubles(element) if ascii_body else element
        offset = _read_rows(file, stored, body, offset)
        element.values = stored.values
    if ascii_body and offset != len(body):
        raise file.broken("it holds more numbers than its header says")
    return {element.name: element for element in elements}, comments


def _split(file: MeshFile) -> tuple[list[str], bytes]:
    """Return lines of the header and the bytes after it."""
    data = file.data
    if data[:4] in (b"\xff\xfep\0", b"\xfe\xff\0p") or data[:6] == b"\xef\xbb\xbfply":
        data = decode_text(data).encode()
    if data[:3].lower() != b"ply":
        raise file.broken("it does not begin with `ply`")
    end = data[: 1 << 20].find(b"end_header")
    if end < 0:
        raise file.broken("its header does not end")
    lines = data[:end].decode("latin-1" if _not_utf8(data[:end]) else "utf-8")
    after = end + len(b"end_header")
    while data[after : after + 1] in (b" ", b"\t"):
        after += 1
    line_end = b"\r\n" if data[after : after + 2] == b"\r\n" else data[after : after + 1]
    return lines.replace("\r\n", "\n").replace("\r", "\n").split("\n"), data[after + len(line_end) :]


def _not_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return True
    return False


def _parse_header(file: MeshFile, lines: list[str]) -> tuple[str, list[Element], list[str]]:
    """Return (order of bytes, "" for ASCII; elements; comments)."""
    order, elements, comments = None, [], []
    for line in lines[1:]:
        words = line.split()
        keyword = words[0].lower() if words else ""
        try:
            if keyword == "format":
                order = _ORDERS[words[1].lower()]
            elif keyword in ("comment", "obj_info"):
                comments.append(line.strip()[len(keyword) :].strip())
            elif keyword == "element":
                elements.append(Element(words[1].lower(), int(words[2])))
                if elements[-1].rows < 0:
                    raise ValueError
            elif keyword == "property":
                elements[-1].properties.append(_property(order, words[1:]))
            elif keyword:
                raise ValueError
        except (KeyError, ValueError, IndexError):
            raise file.broken(f"it does not know what `{line.strip()[:60]}` in its header means") from None
    if order is None:
        raise file.broken("its header names no format")
    return order, elements, comments


def _property(order: str | None, words: list[str]) -> Property:
    kinds = [np.dtype((order or "<") + _TYPES[word.lower()]) for word in words[:-1] if word.lower() != "list"]
    name = words[-1].lower()
    if words[0].lower() == "list":
        count, kind = kinds
        return Property(name, kind, count)
    (kind,) = kinds
    return Property(name, kind)


def _as_doubles(file: MeshFile, body: bytes) -> bytes:
    """Return the numbers of an ASCII body as float64, so that both kinds of body are read in the same way."""
    lines = decode_text(body).split("\n")
    parts = []
    try:
        for start in range(0, len(lines), 1 << 16):
            parts.append(np.array(" ".join(lines[start : start + (1 << 16)]).split(), dtype=np.float64))
    except ValueError as error:
        raise file.broken(str(error).split("\n")[0][:80]) from None
    return np.concatenate(parts).tobytes()


def _of_doubles(element: Element) -> Element:
    double = np.dtype("f8")
    properties = [Property(p.name, double, None if p.count is None else double) for p in element.properties]
    return Element(element.name, element.rows, properties)


def _read_rows(file: MeshFile, element: Element, body: bytes, offset: int) -> int:
    """Fill an element's values; returns where the next element begins."""
    smallest = sum((p.count or p.kind).itemsize for p in element.properties)
    if element.rows * smallest > len(body) - offset:
        raise file.broken(f"it ends before the {element.rows} rows of its element '{element.name}'")
    if element.rows > 4 * MAX_TRIANGLES:
        file.check_counts(0, element.rows)
    if not element.rows or not element.properties:
        element.values = {p.name: _nothing(p) for p in element.properties}
        return offset
    end = _read_even_rows(element, body, offset)
    return end if end is not None else _read_uneven_rows(file, element, body, offset)


def _nothing(p: Property) -> np.ndarray | Lists:
    empty = np.zeros(0, dtype=p.kind)
    return empty if p.count is None else Lists(np.zeros(0, np.int64), empty)


def _read_even_rows(element: Element, body: bytes, offset: int) -> int | None:
    """Return rows whose lists are all as long as the first row's; None where they are not."""
    fields, at, lengths = [], offset, {}
    for i, p in enumerate(element.properties):
        if p.count is None:
            fields.append((f"v{i}", p.kind))
            at += p.kind.itemsize
            continue
        if at + p.count.itemsize > len(body):
            return None
        count = float(np.frombuffer(body, p.count, 1, at)[0])
        if not 0 <= count <= len(body) or count != int(count):
            return None
        lengths[i] = int(count)
        fields += [(f"c{i}", p.count), (f"v{i}", p.kind, (int(count),))]
        at += p.count.itemsize + int(count) * p.kind.itemsize
    row = np.dtype(fields)
    if offset + element.rows * row.itemsize > len(body):
        return None
    rows = np.frombuffer(body, row, element.rows, offset)
    if any((rows[f"c{i}"] != length).any() for i, length in lengths.items()):
        return None
    for i, p in enumerate(element.properties):
        values = rows[f"v{i}"]
        if p.count is not None:
            values = Lists(np.full(element.rows, lengths[i]), values.reshape(-1))
        element.values[p.name] = values
    return offset + element.rows * row.itemsize


def _read_uneven_rows(file: MeshFile, element: Element, body: bytes, offset: int) -> int:
    """Return rows whose lists differ in length: row by row for where they lie, then all values at once."""
    properties, end = element.properties, len(body)
    starts = np.empty((len(properties), element.rows), dtype=np.int64)
    counts = np.ones((len(properties), element.rows), dtype=np.int64)
    for row in range(element.rows):
        for i, p in enumerate(properties):
            if p.count is not None:
                if offset + p.count.itemsize > end:
                    raise file.broken(f"it ends within its element '{element.name}'")
                count = np.frombuffer(body, p.count, 1, offset)[0]
                if not 0 <= count <= end or count != int(count):
                    raise file.broken(f"a list of its element '{element.name}' has {count} values")
                counts[i, row] = count
                offset += p.count.itemsize
            starts[i, row] = offset
            offset += int(counts[i, row]) * p.kind.itemsize
    if offset > end:
        raise file.broken(f"it ends within its element '{element.name}'")
    for i, p in enumerate(properties):
        values = _gather(body, p.kind, starts[i], counts[i])
        element.values[p.name] = values if p.count is None else Lists(counts[i], values)
    return offset


def _gather(body: bytes, kind: np.dtype, starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return runs of `counts` values that begin at the bytes `starts`, one after another."""
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    first = np.repeat(starts, counts) + within * kind.itemsize
    places = first[:, None] + np.arange(kind.itemsize)
    return np.frombuffer(body, np.uint8)[places].view(kind).reshape(-1)
