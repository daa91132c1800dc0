"""Compose a `TrainConfig` from YAML files and overrides by Hydra; errors become sentences."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import vpog_core
from vpog_core.training.train_config import RENAMED, TrainConfig, from_values, schema
from vpog_core.types import VPOGError

FREE_MAPPINGS = ("trainer.extra", "trainer.logger_options", "data.weights")
"""Settings that are mappings with arbitrary keys."""


def config_folder() -> Path:
    """Find config/train in the source tree, or in a pip or colcon installation.

    Raises:
        VPOGError: it is nowhere.
    """
    package = Path(vpog_core.__file__).resolve().parent
    places = [package.parent / "config" / "train"]
    places += [parent / "share" / "vpog_ros" / "config" / "train" for parent in package.parents]
    for place in places:
        if (place / "train.yaml").is_file():
            return place
    raise VPOGError(f"There is no config/train beside '{package}': install the package again.")


def composed(overrides: Sequence[str]) -> DictConfig:
    """Compose the configuration, as OmegaConf holds it.

    Raises:
        VPOGError: unknown key or file, wrong type, or an override that is none.
    """
    ConfigStore.instance().store(name="schema", node=schema())
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(config_folder())):
            config = compose(config_name="train", overrides=list(overrides))
        OmegaConf.resolve(config)
    except (HydraException, OmegaConfBaseException) as error:
        raise VPOGError(_sentence(error)) from error
    unknown = set(keys_of(OmegaConf.to_container(config))) - set(
        known_keys()
    )  # +KEY=VALUE adds what is unknown
    if unknown:
        raise VPOGError(_no_setting(min(unknown)))
    return config


def load_config(overrides: Sequence[str] = ()) -> TrainConfig:
    """Load the configuration that `experiment=tiny optimizer.lr=1e-3 ...` describe; raises as `composed`."""
    return from_values(OmegaConf.to_container(composed(overrides)))


def as_yaml(config: DictConfig) -> str:
    """Return every value as YAML that `OmegaConf.load` can read."""
    return OmegaConf.to_yaml(config)


def known_keys() -> list[str]:
    """Return the names of all settings, such as `optimizer.lr`."""
    return list(keys_of(OmegaConf.to_container(OmegaConf.structured(schema()))))


def keys_of(values: dict, prefix: str = "") -> Iterator[str]:
    """Yield the dotted names in a nested mapping, without those inside a free mapping."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        yield name
        if isinstance(value, dict) and name not in FREE_MAPPINGS:
            yield from keys_of(value, f"{name}.")


def _sentence(error: Exception) -> str:
    """Turn an error of Hydra or OmegaConf into a sentence."""
    message = f"{error}\n{error.__cause__ or ''}"
    if found := re.search(r"Could not find '([^']+)'", message):
        options = re.findall(r"^\t(\S+)$", message, flags=re.MULTILINE)
        advice = f"use one of {', '.join(options)}" if options else "use a setting of `vpog train --show`"
        return f"There is no '{found[1]}' in '{config_folder()}': {advice}."
    override = re.search(r"Could not override '([^']+)'", message)
    if override and ("not in" in message or "No match" in message):
        return _no_setting(override[1])
    if isinstance(error, OverrideParseException):
        return f"'{error.override}' is no KEY=VALUE: `vpog train --help` shows how settings are given."
    cause = error.__cause__ or error
    where = f"{key}: " if (key := getattr(cause, "full_key", None)) else ""
    reason = " ".join(str(cause).split("full_key")[0].split()).rstrip(".")
    return f"{where}{reason}: `vpog train --help` shows how settings are given."


def _no_setting(key: str) -> str:
    """Return the sentence for an unknown key, with its new name or a similar key of the same section."""
    if key in RENAMED:
        return f"The setting '{key}' is called '{RENAMED[key]}' now: use that name."
    section, _, leaf = key.rpartition(".")
    known = {name.rpartition(".")[2]: name for name in known_keys() if name.startswith(section)}
    near = difflib.get_close_matches(leaf, known, n=1)
    hint = f"did you mean '{known[near[0]]}'? " if near else ""
    return f"There is no setting '{key}': {hint}`vpog train --show` prints them all."
