"""Write a dump atomically: its folder appears complete, or not at all."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

import vpog_core
from vpog_core.frame_dump import values
from vpog_core.frame_dump.dumped_objects import write_object
from vpog_core.frame_dump.place import JSON
from vpog_core.frame_dump.recorder import RecordedCall
from vpog_core.inference.estimator import PoseEstimator
from vpog_core.types import VPOGError
from vpog_core.utils.held_file import ENDING, held, remove_abandoned

FORMAT = 2
IMAGE = "image.png"
MAX_DUMPS = 200
"""Largest number of dumps in one folder, so that repeated requests do not fill the disk."""


def mask_path(folder: Path, number: int) -> Path:
    """Return where the mask of a detection of a dump is."""
    return folder / f"mask_{number}.png"


def write_dump(
    folder: Path,
    name: str,
    call: RecordedCall,
    estimator: PoseEstimator,
    weights: Mapping[str, str],
    settings: Mapping,
) -> Path:
    """Write one call of an estimator into a new folder, and return its path.

    Args:
        folder: of all dumps; made where it is missing.
        name: of the new folder; a number is added where there is one already.
        weights: keys of the weights of `network` and `refiner`.
        settings: the caller's, for people who read the dump.

    Raises:
        VPOGError: it cannot be written, or there are too many.
    """
    partial = folder / f".{name}.{os.getpid()}{ENDING}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_abandoned(folder)
        if sum(1 for path in folder.iterdir() if path.is_dir()) >= MAX_DUMPS:
            raise VPOGError(f"'{folder}' holds {MAX_DUMPS} dumps already: delete those not needed any more.")
        partial.mkdir()
        with held(partial):
            _write(partial, call, estimator, weights, settings)
            path = _free(folder, name)
            os.rename(partial, path)
    except OSError as error:
        raise VPOGError(
            f"The dump cannot be written into '{folder}' ({error.strerror}): set dump_dir to a folder that "
            "can be written, on a disk with room."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return path


def _write(
    folder: Path, call: RecordedCall, estimator: PoseEstimator, weights: Mapping[str, str], settings: Mapping
) -> None:
    _write_png(folder / IMAGE, call.image[..., ::-1])
    for number, detection in enumerate(call.detections):
        if detection.mask is not None:
            _write_png(mask_path(folder, number), np.where(detection.mask, 255, 0).astype(np.uint8))
    library = estimator.library
    names = sorted({library.resolve(d.class_id) for d in call.detections} - set(estimator.left_out))
    content = {
        "format": FORMAT,
        "vpog": vpog_core.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": estimator.device,
        "precision": estimator.networks.precision,
        "engine": estimator.networks.engine,
        "weights": dict(weights),
        "frame": values.plain(call.context),
        "camera": values.camera_values(call.camera),
        "options": dataclasses.asdict(estimator.options),
        "objects": [write_object(folder, number, library, name) for number, name in enumerate(names)],
        "detections": [values.detection_values(d) for d in call.detections],
        "priors": [values.prior_values(prior) for prior in call.priors],
        "constraints": {name: values.constraint_values(known) for name, known in call.constraints.items()},
        "estimates": [values.estimate_values(e) for e in call.estimates],
        "settings": values.plain(settings),
    }
    (folder / JSON).write_text(json.dumps(content, indent=1), encoding="utf-8")


def _write_png(path: Path, image: np.ndarray) -> None:
    path.write_bytes(cv2.imencode(".png", np.ascontiguousarray(image))[1].tobytes())


def _free(folder: Path, name: str) -> Path:
    """Choose a path that is not there yet."""
    path, number = folder / name, 1
    while path.exists():
        number += 1
        path = folder / f"{name}_{number}"
    return path
