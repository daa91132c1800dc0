import cv2
import numpy as np
import pytest
import trimesh

from vpog_core.evaluation import baseline_sift
from vpog_core.evaluation.baseline_sift import SiftBaseline
from vpog_core.evaluation.pose_error import add
from vpog_core.geometry.se3 import rotation_x, rotation_y, transform
from vpog_core.objects.library import ObjectLibrary
from vpog_core.objects.mesh import Mesh, save_mesh
from vpog_core.objects.renderer import Renderer
from vpog_core.types import Camera, Detection

CAMERA = Camera(K=np.array([[600.0, 0, 319.5], [0, 600.0, 239.5], [0, 0, 1]]), width=640, height=480)


def printed_box() -> Mesh:
    """Return a box of 12 x 9 x 6 cm with blots of many sizes on every side."""
    rng = np.random.default_rng(5)
    texture = sum(
        cv2.resize(rng.uniform(-1, 1, (n, n, 3)), (768, 768), interpolation=cv2.INTER_CUBIC)
        for n in (24, 48, 96, 192)
    )
    texture = np.clip(128 + 70 * texture, 0, 255).astype(np.uint8)
    box = trimesh.creation.box((0.12, 0.09, 0.06))
    uv = np.zeros((len(box.faces), 3, 2), dtype=np.float32)
    for face, normal in enumerate(box.face_normals):
        axis = int(np.abs(normal).argmax())
        side = 2 * axis + (normal[axis] > 0)
        flat = np.delete(box.vertices[box.faces[face]], axis, axis=1) / 0.125 + 0.5
        uv[face] = (flat + np.array([side % 3, side // 3])) / [3, 2]
    return Mesh(box.vertices, box.faces, uv=uv, texture=texture)


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """Return a printed box, and a library of it."""
    mesh = printed_box()
    root = tmp_path_factory.mktemp("sift")
    save_mesh(mesh, root / "objects" / "thing.glb")
    return mesh, ObjectLibrary(root / "objects", root / "cache")


@pytest.fixture(scope="module")
def view(printed):
    """Return image, pose and box of a view between the templates', turned in the image."""
    mesh, _ = printed
    R = rotation_x(0.5) @ rotation_y(0.7) @ rotation_x(np.pi / 2)
    T = transform(R, np.array([0.03, -0.02, 2.8 * mesh.diameter]) - R @ mesh.center)
    shown = Renderer(mesh).render(T, CAMERA.K, (480, 640), background=(120, 120, 110), supersample=2)
    rows, columns = np.nonzero(shown.mask)
    box = np.array([columns.min(), rows.min(), columns.max(), rows.max()], dtype=float)
    return shown.rgb, T, box


@pytest.fixture(scope="module")
def method(printed):
    """Yield the method at half the usual sizes, for a quarter of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baseline_sift, "TEMPLATE_SIZE", 112)
        patch.setattr(baseline_sift, "CROP_SIZE", 224)
        yield SiftBaseline(printed[1])


def test_it_finds_a_printed_box(printed, view, method):
    mesh, _ = printed
    image, T, box = view
    estimates = method.estimate(image, CAMERA, [Detection("thing", box)])
    assert set(estimates.timings) == {"sift"}
    found = estimates[0]
    assert found.T_cam_obj is not None, found.reason
    assert found.inliers > 15
    # Interpolated and sub-pixel: well within the ten percent that count as right.
    assert add(found.T_cam_obj, T, mesh.hull_points) < 0.03 * mesh.diameter


def test_a_plain_picture_gives_a_reason(view, method):
    plain = np.full_like(view[0], 90)
    found = method.estimate(plain, CAMERA, [Detection("thing", view[2])])[0]
    assert found.T_cam_obj is None
    assert found.reason == "Too few features agree with one pose."


def test_a_box_outside_the_image_gives_a_reason(view, method):
    found = method.estimate(view[0], CAMERA, [Detection("thing", np.array([900.0, 10, 950, 60]))])[0]
    assert "outside" in found.reason


def test_features_come_from_the_cache(printed, view, method, monkeypatch):
    method.onboard("thing")
    monkeypatch.setattr(baseline_sift, "build_template_set", None)
    again = SiftBaseline(printed[1])
    found, first = (m.estimate(view[0], CAMERA, [Detection("thing", view[2])])[0] for m in (again, method))
    np.testing.assert_allclose(found.T_cam_obj, first.T_cam_obj)
