"""Time the estimator on a synthetic scene: by stage, per detection and per frame."""

from __future__ import annotations

import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch

from vpog_core.evaluation.speed_comparison import compare_variants
from vpog_core.evaluation.speed_floor import MachineRates, StepCost, measure_rates, measure_steps
from vpog_core.evaluation.speed_scene import FRAME_SECONDS, SpeedScene
from vpog_core.inference.estimator import PoseEstimator
from vpog_core.inference.tracking import Tracker
from vpog_core.models.config import PRESETS
from vpog_core.models.precision import choose_precision, uses_bfloat16
from vpog_core.models.refiner import RefinerNet
from vpog_core.models.refiner_config import REFINER_PRESETS
from vpog_core.models.vpog_model import VPOGModel
from vpog_core.threads import usable_cores
from vpog_core.types import VPOGError
from vpog_core.visualization.overlay import PoseDrawing, draw_poses

TRACKED = "tracked"


@dataclass(frozen=True)
class SpeedConfig:
    """Set what is timed.

    Attributes:
        detections: numbers of detections in an image; frames: images for each, after the first.
        objects: in the scene; networks: presets of which the steps are timed: `tiny`, `small`.
        device: `cpu` or `cuda`; precision: see `precision.PRECISIONS`.
        comparisons: also time the estimator without its optimisations, and the classical method.
        weights: a file, or None for the one that ships.
    """

    detections: tuple[int, ...] = (1, 4, 16)
    frames: int = 10
    objects: int = 3
    networks: tuple[str, ...] = ("tiny", "small")
    device: str = "cpu"
    precision: str = "auto"
    comparisons: bool = True
    weights: str | None = None

    @property
    def comparison_detections(self) -> int:
        """The number of detections in the images of comparisons: several, so that they are batched."""
        return max(2, min(4, max(self.detections)))


@dataclass
class FrameTimes:
    """Hold the times of images with a number of detections, milliseconds.

    Attributes:
        name: `new` or TRACKED; detections: in each image; first: of the first image.
        median, p95: of the further images; stages: medians of each stage.
    """

    name: str
    detections: int
    first: float
    median: float
    p95: float
    stages: dict[str, float]


@dataclass
class SpeedResult:
    """Hold the result of a run.

    Attributes:
        machine: what it ran on; rates: what that does at best.
        onboarding: seconds of one object; frames, steps: times.
        ratios: time without an optimisation, or of another method, over ours; medians of one run.
        memory_mib: the process' peak; gpu_memory_mib: the peak of CUDA's tensors, or None.
    """

    machine: dict[str, str | int]
    rates: MachineRates
    onboarding: float
    frames: list[FrameTimes] = field(default_factory=list)
    steps: list[StepCost] = field(default_factory=list)
    ratios: dict[str, float] = field(default_factory=dict)
    memory_mib: float = 0.0
    gpu_memory_mib: float | None = None


ReportProgress = Callable[[str], None]


def run_speed(config: SpeedConfig, report: ReportProgress = lambda text: None) -> SpeedResult:
    """Run all measurements of a configuration.

    Args:
        report: called with what is timed next.

    Raises:
        VPOGError: a device that is not there, a network or precision that is not known.
    """
    unknown = [
        n for n in config.networks if f"vpog-{n}" not in PRESETS or f"refiner-{n}" not in REFINER_PRESETS
    ]
    if unknown:
        raise VPOGError(f"There is no network '{unknown[0]}' to time: use tiny or small.")
    with tempfile.TemporaryDirectory(prefix="vpog_bench_") as folder:
        library = Path(folder) / "meshes"
        library.mkdir()
        scene = SpeedScene(config.objects, library)
        estimator = PoseEstimator(
            library,
            config.weights,
            device=config.device,
            cache_dir=Path(folder) / "cache",
            precision=config.precision,
        )
        report("onboarding")
        begin = time.perf_counter()
        estimator.onboard()
        onboarding = (time.perf_counter() - begin) / config.objects
        bfloat16 = uses_bfloat16(estimator.model)
        result = SpeedResult(_machine(config, bfloat16), measure_rates(config.device, bfloat16), onboarding)
        for count in config.detections:
            report(f"{count} new detections")
            result.frames.append(_time_new(estimator, scene, count, config.frames))
        report("tracked objects")
        result.frames.append(_time_tracked(estimator, scene, config.objects, config.frames))
        if config.comparisons:
            report("comparisons")
            result.ratios = compare_variants(
                estimator, scene, config.comparison_detections, config.frames, config.precision
            )
    for name in config.networks:
        report(f"steps of {name}")
        result.steps += _time_steps(name, config, result.rates)
    result.memory_mib = _peak_memory_mib()
    if config.device.startswith("cuda"):
        result.gpu_memory_mib = torch.cuda.max_memory_allocated(config.device) / 2**20
    return result


def _time_new(estimator: PoseEstimator, scene: SpeedScene, count: int, frames: int) -> FrameTimes:
    """Time images whose detections are all searched for among all views."""
    for name in scene.names:
        estimator.onboarded(name).clear_clusters()
    return _time_frames(
        "new", scene, count, frames, lambda image, found, _: estimator.estimate(image, scene.camera, found)
    )


def _time_tracked(estimator: PoseEstimator, scene: SpeedScene, count: int, frames: int) -> FrameTimes:
    """Time images of a sequence in which each object is tracked from the image before."""
    tracker = Tracker(estimator)
    return _time_frames(
        TRACKED,
        scene,
        count,
        frames,
        lambda image, found, n: tracker.estimate(image, scene.camera, found, time=n * FRAME_SECONDS),
    )


def _time_frames(name: str, scene: SpeedScene, count: int, frames: int, estimate: Callable) -> FrameTimes:
    totals: list[float] = []
    stages: dict[str, list[float]] = {}
    for n in range(frames + 1):
        image, detections = scene.image(n, count)
        data = cv2.imencode(".jpg", image)[1]
        times: dict[str, float] = {}
        begin = time.perf_counter()
        image = cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        times["decode"] = time.perf_counter() - begin
        estimates = estimate(image, detections, n)
        work = time.perf_counter()
        _draw(scene, image, estimates)
        times |= {**estimates.timings, "draw": time.perf_counter() - work}
        totals.append(work - begin)
        if n:
            for stage, seconds in times.items():
                stages.setdefault(stage, []).append(seconds)
    further = 1e3 * np.array(totals[1:])
    medians = {stage: 1e3 * float(np.median(seconds)) for stage, seconds in stages.items()}
    p95 = float(np.quantile(further, 0.95))
    return FrameTimes(name, count, 1e3 * totals[0], float(np.median(further)), p95, medians)


def _draw(scene: SpeedScene, image: np.ndarray, estimates: Sequence) -> None:
    meshes = dict(zip(scene.names, scene.meshes, strict=True))
    poses = [(e.T_cam_obj, meshes[e.class_id]) for e in estimates if e.T_cam_obj is not None]
    draw_poses(image, scene.camera, [PoseDrawing(T, mesh.vertices, mesh.faces) for T, mesh in poses])


def _time_steps(name: str, config: SpeedConfig, rates: MachineRates) -> list[StepCost]:
    """Time a preset's steps with random weights, which take the same time as trained ones."""
    model = VPOGModel(PRESETS[f"vpog-{name}"]).eval().to(config.device)
    refiner = RefinerNet(REFINER_PRESETS[f"refiner-{name}"]).eval().to(config.device)
    for network in (model, refiner):
        choose_precision(network, config.precision)
    found = []
    for batch in config.detections:
        found += measure_steps(name, model, refiner, batch, rates, config.frames)
    return found


def _machine(config: SpeedConfig, bfloat16: bool) -> dict[str, str | int]:
    device = torch.cuda.get_device_name(config.device) if config.device.startswith("cuda") else _processor()
    return {
        "device": device,
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "precision": "bfloat16" if bfloat16 else "float32",
        "torch": torch.__version__,
    }


def _processor() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _peak_memory_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
