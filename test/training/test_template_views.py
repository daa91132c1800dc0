"""Test that templates of a sample are rendered when it requests them."""

import numpy as np
import pytest

from vpog_core.geometry.se3 import rotation_angle, rotation_z
from vpog_core.objects.template_set import template_camera
from vpog_core.objects.viewpoints import align_roll, viewpoint_directions
from vpog_core.training.data.vpog_dataset import VPOGTrainDataset
from vpog_core.training.synthesis.scene_assets import SceneAssets
from vpog_core.training.synthesis.template_selector import Selection
from vpog_core.training.synthesis.template_views import render_templates

SIZE = 64


def test_views_are_the_renders_of_their_cameras(training_objects):
    """Views that are not turned are what `render` gives, with depth or without."""
    renderer, views = training_objects[0].renderer, [3, 40, 161]
    out = render_templates(renderer, Selection(views, [0.0] * 3, cluster=1), SIZE)
    assert out["template_depth"].shape == (1, SIZE, SIZE)
    assert out["template_K"].shape == (1, 3, 3)
    for n, view in enumerate(views):
        K, T = template_camera(renderer.mesh, viewpoint_directions()[view], SIZE)
        wanted = renderer.render(T, K, (SIZE, SIZE))
        np.testing.assert_array_equal(out["template_rgb"][n], wanted.rgb)
        np.testing.assert_allclose(out["template_T"][n], T, atol=1e-12)
    np.testing.assert_array_equal(
        out["template_depth"][0],
        renderer.render(out["template_T"][0], out["template_K"][0], (SIZE, SIZE)).depth,
    )


def test_a_view_may_be_turned(training_objects):
    renderer = training_objects[0].renderer
    upright, turned = (
        render_templates(renderer, Selection([12], [roll], cluster=1), SIZE) for roll in (0.0, np.pi / 2)
    )
    # A quarter of a turn takes pixels onto pixels, but for rounding in the warp.
    difference = np.rot90(upright["template_rgb"][0], -1).astype(int) - turned["template_rgb"][0]
    assert np.abs(difference).max() <= 1
    relative = turned["template_T"][0, :3, :3] @ upright["template_T"][0, :3, :3].T
    assert rotation_angle(relative, rotation_z(np.pi / 2)) == pytest.approx(0, abs=1e-9)


def test_the_cluster_is_turned_towards_its_reference(training_objects):
    dataset = VPOGTrainDataset(
        training_objects,
        SceneAssets([], training_objects),
        SIZE,
        queries=1,
        negatives=0,
        refined_fraction=0.0,
    )
    for index in range(3):
        poses = dataset[index]["template_T"][:4, :3, :3].astype(np.float64)
        for R in poses[1:]:
            assert abs(np.degrees(align_roll(R, poses[0]))) < 1e-4  # poses are float32
