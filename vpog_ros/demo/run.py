"""Run the demo in one command: a camera, the node and a monitor, each a process, over real DDS."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from ament_index_python.packages import get_package_share_path

from vpog_ros.dds_profile import profile_environment
from vpog_ros.parameter_table import ONBOARD_IN_CONFIGURE

MIN_FRACTION = 0.85
"""Fraction of (frame, object) pairs with ADD(-S) under 10 % of the diameter that the demo has to reach."""

NODE, CAMERA, MONITOR = "vpog_ros.vpog_node", "vpog_ros.demo.camera", "vpog_ros.demo.monitor"
"""Modules that the demo runs as processes."""
FRAME_ID = "demo_camera_optical_frame"
"""Frame of the camera's images."""

STOP_TIMEOUT_S = 8.0
POLL_S = 0.2


class Children:
    """Starts processes that end with this one, however it ends."""

    def __init__(self) -> None:
        self._running: dict[str, subprocess.Popen] = {}

    def start(self, name: str, command: list[str], log: Path | None) -> subprocess.Popen:
        """Start a process; its output goes to `log`, or to the terminal where that is None."""
        with contextlib.ExitStack() as stack:
            sink = stack.enter_context(log.open("wb")) if log else None
            process = subprocess.Popen(
                command,
                stdout=sink,
                stderr=subprocess.STDOUT if sink else None,
                # A process group of its own: Ctrl-C reaches only this process, which stops the others.
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        self._running[name] = process
        return process

    def stop_all(self) -> None:
        """Stop all processes: ask them first, then kill them."""
        for how, patience in ((signal.SIGINT, STOP_TIMEOUT_S), (signal.SIGTERM, 2.0), (signal.SIGKILL, 2.0)):
            alive = [process for process in self._running.values() if process.poll() is None]
            for process in alive:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, how)
            deadline = time.monotonic() + patience
            for process in alive:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, deadline - time.monotonic()))


def die_with_parent() -> None:
    """Ask Linux, in the child, for SIGTERM when the parent dies."""
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def module(name: str, *arguments: str) -> list[str]:
    """Return the command that runs one of the package's modules."""
    return [sys.executable, "-m", name, *arguments]


def node_command(arguments: argparse.Namespace, objects: Path) -> list[str]:
    """Return the command of the node, with its inputs remapped to the camera's topics."""
    parameters = {
        "objects_dir": objects,
        "device": arguments.device,
        "mode": arguments.mode,
        "weights": arguments.weights,
        # The node is active only once all objects are onboarded: the monitor counts every frame.
        "onboarding": ONBOARD_IN_CONFIGURE,
    }
    command = module(NODE, "--ros-args")
    for topic in ("image", "camera_info", "instances"):
        command += ["-r", f"{topic}:=/demo_camera/{topic}"]
    for name, value in parameters.items():
        if value:
            command += ["-p", f"{name}:={value}"]
    return command


def run(arguments: argparse.Namespace) -> int:
    """Start all processes, wait for the monitor's result, and stop them."""
    output = arguments.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    objects = output / "objects"
    shared = ["--objects-dir", str(objects)]
    print("demo: three objects the network has never seen, a moving camera, boxes that err by up to 5 %")
    print(
        f"  look on: ROS_DOMAIN_ID={os.environ['ROS_DOMAIN_ID']} rviz2 -d config/vpog.rviz -f {FRAME_ID}",
        flush=True,
    )
    children = Children()
    try:
        # Write the meshes, which the node onboards.
        writer = children.start("meshes", module(CAMERA, "--write-only", *shared), output / "camera.log")
        if writer.wait():
            return failed("the meshes could not be written", output / "camera.log")
        # Start node, camera and monitor.
        node = children.start("node", node_command(arguments, objects), output / "vpog_node.log")
        camera_options = ["--seed", str(arguments.seed), "--rate", str(arguments.rate), *shared]
        camera = children.start("camera", module(CAMERA, *camera_options), output / "camera.log")
        monitor_options = [
            *("--output", str(output), "--frames", str(arguments.frames)),
            *("--min-fraction", str(arguments.min_fraction), *shared),
        ]
        monitor = children.start("monitor", module(MONITOR, *monitor_options), None)
        # Wait for the monitor's result.
        while monitor.poll() is None:
            time.sleep(POLL_S)
            for process, log in ((node, "vpog_node.log"), (camera, "camera.log")):
                if process.poll() is not None:
                    return failed(
                        f"{log.removesuffix('.log')} ended with status {process.returncode}", output / log
                    )
        return monitor.returncode
    finally:
        children.stop_all()
        print(f"images and logs: {output}", flush=True)


def failed(what: str, log: Path) -> int:
    lines = log.read_text(errors="replace").splitlines()[-10:] if log.exists() else []
    print("\n".join([*lines, f"The demo failed: {what}, see {log}."]), file=sys.stderr)
    return 2


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="demo", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=300, help="camera frames to judge")
    parser.add_argument("--rate", type=float, default=10.0, help="camera frames a second")
    parser.add_argument("--seed", type=int, default=1, help="of the scene and of the boxes' errors")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--mode", default="cluster", help="how the node uses its templates")
    parser.add_argument(
        "--weights", default="", help="weights file; empty: the one that comes with the package"
    )
    parser.add_argument("--output", type=Path, default=Path("demo_output"), help="folder for images and logs")
    parser.add_argument(
        "--min-fraction",
        type=float,
        default=MIN_FRACTION,
        help="fraction of correct poses below which the demo fails",
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    parsed = parse(arguments)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ.update(profile_environment(get_package_share_path("vpog_ros") / "config", os.environ))
    # A DDS domain of its own, isolated from everything else on this machine.
    os.environ.setdefault("ROS_DOMAIN_ID", str(random.randint(1, 101)))
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(143))
    try:
        return run(parsed)
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
