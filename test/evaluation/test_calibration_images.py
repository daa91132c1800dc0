import numpy as np
import pytest

from vpog_core.evaluation import calibration_images
from vpog_core.evaluation.calibration_images import MIN_VISIBLE, OBJECTS, CalibrationScene
from vpog_core.inference.observation import Observation
from vpog_core.inference.rendered_view import RenderedView
from vpog_core.objects.library import ObjectLibrary
from vpog_core.objects.renderer import Renderer


@pytest.fixture(scope="module")
def scene() -> CalibrationScene:
    return CalibrationScene(2, frames=2, hard=True)


def test_the_estimator_gets_the_objects_with_their_symmetries(scene, tmp_path):
    scene.write_library(tmp_path)
    library = ObjectLibrary(tmp_path)
    assert set(library.ids) == set(scene.objects)
    plain = [target.mesh.vertex_colors is None for target in scene.objects.values()]
    assert sum(plain) == 1
    for name, target in scene.objects.items():
        assert library.symmetry(name).is_trivial == target.symmetry.is_trivial


def test_views_show_the_objects_at_their_poses(scene):
    """The mesh rendered at the true pose covers the box of what is visible."""
    seen = 0
    for frame, camera in scene.frames():
        assert frame.image.shape == (camera.height, camera.width, 3)
        for view in scene.views(frame, camera):
            seen += 1
            mesh = scene.objects[view.detection.class_id].mesh
            mask = Renderer(mesh).render(view.T_cam_obj, camera.K, view.image.shape[:2]).mask
            x0, y0, x1, y1 = np.rint(view.detection.box).astype(int)
            inside = mask[max(y0, 0) : y1, max(x0, 0) : x1]
            assert inside.sum() > 0.8 * MIN_VISIBLE * mask.sum()
    assert seen >= OBJECTS


def test_the_same_number_makes_the_same_images():
    images = [next(CalibrationScene(1, frames=1, hard=True).frames())[0].image for _ in range(2)]
    assert np.array_equal(*images)


def test_hidden_objects_are_left_out(scene, monkeypatch):
    """With something in front of every object, boxes are those of the visible part, and some are gone."""
    monkeypatch.setattr(calibration_images, "covered", lambda rng, image, box, camera: np.zeros_like(image))
    frame, camera = next(scene.frames())
    assert not list(scene.views(frame, camera))


def test_renders_of_the_meshes_are_less_similar_to_the_images_of_hard_scenes(monkeypatch):
    """The mean over the same objects at the same poses is compared, as single images may have easy light."""
    monkeypatch.setattr(calibration_images, "covered", lambda rng, image, box, camera: image)
    means = {}
    for hard in (False, True):
        scene, similarities = CalibrationScene(3, frames=2, hard=hard), []
        for frame, camera in scene.frames():
            for view in scene.views(frame, camera):
                renderer = Renderer(scene.objects[view.detection.class_id].mesh)
                shown = RenderedView.of(renderer, Observation(view.image, camera), view.T_cam_obj)
                similarities.append(shown.similarity)
        means[hard] = np.mean(similarities)
    assert means[True] < means[False] - 0.05
