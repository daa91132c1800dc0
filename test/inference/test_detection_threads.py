"""Test how the detections of an image are divided among threads."""

import threading
import time

import numpy as np
import pytest
import torch

from vpog_core.cancellation import Cancelled, stop_when
from vpog_core.inference.detection_threads import MIN_DIVIDED_WIDTH, DetectionThreads
from vpog_core.inference.pipeline import Setup
from vpog_core.inference.stage_timings import StageTimings, report_stages
from vpog_core.types import Detection

from .asking import CAMERA

TINY = MIN_DIVIDED_WIDTH // 2


@pytest.fixture
def use_threads():
    """Return torch.set_num_threads; the number is put back afterwards."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def setup():
    return Setup(None, None, None, StageTimings())


def share(find, setup, queries, width=TINY):
    return DetectionThreads(width, "cpu").share(find, setup, queries)


def test_each_thread_gets_a_part_and_the_order_stays(use_threads, setup):
    use_threads(3)
    meeting, parts = threading.Barrier(3, timeout=10), []

    def find(_, queries):
        # All parts are here at once, or the barrier breaks.
        meeting.wait()
        parts.append((threading.get_ident(), len(queries)))
        return [f"pose of {query}" for query in queries]

    assert share(find, setup, range(7)) == [f"pose of {n}" for n in range(7)]
    assert len({thread for thread, _ in parts}) == 3
    assert sorted(count for _, count in parts) == [2, 2, 3]


@pytest.mark.parametrize(
    ("width", "detections", "expected"),
    [
        (TINY, 1, 1),
        (TINY, 2, 1),
        (MIN_DIVIDED_WIDTH, 1, 4),
        (MIN_DIVIDED_WIDTH, 2, 2),
        (MIN_DIVIDED_WIDTH, 9, 1),
    ],
)
def test_only_a_wide_network_divides_its_operations(use_threads, setup, width, detections, expected):
    use_threads(4)
    found = share(
        lambda _, queries: [torch.get_num_threads()] * len(queries), setup, range(detections), width
    )
    assert found == [expected] * detections
    assert torch.get_num_threads() == 4


def test_one_thread_works_in_the_caller(use_threads, setup):
    use_threads(1)
    found = share(lambda _, queries: [threading.get_ident()] * len(queries), setup, range(3))
    assert set(found) == {threading.get_ident()}


def test_without_detections_nothing_is_found(use_threads, setup):
    use_threads(2)
    assert share(lambda _, queries: list(queries), setup, []) == []


def test_stages_share_the_time_by_the_clock(use_threads, setup):
    use_threads(2)

    def find(part, queries):
        for name, seconds in (("short", 0.02), ("long", 0.06)):
            with part.stage(name):
                time.sleep(seconds)
        return list(queries)

    begin = time.perf_counter()
    share(find, setup, range(2))
    whole = time.perf_counter() - begin
    seconds = setup.timings.seconds
    assert list(seconds) == ["short", "long"]
    # Two threads at once: the stages make up the time that the caller waited, not the sum of both threads.
    assert sum(seconds.values()) == pytest.approx(whole, abs=0.01)
    assert seconds["long"] > 1.5 * seconds["short"]


def test_an_error_comes_after_all_parts_have_ended(use_threads, setup):
    use_threads(2)
    ended = []

    def find(part, queries):
        with part.stage("match"):
            if 0 in queries:
                raise ValueError("broken")
        time.sleep(0.1)
        ended.append(queries)
        return list(queries)

    with pytest.raises(ValueError, match="broken"):
        share(find, setup, [0, 1])
    assert ended == [[1]]


def test_every_part_can_be_cancelled_and_tells_its_stages(use_threads, setup):
    use_threads(2)
    told, stop = [], threading.Event()

    def find(part, queries):
        with part.stage("match"):
            stop.wait(10)
        with part.stage("solve"):
            raise AssertionError("not reached")

    def tell(name):
        told.append(name)
        if len(told) == 2:
            stop.set()

    with report_stages(tell), stop_when(stop.is_set), pytest.raises(Cancelled):
        share(find, setup, range(2))
    assert told == ["match", "match"]


def test_detections_get_the_same_poses_in_several_threads(estimator, picture, use_threads):
    image, boxes = picture
    detections = [Detection("thing", box, instance=n) for n, box in enumerate([*boxes, *boxes])]
    use_threads(1)
    expected = estimator.estimate(image, CAMERA, detections)
    # Clusters that both threads need are encoded by either.
    estimator.onboarded("thing").clear_clusters()
    use_threads(2)
    found = estimator.estimate(image, CAMERA, detections)
    assert list(found.timings) == list(expected.timings)
    for one, other in zip(found, expected, strict=True):
        assert (one.class_id, one.instance, one.reason) == (other.class_id, other.instance, other.reason)
        # Float32 sums in batches of another size.
        assert one.score == pytest.approx(other.score, abs=1e-3)
        if other.T_cam_obj is not None:
            np.testing.assert_allclose(one.T_cam_obj, other.T_cam_obj, atol=1e-3)
