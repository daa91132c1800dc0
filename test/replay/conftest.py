"""Write small bags of one object before a plain background."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer

from vpog_core.geometry.se3 import rotation_x, rotation_y, transform
from vpog_core.models.checkpoint import save_weights
from vpog_core.models.vpog_model import VPOGModel
from vpog_core.objects.mesh import Mesh, save_mesh
from vpog_core.objects.renderer import Renderer
from vpog_core.replay import result_messages as messages
from vpog_core.replay.bag_reader import open_bag
from vpog_core.replay.bag_writer import BagWriter, new_bag
from vpog_core.synthetic.objects import make_object
from vpog_core.types import Camera, Detection

FRAMES = 4
STEP_NS = 100_000_000
START_NS = 5_000_000_000
K = np.array([[200.0, 0, 79.5], [0, 200, 59.5], [0, 0, 1]])


@dataclass
class Recording:
    """Holds what is recorded: images [120, 160, 3], their camera, a detection in each, stamps."""

    mesh: Mesh
    camera: Camera
    images: list[np.ndarray]
    detections: list[Detection]
    stamps: list[int]

    @property
    def read(self) -> list[Detection]:
        """Return the detections as messages hold them: along the outer edges of their pixels."""
        outwards = np.array([-0.5, -0.5, 0.5, 0.5])
        return [replace(detection, box=detection.box + outwards) for detection in self.detections]

    def head(self, n: int, stamped: bool = True):
        return messages.header(self.stamps[n] if stamped else 0, "test_camera")


@pytest.fixture(scope="session")
def recording() -> Recording:
    mesh = make_object(900_009, vertices=3000)
    renderer = Renderer(mesh)
    background = np.full((120, 160, 3), 110, np.uint8)
    images, detections = [], []
    for n in range(FRAMES):
        T = transform(rotation_y(0.1 * n) @ rotation_x(2.0), [0.0, 0.0, 4.0 * mesh.diameter])
        T[:3, 3] -= T[:3, :3] @ mesh.center
        rendered = renderer.render(T, K, (120, 160), background=background)
        rows, columns = np.nonzero(rendered.mask)
        box = np.array([columns.min(), rows.min(), columns.max(), rows.max()], np.float64)
        images.append(rendered.rgb)
        detections.append(Detection("carton", box, 0.75))
    stamps = [START_NS + n * STEP_NS for n in range(FRAMES)]
    return Recording(mesh, Camera(K, 160, 120), images, detections, stamps)


@pytest.fixture(scope="session")
def write_frame(recording):
    """Return write_frame(bag, n), which writes the messages of a frame, recorded 20 ms after each other."""

    def write(bag: BagWriter, n: int, stamped: bool = True, detections_stamp: int | None = None) -> None:
        head = recording.head(n, stamped)
        detected = head if detections_stamp is None else messages.header(detections_stamp, "test_camera")
        sent = [
            ("/camera/camera_info", messages.camera_info(recording.camera, head)),
            ("/camera/image", messages.image(recording.images[n], head)),
            ("/detector/instances", messages.instance_array([recording.detections[n]], detected)),
        ]
        for place, (topic, message) in enumerate(sent):
            bag.write(topic, message, recording.stamps[n] + place * 20_000_000)

    return write


@pytest.fixture(scope="session")
def bag(tmp_path_factory, write_frame) -> Path:
    """Return a bag of all frames, MCAP; not to be changed."""
    path = tmp_path_factory.mktemp("bags") / "camera"
    with new_bag(path) as writer:
        for n in range(FRAMES):
            write_frame(writer, n)
    return path


@pytest.fixture(scope="session")
def break_messages():
    """Return break_messages(original, path, topic, rows), which copies a bag and cuts some messages short."""

    def copy_broken(original: Path, path: Path, topic: str, rows) -> None:
        with open_bag(original) as bag, Writer(path, version=8, storage_plugin=StoragePlugin.MCAP) as copy:
            connections, row = {}, -1
            for message in bag.messages(list(bag.types)):
                if message.topic not in connections:
                    connections[message.topic] = copy.add_connection(
                        message.topic, message.msgtype, typestore=message.store
                    )
                row += message.topic == topic
                cut = message.topic == topic and row in rows
                raw = message.raw[: len(message.raw) // 2] if cut else message.raw
                copy.write(connections[message.topic], message.time_ns, raw)

    return copy_broken


@pytest.fixture(scope="session")
def objects_dir(tmp_path_factory, recording) -> Path:
    folder = tmp_path_factory.mktemp("objects")
    save_mesh(recording.mesh, folder / "carton.ply")
    return folder


@pytest.fixture(scope="session")
def small_weights(tmp_path_factory, small_config, convinced) -> str:
    """Return untrained weights that give poses quickly: the tests are of what becomes of them."""
    import torch

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_weights(VPOGModel(small_config), path, convinced)
    return str(path)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
