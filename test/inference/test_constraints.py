"""Test that known constraints choose among hypotheses, correct the pose, and narrow its covariance."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vpog_core.geometry.se3 import (
    difference,
    moved,
    rotation_angle,
    rotation_from_vector,
    rotation_x,
    rotation_z,
    transform,
)
from vpog_core.geometry.symmetry import Symmetry
from vpog_core.inference import pipeline
from vpog_core.inference.constraints import ObjectConstraint, PoseConstraint
from vpog_core.inference.networks import Networks
from vpog_core.inference.onboarding import ROLLS, OnboardedObject
from vpog_core.inference.options import Options
from vpog_core.inference.query import Prior, Query, accept_tracked, rank
from vpog_core.inference.rendered_cluster import cluster_at_pose
from vpog_core.inference.result import pose_estimate
from vpog_core.inference.retrieval import ViewSearch, best_views
from vpog_core.objects.mesh import Mesh
from vpog_core.objects.renderer import Renderer
from vpog_core.objects.template_set import build_template_set
from vpog_core.types import Camera, Detection, VPOGError

CAMERA = Camera(np.array([[400.0, 0, 160], [0, 400, 120], [0, 0, 1]]), 320, 240)
SIZE = np.array([0.09, 0.06, 0.12])
FLIP = transform(rotation_x(np.pi), np.zeros(3))
"""The object turned upside down about its x axis."""
PITCH = 0.5
"""Radians by which the camera looks down."""
NORMAL = np.array([0.0, -np.cos(PITCH), -np.sin(PITCH)])
R_UPRIGHT = rotation_x(np.pi / 2 + PITCH) @ rotation_z(0.6)
T_TRUE = transform(R_UPRIGHT, [0.01, 0.02, 0.5])
TABLE = float(NORMAL @ T_TRUE[:3, 3]) - SIZE[2] / 2
"""Offset of the plane that the object stands on."""
STANDS = PoseConstraint(NORMAL, TABLE, up=(0, 0, 1), height=0.0)
ON_ITS_SIDE = PoseConstraint(NORMAL, up=(1, 0, 0))


def box(colours: bool = True) -> Mesh:
    """Return a printed box that looks the same when it is turned upside down."""
    side = np.linspace(-0.5, 0.5, 13)
    a, b = (v.ravel() for v in np.meshgrid(side, side, indexing="ij"))
    quad = (np.arange(12)[:, None] * 13 + np.arange(12)).ravel()
    of_face = np.concatenate(
        [np.stack([quad, quad + 13, quad + 14], 1), np.stack([quad, quad + 14, quad + 1], 1)]
    )
    vertices, faces = [], []
    for axis in range(3):
        for sign in (1, -1):
            face = np.zeros((len(a), 3))
            face[:, axis], face[:, axis - 2], face[:, axis - 1] = 0.5 * sign, a, b * sign
            faces.append(of_face + len(a) * len(faces))
            vertices.append(face)
    unit = np.concatenate(vertices)
    cells = np.floor((unit + 0.5) * 5.999).astype(int)
    turned = np.floor((unit @ FLIP[:3, :3].T + 0.5) * 5.999).astype(int)
    key = np.minimum(cells @ [1, 6, 36], turned @ [1, 6, 36])
    palette = np.random.default_rng(3).integers(20, 240, (216, 3)).astype(np.uint8)
    return Mesh(unit * SIZE, np.concatenate(faces), vertex_colors=palette[key])


@pytest.fixture(scope="module")
def carton() -> Mesh:
    return box()


@pytest.fixture
def standing(carton) -> ObjectConstraint:
    return ObjectConstraint(STANDS, carton.hull_points, carton.diameter, Symmetry.none())


@pytest.fixture(scope="module")
def setup(carton) -> pipeline.Setup:
    """Return the shipped networks with the box; its views are not described, as none is retrieved."""
    networks, renderer = Networks.load(None, None, "cpu"), Renderer(carton)
    templates = build_template_set(carton, "box", networks.model.config.image_size)
    target = OnboardedObject(templates, networks.model, torch.zeros(0, 1))
    library = SimpleNamespace(mesh=lambda name: carton, symmetry=lambda name: Symmetry.none())
    objects = SimpleNamespace(get=lambda name: target, library=library, renderer=lambda target: renderer)
    return pipeline.Setup(networks, objects, Options(alternatives=1, samples=50, refinements=0))


@pytest.fixture(scope="module")
def find(setup, carton):
    """Find the box in a render, by clusters near the upside-down and the true pose; returns the query."""
    render = Renderer(carton).render(T_TRUE, CAMERA.K, (240, 320), background=(90, 110, 90))
    row, column = np.nonzero(render.mask)
    detection = Detection("box", np.array([column.min(), row.min(), column.max(), row.max()], float))

    def find(constraint: PoseConstraint | None):
        query = pipeline.crop(setup, render.rgb, CAMERA, detection, None, constraint)
        (query,) = pipeline.encode(setup, [query])
        T_virt_cam = np.linalg.inv(query.crop.virtual.T_cam_virt)
        near = transform(rotation_from_vector(np.array([0.05, -0.04, 0.06])), np.zeros(3))
        starts = [T_virt_cam @ T_TRUE @ near @ turned for turned in (FLIP, np.eye(4))]
        renderer = setup.objects.renderer(query.target)
        tried = [(0, cluster_at_pose(query.target, renderer, T, 2)) for T in starts]
        (query,) = pipeline.match_refine(setup, [query], tried, 2)
        return query

    return find


@pytest.fixture(scope="module")
def free(find) -> Query:
    """Return a query of the box, of which nothing is known."""
    return find(None)


def known_now(query: Query, constraint: PoseConstraint, carton: Mesh) -> Query:
    """Return the query with a constraint that was not known before."""
    known = ObjectConstraint(constraint, carton.hull_points, carton.diameter, query.symmetry)
    return rank(replace(query, constraint=known), query.hypotheses)


def tilt_of(T: np.ndarray) -> float:
    """Return degrees from upright."""
    return float(np.degrees(np.arccos(np.clip(T[:3, 2] @ NORMAL, -1, 1))))


def test_an_upside_down_hypothesis_loses(setup, find, free):
    """The box looks the same both ways: only the constraint tells which it is."""
    tilts = [tilt_of(h.T_cam_obj) for h in free.hypotheses]
    assert min(tilts) < 15
    assert max(tilts) > 165
    query = find(STANDS)
    assert tilt_of(query.best.T_cam_obj) < 15
    estimate = pose_estimate(query, setup.options, setup.networks)
    assert estimate.T_cam_obj is not None
    assert estimate.alternatives == []
    before = query.best.covariance
    for direction in (
        np.r_[0, 0, 0, np.cross(NORMAL, [1, 0, 0])],
        np.r_[0, 0, 0, 1, 0, 0],
        np.r_[NORMAL, 0, 0, 0],
    ):
        assert direction @ estimate.covariance @ direction <= direction @ before @ direction
    assert tilt_of(estimate.T_cam_obj) < max(1.0, tilt_of(query.best.T_cam_obj))
    spread = np.cov(np.stack([difference(T, estimate.T_cam_obj) for T in estimate.samples]).T)
    # 50 samples tell a variance to a fifth.
    np.testing.assert_allclose(np.trace(spread), np.trace(estimate.covariance), rtol=0.7)


def test_where_no_pose_fits_none_is_given_and_the_reason_is_a_sentence(setup, free, carton):
    query = known_now(free, ON_ITS_SIDE, carton)
    assert query.score == 0.0  # So that further views are tried.
    estimate = pose_estimate(query, setup.options, setup.networks)
    assert estimate.T_cam_obj is None
    assert "the best one is tilted by 9" in estimate.reason
    assert "check the plane and the object's up axis" in estimate.reason


def test_a_followed_object_that_falls_over_is_searched_for_anew(free, carton):
    query = replace(free, prior=Prior(T_TRUE, 0.0))
    assert accept_tracked(query, free.best).tracked
    fallen = known_now(query, ON_ITS_SIDE, carton)
    assert not accept_tracked(fallen, free.best).tracked
    # It may still be upright in another pose: without a detection it is lost.
    unseen = replace(fallen, prior=Prior(T_TRUE, 0.0, detected=False))
    assert accept_tracked(unseen, free.best).reason


def test_views_that_cannot_be_upright_are_not_retrieved(standing, described):
    """All views get the same logit."""

    def tilts(*allowed) -> list[float]:
        views = best_views(ViewSearch(np.zeros((162, ROLLS), np.float32), described, *allowed), 30)
        return [tilt_of(transform(described.rotation(v.view, v.roll_index), np.zeros(3))) for v in views]

    upright = tilts(standing.may_be_view)
    assert len(upright) >= 3
    # 5 degrees of tolerance, 15 of a pose, 30 of a view.
    assert max(upright) < 50.1 < max(tilts())


def test_what_violates(standing):
    assert standing.violation(T_TRUE) == ""
    assert standing.violation(moved(T_TRUE, np.r_[0.01 * NORMAL, 0.2, 0, 0])) == ""
    # A box stands on its top as high as on its bottom.
    assert standing.violation(T_TRUE @ FLIP) == "tilted by 180 degrees from upright"
    above = standing.violation(moved(T_TRUE, np.r_[0.2 * NORMAL, 0, 0, 0]))
    assert above == "+0.200 m from its height over the plane"


def test_the_derivatives_are_those_of_the_measurement(standing):
    T = moved(T_TRUE, np.array([0.01, 0.0, -0.02, 0.05, -0.08, 0.1]))
    residual, H, _ = standing._measure(T)
    step = 1e-6
    for n in range(6):
        there = standing._measure(moved(T, step * np.eye(6)[n]))[0]
        np.testing.assert_allclose((residual - there) / step, H[:, n], atol=1e-5)


def test_the_fused_pose_is_nearer_and_surer(standing):
    rng = np.random.default_rng(0)
    sigma = np.array([0.004, 0.004, 0.02, 0.08, 0.08, 0.05])
    P = np.diag(sigma**2)
    errors = {"before": [], "after": []}
    distances = []
    for _ in range(200):
        T = moved(T_TRUE, sigma * rng.standard_normal(6))
        fused, covariance = standing.fuse(T, P)
        error = difference(fused, T_TRUE)
        errors["before"].append(difference(T, T_TRUE) ** 2)
        errors["after"].append(error**2)
        distances.append(error @ np.linalg.solve(covariance, error))
        assert np.linalg.eigvalsh(covariance).min() > 0
    before, after = (np.mean(errors[when], axis=0) for when in ("before", "after"))
    # The depth is known by the height where the camera looks down, the tilt by the up axis.
    assert after[2] < 0.5 * before[2]
    assert after[3] < 0.2 * before[3]
    # Six degrees of freedom, of which the truth has less tilt than the tolerance allows.
    assert 2.0 < np.median(distances) < 6.5


def test_a_pose_that_is_surer_than_it_may_be_is_corrected_all_the_same(standing):
    T = moved(T_TRUE, np.array([0, 0, 0, 0.25, 0, 0]))
    fused, covariance = standing.fuse(T, np.eye(6) * 1e-8)
    assert tilt_of(T) > 14
    assert tilt_of(fused) < 3
    assert covariance[5, 5] > 1e-8


def test_of_equivalent_poses_the_upright_one_is_given(carton):
    flips = Symmetry.from_mapping({"discrete": [{"axis": "x", "order": 2}]})
    either = ObjectConstraint(STANDS, carton.hull_points, carton.diameter, flips)
    assert either.violation(T_TRUE @ FLIP) == ""
    # Whatever the pose before was.
    given = either.equivalent(T_TRUE @ FLIP, T_TRUE @ FLIP)
    assert rotation_angle(given[:3, :3], T_TRUE[:3, :3]) < 1e-6


@pytest.mark.parametrize(
    ("axis", "tilt"),
    [
        ("z", 180.0),  # Turns about the up axis do not help.
        ("x", 0.0),  # Turns about the other do: of all of them the upright one is given.
    ],
)
def test_axes_of_revolution(carton, axis, tilt):
    symmetry = Symmetry.from_mapping({"continuous": [{"axis": axis}]})
    round_one = ObjectConstraint(STANDS, carton.hull_points, carton.diameter, symmetry)
    given = round_one.equivalent(T_TRUE @ FLIP, None)
    # In steps of 0.02 of the diameter, about 2 degrees.
    assert tilt_of(given) == pytest.approx(tilt, abs=2.5)
    assert bool(round_one.violation(T_TRUE @ FLIP)) is (tilt > 0)


def test_a_ball_has_no_up_axis(carton):
    ball = Symmetry.from_mapping({"continuous": [{"axis": "x"}, {"axis": "z"}]})
    known = ObjectConstraint(PoseConstraint(NORMAL, up=(0, 0, 1)), carton.hull_points, carton.diameter, ball)
    assert known.violation(T_TRUE @ FLIP) == ""
    covariance = np.eye(6) * 1e-4
    fused = known.fuse(T_TRUE, covariance)
    np.testing.assert_array_equal(fused[0], T_TRUE)
    np.testing.assert_array_equal(fused[1], covariance)


def test_a_height_alone_holds_in_any_orientation(carton):
    lies = PoseConstraint(NORMAL, TABLE, height=0.0)
    known = ObjectConstraint(lies, carton.hull_points, carton.diameter, Symmetry.none())
    T = transform(R_UPRIGHT @ rotation_x(np.pi / 2), T_TRUE[:3, 3] + 0.02 * NORMAL)
    # It hangs 0.05 over the table: half its height, less half its depth, and 0.02.
    fused, covariance = known.fuse(T, np.eye(6) * 1e-3)
    assert float((carton.hull_points @ fused[:3, :3].T + fused[:3, 3]).dot(NORMAL).min()) == pytest.approx(
        TABLE, abs=0.004
    )
    assert NORMAL @ covariance[:3, :3] @ NORMAL < 1e-3


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"normal": (0, 0, 0)}, "The plane's normal is [0.0, 0.0, 0.0]: give three numbers"),
        ({"normal": NORMAL, "up": (0, 1)}, "The up axis of an object is [0.0, 1.0]"),
        ({"normal": NORMAL, "tilt_tolerance": 0.0}, "tilt_tolerance of a constraint is 0.0"),
        ({"normal": NORMAL, "height": np.nan}, "is not finite"),
    ],
)
def test_what_is_no_constraint_is_refused(given, sentence):
    with pytest.raises(VPOGError) as error:
        PoseConstraint(**given)
    assert sentence in str(error.value)
