"""Find the scenes of a split; refuse folders in another layout."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from vpog_core.types import VPOGError

CAMERA_FILE = re.compile(r"scene_camera(?:_(.+))?\.json")
NUMBER = re.compile(r"[0-9]+")
"""Numbers in the names of files and folders; `isdigit` would take ² and ³, too."""


@dataclass(frozen=True)
class Layout:
    """Holds the scenes of a split and the camera whose images are read.

    Attributes:
        scenes: folder of each scene, by number.
        sensor: of a dataset with several cameras, as in scene_camera_SENSOR.json; empty: scene_camera.json.
    """

    scenes: dict[int, Path]
    sensor: str = ""

    def annotation(self, scene_id: int, name: str) -> Path:
        """Return the path of a scene's `scene_camera`, `scene_gt` or `scene_gt_info`; it may not exist."""
        return self.scenes[scene_id] / f"{name}{self.sensor and '_'}{self.sensor}.json"


def find_scenes(root: Path, split: str, sensor: str = "") -> Layout:
    """Find the scenes of a split: the folders named by a number, of any digits, with a scene_camera.json.

    Args:
        sensor: whose images are wanted; empty takes scene_camera.json, or the only sensor there is.

    Raises:
        VPOGError: no such split, no scene in it, no such sensor, or several to choose from.
    """
    folder = root / split
    cameras = _cameras(folder) if Path(split).name == split and folder.is_dir() else {}
    sensors = sorted({name for names in cameras.values() for name in names})
    if not sensors:
        raise VPOGError(_why_none(root, split))
    known = ", ".join(name or "the one without a name" for name in sensors)
    if not sensor and "" not in sensors:
        if len(sensors) > 1:
            raise VPOGError(
                f"'{folder}' holds images of several sensors ({known}): choose one with --sensor."
            )
        sensor = sensors[0]
    if sensor not in sensors:
        raise VPOGError(f"There is no sensor '{sensor}' in '{folder}' (sensors there: {known}): choose one.")
    scenes: dict[int, Path] = {}
    for path in (path for path, names in sorted(cameras.items()) if sensor in names):
        other = scenes.setdefault(int(path.name), path)
        if other != path:
            raise VPOGError(f"'{other}' and '{path}' have the same number: rename one of them.")
    return Layout(scenes, sensor)


def _cameras(folder: Path) -> dict[Path, list[str]]:
    """Find the sensors of each scene folder, "" for scene_camera.json."""
    scenes = [path for path in folder.iterdir() if path.is_dir() and NUMBER.fullmatch(path.name)]
    found = ((scene, CAMERA_FILE.fullmatch(p.name)) for scene in scenes for p in scene.iterdir())
    cameras: dict[Path, list[str]] = {}
    for scene, match in found:
        if match:
            cameras.setdefault(scene, []).append(match[1] or "")
    return cameras


def _why_none(root: Path, split: str) -> str:
    """Return the sentence for a split without a scene: it names the layout that is there instead."""
    folder = root / split if Path(split).name == split else root
    for place in (folder, root):
        if any(place.glob("*.tar")):
            return f"'{place}' holds shards (BOP-webdataset), not folders of scenes: unpack it scene-wise."
        if any(place.glob("*.camera.json")):
            return f"'{place}' holds a file for each image (BOP-imagewise): give the scene-wise dataset."
    if any(folder.glob("obj_*/scene_camera*.json")):
        return f"'{folder}' holds onboarding images (obj_...), for methods without models: use another split."
    for scene in sorted(p for p in folder.glob("*") if p.is_dir() and NUMBER.fullmatch(p.name)):
        if (scene / "info.yml").is_file():
            return f"'{scene}' is in SIXD's layout (info.yml, gt.yml): download the dataset in BOP's format."
        return (
            f"The scene '{scene}' has no scene_camera.json (camera.json is for rendering alone): "
            "write it, with the cam_K of each image."
        )
    if other := _other_root(root, split):
        return other
    there = sorted(p.parent.parent.name for p in root.glob("*/*/scene_camera*.json"))
    known = ", ".join(dict.fromkeys(there)) or "none"
    return f"There is no split '{split}' with scenes in '{root}' (splits there: {known}): choose one."


def _other_root(root: Path, split: str) -> str:
    """Return the sentence for a root that is a scene, a split or the folder around datasets; else ""."""
    for what, pattern in (("scene", "scene_camera*.json"), ("split", "*/scene_camera*.json")):
        if any(root.glob(pattern)):
            folder = root.resolve().parent if what == "scene" else root.resolve()
            return (
                f"'{root}' is a {what} and not the dataset's folder: give '{folder.parent}' and the split "
                f"{folder.name}."
            )
    for camera in root.glob("*/*/*/scene_camera*.json"):
        return f"There is no split '{split}' in '{root}', but '{camera.parents[2]}' is a dataset: give that."
    return ""
