"""Read the models of a BOP dataset: meshes in millimetres, with the data of models_info.json."""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path

from vpog_core.bop.files import by_number, read_json
from vpog_core.bop.layout import NUMBER
from vpog_core.objects.mesh import UNITS, Mesh, load_mesh
from vpog_core.types import VPOGError

MODEL_FOLDERS = ("models", "models_cad", "models_reconst")
EVALUATION = "_eval"
"""Suffix of the folder of models that errors are computed on."""
TOO_DIFFERENT = 2.0
"""A diameter in models_info.json that differs from the mesh's by this factor is not of that mesh."""


def models_folder(root: Path) -> Path:
    """Return the first folder of models a dataset has, other models_TYPE last; `models` where it has none."""
    others = sorted(path.name for path in root.glob("models_*") if path.is_dir())
    others.sort(key=lambda name: name.endswith(EVALUATION))
    names = dict.fromkeys([*MODEL_FOLDERS, *others])
    return next((root / name for name in names if (root / name).is_dir()), root / MODEL_FOLDERS[0])


def evaluation_folder(models: Path) -> Path:
    """Return the folder of the models that errors are computed on, where these differ from `models`."""
    own = models.with_name(f"{models.name}{EVALUATION}")
    return next((f for f in (own, models.with_name(f"models{EVALUATION}")) if f.is_dir()), models)


class BopModels:
    """Reads the models of a BOP dataset: obj_XXXXXX.ply in millimetres, and models_info.json.

    Models in metres are recognised: no object of a dataset is under 5 mm, and none over 5 m.

    Args:
        folder: where they lie.

    Raises:
        VPOGError: no such folder, no model in it, or an info file that cannot be read.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise VPOGError(f"There is no models folder '{folder}': download the dataset's models, too.")
        named = ((NUMBER.fullmatch(p.stem[4:]), p) for p in sorted(self.folder.glob("obj_*.ply")))
        self._files = {int(number[0]): path for number, path in named if number}
        if not self._files:
            there = ", ".join(sorted({p.suffix for p in self.folder.glob("obj_*")})) or "none"
            raise VPOGError(
                f"The models folder '{folder}' holds no obj_XXXXXX.ply (obj_ files there: {there}): "
                "download the models as .ply, or convert them."
            )

    @property
    def ids(self) -> list[int]:
        """Return the numbers of the models, ascending."""
        return sorted(self._files)

    @cached_property
    def info(self) -> dict[int, dict]:
        """Return models_info.json, in the unit it has; empty where there is none."""
        path = self.folder / "models_info.json"
        info = by_number(read_json(path), path) if path.is_file() else {}
        broken = next((i for i, entry in info.items() if not isinstance(entry, dict)), None)
        if broken is not None:
            raise VPOGError(f"'{path}' has no mapping for the model {broken}: download it again.")
        return info

    @cached_property
    def unit(self) -> str:
        """Return the unit of the meshes: mm, or m where none can be in millimetres and all can be in metres.

        Raises:
            VPOGError: a mesh that is neither.
        """
        error = None
        for path in self._files.values():
            try:
                load_mesh(path, "mm")
                return "mm"
            except VPOGError as refused:
                error = error or refused
        try:
            for path in self._files.values():
                load_mesh(path, "m")
        except VPOGError:
            raise error from None
        return "m"

    @cached_property
    def names(self) -> dict[int, str]:
        """Return a name for each model: from names.json where there is one, else its file's."""
        path = self.folder / "names.json"
        given = by_number(read_json(path), path) if path.is_file() else {}
        return {obj_id: str(given.get(obj_id, f"obj_{obj_id:06d}")) for obj_id in self.ids}

    def path(self, obj_id: int) -> Path:
        """Return the file of a model.

        Raises:
            VPOGError: there is no such model.
        """
        if obj_id not in self._files:
            raise VPOGError(f"There is no model {obj_id} in '{self.folder}' (there are {self.ids}): add it.")
        return self._files[obj_id]

    def mesh(self, obj_id: int) -> Mesh:
        """Load the model in metres; every call reads the file again."""
        return load_mesh(self.path(obj_id), self.unit)

    def diameter(self, obj_id: int) -> float:
        """Return the diameter in metres: of models_info.json where it has one, else of the mesh."""
        given = self._given_diameter(obj_id)
        return self.mesh(obj_id).diameter if given is None else given * self.info_unit

    @cached_property
    def info_unit(self) -> float:
        """Return the unit of models_info.json in metres: that of the meshes, which its diameters must fit.

        Raises:
            VPOGError: the first diameter is not of its mesh.
        """
        unit = UNITS[self.unit]
        obj_id = next((i for i in self.ids if self._given_diameter(i) is not None), None)
        if obj_id is not None:
            given, true = self._given_diameter(obj_id), self.mesh(obj_id).diameter / unit
            if not 1 / TOO_DIFFERENT < given / true < TOO_DIFFERENT:
                raise VPOGError(
                    f"models_info.json in '{self.folder}' gives the model {obj_id} a diameter of {given:g} "
                    f"and its mesh has {true:.4g}: bring both to millimetres."
                )
        return unit

    def _given_diameter(self, obj_id: int) -> float | None:
        given = self.info.get(obj_id, {}).get("diameter")
        if given is None:
            return None
        if isinstance(given, bool) or not isinstance(given, (int, float)) or not 0 < given < math.inf:
            raise VPOGError(
                f"models_info.json in '{self.folder}' has the diameter {given!r} for the model {obj_id}: "
                "write it in millimetres, or leave it out."
            )
        return float(given)

    def symmetry(self, obj_id: int):
        """Return the symmetry in metres, as models_info.json states it."""
        from vpog_core.geometry.symmetry import Symmetry

        self.path(obj_id)
        return Symmetry.from_bop(self.info.get(obj_id, {}), unit=self.info_unit)
