import subprocess
import sys

import cv2
import numpy as np
import pytest
import trimesh

from vpog_core.cli.commands import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return two small meshes; a cache that the tests share."""
    path = tmp_path_factory.mktemp("data")
    (path / "meshes").mkdir()
    trimesh.creation.box((0.1, 0.06, 0.04)).export(path / "meshes" / "box.ply")
    trimesh.creation.icosphere(1, radius=0.05).apply_scale([1, 1, 1.6]).export(path / "meshes" / "egg.ply")
    return path


def run(folder, *arguments: str) -> int:
    given = ["--meshes", str(folder / "meshes"), "--cache-dir", str(folder / "cache"), "--size", "32"]
    return main(["data", *arguments, *given])


def test_preview_draws_a_row_for_each_sample(folder, capsys):
    output = folder / "sheet.png"
    assert run(folder, "preview", "--rows", "3", "--output", str(output)) == 0
    assert str(output) in capsys.readouterr().out
    sheet = cv2.imread(str(output))
    # Seven images in a row: query, its patches, four templates, the shift.
    assert sheet.shape == (3 * 250, 7 * 230 + 6, 3)
    assert all(sheet[r * 250 : (r + 1) * 250].std() > 10 for r in range(3))


def test_all_objects_that_are_named_are_drawn(folder, capsys):
    assert run(folder, "preview", "--rows", "1", "--output", str(folder / "all.png")) == 0
    assert "1 samples of 2 objects" in capsys.readouterr().out


@pytest.mark.parametrize("network", ["coarse", "refiner"])
def test_one_mesh_is_enough(folder, tmp_path, network, capsys):
    (tmp_path / "meshes").mkdir()
    (tmp_path / "meshes" / "box.ply").write_bytes((folder / "meshes" / "box.ply").read_bytes())
    output = ["--output", str(tmp_path / "sheet.png")]
    assert run(tmp_path, "preview", "--network", network, "--rows", "1", *output) == 0
    assert "1 samples of 1 objects" in capsys.readouterr().out
    assert run(tmp_path, "bench", "--network", network, "--items", "1") == 0


def test_the_same_seed_draws_the_same_sheet(folder):
    sheets = []
    for seed in (1, 1, 2):
        output = folder / f"sheet_{seed}.png"
        assert run(folder, "preview", "--rows", "1", "--seed", str(seed), "--output", str(output)) == 0
        sheets.append(cv2.imread(str(output)))
    assert np.array_equal(sheets[0], sheets[1])
    assert not np.array_equal(sheets[0], sheets[2])


def test_bench_tells_costs_and_throughput(folder, capsys):
    assert run(folder, "bench", "--items", "3", "--workers", "1") == 0
    text = capsys.readouterr().out
    for word in (
        "one process",
        "samples/s",
        "render",
        "degrade",
        "templates",
        "labels",
        "rays alone",
        "1 workers",
    ):
        assert word in text


def test_pairs_of_a_refiner_are_drawn_and_measured(folder, capsys):
    output = folder / "pairs.png"
    assert run(folder, "preview", "--network", "refiner", "--rows", "2", "--output", str(output)) == 0
    sheet = cv2.imread(str(output))
    # Six images in a row: image, render, labels on both, flow, visibility.
    assert sheet.shape == (2 * 250, 6 * 230 + 6, 3)
    assert all(sheet[r * 250 : (r + 1) * 250].std() > 10 for r in range(2))
    capsys.readouterr()
    assert run(folder, "bench", "--network", "refiner", "--items", "3", "--workers", "1") == 0
    text = capsys.readouterr().out
    for word in ("one process", "samples/s", "render", "start pose", "degrade", "labels", "1 workers"):
        assert word in text
    assert "templates" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["preview"], "--meshes, --gso, --bop or --procedural"),
        (["preview", "--meshes", "nowhere"], "nowhere"),
        (["preview", "--procedural", "1", "--output", "no/such/sheet.png"], "no/such"),
        (["bench", "--procedural", "1", "--size", "50"], "50"),
        (["preview", "--network", "refiner", "--bop", "a:b"], "leave --bop out"),
        (["bench", "--procedural", "1", "--cache-dir", "/dev/null/cache"], "'/dev/null' is a file"),
    ],
)
def test_what_cannot_be_used_is_told_in_a_sentence(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["data", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_disk_that_takes_no_more_is_told_in_a_sentence(folder):
    # A limit on the size of files stands for a full disk: both end the write of a cached mesh.
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024)); "
        "from vpog_core.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    words = ["data", "bench", "--meshes", str(folder / "meshes"), "--cache-dir", str(folder / "small")]
    ended = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 2
    (last,) = [line for line in ended.stderr.splitlines() if line.startswith("vpog: ")]
    assert "File too large" in last
    assert "the disk's room" in last
    assert "Traceback" not in ended.stderr


def test_a_number_of_workers_below_zero_is_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["data", "bench", "--procedural", "1", "--workers", "-3"])
    assert "'-3' must be a whole number, at least 0" in capsys.readouterr().err
