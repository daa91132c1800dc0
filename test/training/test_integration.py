"""Test the way from the data loader to a flow image, on synthetic data and on a few real photographs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from vpog_core.geometry.pnp import solve_pnp
from vpog_core.geometry.se3 import rotation_angle
from vpog_core.inference.correspondence import DenseMatch, correspondences, dense_matches
from vpog_core.inference.options import Options
from vpog_core.models.config import PATCH
from vpog_core.models.vpog_model import VPOGModel
from vpog_core.training.data.batch import Batch
from vpog_core.training.data.bop_source import BopSource
from vpog_core.training.data.data_config import DataConfig
from vpog_core.training.data.object_cache import load_object
from vpog_core.training.data.vpog_dataset import VPOGTrainDataset
from vpog_core.training.losses.compute import compute_losses
from vpog_core.training.losses.config import LossWeights
from vpog_core.training.losses.labels import FlowComputer, Labels, PosedDepth, cluster_depth
from vpog_core.training.synthesis.scene_assets import SceneAssets
from vpog_core.types import MatchView
from vpog_core.visualization.flow_image import draw_match

SIZE = 112
PARTS = ("classification", "encoder_classification", "flow", "retrieval", "pose")


@pytest.fixture(scope="module")
def real_photographs(shared_data, tmp_path_factory) -> VPOGTrainDataset:
    """Samples of the two objects the sample shows most often."""
    root, cache_dir = shared_data / "real" / "ycb_dev", tmp_path_factory.mktemp("cache")
    config = DataConfig(bop=[f"{root}:test"], cache_dir=str(cache_dir), processes=1)
    source = BopSource.open(root, "test", config, progress=False)
    ids, counts = np.unique(source.table.obj_id, return_counts=True)
    used = [source.objects[int(i)] for i in ids[np.argsort(-counts, kind="stable")[:2]]]
    objects = source.training_objects({s: load_object(s, cache_dir) for s in used}, used)
    return VPOGTrainDataset(objects, SceneAssets([], objects), SIZE, queries=2, cluster=3, negatives=2)


@pytest.fixture(params=["synthetic", "real"])
def samples(request) -> VPOGTrainDataset:
    return request.getfixturevalue({"synthetic": "dataset", "real": "real_photographs"}[request.param])


def pixel_labels(batch: Batch) -> Labels:
    """Return the labels at every pixel, where compute_losses takes every fourth."""
    query = PosedDepth(*(v.flatten(0, 1) for v in (batch.query_depth, batch.query_K, batch.query_T)))
    return FlowComputer(stride=1)(query, cluster_depth(batch), batch.per_query(batch.diameter))


def as_match(labels: Labels, query: int) -> DenseMatch:
    """Return the output of a network that makes no error, for one query."""
    side = SIZE // PATCH
    index = labels.patch_class[query].numpy()
    half = (PATCH - 1) / 2
    line = np.arange(PATCH) - half
    centre = np.stack([index % side, index // side], axis=-1) * PATCH + half
    inside = np.stack(np.meshgrid(line, line), axis=-1)
    places = centre[:, :, None, None] + inside + PATCH * labels.flow[query].numpy()
    seen = labels.seen[query].numpy()

    def image(values: np.ndarray) -> np.ndarray:
        """Join patches [S, Nq, 16, 16, ...] to images [S, P, P, ...]."""
        rows = values.reshape(len(values), side, side, PATCH, PATCH, *values.shape[4:]).swapaxes(2, 3)
        return rows.reshape(len(values), SIZE, SIZE, *values.shape[4:])

    return DenseMatch(image(places), image(seen.astype(np.float32)), image(seen))


def template_points(batch: Batch) -> np.ndarray:
    """Return [S, P, P, 3] object points the first sample's templates show, NaN in the background."""
    depth = batch.template_depth[0].double().numpy()
    K, T = (v[0, : len(depth)].double().numpy() for v in (batch.template_K, batch.template_T))
    v, u = np.mgrid[0:SIZE, 0:SIZE]
    rays = np.einsum("sij,hwj->shwi", np.linalg.inv(K), np.stack([u, v, np.ones_like(u)], axis=-1))
    in_camera = rays * depth[..., None] - T[:, None, None, :3, 3]
    points = np.einsum("sji,shwj->shwi", T[:, :3, :3], in_camera)
    return np.where(depth[..., None] > 0, points, np.nan)


def test_a_loader_with_workers_gives_the_items(dataset):
    batches = list(DataLoader(torch.utils.data.Subset(dataset, range(4)), batch_size=2, num_workers=2))
    for b, batch in enumerate(batches):
        for n in range(2):
            item = dataset[2 * b + n]
            assert all(np.array_equal(batch[key][n], item[key]) for key in item)


def test_from_the_loader_to_every_loss(samples, small_config):
    loader = DataLoader(torch.utils.data.Subset(samples, range(2)), batch_size=2)
    batch = Batch(**next(iter(loader)))
    torch.manual_seed(0)
    model = VPOGModel(small_config)
    loss, scores = compute_losses(model, batch, LossWeights(), offset=(1, 3))
    for part in PARTS:
        assert torch.isfinite(scores[part]), part
        assert scores[part] != 0, part
    loss.backward()
    norms = [p.grad.norm() for p in model.parameters() if p.grad is not None]
    assert torch.isfinite(torch.stack(norms)).all()
    assert sum(norm > 0 for norm in norms) > 0.9 * len(norms)


def test_labels_become_correspondences_and_the_pose(samples):
    """A network that answered with the labels would find the pose: data, labels and inference speak alike."""
    batch = Batch(**next(iter(DataLoader(samples, batch_size=1))))
    labels, coords = pixel_labels(batch), template_points(batch)
    solved = 0
    for query in range(batch.query_rgb.shape[1]):
        K, T = (v[0, query].double().numpy() for v in (batch.query_K, batch.query_T))
        found = correspondences(as_match(labels, query), coords, options=Options(match_merge=False))
        in_camera = found.points_3d @ T[:3, :3].T + T[:3, 3]
        back = (in_camera / in_camera[:, 2:] @ K.T)[:, :2]
        error = np.linalg.norm(back - found.points_2d, axis=-1)
        # Templates hold points pixel by pixel, in half precision; lifting between them errs less than one.
        assert np.median(error) < 0.5
        assert (error < 2).mean() > 0.9
        if len(error) > 100:
            pose = solve_pnp(found.points_2d, found.points_3d, K, found.weights)
            assert np.degrees(rotation_angle(pose.T_virt_obj[:3, :3], T[:3, :3])) < 5
            solved += 1
    assert solved


def test_from_the_network_to_a_flow_picture(samples, small_config):
    batch = Batch(**next(iter(DataLoader(samples, batch_size=1))))
    torch.manual_seed(0)
    model = VPOGModel(small_config).eval()
    queries, cluster = batch.query_rgb.shape[1], batch.template_depth.shape[1]
    with torch.no_grad():
        encoded = model.encode(batch.images())
        first = encoded[:1]
        templates = encoded[queries : queries + cluster].map(lambda values: values[None])
        match = dense_matches(model, model.match(first, templates, batch.directions))[0]
    assert match.in_template.shape == (cluster, SIZE, SIZE, 2)
    assert np.isfinite(match.in_template).all()
    truth = as_match(pixel_labels(batch), 0)
    for answer in (match, truth):
        y, x = np.mgrid[0:SIZE, 0:SIZE]
        image = draw_match(
            MatchView(
                batch.query_rgb[0, 0].numpy(), batch.template_rgb[0, 0].numpy(),
                (answer.in_template[0] - np.stack([x, y], axis=-1)).astype(np.float32), answer.confidence[0],
                answer.seen[0], np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0, bool),
            )
        )  # fmt: skip
        assert image.ndim == 3
        assert image.std() > 10
