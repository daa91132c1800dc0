import numpy as np
import pytest

from vpog_core.evaluation.tracking_samples import Motion, covered, moved
from vpog_core.geometry.se3 import rotation_angle, rotation_x, transform, transform_points
from vpog_core.synthetic.objects import make_object
from vpog_core.types import Camera

CAMERA = Camera(np.array([[100.0, 0, 40], [0, 100, 30], [0, 0, 1]]), 80, 60)


def test_a_moved_pose_is_off_by_as_much_as_the_motion_says():
    mesh, T = make_object(900_001, vertices=500), transform(rotation_x(2.0), [0.1, 0.0, 0.8])
    rng, middle = np.random.default_rng(0), transform_points(T, mesh.center)
    poses = [moved(rng, T, mesh, Motion(10.0, 0.02, 0.0)) for _ in range(50)]
    turns = np.degrees([rotation_angle(pose[:3, :3], T[:3, :3]) for pose in poses])
    assert 8.0 < turns.max() <= 10.0
    middles = np.array([transform_points(pose, mesh.center) for pose in poses])
    # Without a shift the middle stays on its ray.
    np.testing.assert_allclose(middles / middles[:, 2:], np.tile(middle / middle[2], (50, 1)), atol=1e-9)
    assert 0.01 < np.std(middles[:, 2] / middle[2]) < 0.03


@pytest.mark.parametrize("box", [[20, 10, 60, 50], [-30, -10, 30, 40], [60, 40, 140, 90]])
def test_what_covers_an_object_lies_in_its_box_and_hides_all_of_it_at_times(box):
    rng, image = np.random.default_rng(1), np.random.default_rng(2).integers(0, 256, (60, 80, 3), np.uint8)
    before, fractions = image.copy(), []
    x0, y0, x1, y1 = np.clip(box, 0, [80, 60, 80, 60])
    for _ in range(300):
        changed = (covered(rng, image, np.array(box, float), CAMERA) != image).any(axis=-1)
        fractions.append(changed[y0:y1, x0:x1].mean())
    np.testing.assert_array_equal(image, before)
    assert 0.5 < np.mean(np.array(fractions) == 0.0) < 0.8
    assert max(fractions) > 0.95
