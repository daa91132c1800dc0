from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import trimesh

pytest.importorskip("rclpy")

import rclpy
from std_msgs.msg import Header
from vpog_ros.msg import ObjectPoseArray

from vpog_core.geometry.boxes import jitter_box
from vpog_core.geometry.se3 import rotation_z, transform
from vpog_core.objects.library import ObjectLibrary
from vpog_core.objects.mesh import save_meshes
from vpog_core.synthetic.demo_objects import OBJECT_SEEDS, demo_objects
from vpog_core.types import PoseEstimate
from vpog_ros.conversions import object_pose
from vpog_ros.demo.monitor import DemoMonitor
from vpog_ros.demo.run import CAMERA, MONITOR, NODE, module, parse

ROOT = Path(__file__).resolve().parents[2]
TRAINING_SEEDS = 100_000


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> ObjectLibrary:
    folder = tmp_path_factory.mktemp("demo") / "objects"
    save_meshes(demo_objects(), folder)
    return ObjectLibrary(folder)


@pytest.fixture
def monitor(library):
    rclpy.init()
    monitor = DemoMonitor("/vpog_node", "/demo_camera")
    monitor.load_objects(library)
    monitor.measuring = True
    yield monitor
    monitor.destroy_node()
    rclpy.shutdown()


def poses(stamp_s: int, **T_cam_obj: np.ndarray) -> ObjectPoseArray:
    message = ObjectPoseArray(header=Header())
    message.header.stamp.sec = stamp_s
    message.poses = [object_pose(PoseEstimate(name, T_cam_obj=T)) for name, T in T_cam_obj.items()]
    return message


def at(x: float, angle: float = 0.0) -> np.ndarray:
    return transform(rotation_z(angle), np.array([x, 0.0, 0.7]))


def test_objects_of_the_demo_are_never_in_training():
    assert min(OBJECT_SEEDS.values()) >= TRAINING_SEEDS


def test_the_folder_holds_the_objects(library):
    assert library.ids == sorted(OBJECT_SEEDS)
    for name in library.ids:
        assert 0.03 < library.mesh(name).diameter < 0.5


def test_boxes_err_by_no_more_than_told():
    rng, box = np.random.default_rng(0), np.array([100.0, 200, 180, 300])
    largest = np.max([np.abs(jitter_box(rng, box, 0.05) - box) for _ in range(500)], axis=0)
    # Five percent of 80 and of 100 pixels; 500 draws come close to the bound.
    assert np.all(largest <= [4.0, 5.0, 4.0, 5.0])
    assert np.all(largest > [3.8, 4.8, 3.8, 4.8])


def test_monitor_compares_by_stamp(monitor):
    monitor._on_truth(poses(1, bottle=at(0.0), toy=at(0.1)))
    monitor._on_truth(poses(2, bottle=at(5.0)))
    monitor._on_poses(poses(1, bottle=at(0.0, angle=np.deg2rad(2.0))))
    assert (monitor.frames, monitor.answered) == (2, 1)
    (bottle,), (toy,) = monitor.metrics.scores["bottle"], monitor.metrics.scores["toy"]
    assert np.rad2deg(bottle.rotation) == pytest.approx(2.0, abs=1e-3)
    assert bottle.translation == pytest.approx(0.0, abs=1e-6)
    assert bottle.correct
    assert toy is None
    assert monitor.metrics.recall == 0.5


def test_monitor_ignores_what_it_has_no_truth_of(monitor):
    monitor._on_poses(poses(9, bottle=at(0.0)))
    monitor.measuring = False
    monitor._on_truth(poses(10, bottle=at(0.0)))
    monitor._on_poses(poses(10, bottle=at(0.0)))
    assert (monitor.frames, monitor.answered) == (0, 0)


def test_only_what_is_declared_symmetric_is_judged_as_such(monitor, tmp_path):
    """Two square boxes are answered with a quarter turn; objects.yaml says of one that it looks the same."""
    for name in ("printed", "blank"):
        trimesh.creation.box((0.1, 0.1, 0.05)).subdivide().export(tmp_path / f"{name}.ply")
    symmetry = "{symmetry: {discrete: [{axis: z, order: 4}]}}"
    (tmp_path / "objects.yaml").write_text(f"objects:\n  blank: {symmetry}\n")
    monitor.load_objects(ObjectLibrary(tmp_path))
    monitor._on_truth(poses(1, printed=at(0.0), blank=at(0.2)))
    monitor._on_poses(poses(1, printed=at(0.0, angle=np.pi / 2), blank=at(0.2, angle=np.pi / 2)))
    (printed,), (blank,) = monitor.metrics.scores["printed"], monitor.metrics.scores["blank"]
    assert not printed.correct
    assert blank.correct
    # The message holds the turn in float64.
    assert blank.add == pytest.approx(0.0, abs=1e-9)


def test_the_demo_writes_its_meshes_by_the_command_that_it_runs(tmp_path):
    command = module(CAMERA, "--write-only", "--objects-dir", str(tmp_path / "objects"))
    subprocess.run(command, cwd=ROOT, check=True, timeout=120)
    assert ObjectLibrary(tmp_path / "objects").ids == sorted(OBJECT_SEEDS)
    assert all(find_spec(name) for name in (NODE, CAMERA, MONITOR))


def test_bound_is_never_zero():
    assert parse([]).min_fraction > 0.0


PARENT = """
    import sys, time
    from pathlib import Path
    from vpog_ros.demo.run import Children
    children = Children()
    try:
        child = children.start("child", [sys.executable, "-c", "import time; time.sleep(100)"], Path({log!r}))
        print(child.pid, flush=True)
        time.sleep(100)
    finally:
        children.stop_all()
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "killed"])
def test_children_end_with_their_parent(tmp_path, how):
    code = textwrap.dedent(PARENT.format(log=str(tmp_path / "log")))
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a shell's & ignores it
    )  # fmt: skip
    child = int(parent.stdout.readline())
    parent.send_signal(how)
    parent.wait(20.0)
    deadline = time.monotonic() + 10.0
    while is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not is_alive(child)


def is_alive(pid: int) -> bool:
    """Tell whether a process runs: it is neither gone nor a zombie."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
