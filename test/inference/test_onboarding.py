import numpy as np
import pytest

from vpog_core.geometry.se3 import rotation_angle, rotation_z, transform, transform_points
from vpog_core.inference.onboarding import MAX_CACHED_CLUSTERS, OnboardedObject, roll_angle, rotate_image
from vpog_core.objects.viewpoints import align_roll, nearest_viewpoints, viewpoint_directions


def test_turned_goes_from_x_towards_y():
    picture = np.zeros((9, 9, 3), np.uint8)
    picture[4, 7] = 255
    assert np.argwhere(rotate_image(picture, np.pi / 2)[..., 0] > 200).tolist() == [[7, 4]]


@pytest.mark.parametrize(("view", "roll_index"), [(5, 0), (90, 7)])
def test_a_clusters_coordinates_fit_its_cameras(undescribed, view, roll_index):
    """Object points under the turned pixels project, by the turned cameras, onto these pixels."""
    cluster = undescribed.cluster(view, roll_index, 4)
    t = undescribed.templates
    R_ref = undescribed.rotation(view, roll_index)
    views = nearest_viewpoints(viewpoint_directions()[view], 4)
    assert views[0] == view
    for s, v in enumerate(views):
        T = t.T_virt_obj[v].astype(np.float64)
        T = transform(rotation_z(align_roll(T[:3, :3], R_ref)), np.zeros(3)) @ T
        row, column = np.nonzero(np.isfinite(cluster.coords[s]).all(axis=-1))
        assert len(row) > 0.9 * t.mask[v].sum()
        p = transform_points(T, cluster.coords[s, row, column].astype(np.float64)) @ t.K[v].T.astype(float)
        error = p[:, :2] / p[:, 2:] - np.stack([column, row], axis=1)
        # Interpolated where it is one surface: what is left is of float16. At rims the nearest pixel, half a
        # pixel along each axis. No bias.
        assert np.median(np.linalg.norm(error, axis=1)) < 0.05
        assert np.linalg.norm(error, axis=1).max() < 0.8
        assert np.abs(error.mean(axis=0)).max() < 0.05
        # The image shows the object where the coordinates are.
        lit = cluster.rgb[s].max(axis=-1) > 40
        assert np.isfinite(cluster.coords[s, lit]).all(axis=-1).mean() > 0.95


def test_the_cluster_is_turned_like_its_reference(undescribed):
    R_ref = undescribed.rotation(33, 4)
    t = undescribed.templates
    expected = rotation_z(roll_angle(4)) @ t.T_virt_obj[33][:3, :3]
    assert rotation_angle(R_ref, expected) < 1e-6
    cluster = undescribed.cluster(33, 4, 4)
    np.testing.assert_allclose(np.linalg.norm(cluster.directions, axis=1), 1, atol=1e-5)
    # The reference's camera looks at the object: its direction is against its own axis.
    assert np.degrees(np.arccos(-cluster.directions[0, 2])) < 4
    assert (cluster.directions @ cluster.directions[0] > np.cos(np.radians(20))).all()


def test_a_roll_of_the_reference_turns_the_pictures(undescribed):
    upright, turned_once = (undescribed.cluster(33, r, 2) for r in (0, 3))
    expected = rotate_image(upright.rgb[0], roll_angle(3))
    # Twice interpolated or once: a quarter turn maps pixels on pixels.
    assert np.abs(turned_once.rgb[0].astype(int) - expected).mean() < 1.0


def test_clusters_are_kept_but_not_for_ever(templates, untrained, monkeypatch):
    target = OnboardedObject(templates, untrained, None)
    monkeypatch.setattr("vpog_core.inference.onboarding.encode_images", lambda model, rgb: rgb)
    monkeypatch.setattr("vpog_core.inference.onboarding.MAX_CACHED_CLUSTERS", 3)
    assert MAX_CACHED_CLUSTERS > 3
    first = target.cluster(0, 0, 2)
    assert target.cluster(0, 0, 2) is first
    for view in (1, 2):
        target.cluster(view, 0, 2)
    assert target.cluster(0, 0, 2) is first
    target.cluster(3, 0, 2)
    assert target.cluster(0, 0, 2) is first  # used last but one: view 1 went
    assert len(target._clusters) == 3
