"""The models of a BOP dataset: meshes in millimetres and what models_info.json says of them."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from vpog_core.bop.files import by_number, read_json
from vpog_core.objects.mesh import Mesh, load_mesh
from vpog_core.types import VPOGError

MODEL_FOLDERS = ("models", "models_cad", "models_reconst", "models_eval")


def models_folder(root: Path) -> Path:
    """The first folder of models a dataset has; `models` where it has none."""
    return next((root / name for name in MODEL_FOLDERS if (root / name).is_dir()), root / MODEL_FOLDERS[0])


class BopModels:
    """The models of a BOP dataset: obj_XXXXXX.ply in millimetres, and models_info.json.

    Args:
        folder: where they lie.

    Raises:
        VPOGError: no such folder, no model in it, or an info file that cannot be read.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise VPOGError(f"There is no models folder '{folder}': download the dataset's models, too.")
        self._files = {
            int(p.stem[4:]): p for p in sorted(self.folder.glob("obj_*.ply")) if p.stem[4:].isdigit()
        }
        if not self._files:
            raise VPOGError(
                f"The models folder '{folder}' holds no obj_XXXXXX.ply: download the models again."
            )

    @property
    def ids(self) -> list[int]:
        """Numbers of the models, ascending."""
        return sorted(self._files)

    @cached_property
    def info(self) -> dict[int, dict]:
        """models_info.json, in millimetres as it stands there; empty where there is none."""
        path = self.folder / "models_info.json"
        return by_number(read_json(path), path) if path.is_file() else {}

    @cached_property
    def names(self) -> dict[int, str]:
        """A name for each model: from names.json where there is one, else its file's."""
        path = self.folder / "names.json"
        given = by_number(read_json(path), path) if path.is_file() else {}
        return {obj_id: str(given.get(obj_id, f"obj_{obj_id:06d}")) for obj_id in self.ids}

    def path(self, obj_id: int) -> Path:
        """File of a model.

        Raises:
            VPOGError: there is no such model.
        """
        if obj_id not in self._files:
            raise VPOGError(f"There is no model {obj_id} in '{self.folder}' (there are {self.ids}): add it.")
        return self._files[obj_id]

    def mesh(self, obj_id: int) -> Mesh:
        """The model in metres; read anew at each call."""
        return load_mesh(self.path(obj_id), unit="mm")

    def diameter(self, obj_id: int) -> float:
        """Metres: of models_info.json where it says so, else of the mesh."""
        given = self.info.get(obj_id, {}).get("diameter")
        return float(given) * 0.001 if given is not None else self.mesh(obj_id).diameter

    def symmetry(self, obj_id: int):
        """`vpog_core.geometry.symmetry.Symmetry` in metres, as models_info.json states it."""
        from vpog_core.geometry.symmetry import Symmetry

        self.path(obj_id)
        return Symmetry.from_bop(self.info.get(obj_id, {}), unit=0.001)
