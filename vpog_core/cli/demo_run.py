"""Estimate poses in a synthetic scene of objects unseen in training, and compare them with the true ones."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from vpog_core.cli import files
from vpog_core.evaluation.pose_metrics import PoseMetrics, PoseScore
from vpog_core.geometry.boxes import clip_box, jitter_box
from vpog_core.inference.estimator import PoseEstimator
from vpog_core.objects.mesh import Mesh, save_meshes
from vpog_core.synthetic.objects import make_object
from vpog_core.synthetic.scene import DemoScene, make_scene
from vpog_core.synthetic.seeds import DEMO
from vpog_core.threads import usable_cores, use_threads
from vpog_core.types import Camera, Detection, Estimates
from vpog_core.visualization.flow_image import draw_match
from vpog_core.visualization.overlay import PALETTE, PoseDrawing, draw_poses

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
    files.check_output(output)
    meshes = _held_out_meshes(objects, seed)
    with tempfile.TemporaryDirectory(prefix="vpog_demo_") as folder:
        # Onboard the objects.
        save_meshes(meshes, folder)
        use_threads(usable_cores())
        estimator = PoseEstimator(folder, **estimator_arguments)
        out = files.output_folder(output)
        files.onboard_with_progress(estimator)
        # Estimate their poses in each frame.
        shown = _Demo(make_scene(seed, list(meshes.values())), meshes, estimator, out)
        metrics, rng = PoseMetrics(), np.random.default_rng(seed)
        for index in tqdm(range(frames), desc="frames", unit="frame", delay=1.0, file=sys.stderr):
            shown.run_frame(index, metrics, rng, _is_drawn(index, frames))
    print("\n".join(metrics.object_lines()))
    print(f"images: {out}")
    print(metrics.summary())
    return 0


def jitter_detection_box(box: np.ndarray, camera: Camera, rng: np.random.Generator) -> np.ndarray:
    """Jitter a box [4] as a detector would: each side by up to `BOX_JITTER`, inside the image."""
    return clip_box(jitter_box(rng, box, BOX_JITTER), camera.width, camera.height)


def _held_out_meshes(count: int, seed: int) -> dict[str, Mesh]:
    seeds = [DEMO[(seed * count + k) % len(DEMO)] for k in range(count)]
    bar = tqdm(seeds, desc="making objects", unit="object", delay=1.0, file=sys.stderr)
    return {f"object_{number}": make_object(number) for number in bar}


@dataclass(frozen=True)
class _Demo:
    """Holds what all frames share: the scene, its meshes by name, the estimator, and the images' folder."""

    scene: DemoScene
    meshes: dict[str, Mesh]
    estimator: PoseEstimator
    out: Path

    def run_frame(self, index: int, metrics: PoseMetrics, rng: np.random.Generator, drawn: bool) -> None:
        """Render a frame, estimate its poses, compare them with the truth, and draw them if `drawn`."""
        # Make the detections of a detector that sees most objects.
        frame, names = self.scene.render(index * FRAME_SECONDS), list(self.meshes)
        detected = np.flatnonzero(np.asarray(frame.visible_fraction) >= MIN_VISIBLE)
        boxes = [jitter_detection_box(frame.boxes_visible[k], self.scene.camera, rng) for k in detected]
        detections = [
            Detection(class_id=names[k], box=box, instance=int(k))
            for k, box in zip(detected, boxes, strict=True)
        ]
        # Estimate the poses.
        start = time.perf_counter()
        estimates = self.estimator.estimate(frame.image, self.scene.camera, detections)
        metrics.latencies.append(time.perf_counter() - start)
        # Compare them with the truth.
        scores = []
        for k, estimate in zip(detected, estimates, strict=True):
            mesh = self.meshes[names[k]]
            points = mesh.vertices[:: max(1, len(mesh.vertices) // _POINTS)]
            T_gt = frame.T_cam_obj[k]
            scores.append(metrics.update(names[k], estimate.T_cam_obj, T_gt, points, mesh.diameter))
        if drawn:
            self._draw(index, frame.image, estimates, scores)

    def _draw(
        self, index: int, image: np.ndarray, estimates: Estimates, scores: Sequence[PoseScore | None]
    ) -> None:
        drawings, names = [], list(self.meshes)
        for estimate, score in zip(estimates, scores, strict=True):
            name = estimate.class_id
            if estimate.match is not None:
                files.write_png(self.out / f"frame_{index:03d}_{name}_match.png", draw_match(estimate.match))
            if score is None:
                continue
            mesh, colour = self.meshes[name], PALETTE[names.index(name) % len(PALETTE)]
            label = f"{name}  {np.rad2deg(score.rotation):.0f}°, {100 * score.translation:.0f} %"
            drawings.append(PoseDrawing(estimate.T_cam_obj, mesh.vertices, mesh.faces, colour, label))
        overlay = draw_poses(image, self.scene.camera, drawings)
        files.write_png(self.out / f"frame_{index:03d}_overlay.png", overlay)


def _is_drawn(index: int, frames: int) -> bool:
    return index in set(np.linspace(0, frames - 1, min(_MAX_DRAWN, frames)).round().astype(int).tolist())
