"""Find the detections of a request: its own boxes, else the detector's."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

from std_msgs.msg import Header

from vpog_core.messages.detections import DetectionReader, shortened
from vpog_core.messages.reading import stamp_to_ns
from vpog_core.types import Camera, Detection, VPOGError
from vpog_ros.estimation_request import MAX_NAMES
from vpog_ros.msg import Instance2DArray, ObjectWithoutPose
from vpog_ros.newest_detections import Detected, NewestDetections
from vpog_ros.parameters import Settings

GRACE_S = 0.5
"""Seconds to wait for another detector once one has sent its detections of the image."""
DETECTOR_S = 2.0
"""Seconds to wait for detections of an image with a stamp, before those of another image are used."""

NOT_YET = "The detections of the image have not come yet: give a box or a mask in `instances`."
NO_DETECTION = "No detection of {} has come: start its detector, or give a box or a mask in `instances`."
OLD = (
    "The newest detection of '{}' is {:.1f} s from the image, more than max_detection_age ({:g} s): let its "
    "detector run, or give a box or a mask in `instances`."
)

_SILENT = SimpleNamespace(leave_out=lambda *_: None, log_once=lambda *_, **__: None)
"""Discards notices: the result of a request says what is left out, so nothing is logged."""


@dataclass
class RequestedObjects:
    """Holds the detections of a request, as far as they are known.

    Attributes:
        detections: to be estimated.
        missing: the objects without one, with the reason.
        ages: seconds between the image and the detections of an object, where they are of another image.
        waits_for: a sentence on detections that may still come, or "".
    """

    detections: list[Detection] = field(default_factory=list)
    missing: list[ObjectWithoutPose] = field(default_factory=list)
    ages: dict[str, float] = field(default_factory=dict)
    waits_for: str = ""


class RequestDetections:
    """Makes the detections of requests.

    Args:
        library: gives the estimator's library.
        why_not: returns why an object cannot be estimated now, or ""; see `ObjectManager.why_not`.
        left_out: gives the objects that cannot be used, with the reasons.
        newest: what the detectors have sent.
    """

    def __init__(
        self,
        library: Callable,
        why_not: Callable[[str], str],
        left_out: Callable[[], dict],
        newest: NewestDetections,
    ) -> None:
        self._library, self._why_not, self._left_out, self._newest = library, why_not, left_out, newest

    def are_there(self, stamp_ns: int) -> bool:
        """Tell whether detections of the image with this stamp have come."""
        return self._newest.of_stamp(stamp_ns) is not None

    def find(
        self, goal, header: Header, camera: Camera, waited_s: float, settings: Settings
    ) -> RequestedObjects:
        """Find the detections of a request.

        Args:
            goal: of the action; header: of its image; camera: of its size.
            waited_s: seconds since the image came.
            settings: `max_detections`, and `max_detection_age`.

        Raises:
            VPOGError: the request cannot be understood.
        """
        if max(len(goal.objects), len(goal.instances)) > MAX_NAMES:
            raise VPOGError(f"A request names {MAX_NAMES} objects and instances at most: ask in parts.")
        requested = RequestedObjects()
        wanted = self._resolved(goal.objects, requested)
        if goal.objects and not wanted:
            return requested
        if goal.instances:
            self._of_instances(goal, wanted, header, camera, settings.max_detections, requested)
        else:
            requested.waits_for = self._of_topics(wanted, header, camera, waited_s, settings, requested)
        return requested

    def _resolved(self, names: list[str], requested: RequestedObjects) -> list[str]:
        """Return the objects that names stand for; those that stand for none are missing."""
        found = []
        for name in names:
            try:
                found.append(self._library().resolve(name))
            except VPOGError as error:
                requested.missing.append(missing(shortened(name), str(error)[:1000]))
        return list(dict.fromkeys(found))

    def _of_instances(
        self, goal, wanted: list[str], header, camera: Camera, most: int, requested: RequestedObjects
    ) -> None:
        """Read the boxes and masks of the request itself."""
        instances = []
        for given in goal.instances:
            instance = copy(given)
            if not instance.class_id:
                if len(wanted) != 1:
                    raise VPOGError(
                        "An instance has no class_id, and `objects` does not name exactly one: name it."
                    )
                instance.class_id = wanted[0]
            names = self._resolved([instance.class_id], requested)
            if names and (not wanted or names[0] in wanted):
                instances.append(instance)
        self._read(Instance2DArray(header=header, instances=instances), None, camera, most, requested)
        self._tell_missing(wanted, requested, "No box or mask of '{}' is in `instances`: give one.")

    def _of_topics(
        self,
        wanted: list[str],
        header: Header,
        camera: Camera,
        waited_s: float,
        settings: Settings,
        requested: RequestedObjects,
    ) -> str:
        """Read the detectors' detections; return the sentence on what is missing, or ""."""
        # Use the detections of the image itself.
        stamp_ns, most = stamp_to_ns(header.stamp), settings.max_detections
        own = self._newest.of_stamp(stamp_ns)
        if own is not None:
            self._read(own.message, wanted, camera, most, requested)
        found = {item.class_id for item in (*requested.detections, *requested.missing)}
        complete = set(wanted) <= found if wanted else own is not None
        if complete:
            return ""
        if own is None and stamp_ns and not settings.max_detection_age:
            return NOT_YET
        if waited_s <= (GRACE_S if own is not None or not stamp_ns else DETECTOR_S):
            return NOT_YET
        # Use recent detections of other images for the remaining objects.
        for object_id, detected in self._newest_of_objects(wanted).items():
            age = abs(detected.age_s(stamp_ns))
            if object_id in found:
                continue
            if age > settings.max_detection_age:
                sentence = OLD.format(object_id, age, settings.max_detection_age)
                requested.missing.append(missing(object_id, sentence))
            else:
                self._read(detected.message, [object_id], camera, most, requested)
                requested.ages[object_id] = age
        # Report the objects without a detection.
        if own is None and not requested.detections:
            return " ".join(m.reason for m in requested.missing) or NO_DETECTION.format(
                " or ".join(wanted) or "any"
            )
        self._tell_missing(wanted, requested, NO_DETECTION)
        return ""

    def _newest_of_objects(self, wanted: list[str]) -> dict[str, Detected]:
        """Return the newest message that shows each object."""
        found: dict[str, Detected] = {}
        for name, detected in self._newest.by_class().items():
            try:
                object_id = self._library().resolve(name)
            except VPOGError:
                continue
            before = found.get(object_id)
            if (not wanted or object_id in wanted) and (before is None or before.came_s < detected.came_s):
                found[object_id] = detected
        return found

    def _read(
        self, message, wanted: list[str] | None, camera: Camera, most: int, requested: RequestedObjects
    ) -> None:
        """Read the detections of a message, of the objects that are wanted (none named: all)."""
        reader = DetectionReader(self._library(), _SILENT, _SILENT, label_maps=self._newest.label_maps)
        detections, refused = reader.read(message, camera.width, camera.height, most)
        requested.detections += [d for d in detections if not wanted or d.class_id in wanted]
        for sentence in refused:
            object_id, _, reason = sentence.partition(": ")
            if not wanted or object_id in wanted:
                requested.missing.append(missing(object_id, reason))

    def _tell_missing(self, wanted: list[str], requested: RequestedObjects, sentence: str) -> None:
        known = {d.class_id for d in requested.detections} | {m.class_id for m in requested.missing}
        requested.missing += [missing(n, sentence.format(n)) for n in wanted if n not in known]

    def onboarding(self, names: list[str]) -> str:
        """Return the sentence on objects that are not ready yet, or ""; they are onboarded from now on."""
        reasons = []
        for object_id in self._resolved(names, RequestedObjects()):
            reason = self._why_not(object_id)
            if reason and object_id not in self._left_out():
                reasons.append(reason)
        return " ".join(reasons)

    def usable(self, requested: RequestedObjects) -> RequestedObjects:
        """Return the request's detections without objects that cannot be used; these are missing then."""
        left_out = self._left_out()
        unusable = {d.class_id for d in requested.detections} & left_out.keys()
        return replace(
            requested,
            detections=[d for d in requested.detections if d.class_id not in unusable],
            missing=[*requested.missing, *(missing(name, left_out[name]) for name in sorted(unusable))],
        )


def missing(object_id: str, reason: str) -> ObjectWithoutPose:
    """Return the message on an object that has no detection to be estimated."""
    return ObjectWithoutPose(class_id=object_id, instance=-1, reason=reason)
