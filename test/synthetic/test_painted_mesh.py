"""Test that a painted surface, saved as a mesh, looks as it did."""

import numpy as np
import pytest
import trimesh

from vpog_core.objects.mesh import Mesh, load_mesh, save_mesh
from vpog_core.objects.renderer import Renderer
from vpog_core.objects.template_set import template_camera
from vpog_core.synthetic.objects import make_object
from vpog_core.synthetic.painted_mesh import MAX_FACES, painted_mesh
from vpog_core.synthetic.repaint import repainted

SIZE = 96


def box() -> Mesh:
    shape = trimesh.creation.box((0.1, 0.06, 0.04))
    return Mesh(shape.vertices, shape.faces, base_color=np.array([90, 120, 150], np.uint8))


def view(renderer: Renderer):
    K, T = template_camera(renderer.mesh, (0.6, -0.7, 0.5), SIZE)
    return renderer.render(T, K, (SIZE, SIZE))


@pytest.mark.parametrize("appearance", ["plain", "print", "photo", "decals"])
@pytest.mark.parametrize("make", [box, lambda: make_object(900_010, vertices=1500)])
def test_a_painted_mesh_looks_like_the_surface_after_it_is_saved(make, appearance, tmp_path):
    photos = [np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8)]
    painted = repainted(np.random.default_rng(3), Renderer(make()), appearance, photos)
    mesh = painted_mesh(painted)
    path = tmp_path / ("mesh.glb" if mesh.texture is not None else "mesh.ply")
    save_mesh(mesh, path)
    before, after = view(painted), view(Renderer(load_mesh(path)))
    # Faces that are cut meet rays at the same places, but for the last digits.
    both = before.mask & after.mask
    assert both.sum() > 0.99 * before.mask.sum()
    np.testing.assert_allclose(after.depth[both], before.depth[both], atol=1e-4)
    # Colours that are baked are blurred by a cell.
    difference = np.abs(after.rgb[both].astype(int) - before.rgb[both])
    assert difference.mean() < (4 if appearance == "decals" else 1)


def test_the_colours_of_vertices_stay_where_nothing_is_painted():
    mesh = make_object(900_010, vertices=1500)
    same = painted_mesh(Renderer(mesh))
    np.testing.assert_array_equal(same.vertex_colors, mesh.vertex_colors)


def test_faces_are_cut_into_a_limited_number_of_pieces():
    painted = repainted(np.random.default_rng(3), Renderer(make_object(900_010)), "decals")
    assert len(painted.mesh.faces) < len(painted_mesh(painted).faces) <= MAX_FACES
