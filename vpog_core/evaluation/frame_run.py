"""Run one frame of a benchmark through the estimator, the classical method and the oracles."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from vpog_core.evaluation.baseline_sift import SiftBaseline
from vpog_core.evaluation.benchmark import Benchmark, BenchmarkFrame, FrameKey
from vpog_core.evaluation.bop_benchmark import BopBenchmark
from vpog_core.evaluation.detections import open_detections, truth_of
from vpog_core.evaluation.errors import Estimate, frame_errors
from vpog_core.evaluation.heldout import CROPS, OBJECTS, SPLITS, HeldOut
from vpog_core.evaluation.heldout_image import LEVELS
from vpog_core.evaluation.oracles import STAGES, run_oracles
from vpog_core.inference.estimator import PoseEstimator
from vpog_core.inference.networks import DEFAULT_REFINER, DEFAULT_WEIGHTS
from vpog_core.inference.options import DEFAULT_OPTIONS, Options
from vpog_core.objects.library import ObjectLibrary
from vpog_core.types import Detection, Estimates, VPOGError

VPOG, SIFT = "vpog", "sift"


@dataclass(frozen=True)
class EvaluationConfig:
    """Holds everything that determines the results of an evaluation; sent to worker processes.

    Attributes:
        dataset, split: a BOP dataset's folder and split; no dataset means the held-out benchmark.
        objects, crops, levels, splits: how much of the held-out benchmark, see `HeldOut`.
        limit: how many frames of a dataset, None for all; sensor: whose images, where there are several.
        detections: `gt` or a file.
        methods: of VPOG and SIFT; stages: ask the oracles, too.
        weights, refiner_weights: files, or None for those that ship; device, options: the estimator's.
    """

    dataset: str | None = None
    split: str = "test"
    objects: int = OBJECTS
    crops: int = CROPS
    levels: tuple[str, ...] = tuple(LEVELS.values())
    splits: tuple[str, ...] = SPLITS
    limit: int | None = None
    sensor: str = ""
    detections: str = "gt"
    methods: tuple[str, ...] = (VPOG,)
    stages: bool = True
    weights: str | None = None
    refiner_weights: str | None = None
    device: str = "auto"
    options: Options = DEFAULT_OPTIONS

    @property
    def weights_files(self) -> tuple[Path, Path]:
        """The weights files of the network and of the refiner."""
        return Path(self.weights or DEFAULT_WEIGHTS), Path(self.refiner_weights or DEFAULT_REFINER)

    def benchmark(self) -> Benchmark:
        """Make the benchmark."""
        if self.dataset is None:
            return HeldOut(self.objects, self.crops, self.levels, self.splits)
        return BopBenchmark(self.dataset, self.split, self.limit, self.sensor)

    def with_absolute_paths(self) -> EvaluationConfig:
        """Return the same config for processes that work in another folder."""
        named = ["dataset", "weights", "refiner_weights"] + ["detections"] * (self.detections != "gt")
        paths = {name: str(Path(value).resolve()) for name in named if (value := getattr(self, name))}
        return replace(self, **paths)

    def estimator(self, library: Path) -> PoseEstimator:
        """Return the estimator that is evaluated."""
        return PoseEstimator(
            library,
            self.weights,
            refiner_weights=self.refiner_weights,
            device=self.device,
            **asdict(self.options),
        )


class FrameRunner:
    """Runs frames of an evaluation.

    Args:
        library: a folder the benchmark wrote its objects into.
    """

    def __init__(self, config: EvaluationConfig, library: Path) -> None:
        self.config, self.benchmark = config, config.benchmark()
        self.detections = open_detections(config.detections, self.benchmark)
        self.methods: dict[str, PoseEstimator | SiftBaseline] = {}
        if VPOG in config.methods:
            self.methods[VPOG] = config.estimator(library)
        if SIFT in config.methods:
            self.methods[SIFT] = SiftBaseline(ObjectLibrary(library))

    def onboard(self, obj_id: int) -> None:
        """Onboard an object for all methods."""
        for method in self.methods.values():
            method.onboard(self.benchmark.library_id(obj_id))

    def run(self, key: FrameKey) -> dict:
        """Run a frame and return plain values: estimates, errors, seconds, oracles."""
        frame = self.benchmark.frame(key)
        detected = [
            (obj_id, replace(d, class_id=self.benchmark.library_id(obj_id)))
            for obj_id, d in self.detections(frame)
        ]
        for obj_id in {obj_id for obj_id, _ in detected}:
            self.onboard(obj_id)
        record = {"key": list(key), "detections": len(detected), "methods": {}}
        for name, method in self.methods.items():
            record["methods"][name] = self._estimate(method, frame, detected)
        if self.config.stages and VPOG in self.methods:
            record["stages"] = self._stages(frame, detected)
        return record

    def _estimate(self, method, frame: BenchmarkFrame, detected: list[tuple[int, Detection]]) -> dict:
        begin = time.perf_counter()
        found: Estimates = method.estimate(frame.image, frame.camera, [d for _, d in detected])
        seconds = time.perf_counter() - begin
        estimates = [
            Estimate(obj_id, e.T_cam_obj, e.score, seconds)
            for (obj_id, _), e in zip(detected, found, strict=True)
            if e.T_cam_obj is not None
        ]
        return {
            "estimates": [{**asdict(e), "T_cam_obj": e.T_cam_obj.tolist()} for e in estimates],
            "errors": self._errors(frame, estimates, self.benchmark.has_depth),
            "reasons": [e.reason for e in found if e.T_cam_obj is None],
            "seconds": seconds,
            "timings": found.timings,
        }

    def _stages(self, frame: BenchmarkFrame, detected: list[tuple[int, Detection]]) -> dict:
        angles: list[list[float]] = []
        visible: list[float] = []
        estimates: dict[str, list[Estimate]] = {name: [] for name in STAGES}
        for obj_id, detection in detected:
            truth = truth_of(frame, obj_id, detection)
            if truth is None:
                continue
            try:
                target = self.benchmark.object(obj_id)
                oracles = run_oracles(self.methods[VPOG], frame, detection, truth, target)
            except VPOGError:
                continue
            angles.append(oracles.angles)
            visible.append(truth.visible_fraction)
            for name, pose in oracles.poses.items():
                if pose is not None:
                    estimates[name].append(Estimate(obj_id, np.asarray(pose), 1.0))
        errors = {name: self._errors(frame, found, with_vsd=False) for name, found in estimates.items()}
        return {"angles": angles, "visible": visible, "errors": errors}

    def _errors(self, frame: BenchmarkFrame, estimates: list[Estimate], with_vsd: bool) -> list[dict]:
        objects = {obj_id: self.benchmark.object(obj_id) for obj_id in frame.targets}
        return [target.to_json() for target in frame_errors(frame, objects, estimates, with_vsd)]
