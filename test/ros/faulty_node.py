"""Run a node whose estimator fails at bright images, and whose publishers fail once on destruction."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np

from vpog_core.geometry.se3 import transform
from vpog_core.objects.library import ObjectLibrary
from vpog_core.types import Estimates, PoseEstimate
from vpog_ros.outputs.publishers import Publishers
from vpog_ros.process import run
from vpog_ros.vpog_node import VpogNode

BRIGHT = 200


class Faulty:
    """Estimates one pose for everything."""

    device, left_out, can_track = "cpu", {}, False
    objects = SimpleNamespace(left_out={}, is_open=lambda object_id: True)

    def __init__(self, settings, progress) -> None:
        self.library = ObjectLibrary(settings.objects_dir)
        self.object_ids = self.library.ids

    def estimate(self, image, camera, detections, priors=None, constraints=None) -> Estimates:
        if image.min() > BRIGHT:
            raise RuntimeError("the accelerator is gone")
        T = transform(np.eye(3), [0.0, 0.0, 0.5])
        return Estimates(PoseEstimate(d.class_id, d.instance, T, 0.9) for d in detections)


destroy, failed = Publishers.destroy, []


def fail_once(publishers) -> None:
    if not failed:
        failed.append(publishers)
        raise RuntimeError("a publisher is stuck")
    destroy(publishers)


if __name__ == "__main__":
    Publishers.destroy = fail_once
    sys.exit(run(lambda: VpogNode(Faulty)))
