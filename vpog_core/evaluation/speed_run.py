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
from vpog_core.evaluation.speed_config import SpeedConfig
from vpog_core.evaluation.speed_floor import MachineRates, StepCost, measure_rates, measure_steps
from vpog_core.evaluation.speed_networks import check_presets, load_networks, other_networks, preset_networks
from vpog_core.evaluation.speed_scene import FRAME_SECONDS, SpeedScene
from vpog_core.inference.estimator import PoseEstimator
from vpog_core.inference.tracking import Tracker
from vpog_core.models.precision import uses_bfloat16
from vpog_core.threads import usable_cores
from vpog_core.visualization.overlay import PoseDrawing, draw_poses

TRACKED = "tracked"


@dataclass
class FrameTimes:
    """Holds the times of images with a number of detections, milliseconds.

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
    """Holds the result of a run.

    Attributes:
        machine: what it ran on; rates: what that does at best.
        onboarding: seconds of one object; frames, steps: times.
        ratios: time without an optimisation, or of another method, over ours; medians of one run.
        memory_mib: the process' peak; gpu_memory_mib: the peak of CUDA's tensors while
            images are estimated, or None.
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
        VPOGError: a device that is not there, a network or precision that is not known, or an engine that is
            not installed or does not support the settings.
    """
    check_presets(config.networks)
    with tempfile.TemporaryDirectory(prefix="vpog_bench_") as temporary:
        folder = Path(temporary)
        result = _time_estimator(config, folder, report)
        for name in config.networks:
            report(f"steps of {name}")
            result.steps += _time_steps(name, config, result.rates, folder)
    result.memory_mib = _peak_memory_mib()
    return result


def _time_estimator(config: SpeedConfig, folder: Path, report: ReportProgress) -> SpeedResult:
    """Time an estimator in a scene whose meshes and templates are written to a folder."""
    library = folder / "meshes"
    library.mkdir()
    scene = SpeedScene(config.objects, library)
    networks = load_networks(config)
    estimator = PoseEstimator(library, networks, cache_dir=folder / "cache")
    # Onboard all objects.
    report("onboarding")
    begin = time.perf_counter()
    estimator.onboard()
    onboarding = (time.perf_counter() - begin) / config.objects
    estimator.warm_up()
    bfloat16 = uses_bfloat16(networks.model)
    result = SpeedResult(_machine(config, bfloat16), measure_rates(config.device, bfloat16), onboarding)
    # Time images of new objects and of tracked ones; the GPU memory is theirs.
    if config.device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(config.device)
    for count in config.detections:
        report(f"{count} new detections")
        result.frames.append(_time_new(estimator, scene, count, config.frames))
    report("tracked objects")
    result.frames.append(_time_tracked(estimator, scene, config.objects, config.frames))
    if config.device.startswith("cuda"):
        result.gpu_memory_mib = torch.cuda.max_memory_allocated(config.device) / 2**20
    # Time the same images in other ways.
    if config.comparisons:
        report("comparisons")
        others = other_networks(config, networks)
        result.ratios = compare_variants(
            estimator, scene, config.comparison_detections, config.frames, others
        )
    return result


def _time_new(estimator: PoseEstimator, scene: SpeedScene, count: int, frames: int) -> FrameTimes:
    """Time images whose detections are all searched for among all views."""
    for name in scene.meshes:
        estimator.onboarded(name).clear_clusters()
    return time_frames(
        "new", scene, count, frames, lambda image, found, _: estimator.estimate(image, scene.camera, found)
    )


def _time_tracked(estimator: PoseEstimator, scene: SpeedScene, count: int, frames: int) -> FrameTimes:
    """Time images of a sequence in which each object is tracked from the image before."""
    tracker = Tracker(estimator)
    return time_frames(
        TRACKED,
        scene,
        count,
        frames,
        lambda image, found, n: tracker.estimate(image, scene.camera, found, time=n * FRAME_SECONDS),
    )


def time_frames(name: str, scene: SpeedScene, count: int, frames: int, estimate: Callable) -> FrameTimes:
    """Time images of a scene, one more than `frames`: the first is counted apart.

    Args:
        name, count: see `FrameTimes`; estimate: finds poses in (image, detections, number of the image).
    """
    totals: list[float] = []
    stages: dict[str, list[float]] = {}
    for n in range(frames + 1):
        image, detections = scene.image(n, count)
        data = _jpeg(image)
        times: dict[str, float] = {}
        begin = time.perf_counter()
        image = _decoded(data)
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


def _jpeg(image: np.ndarray) -> np.ndarray:
    """Encode an image [H, W, 3] uint8 RGB as JPEG, [N] uint8."""
    return cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1]


def _decoded(data: np.ndarray) -> np.ndarray:
    """Decode a JPEG [N] uint8 to an image [H, W, 3] uint8 RGB."""
    return cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def _draw(scene: SpeedScene, image: np.ndarray, estimates: Sequence) -> None:
    poses = [(e.T_cam_obj, scene.meshes[e.class_id]) for e in estimates if e.T_cam_obj is not None]
    draw_poses(image, scene.camera, [PoseDrawing(T, mesh.vertices, mesh.faces) for T, mesh in poses])


def _time_steps(name: str, config: SpeedConfig, rates: MachineRates, folder: Path) -> list[StepCost]:
    """Time the steps of a preset."""
    model, refiner = preset_networks(name, config, folder)
    found = []
    for batch in config.detections:
        found += measure_steps(name, model, refiner, batch, rates, config.frames)
    return found


def _machine(config: SpeedConfig, bfloat16: bool) -> dict[str, str | int]:
    device = torch.cuda.get_device_name(config.device) if config.device.startswith("cuda") else _processor()
    machine = {
        "device": device,
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "engine": config.engine,
        "precision": "bfloat16" if bfloat16 else "float32",
        "torch": torch.__version__,
    }
    if config.engine == "onnxruntime":
        import onnxruntime

        machine["onnxruntime"] = onnxruntime.__version__
    return machine


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
