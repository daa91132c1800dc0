"""Read the image of a frame and its calibration, and tell what is unlikely about them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from std_msgs.msg import Header

from vpog_core.geometry.camera_checks import camera_doubts
from vpog_core.io.bit_depth import BitDepth
from vpog_core.messages.camera_infos import CameraInfos, calibration
from vpog_core.messages.reading import camera_from_info
from vpog_core.types import Camera, VPOGError
from vpog_ros.image_conversion import image_to_rgb
from vpog_ros.inputs.frame_buffer import Frame
from vpog_ros.notices import Notices
from vpog_ros.parameters import Settings


@dataclass(frozen=True)
class FrameView:
    """Holds a frame with its image [H, W, 3] uint8 RGB and its camera."""

    frame: Frame
    image: np.ndarray
    camera: Camera


class ViewReader:
    """Reads frames, from activate to deactivate.

    Args:
        node: resolves the name of the topic.
        notices: told what is unlikely about images and calibrations.
        image_bits: see `BitDepth`.

    Attributes:
        camera_infos: the calibrations that have come.
    """

    def __init__(self, node, notices: Notices, image_bits: int) -> None:
        self._node, self._notices = node, notices
        self._bit_depth = BitDepth(image_bits)
        self._calibration: tuple = ()
        self._doubt = ""
        self.camera_infos = CameraInfos()

    def read(self, frame: Frame, settings: Settings) -> FrameView:
        """Read a frame's image and its calibration.

        Raises:
            VPOGError: one of them cannot be used, or they do not go together.
        """
        info = self.camera_infos.of_image(frame.stamp_ns)
        if info is None:
            topic = self._node.resolve_topic_name("camera_info")
            raise VPOGError(f"No CameraInfo has come on {topic} yet: check the topic's name.")
        camera = self.read_camera(info, frame.image.header, settings)
        image = self.read_image(frame.image)
        _check_image(image, camera)
        return FrameView(frame, image, camera)

    def read_image(self, message) -> np.ndarray:
        """Read an image message as [H, W, 3] uint8 RGB, by the bits that the images so far have used."""
        image = image_to_rgb(message, self._bit_depth)
        if self._bit_depth.note:
            self._notices.log_once("bit depth", self._bit_depth.note, of=self._bit_depth.note)
        return image

    def read_camera(self, info, image: Header, settings: Settings) -> Camera:
        """Read the calibration that has come for an image, and warn of what is unlikely about it."""
        camera = camera_from_info(info, settings.rectified)
        self._compare_frames(image, info.header)
        if calibration(info) != self._calibration:
            self._calibration = calibration(info)
            self._notices.warn_while(f"camera: {self._doubt}", "")
            doubts = [*camera_doubts(camera), self._rectification_doubt(info, settings.rectified)]
            self._doubt = " ".join(filter(None, doubts))
            self._notices.warn_while(f"camera: {self._doubt}", self._doubt)
        return camera

    def _rectification_doubt(self, info, rectified: bool) -> str:
        """Return the sentence on a topic whose name contradicts the parameter `rectified`, or ""."""
        topic = self._node.resolve_topic_name("image")
        is_rectified = "rect" in topic.rpartition("/")[2]
        if is_rectified and not rectified and any(info.d):
            return (
                f"The images of {topic} are rectified by their name, and rectified is false, so that the "
                "distortion of the CameraInfo is taken out a second time: set rectified to true."
            )
        if rectified and topic.endswith("/image_raw"):
            return (
                f"The images of {topic} are not rectified by their name, and rectified is true: use the "
                "rectified images, or set rectified to false."
            )
        return ""

    def _compare_frames(self, image: Header, info: Header) -> None:
        empty = other = ""
        if not image.frame_id:
            empty = (
                "The images have no frame_id: poses are published, and nothing on /tf; set "
                "header.frame_id in the camera driver."
            )
        elif info.frame_id and info.frame_id != image.frame_id:
            other = (
                f"The CameraInfo is of frame '{info.frame_id}' and the images are of '{image.frame_id}', "
                "which the poses are given in: check that camera_info is the topic of this camera."
            )
        self._notices.warn_while("no frame_id", empty)
        self._notices.warn_while("other frame_id", other)


# Imported where it is used: torch takes seconds to load, and the node is to answer before.


def _check_image(image: np.ndarray, camera: Camera) -> None:
    from vpog_core.inference.crop import check_image

    check_image(image, camera)
