"""Test the training of a scorer: what it learns, what it leaves as it is, and what it refuses."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

pytest.importorskip("lightning")

from vpog_core.evaluation.hypothesis_records import NORMAL_SCALE, SUFFIX, HypothesisRecords
from vpog_core.geometry.se3 import random_rotation, transform
from vpog_core.models.checkpoint import load_refiner, save_weights
from vpog_core.models.refiner import RefinerNet
from vpog_core.objects.renderer import Renderer
from vpog_core.training.compose import load_config
from vpog_core.training.data.batch import HypothesisBatch
from vpog_core.training.data.data_config import DataConfig
from vpog_core.training.data.hypothesis_dataset import HypothesisDataset, build_hypothesis_datasets
from vpog_core.training.losses.scorer import scorer_loss
from vpog_core.training.train import train
from vpog_core.types import VPOGError

from . import toy_run as toy

pytestmark = pytest.mark.usefixtures("one_thread")

PAIRS = 48
SIZE = toy.REFINER.image_size
K = np.array([[100.0, 0, 15.5], [0, 100.0, 15.5], [0, 0, 1]])


def records(seed: int) -> HypothesisRecords:
    """Return hypotheses of a coloured block: half of the renders are exactly the image, half are far away.

    Even a refiner that was not trained has features that tell them apart.
    """
    rng, renderer = np.random.default_rng(seed), Renderer(toy.coloured_block())
    place, far = np.array([0.0, 0.0, 0.45]), np.array([0.0, 0.0, 1.2])
    rows = []
    for n in range(PAIRS):
        T_true = transform(random_rotation(rng), place)
        T = T_true if n % 2 else transform(T_true[:3, :3], far)
        image, render = (renderer.render(pose, K, (SIZE, SIZE)) for pose in (T_true, T))
        normals = np.round(render.normals @ T[:3, :3].T * NORMAL_SCALE).astype(np.int8)
        rows.append((image.rgb, render.rgb, normals, render.mask, np.float32(0.02 if n % 2 else 0.8), n // 2))
    return HypothesisRecords(*(np.stack(values) for values in zip(*rows, strict=True)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Return a folder with the hypotheses of four objects."""
    folder = tmp_path_factory.mktemp("hypotheses")
    for n in range(4):
        records(n).save(folder / f"object_{n:05d}{SUFFIX}")
    return folder


@pytest.fixture(scope="module")
def refiner_file(tmp_path_factory) -> Path:
    """Return the weights of a refiner that was not trained."""
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("refiner") / "refiner.safetensors"
    save_weights(RefinerNet(toy.REFINER), path)
    return path


def config(output: Path, folder: Path, refiner_file: Path, *settings: str):
    sizes = (f"refiner.{name}={value}" for name, value in toy.REFINER.to_dict().items())
    return load_config(
        [
            "experiment=scorer_tiny", f"output={output}", f"init.weights={refiner_file}",
            f"data.hypotheses={folder}", "data.held_out_every=4", "loader.batch_size=16", *sizes, *toy.SHORT,
            *settings,
        ]
    )  # fmt: skip


def test_it_learns_to_tell_right_poses_and_leaves_the_refiner_as_it_is(folder, refiner_file, tmp_path):
    """Right and wrong are even; 0.8 is far from chance on 48 pairs of another object."""
    run = config(tmp_path, folder, refiner_file, "trainer.epoch_steps=60", "optimizer.lr=5e-3",
                 "optimizer.ema_decay=0.9", "trainer.figures=2")  # fmt: skip
    train(run)
    history = json.loads((tmp_path / "history.json").read_text())
    assert history[-1]["score_accuracy"] > 0.8
    assert history[-1]["score_correct"] > history[-1]["score_wrong"] + 0.3
    before = load_refiner(refiner_file).state_dict()
    after = load_refiner(tmp_path / "weights.safetensors", expect=toy.REFINER).state_dict()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed
    assert all(key.startswith("scorer.") for key in changed)
    sheet = cv2.imread(str(tmp_path / "figures" / "step-000120.png"))
    assert sheet.std() > 20


def test_means_of_both_kinds_are_over_all_poses_of_validation(refiner_file, tmp_path):
    """Of three batches of validation, one has no correct pose and one no wrong one."""
    order = np.argsort(records(0).error, kind="stable")
    sorted_by_error = HypothesisRecords(*(value[order] for value in vars(records(0)).values()))
    folder = tmp_path / "recorded"
    folder.mkdir()
    for n, recorded in {0: sorted_by_error, 2: records(1), 3: records(2)}.items():
        recorded.save(folder / f"object_{n:05d}{SUFFIX}")
    train(config(tmp_path / "run", folder, refiner_file, "trainer.epoch_steps=2", "trainer.max_epochs=1"))
    refiner = load_refiner(tmp_path / "run" / "weights.safetensors", expect=toy.REFINER)
    validation = HypothesisDataset(sorted_by_error)
    with torch.no_grad():
        items = HypothesisBatch(**default_collate([validation[n] for n in range(PAIRS)]))
        probability = refiner.trace(*items.inputs()).comparison.score.sigmoid()
    last = json.loads((tmp_path / "run" / "history.json").read_text())[-1]
    assert last["score_correct"] == pytest.approx(float(probability[items.error < 0.2].mean()), abs=1e-4)
    assert last["score_wrong"] == pytest.approx(float(probability[items.error > 0.2].mean()), abs=1e-4)


def test_training_items_are_drawn_and_mirrored_and_validation_is_as_recorded():
    recorded = records(0)
    drawn, fixed = HypothesisDataset(recorded, seed=1), HypothesisDataset(recorded)
    assert len(fixed) == PAIRS
    np.testing.assert_array_equal(fixed[5]["image_rgb"], recorded.image[5])
    mirrored = 0
    for n in range(20):
        item = drawn[n]
        for key, value in item.items():
            np.testing.assert_array_equal(value, drawn[n][key])
        of = np.flatnonzero((recorded.image[:, :, ::-1] == item["image_rgb"]).all(axis=(1, 2, 3)))
        if len(of):
            mirrored += 1
            # Left is right: the render too, and the normals point to the other side.
            np.testing.assert_array_equal(item["render_mask"], recorded.mask[of[0]][:, ::-1])
            x = recorded.normals[of[0]][:, ::-1, 0] / np.float32(NORMAL_SCALE)
            np.testing.assert_allclose(item["render_normals"][..., 0], -x)
    assert 3 < mirrored < 17  # even odds: outside in one of 400 choices of the seed


def test_the_target_grows_with_exactness():
    """Scores that follow the error cost less than any others."""
    error = torch.tensor([0.02, 0.15, 0.3, 0.9])
    fitting = torch.logit(torch.tensor([0.999, 2 / 3, 1 / 3, 0.001]))
    loss, scores = scorer_loss(fitting, error)
    for n in range(4):
        worse = fitting.clone()
        worse[n] = -worse[n]
        assert scorer_loss(worse, error)[0] > loss
    assert scores["score_accuracy"] == 1.0
    assert scores["score_correct"] > scores["score_wrong"]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (("data.hypotheses=''",), "set init.weights to the refiner"),
        (("init.weights=''",), "set init.weights to the refiner"),
        (("network=refiner",), "data.hypotheses is for network=scorer alone"),
        (("network=score",), "give one of coarse, refiner, scorer"),
    ],
)
def test_what_does_not_go_together_is_refused(folder, refiner_file, tmp_path, settings, says):
    with pytest.raises(VPOGError, match=says):
        config(tmp_path, folder, refiner_file, *settings)


def test_all_objects_of_a_mesh_file_are_on_one_side(tmp_path):
    """Three mesh files make ten objects, between as many procedural ones."""
    recorded = records(0)
    for n in range(20):
        one = HypothesisRecords(**{**vars(recorded), "error": np.full(PAIRS, n, np.float32)})
        one.save(tmp_path / f"object_{n:05d}{SUFFIX}", f"mesh_{n // 2 % 3}.ply" if n % 2 else "")
    data = DataConfig(procedural=1, hypotheses=str(tmp_path), image_size=SIZE, held_out_every=2)
    numbers = [{int(n) for n in kind.records.error} for kind in build_hypothesis_datasets(data)]
    train_files, validation_files = ({n // 2 % 3 for n in kind if n % 2} for kind in numbers)
    assert train_files == {1}
    assert validation_files == {0, 2}
    assert {n for n in numbers[1] if n % 2 == 0} == {0, 4, 8, 12, 16}


def test_procedural_objects_and_mesh_files_are_held_out(tmp_path):
    """Even numbers are procedural, odd ones mesh files; one in three of both: 0, 1, 6 and 7 of eight."""
    held_out = (0, 1, 6, 7)
    for number in range(8):
        of = records(0)
        of.error[:] = number
        of.save(tmp_path / f"object_{number:05d}{SUFFIX}")
    data = DataConfig(procedural=1, hypotheses=str(tmp_path), image_size=SIZE, held_out_every=3)
    train_set, validation_set = build_hypothesis_datasets(data)
    assert set(validation_set.records.error) == set(held_out)
    assert set(train_set.records.error) == set(range(8)) - set(held_out)


def test_files_of_other_names_are_refused(tmp_path):
    records(0).save(tmp_path / f"mug{SUFFIX}")
    with pytest.raises(VPOGError, match=r"mug.hypotheses.npz' is not named object_NUMBER.hypotheses.npz"):
        build_hypothesis_datasets(DataConfig(procedural=1, hypotheses=str(tmp_path), image_size=SIZE))


def test_too_few_hypotheses_and_those_of_another_size_are_refused(folder, tmp_path):
    with pytest.raises(VPOGError, match=r"holds 0 files .* vpog record-hypotheses"):
        build_hypothesis_datasets(DataConfig(procedural=1, hypotheses=str(tmp_path), image_size=SIZE))
    with pytest.raises(VPOGError, match="32 pixels and the refiner compares 128"):
        build_hypothesis_datasets(DataConfig(procedural=1, hypotheses=str(folder), image_size=128))
