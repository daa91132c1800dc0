"""Test the networks as CUDA graphs: how batches are filled up and divided, and on a GPU that poses agree."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from vpog_core.evaluation.speed_scene import FRAME_SECONDS, SpeedScene
from vpog_core.geometry.se3 import rotation_angle
from vpog_core.inference import cuda_graphs
from vpog_core.inference.cuda_graphs import (
    SIZES,
    WARM_UP_SIZES,
    GraphedModel,
    GraphedRefiner,
    GraphedStep,
)
from vpog_core.inference.estimator import PoseEstimator
from vpog_core.inference.networks import Networks
from vpog_core.inference.tracking import Tracker
from vpog_core.models.export import example_pairs
from vpog_core.objects.mesh import save_meshes
from vpog_core.types import VPOGError

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
CROPS, TEMPLATES = 3, 4


class FixedShapes:
    """Stands for a recorder where there is no GPU: what it makes runs the step for one size alone."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, step, inputs, bfloat16):
        self.sizes.append(len(inputs[0]))
        memory = tuple(each.clone() for each in inputs)

        def run(given):
            rows = len(given[0])
            for static, each in zip(memory, given, strict=True):
                static[:rows] = each
            return tuple(out[:rows].clone() for out in step(*memory))

        return run


def double_and_sum(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return 2 * a, a.sum(dim=1) + b


@pytest.mark.parametrize("rows", [1, 3, 64, 70, 150])
def test_any_number_of_rows_is_answered_row_by_row(rows):
    a, b = torch.randn(rows, 5), torch.randn(rows)
    step = GraphedStep(double_and_sum, False, FixedShapes())
    for found, expected in zip(step(a, b), double_and_sum(a, b), strict=True):
        assert torch.equal(found, expected)


def test_a_graph_is_recorded_once_for_each_size():
    recorder = FixedShapes()
    step = GraphedStep(double_and_sum, False, recorder)
    for rows in (3, 4, 70, 6, 3, 7, 130):
        step(torch.randn(rows, 5), torch.randn(rows))
    # 70 rows are 64 and 6, 130 are 64, 64 and 2.
    assert recorder.sizes == [4, 64, 8, 2]
    assert set(recorder.sizes) <= set(SIZES)


def test_two_threads_read_what_each_has_asked_for():
    """The node estimates poses in one thread, and onboards objects in another."""

    def slow(a: torch.Tensor) -> tuple[torch.Tensor]:
        time.sleep(0.002)  # As long as another thread needs to fill in its own rows.
        return (2 * a,)

    step, found = GraphedStep(slow, False, FixedShapes()), {}

    def ask(number: int) -> None:
        given = torch.full((3, 4), float(number))
        found[number] = all(torch.equal(step(given)[0], 2 * given) for _ in range(20))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == dict.fromkeys(range(3), True)


def test_other_shapes_and_types_have_graphs_of_their_own():
    recorder = FixedShapes()
    step = GraphedStep(lambda a: (a + 1,), False, recorder)
    assert step(torch.zeros(2, 3))[0].shape == (2, 3)
    assert step(torch.zeros(2, 4))[0].shape == (2, 4)
    assert step(torch.zeros(2, 4, dtype=torch.long))[0].dtype == torch.long
    assert recorder.sizes == [2, 2, 2]


def test_all_steps_go_through_graphs_of_the_sizes_that_are_warmed_up(monkeypatch):
    recorders = [FixedShapes() for _ in range(4)]
    monkeypatch.setattr(cuda_graphs, "GraphRecorder", iter(recorders).__next__)
    own = Networks.load(device="cpu", precision="float32")
    graphed = replace(own, model=GraphedModel(own.model), refiner=GraphedRefiner(own.refiner))
    graphed.warm_up()
    assert [recorder.sizes for recorder in recorders] == [list(SIZES), *[list(WARM_UP_SIZES)] * 3]
    expected = all_steps(own)
    for name, value in all_steps(graphed).items():
        # Float32 sums in another order: other numbers of rows are computed together.
        torch.testing.assert_close(value, expected[name], atol=2e-3, rtol=1e-3)
    assert sum(len(recorder.sizes) for recorder in recorders) == len(SIZES) + 3 * len(WARM_UP_SIZES)


def test_a_gpu_without_room_for_the_graphs_is_refused_in_a_sentence(monkeypatch):
    def full(model) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(GraphedModel, "warm_up", full)
    loaded = Networks.load(device="cpu")
    networks = replace(loaded, model=GraphedModel(loaded.model))
    with pytest.raises(VPOGError, match=r"does not hold the networks' CUDA graphs .* set device to 'cpu'"):
        networks.warm_up()


@pytest.fixture(scope="module")
def networks() -> Iterator[dict[str, Networks]]:
    """Load the networks that ship in float32 on the CPU and on the GPU, and in the GPU's own precision."""
    # Convolutions would round to TF32's ten bits; the graphs recorded here do not.
    torch.backends.cudnn.allow_tf32 = False
    loaded = {
        "cpu": Networks.load(device="cpu", precision="float32"),
        "eager": Networks.load(device="cuda", precision="float32", cuda_graphs=False),
        "graphs": Networks.load(device="cuda", precision="float32"),
        "bfloat16": Networks.load(device="cuda"),
    }
    loaded["graphs"].warm_up()
    yield loaded
    torch.backends.cudnn.allow_tf32 = True


def all_steps(networks: Networks) -> dict[str, torch.Tensor]:
    """Run each step of the networks on random images; returns what they compute, on the CPU."""
    model, refiner = networks.model, networks.refiner
    device, generator = model.mean.device, torch.Generator().manual_seed(4)

    def images(count: int, size: int) -> torch.Tensor:
        return torch.randint(0, 256, (count, 3, size, size), generator=generator).byte().to(device)

    with torch.inference_mode():
        encoded = model.encode(images(CROPS * (1 + TEMPLATES), model.config.image_size))
        crops = encoded[:CROPS]
        templates = encoded[CROPS:].map(lambda v: v.unflatten(0, (CROPS, TEMPLATES)))
        directions = torch.tensor([0.0, 0.0, -1.0], device=device).repeat(CROPS, TEMPLATES, 1)
        matches = model.match(crops, templates, directions)
        index = torch.arange(model.config.num_patches, device=device).repeat(CROPS, TEMPLATES, 1)
        flow = model.flow(matches, index)
        _, _, normals, mask = example_pairs(refiner, CROPS)
        size = refiner.config.image_size
        compared = refiner(images(CROPS, size), images(CROPS, size), normals, ~mask)
    found = {
        "tokens": encoded.tokens, "stem": encoded.stem, "logits": matches.logits,
        "flow": flow.flow, "confidence": flow.confidence,
        **{f"compared {name}": value for name, value in vars(compared).items()},
    }  # fmt: skip
    return {name: value.float().cpu() for name, value in found.items()}


@on_gpu
@pytest.mark.parametrize("other", ["eager", "cpu"])
def test_graphs_compute_what_the_networks_compute(networks, other):
    found, expected = all_steps(networks["graphs"]), all_steps(networks[other])
    errors = {name: float((v - expected[name]).norm() / expected[name].norm()) for name, v in found.items()}
    # Sums of float32 in another order, through a dozen layers.
    assert max(errors.values()) < 1e-3, errors


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> SpeedScene:
    folder = tmp_path_factory.mktemp("meshes")
    return SpeedScene(3, folder)


@pytest.fixture(scope="module")
def estimators(networks, scene, tmp_path_factory) -> dict[str, PoseEstimator]:
    folder = tmp_path_factory.mktemp("library")
    save_meshes(scene.meshes, folder)
    chosen = {name: networks[name] for name in ("cpu", "bfloat16")}
    return {name: PoseEstimator(folder, one, cache_dir=folder / name) for name, one in chosen.items()}


def errors(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Return the rotation (degrees) and the position (of the distance) between two poses."""
    shift = np.linalg.norm(one[:3, 3] - other[:3, 3]) / np.linalg.norm(other[:3, 3])
    return np.degrees(rotation_angle(one[:3, :3], other[:3, :3])), shift


@on_gpu
def test_poses_agree_with_those_of_a_cpu(estimators, scene):
    found_errors = []
    for index in range(4):
        image, detections = scene.image(index, 3)
        found, expected = (e.estimate(image, scene.camera, detections) for e in estimators.values())
        for one, other in zip(found, expected, strict=True):
            assert one.T_cam_obj is not None
            assert one.reason == ""
            found_errors.append(errors(one.T_cam_obj, other.T_cam_obj))
    # Where two poses score alike, rounding decides which is the best.
    agree = [degrees < 2.0 and shift < 0.02 for degrees, shift in found_errors]
    assert sum(agree) >= 0.9 * len(agree), found_errors


@on_gpu
def test_threads_share_the_detections_of_an_estimator_that_is_not_warm(scene, tmp_path_factory):
    """Their first estimate records the graphs; none of them may wait for the device meanwhile."""
    folder = tmp_path_factory.mktemp("cold")
    save_meshes(scene.meshes, folder)
    image, detections = scene.image(0, 4)
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        found = PoseEstimator(folder, Networks.load(device="cuda")).estimate(image, scene.camera, detections)
    finally:
        torch.set_num_threads(threads)
    assert [estimate.reason for estimate in found] == [""] * 4


@on_gpu
def test_objects_are_tracked(estimators, scene):
    trackers = {name: Tracker(estimators[name]) for name in ("bfloat16", "cpu")}
    for index in range(5):
        image, detections = scene.image(index, 3)
        time = index * FRAME_SECONDS
        found, expected = (t.estimate(image, scene.camera, detections, time=time) for t in trackers.values())
        for one, other in zip(found, expected, strict=True):
            degrees, shift = errors(one.T_cam_obj, other.T_cam_obj)
            assert degrees < 4.0
            assert shift < 0.03


@on_gpu
def test_an_estimate_needs_little_memory(estimators, scene):
    torch.cuda.reset_peak_memory_stats()
    image, detections = scene.image(0, 6)
    estimators["bfloat16"].estimate(image, scene.camera, detections)
    assert torch.cuda.max_memory_allocated() < 1.5 * 2**30
