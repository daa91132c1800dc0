"""Find the detections of a request: its own boxes, else the detectors'."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace

import numpy as np
from std_msgs.msg import Header

from vpog_core.messages.detections import DetectionReader, shortened
from vpog_core.messages.reading import stamp_to_ns
from vpog_core.types import Camera, Detection, VPOGError
from vpog_ros.msg import Instance2DArray, ObjectWithoutPose
from vpog_ros.parameters import Settings
from vpog_ros.requests.estimation_request import MAX_NAMES
from vpog_ros.requests.newest_detections import Detected, NewestDetections

GRACE_S = 0.5
"""Seconds to wait for other detections, once some of the image have come."""
DETECTOR_S = 2.0
"""Seconds to wait for detections of an image with a stamp, before those of another image are used."""
MAX_READ = 256
"""Detections of a message that are read; of these `max_detections` are estimated."""

NOT_YET = "The detections of the image have not come yet: give a box or a mask in `instances`."
NO_DETECTION = "No detection of {} has come{}: start its detector, or give a box or a mask in `instances`."
OTHERS = ", and detections of {} have (a name that a detector uses can be an alias in objects.yaml)"
NOTHING_DETECTED = "The detections of the image show no object."
OLD = (
    "The newest detection of '{}' is {:.1f} s from the image, more than max_detection_age ({:g} s): let its "
    "detector run, or give a box or a mask in `instances`."
)
OVER_LIMIT = (
    "Left out, as {} detections have better scores (max_detections): raise it, or name fewer objects."
)


@dataclass
class RequestedObjects:
    """Holds the detections of a request, as far as they are known.

    Attributes:
        detections: to be estimated.
        missing: the objects without one, with the reason.
        ages: seconds between the image and the detections of an object, where they are of another image.
        remarks: sentences on detections that cannot be used.
        waits_for: a sentence on detections that may still come, or "".
    """

    detections: list[Detection] = field(default_factory=list)
    missing: list[ObjectWithoutPose] = field(default_factory=list)
    ages: dict[str, float] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    waits_for: str = ""

    def known(self) -> set[str]:
        """Return the objects that have a detection, or a reason why not."""
        return {item.class_id for item in (*self.detections, *self.missing)}


class Remarks:
    """Collects what a `DetectionReader` has to say of detections, for the result of a request."""

    def __init__(self) -> None:
        self._sentences: dict[str, None] = {}

    def leave_out(self, kind: str, number: int = 1) -> None:
        """Ignore the count; the sentence tells."""

    def log_once(self, kind: str, sentence: str, of: str = "") -> None:
        """Keep a sentence."""
        self._sentences[sentence] = None

    def take(self) -> list[str]:
        """Return the sentences since the last call."""
        taken, self._sentences = list(self._sentences), {}
        return taken


class RequestDetections:
    """Makes the detections of requests, from activate to deactivate; called by the worker alone.

    Objects keep their numbers from request to request, by where they are in the image.

    Args:
        library: gives the estimator's library.
        why_not: returns why an object cannot be estimated now, or ""; see `ObjectManager.why_not`.
        left_out: gives the objects that cannot be used, with the reasons.
        newest: what the detectors have sent.
        tracked_boxes: gives the boxes of the objects that are tracked, by class and number: objects that are
            there have these numbers.
    """

    def __init__(
        self,
        library: Callable,
        why_not: Callable[[str], str],
        left_out: Callable[[], dict],
        newest: NewestDetections,
        tracked_boxes: Callable[[], Mapping[tuple[str, int], np.ndarray]] = dict,
    ) -> None:
        self._library, self._why_not, self._left_out, self._newest = library, why_not, left_out, newest
        self._tracked_boxes = tracked_boxes
        self._remarks = Remarks()
        self._reader = self._new_reader()

    def _new_reader(self) -> DetectionReader:
        maps = self._newest.label_maps
        return DetectionReader(self._library(), self._remarks, self._remarks, label_maps=maps)

    def num_shown(self, goal, stamp_ns: int, settings: Settings) -> int:
        """Count how many objects of a request the detections of an image show; -1 where none have come.

        Args:
            stamp_ns: of the image. Of a request that names no objects 1 stands for any number.
        """
        own = self._own(stamp_ns, settings)
        if not own:
            return -1
        shown = self.resolved(name for detected in own for name in detected.names)
        return len(shown & self.resolved(goal.objects)) if goal.objects else min(len(shown), 1)

    def find(
        self, goal, header: Header, camera: Camera, waited_s: float, settings: Settings
    ) -> RequestedObjects:
        """Find the detections of a request.

        Args:
            goal: of the action; header: of its image; camera: of its size.
            waited_s: seconds since the first image came.
            settings: `max_detections`, `max_detection_age`, `stamp_tolerance`.

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
            self._of_instances(goal, wanted, header, camera, requested)
        else:
            requested.waits_for = self._of_topics(wanted, header, camera, waited_s, settings, requested)
            _limit(requested, settings.max_detections)
        return requested

    def _resolved(self, names: Sequence[str], requested: RequestedObjects) -> list[str]:
        """Return the objects that names stand for; those that stand for none are missing."""
        found = []
        for name in names:
            try:
                found.append(self._library().resolve(name))
            except VPOGError as error:
                requested.missing.append(missing(shortened(name), str(error)[:1000]))
        return list(dict.fromkeys(found))

    def resolved(self, names: Iterable[str]) -> frozenset[str]:
        """Return the objects that names stand for, of those that stand for one."""
        return frozenset(object_id for name in names if (object_id := self._object(name)) is not None)

    def _object(self, name: str) -> str | None:
        """Return the object that a detector's name stands for, or None."""
        try:
            return self._library().resolve(name)
        except VPOGError:
            return None

    def _of_instances(
        self, goal, wanted: list[str], header: Header, camera: Camera, requested: RequestedObjects
    ) -> None:
        """Read the boxes and masks of the request itself; they are numbered among themselves."""
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
        message = Instance2DArray(header=header, instances=instances)
        self._read(self._new_reader(), message, wanted, camera, requested)
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
        stamp_ns = stamp_to_ns(header.stamp)
        own = self._own(stamp_ns, settings)
        self._read_messages(own, wanted, camera, requested)
        # Wait for those that may still come: of other detectors, or of a later image.
        if self._is_complete(own, wanted, requested):
            return ""
        if not own and stamp_ns and not settings.max_detection_age:
            return NOT_YET
        patience_s = DETECTOR_S if stamp_ns and not own else GRACE_S
        if (min(waited_s, self._newest.waited_s(own)) if own else waited_s) <= patience_s:
            return NOT_YET
        # Use recent detections of other images for the remaining objects, if there are such.
        if wanted or not own:
            self._read_older(wanted, stamp_ns, camera, settings.max_detection_age, requested)
        # Report the objects without a detection.
        if not requested.detections and not own:
            reasons = [m.reason for m in requested.missing]
            return " ".join(reasons) or self._no_detection(" or ".join(wanted) or "any object")
        if not wanted and not requested.known() and not requested.remarks:
            requested.remarks.append(NOTHING_DETECTED)
        self._tell_missing(wanted, requested, self._no_detection("{}"))
        return ""

    def _own(self, stamp_ns: int, settings: Settings) -> list[Detected]:
        """Return the messages of detections of an image."""
        return self._newest.of_stamp(stamp_ns, round(settings.stamp_tolerance * 1e9))

    def _is_complete(
        self, own: Sequence[Detected], wanted: Sequence[str], requested: RequestedObjects
    ) -> bool:
        if wanted:
            return set(wanted) <= requested.known()
        return bool(requested.known()) and self._newest.are_complete(own)

    def _read_messages(
        self,
        messages: Sequence[Detected],
        wanted: Sequence[str],
        camera: Camera,
        requested: RequestedObjects,
    ) -> None:
        """Read messages of detections of one image; of an object that several show the first one counts."""
        for detected in messages:
            known = requested.known()
            shown = self.resolved(detected.names)
            # Of a message without a name that is known, the reader tells what is wrong with it.
            if shown <= known and shown:
                continue
            found = RequestedObjects()
            self._read(self._reader, detected.message, wanted, camera, found)
            requested.detections += [d for d in found.detections if d.class_id not in known]
            requested.missing += [m for m in found.missing if m.class_id not in known]
            requested.remarks += found.remarks

    def _read_older(
        self,
        wanted: Sequence[str],
        stamp_ns: int,
        camera: Camera,
        max_age_s: float,
        requested: RequestedObjects,
    ) -> None:
        """Read the newest detections of each object that has none of the image, unless they are too old."""
        known = requested.known()
        for object_id, detected in self._newest_of_objects(wanted).items():
            if object_id in known:
                continue
            age_s = self._newest.age_s(detected, stamp_ns)
            if age_s > max_age_s:
                requested.missing.append(missing(object_id, OLD.format(object_id, age_s, max_age_s)))
            else:
                self._read(self._reader, detected.message, [object_id], camera, requested)
                requested.ages[object_id] = age_s

    def _newest_of_objects(self, wanted: Sequence[str]) -> dict[str, Detected]:
        """Return the newest message that shows each object."""
        found: dict[str, Detected] = {}
        for name, detected in self._newest.by_class().items():
            object_id = self._object(name)
            if object_id is None or (wanted and object_id not in wanted):
                continue
            if object_id not in found or found[object_id].came_s < detected.came_s:
                found[object_id] = detected
        return found

    def _read(
        self,
        reader: DetectionReader,
        message,
        wanted: Sequence[str],
        camera: Camera,
        requested: RequestedObjects,
    ) -> None:
        """Read the detections of a message, of the objects that are wanted (none named: all)."""
        reader.use(self._library())
        reader.renumber(self._tracked_boxes())
        detections, refused = reader.read(message, camera.width, camera.height, MAX_READ, only=wanted)
        requested.detections += detections
        for sentence in refused:
            object_id, _, reason = sentence.partition(": ")
            requested.missing.append(missing(object_id, reason))
        requested.remarks += self._remarks.take()

    def _no_detection(self, name: str) -> str:
        """Return the sentence on an object of which no detection has come; it names those that have."""
        others = ", ".join(sorted(self._newest.by_class()))
        return NO_DETECTION.format(name, OTHERS.format(shortened(others, 200)) if others else "")

    def _tell_missing(self, wanted: Sequence[str], requested: RequestedObjects, sentence: str) -> None:
        known = requested.known()
        requested.missing += [missing(n, sentence.replace("{}", n)) for n in wanted if n not in known]

    def onboarding(self, names: Sequence[str]) -> str:
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


def _limit(requested: RequestedObjects, most: int) -> None:
    """Keep the `most` detections of the best scores; say of each other one that it is left out."""
    ranked = sorted(requested.detections, key=lambda d: -d.score)
    requested.detections = ranked[:most]
    requested.missing += [
        ObjectWithoutPose(class_id=d.class_id, instance=d.instance, reason=OVER_LIMIT.format(most))
        for d in ranked[most:]
    ]


def missing(object_id: str, reason: str) -> ObjectWithoutPose:
    """Return the message on an object that has no detection to be estimated."""
    return ObjectWithoutPose(class_id=object_id, instance=-1, reason=reason)
