import json
import logging

import numpy as np
import pytest

from vpog_core.inference.calibration import (
    REFINED_FEATURES,
    TRACKED_FEATURES,
    Calibration,
    ScoreCalibrator,
    read_calibration,
)
from vpog_core.inference.networks import Networks
from vpog_core.models.checkpoint import load_weights, save_weights
from vpog_core.types import VPOGError


def test_it_travels_with_the_weights(small_model, tmp_path, caplog):
    path = tmp_path / "net.safetensors"
    aligned = ScoreCalibrator(-0.5, (1.5, 2.5, -3.5, 4.5), 0.7, 122)
    tracked = ScoreCalibrator(-0.6, tuple(0.5 * n for n in range(len(TRACKED_FEATURES))), 0.8, 121)
    refined = ScoreCalibrator(-0.7, tuple(0.25 * n for n in range(len(REFINED_FEATURES))), 0.9, 120)
    calibration = Calibration(0.5, (1.0, 2.0, -3.0), 1.7, 123, aligned, refined, tracked)
    save_weights(small_model, path, calibration.to_metadata())
    with caplog.at_level(logging.INFO):
        assert read_calibration(path) == calibration
    assert not caplog.records
    load_weights(path)


def test_weights_without_one_get_the_defaults_and_a_line(small_model, tmp_path, caplog):
    path = tmp_path / "net.safetensors"
    save_weights(small_model, path)
    with caplog.at_level(logging.INFO):
        assert read_calibration(path) == Calibration()
    assert len(caplog.records) == 1
    assert caplog.records[0].levelno == logging.INFO
    assert "vpog calibrate" in caplog.text


@pytest.mark.parametrize(
    ("path_of_entry", "named"), [((), "all"), (("refined",), "refined"), (("tracked",), "tracked")]
)
def test_one_of_other_features_is_not_used_and_that_is_logged(
    path_of_entry, named, small_model, tmp_path, caplog
):
    path = tmp_path / "net.safetensors"
    values = json.loads(Calibration().to_metadata()["calibration"])
    entry = values
    for key in path_of_entry:
        entry = entry[key]
    entry.update(features=["sharpness"], bias=9.0, coefficients=[1.0])
    save_weights(small_model, path, {"calibration": json.dumps(values)})
    assert Networks.load(path).calibration == Calibration()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"The calibration of {named} poses in '{path}'" in record.message
    assert f"vpog calibrate --weights {path}" in record.message


@pytest.mark.parametrize("missing", [True, False])
def test_one_that_knows_nothing_of_followed_poses_gets_the_default_for_them(missing):
    """Weights written before poses were followed lack one, others have one of other features."""
    values = json.loads(
        Calibration(tracked=ScoreCalibrator(9.0, (0.0,) * 4, 9.0)).to_metadata()["calibration"]
    )
    if missing:
        del values["tracked"]
    else:
        values["tracked"]["features"] = ["sharpness"]
    assert Calibration.from_metadata({"calibration": json.dumps(values)}).tracked == Calibration().tracked


@pytest.mark.parametrize(
    "change",
    [
        {"bias": None},
        {"covariance": 0.0},
        {"coefficients": [1.0]},
        {"bias": float("nan")},
        {"more": 1},
        {"aligned": None},
        {"aligned": {"bias": 0.0, "coefficients": [1.0, 2.0, 3.0], "covariance": 1.0}},
    ],
)
def test_a_broken_one_is_refused(change):
    text = json.loads(Calibration().to_metadata()["calibration"])
    with pytest.raises(VPOGError, match="vpog calibrate"):
        Calibration.from_metadata({"calibration": json.dumps({**text, **change})})
    with pytest.raises(VPOGError, match="vpog calibrate"):
        Calibration.from_metadata({"calibration": "{"})


def test_a_score_is_a_probability_whatever_the_evidence():
    wild = np.array([[1e9, 1e9, -1e9], [-1e9, -1e9, 1e9], [0, 0, 0]])
    score = Calibration().probability(wild)
    assert ((score >= 0) & (score <= 1)).all()
