"""Check a dataset against BOP's format: deviations are recognised and noted, or refused."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import numpy as np

from vpog_core.bop.dataset import BopDataset
from vpog_core.bop.frame import BopFrame
from vpog_core.evaluation.benchmark import FrameKey
from vpog_core.geometry.boxes import projected_box
from vpog_core.geometry.camera_checks import camera_doubts, check_camera
from vpog_core.types import VPOGError

COMPARED = 20
"""Instances whose annotated box is compared with their model's outline."""
OTHER_SIZE = 2.5
"""Boxes and outlines that differ by this factor are in different units; wrong boxes differ by less."""


def check_dataset(
    dataset: BopDataset,
    targets: Mapping[FrameKey, Mapping[int, int]],
    points_of: Callable[[int], np.ndarray],
) -> list[str]:
    """Read the annotations of all frames with targets and say what is taken otherwise than BOP has it.

    Args:
        targets: by frame, the number of instances to find of each object.
        points_of: gives an object's outermost points [N, 3], metres.

    Returns:
        Sentences.

    Raises:
        VPOGError: a frame or a model that is not there, none of the targets annotated, models of
            another size than their annotations.
    """
    for obj_id in {obj_id for wanted in targets.values() for obj_id in wanted}:
        dataset.model_path(obj_id)
    targeted, missing, without_info, ratios = 0, 0, set(), []
    first: dict[int, BopFrame] = {}
    for key, wanted in targets.items():
        frame = dataset.frame(*key)
        first.setdefault(key[0], frame)
        ids = [instance.obj_id for instance in frame.instances]
        targeted += sum(wanted.values())
        missing += sum(max(count - ids.count(obj_id), 0) for obj_id, count in wanted.items())
        without_info |= {key[0] for instance in frame.instances if instance.without_info}
        if len(ratios) < COMPARED:
            ratios += _ratios(frame, wanted, points_of)
    if missing == targeted:
        raise VPOGError(
            f"None of the {targeted} instances asked for in '{dataset.root / dataset.split}' has a pose in "
            "scene_gt.json (BOP keeps those of some test images hidden): use the split val."
        )
    _check_size(dataset, ratios)
    notes = _notes(dataset, set(first), without_info, f"{missing} of {targeted}" * (missing > 0))
    return notes + _camera_notes(first)


def _camera_notes(first: Mapping[int, BopFrame]) -> list[str]:
    """Return sentences on unlikely calibrations, checked on the first image of each scene.

    Nothing is refused: images that were cut out of larger ones have their principal point anywhere.
    """
    scenes: dict[str, set[int]] = {}
    for scene_id, frame in first.items():
        try:
            check_camera(frame.camera)
            doubts = camera_doubts(frame.camera)
        except VPOGError as error:
            doubts = [str(error)]
        for doubt in doubts:
            scenes.setdefault(doubt, set()).add(scene_id)
    return [f"The camera of {_scenes(numbers)}: {doubt}" for doubt, numbers in scenes.items()]


def _ratios(frame: BopFrame, wanted: Collection[int], points_of: Callable[[int], np.ndarray]) -> list[float]:
    """Compute the widths of models' outlines over those of their annotated boxes, if these are complete."""
    found = []
    for instance in frame.instances:
        if instance.obj_id in wanted and instance.box_object is not None:
            outline = projected_box(instance.T_cam_obj, points_of(instance.obj_id), frame.K)
            size = np.linalg.norm(instance.box_object[2:] - instance.box_object[:2])
            found.append(
                np.inf if outline is None else float(np.linalg.norm(outline[2:] - outline[:2]) / size)
            )
    return found


def _check_size(dataset: BopDataset, ratios: list[float]) -> None:
    typical = float(np.median(ratios)) if ratios else 1.0
    if not 1 / OTHER_SIZE < typical < OTHER_SIZE:
        much = f"{typical:.3g} times as wide" if np.isfinite(typical) else "around the camera"
        raise VPOGError(
            f"The models of '{dataset.root}' in their annotated poses are {much} as the boxes of "
            "scene_gt_info.json: bring the models and cam_t_m2c to millimetres."
        )


def _notes(dataset: BopDataset, scenes: set[int], without_info: set[int], missing: str) -> list[str]:
    notes = []
    if missing:
        notes.append(f"{missing} instances asked for have no pose in scene_gt.json and are left out.")
    if without_info:
        notes.append(
            f"scene_gt_info.json has no boxes in {_scenes(without_info)}: they are taken from the masks, or "
            "from the models' outlines where there are none."
        )
    if metres := {scene for scene in scenes if not dataset.in_millimetres(scene)}:
        notes.append(
            f"The poses of {_scenes(metres)} are read as metres: in millimetres they touch the lens."
        )
    if dataset.models.unit == "m":
        notes.append("The models are read as metres: in millimetres they are under 5 mm.")
    return notes


def _scenes(numbers: set[int]) -> str:
    some = ", ".join(str(n) for n in sorted(numbers)[:5])
    return f"scene{'s' * (len(numbers) > 1)} {some}" + (" and more" if len(numbers) > 5 else "")
