"""Implement `vpog demo`: estimate poses in a synthetic scene of objects unseen in training."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from vpog_core.cli import files
from vpog_core.evaluation.pose_metrics import PoseMetrics
from vpog_core.geometry.boxes import clip_box, jitter_box
from vpog_core.threads import usable_cores, use_threads
from vpog_core.types import Camera, Detection

FRAME_SECONDS = 0.1
BOX_JITTER = 0.05
MIN_VISIBLE = 0.3
"""Objects less visible than this fraction are not estimated, as a detector would not find them."""

_MAX_DRAWN = 5
_POINTS = 1000


def demo(frames: int, objects: int, seed: int, output: str, **estimator_arguments: Any) -> int:
    """Run the demonstration and print its result; returns the exit status.

    Args:
        estimator_arguments: of `PoseEstimator`.

    Raises:
        VPOGError: weights or output folder that cannot be used.
    """
    from tqdm import tqdm

    from vpog_core.inference.estimator import PoseEstimator
    from vpog_core.synthetic.scene import make_scene

    files.check_output(output)
    meshes = _held_out_meshes(objects, seed)
    with tempfile.TemporaryDirectory(prefix="vpog_demo_") as folder:
        _write_meshes(meshes, Path(folder))
        use_threads(usable_cores())
        estimator = PoseEstimator(folder, **estimator_arguments)
        out = files.output_folder(output)
        files.onboard_with_progress(estimator)
        scene = make_scene(seed, list(meshes.values()))
        metrics, rng = PoseMetrics(), np.random.default_rng(seed)
        for index in tqdm(range(frames), desc="frames", unit="frame", delay=1.0, file=sys.stderr):
            _one_frame(scene, index, meshes, estimator, metrics, rng, out, _is_drawn(index, frames))
    print("\n".join(metrics.object_lines()))
    print(f"images: {out}")
    print(metrics.summary())
    return 0


def jitter_detection_box(box: np.ndarray, camera: Camera, rng: np.random.Generator) -> np.ndarray:
    """Jitter a box [4] as a detector would: each side by up to `BOX_JITTER`, inside the image."""
    return clip_box(jitter_box(rng, box, BOX_JITTER), camera.width, camera.height)


def _held_out_meshes(count: int, seed: int) -> dict:
    from tqdm import tqdm

    from vpog_core.synthetic.objects import make_object
    from vpog_core.synthetic.seeds import DEMO

    seeds = [DEMO[(seed * count + k) % len(DEMO)] for k in range(count)]
    bar = tqdm(seeds, desc="making objects", unit="object", delay=1.0, file=sys.stderr)
    return {f"object_{number}": make_object(number) for number in bar}


def _write_meshes(meshes: dict, folder: Path) -> None:
    from vpog_core.objects.mesh import save_mesh

    for name, mesh in meshes.items():
        save_mesh(mesh, folder / f"{name}.ply")


def _one_frame(scene, index, meshes, estimator, metrics, rng, out, drawn) -> None:
    """Render a frame, estimate its poses, compare them with the truth, and draw them if `drawn`."""
    frame = scene.render(index * FRAME_SECONDS)
    detected = np.flatnonzero(np.asarray(frame.visible_fraction) >= MIN_VISIBLE)
    names = list(meshes)
    boxes = [jitter_detection_box(frame.boxes_visible[k], scene.camera, rng) for k in detected]
    detections = [
        Detection(class_id=names[k], box=box, instance=int(k)) for k, box in zip(detected, boxes, strict=True)
    ]
    start = time.perf_counter()
    estimates = estimator.estimate(frame.image, scene.camera, detections)
    metrics.latencies.append(time.perf_counter() - start)
    scores = []
    for k, estimate in zip(detected, estimates, strict=True):
        mesh = meshes[names[k]]
        points = mesh.vertices[:: max(1, len(mesh.vertices) // _POINTS)]
        T_gt = frame.T_cam_obj[k]
        scores.append(metrics.update(names[k], estimate.T_cam_obj, T_gt, points, mesh.diameter))
    if drawn:
        _draw(frame.image, scene.camera, names, meshes, estimates, scores, out, index)


def _draw(image, camera, names, meshes, estimates, scores, out: Path, index: int) -> None:
    from vpog_core.visualization.flow_image import draw_match
    from vpog_core.visualization.overlay import PALETTE, PoseDrawing, draw_poses

    drawings = []
    for estimate, score in zip(estimates, scores, strict=True):
        name = estimate.class_id
        if estimate.match is not None:
            files.write_png(out / f"frame_{index:03d}_{name}_match.png", draw_match(estimate.match))
        if score is None:
            continue
        mesh, colour = meshes[name], PALETTE[names.index(name) % len(PALETTE)]
        label = f"{name}  {np.rad2deg(score.rotation):.0f}°, {100 * score.translation:.0f} %"
        drawings.append(PoseDrawing(estimate.T_cam_obj, mesh.vertices, mesh.faces, colour, label))
    files.write_png(out / f"frame_{index:03d}_overlay.png", draw_poses(image, camera, drawings))


def _is_drawn(index: int, frames: int) -> bool:
    return index in set(np.linspace(0, frames - 1, min(_MAX_DRAWN, frames)).round().astype(int).tolist())
