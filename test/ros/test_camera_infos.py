from __future__ import annotations

import threading
import time

import pytest

pytest.importorskip("rclpy")

from sensor_msgs.msg import CameraInfo

from vpog_core.messages.camera_infos import FIRST_S, CameraInfos
from vpog_core.types import VPOGError

MS = 1_000_000


def info(stamp_ms: int, focal: float = 500.0) -> CameraInfo:
    message = CameraInfo(width=640, height=480)
    message.k[0] = focal
    message.header.stamp.sec, message.header.stamp.nanosec = stamp_ms // 1000, stamp_ms % 1000 * MS
    return message


def infos(*messages: CameraInfo) -> CameraInfos:
    result = CameraInfos()
    for message in messages:
        result.add(message)
    return result


def focal_at(memory: CameraInfos, stamp_ms: int) -> float:
    return memory.of_image(stamp_ms * MS).k[0]


def test_the_image_s_own_is_used_and_not_the_newest():
    memory = infos(info(100, 500.0), info(200, 900.0), info(300, 900.0))
    assert focal_at(memory, 100) == 500.0
    assert focal_at(memory, 200) == 900.0


@pytest.mark.parametrize(("stamp_ms", "focal"), [(50, 500.0), (150, 500.0), (250, 500.0), (900, 900.0)])
def test_without_its_own_the_newest_that_is_not_newer(stamp_ms, focal):
    memory = infos(info(100), info(200), info(300), info(400, 900.0))
    assert focal_at(memory, stamp_ms) == focal


def test_a_change_about_the_image_is_refused():
    with pytest.raises(VPOGError, match="changed about the time of an image"):
        infos(info(100), info(200, 900.0)).of_image(150 * MS)


def test_one_published_once_holds():
    memory = infos(info(100))
    assert [focal_at(memory, stamp) for stamp in (101, 5000, 999_000)] == [500.0] * 3


@pytest.mark.parametrize("stamp_ms", [0, 123])
def test_without_stamps_the_newest_holds(stamp_ms):
    assert focal_at(infos(info(0, 400.0), info(0, 500.0)), stamp_ms) == 500.0


def test_where_each_image_has_its_own_it_is_waited_for():
    memory = infos(info(100))
    focal_at(memory, 100)
    threading.Timer(0.05, memory.add, (info(200, 900.0),)).start()
    assert focal_at(memory, 200) == 900.0


def test_nothing_is_waited_for_where_stamps_never_agree():
    memory = infos(info(100))
    focal_at(memory, 150)
    start = time.monotonic()
    focal_at(memory, 250)
    assert time.monotonic() - start < FIRST_S / 2


def test_the_first_is_waited_for():
    memory = CameraInfos()
    assert memory.of_image(MS) is None
    threading.Timer(0.05, memory.add, (info(100),)).start()
    assert focal_at(memory, 100) == 500.0


def test_a_bag_played_again_starts_anew():
    memory = infos(info(5000, 900.0), info(100))
    assert focal_at(memory, 6000) == 500.0
