"""Provide a client that talks to a node over DDS."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from vpog_core.types import Camera, Detection

SERVICE_TIMEOUT_S = 60.0
ONBOARDING_TIMEOUT_S = 300.0


def whole(frame) -> Detection:
    """Return the detection of a scene's one object, the carton."""
    return Detection("carton", frame.boxes_visible[0], 0.9)


class Client:
    """Publishes frames to a node, calls its services, remembers what it says.

    Args:
        name: of the node, fully qualified; the topics of its inputs are in its namespace.
    """

    def __init__(self, name: str = "/vpog_node") -> None:
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from geometry_msgs.msg import PoseStamped
        from sensor_msgs.msg import CameraInfo, Image
        from visualization_msgs.msg import MarkerArray
        from vpog_ros.msg import Instance2DArray, ObjectPoseArray

        self.name, namespace = name, name.rpartition("/")[0]
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node("test_client", namespace=namespace or "/", context=self.context)
        self.executor = rclpy.executors.SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.image = self.node.create_publisher(Image, "image", 5)
        self.camera_info = self.node.create_publisher(CameraInfo, "camera_info", 5)
        self.instances = self.node.create_publisher(Instance2DArray, "instances", 5)
        self.received: dict[str, list] = {}
        self._listeners = []
        self.listen("poses", ObjectPoseArray, f"{name}/poses")
        self.listen("pose", PoseStamped, f"{name}/pose")
        self.listen("markers", MarkerArray, f"{name}/markers")
        # No older ones are kept for a client that has been busy: `diagnosis` would take them for new.
        self.listen("diagnostics", DiagnosticArray, "/diagnostics", depth=1)

    def listen(self, name: str, message_type, topic: str, depth: int = 10):
        """Remember the messages of a topic from now on."""
        self.received[name] = []
        listener = self.node.create_subscription(message_type, topic, self.received[name].append, depth)
        self._listeners.append(listener)
        return listener

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()

    def spin_until(self, condition: Callable[[], object], timeout_s: float) -> bool:
        """Spin until something is true; returns whether it became so in time."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                return False
            self.executor.spin_once(timeout_sec=0.05)
        return True

    def call(self, service_type, name: str, request, timeout_s: float = SERVICE_TIMEOUT_S, tries: int = 1):
        """Call a service.

        Args:
            tries: calls within the timeout, where a call changes nothing: a busy machine loses a response
                that is sent before the server has discovered the whole client.
        """
        client = self.node.create_client(service_type, f"{self.name}/{name}")
        assert self.spin_until(client.service_is_ready, SERVICE_TIMEOUT_S), f"no service {name}"
        futures: list = []
        while not any(future.done() for future in futures):
            assert len(futures) < tries, f"no answer from {name}"
            futures.append(client.call_async(request))
            self.spin_until(lambda: any(future.done() for future in futures), timeout_s / tries)
        self.node.destroy_client(client)
        return next(future.result() for future in futures if future.done())

    def state(self) -> str:
        from lifecycle_msgs.srv import GetState

        return self.call(GetState, "get_state", GetState.Request(), tries=6).current_state.label

    def change_state(self, label: str) -> bool:
        from lifecycle_msgs.msg import Transition
        from lifecycle_msgs.srv import ChangeState

        request = ChangeState.Request(transition=Transition(label=label))
        return self.call(ChangeState, "change_state", request, ONBOARDING_TIMEOUT_S).success

    def bring_to(self, wanted: str) -> None:
        """Lead the node, which is not starting by itself, from whatever state it is in to another."""
        order = ["unconfigured", "inactive", "active"]
        up, down = ["configure", "activate"], ["cleanup", "deactivate"]
        found = ""

        def is_settled() -> bool:
            nonlocal found
            found = self.state()
            return found in order

        assert self.spin_until(is_settled, ONBOARDING_TIMEOUT_S), f"stuck in the state {found}"
        now, goal = order.index(found), order.index(wanted)
        for step in range(now, goal):
            assert self.change_state(up[step]), f"{up[step]} failed"
        for step in range(now, goal, -1):
            assert self.change_state(down[step - 1]), f"{down[step - 1]} failed"

    def set_parameter(self, name: str, value) -> tuple[bool, str]:
        from rcl_interfaces.srv import SetParameters
        from rclpy.parameter import Parameter

        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        (result,) = self.call(SetParameters, "set_parameters", request).results
        return result.successful, result.reason

    def diagnosis(self) -> dict[str, str]:
        """Return the newest values on /diagnostics, made after this call."""
        self.received["diagnostics"].clear()

        def told() -> list:
            every = [message.status[0] for message in self.received["diagnostics"]]
            return [status for status in every if status.name.startswith(f"{self.name}:")]

        # The first one may have been made before.
        assert self.spin_until(lambda: len(told()) > 1, 10.0), "no diagnostics"
        status = told()[-1]
        summary = {"message": status.message, "level": ord(status.level)}
        return {item.key: item.value for item in status.values} | summary

    def send(
        self, image, camera, detections: list | None, delay_ms: int = 0, frame_id: str = "test_camera"
    ) -> int:
        """Publish one frame; returns its stamp in nanoseconds.

        Args:
            image: [H, W, 3] uint8 RGB, or an Image message, whose header is set.
            camera: Camera, or a CameraInfo message, whose header is set.
            detections: Detection, or Instance2D messages; None: the detector sends nothing.
            delay_ms: what the detector stamps later than the camera.
        """
        from rclpy.duration import Duration
        from std_msgs.msg import Header
        from vpog_ros.msg import Instance2DArray

        from vpog_core.messages.reading import stamp_to_ns
        from vpog_ros import conversions
        from vpog_ros.image_conversion import rgb_to_image

        publishers = (self.image, self.camera_info, self.instances)
        ready = self.spin_until(lambda: all(p.get_subscription_count() for p in publishers), 20.0)
        assert ready, "the node does not listen"
        now = self.node.get_clock().now()
        header = Header(frame_id=frame_id, stamp=now.to_msg())
        later = Header(frame_id=frame_id, stamp=(now + Duration(nanoseconds=delay_ms * 1_000_000)).to_msg())
        info = conversions.camera_to_info(camera, header) if hasattr(camera, "K") else camera
        info.header = header
        message = rgb_to_image(image, header) if isinstance(image, np.ndarray) else image
        message.header = header
        instances = [
            conversions.instance_from_detection(d, header) if isinstance(d, Detection) else d
            for d in detections or []
        ]
        self.camera_info.publish(info)
        if detections is not None:
            self.instances.publish(Instance2DArray(header=later, instances=instances))
        self.image.publish(message)
        return stamp_to_ns(header.stamp)

    def shake_hands(self) -> None:
        """Send frames without detections until one is answered: both sides have found each other."""
        image = np.zeros((48, 64, 3), np.uint8)
        K = np.array([[50.0, 0, 31.5], [0, 50, 23.5], [0, 0, 1]])
        camera = Camera(K=K, width=64, height=48)
        deadline = time.monotonic() + SERVICE_TIMEOUT_S
        while time.monotonic() < deadline:
            stamp = self.send(image, camera, [])
            if self.spin_until(lambda stamp=stamp: self.answers_to(stamp), 1.0):
                return
        raise AssertionError("the node answers no frame")

    def answers_to(self, stamp_ns: int) -> list:
        """Return the ObjectPoseArrays that have come for a frame."""
        from vpog_core.messages.reading import stamp_to_ns

        return [
            message for message in self.received["poses"] if stamp_to_ns(message.header.stamp) == stamp_ns
        ]

    def answer(self, stamp_ns: int, timeout_s: float = 30.0):
        """Return the ObjectPoseArray of one frame."""
        assert self.spin_until(lambda: self.answers_to(stamp_ns), timeout_s), "no answer to the frame"
        return self.answers_to(stamp_ns)[0]
