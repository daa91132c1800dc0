"""Draw boxes around objects, in place of a detector: ros2 run vpog_ros vpog_click.

Shows the camera's images in a window, and publishes boxes that are drawn there as detections. Where there is
no window, click into rqt_image_view.
"""

from __future__ import annotations

if __name__ == "__main__":
    from vpog_ros.start import prepare

    prepare(interrupted=0)

import sys
from collections.abc import Callable

import numpy as np
import rclpy
from geometry_msgs.msg import Point
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import Trigger

from vpog_core.io.bit_depth import BitDepth
from vpog_core.messages.reading import stamp_to_ns
from vpog_core.objects.library import ObjectLibrary
from vpog_core.types import Detection, VPOGError
from vpog_ros.click.boxes import BoxDrawing, KeyEvent, Mouse, MouseEvent, corners_to_box, draw_boxes
from vpog_ros.click.outbox import MAX_TRIES, Outbox
from vpog_ros.click.window import ESCAPE, Window, open_window
from vpog_ros.conversions import instance_from_detection
from vpog_ros.image_conversion import image_to_rgb
from vpog_ros.inputs.subscriptions import Inputs, InputSpec
from vpog_ros.msg import Instance2DArray, ObjectPoseArray
from vpog_ros.notices import Notices
from vpog_ros.start import take_interrupts

WATCH_S = 0.5
"""Seconds between two checks whether images come."""

PARAMETERS = {
    "class_id": ("", "Class of the next box; empty: the first object of objects_dir."),
    "objects_dir": (
        "",
        "The folder of meshes that the pose node has: its objects are chosen by the keys 1 to 9.",
    ),
    "node": ("vpog_node", "Name of the pose node, for its poses and its service reset_tracking."),
    "repeat": (False, "Publish the boxes with every image; false: until the pose is found once."),
    "image_transport": ("raw", "How images come: raw, or compressed, on the topic <image>/compressed."),
    "window": (True, "Show a window, where OpenCV can; false: take clicks from rqt_image_view alone."),
}
HELP = "two clicks or a drag: box   1-9: class   c: clear   q: quit"


class ClickNode(Node):
    """Publishes drawn boxes as `instances`, with the headers of images.

    Args:
        open_window: opens the window in which boxes are drawn, or raises a VPOGError that says why it cannot.
        kwargs: for rclpy.node.Node.

    Raises:
        VPOGError: no class is known.
    """

    def __init__(self, open_window: Callable[[], Window] = open_window, **kwargs) -> None:
        super().__init__("vpog_click", **kwargs)
        for name, (default, text) in PARAMETERS.items():
            self.declare_parameter(name, default, ParameterDescriptor(description=text))
        self.ended = False
        self._classes = self._known_classes()
        self._window: Window | None = None
        if self._value("window"):
            try:
                self._window = open_window()
            except VPOGError as error:
                self.get_logger().warning(f"{error} Until then click in rqt_image_view.")
        self._drawing = BoxDrawing()
        self._bit_depth = BitDepth()
        self._outbox = Outbox()
        self._sentence = self._poses = ""
        self._image: Image | CompressedImage | None = None
        self._size = (0, 0)
        self._is_new = False
        self._publisher = self.create_publisher(Instance2DArray, "instances", 10)
        node = self._value("node")
        self.create_subscription(ObjectPoseArray, f"{node}/poses", self._on_poses, 10)
        self._reset = self.create_client(Trigger, f"{node}/reset_tracking")
        self._notices = Notices(self.get_logger())
        self._listen(node)

    def _listen(self, node: str) -> None:
        topic, kind = self.resolve_topic_name("image"), Image
        if self._value("image_transport") == "compressed":
            kind, topic = CompressedImage, f"{topic.removesuffix('/compressed')}/compressed"
        spec = InputSpec("image", topic, kind, self._on_image)
        self._inputs = Inputs(self, [spec], MutuallyExclusiveCallbackGroup(), set())
        self.create_timer(WATCH_S, lambda: self._inputs.watch(self._notices))
        # Names of topics on which rqt_image_view publishes clicks.
        clicked = [f"{name}_mouse_left" for name in (topic, f"{node}/overlay_image")]
        for name in clicked:
            self.create_subscription(Point, name, self._on_click, 10)
        if self._window is None:
            self.get_logger().info(
                f"Click two opposite corners of '{self.class_id}' in rqt_image_view, with its box for "
                f"publishing mouse clicks ticked: {clicked[0]} is listened to. `ros2 param set "
                f"{self.get_fully_qualified_name()} class_id NAME` chooses another object."
            )

    @property
    def class_id(self) -> str:
        """Return the class of the next box."""
        return self._value("class_id") or self._classes[0]

    def _value(self, name: str):
        return self.get_parameter(name).value

    def _known_classes(self) -> list[str]:
        folder, class_id = self._value("objects_dir"), self._value("class_id")
        classes = ObjectLibrary(folder).ids if folder else [class_id] if class_id else []
        if not classes:
            raise VPOGError(
                "Which object the boxes show is not known: give class_id:=NAME, or objects_dir:=FOLDER, the "
                "pose node's folder of meshes."
            )
        return classes

    def close(self) -> None:
        """Close the window."""
        if self._window is not None:
            self._window.close()

    def step(self, executor) -> None:
        """Handle messages and events for some milliseconds."""
        executor.spin_once(timeout_sec=0.02)
        if self._window is None:
            return
        if self._is_new:
            self._is_new = False
            self._show()
        for event in self._window.events():
            if isinstance(event, KeyEvent):
                self._on_key(event.key)
            else:
                self._on_mouse(event)

    def _read_image(self) -> np.ndarray | None:
        """Read the newest image as [H, W, 3] uint8 RGB; None, with a warning, where it cannot be read."""
        try:
            image = image_to_rgb(self._image, self._bit_depth)
        except VPOGError as error:
            self.get_logger().warning(str(error), throttle_duration_sec=5.0)
            return None
        self._size = (image.shape[1], image.shape[0])
        return image

    def _show(self) -> None:
        image = self._read_image()
        if image is None:
            return
        drawn = [(box.class_id, box.box) for box in self._outbox.boxes]
        if self._drawing.corner is not None:
            box = corners_to_box(self._drawing.corner, self._drawing.point, *self._size)
            drawn.append((self.class_id, box))
        names = " ".join(f"{n}:{name}" for n, name in enumerate(self._classes[:9], start=1))
        lines = [f"[{self.class_id}]  {names}", HELP, self._poses, self._sentence]
        self._window.show(draw_boxes(image, drawn, lines))

    # Callbacks of inputs.

    def _on_image(self, message: Image | CompressedImage) -> None:
        self._image, self._is_new = message, True
        if isinstance(message, Image):
            self._size = (message.width, message.height)
        if self._outbox.boxes and self._publisher.get_subscription_count():
            self._publish(message)

    def _on_click(self, point: Point) -> None:
        if self._image is None:
            self.get_logger().warning("A click came and no image has: check the topic image.")
            return
        if isinstance(self._image, CompressedImage):
            self._read_image()  # Decode the image for its size.
        self._on_mouse(MouseEvent(Mouse.PRESS, point.x, point.y))

    def _on_mouse(self, event: MouseEvent) -> None:
        if not self._size[0]:
            return
        try:
            box = self._drawing.add(event, *self._size)
        except VPOGError as error:
            self._say(str(error))
            return
        if box is None:
            self._is_new = self._image is not None
            return
        # Send no instance number: the node numbers objects of a class by their positions.
        self._outbox.add(Detection(self.class_id, box, 1.0, instance=-1))
        self._say(f"A box of '{self.class_id}' is drawn and goes out with the next image.")
        if not self._publisher.get_subscription_count():
            self._say(
                f"Nobody listens on {self._publisher.topic_name} yet: start vpog_node, or remap instances; "
                "it may still be onboarding its objects."
            )

    def _on_key(self, key: str) -> None:
        if key in ("q", ESCAPE):
            self.ended = True
        elif key == "c":
            self.clear()
        elif key.isdecimal() and 0 < int(key) <= len(self._classes):
            name = self._classes[int(key) - 1]
            self.set_parameters([rclpy.Parameter("class_id", value=name)])
            self._is_new = self._image is not None

    def clear(self) -> None:
        """Delete the boxes, and reset the tracking of the pose node."""
        self._outbox.clear()
        self._drawing.forget()
        if self._reset.service_is_ready():
            self._reset.call_async(Trigger.Request())
        self._say("Boxes and followed objects are forgotten.")

    # Publishing of drawn boxes.

    def _publish(self, image: Image | CompressedImage) -> None:
        stamp = stamp_to_ns(image.header.stamp)
        if not stamp:
            self._outbox.clear()
            self._say(
                "The images have no stamp (0), so no box finds its image: set header.stamp in the driver."
            )
            return
        boxes = self._outbox.with_image(stamp, self._value("repeat"))
        if boxes:
            instances = [instance_from_detection(box, image.header) for box in boxes]
            self._publisher.publish(Instance2DArray(header=image.header, instances=instances))
        if lost := self._outbox.given_up():
            self._say(
                f"{_names(lost)}: no pose was found in {MAX_TRIES} images; press c and draw a box around the "
                "whole object; /diagnostics of the pose node says what may be missing."
            )

    def _on_poses(self, message: ObjectPoseArray) -> None:
        poses = ", ".join(f"{p.class_id}_{p.instance} {p.score:.2f}" for p in message.poses)
        self._poses = f"poses (score): {poses}" if poses else "no pose"
        stamp_ns = stamp_to_ns(message.header.stamp)
        seen = [(pose.class_id, stamp_ns - round(pose.detection_age * 1e9)) for pose in message.poses]
        if found := self._outbox.answered(stamp_ns, seen):
            self._say(f"{_names(found)}: found, poses (score): {poses}. Press c before you draw it again.")

    def _say(self, sentence: str) -> None:
        self._sentence = sentence
        self._is_new = self._image is not None
        self.get_logger().info(sentence)


def _names(boxes: list[Detection]) -> str:
    return ", ".join(sorted({box.class_id for box in boxes}))


def main() -> int:
    """Run until the window is closed, q is pressed, or the process is asked to stop; return its status."""
    take_interrupts()
    rclpy.init()
    try:
        serve()
    except VPOGError as error:
        print(f"vpog_click: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        rclpy.try_shutdown()
    return 0


def serve() -> None:
    """Spin the node with its window.

    Raises:
        VPOGError: the node cannot be made.
    """
    node = ClickNode()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    while rclpy.ok() and not node.ended:
        node.step(executor)
    node.close()


if __name__ == "__main__":
    sys.exit(main())
