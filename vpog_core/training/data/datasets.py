"""Build the training and the validation set of the coarse network from a `DataConfig`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
from tqdm import tqdm

from vpog_core.io.image_file import read_photo
from vpog_core.synthetic.seeds import TRAINING, VALIDATION, take
from vpog_core.training.data.bop_source import BopSource
from vpog_core.training.data.data_config import DataConfig
from vpog_core.training.data.mesh_cache import RendererCache
from vpog_core.training.data.mesh_source import (
    MESH_SOURCES,
    ObjectSource,
    photo_files,
    procedural,
    split_held_out,
)
from vpog_core.training.data.object_cache import load_object, prepare_objects
from vpog_core.training.data.vpog_dataset import VPOGTrainDataset
from vpog_core.training.synthesis.scene_assets import SceneAssets, read_environments
from vpog_core.training.synthesis.training_object import TrainingObject
from vpog_core.types import VPOGError


def build_datasets(
    config: DataConfig, progress: bool = True, preload: bool = True, validate: bool = True
) -> tuple[VPOGTrainDataset, VPOGTrainDataset]:
    """Build the training and the validation set; meshes that are not in the cache yet are put there.

    Objects of the validation set are never in the training set. Its samples are the same in every run: their
    seed is fixed.

    Args:
        progress: draw progress bars.
        preload: load meshes now, so that the workers a loader forks share them; else when they are drawn.
        validate: the validation set is used; else it may be without objects.

    Raises:
        VPOGError: a folder, mesh or annotation that cannot be used, or no object left for one of the sets.
    """
    cv2.setNumThreads(0)  # before any fork: OpenCV's thread pool does not survive one
    # List the objects of all sources.
    splits = open_splits(config, progress)
    train, held_out = object_sources(config, splits)
    seen_with = [s for split in splits for s in split.objects.values()]
    every = list(dict.fromkeys([*train, *held_out, *seen_with]))
    # Put their meshes into the cache, and load them from there.
    loaded = _load_objects(every, config, progress, preload)
    # Make both sets with the same scene assets.
    sets = [_training_objects(part, splits, loaded) for part in (train, held_out)]
    require_objects(*sets, validate)
    photos = [read_photo(path) for path in photo_files(config.photos)]
    assets = SceneAssets(photos, sets[0], read_environments(config.hdri))
    common = {
        "queries": config.queries, "cluster": config.cluster, "negatives": config.negatives,
        "refined_fraction": config.refined_fraction, "photometry": config.photometry,
        "appearances": config.appearances,
    }  # fmt: skip
    weights = weights_of_kinds(config, sets[0])
    return (
        VPOGTrainDataset(sets[0], assets, config.image_size, config.seed, weights=weights, **common),
        VPOGTrainDataset(
            sets[1], assets, config.image_size, VALIDATION.start, length=config.validation_samples, **common
        ),
    )


def _load_objects(
    sources: Sequence[ObjectSource], config: DataConfig, progress: bool, preload: bool
) -> dict[ObjectSource, TrainingObject]:
    """Load objects from the cache, where their meshes are put first."""
    cache_dir = Path(config.cache_dir).expanduser()
    prepare_objects(sources, cache_dir, config.processes, progress)
    cache = RendererCache(config.resident_objects)
    loaded = {source: load_object(source, cache_dir, cache) for source in sources}
    if preload:
        first = list(loaded.values())[: config.resident_objects]
        for obj in tqdm(first, desc="objects", unit="object", mininterval=2, disable=not progress):
            obj.open_renderer()
    return loaded


def open_splits(config: DataConfig, progress: bool) -> list[BopSource]:
    """Open the splits of `config.bop`: entries ROOT:SPLIT, or ROOT where shards lie in it."""
    out = []
    for entry in config.bop:
        root, separator, split = entry.rpartition(":")
        place = (Path(root), split) if separator else (Path(entry), "")
        out.append(BopSource.open(*place, config, progress))
    return out


def object_sources(
    config: DataConfig, splits: Sequence[BopSource]
) -> tuple[list[ObjectSource], list[ObjectSource]]:
    """List the objects for training and those held out: of each kind by name, procedural ones by seed.

    One mesh that is in two kinds is held out in both or in neither.
    """
    kinds = [
        *(listed(config) for listed in MESH_SOURCES.values()),
        sorted({s for split in splits for s in split.objects.values()}, key=lambda s: s.name),
    ]
    train: list[ObjectSource] = []
    held_out: list[ObjectSource] = []
    for sources in kinds:
        known = {s.path.resolve(): part for part in (train, held_out) for s in part}
        new = split_held_out([s for s in sources if s.path.resolve() not in known], config.held_out_every)
        for source in sources:
            known.get(source.path.resolve(), train if source in new[0] else held_out).append(source)
    photos = photo_files(config.photos)
    train += procedural(take(TRAINING, 0, config.procedural), photos)
    validated = config.held_out_procedural if config.procedural else 0
    held_out += procedural(take(VALIDATION, 0, validated), photos)
    return train, held_out


def require_objects(train: Sequence, held_out: Sequence, validate: bool) -> None:
    """Refuse, by a VPOGError, data that leaves no object to train on or, where `validate`, to validate on."""
    for objects, name, is_needed in ((train, "train on", True), (held_out, "validate on", validate)):
        if is_needed and not objects:
            raise VPOGError(
                f"No object is left to {name}: give more objects, or set data.held_out_every and "
                "data.held_out_procedural so that both sets have some."
            )


def _training_objects(
    sources: Sequence[ObjectSource], splits: Sequence[BopSource], loaded: dict[ObjectSource, TrainingObject]
) -> list[TrainingObject]:
    """Return the rendered objects, and the annotated ones once for each split that shows them."""
    rendered = [loaded[s] for s in sources if s.kind != "bop"]
    return rendered + [o for split in splits for o in split.training_objects(loaded, set(sources))]


def weights_of_kinds(config: DataConfig, objects: Sequence[TrainingObject]) -> dict[str, float] | None:
    """Return the weights of the kinds that some object has."""
    if not config.weights:
        return None
    kinds = {obj.kind for obj in objects}
    weights = {kind: value for kind, value in config.weights.items() if kind in kinds}
    if sum(weights.values()) <= 0:
        raise VPOGError(f"data.weights gives {weights} to the objects there are: set one of them above zero.")
    return weights
