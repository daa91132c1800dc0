"""Replay a bag: find its frames, estimate their poses, write the results."""

from __future__ import annotations

import dataclasses
import sys
import time
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

import vpog_core
from vpog_core.inference.estimator import PoseEstimator
from vpog_core.inference.tracking import Tracker, TrackerSettings
from vpog_core.replay.bag_reader import Bag
from vpog_core.replay.frame_reader import FrameInputs, FrameReader, OnceNotices
from vpog_core.replay.journal import FrameResult, Journal
from vpog_core.replay.pairing import Pairs, RecordedFrame, find_pairs, recorded_frames
from vpog_core.replay.recorded_plane import RecordedPlane
from vpog_core.replay.results import ResultsWriter, write_table
from vpog_core.replay.settings import ReplaySettings
from vpog_core.replay.topics import Topics, choose_topics
from vpog_core.setting import settings_of
from vpog_core.types import Estimates, VPOGError
from vpog_core.visualization.flow_image import draw_match


@dataclasses.dataclass(frozen=True)
class Summary:
    """Holds the numbers of a replay.

    Attributes:
        frames: images that were processed; failed: those that could not be used.
        poses: that are published; unsure: under min_score; none: detections without a pose.
        seconds: that estimating a frame took, the median; 0 where there was none.
    """

    frames: int
    failed: int
    poses: int
    unsure: int
    none: int
    seconds: float


class Prepared(NamedTuple):
    """Holds what a replay finds in a bag before anything is estimated."""

    topics: Topics
    pairs: Pairs
    plane: RecordedPlane

    @property
    def left_out(self) -> list[str]:
        """The sentences on messages that cannot be read and are left out."""
        return [*self.plane.left_out, *self.pairs.unreadable.sentences]


class Replay:
    """Runs the replay of one bag.

    Args:
        estimator: with its objects onboarded.

    Attributes:
        topics: those of the bag that are used; pairs: its frames; journal: the results so far.
    """

    def __init__(
        self,
        settings: ReplaySettings,
        estimator: PoseEstimator,
        bag: Bag,
        prepared: Prepared,
        journal: Journal,
    ) -> None:
        """Set up a replay.

        Args:
            prepared: what `prepare` has found; journal: of `plan_of` these.

        Raises:
            OSError: the journal cannot be written.
        """
        self.settings, self._estimator, self._bag = settings, estimator, bag
        self._notices = OnceNotices()
        self.topics, self.pairs, self._plane = prepared
        self.journal = journal
        self._go_back_to_detections()

    @staticmethod
    def prepare(settings: ReplaySettings, bag: Bag, library) -> Prepared:
        """Find a bag's topics and frames, and the plane that objects of a library stand on.

        Raises:
            VPOGError: topics are missing or several fit, nothing can be paired, the plane's settings name an
                object or a frame that is not there, or the bag is broken.
        """
        topics = choose_topics(bag, settings.image, settings.camera_info, settings.detections)
        plane = RecordedPlane(settings.constraints, library, bag)
        return Prepared(topics, find_pairs(bag, topics, settings.unpaired_rule), plane)

    def _go_back_to_detections(self) -> None:
        """Resume at a frame with detections, because the tracks were not stored."""
        frames, done = self.pairs.frames, len(self.journal.results)
        if done < len(frames) and frames[done][1] is None:
            self.journal.go_back_to(max(n for n in range(done) if frames[n][1] is not None))

    def run(self) -> Summary:
        """Estimate the frames that are not done yet, then write the results of all of them.

        Raises:
            VPOGError: the bag is broken inside, or the video cannot be written.
            OSError: the other results cannot be written.
        """
        self._estimate()
        self._write()
        return self._summary()

    def _frames(self, what: str, first: int):
        """Yield (frame, inputs or the VPOGError that says why there are none), with a progress bar."""
        infos, settings = self.pairs.camera_infos, self.settings
        reader = FrameReader(
            self._estimator.library,
            self._estimator.left_out,
            infos,
            settings.max_detections,
            settings.rectified,
            self._notices,
            numbered=not settings.tracking,
        )
        bar = tqdm(
            recorded_frames(self._bag, self.topics, self.pairs),
            what,
            total=len(self.pairs.frames),
            unit="frame",
            file=sys.stderr,
        )
        for frame in bar:
            try:
                inputs = reader.read(frame)
            except VPOGError as error:
                inputs = error
            # Earlier frames are read as well: instance numbers and bit depth depend on them.
            if frame.number >= first:
                yield frame, inputs

    def _estimate(self) -> None:
        done = len(self.journal.results)
        if done == len(self.pairs.frames):
            return
        rule = self.settings.unpaired_rule
        tracker = Tracker(
            self._estimator,
            TrackerSettings(without_detections=rule is not None, max_age=self.settings.max_age),
        )
        for frame, inputs in self._frames("estimating", done):
            if isinstance(inputs, VPOGError):
                self._leave_out(frame, inputs)
                continue
            if frame.detections is None and not (tracker.boxes and self._estimator.can_track):
                self.journal.add(FrameResult(frame.number, skipped=True))
                continue
            start = time.monotonic()
            try:
                estimates = self._poses(tracker, frame, inputs)
            except VPOGError as error:
                self._leave_out(frame, error)
                continue
            seconds = time.monotonic() - start
            for estimate in estimates:
                if estimate.T_cam_obj is None:
                    self._notices.log_once(
                        "no pose", f"No pose of {estimate.class_id}: {estimate.reason}", of=estimate.reason
                    )
            flow = _flow_png(estimates) if self.settings.images else b""
            self.journal.add(
                FrameResult(frame.number, list(estimates), "", inputs.refused, round(seconds, 4)), flow
            )

    def _leave_out(self, frame: RecordedFrame, error: VPOGError) -> None:
        """Print why a frame cannot be used, and keep it as its result."""
        self._notices.log_once("frame", f"A frame is left out: {error}", of=str(error))
        self.journal.add(FrameResult(frame.number, failure=str(error)))

    def _poses(self, tracker: Tracker, frame: RecordedFrame, inputs: FrameInputs) -> Estimates:
        constraints = self._plane.constraints(inputs.frame_id, frame.stamp_ns or frame.image_time_ns)
        given = inputs.image, inputs.camera, inputs.detections
        if self.settings.tracking:
            return tracker.estimate(*given, frame.time_s, constraints)
        return self._estimator.estimate(*given, constraints=constraints)

    def _write(self) -> None:
        stamps = [self.pairs.stamps[image] for image, _ in self.pairs.frames]
        fps = _frame_rate(stamps)
        library = self._estimator.library
        with ResultsWriter(self.settings, self.journal, library, fps) as results:
            for frame, inputs in self._frames("writing", 0):
                if not isinstance(inputs, VPOGError):
                    results.write(frame, inputs, self.journal.results[frame.number])
        write_table(self.settings, self.journal, stamps)

    def _summary(self) -> Summary:
        results = [result for result in self.journal.results if not result.skipped]
        estimates = [e for result in results for e in result.estimates]
        posed = sum(e.T_cam_obj is not None for e in estimates)
        published = sum(len(result.published(self.settings.min_score)) for result in results)
        seconds = [result.seconds for result in results if result.estimates]
        return Summary(
            frames=len(results),
            failed=sum(bool(result.failure) for result in results),
            poses=published,
            unsure=posed - published,
            none=len(estimates) - posed + sum(len(result.refused) for result in results),
            seconds=float(np.median(seconds)) if seconds else 0.0,
        )


def plan_of(settings: ReplaySettings, estimator: PoseEstimator, bag: Bag, prepared: Prepared) -> dict:
    """Collect what the results depend on, with names that a user understands; reads the objects' meshes."""
    library, networks, pairs = estimator.library, estimator.networks, prepared.pairs
    broken = library.broken()
    usable = [name for name in library.ids if name not in broken]
    return {
        "the version": vpog_core.__version__,
        "the bag": [str(bag.path.resolve()), pairs.images, pairs.detections, pairs.stamps[:1]],
        "the topics": dataclasses.asdict(prepared.topics),
        # Compare the names of cache files, which change with mesh and unit.
        "the objects": [library.templates_path(name, 0).stem for name in usable],
        "the weights": networks.key,
        "--precision": networks.precision,
        "--engine": networks.engine,
        "the options": dataclasses.asdict(estimator.options),
        # min_score changes which poses are published, and not the poses.
        **{
            f"--{name.replace('_', '-')}": getattr(group, name)
            for group in (settings, settings.constraints)
            for name in settings_of(type(group))
            if name != "min_score"
        },
        "--no-images": not settings.images,
    }


def _flow_png(estimates: Estimates) -> bytes:
    """Draw the matches of the objects that were searched for, below each other; b"" where there are none.

    A tracked pose is found without a match, and making one would take longer than tracking the object.
    """
    rows = [draw_match(e.match) for e in estimates if not e.tracked and e.match is not None]
    if not rows:
        return b""
    return cv2.imencode(".png", np.vstack(rows)[..., ::-1])[1].tobytes()


def _frame_rate(stamps_ns: list[int]) -> float:
    """Return the median of images per second; 10 where the stamps do not increase."""
    steps = np.diff(np.array(stamps_ns, np.int64))
    steps = steps[steps > 0]
    return 1e9 / float(np.median(steps)) if steps.size else 10.0
