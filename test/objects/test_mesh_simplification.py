from __future__ import annotations

import numpy as np
import pytest

from vpog_core.objects.mesh_simplification import simplify
from vpog_core.synthetic.objects import make_object


@pytest.mark.parametrize("most", [12, 300, 1500])
def test_a_coarse_mesh_has_the_shape_of_the_fine_one(most):
    mesh = make_object(900_023, vertices=3000)
    assert len(mesh.faces) > 1500
    vertices, faces = simplify(mesh.vertices, mesh.faces, most)
    assert 0 < len(faces) <= most
    assert faces.max() < len(vertices)
    # The mean of a cell's vertices lies within it: a dozen faces are of cells half as large as the mesh.
    tolerance = {12: 0.6, 300: 0.2, 1500: 0.08}[most] * np.ptp(mesh.vertices, axis=0).max()
    np.testing.assert_allclose(vertices.min(axis=0), mesh.vertices.min(axis=0), atol=tolerance)
    np.testing.assert_allclose(vertices.max(axis=0), mesh.vertices.max(axis=0), atol=tolerance)


def test_a_small_mesh_stays_as_it_is():
    mesh = make_object(900_023, vertices=500)
    vertices, faces = simplify(mesh.vertices, mesh.faces, len(mesh.faces))
    assert vertices is mesh.vertices
    assert faces is mesh.faces
