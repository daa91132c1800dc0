import numpy as np
import pytest
import torch

from vpog_core.geometry.se3 import rotation_angle
from vpog_core.synthetic.photometry import degrade
from vpog_core.training.data.batch import Batch
from vpog_core.training.data.vpog_dataset import VPOGTrainDataset, degrade_inside, object_probabilities
from vpog_core.training.losses.labels import matching_labels
from vpog_core.training.synthesis.scene_assets import SceneAssets
from vpog_core.training.synthesis.training_object import TrainingObject

SHAPES = {
    "query_rgb": (4, 112, 112, 3),
    "query_depth": (4, 112, 112),
    "query_K": (4, 3, 3),
    "query_T": (4, 4, 4),
    "template_rgb": (28, 112, 112, 3),
    "template_depth": (4, 112, 112),
    "template_K": (4, 3, 3),
    "template_T": (28, 4, 4),
    "directions": (4, 3),
    "diameter": (),
    "distance": (4, 28),
    "query_outside": (4, 112, 112),
}


@pytest.fixture(scope="module")
def sample(dataset):
    return dataset[7]


def test_shapes_and_dtypes(sample):
    assert {key: value.shape for key, value in sample.items()} == SHAPES
    for key, value in sample.items():
        kind = np.uint8 if key.endswith("rgb") else bool if key.endswith("outside") else np.float32
        assert value.dtype == kind
        assert np.isfinite(value).all()


def test_the_same_index_gives_the_same_arrays(training_objects, dataset, sample):
    again = VPOGTrainDataset(training_objects, SceneAssets([], training_objects), 112, seed=3)[7]
    assert all(np.array_equal(again[key], sample[key]) for key in sample)
    other_seed = VPOGTrainDataset(training_objects, SceneAssets([], training_objects), 112, seed=4)[7]
    for other in (dataset[8], other_seed):
        assert not np.array_equal(other["query_rgb"], sample["query_rgb"])


def test_other_counts(training_objects):
    assets = SceneAssets([], training_objects)
    sample = VPOGTrainDataset(training_objects, assets, 112, queries=2, cluster=3, negatives=1, length=5)[0]
    assert sample["query_rgb"].shape[0] == 2
    assert sample["template_depth"].shape[0] == 3
    assert sample["template_T"].shape[0] == 4


def test_turned_templates_are_what_their_cameras_see(training_objects, dataset):
    """Renders by the sample's own K and T agree with its warped templates."""
    sample = dataset[7]
    rendered = next(o for o in training_objects if abs(o.mesh.diameter - sample["diameter"]) < 1e-6)
    for s in range(4):
        T, K = (sample[key][s].astype(np.float64) for key in ("template_T", "template_K"))
        again = rendered.renderer.render(T, K, (112, 112))
        mask = sample["template_depth"][s] > 0
        # Nearest sampling moves the rim by half a pixel: some 1 to 5 % of an object's pixels.
        assert (mask & again.mask).sum() > 0.94 * (mask | again.mask).sum()
        gap = np.abs(sample["template_depth"][s] - again.depth)[mask & again.mask]
        # Half a millimetre is the step of float16 at the templates' distances, half a pixel the sampling's.
        assert np.median(gap) < 0.001
        difference = np.abs(sample["template_rgb"][s].astype(int) - again.rgb).max(axis=-1)
        assert (difference[mask].mean()) < 60


def test_queries_are_what_their_cameras_see(training_objects, dataset):
    sample = dataset[7]
    rendered = next(o for o in training_objects if abs(o.mesh.diameter - sample["diameter"]) < 1e-6)
    for g in range(4):
        T, K = (sample[key][g].astype(np.float64) for key in ("query_T", "query_K"))
        again = rendered.renderer.render(T, K, (112, 112))
        visible = sample["query_depth"][g] > 0
        both = visible & again.mask
        assert visible.sum() > 300
        assert both.sum() > 0.94 * visible.sum()
        assert np.median(np.abs(sample["query_depth"][g] - again.depth)[both]) < 0.001


def test_directions_are_seen_from_the_reference(sample):
    """The reference looks at the object; its neighbours are within 25 degrees, also of a rendered one."""
    directions = sample["directions"]
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1, atol=1e-6)
    # The look-at turns a camera by the few degrees from the object's middle to its box's.
    assert np.degrees(np.arccos(-directions[0, 2])) < 4
    assert (directions @ directions[0] > np.cos(np.radians(25))).all()


def test_queries_lie_around_the_cluster(dataset):
    """Queries lie within 60 degrees of the reference (anchor error, spread, roll); most have labels."""
    for index in range(4):
        sample = dataset[index]
        angles = [
            np.degrees(rotation_angle(R[:3, :3], sample["template_T"][0, :3, :3])) for R in sample["query_T"]
        ]
        assert max(angles) < 75
        batch = Batch(**{key: torch.from_numpy(np.asarray(value))[None] for key, value in sample.items()})
        labels = matching_labels(batch, offset=(1, 3))
        assert labels.patch_class.shape == (4, 4, 49)
        assert labels.flow.shape == (4, 4, 49, 4, 4, 2)
        seen = labels.patch_class < 49
        assert seen.flatten(1).any(dim=1).all()
        # Once the roll is out, what is seen stays near its place: 3 patches of 7 at most, mostly.
        assert (labels.flow[labels.seen].abs() < 1.5).float().mean() > 0.95


def test_rotation_distance_is_the_geodesic(sample):
    batch = Batch(**{key: torch.from_numpy(np.asarray(value))[None] for key, value in sample.items()})
    distance = batch.rotation_distance()
    assert distance.shape == (1, 4, 28)
    expected = rotation_angle(sample["query_T"][1, :3, :3], sample["template_T"][9, :3, :3])
    assert distance[0, 1, 9].item() == pytest.approx(expected, abs=1e-5)


def test_each_query_has_a_right_view_among_the_candidates(dataset):
    nearest = np.concatenate([dataset[index]["distance"].min(axis=1) for index in range(6)])
    # A view lies within 11 degrees, at a roll that is 15 off at most; turned symmetries come nearer.
    assert np.degrees(nearest.max()) < 20


def test_kinds_are_mixed_by_weight(training_objects):
    probabilities = object_probabilities(["a", "b", "b", "b"], {"a": 1.0, "b": 3.0})
    np.testing.assert_allclose(probabilities, [0.25, 0.25, 0.25, 0.25])
    np.testing.assert_allclose(
        object_probabilities(["a", "b", "b"], {"a": 3.0, "b": 1.0}), [0.75, 0.125, 0.125]
    )
    first, second = training_objects
    other = TrainingObject("other", second.open_renderer, "meshes")
    weighted = VPOGTrainDataset(
        [first, other], SceneAssets([], training_objects), 112, queries=1, cluster=1, negatives=0,
        weights={"procedural": 0.0, "meshes": 1.0},
    )  # fmt: skip
    assert {float(weighted[i]["diameter"]) for i in range(4)} == {np.float32(second.mesh.diameter)}


def test_refined_groups_have_a_reference_at_nearly_the_queries_pose(training_objects):
    refined = VPOGTrainDataset(
        training_objects, SceneAssets([], training_objects), 112, seed=5, queries=2, refined_fraction=1.0
    )
    for index in range(8):
        sample = refined[index]
        reference = sample["template_T"][0, :3, :3]
        angles = np.degrees([rotation_angle(T[:3, :3], reference) for T in sample["query_T"]])
        # Directions spread by 4 degrees a component, the turn by 3.4; a crop off its box's middle adds 5.
        assert max(angles) < 25
        assert sample["directions"][0, 2] < -0.99
        # The templates beside it are the neighbours of the view nearest to it: 11 and 19 degrees at most.
        assert (sample["directions"] @ sample["directions"][0] > np.cos(np.radians(30))).all()
        far = np.linalg.norm(sample["template_T"][0, :3, 3]) / np.linalg.norm(
            sample["query_T"][:, :3, 3], axis=1
        )
        assert (np.abs(np.log(far)) < 0.35).all()
        # It is no candidate of retrieval, which has the templates alone.
        assert np.isinf(sample["distance"][:, 0]).all()
        assert np.isfinite(sample["distance"][:, 1:]).all()


def test_photometry_may_be_left_to_the_device(training_objects):
    assets = SceneAssets([], training_objects)
    plain, done = (
        VPOGTrainDataset(training_objects, assets, 112, seed=3, queries=1, photometry=p)[2]
        for p in (False, True)
    )
    assert not np.array_equal(plain["query_rgb"], done["query_rgb"])
    assert np.array_equal(plain["query_depth"], done["query_depth"])


def test_crops_are_exactly_black_beyond_the_image(training_objects):
    """The black comes after lens and file effects, which would make it lighter."""
    data = VPOGTrainDataset(training_objects, SceneAssets([], training_objects), 112, seed=3)
    cut = 0
    for index in range(12):
        sample = data[index]
        for rgb, depth, outside in zip(
            sample["query_rgb"], sample["query_depth"], sample["query_outside"], strict=True
        ):
            assert not rgb[outside].any()
            assert not depth[outside].any()
            cut += outside.any()
    assert cut > 4  # of 48, a quarter of which reach over the border


def test_a_black_border_leaves_no_trace_in_the_image():
    """Lens and file effects, which come first, see the colours beyond the border."""
    outside = np.zeros((112, 112), bool)
    outside[:, :40] = True
    for seed in range(40):
        rgb = degrade_inside(np.random.default_rng(seed), np.full((112, 112, 3), 128, np.uint8), outside)
        whole = degrade(np.random.default_rng(seed), np.full((112, 112, 3), 128, np.uint8))
        assert not rgb[:, :40].any()
        np.testing.assert_array_equal(rgb[:, 40:], whole[:, 40:])
