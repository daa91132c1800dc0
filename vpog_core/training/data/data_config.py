"""Define the configuration of the training data; its values are checked on construction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from vpog_core.models.config import PATCH
from vpog_core.synthetic.seeds import TRAINING, VALIDATION
from vpog_core.training.synthesis.appearance import AppearanceParams
from vpog_core.types import VPOGError

SOURCES = ("meshes", "gso", "bop", "procedural")
RENAMED_KEYS = {
    "bank": "cache_dir", "refined_share": "refined_fraction", "validation_groups": "validation_samples",
    "looks": "appearances",
}  # fmt: skip
"""New names of keys that earlier versions had."""


@dataclass
class DataConfig:
    """Declares objects, images and how samples are drawn from them; empty values are not used.

    Attributes:
        meshes: folders of mesh files, rendered on the fly.
        unit: of those meshes: auto, m, cm or mm.
        gso: folder of Google Scanned Objects as published, one folder for each object; rendered on the fly.
        shapenet: folder of ShapeNetCore; only for the models of MegaPose-ShapeNetCore's images.
        bop: splits in BOP's format, `ROOT:SPLIT` (`data/ycbv:train_pbr`) or `ROOT` for shards without one.
        hypotheses: folder that `vpog record-hypotheses` has written, which a scorer is trained on.
        procedural: how many procedural objects, seeds from 0.
        photos: folder of photographs, for backgrounds and procedural textures.
        hdri: folder of equirectangular environment maps (.hdr, .exr), for light.
        cache_dir: folder of meshes as arrays, their symmetries, and indices of splits.
        image_size: side of crops and templates, pixels.
        queries, cluster, negatives: Q queries and S matched plus further templates in a sample.
        refined_fraction: of the samples, those whose reference is rendered at nearly the queries' pose.
        weights: samples drawn from each source, relative; empty: by its number of objects.
        appearances: how often rendered objects have their own colours, paint, prints, ...
        held_out_every: one object in so many, in the order of their names, is held out; 0: none.
        held_out_procedural: further procedural objects for validation.
        validation_samples: items of the validation set.
        photometry: lens, sensor and file effects are applied by the loader's workers; False where the trainer
            applies them on the device.
        resident_objects: meshes kept in memory; of more, the least recently used is dropped.
        processes: that prepare meshes; 0 takes every core.
        seed: of everything random.
    """

    meshes: list[str] = field(default_factory=list)
    unit: str = "auto"
    gso: str = ""
    shapenet: str = ""
    bop: list[str] = field(default_factory=list)
    hypotheses: str = ""
    procedural: int = 0
    photos: str = ""
    hdri: str = ""
    cache_dir: str = "runs/cache"
    image_size: int = 112
    queries: int = 4
    cluster: int = 4
    negatives: int = 24
    refined_fraction: float = 0.3
    weights: dict[str, float] = field(default_factory=dict)
    appearances: AppearanceParams = field(default_factory=AppearanceParams)
    held_out_every: int = 14
    held_out_procedural: int = 12
    validation_samples: int = 48
    photometry: bool = True
    resident_objects: int = 512
    processes: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("meshes", "bop"):
            value = getattr(self, name)
            if isinstance(value, str) or not all(isinstance(v, str) for v in value):
                raise VPOGError(f"data.{name} is a list of paths, not '{value}': write [PATH, PATH].")
            setattr(self, name, list(value))
        self.weights = dict(self.weights)
        self._check_numbers()
        if not any(getattr(self, name) for name in SOURCES):
            raise VPOGError(f"The training data names no objects: set one of {', '.join(SOURCES)}.")
        self._check_weights()

    @classmethod
    def from_mapping(cls, values: Mapping) -> DataConfig:
        """Make the configuration from a plain mapping, such as a YAML file's.

        Raises:
            VPOGError: unknown keys, or values that do not fit.
        """
        known = [f.name for f in fields(cls)]
        for key in values:
            if key in RENAMED_KEYS:
                raise VPOGError(f"data.{key} is called data.{RENAMED_KEYS[key]} now: use that name.")
            if key not in known:
                raise VPOGError(f"data.{key} is not known: use one of {', '.join(known)}.")
        return cls(**values)

    def _check_numbers(self) -> None:
        lowest = {
            "procedural": 0, "queries": 1, "cluster": 1, "negatives": 0, "held_out_every": 0, "processes": 0,
            "held_out_procedural": 0, "validation_samples": 1, "resident_objects": 1,
            "image_size": 2 * PATCH, "seed": 0,
        }  # fmt: skip
        for name, low in lowest.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise VPOGError(f"data.{name} is '{value}': set a whole number of {low} or more.")
        if self.image_size % PATCH:
            raise VPOGError(
                f"data.image_size is {self.image_size}: set a multiple of the patch size, {PATCH}."
            )
        for name, seeds in (("procedural", TRAINING), ("held_out_procedural", VALIDATION)):
            if getattr(self, name) > len(seeds):
                raise VPOGError(f"data.{name} is {getattr(self, name)}: set {len(seeds)} at most.")
        if self.held_out_every == 1:
            raise VPOGError(
                "data.held_out_every is 1, which leaves nothing to train on: set 0, or 2 or more."
            )
        if not 0.0 <= self.refined_fraction <= 1.0:
            raise VPOGError(
                f"data.refined_fraction is {self.refined_fraction}: set a fraction between 0 and 1."
            )

    def _check_weights(self) -> None:
        if not self.weights:
            return
        used = [name for name in SOURCES if getattr(self, name)]
        if sorted(self.weights) != sorted(used):
            named = ", ".join(sorted(self.weights))
            raise VPOGError(
                f"data.weights names {named}: name each source in use ({', '.join(used)}) and no other."
            )
        values = list(self.weights.values())
        if not all(isinstance(v, (int, float)) and 0 <= v < float("inf") for v in values) or sum(values) <= 0:
            raise VPOGError(f"data.weights are {values}: set numbers of zero or more, not all of them zero.")
