"""Test what the bench counts and reports by running it, not how long things take."""

import json
from dataclasses import replace

import numpy as np
import pytest

from vpog_core.cli import main
from vpog_core.evaluation import baseline_sift
from vpog_core.evaluation.speed_config import SpeedConfig
from vpog_core.evaluation.speed_floor import measure_steps
from vpog_core.evaluation.speed_networks import other_networks, preset_networks
from vpog_core.evaluation.speed_report import MARKS, speed_json, speed_tables, update_document
from vpog_core.evaluation.speed_run import TRACKED, run_speed, time_frames
from vpog_core.evaluation.speed_scene import SpeedScene
from vpog_core.inference.networks import Networks
from vpog_core.inference.onnx_engine import OnnxModel, OnnxRefiner
from vpog_core.models.checkpoint import save_weights
from vpog_core.models.config import PRESETS
from vpog_core.models.cost import network_cost, refiner_cost
from vpog_core.models.refiner_config import REFINER_PRESETS
from vpog_core.models.vpog_model import VPOGModel
from vpog_core.types import Estimates, VPOGError

STAGES = {"decode", "crop", "encode", "retrieve", "match", "solve", "refine", "compare", "align", "draw"}


@pytest.fixture(scope="module")
def result(small_config, convinced, tmp_path_factory):
    """Return the result of the smallest run, with a network that onboards in a moment."""
    weights = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_weights(VPOGModel(small_config), weights, convinced)
    config = SpeedConfig((1, 2), frames=1, objects=1, networks=("tiny",), weights=str(weights))
    with pytest.MonkeyPatch.context() as patch:
        # Half the usual sizes, for a quarter of the time.
        patch.setattr(baseline_sift, "TEMPLATE_SIZE", 112)
        patch.setattr(baseline_sift, "CROP_SIZE", 224)
        return run_speed(config)


def test_every_stage_is_timed_for_every_number_of_detections(result):
    new = [f for f in result.frames if f.name != TRACKED]
    assert [f.detections for f in new] == [1, 2]
    for frame in new:
        assert set(frame.stages) - {"track"} == STAGES
        assert min(frame.stages.values()) >= 0 < frame.median <= frame.p95
    assert [f.detections for f in result.frames if f.name == TRACKED] == [1]


def test_the_estimator_is_given_the_images_of_the_scene(tmp_path):
    """As JPEG leaves them: colours that were swapped would make objects hard to find, and images slow."""
    scene, given = SpeedScene(3, tmp_path), []

    def estimate(image, detections, n) -> Estimates:
        given.append(image)
        return Estimates()

    time_frames("new", scene, 1, 1, estimate)
    for n, image in enumerate(given):
        rendered = scene.image(n, 1)[0].astype(int)
        coloured = np.abs(rendered[..., 0] - rendered[..., 2]) > 60
        assert coloured.sum() > 1000
        # Swapped, these pixels would be off by 60 and more.
        assert np.abs(image - rendered)[coloured].mean() < 15


def test_operations_of_the_steps_are_those_of_the_cost_tables(result):
    cost, (_, compare) = network_cost(PRESETS["vpog-tiny"]), refiner_cost(REFINER_PRESETS["refiner-tiny"])
    counted = {(s.step, s.batch): s.gflop for s in result.steps}
    one = {"encode": cost.encode, "match": cost.match, "flow": cost.flow, "compare": compare}
    assert counted == pytest.approx({(n, b): b * ops / 1e9 for n, ops in one.items() for b in (1, 2)})
    assert all(s.floor > 0 and s.mib > 0 for s in result.steps)


def test_other_ways_and_the_classical_method_are_compared(result):
    assert "SIFT + PnP" in result.ratios
    assert len(result.ratios) >= 4
    assert min(result.ratios.values()) > 0


def test_json_holds_what_the_tables_show(result):
    values = json.loads(speed_json(result))
    assert values["machine"]["engine"] == "torch"
    assert len(values["frames"]) == 3
    assert len(values["steps"]) == 8
    tables = speed_tables(result)
    for row in values["steps"]:
        assert f"{row['ratio']:.1f} |" in tables
    for name in values["ratios"]:
        assert f"| {name} |" in tables


def test_tables_take_their_place_in_a_document(result, tmp_path):
    document = tmp_path / "performance.md"
    begin, end = MARKS
    document.write_text(f"Before.\n{begin}\nold\n{end}\nAfter.\n")
    update_document(document, result)
    text = document.read_text()
    assert "old" not in text
    assert text.startswith("Before.")
    assert text.endswith("After.\n")
    document.write_text("No marks.")
    with pytest.raises(VPOGError, match="no place for tables"):
        update_document(document, result)


def test_steps_are_computed_by_the_engine_that_is_asked_for(
    result, small_config, refiner_config, copied_onnx, tmp_path, monkeypatch
):
    monkeypatch.setitem(PRESETS, "vpog-tiny", small_config)
    monkeypatch.setitem(REFINER_PRESETS, "refiner-tiny", refiner_config)
    config = SpeedConfig((2,), frames=1, networks=("tiny",), engine="onnxruntime")
    model, refiner = preset_networks("tiny", config, tmp_path)
    assert isinstance(model, OnnxModel)
    assert isinstance(refiner, OnnxRefiner)
    steps = measure_steps("tiny", model, refiner, 2, result.rates, repeats=1)
    assert [s.step for s in steps] == ["encode", "match", "flow", "compare"]
    assert min(s.milliseconds for s in steps) > 0


def test_onnxruntime_is_compared_with_torch(result):
    timed = Networks.load()
    others = other_networks(SpeedConfig(engine="onnxruntime"), timed)
    assert others["torch, float32"].key == timed.key
    assert all(type(networks.model) is VPOGModel for networks in others.values())
    onnx = replace(result, machine=result.machine | {"engine": "onnxruntime", "onnxruntime": "1.32.0"})
    assert "onnxruntime 1.32.0, torch 2" in speed_tables(onnx)
    assert "onnxruntime" not in speed_tables(result)


def test_a_device_that_is_not_there_is_one_sentence(capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(["bench", "--device", "cuda", "--frames", "1"]) == 2
    assert "torch finds no CUDA GPU" in capsys.readouterr().err


def test_what_the_engine_cannot_do_is_one_sentence(capsys):
    assert main(["bench", "--engine", "onnxruntime", "--precision", "bfloat16"]) == 2
    assert "computes in float32" in capsys.readouterr().err


def test_a_network_that_is_not_known_is_one_sentence(capsys):
    assert main(["bench", "--networks", "huge"]) == 2
    assert "no network 'huge'" in capsys.readouterr().err


def test_results_that_cannot_be_written_are_told_of_before_anything_is_timed(tmp_path, capsys):
    (tmp_path / "page.md").write_text("no marks\n")
    for words, sentence in (
        (["--docs", str(tmp_path / "none.md")], "cannot be read"),
        (["--docs", str(tmp_path / "page.md")], "has no place for tables"),
        (["--output", str(tmp_path)], "is a folder: give the path of a file"),
    ):
        assert main(["bench", *words]) == 2
        told = capsys.readouterr().err
        assert sentence in told
        assert "timing" not in told
