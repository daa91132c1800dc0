"""Test that objects that look symmetric and are not declared so are named once, with the remedy."""

import re
import shlex

import numpy as np
import pytest
import trimesh

from vpog_core.cli import main
from vpog_core.objects import symmetry_hint as module
from vpog_core.objects.library import ObjectLibrary
from vpog_core.objects.symmetry_hint import symmetry_hint


@pytest.fixture
def folder(tmp_path):
    trimesh.creation.cylinder(0.03, 0.1, sections=48).export(tmp_path / "can.ply")
    wedge = np.array([[0, 0, 0], [0.1, 0, 0], [0, 0.07, 0], [0.02, 0.01, 0.05]])
    trimesh.convex.convex_hull(wedge).export(tmp_path / "wedge.ply")
    return tmp_path


def library(folder) -> ObjectLibrary:
    return ObjectLibrary(folder, folder / "cache")


def test_a_can_is_named_and_a_wedge_is_not(folder):
    assert symmetry_hint(library(folder), "wedge") == ""
    hint = symmetry_hint(library(folder), "can")
    assert "'can' looks the same after any turn about an axis" in hint
    assert "objects.yaml" in hint
    assert "\n" not in hint


def test_what_the_sentence_advises_ends_it(folder, capsys):
    """The command it names prints the entry; with that in objects.yaml, or with none declared, it is gone."""
    hint = symmetry_hint(library(folder), "can")
    (command,) = re.findall(r"`(vpog symmetry .*?)`", hint)
    assert main(shlex.split(command)[1:]) == 0
    printed = capsys.readouterr().out
    (folder / "objects.yaml").write_text(printed[printed.index("objects:\n") :])
    declared = library(folder)
    assert declared.symmetry("can").continuous
    assert symmetry_hint(declared, "can") == ""
    (none,) = re.findall(r"`(can: .*?)`", hint)
    (folder / "objects.yaml").write_text(f"objects:\n  {none}\n")
    assert library(folder).symmetry("can").is_trivial
    assert symmetry_hint(library(folder), "can") == ""


def test_it_is_searched_for_once(folder, monkeypatch):
    hint = symmetry_hint(library(folder), "can")
    monkeypatch.setattr(module, "find_symmetry", None)
    assert symmetry_hint(library(folder), "can") == hint
    monkeypatch.undo()
    trimesh.creation.box((0.1, 0.06, 0.04)).export(folder / "can.ply")  # another mesh of that name
    assert "after a turn," in symmetry_hint(library(folder), "can")


def test_a_copy_is_named_by_what_people_know(folder):
    assert "`vpog symmetry mine/can.ply`" in symmetry_hint(library(folder), "can", "mine/can.ply")
