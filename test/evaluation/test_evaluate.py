"""Test `vpog evaluate` from command line to files, with an untrained network of 48 pixels."""

import json
import re

import pytest
import torch

from vpog_core.cli import main
from vpog_core.cli.commands import build_parser
from vpog_core.cli.evaluate import config_of
from vpog_core.evaluation import baseline_sift, results_page
from vpog_core.evaluation.frame_run import FrameRunner
from vpog_core.evaluation.results_csv import read_results
from vpog_core.models.checkpoint import save_weights
from vpog_core.models.config import VPOGConfig
from vpog_core.models.vpog_model import VPOGModel

SIZES = {
    "image_size": 48, "window": 3, "depth": 1, "embed_dim": 64, "num_heads": 2, "embed_from_stem": True,
    "aa_depth": 1, "aa_heads": 2, "fine_dim": 16, "flow_hidden": 32, "flow_layers": 2, "retrieval_dim": 8,
}  # fmt: skip
LAST = re.compile(
    r"vpog: AR \d+\.\d \(.*MSSD .*\), ADD\(-S\) < 10 %: \d+\.\d % \(\d+ of \d+\), "
    r"(median \d+\.\d degrees and \d+\.\d % of the distance \(\d+\.\d % of the diameter\)|no pose for half.*)"
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory, convinced):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("net") / "untrained.safetensors"
    save_weights(VPOGModel(VPOGConfig(**SIZES)).eval(), path, convinced)
    return path


@pytest.fixture(autouse=True)
def one_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "evaluate_cache"))


@pytest.fixture(scope="module")
def counted():
    """Yield the frames computed, in their order."""
    ran = []
    original = FrameRunner.run
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FrameRunner, "run", lambda self, key: (ran.append(key), original(self, key))[1])
        yield ran


def run(capsys, *words):
    status = main(["evaluate", *(str(word) for word in words)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture
def on_dataset(bop_case, weights):
    return ["--dataset", bop_case[0], "--weights", weights]


def test_a_dataset_from_command_to_files(on_dataset, bop_case, counted, tmp_path, capsys):
    out = tmp_path / "out"
    status, text, _ = run(capsys, *on_dataset, "--output", out)
    assert status == 0
    assert LAST.fullmatch(text.splitlines()[-1])
    scores = json.loads((out / "scores.json").read_text())
    for key in ("AR", "AR_VSD", "AR_MSSD", "AR_MSPD", "ADD_S_10"):
        assert 0 <= scores[key] <= 100
    assert scores["AR"] == pytest.approx((scores["AR_VSD"] + scores["AR_MSSD"] + scores["AR_MSPD"]) / 3)
    assert (scores["targets"], scores["frames"]) == (28, 6)
    assert set(scores["per_object"]) == {"obj_000001", "obj_000002", "obj_000004"}
    assert "5 % seeded jitter" in scores["title"]
    assert scores["seconds"]["detection"] > 0
    assert scores["command"].startswith("vpog evaluate --dataset")
    # An untrained network loses in retrieval and matching, PnP next to nothing; the losses explain all.
    lost = scores["stages"]["lost"]
    assert sum(lost.values()) == pytest.approx(100 - scores["ADD_S_10"])
    # The more views are retrieved, the more often one is near; as many are visible in parts as in all.
    recall = scores["stages"]["retrieval"]
    assert recall["all"]["detections"] == 28
    assert all(0 <= part["1"] <= part["2"] <= part["6"] <= 100 for part in recall.values())
    in_parts = [part for label, part in recall.items() if label.endswith("%")]
    assert sum(part["detections"] for part in in_parts) == 28
    assert sum(part["detections"] * part["6"] for part in in_parts) == pytest.approx(28 * recall["all"]["6"])
    poses = read_results(out / "vpog_made-test.csv")
    assert sum(len(found) for found in poses.values()) + scores["without_pose"] == 28

    # Killed after five of six: only the sixth is computed again, and nothing changes.
    assert len(counted) == 6
    frames = sorted((out / "frames").rglob("*.json"))
    frames[2].write_text(frames[2].read_text()[:50])
    run(capsys, *on_dataset, "--output", out)
    assert len(counted) == 7
    again = json.loads((out / "scores.json").read_text())
    assert {k: again[k] for k in ("AR", "ADD_S_10", "stages")} == {
        k: scores[k] for k in ("AR", "ADD_S_10", "stages")
    }

    # Other options are other frames.
    run(capsys, *on_dataset, "--output", out, "--limit", 1, "--refinements", 0, "--no-stages")
    assert len(counted) == 8


def test_bad_detections_are_said_and_the_others_are_used(on_dataset, tmp_path, capsys):
    """One box has no width and one score is not a number: the run continues and reports them."""
    good = {"scene_id": 1, "image_id": 0, "category_id": 1, "bbox": [40, 30, 50, 40], "score": 0.9}
    entries = [good, {**good, "bbox": [12, 5, 0, 14]}, {**good, "score": float("nan")}]
    entries.append({**good, "image_id": 1, "time": 0.2})
    path, out = tmp_path / "d.json", tmp_path / "out"
    path.write_text(json.dumps(entries))
    words = [*on_dataset, "--detections", path, "--no-stages", "--output", out]
    status, text, _ = run(capsys, *words)
    assert status == 0
    said = (
        "2 of 4 detections left out of 'd.json', numbered from 0: 1 with a box of no width or height (first: "
        "number 1), 1 with a score that is no finite number (first: number 2)."
    )
    assert said in text.splitlines()
    assert said in json.loads((out / "scores.json").read_text())["notes"]
    assert "no width or height" in (out / "report.html").read_text()

    path.write_text(json.dumps([{**good, "scene_id": 48}]))
    status, _, error = run(capsys, *words)
    assert status == 2
    assert "None of the 1 detections" in error


def test_workers_find_what_one_process_finds(on_dataset, tmp_path, capsys):
    found = []
    for workers in (1, 2):
        out = tmp_path / str(workers)
        words = [*on_dataset, "--output", out, "--limit", 2, "--workers", workers, "--no-stages"]
        assert run(capsys, *words)[0] == 0
        found.append(json.loads((out / "scores.json").read_text()))
    for key in ("AR", "AR_MSPD", "ADD_S_10"):
        assert found[0][key] == found[1][key]
    assert list(found[0]["per_object"]) == list(found[1]["per_object"])
    for one, other in zip(found[0]["per_object"].values(), found[1]["per_object"].values(), strict=True):
        # A single process computes with several threads, whose float32 sums differ in the last digits.
        assert one == {k: v if v is None else pytest.approx(v, rel=1e-5) for k, v in other.items()}


def test_heldout_with_the_classical_method_and_its_report(weights, tmp_path, capsys, monkeypatch):
    # Half the usual sizes, for a quarter of the time.
    monkeypatch.setattr(baseline_sift, "TEMPLATE_SIZE", 112)
    monkeypatch.setattr(baseline_sift, "CROP_SIZE", 224)
    out = tmp_path / "out"
    words = ["--synthetic", "heldout", "--objects", 1, "--crops", 1, "--levels", "occluded,clean"]
    words += ["--split", "plain", "--weights", weights]
    status, text, _ = run(capsys, *words, "--baseline", "sift", "--output", out)
    assert status == 0
    scores = json.loads((out / "scores.json").read_text())
    assert list(scores["per_group"]) == ["plain clean", "plain occluded"]
    assert scores["targets"] == scores["baselines"]["sift"]["targets"] == 2
    assert text.splitlines()[-2].startswith("sift: AR")
    assert (out / "sift_heldout.csv").is_file()

    page = (out / "report.html").read_text()
    # Self-contained: nothing is loaded from anywhere, no scripts.
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert "<script" not in page
    for words in (
        "heldout, part",
        "Recall",
        "Worst poses",
        "Is the score a probability?",
        "By split",
        "degrees",
        "sift",
    ):
        assert words in page

    # The results page holds the numbers of the file, and is the same each time.
    first = results_page.page([results_page.read_scores(out)])
    assert first == results_page.page([json.loads((out / "scores.json").read_text())])
    assert scores["command"] in first
    assert f"| {scores['AR']:.1f} |" in first
    assert f"{scores['correct']} of 2" in first
    assert results_page.main([str(out), str(out)]) == 0
    assert capsys.readouterr().out.count(scores["command"]) == 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--dataset", "nowhere"], "no dataset folder 'nowhere'"),
        (["--synthetic", "heldout", "--objects", "31"], "--objects 31 is more than the benchmark has"),
        (["--synthetic", "heldout", "--limit", "2"], "--limit is for --dataset"),
        (
            ["--synthetic", "heldout", "--split", "test"],
            "--split 'test' is not a part of heldout: choose of text",
        ),
        (["--synthetic", "heldout", "--levels", "clean,dark"], "--levels 'dark' is not a part of heldout"),
        (["--synthetic", "heldout", "--sensor", "cam1"], "--sensor is for --dataset"),
        (["--synthetic", "heldout", "--detections", "f.json"], "leave --detections out"),
        (["--synthetic", "heldout", "--weights", "none.safetensors"], "none.safetensors"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(words, sentence, tmp_path, capsys):
    status, _, error = run(capsys, *words, "--output", tmp_path / "out")
    assert status == 2
    assert sentence in error
    assert len(error.strip().splitlines()) == 1


def test_a_folder_without_scores_is_told(tmp_path, capsys):
    assert results_page.main([str(tmp_path)]) == 2
    assert "run that first" in capsys.readouterr().err


def test_an_option_that_was_renamed_works_under_its_old_name_and_says_the_new_one(capsys):
    configs = []
    for name in ("--retry-views", "--second-look"):
        words = ["evaluate", "--synthetic", "heldout", "--output", "out", name, "3"]
        configs.append(config_of(build_parser().parse_args(words)))
    assert configs[0] == configs[1]
    assert configs[0].options.retry_views == 3
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "--second-look is now --retry-views" in said
    with pytest.raises(SystemExit):
        build_parser().parse_args(["evaluate", "--help"])
    assert "--second-look" not in capsys.readouterr().out
