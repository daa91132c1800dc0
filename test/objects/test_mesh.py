from __future__ import annotations

import cv2
import numpy as np
import pytest
import trimesh

from vpog_core.objects.mesh import Mesh, load_mesh, save_mesh
from vpog_core.objects.renderer import Light, Renderer
from vpog_core.types import VPOGError

FLAT = Light(ambient=1.0, diffuse=0.0)
CORNERS = {
    "top left": (255, 0, 0),
    "top right": (0, 255, 0),
    "bottom left": (0, 0, 255),
    "bottom right": (250, 250, 0),
}
K = np.array([[500, 0, 49.5], [0, 500, 49.5], [0, 0, 1.0]])


def quarters() -> np.ndarray:
    """Return an image whose four quarters tell every flip and turn apart."""
    image = np.zeros((64, 64, 3), np.uint8)
    image[:32, :32], image[:32, 32:] = CORNERS["top left"], CORNERS["top right"]
    image[32:, :32], image[32:, 32:] = CORNERS["bottom left"], CORNERS["bottom right"]
    return image


def seen_corners(mesh: Mesh) -> dict[str, tuple[int, int, int]]:
    """Colours at the corners of a 0.1 m square in the object's x, z plane, seen from -y with z up."""
    T = np.array([[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0.7], [0, 0, 0, 1.0]])
    rgb = Renderer(mesh).render(T, K, (100, 100), FLAT).rgb
    return {
        f"{v} {h}": tuple(int(c) for c in rgb[y, x])
        for v, y in (("top", 30), ("bottom", 69))
        for h, x in (("left", 30), ("right", 69))
    }


SQUARE = np.array([[-0.05, 0, -0.05], [0.05, 0, -0.05], [0.05, 0, 0.05], [-0.05, 0, 0.05]])
UV = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float)
FACES = np.array([[0, 1, 2], [0, 2, 3]])


def write_ply(folder, texture="skin.png", scale=1.0):
    rows = "\n".join(f"{x} {y} {z} {u} {v}" for (x, y, z), (u, v) in zip(SQUARE * scale, UV, strict=True))
    text = (
        f"ply\nformat ascii 1.0\ncomment TextureFile {texture}\nelement vertex 4\n"
        + "".join(f"property float {n}\n" for n in ("x", "y", "z", "texture_u", "texture_v"))
        + f"element face 2\nproperty list uchar int vertex_indices\nend_header\n{rows}\n3 0 1 2\n3 0 2 3\n"
    )
    (folder / "square.ply").write_text(text)
    return folder / "square.ply"


def write_obj(folder, material="square.mtl", texture="skin.png"):
    text = f"mtllib {material}\nusemtl skin\n"
    text += "".join(f"v {x} {y} {z}\n" for x, y, z in SQUARE) + "".join(f"vt {u} {v}\n" for u, v in UV)
    (folder / "square.obj").write_text(text + "f 1/1 2/2 3/3\nf 1/1 3/3 4/4\n")
    (folder / "square.mtl").write_text(f"newmtl skin\nKd 0.5 0.5 0.5\nmap_Kd {texture}\n")
    return folder / "square.obj"


@pytest.fixture
def skin(tmp_path):
    cv2.imwrite(str(tmp_path / "skin.png"), quarters()[..., ::-1])
    return tmp_path


@pytest.mark.parametrize("write", [write_ply, write_obj], ids=["ply", "obj"])
def test_texture_is_the_right_way_up(skin, write):
    assert seen_corners(load_mesh(write(skin))) == CORNERS


def test_glb_round_trip_keeps_shape_and_texture(tmp_path):
    mesh = Mesh(SQUARE, FACES, uv=UV[FACES].astype(np.float32), texture=quarters())
    save_mesh(mesh, tmp_path / "square.glb")
    back = load_mesh(tmp_path / "square.glb")
    assert seen_corners(mesh) == CORNERS
    assert seen_corners(back) == CORNERS
    assert back.diameter == pytest.approx(0.1 * np.sqrt(2), abs=1e-6)


@pytest.mark.parametrize("suffix", ["ply", "glb"])
def test_vertex_colours_survive_a_round_trip(tmp_path, suffix):
    rng = np.random.default_rng(0)
    ball = trimesh.creation.icosphere(2, radius=0.05)
    colors = rng.integers(0, 256, (len(ball.vertices), 3)).astype(np.uint8)
    save_mesh(Mesh(ball.vertices, ball.faces, vertex_colors=colors), tmp_path / f"ball.{suffix}")
    back = load_mesh(tmp_path / f"ball.{suffix}")
    # The formats store float32 and may reorder nothing: vertices and colours stay in step.
    np.testing.assert_allclose(back.vertices, ball.vertices, atol=1e-7)
    np.testing.assert_array_equal(back.vertex_colors, colors)


def test_scene_with_two_textures_and_a_plain_part_becomes_one_mesh(tmp_path):
    from PIL import Image

    def part(shift, image):
        material = trimesh.visual.material.PBRMaterial(baseColorTexture=Image.fromarray(image))
        visual = trimesh.visual.TextureVisuals(uv=UV, material=material)
        return trimesh.Trimesh(SQUARE - (-shift, 0, 0), FACES, visual=visual, process=False)

    grey = np.full((16, 40, 3), 90, np.uint8)
    plain = trimesh.Trimesh(SQUARE - (0, 0, -0.2), FACES, process=False)
    plain.visual = trimesh.visual.TextureVisuals(
        material=trimesh.visual.material.PBRMaterial(baseColorFactor=[200, 100, 50, 255])
    )
    scene = trimesh.Scene([part(0, quarters()), part(0.2, grey), plain])
    (tmp_path / "parts.glb").write_bytes(scene.export(file_type="glb"))
    mesh = load_mesh(tmp_path / "parts.glb")
    assert len(mesh.faces) == 6
    assert seen_corners(mesh) == CORNERS
    shifted = Mesh(mesh.vertices - [0.2, 0, 0], mesh.faces, uv=mesh.uv, texture=mesh.texture)
    assert set(seen_corners(shifted).values()) == {(90, 90, 90)}
    lowered = Mesh(mesh.vertices - [0, 0, 0.2], mesh.faces, uv=mesh.uv, texture=mesh.texture)
    assert set(seen_corners(lowered).values()) == {(200, 100, 50)}


def test_repeating_texture_coordinates_repeat(tmp_path):
    mesh = Mesh(SQUARE, FACES, uv=(UV[FACES] + 3.0).astype(np.float32), texture=quarters())
    assert seen_corners(mesh) == CORNERS


@pytest.mark.parametrize(("unit", "metres"), [("mm", 0.001), ("cm", 0.01), ("m", 1.0)])
def test_units(tmp_path, unit, metres):
    save_mesh(Mesh(SQUARE / metres, FACES), tmp_path / "square.ply")
    assert load_mesh(tmp_path / "square.ply", unit).diameter == pytest.approx(0.1 * np.sqrt(2), rel=1e-6)


def test_diameter_center_and_bounds_of_a_box():
    box = trimesh.creation.box((0.03, 0.04, 0.12))
    mesh = Mesh(box.vertices - (-1, -2, -3), box.faces)
    assert mesh.diameter == pytest.approx(0.13)  # 3, 4, 12 -> 13
    np.testing.assert_allclose(mesh.center, [1, 2, 3])
    np.testing.assert_allclose(mesh.bounds[1] - mesh.bounds[0], [0.03, 0.04, 0.12])


def test_the_diameter_of_a_mesh_whose_points_crowd_at_one_end():
    cone = trimesh.creation.cone(radius=0.03, height=0.3, sections=3000)
    # From the rim to the tip.
    assert Mesh(cone.vertices, cone.faces).diameter == pytest.approx(np.hypot(0.03, 0.3), rel=1e-6)


def test_the_diameter_of_a_mesh_of_many_points():
    sphere = trimesh.creation.icosphere(subdivisions=5)
    stretched = (
        sphere.vertices @ np.diag([0.1, 0.05, 0.03]) @ trimesh.transformations.euler_matrix(1, 2, 3)[:3, :3]
    )
    mesh = Mesh(stretched, sphere.faces)
    assert len(mesh.hull_points) > 8000
    assert 0.2 * (1 - 1e-3) < mesh.diameter <= 0.2 * (1 + 1e-9)


def test_flat_mesh_has_a_diameter():
    assert Mesh(SQUARE, FACES).diameter == pytest.approx(0.1 * np.sqrt(2))


def _error(path, unit="auto") -> str:
    with pytest.raises(VPOGError) as caught:
        load_mesh(path, unit)
    return str(caught.value)


def test_mesh_in_millimetres_is_refused_with_the_unit_to_set(skin):
    assert "set `unit: mm`" in _error(write_ply(skin, scale=1000.0))


def test_mesh_read_in_too_small_a_unit_is_refused(skin):
    assert "set `unit: m`" in _error(write_ply(skin), "mm")


def test_missing_texture_is_named(tmp_path):
    assert "'skin.png', which is not there" in _error(write_ply(tmp_path))
    assert "'skin.png', which is not there" in _error(write_obj(tmp_path))


@pytest.mark.parametrize(
    "name", ["../skin.png", "/etc/hostname", "a/../../skin.png", "..\\skin.png", "file:///etc/hostname"]
)
def test_files_outside_the_folder_are_not_read(skin, name):
    inner = skin / "inner"
    inner.mkdir()
    for path in (write_ply(inner, name), write_obj(inner, texture=name)):
        assert "outside its folder" in _error(path)


@pytest.mark.parametrize(
    "name", ["../skin.png", "C:\\art\\skin.png", "/home/me/skin.png", "textures/skin.png"]
)
def test_a_file_of_another_folder_put_beside_the_mesh_is_taken_and_said(skin, name):
    for path in (
        write_ply(skin, name),
        write_obj(skin, texture=name),
        write_obj(skin, material="x/square.mtl"),
    ):
        mesh = load_mesh(path)
        assert mesh.texture is not None
        assert "beside it is taken" in " ".join(mesh.notes)


def test_broken_empty_and_unknown_files(tmp_path):
    for name in ("a.ply", "a.glb", "a.stl", "a.obj"):
        (tmp_path / name).write_bytes(b"not a mesh at all")
        assert "export" in _error(tmp_path / name)
    assert "There is no mesh file" in _error(tmp_path / "none.ply")
    (tmp_path / "a.step").write_text("x")
    assert ".glb" in _error(tmp_path / "a.step")
    assert "unit 'inch'" in _error(tmp_path / "a.ply", "inch")


def test_ply_does_not_silently_lose_a_texture(tmp_path):
    mesh = Mesh(SQUARE, FACES, uv=UV[FACES].astype(np.float32), texture=quarters())
    with pytest.raises(VPOGError, match="glb"):
        save_mesh(mesh, tmp_path / "square.ply")


def tent() -> Mesh:
    """Return two faces of one edge with normals of their own, so that the edge is sharp in the file."""
    vertices = np.array([[0, 0, 0.05], [0.1, 0, 0.05], [0, -0.05, 0], [0.1, -0.05, 0], [0, 0.05, 0]])
    faces = np.array([[0, 2, 3], [0, 1, 4]])
    corners = vertices[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = normals / np.linalg.norm(normals, axis=1, keepdims=True)
    return Mesh(vertices, faces, corner_normals=np.repeat(normals[:, None], 3, axis=1).astype(np.float32))


@pytest.mark.parametrize(("suffix", "textured"), [("ply", False), ("glb", False), ("glb", True)])
def test_normals_of_the_file_survive_a_round_trip(tmp_path, suffix, textured):
    mesh = tent()
    if textured:
        mesh.uv, mesh.texture = np.tile(UV[:3].astype(np.float32), (2, 1, 1)), quarters()
    save_mesh(mesh, tmp_path / f"tent.{suffix}")
    back = load_mesh(tmp_path / f"tent.{suffix}")
    np.testing.assert_allclose(back.vertices[back.faces], mesh.vertices[mesh.faces], atol=1e-7)
    np.testing.assert_allclose(back.corner_normals, mesh.corner_normals, atol=1e-6)


def test_normals_of_obj_are_those_of_its_corners(tmp_path):
    text = "".join(f"v {x} {y} {z}\n" for x, y, z in SQUARE) + "vn 0 -2 0\nvn 0 0 0\nvn 0 nan 0\n"
    (tmp_path / "a.obj").write_text(text + "f 1//1 2//1 3//1\nf 1//1 3//1 4//1\n")
    mesh = load_mesh(tmp_path / "a.obj")
    np.testing.assert_array_equal(mesh.corner_normals, np.broadcast_to([0, -1, 0], (2, 3, 3)))
    for useless in ("2", "3"):
        (tmp_path / "a.obj").write_text(text + f"f 1//{useless} 2//{useless} 3//{useless}\n")
        assert load_mesh(tmp_path / "a.obj").corner_normals is None
    (tmp_path / "a.obj").write_text(text + "f 1//1 2//1 3//1\nf 1 3 4\n")
    assert load_mesh(tmp_path / "a.obj").corner_normals is None


def test_mirrored_node_keeps_outside_and_normals_outside(tmp_path):
    mesh = tent()
    plain = trimesh.Trimesh(
        mesh.vertices[mesh.faces].reshape(-1, 3), np.arange(6).reshape(2, 3),
        vertex_normals=mesh.corner_normals.reshape(-1, 3), process=False,
    )  # fmt: skip
    scene = trimesh.Scene()
    scene.add_geometry(plain, transform=np.diag([-1.0, 2.0, 1.0, 1.0]))
    (tmp_path / "mirrored.glb").write_bytes(scene.export(file_type="glb", include_normals=True))
    back = load_mesh(tmp_path / "mirrored.glb")
    corners = back.vertices[back.faces]
    facing = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    facing /= np.linalg.norm(facing, axis=1, keepdims=True)
    assert corners[..., 0].min() == pytest.approx(-0.1)
    np.testing.assert_allclose(back.corner_normals, np.repeat(facing[:, None], 3, axis=1), atol=1e-6)


def test_texture_repeats_beside_another_texture(tmp_path):
    cv2.imwrite(str(tmp_path / "skin.png"), quarters()[..., ::-1])
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((16, 16, 3), 90, np.uint8))
    text = "mtllib a.mtl\n" + "".join(f"v {x} {y} {z}\n" for x, y, z in SQUARE)
    text += "".join(f"vt {11 * u} {11 * v}\n" for u, v in UV)
    text += "v 0 0.2 0\nv 0.1 0.2 0\nv 0 0.2 0.1\n"
    text += "usemtl skin\nf 1/1 2/2 3/3 4/4\nusemtl grey\nf 5/1 6/2 7/3\n"
    (tmp_path / "a.obj").write_text(text)
    (tmp_path / "a.mtl").write_text("newmtl skin\nmap_Kd skin.png\nnewmtl grey\nmap_Kd grey.png\n")
    mesh = load_mesh(tmp_path / "a.obj")
    assert not mesh.notes
    # Along the lower edge the two lower quarters follow each other eleven times.
    uv = mesh.uv[0, 0] + (mesh.uv[0, 1] - mesh.uv[0, 0]) * (np.arange(22)[:, None] + 0.5) / 22
    h, w = mesh.texture.shape[:2]
    seen = mesh.texture[((1 - uv[:, 1] - 3 / h) * h).astype(int), (uv[:, 0] * w).astype(int)]
    assert [tuple(int(c) for c in color) for color in seen] == [
        CORNERS["bottom left"],
        CORNERS["bottom right"],
    ] * 11


def test_parts_of_one_texture_share_its_place_in_the_atlas(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (256, 256, 3)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "skin.png"), image)
    text = "mtllib a.mtl\n" + "".join(f"v {x} {y} {z}\n" for x, y, z in SQUARE)
    text += "".join(f"vt {u} {v}\n" for u, v in UV) + "".join(
        f"usemtl m{i}\nf 1/1 2/2 3/3\n" for i in range(50)
    )
    (tmp_path / "a.obj").write_text(text + "usemtl plain\nf 1 3 4\n")
    materials = "".join(f"newmtl m{i}\nmap_Kd skin.png\n" for i in range(50))
    (tmp_path / "a.mtl").write_text(materials + "newmtl plain\nKd 1 0 0\n")
    mesh = load_mesh(tmp_path / "a.obj")
    # One copy of the texture, the small tile, and their gutters.
    assert mesh.texture.size < 2 * image.size


def test_files_a_mesh_was_read_from_are_told(skin):
    path = write_obj(skin)
    assert [file.path.name for file in load_mesh(path).files] == ["square.obj", "square.mtl", "skin.png"]
