"""Read a dump, and find its poses again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from vpog_core.frame_dump import values
from vpog_core.frame_dump.dumped_objects import DumpedObjects
from vpog_core.frame_dump.place import JSON, check_dump
from vpog_core.frame_dump.write import FORMAT, IMAGE, mask_path
from vpog_core.inference.estimator import PoseEstimator
from vpog_core.inference.networks import DEFAULT_REFINER, DEFAULT_WEIGHTS, Networks
from vpog_core.inference.options import Options
from vpog_core.io.image_file import open_image, read_image
from vpog_core.models.checkpoint import weights_key
from vpog_core.types import Camera, Detection, VPOGError


@dataclass(frozen=True)
class Dump:
    """Holds the content of a dump.

    Attributes:
        priors: the prior of each detection, or None; constraints: by the names of the objects.
        poses: T_cam_obj [4, 4] or None of each detection, as answered then.
        weights: keys of the weights of `network` and `refiner`.
        precision, engine: of the networks, see `Networks.load`.
    """

    image: np.ndarray
    camera: Camera
    detections: list[Detection]
    priors: list
    constraints: dict
    poses: list[np.ndarray | None]
    options: Options
    library: DumpedObjects
    weights: Mapping[str, str]
    precision: str
    engine: str


def read_dump(path: str | Path, cache_dir: str | Path | None = None) -> Dump:
    """Read a dump; nothing outside its folder is read but the cache of its objects' templates.

    Args:
        cache_dir: the folder of that cache; None: the user's cache folder.

    Raises:
        VPOGError: it is no dump, or it is broken.
    """
    folder = Path(path)
    check_dump(folder)
    try:
        content = json.loads(_inside(folder / JSON).read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise VPOGError(
                f"The dump '{folder}' is of format {content['format']} and this version reads {FORMAT}: use "
                f"the version it was made with, {content['vpog']}."
            )
        _check_counts(content)
        image = read_image(_inside(folder / IMAGE))
        library = DumpedObjects(folder, content["objects"], Path(cache_dir) if cache_dir else None)
        return Dump(
            image,
            values.read_camera_values(content["camera"]),
            _detections(folder, content["detections"], image.shape[:2]),
            [values.read_prior_values(prior) for prior in content["priors"]],
            _constraints(content, library),
            [values.read_pose(estimate) for estimate in content["estimates"]],
            Options(**content["options"]),
            library,
            dict(content["weights"]),
            # Dumps of earlier versions do not tell.
            str(content.get("precision", "auto")),
            str(content.get("engine", "torch")),
        )
    except VPOGError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
        raise VPOGError(
            f"The dump '{folder}' is broken, or of another version ({type(error).__name__}: {error}): copy "
            "it again, and use the version that wrote it."
        ) from error


def _constraints(content: Mapping, library: DumpedObjects) -> dict:
    """Read the constraints of the objects that a dump holds; dumps of earlier versions have none.

    The node writes those of all its objects, and only the objects that were detected.
    """
    given = content.get("constraints", {})
    return {name: values.read_constraint_values(v) for name, v in given.items() if name in library.entries}


def make_estimator(
    dump: Dump, weights: str | None = None, refiner_weights: str | None = None, device: str = "auto"
) -> PoseEstimator:
    """Make the estimator that a dump was made with.

    Args:
        weights, refiner_weights: files; None: the ones that ship.

    Raises:
        VPOGError: the dump was made with other weights.
    """
    paths = {"network": Path(weights or DEFAULT_WEIGHTS), "refiner": Path(refiner_weights or DEFAULT_REFINER)}
    for (part, path), option in zip(paths.items(), ("--weights", "--refiner-weights"), strict=True):
        if weights_key(path) != dump.weights.get(part):
            raise VPOGError(
                f"The dump was made with other weights of the {part} than '{path}' ({weights_key(path)}): "
                f"give those of key {dump.weights.get(part)} with {option}."
            )
    networks = Networks.load(*paths.values(), device, dump.precision, dump.engine)
    return PoseEstimator(dump.library, networks, **asdict(dump.options))


def _check_counts(content: Mapping) -> None:
    """Raise ValueError where a dump has not one prior and one estimate for each detection."""
    counts = {name: len(content[name]) for name in ("detections", "priors", "estimates")}
    if len(set(counts.values())) > 1:
        raise ValueError(f"{', '.join(f'{count} {name}' for name, count in counts.items())}")


def _detections(folder: Path, entries: list[Mapping], size: tuple[int, int]) -> list[Detection]:
    found = []
    for number, entry in enumerate(entries):
        mask = None
        if entry["mask"]:
            pixels = open_image(_inside(mask_path(folder, number)), "mask").pixels
            if pixels.shape != tuple(size):
                raise ValueError(f"mask {number} is of another size than the image")
            mask = pixels > 0
        found.append(values.read_detection_values(entry, mask))
    return found


def _inside(path: Path) -> Path:
    """Refuse a file of a dump that is a link to somewhere else."""
    if path.is_symlink():
        raise VPOGError(f"'{path}' is a link: copy the dump with its files.")
    return path
