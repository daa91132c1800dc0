"""Test that requests are answered once and in time, and that a limited number waits."""

from __future__ import annotations

import time

import numpy as np
import pytest

pytest.importorskip("rclpy")

from sensor_msgs.msg import Image, RegionOfInterest
from std_msgs.msg import Header
from vpog_ros.action import Estimate
from vpog_ros.msg import Instance2D, Instance2DArray

from vpog_core.messages.label_maps import LabelMapReader
from vpog_core.types import Camera, VPOGError
from vpog_ros.parameters import Settings
from vpog_ros.requests.detections import DETECTOR_S, GRACE_S, RequestDetections, RequestedObjects
from vpog_ros.requests.estimation_request import (
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
from vpog_ros.requests.newest_detections import (
    MAX_CLASSES,
    MAX_OF_STAMP,
    MAX_STAMPS,
    RECENT_S,
    NewestDetections,
)


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


def test_the_first_image_that_shows_the_most_objects_is_used():
    request = request_at(0.0)
    for second in range(1, MAX_IMAGES + 5):
        request.take_image(image(second))
    assert request.image.header.stamp.sec == 1
    for shown, second in (({}, 5), ({20: 1, 22: 1}, 20), ({20: 1, 22: 2}, 22)):
        request.choose_image(lambda stamp_ns, shown=shown: shown.get(stamp_ns // 10**9, 0))
        assert request.image.header.stamp.sec == second
    # The image of a goal is the one to look at.
    own = EstimationRequest(Estimate.Goal(image=image(3)), 10.0, lambda result: None)
    own.choose_image(lambda stamp_ns: 1)
    assert own.image.header.stamp.sec == 3


@pytest.mark.parametrize("timeout", [-1.0, float("nan"), float("inf"), 1e9])
def test_timeouts_that_make_no_sense_are_refused(requests, timeout):
    with pytest.raises(VPOGError, match="give up to 3600 s"):
        Caller(requests, timeout)


class Clock:
    """Stands in for time.monotonic."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def newest(clock) -> NewestDetections:
    return NewestDetections(clock)


def message(stamp: float, *names: str, scores: tuple[float, ...] = (), boxes: tuple = ()) -> Instance2DArray:
    """Return detections of an image of 20x20 pixels; by default each is a box over its whole."""
    header = Header()
    header.stamp.sec, header.stamp.nanosec = int(stamp), round(stamp % 1 * 1e9)
    instances = []
    for n, name in enumerate(names):
        x, y, side = boxes[n] if boxes else (0, 0, 20)
        roi = RegionOfInterest(x_offset=x, y_offset=y, width=side, height=side)
        score = scores[n] if scores else 0.5
        instances.append(Instance2D(class_id=name, score=score, roi=roi, instance=-1))
    return Instance2DArray(header=header, instances=instances)


def test_the_newest_detections_of_each_class_are_known_and_no_more(newest):
    newest.add(message(1, "mug", "can"))
    newest.add(message(2, "can"))
    assert {name: d.stamp_ns // 10**9 for name, d in newest.by_class().items()} == {"mug": 1, "can": 2}
    assert [d.names for d in newest.of_stamp(2 * 10**9)] == [{"can"}]
    assert newest.of_stamp(3 * 10**9) == []
    for number in range(3 * MAX_CLASSES):
        newest.add(message(3, f"class {number}", "x" * 100_000))
    assert len(newest.by_class()) == MAX_CLASSES
    assert len(newest.of_stamp(3 * 10**9)) == MAX_OF_STAMP
    assert "x" * 100_000 not in newest.by_class()


def test_messages_of_detections_are_kept_by_their_stamps_and_no_more(newest):
    for second in range(1, MAX_STAMPS + 2):
        newest.add(message(second, "mug"))
    assert newest.of_stamp(10**9) == []
    assert newest.of_stamp(2 * 10**9) != []


def label_map(encoding: str = "mono8") -> Image:
    """Return a label map of 20x20 pixels with the label 3 in its right half, of second 1."""
    header = Header()
    header.stamp.sec = 1
    data = (bytes(10) + b"\3" * 10) * 20
    return Image(header=header, height=20, width=20, encoding=encoding, step=20, data=data)


class Library:
    """Knows the mug and the can."""

    ids = ("can", "mug")

    def resolve(self, class_id: str) -> str:
        if class_id not in self.ids:
            raise VPOGError(f"no object is called '{class_id}'")
        return class_id


class Asked:
    """Finds what requests use in images of 20x20 pixels."""

    def __init__(self, newest: NewestDetections, tracked=dict) -> None:
        self.detections = RequestDetections(Library, lambda name: "", dict, newest, tracked)

    def __call__(
        self, second: float, waited_s: float, objects: tuple[str, ...] = ("mug",), **settings
    ) -> RequestedObjects:
        """Find what a request uses in the image of a second, `waited_s` after it came."""
        header = message(second).header
        camera = Camera(np.array([[20.0, 0, 10], [0, 20, 10], [0, 0, 1]]), 20, 20)
        goal = Estimate.Goal(objects=objects)
        return self.detections.find(goal, header, camera, waited_s, Settings(**settings))

    def num_shown(self, second: float, objects: tuple[str, ...] = ("mug",), **settings) -> int:
        goal, stamp_ns = Estimate.Goal(objects=objects), round(second * 1e9)
        return self.detections.num_shown(goal, stamp_ns, Settings(**settings))


@pytest.fixture
def asked(newest) -> Asked:
    return Asked(newest)


@pytest.fixture
def labelled(newest) -> NewestDetections:
    """Return what a detector has sent: a label map of second 1 that shows the mug."""
    newest.label_maps = LabelMapReader({3: "mug"})
    newest.add(label_map())
    return newest


@pytest.mark.parametrize("second", [1, 2])
def test_label_maps_tell_where_to_look_as_other_detections_do(labelled, second):
    found = Asked(labelled)(second, waited_s=3.0)
    (mug,) = found.detections
    assert mug.box.tolist() == [9.5, -0.5, 19.5, 19.5]
    assert mug.mask[:, 10:].all()
    assert found.ages == ({} if second == 1 else {"mug": 1.0})


def test_a_broken_label_map_hinders_no_callback_and_is_told_to_who_asks(newest, asked):
    newest.add(label_map("rgb8"))
    with pytest.raises(VPOGError, match="encoding 'rgb8'"):
        asked(1, waited_s=3.0)


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
def test_how_long_is_waited_for_detections_of_the_image(labelled, second, waited_s, oldest_s, waits, age):
    found = Asked(labelled)(second, waited_s, max_detection_age=oldest_s)
    assert bool(found.waits_for) == (waits or not found.detections)
    assert [found.ages.get("mug", 0.0) for _ in found.detections] == ([] if age is None else [age])


def test_an_object_that_its_detector_does_not_see_is_not_waited_for_long(newest, asked, clock):
    newest.add(message(1, "can"))
    # A slow detector's first detections come late: those of a later image are waited for from then on.
    assert asked(1, waited_s=5.0).waits_for
    clock.now += GRACE_S + 0.1
    found = asked(1, waited_s=5.0)
    assert not found.waits_for
    (row,) = found.missing
    assert (row.class_id, row.reason[:63]) == (
        "mug", "No detection of mug has come, and detections of can have (a nam",
    )  # fmt: skip


def test_images_that_show_more_of_the_objects_count_more(newest, asked):
    newest.add(message(1))
    newest.add(message(2, "mug", "cup"))
    newest.add(message(3, "can", "mug", "mug"))
    both = ("mug", "can")
    assert [asked.num_shown(second, both) for second in range(5)] == [-1, 0, 1, 2, -1]
    assert [asked.num_shown(second, ()) for second in range(5)] == [-1, 0, 1, 1, -1]


@pytest.mark.parametrize("names", [(), ("cup",)])
def test_without_names_an_image_that_shows_no_object_is_told_why(newest, asked, clock, names):
    newest.add(message(0.5, "mug"))
    newest.add(message(1, *names))
    assert asked(1, 5.0, objects=()).waits_for
    clock.now += GRACE_S + 0.1
    found = asked(1, 5.0, objects=())
    assert (found.waits_for, found.detections, found.missing) == ("", [], [])
    (remark,) = found.remarks
    assert remark.startswith("Detections of class 'cup' are left out" if names else "The detections of the")


def test_the_detections_of_several_detectors_are_used_together(labelled, clock):
    newest, asked = labelled, Asked(labelled)
    # No other detector has been heard of.
    assert [d.class_id for d in asked(1, 0.0, objects=()).detections] == ["mug"]
    newest.add(message(0.5, "can"))
    # Now one has, and is waited for.
    assert asked(1, 0.1, objects=()).waits_for
    newest.add(message(1, "can", "mug"))
    found = asked(1, 0.1, objects=())
    assert (found.waits_for, sorted(d.class_id for d in found.detections)) == ("", ["can", "mug"])
    # One that has fallen silent is waited for no longer.
    clock.now += RECENT_S + 1.0
    newest.add(message(3, "can"))
    assert not asked(3, 0.1, objects=()).waits_for


def test_stamps_that_nearly_meet_are_those_of_the_image(newest, asked):
    newest.add(message(1.003, "mug"))
    assert asked(1, 1.0, max_detection_age=0.0).waits_for
    found = asked(1, 0.0, max_detection_age=0.0, stamp_tolerance=0.05)
    assert (len(found.detections), found.ages) == (1, {})
    assert asked.num_shown(1, stamp_tolerance=0.05) == 1


def test_other_objects_do_not_count_against_the_limit_and_what_is_over_it_is_told(newest, asked):
    newest.add(message(1, *["can"] * 20, "mug", "mug", scores=(*[0.9] * 20, 0.6, 0.7)))
    assert [d.class_id for d in asked(1, 0.0, max_detections=16).detections] == ["mug", "mug"]
    found = asked(1, 0.0, objects=("mug", "can"), max_detections=21)
    assert len(found.detections) == 21
    (left_out,) = found.missing
    assert (left_out.class_id, "21 detections have better scores" in left_out.reason) == ("mug", True)


def test_boxes_of_the_request_itself_are_all_used(asked):
    instances = message(1, *["mug"] * 20).instances
    camera = Camera(np.array([[20.0, 0, 10], [0, 20, 10], [0, 0, 1]]), 20, 20)
    goal = Estimate.Goal(instances=instances)
    found = asked.detections.find(goal, Header(), camera, 0.0, Settings(max_detections=2))
    assert (len(found.detections), found.missing) == (20, [])


LEFT, RIGHT = (0, 0, 6), (12, 12, 6)


def boxes_by_number(found: RequestedObjects) -> dict[int, float]:
    return {d.instance: d.box[0] for d in found.detections}


def test_objects_keep_their_numbers_from_request_to_request(newest, asked):
    newest.add(message(1, "mug", "mug", scores=(0.9, 0.8), boxes=(LEFT, RIGHT)))
    before = boxes_by_number(asked(1, 0.0))
    newest.add(message(2, "mug", "mug", scores=(0.9, 0.8), boxes=(RIGHT, LEFT)))
    assert boxes_by_number(asked(2, 0.0)) == before == {0: -0.5, 1: 11.5}


def test_tracked_objects_have_the_numbers_of_their_tracks(newest):
    tracked = {("mug", 4): np.array([11.0, 11.0, 18.0, 18.0]), ("mug", 7): np.array([0.0, 0.0, 6.0, 6.0])}
    asked = Asked(newest, lambda: tracked)
    newest.add(message(1, "mug", "mug", boxes=(LEFT, RIGHT)))
    assert boxes_by_number(asked(1, 0.0)) == {7: -0.5, 4: 11.5}
