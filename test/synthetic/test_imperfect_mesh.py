import numpy as np
import pytest

from vpog_core.synthetic.imperfect_mesh import imperfect
from vpog_core.synthetic.objects import make_object
from vpog_core.synthetic.plain import painted_plain


@pytest.fixture(scope="module")
def mesh():
    return make_object(900050, vertices=4000)


def test_an_imperfect_mesh_differs_by_a_few_per_cent_of_the_diameter(mesh):
    """A pose stays correct (10 % of the diameter): sizes and bulges err by about 1 %, 4 % in the tails."""
    for seed in range(5):
        other = imperfect(np.random.default_rng(seed), mesh, 1.0)
        off = np.linalg.norm(other.vertices - mesh.vertices, axis=1) / mesh.diameter
        assert 0.003 < off.mean() < 0.03
        assert off.max() < 0.06
        assert np.array_equal(other.faces, mesh.faces)
        assert other.vertex_colors.dtype == np.uint8
        difference = np.abs(other.vertex_colors.astype(int) - mesh.vertex_colors)
        # Between the quantisation of 8 bits and another paint.
        assert 3 < difference.mean() < 80


def test_without_strength_the_mesh_is_as_it_was(mesh):
    same = imperfect(np.random.default_rng(0), mesh, 0.0)
    assert np.allclose(same.vertices, mesh.vertices, atol=1e-12)
    assert np.array_equal(same.vertex_colors, mesh.vertex_colors)


def test_a_plain_mesh_gets_stains(mesh):
    stained = imperfect(np.random.default_rng(0), painted_plain(mesh, "part"), 1.0)
    assert stained.vertex_colors.shape == mesh.vertices.shape
    assert stained.vertex_colors.std(axis=0).max() > 3
