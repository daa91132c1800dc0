"""Draw the images of how_it_works.md: `python docs/how_it_works/draw.py`. Takes a minute or two."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import cv2
import numpy as np
import torch

from vpog_core.geometry.boxes import jitter_box
from vpog_core.geometry.camera import warp
from vpog_core.geometry.se3 import invert, moved, rotation_z, transform
from vpog_core.inference.crop import Crop, crop_detection
from vpog_core.inference.disambiguation import preference
from vpog_core.inference.estimator import PoseEstimator
from vpog_core.inference.match_view import match_view
from vpog_core.inference.matching import CLUSTER_SIZE, match_and_solve
from vpog_core.inference.observation import Observation
from vpog_core.inference.onboarding import encode_images
from vpog_core.inference.outline_alignment import ROUNDS, align_outline, find_edges, find_outline
from vpog_core.inference.query import Query
from vpog_core.inference.rendered_cluster import cluster_at_pose
from vpog_core.inference.rendered_view import RenderedView
from vpog_core.inference.retrieval import best_views, crop_at_turns, template_logits
from vpog_core.objects.mesh import Mesh, save_meshes
from vpog_core.objects.renderer import Renderer
from vpog_core.objects.viewpoints import nearest_viewpoints, upright_rotation, viewpoint_directions
from vpog_core.synthetic.objects import make_object
from vpog_core.synthetic.plain import painted_plain
from vpog_core.synthetic.scene import make_scene
from vpog_core.types import Detection
from vpog_core.visualization.drawing import draw_text, text_size
from vpog_core.visualization.flow_image import draw_match
from vpog_core.visualization.overlay import PALETTE, PoseDrawing, draw_poses

SEEDS = {"bottle": 900_014, "carton": 900_009, "toy": 900_013}
"""Objects no network was trained on."""
SHOWN = "carton"
OUTLINED = 920_006
"""The object in one colour."""
MOMENT = 3.0
DARK, LIGHT, MARK = (24, 26, 30), (225, 228, 232), (255, 170, 40)
TILE, GAP = 224, 10


def templates_on_sphere(
    images: np.ndarray, masks: np.ndarray, chosen: list[int], towards: np.ndarray
) -> np.ndarray:
    """Place the views [V, P, P, 3] where their cameras stand on the sphere, as seen from a direction [3]."""
    side, radius, thumb = 900, 385, 104
    image = np.full((side, side, 3), DARK, np.uint8)
    cv2.circle(image, (side // 2, side // 2), radius + thumb // 2, (36, 39, 45), -1, cv2.LINE_AA)
    places = viewpoint_directions() @ upright_rotation(towards).T
    for view in np.argsort(-places[:, 2]):  # the far ones first
        near = -places[view, 2]
        if near < 0.0:
            continue
        size = int(thumb * (0.62 + 0.38 * near))
        small = cv2.resize(images[view], (size, size), interpolation=cv2.INTER_AREA)
        mask = cv2.resize(masks[view].astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)[
            ..., None
        ]
        x, y = (side / 2 + radius * places[view, :2] - size / 2).round().astype(int)
        part = image[y : y + size, x : x + size]
        part[:] = (mask * small + (1 - mask) * part).astype(np.uint8)
        if view in chosen:
            cv2.rectangle(image, (x - 2, y - 2), (x + size + 1, y + size + 1), MARK, 3, cv2.LINE_AA)
    return image


def row(tiles: list[tuple[str, np.ndarray]], side: int = TILE) -> np.ndarray:
    """Place titled square images side by side."""
    bar = text_size("x", 16)[1] + 8
    panel = np.full((side + bar + GAP, len(tiles) * (side + GAP) + GAP, 3), DARK, np.uint8)
    for n, (title, image) in enumerate(tiles):
        x = GAP + n * (side + GAP)
        how = cv2.INTER_AREA if len(image) > side else cv2.INTER_CUBIC
        panel[bar : bar + side, x : x + side] = cv2.resize(image, (side, side), interpolation=how)
        draw_text(panel, title, (x, 2), 16, LIGHT)
    return panel


def over(crop: Crop, renderer: Renderer, T_virt_obj: np.ndarray) -> np.ndarray:
    """Draw the object, rendered at a pose, in every other square of the crop."""
    size = crop.virtual.size
    shown = renderer.render(T_virt_obj, crop.virtual.K, (size, size))
    y, x = np.mgrid[0:size, 0:size]
    use = shown.mask & ((x // 14 + y // 14) % 2 == 0)
    return np.where(use[..., None], shown.rgb, crop.rgb)


def main() -> int:
    """Write the images beside this file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", help="a .safetensors file (default: the one shipped)")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    meshes = {name: make_object(seed) for name, seed in SEEDS.items()}
    scene = make_scene(1, list(meshes.values()))
    frame = scene.render(MOMENT)
    rng = np.random.default_rng(0)
    detections = [
        Detection(name, jitter_box(rng, frame.boxes_visible[n], 0.05), instance=n)
        for n, name in enumerate(meshes)
        if frame.visible_fraction[n] > 0.3
    ]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        save_meshes(meshes, folder)
        estimator = PoseEstimator(folder, arguments.weights, cache_dir=folder / "cache")
        estimates = estimator.estimate(frame.image, scene.camera, detections)
        draw_one(
            estimator, scene, frame, next(d for d in detections if d.class_id == SHOWN), arguments.output
        )
    draw_outline(arguments.output)
    draw_lookalikes(arguments.output)
    boxed = frame.image.copy()
    for detection in detections:
        x0, y0, x1, y1 = (int(v) for v in detection.box)
        cv2.rectangle(boxed, (x0, y0), (x1, y1), PALETTE[detection.instance], 2, cv2.LINE_AA)
    drawings = [
        PoseDrawing(
            e.T_cam_obj, meshes[e.class_id].vertices, meshes[e.class_id].faces, PALETTE[e.instance],
            f"{e.class_id}  {e.score:.2f}",
        )
        for e in estimates if e.T_cam_obj is not None
    ]  # fmt: skip
    found = draw_poses(frame.image, scene.camera, drawings)
    # What is below and beside shows an empty table.
    write(arguments.output / "overlay.jpg", np.concatenate([boxed, found], axis=1)[60:340])
    return 0


def draw_one(estimator: PoseEstimator, scene, frame, detection: Detection, output: Path) -> None:
    """Draw the steps from one detection to its pose."""
    target, model = estimator.onboarded(detection.class_id), estimator.model
    mesh = estimator.library.mesh(detection.class_id)
    crop = crop_detection(frame.image, scene.camera, detection, model.config.image_size)
    observation = Observation(frame.image, scene.camera)
    encoded = encode_images(model, crop_at_turns(crop, observation))
    with torch.inference_mode():
        best = best_views(template_logits(model.describe(encoded), target), target, 1)[0]
    direction = viewpoint_directions()[best.view]
    views = [int(v) for v in nearest_viewpoints(direction, CLUSTER_SIZE)]
    templates = target.templates
    write(output / "templates.jpg", templates_on_sphere(templates.images, templates.mask, views, direction))
    cluster = target.cluster(best.view, best.roll_index, CLUSTER_SIZE)
    tiles = [("crop", crop.rgb), *((f"template {n + 1}", rgb) for n, rgb in enumerate(cluster.rgb))]
    write(output / "cluster.jpg", row(tiles))
    query = Query(
        detection,
        crop,
        observation,
        target,
        estimator.library.symmetry(detection.class_id),
        encoding=encoded[:1],
    )
    [(_, first)] = match_and_solve(model, [query], [(0, cluster)])
    write(output / "match.jpg", draw_match(match_view(first)))
    renderer = Renderer(mesh)
    rendered = cluster_at_pose(target, renderer, first.T_virt_obj, CLUSTER_SIZE)
    [(_, second)] = match_and_solve(model, [query], [(0, rendered)])
    T_true = invert(crop.virtual.T_cam_virt) @ frame.T_cam_obj[detection.instance]
    steps = [
        ("crop", crop.rgb),
        ("first pose", over(crop, renderer, first.T_virt_obj)),
        ("rendered there", rendered.rgb[0]),
        ("refined pose", over(crop, renderer, second.T_virt_obj)),
        ("truth", over(crop, renderer, T_true)),
    ]
    write(output / "refinement.jpg", row(steps))


def draw_outline(output: Path) -> None:
    """Draw how the outline of a plain object brings a pose that is off to where it should be."""
    # Take an image of the object, and a pose that is off by some degrees.
    mesh = painted_plain(make_object(OUTLINED), "outlined")
    scene = make_scene(3, [mesh], distractors=1)
    frame = scene.render(0.0)
    renderer, observation, T_true = Renderer(mesh), Observation(frame.image, scene.camera), frame.T_cam_obj[0]
    T_start = moved(
        T_true, np.array([0.02, -0.015, 0.2, 0.05, 0.08, -0.03]) * [*[mesh.diameter] * 3, 1, 1, 1]
    )
    # Align its outline.
    T_found = align_outline(renderer, observation, T_start, np.diag([0.02, 0.02, 0.1, 0.1, 0.1, 0.1]) ** 2)
    tiles = [
        ("pose before, and edges", outlined(renderer, observation, T_start, mark_edges=True)),
        ("pose after", outlined(renderer, observation, T_found)),
        ("truth", outlined(renderer, observation, T_true)),
    ]
    write(output / "outline.jpg", row(tiles, 2 * TILE))


def outlined(
    renderer: Renderer, observation: Observation, T_cam_obj: np.ndarray, mark_edges: bool = False
) -> np.ndarray:
    """Draw the outline of an object at a pose, and lines from it to the edges that belong to it."""
    view = RenderedView.of(renderer, observation, T_cam_obj)
    outline = find_outline(view)
    edges = find_edges(view.crop, outline, *ROUNDS[0])
    scale = 3
    image = cv2.resize(warp(observation.image, observation.camera, view.virtual), None, fx=scale, fy=scale)
    ends = outline.pixels + edges.offset[:, None] * outline.normals
    for pixel, end, found in zip(outline.pixels, ends, edges.found, strict=True):
        start, end = (tuple(int(v) for v in scale * (at + 0.5)) for at in (pixel, end))
        if mark_edges and found:
            cv2.line(image, start, end, MARK, 1, cv2.LINE_AA)
        cv2.circle(image, start, 2, PALETTE[1], -1, cv2.LINE_AA)
    return image


def draw_lookalikes(output: Path) -> None:
    """Draw how two poses of a packet are told apart whose renders differ in a few words."""
    # Take an image of the packet, and renders at its pose and half a turn from it.
    mesh = packet()
    scene = make_scene(5, [mesh], distractors=1)
    frame = scene.render(0.0)
    T_true, renderer = frame.T_cam_obj[0], Renderer(mesh)
    view = RenderedView.of(renderer, Observation(frame.image, scene.camera), T_true)
    T_turned = T_true @ transform(rotation_z(np.pi), np.zeros(3))
    K, size = view.virtual.K, view.virtual.size
    turned = renderer.render(invert(view.virtual.T_cam_virt) @ T_turned, K, (size, size))
    # Show where they differ.
    other = cv2.cvtColor(turned.rgb, cv2.COLOR_RGB2GRAY)
    difference = np.clip(128 + view.grey.astype(int) - other, 0, 255).astype(np.uint8)
    projection = f"difference; projection {preference(view, turned):+.2f}"
    tiles = [
        ("image", warp(frame.image, scene.camera, view.virtual)),
        ("one pose", view.render.rgb),
        ("half a turn away", turned.rgb),
        (projection, np.repeat(difference[..., None], 3, axis=2)),
    ]
    write(output / "lookalikes.jpg", row(tiles, int(1.5 * TILE)))


def packet() -> Mesh:
    """Return a packet, in metres, with the same print on two sides but for one line."""
    sides = [printed("500 g"), printed("recipe inside"), np.full((512, 384, 3), (214, 120, 40), np.uint8)]
    half = np.array([0.06, 0.025, 0.08])
    corners, uv, faces = [], [], []
    # Each side: the directions of its normal, of right and of up, and its place in the texture.
    for normal, right, up, place in (
        ((0, -1, 0), (1, 0, 0), (0, 0, 1), 0), ((0, 1, 0), (-1, 0, 0), (0, 0, 1), 1),
        ((1, 0, 0), (0, 1, 0), (0, 0, 1), 2), ((-1, 0, 0), (0, -1, 0), (0, 0, 1), 2),
        ((0, 0, 1), (1, 0, 0), (0, 1, 0), 2), ((0, 0, -1), (1, 0, 0), (0, -1, 0), 2),
    ):  # fmt: skip
        first = len(corners)
        for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
            corners.append(half * (np.array(normal) + x * np.array(right) + y * np.array(up)))
            uv.append(((place + 0.5 + 0.498 * x) / 3, 0.5 + 0.498 * y))
        faces += [(first, first + 1, first + 2), (first, first + 2, first + 3)]
    of_corners = np.array(uv, dtype=np.float32)[np.array(faces)]
    return Mesh(np.array(corners), np.array(faces), uv=of_corners, texture=np.hstack(sides))


def printed(line: str) -> np.ndarray:
    """Print one side of the packet, [512, 384, 3] uint8, with a line of text of its own."""
    image = np.full((512, 384, 3), (214, 120, 40), np.uint8)
    cv2.circle(image, (192, 330), 120, (245, 225, 150), -1, cv2.LINE_AA)
    cv2.circle(image, (192, 330), 90, (190, 60, 30), 10, cv2.LINE_AA)
    for text, size, y, color in (
        ("OAT", 4.0, 110, (250, 245, 230)), ("CRISPS", 2.6, 190, (250, 245, 230)),
        ("honey", 1.8, 345, (60, 30, 10)), (line, 1.5, 490, (250, 245, 230)),
    ):  # fmt: skip
        (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, 6)
        place = (192 - width // 2, y)
        cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, color, 6, cv2.LINE_AA)
    return image


def write(path: Path, image: np.ndarray) -> None:
    """Write an RGB image as JPEG."""
    cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == "__main__":
    raise SystemExit(main())
