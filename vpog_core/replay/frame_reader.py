"""Convert the messages of a frame to the inputs of the estimator, by the code that the node uses."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from vpog_core.geometry.camera_checks import camera_doubts
from vpog_core.io.bit_depth import BitDepth
from vpog_core.messages.camera_infos import CameraInfos
from vpog_core.messages.detections import DetectionReader
from vpog_core.messages.images import image_to_rgb
from vpog_core.messages.reading import camera_from_info
from vpog_core.replay.pairing import RecordedFrame
from vpog_core.types import Camera, Detection, VPOGError


@dataclass(frozen=True)
class FrameInputs:
    """Holds the inputs that the poses of a frame are estimated from.

    Attributes:
        frame_id: of the image.
        image: [H, W, 3] uint8 RGB; camera: of its size.
        refused: a sentence for each detection that cannot be used.
    """

    frame_id: str
    image: np.ndarray
    camera: Camera
    detections: list[Detection]
    refused: list[str]


class OnceNotices:
    """Counts what is left out, and prints each sentence once, on stderr, above a progress bar."""

    def __init__(self) -> None:
        self.left_out: Counter[str] = Counter()
        self._printed: set[tuple[str, str]] = set()

    def leave_out(self, kind: str, number: int = 1) -> None:
        """Count what is left out."""
        self.left_out[kind] += number

    def log_once(self, kind: str, sentence: str, of: str = "") -> None:
        """Print a sentence, the first time for this kind and subject."""
        if (kind, of) not in self._printed:
            self._printed.add((kind, of))
            tqdm.write(f"vpog: {sentence}", file=sys.stderr)


class FrameReader:
    """Reads the frames of one bag in order, and keeps bit depth and instance numbers between them.

    Args:
        library: the estimator's ObjectLibrary; left_out: those of its objects that cannot be used.
        camera_infos: the bag's.
        max_detections: used of one frame, best scores first.
        rectified: the images are rectified: `P` of their CameraInfo holds.
        notices: prints what is left out.
        numbered: see `DetectionReader.read`.
    """

    def __init__(
        self,
        library,
        left_out: Collection[str],
        camera_infos: CameraInfos,
        max_detections: int,
        rectified: bool,
        notices: OnceNotices,
        numbered: bool = True,
    ) -> None:
        self._numbered = numbered
        self._detections = DetectionReader(library, notices, notices, left_out)
        self._camera_infos = camera_infos
        self._max_detections, self._rectified = max_detections, rectified
        self._bit_depth = BitDepth()
        self._notices = notices

    def read(self, frame: RecordedFrame) -> FrameInputs:
        """Read one frame; an image alone has no detections.

        Raises:
            VPOGError: the image or its calibration cannot be used.
        """
        message = frame.image.read()
        camera = camera_from_info(self._camera_infos.of_image(frame.stamp_ns), self._rectified)
        for doubt in camera_doubts(camera):
            self._notices.log_once("camera", doubt, of=doubt)
        image = image_to_rgb(message, self._bit_depth)
        if self._bit_depth.note:
            self._notices.log_once("bit depth", self._bit_depth.note, of=self._bit_depth.note)
        if image.shape[:2] != (camera.height, camera.width):
            raise VPOGError(
                f"The image is {image.shape[1]}x{image.shape[0]} and its CameraInfo is for "
                f"{camera.width}x{camera.height}: give the calibration of this image with --camera-info."
            )
        unpaired = frame.detections is None
        detections, refused = ([], []) if unpaired else self._read_detections(frame, camera)
        return FrameInputs(message.header.frame_id, image, camera, detections, refused)

    def _read_detections(self, frame: RecordedFrame, camera: Camera) -> tuple[list[Detection], list[str]]:
        message = frame.detections.read()
        try:
            return self._detections.read(
                message, camera.width, camera.height, self._max_detections, self._numbered
            )
        except AttributeError as error:
            raise VPOGError(
                f"The bag's {frame.detections.msgtype} has other fields than are known ({error}): record it "
                "with a newer version of its package."
            ) from error
