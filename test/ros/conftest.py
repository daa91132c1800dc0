"""Start a real node as a process, and a client that talks to it over DDS."""

from __future__ import annotations

import os
import random
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from vpog_core.models.checkpoint import save_weights
from vpog_core.models.config import VPOGConfig
from vpog_core.models.vpog_model import VPOGModel
from vpog_core.objects.library import ObjectLibrary
from vpog_core.objects.mesh import Mesh, save_mesh
from vpog_core.synthetic.objects import make_object
from vpog_core.synthetic.scene import make_scene
from vpog_ros.dds_profile import profile_environment

from .client import Client
from .node_process import NodeProcess
from .workspace import build

# A domain of its own: what else runs on this machine is neither heard nor disturbed, other workers neither.
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
os.environ["ROS_DOMAIN_ID"] = str(random.randrange(102, 192, 8) + WORKER % 8)
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ.update(profile_environment(Path(__file__).parents[2] / "config", os.environ))

WEIGHTS = os.environ.get("VPOG_TEST_WEIGHTS", "")
"""Weights to test in place of those that come with the package."""


def _starter(tmp_path_factory):
    """Start nodes as they are asked for; end them afterwards."""
    nodes = []

    def start(**options) -> NodeProcess:
        log = tmp_path_factory.mktemp("node") / "node.log"
        options.setdefault("onboarding", "configure")
        if WEIGHTS:
            options.setdefault("weights", WEIGHTS)
        nodes.append(NodeProcess(log, **options))
        return nodes[-1]

    yield start
    for node in nodes:
        node.stop()


@pytest.fixture(scope="module")
def start_node(tmp_path_factory):
    """Start nodes that do not outlive the module."""
    yield from _starter(tmp_path_factory)


@pytest.fixture
def start_for_test(tmp_path_factory):
    """Start nodes that do not outlive the test."""
    yield from _starter(tmp_path_factory)


@pytest.fixture(scope="session")
def install(tmp_path_factory) -> Path:
    """Return the install folder of a workspace with this package and bond's messages."""
    return build(tmp_path_factory.mktemp("workspace"))


@pytest.fixture(scope="module")
def client():
    pytest.importorskip("rclpy")
    client = Client()
    yield client
    client.close()


@pytest.fixture
def make_client():
    """Make clients of other nodes."""
    made = []

    def make(name: str) -> Client:
        made.append(Client(name))
        return made[-1]

    yield make
    for item in made:
        item.close()


@dataclass(frozen=True)
class Untrained:
    """Holds a small untrained network, the folder of one object, `carton`, and a cache of templates.

    Attributes:
        weights: a file; by `convinced` every pose convinces, so that none is retried.
    """

    weights: Path
    convinced: Path
    objects_dir: Path
    cache_dir: Path

    def parameters(self) -> dict:
        """Return the parameters of the node."""
        return {"weights": self.weights, "objects_dir": self.objects_dir, "cache_dir": self.cache_dir}


@pytest.fixture(scope="session")
def untrained(tmp_path_factory, convinced) -> Untrained:
    torch.manual_seed(0)
    config = VPOGConfig(
        image_size=48, window=3, embed_dim=64, depth=1, num_heads=2, embed_from_stem=True, aa_depth=1,
        aa_heads=2, fine_dim=16, flow_hidden=32, flow_layers=2, retrieval_dim=8,
    )  # fmt: skip
    root = tmp_path_factory.mktemp("untrained")
    made = Untrained(root / "net.safetensors", root / "sure.safetensors", root / "objects", root / "cache")
    model = VPOGModel(config)
    save_weights(model, made.weights)
    save_weights(model, made.convinced, convinced)
    save_mesh(make_object(900_033, vertices=300), made.objects_dir / "carton.ply")
    return made


@pytest.fixture(scope="session")
def mug_library(tmp_path_factory) -> ObjectLibrary:
    """Return a library of one object, `mug`, for estimators that do not look at it."""
    folder = tmp_path_factory.mktemp("mug")
    save_mesh(make_object(900_023, vertices=500), folder / "mug.ply")
    return ObjectLibrary(folder)


@pytest.fixture(scope="session")
def carton() -> Mesh:
    """Return an object that is in no training set."""
    return make_object(900_009)


@pytest.fixture(scope="session")
def carton_dir(tmp_path_factory, carton) -> Path:
    folder = tmp_path_factory.mktemp("carton")
    save_mesh(carton, folder / "carton.ply")
    (folder / "objects.yaml").write_text("objects:\n  carton: {unit: m, aliases: [parcel]}\n")
    return folder


@pytest.fixture(scope="session")
def carton_cache(tmp_path_factory) -> Path:
    """Return a cache of templates, so that the carton is onboarded once by the weights that are tested."""
    return tmp_path_factory.mktemp("carton_cache")


@pytest.fixture(scope="module")
def objects_dir(tmp_path_factory, carton_dir) -> Path:
    """Return the carton, and a mesh that is broken."""
    folder = shutil.copytree(carton_dir, tmp_path_factory.mktemp("node") / "objects")
    (folder / "cut.ply").write_bytes((folder / "carton.ply").read_bytes()[:300])
    return folder


@pytest.fixture(scope="module")
def dump_dir(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("node") / "dumps"


@pytest.fixture(scope="module")
def scene(carton):
    return make_scene(11, [carton], distractors=0)


@pytest.fixture(scope="module")
def node(start_node, objects_dir, dump_dir, carton_cache):
    return start_node(
        objects_dir=objects_dir,
        cache_dir=carton_cache,
        dump_dir=dump_dir,
        autostart="false",
        device="cpu",
        diagnostics_period=0.2,
    )


@pytest.fixture
def active(node, client):
    if client.state() != "active":
        client.bring_to("active")
        client.shake_hands()
    return client


@pytest.fixture
def unfollowed(active):
    """Switch following off: the node estimates what is detected, and nothing else."""
    assert active.set_parameter("tracking_without_detections", False) == (True, "")
    yield active
    assert active.set_parameter("tracking_without_detections", True) == (True, "")


@pytest.fixture
def untracked(active):
    """Switch tracking off: every detection is estimated by itself."""
    assert active.set_parameter("tracking", False) == (True, "")
    yield active
    assert active.set_parameter("tracking", True) == (True, "")
