"""Test commands with several jobs, and the options that choose the machines and devices."""

import argparse
from pathlib import Path

import pytest

from vpog_core.cli.cluster import run_each
from vpog_core.cli.commands import main
from vpog_core.types import VPOGError


def finish(arguments: argparse.Namespace) -> int:
    if arguments.status > 2:
        Path("not there").read_bytes()
    if arguments.status > 1:
        raise VPOGError("The bag is broken: record it again.")
    return arguments.status


def test_a_job_that_fails_costs_no_other(capsys):
    jobs = {f"job {n}": argparse.Namespace(status=status) for n, status in enumerate((2, 3, 0, 1))}
    assert run_each(finish, jobs, cluster=None) == 2
    broken, missing, *others = capsys.readouterr().out.splitlines()
    assert broken == "job 0: The bag is broken: record it again."
    assert missing.startswith("job 1: A file cannot be used (FileNotFoundError:")
    assert others == ["job 2: done", "job 3: exit status 1"]


def test_bags_whose_results_would_meet_are_refused(capsys):
    assert main(["replay", "monday/kitchen.mcap", "tuesday/kitchen.mcap", "--objects-dir", "meshes"]) == 2
    assert "Several bags are called 'kitchen': give them one by one" in capsys.readouterr().err


def test_dots_are_part_of_the_name_of_a_bag_s_folder(tmp_path, capsys):
    folders = [tmp_path / "run.1", tmp_path / "run.2"]
    for folder in folders:
        folder.mkdir()
    words = ["--objects-dir", str(tmp_path), "--output", str(tmp_path / "out")]
    assert main(["replay", *map(str, folders), *words]) == 2
    told = capsys.readouterr()
    assert "Several bags" not in told.err
    assert [line.split(":")[0] for line in told.out.splitlines()] == [str(folder) for folder in folders]


def test_a_dump_is_computed_by_the_engine_it_was_made_with(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["estimate", "--from", "dump", "--engine", "onnxruntime", "--precision", "float32"])
    assert "not allowed with --from, which has its own: --precision, --engine" in capsys.readouterr().err
