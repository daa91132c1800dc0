"""Test that a box drawn by hand becomes a pose: the click node and the real pose node, over DDS."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")

from geometry_msgs.msg import Point
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter

from vpog_core.types import Camera, Detection, VPOGError
from vpog_ros.click.boxes import BoxDrawing, KeyEvent, Mouse, MouseEvent, draw_boxes
from vpog_ros.click.node import ClickNode
from vpog_ros.click.outbox import MAX_TRIES, WAIT_S, Outbox
from vpog_ros.click.window import NO_DISPLAY, NO_WINDOWS, why_no_window
from vpog_ros.conversions import pose_from_message

SECOND = 1_000_000_000


def drawn(events, size=(640, 480)) -> list:
    drawing = BoxDrawing()
    boxes = (drawing.add(MouseEvent(kind, x, y), *size) for kind, x, y in events)
    return [box.tolist() for box in boxes if box is not None]


def test_two_clicks_or_a_drag_make_a_box_whatever_the_order_of_its_corners():
    two_clicks = [(Mouse.PRESS, 90, 20), (Mouse.RELEASE, 91, 20), (Mouse.MOVE, 50, 70), (Mouse.PRESS, 10, 80)]
    assert drawn([*two_clicks, (Mouse.RELEASE, 10, 80)]) == [[10, 20, 90, 80]]
    assert drawn([(Mouse.PRESS, 10, 20), (Mouse.MOVE, 40, 40), (Mouse.RELEASE, 90, 80)]) == [[10, 20, 90, 80]]
    outside = [(Mouse.PRESS, 600, 400), (Mouse.RELEASE, 900, -5)]
    assert drawn(outside) == [[600, 0, 639, 400]]


def test_a_second_click_on_the_first_is_refused_and_the_next_box_starts_anew():
    drawing = BoxDrawing()
    drawing.add(MouseEvent(Mouse.PRESS, 10, 10), 640, 480)
    with pytest.raises(VPOGError, match="4x2 pixels is too small: click two"):
        drawing.add(MouseEvent(Mouse.PRESS, 13, 11), 640, 480)
    assert drawing.corner is None


def test_a_box_goes_out_again_until_its_object_is_found():
    now = 100.0
    outbox = Outbox(lambda: now)
    box = Detection("mug", np.array([1.0, 1, 50, 50]))
    outbox.add(box)
    assert outbox.with_image(1 * SECOND, repeat=False) == [box]
    assert outbox.with_image(2 * SECOND, repeat=False) == []
    assert outbox.answered(2 * SECOND, [("mug", 2 * SECOND)]) == [], "an answer to an image that had no box"
    assert outbox.answered(1 * SECOND, []) == []
    assert outbox.with_image(3 * SECOND, repeat=False) == [box]
    assert outbox.answered(3 * SECOND, [("mug", 3 * SECOND)]) == [box]
    now += 2 * WAIT_S
    assert outbox.with_image(4 * SECOND, repeat=False) == []
    assert outbox.with_image(5 * SECOND, repeat=True) == [box]


def test_poses_of_a_newer_image_answer_a_box_by_the_age_of_their_detection():
    """With `publish_at_newest` poses are those of the newest image; ages are float32 seconds."""
    outbox, sent = Outbox(lambda: 100.0), 1_700_000_000_000_000_000
    box = Detection("mug", np.array([1.0, 1, 50, 50]))
    outbox.add(box)
    assert outbox.with_image(sent, repeat=False) == [box]
    later = sent + 300_000_000
    age_ns = round(float(np.float32(0.3)) * 1e9)
    assert outbox.answered(later, [("mug", later - age_ns + 100_000_000)]) == [], "detected in another image"
    assert outbox.answered(later, [("mug", later - age_ns)]) == [box]
    assert not outbox.waiting


def test_a_box_that_nobody_answers_is_given_up():
    now = 0.0
    outbox = Outbox(lambda: now)
    outbox.add(Detection("mug", np.array([1.0, 1, 50, 50])))
    for stamp in range(1, MAX_TRIES + 1):
        assert outbox.with_image(stamp, repeat=False)
        assert not outbox.given_up()
        now += WAIT_S
    assert len(outbox.given_up()) == 1
    assert outbox.with_image(99, repeat=False) == []


def test_where_there_is_no_window_the_remedy_is_said(monkeypatch):
    monkeypatch.setattr("cv2.getBuildInformation", lambda: "  GUI:          NONE\n")
    assert why_no_window({}) == NO_WINDOWS
    monkeypatch.setattr("cv2.getBuildInformation", lambda: "  GUI:          GTK3\n    GTK+:   YES\n")
    assert why_no_window({}, "linux") == NO_DISPLAY
    assert why_no_window({"WAYLAND_DISPLAY": "wayland-0"}, "linux") == ""
    assert why_no_window({}, "darwin") == ""


def test_boxes_and_text_are_drawn_onto_a_copy():
    image = np.zeros((480, 640, 3), np.uint8)
    result = draw_boxes(image, [("mug", np.array([100.0, 100, 300, 250]))], ["a line"])
    assert not image.any()
    assert result[250, 200].any()
    assert result[:40, :100].any()


class ScriptedWindow:
    """Acts as a window without a display: it remembers what is shown, and events come from the test."""

    def __init__(self) -> None:
        self.shown: list[np.ndarray] = []
        self.script: list = []

    def show(self, image: np.ndarray) -> None:
        self.shown.append(image)

    def events(self) -> list:
        events, self.script = self.script, []
        return events

    def close(self) -> None:
        pass


class Clicker:
    """Spins the click node beside the client that plays the camera."""

    def __init__(self, client, camera, frame, **parameters) -> None:
        self.client, self.camera, self.frame = client, camera, frame
        self.window = ScriptedWindow()
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        self.node = ClickNode(lambda: self.window, context=client.context, parameter_overrides=overrides)
        self.executor = SingleThreadedExecutor(context=client.context)
        self.executor.add_node(self.node)

    def run_until(self, condition, timeout_s: float = 60.0) -> bool:
        """Send images until something is true; the click node works in between."""
        times = iter(range(int(timeout_s / 0.2)))

        def done() -> bool:
            self.node.step(self.executor)
            return condition()

        for _ in times:
            self.client.send(self.frame.image, self.camera, None)
            if self.client.spin_until(done, 0.2):
                return True
        return False

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()


@pytest.fixture(scope="module")
def active(start_node, client, carton_dir, carton_cache):
    start_node(objects_dir=carton_dir, cache_dir=carton_cache, device="cpu", autostart="false",
               diagnostics_period=0.2, tracking_max_age=3600.0)  # fmt: skip
    client.bring_to("active")
    client.shake_hands()
    return client


@pytest.fixture
def clicker(active, scene, carton_dir):
    clicker = Clicker(active, scene.camera, scene.render(0.0), objects_dir=str(carton_dir))
    yield clicker
    clicker.close()


def newest(client) -> list:
    return client.received["poses"][-1].poses if client.received["poses"] else []


def test_a_dragged_box_becomes_a_pose_that_is_followed_until_c_is_pressed(clicker, carton):
    client, window = clicker.client, clicker.window
    boxes = []
    listener = client.listen("instances", client.instances.msg_type, "instances")
    assert clicker.run_until(lambda: bool(window.shown)), "no image is shown"
    x0, y0, x1, y1 = clicker.frame.boxes_visible[0]
    window.script = [MouseEvent(Mouse.PRESS, x0, y0), MouseEvent(Mouse.MOVE, x1, y0),
                     MouseEvent(Mouse.RELEASE, x1, y1)]  # fmt: skip
    assert clicker.run_until(lambda: bool(newest(client))), "no pose"
    (pose,) = newest(client)
    assert (pose.class_id, pose.detected) == ("carton", True)
    shift = pose_from_message(pose.pose.pose)[:3, 3] - clicker.frame.T_cam_obj[0][:3, 3]
    # As the poses of the same object from a detector's boxes: see test_node.
    assert np.linalg.norm(shift) < 0.1 * carton.diameter
    boxes = client.received["instances"]
    sent = len(boxes)
    assert clicker.run_until(lambda: any(not pose.detected for pose in newest(client))), "it is not followed"
    assert len(boxes) == sent, "the box goes out although its object was found"
    window.script = [KeyEvent("c")]
    assert clicker.run_until(lambda: not newest(client)), "it is followed although c was pressed"
    client.node.destroy_subscription(listener)


def test_clicks_in_rqt_image_view_make_the_box_where_there_is_no_window(active, scene):
    clicker = Clicker(active, scene.camera, scene.render(0.0), class_id="carton", window=False, repeat=True)
    try:
        mouse = active.node.create_publisher(Point, "/image_mouse_left", 10)
        assert clicker.run_until(lambda: mouse.get_subscription_count() == 1)
        x0, y0, x1, y1 = (float(value) for value in clicker.frame.boxes_visible[0])
        active.received["poses"].clear()
        mouse.publish(Point(x=x0, y=y1))
        mouse.publish(Point(x=x1, y=y0))
        assert clicker.run_until(lambda: bool(newest(active))), "no pose"
        assert not clicker.window.shown
    finally:
        clicker.close()
        active.node.destroy_publisher(mouse)


def test_a_camera_that_stops_and_returns_in_another_resolution_is_answered(active, scene, carton):
    frame, node = scene.render(0.0), active.node
    kinds = (active.image.msg_type, active.camera_info.msg_type)
    node.destroy_publisher(active.image)
    node.destroy_publisher(active.camera_info)
    # A topic is named after five seconds of silence.
    assert active.spin_until(lambda: "Nobody publishes sensor_msgs/msg/Image" in told(active), 20.0)
    active.image, active.camera_info = (
        node.create_publisher(kind, name, 5)
        for kind, name in zip(kinds, ("image", "camera_info"), strict=True)
    )
    half = cv2.resize(frame.image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    K = np.diag([0.5, 0.5, 1.0]) @ scene.camera.K
    K[:2, 2] -= 0.25  # The middle of the first pixel was a quarter of a large one further.
    camera = Camera(K, half.shape[1], half.shape[0])
    stamp = active.send(half, camera, [Detection("carton", frame.boxes_visible[0] / 2, 0.9)])
    (pose,) = active.answer(stamp).poses
    shift = pose_from_message(pose.pose.pose)[:3, 3] - frame.T_cam_obj[0][:3, 3]
    assert np.linalg.norm(shift) < 0.1 * carton.diameter
    assert active.spin_until(lambda: "Nobody" not in told(active), 20.0)


def told(client) -> str:
    """Return what /diagnostics says now."""
    seen = client.received["diagnostics"]
    return seen[-1].status[0].message if seen else ""


def test_without_a_class_the_click_node_says_what_to_give(client):
    with pytest.raises(VPOGError, match="give class_id:=NAME, or objects_dir"):
        ClickNode(ScriptedWindow, context=client.context)
