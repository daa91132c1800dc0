"""Test that queries and templates of a sample have the same appearance, and its symmetry."""

import numpy as np
import pytest
import trimesh

from vpog_core.geometry.se3 import rotation_angle
from vpog_core.geometry.symmetry import Symmetry
from vpog_core.objects.mesh import Mesh
from vpog_core.objects.renderer import Renderer
from vpog_core.training.data.vpog_dataset import VPOGTrainDataset
from vpog_core.training.synthesis.appearance import AppearanceParams, sample_appearance
from vpog_core.training.synthesis.scene_assets import SceneAssets
from vpog_core.training.synthesis.training_object import TrainingObject
from vpog_core.types import VPOGError

CAN = Symmetry.from_mapping({"continuous": [{"axis": "z"}], "discrete": [{"axis": "x", "order": 2}]})


@pytest.fixture(scope="module")
def can() -> TrainingObject:
    """Return a can whose own colours tell every pose."""
    shape = trimesh.creation.cylinder(0.03, 0.1, sections=32).subdivide().subdivide()
    colors = (127 + 128 * shape.vertices / np.abs(shape.vertices).max(axis=0)).clip(0, 255)
    renderer = Renderer(Mesh(shape.vertices, shape.faces, vertex_colors=colors.astype(np.uint8)))
    return TrainingObject("can", lambda: renderer, find_symmetries=lambda: (Symmetry.none(), CAN))


def only(look: str) -> AppearanceParams:
    return AppearanceParams(**{**dict.fromkeys(vars(AppearanceParams()), 0.0), look: 1.0})


def test_the_symmetry_is_the_looks(can):
    rng = np.random.default_rng(0)
    assert sample_appearance(rng, can, only("own"), []) is can
    assert sample_appearance(rng, can, only("plain"), []).symmetry.continuous
    prints = [sample_appearance(rng, can, only("print"), []).symmetry for _ in range(8)]
    assert sum(s.is_trivial for s in prints) >= 6  # patterns in near colours may keep some
    assert sample_appearance(rng, can, only("plain"), []).mesh is can.mesh


def test_a_look_that_never_comes_is_refused():
    for values in (dict.fromkeys(vars(AppearanceParams()), 0), {"own": -1.0}, {"print": float("nan")}):
        with pytest.raises(VPOGError, match=r"data\.appearances are"):
            AppearanceParams(**values)


def test_targets_of_a_plain_can_are_its_nearest_equivalents(can):
    """A turn about its axis cannot be seen: none is left between query and reference."""
    sets = {
        look: VPOGTrainDataset(
            [can],
            SceneAssets([], [can]),
            64,
            seed=1,
            queries=3,
            negatives=6,
            refined_fraction=0.0,
            appearances=only(look),
        )
        for look in ("own", "plain")
    }
    for index in range(3):
        own, plain = (sets[look][index] for look in ("own", "plain"))
        # The same draws, another paint: shape and light are the same, colours and targets are not.
        np.testing.assert_array_equal(own["template_depth"], plain["template_depth"])
        assert (own["template_rgb"] != plain["template_rgb"]).any()
        np.testing.assert_array_equal(own["query_depth"], plain["query_depth"])
        for R, R_ref in ((T[:3, :3], plain["template_T"][0, :3, :3]) for T in plain["query_T"]):
            # Turned to the nearest, the rest of the rotation is across the axis.
            rest = R_ref.T @ R
            assert abs(rest[0, 1] - rest[1, 0]) < 1e-5
        # The last three are the right candidates of the queries, which are others by their symmetry.
        assert (plain["distance"][:, :-3] <= own["distance"][:, :-3] + 1e-5).all()
        angle = rotation_angle(plain["query_T"][0, :3, :3], plain["template_T"][0, :3, :3])
        assert plain["distance"][0, 0] == pytest.approx(angle, abs=1e-4)


def test_templates_wear_what_the_query_wears(can):
    """A print in one colour is of that colour in both, whatever the light in the query."""
    dataset = VPOGTrainDataset(
        [can], SceneAssets([], [can]), 64, queries=1, photometry=False, appearances=only("plain")
    )
    for index in range(4):
        sample = dataset[index]
        mask = sample["template_depth"][0] > 0
        hue = sample["template_rgb"][0][mask].astype(float)
        hue /= np.linalg.norm(hue, axis=1, keepdims=True) + 1e-9
        assert np.median(np.abs(hue - np.median(hue, axis=0)).max(axis=1)) < 0.05
