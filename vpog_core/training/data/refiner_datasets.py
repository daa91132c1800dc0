"""Build the training and the validation set of a refiner from a `DataConfig`."""

from __future__ import annotations

from pathlib import Path

import cv2
from tqdm import tqdm

from vpog_core.io.image_file import read_photo
from vpog_core.synthetic.seeds import VALIDATION
from vpog_core.training.data.data_config import DataConfig
from vpog_core.training.data.datasets import object_sources, require_objects, weights_of_kinds
from vpog_core.training.data.mesh_cache import RendererCache
from vpog_core.training.data.mesh_source import photo_files
from vpog_core.training.data.object_cache import load_object, prepare_objects
from vpog_core.training.data.refiner_dataset import RefinerDataset
from vpog_core.training.synthesis.pose_perturbation import PerturbationConfig
from vpog_core.training.synthesis.scene_assets import SceneAssets, read_environments
from vpog_core.types import VPOGError


def build_refiner_datasets(
    config: DataConfig,
    size: int,
    perturbation: PerturbationConfig,
    progress: bool = True,
    validate: bool = True,
) -> tuple[RefinerDataset, RefinerDataset]:
    """Make the training and the validation set of a refiner.

    Objects of the validation set are never in the training set, and its pairs are the same in every run.

    Args:
        size: side of image and render, pixels; progress: draw progress bars.
        validate: the validation set is used; else it may be without objects.

    Raises:
        VPOGError: a folder or mesh that cannot be used, image sets, or no object left for one of the sets.
    """
    if config.bop:
        raise VPOGError("A refiner is trained on meshes that are rendered: leave data.bop empty.")
    cv2.setNumThreads(0)  # before any fork: OpenCV's thread pool does not survive one
    # List the objects of all sources.
    train, held_out = object_sources(config, [])
    require_objects(train, held_out, validate)
    # Put their meshes into the cache, and load them from there.
    cache_dir = Path(config.cache_dir).expanduser()
    prepare_objects([*train, *held_out], cache_dir, config.processes, progress)
    cache = RendererCache(config.resident_objects)
    sets = [[load_object(s, cache_dir, cache) for s in sources] for sources in (train, held_out)]
    every = [*sets[0], *sets[1]][: config.resident_objects]
    for obj in tqdm(every, desc="objects", unit="object", mininterval=2, disable=not progress):
        obj.open_renderer()
    # Make both sets with the same scene assets.
    photos = [read_photo(path) for path in photo_files(config.photos)]
    assets = SceneAssets(photos, sets[0], read_environments(config.hdri))
    common = {
        "perturbation": perturbation,
        "photometry": config.photometry,
        "appearances": config.appearances,
    }
    weights = weights_of_kinds(config, sets[0])
    return (
        RefinerDataset(sets[0], assets, size, seed=config.seed, weights=weights, **common),
        RefinerDataset(
            sets[1], assets, size, seed=VALIDATION.start, length=config.validation_samples, **common
        ),
    )
