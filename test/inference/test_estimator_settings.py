"""Test the parts of an estimator: settings, weights, devices, caches."""

import numpy as np
import pytest
import torch

from vpog_core.inference import networks
from vpog_core.inference.estimator import PoseEstimator
from vpog_core.inference.networks import choose_device
from vpog_core.models.checkpoint import save_weights
from vpog_core.models.vpog_model import VPOGModel

from .asking import error_of, estimate


def test_unusable_settings_are_refused(workshop, tmp_path):
    def made(**change):
        return lambda: PoseEstimator(**{**workshop, **change})

    assert "'best'" in error_of(made(mode="best"))
    assert "'tpu'" in error_of(made(device="tpu"))
    assert "none.safetensors" in error_of(made(weights=tmp_path / "none.safetensors"))
    assert "nowhere" in error_of(made(objects=tmp_path / "nowhere"))


def test_missing_default_weights_are_named(workshop, tmp_path, monkeypatch):
    monkeypatch.setattr(networks, "DEFAULT_WEIGHTS", tmp_path / "shipped.safetensors")
    assert "shipped.safetensors" in error_of(lambda: PoseEstimator(**{**workshop, "weights": None}))


def test_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == "cpu"
    for device in ("cuda", "cuda:1"):
        text = error_of(lambda device=device: choose_device(device))
        assert f"'{device}'" in text
        assert "'cpu'" in text
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(networks, "_computes_on_gpu", lambda: True)
    assert choose_device("auto") == "cuda"
    assert "CUDA_VISIBLE_DEVICES" in error_of(lambda: choose_device("cuda:1"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a torch without kernels for the GPU")
def test_a_gpu_that_torch_cannot_compute_on_is_not_chosen(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == "cpu"
    assert "The GPU cannot be used, so the CPU is" in caplog.text
    assert choose_device("cuda") == "cuda"


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
    ids=["torch", "cuBLAS"],
)
def test_a_gpu_without_room_for_the_networks_is_refused_in_a_sentence(monkeypatch, error):
    def full(*_):
        raise error

    monkeypatch.setattr(networks, "load_refiner", full)
    assert "does not hold the networks: end other programs" in error_of(
        lambda: networks.Networks.load(device="cpu")
    )


def test_descriptors_come_from_the_cache_when_these_weights_made_them(
    estimator, workshop, small_model, tmp_path
):
    steps = []
    again = PoseEstimator(**workshop, device="cpu")
    again.onboard(progress=lambda done, total, name: steps.append((done, total, name)))
    assert steps == []
    here, there = (e.onboarded("thing").descriptors for e in (estimator, again))
    # Kept as float16.
    torch.testing.assert_close(there, here, atol=1e-3, rtol=0)


def test_other_weights_describe_anew(workshop, small_model, tmp_path):
    torch.manual_seed(1)
    save_weights(VPOGModel(small_model.config), tmp_path / "other.safetensors")
    steps = []
    other = PoseEstimator(**{**workshop, "weights": tmp_path / "other.safetensors"}, device="cpu")
    other.onboard("gadget", progress=lambda done, total, name: steps.append((done, total, name)))
    steps = [step for step in steps if step[2] == "thing (describing views)"]
    done = [step[0] for step in steps]
    assert done == sorted(done)
    assert done[0] < 162
    assert steps[-1] == (162, 162, "thing (describing views)")
    assert other.object_ids == ["thing"]
    assert other.device == "cpu"


def test_bfloat16_changes_answers_by_its_rounding_alone(workshop, picture):
    """The estimator runs as on a processor that computes in bfloat16."""
    exact, rough = (
        estimate(PoseEstimator(**workshop, device="cpu", precision=chosen), picture).match
        for chosen in ("float32", "bfloat16")
    )
    error = np.abs(rough.confidence - exact.confidence).mean()
    # 8 bits are 0.4 %, and some ten roundings follow one another.
    assert 0 < error < 0.02


@pytest.mark.parametrize(
    "change",
    [
        {"hypotheses": 0},
        {"refinements": -1},
        {"rolls": 0},
        {"samples": 1.5},
        {"match_level": "cell"},
        {"retry_views": -1},
        {"retry_below_score": 1.5},
    ],
)
def test_choices_that_make_no_sense_are_refused(workshop, change):
    name = next(iter(change))
    assert name in error_of(lambda: PoseEstimator(**workshop, **change))
