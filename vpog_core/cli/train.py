"""Implement `vpog train`: read settings from config/train and the command line, then train."""

from __future__ import annotations

import argparse

from vpog_core.types import VPOGError

HELP = """\
Train a network. Settings are Hydra's: SECTION=FILE takes a file of config/train, KEY=VALUE sets one
value. Objects and photographs are given as data settings; without any, procedural objects are made up.

  experiment=tiny      112 px, a CPU: first sensible poses after an hour or two
  experiment=small     224 px, one GPU: half an hour
  experiment=base      224 px, encoder from CroCo v2 (init.croco=FILE), 8 GPUs
  experiment=refiner_tiny, experiment=refiner_small
                       the refiner: 128 px on a CPU, 224 px on a GPU
  experiment=scorer_tiny   the part of a refiner that scores poses: init.weights=REFINER, and
                       data.hypotheses=DIR, recorded by vpog record-hypotheses

Settings that are often given (--show prints them all):
  output=DIR                  checkpoint, weights, history, log and figures; a run found there is resumed
  data.meshes=[DIR,...]       mesh files; data.unit=mm where they are in millimetres
  data.gso=DIR  data.bop=[ROOT:SPLIT,...]  data.procedural=N  data.photos=DIR  data.cache_dir=DIR
  trainer.minutes=N           stop cleanly after N minutes; Ctrl-C does so at once
  trainer.devices=N  trainer.num_nodes=N  trainer.precision=bf16-mixed  trainer.compile=true
  trainer.logger=NAME         tensorboard, csv, wandb, mlflow, comet, neptune or none
  loader.batch_size=N         objects in a batch, four queries each; loader.workers=N processes render
  init.weights=FILE           begin with these weights"""

EXAMPLES = """\
examples:
  vpog train experiment=tiny output=runs/tiny trainer.minutes=90
  vpog train experiment=small data.meshes=[meshes/train] data.photos=photos
  vpog train experiment=base init.croco=CroCo_V2_ViTBase_BaseDecoder.pth 'data.bop=[data/gso:train_pbr]'
Quote arguments with brackets, as shells read them. Exit status: 0 done, 2 unusable settings, 130 stopped."""


def add_command(add) -> None:
    """Register the subcommand; `add(name, summary, description, epilog, run)` gives its parser."""
    parser = add("train", "train the network", HELP, EXAMPLES, run_train)
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="settings, see above")
    parser.add_argument("--show", action="store_true", help="print all settings as YAML and do nothing")


def run_train(arguments: argparse.Namespace) -> int:
    """Run `vpog train`; return 130 when it was stopped by Ctrl-C."""
    try:
        from vpog_core.training.compose import as_yaml, composed, load_config
    except ModuleNotFoundError as error:
        raise VPOGError(_missing(error)) from error
    if arguments.show:
        print(as_yaml(composed(arguments.settings)), end="")
        return 0
    config = load_config(arguments.settings)
    try:
        from vpog_core.training.train import train
    except ModuleNotFoundError as error:
        raise VPOGError(_missing(error)) from error
    return 130 if train(config).interrupted else 0


def _missing(error: ModuleNotFoundError) -> str:
    if (error.name or "").startswith("vpog_core"):
        return f"This installation lacks '{error.name}': build or install vpog_ros again."
    return f"Training needs the package '{error.name}': pip install lightning hydra-core tensorboard."
