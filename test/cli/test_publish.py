"""Test `vpog publish`: from trained weights to card and page of results, at the smallest scale."""

from pathlib import Path

import numpy as np
import pytest
import torch

from vpog_core.cli import main
from vpog_core.cli import publish as publish_module
from vpog_core.evaluation import calibration_scenes
from vpog_core.evaluation.calibration_fit import SIGNS, CalibrationSamples
from vpog_core.evaluation.calibration_scenes import StageSamples
from vpog_core.evaluation.frame_run import FrameRunner
from vpog_core.evaluation.weights_card import BEGIN, END, write_block
from vpog_core.inference.calibration import read_calibration
from vpog_core.models.checkpoint import save_weights
from vpog_core.models.config import VPOGConfig
from vpog_core.models.vpog_model import VPOGModel
from vpog_core.types import VPOGError

NAME = "net"
MARKS = [mark.format(f"scores of {NAME}") for mark in (BEGIN, END)]


@pytest.fixture
def weights(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    torch.manual_seed(0)
    config = VPOGConfig(
        image_size=48, window=3, depth=1, embed_dim=64, num_heads=2, embed_from_stem=True, aa_depth=1,
        aa_heads=2, fine_dim=16, flow_hidden=32, flow_layers=2, retrieval_dim=8,
    )  # fmt: skip
    save_weights(VPOGModel(config).eval(), tmp_path / "trained.safetensors")
    return tmp_path / "trained.safetensors"


@pytest.fixture
def tree(tmp_path) -> Path:
    """Return a source tree with a card."""
    (tmp_path / "tree" / "docs").mkdir(parents=True)
    card = tmp_path / "tree" / publish_module.CARD
    card.parent.mkdir(parents=True)
    card.write_text("# net\n\nby hand\n\n" + "\n".join(MARKS) + "\n\nalso by hand\n")
    return tmp_path / "tree"


def samples(count=300) -> dict[str, StageSamples]:
    """Return poses as an able network would have found them; test_calibrate shows what is fitted."""
    rng, made = np.random.default_rng(0), {}
    for name, signs in SIGNS.items():
        correct = rng.random(count) < 0.6
        values = rng.normal(size=(count, len(signs))) + correct[:, None]
        found = CalibrationSamples(values, correct, 2 * rng.chisquare(6, count))
        made[name] = StageSamples(found, np.arange(count) % 24, np.arange(count) // 2)
    return made


def test_weights_card_and_results_in_one_go(weights, tree, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(calibration_scenes, "collect", lambda *_, **__: samples())
    tiny = ["--objects", "1", "--crops", "1", "--levels", "clean", "--split", "textured", "--no-stages"]
    monkeypatch.setitem(publish_module.FULL, "heldout", tiny)
    words = ["publish-weights", "--weights", str(weights), "--name", NAME, "--work", str(tmp_path / "work")]
    ran = []
    original = FrameRunner.run
    monkeypatch.setattr(FrameRunner, "run", lambda self, key: (ran.append(key), original(self, key))[1])
    assert main([*words, "--into", str(tree)]) == 0
    assert len(ran) == 1
    card = (tree / publish_module.CARD).read_text()
    assert card.startswith(f"# net\n\nby hand\n\n{MARKS[0]}\n\n|")
    assert card.endswith(f"{MARKS[1]}\n\nalso by hand\n")
    assert "vpog evaluate --synthetic heldout" in card
    assert "    score error" in card
    assert (tree / publish_module.RESULTS).read_text().startswith("# Results")
    assert read_calibration(tree / "vpog_core" / "weights" / "net.safetensors").num_samples == 150
    # Again: nothing is computed a second time, and the card stays.
    monkeypatch.setattr(calibration_scenes, "collect", None)
    assert main([*words, "--into", str(tree)]) == 0
    assert len(ran) == 1
    assert (tree / publish_module.CARD).read_text() == card


def test_what_cannot_be_published_is_refused_before_any_work(weights, tmp_path, capsys):
    words = ["publish-weights", "--weights", str(weights), "--work", str(tmp_path / "work")]
    assert main([*words, "--into", str(tmp_path)]) == 2
    assert "give the root of a source tree" in capsys.readouterr().err
    assert main([*words, "--into", str(tmp_path), "--quick"]) == 2
    assert "--quick looks at a part" in capsys.readouterr().err
    assert main(["publish-weights", "--weights", str(tmp_path / "none.safetensors")]) == 2
    assert "There are no weights" in capsys.readouterr().err
    assert main([*words, "--dataset", str(tmp_path / "ycbv")]) == 2
    assert f"There is no dataset folder '{tmp_path / 'ycbv'}'" in capsys.readouterr().err
    (tmp_path / "docs").mkdir()
    (tmp_path / publish_module.CARD).parent.mkdir(parents=True)
    (tmp_path / publish_module.CARD).write_text("no marks\n")
    assert main([*words, "--into", str(tmp_path)]) == 2
    assert "has no place for figures: put the lines" in capsys.readouterr().err
    assert not (tmp_path / "work").exists()


def test_a_card_without_marks_is_left_as_it_is(tmp_path):
    (tmp_path / "card.md").write_text("nothing here\n")
    with pytest.raises(VPOGError, match="has no place for figures"):
        write_block(tmp_path / "card.md", "scores", "figures")
    assert (tmp_path / "card.md").read_text() == "nothing here\n"
