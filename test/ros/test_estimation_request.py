"""Test that requests are answered once and in time, and that a limited number waits."""

from __future__ import annotations

import time

import numpy as np
import pytest

pytest.importorskip("rclpy")

from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vpog_ros.action import Estimate
from vpog_ros.msg import Instance2D, Instance2DArray

from vpog_core.messages.label_maps import LabelMapReader
from vpog_core.types import Camera, VPOGError
from vpog_ros.estimation_request import (
    BUSY,
    FRESH_S,
    MAX_IMAGES,
    MOST_OPEN,
    OTHER_CLOCK_S,
    EstimationRequest,
    OpenRequests,
    TimeOfRequest,
    refusal,
)
from vpog_ros.newest_detections import MAX_CLASSES, MAX_MESSAGES, NewestDetections
from vpog_ros.parameters import Settings
from vpog_ros.request_detections import DETECTOR_S, GRACE_S, RequestDetections, RequestedObjects


class Caller:
    """Remembers the results of a request."""

    def __init__(self, requests: OpenRequests, timeout: float = 5.0) -> None:
        self.answers: list[str] = []
        self.cancelled = False
        self.request = EstimationRequest(
            Estimate.Goal(timeout=timeout),
            10.0,
            lambda answer: self.answers.append(answer.message),
            is_cancelled=lambda: self.cancelled,
        )
        requests.add(self.request)


@pytest.fixture
def requests() -> OpenRequests:
    return OpenRequests(lambda: None)


def test_the_first_answer_counts(requests):
    caller = Caller(requests)
    caller.request.answer(refusal("one"))
    caller.request.answer(refusal("two"))
    assert caller.answers == ["one"]
    assert requests.open() == []
    assert requests.answered == 1


def test_who_waits_too_long_is_told_what_was_missing(requests):
    caller, patient = Caller(requests, timeout=0.01), Caller(requests)
    caller.request.wait_for("waiting", "No image has come.")
    time.sleep(0.02)
    requests.expire()
    assert caller.answers == ["Nothing was estimated within 0.01 s. No image has come."]
    assert patient.answers == []


def test_work_that_was_begun_is_not_late_but_can_be_cancelled(requests):
    caller = Caller(requests, timeout=0.01)
    caller.request.begin_work()
    time.sleep(0.02)
    requests.expire()
    assert caller.answers == []
    caller.cancelled = True
    requests.expire()
    assert caller.answers == ["Cancelled."]


def test_closing_answers_what_is_open_and_what_comes(requests):
    first = Caller(requests)
    requests.close("The node sleeps.")
    second = Caller(requests)
    requests.close("")
    third = Caller(requests)
    assert (first.answers, second.answers, third.answers) == (["The node sleeps."], ["The node sleeps."], [])


def test_so_many_wait_and_no_more(requests):
    callers = [Caller(requests) for _ in range(MOST_OPEN + 1)]
    assert [caller.answers for caller in callers] == [[]] * MOST_OPEN + [[BUSY]]
    callers[0].request.answer(refusal("done"))
    assert Caller(requests).answers == []


def image(second: float) -> Image:
    taken = Image(width=2, height=2)
    taken.header.stamp.sec, taken.header.stamp.nanosec = int(second), round(second % 1 * 1e9)
    return taken


def request_at(second: float, ago_s: float = 0.0) -> EstimationRequest:
    """Return a request that was made at a time of the images' clock, so many seconds ago."""
    asked = TimeOfRequest(round(second * 1e9), time.monotonic() - ago_s)
    return EstimationRequest(Estimate.Goal(), 10.0, lambda result: None, asked=asked)


def test_an_image_from_before_the_request_is_passed_over():
    request = request_at(100.0)
    assert not request.take_image(image(99.9))
    assert request.image is None
    assert request.take_image(image(100.1))
    assert request.image.header.stamp.nanosec == 100_000_000


def test_a_camera_with_another_clock_is_used_all_the_same():
    # A stamp far from the node's clock tells nothing.
    request = request_at(100.0 + OTHER_CLOCK_S)
    assert request.take_image(image(99.0))
    # A stamp near it may be slow by a constant: no newer one has come for a while.
    request = request_at(100.0, ago_s=FRESH_S)
    assert request.take_image(image(99.9))
    # Neither an image nor a request without a time can be compared.
    assert request_at(100.0).take_image(image(0.0))
    assert request_at(0.0).take_image(image(99.0))


def test_an_image_that_comes_before_a_request_is_opened_is_not_lost(requests):
    request, later = request_at(100.0), request_at(100.2)
    requests.add_image(image(100.1))
    after = request_at(0.0)
    for each in (request, later, after):
        requests.add(each)
    assert request.image is not None
    # It was taken before the second request, and had arrived when the third was made.
    assert (later.image, after.image) == (None, None)
    # Images of before a deactivation are gone with it.
    early = request_at(100.0)
    requests.add_image(image(100.1))
    for sentence in ("Not active.", ""):
        requests.close(sentence)
    requests.add(early)
    assert early.image is None


def test_the_image_whose_detections_come_is_used():
    request = request_at(0.0)
    for second in range(1, MAX_IMAGES + 5):
        request.take_image(image(second))
    request.choose_image(lambda stamp_ns: False)
    assert request.image.header.stamp.sec == 1
    request.choose_image(lambda stamp_ns: stamp_ns >= 20 * 10**9)
    assert request.image.header.stamp.sec == 20


@pytest.mark.parametrize("timeout", [-1.0, float("nan"), float("inf"), 1e9])
def test_timeouts_that_make_no_sense_are_refused(requests, timeout):
    with pytest.raises(VPOGError, match="give up to 3600 s"):
        Caller(requests, timeout)


def message(stamp: int, *names: str) -> Instance2DArray:
    header = Header()
    header.stamp.sec = stamp
    return Instance2DArray(header=header, instances=[Instance2D(class_id=name) for name in names])


def test_the_newest_detections_of_each_class_are_known_and_no_more():
    newest = NewestDetections()
    newest.add(message(1, "mug", "can"))
    newest.add(message(2, "can"))
    assert {name: d.stamp_ns // 10**9 for name, d in newest.by_class().items()} == {"mug": 1, "can": 2}
    assert newest.of_stamp(2 * 10**9).message.instances[0].class_id == "can"
    assert newest.of_stamp(3 * 10**9) is None
    for number in range(3 * MAX_CLASSES):
        newest.add(message(3, f"class {number}", "x" * 100_000))
    assert len(newest.by_class()) == MAX_CLASSES
    assert "x" * 100_000 not in newest.by_class()


def label_map(encoding: str = "mono8") -> Image:
    """Return a label map of 20x20 pixels with the label 3 in its right half, of second 1."""
    header = Header()
    header.stamp.sec = 1
    data = (bytes(10) + b"\3" * 10) * 20
    return Image(header=header, height=20, width=20, encoding=encoding, step=20, data=data)


class Library:
    """Knows the mug alone."""

    ids = ("mug",)

    def resolve(self, class_id: str) -> str:
        if class_id != "mug":
            raise VPOGError(f"no object is called '{class_id}'")
        return class_id


def found_for(newest: NewestDetections, second: int, waited_s: float, **settings) -> RequestedObjects:
    """Find what a request for the mug uses in an image of 20x20 pixels, `waited_s` after it came."""
    header = Header()
    header.stamp.sec = second
    detections = RequestDetections(Library, lambda name: "", dict, newest)
    camera = Camera(np.array([[20.0, 0, 10], [0, 20, 10], [0, 0, 1]]), 20, 20)
    return detections.find(Estimate.Goal(objects=["mug"]), header, camera, waited_s, Settings(**settings))


def labelled() -> NewestDetections:
    """Return what a detector has sent: a label map of second 1 that shows the mug."""
    newest = NewestDetections()
    newest.label_maps = LabelMapReader({3: "mug"})
    newest.add(label_map())
    return newest


@pytest.mark.parametrize("second", [1, 2])
def test_label_maps_tell_where_to_look_as_other_detections_do(second):
    asked = found_for(labelled(), second, waited_s=3.0)
    (mug,) = asked.detections
    assert mug.box.tolist() == [9.5, -0.5, 19.5, 19.5]
    assert mug.mask[:, 10:].all()
    assert asked.ages == ({} if second == 1 else {"mug": 1.0})


def test_a_broken_label_map_hinders_no_callback_and_is_told_to_who_asks():
    newest = NewestDetections()
    newest.add(label_map("rgb8"))
    with pytest.raises(VPOGError, match="encoding 'rgb8'"):
        found_for(newest, 1, waited_s=3.0)


@pytest.mark.parametrize(
    ("second", "waited_s", "oldest_s", "waits", "age"),
    [
        (3, DETECTOR_S - 0.1, 5.0, True, None),  # The detector may still send those of the image.
        (3, DETECTOR_S + 0.1, 5.0, False, 2.0),
        (3, DETECTOR_S + 0.1, 1.0, False, None),  # Those that there are, are too old.
        (3, 60.0, 0.0, True, None),  # Only those of the image itself are wanted.
        (1, 0.0, 0.0, False, 0.0),
    ],
)
def test_how_long_is_waited_for_detections_of_the_image(second, waited_s, oldest_s, waits, age):
    asked = found_for(labelled(), second, waited_s, max_detection_age=oldest_s)
    assert bool(asked.waits_for) == (waits or not asked.detections)
    assert [asked.ages.get("mug", 0.0) for _ in asked.detections] == ([] if age is None else [age])


def test_an_object_that_its_detector_does_not_see_is_not_waited_for_long():
    newest = NewestDetections()
    newest.add(message(1, "can"))
    assert found_for(newest, 1, GRACE_S - 0.1).waits_for
    asked = found_for(newest, 1, GRACE_S + 0.1)
    assert not asked.waits_for
    assert [m.class_id for m in asked.missing] == ["mug"]


def test_messages_of_detections_are_kept_by_their_stamps_and_no_more():
    newest = NewestDetections()
    for second in range(1, MAX_MESSAGES + 2):
        newest.add(message(second, "mug"))
    assert newest.of_stamp(10**9) is None
    assert newest.of_stamp(2 * 10**9) is not None
