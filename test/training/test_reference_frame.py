"""Test that training gives directions in the reference view's frame, as inference does."""

import numpy as np
import pytest

from vpog_core.geometry.se3 import invert, rotation_x, rotation_z, transform, transform_points
from vpog_core.training.data.vpog_dataset import VPOGTrainDataset
from vpog_core.training.synthesis.scene_assets import SceneAssets


def seen_from_reference(T_virt_obj, center):
    """Return directions [S, 3] towards the cameras of poses [S, 4, 4], in the first one's frame."""
    T_ref_cam = T_virt_obj[0] @ np.stack([invert(T) for T in T_virt_obj])
    towards = T_ref_cam[:, :3, 3] - transform_points(T_virt_obj[0], center)
    return towards / np.linalg.norm(towards, axis=1, keepdims=True)


@pytest.mark.parametrize("refined_fraction", [0.0, 1.0])
def test_directions_do_not_know_the_meshs_own_frame(training_objects, refined_fraction):
    """Directions follow from the cameras' relative poses, which are the same in any frame of the mesh."""
    assets = SceneAssets([], training_objects)
    dataset = VPOGTrainDataset(
        training_objects, assets, 112, seed=5, queries=1, negatives=0, refined_fraction=refined_fraction
    )
    for index in range(3):
        sample = dataset[index]
        obj = next(o for o in training_objects if np.isclose(o.mesh.diameter, sample["diameter"]))
        center, poses = obj.renderer.mesh.center, sample["template_T"].astype(np.float64)
        expected = seen_from_reference(poses, center)
        np.testing.assert_allclose(sample["directions"], expected, atol=1e-5)  # poses are float32
        R_turn = rotation_x(1.0) @ rotation_z(2.0)
        turned = poses @ transform(R_turn.T, np.zeros(3))
        np.testing.assert_allclose(seen_from_reference(turned, R_turn @ center), expected, atol=1e-12)
