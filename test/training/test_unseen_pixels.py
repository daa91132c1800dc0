"""Test that pixels that a template does not show have no flow."""

import numpy as np
import pytest
import torch

from vpog_core.geometry.se3 import transform

from .flow_cases import DEPTH, NO_TURN, SIDE, UNSEEN, label, plane


def test_outside_the_template_is_unseen():
    labels = label((*plane(), NO_TURN), [(*plane((48.0, 0.0)), NO_TURN)])
    matched = labels.patch_class[0, 0].view(SIDE, SIDE)
    assert (matched[:, 4:] == UNSEEN).all()
    assert (matched[:, :4] < UNSEEN).all()
    assert not labels.flow[0, 0].view(SIDE, SIDE, 16, 16, 2)[:, 4:].any()


@pytest.mark.parametrize(("gap", "seen"), [(0.019, True), (0.021, False), (-0.021, False), (0.3, False)])
def test_hidden_by_two_percent_of_the_diameter_is_unseen(gap, seen):
    """Half of the template shows something else, `gap` diameters in front of (or behind) the plane."""
    diameter = 0.5
    depth, K = plane()
    depth[:, 64:] -= gap * diameter
    labels = label((*plane(), NO_TURN), [(depth, K, NO_TURN)], diameter)
    matched = (labels.patch_class[0, 0] < UNSEEN).view(SIDE, SIDE)
    assert matched[:, :4].all()
    assert (matched[:, 4:] == seen).all()


@pytest.mark.parametrize("diameter", [1.0, 100.0])
def test_background_of_the_template_is_unseen(diameter):
    """The background is unseen even where its depth is within the tolerance."""
    depth, K = plane()
    depth[80:] = 0
    labels = label((*plane(), NO_TURN), [(depth, K, NO_TURN)], diameter)
    matched = labels.patch_class[0, 0].view(SIDE, SIDE)
    assert (matched[:5] < UNSEEN).all()
    assert (matched[6:] == UNSEEN).all()


def test_background_of_the_query_is_unseen():
    depth, K = plane()
    depth[32:48, :48] = 0
    labels = label((depth, K, NO_TURN), [(*plane(), NO_TURN)])
    matched = labels.patch_class[0, 0].view(SIDE, SIDE)
    assert (matched[2, :3] == UNSEEN).all()
    assert (matched < UNSEEN).sum() == UNSEEN - 3


def test_background_is_unseen_even_where_the_querys_camera_itself_is_seen():
    """Without depth a pixel's point is the camera's centre; here the template shows a surface right there."""
    depth, K = plane()
    depth[32:48, :48] = 0
    from_behind = transform(np.eye(3), [0, 0, DEPTH])
    labels = label((depth, K, NO_TURN), [(*plane(), from_behind)])
    assert not labels.seen[0, 0].view(SIDE, SIDE, 16, 16)[2, :3].any()


@pytest.mark.parametrize(("rows", "seen"), [(4, True), (3, False)])
def test_a_quarter_of_a_patch_must_be_seen(rows, seen):
    """4 of 16 rows are the quarter: then the patch is matched, and only these rows count as seen."""
    depth, K = plane()
    depth[32 + rows : 48, 32:48] = 0
    labels = label((depth, K, NO_TURN), [(*plane(), NO_TURN)])
    i = 2 * SIDE + 2
    assert (labels.patch_class[0, 0, i] == (i if seen else UNSEEN)).item()
    assert labels.seen[0, 0, i].sum() == (rows * 16 if seen else 0)
    assert labels.seen[0, 0, i, :rows].all() == seen


def test_the_patch_holds_the_mean_of_what_is_seen():
    """The left half of a patch alone moves the mean into the left neighbour; the whole patch does not."""
    depth, K = plane()
    depth[32:48, 40:48] = 0
    labels = label((depth, K, NO_TURN), [(*plane((-5.0, 0.0)), NO_TURN)])
    # Seen pixels 32..39 lie at 27..34 in the template, mean 30.5: patch 1 (16..31), not patch 2.
    assert labels.patch_class[0, 0, 2 * SIDE + 2] == 2 * SIDE + 1
    # A whole patch has its mean at 34.5 + 8: it stays.
    assert labels.patch_class[0, 0, 4 * SIDE + 2] == 4 * SIDE + 2


def test_nothing_seen_is_no_number_but_zero():
    depth, K = plane()
    labels = label((depth * 0, K, NO_TURN), [(*plane(), NO_TURN)])
    assert (labels.patch_class == UNSEEN).all()
    assert not labels.seen.any()
    assert torch.equal(labels.flow, torch.zeros_like(labels.flow))


def test_a_point_behind_the_template_camera_is_unseen():
    behind = transform(np.eye(3), [0, 0, -2 * DEPTH])
    assert (label((*plane(), NO_TURN), [(*plane(), behind)]).patch_class == UNSEEN).all()
