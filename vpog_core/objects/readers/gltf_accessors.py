"""Read accessors of glTF as arrays: strides, normalized integers and sparse values, within their buffers."""

from __future__ import annotations

import base64
import binascii
import re
from urllib.parse import unquote

import numpy as np

from vpog_core.objects.readers.mesh_file import MAX_TRIANGLES, MeshFile

_TYPES = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_COLUMNS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
_DATA_URI = re.compile(r"data:([^,]*?)(;base64)?,", re.IGNORECASE)


class Accessors:
    """Reads the numbers of a glTF file.

    Args:
        file: the file; tree: its JSON; chunk: the binary chunk of a GLB, or None.
    """

    def __init__(self, file: MeshFile, tree: dict, chunk: bytes | None) -> None:
        self._file, self._tree, self._chunk = file, tree, chunk
        self._buffers: dict[int, bytes] = {}

    def floats(self, index: int) -> np.ndarray:
        """Return [count, columns] values, normalized integers as what they stand for.

        Raises:
            VPOGError: the accessor is not there, or runs out of its buffer.
        """
        accessor = self._file.item(self._tree.get("accessors", []), index, "accessor")
        values = self.raw(index)
        if not accessor.get("normalized") or values.dtype.kind == "f":
            return values
        return np.maximum(values / np.float64(np.iinfo(values.dtype).max), -1.0)

    def raw(self, index: int) -> np.ndarray:
        """Return [count, columns] values as they are stored."""
        accessor = self._file.item(self._tree.get("accessors", []), index, "accessor")
        count, columns = self._size(accessor["count"]), _COLUMNS[accessor["type"]]
        if not accessor.get("bufferView", 0) >= 0 or count > 4 * MAX_TRIANGLES:
            self._file.check_counts(count, 0)
        dtype = np.dtype(_TYPES[accessor["componentType"]])
        sparse = accessor.get("sparse")
        if "bufferView" in accessor:
            values = self._strided(accessor, count, columns, dtype)
        elif sparse is None:
            raise self._file.broken(f"its accessor {index} has no data")
        else:
            self._file.check_counts(count, 0)
            values = np.zeros((count, columns), dtype)
        return values if sparse is None else self._with_sparse(values, sparse)

    def view(self, index: int) -> bytes:
        """Return the bytes of a buffer view."""
        view = self._file.item(self._tree.get("bufferViews", []), index, "buffer view")
        meshopt = view.get("extensions", {}).get("EXT_meshopt_compression")
        buffer = self._file.item(self._tree.get("buffers", []), view["buffer"], "buffer")
        if meshopt is not None and "uri" not in buffer and view["buffer"] > 0:
            raise self._file.error("is compressed (EXT_meshopt_compression): export it without compression")
        start, length = self._size(view.get("byteOffset", 0)), self._size(view["byteLength"])
        data = self._buffer(view["buffer"])
        if start + length > len(data):
            raise self._file.broken(f"its buffer view {index} ends behind the buffer's {len(data)} bytes")
        return data[start : start + length]

    def uri(self, uri: str) -> bytes:
        """Return the bytes of a data URI or of a file beside the mesh."""
        inline = _DATA_URI.match(uri)
        if inline is None:
            return self._file.beside(unquote(uri))
        body = uri[inline.end() :]
        if not inline[2]:
            return unquote(body).encode("latin-1")
        try:
            return base64.b64decode(unquote(body))
        except (binascii.Error, ValueError):
            raise self._file.broken("data within it is not base64") from None

    def _buffer(self, index: int) -> bytes:
        if index not in self._buffers:
            buffer = self._tree["buffers"][index]
            if "uri" in buffer:
                data = self.uri(buffer["uri"])
            elif index == 0 and self._chunk is not None:
                data = self._chunk
            else:
                raise self._file.broken(f"its buffer {index} has no data")
            length = self._size(buffer["byteLength"])
            if length > len(data):
                raise self._file.broken(f"its buffer {index} ends after {len(data)} of {length} bytes")
            self._buffers[index] = data
        return self._buffers[index]

    def _strided(self, accessor: dict, count: int, columns: int, dtype: np.dtype) -> np.ndarray:
        view = self._tree["bufferViews"][accessor["bufferView"]] if count else {}
        data = self.view(accessor["bufferView"])
        start = self._size(accessor.get("byteOffset", 0))
        stride = self._size(view.get("byteStride", 0)) or columns * dtype.itemsize
        end = start + (count - 1) * stride + columns * dtype.itemsize if count else start
        if end > len(data) or stride < columns * dtype.itemsize:
            raise self._file.broken(f"an accessor of {count} values ends behind its {len(data)} bytes")
        return (
            np.ndarray((count, columns), dtype, data, start, (stride, dtype.itemsize))
            if count
            else (np.zeros((0, columns), dtype))
        )

    def _with_sparse(self, values: np.ndarray, sparse: dict) -> np.ndarray:
        count = self._size(sparse["count"])
        where, what = sparse["indices"], sparse["values"]
        places = self._strided(where, count, 1, np.dtype(_TYPES[where["componentType"]]))[:, 0]
        if count and (places.dtype.kind != "u" or places.max() >= len(values)):
            raise self._file.broken(f"a sparse accessor sets value {places.max()} of {len(values)}")
        out = values.copy()
        out[places] = self._strided(what, count, values.shape[1], values.dtype)
        return out

    def _size(self, number) -> int:
        if isinstance(number, bool) or not isinstance(number, (int, float)) or number != number // 1:
            raise self._file.broken(f"{number!r:.40} stands where a whole number belongs")
        if number < 0:
            raise self._file.broken(f"{number} stands where a number of 0 or more belongs")
        return int(number)
