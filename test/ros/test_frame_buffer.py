from __future__ import annotations

import threading
import time

import pytest

pytest.importorskip("rclpy")

from vpog_core.messages.arrival_order import START_QUIET_S
from vpog_ros.inputs.frame_buffer import UNMATCHED_S, Frame, FrameBuffer

SECOND_NS = 1_000_000_000


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_detections_meet_their_own_image():
    buffer = FrameBuffer()
    for stamp in (10, 20, 30):
        buffer.add_image(stamp, f"image {stamp}")
    buffer.add_detections(20, "boxes")
    assert buffer.take(0.0) == Frame(20, "image 20", "boxes")
    assert buffer.take(0.0) is None


def test_detections_may_come_first():
    buffer = FrameBuffer()
    buffer.add_detections(10, "boxes")
    assert buffer.take(0.0) is None
    buffer.add_image(10, "image")
    assert buffer.take(0.0) == Frame(10, "image", "boxes")


def test_images_are_offered_alone_once_the_detector_is_silent():
    clock = Clock()
    buffer = FrameBuffer(clock=clock)
    buffer.offer_images_alone(after_s=0.5)
    clock.now += 10.0
    # However long the pause before it was, an image waits for its own detections first.
    buffer.add_image(10, "image 10")
    assert buffer.take(0.0) is None
    clock.now += 0.4
    buffer.add_image(20, "image 20")
    assert buffer.take(0.0) is None
    clock.now += 0.1
    buffer.add_image(30, "image 30")
    assert buffer.take(0.0) == Frame(30, "image 30", None)
    # Detections that come late are used all the same, and the detector is not silent any more.
    buffer.add_detections(30, "boxes")
    assert buffer.take(0.0) == Frame(30, "image 30", "boxes")
    buffer.add_image(40, "image 40")
    assert buffer.take(0.0) is None
    assert (buffer.counts.alone, buffer.counts.matched) == (1, 1)
    clock.now += 1.0
    buffer.offer_images_alone(None)
    buffer.add_image(50, "image 50")
    assert buffer.take(0.0) is None


def test_images_go_on_alone_while_detections_come_late():
    clock = Clock()
    buffer = FrameBuffer(clock=clock)
    buffer.offer_images_alone(after_s=0.5)
    for number, stamp in enumerate((10, 20, 30), 1):
        buffer.add_image(stamp, f"image {stamp}")
        clock.now += 0.4
        frame = buffer.take(0.0)
        assert (None if frame is None else frame.number) == (3 if number == 3 else None)
    buffer.add_detections(10, "boxes")
    assert buffer.take(0.0).number == 1
    buffer.add_image(40, "image 40")
    assert buffer.take(0.0) == Frame(40, "image 40", None)


def test_an_image_alone_never_takes_the_place_of_a_pair():
    clock = Clock()
    buffer = FrameBuffer(clock=clock)
    buffer.offer_images_alone(after_s=0.5)
    buffer.add_image(10, "image 10")
    buffer.add_detections(10, "boxes")
    buffer.add_image(15, "image 15")
    clock.now += 1.0
    buffer.add_image(20, "image 20")
    assert buffer.take(0.0) == Frame(10, "image 10", "boxes")
    for stamp in (30, 40):
        buffer.add_image(stamp, f"image {stamp}")
    assert buffer.take(0.0) == Frame(40, "image 40", None)
    assert buffer.counts.dropped_busy == 1


def test_nearly_the_same_stamp_is_another_frame():
    buffer = FrameBuffer()
    buffer.add_image(10, "image")
    buffer.add_detections(11, "boxes")
    assert buffer.take(0.0) is None


def nearly(**more) -> FrameBuffer:
    return FrameBuffer(tolerance_ns=5, **more)


@pytest.mark.parametrize(("detections", "image"), [(105, 100), (117, 120), (112, 110), (110, 110)])
def test_with_a_tolerance_detections_meet_the_nearest_image(detections, image):
    buffer = nearly()
    for stamp in (90, 100, 110, 120):
        buffer.add_image(stamp, f"image {stamp}")
    buffer.add_detections(detections, "boxes")
    assert buffer.take(0.0) == Frame(image, f"image {image}", "boxes")
    assert buffer.counts.matched_nearly == (detections != image)


@pytest.mark.parametrize("detections", [84, 126])
def test_a_tolerance_has_an_end(detections):
    buffer = nearly()
    for stamp in (90, 120):
        buffer.add_image(stamp, "image")
    buffer.add_detections(detections, "boxes")
    assert buffer.take(0.0) is None


def test_with_a_tolerance_detections_may_come_first():
    buffer = nearly()
    buffer.add_detections(100, "first")
    buffer.add_detections(107, "second")
    buffer.add_image(104, "image")
    assert buffer.take(0.0) == Frame(104, "image", "second")


def test_without_stamps_nothing_is_near():
    buffer = nearly()
    buffer.add_image(3, "image")
    buffer.add_detections(0, "boxes")
    assert buffer.take(0.0) is None


def test_the_newest_image_is_the_last_that_came():
    clock = Clock()
    buffer = FrameBuffer(clock=clock)
    assert buffer.take_newest_image() is None
    for stamp in (1000, 10):  # A bag begins again.
        buffer.add_image(stamp, f"image {stamp}")
    assert buffer.take_newest_image() == Frame(10, "image 10", None)
    # An image that waited to be answered alone is not answered a second time.
    buffer.offer_images_alone(after_s=0.0)
    buffer.add_image(20, "image 20")
    assert buffer.take_newest_image() == Frame(20, "image 20", None)
    assert buffer.take(0.0) is None
    buffer.add_detections(20, "boxes")
    assert buffer.take_newest_image() == Frame(20, "image 20", None)
    assert buffer.take(0.0) == Frame(20, "image 20", "boxes")


def test_newest_wins_and_drops_are_counted():
    buffer = FrameBuffer()
    for stamp in range(1, 6):
        buffer.add_image(stamp, stamp)
        buffer.add_detections(stamp, stamp)
    assert buffer.take(0.0).stamp_ns == 5
    assert (buffer.counts.matched, buffer.counts.taken, buffer.counts.dropped_busy) == (5, 1, 4)


def test_stamps_may_jump_back():
    buffer = FrameBuffer()
    for stamp in (1000, 10):
        buffer.add_image(stamp, stamp)
        buffer.add_detections(stamp, stamp)
        assert buffer.take(0.0).stamp_ns == stamp


def test_old_images_fall_out_of_the_ring():
    buffer = FrameBuffer(capacity=2)
    for stamp in (1, 2, 3):
        buffer.add_image(stamp, stamp)
    buffer.add_detections(1, "late")
    assert buffer.take(0.0) is None
    buffer.add_detections(2, "in time")
    assert buffer.take(0.0).stamp_ns == 2


def test_detections_without_image_are_counted_when_they_fall_out():
    buffer = FrameBuffer(capacity=2)
    for stamp in range(1, 6):
        buffer.add_detections(stamp, stamp)
    assert buffer.counts.dropped_unmatched == 3


def test_two_detectors_may_share_an_image():
    buffer = FrameBuffer()
    buffer.add_image(1, "image")
    for boxes in ("first", "second"):
        buffer.add_detections(1, boxes)
        assert buffer.take(0.0).detections == boxes


def test_take_wakes_up_when_a_pair_is_complete():
    buffer = FrameBuffer()
    buffer.add_image(1, "image")
    threading.Timer(0.05, buffer.add_detections, (1, "boxes")).start()
    assert buffer.take(5.0) == Frame(1, "image", "boxes")


def said(buffer: FrameBuffer) -> list[str]:
    return [sentence for sentence in buffer.troubles().values() if sentence]


def test_stamps_that_never_match_are_told_with_their_difference():
    clock = Clock()
    buffer = FrameBuffer(clock=clock)
    buffer.add_image(5 * SECOND_NS, "image")
    for late in (6, 7):
        buffer.add_detections(late * SECOND_NS - 970_000_000, "boxes")
        assert said(buffer) == []
        buffer.add_image(late * SECOND_NS, "image")
    clock.now += UNMATCHED_S
    (sentence,) = said(buffer)
    assert "7.000000 s" in sentence
    assert "6.030000 s, 0.970000 s earlier" in sentence
    assert "copy the image's header" in sentence
    buffer.add_image(6 * SECOND_NS + 30_000_000, "image")
    assert said(buffer) == []


def test_images_that_are_lost_on_the_way_are_no_fault_of_the_detector():
    clock = Clock()
    buffer = FrameBuffer(clock=clock)
    buffer.add_image(5 * SECOND_NS, "image")
    buffer.add_detections(5 * SECOND_NS, "boxes")
    for second in (6, 7, 8, 9):
        buffer.add_detections(second * SECOND_NS, "boxes of an image that does not come")
        clock.now += 1.0
    assert said(buffer) == []


@pytest.mark.parametrize(("image", "detections", "who"), [(0, 7, "images"), (7, 0, "detections")])
def test_a_side_without_stamps_is_named(image, detections, who):
    clock = Clock()
    buffer = FrameBuffer(clock=clock)
    buffer.add_image(image, "image")
    buffer.add_detections(detections, "boxes")
    buffer.add_image(image, "image")
    clock.now += UNMATCHED_S
    (sentence,) = said(buffer)
    assert sentence.startswith(f"The {who} have no stamp")


def test_a_detector_that_is_too_slow_is_not_told_to_copy_the_header():
    clock = Clock()
    buffer = FrameBuffer(capacity=2, clock=clock)
    for stamp in (1, 2, 3):
        buffer.add_image(stamp, "image")
    buffer.add_detections(1, "boxes")
    clock.now += UNMATCHED_S
    (sentence,) = said(buffer)
    assert "raise image_buffer_size" in sentence


def test_one_side_alone_is_no_mismatch():
    clock = Clock()
    buffer = FrameBuffer(clock=clock)
    buffer.add_detections(1, "boxes")
    clock.now += UNMATCHED_S
    assert said(buffer) == []


def test_without_stamps_turns_are_paired_and_time_goes_on():
    clock = Clock()
    buffer = FrameBuffer(clock=clock)
    times = []
    clock.now += START_QUIET_S
    for image in ("first", "second"):
        clock.now += 0.5
        buffer.add_image(0, image)
        buffer.add_detections(0, "boxes")
        frame = buffer.take(0.0)
        assert frame == Frame(0, image, "boxes")
        times.append(frame.time_s)
    assert times[1] - times[0] == pytest.approx(0.5)
    (sentence,) = said(buffer)
    assert "paired by the order" in sentence
    buffer.add_image(0, "third")
    buffer.add_image(0, "fourth")
    buffer.add_detections(0, "of the third")
    assert buffer.take(0.0) is None
    assert buffer.counts.dropped_unmatched == 1


def test_close_lets_everybody_go():
    buffer = FrameBuffer()
    threading.Timer(0.05, buffer.close).start()
    start = time.monotonic()
    assert buffer.take(30.0) is None
    assert time.monotonic() - start < 10.0


def test_capacity_must_be_positive():
    with pytest.raises(ValueError, match="capacity is 0"):
        FrameBuffer(capacity=0)


@pytest.mark.parametrize("images_first", [True, False])
def test_two_detectors_have_their_turns_with_a_slow_reader(images_first):
    """Messages of two types come for each image; the reader takes a frame for every other image."""
    buffer, taken = FrameBuffer(), []
    for stamp in range(1, 21):
        if images_first:
            buffer.add_image(stamp, "image")
        buffer.add_detections(stamp, "boxes")
        buffer.add_detections(stamp, ["labels"])
        if not images_first:
            buffer.add_image(stamp, "image")
        if stamp % 2 == 0:
            taken.append(buffer.take(0.0))
    kinds = [type(frame.detections) for frame in taken]
    assert (kinds.count(str), kinds.count(list)) == (5, 5)
    # Each is the newest of its type.
    assert [frame.stamp_ns for frame in taken] == list(range(2, 21, 2))
    assert buffer.counts.dropped_busy == 40 - 10 - 1
    assert buffer.counts.dropped_unmatched == 0
