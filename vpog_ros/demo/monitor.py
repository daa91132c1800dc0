"""Compare the node's poses with the demo camera's true poses, by stamp, and print the errors."""

from __future__ import annotations

if __name__ == "__main__":
    from vpog_ros.start import prepare

    prepare(interrupted=130)

import argparse
import sys
import time
from collections import deque
from pathlib import Path

import cv2
import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import Image

from vpog_core.evaluation.pose_metrics import PoseMetrics
from vpog_core.messages.reading import stamp_to_ns
from vpog_core.objects.library import ObjectLibrary
from vpog_core.types import VPOGError
from vpog_ros.conversions import pose_from_message
from vpog_ros.image_conversion import image_to_rgb
from vpog_ros.msg import ObjectPoseArray
from vpog_ros.start import take_interrupts

GRACE_S = 5.0
"""Seconds after the last frame in which results are waited for."""

SILENCE_S = 30.0
"""Seconds without a message of camera or node after which the demo stops."""

MIN_ANSWERS = 20
"""Frames with results that the evaluation needs at least."""

PATIENCE_S = 180.0
"""Largest number of seconds that the measurement may take to get `MIN_ANSWERS` frames."""

POINTS = 1000
"""Mesh points that the errors are computed over."""


class DemoFailed(RuntimeError):
    """Raised when the demo cannot continue; holds the reason in one sentence."""


class DemoMonitor(Node):
    """Subscribes to true poses, poses, images and diagnostics, and evaluates the poses."""

    def __init__(self, node_name: str, camera_name: str) -> None:
        super().__init__("demo_monitor")
        self.node_name = node_name
        self.metrics = PoseMetrics()
        self.frames = 0
        self.answered = 0
        self.measuring = False
        self.last_heard = time.monotonic()
        self.node_state = self.node_message = ""
        self.node_failed = False
        self.images: dict[str, deque] = {"overlay": deque(maxlen=200), "flow": deque(maxlen=200)}
        self._truths: dict[int, ObjectPoseArray] = {}
        self._points: dict[str, tuple[np.ndarray, float, bool]] = {}
        self.create_subscription(ObjectPoseArray, f"{camera_name}/truth", self._on_truth, 50)
        self.create_subscription(ObjectPoseArray, f"{node_name}/poses", self._on_poses, 50)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    def load_objects(self, library: ObjectLibrary) -> None:
        """Read points, diameter and symmetry of every object."""
        for object_id in library.ids:
            mesh = library.mesh(object_id)
            step = max(1, len(mesh.vertices) // POINTS)
            symmetric = not library.symmetry(object_id).is_trivial
            self._points[object_id] = (mesh.vertices[::step], mesh.diameter, symmetric)

    def watch_images(self) -> None:
        """Subscribe to the images, which the node draws only while somebody subscribes."""
        for kind in self.images:
            topic = f"{self.node_name}/{kind}_image"
            # A function, because rclpy reads the callback's signature, which a deque's method does not have.
            self.create_subscription(
                Image, topic, lambda image, kind=kind: self.images[kind].append(image), 5
            )

    def _on_truth(self, message: ObjectPoseArray) -> None:
        self.last_heard = time.monotonic()
        if self.measuring:
            self.frames += 1
            self._truths[stamp_to_ns(message.header.stamp)] = message

    def _on_poses(self, message: ObjectPoseArray) -> None:
        arrival_ns = self.get_clock().now().nanoseconds
        self.last_heard = time.monotonic()
        stamp_ns = stamp_to_ns(message.header.stamp)
        truth = self._truths.pop(stamp_ns, None)
        if truth is None:
            return
        self.answered += 1
        self.metrics.latencies.append((arrival_ns - stamp_ns) * 1e-9)
        found = {(pose.class_id, pose.instance): pose_from_message(pose.pose.pose) for pose in message.poses}
        for true in truth.poses:
            points, diameter, symmetric = self._points[true.class_id]
            T_est, T_gt = found.get((true.class_id, true.instance)), pose_from_message(true.pose.pose)
            self.metrics.update(true.class_id, T_est, T_gt, points, diameter, symmetric)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.startswith(f"{self.node_name}:"):
                values = {item.key: item.value for item in status.values}
                self.node_state, self.node_message = values.get("state", ""), status.message
                self.node_failed = status.level == DiagnosticStatus.ERROR
                self.last_heard = time.monotonic()


class Demo:
    """Runs the steps of the demo: wait for the node, measure, capture images, print the result."""

    def __init__(self, monitor: DemoMonitor, arguments: argparse.Namespace) -> None:
        self.monitor = monitor
        self.arguments = arguments
        self._said = ("", 0.0)

    def say(self, text: str) -> None:
        """Print the progress: on a terminal one line that is overwritten, else a line every ten seconds."""
        on_terminal = sys.stdout.isatty()
        last, when = self._said
        if text != last and time.monotonic() - when >= (0.5 if on_terminal else 10.0):
            print(
                f"\r  {text:<78.78}" if on_terminal else f"  {text}",
                end="" if on_terminal else "\n",
                flush=True,
            )
            self._said = (text, time.monotonic())

    def spin(self) -> None:
        rclpy.spin_once(self.monitor, timeout_sec=0.1)

    def wait_until_active(self) -> None:
        """Wait until the node has onboarded and is active."""
        monitor, start = self.monitor, time.monotonic()
        message, since = "", start
        while monitor.node_state != "active":
            self.spin()
            if monitor.node_failed:
                raise DemoFailed(f"The node could not be configured: {monitor.node_message}")
            now = time.monotonic()
            if monitor.node_message != message:
                message, since = monitor.node_message, now
            if now - since > self.arguments.startup_timeout:
                raise DemoFailed(f"The node has made no progress for {now - since:.0f} s: '{message}'.")
            self.say(f"node: {message or 'starting'} ({now - start:.0f} s)")

    def measure(self) -> None:
        """Compare until enough frames were sent and processed; a slow machine gets more time."""
        monitor, frames = self.monitor, self.arguments.frames
        monitor.last_heard = start = time.monotonic()
        monitor.measuring = True
        while monitor.frames < frames or monitor.answered < MIN_ANSWERS:
            self.spin()
            if monitor.frames >= frames and time.monotonic() - start > PATIENCE_S:
                break
            if time.monotonic() - monitor.last_heard > SILENCE_S:
                raise DemoFailed(f"Nothing has come from the camera or the node for {SILENCE_S:.0f} s.")
            correct = 100 * monitor.metrics.recall
            self.say(f"{monitor.frames} frames sent, {monitor.answered} answered, {correct:.0f} % correct")
        monitor.measuring = False
        end, answered = time.monotonic() + GRACE_S, -1
        # Results may still arrive: wait as long as they do.
        while time.monotonic() < end and monitor.answered != answered:
            answered, pause = monitor.answered, time.monotonic() + 1.0
            while time.monotonic() < pause:
                self.spin()

    def capture_images(self) -> None:
        """Receive the node's images after the measurement, since drawing them takes time as well."""
        self.monitor.watch_images()
        end = time.monotonic() + self.arguments.image_seconds
        while time.monotonic() < end:
            self.spin()
            self.say(f"capturing images: {len(self.monitor.images['overlay'])}")
        folder = self.arguments.output
        folder.mkdir(parents=True, exist_ok=True)
        for kind, messages in self.monitor.images.items():
            wanted = np.unique(np.linspace(0, len(messages) - 1, self.arguments.images).astype(int))
            for number, index in enumerate(wanted if messages else ()):
                write_image(folder / f"{kind}_{number}.png", image_to_rgb(messages[index]))

    def tell(self) -> bool:
        """Print the result, and return whether it is good enough."""
        monitor, metrics = self.monitor, self.monitor.metrics
        if not monitor.answered:
            raise DemoFailed(f"The node has answered none of {monitor.frames} frames.")
        if sys.stdout.isatty():
            print("\r" + 80 * " " + "\r", end="")
        for line in metrics.object_lines():
            print(line)
        print(f"{monitor.answered} of {monitor.frames} frames answered, {metrics.summary()}", flush=True)
        if metrics.recall < self.arguments.min_fraction:
            print(
                f"The fraction with a correct pose, {100 * metrics.recall:.0f} %, is under the bound of "
                f"{100 * self.arguments.min_fraction:.0f} %.",
                file=sys.stderr,
            )
            return False
        return True

    def run(self) -> bool:
        self.wait_until_active()
        library = ObjectLibrary(self.arguments.objects_dir)
        self.monitor.load_objects(library)
        self.measure()
        self.capture_images()
        write_templates(library, self.arguments.output)
        return self.tell()


def write_image(path: Path, rgb: np.ndarray) -> None:
    cv2.imwrite(str(path), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))


def write_templates(library: ObjectLibrary, folder: Path, columns: int = 18, side: int = 64) -> None:
    """Write an image for each object with all its templates, from the cache the node filled."""
    for object_id in library.ids:
        images = [cv2.resize(image, (side, side)) for image in library.templates(object_id).images]
        images += [np.zeros_like(images[0])] * (-len(images) % columns)
        rows = [np.hstack(images[i : i + columns]) for i in range(0, len(images), columns)]
        write_image(folder / f"templates_{object_id}.png", np.vstack(rows))


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--node", default="/vpog_node", help="name of the node that is evaluated")
    parser.add_argument("--camera", default="/demo_camera", help="name of the demo camera")
    parser.add_argument(
        "--objects-dir", type=Path, default=Path("demo_output/objects"), help="folder of meshes"
    )
    parser.add_argument("--output", type=Path, default=Path("demo_output"), help="folder for the images")
    parser.add_argument("--frames", type=int, default=300, help="camera frames to evaluate")
    parser.add_argument(
        "--min-fraction", type=float, default=0.0, help="fraction of correct poses below which the demo fails"
    )
    parser.add_argument("--images", type=int, default=6, help="overlay and flow images to keep")
    parser.add_argument(
        "--image-seconds", type=float, default=8.0, help="seconds for which images are captured"
    )
    parser.add_argument(
        "--startup-timeout", type=float, default=120.0, help="seconds the node may go without progress"
    )
    return parser.parse_args(arguments)


def main() -> int:
    arguments = parse(remove_ros_args(sys.argv)[1:])
    take_interrupts()
    rclpy.init()
    try:
        return 0 if Demo(DemoMonitor(arguments.node, arguments.camera), arguments).run() else 1
    except (DemoFailed, VPOGError) as error:
        print(f"The demo failed: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, ExternalShutdownException):
        return 130
    finally:
        rclpy.try_shutdown()


if __name__ == "__main__":
    sys.exit(main())
