import numpy as np
import pytest
import torch

from vpog_core.geometry.se3 import rotation_z, transform
from vpog_core.training.losses.labels import FlowComputer, PosedDepth
from vpog_core.training.preview import (
    as_image,
    painted_query,
    painted_template,
    patch_colors,
    template_places,
)

SIZE, NQ = 112, 49


@pytest.fixture(scope="module")
def labels():
    """Return a plane seen square on, and the same rolled by 20 degrees; the query's left half is empty."""
    K = np.array([[100.0, 0, 55.5], [0, 100.0, 55.5], [0, 0, 1]])
    depth = np.ones((SIZE, SIZE))
    query = depth.copy()
    query[:, :56] = 0
    rolled = transform(rotation_z(np.radians(20)), np.zeros(3))

    def views(*arrays):
        return PosedDepth(*(torch.from_numpy(np.asarray(a, np.float32))[None] for a in arrays))

    templates = views(np.stack([depth] * 2), np.stack([K] * 2), np.stack([np.eye(4), rolled]))
    return FlowComputer()(views(query, K, np.eye(4)), templates, torch.ones(1))


def test_places_are_where_the_labels_put_each_pixel(labels):
    places = template_places(labels)
    u = np.array([80.0, 40.0])
    np.testing.assert_allclose(places[0, 40, 80], u, atol=1e-3)
    turned = 55.5 + rotation_z(np.radians(20))[:2, :2] @ (u - 55.5)
    np.testing.assert_allclose(places[1, 40, 80], turned, atol=1e-3)


def test_colours_of_patches_meet_again_in_the_template(labels):
    colors, white = patch_colors(NQ), np.full((SIZE, SIZE, 3), 255, np.uint8)
    assert len({tuple(c) for c in colors}) == NQ
    query = painted_query(white, labels, 1, colors).astype(int)
    places, seen = template_places(labels)[1], as_image(labels.seen[0, 1])
    template = painted_template(white, places, seen, colors).astype(int)
    for row, column in ((40, 88), (72, 72), (56, 64)):
        x, y = np.round(places[row, column]).astype(int)
        assert np.abs(template[y, x] - query[row, column]).max() <= 1


def test_unseen_parts_are_grey_in_the_query_and_dim_in_the_template(labels):
    image = np.dstack([np.full((SIZE, SIZE), v, np.uint8) for v in (200, 100, 30)])
    left = painted_query(image, labels, 0, patch_colors(NQ))[:, :48]
    assert np.ptp(left, axis=-1).max() == 0
    seen = as_image(labels.seen[0, 0])
    template = painted_template(image, template_places(labels)[0], seen, patch_colors(NQ))
    np.testing.assert_array_equal(template[50, 20], (120, 60, 18))
