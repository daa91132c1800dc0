"""Test `vpog symmetry`: what it proposes can be written into objects.yaml as it is."""

import numpy as np
import pytest
import trimesh

from vpog_core.cli.commands import main
from vpog_core.objects.library import ObjectLibrary
from vpog_core.objects.mesh import MESH_SUFFIXES


def proposal(capsys, *arguments: str) -> str:
    assert main(["symmetry", *arguments]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(("unit", "scale"), [("auto", 1.0), ("mm", 1000.0)])
def test_what_is_printed_is_read_by_the_library(tmp_path, capsys, unit, scale):
    """The mesh is a square box that lies aside of the origin, in the unit of its file."""
    box = trimesh.creation.box((0.06, 0.06, 0.1)).apply_translation([0.05, 0.02, 0.0]).apply_scale(scale)
    box.export(tmp_path / "crate.ply")
    text = proposal(capsys, str(tmp_path / "crate.ply"), "--unit", unit)
    first, *lines = text.splitlines()
    assert (
        first == "crate.ply looks the same after turns by 1/4 about z and by 1/2 about x. For objects.yaml:"
    )
    assert "&" not in text
    (tmp_path / "objects.yaml").write_text("\n".join(lines))
    library = ObjectLibrary(tmp_path)
    symmetry, mesh = library.symmetry("crate"), library.mesh("crate")
    assert len(symmetry.discrete) == 8
    corners = np.round(mesh.vertices, 6)
    for S in symmetry.discrete:
        turned = mesh.vertices @ S[:3, :3].T + S[:3, 3]
        assert max(np.abs(corners - v).sum(axis=1).min() for v in turned) < 1e-5


def test_an_axis_of_revolution_and_a_mesh_without_any(tmp_path, capsys):
    trimesh.creation.cone(0.03, 0.1).export(tmp_path / "hat.stl")
    text = proposal(capsys, str(tmp_path / "hat.stl"))
    assert "by any angle about z" in text
    assert "hat: {symmetry: {continuous: [{axis: z}]}}" in text
    wedge = trimesh.convex.convex_hull([[0, 0, 0], [0.1, 0, 0], [0, 0.06, 0], [0, 0, 0.03]])
    wedge.export(tmp_path / "wedge.ply")
    assert "wedge.ply has no symmetry" in proposal(capsys, str(tmp_path / "wedge.ply"))


def test_the_symmetry_of_the_shape_alone_is_said_as_well(tmp_path, capsys):
    tube = trimesh.creation.cylinder(0.03, 0.1, sections=64)
    colours = np.full((len(tube.vertices), 4), 200, np.uint8)
    colours[tube.vertices[:, 0] > 0, :3] = 20
    trimesh.Trimesh(tube.vertices, tube.faces, vertex_colors=colours, process=False).export(
        tmp_path / "tube.ply"
    )
    text = proposal(capsys, str(tmp_path / "tube.ply"))
    first, second = text.split("by its shape alone: ")
    assert "by any angle" not in first
    assert "by any angle about z" in second
    assert "declare it if you do not see the difference" in second
    assert "tube: {symmetry: {continuous: [{axis: z}]" in second


def test_a_mesh_that_cannot_be_read_is_told_in_a_sentence(tmp_path, capsys):
    assert main(["symmetry", str(tmp_path / "none.ply")]) == 2
    error = capsys.readouterr().err
    assert "none.ply" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("command", ["symmetry", "onboard"])
def test_the_help_names_every_format_that_is_read(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    told = capsys.readouterr().out
    assert all(suffix in told for suffix in MESH_SUFFIXES)
