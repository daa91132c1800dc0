"""Publish images of a synthetic scene, with its true poses.

Publishes, below its own name: image, camera_info, instances (boxes with a detector's small errors) and truth.
It starts once somebody listens to image and instances, so that nothing is sent while the node still onboards.
"""

from __future__ import annotations

if __name__ == "__main__":
    from vpog_ros.start import prepare

    prepare(interrupted=0)

import argparse
import sys
from pathlib import Path

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from tqdm import tqdm

from vpog_core.objects.mesh import save_meshes
from vpog_core.synthetic.demo_objects import OBJECT_SEEDS, demo_detections, demo_objects, seen_objects
from vpog_core.synthetic.scene import SceneFrame, make_scene
from vpog_core.types import PoseEstimate
from vpog_ros.conversions import camera_to_info, instance_from_detection, object_pose
from vpog_ros.demo.run import FRAME_ID
from vpog_ros.image_conversion import rgb_to_image
from vpog_ros.msg import Instance2DArray, ObjectPoseArray
from vpog_ros.start import take_interrupts


class DemoCamera(Node):
    """Publishes a loop of frames at a steady rate, each stamped with the moment it is sent."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        super().__init__("demo_camera")
        self._names = list(OBJECT_SEEDS)
        meshes = demo_objects()
        save_meshes(meshes, arguments.objects_dir)
        scene = make_scene(arguments.seed, list(meshes.values()))
        self._camera = scene.camera
        self._jitter = arguments.jitter
        self._rng = np.random.default_rng([arguments.seed, 7])
        times = np.arange(arguments.frames) / arguments.rate
        progress = tqdm(times, "rendering the scene", unit="frame", mininterval=1.0, file=sys.stdout)
        self._frames = [scene.render(t) for t in progress]
        self._next = 0
        self._image = self.create_publisher(Image, "~/image", 5)
        self._info = self.create_publisher(CameraInfo, "~/camera_info", 5)
        self._instances = self.create_publisher(Instance2DArray, "~/instances", 5)
        self._truth = self.create_publisher(ObjectPoseArray, "~/truth", 50)
        self.create_timer(1.0 / arguments.rate, self._publish)
        self.get_logger().info("The scene is ready; waiting for somebody to look.")

    def _publish(self) -> None:
        listeners = (self._image, self._info, self._instances)
        if not all(publisher.get_subscription_count() for publisher in listeners):
            return
        frame = self._frames[self._next % len(self._frames)]
        self._next += 1
        header = Header(frame_id=FRAME_ID, stamp=self.get_clock().now().to_msg())
        seen = seen_objects(frame)
        # Publish the true poses first: the monitor needs them before the estimates arrive.
        self._truth.publish(self._truth_of(frame, seen, header))
        self._info.publish(camera_to_info(self._camera, header))
        self._instances.publish(self._instances_of(frame, seen, header))
        self._image.publish(rgb_to_image(frame.image, header))

    def _truth_of(self, frame: SceneFrame, seen: list[int], header: Header) -> ObjectPoseArray:
        truths = [PoseEstimate(self._names[i], T_cam_obj=frame.T_cam_obj[i], score=1.0) for i in seen]
        return ObjectPoseArray(header=header, poses=[object_pose(truth) for truth in truths])

    def _instances_of(self, frame: SceneFrame, seen: list[int], header: Header) -> Instance2DArray:
        detections = demo_detections(frame, seen, self._jitter, self._rng)
        return Instance2DArray(
            header=header, instances=[instance_from_detection(detection, header) for detection in detections]
        )


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--objects-dir",
        type=Path,
        default=Path("demo_output/objects"),
        help="folder the three meshes are written to",
    )
    parser.add_argument("--seed", type=int, default=1, help="of the scene and of the boxes' errors")
    parser.add_argument("--rate", type=float, default=10.0, help="frames a second")
    parser.add_argument("--frames", type=int, default=120, help="length of the loop, in frames")
    parser.add_argument(
        "--jitter", type=float, default=0.05, help="error of the boxes, fraction of their size"
    )
    parser.add_argument("--write-only", action="store_true", help="write the meshes and end")
    return parser.parse_args(arguments)


def main() -> int:
    arguments = parse(remove_ros_args(sys.argv)[1:])
    take_interrupts()
    if arguments.write_only:
        save_meshes(demo_objects(), arguments.objects_dir)
        return 0
    rclpy.init()
    try:
        rclpy.spin(DemoCamera(arguments))
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
