"""Find which image of a bag each message of detections belongs to, as the node does while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from vpog_core.messages.arrival_order import ArrivalOrder
from vpog_core.messages.camera_infos import CameraInfos, calibration
from vpog_core.messages.reading import stamp_to_ns
from vpog_core.replay.bag_reader import Bag, BagMessage
from vpog_core.replay.topics import Topics
from vpog_core.replay.unpaired_images import Arrival, UnpairedImageRule, choose_frames
from vpog_core.replay.unreadable import Unreadable
from vpog_core.types import VPOGError


@dataclass
class Pairs:
    """Holds what one pass over a bag found.

    Attributes:
        frames: (row of the image, row of the detections) of every pair, in the order in which both are there,
            and (row of the image, None) of images that are answered alone, where objects are followed; a row
            is the place of a message in its topic.
        camera_infos: the calibrations.
        images, detections: how many messages there are.
        stamps: [images] of the images, nanoseconds; 0 where there is none, or the image cannot be read.
        unreadable: messages that are left out; they have rows as well.
    """

    frames: list[tuple[int, int | None]] = field(default_factory=list)
    camera_infos: CameraInfos = field(default_factory=lambda: CameraInfos(kept=None, wait_s=0.0))
    images: int = 0
    detections: int = 0
    stamps: list[int] = field(default_factory=list)
    unreadable: Unreadable = field(default_factory=Unreadable)

    @property
    def num_unpaired(self) -> int:
        """The number of frames that are images without detections."""
        return sum(detections is None for _, detections in self.frames)


@dataclass(frozen=True)
class RecordedFrame:
    """Holds an image and the detections made in it, or None, as messages.

    Attributes:
        number: of the frame, from 0.
        image_time_ns: when the image was recorded.
    """

    number: int
    stamp_ns: int
    image_time_ns: int
    image: BagMessage
    detections: BagMessage | None

    @property
    def time_s(self) -> float:
        """The time of the image in seconds: its stamp, or, without one, when it was recorded."""
        return 1e-9 * (self.stamp_ns or self.image_time_ns)


def find_pairs(bag: Bag, topics: Topics, rule: UnpairedImageRule | None = None) -> Pairs:
    """Pair images and detections by equal stamps; messages without stamps are paired while both alternate.

    Messages that cannot be read are counted and left out.

    Args:
        rule: when images without detections are frames too; None: never.

    Raises:
        VPOGError: nothing can be paired, or the bag cannot be read.
    """
    pairing = _Pairing()
    pairs = pairing.pairs
    adders = {
        topics.camera_info: pairing.add_calibration,
        topics.image: pairing.add_image,
        topics.detections: pairing.add_detections,
    }
    skippers = {topics.image: pairing.skip_image, topics.detections: pairing.skip_detections}
    for message in bag.messages(topics.all):
        content = pairs.unreadable.read(message)
        pairing.go_on_to(1e-9 * message.time_ns)
        if content is not None:
            adders[message.topic](content, stamp_to_ns(content.header.stamp))
        elif message.topic in skippers:
            skippers[message.topic]()
    pairs.frames = choose_frames(pairing.arrivals, pairs.stamps, rule)
    if not pairs.frames:
        reasons = pairs.unreadable.sentences or [_nothing_paired(pairs, list(pairing.waiting), topics)]
        raise VPOGError(" ".join(reasons))
    return pairs


class _Pairing:
    """Finds the pairs among messages that are added in the order they were recorded.

    Attributes:
        waiting: stamps of detections whose image has not come, with their rows.
        arrivals: pairs, and images that came before their detections or have none.
    """

    def __init__(self) -> None:
        self.pairs = Pairs()
        self.arrivals: list[Arrival] = []
        self.waiting: dict[int, list[int]] = {}
        self._images: dict[int, int] = {}
        self._skipped: set[int] = set()
        self._now_s = 0.0
        self._unstamped: ArrivalOrder | None = None
        self._calibration: Any = None

    def go_on_to(self, now_s: float) -> None:
        """Set the time when the next message was recorded."""
        self._now_s = now_s
        # The recording's clock starts at its first message.
        self._unstamped = self._unstamped or ArrivalOrder(lambda: self._now_s)

    def add_calibration(self, info, stamp_ns: int) -> None:
        # Share one object among equal messages: a long bag holds many.
        if self._calibration is None or calibration(info) != calibration(self._calibration):
            self._calibration = info
        self.pairs.camera_infos.add(self._calibration, stamp_ns)

    def add_image(self, _, stamp_ns: int) -> None:
        row = self._count_image(stamp_ns)
        if not stamp_ns:
            self._unstamped.add_image(row)
            return
        self._images[stamp_ns] = row
        for other in self.waiting.pop(stamp_ns, [None]):
            self.arrivals.append(Arrival(self._now_s, row, other))

    def add_detections(self, _, stamp_ns: int) -> None:
        row = self._count_detections()
        image = self._images.get(stamp_ns) if stamp_ns else self._unstamped.take_image()
        if image is not None and image not in self._skipped:
            self.arrivals.append(Arrival(self._now_s, image, row))
        elif stamp_ns:
            self.waiting.setdefault(stamp_ns, []).append(row)

    def skip_image(self) -> None:
        """Give an image that cannot be read a row, and its turn among messages without stamps."""
        row = self._count_image(stamp_ns=0)
        self._skipped.add(row)
        self._unstamped.add_image(row)

    def skip_detections(self) -> None:
        """Give detections that cannot be read a row, and their turn among messages without stamps."""
        self._count_detections()
        self._unstamped.take_image()

    def _count_image(self, stamp_ns: int) -> int:
        self.pairs.stamps.append(stamp_ns)
        self.pairs.images += 1
        return self.pairs.images - 1

    def _count_detections(self) -> int:
        self.pairs.detections += 1
        return self.pairs.detections - 1


def recorded_frames(bag: Bag, topics: Topics, pairs: Pairs) -> Iterator[RecordedFrame]:
    """Yield the frames of a bag in the order of `Pairs.frames`; only waiting messages stay in memory."""
    uses: dict[str, dict[int, int]] = {topics.image: {}, topics.detections: {}}
    for frame in pairs.frames:
        for topic, row in zip(uses, frame, strict=True):
            if row is not None:
                uses[topic][row] = uses[topic].get(row, 0) + 1
    held: dict[str, dict[int, BagMessage]] = {topic: {} for topic in uses}
    rows = dict.fromkeys(uses, 0)
    number = 0
    for message in bag.messages(list(uses)):
        row = rows[message.topic]
        rows[message.topic] += 1
        if row in uses[message.topic]:
            held[message.topic][row] = message
        while number < len(pairs.frames):
            image_row, detections_row = pairs.frames[number]
            image = held[topics.image].get(image_row)
            detections = held[topics.detections].get(detections_row)
            if image is None or (detections is None and detections_row is not None):
                break
            yield RecordedFrame(number, pairs.stamps[image_row], image.time_ns, image, detections)
            number += 1
            for topic, used in ((topics.image, image_row), (topics.detections, detections_row)):
                if used is None:
                    continue
                uses[topic][used] -= 1
                if not uses[topic][used]:
                    del held[topic][used]


def _nothing_paired(pairs: Pairs, waiting: list[int], topics: Topics) -> str:
    """Return a sentence on why no detections belong to an image, and what to do."""
    if not any(pairs.stamps):
        return (
            f"The images on '{topics.image}' have no stamp (0) and do not take turns with the detections: "
            "set header.stamp in the camera driver and copy it in the detector."
        )
    if not waiting:
        return (
            f"The detections on '{topics.detections}' have no stamp (0): the detector must copy the image's "
            "header."
        )
    nearest = min((abs(d - i), d, i) for d in waiting[:100] for i in pairs.stamps if i)
    return (
        f"None of the {pairs.detections} messages on '{topics.detections}' has the stamp of one of the "
        f"{pairs.images} images on '{topics.image}' (the nearest are {1e-9 * nearest[0]:.6f} s apart): the "
        "detector must copy the image's header."
    )
