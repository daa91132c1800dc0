import cv2
import numpy as np
import pytest
import trimesh

from vpog_core.geometry.projection import project
from vpog_core.geometry.se3 import rotation_from_vector, transform, transform_points
from vpog_core.types import Camera
from vpog_core.visualization.drawing import draw_polylines, draw_text, text_size
from vpog_core.visualization.overlay import AXIS_COLOURS, PoseDrawing, draw_pose, draw_poses
from vpog_core.visualization.silhouette import outline, silhouette

K = np.array([[600.0, 0, 319.5], [0, 600.0, 239.5], [0, 0, 1]])
CAMERA = Camera(K, 640, 480)
DISTORTED = Camera(K, 640, 480, [-0.25, 0.08, 0.001, -0.001, 0.0])
BALL = trimesh.creation.icosphere(subdivisions=4, radius=0.05)
BOX = trimesh.creation.box((0.1, 0.06, 0.04))
AHEAD = transform(rotation_from_vector([0.4, 0.7, 0.2]), [0.05, -0.03, 0.6])
GREY = np.full((480, 640, 3), 120, np.uint8)


def full_mask(camera, T, mesh):
    mask, (x, y) = silhouette(camera, T, mesh.vertices, mesh.faces)
    image = np.zeros((camera.height + 40, camera.width + 40), np.uint8)
    image[y + 20 : y + 20 + mask.shape[0], x + 20 : x + 20 + mask.shape[1]] = mask
    return image[20:-20, 20:-20] > 0


@pytest.mark.parametrize("camera", [CAMERA, DISTORTED])
def test_silhouette_of_a_box_is_the_hull_of_its_corners(camera):
    corners = project(camera, transform_points(AHEAD, BOX.vertices)).astype(np.float32)
    expected = np.zeros((480, 640), np.uint8)
    cv2.fillConvexPoly(
        expected, np.rint(cv2.convexHull(corners)[:, 0] * 16).astype(np.int32), 1, cv2.LINE_8, 4
    )
    difference = (full_mask(camera, AHEAD, BOX) != (expected > 0)).sum()
    # Only rim pixels may differ, by rounding.
    assert difference < 0.01 * expected.sum()


def test_silhouette_of_small_and_of_large_triangles_agree():
    """A finely divided box takes the sampled path, a coarse one the polygon path."""
    fine = BOX.subdivide().subdivide().subdivide().subdivide().subdivide().subdivide()
    difference = full_mask(CAMERA, AHEAD, BOX) != full_mask(CAMERA, AHEAD, fine)
    rim = np.concatenate(outline(CAMERA, AHEAD, BOX.vertices, BOX.faces))
    assert difference.sum() < 0.5 * len(rim)


def test_outline_of_a_ball_is_its_exact_contour():
    """A sphere at distance d on the axis is seen as a circle of radius f r / sqrt(d^2 - r^2)."""
    curves = outline(CAMERA, transform(np.eye(3), [0, 0, 0.8]), BALL.vertices, BALL.faces)
    assert len(curves) == 1
    radius = np.linalg.norm(curves[0] - [319.5, 239.5], axis=1)
    exact = 600 * 0.05 / np.sqrt(0.8**2 - 0.05**2)
    # A quarter of a pixel: rounding of the four times finer mask, and the facets of the sphere.
    np.testing.assert_allclose(radius, exact, atol=0.35)
    np.testing.assert_allclose(curves[0].mean(axis=0), [319.5, 239.5], atol=0.1)


def test_outline_keeps_the_hole_of_a_ring():
    ring = trimesh.creation.torus(0.05, 0.012)
    curves = outline(CAMERA, transform(np.eye(3), [0, 0, 0.6]), ring.vertices, ring.faces)
    assert len(curves) == 2


@pytest.mark.parametrize(
    "T",
    [
        transform(np.eye(3), [0, 0, -0.6]),
        transform(np.eye(3), [5.0, 0, 0.6]),
        transform(np.eye(3), [0, 0, 1e4]),
    ],
)
@pytest.mark.parametrize("camera", [CAMERA, DISTORTED])
def test_what_is_not_in_the_image_leaves_it_as_it_was(T, camera):
    np.testing.assert_array_equal(draw_pose(GREY, camera, T, BALL.vertices, BALL.faces, label="gone"), GREY)


@pytest.mark.parametrize("z", [0.001, 0.03, 0.051])
def test_an_object_around_the_camera_does_not_break_the_drawing(z):
    image = draw_pose(GREY, DISTORTED, transform(np.eye(3), [0, 0, z]), BALL.vertices, BALL.faces)
    assert image.shape == GREY.shape


def test_distorted_camera_does_not_fold_far_points_into_the_image():
    """Beyond its field of view the lens polynomial comes back towards the centre."""
    folding = Camera(K, 640, 480, [-0.25, 0.0, 0.0, 0.0])
    aside = transform(np.eye(3), [1.2, 0, 0.6])
    np.testing.assert_allclose(project(folding, aside[:3, 3]), [319.5, 239.5], atol=1)
    np.testing.assert_array_equal(draw_pose(GREY, folding, aside, BALL.vertices, BALL.faces), GREY)


def test_drawing_leaves_its_input_alone_and_marks_only_the_surroundings():
    before = GREY.copy()
    image = draw_pose(before, CAMERA, AHEAD, BOX.vertices, BOX.faces)
    np.testing.assert_array_equal(before, GREY)
    changed = (image != GREY).any(axis=2)
    reach = cv2.dilate(full_mask(CAMERA, AHEAD, BOX).astype(np.uint8), np.ones((9, 9))) > 0
    rows = np.nonzero(reach)[0]
    # Axes may leave the silhouette, by no more than its size.
    assert not changed[: rows.min() - 60].any()
    assert changed[reach].sum() > 300


def test_axes_point_where_the_pose_says():
    image = draw_pose(GREY, CAMERA, AHEAD, BOX.vertices, BOX.faces, colour=(255, 255, 255))
    length = 0.35 * np.linalg.norm(np.ptp(BOX.vertices, axis=0))
    for axis, colour in enumerate(AXIS_COLOURS):
        for part in (0.5, 0.8):
            x, y = np.rint(project(CAMERA, transform_points(AHEAD, part * length * np.eye(3)[axis]))).astype(
                int
            )
            nearby = image[y - 1 : y + 2, x - 1 : x + 2].astype(int)
            assert np.abs(nearby - colour).sum(axis=2).min() < 30


def test_near_objects_are_drawn_over_far_ones_whatever_their_order():
    near, far = transform(np.eye(3), [0, 0, 0.5]), transform(np.eye(3), [0.02, 0, 0.9])
    drawings = [
        PoseDrawing(near, BALL.vertices, BALL.faces, (255, 0, 255)),
        PoseDrawing(far, BALL.vertices, BALL.faces, (0, 255, 255)),
    ]
    np.testing.assert_array_equal(
        draw_poses(GREY, CAMERA, drawings), draw_poses(GREY, CAMERA, drawings[::-1])
    )


def test_labels_do_not_cover_each_other_and_stay_inside():
    poses = [transform(np.eye(3), [0.3 + 0.004 * k, -0.24, 0.8 + 0.01 * k]) for k in range(4)]
    plain = [PoseDrawing(T, BALL.vertices, BALL.faces) for T in poses]
    named = [PoseDrawing(T, BALL.vertices, BALL.faces, label="bottle 0.93") for T in poses]
    labels = (draw_poses(GREY, CAMERA, plain) != draw_poses(GREY, CAMERA, named)).any(axis=2)
    width, height = text_size("bottle 0.93", 14)
    # Four plates of at least the text's size, none on top of another.
    assert labels.sum() > 4 * width * height


def test_an_empty_label_and_no_objects_draw_nothing():
    np.testing.assert_array_equal(draw_poses(GREY, CAMERA, []), GREY)


def test_stroke_has_the_width_asked_for_and_soft_edges():
    image = np.zeros((40, 60, 3), np.uint8)
    draw_polylines(image, [np.array([[10.0, 20.0], [50.0, 20.0]])], 3.0, (255, 255, 255), closed=False)
    # Its brightness across adds up to the width.
    assert image[:, 30, 0].sum() / 255 == pytest.approx(3.0, abs=0.3)
    rows = np.arange(40)
    # Strokes are drawn on a grid of quarter pixels.
    assert (image[:, 30, 0] * rows).sum() / image[:, 30, 0].sum() == pytest.approx(20.0, abs=0.2)


def test_ink_outside_the_image_is_cut_off():
    image = np.zeros((20, 20, 3), np.uint8)
    draw_polylines(image, [np.array([[-50.0, -50.0], [-10.0, -30.0]])], 3.0, (255, 255, 255))
    draw_text(image, "hello", (200, 200), 14)
    assert not image.any()
    draw_text(image, "hello", (-5, -3), 14)
    assert image.any()
