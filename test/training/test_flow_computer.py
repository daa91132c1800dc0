from dataclasses import dataclass

import cv2
import numpy as np
import pytest
import torch

from vpog_core.geometry.camera import roll_matrix, scale_intrinsics
from vpog_core.geometry.se3 import rotation_z, transform, transform_points
from vpog_core.objects.renderer import Renderer
from vpog_core.objects.template_set import template_camera
from vpog_core.synthetic.objects import make_object
from vpog_core.training.losses.labels import FlowComputer, Labels, PosedDepth

from .flow_cases import NO_TURN, PATCH, SIDE, SIZE, UNSEEN, image_of, label, plane, views


def pixel_of_flow(labels: Labels) -> np.ndarray:
    """Return [S, P, P, 2] template pixels by the documented meaning, computed pixel by pixel."""
    out = np.full((labels.flow.shape[1], SIZE, SIZE, 2), np.nan)
    for s, i in zip(*np.nonzero(labels.patch_class[0].numpy() < UNSEEN), strict=True):
        j = int(labels.patch_class[0, s, i])
        centre_i, centre_j = (np.array([p % SIDE, p // SIDE]) * 16 + 7.5 for p in (i, j))
        for row in range(PATCH):
            for column in range(PATCH):
                u = np.array([i % SIDE * 16 + column, i // SIDE * 16 + row])
                flow = labels.flow[0, s, i, row, column].numpy()
                out[s, u[1], u[0]] = centre_j + (u - centre_i) + 16 * flow
    return out


@dataclass
class Pair:
    """Holds a query and templates around it, with what is needed to check them."""

    renderer: Renderer
    query: tuple
    coords: np.ndarray
    templates: list[tuple]


def unit(v) -> np.ndarray:
    return np.asarray(v) / np.linalg.norm(v)


@pytest.fixture(scope="module", params=[900_001, 900_002])
def pair(request) -> Pair:
    """Return an object seen from a direction, and templates 9 to 20 degrees beside it, one of them rolled."""
    renderer = Renderer(make_object(request.param, vertices=4000))

    def view(direction, roll=0.0, distance=5.0):
        K, T = template_camera(renderer.mesh, unit(direction), SIZE, distance=distance)
        T = transform(rotation_z(roll), np.zeros(3)) @ T
        render = renderer.render(T, K, (SIZE, SIZE))
        return (render.depth, K, T), render.coords

    query, coords = view([0.8, 0.5, 0.4], roll=0.3, distance=3.5)
    templates = [view(d, r)[0] for d, r in (([0.8, 0.45, 0.25], 0.1), ([0.7, 0.7, 0.5], 0.0))]
    return Pair(renderer, query, coords, templates)


def test_every_seen_pixel_leads_to_its_own_point(pair):
    """The template pixel that the flow leads to, lifted by the depth of the query's point, is that point."""
    labels = label(pair.query, pair.templates, pair.renderer.mesh.diameter)
    places = pixel_of_flow(labels)
    for s, (_, K, T) in enumerate(pair.templates):
        seen = image_of(labels.seen[0, s])
        # Most of an object is seen from 9 and 20 degrees beside.
        assert seen.sum() > 0.5 * (pair.query[0] > 0).sum()
        points = pair.coords[seen].astype(np.float64)
        z = transform_points(T, points)[:, 2]
        lifted = (
            np.concatenate([places[s][seen], np.ones((len(z), 1))], axis=1) @ np.linalg.inv(K).T * z[:, None]
        )
        error = np.linalg.norm(transform_points(np.linalg.inv(T), lifted) - points, axis=1) / (z / K[0, 0])
        assert error.max() < 0.01  # float32 at half a metre, in template pixels


def test_every_seen_pixel_meets_the_surface_it_shows(pair):
    """What the template really shows there, in a fine render, is that point or hides it by 2 % at most."""
    diameter, zoom = pair.renderer.mesh.diameter, 8
    labels = label(pair.query, pair.templates, diameter)
    places = pixel_of_flow(labels)
    for s, (_, K, T) in enumerate(pair.templates):
        seen = image_of(labels.seen[0, s])
        fine = pair.renderer.render(T, scale_intrinsics(K, zoom), (SIZE * zoom, SIZE * zoom))
        place = np.round((places[s][seen] + 0.5) * zoom - 0.5).astype(int).clip(0, SIZE * zoom - 1)
        hit = fine.mask[place[:, 1], place[:, 0]]
        points, surface = pair.coords[seen][hit], fine.coords[place[:, 1], place[:, 0]][hit]
        footprint = transform_points(T, points)[:, 2] / K[0, 0]
        distance = np.linalg.norm(points - surface, axis=1)
        # Exact but for a sixteenth of a pixel of the fine render, stretched by the slant. The tolerance of
        # 2 % is some two pixels here: what lies that little behind a step counts as seen, by the rule.
        assert np.median(distance / footprint) < 0.1
        assert (distance / footprint < 0.5).mean() > 0.99
        assert (distance < 0.02 * diameter + 0.75 * footprint).mean() > 0.995
        assert hit.mean() > 0.99  # the rest lies on the silhouette, less than a pixel beside it


def test_unseen_pixels_are_unseen_for_a_reason(pair):
    """An object pixel in a seen patch is unseen only where the template shows another point."""
    labels = label(pair.query, pair.templates, pair.renderer.mesh.diameter)
    for s, (depth, K, T) in enumerate(pair.templates):
        in_seen_patch = np.kron(
            (labels.patch_class[0, s].view(SIDE, SIDE) < UNSEEN).numpy(), np.ones((16, 16))
        )
        unseen = (in_seen_patch > 0) & (pair.query[0] > 0) & ~image_of(labels.seen[0, s])
        p = transform_points(T, pair.coords[unseen].astype(np.float64))
        u = p @ K.T
        u = np.round(u[:, :2] / u[:, 2:]).astype(int)
        inside = ((u >= 0) & (u < SIZE)).all(axis=1)
        surface = depth[u[inside, 1], u[inside, 0]]
        gap = np.where(surface > 0, np.abs(p[inside, 2] - surface), np.inf)
        assert (gap > 0.019 * pair.renderer.mesh.diameter).all()


def test_the_view_itself_has_no_flow(pair):
    labels = label(pair.query, [pair.query], pair.renderer.mesh.diameter)
    on_object = (pair.query[0] > 0).reshape(SIDE, 16, SIDE, 16).mean(axis=(1, 3)).ravel()
    matched = labels.patch_class[0, 0].numpy()
    enough = on_object >= 0.25
    assert enough.sum() >= 6
    np.testing.assert_array_equal(matched, np.where(enough, np.arange(UNSEEN), UNSEEN))
    in_seen_patch = np.kron(enough.reshape(SIDE, SIDE), np.ones((16, 16))) > 0
    np.testing.assert_array_equal(image_of(labels.seen[0, 0]), in_seen_patch & (pair.query[0] > 0))
    # Float32 back-projection and projection at 0.5 m: a few thousandths of a pixel.
    assert labels.flow.abs().max() * 16 < 0.01


def test_known_shift():
    """A template shifted by (20, -6) px moves patches by (1, 0), and the rest is flow."""
    labels = label((*plane(), NO_TURN), [(*plane((20.0, -6.0)), NO_TURN)])
    i, j = 3 * SIDE + 2, 3 * SIDE + 3
    assert labels.patch_class[0, 0, i] == j
    torch.testing.assert_close(
        labels.flow[0, 0, i], torch.tensor([4 / 16, -6 / 16]).expand(16, 16, 2), atol=1e-4, rtol=0
    )


def test_flow_is_x_then_y_in_a_zoomed_template():
    """At twice the focal length every pixel's (x, y) from the middle doubles, in this order."""
    depth, K = plane()
    zoomed = np.diag([2.0, 2.0, 1.0]) @ K
    zoomed[:2, 2] = K[:2, 2]
    places = pixel_of_flow(label((depth, K, NO_TURN), [(depth, zoomed, NO_TURN)]))[0]
    middle = (SIZE - 1) / 2
    for u in ((60, 47), (41, 70)):
        expected = middle + 2 * (np.array(u) - middle)
        np.testing.assert_allclose(places[u[1], u[0]], expected, atol=1e-3)


def test_a_rolled_template_is_followed_pixel_by_pixel():
    """Under ten degrees of roll the flow inside a patch turns with it, from x towards y."""
    depth, K = plane()
    roll = np.radians(10.0)
    places = pixel_of_flow(
        label((depth, K, NO_TURN), [(depth, K, transform(rotation_z(roll), np.zeros(3)))])
    )[0]
    middle = (SIZE - 1) / 2
    for u in ((60, 47), (41, 70), (80, 80)):
        expected = middle + rotation_z(roll)[:2, :2] @ (np.array(u) - middle)
        np.testing.assert_allclose(places[u[1], u[0]], expected, atol=1e-3)


@pytest.mark.parametrize(("shift", "patch"), [(-8.1, 1), (-7.9, 2)])
def test_patches_begin_half_a_pixel_before_their_first_centre(shift, patch):
    """Patch 2 holds what lies at 31.5 and beyond; the mean of patch 2 is at 39.5 before the shift."""
    labels = label((*plane(), NO_TURN), [(*plane((shift, 0.0)), NO_TURN)])
    assert labels.patch_class[0, 0, 2 * SIDE + 2] == 2 * SIDE + patch
    assert labels.flow[0, 0, 2 * SIDE + 2, 0, 0, 0] * 16 == pytest.approx(shift + 16 * (2 - patch), abs=1e-3)


@pytest.mark.parametrize(("shift", "seen"), [(-0.4, True), (-0.6, False)])
def test_the_image_ends_half_a_pixel_beyond_its_last_centre(shift, seen):
    labels = label((*plane(), NO_TURN), [(*plane((shift, 0.0)), NO_TURN)])
    assert labels.seen[0, 0, 3 * SIDE, :, 0].all() == seen
    assert labels.seen[0, 0, 3 * SIDE, :, 1:].all()


def test_the_nearest_template_pixel_decides_what_is_hidden():
    """A step in the template between columns 63 and 64: points at 63.4 are on this side, at 63.6 beyond."""
    depth, K = plane()
    depth[:, 64:] -= 0.3
    for shift, last in ((0.4, 63), (0.6, 62)):
        moved = K.copy()
        moved[0, 2] += shift
        seen = image_of(label((*plane(), NO_TURN), [(depth, moved, NO_TURN)]).seen[0, 0])
        assert seen[50, : last + 1].all()
        assert not seen[50, last + 1 :].any()


def slanted(angle: float, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return depth and K 5 m from a plane turned about the image's vertical; a pixel is 1 cm there."""
    K = np.array([[500.0, 0, (SIZE - 1) / 2 + shift], [0, 500.0, (SIZE - 1) / 2], [0, 0, 1]])
    x = (np.arange(SIZE) - K[0, 2]) / 500.0
    return np.broadcast_to(5 / (1 + np.tan(angle) * x), (SIZE, SIZE)), K


@pytest.mark.parametrize("degrees", [0, 45, 65, 75, 80])
def test_slanted_surfaces_are_seen_without_holes(degrees):
    """Half a pixel off, a steep surface is up to 4 % of the diameter (1 m) away: it is the same surface."""
    query, K = slanted(np.radians(degrees))
    near = np.abs(np.arange(SIZE) - (SIZE - 1) / 2) < 24
    query = np.where(near, query, 0)
    for shift in (0.0, 0.3, 0.5, 2.5):
        labels = label((query, K, NO_TURN), [(*slanted(np.radians(degrees), shift), NO_TURN)])
        assert image_of(labels.seen[0, 0])[:, near].all(), shift


def test_templates_that_were_rolled_by_nearest_sampling_have_no_holes():
    """Shrink templates as the loader does: another half pixel is lost along each axis, and float16."""
    query, K = slanted(np.radians(65))
    near = np.hypot(*(np.indices((SIZE, SIZE)) - (SIZE - 1) / 2)) < 30
    roll = np.radians(33.0)
    turned = cv2.warpAffine(
        query.astype(np.float16).astype(np.float32),
        roll_matrix(roll, SIZE),
        (SIZE, SIZE),
        flags=cv2.INTER_NEAREST,
    )
    template = (turned, K, transform(rotation_z(roll), np.zeros(3)))
    labels = label((np.where(near, query, 0), K, NO_TURN), [template])
    in_seen_patch = np.kron((~labels.unseen[0, 0]).view(SIDE, SIDE).numpy(), np.ones((16, 16))) > 0
    assert in_seen_patch[near].mean() > 0.9
    assert image_of(labels.seen[0, 0])[near & in_seen_patch].all()


def test_all_pairs_lead_from_every_template_patch_to_the_same_place(pair):
    labels = label(pair.query, pair.templates, pair.renderer.mesh.diameter, stride=4, offset=(2, 1))
    dense = labels.all_pairs()
    assert dense.shape == (1, 2, UNSEEN, UNSEEN, 4, 4, 2)
    place = torch.stack((torch.arange(UNSEEN) % SIDE, torch.arange(UNSEEN) // SIDE), dim=-1)
    landing = dense + place[:, None, None]  # in patches, of the template
    for s, i in zip(*np.nonzero(~labels.unseen[0].numpy()), strict=True):
        j, seen = labels.patch_class[0, s, i], labels.seen[0, s, i]
        torch.testing.assert_close(dense[0, s, i, j], labels.flow[0, s, i])
        truth = (labels.flow[0, s, i] + place[j])[seen].expand(UNSEEN, -1, -1)
        torch.testing.assert_close(landing[0, s, i][:, seen], truth)
    assert not dense[~labels.seen[:, :, :, None].expand(dense.shape[:-1])].any()


def test_confidence_and_unseen_say_what_the_classes_say(pair):
    labels = label(pair.query, pair.templates, pair.renderer.mesh.diameter)
    assert torch.equal(labels.unseen, ~labels.seen.flatten(3).any(dim=-1))
    assert torch.equal(labels.confidence, labels.seen.float())
    assert labels.unseen.any()
    assert not labels.unseen.all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_labels_are_the_same_on_a_gpu(pair):
    one, two = views(*pair.query), views(*[np.stack(v) for v in zip(*pair.templates, strict=True)])
    diameter = torch.tensor([pair.renderer.mesh.diameter], dtype=torch.float32)
    here = FlowComputer()(one, two, diameter)
    there = FlowComputer()(
        *(PosedDepth(*(v.cuda() for v in vars(x).values())) for x in (one, two)), diameter.cuda()
    )
    assert there.flow.is_cuda
    # Sums in another order: pixels that lie on a limit may fall on its other side.
    assert (here.patch_class == there.patch_class.cpu()).float().mean() > 0.99
    both = here.seen & there.seen.cpu() & (here.patch_class == there.patch_class.cpu())[..., None, None]
    torch.testing.assert_close(here.flow[both], there.flow.cpu()[both], atol=1e-3, rtol=0)


def test_batches_and_templates_keep_apart():
    queries = views(*plane(), NO_TURN)
    query = PosedDepth(*(torch.cat((v, v)) for v in vars(queries).values()))
    right, down = (vars(views(*plane(s), NO_TURN)).values() for s in ((16.0, 0.0), (0.0, 16.0)))
    templates = [
        torch.stack((torch.cat((a, b)), torch.cat((b, a)))) for a, b in zip(right, down, strict=True)
    ]
    labels = FlowComputer()(query, PosedDepth(*templates), torch.ones(2))
    i = 3 * SIDE + 2
    assert labels.patch_class[:, :, i].tolist() == [[i + 1, i + SIDE], [i + SIDE, i + 1]]


@pytest.mark.parametrize("offset", [(0, 0), (1, 3), (3, 2)])
def test_strided_labels_are_a_part_of_the_full_ones(pair, offset):
    diameter = pair.renderer.mesh.diameter
    full, part = (
        label(pair.query, pair.templates, diameter),
        label(pair.query, pair.templates, diameter, 4, offset),
    )
    assert part.flow.shape == (1, 2, UNSEEN, 4, 4, 2)
    same = (part.patch_class == full.patch_class) & (full.patch_class < UNSEEN)
    # Where a sixteenth of the pixels is drawn, means and fractions move a little: some patches change.
    assert (part.patch_class == full.patch_class).float().mean() > 0.8
    assert same.sum() > 0.6 * (full.patch_class < UNSEEN).sum()
    row, column = offset
    of_full = full.flow[..., row::4, column::4, :]
    assert torch.equal(part.seen[same], full.seen[..., row::4, column::4][same])
    torch.testing.assert_close(part.flow[same], of_full[same], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("stride", "offset"), [(3, (0, 0)), (4, (4, 0)), (4, (0, -1))])
def test_impossible_strides_are_refused(stride, offset):
    with pytest.raises(ValueError, match=str(stride)):
        FlowComputer(stride, offset)
