from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from vpog_core.cli import main
from vpog_core.evaluation import calibration_images, calibration_scenes
from vpog_core.evaluation.calibration_fit import CalibrationSamples
from vpog_core.evaluation.calibration_scenes import StageSamples
from vpog_core.inference.calibration import (
    ALIGNED_FEATURES,
    FEATURES,
    REFINED_FEATURES,
    TRACKED_FEATURES,
    read_calibration,
)
from vpog_core.models.checkpoint import save_weights
from vpog_core.models.config import VPOGConfig
from vpog_core.models.vpog_model import VPOGModel


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """Return a small untrained network that says where it comes from."""
    torch.manual_seed(0)
    config = VPOGConfig(
        image_size=48, window=3, depth=1, embed_dim=64, num_heads=2, embed_from_stem=True, aa_depth=1,
        aa_heads=2, fine_dim=16, flow_hidden=32, flow_layers=2, retrieval_dim=8,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("weights") / "net.safetensors"
    save_weights(VPOGModel(config), path, {"trained": "never"})
    return path


KINDS = {
    "matched": (FEATURES, 2.0),
    "aligned": (ALIGNED_FEATURES, 3.0),
    "refined": (REFINED_FEATURES, 4.0),
    "tracked": (TRACKED_FEATURES, 1.5),
}
"""Features of the samples of each kind, and errors over covariances."""


def answers(count=300, seed=0) -> dict[str, StageSamples]:
    """Samples of each kind; some of the aligned ones were not moved."""
    rng, made = np.random.default_rng(seed), {}
    for name, (features, factor) in KINDS.items():
        correct = rng.random(count) < 0.6
        score_features = rng.normal(size=(count, len(features))) + correct[:, None]
        judged = CalibrationSamples(score_features, correct, factor * rng.chisquare(6, count))
        made[name] = StageSamples(judged, np.arange(count) % 24, np.arange(count) // 2)
    made["aligned"].samples.distance[::4] = np.nan
    return made


def contents(path: Path):
    with safe_open(path, framework="numpy") as file:
        return dict(file.metadata()), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def test_what_is_fitted_is_reported_and_stored_and_the_network_stays(weights, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(calibration_scenes, "collect", lambda *_, **__: answers())
    output = tmp_path / "calibrated.safetensors"
    assert main(["calibrate", "--weights", str(weights), "--output", str(output)]) == 0
    said = capsys.readouterr().out
    assert said.count("score error") == 4 + 1
    assert "nan" not in said
    assert str(output) in said
    calibration = read_calibration(output)
    assert calibration.num_samples == 150
    assert calibration.covariance == pytest.approx(2.0, rel=0.3)
    assert calibration.aligned.covariance == pytest.approx(3.0, rel=0.3)
    assert len(calibration.aligned.coefficients) == len(calibration.coefficients) + 1
    assert calibration.refined.covariance == pytest.approx(4.0, rel=0.3)
    assert len(calibration.refined.coefficients) == len(REFINED_FEATURES)
    assert calibration.tracked.covariance == pytest.approx(1.5, rel=0.3)
    assert calibration.tracked.num_samples == 150
    (before, tensors), (after, same) = contents(weights), contents(output)
    assert after.items() >= before.items()
    assert tensors.keys() == same.keys()
    assert all(np.array_equal(tensors[key], same[key]) for key in tensors)


def test_numbers_of_16_bits_are_stored_where_asked_for(weights, monkeypatch, tmp_path):
    monkeypatch.setattr(calibration_scenes, "collect", lambda *_, **__: answers())
    output = tmp_path / "half.safetensors"
    assert main(["calibrate", "--weights", str(weights), "--output", str(output), "--half"]) == 0
    assert {tensor.dtype for tensor in contents(output)[1].values()} == {np.dtype(np.float16)}
    assert read_calibration(output).num_samples == 150


def test_a_dry_run_stores_nothing(weights, monkeypatch):
    monkeypatch.setattr(calibration_scenes, "collect", lambda *_, **__: answers())
    before = weights.read_bytes()
    assert main(["calibrate", "--weights", str(weights), "--dry-run"]) == 0
    assert weights.read_bytes() == before


def test_without_output_the_file_itself_is_calibrated_again(weights, monkeypatch, tmp_path):
    own = tmp_path / "own.safetensors"
    own.write_bytes(weights.read_bytes())
    for seed in (0, 1):
        monkeypatch.setattr(calibration_scenes, "collect", lambda *_, seed=seed, **__: answers(seed=seed))
        assert main(["calibrate", "--weights", str(own)]) == 0
    assert contents(own)[0]["trained"] == "never"
    assert read_calibration(own).num_samples == 150


@pytest.mark.parametrize("extra", [["--scenes", "2"], ["--weights", "none.safetensors"]])
def test_unusable_input_is_one_sentence(weights, extra, capsys):
    assert main(["calibrate", "--weights", str(weights), *extra]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert extra[1] in said


def test_an_output_that_cannot_be_written_is_told_of_before_any_scene(weights, tmp_path, capsys):
    (tmp_path / "file").touch()
    for output, reason in ((tmp_path, "is a folder"), (tmp_path / "file" / "new.safetensors", "is a file")):
        assert main(["calibrate", "--weights", str(weights), "--output", str(output)]) == 2
        told = capsys.readouterr().err
        assert reason in told
        assert "scenes" not in told


def test_a_network_that_knows_nothing_cannot_be_calibrated(weights, capsys, monkeypatch):
    """The command runs on one scene after the other, finds no pose, and says so."""
    monkeypatch.setattr(calibration_images, "OBJECTS", 1)
    assert main(["calibrate", "--weights", str(weights), "--scenes", "3", "--frames", "1"]) == 2
    said = capsys.readouterr().err
    assert "more scenes" in said or "no pose at all" in said
