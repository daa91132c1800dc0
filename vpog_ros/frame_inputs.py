"""Put the images and detections that come into the buffer that the worker takes frames from."""

from __future__ import annotations

from sensor_msgs.msg import CompressedImage, Image

from vpog_core.messages.reading import stamp_to_ns
from vpog_ros import parameters
from vpog_ros.diagnostics import Statistics
from vpog_ros.frame_processor import FrameProcessor
from vpog_ros.input_specs import DETECTIONS, input_specs
from vpog_ros.inputs.frame_buffer import FrameBuffer
from vpog_ros.inputs.subscriptions import Inputs
from vpog_ros.notices import Notices
from vpog_ros.requests.on_demand import OnDemand


class FrameInputs:
    """Subscribes from activate to deactivate; its callbacks only store messages.

    Args:
        node: subscribes.
        processor: takes in calibrations and the names of labels.
        buffer: given the images and detections that are to be processed without a request.
        on_demand: given all images, detections and calibrations.
        statistics: count them.
        callback_group: of the subscriptions.

    Raises:
        VPOGError: an override of a topic's quality of service that cannot be used.
    """

    def __init__(
        self,
        node,
        processor: FrameProcessor,
        buffer: FrameBuffer,
        on_demand: OnDemand,
        statistics: Statistics,
        callback_group,
    ) -> None:
        self._buffer, self._on_demand, self._statistics = buffer, on_demand, statistics
        settings, infos = parameters.read(node), on_demand.add_camera_info
        specs = input_specs(node, settings, self._on_image, self._on_detections, infos, processor)
        self._inputs = Inputs(node, specs, callback_group, DETECTIONS)

    def watch(self, notices: Notices) -> None:
        """Subscribe as the publishers allow by now; warn of silent topics and unmatched stamps."""
        self._inputs.watch(notices, quiet=self._on_demand.only)
        for kind, sentence in self._buffer.troubles().items():
            notices.warn_while(kind, sentence)

    def close(self) -> None:
        """Unsubscribe."""
        self._inputs.close()

    def _on_image(self, message: Image | CompressedImage) -> None:
        self._statistics.event("images")
        if self._on_demand.add_image(message):
            self._buffer.add_image(stamp_to_ns(message.header.stamp), message)

    def _on_detections(self, message) -> None:
        self._statistics.event("detections")
        if self._on_demand.add_detections(message):
            self._buffer.add_detections(stamp_to_ns(message.header.stamp), message)
