"""Test that odd but real mesh files are read as they are meant, or refused with a reason."""

from __future__ import annotations

import numpy as np
import odd_meshes
import pytest

from vpog_core.objects.mesh import load_mesh
from vpog_core.objects.renderer import Light, Renderer
from vpog_core.types import VPOGError

K = np.array([[500, 0, 49.5], [0, 500, 49.5], [0, 0, 1.0]])


def seen_corners(mesh) -> dict[str, np.ndarray]:
    """Colours near the corners of the square, seen from -y with z up."""
    T = np.array([[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0.7], [0, 0, 0, 1.0]])
    rgb = Renderer(mesh).render(T, K, (100, 100), Light(ambient=1.0, diffuse=0.0)).rgb
    rows, columns = {"top": 16, "bottom": 83}, {"left": 16, "right": 83}
    return {f"{v} {h}": rgb[rows[v], columns[h]].astype(int) for v in rows for h in columns}


def area(mesh) -> float:
    corners = mesh.vertices[mesh.faces]
    return (
        0.5
        * np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum()
    )


@pytest.mark.parametrize("case", odd_meshes.CORPUS, ids=lambda case: case.name)
def test_file_is_read_as_it_is_meant(case, tmp_path):
    path = case.write(tmp_path)
    if case.refused:
        with pytest.raises(VPOGError, match=case.refused) as caught:
            load_mesh(path)
        assert path.name in str(caught.value)
        return
    mesh = load_mesh(path)
    said = " ".join(mesh.notes)
    assert (case.says in said) if case.says else not mesh.notes, said
    assert area(mesh) == pytest.approx(case.area, rel=1e-4)
    if case.colors is not None:
        seen = seen_corners(mesh)
        for place, color in case.colors.items():
            # Two pixels from the corner, of 71: colours of vertices blend by 2 parts in 71 along either side.
            np.testing.assert_allclose(seen[place], color, atol=20, err_msg=f"{place}: {seen}")
