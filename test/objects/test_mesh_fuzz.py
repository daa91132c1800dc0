"""Test that `load_mesh` raises nothing but VPOGError for any bytes, in bounded time and memory."""

from __future__ import annotations

import json
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import odd_meshes
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odd_meshes.gltf_writer import Gltf
from PIL import Image

from vpog_core.objects.mesh import MESH_SUFFIXES, Mesh, load_mesh
from vpog_core.types import VPOGError

# Deadlines are off: the machine of the tests may be busy. Seeds are fixed, so that a failure is found again.
QUICK = settings(
    max_examples=60, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
SAMPLES = [c for c in odd_meshes.CORPUS if not c.refused]


def answer(path: Path) -> Mesh | None:
    """Return a usable mesh, or None where a sentence says why there is none."""
    try:
        mesh = load_mesh(path)
    except VPOGError as error:
        sentence = str(error)
        assert path.name in sentence
        assert "\n" not in sentence
        assert len(sentence) < 600
        return None
    assert np.isfinite(mesh.vertices).all()
    assert mesh.faces.min() >= 0
    assert mesh.faces.max() < len(mesh.vertices)
    assert mesh.diameter > 0
    assert mesh.uv is None or np.isfinite(mesh.uv).all()
    assert mesh.corner_normals is None or np.isfinite(mesh.corner_normals).all()
    return mesh


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> list[Path]:
    """Return files of the corpus that can be read, each in a folder of its own with what belongs to it."""
    return [case.write(tmp_path_factory.mktemp("sample")) for case in SAMPLES]


@QUICK
@given(data=st.data(), suffix=st.sampled_from(MESH_SUFFIXES))
def test_random_bytes(tmp_path, data, suffix):
    start = data.draw(
        st.sampled_from([b"", b"ply\nformat ascii 1.0\n", b"solid x\n", b"glTF\x02\0\0\0", b"f ", b"{"])
    )
    path = tmp_path / f"random{suffix}"
    path.write_bytes(start + data.draw(st.binary(max_size=300)))
    answer(path)


@QUICK
@given(data=st.data())
def test_cut_and_flipped_files(samples, data):
    source = data.draw(st.sampled_from(samples))
    content = bytearray(source.read_bytes())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    for _ in range(data.draw(st.integers(0, 6))):
        if content:
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = source.with_name(f"broken{source.suffix}")
    path.write_bytes(content)
    answer(path)


_NUMBERS = "1 -1 0 2/2 1//1 -3/-2/-1 1e400 nan 1000000000 -1000000000 99999999999999999999 0.5 / // 1/ /1"
_WORDS = st.sampled_from([*f"v vt vn f usemtl mtllib o square.mtl skin # {_NUMBERS}".split(" "), "\\"])


@QUICK
@given(lines=st.lists(st.lists(_WORDS, max_size=7).map(" ".join), max_size=25), names=st.booleans())
def test_lines_of_obj_in_any_order(tmp_path, lines, names):
    path = odd_meshes.obj.obj(tmp_path)
    head = path.read_text() if names else ""
    path.write_text(head + "\n".join(lines))
    answer(path)


@QUICK
@given(data=st.data())
def test_json_of_gltf_with_other_values(tmp_path, data):
    gltf = Gltf()
    gltf.attributes["COLOR_0"] = gltf.attributes["NORMAL"] = gltf.attributes["POSITION"]
    places = list(_places(gltf.tree))
    odd_values = [
        None,
        -1,
        0,
        3,
        1e300,
        10**9,
        10**30,
        "x",
        [],
        {},
        [0],
        True,
        float("nan"),
        5126,
        "VEC2",
        "\0",
    ]
    for _ in range(data.draw(st.integers(1, 3))):
        holder, key = data.draw(st.sampled_from(places))
        holder[key] = data.draw(st.sampled_from(odd_values))
    answer(gltf.write(tmp_path))


def _places(tree):
    """Yield (container, key) of every value in a JSON tree."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(items):
        yield tree, key
        yield from _places(value)


@QUICK
@given(data=st.data())
def test_headers_of_ply_with_other_words(tmp_path, data):
    form = data.draw(st.sampled_from(["ascii", "binary_little_endian", "binary_big_endian"]))
    path = odd_meshes.ply.ply(tmp_path, form)
    head, end, body = path.read_bytes().partition(b"end_header\n")
    words = head.decode().split(" ")
    extra = [
        "list",
        "uchar",
        "float",
        "1000000000",
        "-1",
        "0",
        "vertex",
        "x",
        "s\n",
        "\nproperty list float float y\n",
    ]
    for _ in range(data.draw(st.integers(1, 4))):
        words[data.draw(st.integers(0, len(words) - 1))] = data.draw(st.sampled_from(extra))
    path.write_bytes(" ".join(words).encode() + end + body)
    answer(path)


def claims() -> dict[str, bytes]:
    """Return small files that claim to be huge."""
    many = 1_000_000_000
    vertex = "element vertex {}\nproperty float x\nproperty float y\nproperty float z\n"
    ply = (
        "ply\nformat {} 1.0\n" + vertex + "element face {}\nproperty list {} int vertex_indices\nend_header\n"
    )
    tree = Gltf().tree
    tree["accessors"][0].update(count=many, sparse={"count": 0})
    del tree["accessors"][0]["bufferView"]
    circle = {"asset": {"version": "2.0"}, "nodes": [{"children": [0]}], "scenes": [{"nodes": [0]}]}
    one = ply.format("binary_little_endian", 1, 1, "uint").encode()
    return {
        "vertices.ply": ply.format("ascii", many, 1, "uchar").encode() + b"0 0 0\n",
        "faces.ply": ply.format("binary_little_endian", 1, many, "uchar").encode() + b"\0" * 300,
        "list.ply": one + b"\0" * 12 + b"\xff\xff\xff\x7f",
        "triangles.stl": b"\0" * 80 + struct.pack("<I", many) + b"\0" * 200,
        "index.obj": b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 1000000000\n",
        "sparse.gltf": json.dumps(tree).encode(),
        "deep.gltf": b'{"asset": ' + b"[" * 100_000,
        "nodes.gltf": json.dumps(circle).encode(),
    }  # fmt: skip


@pytest.mark.parametrize("name", claims())
def test_small_files_that_claim_to_be_huge_cost_little(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(claims()[name])
    tracemalloc.start()
    try:
        assert answer(path) is None
        # What is claimed would take gigabytes; a reader's own tables stay far below this.
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


def test_nodes_that_multiply_a_mesh_are_counted(tmp_path):
    gltf = Gltf()
    grid = np.arange(60_000, dtype="u4") % 4
    gltf.primitive["indices"] = gltf.accessor(grid)
    gltf.tree["nodes"] = [{"children": list(range(1, 301))}] + [{"mesh": 0}] * 300
    assert answer(gltf.write(tmp_path)) is None


def test_image_of_too_many_pixels_is_refused(tmp_path):
    path = odd_meshes.obj.obj(tmp_path)
    Image.new("1", (20_000, 20_000)).save(tmp_path / "skin.png")
    with pytest.raises(VPOGError, match=r"skin.png.*more than 134 million pixels"):
        load_mesh(path)


def test_file_that_is_too_large_is_refused_unread(tmp_path):
    path = tmp_path / "huge.stl"
    with path.open("wb") as file:
        file.truncate(600 * 2**20)  # A hole: it takes no space.
    with pytest.raises(VPOGError, match="600 MiB"):
        load_mesh(path)
