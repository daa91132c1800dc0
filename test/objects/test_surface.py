"""Test the normals that meshes are shaded with: edges of parts stay sharp, curves are smooth."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from vpog_core.objects.surface import CREASE_ANGLE, corner_normals


def flat_normals(mesh: trimesh.Trimesh) -> np.ndarray:
    """Return each face's own normal at each of its corners, [F, 3, 3]."""
    return np.repeat(mesh.face_normals[:, None], 3, axis=1)


def prism(sides: int) -> trimesh.Trimesh:
    """Return a column whose neighbouring sides meet at 360 / sides degrees."""
    return trimesh.creation.cylinder(radius=1.0, height=2.0, sections=sides)


@pytest.mark.parametrize("sides", [4, 6, 8, 11])
def test_edges_beyond_the_crease_angle_are_shaded_flat(sides):
    mesh = prism(sides)
    assert 360 / sides > CREASE_ANGLE

    np.testing.assert_allclose(corner_normals(mesh.vertices, mesh.faces), flat_normals(mesh), atol=1e-6)


def test_a_round_wall_is_smooth_and_its_rim_is_an_edge():
    mesh = prism(32)
    normals = corner_normals(mesh.vertices, mesh.faces)

    corners = mesh.vertices[mesh.faces]
    wall = np.abs(mesh.face_normals[:, 2]) < 0.5
    radial = corners * (1, 1, 0)
    # A vertex has two faces on one side of it and one on the other; their angles make up for it.
    np.testing.assert_allclose(normals[wall], radial[wall], atol=0.02)
    np.testing.assert_allclose(normals[~wall], flat_normals(mesh)[~wall], atol=1e-6)


def test_a_sphere_has_the_normals_of_a_sphere():
    mesh = trimesh.creation.icosphere(subdivisions=3)

    normals = corner_normals(mesh.vertices, mesh.faces)

    # Of a polyhedron with faces of 8 degrees: the mean of the faces around is a degree or so off.
    assert (normals * mesh.vertices[mesh.faces]).sum(axis=2).min() > np.cos(np.radians(1.5))


def test_vertices_at_one_place_are_one_vertex():
    mesh = trimesh.creation.icosphere(subdivisions=2)
    loose = mesh.vertices[mesh.faces].reshape(-1, 3), np.arange(3 * len(mesh.faces)).reshape(-1, 3)

    np.testing.assert_allclose(corner_normals(*loose), corner_normals(mesh.vertices, mesh.faces), atol=1e-6)


def test_faces_without_area_do_no_harm():
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [2, 0, 0]], dtype=float)
    faces = np.array([[0, 1, 2], [0, 1, 3]])

    normals = corner_normals(vertices, faces)

    assert np.isfinite(normals).all()
    np.testing.assert_allclose(normals[0], [[0, 0, 1]] * 3, atol=1e-6)
