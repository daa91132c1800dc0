"""Test config/train: every file composes, presets agree, mistakes are refused in a sentence."""

import re
import shutil

import pytest

pytest.importorskip("hydra")
pytest.importorskip("lightning")

import vpog_core
from vpog_core.cli import main
from vpog_core.models.config import PRESETS
from vpog_core.models.refiner_config import REFINER_PRESETS
from vpog_core.training.compose import config_folder, load_config
from vpog_core.training.losses.config import LossConfig
from vpog_core.training.losses.refiner import RefinerLossConfig
from vpog_core.training.synthesis.pose_perturbation import PerturbationConfig
from vpog_core.training.train_config import OptimizerConfig, SchedulerConfig, TrainerConfig
from vpog_core.types import VPOGError

EXPERIMENTS = sorted(path.stem for path in (config_folder() / "experiment").glob("*.yaml"))
NEEDED = {"scorer_tiny": ["init.weights=refiner.safetensors", "data.hypotheses=hypotheses"]}
"""Settings without which an experiment is refused."""


@pytest.mark.parametrize("name", ["tiny", "small", "base", "large"])
def test_experiments_train_their_preset(name):
    config = load_config([f"experiment={name}"])
    assert config.model == PRESETS[f"vpog-{name}"]
    assert config.data.image_size == config.model.image_size
    assert config.output == f"runs/{name}"
    gpu = name != "tiny"
    assert (config.trainer.accelerator, config.trainer.precision) == (
        ("gpu", "bf16-mixed") if gpu else ("cpu", "32-true")
    )
    assert config.data.photometry != gpu


@pytest.mark.parametrize("name", ["tiny", "small"])
def test_experiments_of_refiners_train_their_preset(name):
    config = load_config([f"experiment=refiner_{name}"])
    assert config.network == "refiner"
    assert config.refiner == REFINER_PRESETS[f"refiner-{name}"]
    assert config.data.image_size == config.refiner.image_size
    assert (config.refiner_loss, config.perturbation) == (RefinerLossConfig(), PerturbationConfig())
    assert config.output == f"runs/refiner_{name}"
    assert config.data.photometry == (name == "tiny")
    larger = load_config([f"experiment=refiner_{name}", "refiner.image_size=160"])
    assert larger.data.image_size == 160


def test_the_table_of_experiments_says_their_steps_and_batches():
    rows = re.findall(
        r"^\| `(\w+)` \|.*\| ([\d,]+) x (\d+) \|$",
        (config_folder().parents[1] / "docs" / "training.md").read_text(),
        re.MULTILINE,
    )
    written = {name: (int(steps.replace(",", "")), int(size)) for name, steps, size in rows}
    assert written == {name: steps_and_batch(name) for name in EXPERIMENTS}


def steps_and_batch(experiment: str) -> tuple[int, int]:
    """Return the optimizer steps of an experiment, and how many queries, pairs or hypotheses each has."""
    config = load_config([f"experiment={experiment}", *NEEDED.get(experiment, ())])
    each = config.data.queries if config.network == "coarse" else 1
    size = config.loader.batch_size * each * config.trainer.devices * config.trainer.accumulate
    return config.max_steps, size


def test_the_rate_has_come_down_at_the_end_of_every_experiment():
    for name in EXPERIMENTS:
        config = load_config([f"experiment={name}", *NEEDED.get(name, ())])
        assert config.scheduler.t_max == config.trainer.max_epochs, name


def test_the_defaults_are_those_written_down():
    config = load_config()
    assert config.model == PRESETS["vpog-base"]
    assert config.loss == LossConfig()
    assert (config.optimizer, config.scheduler) == (OptimizerConfig(), SchedulerConfig())
    assert config.trainer == TrainerConfig()
    assert (config.optimizer.lr, config.optimizer.weight_decay) == (1e-4, 0.01)
    assert (config.scheduler.t_max, config.scheduler.eta_min) == (100, 1e-6)
    weights = config.loss.weights
    assert (weights.classification, weights.flow, weights.regularization, weights.pose) == (
        1.0,
        1.0,
        0.0,
        0.5,
    )


def test_values_on_the_command_line_count_most():
    settings = [
        "experiment=tiny",
        "seed=7",
        "data.meshes=[a,b]",
        "optimizer.lr=1e-3",
        "+trainer.extra.barebones=true",
    ]
    config = load_config(settings)
    assert config.optimizer.lr == 1e-3
    assert config.data.meshes == ["a", "b"]
    assert config.data.seed == config.seed == 7
    assert config.trainer.extra == {"barebones": True}
    assert config.max_steps == 6000


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        (
            "data.meshs=[a]",
            r"^There is no setting 'data.meshs': did you mean 'data.meshes'\? `vpog train --show`",
        ),
        ("+optimizer.foo=1", r"^There is no setting 'optimizer.foo': `vpog train --show` prints them all.$"),
        ("lr=1", r"^There is no setting 'lr': did you mean 'optimizer.lr'\?"),
        (
            "experiment=huge",
            r"^There is no 'experiment/huge' in '.*': "
            r"use one of base, large, refiner_small, refiner_tiny, scorer_tiny, small, tiny.$",
        ),
        ("optimizer.lr=fast", r"^optimizer.lr: Value 'fast' of type 'str' could not be converted to Float: "),
        ("seed", r"^'seed' is no KEY=VALUE: "),
        ("loader.batch_size=0", r"^loader.batch_size is 0: give 1 or more.$"),
        (
            "data.bank=runs/bank",
            r"^The setting 'data.bank' is called 'data.cache_dir' now: use that name.$",
        ),
        ("data.looks.plain=0.5", r"^The setting 'data.looks.plain' is called 'data.appearances.plain' now: "),
        ("+loader.groups=4", r"^The setting 'loader.groups' is called 'loader.batch_size' now: "),
        ("model.window=5", r"windows of 5"),
        ("data.procedural=0", r"names no objects"),
        ("data=bop", r"names no objects: set one of meshes, gso, bop, procedural"),
        ("network=fine", r"^network is 'fine': give one of coarse, refiner, scorer.$"),
        (
            "network=refiner",
            r"^data.image_size is 224 and refiner.image_size 128: set data.image_size=128, or the network's",
        ),
        ("data.image_size=112", r"^data.image_size is 112 and model.image_size 224: "),
        ("trainer.precision=16-mixed", r"use bf16-mixed or 32-true"),
    ],
)
def test_mistakes_are_told_in_a_sentence(setting, sentence):
    with pytest.raises(VPOGError, match=sentence) as told:
        load_config([setting])
    assert "\n" not in str(told.value)


def test_a_refiner_begins_with_no_encoder_of_others():
    with pytest.raises(
        VPOGError, match=r"init.croco is for the coarse network's encoder, a refiner has none: leave it out"
    ):
        load_config(["experiment=refiner_tiny", "init.croco=CroCo.pth"])


def test_the_configuration_is_found_in_an_installation(tmp_path, monkeypatch):
    """pip and colcon lay it under share/ of the prefix that holds the package."""
    package = tmp_path / "lib" / "python3" / "site-packages" / "vpog_core"
    package.mkdir(parents=True)
    monkeypatch.setattr(vpog_core, "__file__", str(package / "__init__.py"))
    with pytest.raises(VPOGError, match="install the package again"):
        config_folder()
    share = tmp_path / "share" / "vpog_ros" / "config" / "train"
    share.mkdir(parents=True)
    (share / "train.yaml").touch()
    assert config_folder() == share


def test_pip_and_colcon_install_every_file():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11")
    folder = config_folder()
    root = folder.parents[1]
    files = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["data-files"]
    installed = {
        (place, source.name) for place, globs in files.items() for g in globs for source in root.glob(g)
    }
    expected = {
        (f"share/vpog_ros/config/train/{p.parent.relative_to(folder)}", p.name)
        for p in folder.rglob("*.yaml")
    } | {("share/vpog_ros/msg", p.name) for p in (root / "msg").glob("*.msg")}
    assert installed == {(place.removesuffix("/."), name) for place, name in expected}
    assert "install(DIRECTORY launch config" in (root / "CMakeLists.txt").read_text()


def test_vpog_train_says_what_it_lacks_and_shows_what_it_would_do(capsys, monkeypatch):
    assert main(["train", "experiment=huge"]) == 2
    assert capsys.readouterr().err.startswith("vpog: There is no 'experiment/huge'")
    assert main(["train", "experiment=tiny", "--show"]) == 0
    assert "embed_dim: 192" in capsys.readouterr().out
    monkeypatch.setitem(__import__("sys").modules, "hydra", None)
    monkeypatch.delitem(__import__("sys").modules, "vpog_core.training.compose")
    assert main(["train"]) == 2
    assert "pip install lightning hydra-core tensorboard" in capsys.readouterr().err


def test_vpog_train_runs(tmp_path, capsys):
    """The command takes one step of a very small network on two procedural objects, and writes weights."""
    sizes = (
        "embed_dim=64",
        "depth=1",
        "num_heads=2",
        "aa_depth=1",
        "aa_heads=2",
        "fine_dim=16",
        "flow_hidden=32",
    )
    settings = [
        "experiment=tiny", *(f"model.{s}" for s in sizes), f"output={tmp_path / 'run'}",
        f"data.cache_dir={tmp_path / 'cache'}", "data.procedural=1",
        "data.held_out_procedural=1", "data.queries=1", "data.validation_samples=1", "data.cluster=2",
        "data.negatives=1", "data.processes=1",
        "trainer.logger=csv", "trainer.max_epochs=1", "trainer.epoch_steps=1", "trainer.figures=1",
        "loader.batch_size=1", "loader.workers=0",
    ]  # fmt: skip
    assert main(["train", *settings]) == 0
    out = capsys.readouterr().out.strip().splitlines()
    assert out[-1].startswith("1 steps in ")
    assert out[-1].endswith(f"weights: {tmp_path / 'run' / 'weights.safetensors'}")
    assert (tmp_path / "run" / "weights.safetensors").is_file()
    assert list((tmp_path / "run" / "figures").iterdir())
    shutil.rmtree(tmp_path / "cache")
