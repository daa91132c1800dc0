"""Use splits in BOP's format as training sources: their objects, and an index of every annotated instance."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from vpog_core.bop.dataset import BopDataset
from vpog_core.bop.frame_table import FrameTable, open_split
from vpog_core.bop.models import BopModels, models_folder
from vpog_core.bop.shards import BopShards
from vpog_core.geometry.boxes import overlap, projected_box
from vpog_core.objects.mesh import Mesh
from vpog_core.training.data.bop_queries import AnnotatedViews, BopImages
from vpog_core.training.data.data_config import DataConfig
from vpog_core.training.data.mesh_source import GSO_MESH, GSO_TEXTURES, TEXTURE_SIDE, ObjectSource
from vpog_core.training.synthesis.training_object import TrainingObject
from vpog_core.types import VPOGError
from vpog_core.utils.disk_cache import build_once
from vpog_core.utils.fingerprint import SHORT, digest, file_state

SHAPENET_MESH = "models/model_normalized.obj"
MIN_OVERLAP = 0.5
"""A model whose projected boxes overlap the annotated ones less (IoU, median) is refused."""
CHECKED_INSTANCES = 5
"""Number of an object's instances whose boxes are compared."""

log = logging.getLogger(__name__)


@dataclass
class BopSource:
    """Holds one split: its frames, and where the meshes of its objects are.

    Attributes:
        split: reads images; table: all frames; objects: mesh sources by obj_id.
    """

    split: BopDataset | BopShards
    table: FrameTable
    objects: dict[int, ObjectSource] = field(default_factory=dict)

    @classmethod
    def open(cls, root: Path, split: str, config: DataConfig, progress: bool) -> BopSource:
        """Read a split, its index from the cache where it is there.

        Args:
            config: says where the cache is, and the models that MegaPose's shards show.

        Raises:
            VPOGError: a split, shard, annotation or model that cannot be used.
        """
        data = open_split(root, split)
        table = load_index(data, Path(config.cache_dir).expanduser(), config.processes, progress)
        obj_ids = np.unique(np.asarray(table.obj_id)).tolist()
        if not obj_ids:
            raise VPOGError(
                f"The split '{data.root / data.split}' has no annotated object: check its scene_gt.json."
            )
        return cls(
            data, table, model_sources(data, obj_ids, {"gso": config.gso, "shapenet": config.shapenet})
        )

    def training_objects(
        self, loaded: dict[ObjectSource, TrainingObject], used: Sequence[ObjectSource]
    ) -> list[TrainingObject]:
        """Return those objects of `used` that are annotated in this split, with their views.

        Args:
            loaded: the objects of the split, held out or not: where masks are missing, these hide others.

        Raises:
            VPOGError: a model does not fit its annotations.
        """
        known = {obj_id: loaded[source] for obj_id, source in self.objects.items() if source in loaded}
        renderers = {obj_id: obj.open_renderer for obj_id, obj in known.items()}
        images = BopImages(self.split, self.table, renderers)
        out = []
        for obj_id, obj in known.items():
            source, rows = self.objects[obj_id], images.usable_rows(obj_id, obj.mesh)
            if source in used and len(rows):
                check_model(obj.mesh, self.table, rows, source)
                views = AnnotatedViews(images, rows)
                out.append(TrainingObject(obj.name, obj.open_renderer, "bop", views, obj.find_symmetries))
        return out


def load_index(split: BopDataset | BopShards, cache_dir: Path, processes: int, progress: bool) -> FrameTable:
    """Return the table of a split, from the cache where its files have not changed, else read in parallel."""
    stamps = []
    for section in split.sections:
        for path in split.section_files(section):
            size, time = file_state(path)
            stamps.append(f"{path.resolve()} {size} {time}")
    key = digest(["\n".join(stamps)])[:SHORT]

    def make(folder: Path) -> None:
        _read_table(split, processes, progress).save(folder)

    return FrameTable.load(build_once(cache_dir / f"index-{split.name}-{key}", make))


def _read_table(split: BopDataset | BopShards, processes: int, progress: bool) -> FrameTable:
    sections = split.sections
    name = f"index of {split.name}"
    bar = tqdm(total=len(sections), desc=name, unit="part", mininterval=2, disable=not progress)
    with bar, ProcessPoolExecutor(processes or None) as pool:
        tables = []
        for result in pool.map(_read_section, [split] * len(sections), sections):
            if isinstance(result, str):
                raise VPOGError(result)
            tables.append(result)
            bar.update()
    return FrameTable.joined(tables)


def _read_section(split: BopDataset | BopShards, section: int) -> FrameTable | str:
    try:
        return FrameTable.of(section, split.section_frames(section))
    except VPOGError as error:
        return str(error)


def model_sources(
    split: BopDataset | BopShards, obj_ids: Sequence[int], folders: dict[str, str]
) -> dict[int, ObjectSource]:
    """Find the meshes of a split's objects, by obj_id.

    Shards of MegaPose take theirs from the published sets in `folders` ("gso", "shapenet"); objects that are
    not there are left out, with a warning. All others have a models folder.

    Raises:
        VPOGError: no models at all, or one missing from a scene-wise dataset.
    """
    kind = "" if isinstance(split, BopDataset) else split.model_set
    own = models_folder(split.root)
    if isinstance(split, BopDataset) or (own.is_dir() and not kind):
        models = BopModels(own)
        return {i: ObjectSource("bop", f"{split.name}_{i:06d}", models.path(i), models.unit) for i in obj_ids}
    if not (kind and folders[kind]):
        wanted = (
            f"set data.{kind} to its folder" if kind else "put gso_models.json or shapenet_models.json there"
        )
        raise VPOGError(f"The shards in '{split.root}' show models that are kept elsewhere: {wanted}.")
    names = split.model_names
    known = {
        i: _megapose_model(Path(folders[kind]).expanduser(), kind, names[i]) for i in obj_ids if i in names
    }
    found = {i: source for i, source in known.items() if source.path.is_file()}
    if not found:
        raise VPOGError(f"None of the models of '{split.root}' is in '{folders[kind]}': check data.{kind}.")
    if len(found) < len(obj_ids):
        text = "%d of %d objects of '%s' have no model in '%s' and are left out."
        log.warning(text, len(obj_ids) - len(found), len(obj_ids), split.root, folders[kind])
    return found


def _megapose_model(folder: Path, kind: str, name: str) -> ObjectSource:
    if kind == "gso":
        path, textures = folder / name / GSO_MESH, folder / name / GSO_TEXTURES
    else:
        path, textures = folder / name / SHAPENET_MESH, folder / name / "images"
    return ObjectSource(
        "bop", f"megapose_{kind}_{name.replace('/', '_')}", path, "m", textures,
        megapose=kind, texture_side=TEXTURE_SIDE // 2,
    )  # fmt: skip


def check_model(mesh: Mesh, table: FrameTable, rows: np.ndarray, source: ObjectSource) -> None:
    """Check that a model, posed as annotated, fills the annotated boxes.

    Raises:
        VPOGError: it does not: another unit, frame or object.
    """
    K = np.asarray(table.K[table.frame_of(rows)])
    boxes = np.asarray(table.boxes[rows, 0], dtype=np.float64)
    # Some sets clip boxes at the image's border, which lies at about twice the principal point.
    whole = (boxes[:, :2] > 1).all(axis=1) & (boxes[:, 2:] < 2 * K[:, :2, 2] - 2).all(axis=1)
    chosen = np.flatnonzero(whole)[:CHECKED_INSTANCES]
    projected = [projected_box(np.asarray(table.T_cam_obj[rows[n]]), mesh.hull_points, K[n]) for n in chosen]
    overlaps = [0.0 if p is None else overlap(p, boxes[n]) for p, n in zip(projected, chosen, strict=True)]
    if overlaps and np.median(overlaps) < MIN_OVERLAP:
        raise VPOGError(
            f"The model '{source.path}' does not fill the boxes it is annotated with (overlap "
            f"{np.median(overlaps):.2f}): it is another object, or in another unit or frame; replace it."
        )
