"""Record a bag of the synthetic demo camera: images, calibration, detections, the true poses."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

from vpog_core.replay.bag_writer import BagWriter, new_bag
from vpog_core.replay.result_messages import camera_info, header, image, instance_array, object_pose_array
from vpog_core.synthetic.demo_objects import OBJECT_SEEDS, demo_detections, demo_objects, seen_objects
from vpog_core.synthetic.scene import SceneFrame, make_scene
from vpog_core.types import Camera, PoseEstimate

CAMERA = "/demo_camera"
FRAME_ID = "demo_camera_optical_frame"
START_NS = 1_700_000_000 * 1_000_000_000
"""Stamp of the first image."""


def record_demo(path: Path, frames: int, rate: float, seed: int, jitter: float, storage: str) -> None:
    """Write a bag with as many frames of a scene, and the meshes are those of `demo_objects`.

    Args:
        rate: frames a second; seed: of the scene and of the boxes' errors.
        jitter: error of the boxes, fraction of their size.
    """
    scene = make_scene(seed, list(demo_objects().values()))
    rng = np.random.default_rng([seed, 7])
    with new_bag(path, storage) as bag:
        for number in tqdm(range(frames), "rendering the scene", unit="frame", delay=1.0, file=sys.stderr):
            time_ns = START_NS + int(1e9 * number / rate)
            _write_frame(bag, scene.camera, scene.render(number / rate), time_ns, jitter, rng)


def _write_frame(
    bag: BagWriter,
    camera: Camera,
    frame: SceneFrame,
    time_ns: int,
    jitter: float,
    rng: np.random.Generator,
) -> None:
    head = header(time_ns, FRAME_ID)
    seen = seen_objects(frame)
    names = list(OBJECT_SEEDS)
    truths = [PoseEstimate(names[i], T_cam_obj=frame.T_cam_obj[i], score=1.0) for i in seen]
    messages = {
        "truth": object_pose_array(truths, head),
        "camera_info": camera_info(camera, head),
        "instances": instance_array(demo_detections(frame, seen, jitter, rng), head),
        "image": image(frame.image, head),
    }
    for name, message in messages.items():
        bag.write(f"{CAMERA}/{name}", message, time_ns)
