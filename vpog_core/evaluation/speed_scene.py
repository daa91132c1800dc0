"""Make the images that speed is measured on: a seeded synthetic scene with any number of detections."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vpog_core.geometry.boxes import clip_box, jitter_box
from vpog_core.objects.mesh import save_meshes
from vpog_core.synthetic.objects import make_object
from vpog_core.synthetic.scene import make_scene
from vpog_core.synthetic.seeds import SPEED, take
from vpog_core.types import Camera, Detection, VPOGError

FRAME_SECONDS = 0.1
BOX_JITTER = 0.05


class SpeedScene:
    """Generates images of a synthetic scene with any number of detections in each."""

    def __init__(self, objects: int, library: Path) -> None:
        seeds = take(SPEED, 0, objects)
        self.meshes = {f"object_{n}": make_object(seed) for n, seed in enumerate(seeds)}
        save_meshes(self.meshes, library)
        self.scene = make_scene(SPEED.start, list(self.meshes.values()))
        self.camera: Camera = self.scene.camera
        self._rendered: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def image(self, index: int, count: int) -> tuple[np.ndarray, list[Detection]]:
        """Return an image and its objects' detections, repeated in turn, each with its own jitter."""
        image, boxes = self._frame(index)
        seen = [n for n, box in enumerate(boxes) if np.ptp(box) > 0]
        if not seen:
            raise VPOGError("No object of the bench's scene is visible: time fewer frames.")
        names, rng = list(self.meshes), np.random.default_rng([SPEED.start, index])
        detections = []
        for n in range(count):
            k = seen[n % len(seen)]
            box = jitter_box(rng, boxes[k], BOX_JITTER)
            box = clip_box(box, self.camera.width, self.camera.height)
            detections.append(Detection(names[k], box, instance=n // len(seen)))
        return image, detections

    def _frame(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return an image and the boxes of its objects' visible parts; it is rendered once."""
        if index not in self._rendered:
            frame = self.scene.render(index * FRAME_SECONDS)
            self._rendered[index] = frame.image, frame.boxes_visible
        return self._rendered[index]
